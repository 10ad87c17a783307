"""Stacks of problems: leading dimensions, broadcast as NumPy does it, and errors that name a problem's place."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array

CHUNK = 2**16
"""Entries of the largest argument that are worked on together: a cache holds them with all that is made of them."""


def leading_shape(*leads: tuple[int, ...]) -> tuple[int, ...]:
    """The leading dimensions that all are broadcast to."""
    try:
        return np.broadcast_shapes(*leads)
    except ValueError:
        shapes = ", ".join(map(str, leads))
        raise ValueError(f"the leading dimensions {shapes} cannot be broadcast to one shape") from None


def flattened(M: Array | None, lead: tuple[int, ...], own: int) -> Array | None:
    """(…, *own) broadcast to the leading dimensions, which become one; None stays None."""
    if M is None:
        return None
    shape = M.shape[M.ndim - own :]
    return np.broadcast_to(M, lead + shape).reshape(math.prod(lead), *shape)


def one_by_one(function: Callable[..., Any], places: Any, lead: tuple[int, ...], *stacks: Array | None) -> list[Any]:
    """What a function makes of some problems of flattened stacks; an error names the place.

    Args:
        function: of one problem's arrays.
        places: of the problems.
        lead: leading dimensions of the stacks before they were flattened.
        stacks: (N, …) arrays; None is passed on.
    """
    results = []
    for i in places:
        try:
            results.append(function(*(None if M is None else M[i] for M in stacks)))
        except ValueError as error:
            place = [int(n) for n in np.unravel_index(i, lead)]
            raise type(error)(f"problem {place} of the stack: {error}") from None
    return results


def chunks(N: int, entries: int) -> Iterator[slice]:
    """Slices of a flattened stack of N problems, each with so many entries, that are worked on together."""
    step = max(1, CHUNK // entries)
    for start in range(0, N, step):
        yield slice(start, min(start + step, N))
