"""P by orthogonal matrices only, in float64: the route that serves every pair.

    A = Q_A R_A,  Bᵀ = Q_B R_B,  C = R_A R_Bᵀ = U S Vᵀ,  P(A, B) = (Q_A U S^{1/2}, S^{1/2} Vᵀ Q_Bᵀ),

so AB is kept to a few epsilons of the storage type times ‖A‖‖B‖ whatever the conditioning of the pair.

Where singular values of AB vanish, that formula destroys the pair: at AB = 0 it returns (0, 0), where the gradient
of every loss of AB vanishes, so that training never leaves. Such *null* directions are carried over instead. With
t = the live columns of T (BV_q S_q^{-1/2}) and τ = the live rows of T⁻¹ (S_q^{-1/2} U_qᵀA), which are dual, the rest
of T spans the null space of τ and the rest of T⁻¹ the null space of tᵀ, normalized symmetrically and scaled by
(σ₁(B)/σ₁(A))^{1/2}, as the live ones are on the whole. So T stays invertible and no direction of A or B is
lost; what lies in the null directions cannot be balanced and is left unbalanced.
"""

from typing import Any, NamedTuple

import numpy as np

from lorakappa.conditioning.checks import eye_like
from lorakappa.conditioning.projection_gauges import Gauge, rotation, signs, subnormal_error
from lorakappa.conditioning.scaling import exponents
from lorakappa.conditioning.tolerances import EPS, PRODUCT_RTOL, rank_rtol


def balance_by_qr(xp: Any, A: Any, B: Any, gauge: Gauge) -> tuple[Any, Any]:
    """The balanced pairs of a stack, by QR factorizations and an SVD; differentiable where the SVD is.

    Args:
        xp: array namespace.
        A: (…, a, r), of any real floating type.
        B: (…, r, b).
        gauge: which balanced pair.

    Returns:
        As `projection.balance`.

    Raises:
        ValueError: on NaN or infinity.
    """
    left, right, weight_A, weight_B, size = normalized(xp, xp.astype(A, xp.float64), xp.astype(B, xp.float64))
    core = hyperbalanced(xp, left, right, float(xp.finfo(A.dtype).eps))

    # the gauge asked for: (x, y) ← (xO, Oᵀy) with O from XᵀA + YBᵀ or from T
    O = turn(xp, gauge, weight_A * (core.x.mT @ core.R_A) + weight_B * (core.y @ core.R_B), core.T)
    x, y = core.x @ O, O.mT @ core.y
    x, y = refined(xp, core, x, y, O, O.mT)

    # where the factors grew, or the product was not kept, or AB = 0, the pair is returned as it came
    norm = xp.linalg.matrix_norm
    given = norm(core.R_A) * norm(core.R_B)
    X, Y, done = from_core(xp, A, B, core, x, y, size, given)
    done = done & (norm(x) * norm(y) <= 2 * given)
    if bool(xp.all(done)):
        return X, Y
    done = done[..., None, None]
    return xp.where(done, X, A), xp.where(done, Y, B)


def turn(xp: Any, gauge: Gauge, overlap: Any, T: Any) -> Any:
    """The orthogonal O (…, r, r) by which a hyperbalanced pair with gauge T is turned into another gauge.

    Args:
        xp: array namespace.
        gauge: which balanced pair.
        overlap: (…, r, r) matrix XᵀA + YBᵀ.
        T: (…, r, r) gauge of the pair, X = AT.
    """
    if gauge == "hyperbalanced":
        return signs(xp, xp.linalg.diagonal(overlap))[..., None, :] * eye_like(xp, overlap)
    return rotation(xp, gauge, overlap, T)


def from_core(
    xp: Any, A: Any, B: Any, core: "Hyperbalanced", x: Any, y: Any, size: Any, norms: Any
) -> tuple[Any, Any, Any]:
    """The pair (Q_A x, y Q_Bᵀ) at the scale and in the dtype of the input, and where it keeps the product.

    The product is kept where ‖xy − C‖ is at most half of what is promised (forming and storing X and Y may take the
    rest) and both factors are held by their dtype.

    Args:
        xp: array namespace.
        A: (…, a, r) as it was given.
        B: (…, r, b) likewise.
        core: what became of it.
        x: (…, r, r).
        y: (…, r, r).
        size: (…, 1, 1) scale of the balanced pair.
        norms: (…) product of norms that errors are relative to.

    Returns:
        (…, a, r), (…, r, b), and (…) bool.
    """
    eps = max(float(xp.finfo(A.dtype).eps), EPS)
    norm = xp.linalg.matrix_norm
    kept = norm(x @ y - core.C) <= PRODUCT_RTOL / 2 * eps * norms
    with np.errstate(over="ignore", invalid="ignore"):
        X = xp.astype((core.Q_A @ x)[..., : A.shape[-2], :] * size, A.dtype)
        Y = xp.astype((y @ core.Q_B.mT)[..., : B.shape[-1]] * size, B.dtype)
    stored = _stored(xp, (X, norm(x)), (Y, norm(y)), size[..., 0, 0], PRODUCT_RTOL / 4 * eps * norms)
    return X, Y, xp.any(core.live, axis=-1) & kept & stored


