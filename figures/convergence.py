"""Loss curves of several methods at their best step sizes, and how the outcome depends on the step size."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lorakappa.figures.curves import draw_band
from lorakappa.figures.saved import Saved, describe
from lorakappa.figures.style import DOUBLE, OPTIMIZERS, Look, heading, method_looks, new_figure, number, title


def plot(saved: Saved) -> Figure:
    """Draws `convergence.npz`: see `synthetic.experiments.convergence`."""
    figure = new_figure(DOUBLE, 3.3)
    left, right = figure.subplots(1, 2)
    looks = method_looks(saved.value("methods"))
    _curves(left, saved, looks)
    _step_sizes(right, saved, looks)
    handles, labels = left.get_legend_handles_labels()
    seeds = saved.array("curves").shape[-1]
    text = f"medians, quartiles and single runs of n = {seeds} paired seeds, each method at its best step size"
    if not np.isfinite(saved.array("excess")[-1]).all():
        text += "; ×: diverged"
    figure.legend(handles, labels, loc="outside lower center", ncols=2, title=text)
    settings, optimizer = saved.value("settings"), saved.value("optimizer")
    heading(figure, f"{settings['loss']} loss, {describe(settings)}, {OPTIMIZERS.get(optimizer, optimizer)}")
    return figure


def _curves(axes: Axes, saved: Saved, looks: dict[str, Look]) -> None:
    curves = saved.array("curves")
    steps = np.arange(len(curves))
    for i, (look, line) in enumerate(zip(looks.values(), saved.value("summary"), strict=True)):
        label = f"{look.label}, {_step_size(line)}{_diverged(line, curves.shape[-1])}"
        draw_band(axes, steps, curves[:, i], look, label=label, markers=10, phase=i / len(looks))
        ends = _last_finite(curves[:, i])
        axes.plot(ends, np.full(len(ends), 0.98), "x", color=look.color, transform=axes.get_xaxis_transform())
    axes.set_yscale("log")
    medians = np.median(curves, axis=-1)
    top = 10 * max(curves[0].max(), medians.max(initial=0, where=np.isfinite(medians)))
    axes.set_ylim(top=min(axes.get_ylim()[1], top))  # what diverges leaves at the top, below its ×
    title(axes, "at the best step size", "a")
    axes.set(xlabel="step", ylabel="excess loss $f - f^*$", xlim=(0, len(curves) - 1))


def _last_finite(curves: NDArray[np.float64]) -> NDArray[np.int64]:
    """The last finite step of each diverged run of (T + 1, n) curves."""
    bad = ~np.isfinite(curves)
    return bad[:, bad.any(axis=0)].argmax(axis=0) - 1


def _step_sizes(axes: Axes, saved: Saved, looks: dict[str, Look]) -> None:
    """Final excess against step size; × in a row at the top for step sizes at which seeds diverge."""
    final, grid, best = saved.array("excess")[-1], saved.array("step_sizes"), saved.array("best")
    rows = axes.get_xaxis_transform()
    for i, (look, values, chosen) in enumerate(zip(looks.values(), final, best, strict=True)):
        draw_band(axes, grid, values, look, markers=12, phase=i / len(looks), runs=False)
        medians = np.median(values, axis=-1)
        axes.plot(
            grid[np.unique(chosen)],
            medians[np.unique(chosen)],
            linestyle="none",
            marker=look.marker,
            markersize=6,
            markerfacecolor="white",
            markeredgecolor=look.color,
            zorder=4 - 0.1 * i,
        )
        bad = ~np.isfinite(values).all(axis=-1)
        height = 0.98 - 0.035 * i
        axes.plot(grid[bad], np.full(bad.sum(), height), "x", color=look.color, transform=rows, markersize=3)
    if not np.isfinite(final).all():
        axes.text(
            grid[~np.isfinite(final).all(axis=(0, 2))].min(),
            0.98,
            "diverged seeds ",
            transform=rows,
            ha="right",
            va="center",
            fontsize=7,
        )
    axes.set(xscale="log", yscale="log", xlabel="step size γ", ylabel=f"$f - f^*$ after {saved.value('steps')} steps")
    title(axes, "at every step size (large marker: the best)", "b")


def _step_size(line: dict[str, Any]) -> str:
    sizes = line["step_size"]
    if len(sizes) == 1:
        return f"γ = {number(sizes[0])}"
    return f"γ = {number(min(sizes))} … {number(max(sizes))}, one per seed"


def _diverged(line: dict[str, Any], seeds: int) -> str:
    count = line["diverged_at_best"]
    return f" ({count} of {seeds} diverged)" if count else ""
