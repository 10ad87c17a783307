"""What a comparison says: the best cell of each method and rank, paired effects with intervals, curves for figures."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.stats import t as student

from lorakappa.llm.comparison.compare import Outcome, validation_loss
from lorakappa.llm.comparison.runs import Record
from lorakappa.shared.records import provenance, write_json, write_npz

WINDOW = 0.01
"""A learning rate counts as good if its validation loss is within this share of the best."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Effect:
    """A mean over seeds with its Student t interval.

    Attributes:
        estimate: mean.
        low: lower end; −inf for a single seed.
        high: upper end.
        n: number of seeds.
    """

    estimate: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """E.g. +0.12 [+0.03, +0.21]."""
        return f"{self.estimate:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"


@dataclass(frozen=True)
class Best:
    """A method at one rank, at its best learning rate, scale and λ.

    Attributes:
        method: as in the plan.
        variant: with its λ.
        rank: r.
        scale: α/r.
        learning_rate: the best one.
        at_edge: whether it is the first or last of its grid.
        records: one per seed, in the order of the plan's seeds.
        grid: learning rates tried at this scale and λ, ascending.
        curve: (len(grid), n) validation losses over it.
    """

    method: str
    variant: str
    rank: int
    scale: float
    learning_rate: float
    at_edge: bool
    records: tuple[Record, ...]
    grid: tuple[float, ...]
    curve: NDArray[np.float64]

    def values(self, name: str) -> NDArray[np.float64]:
        """(n,) a number of `train_info` per seed; NaN where it is missing."""
        entries = [record["train_info"].get(name) for record in self.records]
        return np.array([math.nan if entry is None else entry for entry in entries], dtype=np.float64)

    def history(self, name: str) -> NDArray[np.float64]:
        """(n, K) an entry of the evaluations; the run with the fewest decides K (all have the same unless diverged)."""
        rows = [[_number(metric[name]) for metric in record["train_info"]["metrics"]] for record in self.records]
        length = min(len(row) for row in rows)
        return np.array([row[:length] for row in rows])

    @property
    def seconds_per_step(self) -> NDArray[np.float64]:
        """(n,)."""
        return self.values("train_time") / self.values("steps")

    @property
    def method_seconds_per_step(self) -> NDArray[np.float64]:
        """(n,) the part of it that the method's map takes."""
        return self.history("method time")[:, -1] / self.values("steps")


def effect(values: Sequence[float] | NDArray[np.float64]) -> Effect:
    """Mean and 95 % Student t interval of independent values."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2 or not np.isfinite(x).all():
        return Effect(float(x.mean()), -math.inf, math.inf, len(x))
    half = float(student.ppf((1 + CONFIDENCE) / 2, len(x) - 1)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Effect(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half, len(x))


def best_cells(outcome: Outcome) -> dict[tuple[str, int], Best]:
    """The best cell of each (method, rank): the lowest mean validation loss over the seeds.

    Pairs where no cell trained at every seed are left out.
    """
    seeds = len(outcome.plan.seeds)
    found = {(method, rank): _best(method, rank, records, seeds) for (method, rank), records in outcome.records.items()}
    return {cell: best for cell, best in found.items() if best is not None}


def paired(
    best: dict[tuple[str, int], Best],
    method: str,
    baseline: str,
    measure: Callable[[Best, Best], NDArray[np.float64]],
) -> dict[int, NDArray[np.float64]]:
    """A paired measure of (baseline, method), (n,) per rank that both have."""
    ranks = [rank for name, rank in best if name == method and (baseline, rank) in best]
    return {rank: measure(best[baseline, rank], best[method, rank]) for rank in ranks}


def loss_gain(baseline: Best, method: Best) -> NDArray[np.float64]:
    """(n,) test loss of the baseline minus that of the method, nats per answer token."""
    return baseline.values("test_loss") - method.values("test_loss")


def window(best: Best) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How many decades of learning rates are within 1 % of the best validation loss, for each seed.

    The loss is interpolated linearly in the logarithm of the learning rate; the window is the interval around the
    best one.

    Returns:
        (n,) decades, and (n,) whether the window ends at an edge of the grid, so that it may be wider.
    """
    decades, censored = zip(*(_window(best.grid, column)[2:] for column in best.curve.T), strict=True)
    return np.array(decades), np.array(censored)


def window_gain(baseline: Best, method: Best) -> NDArray[np.float64]:
    """(n,) decades of the method's window minus those of the baseline's."""
    return window(method)[0] - window(baseline)[0]


