"""Choosing each method's own best step size, and comparing methods over paired seeds."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.tolerances import EPS
from lorakappa.synthetic.choices import CRITERIA, TUNING


def floored_log10(excess: Array, start: Array) -> Array:
    """log₁₀(f − f*), cut at ε² of its start: below that it is rounding, and may be 0 or negative."""
    return np.asarray(np.log10(np.maximum(excess, EPS**2 * start)), dtype=np.float64)


def score(excess: Array, criterion: str, *, tolerance: float = 1e-3) -> Array:
    """What a step size is judged by; smaller is better, inf for diverged trajectories.

    Args:
        excess: (T + 1, …) curves of f − f*.
        criterion: "final" (log₁₀ of the last value), "area" (mean log₁₀ over the steps) or "threshold"
            (steps until f − f* ≤ tolerance·start; T plus the final excess relative to the start if never).
        tolerance: for "threshold".

    Returns:
        (…) scores.

    Raises:
        ValueError: on an unknown criterion.
    """
    diverged = ~np.isfinite(excess[-1])
    logs = floored_log10(np.where(np.isfinite(excess), excess, excess[0]), excess[0])
    if criterion == "final":
        value = logs[-1]
    elif criterion == "area":
        value = logs.mean(axis=0)
    elif criterion == "threshold":
        below = logs <= logs[0] + np.log10(tolerance)
        never = len(excess) + 10 ** np.minimum(logs[-1] - logs[0], 6)
        value = np.where(below.any(axis=0), below.argmax(axis=0), never)
    else:
        raise ValueError(f"unknown criterion {criterion!r}; choose from {', '.join(CRITERIA)}")
    return np.where(diverged, np.inf, value)


def best_step(scores: Array, tune: str = "shared") -> NDArray[np.int64]:
    """Index of the best step size for each seed.

    Args:
        scores: (G, n).
        tune: "shared" (one step size for all seeds, the best median score) or "per-seed" (each its own).

    Returns:
        (n,) indices into the grid.

    Raises:
        ValueError: on an unknown `tune`, or if every step size diverges (for a seed, with "per-seed").
    """
    if tune not in TUNING:
        raise ValueError(f"unknown tuning {tune!r}; choose from {', '.join(TUNING)}")
    judged = scores if tune == "per-seed" else np.repeat(np.median(scores, axis=1)[:, None], scores.shape[1], axis=1)
    if not np.isfinite(judged.min(axis=0)).all():
        raise ValueError("all step sizes diverge; try smaller ones (--step-sizes LO:HI:N)")
    return np.asarray(judged.argmin(axis=0), dtype=np.int64)


@dataclass(frozen=True)
class Comparison:
    """Paired differences over seeds.

    Attributes:
        median: median of the differences.
        interval: 95 % percentile-bootstrap interval of the median; None for fewer than 3 seeds.
        p_value: two-sided Wilcoxon signed-rank; None for fewer than 3 seeds or all differences 0.
        wins: number of seeds with a positive difference.
        n: number of seeds.
    """

    median: float
    interval: tuple[float, float] | None
    p_value: float | None
    wins: int
    n: int

    def meta(self) -> dict[str, Any]:
        """JSON-like description."""
        return asdict(self)


RESAMPLES = 2000
"""Of the bootstrap."""

CONFIDENCE = 0.95
"""Of its interval."""

LARGEST_EXACT = 50
"""Number of seeds up to which the 2ⁿ signs are counted: they fit into float64 without rounding."""


def compare(differences: Array, *, seed: int = 0) -> Comparison:
    """Summarizes paired differences (one per seed, finite) with an interval and a test.

    Args:
        differences: (n,) values, positive where the second method is better.
        seed: of the bootstrap.
    """
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    if len(differences) >= 3 and np.any(differences != 0):
        p_value = _signed_rank_p_value(differences)
    if len(differences) >= 3 and np.ptp(differences) > 0:
        drawn = np.random.default_rng(seed).integers(0, len(differences), (RESAMPLES, len(differences)))
        outside = (1 - CONFIDENCE) / 2
        low, high = np.quantile(np.median(differences[drawn], axis=-1), [outside, 1 - outside])
        interval = (float(low), float(high))
    elif len(differences) >= 3:
        interval = (float(differences[0]), float(differences[0]))
    return Comparison(
        median=float(np.median(differences)),
        interval=interval,
        p_value=p_value,
        wins=int((differences > 0).sum()),
        n=len(differences),
    )


def _signed_rank_p_value(differences: Array) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, as `scipy.stats.wilcoxon` has it.

    Without ties, zeros or very many seeds all 2ⁿ assignments of signs to the ranks are counted here, because importing
    scipy.stats takes longer than most experiments.
    """
    n, sizes = len(differences), np.abs(differences)
    if n > LARGEST_EXACT or len(np.unique(sizes)) < n or not sizes.all():
        from scipy.stats import wilcoxon

        return float(wilcoxon(differences).pvalue)
    ranks = sizes.argsort().argsort() + 1
    positive = int(ranks[differences > 0].sum())
    ways = np.zeros(n * (n + 1) // 2 + 1)  # in how many ways ranks add up to each sum
    ways[0] = 1
    for rank in range(1, n + 1):
        ways[rank:] += ways[:-rank].copy()
    tail = min(positive, len(ways) - 1 - positive)  # the distribution is symmetric
    return float(min(1.0, 2 * ways[: tail + 1].sum() / 2.0**n))
