"""Claims about fine-tuning, judged on the evidence of the study "tiny", or on what `compare` has just made.

Where the evidence is not there, or a number of seeds is asked for, `verify` makes a short comparison instead. Each
claim's rule is its judge's docstring (`llm.comparison.judges`). The verdicts on record are those of the tiny model:
they say nothing of larger ones.
"""

import atexit
import inspect
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Unpack, cast

from lorakappa.conditioning.sources import ABSTRACT, FIRST_VERSION, ILORA, POSTER
from lorakappa.conditioning.verification.claim import Claim, ClaimOptions, Verdict, VerdictName, registry
from lorakappa.conditioning.verification.measured import MeasuredClaim, Measurement, measured_claim
from lorakappa.llm.comparison.judges import (
    Judge,
    cheap_memory,
    cheap_step,
    larger_gain_at_the_largest_rank,
    lower_loss,
    lower_loss_at_every_rank,
    model_of,
    sooner,
    wider_window,
)
from lorakappa.llm.comparison.protocol import Outcome, Plan, compare, parse_grid
from lorakappa.llm.comparison.runs import Record
from lorakappa.llm.comparison.settings import Run, TrainingSettings
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
from lorakappa.llm.comparison.studies.replay import Replay, compared, make_again, sample, spread_of
from lorakappa.llm.comparison.workers import Workers
from lorakappa.llm.data.sources import MATHEMATICS, load_splits
from lorakappa.llm.data.splits import Splits

STUDY = "tiny"
"""The study whose evidence decides."""

_SETTINGS = TrainingSettings(
    steps=30, batch_size=8, evaluations=2, generate=0, targets=("q_proj", "v_proj", "down_proj")
)
_GRID = parse_grid("6.3e-3:6.3e-2:3")

BY_RANK = Plan(("lora", "balora"), ranks=(2, 8), learning_rates=_GRID, settings=_SETTINGS, extensions=1)
"""BaLoRA against LoRA at two ranks."""

RIVALS = Plan(
    ("lora", "balora", "ilora", "scaled-gd", "pilora"),
    ranks=(8,),
    learning_rates=_GRID,
    strengths=(10.0,),
    settings=_SETTINGS,
    extensions=1,
)
"""Everybody against everybody; at λ = 10, the best of 1, 3 and 10 for πLoRA (iLoRA hardly feels it)."""


@cache
def _workplace() -> tuple[Path, Workers]:
    """A temporary folder and workers for the short comparisons of this process, which end with it."""
    folder = tempfile.TemporaryDirectory()
    workers = Workers(os.cpu_count() or 1)
    atexit.register(folder.cleanup)
    atexit.register(workers.__exit__)
    return Path(folder.name), workers


@cache
def short_comparison(plan: Plan, seeds: int, first: int) -> Outcome:
    """A comparison on the tiny model with those seeds; made once per process, sharing runs with others."""
    folder, workers = _workplace()
    plan = replace(plan, seeds=tuple(range(first, first + seeds)))
    return compare(plan, _short_splits(), folder, execute=workers, quiet=True)


@cache
def _short_splits() -> Splits:
    splits = load_splits(MATHEMATICS, train=1000, validation=64, test=128, seed=0)
    return replace(splits, extrapolate=())


@dataclass(frozen=True, kw_only=True)
class ComparisonClaim(MeasuredClaim):
    """A claim about two methods of a comparison.

    Attributes:
        baseline: name of one method.
        method: name of the other.
        judge: maps (outcome, baseline, method) to the measurement.
        stage: whose runs of a study it is put to.
    """

    baseline: str
    method: str
    judge: Judge
    stage: Stage

    def examine(self, *, trials: int | None = None, seed: int = 0) -> Verdict:
        """Judges the evidence, or measures where there is none or a number of seeds is asked for."""
        folder = kept(STUDY)
        if trials is None and folder is not None:
            evidence = sound_evidence(folder)
            found = self.judged(evidence.progress, evidence.manifest.about.source)
            if found is not None:
                return self.verdict_on(found, setting=self.setting, seed=seed)
        return super().examine(trials=trials, seed=seed)

    def judged(self, progress: Progress, source: str) -> Measurement | None:
        """What a study says on it; None if no table of it has both methods."""
        outcome = outcome_of_study(progress, source, (self.baseline, self.method), self.stage)
        return None if outcome is None else self.judge(outcome, self.baseline, self.method)

    def about(self, outcome: Outcome) -> Verdict | None:
        """The verdict on another comparison; None if that lacks one of the methods."""
        if not {self.baseline, self.method} <= set(outcome.plan.methods):
            return None
        found = self.judge(outcome, self.baseline, self.method)
        plan = outcome.plan
        ranks = ", ".join(map(str, plan.ranks))
        setting = f"{self.baseline} and {self.method} on {model_of(outcome)}, r = {ranks}, {plan.settings.steps} steps"
        return self.verdict_on(found, setting=setting, seed=plan.seeds[0])


