"""Grids of positive numbers (step sizes, learning rates, λ): LO:HI:N, log-spaced, or a comma-separated list."""

import math
from collections.abc import Collection

import numpy as np

MOST_POINTS = 1_000_000
"""Points that a grid may have."""


def parse_grid(text: str, *, digits: int | None = None) -> tuple[float, ...]:
    """The numbers of a grid.

    Args:
        text: "LO:HI:N", one number, or several separated by commas.
        digits: to which they are rounded (where they name runs, and must be met again); None for not at all.

    Returns:
        The different numbers, ascending. Those of a list are as given, also if they are not positive.

    Raises:
        ValueError: if it is neither.
    """
    try:
        if ":" in text:
            low, high, count = text.split(":")
            values = _log_spaced(float(low), float(high), int(count))
        else:
            values = [float(item) for item in text.split(",")]
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no grid: give LO:HI:N with 0 < LO ≤ HI, or numbers separated by commas{_why(error)}"
        ) from None
    return tuple(sorted({value if digits is None else rounded(value, digits) for value in values}))


def rounded(value: float, digits: int) -> float:
    """The value with so many significant digits."""
    return float(f"{value:.{digits}g}")


def at_end(value: float, values: Collection[float]) -> bool:
    """Whether a value is the smallest or largest of several that were tried, so that a better one may lie beyond."""
    return len(values) > 1 and value in (min(values), max(values))


class _BadGridError(ValueError):
    """What is wrong with LO:HI:N whose parts are numbers."""


def _log_spaced(low: float, high: float, count: int) -> list[float]:
    if count < 1:
        raise _BadGridError("with that N it is empty")
    if count > MOST_POINTS:
        raise _BadGridError(f"N must be at most {MOST_POINTS}")
    if not 0 < low <= high < math.inf:
        raise _BadGridError("LO and HI must be positive, finite and in that order")
    if count == 1 and low != high:
        raise _BadGridError("a single point cannot be both LO and HI")
    return [float(value) for value in np.geomspace(low, high, count)]


def _why(error: ValueError) -> str:
    return f"; {error}" if isinstance(error, _BadGridError) else ""
