"""Simulations on record made again: a random sample of them, compared with what was recorded.

How far rounding may move a run is not the same for all: most forget it, some double it at every step. So what is
allowed is measured: the same problems are run with every entry of the factors moved by up to `JITTER` after every step,
many times what rounding does, and a value may differ from the record by as much as that moves it.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.tolerances import EPS, summation_rtol
from lorakappa.synthetic.arms.arm import Arm
from lorakappa.synthetic.arms.evidence import BATCH, Evidence
from lorakappa.synthetic.arms.making import measure_batch

JITTER: Final = 1024 * EPS
"""Relative; a step's products and r×r factorizations round by a few tens of EPS."""


@dataclass(frozen=True)
class Replay:
    """A batch of problems of an arm made again.

    Attributes:
        arm: which.
        batch: which.
        difference: (L, n) from what is on record.
        allowed: (L, n) of it.
    """

    arm: Arm
    batch: int
    difference: Array
    allowed: Array

    @property
    def agrees(self) -> bool:
        """Whether no value differs by more than is allowed."""
        return bool((self.difference <= self.allowed).all())

    @property
    def excess(self) -> float:
        """The largest difference beyond what is allowed; negative if there is none."""
        return float((self.difference - self.allowed).max())


def sample(arms: Sequence[Arm], *, count: int, seed: int) -> list[tuple[Arm, int]]:
    """Arms and batches at random, each at most once."""
    every = [(arm, batch) for arm in arms for batch in range(arm.batches)]
    return random.Random(seed).sample(every, min(count, len(every)))


def replayed(evidence: Evidence, arm: Arm, batch: int) -> Replay:
    """A batch made again beside the record."""
    choice = evidence.choice(arm)
    recorded = evidence.measured(arm).values[:, batch * BATCH : (batch + 1) * BATCH]
    again = measure_batch(arm, choice, batch).values
    moved = np.abs(measure_batch(arm, choice, batch, jitter=JITTER).values - again)
    # a value that happens to stay where it was is as sensitive as the others
    allowed = np.maximum(moved, np.median(moved, axis=-1, keepdims=True))
    allowed += summation_rtol(arm.steps) * np.maximum(1.0, np.abs(again))
    return Replay(arm, batch, np.abs(again - recorded), allowed)
