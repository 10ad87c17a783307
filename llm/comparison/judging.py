"""What the rules have in common: an effect over ranks, what it would take to decide it, and what is said of it.

A pooled effect is the plain mean over ranks, in its own unit, so that the rank that varies most decides how wide the
interval is; weights by the ranks' variances, known from the same few seeds, would make it too narrow.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.verification.measured import MeasuredName, Measurement
from lorakappa.llm.comparison.best import Best, best_cells
from lorakappa.llm.comparison.effects import CONFIDENCE, Effect, effect, paired, seeds_to_decide
from lorakappa.llm.comparison.protocol import Outcome
from lorakappa.llm.data.models import TINY


def model_of(outcome: Outcome) -> str:
    """Its model, in words."""
    return "the tiny model" if outcome.plan.settings.model == TINY else outcome.plan.settings.model


def heading(outcome: Outcome, seeds: int) -> str:
    """How every note begins."""
    return f"{model_of(outcome).removeprefix('the ')}, {seeds} seeds, {outcome.plan.settings.steps} steps: "


def measurement(
    outcome: Outcome,
    verdict: MeasuredName,
    found: Effect,
    text: str,
    *,
    undecided: Sequence[tuple[Effect, float]] = (),
    alpha: float = 1 - CONFIDENCE,
    **evidence: Any,
) -> Measurement:
    """A measurement, whose note says of an inconclusive one how many seeds it would take.

    Args:
        outcome: that was judged.
        verdict: on it.
        found: effect on which it rests.
        text: what it says.
        undecided: effects that must be decided, each with the margin within which it counts as none.
        alpha: probability with which the interval of each may miss.
        evidence: further numbers.
    """
    counts = [seeds_to_decide(each, margin, alpha=alpha) for each, margin in undecided]
    known = [count for count in counts if count is not None]
    if verdict == "inconclusive" and known:
        text += f"; at this mean some {max(known)} seeds would decide"
    return Measurement(
        verdict=verdict,
        trials=found.n,
        worst_margin=found.low if np.isfinite(found.low) else None,
        note=heading(outcome, found.n) + text,
        evidence={"effect": asdict(found), **evidence},
    )


def without_effect(outcome: Outcome, reason: str) -> Measurement:
    """Inconclusive, without an effect."""
    seeds = len(outcome.plan.seeds)
    return Measurement("inconclusive", seeds, worst_margin=None, note=heading(outcome, seeds) + reason)


def compared(
    outcome: Outcome,
    baseline: str,
    method: str,
    measure: Callable[[Best, Best], NDArray[np.float64]],
) -> dict[int, NDArray[np.float64]] | None:
    """By rank; None if one is missing: what diverges at a rank must not be judged on the others alone."""
    values = paired(best_cells(outcome), method, baseline, measure)
    return values if values.keys() == set(outcome.plan.ranks) else None


def no_best_cell(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Of a rank where a method has no best cell."""
    runs = Counter(name for (name, _), records in outcome.records.items() for _ in records)
    lost = Counter(
        name
        for (name, _), records in outcome.records.items()
        for record in records
        if record["train_info"]["status"] != "success"
    )
    diverged = ", ".join(f"{lost[name]} of {runs[name]} runs of {name} diverged" for name in (method, baseline))
    reason = f"at some rank {method} or its baseline trained at no learning rate with every seed"
    return without_effect(outcome, f"{reason}; {diverged}")


def at_each_rank(values: Mapping[int, NDArray[np.float64]]) -> tuple[dict[int, Effect], float]:
    """The effect of each rank, in order, and the share that each of them has of the error."""
    alpha = (1 - CONFIDENCE) / len(values)
    return {rank: effect(found, alpha=alpha) for rank, found in sorted(values.items())}, alpha


def told_by_rank(own: Mapping[int, Effect], told: Callable[[Effect], str]) -> str:
    """The effects of the ranks in words."""
    return "; ".join(f"r = {rank} {told(found)}" for rank, found in own.items())


def as_evidence(own: Mapping[int, Effect]) -> dict[str, Any]:
    """The effects of the ranks as evidence."""
    return {str(rank): asdict(found) for rank, found in own.items()}


def over_ranks(
    values: Mapping[int, NDArray[np.float64]], rule: Callable[[Effect], MeasuredName], told: Callable[[Effect], str]
) -> tuple[Effect, str, dict[str, Any]]:
    """The mean over ranks, seed by seed, with its interval over seeds.

    Args:
        values: (n,) by rank.
        rule: what an effect says.
        told: an effect in words.

    Returns:
        The effect, it in words with those of the ranks where they disagree, and those of the ranks as evidence.
    """
    found = effect(np.mean(list(values.values()), axis=0))
    own = {rank: effect(each) for rank, each in sorted(values.items())}
    words, signs = {rule(each) for each in own.values()}, {each.estimate > 0 for each in own.values()}
    text = told(found)
    if words != {rule(found)} or (words == {"inconclusive"} and len(signs) > 1):
        text += f" ({told_by_rank(own, told)})"
    return found, text, as_evidence(own)
