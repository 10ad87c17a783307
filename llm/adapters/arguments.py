"""Checks of the numbers that callers pass: whole numbers and real ones, nothing that merely looks like them."""

import math
from numbers import Integral, Real
from typing import Any


def check_count(name: str, value: Any) -> None:
    """Refuses what is no whole number of at least 1; True, 1.5 and "3" are none.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")


def check_real(name: str, value: Any, *, positive: bool = False) -> None:
    """Refuses what is no finite real number; True, "3" and NaN are none.

    Args:
        name: for the message.
        value: the number.
        positive: whether it must be greater than 0, too.

    Raises:
        TypeError: if it is no number.
        ValueError: if it is NaN, infinite or, where that matters, not positive.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not _is_finite(value) or (positive and value <= 0):
        raise ValueError(f"{name} must be {'positive and ' if positive else ''}finite, not {value}")


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond float64
        return False