def gauge_by_qr(xp: Any, A: Any, B: Any) -> tuple[Any, Any]:
    """The gauge that leads to the hyperbalanced pair (AT, T⁻¹B), whatever storing that pair would do to it.

    Args:
        xp: array namespace.
        A: (…, a, r), of any real floating type.
        B: (…, r, b).

    Returns:
        T and T⁻¹ (…, r, r) in float64; I where AB = 0.

    Raises:
        ValueError: on NaN or infinity.
    """
    left, right, weight_A, weight_B, _ = normalized(xp, xp.astype(A, xp.float64), xp.astype(B, xp.float64))
    core = hyperbalanced(xp, left, right, float(xp.finfo(A.dtype).eps))
    T_inv = inverse_gauge(xp, core)
    # of the given pair rather than the normalized one: A = 2^p·left and B = 2^q·right have T·2^{(q − p)/2}
    scale = xp.sqrt(weight_B / weight_A)
    some = xp.any(core.live, axis=-1)[..., None, None]
    I = eye_like(xp, core.T)
    return xp.where(some, core.T * scale, I), xp.where(some, T_inv / scale, I)


def inverse_gauge(xp: Any, core: "Hyperbalanced") -> Any:
    """(…, r, r) inverse of `core.T`."""
    root = xp.where(core.live, core.root, xp.ones_like(core.root))
    live = xp.where(core.live, 1 / root, xp.zeros_like(root))[..., :, None] * (core.U.mT @ core.R_A)
    return live + core.T_inv_null


class Hyperbalanced(NamedTuple):
    """The hyperbalanced pair of A = Q_A R_A, Bᵀ = Q_B R_B in r×r coordinates, X = Q_A x and Y = y Q_Bᵀ, before signs.

    Attributes:
        Q_A: (…, max(a, r), r).
        R_A: (…, r, r).
        Q_B: (…, max(b, r), r).
        R_B: (…, r, r).
        C: (…, r, r) product R_A R_Bᵀ = U S Vᵀ.
        U: (…, r, r).
        Vt: (…, r, r).
        live: (…, r) bool, which singular values count as positive.
        root: (…, r) their square roots, 0 for the others.
        x: (…, r, r).
        y: (…, r, r).
        T: (…, r, r) gauge that leads there, x = R_A T.
        T_inv_null: (…, r, r) the rows of T⁻¹ that belong to null directions, 0 elsewhere; those of live ones are
            S^{-1/2} Uᵀ R_A.
    """

    Q_A: Any
    R_A: Any
    Q_B: Any
    R_B: Any
    C: Any
    U: Any
    Vt: Any
    live: Any
    root: Any
    x: Any
    y: Any
    T: Any
    T_inv_null: Any


def hyperbalanced(xp: Any, A: Any, B: Any, storage_eps: float) -> Hyperbalanced:
    """The hyperbalanced pair of a normalized pair in float64 that was stored with an epsilon of `storage_eps`."""
    # to r×r: A = Q_A R_A and Bᵀ = Q_B R_B, so that AB = Q_A C Q_Bᵀ with C = R_A R_Bᵀ = U S Vᵀ
    Q_A, R_A = xp.linalg.qr(pad_rows(xp, A))
    Q_B, R_B = xp.linalg.qr(pad_rows(xp, B.mT))
    C = R_A @ R_B.mT
    U, S, Vt = xp.linalg.svd(C)
    norm_A, norm_B = xp.linalg.svdvals(R_A)[..., 0], xp.linalg.svdvals(R_B)[..., 0]
    live = rank_rtol(storage_eps, S.shape[-1]) * (norm_A * norm_B)[..., None] < S

    # x = U S^{1/2}, y = S^{1/2} Vᵀ and the gauge T = R_Bᵀ V S^{-1/2}; only live directions so far
    root = xp.sqrt(xp.where(live, S, xp.ones_like(S)))
    keep = xp.astype(live, xp.float64)
    x = U * (root * keep)[..., None, :]
    y = (root * keep)[..., :, None] * Vt
    T = R_B.mT @ Vt.mT * (keep / root)[..., None, :]
    T_inv_null = xp.zeros_like(T)
    if not bool(xp.all(live)):  # null directions are carried over: R_A T_null and T_null⁻¹ R_Bᵀ fill their places
        T_null, T_inv_null = _null_gauge(xp, R_A, R_B, U, Vt, live)
        zero = ~xp.any(live, axis=-1)  # AB = 0: the pair is returned as it is, whatever is computed here
        scale = xp.sqrt(xp.where(zero, 1.0, norm_B) / xp.where(zero, 1.0, norm_A))[..., None, None]
        T_null, T_inv_null = scale * T_null, T_inv_null / scale
        T, x, y = T + T_null, x + R_A @ T_null, y + T_inv_null @ R_B.mT
    return Hyperbalanced(Q_A, R_A, Q_B, R_B, C, U, Vt, live, root * keep, x, y, T, T_inv_null)


