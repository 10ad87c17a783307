"""The best pair of a smaller rank: singular values of AB and its truncated SVD, through r×r matrices only.

With AB = USVᵀ the nearest matrix of rank k, in the Frobenius and in the spectral norm, is U_k S_k V_kᵀ, at the
distances (Σ_{i>k} s_i²)^{1/2} and s_{k+1} (Eckart and Young 1936, Mirsky 1960). As a pair it is balanced:
X = U_k S_k^{1/2}, Y = S_k^{1/2} V_kᵀ, the first k columns and rows of P(A, B).

Columns a_j of A and rows b_j of B are first divided by powers of two that make them equally large: a change of gauge
without rounding, after which errors are relative to Σ_j ‖a_j‖‖b_j‖ rather than to ‖A‖‖B‖, and nothing over- or
underflows. Then there are two routes (derived here):

- *QR*: A = Q_A R_A, Bᵀ = Q_B R_B and the SVD of R_A R_Bᵀ, as in `projection_by_qr`. It serves every pair, with errors
  of a few EPS.
- *Gram matrices*, several times faster. With BBᵀ = LLᵀ and LᵀAᵀAL = VS²Vᵀ the left vectors are U = ALVS^{-1}, and

      X = A·(LVS^{-1/2}),   Y = S^{-1/2}UᵀAB = (S^{-3/2}VᵀLᵀAᵀA)·B,

  where nothing is divided by more than S. S² has errors of EPS·‖A‖²‖B‖², so s_i one of EPS·‖A‖²‖B‖²/s_i, and the
  orthogonality of u_i one of EPS·‖A‖²‖B‖²/s_i², which counts s_i times in XY: the same. So this route serves factors
  stored in at most single precision where that is small against their own rounding
  (`tolerances.truncation_singular_value`).
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from lorakappa.conditioning.checks import check_integer, factor_namespace
from lorakappa.conditioning.projection_by_gram import cholesky
from lorakappa.conditioning.projection_by_qr import pad_rows
from lorakappa.conditioning.scaling import exponents
from lorakappa.conditioning.tolerances import truncation_singular_value

ArrayT = TypeVar("ArrayT", bound=Any)


@dataclass(frozen=True)
class ProductSVD:
    """The SVD of AB = 2^exponent · (bases[0]·left)(right·bases[1]), of a pair or a stack of pairs.

    Attributes:
        relative: (…, r) singular values of AB/2^exponent, descending, in float64: of order 1 or smaller.
        exponent: (…) even whole numbers, 0 where AB = 0.
        given: the pair itself.
        bases: (…, ·, r) and (…, r, ·) matrices in float64.
        left: (…, r, r), balanced with `right`.
        right: (…, r, r).
    """

    relative: Any
    exponent: Any
    given: tuple[Any, Any]
    bases: tuple[Any, Any]
    left: Any
    right: Any

    @property
    def sigma(self) -> Any:
        """(…, r) singular values of AB: 0 or infinity where they leave float64's range."""
        half = 2.0 ** (self.exponent / 2)[..., None]
        with np.errstate(over="ignore", under="ignore"):
            return self.relative * half * half

    def truncated(self, k: int) -> tuple[Any, Any]:
        """The balanced pair of rank k whose product is nearest to AB.

        Where AB = 0, X = 0 and Y are the first k rows of B, so that training can go on as from LoRA's start; if B = 0,
        it is X that keeps k columns of A.

        Args:
            k: number of columns, 1 ≤ k ≤ r.

        Returns:
            X (…, a, k) and Y (…, k, b) in the dtype of the pair.

        Raises:
            TypeError: if k is no integer.
            ValueError: unless 1 ≤ k ≤ r.
        """
        A, B = self.given
        xp = factor_namespace(A, B)
        check_integer("rank k", k)
        if not 1 <= k <= A.shape[-1]:
            raise ValueError(f"rank k = {k} must lie between 1 and r = {A.shape[-1]}")
        half = 2.0 ** (self.exponent / 2)[..., None, None]
        with np.errstate(over="ignore", under="ignore"):
            X = xp.astype((self.bases[0] @ self.left[..., :k])[..., : A.shape[-2], :] * half, A.dtype)
            Y = xp.astype((self.right[..., :k, :] @ self.bases[1])[..., : B.shape[-1]] * half, B.dtype)
        zero = self.relative[..., :1, None] == 0
        if not bool(xp.any(zero)):
            return X, Y
        no_B = ~xp.any(B != 0, axis=(-2, -1), keepdims=True)
        X = xp.where(zero, xp.where(no_B, A[..., :k], xp.zeros_like(X)), X)
        return X, xp.where(zero, B[..., :k, :], Y)


