"""Effects of a method against a baseline: seed by seed, each at its best cell, as means with Student t intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from lorakappa.llm.comparison.best import Best

WINDOW = 0.01
"""A learning rate counts as good if its validation loss is within this share of the best."""

OFF = 2.0
"""Factor by which a learning rate is off the best one where losses off it are compared."""

SPACING = 0.01
"""Share by which a rate of the grid may miss that multiple and still be it: grids are rounded as they grow."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Effect:
    """A mean over seeds with its Student t interval.

    Attributes:
        estimate: mean.
        low: lower end; −inf for a single seed.
        high: upper end.
        n: number of seeds.
    """

    estimate: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """E.g. +0.12 [+0.03, +0.21]."""
        return f"{self.estimate:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"


def effect(
    values: Sequence[float] | NDArray[np.float64], *, first: int | None = None, alpha: float = 1 - CONFIDENCE
) -> Effect:
    """Mean and Student t interval of independent values.

    Args:
        values: (n,) in the order in which they were measured.
        first: number of them that give the variance, where n was chosen by it (`studies.fixed_width`); None for all.
        alpha: probability with which the interval may miss.

    Returns:
        The effect; its interval is infinite for fewer values than `first` or 2, or if one is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    mean, start = float(x.mean()) if len(x) else math.nan, len(x) if first is None else first
    if len(x) < max(2, start) or not np.isfinite(x).all():
        return Effect(mean, -math.inf, math.inf, len(x))
    half = float(stdtrit(start - 1, 1 - alpha / 2)) * float(x[:start].std(ddof=1)) / math.sqrt(len(x))
    return Effect(mean, mean - half, mean + half, len(x))


def seeds_to_decide(found: Effect, margin: float, *, alpha: float | None = None) -> int | None:
    """The number of seeds at which an interval around the same mean would exclude 0 or lie within ±margin.

    At n seeds it is as wide as t/√n at the same standard deviation, t being Student's quantile (derived here).

    Args:
        found: the effect.
        margin: within which it counts as none.
        alpha: probability with which the interval may miss, of all n seeds; None where the first of them alone give the
            variance (`studies.fixed_width`), so that the quantile stays what it is.

    Returns:
        The number; None if the interval is infinite.
    """
    wanted = max(abs(found.estimate), margin - abs(found.estimate))
    if not math.isfinite(found.high - found.low) or not wanted > 0:
        return None
    low, high = found.n, math.floor(found.n * ((found.high - found.low) / 2 / wanted) ** 2) + 1
    while alpha is not None and low < high:
        n = (low + high) // 2
        if with_more_seeds(found, n, alpha=alpha).high - found.estimate < wanted:
            high = n
        else:
            low = n + 1
    return high


def with_more_seeds(found: Effect, n: int, *, alpha: float) -> Effect:
    """What an effect would be with n seeds, at the same mean and standard deviation."""
    first, then = (float(stdtrit(count - 1, 1 - alpha / 2)) for count in (found.n, n))
    half = (found.high - found.low) / 2 * then / first * math.sqrt(found.n / n)
    return Effect(found.estimate, found.estimate - half, found.estimate + half, n)


def paired(
    best: dict[tuple[str, int], Best],
    method: str,
    baseline: str,
    measure: Callable[[Best, Best], NDArray[np.float64]],
) -> dict[int, NDArray[np.float64]]:
    """A paired measure of (baseline, method), (n,) per rank that both have."""
    ranks = [rank for name, rank in best if name == method and (baseline, rank) in best]
    return {rank: measure(best[baseline, rank], best[method, rank]) for rank in ranks}


def loss_gain(baseline: Best, method: Best) -> NDArray[np.float64]:
    """(n,) test loss of the baseline minus that of the method, nats per answer token."""
    return baseline.values("test_loss") - method.values("test_loss")


def window(best: Best) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How many decades of learning rates are within 1 % of the best validation loss, for each seed.

    The loss is interpolated linearly in the logarithm of the learning rate; the window is the interval around the
    best one.

    Returns:
        (n,) decades, and (n,) whether the window ends at an edge of the grid, so that it may be wider.
    """
    decades, censored = zip(*(window_ends(best.grid, column)[2:] for column in best.curve.T), strict=True)
    return np.array(decades), np.array(censored)


