"""iLoRA's ablations and what it says of robustness: trained ratio, other ratios, learning rate, λ, and LoRA+ beside it.

The paper's own experiments are fine-tunes (Mistral 7B, GPT-2, a diffusion model); these are small losses.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.imbalance_regularization import imbalance, paper_ratio
from lorakappa.conditioning.sources import ILORA, LORA_PLUS
from lorakappa.conditioning.verification import MeasuredName, Measurement, all_of, decide, measured_claim
from lorakappa.synthetic.claims.gains import MAIN, STEPS, check_trials, judged, show, tuned_run
from lorakappa.synthetic.claims.ilora import (
    BEATS_DOMAIN,
    DUEL,
    GRID,
    OPTIMIZERS,
    PLAIN,
    PRECONDITIONED,
    STRENGTHS,
    tuned_claim,
)
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.experiments.ratios import ratios
from lorakappa.synthetic.losses import Loss
from lorakappa.synthetic.methods import PenaltyStep, PostStep, parse_method
from lorakappa.synthetic.problems import make_problems
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.selection import compare

COMPARISONS = (
    tuned_claim(
        "ilora-trained-ratio-worse",
        "iLoRA with its ratio fixed at r/m reaches a lower loss than with the ratio trained from r/m on.",
        "ilora:trained=yes",
        "ilora",
        together=PLAIN,
        experiment="ilora",
        source=ILORA.at("Section 6.4, trained ratio, performance"),
        recorded="not seen",
    ),
    tuned_claim(
        "ilora-untuned",
        "iLoRA with one λ = 0.01 for all settings still reaches a lower loss than LoRA.",
        "lora",
        "ilora:lambda=0.01",
        together=PLAIN,
        experiment="ilora",
        source=ILORA.at("Appendix C.2.1, hyperparameters not tuned"),
        recorded="inconclusive",
    ),
    tuned_claim(
        "pilora-beats-lora-plus",
        "Under Adam πLoRA reaches a lower loss than LoRA+ with the ratio 2⁴ of learning rates.",
        "lora-plus",
        "pilora",
        together=PRECONDITIONED,
        experiment="preconditioned",
        optimizers=("Adam",),
        source=ILORA.at("Table 7"),
    ),
    tuned_claim(
        "lora-plus-beats-lora",
        "Under Adam LoRA+ with the ratio 2⁴ of learning rates reaches a lower loss than LoRA, each at its own best.",
        "lora",
        "lora-plus",
        together=PRECONDITIONED,
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
        together=PRECONDITIONED,
        experiment="preconditioned",
        kind="question",
        recorded="inconclusive",
    ),
)


def _runs(methods: tuple[str, ...], trials: int, seed: int) -> dict[str, tuple[str, str, Result]]:
    """By setting: optimizer, loss and what the methods did there, from the runs that the comparisons share."""
    check_trials(trials)
    found = {}
    for label, optimizer in OPTIMIZERS.items():
        for loss, settings in MAIN.items():
            run = tuned_run(replace(settings, seeds=trials, seed=seed), optimizer, methods, GRID, STRENGTHS)
            found[f"{label} {loss}"] = optimizer, loss, run
    return found


def window(grid: Array, logs: Array) -> Array:
    """(n,) decades of step sizes at which log₁₀ of the final f − f* is within 1 of its lowest, linear between them.

    Args:
        grid: (G,) ascending step sizes.
        logs: (G, n) of them; inf where a run has diverged.
    """
    x = np.log10(grid)
    fine = np.linspace(x[0], x[-1], 50 * (len(x) - 1) + 1)
    widths = []
    for column in logs.T:
        limit = column.min() + 1
        inside = np.interp(fine, x, np.minimum(column, limit + 100)) <= limit
        widths.append(inside.mean() * (x[-1] - x[0]))
    return np.array(widths)


@measured_claim(
    "ilora-robust-lr",
    "iLoRA is more robust to the learning rate than LoRA: the range of step sizes that end within a decade of the best "
    "loss is wider.",
    source=ILORA.at("Section 1, robustness"),
    domain=BEATS_DOMAIN.format("GD and Adam"),
    trials=12,
    experiment="ilora",
    recorded="inconclusive",
)
def ilora_robust_lr(trials: int, seed: int) -> Measurement:
    """Rule: holds if the interval of the difference of widths is above 0 for both losses and optimizers.

    Not seen if it is below 0 for one; within ±0.05 decades it counts as none. iLoRA is at its best λ throughout; a step
    size at which a run diverges is outside.
    """
    differences = {}
    for name, (_, _, run) in _runs(PLAIN, trials, seed).items():
        final = run.arrays["excess"][-1]
        with np.errstate(divide="ignore"):
            logs = np.log10(np.maximum(final, np.finfo(float).tiny))
        lora, ilora = (window(run.arrays["step_sizes"], logs[PLAIN.index(method)]) for method in ("lora", "ilora"))
        differences[name] = compare(ilora - lora, seed=seed).meta()
    note = "decades by which it is wider: " + ", ".join(show(name, gain) for name, gain in differences.items())
    lowest = min(gain["interval"][0] for gain in differences.values())
    verdict = all_of(judged(gain) for gain in differences.values())
    return Measurement(verdict, trials, lowest, note, {"differences": differences})


def _again(optimizer: str, loss: str, run: Result, method: str, trials: int, seed: int) -> tuple[Any, list[PostStep]]:
    """The final factors of a method at its best step size and λ, and the maps that its runs used."""
    line = run.meta["summary"][[line["method"] for line in run.meta["summary"]].index(method)]
    options = [f"lambda={line['lambda'][0]!r}"] if line["lambda"] else []
    base, _, given = method.partition(":")
    parsed = parse_method(":".join([base, ",".join([*filter(None, [given]), *options])]) if options or given else base)
    maps: list[PostStep] = []

    def new_map(loss: Loss) -> PostStep:
        assert parsed.new_map is not None
        maps.append(parsed.new_map(loss))
        return maps[-1]

    problems = make_problems(replace(MAIN[loss], seeds=trials, seed=seed))
    again = simulate(
        problems.loss,
        problems.start,
        method=replace(parsed, new_map=new_map if parsed.new_map else None),
        optimizer=optimizer,
        step_sizes=line["step_size"],
        steps=STEPS,
    )
    return again.factors, maps


CLOSE = 2.0
"""Factor within which a trained ratio counts as close to r/m."""


@measured_claim(
    "ilora-trained-ratio-close",
    "A ratio trained from r/m on ends above r/m and close to it, at no more than twice.",
    source=ILORA.at("Section 6.4, trained ratio, value"),
    domain=BEATS_DOMAIN.format("GD and Adam"),
    trials=12,
    experiment="ilora",
    recorded="not seen",
)
def ilora_trained_ratio_close(trials: int, seed: int) -> Measurement:
    """Rule: holds if the interval of the median of ζ/(r/m) is within (1, 2) in every layer, loss and optimizer.

    Not seen if one interval lies outside; else inconclusive. The method is at its best step size and λ. How the ratio
    is trained is our reading (`conditioning.imbalance_regularization.trained_penalty_step`).
    """
    grown: dict[str, Any] = {}
    for name, (optimizer, loss, run) in _runs(PLAIN, trials, seed).items():
        _, (step,) = _again(optimizer, loss, run, "ilora:trained=yes", trials, seed)
        assert isinstance(step, PenaltyStep)
        for layer, logs in enumerate(step.log_ratios):
            ratio = paper_ratio(MAIN[loss].shape[0], MAIN[loss].rank)
            label = name if len(step.log_ratios) == 1 else f"{name} {layer + 1}"
            grown[label] = compare(np.exp(np.ravel(logs)) / ratio, seed=seed).meta()
    note = "ζ/(r/m) at the end: " + ", ".join(
        f"{name} {gain['median']:.3g} [{gain['interval'][0]:.3g}, {gain['interval'][1]:.3g}]"
        for name, gain in grown.items()
    )
    intervals = [gain["interval"] for gain in grown.values()]
    verdict = all_of(_within(interval, 1.0, CLOSE) for interval in intervals)
    worst = min(min(low - 1, CLOSE - high) for low, high in intervals)
    return Measurement(verdict, trials, worst, note, {"ratios": grown})


def _within(interval: tuple[float, float], low: float, high: float) -> MeasuredName:
    """Whether an interval lies between two ends, outside, or across one."""
    if interval[1] < low or interval[0] > high:
        return "not seen"
    return "holds" if low < interval[0] and interval[1] < high else "inconclusive"


KEPT = 0.1
"""Relative defect up to which a ratio counts as kept."""


@measured_claim(
    "ilora-keeps-ratio",
    "After training with iLoRA the factors have its ratio: BBᵀ = (r/m)AᵀA to 10 %.",
    source=ILORA.at("Section 7, proportion"),
    domain=BEATS_DOMAIN.format("GD and Adam"),
    trials=12,
    experiment="ilora",
    recorded="not seen",
)
def ilora_keeps_ratio(trials: int, seed: int) -> Measurement:
    """Rule: holds if the median over the problems of ‖BBᵀ − (r/m)AᵀA‖/(‖BBᵀ‖ + (r/m)‖AᵀA‖) has its interval below 0.1.

    In every layer, loss and optimizer; not seen if it is above 0.1 in one. iLoRA is at the step size and λ at which its
    loss is lowest; LoRA's own defect is reported beside it. A larger λ would keep the ratio better, and cost loss.
    """
    defects: dict[str, dict[str, Any]] = {"ilora": {}, "lora": {}}
    for name, (optimizer, loss, run) in _runs(PLAIN, trials, seed).items():
        for method, found in defects.items():
            factors, _ = _again(optimizer, loss, run, method, trials, seed)
            for layer in range(0, len(factors), 2):
                A, B = (factor[0] for factor in factors[layer : layer + 2])
                label = name if len(factors) == 2 else f"{name} {layer // 2 + 1}"
                found[label] = compare(_relative_defect(A, B), seed=seed).meta()
    note = "relative defect: " + ", ".join(
        f"{show(name, gain)} (LoRA {defects['lora'][name]['median']:.2f})" for name, gain in defects["ilora"].items()
    )
    intervals = [gain["interval"] for gain in defects["ilora"].values()]
    verdict = all_of(decide((KEPT - high, KEPT - low)) for low, high in intervals)
    return Measurement(verdict, trials, KEPT - max(high for _, high in intervals), note, defects)


def _relative_defect(A: Array, B: Array) -> Array:
    ratio = paper_ratio(A.shape[-2], A.shape[-1])
    norms = (np.linalg.norm(M, axis=(-2, -1)) for M in (B @ B.mT, ratio * A.mT @ A))
    return np.asarray(np.linalg.norm(imbalance(A, B, ratio), axis=(-2, -1)) / sum(norms))


def _ablation(factors: Sequence[float], powers: Sequence[float], trials: int, seed: int) -> Measurement:
    """The best rival of r/m, chosen on half of the seeds and judged on the other half, at each of three shapes.

    Holds if r/m is ahead of it at all three, not seen if it is ahead of r/m at one (`gains.judged`).
    """
    if trials < 6:
        raise ValueError(f"{trials} paired seeds are too few: at least 6 trials are needed, 3 in each half")
    settings = replace(DUEL, target="geometric:0.7", seeds=trials, seed=seed)
    result = ratios(settings, factors=factors, powers=powers, strengths=STRENGTHS[1:], optimizer="adam")
    paper, half = tuple(factors).index(1.0), trials // 2
    same = [paper, *(len(factors) + i for i, power in enumerate(powers) if power == 1.0)]
    gains = {}
    for shape, here in zip(result.arrays["shapes"], result.arrays["log10"], strict=True):
        rivals = np.median(here[:, :half], axis=-1)
        rivals[same] = np.inf
        rival = int(rivals.argmin())
        label = "×".join(map(str, shape)) + " " + result.meta["variants"][rival].partition(":")[2]
        gains[label] = compare(here[rival, half:] - here[paper, half:], seed=seed).meta()
    note = "gain of r/m over its best rival in decades: " + ", ".join(show(name, gain) for name, gain in gains.items())
    lowest = min(gain["interval"][0] for gain in gains.values())
    evidence = {"gains": gains, "variants": result.meta["variants"], "ratio_median": result.arrays["final_median"]}
    return Measurement(all_of(judged(gain) for gain in gains.values()), trials, lowest, note, evidence)


ABLATION_DOMAIN = (
    "one-layer loss, r = 4, LoRA's start with entries of size 0.3, Adam, 50 steps; geometric spectrum 0.7, shapes "
    "40×10, 20×20, 10×40, {}, each at its best step size and λ"
)


@measured_claim(
    "ilora-factor-ablation",
    "Up to where the paper's ablation stops, c = ½ to 2, no multiple c·r/m is better than r/m itself.",
    source=ILORA.at("Section 6.4, factor"),
    domain=ABLATION_DOMAIN.format("c = ½, 0.9, 1, 1.1, 1.5, 2"),
    trials=12,
    recorded="not seen",
)
def ilora_factor_ablation(trials: int, seed: int) -> Measurement:
    """Rule: not seen if the best rival, chosen on half of the seeds, is ahead on the other half, at one shape or more.

    Holds if r/m is ahead of it at all three shapes, equivalent if all intervals lie within ±0.05 decades. What lies
    beyond is `ilora-ratio-optimal`.
    """
    return _ablation((0.5, 0.9, 1.0, 1.1, 1.5, 2.0), (1.0,), trials, seed)


@measured_claim(
    "ilora-exponent-ablation",
    "Up to where the paper's ablation stops, p = ½ to 2, no power (r/m)^p is better than r/m itself.",
    source=ILORA.at("Section 6.4, exponent"),
    domain=ABLATION_DOMAIN.format("p = ½, ¾, 1, 1½, 2"),
    trials=12,
    recorded="not seen",
)
def ilora_exponent_ablation(trials: int, seed: int) -> Measurement:
    """Rule: as for `ilora-factor-ablation`."""
    return _ablation((1.0,), (0.5, 0.75, 1.5, 2.0), trials, seed)


CLAIMS = (
    *COMPARISONS,
    ilora_robust_lr,
    ilora_trained_ratio_close,
    ilora_keeps_ratio,
    ilora_factor_ablation,
    ilora_exponent_ablation,
)
