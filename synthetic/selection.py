"""Choosing each method's own best step size, and comparing methods over paired seeds."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap, wilcoxon

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


def compare(differences: Array, *, seed: int = 0) -> Comparison:
    """Summarizes paired differences (one per seed, finite) with an interval and a test.

    Args:
        differences: (n,) values, positive where the second method is better.
        seed: of the bootstrap.
    """
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    if len(differences) >= 3 and np.any(differences != 0):
        p_value = float(wilcoxon(differences).pvalue)
    if len(differences) >= 3 and np.ptp(differences) > 0:
        with np.errstate(all="ignore"):
            found = bootstrap(
                (differences,),
                lambda x, axis: np.median(x, axis=axis),
                n_resamples=2000,
                rng=np.random.default_rng(seed),
                method="percentile",
            ).confidence_interval
        interval = (float(found.low), float(found.high))
    elif len(differences) >= 3:
        interval = (float(differences[0]), float(differences[0]))
    return Comparison(
        median=float(np.median(differences)),
        interval=interval,
        p_value=p_value,
        wins=int((differences > 0).sum()),
        n=len(differences),
    )
