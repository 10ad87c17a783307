"""A map of the gain over two knobs."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from lorakappa.figures.saved import Saved
from lorakappa.figures.style import GREY, OPTIMIZERS, SINGLE, method_looks, new_figure, title

MOST_NUMBERS = 64
"""Cells up to which each gets its number."""

PARAMETERS = {
    "geometric": "ratio $q$ of the spectrum, $s_i = q^{i-1}$",
    "power-law": "exponent $p$ of the spectrum, $s_i = i^{-p}$",
}


def plot(saved: Saved) -> Figure:
    """Draws `phase.npz`: see `synthetic.experiments.phase`."""
    gain, interval = saved.array("gain"), saved.array("interval")
    decays, init_stds = saved.array("decays"), saved.array("init_stds")
    figure = new_figure(SINGLE, 3.3)
    axes = figure.add_subplot()
    norm = CenteredNorm(0, max(float(np.nanmax(np.abs(gain), initial=0.0)), 1e-3))
    axes.set_facecolor("#d9d9d9")
    mesh = axes.pcolormesh(np.ma.masked_invalid(gain), cmap="RdBu", norm=norm, edgecolors="white", linewidth=0.6)
    _marks(axes, gain, interval)
    axes.set_xticks(np.arange(len(init_stds)) + 0.5, [f"{init_std:g}" for init_std in init_stds])
    axes.set_yticks(np.arange(len(decays)) + 0.5, [f"{decay:g}" for decay in decays])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    spectrum = saved.value("spectrum")
    axes.set(xlabel="standard deviation of the start", ylabel=PARAMETERS.get(spectrum, spectrum))

    first, second = (look.label for look in method_looks(saved.value("methods")).values())
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, fraction=0.06)
    bar.set_label(f"median gain of {second} over {first},\ndecades of $f - f^*$")
    settings, optimizer = saved.value("settings"), saved.value("optimizer")
    shape = "×".join(str(n) for n in settings["shape"])
    title(
        axes,
        f"{shape}, r = {settings['rank']}, {OPTIMIZERS.get(optimizer, optimizer)}, "
        f"{saved.value('steps')} steps, n = {settings['seeds']} seeds",
    )
    return figure


def _marks(axes: Axes, gain: np.ndarray, interval: np.ndarray) -> None:
    """Numbers in the cells; hatching where the sign is open; a dash where every step size diverges."""
    undecided = (interval[..., 0] <= 0) & (interval[..., 1] >= 0)
    for i, j in np.ndindex(*gain.shape):
        missing = not np.isfinite(gain[i, j])
        if undecided[i, j]:
            axes.add_patch(Rectangle((j, i), 1, 1, fill=False, hatch="////", edgecolor=GREY, linewidth=0))
        if missing or gain.size <= MOST_NUMBERS:
            strong = not missing and abs(gain[i, j]) > 0.6 * np.nanmax(np.abs(gain))
            text = axes.text(
                j + 0.5,
                i + 0.5,
                "–" if missing else f"{gain[i, j]:+.2f}".replace("-", "−"),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if strong else "black",
            )
            if undecided[i, j]:
                text.set_bbox({"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1})
    handles = []
    if undecided.any():
        handles.append(
            Patch(facecolor="white", edgecolor=GREY, hatch="////", linewidth=0, label="95 % interval includes 0")
        )
    if np.isnan(gain).any():
        handles.append(Patch(facecolor="#d9d9d9", label="– all step sizes diverge"))
    if handles:
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=2)
