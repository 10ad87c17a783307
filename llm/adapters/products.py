"""How much a product AB has changed, and whether a storage type can hold the balanced pair at all.

Everything is computed in float64 after scaling by powers of two, so that nothing over- or underflows: factors at 1e200
or at 1e-45 are measured as well as those of order 1.
"""

import math

import torch
from torch import Tensor

from lorakappa.conditioning.tolerances import PRODUCT_RTOL


def exponent(factor: Tensor) -> int:
    """E with 2^(e−1) ≤ max |entries| < 2^e; 0 for zeros."""
    return math.frexp(float(factor.abs().max()))[1]


def shifted(factor: Tensor, power: int) -> Tensor:
    """The factor in float64, times 2^power: exact but for what leaves float64's range."""
    factor = factor.double()
    while power:
        part = max(-1000, min(1000, power))
        factor, power = factor * 2.0**part, power - part
    return factor


def product_errors(A: Tensor, B: Tensor, X: Tensor, Y: Tensor) -> tuple[float, float]:
    """‖XY − AB‖_F relative to ‖AB‖_F and to ‖A‖_F‖B‖_F, through (a, 2r) and (2r, b) factors: no product is formed.

    Args:
        A: (a, r) old factor.
        B: (r, b) old factor.
        X: (a, r) new factor.
        Y: (r, b) new factor.

    Returns:
        Both errors: 0 for equal pairs, infinity or NaN where the new pair is neither of the old one's size nor finite.
    """
    if torch.equal(A, X) and torch.equal(B, Y):
        return 0.0, 0.0
    p, q, x = exponent(A), exponent(B), exponent(X)
    A, B, X, Y = shifted(A, -p), shifted(B, -q), shifted(X, -x), shifted(Y, x - p - q)
    change = _norm(torch.cat([X, A], 1), torch.cat([Y, -B], 0))
    product, size = _norm(A, B), float(torch.linalg.matrix_norm(A) * torch.linalg.matrix_norm(B))
    return _ratio(change, product), _ratio(change, size)


def storage_eps(*dtypes: torch.dtype) -> float:
    """The coarsest epsilon of several floating types."""
    return max(float(torch.finfo(dtype).eps) for dtype in dtypes)


@torch.no_grad()
def is_representable(
    A: Tensor, B: Tensor, X: Tensor, Y: Tensor, stored_A: torch.dtype, stored_B: torch.dtype
) -> Tensor:
    """Whether the new pair keeps the product within half of what is promised when rounded to its storage types.

    Rounding to e significant digits is in the promise. What is not is the range: entries beyond the largest number, and
    entries below the smallest normal one, which lose up to half of the smallest subnormal number s. Those change the
    product by at most (√(ar)·‖Y‖ + √(rb)·‖X‖)·s/2.

    Args:
        A: (n, a, r) old factors.
        B: (n, r, b) old factors.
        X: (n, a, r) new factors, as computed.
        Y: (n, r, b) new factors.
        stored_A: type that X is stored in.
        stored_B: type that Y is stored in.

    Returns:
        A bool (n,).
    """
    norm_A, norm_B, norm_X, norm_Y = map(_norms, (A, B, X.to(stored_A), Y.to(stored_B)))
    lost_X, lost_Y = (_smallest(dtype) * math.sqrt(F[0].numel()) / 2 for dtype, F in ((stored_A, X), (stored_B, Y)))
    # divided through by ‖A‖ and ‖B‖ in turn, since their product may leave float64's range
    safe_A, safe_B = (torch.where(norm > 0, norm, 1.0) for norm in (norm_A, norm_B))
    loss = (lost_X / safe_A) * (norm_Y / safe_B) + (lost_Y / safe_A) * (norm_X / safe_B)
    return norm_X.isfinite() & norm_Y.isfinite() & (loss <= PRODUCT_RTOL / 2 * storage_eps(stored_A, stored_B))


def _smallest(dtype: torch.dtype) -> float:
    """The smallest subnormal number."""
    info = torch.finfo(dtype)
    return float(info.smallest_normal) * float(info.eps)


def _norms(F: Tensor) -> Tensor:
    """(n,) Frobenius norms of a stack, in float64; squares stay in range. Infinity or NaN where an entry is."""
    if F.dtype != torch.float64:
        return torch.linalg.vector_norm(F, dim=(-2, -1), dtype=torch.float64)
    largest = F.abs().amax((-2, -1), keepdim=True)
    unit = torch.where(largest > 0, largest, 1.0)
    return torch.linalg.matrix_norm(F / unit) * unit[..., 0, 0]


def _norm(left: Tensor, right: Tensor) -> float:
    R_left, R_right = torch.linalg.qr(left, mode="r").R, torch.linalg.qr(right.mT, mode="r").R
    return float(torch.linalg.matrix_norm(R_left @ R_right.mT))


def _ratio(change: float, size: float) -> float:
    if size == 0:
        return math.inf if change > 0 else change
    return change / size