def window_gain(baseline: Best, method: Best) -> NDArray[np.float64]:
    """(n,) decades of the method's window minus those of the baseline's."""
    return window(method)[0] - window(baseline)[0]


def excess(best: Best) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
    """By how much the validation loss is higher at twice the best learning rate than at the best one, for each seed.

    No run counts as worse than the model before training, which one has anyway; so a diverged one counts as that.

    Returns:
        (n,) nats per answer token, and (n,) whether the run there counts as the model before training; None if no run
        has twice the best rate.
    """
    off = [i for i, rate in enumerate(best.grid) if math.isclose(rate, OFF * best.learning_rate, rel_tol=SPACING)]
    if not off:
        return None
    start, losses = best.history("valid loss")[:, 0], best.curve[off[0]]
    return np.minimum(start, losses) - best.curve[best.grid.index(best.learning_rate)], losses >= start


def speedup(baseline: Best, method: Best) -> NDArray[np.float64]:
    """(n,) log₂ of how many times sooner the method reaches a loss that both reach, in steps.

    Of each seed it is the higher one of both last validation losses, so that every run gets there and the names
    exchanged change nothing but the sign (derived here). A target that all seeds share would be missed by some runs,
    whose times are then unknown, and seeds differ in the loss that they can reach.

    At the earliest it is reached after one step, which is also what counts for a run that starts at or below it: a time
    of 0 would give infinity.

    Args:
        baseline: one of them; the loss is linear between evaluations.
        method: the other; positive where it is sooner.
    """
    gains = []
    for records in zip(baseline.records, method.records, strict=True):
        curves = [record["train_info"]["metrics"] for record in records]
        target = max(curve[-1]["valid loss"] for curve in curves)
        before, after = (math.log2(_steps_to(curve, target)) for curve in curves)
        gains.append(before - after)
    return np.array(gains)


def speedup_in_time(baseline: Best, method: Best) -> NDArray[np.float64]:
    """(n,) the same in time, where a step takes 1 and what the method's map adds to it (`time_overhead`).

    Both parts of a step are clocked within one run. The times of two runs would also differ by what else the machine
    did in the meantime.
    """
    costs = (np.log2(1 + time_overhead(best)) for best in (baseline, method))
    return speedup(baseline, method) + np.subtract(*costs)


def time_overhead(best: Best) -> NDArray[np.float64]:
    """(n,) seconds of the method's map over those of the rest of the step."""
    return best.method_seconds_per_step / (best.seconds_per_step - best.method_seconds_per_step)


def memory_overhead(baseline: Best, method: Best) -> NDArray[np.float64]:
    """(n,) peak memory of the method over the baseline's, minus 1."""
    return method.values("peak_memory") / baseline.values("peak_memory") - 1


def window_ends(grid: Sequence[float], losses: NDArray[np.float64]) -> tuple[float, float, float, bool]:
    """Ends of the window (learning rates), its decades, and whether an end is the grid's."""
    logs = np.log10(np.asarray(grid))
    best = int(np.argmin(losses))
    limit = losses[best] + WINDOW * abs(losses[best])

    def end(step: int) -> tuple[float, bool]:
        i = best
        while 0 <= i + step < len(logs):
            inside, outside = losses[i], losses[i + step]
            if outside > limit:
                share = (limit - inside) / (outside - inside) if np.isfinite(outside) else 0.0
                return float(logs[i] + share * (logs[i + step] - logs[i])), False
            i += step
        return float(logs[i]), True

    (low, open_low), (high, open_high) = end(-1), end(1)
    return 10**low, 10**high, high - low, open_low or open_high


def _steps_to(curve: list[dict[str, Any]], target: float) -> float:
    """After how many steps a curve that ends at or below the target is first there, but not before its first step."""
    i = next(i for i, entry in enumerate(curve) if entry["valid loss"] <= target)
    if i == 0:
        return 1.0
    before, after = curve[i - 1], curve[i]
    share = (before["valid loss"] - target) / (before["valid loss"] - after["valid loss"])
    return max(1.0, float(before["step"] + share * (after["step"] - before["step"])))
