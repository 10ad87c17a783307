"""The rules by which claims about fine-tuning are judged on an outcome.

Each rule is its judge's docstring. Effects are means over paired seeds with 95 % Student t intervals, pooled over the
ranks seed by seed; a claim holds if the interval lies on its side, is not seen if it lies on the other side, equivalent
if it lies within a margin that the rule states, and inconclusive otherwise.

Where a rank's own effect, at 95 % each, says something else than the pooled one, or all are inconclusive with different
signs, the note has them.

A claim is inconclusive, too, if at some rank a method has no cell that trained with every seed. That is lenient to a
method that diverges with a fresh seed where the other trains: the note says how many runs of each did.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.verification.measured import MeasuredName, Measurement, all_of, decide
from lorakappa.llm.comparison.best import Best, best_cells
from lorakappa.llm.comparison.effects import (
    Effect,
    effect,
    excess,
    loss_gain,
    memory_overhead,
    seeds_to_decide,
    speedup,
    speedup_in_time,
    time_overhead,
    window,
    window_gain,
    with_more_seeds,
)
from lorakappa.llm.comparison.judging import (
    as_evidence,
    at_each_rank,
    compared,
    measurement,
    no_best_cell,
    over_ranks,
    told_by_rank,
    without_effect,
)
from lorakappa.llm.comparison.protocol import Outcome

TIME_ALLOWED = 0.2
"""Share of the rest of a step that an added map may cost and still be called lightweight."""

MEMORY_ALLOWED = 0.05
"""Share of the peak memory that it may cost."""

SAME_LOSS = 0.01
"""Nats per answer token below which a difference of losses counts as none."""

SAME_WINDOW = 0.05
"""Decades below which a difference of windows of learning rates counts as none: a factor of 1.12."""

SAME_SPEED = 0.07
"""log₂ of a ratio of times below which it counts as 1: a factor of 1.05."""

Judge = Callable[[Outcome, str, str], Measurement]
"""Judges an outcome with (baseline, method)."""


def lower_loss(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if the interval of the pooled difference of test losses, each method at its own best cell, is above 0.

    Equivalent if it lies within ±0.01 nats per answer token.
    """
    values = compared(outcome, baseline, method, loss_gain)
    if values is None:
        return no_best_cell(outcome, baseline, method)
    pooled, text, by_rank = over_ranks(values, _same, str)
    return measurement(
        outcome,
        _same(pooled),
        pooled,
        f"test loss lower by {text} nats per answer token",
        undecided=[(pooled, SAME_LOSS)],
        by_rank=by_rank,
    )


