"""Validation loss over learning rate and scaling, a map per method and rank."""

from math import ceil
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from lorakappa.figures import robustness
from lorakappa.figures.comparison import best, cells, ensure_runs, head, looks, losses, mean, some_ranks
from lorakappa.figures.saved import Saved, numbers
from lorakappa.figures.style import BLACK, DOUBLE, GREY, new_figure, number, plain_ticks

COLUMNS = 4

RANGE = 4.0
"""Times the best loss at which the colours end."""


def plot(saved: Saved) -> Figure:
    """Draws the maps of `llm-compare`; with a single scaling there is nothing to map: then it is `robustness`."""
    if len(saved.value("scalings")) < 2:
        return robustness.plot(saved)
    ensure_runs(saved)
    ranks, names = some_ranks(saved), list(looks(saved))
    columns = min(COLUMNS, len(names))
    rows = ceil(len(names) / columns)
    height = 1.0 + (0.7 + 0.13 * len(saved.value("scalings"))) * rows * len(ranks)
    figure = new_figure(DOUBLE, max(height, 2.2))
    panels = figure.subplots(rows * len(ranks), columns, squeeze=False, sharex=True, sharey=True)
    norm, beyond = _norm(saved)
    mesh = None
    for i, rank in enumerate(ranks):
        block = panels[i * rows : (i + 1) * rows].ravel()
        for axes, name in zip(block, names, strict=False):
            mesh = _map(axes, saved, name, rank, norm)
        for axes in block[len(names) :]:
            axes.set_axis_off()
        for j, axes in enumerate(block[: len(names)]):
            lowest = i == len(ranks) - 1 and j + columns >= len(names)
            axes.tick_params(labelbottom=lowest)
            axes.set_xlabel("learning rate" if lowest else "")
        for axes in block[::columns]:
            axes.set_ylabel(f"r = {rank}\nscaling α/r")
    _axes_of_all(panels, saved)
    assert mesh is not None
    bar = figure.colorbar(mesh, ax=panels, pad=0.02, fraction=0.04, aspect=30, extend="max" if beyond else "neither")
    bar.set_label("validation loss, mean")
    plain_ticks(bar.ax.yaxis)
    handles = [
        Patch(facecolor="#d9d9d9", edgecolor=GREY, hatch="////", linewidth=0, label="a seed diverged or failed"),
        Patch(facecolor="white", edgecolor=BLACK, linewidth=1.2, label="best, its loss in the title"),
        Patch(facecolor="white", edgecolor="#d9d9d9", linewidth=0.6, label="blank: not run"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    head(figure, saved, ranks)
    return figure


def edges(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Borders of cells around the points of a logarithmic grid: half way between them."""
    logs = np.log(grid)
    if len(logs) == 1:
        return np.asarray(grid * [10**-0.5, 10**0.5])
    middle = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.concatenate([[2 * logs[0] - middle[0]], middle, [2 * logs[-1] - middle[-1]]]))


def _norm(saved: Saved) -> tuple[LogNorm, bool]:
    """One colour scale for all maps, and whether losses lie beyond its end."""
    values = np.asarray([mean(losses(saved, cell)) for cell in saved.value("cells")])
    values = values[np.isfinite(values) & (values > 0)]
    low = values.min() if len(values) else 1.0
    high = max(values.max(initial=low), 1.01 * low)
    return LogNorm(low, min(high, RANGE * low)), bool(high > RANGE * low)


def _map(axes: Axes, saved: Saved, name: str, rank: int, norm: LogNorm) -> QuadMesh:
    mine, scalings = cells(saved, name, rank), sorted(saved.value("scalings"))
    grid = np.unique([cell["learning_rate"] for cell in mine]) if mine else np.asarray([1e-3])
    values, borders = np.full((len(scalings), len(grid)), np.nan), edges(grid)
    axes.set_xscale("log")
    for cell in mine:
        row, column = scalings.index(cell["scaling"]), int(np.searchsorted(grid, cell["learning_rate"]))
        values[row, column] = mean(losses(saved, cell))
        if np.isnan(values[row, column]):
            place = (borders[column], row - 0.5), borders[column + 1] - borders[column], 1
            axes.add_patch(Rectangle(*place, facecolor="#d9d9d9", edgecolor=GREY, hatch="////", linewidth=0))
    rows = np.arange(len(scalings) + 1) - 0.5
    mesh = axes.pcolormesh(borders, rows, np.ma.masked_invalid(values), cmap="viridis_r", norm=norm)
    label = looks(saved)[name].label
    if name in (chosen := best(saved, rank)):
        entry = chosen[name][1]
        row, column = scalings.index(entry["scaling"]), int(np.abs(grid / entry["learning_rate"] - 1).argmin())
        place = (borders[column], row - 0.5), borders[column + 1] - borders[column], 1
        axes.add_patch(Rectangle(*place, fill=False, edgecolor=BLACK, linewidth=1.2, zorder=3))
        label += f": {number(float(mean(numbers(entry['validation_loss']))))}"
    axes.set_title(fill(label, 22), loc="left", fontsize=7)
    return mesh


def _axes_of_all(panels: NDArray[np.object_], saved: Saved) -> None:
    scalings = sorted(saved.value("scalings"))
    everything = edges(np.unique([cell["learning_rate"] for cell in saved.value("cells")]))
    for axes in panels.ravel():
        axes.set(xlim=everything[[0, -1]], ylim=(-0.5, len(scalings) - 0.5))
        axes.set_yticks(range(len(scalings)), [f"{scaling:g}" for scaling in scalings])
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", length=0)
