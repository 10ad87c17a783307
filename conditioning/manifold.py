"""The balanced manifold AᵀA = BBᵀ and the hyperbalanced one, on which both Gram matrices are diagonal too.

Near a product of rank r the balanced pairs form a manifold of dimension d − r(r+1)/2 and the hyperbalanced
ones, A = US^{1/2}, B = S^{1/2}Vᵀ with S > 0 diagonal, one of dimension d − r²: as many as there are rank-r
matrices, so the GL(r) invariance is gone up to order and signs (and rotations inside equal singular values).
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import Array, as_matrix, as_number, as_pair, storage_eps
from lorakappa.conditioning.scaling import Wide, fit_array, unit_pair
from lorakappa.conditioning.tolerances import balance_rtol, gap_rtol


def balancing_gap(A: ArrayLike, B: ArrayLike) -> float:
    """‖AᵀA − BBᵀ‖_F, the distance of the two Gram matrices; 0 exactly on the balanced manifold.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.

    Returns:
        The gap, in the units of ‖A‖², right to rounding on the scale of ‖A‖² + ‖B‖².

    Raises:
        OutOfRangeError: if ‖A‖² + ‖B‖² or the gap does not fit into float64.
        ValueError: on mismatched shapes or non-finite entries.
    """
    left, right, e = unit_pair(*as_pair(A, B))
    gap = Wide.of(_gap(left, right), 2 * e)
    Wide.of(_size(left, right), 2 * e).fit("‖A‖² + ‖B‖²")
    return gap.nearest


def is_balanced(A: ArrayLike, B: ArrayLike, *, rtol: float | None = None) -> bool:
    """Whether ‖AᵀA − BBᵀ‖_F ≤ rtol·(‖A‖_F² + ‖B‖_F²).

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        rtol: relative tolerance; None means what rounding in the arrays' dtype explains
            (`tolerances.balance_rtol`: 8√r machine epsilons).

    Returns:
        The answer.

    Raises:
        ValueError: on mismatched shapes or non-finite entries.
    """
    left, right, _ = unit_pair(*as_pair(A, B))
    return bool(_gap(left, right) <= _relative_tolerance(A, B, rtol) * _size(left, right))


def is_hyperbalanced(A: ArrayLike, B: ArrayLike, *, rtol: float | None = None) -> bool:
    """Whether the pair is balanced and AᵀA is diagonal, both to rtol·(‖A‖_F² + ‖B‖_F²).

    The order of the diagonal is free. Arguments and errors are those of `is_balanced`.
    """
    left, right, _ = unit_pair(*as_pair(A, B))
    gram = left.T @ left
    off_diagonal = float(np.linalg.norm(gram - np.diag(np.diag(gram))))
    return off_diagonal <= _relative_tolerance(A, B, rtol) * _size(left, right) and is_balanced(A, B, rtol=rtol)


def _relative_tolerance(A: ArrayLike, B: ArrayLike, rtol: float | None) -> float:
    """The relative tolerance: as given, or what rounding in the arrays' dtype explains."""
    if rtol is None:
        return balance_rtol(max(storage_eps(A), storage_eps(B)), np.shape(A)[-1])
    rtol = as_number("rtol", rtol)
    if not rtol >= 0:
        raise ValueError(f"rtol = {rtol} must be a number ≥ 0")
    return rtol


def _gap(A: Array, B: Array) -> float:
    """‖AᵀA − BBᵀ‖_F."""
    return float(np.linalg.norm(A.T @ A - B @ B.T))


def _size(A: Array, B: Array) -> float:
    """‖A‖_F² + ‖B‖_F²."""
    return float(np.linalg.norm(A) ** 2 + np.linalg.norm(B) ** 2)


def tangent_projection(
    A: ArrayLike,
    B: ArrayLike,
    dA: ArrayLike,
    dB: ArrayLike,
    *,
    manifold: Literal["balanced", "hyperbalanced"] = "hyperbalanced",
) -> tuple[Array, Array]:
    """Orthogonal projection of a direction (dA, dB) onto the tangent space at a point of the manifold.

    Derived here. The balanced constraint has normal vectors (AΛ, −ΛB) with Λ symmetric, so Λ solves the
    Lyapunov equation KΛ + ΛK = dAᵀA + AᵀdA − dB·Bᵀ − B·dBᵀ, K = AᵀA + BBᵀ. On the hyperbalanced manifold,
    AᵀA = BBᵀ = S diagonal, the off-diagonal constraints separate: Λ_ij = (dAᵀA + AᵀdA)_ij/(s_i + s_j) acts
    on A alone and likewise for B, and the diagonal is λ_i = ((dAᵀA) − (dB·Bᵀ))_ii/(2s_i).

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        dA: (a, r) direction.
        dB: (r, b) direction.
        manifold: which manifold; (A, B) must lie on it.

    Returns:
        The projected direction.

    Raises:
        OutOfRangeError: if it does not fit into float64.
        ValueError: on mismatched shapes, non-finite entries, a pair off the manifold, an unknown manifold,
            or a rank-deficient pair, at which the tangent space is not defined.
    """
    left, right, _ = unit_pair(*as_pair(A, B))
    move_left, move_right, moved = unit_pair(as_matrix("dA", dA), as_matrix("dB", dB))
    if move_left.shape != left.shape or move_right.shape != right.shape:
        raise ValueError(
            f"(dA, dB) has shapes {move_left.shape}, {move_right.shape}, but (A, B) has {left.shape}, {right.shape}"
        )
    if manifold not in ("balanced", "hyperbalanced"):
        raise ValueError(f'manifold must be "balanced" or "hyperbalanced", not {manifold!r}')
    on_it = is_balanced(A, B) if manifold == "balanced" else is_hyperbalanced(A, B)
    if not on_it:
        raise ValueError(f"(A, B) is not {manifold}; apply balance(A, B) first")
    K = left.T @ left + right @ right.T  # 2S on the hyperbalanced manifold
    eigenvalues, Q = np.linalg.eigh(K)
    if eigenvalues[0] <= gap_rtol(len(K)) * eigenvalues[-1]:
        raise ValueError("AB has rank < r: the manifold has no tangent space there")
    # the first-order changes of AᵀA and BBᵀ, which the projected direction must make equal (and diagonal)
    grow_A = move_left.T @ left + left.T @ move_left
    grow_B = move_right @ right.T + right @ move_right.T
    if manifold == "balanced":
        # Λ of KΛ + ΛK = grow_A − grow_B, in the eigenbasis of K; then (dA − AΛ, dB + ΛB)
        multiplier = Q @ ((Q.T @ (grow_A - grow_B) @ Q) / (eigenvalues[:, None] + eigenvalues)) @ Q.T
        return _restored(move_left - left @ multiplier, move_right + multiplier @ right, moved)
    # off the diagonal each factor is corrected alone, on it both share one multiplier
    s = np.diag(K) / 2
    pair_sum = s[:, None] + s
    shared = np.diag(np.diag(grow_A - grow_B) / (4 * s))
    off = 1 - np.eye(len(s))
    return _restored(
        move_left - left @ (off * grow_A / pair_sum + shared),
        move_right - (off * grow_B / pair_sum - shared) @ right,
        moved,
    )


def _restored(dA: Array, dB: Array, e: int) -> tuple[Array, Array]:
    """(dA, dB)·2^e; what vanishes beside the direction that was projected may vanish."""
    return tuple(fit_array(name, M, e, size=Wide(1.0)) for name, M in (("dA", dA), ("dB", dB)))  # type: ignore[return-value]