def lower_loss_at_every_rank(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if that interval is above 0 at every rank, not seen if it is below 0 at one.

    Equivalent if it lies within ±0.01 nats at every rank, inconclusive otherwise. The ranks share an error of 5 %.
    """
    values = compared(outcome, baseline, method, loss_gain)
    if values is None:
        return no_best_cell(outcome, baseline, method)
    return _at_every_rank(outcome, values, "test loss lower by")


def _at_every_rank(
    outcome: Outcome, values: Mapping[int, NDArray[np.float64]], text: str, more: str = ""
) -> Measurement:
    """The verdict on gains in nats at every rank; the ranks share the error."""
    own, alpha = at_each_rank(values)
    verdict = all_of(map(_same, own.values()))
    undecided = [found for found in own.values() if _same(found) == "inconclusive"]
    counts = [seeds_to_decide(found, SAME_LOSS, alpha=alpha) for found in undecided]
    seeds = max((count for count in counts if count is not None), default=0)
    then = (with_more_seeds(found, max(seeds, found.n), alpha=alpha) for found in own.values())
    unlike = verdict == "inconclusive" == all_of(map(_same, then))
    if unlike:
        more += f"; at these means {seeds} seeds would decide each rank, but not all alike" if counts else ""
    return measurement(
        outcome,
        verdict,
        min(own.values(), key=lambda found: found.low),
        f"{text} {told_by_rank(own, str)}{more}",
        undecided=[] if unlike else [(found, SAME_LOSS) for found in undecided],
        alpha=alpha,
        by_rank=as_evidence(own),
    )


def _same(found: Effect) -> MeasuredName:
    """What an effect says of a lower loss."""
    return decide((found.low, found.high), margin=SAME_LOSS)


def larger_gain_at_the_largest_rank(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if that difference is larger at the largest rank than at the smallest one, beyond the interval over seeds.

    Equivalent if both agree to within 0.01 nats; inconclusive if there is one rank only.
    """
    values = compared(outcome, baseline, method, loss_gain)
    if values is None:
        return no_best_cell(outcome, baseline, method)
    ranks = sorted(values)
    if len(ranks) == 1:
        return measurement(outcome, "inconclusive", effect(values[ranks[0]]), f"one rank only, r = {ranks[0]}")
    grown = effect(values[ranks[-1]] - values[ranks[0]])
    return _grown(outcome, grown, str(grown), f"r = {ranks[-1]}", f"r = {ranks[0]}")


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
    first, second = (compared(outcome, baseline, method, loss_gain) for outcome in (before, after))
    if first is None or second is None:
        return no_best_cell(before if first is None else after, baseline, method)
    names = [
        f"{outcome.plan.settings.steps} steps" if axis == "steps" else f"α/r = {outcome.plan.scalings[0]:g}"
        for outcome in (after, before)
    ]
    grown, text, by_rank = over_ranks({rank: second[rank] - first[rank] for rank in second}, _same, str)
    return _grown(after, grown, text, *names, by_rank=by_rank)


def _grown(outcome: Outcome, grown: Effect, text: str, at: str, before: str, **evidence: Any) -> Measurement:
    """The verdict on how much larger a gain is at one value of an axis than at another."""
    return measurement(
        outcome,
        _same(grown),
        grown,
        f"gain at {at} above that at {before} by {text} nats per answer token",
        undecided=[(grown, SAME_LOSS)],
        **evidence,
    )


def wider_window(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if the window of learning rates within 1 % of the best validation loss is wider beyond the interval.

    Equivalent if the interval lies within ±0.05. Widths are decades. A window that reaches the edge of the grid counts
    as ending there; the note says how many do.
    """
    values = compared(outcome, baseline, method, window_gain)
    if values is None:
        return no_best_cell(outcome, baseline, method)
    best = best_cells(outcome)
    cut = sum(int(window(best[name, rank])[1].sum()) for name in (baseline, method) for rank in values)

    def rule(found: Effect) -> MeasuredName:
        return decide((found.low, found.high), margin=SAME_WINDOW)

    pooled, text, by_rank = over_ranks(values, rule, str)
    return measurement(
        outcome,
        rule(pooled),
        pooled,
        f"window wider by {text} decades; {cut} of {2 * len(values) * pooled.n} windows reach the edge of the grid",
        undecided=[(pooled, SAME_WINDOW)],
        by_rank=by_rank,
    )


def smaller_loss_off_the_best_rate(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if at every rank the method loses less than the baseline at twice the best rate, beyond the interval.

    What a method loses is its validation loss at twice its own best learning rate minus that at the best one, seed by
    seed. Not seen if it loses more at one rank, equivalent if the difference lies within ±0.01 nats per answer token at
    every rank, inconclusive otherwise, and where a doubled rate was not run. The ranks share an error of 5 %. No run
    counts as worse than the model before training, and a diverged one counts as that; the note says how many do. The
    best rates are known to within the spacing of the grid, of a study from other seeds: no interval includes that, but
    it is the same for both.
    """
    cells, ranks = best_cells(outcome), outcome.plan.ranks
    if any((name, rank) not in cells for name, rank in product((baseline, method), ranks)):
        return no_best_cell(outcome, baseline, method)
    lost: dict[tuple[str, int], NDArray[np.float64]] = {}
    untrained = 0
    for name, rank in product((baseline, method), ranks):
        found = excess(cells[name, rank])
        if found is None:
            return without_effect(outcome, f"twice the best learning rate of {name} at r = {rank} was not run")
        lost[name, rank], capped = found
        untrained += int(capped.sum())
    gains = {rank: lost[baseline, rank] - lost[method, rank] for rank in ranks}
    runs = 2 * len(ranks) * len(outcome.plan.seeds)
    more = f"; {untrained} of {runs} runs there end no better than before training" if untrained else ""
    return _at_every_rank(outcome, gains, "validation loss rises less by", more)


def cheap_step(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if at every rank the map after the step takes less than a fifth of the rest of it, beyond the interval.

    Not seen if it takes more at one rank, inconclusive otherwise. The ranks share an error of 5 %. Both are clocked
    within one run, so that what else the machine does hits both, if not in the same proportion: shares of a few per
    cent in runs made at different times do not tell which of two maps is the faster one.
    """
    values = compared(outcome, baseline, method, lambda _, best: time_overhead(best))
    if values is None:
        return no_best_cell(outcome, baseline, method)

    def told(found: Effect) -> str:
        return f"{100 * found.estimate:.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"

    return _cheap(outcome, values, TIME_ALLOWED, told, "{} of the rest of a step")


def cheap_memory(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if at every rank the peak memory is less than 5 % above the baseline's, beyond the interval.

    Not seen if it is more at one rank, inconclusive otherwise. The ranks share an error of 5 %.
    """
    values = compared(outcome, baseline, method, memory_overhead)
    if values is None:
        return no_best_cell(outcome, baseline, method)
    if not all(np.isfinite(found).all() for found in values.values()):
        return without_effect(outcome, "the peak memory of some runs was not measured")

    def told(found: Effect) -> str:
        return f"{100 * found.estimate:+.1f} % [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"

    return _cheap(outcome, values, MEMORY_ALLOWED, told, "peak memory {}")


def _cheap(
    outcome: Outcome,
    values: Mapping[int, NDArray[np.float64]],
    allowed: float,
    told: Callable[[Effect], str],
    text: str,
) -> Measurement:
    """The verdict on the statement that a cost is below what is allowed, at every rank; the ranks share the error."""
    own, alpha = at_each_rank(values)
    cost = told_by_rank(own, told) if len(own) > 1 else told(*own.values())
    return measurement(
        outcome,
        all_of(decide((-found.high, -found.low), threshold=-allowed) for found in own.values()),
        max(own.values(), key=lambda found: found.high),
        text.format(cost),
        alpha=alpha,
        by_rank=as_evidence(own),
    )


def sooner(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if after fewer steps than the baseline the method reaches a validation loss that both reach.

    The loss is, for each seed, the higher one of those at which the two runs end, so that both get there and neither is
    favoured: with the names exchanged the effect changes its sign and nothing else. Of curves that fall to their ends
    it is the end of the run that ends higher; so the sign is that of the difference at the end, told as steps, and a
    lead that is lost before the end does not count. Beyond the interval of log₂ of the ratio of steps, linear in the
    loss between evaluations. Not seen if later, equivalent if within a factor of 1.05, inconclusive otherwise.
    """
    return _sooner(outcome, baseline, method, speedup, "steps")


def sooner_in_time(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if the method reaches a validation loss that both reach in less time than the baseline.

    By the rule on steps, a step taking 1 and the share that the method's map adds to it, clocked within one run: what
    else the machine did in another one does not count. The share is that of the model at hand; of a larger one it is
    smaller.
    """
    return _sooner(outcome, baseline, method, speedup_in_time, "time")


def _sooner(
    outcome: Outcome, baseline: str, method: str, gain: Callable[[Best, Best], NDArray[np.float64]], unit: str
) -> Measurement:
    values = compared(outcome, baseline, method, gain)
    if values is None:
        return no_best_cell(outcome, baseline, method)

    def rule(found: Effect) -> MeasuredName:
        return decide((found.low, found.high), margin=SAME_SPEED)

    def told(found: Effect) -> str:
        return f"{2**found.estimate:.2f} [{2**found.low:.2f}, {2**found.high:.2f}]"

    found, text, by_rank = over_ranks(values, rule, told)
    return measurement(
        outcome,
        rule(found),
        found,
        f"{text} times as fast in {unit}",
        undecided=[(found, SAME_SPEED)],
        by_rank=by_rank,
    )
