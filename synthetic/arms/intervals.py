"""Intervals of a median that no distribution has to be assumed for.

Of n independent values of a continuous distribution the k-th smallest lies above the median with the probability that
fewer than k of n fair coins show heads, and the k-th largest likewise below. So the median lies between them with the
probability 1 − 2·P(Bin(n, ½) < k), exactly, for every n (the sign test's interval; e.g. David and Nagaraja 2003, Order
Statistics, section 7.1). Where values can be equal it is covered at least as often. A run that diverged is a very large
value here, as any other is that does not change its rank.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array

ALPHA = 0.05
"""Share of the error that all intervals of a claim have together; each of m settings has 1/m of it (Bonferroni)."""


def rank(n: int, alpha: float) -> int:
    """The largest k for which the k-th smallest and the k-th largest of n values cover the median to 1 − alpha.

    Returns:
        k, from 1 on; 0 if n values are too few.
    """
    allowed, k, ways = Fraction(alpha) * 2**n, 0, 1
    while 2 * ways <= allowed:
        k += 1
        ways += math.comb(n, k)
    return k


def least(alpha: float) -> int:
    """The smallest number of values that have an interval."""
    return next(n for n in range(1, 10_000) if rank(n, alpha))


def check_number(n: int, settings: int) -> None:
    """Raises ValueError for fewer problems than an interval in each of several settings takes."""
    if n < (needed := least(ALPHA / settings)):
        raise ValueError(f"{n} paired seeds give no interval; at least {needed} trials are needed")


def median_interval(values: Array, settings: int = 1) -> dict[str, Any]:
    """The median of (n,) values with its interval, one of those of several settings that a claim rests on.

    Raises:
        ValueError: if the values are too few.
    """
    check_number(len(values), settings)
    alpha = ALPHA / settings
    ordered = np.sort(values)
    k = rank(len(values), alpha)
    return {
        "median": float(np.median(values)),
        "interval": [float(ordered[k - 1]), float(ordered[-k])],
        "level": 1 - alpha,
        "n": len(values),
        "positive": int((values > 0).sum()),
    }
