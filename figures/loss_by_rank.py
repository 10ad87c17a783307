"""Loss and exact match on the test data by rank, and the paired differences to the baseline."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lorakappa.figures.comparison import best, finite, head, legend, looks, mean, spread
from lorakappa.figures.saved import Saved, numbers
from lorakappa.figures.style import BLACK, DOUBLE, log_y, new_figure, title

QUANTITIES = {"test_loss": "test loss", "exact_match": "exact match"}


def plot(saved: Saved) -> Figure:
    """Draws what `llm-compare` measured on the test data: the values above, the differences below."""
    shown = [key for key in QUANTITIES if any(np.isfinite(_values(entry, key)).any() for entry in saved.value("best"))]
    shown = shown or ["test_loss"]
    several = len(saved.value("seeds")) > 1
    compared = [key for key in shown if any(line["quantity"] == key for line in saved.value("comparisons"))]
    rows = 2 if compared else 1
    figure = new_figure(DOUBLE, 1.0 + 2.1 * rows)
    panels = figure.subplots(rows, len(shown), squeeze=False)
    for column, key in enumerate(shown):
        _levels(panels[0, column], saved, key)
        title(panels[0, column], QUANTITIES[key] + ": means, single seeds (small)" * several, "ab"[column])
        if key in compared:
            _differences(panels[1, column], saved, key)
            letter = chr(ord("a") + len(shown) + compared.index(key))
            title(panels[1, column], "paired gain" + ", 95 % interval over seeds" * several, letter)
        elif compared:
            panels[1, column].set_axis_off()
    for axes in panels[-1]:
        axes.set_xlabel("rank")
    head(figure, saved)
    text = "each method at its own best learning rate"
    legend(figure, saved, text + ("; ×: no value for a seed" if _gaps(saved, shown) else ""))
    return figure


def _levels(axes: Axes, saved: Saved, key: str) -> None:
    """Means over seeds by rank, joined, with the seeds beside them; × where a seed has none."""
    ranks = sorted(saved.value("ranks"))
    shifts = spread(len(looks(saved)))
    for i, (name, look) in enumerate(looks(saved).items()):
        means = np.full(len(ranks), np.nan)
        for j, rank in enumerate(ranks):
            chosen = best(saved, rank)
            seeds = _values(chosen[name][1], key) if name in chosen else np.asarray([np.nan])
            means[j] = mean(seeds)
            x = np.full(len(seeds), j + shifts[i])
            if len(seeds) > 1:
                axes.plot(x, seeds, ".", color=look.color, markersize=4, alpha=0.6, markeredgewidth=0, zorder=2)
            if np.isnan(seeds).any():
                axes.plot(x[:1], [0.98], "x", color=look.color, transform=axes.get_xaxis_transform(), markersize=3)
        axes.plot(
            np.arange(len(ranks)) + shifts[i],
            means,
            color=look.color,
            linestyle=look.line,
            linewidth=0.9,
            marker=look.marker,
            zorder=3,
        )
    _rank_axis(axes, ranks)
    axes.set_ylabel(QUANTITIES[key])
    if key == "test_loss":
        log_y(axes)


def _differences(axes: Axes, saved: Saved, key: str) -> None:
    """Paired differences to the baseline with their intervals; positive is better than the baseline."""
    ranks = sorted(saved.value("ranks"))
    names = list(looks(saved))
    shifts = spread(len(names))
    axes.axhline(0, color=BLACK, linewidth=0.8, zorder=1)
    for line in saved.value("comparisons"):
        if line["quantity"] != key:
            continue
        look = looks(saved)[line["method"]]
        x = ranks.index(line["rank"]) + shifts[names.index(line["method"])]
        low, middle, high = finite(numbers([line["low"], line["estimate"], line["high"]]))
        axes.plot([x, x], [low, high], color=look.color, linewidth=1.2, zorder=2)
        axes.plot([x], [middle], color=look.color, marker=look.marker, zorder=3)
    _rank_axis(axes, ranks)
    baseline = looks(saved)[saved.value("baseline")].label
    axes.set_ylabel(f"{QUANTITIES[key]}, gain over {baseline}")


def _rank_axis(axes: Axes, ranks: list[int]) -> None:
    axes.set_xticks(range(len(ranks)), [str(rank) for rank in ranks])
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(ranks) - 0.5)


def _values(entry: dict[str, object], key: str) -> np.ndarray:
    return finite(numbers(entry[key]))  # type: ignore[arg-type]


def _gaps(saved: Saved, keys: list[str]) -> bool:
    """Whether a value of some method, rank and seed is missing."""
    complete = len(saved.value("best")) == len(saved.value("methods")) * len(saved.value("ranks"))
    return not complete or any(np.isnan(_values(entry, key)).any() for entry in saved.value("best") for key in keys)
