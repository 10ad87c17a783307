"""How far two pairs are from each other as products: norms, angles and the SVD of sAB − s'A'B', through small matrices.

With [A A'] = Q[R R'] and [Bᵀ B'ᵀ] = Q̃[R̃ R̃'] both products live in one pair of orthonormal bases, as C = R R̃ᵀ and
C' = R' R̃'ᵀ of r + r' rows and columns, and so do their difference and their singular vectors (derived here).

Factors stored in at most single precision need no QR factorization, which is several times slower than a Gram matrix:
of G = [A A']ᵀ[A A'] = WDWᵀ the root D^{1/2}Wᵀ is as good as [R R']. It has errors of EPS^{1/2}, relative to
Σ_j ‖a_j‖‖b_j‖ in what becomes of it; where that is not far below the difference, QR factorizations are made after all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device
from scipy.linalg import subspace_angles

from lorakappa.conditioning.checks import factor_namespace
from lorakappa.conditioning.tolerances import EPS, ROOT_DIFFERENCE, rank_rtol
from lorakappa.conditioning.truncation import equilibrated


@dataclass(frozen=True)
class ProductDifference:
    """The difference W − W' of two products W = sAB and W' = s'A'B'.

    What leaves float64's range, by itself or beside the larger product, is 0 or infinity.

    Attributes:
        norms: ‖W‖_F and ‖W'‖_F.
        distance: ‖W − W'‖_F; 0 where both pairs and scales are the same to the last bit.
        spectral_distance: ‖W − W'‖₂, its largest singular value.
        relative: distance over the larger norm, between 0 and 2; 0 where both are 0.
        change: distance over ‖W‖_F, infinite where only W is 0.
        cosine: ⟨W, W'⟩/(‖W‖_F‖W'‖_F); 0 if one of them is 0.
        ranks: numerical ranks of W and W' (`tolerances.rank_rtol`).
        left_angles: principal angles of their column spaces in radians, descending, as many as the smaller rank.
        right_angles: likewise of their row spaces.
    """

    norms: tuple[float, float]
    distance: float
    spectral_distance: float
    relative: float
    change: float
    cosine: float
    ranks: tuple[int, int]
    left_angles: tuple[float, ...]
    right_angles: tuple[float, ...]


class ProductChange(NamedTuple):
    """How much a product changed.

    Attributes:
        change: ‖W − W'‖_F/‖W‖_F, infinite where only W is 0, and 0 where both pairs and scales are the same.
        amplification: the larger Σ_j ‖a_j‖‖b_j‖ of both pairs, scales included, over ‖W‖_F: by which rounding of the
            factors, relative to them, becomes one of the product.
    """

    change: float
    amplification: float


def product_difference(
    first: tuple[Any, Any], second: tuple[Any, Any], *, scales: tuple[float, float] = (1.0, 1.0)
) -> ProductDifference:
    """Compares two pairs by their products, which are not formed.

    Args:
        first: A (a, r) and B (r, b), NumPy arrays or torch tensors of one real floating dtype.
        second: A' (a, r') and B' (r', b) of the same library; rank and dtype may be others.
        scales: finite s and s', such as LoRA's α/r.

    Returns:
        Norms, distances and angles.

    Raises:
        TypeError: as for `balance`.
        ValueError: on mismatched shapes, an empty array, NaN or infinity.
    """
    both = _Both(first, second, scales)
    for root in (_gram_root, _qr_root) if both.single else (_qr_root,):
        roots = [[R[:, : both.r], R[:, both.r :]] for R in (root(both.A), root(both.B.mT))]
        C, C_other = (R @ R_tilde.T for R, R_tilde in zip(*roots, strict=True))
        D = C - C_other
        sizes = [_size(R, R_tilde) for R, R_tilde in zip(*roots, strict=True)]
        if both.same or _norm(D) > ROOT_DIFFERENCE * max(sizes):
            break
    D = np.zeros_like(D) if both.same else D
    spans = [
        _spans(M, rank_rtol(eps, len(M)) * _spectral(R) * _spectral(R_tilde))
        for M, eps, R, R_tilde in zip((C, C_other), both.eps, *roots, strict=True)
    ]
    norms, distance = (_norm(C), _norm(C_other)), _norm(D)
    return ProductDifference(
        norms=(_times(norms[0], both.exponent), _times(norms[1], both.exponent)),
        distance=_times(distance, both.exponent),
        spectral_distance=_times(_spectral(D), both.exponent),
        relative=distance / max(norms) if max(norms) else distance,
        change=_quotient(distance, norms[0]),
        cosine=float(np.clip(np.vdot(C / norms[0], C_other / norms[1]), -1, 1)) if min(norms) else 0.0,
        ranks=(spans[0][0].shape[1], spans[1][0].shape[1]),
        left_angles=_angles(spans[0][0], spans[1][0]),
        right_angles=_angles(spans[0][1], spans[1][1]),
    )


def product_change(
    first: tuple[Any, Any],
    second: tuple[Any, Any],
    *,
    scales: tuple[float | Sequence[float], float | Sequence[float]] = (1.0, 1.0),
) -> ProductChange:
    """What of `product_difference` tells a stored product from the one it was to be; the fastest of it.

    Args:
        first: A (a, r) and B (r, b), NumPy arrays or torch tensors of one real floating dtype.
        second: A' (a, r') and B' (r', b) of the same library; rank and dtype may be others.
        scales: finite s and s', or one for each column of A or A'.

    Returns:
        The relative change, and what rounding of the factors is multiplied by.

    Raises:
        TypeError: as for `balance`.
        ValueError: on mismatched shapes, an empty array, NaN or infinity.
    """
    both = _Both(first, second, scales)
    r, sign = both.r, np.ones(both.A.shape[1])
    sign[r:] = -1
    if both.single:
        G, G_tilde = _numpy(both.A.mT @ both.A), _numpy(both.B @ both.B.mT)
        lengths = np.sqrt(np.diag(G) * np.diag(G_tilde))
        squares = G * G_tilde
        norm = math.sqrt(max(0.0, float(squares[:r, :r].sum())))
        distance = math.sqrt(max(0.0, float(sign @ squares @ sign)))
    size = max(float(lengths[:r].sum()), float(lengths[r:].sum())) if both.single else 0.0
    if not both.single or min(distance, norm) <= ROOT_DIFFERENCE * size:
        R, R_tilde = _qr_root(both.A), _qr_root(both.B.mT)
        size = max(_size(R[:, part], R_tilde[:, part]) for part in (slice(None, r), slice(r, None)))
        norm, distance = _norm(R[:, :r] @ R_tilde[:, :r].T), _norm(R * sign @ R_tilde.T)
    return ProductChange(0.0 if both.same else _quotient(distance, norm), _quotient(size, norm))


class _Both:
    """Two pairs, checked, in one unit.

    Attributes:
        A: [A A'] in float64.
        B: [B; B'], scaled so that the blocks have the products W/2^exponent and W'/2^exponent.
        exponent: a whole number.
        r: number of columns of the first pair.
        eps: of the dtypes of both pairs.
        single: whether both are of at most single precision.
        same: whether they are the same to the last bit.
    """

    def __init__(self, first: tuple[Any, Any], second: tuple[Any, Any], scales: tuple[Any, Any]) -> None:
        xp = factor_namespace(*first)
        factor_namespace(*second)
        shapes = [(A.shape[0], B.shape[1]) if A.ndim == 2 else None for A, B in (first, second)]
        if shapes[0] is None or shapes[0] != shapes[1]:
            raise ValueError(f"products of factors {_shown(first)} and {_shown(second)} cannot be compared")
        columns = [[scale] if isinstance(scale, int | float) else list(scale) for scale in scales]
        if not all(math.isfinite(s) for scale in columns for s in scale):
            raise ValueError(f"scales {scales[0]} and {scales[1]} must be finite")
        self.A, self.B, self.exponent = _in_one_unit(xp, first, second, columns)
        self.r = first[0].shape[-1]
        self.eps = [max(EPS, float(xp.finfo(pair[0].dtype).eps)) for pair in (first, second)]
        self.single = all(pair[0].dtype.itemsize <= 4 for pair in (first, second))
        alike = first[0].shape == second[0].shape and first[0].dtype == second[0].dtype and columns[0] == columns[1]
        self.same = alike and all(bool(xp.all(F == G)) for F, G in zip(first, second, strict=True))


def _in_one_unit(
    xp: Any, first: tuple[Any, Any], second: tuple[Any, Any], scales: list[list[float]]
) -> tuple[Any, Any, int]:
    """What `_Both` calls A, B and exponent, for scales by column or one for all."""
    lefts, rights, exponents = [], [], []
    for (A, B), columns in zip((first, second), scales, strict=True):
        left, right, e = equilibrated(xp, xp.astype(A, xp.float64), xp.astype(B, xp.float64))
        p = math.frexp(max(map(abs, columns)))[1]
        p += p % 2
        weights = xp.asarray([math.ldexp(s, -p) for s in columns], dtype=xp.float64, device=device(left))
        lefts.append(left * weights)
        rights.append(right)
        exponents.append(int(e) + p)
    top = max((e for e, left in zip(exponents, lefts, strict=True) if bool(xp.any(left != 0))), default=0)
    halves = [2.0 ** min(0, (e - top) // 2) for e in exponents]
    lefts = [left * half for left, half in zip(lefts, halves, strict=True)]
    rights = [right * half for right, half in zip(rights, halves, strict=True)]
    return xp.concat(lefts, axis=1), xp.concat(rights, axis=0), top


def _qr_root(M: Any) -> Any:
    """R of M = QR, as a NumPy array."""
    return np.linalg.qr(_numpy(M), mode="r")


def _gram_root(M: Any) -> Any:
    """R with RᵀR = MᵀM up to rounding of MᵀM, as a NumPy array."""
    D, W = np.linalg.eigh(_numpy(M.mT @ M))
    return np.sqrt(np.maximum(D, 0))[:, None] * W.T


def _numpy(M: Any) -> Any:
    return M if isinstance(M, np.ndarray) else M.detach().cpu().numpy()


def _size(R: Any, R_tilde: Any) -> float:
    """Σ_j ‖a_j‖‖b_j‖ of a product."""
    return float((np.linalg.norm(R, axis=0) * np.linalg.norm(R_tilde, axis=0)).sum())


def _norm(C: Any) -> float:
    return float(np.linalg.norm(C))


def _spectral(C: Any) -> float:
    return float(np.linalg.norm(C, 2))


def _quotient(value: float, by: float) -> float:
    """value/by: infinite for a value over 0, but 0/0 = 0."""
    return value / by if by else math.inf if value else 0.0


def _times(value: float, e: int) -> float:
    """value·2^e: infinity where that is beyond float64."""
    try:
        return math.ldexp(value, e)
    except OverflowError:
        return math.inf


def _spans(C: Any, noise: float) -> tuple[Any, Any]:
    """Orthonormal bases of the column and the row space of a product, without singular values down to the noise."""
    U, s, Vt = np.linalg.svd(C)
    rank = int((s > noise).sum())
    return U[:, :rank], Vt[:rank].T


def _angles(first: Any, second: Any) -> tuple[float, ...]:
    """Principal angles of two column spaces, descending; none where one is 0."""
    if 0 in (first.shape[1], second.shape[1]):
        return ()
    return tuple(subspace_angles(first, second).tolist())


def _shown(pair: tuple[Any, Any]) -> str:
    return " and ".join(str(tuple(M.shape)) for M in pair)
