"""The rules by which claims about fine-tuning are judged on an outcome.

Each rule is its judge's docstring. Effects are means over paired seeds with 95 % Student t intervals, pooled over the
ranks seed by seed; a claim holds if the interval lies on its side, is not seen if it lies on the other side, equivalent
if it lies within a margin that the rule states, and inconclusive otherwise. It is inconclusive, too, if at some rank a
method has no cell that trained with every seed.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.verification.measured import MeasuredName, Measurement, all_of, decide
from lorakappa.llm.comparison.best import Best, best_cells
from lorakappa.llm.comparison.effects import (
    CONFIDENCE,
    Effect,
    effect,
    loss_gain,
    memory_overhead,
    paired,
    seeds_to_decide,
    speedup,
    time_overhead,
    window,
    window_gain,
)
from lorakappa.llm.comparison.protocol import Outcome
from lorakappa.llm.data.models import TINY

TIME_ALLOWED = 0.2
"""Share of the rest of a step that an added map may cost and still be called lightweight."""

MEMORY_ALLOWED = 0.05
"""Share of the peak memory that it may cost."""

SAME_LOSS = 0.01
"""Nats per answer token below which a difference of test losses counts as none."""

SAME_WINDOW = 0.05
"""Decades below which a difference of windows of learning rates counts as none: a factor of 1.12."""

SAME_SPEED = 0.07
"""log₂ of a ratio of times below which it counts as 1: a factor of 1.05."""

Judge = Callable[[Outcome, str, str], Measurement]
"""Judges an outcome with (baseline, method)."""


def _pooled(values: dict[int, NDArray[np.float64]]) -> Effect:
    """The mean over ranks, seed by seed, and its interval over seeds."""
    return effect(_mean(values))


def _mean(values: dict[int, NDArray[np.float64]]) -> NDArray[np.float64]:
    """(n,) mean over ranks, seed by seed."""
    return np.asarray(np.mean(list(values.values()), axis=0))


def model_of(outcome: Outcome) -> str:
    """Its model, in words."""
    return "the tiny model" if outcome.plan.settings.model == TINY else outcome.plan.settings.model


def _measurement(
    outcome: Outcome,
    verdict: MeasuredName,
    pooled: Effect,
    text: str,
    *,
    undecided: Sequence[tuple[Effect, float]] = (),
    **evidence: Any,
) -> Measurement:
    """A measurement, whose note says of an inconclusive one how many seeds it would take.

    Args:
        outcome: that was judged.
        verdict: on it.
        pooled: effect on which it rests.
        text: what it says.
        undecided: effects that must be decided, each with the margin within which it counts as none.
        evidence: further numbers.
    """
    name = model_of(outcome).removeprefix("the ")
    counts = [seeds_to_decide(found, margin) for found, margin in undecided]
    known = [count for count in counts if count is not None]
    if verdict == "inconclusive" and known:
        text += f"; at this mean some {max(known)} seeds would decide"
    return Measurement(
        verdict=verdict,
        trials=pooled.n,
        worst_margin=pooled.low if np.isfinite(pooled.low) else None,
        note=f"{name}, {pooled.n} seeds, {outcome.plan.settings.steps} steps: {text}",
        evidence={"effect": asdict(pooled), **evidence},
    )


def _compared(
    outcome: Outcome,
    baseline: str,
    method: str,
    measure: Callable[[Best, Best], NDArray[np.float64]],
) -> dict[int, NDArray[np.float64]] | None:
    """By rank; None if one is missing: what diverges at a rank must not be judged on the others alone."""
    values = paired(best_cells(outcome), method, baseline, measure)
    return values if values.keys() == set(outcome.plan.ranks) else None


def _nothing(outcome: Outcome, method: str) -> Measurement:
    note = f"at some rank {method} or its baseline trained at no learning rate with every seed"
    return Measurement(verdict="inconclusive", trials=len(outcome.plan.seeds), worst_margin=None, note=note)


def _same(found: Effect) -> MeasuredName:
    """What an effect says of a lower loss."""
    return decide((found.low, found.high), margin=SAME_LOSS)


def lower_loss(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if the interval of the pooled difference of test losses, each method at its own best cell, is above 0.

    Equivalent if it lies within ±0.01 nats per answer token.
    """
    values = _compared(outcome, baseline, method, loss_gain)
    if values is None:
        return _nothing(outcome, method)
    pooled = _pooled(values)
    return _measurement(
        outcome,
        _same(pooled),
        pooled,
        f"test loss lower by {pooled} nats per answer token",
        undecided=[(pooled, SAME_LOSS)],
        by_rank={str(rank): asdict(effect(found)) for rank, found in values.items()},
    )


