"""Claims about fine-tuning, judged on the evidence of the study "tiny", or on what `compare` has just made.

Where the evidence is not there, or a number of seeds is asked for, `verify` makes a short comparison instead. Each
claim's rule is its judge's docstring (`llm.comparison.judges`). The verdicts on record are those of the tiny model:
they say nothing of larger ones.
"""

from collections.abc import Sequence

from lorakappa.conditioning.sources import ABSTRACT, FIRST_VERSION, ILORA, POSTER
from lorakappa.conditioning.verification.claim import Claim, Verdict, registry
from lorakappa.conditioning.verification.measured import measured_claim
from lorakappa.llm.comparison.claim_kinds import ComparisonClaim, FineTuneClaim, comparison_claim, growth_claim
from lorakappa.llm.comparison.judges import (
    cheap_memory,
    cheap_step,
    larger_gain_at_the_largest_rank,
    lower_loss,
    lower_loss_at_every_rank,
    smaller_loss_off_the_best_rate,
    sooner,
    sooner_in_time,
    wider_window,
)
from lorakappa.llm.comparison.protocol import Outcome
from lorakappa.llm.comparison.repeating import REPLAY_SECONDS, runs_repeat
from lorakappa.llm.comparison.short_comparisons import (
    BEST_STARTS,
    BY_RANK,
    HORIZONS,
    OFF_THE_BEST,
    RIVALS,
    SGD,
    STARTS,
    VARIANTS,
)
from lorakappa.llm.comparison.studies.progress import Progress

CLAIMS_IN_ORDER: Sequence[Claim] = [
    comparison_claim(
        "llm-balora-loss",
        "Fine-tuned with BaLoRA a model reaches a lower test loss than with LoRA, each at its own best learning rate.",
        method="balora",
        plan=RIVALS,
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
        plan=RIVALS,
        recorded="holds",
        stage="selection",
        source=FIRST_VERSION.at("more robust to hyperparameters"),
    )(wider_window),
    comparison_claim(
        "llm-balora-twice-the-rate",
        "BaLoRA is more robust to the learning rate: at twice its best rate it loses less than LoRA at twice its own.",
        method="balora",
        plan=OFF_THE_BEST,
        table="twice the best rate",
        recorded="inconclusive",
        source=FIRST_VERSION.at("more robust to hyperparameters"),
    )(smaller_loss_off_the_best_rate),
    comparison_claim(
        "llm-overhead-time",
        "The projection is lightweight: it takes less than a fifth of the rest of a training step.",
        method="balora",
        plan=RIVALS,
        recorded="holds",
        source=ABSTRACT.at("lightweight"),
    )(cheap_step),
    comparison_claim(
        "llm-overhead-memory",
        "BaLoRA needs less than 5 % more memory than LoRA.",
        method="balora",
        plan=RIVALS,
        recorded="holds",
        source=POSTER.at("BaLoRA, negligible overhead"),
    )(cheap_memory),
    comparison_claim(
        "llm-converges-faster",
        "BaLoRA converges faster than LoRA: it is sooner, in steps, at a loss that both reach.",
        method="balora",
        plan=RIVALS,
        recorded="inconclusive",
        source=ABSTRACT.at("converges faster"),
    )(sooner),
    comparison_claim(
        "llm-converges-faster-time",
        "BaLoRA is sooner in time, too, at a loss that both reach, its steps being longer.",
        method="balora",
        plan=RIVALS,
        kind="question",
        recorded="inconclusive",
    )(sooner_in_time),
    comparison_claim(
        "llm-ilora-loss",
        "Fine-tuned with iLoRA a model reaches a lower test loss than with LoRA, each at its own best learning rate.",
        method="ilora",
        plan=RIVALS,
        recorded="inconclusive",
        source=ILORA.at("Abstract, experiments"),
    )(lower_loss),
    comparison_claim(
        "llm-ilora-overhead-time",
        "iLoRA's update is negligible in time: it takes less than a fifth of the rest of a training step.",
        method="ilora",
        plan=RIVALS,
        recorded="holds",
        source=ILORA.at("Section 6.3, run time"),
    )(cheap_step),
    comparison_claim(
        "llm-pilora-loss",
        "Fine-tuned with πLoRA a model reaches a lower test loss than with LoRA, each at its own best learning rate.",
        method="pilora",
        plan=RIVALS,
        recorded="not seen",
        source=ILORA.at("Abstract, experiments"),
    )(lower_loss),
    comparison_claim(
        "llm-pilora-preconditioned",
        "πLoRA reaches a lower test loss than preconditioning alone, each at its own best learning rate.",
        method="pilora",
        plan=RIVALS,
        baseline="scaled-gd",
        recorded="holds",
        source=ILORA.at("Abstract, experiments"),
    )(lower_loss),
    comparison_claim(
        "llm-balora-ilora",
        "Is balance the better advice in a fine-tune: does BaLoRA reach a lower test loss than iLoRA?",
        method="balora",
        plan=RIVALS,
        baseline="ilora",
        kind="question",
        recorded="inconclusive",
    )(lower_loss),
    comparison_claim(
        "llm-balora-sgd",
        "Under SGD with momentum BaLoRA reaches a lower test loss than LoRA.",
        method="balora",
        table="sgd",
        plan=SGD,
        kind="question",
    )(lower_loss),
    growth_claim(
        "llm-balora-horizon",
        "BaLoRA's gain in test loss over LoRA is larger after many steps than after few.",
        table="horizons",
        axis="steps",
        ends=(60, 600),
        plans=HORIZONS,
        kind="question",
    ),
    growth_claim(
        "llm-balora-start",
        "BaLoRA's gain in test loss over LoRA is larger from a large start than from a small one.",
        table="starts",
        axis="start",
        ends=(0.01, 100.0),
        plans=STARTS,
        kind="question",
    ),
    comparison_claim(
        "llm-balora-best-start",
        "BaLoRA reaches a lower test loss than LoRA where the size of the start is tuned for each, too.",
        method="balora",
        table="best starts",
        plan=BEST_STARTS,
        kind="question",
    )(lower_loss),
    comparison_claim(
        "llm-fisher-balora",
        "The gauge that the gradients' second moments ask for reaches a lower test loss than the paper's.",
        method="balora-fisher:gauge=hyperbalanced",
        baseline="balora",
        plan=VARIANTS,
        kind="question",
    )(lower_loss),
    comparison_claim(
        "llm-balora-period",
        "Projecting every ten steps reaches a lower test loss than doing so after every one.",
        method="balora@10",
        baseline="balora",
        plan=VARIANTS,
        kind="question",
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
    found = {id: claim.judged(progress, source) for id, claim in CLAIMS.items() if isinstance(claim, FineTuneClaim)}
    return {id: measurement.verdict for id, measurement in found.items() if measurement is not None}