def pad_rows(xp: Any, A: Any) -> Any:
    """Adds zero rows to a factor with fewer rows than columns (r > min(a, b)), so that R is square."""
    missing = A.shape[-1] - A.shape[-2]
    return A if missing <= 0 else xp.concat([A] + [xp.zeros_like(A[..., :1, :])] * missing, axis=-2)


def normalized(xp: Any, A: Any, B: Any) -> tuple[Any, Any, Any, Any, Any]:
    """A and B scaled to entries of order 1 by powers of two, so that no product over- or underflows.

    Returns:
        Both scaled by 2^{-p}, 2^{-q}, with p + q even; the weights 2^{p − max(p, q)}, 2^{q − max(p, q)} of XᵀA and
        YBᵀ relative to each other; and the scale 2^{(p + q)/2} of the balanced pair. All (…, 1, 1), all exact.
    """
    p, q = exponents(xp, A), exponents(xp, B)
    if not bool(xp.all(xp.isfinite(p + q))):
        raise ValueError("A or B contains NaN or infinity; nothing was balanced")
    q = q + xp.remainder(p + q, 2.0 * xp.ones_like(q))
    top = xp.maximum(p, q)
    return A * 2.0**-p, B * 2.0**-q, 2.0 ** (p - top), 2.0 ** (q - top), 2.0 ** ((p + q) / 2)


def _stored(xp: Any, X: tuple[Any, Any], Y: tuple[Any, Any], size: Any, allowed: Any) -> Any:
    """(…) whether storing the balanced pair in its dtype moved XY by at most `allowed` past ordinary rounding.

    Args:
        xp: array namespace.
        X: the stored factor and its (…) norm, in units of `size`.
        Y: likewise.
        size: (…) powers of two.
        allowed: (…) change of the product, in units of `size`².
    """
    limits = xp.finfo(X[0].dtype)
    error = [subnormal_error(limits, M.shape[-2] * M.shape[-1]) / size for M, _ in (X, Y)]
    fits = error[0] * Y[1] + error[1] * X[1] <= allowed
    if not bool(xp.all(xp.maximum(X[1], Y[1]) * size <= float(limits.max))):
        for M, _ in (X, Y):
            fits = fits & xp.all(xp.isfinite(M), axis=(-2, -1))
    return fits


def _null_gauge(xp: Any, R_A: Any, R_B: Any, U: Any, Vt: Any, live: Any) -> tuple[Any, Any]:
    """The columns of T and rows of T⁻¹ that belong to null directions; zero in the live positions.

    N spans the null space of U_qᵀA, W that of (BV_q)ᵀ. With WᵀN = u c vᵀ the symmetric normalization
    N v c^{-1/2} and c^{-1/2} uᵀWᵀ makes them dual.
    """
    keep = xp.astype(live, xp.float64)
    null = 1 - keep
    N = xp.linalg.svd(keep[..., :, None] * (U.mT @ R_A))[2].mT * null[..., None, :]
    W = xp.linalg.svd(keep[..., :, None] * (Vt @ R_B))[2].mT * null[..., None, :]
    # the live block is filled with 2·I: larger than the singular values of WᵀN, so it sorts first
    u, c, vt = xp.linalg.svd(W.mT @ N + 2 * keep[..., None, :] * eye_like(xp, N))
    scale = null / xp.sqrt(xp.where(live, xp.ones_like(c), c))
    return N @ vt.mT * scale[..., None, :], scale[..., :, None] * u.mT @ W.mT


def refined(xp: Any, core: Hyperbalanced, x: Any, y: Any, T: Any, T_inv: Any) -> tuple[Any, Any]:
    """The pair (x, y) that T leads to from the hyperbalanced one, without the rounding error C − xy.

    The smallest change that removes it there, in the bases U and V, is carried over to the pair's own gauge.
    """
    dx, dy = _refinement(xp, core.U.mT @ (core.C - x @ y) @ core.Vt.mT, core.root)
    return x + core.U @ dx @ T, y + T_inv @ dy @ core.Vt


def _refinement(xp: Any, residual: Any, root: Any) -> tuple[Any, Any]:
    """One step of iterative refinement: removes the backward error of the SVD and of the rotation from xy.

    Of all corrections with S^{1/2}dy + dx·S^{1/2} = residual this is the smallest one,
    dx_ij = residual_ij √s_j/(s_i + s_j) and dy_ij = residual_ij √s_i/(s_i + s_j). It changes xᵀx and yyᵀ alike, so
    the pair stays balanced.

    Args:
        xp: array namespace.
        residual: (…, r, r) error of xy in the bases U, V.
        root: (…, r) square roots of the live singular values, 0 for null ones.
    """
    total = root[..., :, None] ** 2 + root[..., None, :] ** 2
    weighted = xp.where(total > 0, residual / xp.where(total > 0, total, 1.0), 0.0)
    return weighted * root[..., None, :], root[..., :, None] * weighted
