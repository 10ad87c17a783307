"""Runs on record made again: a random sample of them, compared with what was recorded."""

import math
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorakappa.conditioning.tolerances import rerun_rtol
from lorakappa.llm.comparison.runs import Record, Task
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.comparison.studies.progress import Progress, run_seconds
from lorakappa.llm.comparison.workers import Execute
from lorakappa.llm.data.splits import Splits, save_splits

Key = tuple[Run, TrainingSettings]


@dataclass(frozen=True)
class Replay:
    """A run made again.

    Attributes:
        run: which.
        recorded: its losses, the test loss first, then the validation losses; not empty.
        again: likewise.
        allowed: difference of each pair of losses that is explained.
        same_machine: whether it was made by the same type of machine and versions.
    """

    run: Run
    recorded: tuple[float, ...]
    again: tuple[float, ...]
    allowed: float
    same_machine: bool

    @property
    def difference(self) -> float:
        """The largest one; infinite if one of both diverged, or stopped elsewhere."""
        if len(self.recorded) != len(self.again):
            return math.inf
        return max(_apart(a, b) for a, b in zip(self.recorded, self.again, strict=True))

    @property
    def agrees(self) -> bool:
        """Whether both are the same, as far as can be asked."""
        return self.difference <= self.allowed


def sample(records: dict[Key, Record], *, count: int, seed: int, seconds: float) -> list[Key]:
    """Some runs in random order, without those whose recorded times no longer fit into a time.

    Args:
        records: by run and settings.
        count: at most so many.
        seed: of the draw.
        seconds: in all; the first is taken whatever it takes.

    Returns:
        Their keys.
    """
    keys = sorted(records, key=repr)
    random.Random(seed).shuffle(keys)
    chosen: list[Key] = []
    left = seconds
    for key in keys:
        took = run_seconds(records[key])
        if len(chosen) < count and (took <= left or not chosen):
            chosen.append(key)
            left -= took
    return chosen


def make_again(keys: Sequence[Key], splits: Splits, execute: Execute) -> dict[Key, Record]:
    """Makes runs afresh.

    Args:
        keys: runs with their settings.
        splits: the data.
        execute: what makes them.

    Returns:
        Their records; one that failed is missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        data = save_splits(splits, place / "data")
        tasks = {key: Task(*key, data, splits.digest, place) for key in keys}
        execute(list(tasks.values()), done=lambda *_: None)
        found = {key: task.record() for key, task in tasks.items()}
    return {key: record for key, record in found.items() if record is not None}


def compared(key: Key, old: Record, new: Record, spread: float) -> Replay:
    """A run on record beside the same run made again.

    Args:
        key: of the run.
        old: record of it.
        new: likewise.
        spread: by how much the losses of its arm's fresh seeds lie apart.

    Returns:
        Both. On the same type of machine and with the same versions, what is allowed is rounding of the losses
        themselves: the same arguments give the same steps. Elsewhere sums are taken in another order, and training
        amplifies their rounding step by step; what is allowed then is `spread`, since a result that rounding could move
        further than another seed does would mean nothing in the first place.
    """
    recorded, again = _losses(old), _losses(new)
    same = origin_of(old) == origin_of(new)
    largest = max((abs(loss) for loss in recorded if math.isfinite(loss)), default=0.0)
    return Replay(
        key[0], recorded, again, rerun_rtol(float(np.finfo(np.float32).eps)) * largest if same else spread, same
    )


def spread_of(progress: Progress, key: Key) -> float:
    """By how much the fresh test losses of a run's arm lie apart; of all arms with its settings if it has none."""
    run, settings = key
    mine = [arm for arm in progress.selections if arm.settings == settings]
    own = [arm for arm in mine if arm.rank == run.rank and run.method in {p.variant for p in arm.places([1.0])}]
    for arms in (own, mine):
        spreads = [np.ptp(losses) for arm in arms if len(losses := _fresh_losses(progress, arm)) > 1]
        if spreads:
            return float(max(spreads))
    return 0.0


def origin_of(record: Record) -> dict[str, Any]:
    """Machine type and versions that decide how a run is rounded; this project's own version does not."""
    meta = record.get("meta_info", {})
    versions = {name: version for name, version in (meta.get("versions") or {}).items() if name != "lorakappa"}
    names = ("platform", "package_info", "device", "processor", "threads")
    return {"versions": versions, **{name: meta.get(name) for name in names}}


def _fresh_losses(progress: Progress, arm: Any) -> list[float]:
    losses = [record["train_info"].get("test_loss") for record in progress.fresh(arm)]
    return [loss for loss in losses if loss is not None]


def _losses(record: Record) -> tuple[float, ...]:
    info = record["train_info"]
    curve = [metric["valid loss"] for metric in info["metrics"]]
    return tuple(math.nan if loss is None else float(loss) for loss in (info.get("test_loss"), *curve))


def _apart(a: float, b: float) -> float:
    """|a − b|: 0 for two losses that are both lost, infinite where one is."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return math.inf if math.isnan(a - b) else abs(a - b)