def comparison_claim(
    id: str,
    statement: str,
    *,
    method: str,
    baseline: str = "lora",
    plan: Plan = RIVALS,
    stage: Stage = "fresh",
    **options: Unpack[ClaimOptions],
) -> Callable[[Judge], ComparisonClaim]:
    """Decorator: makes a judge, whose docstring states the rule, into a claim about two methods.

    Where there is evidence, the verdict on record and the domain are those of the evidence.
    """
    options.setdefault("experiment", "llm-compare")
    options["recorded"] = cast(VerdictName, recorded_verdict(STUDY, id) or options["recorded"])

    def decorate(judge: Judge) -> ComparisonClaim:
        return ComparisonClaim(
            id=id,
            statement=statement,
            domain=_study_domain(baseline, method)
            or (
                f"{baseline} and {method} on the tiny model, r = {', '.join(map(str, plan.ranks))}, 30 steps of 8; "
                "adapters on q_proj, v_proj and down_proj, generated DeepMind Mathematics; anything else by `compare`"
            ),
            argument=inspect.getdoc(judge) or "",
            measure=lambda trials, seed: judge(short_comparison(plan, trials, seed), baseline, method),
            default_trials=3 if len(plan.ranks) > 1 else 4,
            baseline=baseline,
            method=method,
            judge=judge,
            stage=stage,
            **options,
        )

    return decorate


@cache
def _study_domain(baseline: str, method: str) -> str:
    """The domain of a claim as the evidence has it; empty if there is none."""
    folder = kept(STUDY)
    if folder is None:
        return ""
    study = parse_study((folder / STUDY_FILE).read_text(encoding="utf-8"), f"{STUDY}.toml")
    table = table_with(study, {baseline, method})
    if table is None:
        return ""
    ranks, settings = ", ".join(map(str, table.ranks)), table.settings
    return (
        f"{baseline} and {method} on the tiny model, r = {ranks}, {table.steps[0]} steps of {settings.batch_size}; "
        f"study {STUDY}, cells chosen on {len(study.selection_seeds)} seeds and measured on others; anything else by "
        "`compare`"
    )


REPLAY_SECONDS = 20.0
"""Computing that a sample of runs may take."""


def runs_repeat(trials: int, seed: int) -> Measurement:
    """Holds if a random sample of runs on record, made again, has the losses on record; not seen if one has not.

    On the type of machine and with the versions of the record, they may differ by rounding of the losses; elsewhere by
    no more than the losses of the arm's seeds lie apart. Without evidence the runs of the short comparison are taken.
    """
    folder = kept(STUDY)
    if folder is None:
        records, splits, progress = _short_records(seed), _short_splits(), None
    else:
        evidence = sound_evidence(folder)
        records = evidence.records
        splits = load_splits(evidence.study.data.source, **evidence.study.data.options())
        if splits.digest != evidence.manifest.about.digest:
            return Measurement("not seen", 0, None, "the data of the runs cannot be made again: its digest differs")
        progress = evidence.progress
    keys = sample(records, count=trials, seed=seed, seconds=REPLAY_SECONDS)
    again = make_again(keys, splits, _workplace()[1])
    replays = [
        compared(key, records[key], again[key], 0.0 if progress is None else spread_of(progress, key))
        for key in keys
        if key in again
    ]
    return _repeated(replays, len(keys) - len(replays))


def _repeated(replays: Sequence[Replay], lost: int) -> Measurement:
    """The verdict on runs that were made again."""
    wrong = [replay for replay in replays if not replay.agrees]
    largest = max((replay.difference for replay in replays), default=0.0)
    here = sum(replay.same_machine for replay in replays)
    note = f"{len(replays)} runs made again, {here} by the type of machine on record: losses differ by {largest:.2g}"
    if lost:
        note += f"; {lost} failed"
    if wrong:
        run = wrong[0].run
        note += f"; {run.method} at r = {run.rank}, seed {run.seed}: more than the {wrong[0].allowed:.2g} allowed"
    return Measurement(
        verdict="not seen" if wrong or lost else "holds",
        trials=len(replays) + lost,
        worst_margin=min((replay.allowed - replay.difference for replay in replays), default=None),
        note=note,
        evidence={"replays": [asdict(replay) for replay in replays]},
    )


def _short_records(seed: int) -> dict[tuple[Run, TrainingSettings], Record]:
    """The runs of the short comparison."""
    outcome = short_comparison(BY_RANK, 3, seed)
    return {(Run(**r["run"]), BY_RANK.settings): r for group in outcome.records.values() for r in group}


