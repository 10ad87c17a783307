"""P for stacks of many small pairs, as the simulator has them: from the r×r Gram matrices alone.

`conditioning.projection.balance` is made for any pair and has to be safe at the worst; here thousands of pairs that are
well-conditioned or nearly balanced already are projected at every step. With BBᵀ = LLᵀ and LᵀAᵀAL = VS²Vᵀ the gauge

    T = LVS^{-1/2},  T⁻¹ = S^{1/2}VᵀL⁻¹,  (X, Y) = (AT, T⁻¹B)  gives  XᵀX = S^{-1/2}VᵀLᵀAᵀALVS^{-1/2} = S
                                                                 and  YYᵀ = S^{1/2}VᵀL⁻¹BBᵀL⁻ᵀVS^{1/2} = S

(derived here), and T is all that the factors themselves are multiplied by. What squaring them costs: L, hence YYᵀ, is
as accurate as BBᵀ with its diagonal scaled to 1 is well-conditioned; S² has an absolute error of about ε‖A‖²‖B‖², which
moves XᵀX by ε‖A‖²‖B‖²/s_r. Both are read off the factorizations, and where either is too much `balance` takes over,
pair by pair. The product is safe in any case: the rounding of S and V cancels in TT⁻¹, what remains is that of L⁻¹L.
"""

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.projection import Gauge, balance
from lorakappa.conditioning.projection_gauges import signs
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
    with np.errstate(all="ignore"):  # what is not a number ends as unsafe
        gram_A = np.ascontiguousarray(left.mT) @ left
        gram_B = right @ np.ascontiguousarray(right.mT)
        L, inverse, determinant = _cholesky(gram_B)
        H = L.mT @ gram_A @ L
        squares_A, squares_B = np.einsum("nii->n", gram_A), np.einsum("nii->n", gram_B)
        safe = determinant > GRAM_DETERMINANT  # so H is finite, within RANGE
        safe &= (np.minimum(squares_A, squares_B) > 1 / RANGE) & (np.maximum(squares_A, squares_B) < RANGE)
        if not safe.all():
            H = np.where(safe[:, None, None], H, 0.0)
        squares, V = np.linalg.eigh(H)
        squares, V = squares[:, ::-1], V[..., ::-1]
        safe &= squares[:, -1] > GRAM_SINGULAR_VALUE**2 * squares_A * squares_B
        root = np.sqrt(np.sqrt(squares))
        T = L @ V / root[:, None, :]
        T_inverse = root[:, :, None] * (V.mT @ inverse)
        T, T_inverse = _aligned(gauge, T, T_inverse, gram_A, gram_B)
        X, Y = left @ T, T_inverse @ right
    if not safe.all():
        unsafe = ~safe
        X[unsafe], Y[unsafe] = balance(left[unsafe], right[unsafe], gauge=gauge)
    return X.reshape(A.shape), Y.reshape(B.shape)


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
