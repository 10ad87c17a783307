"""One minimizer or a stack of them, analysed by the fastest route that is proved to be right.

Minimizers that `recognition` knows as such are computed on together. Every other problem goes through
`minimizers.analyse_minimizer` alone, which has the last word: on pairs that are ill-conditioned or not quite
minimizers, on extreme sizes, and on errors, which get the problem's place in the stack.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import (
    FLOAT64,
    Array,
    as_array,
    as_number,
    as_stack,
    check_inner_dimension,
    check_rank,
)
from lorakappa.conditioning.factors import leading_singular_values
from lorakappa.conditioning.minimizers import Minimizer, analyse_minimizer
from lorakappa.conditioning.recognition import Recognized, recognize, recognize_stack
from lorakappa.conditioning.scaling import shifted
from lorakappa.conditioning.stacks import chunks, flattened, leading_shape, one_by_one

PerProblem = Any
"""A float for one problem, an array of the stack's shape for a stack, as `numpy.linalg.det` returns them."""

Analysis = Minimizer | Recognized


def per_minimizer(
    function: Callable[[Analysis], tuple[Any, ...]],
    width: int,
    A: Any,
    B: Any,
    Z: Any,
    *,
    singular_values: Any = None,
    rtol: float,
) -> tuple[PerProblem, ...]:
    """The numbers that a function makes of each minimizer, after all checks of `minimizers.analyse_minimizer`.

    Args:
        function: gives numbers for one `Minimizer` or `Recognized`, or arrays (N,) for a stack of the latter.
        width: how many numbers.
        A: (…, a, r) factors.
        B: (…, r, b) factors.
        Z: (…, a, b) targets, or None.
        singular_values: (…, n) in their place.
        rtol: accepted distance ‖AB − Z_r‖_F relative to ‖Z_r‖_F.

    Returns:
        `width` floats, or float64 arrays with the leading dimensions.

    Raises:
        ValueError: whatever `analyse_minimizer` and the function raise, with the place of the problem in a stack.
    """
    if singular_values is None and _nothing_to_ask(A, B, Z, rtol):
        return tuple(map(float, function(_analysed(A, B, Z, None, rtol=rtol))))
    A, B, Z, values, lead = checked_problems(A, B, Z, singular_values, rtol)
    rtol = float(rtol)
    if lead is None:
        return tuple(map(float, function(_analysed(A, B, Z, values, rtol=rtol))))
    A, B, Z, values = flattened(A, lead, 2), flattened(B, lead, 2), flattened(Z, lead, 2), flattened(values, lead, 1)
    numbers = _of_stack(function, width, A, B, Z, values, lead, rtol)
    return tuple(np.ascontiguousarray(column).reshape(lead) for column in numbers.T)


def checked_problems(
    A: Any, B: Any, Z: Any, singular_values: Any, rtol: Any
) -> tuple[Array, Array, Array | None, Array | None, tuple[int, ...] | None]:
    """The arguments as arrays, finite or not, and their leading dimensions; None in place of these for one problem.

    Raises:
        TypeError: on what does not hold plain real numbers.
        ValueError: on bad shapes, ranks or an `rtol` that is not ≥ 0.
    """
    A, B = as_stack("A", A), as_stack("B", B)
    check_inner_dimension(A, B)
    (a, r), b = A.shape[-2:], B.shape[-1]
    check_rank(r, a, b)
    if not as_number("rtol", rtol) >= 0:
        raise ValueError(f"rtol = {rtol} must be a number ≥ 0")
    if (Z is None) == (singular_values is None):
        raise ValueError("pass either the target Z or its singular values, not both and not neither")
    leads = [A.shape[:-2], B.shape[:-2]]
    if Z is None:
        what = "a vector of real numbers"
        singular_values = as_array("singular values", singular_values, what=what, finite=False)
        leads.append(singular_values.shape[:-1])
    else:
        Z = as_stack("Z", Z)
        if Z.shape[-2:] != (a, b):
            raise ValueError(f"Z has shape {Z.shape}, but AB has shape {(a, b)}")
        leads.append(Z.shape[:-2])
    return A, B, Z, singular_values, leading_shape(*leads) if any(leads) else None


def _nothing_to_ask(A: Any, B: Any, Z: Any, rtol: Any) -> bool:
    """Whether these are three float64 matrices that fit together, of whatever entries."""
    if not (type(A) is type(B) is type(Z) is np.ndarray and A.ndim == B.ndim == Z.ndim == 2):
        return False
    (a, r), b = A.shape, B.shape[1]
    return (
        A.dtype is B.dtype is Z.dtype is FLOAT64
        and B.shape[0] == r
        and Z.shape == (a, b)
        and 0 < r <= a
        and r <= b
        and type(rtol) is float
        and rtol >= 0
    )


def _analysed(A: Any, B: Any, Z: Any, singular_values: Any, *, rtol: float) -> Analysis:
    """One minimizer, by the fast route where that is proved to be right."""
    s, z = None, 0
    if Z is None:
        s, _, z = leading_singular_values(singular_values, A.shape[1], (A.shape[0], B.shape[1]))
    found = recognize(A, B, Z, None if s is None else shifted(s, z), rtol)
    e = 0 if found else _common_exponent(A, B)
    if abs(e) > 64:
        Z_e, s_e = (None if Z is None else shifted(Z, -2 * e)), (None if s is None else shifted(s, z - 2 * e))
        found = recognize(shifted(A, -e), shifted(B, -e), Z_e, s_e, rtol, 2 * e)
    return found or analyse_minimizer(A, B, Z, singular_values=singular_values, rtol=rtol)


def _common_exponent(A: Array, B: Array) -> int:
    """The e for which the largest entry of A·2^−e and B·2^−e lies in [1/2, 1); 0 where it is 0 or not finite."""
    return math.frexp(float(max(np.abs(A).max(), np.abs(B).max())))[1]


def _of_stack(
    function: Callable[[Analysis], tuple[Any, ...]],
    width: int,
    A: Any,
    B: Any,
    Z: Any,
    singular_values: Any,
    lead: tuple[int, ...],
    rtol: float,
) -> Array:
    """(N, width) numbers of a flattened stack, in chunks."""
    N, (a, r), b = len(A), A.shape[1:], B.shape[-1]
    numbers = np.empty((N, width))

    def by_itself(*problem: Any) -> tuple[Any, ...]:
        return function(_analysed(*problem, rtol=rtol))

    usable = None if singular_values is None else _usable(singular_values, r, min(a, b))
    for chunk in chunks(N, a * b if singular_values is None else r * (a + b)):
        part = [None if M is None else M[chunk] for M in (A, B, Z, usable)]
        found, accepted = recognize_stack(part[0], part[1], part[2], part[3], rtol)
        if found is not None:
            numbers[chunk][accepted] = np.stack(function(found), axis=-1)
        alone = chunk.start + np.flatnonzero(~accepted)
        if len(alone):
            numbers[alone] = one_by_one(by_itself, alone, lead, A, B, Z, singular_values)
    return numbers


def _usable(values: Array, r: int, k: int) -> Array:
    """Those singular values that count, NaN where the row is refused: not finite, negative, ascending or too short."""
    fine: Any = (np.isfinite(values) & (values >= 0)).all(axis=1) & (values[:, 1:] <= values[:, :-1]).all(axis=1)
    if values.shape[1] < min(r + 1, k):
        return np.full((len(values), k), np.nan)
    return np.where(fine[:, None], values[:, :k], np.nan)
