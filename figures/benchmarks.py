"""What `make bench` measured: every goal beside what was reached, and how times grow."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from lorakappa.figures.saved import Saved
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
    new_figure,
    title,
)

CONTENDERS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v"), (SKY, "P"))
"""Colour and marker of ours and the peers in panels of growth."""

COLUMNS = 3
"""Panels of growth side by side."""


def plot(saved: Saved) -> Figure:
    """Draws benchmarks.json: ratios with their goals, then one panel for each curve of growth."""
    goals = [(row, i) for row in saved.value("rows") for i in range(len(row["goals"]))]
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in saved.value("rows"):
        if row["growth"]:
            curves.setdefault(row["work"], []).append(row)
    if not goals and not curves:
        raise ValueError(f"{saved.name}.json has neither goals nor growth to draw")
    lines = -(-len(curves) // COLUMNS)
    heights = [0.5 + 0.155 * max(len(goals), 1), *[1.65 * lines] * bool(lines)]
    figure = new_figure(DOUBLE, 0.4 + sum(heights))
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).ravel()
    _goals(parts[0].subplots(), goals)
    if lines:
        panels = parts[1].subplots(lines, COLUMNS, squeeze=False).ravel()
        for axes, (work, rows) in zip(panels, curves.items(), strict=False):
            _growth(axes, work, rows)
        for axes in panels[len(curves) :]:
            axes.set_axis_off()
    figure.suptitle(
        f"{saved.value('processor')}, {saved.value('cores')} cores, device {saved.value('device')}", fontsize=7
    )
    return figure


def _goals(axes: Axes, goals: list[tuple[dict[str, Any], int]]) -> None:
    """A line for each goal: the median ratio with its quartile distance, and the goal as an upright stroke."""
    for y, (row, i) in enumerate(reversed(goals)):
        least, middle, half = _reached(row, i)
        color = GREEN if row["reached"][i] else VERMILLION
        axes.plot([max(middle - half, middle / 10), middle + half], [y, y], color=color, linewidth=1)
        axes.plot([middle], [y], "o" if row["reached"][i] else "X", color=color, markersize=4)
        axes.plot([least], [y], "|", color=BLACK, markersize=7)
    axes.set_yticks(range(len(goals)), [_label(row, i) for row, i in reversed(goals)])
    axes.tick_params(axis="y", length=0, labelsize=5.5)
    axes.set_ylim(-0.7, max(len(goals), 1) - 0.3)
    axes.set_xscale("log")
    axes.axvline(1, color=GREY, linewidth=0.6, zorder=0)
    axes.set_xlabel("the peer's time / ours, or rate / wanted rate; | is wanted")
    title(axes, "medians and quartile distances over rounds", "a")


def _reached(row: dict[str, Any], i: int) -> tuple[float, float, float]:
    """What a goal wants, the median of what was reached, and half the distance of its quartiles."""
    goal = row["goals"][i]
    if goal["peer"] is None:  # a rate, in units of the one wanted
        return 1.0, row["rate"] / goal["least"], 0.0
    ratio = row["ratios"][goal["peer"]]
    return goal["least"], ratio["median"], ratio["spread"] / 2


def _label(row: dict[str, Any], i: int) -> str:
    goal = row["goals"][i]
    rate = f"{goal['least']:,.4g} {row['unit']}/s" if row["unit"] else f"{1 / goal['least']:.3g} s"
    threads = f", {row['threads']} thread{'s' * (row['threads'] > 1)}"
    return f"{row['setting']}{threads}: {goal['peer'] or rate}"


def _growth(axes: Axes, work: str, rows: list[dict[str, Any]]) -> None:
    """Times over a size, with the slope of a straight line through the logarithms."""
    rows = sorted(rows, key=lambda row: float(row["growth"][1]))
    sizes = np.array([row["growth"][1] for row in rows], dtype=float)
    names = [name for name in rows[0]["seconds"] if all(name in row["seconds"] for row in rows)]
    for name, (color, marker) in zip(names, CONTENDERS, strict=False):
        seconds = np.array([row["seconds"][name] for row in rows])
        slope = f", slope {slope_of(sizes, seconds):.2f}" if len(rows) > 1 else ""
        axes.plot(sizes, seconds, marker=marker, color=color, label=name + slope, markersize=3)
    exponent = rows[0]["exponent"]
    if exponent is not None and len(rows) > 1:
        guide = rows[-1]["seconds"][names[0]] * (sizes / sizes[-1]) ** exponent
        axes.plot(sizes, guide, color=GREY, linestyle=":", linewidth=0.9, label=f"operations: {exponent:g}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(rows[0]["growth"][0])
    axes.set_ylabel("seconds")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** (0.17 * len(axes.get_lines())))  # room for the legend
    axes.legend(fontsize=5, handlelength=1.5, loc="upper left")
    axes.set_title(work, fontsize=6)


def slope_of(sizes: Any, seconds: Any) -> float:
    """Slope of log seconds over log size, by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
