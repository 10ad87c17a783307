"""P from the Gram matrices AᵀA and BBᵀ: two passes over the factors, and r×r algebra between them.

With BBᵀ = LLᵀ and LᵀAᵀAL = VS²Vᵀ the gauge of the hyperbalanced pair (AT, T⁻¹B) is

    T = LVS^{-1/2},  T⁻¹ = S^{1/2}VᵀL⁻¹:   TᵀAᵀAT = S^{-1/2}(VᵀLᵀAᵀALV)S^{-1/2} = S,  T⁻¹BBᵀT⁻ᵀ = S^{1/2}VᵀVS^{1/2} = S.

The factors are read in single precision, the r×r algebra is done in float64. So this serves factors stored in at most
float32; what float64 promises needs `projection_by_qr`, and so do pairs that Gram matrices square out of reach.

What can go wrong, and how it is seen from r×r numbers alone (derived here). Let γ be the relative noise of the Gram
matrices, |δ(AᵀA)_ij| ≤ γ‖a_i‖‖a_j‖ (`tolerances.gram_noise`), u the unit roundoff of the arithmetic on the factors.

- *The product.* A(TT⁻¹ − I)B is the error of Cholesky's triangular solve in float64, a few r·EPS·‖A‖‖B‖ whatever S
  and γ are: any invertible T would do. Rounding T and AT moves column j of X by O(u)‖A‖‖T_j‖, which meets row j of Y,
  so the product moves by at most O(u)‖A‖(Σ‖T_j‖²‖Y_j‖²)^{1/2}. In the hyperbalanced gauge that sum is ‖LV‖² = ‖B‖²;
  in the others it is measured, and up to 4‖B‖² accepted. Likewise for Y with Σ‖T⁻¹_j‖²‖X_j‖² = ‖A‖². That ‖X_j‖ and
  ‖Y_j‖ are what the Gram matrices say needs γe_j² ≤ ‖X_j‖²/4 for e_j² = Σ_k T_kj²‖a_k‖², and the same for Y with f_j.
- *The balance.* XᵀX is off by TᵀδT, whose entries are about γe_ie_j if errors are independent, and YYᵀ by γf_if_j, so
  ‖XᵀX − YYᵀ‖_F by at most γ(Σe_j² + Σf_j²). That must stay a share of what `balance_rtol` allows. After the first P of
  a training T is near I and e_j² near s_j, however ill-conditioned the pair is: then this route always serves.
- *Rank.* Singular values of AB near `rank_rtol` are left to the other route, which can tell them from 0.
- *Range.* Squares of entries must not under- or overflow: traces between 2^-40 and 2^40 are accepted.

A pair that fails with Gram matrices of single precision gets them in float64, where γ is 2^29 times smaller.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from array_api_compat import device, is_torch_namespace

from lorakappa.conditioning.checks import eye_like
from lorakappa.conditioning.projection_gauges import Gauge, rotation, signs, subnormal_error
from lorakappa.conditioning.tolerances import (
    GRAM_SHARE,
    PRODUCT_RTOL,
    balance_rtol,
    gram_chunk,
    gram_noise,
    rank_rtol,
)

RANGE = 2.0**40
"""Traces of Gram matrices between 1/RANGE and RANGE are accepted."""

LEAST_WIDTH = 16
"""Narrower factors are folded (`gram`): BLAS is slow, and adds up in one long chain, below this width."""


class Gauges(NamedTuple):
    """Gauges of a stack of pairs.

    Attributes:
        T: (…, r, r) float64; I where not `safe`.
        T_inv: (…, r, r) its inverse.
        safe: (…) bool, whether (AT, T⁻¹B) is what `balance` promises.
    """

    T: Any
    T_inv: Any
    safe: Any


def balance_by_gram(xp: Any, A: Any, B: Any, gauge: Gauge) -> tuple[Any, Any, Any]:
    """The balanced pairs of a stack, and where they are what `balance` promises.

    Args:
        xp: array namespace.
        A: (…, a, r), of at most single precision.
        B: (…, r, b).
        gauge: which balanced pair.

    Returns:
        (…, a, r) and (…, r, b) of the dtype given, and (…) bool; where that is False the pair is the given one.
    """
    storage, entries = xp.finfo(A.dtype), sum(M.shape[-2] * M.shape[-1] for M in (A, B))

    def found_with(A: Any, B: Any) -> Gauges:
        noise = gram_noise(float(xp.finfo(A.dtype).eps), A.shape[-1])
        G_A, G_B = gram(xp, A, -2), gram(xp, B, -1)
        return gauges(xp, G_A, G_B, gauge, storage=storage, entries=entries, noise=noise)

    with full_precision(xp):
        A32, B32 = xp.astype(A, xp.float32, copy=False), xp.astype(B, xp.float32, copy=False)
        found = found_with(A32, B32)
        left = ~found.safe
        if bool(xp.any(left)):
            again = found_with(xp.astype(A[left], xp.float64), xp.astype(B[left], xp.float64))
            for first, second in zip(found, again, strict=True):
                first[left] = second
        X = moved(xp, A32, xp.astype(found.T, xp.float32))
        Y = xp.astype(found.T_inv, xp.float32) @ B32
    return xp.astype(X, A.dtype, copy=False), xp.astype(Y, B.dtype, copy=False), found.safe


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
    n, r = M.shape[axis], M.shape[-3 - axis]
    fold, chunks, length = _split(n, r)
    lead, taken = M.shape[:-2], fold * chunks * length
    if axis == -2:
        parts = xp.reshape(M[..., :taken, :], (*lead, chunks, length, fold * r))
        total = xp.sum(parts.mT @ parts, axis=-3, dtype=xp.float64)
        total = _diagonal_blocks(xp, xp.reshape(total, (*lead, fold, r, fold, r)), (-4, -2))
    else:
        parts = xp.moveaxis(xp.reshape(M[..., :taken], (*lead, r * fold, chunks, length)), -2, -3)
        total = xp.sum(parts @ parts.mT, axis=-3, dtype=xp.float64)
        total = _diagonal_blocks(xp, xp.reshape(total, (*lead, r, fold, r, fold)), (-3, -1))
    if taken < n:  # a few rows or columns that no chunk took
        rest = xp.astype(M[..., taken:, :] if axis == -2 else M[..., taken:].mT, xp.float64)
        total = total + rest.mT @ rest
    return total


def moved(xp: Any, A: Any, T: Any) -> Any:
    """AT, folded as in `gram` where A is narrow and its memory allows it.

    Args:
        xp: array namespace.
        A: (…, a, r).
        T: (…, r, r) of the same dtype.

    Returns:
        (…, a, r).
    """
    a, r = A.shape[-2:]
    fold = _fold(r)
    if fold == 1 or a % fold:
        return A @ T
    lead = A.shape[:-2]
    wide = xp.zeros((*lead, fold, r, fold, r), dtype=T.dtype, device=device(T))
    for i in range(fold):
        wide[..., i, :, i, :] = T
    wide = xp.reshape(wide, (*lead, fold * r, fold * r))
    return xp.reshape(xp.reshape(A, (*lead, a // fold, fold * r)) @ wide, A.shape)


def gauges(xp: Any, G_A: Any, G_B: Any, gauge: Gauge, *, storage: Any, entries: int, noise: float) -> Gauges:
    """The gauges of balanced pairs from Gram matrices, and which of them can be trusted (module docstring).

    Args:
        xp: array namespace.
        G_A: (…, r, r) float64 matrices AᵀA.
        G_B: (…, r, r) float64 matrices BBᵀ.
        gauge: which balanced pair.
        storage: `finfo` of the dtype that the balanced pair is stored in.
        entries: of A and B together.
        noise: γ, the relative noise of the Gram matrices.

    Returns:
        The gauges. Nothing is copied to the host.
    """
    eps, identity = float(storage.eps), xp.broadcast_to(eye_like(xp, G_A), G_A.shape)
    trace_A, trace_B = (xp.linalg.trace(G) for G in (G_A, G_B))
    fine = (xp.minimum(trace_A, trace_B) >= 1 / RANGE) & (xp.maximum(trace_A, trace_B) <= RANGE)  # False at NaN
    G_A, G_B = _or_identity(xp, fine, (G_A, G_B), identity)
    L, positive = _cholesky(xp, G_B)
    fine = fine & positive
    (L,) = _or_identity(xp, fine, (L,), identity)
    square, V = xp.linalg.eigh(L.mT @ G_A @ L)
    S, V = xp.sqrt(xp.clip(xp.flip(square, axis=-1), 0.0, None)), xp.flip(V, axis=-1)
    given = xp.sqrt(trace_A * trace_B)
    fine = fine & (S[..., -1] > 4 * rank_rtol(eps, S.shape[-1]) * given)

    # T and T⁻¹ of the hyperbalanced pair, then of the gauge asked for, whose factors have squared norms `lengths`
    root = xp.sqrt(xp.where(fine[..., None], S, xp.ones_like(S)))
    T, T_inv = L @ V / root[..., None, :], _divided(xp, root[..., :, None] * V.mT, L)
    if gauge == "hyperbalanced":
        O, lengths = signs(xp, xp.sum(T * G_A, axis=-2) + xp.sum(T_inv * G_B, axis=-1)), S
        T, T_inv = T * O[..., None, :], O[..., :, None] * T_inv
    else:
        overlap, T, T_inv = _or_identity(xp, fine, (T.mT @ G_A + T_inv @ G_B, T, T_inv), identity)
        O = rotation(xp, gauge, overlap, T)
        T, T_inv, lengths = T @ O, O.mT @ T_inv, xp.sum(O * O * S[..., :, None], axis=-2)
        squares_A, squares_B = (xp.linalg.vector_norm(M, axis=axis) ** 2 for M, axis in ((T, -2), (T_inv, -1)))
        fine = fine & (xp.sum(squares_A * lengths, axis=-1) <= 4 * trace_B)
        fine = fine & (xp.sum(squares_B * lengths, axis=-1) <= 4 * trace_A)

    # the conditions of the module docstring
    e = xp.linalg.vector_norm(T * xp.sqrt(xp.linalg.diagonal(G_A))[..., :, None], axis=-2) ** 2
    f = xp.linalg.vector_norm(T_inv * xp.sqrt(xp.linalg.diagonal(G_B))[..., None, :], axis=-1) ** 2
    size = xp.sum(S, axis=-1)
    fine = fine & xp.all(noise * xp.maximum(e, f) <= lengths / 4, axis=-1)
    fine = fine & (noise * xp.sum(e + f, axis=-1) <= GRAM_SHARE * balance_rtol(eps, S.shape[-1]) * 2 * size)
    # and nothing is lost in storage
    fine = fine & (xp.sqrt(size) <= float(storage.max))
    fine = fine & (2 * subnormal_error(storage, entries) * xp.sqrt(size) <= PRODUCT_RTOL / 4 * eps * given)
    T, T_inv = _or_identity(xp, fine, (T, T_inv), identity)
    return Gauges(T, T_inv, fine)


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


def _diagonal_blocks(xp: Any, blocks: Any, axes: tuple[int, int]) -> Any:
    """(…, r, r) sum of the diagonal blocks of (…, r, r) blocks counted by two axes."""
    return xp.sum(xp.linalg.diagonal(xp.moveaxis(blocks, axes, (-2, -1))), axis=-1)


def _or_identity(xp: Any, fine: Any, matrices: tuple[Any, ...], identity: Any) -> tuple[Any, ...]:
    """The matrices, and I where they are not `fine`; on a GPU without asking whether there are such."""
    if str(device(fine)) == "cpu" and bool(xp.all(fine)):
        return matrices
    return tuple(xp.where(fine[..., None, None], M, identity) for M in matrices)


def _cholesky(xp: Any, G: Any) -> tuple[Any, Any]:
    """The lower factor, and (…) whether there is one; no exception, and no wait for a GPU."""
    if is_torch_namespace(xp):
        L, info = xp.linalg.cholesky_ex(G)
        return L, info == 0
    try:
        return xp.linalg.cholesky(G), xp.ones(G.shape[:-2], dtype=bool)
    except xp.linalg.LinAlgError:  # one of them has none: each by itself
        if G.ndim == 2:
            return G, xp.zeros((), dtype=bool)
        parts = [_cholesky(xp, one) for one in G]
        return xp.stack([L for L, _ in parts]), xp.stack([found for _, found in parts])


def _divided(xp: Any, M: Any, L: Any) -> Any:
    """ML⁻¹ for lower triangular L."""
    if is_torch_namespace(xp):
        return xp.linalg.solve_triangular(L, M, upper=False, left=False)
    return xp.linalg.solve(L.mT, M.mT).mT


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
