"""How well conditioned an adapter's factors are, layer by layer, and what balancing would make of them."""

import os
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from lorakappa.conditioning.rank_rules import RankRule, entropy_rank, stable_rank
from lorakappa.conditioning.tolerances import rank_rtol
from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.products import exponent, shifted

ORDINARY = 200
"""Binary exponents up to which no fourth power of an entry leaves float64's range: nothing is scaled there."""


SUGGESTED = RankRule(energy=0.99)
"""What a suggested rank keeps of a layer: 99 % of Σs², so that the product changes by at most a tenth."""


@dataclass(frozen=True)
class LayerAudit:
    """Measures of one pair (A, B).

    The κ bound is L/m = (σ₁(A)² + σ₁(B)²)/min(σ_r(A), σ_r(B))², the factor of the paper's bounds that depends on
    the gauge; balanced, with s = σ(AB), it is 2s₁/s_r. What exceeds float64's range is inf or 0; ratios are right all
    the same.

    Attributes:
        name: of the layer.
        shape: (a, b) of AB.
        r: number of columns of A.
        dtype: of the stored factors.
        sigma_A: r singular values, descending.
        sigma_B: likewise.
        sigma_AB: the r largest ones.
        gap: ‖AᵀA − BBᵀ‖_F.
        relative_gap: gap / (‖A‖_F² + ‖B‖_F²), between 0 and 1.
        rank: numerical rank of AB (`tolerances.rank_rtol`).
        kappa_bound: κ bound now; inf if a factor has rank < r.
        kappa_bound_balanced: after balancing; inf if AB has rank < r.
        scale: by which AB is multiplied when the adapter is applied, α/r or α/√r.
        stable_rank: ‖AB‖_F²/‖AB‖₂²; 0 if AB = 0.
        entropy_rank: exp of the entropy of the shares s_i/Σs_j; 0 if AB = 0.
        suggested_rank: the smallest rank that keeps `SUGGESTED`.
    """

    name: str
    shape: tuple[int, int]
    r: int
    dtype: str
    sigma_A: tuple[float, ...]
    sigma_B: tuple[float, ...]
    sigma_AB: tuple[float, ...]
    gap: float
    relative_gap: float
    rank: int
    kappa_bound: float
    kappa_bound_balanced: float
    scale: float
    stable_rank: float
    entropy_rank: float
    suggested_rank: int


@torch.no_grad()
def audit_pair(A: Tensor, B: Tensor, name: str = "", *, scale: float = 1.0) -> LayerAudit:
    """Measures one pair, in float64 and through r×r matrices: AB is never formed.

    Args:
        A: (a, r) factor of any floating dtype and device.
        B: (r, b) factor.
        name: of the layer.
        scale: by which AB is multiplied; the measures are those of A, B and AB without it.

    Returns:
        The measures.

    Raises:
        ValueError: on NaN or infinity.
    """
    eps, dtype = torch.finfo(A.dtype).eps, str(A.dtype).removeprefix("torch.")
    r = A.shape[1]
    if not bool(A.isfinite().all() and B.isfinite().all()):
        raise ValueError(f"{name or 'the pair'} contains NaN or infinity")
    p, q = _powers(A, B)
    R_A, R_B = (torch.linalg.qr(F, mode="r").R for F in (shifted(A, -p), shifted(B, -q).mT))
    s_A, s_B, s = (_singular_values(M, r) for M in (R_A, R_B, R_A @ R_B.mT))
    tolerance = rank_rtol(eps, r)
    rank = sum(value > tolerance * s_A[0] * s_B[0] for value in s)
    # both factors in one unit, that of the larger
    top = max(p, q)
    R_A, R_B = shifted(R_A, p - top), shifted(R_B, q - top)
    gram_A, gram_B = R_A.mT @ R_A, R_B.mT @ R_B
    gap = float(torch.linalg.matrix_norm(gram_A - gram_B))
    size = float(gram_A.trace() + gram_B.trace())
    t_A, t_B = _times(s_A, p - top), _times(s_B, q - top)
    smallest = min(t_A[-1] if s_A[-1] > tolerance * s_A[0] else 0.0, t_B[-1] if s_B[-1] > tolerance * s_B[0] else 0.0)
    largest = t_A[0] ** 2 + t_B[0] ** 2
    return LayerAudit(
        name=name,
        shape=(A.shape[0], B.shape[1]),
        r=r,
        dtype=dtype,
        sigma_A=_times(s_A, p),
        sigma_B=_times(s_B, q),
        sigma_AB=_times(s, p + q),
        gap=_times((gap,), 2 * top)[0],
        relative_gap=gap / size if size else 0.0,
        rank=rank,
        kappa_bound=largest / smallest**2 if smallest**2 else inf,
        kappa_bound_balanced=2 * s[0] / s[-1] if rank == r else inf,
        scale=scale,
        stable_rank=stable_rank(s),
        entropy_rank=entropy_rank(s),
        suggested_rank=SUGGESTED.choose(s),
    )


def audit_adapter(folder: str | os.PathLike[str]) -> list[LayerAudit]:
    """Measures every pair of an adapter on disk.

    Args:
        folder: one PEFT adapter (`adapters.read_adapter`, whose errors apply).

    Returns:
        The layers, largest κ bound first, ties by the gap.
    """
    adapter = read_adapter(folder)
    layers = [audit_pair(*adapter.factors(pair), pair.name, scale=pair.scale) for pair in adapter.pairs]
    return sorted(layers, key=lambda layer: (-layer.kappa_bound, -layer.relative_gap))


def _powers(A: Tensor, B: Tensor) -> tuple[int, int]:
    """Powers of two to divide A and B by: 0 but for factors whose squares or product might leave float64's range."""
    p, q = exponent(A), exponent(B)
    return (0, 0) if max(abs(p), abs(q)) <= ORDINARY else (p, q)


def _times(values: tuple[float, ...], power: int) -> tuple[float, ...]:
    """The values times 2^power: infinity where that is beyond float64."""
    return tuple(shifted(torch.tensor(values, dtype=torch.float64), power).tolist())


def _singular_values(M: Tensor, r: int) -> tuple[float, ...]:
    """The r singular values of a factor with r columns: zeros where it has fewer rows."""
    values: list[float] = torch.linalg.svdvals(M).tolist()
    return tuple(values) + (0.0,) * (r - len(values))
