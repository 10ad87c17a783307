"""Products to be stored: a scale absorbed by both factors, and what was stored compared with what was meant."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lorakappa.conditioning.product_difference import product_change
from lorakappa.conditioning.tolerances import PRODUCT_RTOL
from lorakappa.llm.adapters.formats.stored import Factors, StoredPair
from lorakappa.llm.adapters.products import storage_eps


def absorbed(A: Tensor, B: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """√|s|·A and √|s|·B with the sign of s on A: the product sAB, as balanced as the pair was.

    With s = 0 only A becomes 0, as at LoRA's start, so that training can go on.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        scale: s.

    Returns:
        Both in float64, or in float32 if they are coarser.
    """
    dtype = torch.promote_types(torch.promote_types(A.dtype, B.dtype), torch.float32)
    A, B, root = A.to(dtype), B.to(dtype), math.sqrt(abs(scale))
    return A * math.copysign(root, scale), B * root if scale else B


def stored(X: Tensor, Y: Tensor, dtypes: tuple[torch.dtype, torch.dtype], scale: float, pair: StoredPair) -> Factors:
    """Factors in the types that they are stored in.

    Raises:
        ValueError: if these have no numbers that large.
    """
    new = Factors(X.to(dtypes[0]), Y.to(dtypes[1]), scale)
    if not bool(new.A.isfinite().all() and new.B.isfinite().all()):
        raise ValueError(_unstorable(pair, dtypes))
    return new


def stored_change(
    meant: tuple[Tensor, Tensor],
    written: tuple[Tensor, Tensor],
    scales: tuple[float | Sequence[float], float],
    pair: StoredPair,
    *,
    error: float = 0.0,
) -> float:
    """How far a stored product is from the one that was meant, which may be known only up to an error.

    Args:
        meant: A (a, r) and B (r, b).
        written: A' (a, r') and B' (r', b), as read again.
        scales: of both products; the first one for each column, or for all.
        pair: as read again.
        error: relative distance that is meant, too, as of a truncated product.

    Returns:
        ‖s'A'B' − sAB‖_F/‖sAB‖_F, 0 if both are 0.

    Raises:
        ValueError: if it exceeds that error by more than rounding of the factors can explain (`PRODUCT_RTOL`).
    """
    found = product_change(meant, written, scales=scales)
    eps = storage_eps(*(factor.dtype for factor in written))
    if not found.change <= error + PRODUCT_RTOL * eps * found.amplification and found.change != error:
        raise ValueError(_unstorable(pair, pair.dtypes))
    return found.change


def _unstorable(pair: StoredPair, dtypes: tuple[torch.dtype, torch.dtype]) -> str:
    names = " and ".join(dict.fromkeys(str(dtype).removeprefix("torch.") for dtype in dtypes))
    return f"{pair.name}: its new factors would leave the range of {names}; nothing was written"
