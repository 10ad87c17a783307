"""`fisher_gauge` from r×r matrices alone, for pairs that change gauge where they lie.

P's gauge comes from the Gram matrices (`projection_by_gram`). In its coordinates AᵀA = BBᵀ = S, diagonal, up to their
noise, the damped moments M_A and M_B are formed in float64, and with their Cholesky factors M_A = L_A L_Aᵀ,
M_B = L_B L_Bᵀ and L_AᵀL_B = UsVᵀ the new gauge is T = L_A U s^{-1/2}, T⁻¹ = s^{-1/2}VᵀL_Bᵀ. The noise of S moves what
the damping pulls towards by as much, so more of it is accepted here than where the balance itself is promised.

What the product loses is as in `projection_by_gram`: rounding T and AT moves AB by at most O(u)‖A‖(Σ‖T_j‖²‖Y_j‖²)^{1/2}
with Y the new factor, and likewise for T⁻¹. Up to 2 max(‖A‖‖B‖, ‖X‖‖Y‖) is accepted.
"""

import math
from typing import Any

import numpy as np

from lorakappa.conditioning.projection_by_gram import Gauges, cholesky, gauges, or_identity
from lorakappa.conditioning.projection_by_qr import turn
from lorakappa.conditioning.projection_gauges import Gauge
from lorakappa.conditioning.tolerances import gram_noise

SLACK = 2.0**8
"""So many times the noise of Gram matrices that `balance` allows: S is wrong by less than a thousandth of its sum."""


def fisher_gauges(
    xp: Any, G: Any, H: Any, gauge: Gauge, *, damping: float, storage: Any, entries: int, eps: float
) -> Gauges:
    """The gauges that gradients ask for, and which of them can be trusted.

    NaN and infinity, wherever they come from, end as not safe (NumPy warns of them).

    Args:
        xp: array namespace.
        G: (…, 2, r, r) float64 matrices AᵀA and BBᵀ.
        H: (…, 2, r, r) float64 second moments of the gradients by A and by B.
        gauge: which of the pairs.
        damping: δ; without it singular moments are not safe.
        storage: `finfo` of the dtype that the new pair is stored in.
        entries: of A and B together.
        eps: ε of the arithmetic that the Gram matrices come from and the factors will be multiplied in.

    Returns:
        The gauges in float64; on a GPU nothing is copied to the host.
    """
    balanced, safe = gauges(xp, G, "hyperbalanced", storage=storage, entries=entries, eps=eps, slack=SLACK)
    safe = safe & xp.isfinite(xp.sum(H, axis=(-3, -2, -1)))
    H = or_identity(xp, safe, H)
    S = xp.sum(balanced * (G @ balanced), axis=-2)  # (…, 2, r) diagonals, equal up to noise
    moments = xp.flip(balanced, axis=-3).mT @ H @ xp.flip(balanced, axis=-3)
    M = _damped(xp, moments, xp.flip(S, axis=-2), damping)
    L, found = cholesky(xp, M)
    found = xp.all(found, axis=-1)
    L = or_identity(xp, found, L)
    U, s, Vt = xp.linalg.svd(L[..., 0, :, :].mT @ L[..., 1, :, :])
    relative = xp.stack([L[..., 0, :, :] @ U, L[..., 1, :, :] @ Vt.mT], axis=-3) / xp.sqrt(s)[..., None, None, :]
    factors = balanced @ relative
    known = found & xp.isfinite(xp.sum(factors, axis=(-3, -2, -1)))
    factors = or_identity(xp, known, factors)
    O = turn(xp, gauge, xp.sum(factors.mT @ G, axis=-3), factors[..., 0, :, :])
    factors = factors @ O[..., None, :, :]

    squares = xp.linalg.diagonal(G)  # ‖a_k‖² and ‖b_k‖²
    lengths = xp.sum(factors * (G @ factors), axis=-2)  # ‖X_j‖² and ‖Y_j‖²
    factors2 = factors * factors
    noise = xp.sum(factors2 * squares[..., None], axis=-2) / lengths
    safe = safe & known & (xp.max(noise, axis=(-2, -1)) <= 1 / (4 * gram_noise(eps, G.shape[-1])))
    given, new = xp.sum(squares, axis=-1), xp.sum(lengths, axis=-1)
    allowed = 4 * xp.maximum(xp.prod(given, axis=-1), xp.prod(new, axis=-1))
    moved = given * xp.sum(xp.sum(factors2, axis=-2) * xp.flip(lengths, axis=-2), axis=-1)
    safe = safe & xp.all(moved <= allowed[..., None], axis=-1)
    safe = safe & (xp.max(new, axis=-1) <= float(storage.max) ** 2)
    return Gauges(or_identity(xp, safe, factors), safe)


def _damped(xp: Any, moments: Any, S: Any, damping: float) -> Any:
    """(…, 2, r, r) damped moments M_A and M_B, from both moments and the diagonals of BBᵀ and AᵀA."""
    share = 1 / (1 + damping) if math.isfinite(damping) else 0.0
    f = xp.sum(xp.linalg.diagonal(moments), axis=(-2, -1))
    f = xp.where(f > 0, f, xp.ones_like(f))[..., None, None, None]
    g = xp.sum(S, axis=(-2, -1))[..., None, None, None]
    eye = xp.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    with np.errstate(under="ignore"):
        return share / f * moments + (1 - share) / g * (S[..., None] * eye)
