"""κ bound and balancing gap of every layer of an adapter, as they are and as balancing would leave the bound."""

import re
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lorakappa.figures.saved import Saved, numbers
from lorakappa.figures.style import (
    BLACK,
    BLUE,
    DOUBLE,
    GREY,
    PURPLE,
    VERMILLION,
    Look,
    heading,
    new_figure,
    number,
    plain_ticks,
    title,
)

MOST_LAYERS, WORST = 40, 20
"""Layers up to which each gets its row; of more only the worst do, and the others are shown by module type."""

NOW, BALANCED = Look("now", VERMILLION, "o"), Look("balanced", BLUE, "s")

LONGEST = 34
"""Characters of a layer's name."""


def plot(saved: Saved) -> Figure:
    """Draws `audit.json`: see `llm.adapters.audit`."""
    layers = saved.value("layers")
    if not layers:
        raise ValueError("it lists no layers")
    now, balanced = numbers(x["kappa_bound"] for x in layers), numbers(x["kappa_bound_balanced"] for x in layers)
    gap = numbers(x["relative_gap"] for x in layers)
    names = short_names([layer["name"] for layer in layers])
    order = np.lexsort((-gap, -now))
    single = order if len(layers) <= MOST_LAYERS else order[:WORST]
    kinds = {} if len(layers) <= MOST_LAYERS else module_types([layer["name"] for layer in layers])

    heights = [0.35 + 0.145 * max(len(single), 3)] + [0.35 + 0.2 * max(len(kinds), 3)] * bool(kinds)
    figure = new_figure(DOUBLE, 0.95 + sum(heights))
    panels = figure.subplots(len(heights), 2, squeeze=False, sharex="col", width_ratios=(2.2, 1), height_ratios=heights)
    infinite = _where_infinite(np.concatenate([now, balanced]))
    _single(panels[0], [names[i] for i in single], now[single], balanced[single], gap[single], infinite)
    title(panels[0, 0], f"κ bound, the worst {WORST} layers" if kinds else "κ bound, worst layer first", "a")
    title(panels[0, 1], "relative gap", "b")
    if kinds:
        _by_type(panels[1], kinds, now, balanced, gap, infinite)
        title(panels[1, 0], "κ bound, all layers by module type", "c")
        title(panels[1, 1], "relative gap", "d")
        panels[0, 0].plot([], [], "|", color=BLACK, markersize=7, markeredgewidth=1.2, label="median of a type")
    panels[-1, 0].set_xlabel("now " + r"$(\sigma_1(A)^2 + \sigma_1(B)^2)/\min\,\sigma_r^2$, balanced $2s_1/s_r$")
    panels[-1, 1].set_xlabel(r"$\|A^TA - BB^T\| / (\|A\|^2 + \|B\|^2)$")
    _scale(panels, np.concatenate([now, balanced]), infinite)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    heading(figure, _summary(layers, now, balanced))
    return figure


def short_names(names: list[str]) -> list[str]:
    """Names of layers without what they share: numbers and last part where that tells them apart.

    Args:
        names: dotted module names, or kohya's with `_` for dots.

    Returns:
        As many different names, if they were different.
    """
    split = [_parts(name) for name in names]
    shared = 0
    while all(len(parts) > shared + 1 and parts[shared] == split[0][shared] for parts in split):
        shared += 1
    rest = [parts[shared:] for parts in split]
    several = len(set(names))
    for words in (
        [[*(part for part in parts[:-1] if part.isdigit()), parts[-1]] for parts in rest],
        *([_ends(parts, last) for parts in rest] for last in (1, 2)),
    ):
        brief = [_cut(" ".join(parts)) for parts in words]
        if len(set(brief)) == several:
            return brief
    whole = [".".join(parts) for parts in rest]
    brief = [_cut(name) for name in whole]
    return brief if len(set(brief)) == several else whole


def _parts(name: str) -> list[str]:
    """The parts of a module's name; in kohya's, numbers end a part."""
    if "." not in name:
        name = re.sub(r"\.(\d+)_", r".\1.", re.sub(r"_(\d+)(?=_|$)", r".\1", name))
    return name.split(".")


def _ends(parts: list[str], last: int) -> list[str]:
    """The first part, all numbers, and everything from the last words on."""
    words = [i for i, part in enumerate(parts) if not part.isdigit()]
    start = max(words[-last] if len(words) >= last else 0, 1)
    return [parts[0], *(part for part in parts[1:start] if part.isdigit()), *parts[start:]]


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]


