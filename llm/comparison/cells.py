"""Cells of a comparison, and the rule by which the best one is chosen: the lowest mean validation loss over the seeds.

A cell is everything that a run of a method at a rank has of its own but the seed: λ, scaling and learning rate.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lorakappa.llm.comparison.runs import Record


@dataclass(frozen=True, order=True)
class Cell:
    """What the seeds of a cell share.

    Attributes:
        variant: the method with its λ.
        scaling: α/r.
        learning_rate: peak of the schedule.
    """

    variant: str
    scaling: float
    learning_rate: float


def by_cell(records: Iterable[Record]) -> dict[Cell, list[Record]]:
    """The records of a method at a rank by cell, in the order in which cells first appear, each cell's by seed."""
    cells: dict[Cell, list[Record]] = {}
    for record in records:
        run = record["run"]
        cells.setdefault(Cell(run["method"], run["scaling"], run["learning_rate"]), []).append(record)
    return {cell: sorted(group, key=lambda record: record["run"]["seed"]) for cell, group in cells.items()}


def best_cell(cells: Mapping[Cell, Sequence[Record]], seeds: int) -> Cell | None:
    """The cell with the lowest mean validation loss, the first of them if several have it.

    Args:
        cells: records by cell.
        seeds: number of seeds; a cell that has fewer records is not eligible, nor is one with a diverged run.

    Returns:
        The cell; None if none has trained with every seed.
    """
    means = {
        cell: float(np.mean([validation_loss(record) for record in group]))
        for cell, group in cells.items()
        if len(group) == seeds
    }
    best = min(means, key=lambda cell: means[cell], default=None)
    return None if best is None or not math.isfinite(means[best]) else best


def validation_loss(record: Record) -> float:
    """The last validation loss of a run; infinity if it diverged."""
    if record["train_info"]["status"] != "success":
        return math.inf
    return float(record["train_info"]["metrics"][-1]["valid loss"])
