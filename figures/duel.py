"""Who wins where."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lorakappa.figures.saved import Saved
from lorakappa.figures.style import (
    DOUBLE,
    GREY,
    OPTIMIZERS,
    Look,
    heading,
    method_looks,
    new_figure,
    title,
)

STARTS = {"lora": "LoRA's start, A = 0", "balanced": "balanced start", "gaussian": "Gaussian start"}

PARAMETERS = {"geometric": "ratio $q$, $s_i = q^{i-1}$", "power-law": "exponent $p$, $s_i = i^{-p}$"}

ZERO, FULL = 0.14, 0.8
"""Where in a cell the bars begin and how long the longest is, in cell widths."""


def plot(saved: Saved) -> Figure:
    """Draws `duel.npz`: one panel per start, one cell per decay and shape, one bar per method."""
    looks = list(method_looks(saved.value("methods")).values())
    starts, winner, gain = saved.value("starts"), saved.array("winner"), saved.array("gain")
    decays, shapes = saved.array("decays"), saved.array("shapes")
    figure = new_figure(DOUBLE, 1.3 + 0.62 * len(decays))
    panels = figure.subplots(1, len(starts), sharey=True, squeeze=False)[0]
    longest = np.maximum(np.nanmax(np.abs(gain), axis=(1, 2, 3), initial=0.0), 1e-3)  # one scale per row
    for k, (axes, start) in enumerate(zip(panels, starts, strict=True)):
        for i, j in np.ndindex(len(decays), len(shapes)):
            draw_cell(
                axes, (j, i), looks, int(winner[i, j, k]), gain[i, j, k] / longest[i], saved.array("margin")[i, j, k]
            )
        axes.set(xlim=(0, len(shapes)), ylim=(0, len(decays)), xlabel="shape of $AB$")
        axes.set_xticks(np.arange(len(shapes)) + 0.5, ["×".join(str(size) for size in shape) for shape in shapes])
        labels = [f"{decay:g}\n(bars to {length:.2g})" for decay, length in zip(decays, longest, strict=True)]
        axes.set_yticks(np.arange(len(decays)) + 0.5, labels, multialignment="center")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        title(axes, STARTS.get(start, f"start: {start}"), "abcdefgh"[k])
    spectrum = saved.value("spectrum")
    panels[0].set_ylabel(PARAMETERS.get(spectrum, spectrum))
    handles = [Patch(facecolor=look.color, label=look.label) for look in looks]
    handles.append(Patch(facecolor="white", edgecolor=GREY, hatch="////", linewidth=0, label="tie"))
    bars = f"bars: median gain over {looks[0].label} in decades, one scale a row; frame and number: the winner, "
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 6),
        title=bars + "decades ahead of the runner-up",
    )
    settings, optimizer = saved.value("settings"), saved.value("optimizer")
    heading(
        figure,
        f"r = {settings['rank']}, {OPTIMIZERS.get(optimizer, optimizer)}, {saved.value('steps')} steps, entries at the "
        f"start {settings['init_std']:g}, n = {settings['seeds']} seeds, each method at its best step size and λ",
    )
    return figure


def draw_cell(
    axes: Axes, corner: tuple[int, int], looks: list[Look], winner: int, lengths: np.ndarray, margin: np.ndarray
) -> None:
    """One cell: a bar per method, the winner's frame and by how much it is ahead; hatched if there is none."""
    x, y = corner
    if winner >= 0:
        frame: dict[str, Any] = {
            "facecolor": (*_tint(looks[winner].color), 1.0),
            "edgecolor": looks[winner].color,
            "linewidth": 1.2,
        }
    else:
        frame = {"facecolor": "white", "edgecolor": GREY, "hatch": "////", "linewidth": 0}
    axes.add_patch(Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, **frame))
    height = 0.62 / len(looks)
    for m, (look, length) in enumerate(zip(looks, lengths, strict=True)):
        if np.isfinite(length):
            left, right = sorted((ZERO, np.clip(ZERO + FULL * length, 0.04, 0.95)))
            bottom = y + 0.70 - (m + 1) * height
            axes.add_patch(Rectangle((x + left, bottom), right - left, 0.8 * height, facecolor=look.color, linewidth=0))
    axes.plot([x + ZERO] * 2, [y + 0.07, y + 0.71], color=looks[0].color, linewidth=0.8)
    ahead = f"{margin[0]:+.2f}".replace("-", "−") if np.isfinite(margin[0]) else ""
    axes.text(
        x + 0.5,
        y + 0.83,
        "tie" if winner == -1 else "all diverge" if winner < 0 else ahead,
        ha="center",
        va="center",
        fontsize=7,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.6},
    )


def _tint(color: str) -> tuple[float, ...]:
    """A colour mixed with much white."""
    return tuple(1 - 0.18 * (1 - int(color[i : i + 2], 16) / 255) for i in (1, 3, 5))
