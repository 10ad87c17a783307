"""What the figures of a comparison of methods share: reading it, seeds and their mean, one legend.

`llm-compare.json` lists under "cells" every (method, variant, rank, scaling, learning rate) that was run and under
"best" the chosen one per method and rank; `llm-compare.npz` holds the curves of the latter, in the same order.
"""

from textwrap import shorten
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from lorakappa.figures.curves import MOST_RUNS
from lorakappa.figures.saved import Saved, numbers, positive
from lorakappa.figures.style import Look, heading, method_looks

MOST_RANKS = 3
"""Ranks shown by the figures that have a row of panels for each."""

LONGEST_DATA = 64
"""Characters of what names the data, over the panels; the description has all of it."""


def ensure_runs(saved: Saved) -> None:
    """Raises ValueError if a comparison has no run at all."""
    if not saved.value("cells"):
        raise ValueError("it has no run to show")


def looks(saved: Saved) -> dict[str, Look]:
    """The look of every method, in the order of the comparison."""
    return method_looks(saved.value("methods"))


def some_ranks(saved: Saved) -> list[int]:
    """The ranks; of more than three the lowest, the middle one and the highest."""
    ranks = sorted(saved.value("ranks"))
    if len(ranks) <= MOST_RANKS:
        return ranks
    return [ranks[0], ranks[len(ranks) // 2], ranks[-1]]


def best(saved: Saved, rank: int) -> dict[str, tuple[int, dict[str, Any]]]:
    """Method → its best cell at that rank and that one's place in the arrays; without methods that have none."""
    found = {entry["method"]: (i, entry) for i, entry in enumerate(saved.value("best")) if entry["rank"] == rank}
    return {name: found[name] for name in saved.value("methods") if name in found}


def cells(saved: Saved, method: str, rank: int) -> list[dict[str, Any]]:
    """The cells of a method at a rank, by scaling and learning rate; of several variants those of the best one."""
    mine = [cell for cell in saved.value("cells") if cell["method"] == method and cell["rank"] == rank]
    _, chosen = best(saved, rank).get(method, (0, mine[0] if mine else {}))
    mine = [cell for cell in mine if cell.get("variant") == chosen.get("variant")]
    return sorted(mine, key=lambda cell: (cell["scaling"], cell["learning_rate"]))


def losses(saved: Saved, cell: dict[str, Any]) -> NDArray[np.float64]:
    """Validation loss of each seed in a cell: NaN where the run diverged, failed or is missing."""
    values = np.full(len(saved.value("seeds")), np.nan)
    for i, (loss, status) in enumerate(zip(cell["validation_loss"], cell["status"], strict=True)):
        if status == "ok":
            values[i] = finite(numbers([loss]))[0]
    return values


def finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """NaN for what is infinite."""
    known = np.array(values, dtype=np.float64)
    known[~np.isfinite(known)] = np.nan
    return known


def mean(values: NDArray[Any]) -> NDArray[Any]:
    """Mean over the first axis, the seeds: NaN where one of them has no finite value, so that none is left out."""
    return finite(values).mean(axis=0)


def draw_mean(axes: Axes, x: NDArray[Any], values: NDArray[Any], look: Look, *, phase: float = 0.0) -> None:
    """Draws the mean over seeds as a line and every seed as a thin one, on a logarithmic y axis.

    Args:
        axes: where.
        x: (T,) abscissas, or (n, T) if each seed has its own.
        values: (n, T); what is not positive and finite leaves a gap, in the mean too.
        look: the method's.
        phase: share of the marker spacing by which they are shifted, so that those of several methods differ.
    """
    values = positive(values)
    x = np.broadcast_to(np.asarray(x, dtype=np.float64), values.shape)
    if len(values) > 1:
        for seed in np.unique(np.linspace(0, len(values) - 1, MOST_RUNS).round().astype(int)):
            axes.plot(x[seed], values[seed], color=look.color, linewidth=0.4, alpha=0.45, zorder=1.5)
    spacing = max(1, values.shape[1] // 6)
    axes.plot(
        mean(x),
        mean(values),
        color=look.color,
        linestyle=look.line,
        linewidth=1.2,
        marker=look.marker,
        markevery=(int(phase * spacing), spacing),
        zorder=3,
    )


def spread(count: int, width: float = 0.64) -> NDArray[np.float64]:
    """Shifts that put the markers of so many methods side by side around a position."""
    step = width / max(count, 4)
    return np.asarray([step * (i - (count - 1) / 2) for i in range(count)])


def legend(figure: Figure, saved: Saved, text: str) -> None:
    """The legend of all methods below the panels, telling which have no run that finished.

    Args:
        figure: where.
        saved: the comparison.
        text: what the panels show, over the entries.
    """
    handles = []
    for name, look in looks(saved).items():
        label = look.label + _unfinished(saved, name)
        handles.append(Line2D([], [], color=look.color, linestyle=look.line, marker=look.marker, label=label))
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = 4 if longest <= 24 else 3 if longest <= 32 else 2
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.2,
        handlelength=2.8,
        title=text,
    )


def head(figure: Figure, saved: Saved, ranks: list[int] | None = None, extra: str = "") -> None:
    """Model, data, steps and seeds over the panels; also which ranks, unless they are all, and what else to say."""
    everything = sorted(saved.value("ranks"))
    data = shorten(saved.value("data"), LONGEST_DATA, placeholder=" …")
    parts = [saved.value("model"), data, f"{saved.value('steps')} steps", seeds(saved)]
    if ranks is not None and ranks != everything:
        parts.append(f"ranks {_listed(ranks)} of {_listed(everything)}")
    heading(figure, ", ".join(part for part in [*parts, extra] if part))


def seeds(saved: Saved) -> str:
    """How many seeds there are."""
    count = len(saved.value("seeds"))
    return f"n = {count} seed{'s' * (count > 1)}"


def _unfinished(saved: Saved, method: str) -> str:
    ranks = sorted(saved.value("ranks"))
    missing = [rank for rank in ranks if method not in best(saved, rank)]
    if not missing:
        return ""
    return " (no run finished)" if missing == ranks else f" (no run finished at r = {_listed(missing)})"


def _listed(ranks: list[int]) -> str:
    return ", ".join(str(rank) for rank in ranks)
