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
    check_rank,
)
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
        ValueError: on mismatched shapes or non-finite entries.
    """
    left, right, target = as_problem(A, B, Z)
    return 0.5 * float(np.linalg.norm(target - left @ right) ** 2)


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
        ValueError: on mismatched shapes, non-finite entries or a numerically singular G.
    """
    left, right = as_pair(A, B)
    gauge = as_matrix("G", G)
    r = left.shape[1]
    if gauge.shape != (r, r):
        raise ValueError(f"G must be ({r}, {r}) to act on the inner dimension, but has shape {gauge.shape}")
    singular_values = np.linalg.svd(gauge, compute_uv=False)
    if singular_values[-1] <= gap_rtol(r) * singular_values[0]:
        raise ValueError("G is singular to working precision; a change of gauge must be invertible")
    return left @ gauge, np.asarray(np.linalg.solve(gauge, right), dtype=np.float64)


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
        ValueError: on a bad rank, shape, non-finite entry or singular gauge.
    """
    target = as_matrix("Z", Z)
    check_rank(r, *target.shape)
    U, s, Vt = np.linalg.svd(target, full_matrices=False)
    check_target(s, r)
    root = np.sqrt(s[:r])
    A, B = U[:, :r] * root, root[:, None] * Vt[:r]
    return (A, B) if gauge is None else change_gauge(A, B, gauge)


def check_target(s: Array, r: int) -> None:
    """Raises DegenerateTargetError unless rank Z ≥ r and s_r > s_{r+1} to working precision.

    Args:
        s: descending singular values of Z; at least r of them, s_{r+1} taken as 0 where absent.
        r: rank of the factorization.
    """
    floor = gap_rtol(len(s)) * s[0]
    if s[r - 1] <= floor:
        raise DegenerateTargetError(
            f"rank Z < r: s_{r} = {s[r - 1]:.3g} is zero to working precision (s_1 = {s[0]:.3g}); "
            "lower r to the rank of Z"
        )
    if r < len(s) and s[r - 1] - s[r] <= floor:
        raise DegenerateTargetError(
            f"s_{r} = s_{r + 1} = {s[r]:.6g} to working precision: the best rank-{r} approximation of Z is "
            "not unique and the Hessian has more than r² zero modes; choose another r"
        )
