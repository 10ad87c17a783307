"""Validation loss along training, by step and by second, and how the factors' conditioning moves meanwhile."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lorakappa.figures.comparison import best, draw_mean, head, legend, looks, mean, some_ranks
from lorakappa.figures.saved import Saved
from lorakappa.figures.style import BLACK, DOUBLE, log_y, new_figure, plain_ticks, title

FLOOR = 1e-9
"""Relative gaps below are drawn here: they are rounding, and a logarithmic axis has no zero."""


def plot(saved: Saved) -> Figure:
    """Draws the losses of `llm-compare`: a row per rank, by step at the left and by second at the right."""
    ranks, steps, values = some_ranks(saved), saved.array("eval_steps"), saved.array("validation_loss")
    times = [np.broadcast_to(steps, values.shape), saved.array("seconds")]
    figure = _rows(saved, ranks, [values] * 2, times, ("by step", "by second of training"), ("step", "seconds"), True)
    for axes, rank in zip(figure.axes[::2], ranks, strict=True):
        _show_the_end(axes, np.asarray([mean(values[i])[-1] for i, _ in best(saved, rank).values()]))
        axes.set_ylabel("validation loss")
    return figure


def plot_conditioning(saved: Saved) -> Figure:
    """Draws gap and κ bound of `llm-compare` along training: a row per rank, medians over the layers."""
    ranks, steps = some_ranks(saved), saved.array("eval_steps")
    gap, kappa = saved.array("gap"), saved.array("kappa_bound")
    low = bool((gap < FLOOR).any())
    values = [np.where(gap < FLOOR, FLOOR, gap), kappa]
    times = [np.broadcast_to(steps, gap.shape)] * 2
    figure = _rows(saved, ranks, values, times, ("balancing gap", "κ bound"), ("step", "step"), False)
    for gaps, bounds in zip(figure.axes[::2], figure.axes[1::2], strict=True):
        gaps.set_ylabel(r"$\|A^TA - BB^T\| / (\|A\|^2 + \|B\|^2)$")
        if low:
            gaps.axhline(FLOOR, color=BLACK, linewidth=0.4, linestyle=(0, (1, 3)), zorder=0)
            gaps.annotate(r"$\leq 10^{-9}$", (1, FLOOR), xycoords=gaps.get_yaxis_transform(), ha="right", va="bottom")
        bounds.set_ylabel(r"$(\sigma_1(A)^2 + \sigma_1(B)^2) / \min\,\sigma_r^2$")
    return figure


def _rows(
    saved: Saved,
    ranks: list[int],
    values: list[NDArray[np.float64]],
    times: list[NDArray[np.float64]],
    names: tuple[str, str],
    units: tuple[str, str],
    share_y: bool,
) -> Figure:
    """A row of two panels per rank, with every method in both."""
    figure = new_figure(DOUBLE, 1.0 + 1.9 * len(ranks))
    rows = figure.subplots(len(ranks), 2, squeeze=False, sharex="col", sharey="row" if share_y else "none")
    count = len(looks(saved))
    for row, rank in zip(rows, ranks, strict=True):
        chosen = best(saved, rank)
        for column, axes in enumerate(row):
            for i, (name, look) in enumerate(looks(saved).items()):
                if name in chosen:
                    place = chosen[name][0]
                    draw_mean(axes, times[column][place], values[column][place], look, phase=i / count)
            log_y(axes)
            axes.set_xlim(left=0)
            title(axes, f"r = {rank}, {names[column]}", chr(ord("a") + 2 * ranks.index(rank) + column))
            if rank == ranks[-1]:
                axes.set_xlabel(units[column])
    head(figure, saved, ranks)
    lines = "means (lines) and single seeds (thin)" if len(saved.value("seeds")) > 1 else "one seed"
    clock = "seconds as clocked, with what else the machine did meanwhile"
    legend(figure, saved, f"{lines}, each method at its own best learning rate\n{clock}")
    return figure


def _show_the_end(axes: Axes, last: NDArray[np.float64]) -> None:
    """Lets what is above twice the largest of the last losses leave at the top: the methods differ in the end."""
    if np.isfinite(last).any():
        axes.set_ylim(top=min(axes.get_ylim()[1], 2 * float(np.nanmax(last))))
        plain_ticks(axes.yaxis)
