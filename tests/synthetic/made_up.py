"""Outcomes of arms that are made up, to put claims' rules to."""

from collections.abc import Callable

import numpy as np

from lorakappa.synthetic.arms.arm import Arm, Choice, Measured


class MadeUp:
    """Outcomes by a function of the arm; also remembers which arms were asked for.

    Attributes:
        values: maps an arm to (n,) values.
    """

    def __init__(self, values: Callable[[Arm], object]) -> None:
        self.values = values
        self.asked: list[Arm] = []

    def choice(self, arm: Arm) -> Choice:
        return Choice((0.1, 1.0, 10.0), (), ((9.0, 0.0, 9.0),), arm.beyond)

    def measured(self, arm: Arm) -> Measured:
        self.asked.append(arm)
        return Measured(np.asarray(self.values(arm), dtype=np.float64), 0)


def around(low: float, high: float, n: int = 64) -> np.ndarray:
    """(n,) values whose interval of the median, at any level and for any such n, is [low, high]: half are at each end.

    The interval's ends are order statistics beside the middle, so half of the values at an end is enough.
    """
    return np.where(np.arange(n) < n // 2, low, high).astype(np.float64)
