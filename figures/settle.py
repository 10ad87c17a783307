"""Whether BaLoRA's gain is the conditioning: small steps, equal κ, matched step lengths."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lorakappa.figures.curves import draw_band
from lorakappa.figures.saved import Saved, describe, positive
from lorakappa.figures.style import (
    BLACK,
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    LOOKS,
    ORANGE,
    PURPLE,
    Look,
    heading,
    new_figure,
    title,
)

SMALL_STEPS = {
    "deviation": (Look("loss curves, LoRA − BaLoRA", BLUE, "s"), 1),
    "imbalance_from_balanced": (Look("LoRA's imbalance at the end", ORANGE, "^"), 1),
    "drift_one_step": (Look("in one step", GREEN, "D"), 2),
    "drift_fixed_time": (Look("over a fixed time", PURPLE, "v"), 1),
}
"""What falls with the step size, and as which power of it."""

RUN_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)))
"""At its own best step size, with the other method's step lengths, with the best multiple of those."""

GAINS = {
    "each_at_best": "each at its best\nstep size",
    "at_balora_lengths": "BaLoRA's step\nlengths for both",
    "at_multiples_of_balora_lengths": "LoRA: best multiple\nof BaLoRA's lengths",
    "at_lora_lengths": "LoRA's step\nlengths for both",
    "at_multiples_of_lora_lengths": "BaLoRA: best multiple\nof LoRA's lengths",
}
"""Rows of the panel of gains, from the top."""

FLOOR = 1e-20
"""f − f* relative to its start down to which the panel of equal κ goes: well above rounding."""


def plot(saved: Saved) -> Figure:
    """Draws `settle.npz`: see `synthetic.experiments.settle`."""
    figure = new_figure(DOUBLE, 5.2)
    halves = figure.add_gridspec(2, 1, height_ratios=(1, 1.1))
    upper, lower = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    one_start, flow, equal = upper.subplots(1, 3)
    curves, gains = lower.subplots(1, 2)
    _powers(one_start, saved, "deviation", "imbalance_from_balanced")
    one_start.set_ylabel("relative deviation")
    title(one_start, "from one balanced start", "a")
    _powers(flow, saved, "drift_one_step", "drift_fixed_time")
    flow.set_ylabel("relative change")
    title(flow, "LoRA: change of $A^TA - BB^T$", "b")
    _equal_kappa(equal, saved)
    _rescaled(curves, saved)
    _gains(gains, saved)
    seeds = saved.array("deviation").shape[-1]
    problem = describe(saved.value("settings"))
    heading(figure, f"{problem}, GD; medians, quartiles and single runs of n = {seeds} paired seeds")
    return figure


def _powers(axes: Axes, saved: Saved, *keys: str) -> None:
    """Medians, quartiles and runs over γ, each with its power of γ through the last median."""
    gammas = saved.array("gammas")
    for key in keys:
        look, power = SMALL_STEPS[key]
        values = saved.array(key)
        draw_band(axes, gammas, values, look)
        reference = np.median(values[-1]) * (gammas / gammas[-1]) ** power
        axes.plot(gammas, reference, color=BLACK, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=4)
    powers = sorted({SMALL_STEPS[key][1] for key in keys})
    label = "slope " + " and ".join(str(power) for power in powers)
    axes.plot([], [], color=BLACK, linewidth=0.8, linestyle=(0, (1, 1.5)), label=label)
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlabel="step size γ in units of $1/(2s_1)$")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.5)  # room for the legend
    axes.legend(loc="upper left", borderaxespad=0, handlelength=1.8)


def _equal_kappa(axes: Axes, saved: Saved) -> None:
    """Both methods next to an unbalanced minimizer whose κ is the balanced one, every seed; time in units of κ."""
    title(axes, "unbalanced, but same κ", "c")
    if "equal_kappa_curves" not in saved.arrays:
        axes.text(0.5, 0.5, "needs rank ≥ 3", transform=axes.transAxes, ha="center")
        axes.set(xticks=[], yticks=[])
        return
    curves, kappa = saved.array("equal_kappa_curves"), saved.array("equal_kappa")
    relative = curves / curves[0]
    visible = np.where(relative > FLOOR, relative, np.nan)
    steps = np.arange(len(curves))[:, None]
    dashes = {"lora": "-", "balora": (0, (2, 2))}
    for i, (name, dash) in enumerate(dashes.items()):
        look = LOOKS[name]
        lines = axes.plot(steps / kappa[i], visible[:, i], color=look.color, linestyle=dash, linewidth=0.9)
        lines[0].set_label(look.label)
    time = np.asarray([0.0, 8.0])
    axes.plot(time, np.exp(-4 * time), color=GREY, linewidth=2.5, alpha=0.6, zorder=1, label="bound's slope, $e^{-4t}$")
    axes.set(yscale="log", xlabel="$t$ = steps / κ", ylabel="$(f - f^*)$, relative", xlim=(0, None), ylim=(FLOOR, 10))
    axes.legend(loc="upper right", borderaxespad=0, handlelength=1.8)


def _rescaled(axes: Axes, saved: Saved) -> None:
    """Medians of the six runs of the step-rescale experiment."""
    title(axes, "matched step lengths in $AB$, medians", "d")
    curves, runs = saved.array("rescale_curves"), saved.value("rescale_runs")
    steps = np.arange(len(curves))
    seen = dict.fromkeys(LOOKS, 0)
    for i, run in enumerate(runs):
        method = run.split(" ")[0]
        look = LOOKS[method]
        axes.plot(
            steps,
            positive(np.median(curves[:, i], axis=-1)),
            color=look.color,
            linestyle=RUN_LINES[seen[method]],
            linewidth=1.2,
        )
        seen[method] += 1
    axes.set(yscale="log", xlabel="step", ylabel="excess loss $f - f^*$", xlim=(0, len(curves) - 1))
    handles = [Line2D([], [], color=LOOKS[name].color, label=LOOKS[name].label) for name in ("lora", "balora")]
    names = ("best step size", "other's step lengths", "best multiple of them")
    handles += [
        Line2D([], [], color=GREY, linestyle=line, label=name) for line, name in zip(RUN_LINES, names, strict=True)
    ]
    axes.legend(handles=handles, loc="lower left", ncols=1)


def _gains(axes: Axes, saved: Saved) -> None:
    """Paired gains of BaLoRA over LoRA with their intervals."""
    title(axes, "BaLoRA's gain: median, 95 % interval", "e")
    gains = saved.value("log10_gain")
    rows = [name for name in GAINS if name in gains] + [name for name in gains if name not in GAINS]
    for row, name in enumerate(reversed(rows)):
        gain = gains[name]
        if gain["interval"]:
            axes.plot(gain["interval"], [row, row], color=BLUE, linewidth=1.4)
        axes.plot(gain["median"], row, "s", color=BLUE, markersize=4.5)
        axes.annotate(
            f"{gain['wins']}/{gain['n']}",
            (1, row),
            xycoords=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=7,
        )
    axes.axvline(0, color=BLACK, linewidth=0.8, zorder=1)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.15 * (high - low))
    axes.set_yticks(range(len(rows)), [GAINS.get(name, name.replace("_", " ")) for name in reversed(rows)])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("decades of final $f - f^*$ (right: seeds won)")
