"""The picture of P: loss on a slice of a 2×2 problem, its minimizers coloured by κ, and where P sends points."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path

from lorakappa.figures.saved import Saved
from lorakappa.figures.style import BLACK, GREY, SINGLE, VERMILLION, new_figure, number, plain_ticks, title

CONTOUR = "#c4c4c4"

LEVELS = 10.0 ** np.arange(-2.0, 1.51, 0.5)
"""Contours of f − f*, in units of z²."""


def plot(saved: Saved) -> Figure:
    """Draws `manifold.npz`: see `synthetic.experiments.manifold`."""
    figure = new_figure(SINGLE, 3.5)
    axes = figure.add_subplot()
    z, s_2 = saved.value("settings")["singular_values"]
    x, y = saved.array("x"), saved.array("y")
    axes.contour(x, y, saved.array("excess"), levels=z**2 * LEVELS, colors=CONTOUR, linewidths=0.5, zorder=1)
    _balanced_line(axes, x)
    minimizers = _minimizers(axes, saved)
    _arrows(axes, saved)
    balanced = saved.array("balanced")
    axes.plot(
        balanced[:, 0],
        balanced[:, 1],
        linestyle="none",
        marker="*",
        markersize=10,
        markerfacecolor="white",
        markeredgecolor=BLACK,
        zorder=6,
        label=f"balanced minimizers, κ = {number(saved.value('kappa_balanced'))}",
    )
    axes.set(xlabel="$x$, from $A = (x, 0)^T$", ylabel="$y$, from $B = (y, 0)$", aspect="equal")
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    bar = figure.colorbar(minimizers, ax=axes, pad=0.02, fraction=0.05)
    bar.set_label("κ at the minimizers $xy = z$")
    plain_ticks(bar.ax.yaxis)
    axes.plot([], [], color=CONTOUR, linewidth=0.8, label="levels of $f - f^*$, $10^{1/2}$ apart")
    title(axes, f"$Z$ = diag({number(z)}, {number(s_2)}), $r$ = 1")
    handles, labels = axes.get_legend_handles_labels()
    order = [labels.index(label) for label in sorted(labels, key=len)]  # the short ones share a column
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside upper center",
        ncols=2,
        columnspacing=1.2,
        handletextpad=0.5,
    )
    return figure


def _balanced_line(axes: Axes, x: np.ndarray) -> None:
    for sign in (1, -1):
        label = "balanced, $x = \\pm y$" if sign == 1 else None
        axes.plot(x, sign * x, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=2, label=label)


def _minimizers(axes: Axes, saved: Saved) -> LineCollection:
    """Both branches of the hyperbola as short pieces, each in the colour of its κ."""
    points, kappa = saved.array("minimizers"), saved.array("kappa")
    pieces = np.stack([points[:, :-1], points[:, 1:]], axis=2).reshape(-1, 2, 2)
    colors = np.sqrt(kappa[:, :-1] * kappa[:, 1:]).ravel()
    norm = LogNorm(float(kappa.min()), float(kappa.max()))
    lines = LineCollection(list(pieces), array=colors, norm=norm, cmap="viridis", linewidths=3.2, zorder=3)
    lines.set_capstyle("round")
    axes.add_collection(lines)
    return lines


def _arrows(axes: Axes, saved: Saved) -> None:
    """Arrows along the arcs of constant product."""
    starts = saved.array("starts")
    axes.plot(starts[:, 0], starts[:, 1], ".", color=VERMILLION, markersize=4, zorder=5)
    for arc in saved.array("paths"):
        axes.add_patch(
            FancyArrowPatch(
                path=Path(arc),
                arrowstyle="-|>",
                mutation_scale=7,
                color=VERMILLION,
                linewidth=0.9,
                shrinkA=0,
                shrinkB=0,
                zorder=5,
            )
        )
    axes.plot([], [], color=VERMILLION, marker=".", markersize=4, linewidth=0.9, label="$P$, keeps $xy$")
