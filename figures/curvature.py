"""A language model's curvature in its LoRA factors: what balancing changes, and where on the gauge path it is least."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lorakappa.figures.saved import Saved, positive
from lorakappa.figures.style import (
    BLACK,
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    heading,
    new_figure,
    number,
    plain_ticks,
    title,
)

LAYERS = (
    (VERMILLION, "o"),
    (BLUE, "s"),
    (GREEN, "^"),
    (PURPLE, "D"),
    (ORANGE, "v"),
    (SKY, "P"),
    (BLACK, "X"),
    (YELLOW, "<"),
)
"""Colour and marker per layer; further ones begin again."""

GAUGES = ((0, "trained", VERMILLION, "o", 2.4), (1, "balanced", BLUE, "s", 1.0))
"""Place on the path, label, colour, marker and line width of the two pairs; a wide line shows beside a narrow one."""

DASHES = (0, (2, 1.5))

MATRICES = (("ggn", "GGN", "-"), ("hessian", "Hessian", DASHES))

COUNTS = {"r": r"\kappa_r", "2r": r"\kappa_{2r}", "r²": r"\kappa_{r^2}"}


def plot(saved: Saved) -> Figure:
    """Draws `curvature.json`: see `llm.curvature.spectra`."""
    layers = saved.value("layers")
    if not layers:
        raise ValueError(f"{saved.name}.json has no layer")
    worst = max(layers, key=lambda layer: float(_at(layer, 0)["kappa_bound"]))
    figure = new_figure(DOUBLE, 3.3)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))
    _spectra(left, worst)
    title(left, f"leading spectrum, {_short(worst['name'])}", "a")
    _paths(middle, layers)
    title(middle, "GGN on the gauge path", "b")
    _gains(right, layers)
    title(right, "trained over balanced", "c")
    heading(
        figure,
        f"curvature in one layer's factors: {saved.value('tokens')} tokens, loss {number(saved.value('loss'))}; "
        r"$\kappa_p = \lambda_1 / \lambda_p$",
    )
    styles: list[Any] = [
        Line2D([], [], color=GREY, label=r"$\lambda_\mathrm{max}$"),
        Line2D([], [], color=GREY, linestyle=DASHES, label="trace"),
        Line2D([], [], color=GREY, marker="o", linestyle="none", label="lowest on the path"),
    ]
    handles: list[Any] = [
        Line2D([], [], color=color, marker=marker, label=_short(layer["name"]))
        for layer, (color, marker) in zip(layers, _looks(len(layers)), strict=True)
    ]
    figure.legend(handles=styles, loc="outside lower left", ncols=3, columnspacing=1.4, title="b")
    figure.legend(
        handles=handles, loc="outside lower right", ncols=min(4, len(layers)), columnspacing=1.4, title="b, c"
    )
    return figure


def _spectra(axes: Axes, layer: dict[str, Any]) -> None:
    """Positive eigenvalues by index, both matrices of both pairs; r and r² are marked."""
    for t, label, color, marker, width in GAUGES:
        for key, matrix, dashes in MATRICES:
            values = positive(np.asarray([float(value) for value in _at(layer, t)[key]["leading"]]))
            axes.plot(
                np.arange(1, len(values) + 1),
                values,
                color=color,
                linestyle=dashes,
                marker=marker if key == "ggn" else None,
                markevery=0.12,
                markersize=3 + width,
                linewidth=width,
                label=f"{label}, {matrix}",
            )
    axes.set(xscale="log", yscale="log", xlabel="index of the eigenvalue", ylabel="positive eigenvalue")
    for name in ("r", "r²"):
        if name in layer["p"]:
            axes.axvline(layer["p"][name], color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)
            axes.text(
                layer["p"][name],
                1.0,
                f" {name}",
                transform=axes.get_xaxis_transform(),
                va="top",
                color=GREY,
                fontsize=7,
            )
    axes.legend(loc="lower left", handlelength=2.8, frameon=True, facecolor="white", edgecolor="none", framealpha=1)


def _paths(axes: Axes, layers: list[dict[str, Any]]) -> None:
    """λ_max and trace of the GGN along T^t, relative to the balanced pair."""
    for layer, (color, marker) in zip(layers, _looks(len(layers)), strict=True):
        t = [point["t"] for point in layer["path"]]
        for measure, dashes in (("lambda_max", "-"), ("trace", DASHES)):
            values = np.asarray([float(point["ggn"][measure]) for point in layer["path"]])
            relative = positive(values / float(_at(layer, 1)["ggn"][measure]))
            axes.plot(t, relative, color=color, linestyle=dashes, linewidth=1.2)
            best = int(np.nanargmin(relative))
            axes.plot(t[best], relative[best], color=color, marker=marker, markersize=4.5, linestyle="none", zorder=3)
    axes.axvline(1, color=BLACK, linewidth=0.7, zorder=0)
    axes.axhline(1, color=BLACK, linewidth=0.7, zorder=0)
    axes.set(yscale="log", xlabel=r"$t$ in $(A T^t, T^{-t} B)$", ylabel="relative to balanced")
    ends = sorted({t for layer in layers for t in (layer["path"][0]["t"], layer["path"][-1]["t"])} - {0, 1})
    axes.set_xticks([*ends, 0, 1], [*(f"{t:g}".replace("-", "−") for t in ends), "0\ntrained", "1\nbalanced"])
    plain_ticks(axes.yaxis)


def _gains(axes: Axes, layers: list[dict[str, Any]]) -> None:
    """What balancing divides each measure by; the paper's bounds promise the first and the fourth."""
    rows: list[tuple[str, Any]] = [
        (r"bound, $\lambda_\mathrm{max}$", lambda point: point["smoothness"]),
        (r"$\lambda_\mathrm{max}$, GGN", lambda point: point["ggn"]["lambda_max"]),
        (r"$\lambda_\mathrm{max}$, Hessian", lambda point: point["hessian"]["lambda_max"]),
        ("trace, GGN", lambda point: point["ggn"]["trace"]),
        ("bound, κ", lambda point: point["kappa_bound"]),
    ]
    rows += [(f"${label}$, GGN", _kappa(count)) for count, label in COUNTS.items()]
    for y, (_, measure) in enumerate(rows):
        for i, (layer, (color, marker)) in enumerate(zip(layers, _looks(len(layers)), strict=True)):
            before, after = (float(measure(_at(layer, t))) for t in (0, 1))
            if after > 0 and np.isfinite(before / after):
                shift = 0.4 * ((i + 0.5) / len(layers) - 0.5)
                axes.plot(before / after, y + shift, color=color, marker=marker, linestyle="none")
    axes.axvline(1, color=BLACK, linewidth=0.7, zorder=0)
    axes.set(xscale="log", xlabel="ratio; right of 1 balance is lower", ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=GREY, alpha=0.2, linewidth=0.5)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 2.0))
    plain_ticks(axes.xaxis)


def _kappa(count: str) -> Any:
    return lambda point: point["ggn"]["kappa"].get(count, "nan")


def _at(layer: dict[str, Any], t: float) -> dict[str, Any]:
    """The point of a layer's path at t."""
    for point in layer["path"]:
        if point["t"] == t:
            return dict(point)
    raise ValueError(f"the path of {layer['name']} has no point t = {t}")


def _looks(count: int) -> list[tuple[str, str]]:
    return [LAYERS[i % len(LAYERS)] for i in range(count)]


def _short(name: str) -> str:
    """A module's place and kind: "3.q_proj" for …layers.3.self_attn.q_proj (adapter default)."""
    module, _, adapter = name.partition(" (adapter ")
    parts = module.split(".")
    places = [part for part in parts if part.isdecimal()]
    own = adapter.rstrip(")")
    return ".".join([*places, parts[-1]]) + (f" ({own})" if own not in ("", "default") else "")
