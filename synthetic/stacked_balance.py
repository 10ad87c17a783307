"""P and RefLoRA's S for stacks of many small pairs, as the simulator has them: from the r×r Gram matrices alone.

`conditioning.projection.balance` is made for any pair and has to be safe at the worst; here thousands of pairs that are
well-conditioned or nearly balanced already are projected at every step. With BBᵀ = LLᵀ and LᵀAᵀAL = VS²Vᵀ the gauge

    T = LVS^{-1/2},  T⁻¹ = S^{1/2}VᵀL⁻¹,  (X, Y) = (AT, T⁻¹B)  gives  XᵀX = S^{-1/2}VᵀLᵀAᵀALVS^{-1/2} = S
                                                                 and  YYᵀ = S^{1/2}VᵀL⁻¹BBᵀL⁻ᵀVS^{1/2} = S

(derived here), and T is all that the factors themselves are multiplied by. What squaring them costs: L, hence YYᵀ, is
as accurate as BBᵀ with its diagonal scaled to 1 is well-conditioned; S² has an absolute error of about ε‖A‖²‖B‖², which
moves XᵀX by ε‖A‖²‖B‖²/s_r. Both are read off the factorizations, and where either is too much `balance` takes over,
pair by pair. The product is safe in any case: the rounding of S and V cancels in TT⁻¹, what remains is that of L⁻¹L.

RefLoRA's S is TTᵀ (`conditioning.refactoring`), whose errors are those of T; where P is left to `balance`, S is left to
`refactored_gradient`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.projection import Gauge, balance
from lorakappa.conditioning.projection_gauges import signs
from lorakappa.conditioning.refactoring import refactored_gradient
from lorakappa.conditioning.tolerances import GRAM_DETERMINANT, GRAM_SINGULAR_VALUE

LARGEST_RANK = 16
"""Above this rank an eigendecomposition outweighs all that is saved here."""

RANGE = 1e100
"""Squared norms beyond this, or below its inverse, are left to `balance`, which scales them first."""


def balance_stack(A: Array, B: Array, *, gauge: Gauge = "hyperbalanced") -> tuple[Array, Array]:
    """`balance` for a stack of finite float64 pairs, up to rounding.

    What comes out of one pair is the same in every stack.

    Args:
        A: (…, a, r).
        B: (…, r, b).
        gauge: as for `balance`.

    Returns:
        New factors with AᵀA = BBᵀ and the same product.

    Raises:
        ValueError: as `balance`, where that is needed.
    """
    left, right = A.reshape(-1, *A.shape[-2:]), B.reshape(-1, *B.shape[-2:])
    with np.errstate(all="ignore"):
        found = _gauges(*_grams(left, right))
        T, T_inverse = _aligned(gauge, found.T, found.T_inverse, found.gram_A, found.gram_B)
        X, Y = left @ T, T_inverse @ right
    if not found.safe.all():
        unsafe = ~found.safe
        X[unsafe], Y[unsafe] = balance(left[unsafe], right[unsafe], gauge=gauge)
    return X.reshape(A.shape), Y.reshape(B.shape)


def refactor_stack(A: Array, B: Array, g_A: Array, g_B: Array) -> tuple[Array, Array]:
    """`refactored_gradient` in matrix mode for a stack of finite float64 pairs, up to rounding.

    What comes out of one pair is the same in every stack.

    Args:
        A: (…, a, r).
        B: (…, r, b).
        g_A: (…, a, r) gradient by A.
        g_B: (…, r, b) gradient by B.

    Returns:
        g_A S⁻¹ and S g_B.

    Raises:
        ValueError: as `refactored_gradient`, where that is needed.
    """
    left, right, by_left, by_right = (M.reshape(-1, *M.shape[-2:]) for M in (A, B, g_A, g_B))
    with np.errstate(all="ignore"):
        found = _gauges(*_grams(left, right))
        moved_A = by_left @ (found.T_inverse.mT @ found.T_inverse)
        moved_B = (found.T @ found.T.mT) @ by_right
    if not found.safe.all():
        unsafe = ~found.safe
        parts = (M[unsafe] for M in (left, right, by_left, by_right))
        moved_A[unsafe], moved_B[unsafe] = refactored_gradient(*parts)
    return moved_A.reshape(A.shape), moved_B.reshape(B.shape)


def equalize_stack(
    A: Array, B: Array, M_A: Array, M_B: Array, *, gauge: Gauge = "symmetric"
) -> tuple[Array, Array, Array, Array]:
    """The pairs (AT, T⁻¹B) at which two matrices that belong to their gauge are equal: T⁻¹M_A T⁻ᵀ = TᵀM_B T.

    With M_A = BBᵀ and M_B = AᵀA that is balance, with partial traces of a Hessian the gauge of its smallest trace
    (`conditioning.gauge_optimization`). T solves the same equation as for balance, so the same steps lead to it.

    Args:
        A: (…, a, r) finite float64.
        B: (…, r, b) likewise.
        M_A: (…, r, r) positive definite.
        M_B: (…, r, r) positive definite.
        gauge: "symmetric" for symmetric T, "hyperbalanced" for both matrices diagonal, "nearest" for the pair nearest
            to (A, B).

    Returns:
        The pair with the same product, T and T⁻¹ (…, r, r). A pair whose matrices are too nearly singular
        (`LEAST`) stays as it is, T = I.
    """
    left, right, by_A, by_B = (M.reshape(-1, *M.shape[-2:]) for M in (A, B, M_A, M_B))
    with np.errstate(all="ignore"):
        found = _gauges(by_B, by_A, *LEAST)
        grams = _grams(left, right) if gauge != "symmetric" else (by_B, by_A)
        T, T_inverse = _aligned(gauge, found.T, found.T_inverse, *grams)
        kept = found.safe[:, None, None]
        T, T_inverse = (np.where(kept, M, np.eye(M.shape[-1])) for M in (T, T_inverse))
    shape = M_A.shape
    X, Y = left @ T, T_inverse @ right
    return X.reshape(A.shape), Y.reshape(B.shape), T.reshape(shape), T_inverse.reshape(shape)


def damped_moments(A: Array, B: Array, H_A: Array, H_B: Array, damping: float) -> tuple[Array, Array]:
    """M_A = H_A/f + δBBᵀ/g and M_B = H_B/f + δAᵀA/g: second moments of gradients, damped towards balance.

    f and g are tr H_A + tr H_B and ‖A‖² + ‖B‖² at the balanced pair, so that the gauge which equalizes them does not
    depend on the one that the pair is given in, nor on the size of the moments (`conditioning.fisher_gauge`).

    Args:
        A: (…, a, r) finite float64.
        B: (…, r, b) likewise.
        H_A: (…, r, r) second moment of the gradients by A.
        H_B: (…, r, r) by B.
        damping: δ > 0.

    Returns:
        Both (…, r, r); not numbers where the pair is too nearly singular.
    """
    left, right, by_A, by_B = (M.reshape(-1, *M.shape[-2:]) for M in (A, B, H_A, H_B))
    with np.errstate(all="ignore"):
        gram_A, gram_B = _grams(left, right)
        found = _gauges(gram_A, gram_B, *LEAST)
        T, T_inverse = found.T, found.T_inverse
        f = _trace(T_inverse @ by_A @ T_inverse.mT) + _trace(T.mT @ by_B @ T)
        g = _trace(T.mT @ gram_A @ T) + _trace(T_inverse @ gram_B @ T_inverse.mT)
        M_A, M_B = by_A / f + damping * gram_B / g, by_B / f + damping * gram_A / g
        M_A[~found.safe] = np.nan
    return M_A.reshape(H_A.shape), M_B.reshape(H_B.shape)


def _trace(M: Array) -> Array:
    return np.einsum("nii->n", M)[:, None, None]


LEAST = 1e-6, 1e-10
"""Determinant, with the diagonal scaled to 1, and square of a singular value, in units of both traces, down to which
matrices may tell a gauge where no more than about six digits of it are asked for; the product is kept in any case."""


class _Gauges(NamedTuple):
    """T and T⁻¹ (n, r, r) of a stack, its Gram matrices AᵀA and BBᵀ, and (n,) which pairs they can be trusted for."""

    T: Array
    T_inverse: Array
    gram_A: Array
    gram_B: Array
    safe: NDArray[np.bool_]


def _grams(left: Array, right: Array) -> tuple[Array, Array]:
    """AᵀA and BBᵀ of a stack (n, a, r), (n, r, b)."""
    return np.ascontiguousarray(left.mT) @ left, right @ np.ascontiguousarray(right.mT)


def _gauges(
    gram_A: Array,
    gram_B: Array,
    least_determinant: float = GRAM_DETERMINANT,
    least_square: float = GRAM_SINGULAR_VALUE**2,
) -> _Gauges:
    """The hyperbalanced gauges of a stack with Gram matrices (n, r, r); what is not a number ends as unsafe."""
    L, inverse, determinant = _cholesky(gram_B)
    H = L.mT @ gram_A @ L
    squares_A, squares_B = np.einsum("nii->n", gram_A), np.einsum("nii->n", gram_B)
    safe = determinant > least_determinant  # so H is finite, within RANGE
    safe &= (np.minimum(squares_A, squares_B) > 1 / RANGE) & (np.maximum(squares_A, squares_B) < RANGE)
    if not safe.all():
        H = np.where(safe[:, None, None], H, 0.0)
    squares, V = np.linalg.eigh(H)
    squares, V = squares[:, ::-1], V[..., ::-1]
    safe &= squares[:, -1] > least_square * squares_A * squares_B
    root = np.sqrt(np.sqrt(squares))
    return _Gauges(L @ V / root[:, None, :], root[:, :, None] * (V.mT @ inverse), gram_A, gram_B, safe)


def _aligned(gauge: Gauge, T: Array, T_inverse: Array, gram_A: Array, gram_B: Array) -> tuple[Array, Array]:
    """The gauge asked for, by the orthogonal O of (X, Y) ← (XO, OᵀY) that `balance` takes, from XᵀA + YBᵀ or from T."""
    if gauge == "hyperbalanced":
        overlap = np.einsum("nki,nki->ni", T, gram_A) + np.einsum("nik,nik->ni", T_inverse, gram_B)
        chosen = signs(np, overlap)
        return chosen[:, None, :] * T, chosen[:, :, None] * T_inverse
    turned = T.mT @ gram_A + T_inverse @ gram_B if gauge == "nearest" else T.mT
    u, _, vt = np.linalg.svd(np.where(np.isfinite(turned).all(axis=(-2, -1), keepdims=True), turned, 0.0))
    O = u @ vt
    return T @ O, O.mT @ T_inverse


def _cholesky(gram: Array) -> tuple[Array, Array, Array]:
    """L and L⁻¹ of LLᵀ (n, r, r) and, the diagonal scaled to 1, (n,) its determinant; NaN where there is none."""
    try:
        L = np.asarray(np.linalg.cholesky(gram), dtype=np.float64)
    except np.linalg.LinAlgError:  # it ends at the first matrix that has none
        L = np.stack([_cholesky_or_nan(one) for one in gram])
    diagonal = np.diagonal(L, axis1=-2, axis2=-1)
    determinant = np.prod(diagonal * diagonal / np.diagonal(gram, axis1=-2, axis2=-1), axis=-1)
    # L = D(I + N) with N strictly lower triangular, Nʳ = 0, so (I + N)⁻¹ = (I − N)(I + N²)(I + N⁴)…
    identity = np.eye(gram.shape[-1])
    power = identity - L / diagonal[..., :, None]  # −N
    inverse = identity + power
    for _ in range(1, (gram.shape[-1] - 1).bit_length()):
        power = power @ power
        inverse = inverse @ (identity + power)
    return L, inverse / diagonal[..., None, :], determinant


def _cholesky_or_nan(gram: Array) -> Array:
    try:
        return np.asarray(np.linalg.cholesky(gram), dtype=np.float64)
    except np.linalg.LinAlgError:
        return np.full_like(gram, np.nan)
