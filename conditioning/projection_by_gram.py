"""P from the Gram matrices AᵀA and BBᵀ: two passes over the factors, and r×r algebra between them.

With BBᵀ = LLᵀ and LᵀAᵀAL = VS²Vᵀ the gauge of the hyperbalanced pair (AT, T⁻¹B) is

    T = LVS^{-1/2},  T⁻¹ = S^{1/2}VᵀL⁻¹:   TᵀAᵀAT = S^{-1/2}(VᵀLᵀAᵀALV)S^{-1/2} = S,  T⁻¹BBᵀT⁻ᵀ = S^{1/2}VᵀVS^{1/2} = S.

The factors are read in single precision, and the r×r algebra is done in float64 where it needs that. So this serves
factors stored in at most float32; what float64 promises needs `projection_by_qr`, and so do pairs that Gram matrices
square out of reach.

What can go wrong, and how it is seen from r×r numbers alone (derived here). Let γ be the relative noise of the Gram
matrices, |δ(AᵀA)_ij| ≤ γ‖a_i‖‖a_j‖ (`tolerances.gram_noise`), u the unit roundoff of the arithmetic on the factors.

- *The product.* A(TT⁻¹ − I)B is the error of the triangular solve and of V's orthogonality, about r^{1/2} epsilons of
  the r×r algebra times ‖A‖‖B‖, whatever S and γ are: any invertible T would do. Rounding T and AT moves column j of X
  by O(u)‖A‖‖T_j‖, which meets row j of Y, so the product moves by at most O(u)‖A‖(Σ‖T_j‖²‖Y_j‖²)^{1/2}. In the
  hyperbalanced gauge that sum is ‖LV‖² = ‖B‖²; in the others it is measured, and up to 4‖B‖² accepted. Likewise for Y
  with Σ‖T⁻¹_j‖²‖X_j‖² = ‖A‖². That ‖X_j‖ and ‖Y_j‖ are what the Gram matrices say needs γe_j² ≤ ‖X_j‖²/4 for
  e_j² = Σ_k T_kj²‖a_k‖², and the same for Y with f_j.
- *The balance.* The noise of the Gram matrices is TᵀδT in XᵀX, about γe_ie_j in each entry if errors are independent,
  and γf_if_j in YYᵀ. Rounding T and AT (`tolerances.change_noise`, ν) moves X by ν(Σe_j²)^{1/2} and XᵀX by 2‖X‖ times
  that. So ‖XᵀX − YYᵀ‖_F is at most γ(Σe_j² + Σf_j²) + 2ν(Σs_j)^{1/2}((Σe_j²)^{1/2} + (Σf_j²)^{1/2}), of which only a
  share of what `balance_rtol` allows is accepted. After the first P of a training T is near I and e_j², f_j² are near
  s_j, however ill-conditioned the pair is: then this route always serves.
- *The r×r algebra* itself has noise δM in LᵀAᵀAL, of Frobenius norm ‖δM‖ = η·s_1² (`tolerances.eigen_noise`), which is
  S^{-1/2}VᵀδMVS^{-1/2} in XᵀX: about ‖δM‖·Σ(1/s_j)/r if its entries are independent. That counts as the errors before
  do, and it must not exceed s_r²/4.
- *Rank.* Singular values of AB that may be below `rank_rtol` are left to the other route, which can tell them from 0:
  s_r must exceed twice that share of an upper bound of σ₁(A)σ₁(B).
- *Range.* Squares of entries must not under- or overflow: traces between 2^-40 and 2^40 are accepted.

A pair that fails in single precision is tried in float64, where γ and ν are 2^29 times smaller.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device, is_torch_namespace

from lorakappa.conditioning.checks import eye_like
from lorakappa.conditioning.projection_gauges import Gauge, rotation, signs, subnormal_error
from lorakappa.conditioning.tolerances import (
    GRAM_SHARE,
    PRODUCT_RTOL,
    balance_rtol,
    change_noise,
    eigen_noise,
    gram_chunk,
    gram_noise,
    rank_rtol,
)

RANGE = 2.0**40
"""Traces of Gram matrices between 1/RANGE and RANGE are accepted."""

CACHED = 2**16
"""Entries of (r, r) matrices, half a megabyte of them, that are worked on at once on a processor."""

LEAST_SINGLE = 32
"""From this r on the r×r algebra is tried in single precision first."""

LEAST_WIDTH = 16
"""Narrower factors are folded (`gram`): BLAS is slow, and adds up in one long chain, below this width."""


class Gauges(NamedTuple):
    """Gauges of a stack of pairs.

    Attributes:
        factors: (…, 2, r, r) matrices T and T⁻ᵀ, by which A and Bᵀ are multiplied; I where not `safe`.
        safe: (…) bool, whether (AT, T⁻¹B) is what `balance` promises.
    """

    factors: Any
    safe: Any


def balance_by_gram(xp: Any, A: Any, B: Any, gauge: Gauge) -> tuple[Any, Any, Any]:
    """The balanced pairs of a stack, and where they are what `balance` promises.

    Args:
        xp: array namespace.
        A: (…, a, r), of at most single precision.
        B: (…, r, b).
        gauge: which balanced pair.

    Returns:
        (…, a, r) and (…, r, b) of the dtype given, and (…) bool; where that is False the pair means nothing.
    """
    with full_precision(xp), np.errstate(all="ignore"):
        X, Y, safe = _balanced(xp, A, B, gauge, xp.float32)
        safe = xp.asarray(safe)  # NumPy makes a scalar of a single pair's
        left = ~safe
        if bool(xp.any(left)):
            X[left], Y[left], safe[left] = _balanced(xp, A[left], B[left], gauge, xp.float64)
    return X, Y, safe


def _balanced(xp: Any, A: Any, B: Any, gauge: Gauge, arithmetic: Any) -> tuple[Any, Any, Any]:
    """`balance_by_gram` with Gram matrices and products of one dtype."""
    storage, entries = xp.finfo(A.dtype), sum(M.shape[-2] * M.shape[-1] for M in (A, B))
    left, right = xp.astype(A, arithmetic, copy=False), xp.astype(B, arithmetic, copy=False)
    G = xp.stack([gram(xp, left, -2), gram(xp, right, -1)], axis=-3)
    factors, safe = gauges_in(xp, G, gauge, arithmetic, storage=storage, entries=entries)
    X, Y = moved(xp, left, factors[..., 0, :, :]), factors[..., 1, :, :].mT @ right
    return xp.astype(X, A.dtype, copy=False), xp.astype(Y, B.dtype, copy=False), safe


def gram(xp: Any, M: Any, axis: int) -> Any:
    """MᵀM (axis −2) or MMᵀ (axis −1) in float64, added up in chunks of M's own precision.

    No chain of additions in the precision of M is longer than `tolerances.gram_chunk`. Where r is small, a matrix n×r
    is read as one of n/k × kr, whose Gram matrix has MᵀM as the sum of k diagonal blocks: more operations, fewer
    seconds.

    Args:
        xp: array namespace.
        M: (…, n, r) or (…, r, n).
        axis: the one of n.

    Returns:
        (…, r, r) float64.
    """
    parts, rest = chunked(xp, M, axis)
    products = xp.sum(parts @ parts.mT, axis=-3, dtype=xp.float64)
    total = diagonal_blocks(xp, products, M.shape[-3 - axis], axis)
    return total if rest is None else total + rest.mT @ rest


def chunked(xp: Any, M: Any, axis: int) -> tuple[Any, Any]:
    """A factor as `gram` reads it: views (…, c, kr, l), and what no chunk took as (…, m, r) in float64 or None.

    The sum of the c matrices parts·partsᵀ holds the Gram matrix in its `diagonal_blocks`.
    """
    n, r = M.shape[axis], M.shape[-3 - axis]
    fold, chunks, length = _split(n, r)
    lead, taken = M.shape[:-2], fold * chunks * length
    rest = None
    if taken < n:
        rest = xp.astype(M[..., taken:, :] if axis == -2 else M[..., taken:].mT, xp.float64)
        M = M[..., :taken, :] if axis == -2 else M[..., :taken]
    if axis == -2:
        return xp.reshape(M, (*lead, chunks, length, fold * r)).mT, rest
    return xp.moveaxis(xp.reshape(M, (*lead, r * fold, chunks, length)), -2, -3), rest


def diagonal_blocks(xp: Any, products: Any, r: int, axis: int) -> Any:
    """(…, r, r) sum of the k blocks of (…, kr, kr) products, kr counting k×r (axis −2) or r×k (axis −1)."""
    fold, lead = products.shape[-1] // r, products.shape[:-2]
    if fold == 1:
        return products
    if axis == -2:
        blocks = xp.moveaxis(xp.reshape(products, (*lead, fold, r, fold, r)), (-4, -2), (-2, -1))
    else:
        blocks = xp.moveaxis(xp.reshape(products, (*lead, r, fold, r, fold)), (-3, -1), (-2, -1))
    return xp.sum(xp.linalg.diagonal(blocks), axis=-1)


def moved(xp: Any, A: Any, T: Any) -> Any:
    """AT, folded where A is narrow.

    Args:
        xp: array namespace.
        A: (…, a, r).
        T: (…, r, r) of the same dtype.

    Returns:
        (…, a, r).
    """
    wide = folded(xp, A)
    return xp.reshape(wide @ repeated(xp, T, wide.shape[-1] // A.shape[-1]), A.shape)


def folded(xp: Any, A: Any) -> Any:
    """A narrow A (…, a, r) read as (…, a/k, kr); A itself where it is wide or k does not divide a."""
    a, r = A.shape[-2:]
    fold = _fold(r)
    return A if fold == 1 or a % fold else xp.reshape(A, (*A.shape[:-2], a // fold, fold * r))


def repeated(xp: Any, T: Any, times: int) -> Any:
    """The block diagonal (…, kr, kr) of k times T (…, r, r)."""
    if times == 1:
        return T
    lead, r = T.shape[:-2], T.shape[-1]
    block = xp.zeros((*lead, times, r, times, r), dtype=T.dtype, device=device(T))
    for i in range(times):
        block[..., i, :, i, :] = T
    return xp.reshape(block, (*lead, times * r, times * r))


def gauges_in(xp: Any, G: Any, gauge: Gauge, arithmetic: Any, *, storage: Any, entries: int) -> Gauges:
    """`gauges` of a stack for factors that are multiplied in some dtype, as fast as a processor can.

    So many matrices at a time that they stay in its cache, and in single precision first where eigenvectors are what
    takes the time and the factors are single themselves. A GPU does all at once in float64: it need not be asked.

    Args:
        xp: array namespace.
        G: (…, 2, r, r) float64 matrices AᵀA and BBᵀ.
        gauge: which balanced pair.
        arithmetic: dtype that the Gram matrices come from and the factors will be multiplied in.
        storage: as for `gauges`.
        entries: likewise.

    Returns:
        The gauges, in that dtype.
    """
    options = {"storage": storage, "entries": entries, "eps": float(xp.finfo(arithmetic).eps)}
    on_host, r = str(device(G)) == "cpu", G.shape[-1]
    stack = xp.reshape(G, (-1, *G.shape[-3:]))
    at_once = max(1, CACHED // r**2) if on_host else len(stack)
    found = []
    for start in range(0, len(stack), at_once):
        part = stack[start : start + at_once]
        if not (on_host and r >= LEAST_SINGLE and arithmetic == xp.float32):
            factors, safe = gauges(xp, part, gauge, **options)
        else:
            factors, safe = gauges(xp, xp.astype(part, xp.float32), gauge, **options)
            left = ~safe
            if bool(xp.any(left)):
                again, safe[left] = gauges(xp, part[left], gauge, **options)
                factors[left] = xp.astype(again, xp.float32)
        found.append((xp.astype(factors, arithmetic, copy=False), safe))
    factors, safe = (one[0] if len(one) == 1 else xp.concat(one) for one in zip(*found, strict=True))
    return Gauges(xp.reshape(factors, G.shape), xp.reshape(safe, G.shape[:-3]))


def gauges(xp: Any, G: Any, gauge: Gauge, *, storage: Any, entries: int, eps: float, slack: float = 1.0) -> Gauges:
    """The gauges of balanced pairs from Gram matrices, and which of them can be trusted (module docstring).

    NaN and infinity, wherever they come from, fail every comparison and so end as not safe (NumPy warns of them).

    Args:
        xp: array namespace.
        G: (…, 2, r, r) matrices AᵀA and BBᵀ, float64 or float32; that is what is computed in.
        gauge: which balanced pair.
        storage: `finfo` of the dtype that the balanced pair is stored in.
        entries: of A and B together.
        eps: ε of the arithmetic that the Gram matrices come from and the factors will be multiplied in.
        slack: how many times as unbalanced as `balance` promises the pairs may be.

    Returns:
        The gauges; on a GPU nothing is copied to the host.
    """
    r, stored = G.shape[-1], float(storage.eps)
    squares = xp.linalg.diagonal(G)  # ‖a_k‖² and ‖b_k‖²
    L, found = cholesky(xp, G[..., 1, :, :])
    M = L.mT @ G[..., 0, :, :] @ L
    found = found & xp.isfinite(xp.sum(M, axis=(-2, -1)))
    L, M = or_identity(xp, found, L), or_identity(xp, found, M)
    S2, V = xp.linalg.eigh(M)
    S2, V = xp.flip(S2, axis=-1), xp.flip(V, axis=-1)
    S = xp.sqrt(S2)

    # T and T⁻ᵀ of the hyperbalanced pair, then of the gauge asked for, whose factors have squared norms `lengths`
    root = xp.sqrt(S)[..., None, :]
    factors, lengths = xp.stack([L @ V / root, _solved(xp, L.mT, V * root)], axis=-3), S
    if gauge == "hyperbalanced":
        factors = factors * signs(xp, xp.sum(factors * G, axis=(-3, -2)))[..., None, None, :]
    else:
        known = found & xp.isfinite(xp.sum(factors, axis=(-3, -2, -1)))
        overlap = or_identity(xp, known, xp.sum(factors.mT @ G, axis=-3))
        O = rotation(xp, gauge, overlap, or_identity(xp, known, factors[..., 0, :, :]))
        factors, lengths = factors @ O[..., None, :, :], xp.sum(O * O * S[..., :, None], axis=-2)

    # the conditions of the module docstring: rank and range, then product and balance, then storage
    traces, size = xp.sum(squares, axis=-1), xp.sum(S, axis=-1)
    own = eigen_noise(float(xp.finfo(G.dtype).eps), r) * S2[..., 0]
    safe = found & (xp.min(xp.minimum(traces, 1 / traces), axis=-1) >= 1 / RANGE)
    safe = safe & (S2[..., -1] > (2 * rank_rtol(stored, r)) ** 2 * _squared_norms(xp, G, stored > eps))
    factors2 = factors * factors
    moved2 = xp.sum(factors2 * squares[..., None], axis=-2)  # e_j² and f_j²
    noise = gram_noise(eps, r)
    safe = safe & (xp.max(moved2 / lengths[..., None, :], axis=(-2, -1)) <= 1 / (4 * noise))
    amplified = xp.sum(moved2, axis=-1) / size[..., None]  # Σe_j²/Σs_j and Σf_j²/Σs_j
    error = xp.sum(noise * amplified + 2 * change_noise(eps, r) * xp.sqrt(amplified), axis=-1)
    error = error + own / size * xp.mean(1 / S, axis=-1)
    safe = safe & (4 * own <= S2[..., -1])
    safe = safe & (error <= slack * 2 * GRAM_SHARE * balance_rtol(stored, r))
    if gauge != "hyperbalanced":
        grown = xp.sum(factors2 * lengths[..., None, None, :], axis=(-2, -1))
        safe = safe & xp.all(grown <= 4 * xp.flip(traces, axis=-1), axis=-1)
    lost = 2 * subnormal_error(storage, entries) / (PRODUCT_RTOL / 4 * stored)
    safe = safe & (lost**2 * size <= traces[..., 0] * traces[..., 1]) & (size <= float(storage.max) ** 2)
    return Gauges(or_identity(xp, safe, factors), safe)


@lru_cache(maxsize=256)
def _split(n: int, r: int) -> tuple[int, int, int]:
    """(k, c, l): how `gram` reads n rows of r entries, as c chunks of l rows of kr entries; k·c·l ≤ n.

    Shorter chunks than `gram_chunk` allows are taken where they leave no remainder.
    """
    fold = min(_fold(r), n)
    least = -(-n // (fold * gram_chunk(r)))
    chunks = next((c for c in range(least, 4 * least + 1) if n % (fold * c) == 0), least)
    return fold, chunks, n // (fold * chunks)


def _fold(r: int) -> int:
    """How many rows of a narrow factor are read as one."""
    return 1 if r >= LEAST_WIDTH else 2 ** math.ceil(math.log2(LEAST_WIDTH / r))


def or_identity(xp: Any, fine: Any, M: Any) -> Any:
    """M (…, r, r) or (…, 2, r, r), and I where it is not `fine` (…); on a GPU without asking whether there are such."""
    if str(device(fine)) == "cpu" and bool(xp.all(fine)):
        return M
    return xp.where(xp.reshape(fine, (*fine.shape, *(1,) * (M.ndim - fine.ndim))), M, eye_like(xp, M))


def cholesky(xp: Any, G: Any) -> tuple[Any, Any]:
    """The lower factor, and (…) whether there is one; no exception, and no wait for a GPU."""
    if is_torch_namespace(xp):
        L, info = xp.linalg.cholesky_ex(G)
        return L, info == 0
    try:
        return xp.linalg.cholesky(G), xp.ones(G.shape[:-2], dtype=bool)
    except xp.linalg.LinAlgError:  # one of them has none: each by itself
        if G.ndim == 2:
            return G, xp.zeros((), dtype=bool)
        parts = [cholesky(xp, one) for one in G]
        return xp.stack([L for L, _ in parts]), xp.stack([found for _, found in parts])


def _squared_norms(xp: Any, G: Any, closely: bool) -> Any:
    """(…) upper bound of σ₁(A)²σ₁(B)², at most r times as large; closely, r^{1/2} times.

    σ₁(G) ≤ ‖G‖_F ≤ r^{1/2}σ₁(G), and the same for G² = GᵀG, whose σ₁ is σ₁(G)².
    """
    norms = xp.sqrt(xp.linalg.matrix_norm(G @ G)) if closely else xp.linalg.matrix_norm(G)
    return norms[..., 0] * norms[..., 1]


def _solved(xp: Any, U: Any, M: Any) -> Any:
    """U⁻¹M for upper triangular U."""
    if is_torch_namespace(xp):
        return xp.linalg.solve_triangular(U, M, upper=True)
    return xp.linalg.solve(U, M)


@contextmanager
def full_precision(xp: Any) -> Iterator[None]:
    """Products of float32 matrices have float32's precision inside, whatever torch was told outside.

    Autocasting and the reduced precisions (TensorFloat-32, bfloat16) would leave AB with errors of 1e-3.
    """
    if not is_torch_namespace(xp):
        yield
        return
    import torch

    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        for backend in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):  # type: ignore[attr-defined]
            if getattr(backend, "fp32_precision", "none") not in ("none", "ieee"):  # torch ≥ 2.9
                stack.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
                backend.fp32_precision = "ieee"
        if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        yield
