"""iLoRA's ablations and what it says of robustness: trained ratio, other ratios, learning rate, λ, and LoRA+ beside it.

The paper's own experiments are fine-tunes (Mistral 7B, GPT-2, a diffusion model); these are small losses.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.sources import ILORA, LORA_PLUS
from lorakappa.conditioning.verification import MeasuredName, Measurement, all_of, decide
from lorakappa.synthetic.arms.arm import Arm, Quantity
from lorakappa.synthetic.arms.intervals import median_interval
from lorakappa.synthetic.arms.outcomes import Outcomes
from lorakappa.synthetic.claims.gains import MAIN, edges, edges_of, judged, show
from lorakappa.synthetic.claims.ilora import (
    BEATS_DOMAIN,
    CELL_BATCHES,
    OPTIMIZERS,
    every_arm,
    ratio_arms,
    rival_gains,
    tuned_arm,
    tuned_claim,
)
from lorakappa.synthetic.claims.on_record import RecordedClaim, recorded_claim

COMPARISONS = (
    tuned_claim(
        "ilora-trained-ratio-worse",
        "iLoRA with its ratio fixed at r/m reaches a lower loss than with the ratio trained from r/m on.",
        "ilora:trained=yes",
        "ilora",
        experiment="ilora",
        source=ILORA.at("Section 6.4, trained ratio, performance"),
        recorded="not seen",
    ),
    tuned_claim(
        "ilora-untuned",
        "iLoRA with one λ = 0.01 for all settings still reaches a lower loss than LoRA.",
        "lora",
        "ilora:lambda=0.01",
        experiment="ilora",
        source=ILORA.at("Appendix C.2.1, hyperparameters not tuned"),
        recorded="inconclusive",
    ),
    tuned_claim(
        "pilora-beats-lora-plus",
        "Under Adam πLoRA reaches a lower loss than LoRA+ with the ratio 2⁴ of learning rates.",
        "lora-plus",
        "pilora",
        experiment="preconditioned",
        optimizers=("Adam",),
        source=ILORA.at("Table 7"),
    ),
    tuned_claim(
        "lora-plus-beats-lora",
        "Under Adam LoRA+ with the ratio 2⁴ of learning rates reaches a lower loss than LoRA, each at its own best.",
        "lora",
        "lora-plus",
        experiment="preconditioned",
        optimizers=("Adam",),
        source=LORA_PLUS.at("a fixed ratio corrects it"),
        recorded="not seen",
    ),
    tuned_claim(
        "lora-plus-proportional",
        "Is a/r, at which LoRA+ keeps d(BBᵀ) = (r/a)·d(AᵀA) to first order under GD, a better ratio of its rates "
        "than 2⁴?",
        "lora-plus",
        "lora-plus:lr-ratio=5",
        experiment="preconditioned",
        kind="question",
    ),
)


def _arms(method: str, quantity: Quantity, batches: int = Arm.batches) -> dict[str, Arm]:
    """A method in both losses under both optimizers, with what is measured of it."""
    settings = {f"{label} {loss}": (loss, OPTIMIZERS[label]) for label in OPTIMIZERS for loss in MAIN}
    return {name: tuned_arm(*where, method, quantity=quantity, batches=batches) for name, where in settings.items()}


def _by_layer(outcomes: Outcomes, arms: Mapping[str, Arm]) -> dict[str, dict[str, Any]]:
    """The median of what was measured with its interval, by setting and layer, and how many runs diverged."""
    found: dict[str, tuple[Array, int]] = {}
    for name, arm in arms.items():
        measured = outcomes.measured(arm)
        for layer, row in enumerate(measured.values, start=1):
            found[name if arm.rows == 1 else f"{name} {layer}"] = row, measured.diverged
    return {name: {**median_interval(row, len(found)), "diverged": lost} for name, (row, lost) in found.items()}


def _edges(outcomes: Outcomes, arms: Mapping[str, Arm]) -> str:
    """Where λ is at the edge of its grid, in words (`gains.edges`)."""
    choices = {name: outcomes.choice(arm) for name, arm in arms.items()}
    found = {name: choice.strength for name, choice in choices.items() if choice.strength_at_edge}
    return edges({name: [strength] for name, strength in found.items() if strength is not None})


WINDOWS = {method: _arms(method, "window", CELL_BATCHES) for method in ("lora", "ilora")}


@recorded_claim(
    "ilora-robust-lr",
    "iLoRA is more robust to the learning rate than LoRA: the range of step sizes that end within a decade of the best "
    "loss is wider.",
    source=ILORA.at("Section 1, robustness"),
    domain=BEATS_DOMAIN.format("GD and Adam"),
    arms=every_arm(WINDOWS),
    trials=12,
    experiment="ilora",
    recorded="not seen",
)
def ilora_robust_lr(outcomes: Outcomes) -> Measurement:
    """Rule: holds if the interval of the difference of widths is above 0 for both losses and optimizers.

    Not seen if it is below 0 for one; within ±0.05 decades it counts as none. iLoRA is at its best λ throughout; a step
    size at which a run diverges is outside.
    """
    differences = {}
    for name, arm in WINDOWS["ilora"].items():
        wider = outcomes.measured(arm).values[0] - outcomes.measured(WINDOWS["lora"][name]).values[0]
        differences[name] = median_interval(wider, len(WINDOWS["ilora"]))
    note = "decades by which it is wider: " + ", ".join(show(name, found) for name, found in differences.items())
    note += _edges(outcomes, WINDOWS["ilora"])
    lowest = min(found["interval"][0] for found in differences.values())
    verdict = all_of(judged(found) for found in differences.values())
    return Measurement(verdict, _number(differences), lowest, note, {"differences": differences})


def _number(found: Mapping[str, Mapping[str, Any]]) -> int:
    """The number of problems that medians are of."""
    return int(next(iter(found.values()))["n"])


CLOSE = 2.0
"""Factor within which a trained ratio counts as close to r/m."""

TRAINED = _arms("ilora:trained=yes", "ratio")


@recorded_claim(
    "ilora-trained-ratio-close",
    "A ratio trained from r/m on ends above r/m and close to it, at no more than twice.",
    source=ILORA.at("Section 6.4, trained ratio, value"),
    domain=BEATS_DOMAIN.format("GD and Adam"),
    arms=tuple(TRAINED.values()),
    trials=12,
    experiment="ilora",
    recorded="not seen",
)
def ilora_trained_ratio_close(outcomes: Outcomes) -> Measurement:
    """Rule: holds if the interval of the median of ζ/(r/m) is within (1, 2) in every layer, loss and optimizer.

    Not seen if one interval lies outside; else inconclusive. The method is at its best step size and λ. How the ratio
    is trained is our reading (`conditioning.imbalance_regularization.trained_penalty_step`).
    """
    grown = _by_layer(outcomes, TRAINED)
    note = "ζ/(r/m) at the end: " + ", ".join(
        f"{name} {found['median']:.3g} [{found['interval'][0]:.3g}, {found['interval'][1]:.3g}]"
        for name, found in grown.items()
    )
    note += _edges(outcomes, TRAINED)
    intervals = [found["interval"] for found in grown.values()]
    verdict = all_of(_within(interval, 1.0, CLOSE) for interval in intervals)
    worst = min(min(low - 1, CLOSE - high) for low, high in intervals)
    return Measurement(verdict, _number(grown), worst, note, {"ratios": grown})


def _within(interval: Sequence[float], low: float, high: float) -> MeasuredName:
    """Whether an interval lies between two ends, outside, or across one."""
    if interval[1] < low or interval[0] > high:
        return "not seen"
    return "holds" if low < interval[0] and interval[1] < high else "inconclusive"


KEPT = 0.1
"""Relative defect up to which a ratio counts as kept."""

DEFECTS = {method: _arms(method, "defect") for method in ("ilora", "lora")}


@recorded_claim(
    "ilora-keeps-ratio",
    "After training with iLoRA the factors have its ratio: BBᵀ = (r/m)AᵀA to 10 %.",
    source=ILORA.at("Section 7, proportion"),
    domain=BEATS_DOMAIN.format("GD and Adam"),
    arms=every_arm(DEFECTS),
    trials=12,
    experiment="ilora",
    recorded="not seen",
)
def ilora_keeps_ratio(outcomes: Outcomes) -> Measurement:
    """Rule: holds if the median over the problems of ‖BBᵀ − (r/m)AᵀA‖/(‖BBᵀ‖ + (r/m)‖AᵀA‖) has its interval below 0.1.

    In every layer, loss and optimizer; not seen if it is above 0.1 in one. iLoRA is at the step size and λ at which its
    loss is lowest; LoRA's own defect is reported beside it. A larger λ would keep the ratio better, and cost loss.
    """
    defects = {method: _by_layer(outcomes, arms) for method, arms in DEFECTS.items()}
    note = "relative defect: " + ", ".join(
        f"{show(name, found)} (LoRA {defects['lora'][name]['median']:.2f})" for name, found in defects["ilora"].items()
    )
    note += _edges(outcomes, DEFECTS["ilora"])
    intervals = [found["interval"] for found in defects["ilora"].values()]
    verdict = all_of(decide((KEPT - high, KEPT - low)) for low, high in intervals)
    worst = KEPT - max(high for _, high in intervals)
    return Measurement(verdict, _number(defects["ilora"]), worst, note, defects)


ABLATION_DOMAIN = (
    "one-layer loss, r = 4, LoRA's start with entries of size 0.3, Adam, 50 steps; geometric spectrum 0.7, shapes "
    "40×10, 20×20, 10×40, {}, each at its best step size and λ on other problems"
)


def _ablation(id: str, statement: str, arms: Mapping[str, Mapping[str, Arm]], tried: str, place: str) -> RecordedClaim:
    """A claim that r/m is ahead of the best of some other ratios at every shape."""

    def judge(outcomes: Outcomes) -> Measurement:
        """Rule: not seen if the best rival on the problems that choices are made on is ahead on the others, at a shape.

        Holds if r/m is ahead of it at all three shapes, equivalent if all intervals lie within ±0.05 decades. What lies
        beyond is `ilora-ratio-optimal`.
        """
        gains = rival_gains(outcomes, arms)
        note = "gain of r/m over its best rival in decades: "
        note += ", ".join(show(name, found) for name, found in gains.items()) + edges(edges_of(gains))
        lowest = min(found["interval"][0] for found in gains.values())
        verdict = all_of(judged(found) for found in gains.values())
        return Measurement(verdict, _number(gains), lowest, note, {"gains": gains})

    decorate: Callable[[Any], RecordedClaim] = recorded_claim(
        id,
        statement,
        source=ILORA.at(place),
        domain=ABLATION_DOMAIN.format(tried),
        arms=every_arm(arms),
        trials=12,
        recorded="not seen",
    )
    return decorate(judge)


ABLATIONS = (
    _ablation(
        "ilora-factor-ablation",
        "Up to where the paper's ablation stops, c = ½ to 2, no multiple c·r/m is better than r/m itself.",
        ratio_arms("adam", (0.5, 0.9, 1.0, 1.1, 1.5, 2.0), ()),
        "c = ½, 0.9, 1, 1.1, 1.5, 2",
        "Section 6.4, factor",
    ),
    _ablation(
        "ilora-exponent-ablation",
        "Up to where the paper's ablation stops, p = ½ to 2, no power (r/m)^p is better than r/m itself.",
        ratio_arms("adam", (1.0,), (0.5, 0.75, 1.5, 2.0)),
        "p = ½, ¾, 1, 1½, 2",
        "Section 6.4, exponent",
    ),
)


CLAIMS = (
    *COMPARISONS,
    ilora_robust_lr,
    ilora_trained_ratio_close,
    ilora_keeps_ratio,
    *ABLATIONS,
)
