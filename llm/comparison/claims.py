"""Claims about fine-tuning, judged on a comparison: the short one of `verify` or the one that `compare` has just made.

Each claim's docstring states its rule. Effects are means over paired seeds with 95 % Student t intervals, pooled over
the ranks seed by seed; a claim holds if the interval lies on its side, is not seen if it lies on the other side,
equivalent if it lies within a margin that the rule states, and inconclusive otherwise. The verdicts on record are those
of the tiny model: they say nothing of larger ones.
"""

import atexit
import inspect
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.sources import ABSTRACT, FIRST_VERSION, ILORA, POSTER
from lorakappa.conditioning.verification.claim import Claim, ClaimOptions, Verdict, registry
from lorakappa.conditioning.verification.measured import MeasuredClaim, MeasuredName, Measurement, all_of, decide
from lorakappa.llm.comparison.best import Best, best_cells
from lorakappa.llm.comparison.effects import (
    Effect,
    effect,
    loss_gain,
    memory_overhead,
    paired,
    speedup,
    time_overhead,
    window,
    window_gain,
)
from lorakappa.llm.comparison.protocol import Outcome, Plan, compare, parse_grid
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.comparison.workers import Workers
from lorakappa.llm.data.models import TINY
from lorakappa.llm.data.sources import MATHEMATICS, load_splits

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

Judge = Callable[[Outcome, str, str], Measurement]
"""Judges an outcome with (baseline, method)."""


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
    splits = load_splits(MATHEMATICS, train=1000, validation=64, test=128, seed=0)
    folder, workers = _workplace()
    plan = replace(plan, seeds=tuple(range(first, first + seeds)))
    return compare(plan, replace(splits, extrapolate=()), folder, execute=workers, quiet=True)


@dataclass(frozen=True, kw_only=True)
class ComparisonClaim(MeasuredClaim):
    """A claim about two methods of a comparison.

    Attributes:
        baseline: name of one method.
        method: name of the other.
        judge: maps (outcome, baseline, method) to the measurement.
    """

    baseline: str
    method: str
    judge: Judge

    def about(self, outcome: Outcome) -> Verdict | None:
        """The verdict on another comparison; None if that lacks one of the methods."""
        if not {self.baseline, self.method} <= set(outcome.plan.methods):
            return None
        found = self.judge(outcome, self.baseline, self.method)
        plan = outcome.plan
        ranks = ", ".join(map(str, plan.ranks))
        setting = f"{self.baseline} and {self.method} on {_model(outcome)}, r = {ranks}, {plan.settings.steps} steps"
        return self.verdict_on(found, setting=setting, seed=plan.seeds[0])


def comparison_claim(
    id: str,
    statement: str,
    *,
    method: str,
    baseline: str = "lora",
    plan: Plan = RIVALS,
    **options: Unpack[ClaimOptions],
) -> Callable[[Judge], ComparisonClaim]:
    """Decorator: makes a judge, whose docstring states the rule, into a claim about two methods."""
    options.setdefault("experiment", "llm-compare")

    def decorate(judge: Judge) -> ComparisonClaim:
        return ComparisonClaim(
            id=id,
            statement=statement,
            domain=(
                f"{baseline} and {method} on the tiny model, r = {', '.join(map(str, plan.ranks))}, 30 steps of 8; "
                "adapters on q_proj, v_proj and down_proj, generated DeepMind Mathematics; anything else by `compare`"
            ),
            argument=inspect.getdoc(judge) or "",
            measure=lambda trials, seed: judge(short_comparison(plan, trials, seed), baseline, method),
            default_trials=3 if len(plan.ranks) > 1 else 4,
            baseline=baseline,
            method=method,
            judge=judge,
            **options,
        )

    return decorate


def _pooled(values: dict[int, NDArray[np.float64]]) -> Effect:
    """The mean over ranks, seed by seed, and its interval over seeds."""
    return effect(np.mean(list(values.values()), axis=0))


def _model(outcome: Outcome) -> str:
    return "the tiny model" if outcome.plan.settings.model == TINY else outcome.plan.settings.model


def _measurement(outcome: Outcome, verdict: MeasuredName, pooled: Effect, text: str, **evidence: Any) -> Measurement:
    name = _model(outcome).removeprefix("the ")
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
    values = paired(best_cells(outcome), method, baseline, measure)
    return values or None


def _nothing(outcome: Outcome, method: str) -> Measurement:
    note = f"{method} or its baseline trained at no learning rate with every seed"
    return Measurement(verdict="inconclusive", trials=len(outcome.plan.seeds), worst_margin=None, note=note)


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
        decide((pooled.low, pooled.high), margin=SAME_LOSS),
        pooled,
        f"test loss lower by {pooled} nats per answer token",
        by_rank={str(rank): asdict(effect(found)) for rank, found in values.items()},
    )


def lower_loss_at_every_rank(outcome: Outcome, baseline: str, method: str) -> Measurement:
    """Holds if that interval is above 0 at every rank, not seen if it is below 0 at one.

    Equivalent if it lies within ±0.01 nats at every rank, inconclusive otherwise.
    """
    values = _compared(outcome, baseline, method, loss_gain)
    if values is None:
        return _nothing(outcome, method)
    effects = {rank: effect(found) for rank, found in values.items()}
    verdict = all_of(decide((found.low, found.high), margin=SAME_LOSS) for found in effects.values())
    worst = min(effects.values(), key=lambda found: found.low)
    text = "; ".join(f"r = {rank} {found}" for rank, found in sorted(effects.items()))
    return _measurement(
        outcome, verdict, worst, f"test loss lower by {text}", by_rank={str(r): asdict(e) for r, e in effects.items()}
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
    return _measurement(
        outcome,
        decide((grown.low, grown.high), margin=SAME_LOSS),
        grown,
        f"gain at r = {ranks[-1]} above that at r = {ranks[0]} by {grown} nats per answer token",
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
]

CLAIMS = registry(CLAIMS_IN_ORDER)


def verdicts(outcome: Outcome) -> list[Verdict]:
    """What a comparison says on the claims whose methods it has."""
    judged = (claim.about(outcome) for claim in CLAIMS.values() if isinstance(claim, ComparisonClaim))
    return [verdict for verdict in judged if verdict is not None]
