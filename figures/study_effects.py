"""The effects of a study, each with its interval, beside 0 and ±δ: a forest plot."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lorakappa.figures.saved import Saved
from lorakappa.figures.style import BLACK, BLUE, DOUBLE, GREY, VERMILLION, heading, method_looks, new_figure, title

VERDICTS = {
    "better": (BLUE, "o", BLUE),
    "worse": (VERMILLION, "s", VERMILLION),
    "equivalent": (BLACK, "D", BLACK),
    "inconclusive": (GREY, "o", "white"),
}
"""Colour of the interval, marker and its filling by verdict."""

ROW = 0.155
"""Inches for each row."""


def plot(saved: Saved) -> Figure:
    """Draws every contrast of `study`: a panel per table, a row per contrast."""
    groups = [(table, rows(saved, table["name"])) for table in saved.value("tables")]
    heights = [ROW * (len(found) + 1) for _, found in groups]
    figure = new_figure(DOUBLE, 1.0 + sum(height + 0.42 for height in heights))
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (table, found) in zip(panels, groups, strict=True):
        _panel(axes, saved, table, found)
    panels[-1].set_xlabel("gain in test loss over the baseline, nats per answer token (positive: lower loss)")
    heading(figure, f"study {saved.value('study')}, {saved.value('model')} model, δ = {saved.value('delta'):g}")
    handles = [
        Line2D([], [], color=color, marker=marker, markerfacecolor=fill, label=word)
        for word, (color, marker, fill) in VERDICTS.items()
    ]
    text = f"intervals hold together with {saved.value('confidence'):.0%} in each table; grey band: ±δ; n: fresh seeds"
    figure.legend(handles=handles, loc="outside lower center", ncols=4, title=text)
    return figure


def rows(saved: Saved, table: str) -> list[dict[str, Any]]:
    """The findings of a table: method by method, then by rank, horizon and start."""
    mine = [found for found in saved.value("findings") if found["table"] == table]
    order = list(dict.fromkeys(found["method"] for found in mine))
    return sorted(mine, key=lambda f: (order.index(f["method"]), f["rank"], f["steps"], f["start"] or 0.0))


def label(saved: Saved, table: dict[str, Any], found: dict[str, Any]) -> str:
    """Method and place of a contrast; what is the same in all of its table is left out."""
    parts = [method_looks([found["method"]])[found["method"]].label]
    if len(table["ranks"]) > 1:
        parts.append(f"r = {found['rank']}")
    if len(table["steps"]) > 1:
        parts.append(f"{found['steps']} steps")
    if found["start"] is not None:
        parts.append(f"α/r = {found['start']:g}")
    return ", ".join(parts)


def _panel(axes: Axes, saved: Saved, table: dict[str, Any], found: list[dict[str, Any]]) -> None:
    delta = saved.value("delta")
    axes.axvspan(-delta, delta, color=GREY, alpha=0.15, linewidth=0, zorder=0)
    axes.axvline(0, color=BLACK, linewidth=0.6, zorder=1)
    reach = _reach(found, delta)
    for i, each in enumerate(found):
        effect, (color, marker, fill) = each["effect"], VERDICTS.get(each["verdict"], VERDICTS["inconclusive"])
        seeds = f"n = {effect['n']}"
        if effect["estimate"] is None:
            axes.annotate("nothing known", (0, i), color=GREY, va="center", ha="center", fontsize=6)
        elif effect["low"] is None:
            axes.plot([np.clip(effect["estimate"], -reach, reach)], [i], "x", color=GREY, zorder=3)
        else:
            low, high = np.clip([effect["low"], effect["high"]], -reach, reach)
            axes.plot([low, high], [i, i], color=color, linewidth=1.1, zorder=2)
            for end, raw, arrow in ((low, effect["low"], "<"), (high, effect["high"], ">")):
                if end != raw:
                    axes.plot([end], [i], arrow, color=color, markersize=3, zorder=3)
            if abs(effect["estimate"]) <= reach:
                axes.plot([effect["estimate"]], [i], marker, color=color, markerfacecolor=fill, zorder=3)
        axes.annotate(seeds, (1.01, i), xycoords=("axes fraction", "data"), fontsize=6, va="center")
    axes.set_xlim(-1.05 * reach, 1.05 * reach)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_yticks(range(len(found)), [label(saved, table, each) for each in found], fontsize=6)
    axes.tick_params(axis="y", length=0)
    constant = [f"r = {table['ranks'][0]}"] * (len(table["ranks"]) == 1)
    constant += [f"{table['steps'][0]} steps"] * (len(table["steps"]) == 1)
    baseline = method_looks([table["baseline"]])[table["baseline"]].label
    title(axes, ", ".join([f"{table['name']}: against {baseline}", *constant]))


def _reach(found: list[dict[str, Any]], delta: float) -> float:
    """How far the axis goes: over all but far-off effects, which would hide the others."""
    ends = [abs(e[key]) for each in found if (e := each["effect"])["low"] is not None for key in ("low", "high")]
    if not ends:
        return 4 * delta
    return float(max(4 * delta, min(max(ends), 4 * np.median(ends))))
