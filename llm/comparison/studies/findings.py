"""What a study says: an effect with its interval and a verdict for each contrast, from the records that there are.

The rule: the interval is that of `fixed_width`, at the share of the error that Bonferroni's correction leaves to one
look at one contrast of its table (`Study.alpha`). It decides "equivalent" if it lies within ±δ, even if
above 0 or below; else "better" if all of it is above 0, "worse" if below, and "inconclusive" if it is on both sides.
Where a run diverged the interval is infinite, and nothing is decided.
"""

import math
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from lorakappa.conditioning.verification.measured import decide
from lorakappa.llm.comparison.effects import Effect, seeds_to_decide
from lorakappa.llm.comparison.effects import effect as effect_of
from lorakappa.llm.comparison.studies.progress import Progress, Selection
from lorakappa.llm.comparison.studies.study import Arm, Contrast, Study

WORDS: Final = {"holds": "better", "not seen": "worse", "equivalent": "equivalent", "inconclusive": "inconclusive"}
"""Verdicts on the statement that the gain exceeds 0, as they are called here."""


@dataclass(frozen=True)
class ArmFinding:
    """An arm at its chosen cell.

    Attributes:
        variant: the method with its λ.
        scaling: α/r.
        learning_rate: chosen.
        at_edge: whether a better one may lie beyond the grid.
        validation_loss: mean over the selection seeds.
        test_loss: mean over the fresh seeds that count.
        exact_match: likewise; None where it was not measured.
        diverged: how many of these runs diverged.
    """

    variant: str
    scaling: float
    learning_rate: float
    at_edge: bool
    validation_loss: float
    test_loss: float
    exact_match: float | None
    diverged: int


@dataclass(frozen=True)
class Finding:
    """What is known of a contrast.

    Attributes:
        contrast: which.
        verdict: "better", "worse", "equivalent" or "inconclusive".
        effect: the gain, baseline − method, in test loss: nats per answer token.
        exact_match: the gain in the share of exact answers, method − baseline, with its interval; None where it was not
            measured. Nothing is decided on it. Its seeds are those of the losses: their number depends on how these
            scatter or on the first look at them, not on how the shares scatter. So, of values that are jointly normal,
            it covers as often as the losses' interval, for the same reason (`fixed_width`), but its width is what comes
            out, and shares of a few answers are normal only roughly.
        method: its arm; None if no cell of it has been chosen.
        baseline: likewise.
        needed: seeds at which it is decided or the interval as narrow as wanted; None before the least number is there.
        to_decide: seeds at which it would decide, if the mean stayed where it is; None where it has decided or nothing
            is known.
        reason: why the seeds end here: "decided" if the first ones did, "width", "maximum", "budget", or "unfinished";
            "diverged" if a run of them did, so that no number of seeds gives an interval.
    """

    contrast: Contrast
    verdict: str
    effect: Effect
    exact_match: Effect | None
    method: ArmFinding | None
    baseline: ArmFinding | None
    needed: int | None
    to_decide: int | None
    reason: str

    def as_json(self) -> dict[str, Any]:
        """The finding as JSON-like data, null where a number is not finite."""
        contrast = self.contrast
        return {
            "table": contrast.table,
            "method": contrast.method.method,
            "baseline": contrast.baseline.method,
            "rank": contrast.rank,
            "steps": contrast.steps,
            "optimizer": contrast.method.settings.optimizer,
            "start": contrast.start,
            "verdict": self.verdict,
            "effect": _plain(self.effect),
            "exact_match": None if self.exact_match is None else _plain(self.exact_match),
            "method_arm": None if self.method is None else _finite(asdict(self.method)),
            "baseline_arm": None if self.baseline is None else _finite(asdict(self.baseline)),
            "needed": self.needed,
            "to_decide": self.to_decide,
            "reason": self.reason,
        }


def findings(progress: Progress) -> list[Finding]:
    """What a study says so far on every contrast, in order."""
    over = not progress.pending()
    return [_finding(progress, contrast, over) for contrast in progress.study.contrasts()]


def study_json(progress: Progress, source: str) -> dict[str, Any]:
    """What a study says, as JSON-like data, for tables and figures.

    Args:
        progress: of the study.
        source: description of the data.
    """
    study, found = progress.study, findings(progress)
    seconds, runs = progress.spent()
    return {
        "study": study.name,
        "summary": study.summary,
        "model": study.tables[0].settings.model,
        "data": source,
        "delta": study.delta,
        "half_width": study.half_width,
        "confidence": study.confidence,
        "correction": "Bonferroni, over the comparisons of a table and the looks at each",
        "tables": [
            {
                "name": table.name,
                "baseline": table.methods[0],
                "methods": list(table.methods),
                "ranks": list(table.ranks),
                "steps": list(table.steps),
                "starts": list(table.starts),
                "comparisons": len(table.contrasts()),
                "level": 1 - study.alpha(table.name),
            }
            for table in study.tables
        ],
        "findings": [finding.as_json() for finding in found],
        "counts": dict(Counter(finding.verdict for finding in found)),
        "runs": runs,
        "hours": seconds / 3600,
        "pending": len(progress.pending()),
    }


def _finding(progress: Progress, contrast: Contrast, over: bool) -> Finding:
    study, number = progress.study, progress.seeds(contrast)
    alpha, minimum = study.alpha(contrast.table), study.fresh.minimum
    values = progress.gains(contrast)[:number]
    effect = effect_of(values, first=minimum, alpha=alpha)
    word = WORDS[decide((effect.low, effect.high), margin=study.delta)]
    matches = -progress.gains(contrast, "test_exact_match")[:number]
    needed = progress.needed(contrast)
    return Finding(
        contrast=contrast,
        verdict=word,
        effect=effect,
        exact_match=effect_of(matches, first=minimum, alpha=alpha) if np.isfinite(matches).any() else None,
        method=_arm(progress, contrast.method, number),
        baseline=_arm(progress, contrast.baseline, number),
        needed=needed,
        to_decide=None if word != "inconclusive" else seeds_to_decide(effect, study.delta),
        reason=_reason(study, effect, needed, over),
    )


def _reason(study: Study, effect: Effect, needed: int | None, over: bool) -> str:
    if effect.n >= study.fresh.minimum and not math.isfinite(effect.estimate):
        return "diverged"
    if needed is None or effect.n < min(needed, study.fresh.maximum):
        return "budget" if over else "unfinished"
    if effect.n < needed:
        return "maximum"
    return "width" if effect.high - effect.low <= 2 * study.half_width else "decided"


def _arm(progress: Progress, arm: Arm, number: int) -> ArmFinding | None:
    selection: Selection = progress.selections[arm]
    place = selection.measured
    if place is None:
        return None
    records = progress.fresh(arm)[:number]
    losses = np.array([record["train_info"].get("test_loss", math.nan) for record in records], dtype=np.float64)
    matches = [record["train_info"].get("test_exact_match") for record in records]
    known = [match for match in matches if match is not None]
    return ArmFinding(
        variant=place.variant,
        scaling=place.scaling,
        learning_rate=place.learning_rate,
        at_edge=selection.at_edge,
        validation_loss=float(np.mean(selection.chosen_losses())),
        test_loss=float(losses.mean()) if len(losses) else math.nan,
        exact_match=float(np.mean(known)) if known else None,
        diverged=sum(record["train_info"]["status"] != "success" for record in records),
    )


def _plain(effect: Effect) -> dict[str, Any]:
    return _finite(asdict(effect))


def _finite(entries: dict[str, Any]) -> dict[str, Any]:
    """Null for numbers that are not finite."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in entries.items()
    }
