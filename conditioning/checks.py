"""Argument checks shared by the whole package: what is wrong, with which shape, and what to do about it."""

from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class DegenerateTargetError(ValueError):
    """The target Z does not determine an isolated GL(r) orbit of minimizers.

    Raised when rank Z < r or s_r = s_{r+1}: then the Hessian has more than r² zero modes and κ = L/μ has
    no meaning that a single number could carry.
    """


class NotAMinimizerError(ValueError):
    """The pair (A, B) is not a global minimizer of ½‖Z − AB‖², where the closed forms live."""


def as_matrix(name: str, value: ArrayLike) -> Array:
    """Returns `value` as a finite float64 matrix, or raises ValueError/TypeError naming the argument."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be a real matrix, but has dtype {array.dtype}")
    if array.ndim != 2:
        raise ValueError(f"{name} must be a matrix (2 dimensions), but has shape {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name} must not be empty, but has shape {array.shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinity; clean it before asking for its conditioning")
    return array


def check_inner_dimension(A: Any, B: Any) -> None:
    """Raises ValueError unless A is (…, a, r) and B is (…, r, b) with one r."""
    if A.ndim < 2 or B.ndim < 2:
        raise ValueError(f"A and B must be matrices or stacks of them, but have shapes {A.shape} and {B.shape}")
    if A.shape[-1] != B.shape[-2]:
        raise ValueError(
            f"A {tuple(A.shape)} and B {tuple(B.shape)} do not share an inner dimension r: the product AB "
            "needs A (a, r) and B (r, b). PEFT stores them the other way round: its lora_B is A here"
        )


def factor_namespace(A: Any, B: Any) -> Any:
    """The array namespace of a pair A (…, a, r), B (…, r, b), after all checks that do not look at entries.

    Raises:
        TypeError: if A and B are of different libraries or dtypes, or not real floating point.
        ValueError: on mismatched shapes or an empty array.
    """
    try:
        xp = array_api_compat.array_namespace(A, B)
    except TypeError:
        raise TypeError(
            f"A and B must both be NumPy arrays or both torch tensors, not {type(A).__name__} and {type(B).__name__}"
        ) from None
    check_inner_dimension(A, B)
    if A.shape[:-2] != B.shape[:-2]:
        raise ValueError(f"A {tuple(A.shape)} and B {tuple(B.shape)} have different leading dimensions")
    if 0 in A.shape or 0 in B.shape:
        raise ValueError(f"A {tuple(A.shape)} and B {tuple(B.shape)} must not be empty")
    if A.dtype != B.dtype or not xp.isdtype(A.dtype, "real floating"):
        raise TypeError(f"A and B must share one real floating dtype, but have {A.dtype} and {B.dtype}")
    return xp


def eye_like(xp: Any, M: Any) -> Any:
    """Identity of the size, dtype and device of the (…, r, r) array M."""
    return xp.eye(M.shape[-1], dtype=M.dtype, device=array_api_compat.device(M))


def as_pair(A: ArrayLike, B: ArrayLike) -> tuple[Array, Array]:
    """Returns A (a, r) and B (r, b) as finite float64 matrices with matching r."""
    left, right = as_matrix("A", A), as_matrix("B", B)
    check_inner_dimension(left, right)
    return left, right


def as_problem(A: ArrayLike, B: ArrayLike, Z: ArrayLike) -> tuple[Array, Array, Array]:
    """Returns A (a, r), B (r, b), Z (a, b) as finite float64 matrices with matching shapes."""
    left, right = as_pair(A, B)
    target = as_matrix("Z", Z)
    if target.shape != (left.shape[0], right.shape[1]):
        raise ValueError(f"Z has shape {target.shape}, but AB has shape {(left.shape[0], right.shape[1])}")
    return left, right, target


def as_singular_values(values: ArrayLike) -> Array:
    """Returns singular values as a finite, non-negative, descending float64 vector."""
    s = np.asarray(values, dtype=np.float64)
    if s.ndim != 1 or s.size == 0:
        raise ValueError(f"singular values must be a non-empty vector, but have shape {s.shape}")
    if not np.isfinite(s).all():
        raise ValueError("singular values contain NaN or infinity")
    if (s < 0).any():
        raise ValueError(f"singular values must not be negative, but the smallest is {s.min():g}")
    if (np.diff(s) > 0).any():
        raise ValueError("singular values must be in descending order; sort them first")
    return s


def check_rank(r: int, a: int, b: int) -> None:
    """Raises ValueError unless 1 ≤ r ≤ min(a, b), and TypeError unless r is an integer."""
    if isinstance(r, bool) or not isinstance(r, int | np.integer):
        raise TypeError(f"rank r must be an integer, not {r!r}")
    if not 1 <= r <= min(a, b):
        raise ValueError(f"rank r = {r} must lie between 1 and min(a, b) = {min(a, b)}")
