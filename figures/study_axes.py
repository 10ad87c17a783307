"""What a gain depends on, in a study: on rank, horizon, and the size of the start."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lorakappa.figures.comparison import spread
from lorakappa.figures.saved import Saved
from lorakappa.figures.style import BLACK, DOUBLE, GREY, Look, heading, method_looks, new_figure, title

GAIN = "gain, nats per answer token"

MOST_METHODS = 6
"""Drawn in one panel; more would hide one another: those that come first in the table."""

FAR = 50
"""Multiples of δ from which on gains are drawn logarithmically beyond ±δ."""


def plot_growth(saved: Saved) -> Figure:
    """Draws the gains of `study` over rank and over the number of steps, where a table has several of them."""
    panels = [
        (table, key, other, held)
        for key, axis, other in (("rank", "ranks", "steps"), ("steps", "steps", "rank"))
        for table in saved.value("tables")
        if len(table[axis]) > 1 and not table["starts"]
        for held in table["steps" if other == "steps" else "ranks"]
    ]
    if not panels:
        raise ValueError("no table has several ranks or several horizons")
    lines = (len(panels) + 1) // 2
    figure = new_figure(DOUBLE, 1.1 + 2.2 * lines)
    grid = figure.subplots(lines, min(2, len(panels)), squeeze=False).ravel()
    used: dict[str, Look] = {}
    for i, axes in enumerate(grid):
        if i >= len(panels):
            axes.set_axis_off()
            continue
        table, key, other, held = panels[i]
        names = [name for name in table["methods"] if name != table["baseline"]]
        looks = {name: look for name, look in method_looks(names).items() if name in names[:MOST_METHODS]}
        used |= looks
        found = [f for f in saved.value("findings") if f["table"] == table["name"] and f[other] == held]
        _gains(axes, saved, found, looks, key)
        axes.set_xlabel(key)
        axes.set_ylabel(GAIN)
        text = f"{table['name']}, {f'r = {held}' if other == 'rank' else f'{held} steps'}"
        text += f", {MOST_METHODS} of {len(names)} methods" * (len(names) > MOST_METHODS)
        title(axes, text, "abcdefghij"[i % 10])
    _finish(figure, saved, used)
    return figure


def plot_starts(saved: Saved) -> Figure:
    """Draws losses and gains of `study` over α/r at a fixed effective learning rate: losses left, gains right."""
    tables = [table for table in saved.value("tables") if table["starts"]]
    if not tables:
        raise ValueError("no table has starts")
    places = [(table, rank, steps) for table in tables for rank in table["ranks"] for steps in table["steps"]]
    figure = new_figure(DOUBLE, 1.0 + 2.2 * len(places))
    grid = figure.subplots(len(places), 2, squeeze=False)
    used: dict[str, Look] = {}
    for (left, right), (table, rank, steps) in zip(grid, places, strict=True):
        looks = method_looks(table["methods"])
        used |= looks
        mine = [f for f in saved.value("findings") if f["table"] == table["name"]]
        mine = [found for found in mine if (found["rank"], found["steps"]) == (rank, steps)]
        for name, look in looks.items():
            _losses(left, mine, name, look)
        left.set_ylabel("test loss")
        _gains(right, saved, mine, {n: look for n, look in looks.items() if n != table["baseline"]}, "start")
        right.set_ylabel(GAIN)
        place = f"r = {rank}, {steps} steps"
        title(left, f"{place}: test loss", "a")
        title(right, f"{place}: gain over {looks[table['baseline']].label} from the same start", "b")
        for axes in (left, right):
            axes.set_xlabel("α/r, the squared size of the start")
    _finish(figure, saved, used)
    return figure


def _losses(axes: Axes, found: list[dict[str, Any]], name: str, look: Look) -> None:
    """Test loss of a method over the starts."""
    arms = {each["start"]: each["method_arm"] for each in found if each["method"] == name}
    arms |= {each["start"]: each["baseline_arm"] for each in found if each["baseline"] == name}
    known = sorted((start, arm["test_loss"]) for start, arm in arms.items() if arm and arm["test_loss"] is not None)
    if known:
        axes.plot(*zip(*known, strict=True), color=look.color, linestyle=look.line, marker=look.marker)
        axes.set_xscale("log")


def _gains(axes: Axes, saved: Saved, found: list[dict[str, Any]], looks: dict[str, Look], key: str) -> None:
    """Gains with their intervals over one axis, methods side by side; ±δ is a band."""
    values, delta = sorted({each[key] for each in found}), saved.value("delta")
    axes.axhspan(-delta, delta, color=GREY, alpha=0.15, linewidth=0, zorder=0)
    axes.axhline(0, color=BLACK, linewidth=0.6, zorder=1)
    for shift, (name, look) in zip(spread(len(looks)), looks.items(), strict=True):
        known = [each for each in found if each["method"] == name and each["effect"]["estimate"] is not None]
        known.sort(key=lambda each: values.index(each[key]))
        x = [values.index(each[key]) + shift for each in known]
        estimates = [each["effect"]["estimate"] for each in known]
        axes.plot(x, estimates, color=look.color, linestyle=look.line, linewidth=0.8, marker=look.marker)
        for at, each in zip(x, known, strict=True):
            if each["effect"]["low"] is not None:
                axes.plot([at, at], [each["effect"]["low"], each["effect"]["high"]], color=look.color, linewidth=1.1)
    drawn = [each["effect"] for each in found if each["method"] in looks]
    ends = [abs(effect[end] or 0.0) for effect in drawn for end in ("low", "high")]
    if max(ends, default=0.0) > FAR * delta:  # with the small effects and δ still to be seen
        axes.set_yscale("symlog", linthresh=delta)
    axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(values) - 0.5)


def _finish(figure: Figure, saved: Saved, looks: dict[str, Look]) -> None:
    heading(figure, f"study {saved.value('study')}, {saved.value('model')} model, δ = {saved.value('delta'):g}")
    handles = [
        Line2D([], [], color=look.color, linestyle=look.line, marker=look.marker, label=look.label)
        for look in looks.values()
    ]
    sure = f"{saved.value('confidence'):.0%}"
    text = f"gain: test loss below the baseline's; intervals hold together with {sure} in each table; grey band: ±δ"
    figure.legend(handles=handles, loc="outside lower center", ncols=4, title=text)