CLAIMS_IN_ORDER: Sequence[Claim] = [
    comparison_claim(
        "llm-balora-loss",
        "Fine-tuned with BaLoRA a model reaches a lower test loss than with LoRA, each at its own best learning rate.",
        method="balora",
        recorded="inconclusive",
        source=ABSTRACT.at("superior performance"),
    )(lower_loss),
    comparison_claim(
        "llm-balora-rank",
        "BaLoRA's test loss is lower than LoRA's at every rank.",
        method="balora",
        plan=BY_RANK,
        kind="question",
        recorded="inconclusive",
    )(lower_loss_at_every_rank),
    comparison_claim(
        "llm-balora-larger-ranks",
        "BaLoRA has an edge for larger ranks: its gain in test loss over LoRA is larger at the larger rank.",
        method="balora",
        plan=BY_RANK,
        recorded="inconclusive",
        source=POSTER.at("Experiments with LLMs, larger ranks"),
    )(larger_gain_at_the_largest_rank),
    comparison_claim(
        "llm-balora-robust-lr",
        "BaLoRA is more robust to the learning rate: the window within 1 % of its best loss is wider than LoRA's.",
        method="balora",
        recorded="holds",
        stage="selection",
        source=FIRST_VERSION.at("more robust to hyperparameters"),
    )(wider_window),
    comparison_claim(
        "llm-overhead-time",
        "The projection is lightweight: it takes less than a fifth of the rest of a training step.",
        method="balora",
        recorded="holds",
        source=ABSTRACT.at("lightweight"),
    )(cheap_step),
    comparison_claim(
        "llm-overhead-memory",
        "BaLoRA needs less than 5 % more memory than LoRA.",
        method="balora",
        recorded="holds",
        source=POSTER.at("BaLoRA, negligible overhead"),
    )(cheap_memory),
    comparison_claim(
        "llm-converges-faster",
        "BaLoRA reaches LoRA's final validation loss sooner, in steps and in seconds.",
        method="balora",
        recorded="inconclusive",
        source=ABSTRACT.at("converges faster"),
    )(sooner),
    comparison_claim(
        "llm-ilora-loss",
        "Fine-tuned with iLoRA a model reaches a lower test loss than with LoRA, each at its own best learning rate.",
        method="ilora",
        recorded="inconclusive",
        source=ILORA.at("Abstract, experiments"),
    )(lower_loss),
    comparison_claim(
        "llm-ilora-overhead-time",
        "iLoRA's update is negligible in time: it takes less than a fifth of the rest of a training step.",
        method="ilora",
        recorded="holds",
        source=ILORA.at("Section 6.3, run time"),
    )(cheap_step),
    comparison_claim(
        "llm-pilora-loss",
        "Fine-tuned with πLoRA a model reaches a lower test loss than with LoRA, each at its own best learning rate.",
        method="pilora",
        recorded="not seen",
        source=ILORA.at("Abstract, experiments"),
    )(lower_loss),
    comparison_claim(
        "llm-pilora-preconditioned",
        "πLoRA reaches a lower test loss than preconditioning alone, each at its own best learning rate.",
        method="pilora",
        baseline="scaled-gd",
        recorded="holds",
        source=ILORA.at("Abstract, experiments"),
    )(lower_loss),
    comparison_claim(
        "llm-balora-ilora",
        "Is balance the better advice in a fine-tune: does BaLoRA reach a lower test loss than iLoRA?",
        method="balora",
        baseline="ilora",
        kind="question",
        recorded="inconclusive",
    )(lower_loss),
    measured_claim(
        "llm-runs-repeat",
        "A fine-tune on record comes out the same when it is made again.",
        domain="a random sample of the runs that the claims on fine-tunes rest on; the tiny model",
        trials=4,
        kind="question",
        experiment="llm-compare",
        seconds=REPLAY_SECONDS,
    )(runs_repeat),
]

CLAIMS = registry(CLAIMS_IN_ORDER)


def verdicts(outcome: Outcome) -> list[Verdict]:
    """What a comparison says on the claims whose methods it has."""
    judged = (claim.about(outcome) for claim in CLAIMS.values() if isinstance(claim, ComparisonClaim))
    return [verdict for verdict in judged if verdict is not None]


def verdicts_of_study(progress: Progress, source: str) -> dict[str, str]:
    """What a study says on the claims whose methods one of its tables has, by id."""
    found = {id: claim.judged(progress, source) for id, claim in CLAIMS.items() if isinstance(claim, ComparisonClaim)}
    return {id: measurement.verdict for id, measurement in found.items() if measurement is not None}
