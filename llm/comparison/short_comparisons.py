"""Comparisons of half a minute on the tiny model, which claims are judged on where there is no evidence."""

import atexit
import os
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from lorakappa.llm.comparison.protocol import Outcome, Plan, compare, parse_grid
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.comparison.workers import Workers
from lorakappa.llm.data.sources import MATHEMATICS, load_splits
from lorakappa.llm.data.splits import Splits

_SETTINGS = TrainingSettings(
    steps=30, batch_size=8, evaluations=2, generate=0, targets=("q_proj", "v_proj", "down_proj")
)
_GRID = parse_grid("6.3e-3:6.3e-2:3")

BY_RANK = Plan(("lora", "balora"), ranks=(2, 8), learning_rates=_GRID, settings=_SETTINGS, extensions=1)
"""BaLoRA against LoRA at two ranks."""

RIVALS = Plan(
    ("lora", "balora", "ilora", "scaled-gd", "pilora"),
    ranks=(8,),
    learning_rates=_GRID,
    strengths=(10.0,),
    settings=_SETTINGS,
    extensions=1,
)
"""Everybody against everybody; at λ = 10, the best of 1, 3 and 10 for πLoRA (iLoRA hardly feels it)."""

VARIANTS = replace(RIVALS, methods=("balora", "balora-fisher:gauge=hyperbalanced", "balora@10"), strengths=(1.0,))
"""Gauges and periods of BaLoRA."""

OFF_THE_BEST = replace(BY_RANK, ranks=(8,), learning_rates=parse_grid("6.3e-3:5.04e-2:4"))
"""BaLoRA against LoRA on a grid that has twice every rate."""

SGD = replace(BY_RANK, ranks=(8,), learning_rates=parse_grid("0.1:1.6:3"), settings=replace(_SETTINGS, optimizer="sgd"))
"""BaLoRA against LoRA where theory speaks."""

HORIZONS = (
    replace(BY_RANK, ranks=(8,), settings=replace(_SETTINGS, steps=15)),
    replace(BY_RANK, ranks=(8,), settings=replace(_SETTINGS, steps=60)),
)
"""Few steps and many."""

STARTS = (
    replace(BY_RANK, ranks=(8,), scalings=(0.01,), learning_rates=parse_grid("6.3e-2:6.3e-1:3")),
    replace(BY_RANK, ranks=(8,), scalings=(100.0,), learning_rates=parse_grid("6.3e-4:6.3e-3:3")),
)
"""Small starts and large ones, at the same effective learning rates η√(α/r)."""

BEST_STARTS = replace(BY_RANK, ranks=(8,), scalings=(1.0, 10.0), extensions=0)
"""The size of the start tuned, too."""


@cache
def workplace() -> tuple[Path, Workers]:
    """A temporary folder and workers for the short comparisons of this process, which end with it."""
    folder = tempfile.TemporaryDirectory()
    workers = Workers(os.cpu_count() or 1)
    atexit.register(folder.cleanup)
    atexit.register(workers.__exit__)
    return Path(folder.name), workers


@cache
def short_comparison(plan: Plan, seeds: int, first: int) -> Outcome:
    """A comparison on the tiny model with those seeds; made once per process, sharing runs with others."""
    folder, workers = workplace()
    plan = replace(plan, seeds=tuple(range(first, first + seeds)))
    return compare(plan, short_splits(), folder, execute=workers, quiet=True)


@cache
def short_splits() -> Splits:
    """The data of short comparisons."""
    splits = load_splits(MATHEMATICS, train=1000, validation=64, test=128, seed=0)
    return replace(splits, extrapolate=())
