"""Median, inter-quartile band and thin single runs: how every figure shows values over seeds."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lorakappa.figures.saved import positive
from lorakappa.figures.style import Look

MOST_RUNS = 30
"""Single runs drawn at most; the median and the band are always of all."""


def quartiles(values: NDArray[Any]) -> NDArray[np.float64]:
    """(3, …) quartiles over the last axis that are data points: a diverged seed (inf) does not make them NaN.

    The middle one is the usual median, the mean of the two middle values where their number is even.
    """
    outer = np.quantile(values, [0.25, 0.75], axis=-1, method="inverted_cdf")
    return np.stack([outer[0], np.median(values, axis=-1), outer[1]])


def draw_band(
    axes: Axes,
    x: NDArray[Any],
    values: NDArray[Any],
    look: Look,
    *,
    label: str | None = None,
    markers: int = 0,
    phase: float = 0.0,
    runs: bool = True,
) -> None:
    """Draws one method's median over seeds with its band and single runs, on a logarithmic y axis.

    Args:
        axes: where.
        x: (T,) abscissas.
        values: (T, n); what is not positive and finite leaves a gap.
        look: the method's.
        label: for the legend.
        markers: about how many markers along the line; 0: one at every point.
        phase: share of the marker spacing by which they are shifted, so that those of several methods differ.
        runs: whether to draw single runs.
    """
    low, middle, high = (positive(line) for line in quartiles(values))
    if runs:
        shown = np.unique(np.linspace(0, values.shape[1] - 1, MOST_RUNS).round().astype(int))
        single = positive(values[:, shown])
        axes.plot(x, single, color=look.color, linewidth=0.4, alpha=0.3, zorder=1.5)
    axes.fill_between(x, low, high, color=look.color, alpha=0.16, linewidth=0, zorder=1)
    spacing = max(1, len(x) // markers) if markers else 1
    axes.plot(
        x,
        middle,
        color=look.color,
        linestyle=look.line,
        marker=look.marker,
        markevery=(int(phase * spacing), spacing),
        label=label or look.label,
        zorder=3,
    )
