"""Validation loss over the learning rate, and how wide the window is in which it hardly matters."""

from math import ceil
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorakappa.figures.comparison import best, cells, ensure_runs, head, legend, looks, losses, mean
from lorakappa.figures.saved import Saved
from lorakappa.figures.style import DOUBLE, log_y, new_figure, plain_ticks, title

COLUMNS = 3

RANGE = 10.0
"""Times the best loss at which the panels end at the top."""


def plot(saved: Saved) -> Figure:
    """Draws the learning rates of `llm-compare`: a panel per rank, the windows in a strip below it."""
    ensure_runs(saved)
    ranks, names = sorted(saved.value("ranks")), looks(saved)
    columns = min(COLUMNS, len(ranks))
    rows, strip = ceil(len(ranks) / columns), 0.13 * len(names) + 0.1
    figure = new_figure(DOUBLE, 1.3 + (2.2 + strip) * rows)
    outer = figure.add_gridspec(rows, columns)
    edge = False
    for i, rank in enumerate(ranks):
        inner = outer[i // columns, i % columns].subgridspec(2, 1, height_ratios=(1.9, strip), hspace=0.02)
        curves = figure.add_subplot(inner[0])
        windows = figure.add_subplot(inner[1], sharex=curves)
        _curves(curves, saved, rank)
        edge = _windows(windows, saved, rank) or edge
        plain_ticks(windows.xaxis)  # shared with the curves
        title(curves, f"r = {rank}", chr(ord("a") + i) if len(ranks) > 1 else "")
        if i % columns == 0:
            curves.set_ylabel("validation loss")
        windows.set_xlabel("learning rate")
    text = "means, single seeds (dots)" if len(saved.value("seeds")) > 1 else "one seed"
    text += "; large: the best; ×: a seed diverged or failed"
    text += "\nbars: learning rates within 1 % of the best loss, with their width in decades"
    legend(figure, saved, text + ("; *: best at the edge of its grid" if edge else ""))
    head(figure, saved)
    return figure


def at_best_scaling(saved: Saved, method: str, rank: int) -> list[dict[str, Any]]:
    """The cells of a method at its best scaling, by learning rate; all its cells if none is best."""
    chosen = best(saved, rank).get(method)
    mine = cells(saved, method, rank)
    return [cell for cell in mine if chosen is None or cell["scaling"] == chosen[1]["scaling"]]


def _curves(axes: Axes, saved: Saved, rank: int) -> None:
    """Means over seeds with the seeds as dots; × in a row at the top where a seed has no loss."""
    lowest, highest = np.inf, 0.0
    for i, (name, look) in enumerate(looks(saved).items()):
        mine = at_best_scaling(saved, name, rank)
        grid = np.asarray([cell["learning_rate"] for cell in mine])
        seeds = np.asarray([losses(saved, cell) for cell in mine]).reshape(len(mine), -1)
        bad = np.isnan(seeds).any(axis=1)
        means = mean(seeds.T)
        if seeds.shape[1] > 1:
            axes.plot(grid, seeds, ".", color=look.color, markersize=4, alpha=0.5, markeredgewidth=0, zorder=2)
        axes.plot(grid, means, color=look.color, linestyle=look.line, linewidth=1.1, marker=look.marker, markersize=2.8)
        height = np.full(bad.sum(), 0.98 - 0.032 * i)
        axes.plot(grid[bad], height, "x", color=look.color, transform=axes.get_xaxis_transform(), markersize=3)
        if name in (chosen := best(saved, rank)):
            here = np.isclose(grid, chosen[name][1]["learning_rate"], rtol=1e-6)
            axes.plot(
                grid[here],
                means[here],
                linestyle="none",
                marker=look.marker,
                markersize=6,
                markerfacecolor="white",
                markeredgecolor=look.color,
                zorder=4 - 0.1 * i,
            )
        if np.isfinite(seeds).any():
            lowest, highest = min(lowest, np.nanmin(seeds)), max(highest, np.nanmax(seeds))
    axes.set_xscale("log")
    log_y(axes)
    if np.isfinite(lowest) and lowest > 0:
        top = min(highest, RANGE * lowest)
        axes.set_ylim(lowest * (lowest / top) ** 0.05, top * (top / lowest) ** 0.4 * 1.01)  # room for the ×
        plain_ticks(axes.yaxis)
    axes.tick_params(which="both", labelbottom=False)


def _windows(axes: Axes, saved: Saved, rank: int) -> bool:
    """A bar per method from end to end of its window, and its width; whether a best one is at the edge."""
    edge = False
    for row, (name, look) in enumerate(reversed(looks(saved).items())):
        chosen = best(saved, rank).get(name)
        if chosen is None or chosen[1]["window"] is None:
            axes.text(1, row, "–", transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=6)
            continue
        entry = chosen[1]
        axes.plot(entry["window"], [row, row], color=look.color, linewidth=3, solid_capstyle="butt")
        axes.plot(entry["learning_rate"], row, look.marker, color=look.color, markersize=5, markeredgecolor="white")
        text = ("≥ " if entry["window_censored"] else "") + f"{entry['decades']:.1f}" + "*" * entry["at_edge"]
        axes.text(1, row, text, transform=axes.get_yaxis_transform(), ha="left", va="center", fontsize=6)
        edge = edge or entry["at_edge"]
    axes.set_ylim(-0.7, len(looks(saved)) - 0.3)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    return edge
