"""Outcomes of arms that are made up, to put claims' rules to."""

from collections.abc import Callable

import numpy as np

from lorakappa.synthetic.arms.arm import Arm, Choice, Measured

WORDS = [
    ((0.06, 0.2), "holds"),
    ((0.01, 0.2), "holds"),
    ((-0.01, 0.05), "inconclusive"),
    ((0.0, 0.2), "inconclusive"),
    ((-0.2, 0.0), "inconclusive"),
    ((0.01, 0.04), "equivalent"),
    ((-0.01, 0.01), "equivalent"),
    ((-0.3, -0.1), "not seen"),
]
"""Intervals of a gain, and what they say of the statement that there is one."""


class MadeUp:
    """Outcomes by a function of the arm; also remembers which arms were asked for.

    Attributes:
        values: maps an arm to (n,) or (L, n) values.
        lowest: maps an arm to the median that it is chosen by.
        strengths: maps an arm to the λ that are tried; the first one is chosen.
        diverged: maps an arm to the number of runs that diverged.
    """

    def __init__(self, values: Callable[[Arm], object], lowest: Callable[[Arm], float] = lambda _: 0.0) -> None:
        self.values, self.lowest = values, lowest
        self.strengths: Callable[[Arm], tuple[float, ...]] = lambda _: ()
        self.diverged: Callable[[Arm], int] = lambda _: 0
        self.asked: list[Arm] = []

    def choice(self, arm: Arm) -> Choice:
        self.asked.append(arm)
        strengths = self.strengths(arm)
        rows = ((99.0, self.lowest(arm), 99.0), *[(99.0, 99.0, 99.0)] * (len(strengths) - 1))
        return Choice((0.1, 1.0, 10.0), strengths, rows, arm.beyond)

    def measured(self, arm: Arm) -> Measured:
        self.asked.append(arm)
        return Measured(np.atleast_2d(np.asarray(self.values(arm), dtype=np.float64)), self.diverged(arm))


def around(low: float, high: float, n: int = 64) -> np.ndarray:
    """(n,) values whose interval of the median, at any level and for any such n, is [low, high]: half are at each end.

    The interval's ends are order statistics beside the middle, so half of the values at an end is enough.
    """
    return np.where(np.arange(n) < n // 2, low, high).astype(np.float64)


def ahead(second: str, gains: Callable[[Arm], tuple[float, float]]) -> MadeUp:
    """Outcomes in which the arms of method `second` end lower than all others by gains in the interval of a setting."""

    def values(arm: Arm) -> object:
        return -around(*gains(arm)) if arm.method == second else np.zeros(64)

    return MadeUp(values)
