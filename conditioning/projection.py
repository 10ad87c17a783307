"""P: the projection of a factor pair onto the balanced manifold that keeps the product AB.

P is a change of gauge, P(A, B) = (AT, T⁻¹B). With AB = U S Vᵀ it is the pair (US^{1/2}, S^{1/2}Vᵀ) of the poster, up to
signs. Three routes lead there. `projection_by_qr` serves every pair; `projection_by_gram` and, for r > min(a, b),
`projection_by_short_side` are several times faster, serve factors stored in at most single precision, and know from
r×r numbers where they keep what is promised. Elsewhere the first one is taken.
"""

from typing import Any, TypeVar

from lorakappa.conditioning.checks import factor_namespace
from lorakappa.conditioning.projection_by_gram import balance_by_gram
from lorakappa.conditioning.projection_by_qr import balance_by_qr
from lorakappa.conditioning.projection_by_short_side import LEAST_RANK, balance_by_short_side
from lorakappa.conditioning.projection_gauges import GAUGES as GAUGES
from lorakappa.conditioning.projection_gauges import Gauge as Gauge
from lorakappa.conditioning.projection_gauges import check_gauge

ArrayT = TypeVar("ArrayT", bound=Any)


def balance(A: ArrayT, B: ArrayT, *, gauge: Gauge = "hyperbalanced") -> tuple[ArrayT, ArrayT]:
    """An equivalent pair with AᵀA = BBᵀ and the same product.

    All gauges agree up to an r×r rotation between the factors:

    - "hyperbalanced" (the BaLoRA poster's P): AᵀA = BBᵀ = S, diagonal and descending. Signs are chosen so
      that diag(XᵀA + YBᵀ) ≥ 0, so P is the identity on descending hyperbalanced pairs with distinct S
      (inside equal singular values the SVD is free to rotate).
    - "nearest": of all balanced pairs with the product AB the nearest to (A, B) in ‖·‖_F: P(A, B) turned by
      the orthogonal polar factor of XᵀA + YBᵀ (orthogonal Procrustes; derived here).
    - "symmetric": (AT, T⁻¹B) with T symmetric positive definite, T² = (AᵀA)⁻¹ # (BBᵀ) (geometric mean):
      unique, smooth, free of signs and order.

    Singular values of AB below `tolerances.rank_rtol`·σ₁(A)σ₁(B) count as zero; their directions are carried
    over rather than balanced (`projection_by_qr`), and a pair with AB = 0 is returned unchanged. So is a pair
    where that cannot be done without moving AB by more than rounding: null directions and massive
    cancellation in one pair, or entries that the dtype cannot hold to its precision (below its smallest normal
    number, above its largest one).

    torch tensors are differentiated through if they require grad (the SVD's derivative: where AB has r distinct
    singular values > 0; huge where they nearly coincide). Where there is no derivative, the backward pass raises
    ValueError rather than giving NaN.

    Args:
        A: (…, a, r) NumPy array or torch tensor of a real floating type, on any device.
        B: (…, r, b) of the same library, dtype, device and leading dimensions.
        gauge: which balanced pair.

    Returns:
        New arrays of the inputs' shapes, dtype and device. ‖A'B' − AB‖_F ≤ 16 ε ‖A‖_F‖B‖_F in exact
        evaluation of the product, ε the epsilon of the dtype.

    Raises:
        TypeError: if A and B are of different libraries or dtypes, not real floating point of at most 64 bits, or
            without plain dense values (masked, sparse, on torch's meta device).
        ValueError: on mismatched shapes, an empty array, an unknown gauge, NaN or infinity.
    """
    check_gauge(gauge)
    xp = factor_namespace(A, B)
    A, B = _with_checked_gradient(A), _with_checked_gradient(B)
    differentiable = any(getattr(M, "requires_grad", False) for M in (A, B))
    if A.dtype.itemsize > 4 or differentiable:
        return balance_by_qr(xp, A, B, gauge)
    if A.shape[-1] <= min(A.shape[-2], B.shape[-1]):
        X, Y, done = balance_by_gram(xp, A, B, gauge)
    elif A.shape[-1] >= LEAST_RANK:  # AB has null directions, whatever the entries
        X, Y, done = balance_by_short_side(xp, A, B, gauge)
    else:
        return balance_by_qr(xp, A, B, gauge)
    left = ~done
    if bool(xp.any(left)):
        X[left], Y[left] = balance_by_qr(xp, A[left], B[left], gauge)
    return X, Y


def _with_checked_gradient(M: Any) -> Any:
    """M; if a gradient flows back to it, it is refused where the SVD has no derivative."""
    if not getattr(M, "requires_grad", False):
        return M
    view = M.view_as(M)
    if view.requires_grad:  # not under torch.no_grad
        view.register_hook(_refuse_undefined)
    return view


def _refuse_undefined(gradient: Any) -> None:
    if gradient is not None and not bool(gradient.isfinite().all()):
        raise ValueError(
            "balance has no derivative at this pair: singular values of AB coincide or vanish, or the gradient was not "
            "finite before; call it under torch.no_grad() or on A.detach(), B.detach()"
        )
