"""The factorization W = AB: parameter vectors, the Jacobian of the product, gauges and minimizers.

Parameters are ordered θ = (vec A, vec B) with row-major vec, so d = r(a + b).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import (
    Array,
    DegenerateTargetError,
    as_matrix,
    as_pair,
    as_problem,
    as_singular_values,
    as_stack,
    check_integer,
    check_rank,
)
from lorakappa.conditioning.scaling import MODERATE, Wide, common_exponent, fit_array, shifted, unit, wide_norm
from lorakappa.conditioning.stacks import chunks, flattened, leading_shape, one_by_one
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
        Z: (…, a, b) target.
        r: rank, 1 ≤ r ≤ min(a, b).
        gauge: (…, r, r) invertible G; None means the identity. Leading dimensions are broadcast.

    Returns:
        A (…, a, r) and B (…, r, b), float64.

    Raises:
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1} to working precision.
        OutOfRangeError: if the gauge makes a factor that does not fit into float64.
        ValueError: on a bad rank, shape, non-finite entry or singular gauge. In a stack every error names the problem's
            place.
    """
    target = as_stack("Z", Z)
    a, b = target.shape[-2:]
    check_rank(r, a, b)
    G = None if gauge is None else as_stack("G", gauge)
    if target.ndim == 2 and (G is None or G.ndim == 2):
        return _minimizer(target, r, G)
    if G is not None and G.shape[-2:] != (r, r):
        raise ValueError(f"G must be ({r}, {r}) to act on the inner dimension, but has shape {G.shape}")
    lead = leading_shape(target.shape[:-2], () if G is None else G.shape[:-2])
    A, B = _minimizers(flattened(target, lead, 2), r, flattened(G, lead, 2), lead)
    return A.reshape(*lead, a, r), B.reshape(*lead, r, b)


def _minimizer(Z: Array, r: int, gauge: Array | None) -> tuple[Array, Array]:
    """`minimizer` for one target."""
    target, z = unit(as_matrix("Z", Z))
    U, s, Vt = np.linalg.svd(target, full_matrices=False)
    check_target(s, r, exponent=z)
    root = shifted(np.sqrt(s[:r]), z // 2)
    A, B = U[:, :r] * root, root[:, None] * Vt[:r]
    return (A, B) if gauge is None else change_gauge(A, B, gauge)


def _minimizers(Z: Any, r: int, gauge: Any, lead: tuple[int, ...]) -> tuple[Array, Array]:
    """`minimizer` for a flattened stack: together where sizes are moderate and there is nothing to refuse."""
    N, a, b = Z.shape
    A, B = np.empty((N, a, r)), np.empty((N, r, b))
    together = _moderate(Z) if gauge is None else _moderate(Z) & _moderate(gauge)
    candidates = np.flatnonzero(together)
    for chunk in chunks(len(candidates), a * b):
        rows = candidates[chunk]
        U, s, Vt = np.linalg.svd(Z[rows], full_matrices=False)
        fine = s[:, r - 1] - (s[:, r] if r < min(a, b) else 0.0) > gap_rtol(min(a, b)) * s[:, 0]
        if gauge is not None:
            sigma = np.linalg.svd(gauge[rows], compute_uv=False)
            fine &= sigma[:, -1] > gap_rtol(r) * sigma[:, 0]
        together[rows] = fine
        rows, root = rows[fine], np.sqrt(s[fine, :r])
        A[rows], B[rows] = U[fine, :, :r] * root[:, None], root[:, :, None] * Vt[fine, :r]
        if gauge is not None:
            A[rows], B[rows] = A[rows] @ gauge[rows], np.linalg.solve(gauge[rows], B[rows])
    alone = np.flatnonzero(~together)
    pairs = one_by_one(lambda target, G: _minimizer(target, r, G), alone, lead, Z, gauge)
    for i, pair in zip(alone, pairs, strict=True):
        A[i], B[i] = pair
    return A, B


def _moderate(M: Array) -> Any:
    """Which matrices of a flattened stack are finite, not 0, and of a size at which nothing over- or underflows."""
    largest = np.abs(M).max(axis=(1, 2))
    return (largest > 2.0**-MODERATE) & (largest < 2.0**MODERATE)


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