def module_types(names: list[str]) -> dict[str, NDArray[np.int64]]:
    """Module type, the last part of the name that is no number → the layers of that type, the largest ones first."""
    kinds: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        words = [part for part in _parts(name.partition(" expert ")[0]) if not part.isdigit()]
        kinds.setdefault(words[-1] if words else name, []).append(i)
    return {kind: np.asarray(kinds[kind]) for kind in sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))}


def _single(
    row: NDArray[np.object_],
    names: list[str],
    now: NDArray[np.float64],
    balanced: NDArray[np.float64],
    gap: NDArray[np.float64],
    infinite: float,
) -> None:
    """A dumbbell per layer, the first at the top, and its gap."""
    left, right = row
    y = np.arange(len(names))[::-1]
    ends = np.stack([np.minimum(now, infinite), np.minimum(balanced, infinite)])
    left.plot(ends, np.stack([y, y]), color=GREY, linewidth=0.9, alpha=0.7, zorder=1)
    for look, x, size in zip((NOW, BALANCED), ends, (4.6, 3.0), strict=True):  # both are seen where they coincide
        left.plot(x, y, look.marker, color=look.color, markersize=size, label=look.label, zorder=2)
    right.plot(np.stack([np.zeros(len(y)), gap]), np.stack([y, y]), color=GREY, linewidth=0.9, alpha=0.7, zorder=1)
    right.plot(gap, y, "D", color=PURPLE, markersize=3)
    left.set_yticks(y, names)
    right.set_yticks(y, [])
    for axes in (left, right):
        axes.set_ylim(-0.7, len(names) - 0.3)
        axes.tick_params(axis="y", length=0)


def _by_type(
    row: NDArray[np.object_],
    kinds: dict[str, NDArray[np.int64]],
    now: NDArray[np.float64],
    balanced: NDArray[np.float64],
    gap: NDArray[np.float64],
    infinite: float,
) -> None:
    """Every layer as a dot in the row of its type, with medians as bars."""
    left, right = row
    for y, here in enumerate(reversed(kinds.values())):
        for axes, values, look, lift in (
            (left, now, NOW, 0.17),
            (left, balanced, BALANCED, -0.17),
            (right, gap, Look("", PURPLE, "D"), 0.0),
        ):
            x = np.minimum(values[here], infinite) if axes is left else values[here]
            axes.plot(x, np.full(len(x), y + lift), look.marker, color=look.color, markersize=2.5, alpha=0.35, mew=0)
            middle = np.median(x)
            axes.plot([middle, middle], [y + lift - 0.16, y + lift + 0.16], color=BLACK, linewidth=1.2, zorder=3)
    left.set_yticks(range(len(kinds)), [f"{kind} ({len(here)})" for kind, here in reversed(kinds.items())])
    right.set_yticks(range(len(kinds)), [])
    for axes in (left, right):
        axes.set_ylim(-0.6, len(kinds) - 0.4)
        axes.tick_params(axis="y", length=0)


def _where_infinite(kappa: NDArray[np.float64]) -> float:
    """Where an infinite bound is drawn: right of every finite one."""
    known = kappa[np.isfinite(kappa)]
    if not len(known):
        return 10.0
    return float(known.max() * max(known.max() / known.min(), 10) ** 0.15)


def _scale(panels: NDArray[np.object_], kappa: NDArray[np.float64], infinite: float) -> None:
    """The axes of all rows; a line for infinity if a bound is infinite."""
    for axes in panels[:, 0]:
        axes.set_xscale("log")
        if np.isinf(kappa).any():
            axes.axvline(infinite, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)), zorder=0)
            axes.annotate("∞", (infinite, 1), xycoords=axes.get_xaxis_transform(), ha="center", va="bottom")
            axes.set_xlim(right=infinite * (infinite / axes.get_xlim()[0]) ** 0.02)
    plain_ticks(panels[-1, 0].xaxis)
    panels[-1, 1].set_xlim(0, None)


def _summary(layers: list[dict[str, Any]], now: NDArray[np.float64], balanced: NDArray[np.float64]) -> str:
    ranks = sorted({layer["r"] for layer in layers})
    r = str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} … {ranks[-1]}"
    count = f"{len(layers)} layer{'s' * (len(layers) > 1)}"
    medians = f"{number(float(np.median(now)))} now, {number(float(np.median(balanced)))} balanced"
    return f"{count}, r = {r}; median κ bound {medians}"
