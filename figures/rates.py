"""Measured asymptotic rates against the bounds that κ gives."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lorakappa.figures.saved import Saved, describe
from lorakappa.figures.style import (
    BLACK,
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    Look,
    heading,
    new_figure,
    plain_ticks,
    title,
)

RULES = {
    "gd": Look("GD", VERMILLION, "o"),
    "sign-gd": Look("sign-GD", GREEN, "^"),
    "sign-gd-sharp": Look(r"sign-GD, bound $1 - \mu_\infty / L_\infty$", PURPLE, "v"),
    "sign-gd-exact": Look(r"sign-GD, $\mu_\infty$, $L_\infty$ exact", ORANGE, "<"),
    "balora-gd": Look("BaLoRA, GD", BLUE, "s"),
}
"""One look per rule of `synthetic.experiments.rates`."""


def plot(saved: Saved) -> Figure:
    """Draws `rates.npz`: see `synthetic.experiments.rates`."""
    rule, kappa = saved.array("rule"), saved.array("kappa")
    bound, measured = saved.array("bound"), saved.array("limsup")
    ratio, uncertainty = saved.array("log_ratio"), saved.array("uncertainty")
    sure = saved.array("conclusive").astype(bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        promised, speed = -np.log(bound), -np.log(measured)
    shown = np.isfinite(promised) & np.isfinite(speed) & (promised > 0) & (speed > 0)
    if not shown.any():
        raise ValueError("no run has a measured rate and a bound below 1; more steps or instances may have")

    figure = new_figure(DOUBLE, 3.5)
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(rule.tolist()):
        mine = rule == name
        look = RULES.get(name, Look(name, GREY, "D"))
        label = f"{look.label}, n = {mine.sum()}" + _not_shown(int((mine & ~shown).sum()))
        for here, filled in ((mine & shown & sure, True), (mine & shown & ~sure, False)):
            _points(left, promised[here], speed[here], uncertainty[here], look, filled, label if filled else None)
            _points(right, kappa[here], ratio[here], uncertainty[here], look, filled, None)
    _diagonal(left, np.concatenate([promised[shown], speed[shown]]))
    left.set(
        xscale="log",
        yscale="log",
        xlabel="bound, −ln of the rate per step",
        ylabel="measured, −ln of the rate per step",
    )
    right.set(xscale="log", yscale="log", xlabel="κ at the limit point", ylabel="ln measured rate / ln bound")
    _line_at_one(right)
    plain_ticks(right.xaxis)
    plain_ticks(right.yaxis)
    title(left, "measured against bound", "a")
    heading(figure, f"asymptotic rates of $f - f^*$, {describe(saved.value('settings'))}")
    title(right, "how many times faster than the bound", "b")
    if (shown & ~sure).any():
        label = f"hollow: inconclusive, n = {(~sure).sum()}"
        left.errorbar([], [], fmt="o", color=GREY, markerfacecolor="white", label=label)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=2 if len(labels) <= 4 else 3,
        handletextpad=0.2,
        columnspacing=1.6,
        title="n instances per rule; the bars are the stated uncertainty",
    )
    return figure


def _points(
    axes: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    uncertainty: NDArray[np.float64],
    look: Look,
    filled: bool,
    label: str | None,
) -> None:
    """Markers with their uncertainty, which is relative to the logarithm; hollow ones are inconclusive."""
    error = np.where(np.isfinite(uncertainty), uncertainty, 0) * y
    axes.errorbar(
        x,
        y,
        yerr=np.stack([np.minimum(error, 0.9 * y), error]),
        fmt=look.marker,
        color=look.color,
        markersize=3.6,
        markerfacecolor=look.color if filled else "white",
        markeredgecolor="white" if filled else look.color,
        markeredgewidth=0.3 if filled else 0.8,
        elinewidth=0.5,
        alpha=0.9,
        label=label,
    )


def _diagonal(axes: Axes, values: NDArray[np.float64]) -> None:
    """Where measured and bound agree; below it a run is slower than promised."""
    if not len(values):
        return
    ends = np.asarray([values.min() / 1.6, values.max() * 1.6])
    axes.plot(ends, ends, color=BLACK, linewidth=0.8, zorder=1)
    axes.fill_between(ends, ends, ends[0], color=GREY, alpha=0.15, linewidth=0, zorder=0)
    axes.text(0.97, 0.06, "slower than the bound", transform=axes.transAxes, ha="right", color=GREY)
    axes.set(xlim=ends, ylim=ends)


def _line_at_one(axes: Axes) -> None:
    low, high = axes.get_ylim()
    low, high = min(low, 0.8), max(high, 1.25)
    axes.axhline(1, color=BLACK, linewidth=0.8, zorder=1)
    axes.axhspan(low, 1, color=GREY, alpha=0.15, linewidth=0, zorder=0)
    axes.set_ylim(low, high)


def _not_shown(count: int) -> str:
    return f" ({count} without a rate below 1, not shown)" if count else ""
