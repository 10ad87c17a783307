"""What a claim about fine-tuning is: two methods, a rule, and the evidence of a study, or else a short comparison."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Unpack, cast

from lorakappa.conditioning.verification.claim import ClaimOptions, Verdict, VerdictName
from lorakappa.conditioning.verification.measured import MeasuredClaim, Measurement
from lorakappa.llm.comparison.judges import Judge, larger_gain
from lorakappa.llm.comparison.judging import model_of
from lorakappa.llm.comparison.protocol import Outcome, Plan
from lorakappa.llm.comparison.short_comparisons import short_comparison
from lorakappa.llm.comparison.studies.about import STUDY as STUDY_FILE
from lorakappa.llm.comparison.studies.files import parse_study
from lorakappa.llm.comparison.studies.outcomes import (
    Stage,
    kept,
    outcome_of_study,
    recorded_verdict,
    sound_evidence,
    table_with,
)
from lorakappa.llm.comparison.studies.progress import Progress
from lorakappa.llm.comparison.studies.study import Study
from lorakappa.shared.methods import at_strengths

STUDY = "tiny"
"""The study whose evidence decides."""

_SHORT_REST = "adapters on q_proj, v_proj and down_proj, generated DeepMind Mathematics; anything else by `compare`"


@dataclass(frozen=True, kw_only=True)
class FineTuneClaim(MeasuredClaim):
    """A claim about two methods.

    Attributes:
        baseline: name of one method.
        method: name of the other.
        short: setting of the short comparison that is made where no evidence decides.
        table: of the study; None for the first that has both.
    """

    baseline: str
    method: str
    short: str
    table: str | None = None

    def examine(self, *, trials: int | None = None, seed: int = 0) -> Verdict:
        """Judges the evidence, or measures where there is none or a number of seeds is asked for."""
        folder = kept(STUDY)
        if trials is None and folder is not None:
            evidence = sound_evidence(folder)
            found = self.judged(evidence.progress, evidence.manifest.about.source)
            if found is not None:
                return self.verdict_on(found, setting=self.setting, seed=seed)
        return self.verdict_on(self.measure(trials or self.default_trials, seed), setting=self.short, seed=seed)

    def judged(self, progress: Progress, source: str) -> Measurement | None:
        """What a study says on it; None if no table of it can."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ComparisonClaim(FineTuneClaim):
    """A claim about two methods of a comparison.

    Attributes:
        judge: maps (outcome, baseline, method) to the measurement.
        stage: whose runs of a study it is put to.
    """

    judge: Judge
    stage: Stage

    def judged(self, progress: Progress, source: str) -> Measurement | None:
        """What a study says on it; None if no table of it has both methods."""
        outcome = outcome_of_study(progress, source, (self.baseline, self.method), self.stage, table=self.table)
        return None if outcome is None else self.judge(outcome, self.baseline, self.method)

    def about(self, outcome: Outcome) -> Verdict | None:
        """The verdict on another comparison; None if that lacks one of the methods, or is of another kind."""
        if self.table is not None or not {self.baseline, self.method} <= set(outcome.plan.methods):
            return None
        found = self.judge(outcome, self.baseline, self.method)
        plan = outcome.plan
        ranks = ", ".join(map(str, plan.ranks))
        setting = f"{self.baseline} and {self.method} on {model_of(outcome)}, r = {ranks}, {plan.settings.steps} steps"
        return self.verdict_on(found, setting=setting, seed=plan.seeds[0])


@dataclass(frozen=True, kw_only=True)
class GrowthClaim(FineTuneClaim):
    """A claim that the gain of a method is larger at one end of an axis of a table than at the other.

    Attributes:
        axis: "steps" or "start".
        ends: first and second value.
    """

    axis: Literal["steps", "start"]
    ends: tuple[float, float]

    def judged(self, progress: Progress, source: str) -> Measurement | None:
        """What a study says on it; None if it has no such table, or that lacks an end."""
        before, after = (self._outcome(progress, source, end) for end in self.ends)
        if before is None or after is None:
            return None
        return larger_gain(before, after, self.baseline, self.method, self.axis)

    def _outcome(self, progress: Progress, source: str, end: float) -> Outcome | None:
        steps, start = (int(end), None) if self.axis == "steps" else (None, end)
        return outcome_of_study(
            progress, source, (self.baseline, self.method), "fresh", table=self.table, steps=steps, start=start
        )


