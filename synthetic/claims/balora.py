"""BaLoRA against LoRA, and what the projection costs."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lorakappa.conditioning.factors import minimizer
from lorakappa.conditioning.projection import balance
from lorakappa.conditioning.sources import POSTER
from lorakappa.conditioning.verification import MeasuredClaim, Measurement, all_of, measured_claim
from lorakappa.synthetic.claims.gains import MAIN, VARIATIONS, judged, measured_gain, show
from lorakappa.synthetic.settings import ProblemSettings

LONG = 8.0
"""Seconds of a comparison at all settings."""

BEATS_DOMAIN = (
    "20×20 Gaussian targets, r = 4, A = 0 and B standard normal at the start, 100 steps; best of 50 step sizes by "
    "median final loss, verdict from the one- and the two-layer loss, variations reported beside it"
)


def _beats(
    optimizer: str, trials: int, seed: int, methods: tuple[str, str], variations: Mapping[str, ProblemSettings]
) -> Measurement:
    """Holds if every main setting's gain does (`gains.judged`), not seen if one is not, equivalent if all are."""
    main = {name: measured_gain(settings, optimizer, trials, seed, methods) for name, settings in MAIN.items()}
    others = {name: measured_gain(settings, optimizer, trials, seed, methods) for name, settings in variations.items()}
    verdict = all_of(judged(gain) for gain in main.values())
    note = "gain in decades: " + ", ".join(show(name, gain) for name, gain in main.items())
    labels = {"worse": "not seen", "no different": "equivalent", "undecided": "inconclusive"}
    for label, name in labels.items() if others else ():
        there = [show(setting, gain) for setting, gain in others.items() if judged(gain) == name]
        note += f"; {label} at: {', '.join(there) or 'none'}"
    lowest = min(gain["interval"][0] for gain in main.values())
    return Measurement(verdict, trials, lowest, note, {"main": main, "variations": others})


def beats_claim(
    id: str,
    statement: str,
    optimizer: str,
    *,
    methods: tuple[str, str] = ("lora", "balora"),
    variations: Mapping[str, ProblemSettings] = VARIATIONS,
    trials: int = 16,
    **options: Any,
) -> MeasuredClaim:
    """A claim that the second method ends lower than the first; see `_beats` for the rule."""

    @measured_claim(id, statement, domain=BEATS_DOMAIN, trials=trials, seconds=LONG, **options)
    def measure(trials: int, seed: int) -> Measurement:
        """Rule: holds if the gain's interval is above 0 for both losses, not seen if below 0 for one of them.

        Equivalent if both intervals lie within ±0.05 decades, which alone counts as neither above nor below. The
        variations (start, spectrum, rank) say where it is not so; they do not change the verdict.
        """
        return _beats(optimizer, trials, seed, methods, variations)

    return measure


@measured_claim(
    "balora-beats-lora-from-balance",
    "Does BaLoRA beat LoRA under gradient descent from a balanced start, too?",
    kind="question",
    domain="20×20 Gaussian targets, r = 4, balanced start with entries of size 0.1, 100 steps; best of 50 step sizes",
    trials=16,
    experiment="gd",
    seconds=LONG,
    recorded="equivalent",
    corrected_by="same-kappa-same-curve",
)
def balora_beats_lora_from_balance(trials: int, seed: int) -> Measurement:
    """Rule: equivalent if the gain's interval lies within ±0.05 decades, else holds above 0 and not seen below 0.

    LoRA stays balanced up to O(γ) by itself, so there is nothing for the projection to repair.
    """
    gain = measured_gain(VARIATIONS["balanced start"], "gd", trials, seed)
    note = "gain in decades: " + show("balanced start", gain)
    return Measurement(judged(gain), trials, gain["interval"][0], note, gain)


@measured_claim(
    "overhead-per-step",
    "The projection is cheap: on a 1024×1024 one-layer problem with r = 8 it takes less time than one gradient.",
    source=POSTER.at("BaLoRA, negligible overhead"),
    domain="NumPy on this machine, medians of interleaved repetitions within one run",
    trials=15,
)
def overhead_per_step(trials: int, seed: int) -> Measurement:
    """Rule: median time of `balance` ≤ median time of the two gradients.

    Argument: O((a + b)r² + r³) against O(abr), so its share falls as r/min(a, b).
    """
    n, r = 1024, 8
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, n))
    A, B = minimizer(Z, r, rng.standard_normal((r, r)))

    def gradients() -> object:
        residual = A @ B - Z
        return residual @ B.T, A.T @ residual

    times: dict[str, list[float]] = {"projection": [], "gradient": []}
    for _ in range(trials + 1):  # the first repetition only warms up
        for name, work in (("projection", lambda: balance(A, B)), ("gradient", gradients)):
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    projection, gradient = (float(np.median(times[name][1:])) for name in ("projection", "gradient"))
    share = projection / gradient
    note = f"{1e3 * projection:.2f} ms against {1e3 * gradient:.2f} ms a gradient: {100 * share:.0f} %"
    evidence = {"projection_seconds": projection, "gradient_seconds": gradient}
    return Measurement("holds" if share <= 1 else "not seen", trials, 1 - share, note, evidence)


BEATS = "BaLoRA reaches a lower loss than LoRA under {}, each at its own best step size."
STARTS = {name: VARIATIONS[name] for name in ("Gaussian start 0.1", "balanced start")}

FASTER = POSTER.at("In a nutshell, projecting accelerates")

COMPARISONS: Sequence[MeasuredClaim] = (
    beats_claim("balora-beats-lora-gd", BEATS.format("gradient descent"), "gd", source=FASTER, experiment="gd"),
    beats_claim("balora-beats-lora-sign-gd", BEATS.format("sign-GD, θ − γ‖∇f‖₁ sign ∇f"), "sign-gd", source=FASTER),
    beats_claim("balora-beats-lora-sign", BEATS.format("the step θ − γ sign ∇f"), "sign", source=FASTER),
    beats_claim(
        "balora-beats-lora-adam",
        BEATS.format("Adam"),
        "adam",
        source=FASTER,
        trials=24,
        experiment="adam",
        recorded="inconclusive",
        corrected_by="balora-symmetric-beats-lora-adam",
    ),
    beats_claim(
        "balora-symmetric-beats-lora-adam",
        "Under Adam BaLoRA in the symmetric gauge reaches a lower loss than LoRA.",
        "adam",
        methods=("lora", "balora-symmetric"),
        variations=STARTS,
        trials=24,
        experiment="adam",
        kind="correction",
    ),
    beats_claim(
        "adam-prefers-the-symmetric-gauge",
        "Is P's symmetric gauge, which keeps Adam's coordinates in order, always better under Adam than the paper's?",
        "adam",
        methods=("balora", "balora-symmetric"),
        variations=STARTS,
        trials=24,
        experiment="adam",
        kind="question",
        recorded="not seen",
    ),
)

CLAIMS = (*COMPARISONS, balora_beats_lora_from_balance, overhead_per_step)