def speedup(baseline: Best, method: Best, *, by: str) -> NDArray[np.float64]:
    """(n,) log₂ of how much sooner the method reaches the baseline's final validation loss; −1 if it never does.

    At the earliest it is reached after one step: a baseline that ended above the start would give infinity.

    Args:
        baseline: its last validation loss, seed by seed, is the target.
        method: whose curve is searched, linear between evaluations.
        by: "step" or "train time".
    """
    gains = []
    for reference, record in zip(baseline.records, method.records, strict=True):
        target = reference["train_info"]["metrics"][-1]
        first = _time_to(record["train_info"]["metrics"], target["valid loss"], by)
        earliest = target[by] / reference["train_info"]["steps"]
        gains.append(-1.0 if first is None else math.log2(target[by] / max(first, earliest)))
    return np.array(gains)


def time_overhead(best: Best) -> NDArray[np.float64]:
    """(n,) seconds of the method's map over those of the rest of the step."""
    return best.method_seconds_per_step / (best.seconds_per_step - best.method_seconds_per_step)


def memory_overhead(baseline: Best, method: Best) -> NDArray[np.float64]:
    """(n,) peak memory of the method over the baseline's, minus 1."""
    return method.values("peak_memory") / baseline.values("peak_memory") - 1


def description(outcome: Outcome) -> dict[str, Any]:
    """The comparison as JSON-like data, which the table and the figures read."""
    plan, best = outcome.plan, best_cells(outcome)
    baseline = plan.methods[0]
    comparisons = []
    for method in plan.methods[1:]:
        for rank, values in paired(best, method, baseline, loss_gain).items():
            found = {key: value if math.isfinite(value) else None for key, value in asdict(effect(values)).items()}
            comparisons.append({"method": method, "rank": rank, "quantity": "test_loss", **found})
    return {
        "model": plan.settings.model,
        "data": outcome.source,
        "baseline": baseline,
        "methods": list(plan.methods),
        "ranks": list(plan.ranks),
        "scales": list(plan.scales),
        "strengths": list(plan.strengths),
        "seeds": list(plan.seeds),
        "steps": plan.settings.steps,
        "settings": asdict(plan.settings),
        "cells": [
            cell for (method, rank), records in outcome.records.items() for cell in _cells(method, rank, records)
        ],
        "best": [_best_entry(entry) for entry in best.values()],
        "comparisons": comparisons,
        "failures": outcome.failures,
    }


def comparison_table(outcome: Outcome) -> Table:
    """One row per rank and method, at its best cell; the gain is the paired difference of test losses."""
    best, baseline = best_cells(outcome), outcome.plan.methods[0]
    table = Table("r", "method", "learning rate", "validation", "test", "gain", "exact", "window", "ms/step", box=None)
    for rank in outcome.plan.ranks:
        for method in outcome.plan.methods:
            entry = best.get((method, rank))
            if entry is None:
                table.add_row(str(rank), method, "no learning rate trained with every seed")
                continue
            gains = paired(best, method, baseline, loss_gain).get(rank)
            decades, cut = window(entry)
            table.add_row(
                str(rank),
                entry.variant,
                f"{entry.learning_rate:g}{' (edge)' if entry.at_edge else ''}",
                f"{entry.history('valid loss')[:, -1].mean():.4f}",
                f"{entry.values('test_loss').mean():.4f}",
                "" if gains is None or method == baseline else str(effect(gains)),
                f"{entry.values('test_exact_match').mean():.3f}",
                f"{'≥ ' if cut.any() else ''}{decades.mean():.2f}",
                f"{1000 * entry.seconds_per_step.mean():.0f}",
            )
    table.caption = (
        f"means over {len(outcome.plan.seeds)} seeds; losses in nats per answer token, gains over {baseline} with 95 % "
        "intervals; window: decades of learning rates within 1 % of the best"
    )
    return table


