"""The three gauges of a balanced pair, and the orthogonal matrix that leads from one to another.

All balanced pairs with one product AB of rank r differ by an r×r orthogonal matrix between the factors (Procrustes).
"""

import math
from typing import Any, Literal, get_args

Gauge = Literal["hyperbalanced", "nearest", "symmetric"]
GAUGES: tuple[Gauge, ...] = get_args(Gauge)


def check_gauge(gauge: str) -> None:
    """Raises ValueError on an unknown gauge."""
    if gauge not in GAUGES:
        raise ValueError(f"gauge must be one of {', '.join(GAUGES)}, not {gauge!r}")


def signs(xp: Any, overlap_diagonal: Any) -> Any:
    """(…, r) of 1 and −1 by which the hyperbalanced pair (X, Y) is multiplied, so that diag(XᵀA + YBᵀ) ≥ 0.

    Args:
        xp: array namespace.
        overlap_diagonal: (…, r) diagonal of XᵀA + YBᵀ.
    """
    return xp.where(overlap_diagonal < 0, -1.0, 1.0)


def rotation(xp: Any, gauge: Gauge, overlap: Any, T: Any) -> Any:
    """The orthogonal O that turns the hyperbalanced pair (X, Y) into (XO, OᵀY) of another gauge.

    Args:
        xp: array namespace.
        gauge: "nearest" or "symmetric".
        overlap: (…, r, r) matrix XᵀA + YBᵀ.
        T: (…, r, r) gauge of the pair, X = AT.

    Returns:
        (…, r, r).
    """
    if gauge == "nearest":
        u, _, vt = xp.linalg.svd(overlap)
        return u @ vt
    u, _, vt = xp.linalg.svd(T)  # T = u c vᵀ, and T(u vᵀ)ᵀ = u c uᵀ is symmetric positive definite
    return (u @ vt).mT


def subnormal_error(storage: Any, entries: int) -> float:
    """Most that storing so many entries can move a factor (in ‖·‖_F) because they are below the smallest normal number.

    Args:
        storage: `finfo` of the dtype.
        entries: of the factor.
    """
    return float(storage.smallest_normal) * float(storage.eps) / 2 * math.sqrt(entries)
