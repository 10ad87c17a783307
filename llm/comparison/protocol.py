"""Methods against each other: every method at its own best learning rate, per rank, over paired seeds.

The protocol: one grid of learning rates for all methods and ranks, extended for each of them until its best one is
interior; choices by the mean validation loss over the seeds (`llm.comparison.cells`); the test split is read off only
at what was chosen; same data order, schedule, weight decay, clipping and targets for all.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from lorakappa.llm.comparison.cells import best_cell, by_cell
from lorakappa.llm.comparison.runs import Record, Task, exclusive
from lorakappa.llm.comparison.settings import LARGEST_SEED, Run, TrainingSettings
from lorakappa.llm.comparison.telling import RunsShown
from lorakappa.llm.comparison.workers import Execute, Workers
from lorakappa.llm.data.splits import Splits, read_splits, save_splits
from lorakappa.shared.grids import parse_grid as parse_exactly
from lorakappa.shared.grids import rounded
from lorakappa.shared.methods import at_strengths, check_installed, parse_method_name

MOST_EXTENSIONS = 100
"""By which a grid may grow: a factor of 10 each leads out of all numbers long before."""

MOST_RUNS = 100_000
"""Of one comparison; nobody has waited for more."""


@dataclass(frozen=True)
class Plan:
    """What to compare.

    Attributes:
        methods: names (`shared.methods`); the first is the baseline.
        ranks: values of r.
        learning_rates: the grid, ascending and log-spaced.
        scalings: values of α/r.
        strengths: values of λ for the methods that have one and do not fix it by name.
        seeds: of the paired runs.
        settings: what all runs share.
        extensions: how many times a grid may grow by one learning rate beyond its edge.
    """

    methods: tuple[str, ...]
    ranks: tuple[int, ...]
    learning_rates: tuple[float, ...]
    scalings: tuple[float, ...] = (1.0,)
    strengths: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (0, 1, 2)
    settings: TrainingSettings = field(default_factory=TrainingSettings)
    extensions: int = 4

    def __post_init__(self) -> None:
        """Checks the plan before anything is loaded.

        Raises:
            ValueError: on empty or repeated entries, unknown methods, or numbers out of range.
        """
        for name in ("methods", "ranks", "learning_rates", "scalings", "strengths", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name.replace('_', ' ')} must be a list of one or more different values")
        for method in self.methods:
            parse_method_name(method, "llm")
        if min(self.ranks) < 1:
            raise ValueError(f"ranks must be at least 1, not {min(self.ranks)}")
        for name in ("learning_rates", "scalings", "strengths"):
            if not all(0 < value < math.inf for value in getattr(self, name)):
                raise ValueError(f"{name.replace('_', ' ')} must be positive and finite")
        if min(self.seeds) < 0 or max(self.seeds) > LARGEST_SEED:
            raise ValueError(f"seeds must not be negative, nor above {LARGEST_SEED}")
        if not 0 <= self.extensions <= MOST_EXTENSIONS:
            raise ValueError(f"extensions must be between 0 and {MOST_EXTENSIONS}, not {self.extensions}")
        variants = sum(len(at_strengths(method, self.strengths, "llm")) for method in self.methods)
        cells = variants * len(self.ranks) * len(self.scalings) * len(self.learning_rates)
        if cells * len(self.seeds) > MOST_RUNS:
            raise ValueError(f"these are {cells * len(self.seeds)} runs; at most {MOST_RUNS} can be compared")

    def runs(self, method: str, rank: int, learning_rates: Sequence[float]) -> list[Run]:
        """The runs of one method and rank."""
        cells = product(at_strengths(method, self.strengths, "llm"), self.scalings, learning_rates, self.seeds)
        return [Run(variant, rank, scaling, rate, seed) for variant, scaling, rate, seed in cells]


@dataclass(frozen=True)
class Outcome:
    """The records of a comparison.

    Attributes:
        plan: what was asked for.
        source: description of the data.
        records: by (method as in the plan, rank), one per run, all variants.
        failures: one line per run that failed.
    """

    plan: Plan
    source: str
    records: dict[tuple[str, int], list[Record]]
    failures: list[str]


DIGITS = 4
"""To which learning rates, scalings and λ are rounded: they are part of a run's name, and grids must meet."""


def parse_grid(text: str) -> tuple[float, ...]:
    """The numbers of a grid, rounded to four digits, ascending.

    Raises:
        ValueError: if it is none (`shared.grids.parse_grid`).
    """
    return parse_exactly(text, digits=DIGITS)


def compare(
    plan: Plan,
    splits: Splits,
    folder: Path,
    *,
    jobs: int = 1,
    keep_adapters: bool = False,
    execute: Execute | None = None,
    quiet: bool = False,
) -> Outcome:
    """Makes all runs of a plan that have no record yet, and extends the grids.

    Args:
        plan: what to compare.
        splits: the data; a copy is kept in the folder, under its digest.
        folder: of the comparison.
        jobs: number of processes.
        keep_adapters: whether to save every adapter.
        execute: what makes the runs; None for `llm.comparison.workers.Workers` with `jobs`.
        quiet: no progress bar.

    Returns:
        All records of the plan.

    Raises:
        ValueError: on bad settings, a method whose package is not installed, or if another process works in the folder.
    """
    check_installed(plan.methods)
    grids = {(method, rank): list(plan.learning_rates) for method in plan.methods for rank in plan.ranks}
    with ExitStack() as stack:
        stack.enter_context(exclusive(folder))
        execute = execute or stack.enter_context(Workers(jobs))
        shown = stack.enter_context(RunsShown(quiet))
        data, digest = stored(splits, folder)
        for _ in range(plan.extensions + 1):
            tasks = {
                cell: [
                    Task(run, plan.settings, data, digest, folder, keep_adapters)
                    for run in plan.runs(*cell, learning_rates)
                ]
                for cell, learning_rates in grids.items()
            }
            flat = list({task.key: task for group in tasks.values() for task in group}.values())
            pending = sum(task.record() is None for task in flat)
            failures = execute(flat, done=shown.batch(len(flat), pending))
            found = {cell: [task.record() for task in group] for cell, group in tasks.items()}
            records = {cell: [record for record in group if record is not None] for cell, group in found.items()}
            grown = {cell: extended(grids[cell], records[cell], len(plan.seeds)) for cell in grids}
            if grown == grids:
                break
            grids = grown
    return Outcome(plan, splits.source, records, failures)


def stored(splits: Splits, folder: Path) -> tuple[Path, str]:
    """Keeps a copy of the data in a comparison's folder, where workers find it.

    Returns:
        Where it lies, and its digest.
    """
    data = folder / "data" / splits.digest[:12]
    if not data.is_dir():
        save_splits(splits, data)
    return data, read_splits(data).digest


def extended(grid: list[float], records: list[Record], seeds: int) -> list[float]:
    """The grid, one learning rate longer if the best cell is at an edge (or nothing trained: then downwards)."""
    if not records:
        return grid
    best = best_cell(by_cell(records), seeds)
    return longer(grid, None if best is None else best.learning_rate)


def longer(grid: list[float], best: float | None) -> list[float]:
    """The grid, one point longer at the edge where the best one lies, if it lies at one; downwards if there is none."""
    if len(grid) == 1:
        return grid
    ratio = (grid[-1] / grid[0]) ** (1 / (len(grid) - 1))
    if best is None or best == grid[0]:
        return [rounded(grid[0] / ratio, DIGITS), *grid]
    if best == grid[-1]:
        return [*grid, rounded(grid[-1] * ratio, DIGITS)]
    return grid
