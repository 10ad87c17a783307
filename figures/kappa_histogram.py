"""κ of random minimizers and of LoRA's limit points, with the balanced value and both bounds."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from lorakappa.figures.saved import Saved, describe
from lorakappa.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SINGLE,
    SKY,
    VERMILLION,
    Look,
    new_figure,
    number,
    title,
)

BOUNDS = {
    "upper": Look("paper upper", PURPLE, "v"),
    "upper_corrected": Look("corrected upper", GREEN, "^"),
    "lower_corrected": Look("corrected lower", SKY, "s"),
    "lower": Look("paper lower", ORANGE, "o"),
}
"""The four bounds on κ, in the order in which they are drawn from the top."""

BINS = 30

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def plot(saved: Saved) -> Figure:
    """Draws `kappa-histogram.npz`: see `synthetic.experiments.kappa_histogram`."""
    kappa, limits = saved.array("kappa"), saved.array("kappa_limit")
    figure = new_figure(SINGLE, 3.5)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.7))
    _histogram(top, kappa, limits, saved.value("kappa_balanced"), saved.value("not_converged"))
    _bounds(bottom, saved)
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper center")
    title(top, describe(saved.value("settings")))
    return figure


def _histogram(
    axes: Axes, kappa: NDArray[np.float64], limits: NDArray[np.float64], balanced: float, missed: int
) -> None:
    everything = np.concatenate([kappa, limits, [balanced]])
    low, high = np.log10(everything.min()), np.log10(everything.max())
    edges = np.linspace(low, max(high, low + 0.1), BINS + 1)
    groups = [(f"random gauges (n = {len(kappa)})", kappa, GREY, "stepfilled", 0.6)]
    if len(limits):
        count = f"n = {len(limits)}" + (f", {missed} more not there yet" if missed else "")
        groups.append((f"limits of GD on LoRA ({count})", limits, VERMILLION, "step", 1.0))
    elif missed:
        axes.plot([], [], color=VERMILLION, label=f"limits of GD on LoRA: none of {missed} runs is there yet")
    for label, values, color, kind, alpha in groups:
        weights = np.full(len(values), 1 / len(values))
        axes.hist(
            np.log10(values),
            bins=edges.tolist(),
            weights=weights,
            histtype=kind,  # type: ignore[arg-type]
            color=color,
            alpha=alpha,
            linewidth=1.2,
            label=label,
        )
    axes.axvline(np.log10(balanced), color=BLUE, linewidth=1.4, label=f"balanced, κ = {number(balanced)}")
    axes.set_ylabel("share per bin")
    axes.tick_params(labelbottom=False)


def _bounds(axes: Axes, saved: Saved) -> None:
    """One row per bound: 5–95 % as a thin bar, quartiles as a thick one, the median as a marker."""
    rows = [*BOUNDS.items()]
    rows.insert(2, ("kappa", Look("κ itself", BLACK, "D")))
    labels = []
    for row, (key, look) in enumerate(reversed(rows)):
        values = saved.array(key)
        finite = values[np.isfinite(values)]
        vacuous = 1 - len(finite) / len(values)
        labels.append(look.label + (f" ({100 * vacuous:.0f} % vacuous)" if 0 < vacuous < 1 else ""))
        if not len(finite):
            axes.text(0.98, row, "vacuous in all draws", transform=axes.get_yaxis_transform(), ha="right", va="center")
            continue
        spread = np.log10(np.quantile(finite, SHARES))
        axes.plot(spread[[0, 4]], [row, row], color=look.color, linewidth=0.8)
        axes.plot(spread[[1, 3]], [row, row], color=look.color, linewidth=3.0, solid_capstyle="butt")
        axes.plot(spread[2], row, color=look.color, marker=look.marker, markeredgecolor="white", markersize=5)
    axes.set_yticks(range(len(rows)), labels)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.axvline(np.log10(saved.value("kappa_balanced")), color=BLUE, linewidth=1.4)
    axes.set_xlabel("log₁₀ κ")
    title(axes, "5–95 %, quartiles, median over the gauges")
