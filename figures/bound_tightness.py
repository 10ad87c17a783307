"""How far each bound is from κ, over random minimizers."""

import numpy as np
from matplotlib.figure import Figure

from lorakappa.figures.kappa_histogram import BOUNDS
from lorakappa.figures.saved import Saved, describe
from lorakappa.figures.style import BLACK, SINGLE, new_figure, plain_ticks, title


def plot(saved: Saved) -> Figure:
    """Draws bound/κ against κ from `kappa-histogram.npz`: see `synthetic.experiments.kappa_histogram`."""
    kappa = saved.array("kappa")
    figure = new_figure(SINGLE, 3.2)
    axes = figure.add_subplot()
    for key, look in BOUNDS.items():
        bound = saved.array(key)
        finite = np.isfinite(bound)
        vacuous = 100 * (1 - finite.mean())
        axes.plot(
            kappa[finite],
            bound[finite] / kappa[finite],
            linestyle="none",
            marker=look.marker,
            markersize=2.6,
            markerfacecolor=look.color,
            markeredgewidth=0,
            alpha=0.55,
            rasterized=len(kappa) > 2000,
            label=look.label + (f" ({vacuous:.0f} % vacuous)" if vacuous else ""),
        )
    axes.axhline(1, color=BLACK, linewidth=0.8, zorder=1)
    axes.set(xscale="log", yscale="log", xlabel="κ", ylabel="bound / κ")
    title(axes, f"{describe(saved.value('settings'))}, n = {len(kappa)} gauges")
    plain_ticks(axes.xaxis)
    plain_ticks(axes.yaxis)
    legend = figure.legend(loc="outside lower center", ncols=2, columnspacing=1.0, handletextpad=0.2)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    return figure
