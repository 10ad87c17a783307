"""What is measured of a run beside its final loss: how wide a window of step sizes is, and what became of a ratio."""

from collections.abc import Sequence

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.imbalance_regularization import imbalance, paper_ratio
from lorakappa.synthetic.methods import PenaltyStep, PostStep


def window(grid: Array, logs: Array) -> Array:
    """(n,) decades of step sizes at which log₁₀ of the final f − f* is within 1 of its lowest, linear between them.

    Args:
        grid: (G,) ascending step sizes.
        logs: (G, n) of them; inf where a run has diverged. Where all have there is no such step size.
    """
    x = np.log10(grid)
    fine = np.linspace(x[0], x[-1], 50 * (len(x) - 1) + 1)
    widths = []
    for column in logs.T:
        limit = column.min() + 1
        inside = np.interp(fine, x, np.minimum(column, limit + 100)) <= limit
        widths.append(inside.mean() * (x[-1] - x[0]) if np.isfinite(limit) else 0.0)
    return np.array(widths)


def trained_growth(maps: Sequence[PostStep], pairs: Sequence[tuple[Array, Array]]) -> Array:
    """(L, n) trained ratios of the one map of a run at one step size, over r/m."""
    (penalty,) = maps
    assert isinstance(penalty, PenaltyStep)
    ratios = (paper_ratio(A.shape[-2], A.shape[-1]) for A, _ in pairs)
    return np.stack([np.exp(log[0]) / ratio for log, ratio in zip(penalty.log_ratios, ratios, strict=True)])


def relative_defect(A: Array, B: Array) -> Array:
    """(n,) ‖BBᵀ − cAᵀA‖_F/(‖BBᵀ‖_F + c‖AᵀA‖_F) with iLoRA's ratio c = r/m, of pairs (n, ·, ·)."""
    ratio = paper_ratio(A.shape[-2], A.shape[-1])
    norms = (np.linalg.norm(M, axis=(-2, -1)) for M in (B @ B.mT, ratio * A.mT @ A))
    return np.asarray(np.linalg.norm(imbalance(A, B, ratio), axis=(-2, -1)) / sum(norms))