def product_svd(A: Any, B: Any) -> ProductSVD:
    """The SVD of AB without AB.

    Args:
        A: (…, a, r) NumPy array or torch tensor of a real floating type, on any device.
        B: (…, r, b) of the same library, dtype, device and leading dimensions.

    Returns:
        Singular values, and what truncates the product to any rank.

    Raises:
        TypeError: as for `balance`.
        ValueError: on mismatched shapes, an empty array, NaN or infinity.
    """
    xp = factor_namespace(A, B)
    left, right, exponent = equilibrated(xp, xp.astype(A, xp.float64), xp.astype(B, xp.float64))
    if A.dtype.itemsize <= 4:
        S, T, T_inv, safe = _by_gram(xp, left, right, float(xp.finfo(A.dtype).eps))
        if bool(xp.all(safe)):
            return ProductSVD(S, exponent, (A, B), (left, right), T, T_inv)
    Q_A, R_A = xp.linalg.qr(pad_rows(xp, left))
    Q_B, R_B = xp.linalg.qr(pad_rows(xp, right.mT))
    U, S, Vt = xp.linalg.svd(R_A @ R_B.mT)
    root = xp.sqrt(S)
    return ProductSVD(S, exponent, (A, B), (Q_A, Q_B.mT), U * root[..., None, :], root[..., :, None] * Vt)


def truncate(A: ArrayT, B: ArrayT, k: int) -> tuple[ArrayT, ArrayT]:
    """The balanced pair of rank k whose product is nearest to AB, in the Frobenius and the spectral norm.

    Args:
        A: (…, a, r) NumPy array or torch tensor of a real floating type, on any device.
        B: (…, r, b) of the same library, dtype, device and leading dimensions.
        k: number of columns, 1 ≤ k ≤ r.

    Returns:
        X (…, a, k) and Y (…, k, b), XᵀX = YYᵀ = diag(s_1, …, s_k); where AB = 0 see `ProductSVD.truncated`.

    Raises:
        TypeError: as for `balance`, or if k is no integer.
        ValueError: on mismatched shapes, an empty array, k out of range, NaN or infinity.
    """
    return product_svd(A, B).truncated(k)


def equilibrated(xp: Any, A: Any, B: Any) -> tuple[Any, Any, Any]:
    """Both factors with columns a_j and rows b_j of equal size, and the (…) e with AB = 2^e times their product.

    A column or row whose partner is 0 becomes 0.
    """
    p, q = exponents(xp, A.mT[..., None, :])[..., 0, 0], exponents(xp, B[..., None, :])[..., 0, 0]
    if not bool(xp.all(xp.isfinite(p + q))):
        raise ValueError("A or B contains NaN or infinity")
    live = xp.any(A != 0, axis=-2) & xp.any(B != 0, axis=-1)
    low = xp.min(p + q, axis=-1, keepdims=True)
    total = xp.where(live, p + q, low)
    top = xp.max(total, axis=-1, keepdims=True)
    top = xp.where(xp.any(live, axis=-1, keepdims=True), top + xp.remainder(top, 2.0 * xp.ones_like(top)), 0.0)
    u = xp.floor((total - top) / 2)
    v = total - top - u
    keep = xp.astype(live, xp.float64)
    return A * (keep * 2.0 ** (u - p))[..., None, :], (keep * 2.0 ** (v - q))[..., :, None] * B, top[..., 0]


def _by_gram(xp: Any, A: Any, B: Any, storage_eps: float) -> tuple[Any, Any, Any, Any]:
    """S, the gauges that lead to X and to Y, and (…) whether they serve."""
    G_A, G_B = A.mT @ A, B @ B.mT
    traces = xp.linalg.trace(G_A) * xp.linalg.trace(G_B)
    L, found = cholesky(xp, G_B)
    found = found & (traces > 0)
    L = xp.where(found[..., None, None], L, xp.zeros_like(L))
    G_A_L = G_A @ L
    S2, V = xp.linalg.eigh(L.mT @ G_A_L)
    S2, V = xp.flip(S2, axis=-1), xp.flip(V, axis=-1)
    safe = found & (S2[..., -1] > truncation_singular_value(storage_eps, S2.shape[-1]) ** 2 * traces)
    S2 = xp.where(safe[..., None], S2, xp.ones_like(S2))
    S = xp.sqrt(S2)
    root = xp.sqrt(S)
    return S, L @ V / root[..., None, :], (G_A_L @ V / (root * S)[..., None, :]).mT, safe
