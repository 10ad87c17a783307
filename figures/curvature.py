"""A language model's curvature in its LoRA factors: where every gauge stands in each layer, between worst and best."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lorakappa.figures.audit import short_names
from lorakappa.figures.saved import Saved
from lorakappa.figures.style import (
    BLACK,
    BLUE,
    DOUBLE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    Look,
    heading,
    new_figure,
    number,
    plain_ticks,
    title,
)

GAUGES = {
    "trained": Look("trained", VERMILLION, "o"),
    "balanced": Look("balanced", BLUE, "s"),
    "ilora": Look("iLoRA's ratio", ORANGE, "^"),
    "trace": Look("smallest trace", GREEN, "D"),
    "lambda_max": Look(r"smallest $\lambda_\mathrm{max}$", PURPLE, "v"),
}
"""Look of each gauge, by its name in the report."""

MOST_LAYERS = 60
"""Of more the layers that balance is farthest from the best gauge in are shown."""


def plot(saved: Saved) -> Figure:
    """Draws `curvature.json`: see `llm.curvature.results`."""
    layers = saved.value("layers")
    if not layers:
        raise ValueError(f"{saved.name}.json has no layer")
    names = short_names([layer["name"].removesuffix(" (adapter default)") for layer in layers])
    shown = _shown(layers)
    layers, names = [layers[i] for i in shown], [names[i] for i in shown]
    panels: list[tuple[str, str, Any]] = [
        (r"$\lambda_\mathrm{max}$ of the GGN", "over the bound for every gauge", _largest),
        ("its trace", "over the smallest one", _trace),
        (r"its $\kappa_r = \lambda_1/\lambda_r$", r"$\kappa_r$", _kappa),
    ]
    if all(_points(layer)[gauge]["hessian"] for layer in layers for gauge in ("trained", "balanced")):
        panels.append((r"$\lambda_\mathrm{max}$, Hessian", "over the lowest shown", _hessian))
    figure = new_figure(DOUBLE, 1.15 + 0.145 * max(len(layers), 4))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, letter, (name, label, measure) in zip(axes, "abcd", panels, strict=False):
        title(panel, name, letter)
        panel.set_xlabel(label)
        _rows(panel, [measure(layer) for layer in layers], one=measure is not _kappa)
    axes[0].set_yticks(range(len(layers)), names)
    axes[0].set_ylim(len(layers) - 0.4, -0.6)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.4)
    heading(figure, _heading(saved, layers))
    return figure


def _shown(layers: list[dict[str, Any]]) -> list[int]:
    """Indices of the layers that get a row, in the order of the model."""
    if len(layers) <= MOST_LAYERS:
        return list(range(len(layers)))
    excess = [_largest(layer)["balanced"] for layer in layers]
    return sorted(np.argsort(excess)[::-1][:MOST_LAYERS].tolist())


def _rows(axes: Axes, rows: list[dict[str, float]], *, one: bool) -> None:
    """A row per layer: a line from the lowest to the highest value, and a mark per gauge."""
    for y, values in enumerate(rows):
        known = _positive(values.values())
        if len(known):
            axes.plot([known.min(), known.max()], [y, y], color=GREY, linewidth=0.6, zorder=1)
    for gauge, look in GAUGES.items():
        places = [(row[gauge], y) for y, row in enumerate(rows) if len(_positive([row.get(gauge, np.nan)]))]
        if places:
            values_shown, places_shown = zip(*places, strict=True)
            hollow = gauge in ("trained", "lambda_max")
            axes.plot(
                values_shown,
                places_shown,
                linestyle="none",
                marker=look.marker,
                color=look.color,
                markerfacecolor="none" if hollow else look.color,
                markersize=4.5 if hollow else 3.5,
                label=look.label,
                zorder=3 if hollow else 2,
            )
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low, max(high, 1.5 * low))
    plain_ticks(axes.xaxis)
    axes.grid(axis="y", color=GREY, alpha=0.2, linewidth=0.5)
    axes.tick_params(axis="y", length=0)
    if one:
        axes.axvline(1, color=BLACK, linewidth=0.7, zorder=0)


def _points(layer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was measured in each gauge, by name."""
    on_path = {point["t"]: point for point in layer["path"]}
    for t in (0, 1):
        if t not in on_path:
            raise ValueError(f"the path of {layer['name']} has no point t = {t}")
    return {"trained": on_path[0], "balanced": on_path[1], **layer["gauges"]}


def _largest(layer: dict[str, Any]) -> dict[str, float]:
    """λ_max over its bound, or over the lowest value where there is no bound."""
    values = {gauge: float(point["ggn"]["lambda_max"]) for gauge, point in _points(layer).items()}
    return _over(values, float(layer["lambda_max_bound"]))


def _trace(layer: dict[str, Any]) -> dict[str, float]:
    return _over({gauge: float(point["ggn"]["trace"]) for gauge, point in _points(layer).items()})


def _kappa(layer: dict[str, Any]) -> dict[str, float]:
    return {gauge: float(point["ggn"]["kappa"].get("r", "nan")) for gauge, point in _points(layer).items()}


def _hessian(layer: dict[str, Any]) -> dict[str, float]:
    points = _points(layer).items()
    return _over({gauge: float(point["hessian"]["lambda_max"]) for gauge, point in points if point["hessian"]})


def _over(values: dict[str, float], least: float = 0.0) -> dict[str, float]:
    known = _positive(values.values())
    least = least if least > 0 else float(known.min()) if len(known) else 1.0
    return {gauge: value / least for gauge, value in values.items()}


def _positive(values: Any) -> NDArray[np.float64]:
    found = np.asarray(list(values), dtype=float)
    return found[(found > 0) & np.isfinite(found)]


def _heading(saved: Saved, layers: list[dict[str, Any]]) -> str:
    points = [_points(layer) for layer in layers]
    lower = sum(p["balanced"]["ggn"]["lambda_max"] < p["trained"]["ggn"]["lambda_max"] for p in points)
    excess = _positive(_largest(layer)["balanced"] for layer in layers)
    return (
        f"curvature in single layers' factors: {saved.value('tokens')} tokens, loss {number(saved.value('loss'))}; "
        f"balancing lowers $\\lambda_\\mathrm{{max}}$ on {lower} of {len(layers)}, "
        f"to {number(float(np.median(excess)))} × the bound"
    )