def comparison_claim(
    id: str,
    statement: str,
    *,
    method: str,
    plan: Plan,
    baseline: str = "lora",
    table: str | None = None,
    stage: Stage = "fresh",
    **options: Unpack[ClaimOptions],
) -> Callable[[Judge], ComparisonClaim]:
    """Decorator: makes a judge, whose docstring states the rule, into a claim about two methods.

    Where there is evidence, the verdict on record and the domain are those of the evidence.
    """

    def decorate(judge: Judge) -> ComparisonClaim:
        return ComparisonClaim(
            id=id,
            statement=statement,
            domain=_study_domain(baseline, method, table) or f"{_short(baseline, method, plan)}; {_SHORT_REST}",
            short=_short(baseline, method, plan),
            argument=inspect.getdoc(judge) or "",
            measure=lambda trials, seed: judge(short_comparison(plan, trials, seed), baseline, method),
            default_trials=3 if len(plan.ranks) > 1 else 4,
            baseline=baseline,
            method=method,
            table=table,
            judge=judge,
            stage=stage,
            **_recorded(id, options),
        )

    return decorate


def growth_claim(
    id: str,
    statement: str,
    *,
    axis: Literal["steps", "start"],
    ends: tuple[float, float],
    plans: tuple[Plan, Plan],
    table: str,
    method: str = "balora",
    baseline: str = "lora",
    **options: Unpack[ClaimOptions],
) -> GrowthClaim:
    """A claim on how a gain changes along an axis of a study; its rule is that of `judges.larger_gain`.

    Args:
        id: as in `Claim`, like `statement` and `options`.
        statement: as there.
        axis: of the table.
        ends: two values on it.
        plans: short comparisons for both, for where there is no evidence.
        table: of the study.
        method: name.
        baseline: name.
        options: further fields of `Claim`.
    """

    def measure(trials: int, seed: int) -> Measurement:
        before, after = (short_comparison(plan, trials, seed) for plan in plans)
        return larger_gain(before, after, baseline, method, axis)

    return GrowthClaim(
        id=id,
        statement=statement,
        domain=_study_domain(baseline, method, table, axis, ends)
        or f"{_short(baseline, method, plans[1])}; {_SHORT_REST}",
        short=_short(baseline, method, plans[1]),
        argument=(inspect.getdoc(larger_gain) or "").partition("\n\nArgs:")[0],
        measure=measure,
        default_trials=3,
        baseline=baseline,
        method=method,
        table=table,
        axis=axis,
        ends=ends,
        **_recorded(id, options),
    )


def _recorded(id: str, options: ClaimOptions) -> ClaimOptions:
    """A claim's options with the experiment and the verdict on record, that of the evidence where there is any."""
    recorded = cast(VerdictName, recorded_verdict(STUDY, id) or options.get("recorded", "inconclusive"))
    return {"experiment": "llm-compare", **options, "recorded": recorded}


@cache
def _study_of(folder: Path) -> Study:
    """The study that evidence is of, read once for all claims."""
    return parse_study((folder / STUDY_FILE).read_text(encoding="utf-8"), f"{STUDY}.toml")


def _study_domain(
    baseline: str, method: str, name: str | None, axis: str | None = None, ends: tuple[float, ...] = ()
) -> str:
    """The domain of a claim as the evidence has it; empty if there is none."""
    folder = kept(STUDY)
    if folder is None:
        return ""
    study = _study_of(folder)
    table = table_with(study, {baseline, method}, name)
    if table is None:
        return ""
    ranks, settings = ", ".join(map(str, table.ranks)), table.settings
    steps = ends if axis == "steps" else table.steps[:1]
    values = " and ".join(f"{value:g}" for value in steps)
    also = [f"α/r = {' and '.join(f'{value:g}' for value in ends)}"] if axis == "start" else []
    also += ["the size of the start tuned, too"] if len(table.scalings) > 1 else []
    also += ["SGD with momentum"] if settings.optimizer == "sgd" else []
    if any(len(at_strengths(name, (1.0, 2.0), "llm")) > 1 for name in (baseline, method)):
        also.append(f"λ = {', '.join(f'{value:g}' for value in table.strengths)}")
    return (
        f"{baseline} and {method} on the tiny model, r = {ranks}, {values} steps of {settings.batch_size}"
        f"{''.join(f', {part}' for part in also)}; "
        f"study {STUDY}, cells chosen on {len(study.selection_seeds)} seeds and measured on others; anything else by "
        "`compare`"
    )


def _short(baseline: str, method: str, plan: Plan) -> str:
    """The setting of a short comparison."""
    ranks, settings = ", ".join(map(str, plan.ranks)), plan.settings
    return f"{baseline} and {method} on the tiny model, r = {ranks}, {settings.steps} steps of {settings.batch_size}"
