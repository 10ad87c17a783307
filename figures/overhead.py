"""What the methods cost: peak memory relative to the baseline, and the share of a step in their own map.

Seconds of a step are not set beside the baseline's: the runs of a comparison are made at different times, and what else
the machine did then is in them. The map and the rest of a step are clocked within one run.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lorakappa.figures.comparison import best, finite, head, looks, mean
from lorakappa.figures.saved import Saved, numbers
from lorakappa.figures.style import BLACK, DOUBLE, Look, new_figure, title


def plot(saved: Saved) -> Figure:
    """Draws the costs of `llm-compare`: a row per method and rank, a dot per seed, the mean as the method's marker."""
    ranks, baseline = sorted(saved.value("ranks")), saved.value("baseline")
    rows = [(name, rank) for name in looks(saved) if name != baseline for rank in ranks]
    figure = new_figure(DOUBLE, 1.1 + 0.17 * max(len(rows), 3))
    panels = figure.subplots(1, 2, sharey=True)
    reference = looks(saved)[baseline].label
    for i, (axes, name) in enumerate(zip(panels, ("peak memory", "the method's own map"), strict=True)):
        title(axes, name, "ab"[i])
        axes.set_xlabel("% of the step" if i else f"times {reference}")
        for row, (method, rank) in enumerate(reversed(rows)):
            _row(axes, row, costs(saved, method, rank)[i], looks(saved)[method], "%" if i else "×")
        low, high = axes.get_xlim()
        if i:
            low = min(low, 0.0)
        else:
            axes.axvline(1, color=BLACK, linewidth=0.8, zorder=1)
        axes.set_xlim(low, high + 0.4 * (high - low))  # room for the numbers
        axes.tick_params(axis="y", length=0)
    labels = [looks(saved)[name].label + (f", r = {rank}" if len(ranks) > 1 else "") for name, rank in reversed(rows)]
    panels[0].set_yticks(range(len(rows)), labels)
    panels[0].set_ylim(-0.7, max(len(rows), 1) - 0.3)
    head(figure, saved, extra="dots: seeds")
    return figure


def costs(saved: Saved, method: str, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Memory per seed relative to the baseline's, and per cent of the step in the method's own map.

    Args:
        saved: the comparison.
        method: of its methods.
        rank: of its ranks.

    Returns:
        Two arrays over seeds: NaN where something was not measured, empty where the method has no best cell.
    """
    chosen = best(saved, rank)
    if method not in chosen:
        return np.empty(0), np.empty(0)
    mine, reference = chosen[method][1], chosen.get(saved.value("baseline"), (0, None))[1]
    own = finite(numbers(mine["peak_memory_bytes"]))
    other = finite(numbers(reference["peak_memory_bytes"])) if reference else np.full(len(own), np.nan)
    seconds = finite(numbers(mine["seconds_per_step"]))
    share = 100 * finite(numbers(mine["method_seconds_per_step"])) / np.where(seconds > 0, seconds, np.nan)
    return own / np.where(other > 0, other, np.nan), share


def _row(axes: Axes, row: int, values: NDArray[np.float64], look: Look, unit: str) -> None:
    known = values[np.isfinite(values)]
    text = "no value" if len(values) else "no run finished"
    if len(known):
        axes.plot(known, np.full(len(known), row), ".", color=look.color, markersize=4, alpha=0.5, markeredgewidth=0)
        text = "–"
    if len(known) == len(values) > 0:
        average = float(mean(values))
        axes.plot([average], [row], color=look.color, marker=look.marker, zorder=3)
        text = f"{average:.2f}×" if unit == "×" else f"{average:.1f} %"
    axes.text(1, row, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=6.5)