def save(outcome: Outcome, folder: Path) -> tuple[Path, Path]:
    """Writes llm-compare.npz (curves of the best cells) and llm-compare.json (the rest).

    Returns:
        Paths of both files.

    Raises:
        OSError: if the folder cannot be written.
    """
    best = list(best_cells(outcome).values())
    names = {"validation_loss": "valid loss", "seconds": "train time", "gap": "gap", "kappa_bound": "kappa bound"}
    steps = np.array([m["step"] for m in best[0].records[0]["train_info"]["metrics"]] if best else [], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {"eval_steps": steps}
    for array, name in names.items():
        arrays[array] = np.array([entry.history(name) for entry in best])
    return (
        write_npz(folder / "llm-compare.npz", arrays),
        write_json(
            folder / "llm-compare.json",
            {"experiment": "llm-compare", **description(outcome), "provenance": provenance(seed=outcome.plan.seeds[0])},
        ),
    )


def _best(method: str, rank: int, records: list[Record], seeds: int) -> Best | None:
    cells: dict[tuple[str, float], dict[float, list[Record]]] = {}
    for record in records:
        run = record["run"]
        cells.setdefault((run["method"], run["scale"]), {}).setdefault(run["learning_rate"], []).append(record)
    means = {
        (*cell, rate): float(np.mean([validation_loss(record) for record in group]))
        for cell, rates in cells.items()
        for rate, group in rates.items()
        if len(group) == seeds
    }
    chosen = min(means, key=lambda cell: means[cell], default=None)
    if chosen is None or not math.isfinite(means[chosen]):
        return None
    variant, scale, learning_rate = chosen
    rates = {rate: group for rate, group in sorted(cells[variant, scale].items()) if len(group) == seeds}
    curve = np.array([[validation_loss(record) for record in _by_seed(group)] for group in rates.values()])
    grid = tuple(rates)
    return Best(
        method=method,
        variant=variant,
        rank=rank,
        scale=scale,
        learning_rate=learning_rate,
        at_edge=len(grid) > 1 and learning_rate in (grid[0], grid[-1]),
        records=tuple(_by_seed(rates[learning_rate])),
        grid=grid,
        curve=curve,
    )


def _by_seed(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record["run"]["seed"])


def _window(grid: Sequence[float], losses: NDArray[np.float64]) -> tuple[float, float, float, bool]:
    """Ends of the window (learning rates), its decades, and whether an end is the grid's."""
    logs = np.log10(np.asarray(grid))
    best = int(np.argmin(losses))
    limit = losses[best] + WINDOW * abs(losses[best])

    def end(step: int) -> tuple[float, bool]:
        i = best
        while 0 <= i + step < len(logs):
            inside, outside = losses[i], losses[i + step]
            if outside > limit:
                share = (limit - inside) / (outside - inside) if np.isfinite(outside) else 0.0
                return float(logs[i] + share * (logs[i + step] - logs[i])), False
            i += step
        return float(logs[i]), True

    (low, open_low), (high, open_high) = end(-1), end(1)
    return 10**low, 10**high, high - low, open_low or open_high


def _time_to(metrics: list[dict[str, Any]], target: float, by: str) -> float | None:
    """When a curve first falls to the target, linear between evaluations; None if it does not."""
    for before, after in pairwise(metrics):
        if after["valid loss"] <= target:
            fall = before["valid loss"] - after["valid loss"]
            share = (before["valid loss"] - target) / fall if fall > 0 else 1.0
            return float(before[by] + max(share, 0.0) * (after[by] - before[by]))
    return None


def _cells(method: str, rank: int, records: list[Record]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, float, float], list[Record]] = {}
    for record in records:
        run = record["run"]
        groups.setdefault((run["method"], run["scale"], run["learning_rate"]), []).append(record)
    cells = []
    for (variant, scale, rate), group in sorted(groups.items(), key=lambda item: item[0]):
        losses = [validation_loss(record) for record in _by_seed(group)]
        cells.append(
            {
                "method": method,
                "variant": variant,
                "rank": rank,
                "scale": scale,
                "learning_rate": rate,
                "validation_loss": [loss if math.isfinite(loss) else None for loss in losses],
                "status": [
                    "ok" if record["train_info"]["status"] == "success" else record["train_info"]["status"]
                    for record in _by_seed(group)
                ],
            }
        )
    return cells


def _best_entry(best: Best) -> dict[str, Any]:
    low, high, decades, censored = _window(best.grid, best.curve.mean(axis=1))
    return {
        "method": best.method,
        "variant": best.variant,
        "rank": best.rank,
        "scale": best.scale,
        "learning_rate": best.learning_rate,
        "at_edge": best.at_edge,
        "validation_loss": _nullable(best.history("valid loss")[:, -1]),
        "test_loss": _nullable(best.values("test_loss")),
        "exact_match": _nullable(best.values("test_exact_match")),
        "extrapolate_loss": _nullable(best.values("extrapolate_loss")),
        "extrapolate_exact_match": _nullable(best.values("extrapolate_exact_match")),
        "window": [low, high],
        "decades": decades,
        "window_censored": censored,
        "seconds_per_step": _nullable(best.seconds_per_step),
        "method_seconds_per_step": _nullable(best.method_seconds_per_step),
        "peak_memory_bytes": _nullable(best.values("peak_memory")),
    }


def _nullable(values: NDArray[np.float64]) -> list[float | None]:
    """Numbers for JSON, None where there is none."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
