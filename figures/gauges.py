"""Which gauge for which data."""

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lorakappa.figures.duel import draw_cell
from lorakappa.figures.saved import Saved
from lorakappa.figures.style import (
    BLUE,
    DOUBLE,
    GREY,
    OPTIMIZERS,
    ORANGE,
    YELLOW,
    Look,
    heading,
    method_looks,
    new_figure,
    title,
)


def plot(saved: Saved) -> Figure:
    """Draws `gauges.npz`: one panel per optimizer, one cell per pair of condition numbers, one bar per method."""
    looks = _told_apart(list(method_looks(saved.value("methods")).values()))
    optimizers, winner, gain = saved.value("optimizers"), saved.array("winner"), saved.array("gain")
    rows, columns = saved.array("conditions_c"), saved.array("conditions_d")
    figure = new_figure(DOUBLE, 1.3 + 0.8 * len(rows))
    panels = figure.subplots(1, len(optimizers), sharey=True, squeeze=False)[0]
    for k, (axes, optimizer) in enumerate(zip(panels, optimizers, strict=True)):
        longest = max(np.nanmax(np.abs(gain[:, :, k]), initial=0.0), 1e-3)  # one scale per panel
        for i, j in np.ndindex(len(rows), len(columns)):
            lengths, margin = gain[i, j, k] / longest, saved.array("margin")[i, j, k]
            draw_cell(axes, (j, i), looks, int(winner[i, j, k]), lengths, margin)
        axes.set(xlim=(0, len(columns)), ylim=(0, len(rows)), xlabel="condition number of $D$ (inputs)")
        axes.set_xticks(np.arange(len(columns)) + 0.5, [f"{condition:g}" for condition in columns])
        axes.set_yticks(np.arange(len(rows)) + 0.5, [f"{condition:g}" for condition in rows])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        name = "SGD, noisy labels" if optimizer == "sgd" else OPTIMIZERS.get(optimizer, optimizer)
        title(axes, f"{name}: bars to {longest:.2g}", "abcdefgh"[k])
    panels[0].set_ylabel("condition number of $C$ (outputs)")
    handles = [Patch(facecolor=look.color, label=look.label) for look in looks]
    handles.append(Patch(facecolor="white", edgecolor=GREY, hatch="////", linewidth=0, label="tie"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=4,
        title=f"bars: median gain over {looks[0].label} in decades, one scale a panel; frame and number: the winner, "
        "decades ahead of the runner-up",
    )
    settings = saved.value("settings")
    heading(
        figure,
        f"½‖C(AB − Z)D‖², {settings['alignment']} singular vectors of C and D, r = {settings['rank']}, "
        f"{saved.value('steps')} steps, n = {settings['seeds']} seeds, each method at its best step size",
    )
    return figure


def _told_apart(looks: list[Look]) -> list[Look]:
    """The looks, with another colour for bars where one method has that of another already."""
    found: list[Look] = []
    for look in looks:
        taken = {other.color for other in found}
        free = [color for color in (ORANGE, YELLOW, BLUE, GREY) if color not in taken]
        found.append(replace(look, color=free[0]) if look.color in taken and free else look)
    return found
