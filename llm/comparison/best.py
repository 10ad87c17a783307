"""The best cell of each method and rank of a comparison, with its runs and the curve over learning rates around it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.llm.comparison.cells import best_cell, by_cell, validation_loss
from lorakappa.llm.comparison.protocol import Outcome
from lorakappa.llm.comparison.runs import Record
from lorakappa.shared.grids import at_end


@dataclass(frozen=True)
class Best:
    """A method at one rank, at its best learning rate, scaling and λ.

    Attributes:
        method: as in the plan.
        variant: with its λ.
        rank: r.
        scaling: α/r.
        learning_rate: the best one.
        at_edge: whether it is the first or last of its grid.
        records: one per seed, in the order of the plan's seeds.
        grid: learning rates tried at this scaling and λ, ascending.
        curve: (len(grid), n) validation losses over it.
    """

    method: str
    variant: str
    rank: int
    scaling: float
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


def best_cells(outcome: Outcome) -> dict[tuple[str, int], Best]:
    """The best cell of each (method, rank): the lowest mean validation loss over the seeds.

    Pairs where no cell trained at every seed are left out.
    """
    seeds = len(outcome.plan.seeds)
    found = {(method, rank): _best(method, rank, records, seeds) for (method, rank), records in outcome.records.items()}
    return {cell: best for cell, best in found.items() if best is not None}


def _best(method: str, rank: int, records: list[Record], seeds: int) -> Best | None:
    cells = by_cell(records)
    chosen = best_cell(cells, seeds)
    if chosen is None:
        return None
    line = {
        cell.learning_rate: group
        for cell, group in sorted(cells.items())
        if (cell.variant, cell.scaling) == (chosen.variant, chosen.scaling) and len(group) == seeds
    }
    grid = tuple(line)
    return Best(
        method=method,
        variant=chosen.variant,
        rank=rank,
        scaling=chosen.scaling,
        learning_rate=chosen.learning_rate,
        at_edge=at_end(chosen.learning_rate, grid),
        records=tuple(line[chosen.learning_rate]),
        grid=grid,
        curve=np.array([[validation_loss(record) for record in group] for group in line.values()]),
    )


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
