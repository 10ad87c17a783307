"""P where r > k = min(a, b): AB has at most rank k then, and a k×k matrix tells the gauge.

The factor with the short side is A here; for b < a the pair (Bᵀ, Aᵀ) takes its place. With K = A(BBᵀ)Aᵀ = US²Uᵀ, which
is (AB)(AB)ᵀ, the columns t of T and the rows τ of T⁻¹ that belong to the k singular values are

    τ = S^{-1/2}UᵀA,  t = BBᵀAᵀUS^{-3/2}:   At = KUS^{-3/2} = US^{1/2},  τB = S^{-1/2}UᵀAB = S^{1/2}Vᵀ,  τt = I.

The others are the null directions of `projection_by_qr`. N with NᵀN = I and AN = 0 spans those of T, and the rows of
Q = Nᵀ(I − tτ) those of T⁻¹, since Qt = 0 and QN = I. Normalized symmetrically and scaled as there they are

    T_null = cN(QQᵀ)^{1/4},  T_null⁻¹ = (QQᵀ)^{-1/4}Q/c,  c² = σ₁(B)/σ₁(A),

so that X = (US^{1/2}, 0) and Y = (S^{1/2}Vᵀ; T_null⁻¹B): the pair of the other route up to a rotation of null
directions among themselves, which is free there, too (derived here). The matrices that are decomposed have k and r − k
rows, where the other route decomposes six of r.

The arithmetic is float64, for factors stored in at most single precision. What can go wrong:

- *The product* is UUᵀAB, which differs from AB by the error of U's orthogonality, r^{1/2} epsilons, whatever S is.
- *The balance.* XᵀX is S to rounding, YYᵀ is off by S^{-1/2}UᵀδKUS^{-1/2}, and ‖δK‖ is r epsilons times ‖A‖²‖B‖² (the
  products are of r and b terms, whose errors are taken as independent): ‖δK‖/s_k may be a share of `balance_rtol`.
- *Rank.* s_k must exceed what counts as zero (`rank_rtol`) and its own error: `truncation_singular_value`.
- *T⁻¹* is as far from the inverse of T as ‖t‖‖τ‖ epsilons, and must be so to less than an epsilon of the storage.
- Factors that grow, or that their dtype cannot hold, are left to the other route.
"""

from typing import Any

import numpy as np

from lorakappa.conditioning.projection_by_qr import normalized
from lorakappa.conditioning.projection_gauges import Gauge, rotation, signs, subnormal_error
from lorakappa.conditioning.tolerances import (
    EPS,
    GRAM_SHARE,
    ILL_CONDITIONED,
    PRODUCT_RTOL,
    balance_rtol,
    rank_rtol,
    truncation_singular_value,
)

LEAST_RANK = 64
"""From this r on it is faster; below it calls take the time on either route."""


def balance_by_short_side(xp: Any, A: Any, B: Any, gauge: Gauge) -> tuple[Any, Any, Any]:
    """The balanced pairs of a stack, and where they are what `balance` promises.

    Args:
        xp: array namespace.
        A: (…, a, r), of at most single precision.
        B: (…, r, b), min(a, b) < r.
        gauge: which balanced pair.

    Returns:
        (…, a, r) and (…, r, b) of the dtype given, and (…) bool; where that is False the pair means nothing.

    Raises:
        ValueError: on NaN or infinity.
    """
    if A.shape[-2] > B.shape[-1]:
        Y, X, safe = balance_by_short_side(xp, B.mT, A.mT, gauge)
        return X.mT, Y.mT, safe
    left, right, weight_A, weight_B, size = normalized(xp, xp.astype(A, xp.float64), xp.astype(B, xp.float64))
    k, r = left.shape[-2:]
    storage, norm = xp.finfo(A.dtype), xp.linalg.matrix_norm
    with np.errstate(all="ignore"):
        G = right @ right.mT
        AG = left @ G
        S2, U = xp.linalg.eigh(AG @ left.mT)
        S2, U = xp.flip(S2, axis=-1), xp.flip(U, axis=-1)
        live = EPS**2 * S2[..., :1] < S2
        found, S2 = xp.all(live, axis=-1), xp.where(live, S2, xp.ones_like(S2))
        S = xp.sqrt(S2)
        root = xp.sqrt(S)

        tau = U.mT @ left / root[..., None]
        t = (U.mT @ AG).mT / (S * root)[..., None, :]
        N = xp.linalg.qr(left.mT, mode="complete")[0][..., k:]
        Q = N.mT - (N.mT @ t) @ tau
        squares, v = xp.linalg.eigh(Q @ Q.mT)
        found = found & (squares[..., 0] > 0) & xp.isfinite(squares[..., -1])
        quarter = xp.where(squares > 0, squares, xp.ones_like(squares)) ** 0.25
        norms = [xp.sqrt(xp.linalg.eigvalsh(M)[..., -1:, None]) for M in (left @ left.mT, G)]
        scale = xp.sqrt(norms[1] / norms[0])
        T_inv = xp.concat([tau, (v / quarter[..., None, :]) @ (v.mT @ Q) / scale], axis=-2)
        x, Y = U * root[..., None, :], T_inv @ right

        # the gauge asked for, from XᵀA + YBᵀ, where YBᵀ is T⁻¹BBᵀ
        X = xp.concat([x, xp.zeros_like(left[..., k:])], axis=-1)
        if gauge == "hyperbalanced":
            diagonal = weight_A * xp.sum(X * left, axis=-2, keepdims=True)
            sign = signs(xp, diagonal + weight_B * xp.sum(T_inv.mT * G, axis=-2, keepdims=True))
            X, Y = X * sign, Y * sign.mT
        else:
            T = xp.concat([t, scale * (N @ (v * quarter[..., None, :]) @ v.mT)], axis=-1)
            overlap = weight_A * (X.mT @ left) + weight_B * (T_inv @ G)
            fine = found[..., None, None]
            O = rotation(xp, gauge, xp.where(fine, overlap, 0.0), xp.where(fine, T, 0.0))
            X, Y = X @ O, O.mT @ Y

        given, total = norm(left) * norm(right), xp.sum(S, axis=-1)
        safe = found & (S[..., -1] > 2 * truncation_singular_value(float(storage.eps), r) * given)
        safe = safe & (S[..., -1] > 2 * rank_rtol(float(storage.eps), r) * (norms[0] * norms[1])[..., 0, 0])
        unbalanced = r * EPS * given**2 / S[..., -1]
        safe = safe & (unbalanced <= GRAM_SHARE * 2 * balance_rtol(float(storage.eps), r) * total)
        safe = safe & (norm(t) * norm(tau) <= 1 / ILL_CONDITIONED)
        safe = safe & (norm(X) * norm(Y) <= 2 * given)
        lost = subnormal_error(storage, left.shape[-2] * r + r * right.shape[-1]) / size[..., 0, 0]
        safe = safe & (lost * (norm(X) + norm(Y)) <= PRODUCT_RTOL / 4 * float(storage.eps) * given)
        X, Y = xp.astype(X * size, A.dtype), xp.astype(Y * size, B.dtype)
        for M in (X, Y):
            safe = safe & xp.all(xp.isfinite(M), axis=(-2, -1))
    return X, Y, xp.asarray(safe)