def lower_loss_at_every_rank(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if that interval is above 0 at every rank, not seen if it is below 0 at one.

    Equivalent if it lies within ±0.01 nats at every rank, inconclusive otherwise. The ranks share an error of 5 %.
    """
    values = _compared(outcome, baseline, method, loss_gain)
    if values is None:
        return _nothing(outcome, method)
    effects = {rank: effect(found, alpha=(1 - CONFIDENCE) / len(values)) for rank, found in values.items()}
    verdict = all_of(map(_same, effects.values()))
    worst = min(effects.values(), key=lambda found: found.low)
    text = "; ".join(f"r = {rank} {found}" for rank, found in sorted(effects.items()))
    return _measurement(
        outcome,
        verdict,
        worst,
        f"test loss lower by {text}",
        undecided=[(found, SAME_LOSS) for found in effects.values() if _same(found) == "inconclusive"],
        by_rank={str(rank): asdict(found) for rank, found in effects.items()},
    )


def larger_gain_at_the_largest_rank(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if that difference is larger at the largest rank than at the smallest one, beyond the interval over seeds.

    Equivalent if both agree to within 0.01 nats; inconclusive if there is one rank only.
    """
    values = _compared(outcome, baseline, method, loss_gain)
    if values is None:
        return _nothing(outcome, method)
    ranks = sorted(values)
    if len(ranks) == 1:
        return _measurement(outcome, "inconclusive", effect(values[ranks[0]]), f"one rank only, r = {ranks[0]}")
    grown = effect(values[ranks[-1]] - values[ranks[0]])
    return _grown(outcome, grown, f"r = {ranks[-1]}", f"r = {ranks[0]}")


def larger_gain(before: Outcome, after: Outcome, baseline: str, method: str, axis: str) -> Measurement:
    """Holds if the gain in test loss, pooled over ranks, is larger at the second value, beyond the interval over seeds.

    Not seen if it is smaller, equivalent if both agree to within 0.01 nats per answer token.

    Args:
        before: outcome at the first value of the axis.
        after: at the second, with the same seeds.
        baseline: name of one method.
        method: name of the other.
        axis: "steps", or "start" for the size of the start (α/r at a fixed effective learning rate).
    """
    first, second = (_compared(outcome, baseline, method, loss_gain) for outcome in (before, after))
    if first is None or second is None:
        return _nothing(after, method)
    names = [
        f"{outcome.plan.settings.steps} steps" if axis == "steps" else f"α/r = {outcome.plan.scalings[0]:g}"
        for outcome in (after, before)
    ]
    return _grown(after, effect(_mean(second) - _mean(first)), *names)


def _grown(outcome: Outcome, grown: Effect, at: str, before: str) -> Measurement:
    """The verdict on how much larger a gain is at one value of an axis than at another."""
    return _measurement(
        outcome,
        _same(grown),
        grown,
        f"gain at {at} above that at {before} by {grown} nats per answer token",
        undecided=[(grown, SAME_LOSS)],
    )


def wider_window(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if the window of learning rates within 1 % of the best validation loss is wider beyond the interval.

    Equivalent if the interval lies within ±0.05. Widths are decades. A window that reaches the edge of the grid counts
    as ending there; the note says how many do.
    """
    values = _compared(outcome, baseline, method, window_gain)
    if values is None:
        return _nothing(outcome, method)
    best = best_cells(outcome)
    cut = sum(int(window(best[name, rank])[1].sum()) for name in (baseline, method) for rank in values)
    pooled = _pooled(values)
    return _measurement(
        outcome,
        decide((pooled.low, pooled.high), margin=SAME_WINDOW),
        pooled,
        f"window wider by {pooled} decades; {cut} of {2 * len(values) * pooled.n} windows reach the edge of the grid",
        undecided=[(pooled, SAME_WINDOW)],
    )


def cheap_step(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if the map after the step takes less than a fifth of the rest of the step, beyond the interval.

    Both are clocked within one run, so that what else the machine does hits both.
    """
    values = _compared(outcome, baseline, method, lambda _, best: time_overhead(best))
    if values is None:
        return _nothing(outcome, method)
    pooled = _pooled(values)
    best = [entry for (name, _), entry in best_cells(outcome).items() if name == method]
    step = float(np.mean([entry.seconds_per_step.mean() for entry in best]))
    return _measurement(
        outcome,
        decide((-pooled.high, -pooled.low), threshold=-TIME_ALLOWED),
        pooled,
        f"{100 * pooled.estimate:.0f} % [{100 * pooled.low:.0f}, {100 * pooled.high:.0f}] of a step of "
        f"{1000 * step:.0f} ms",
        seconds_per_step=step,
    )


def cheap_memory(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if the peak memory during the steps is less than 5 % above the baseline's, beyond the interval."""
    values = _compared(outcome, baseline, method, memory_overhead)
    if values is None or not all(np.isfinite(found).all() for found in values.values()):
        return _nothing(outcome, method)
    pooled = _pooled(values)
    return _measurement(
        outcome,
        decide((-pooled.high, -pooled.low), threshold=-MEMORY_ALLOWED),
        pooled,
        f"peak memory {100 * pooled.estimate:+.1f} % [{100 * pooled.low:+.1f}, {100 * pooled.high:+.1f}]",
    )


def sooner(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if the baseline's final validation loss is reached sooner both in steps and in seconds.

    Beyond the intervals of log₂ of the ratio. Not seen if later in both, equivalent if within a factor of 1.05 in both;
    a run that never gets there counts as twice as slow.
    """
    by_step = _compared(outcome, baseline, method, partial(speedup, by="step"))
    by_second = _compared(outcome, baseline, method, partial(speedup, by="train time"))
    if by_step is None or by_second is None:
        return _nothing(outcome, method)
    steps, seconds = _pooled(by_step), _pooled(by_second)
    never = sum(int((found == -1).sum()) for found in by_step.values())
    verdicts = {decide((found.low, found.high), margin=SAME_SPEED) for found in (steps, seconds)}
    factors = [
        f"{2**found.estimate:.2f} [{2**found.low:.2f}, {2**found.high:.2f}] times as fast in {unit}"
        for found, unit in ((steps, "steps"), (seconds, "seconds"))
    ]
    return _measurement(
        outcome,
        verdicts.pop() if len(verdicts) == 1 else "inconclusive",
        steps,
        f"{', '.join(factors)}; {never} of {len(by_step) * steps.n} runs never get there",
        seconds=asdict(seconds),
    )
