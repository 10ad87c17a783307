"""The balanced manifold AᵀA = BBᵀ and the hyperbalanced one, on which both Gram matrices are diagonal too.

Near a product of rank r the balanced pairs form a manifold of dimension d − r(r+1)/2 and the hyperbalanced
ones, A = US^{1/2}, B = S^{1/2}Vᵀ with S > 0 diagonal, one of dimension d − r²: as many as there are rank-r
matrices, so the GL(r) invariance is gone up to order and signs (and rotations inside equal singular values).
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import Array, as_pair
from lorakappa.conditioning.tolerances import EPS, balance_rtol, gap_rtol


def balancing_gap(A: ArrayLike, B: ArrayLike) -> float:
    """‖AᵀA − BBᵀ‖_F, the distance of the two Gram matrices; 0 exactly on the balanced manifold.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.

    Returns:
        The gap, in the units of ‖A‖².

    Raises:
        ValueError: on mismatched shapes or non-finite entries.
    """
    left, right = as_pair(A, B)
    return float(np.linalg.norm(left.T @ left - right @ right.T))


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
    left, right = _scaled(A, B)
    return balancing_gap(left, right) <= _relative_tolerance(A, B, rtol) * _size(left, right)


def is_hyperbalanced(A: ArrayLike, B: ArrayLike, *, rtol: float | None = None) -> bool:
    """Whether the pair is balanced and AᵀA is diagonal, both to rtol·(‖A‖_F² + ‖B‖_F²).

    The order of the diagonal is free. Arguments and errors are those of `is_balanced`.
    """
    left, right = _scaled(A, B)
    gram = left.T @ left
    off_diagonal = float(np.linalg.norm(gram - np.diag(np.diag(gram))))
    return off_diagonal <= _relative_tolerance(A, B, rtol) * _size(left, right) and is_balanced(A, B, rtol=rtol)


def _relative_tolerance(A: ArrayLike, B: ArrayLike, rtol: float | None) -> float:
    """The relative tolerance: as given, or what rounding in the arrays' dtype explains."""
    if rtol is None:
        dtypes = [np.asarray(X).dtype for X in (A, B)]
        storage_eps = max(float(np.finfo(t).eps) if t.kind == "f" else EPS for t in dtypes)
        rtol = balance_rtol(storage_eps, np.shape(A)[-1])
    return rtol


def _scaled(A: ArrayLike, B: ArrayLike) -> tuple[Array, Array]:
    """The pair divided by its largest entry, so that Gram matrices neither overflow nor underflow."""
    left, right = as_pair(A, B)
    largest = max(np.abs(left).max(), np.abs(right).max())
    return (left, right) if largest == 0 else (left / largest, right / largest)


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
        ValueError: on mismatched shapes, non-finite entries, a pair off the manifold, an unknown manifold,
            or a rank-deficient pair, at which the tangent space is not defined.
    """
    left, right = as_pair(A, B)
    move_left, move_right = as_pair(dA, dB)
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
        return move_left - left @ multiplier, move_right + multiplier @ right
    # off the diagonal each factor is corrected alone, on it both share one multiplier
    s = np.diag(K) / 2
    pair_sum = s[:, None] + s
    shared = np.diag(np.diag(grow_A - grow_B) / (4 * s))
    off = 1 - np.eye(len(s))
    return (
        move_left - left @ (off * grow_A / pair_sum + shared),
        move_right - (off * grow_B / pair_sum - shared) @ right,
    )
