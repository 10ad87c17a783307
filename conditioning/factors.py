"""The factorization W = AB: parameter vectors, the Jacobian of the product, gauges and minimizers.

Parameters are ordered θ = (vec A, vec B) with row-major vec, so d = r(a + b).
"""

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import (
    Array,
    DegenerateTargetError,
    as_matrix,
    as_pair,
    as_problem,
    as_singular_values,
    check_integer,
    check_rank,
)
from lorakappa.conditioning.scaling import Wide, common_exponent, fit_array, shifted, unit, wide_norm
from lorakappa.conditioning.tolerances import gap_rtol


def loss(A: ArrayLike, B: ArrayLike, Z: ArrayLike) -> float:
    """The one-layer loss f(A, B) = ½‖Z − AB‖_F² (Model 1 of the BaLoRA poster).

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        Z: (a, b) target; with frozen weights W₀ pass Z = W* − W₀.

    Returns:
        The loss.

    Raises:
        OutOfRangeError: if the loss does not fit into float64.
        ValueError: on mismatched shapes or non-finite entries.
    """
    (left, p), (right, q), (target, z) = (unit(M) for M in as_problem(A, B, Z))
    product = left @ right
    top = common_exponent((product, p + q), (target, z))
    residual = shifted(target, z - top) - shifted(product, p + q - top)
    return (Wide(0.5) * wide_norm(residual, top).squared()).fit("the loss")


def jacobian(A: ArrayLike, B: ArrayLike) -> Array:
    """Jacobian M of (A, B) ↦ AB, i.e. M(dA, dB) = dA·B + A·dB, with row-major vec on both sides.

    Derived here: vec(dA·B) = (I_a ⊗ Bᵀ) vec(dA) and vec(A·dB) = (A ⊗ I_b) vec(dB).

    Args:
        A: (a, r) factor.
        B: (r, b) factor.

    Returns:
        (ab, d) float64 matrix.

    Raises:
        ValueError: on mismatched shapes or non-finite entries.
    """
    left, right = as_pair(A, B)
    return np.hstack([np.kron(np.eye(left.shape[0]), right.T), np.kron(left, np.eye(right.shape[1]))])


def change_gauge(A: ArrayLike, B: ArrayLike, G: ArrayLike) -> tuple[Array, Array]:
    """The equivalent pair (AG, G⁻¹B), which has the same product.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        G: (r, r) invertible matrix.

    Returns:
        The new pair, float64.

    Raises:
        OutOfRangeError: if the new pair does not fit into float64.
        ValueError: on mismatched shapes, non-finite entries or a numerically singular G.
    """
    (left, p), (right, q) = (unit(M) for M in as_pair(A, B))
    gauge, g = unit(as_matrix("G", G))
    r = left.shape[1]
    if gauge.shape != (r, r):
        raise ValueError(f"G must be ({r}, {r}) to act on the inner dimension, but has shape {gauge.shape}")
    singular_values = np.linalg.svd(gauge, compute_uv=False)
    if singular_values[-1] <= gap_rtol(r) * singular_values[0]:
        raise ValueError("G is singular to working precision; a change of gauge must be invertible")
    solved = np.asarray(np.linalg.solve(gauge, right), dtype=np.float64)
    return fit_array("AG", left @ gauge, p + g), fit_array("G⁻¹B", solved, q - g)


def minimizer(Z: ArrayLike, r: int, gauge: ArrayLike | None = None) -> tuple[Array, Array]:
    """A global minimizer of ½‖Z − AB‖_F²: (U_r S^{1/2} G, G⁻¹ S^{1/2} V_rᵀ).

    By Eckart–Young the minimizers are the pairs with AB = Z_r, the best rank-r approximation; when
    s_r > s_{r+1} they form exactly one GL(r) orbit, which G sweeps. G = I is hyperbalanced.

    Args:
        Z: (a, b) target.
        r: rank, 1 ≤ r ≤ min(a, b).
        gauge: (r, r) invertible G; None means the identity.

    Returns:
        A (a, r) and B (r, b), float64.

    Raises:
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1} to working precision.
        OutOfRangeError: if the gauge makes a factor that does not fit into float64.
        ValueError: on a bad rank, shape, non-finite entry or singular gauge.
    """
    target, z = unit(as_matrix("Z", Z))
    check_rank(r, *target.shape)
    U, s, Vt = np.linalg.svd(target, full_matrices=False)
    check_target(s, r, exponent=z)
    root = shifted(np.sqrt(s[:r]), z // 2)
    A, B = U[:, :r] * root, root[:, None] * Vt[:r]
    return (A, B) if gauge is None else change_gauge(A, B, gauge)


def check_target(s: Array, r: int, *, exponent: int = 0) -> None:
    """Raises DegenerateTargetError unless rank Z ≥ r and s_r > s_{r+1} to working precision.

    Args:
        s: descending singular values of Z; at least r of them, s_{r+1} taken as 0 where absent.
        r: rank of the factorization.
        exponent: e if the singular values are s·2^e.
    """
    floor = gap_rtol(len(s)) * s[0]
    if s[r - 1] <= floor:
        smallest, largest = Wide.of(s[r - 1], exponent), Wide.of(s[0], exponent)
        raise DegenerateTargetError(
            f"rank Z < r: s_{r} = {smallest} is zero to working precision (s_1 = {largest}); lower r to the rank of Z"
        )
    if r < len(s) and s[r - 1] - s[r] <= floor:
        raise DegenerateTargetError(
            f"s_{r} = s_{r + 1} = {Wide.of(s[r], exponent)} to working precision: the best rank-{r} approximation of Z "
            "is not unique and the Hessian has more than r² zero modes; choose another r"
        )


def leading_singular_values(
    singular_values: ArrayLike, r: int, shape: tuple[int, int] | None
) -> tuple[Array, tuple[int, int], int]:
    """Checked singular values of an (a, b) target, cut to min(a, b), its shape, and the e that makes them s·2^e."""
    s, e = unit(as_singular_values(singular_values))
    a, b = _shape(shape) if shape is not None else (len(s), len(s))
    k = min(a, b)
    check_rank(r, a, b)
    if len(s) < min(r + 1, k):
        raise ValueError(f"{len(s)} singular values given, but s_1 … s_{min(r + 1, k)} are needed")
    check_target(s[:k], r, exponent=e)
    return s[:k], (a, b), e


def _shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Two integers, or an error that says so."""
    try:
        a, b = shape
    except (TypeError, ValueError):
        raise TypeError(f"shape must be a pair (a, b) of integers, not {shape!r}") from None
    for name, n in (("a", a), ("b", b)):
        check_integer(f"shape's {name}", n)
    return a, b
