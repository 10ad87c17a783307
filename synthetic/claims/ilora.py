"""iLoRA and πLoRA, which keep the factors imbalanced, against LoRA, preconditioning and BaLoRA."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lorakappa.conditioning.factors import minimizer
from lorakappa.conditioning.imbalance_regularization import paper_ratio, penalty_step
from lorakappa.conditioning.preconditioning import scaled_gradient
from lorakappa.conditioning.sources import ILORA
from lorakappa.conditioning.verification import MeasuredClaim, MeasuredName, Measurement, all_of, decide, measured_claim
from lorakappa.synthetic.claims.gains import MAIN, NO_GAIN, check_trials, gain_between, judged, show, tuned_logs
from lorakappa.synthetic.defaults import DUEL_STARTS
from lorakappa.synthetic.experiments.convergence import convergence
from lorakappa.synthetic.experiments.duel import duel
from lorakappa.synthetic.experiments.ratios import ratios
from lorakappa.synthetic.selection import compare
from lorakappa.synthetic.settings import ProblemSettings

BETTER = ILORA.at("Abstract, experiments")

GRID = "auto:18"
"""Five step sizes a decade."""

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""λ to choose from."""

OPTIMIZERS = {"GD": "gd", "Adam": "adam"}

BEATS_DOMAIN = (
    "20×20 Gaussian targets, r = 4, A = 0 and B standard normal at the start, 100 steps; best of 5 step sizes a decade "
    "and of λ = 0.001, 0.01, 0.1, 1 by median final loss; one- and two-layer loss, {}"
)


def tuned_claim(
    id: str,
    statement: str,
    first: str,
    second: str,
    *,
    together: tuple[str, ...],
    optimizers: Sequence[str] = tuple(OPTIMIZERS),
    **options: Any,
) -> MeasuredClaim:
    """A claim that the second method ends lower than the first, all of `together` run in one go for several claims."""

    @measured_claim(id, statement, domain=BEATS_DOMAIN.format(" and ".join(optimizers)), trials=12, **options)
    def measure(trials: int, seed: int) -> Measurement:
        """Rule: holds if the gain's interval is above 0 for both losses and every optimizer, not seen if one is below.

        Intervals within ±0.05 decades count as neither: equivalent if all are, otherwise inconclusive. λ → 0 gives back
        the method without penalty, so a tuned λ cannot lose much, and it is tuned on the seeds that it is judged on;
        the λ chosen are part of the evidence.
        """
        check_trials(trials)
        gains, strengths = {}, {}
        for label in optimizers:
            for loss, settings in MAIN.items():
                logs, chosen = tuned_logs(
                    replace(settings, seeds=trials, seed=seed), OPTIMIZERS[label], together, GRID, STRENGTHS
                )
                name = f"{label} {loss}"
                gains[name], strengths[name] = gain_between(logs, first, second, seed), chosen[second]
        verdict = all_of(judged(gain) for gain in gains.values())
        note = "gain in decades: " + ", ".join(show(name, gain) for name, gain in gains.items())
        lowest = min(gain["interval"][0] for gain in gains.values())
        return Measurement(verdict, trials, lowest, note, {"gains": gains, "lambda": strengths})

    return measure


PLAIN = ("lora", "ilora", "ilora:trained=yes", "ilora:lambda=0.01")
"""LoRA and iLoRA with its ratio fixed, with it trained, and with one λ for all settings."""

PRECONDITIONED = ("lora", "scaled-gd", "pilora", "lora-plus", "lora-plus:lr-ratio=5")
"""LoRA, preconditioning with and without the penalty, and LoRA+ with the rates' ratio 2⁴ and with a/r."""

COMPARISONS = (
    tuned_claim(
        "ilora-beats-lora",
        "iLoRA reaches a lower loss than LoRA, each at its own best step size and λ.",
        "lora",
        "ilora",
        together=PLAIN,
        experiment="ilora",
        source=BETTER,
    ),
    tuned_claim(
        "pilora-beats-lora",
        "πLoRA reaches a lower loss than LoRA, each at its own best step size and λ.",
        "lora",
        "pilora",
        together=PRECONDITIONED,
        experiment="preconditioned",
        source=BETTER,
    ),
    tuned_claim(
        "pilora-beats-preconditioned",
        "πLoRA reaches a lower loss than preconditioning alone (ScaledGD, Scaled AdamW), each at its own best.",
        "scaled-gd",
        "pilora",
        together=PRECONDITIONED,
        experiment="preconditioned",
        source=BETTER,
        recorded="not seen",
        corrected_by="pilora-beats-preconditioned-adam",
    ),
    tuned_claim(
        "pilora-beats-preconditioned-adam",
        "Under Adam πLoRA reaches a lower loss than preconditioning alone (Scaled AdamW), each at its own best.",
        "scaled-gd",
        "pilora",
        together=PRECONDITIONED,
        experiment="preconditioned",
        optimizers=("Adam",),
        kind="correction",
    ),
)

DUEL = ProblemSettings(init_std=0.3)
DUEL_DOMAIN = (
    "one-layer loss, r = 4, {} start with entries of size 0.3, {}, 50 steps; geometric spectra 0.5, 0.7, 0.9 × shapes "
    "40×10, 20×20, 10×40, λ from {}"
)


def _tally(
    methods: tuple[str, str],
    starts: Sequence[str],
    trials: int,
    seed: int,
    *,
    optimizer: str = "gd",
    strengths: Sequence[float] = STRENGTHS,
) -> Measurement:
    """Counts the cells of the duel won by the second method: the rule of the claims that ask about it."""
    check_trials(trials)
    settings = replace(DUEL, seeds=trials, seed=seed)
    result = duel(settings, methods=methods, starts=starts, optimizer=optimizer, strengths=strengths)
    interval, arrays = result.arrays["interval"][..., 1, :], result.arrays
    won, lost = interval[..., 0] > 0, interval[..., 1] < 0
    knobs = (
        [f"q = {decay:g}" for decay in arrays["decays"]],
        ["×".join(map(str, shape)) for shape in arrays["shapes"]],
        [f"{start} start" for start in starts],
    )
    parts = []
    for axis, values in enumerate(knobs):
        for at, value in enumerate(values if len(values) > 1 else ()):
            parts.append(f"{value} {won.take(at, axis=axis).sum()}:{lost.take(at, axis=axis).sum()}")
    wins, losses = int(won.sum()), int(lost.sum())
    share = wins / (wins + losses) if wins + losses else 0.5
    verdict: MeasuredName = "holds" if share > 2 / 3 else "not seen" if share < 1 / 3 else "inconclusive"
    note = f"cells won {wins}, lost {losses}, undecided {won.size - wins - losses}; " + ", ".join(parts)
    evidence = {
        "gain": arrays["gain"][..., 1],
        "interval": interval,
        "best_lambda": arrays["best_lambda"],
        "methods": list(methods),
        "knobs": knobs,
    }
    return Measurement(verdict, trials, share - 2 / 3, note, evidence)


@measured_claim(
    "balora-versus-ilora",
    "Is balance the better advice under gradient descent: does BaLoRA reach a lower loss than iLoRA, each at its best?",
    kind="question",
    domain=DUEL_DOMAIN.format("LoRA's, balanced and Gaussian", "GD", "0.001, 0.01, 0.1, 1"),
    trials=8,
)
def balora_versus_ilora(trials: int, seed: int) -> Measurement:
    """Rule: holds if BaLoRA wins more than two thirds of the decided cells, not seen below a third, else inconclusive.

    A cell is decided if the 95 % interval of the paired gain excludes 0. Where each method wins is reported.
    """
    return _tally(("ilora", "balora"), DUEL_STARTS, trials, seed)


@measured_claim(
    "balora-versus-ilora-adam",
    "Is balance the better advice under Adam: does BaLoRA reach a lower loss than iLoRA, each at its best?",
    kind="question",
    domain=DUEL_DOMAIN.format("LoRA's, balanced and Gaussian", "Adam", "0.1, 1, 10"),
    trials=8,
    recorded="not seen",
)
def balora_versus_ilora_adam(trials: int, seed: int) -> Measurement:
    """Rule: as for `balora-versus-ilora`.

    The penalty moves the factors a little in every step and leaves Adam's coordinates in place; P may reorder them.
    """
    return _tally(("ilora", "balora"), DUEL_STARTS, trials, seed, optimizer="adam", strengths=(0.1, 1.0, 10.0))


@measured_claim(
    "ilora-prefers-balance",
    "iLoRA's penalty reaches a lower loss with ratio 1, which is balance, than with its ratio r/m.",
    kind="correction",
    domain=DUEL_DOMAIN.format("LoRA's", "GD", "0.001, 0.01, 0.1, 1"),
    trials=8,
)
def ilora_prefers_balance(trials: int, seed: int) -> Measurement:
    """Rule: holds if ratio 1 wins more than two thirds of the decided cells, not seen below a third, else inconclusive.

    A cell is decided if the 95 % interval of the paired gain excludes 0, each ratio at its own best step size and λ.
    """
    return _tally(("ilora", "ilora-balanced"), ("lora",), trials, seed)


FACTORS, POWERS = (0.25, 1.0, 4.0, 16.0), (0.0, 0.5, 2.0)


@measured_claim(
    "ilora-ratio-optimal",
    "The ratio r/m is iLoRA's best: neither c·r/m nor (r/m)^p with other c, p reaches a lower loss.",
    source=ILORA.at("Section 6.4, optimal"),
    domain=(
        "one-layer loss, r = 4, LoRA's start with entries of size 0.3, GD, 50 steps; geometric spectrum 0.7, shapes "
        "40×10, 20×20, 10×40, c = 1/4, 1, 4, 16 and p = 0, ½, 2, each at its best step size and λ"
    ),
    trials=20,
    recorded="not seen",
    corrected_by="ilora-prefers-balance",
)
def ilora_ratio_optimal(trials: int, seed: int) -> Measurement:
    """Rule: not seen if a rival ratio, the best one on half of the seeds, is ahead with its interval on the other half.

    That is asked at each of the three shapes, and one suffices. Holds if r/m itself is ahead of the best rival at all
    three; equivalent if all three intervals lie within ±0.05 decades; else inconclusive.
    """
    if trials < 6:
        raise ValueError(f"{trials} paired seeds are too few: at least 6 trials are needed, 3 in each half")
    settings = replace(DUEL, target="geometric:0.7", seeds=trials, seed=seed)
    result = ratios(settings, factors=FACTORS, powers=POWERS, strengths=STRENGTHS[1:])
    names, logs = result.meta["variants"], result.arrays["log10"]
    paper, half = FACTORS.index(1.0), trials // 2
    gains = {}
    for shape, here in zip(result.arrays["shapes"], logs, strict=True):
        rivals = np.median(here[:, :half], axis=-1)
        rivals[paper] = np.inf
        rival = int(rivals.argmin())
        label = "×".join(map(str, shape)) + " " + names[rival].partition(":")[2]
        gains[label] = compare(here[paper, half:] - here[rival, half:], seed=seed).meta()
    intervals = [gain["interval"] for gain in gains.values()]
    verdict = all_of(decide((-high, -low), margin=NO_GAIN) for low, high in intervals)
    note = "gain of the best rival over r/m in decades: " + ", ".join(show(name, gain) for name, gain in gains.items())
    highest = max(low for low, _ in intervals)
    evidence = {"gains": gains, "variants": names, "log10_median": np.median(logs, axis=-1)}
    return Measurement(verdict, trials, -highest, note, evidence)


@measured_claim(
    "ilora-overhead",
    "iLoRA's penalty step is cheaper than preconditioning: on a 1024×1024 layer with r = 8 it takes less time.",
    source=ILORA.at("Section 6.3, cheaper than preconditioning"),
    domain="NumPy on this machine, float64, interleaved repetitions within one run",
    trials=60,
)
def ilora_overhead(trials: int, seed: int) -> Measurement:
    """Rule: holds if preconditioning's median paired log₁₀ ratio of times has its interval above 0, not seen if below.

    Argument: both form the two Gram matrices and multiply each factor by an r×r matrix; preconditioning alone inverts.
    """
    check_trials(trials)
    n, r = 1024, 8
    rng = np.random.default_rng(seed)
    A, B = minimizer(rng.standard_normal((n, n)), r, rng.standard_normal((r, r)))
    g_A, g_B = rng.standard_normal(A.shape), rng.standard_normal(B.shape)
    ratio = paper_ratio(n, r)
    works = (lambda: penalty_step(A, B, step=1e-6, ratio=ratio), lambda: scaled_gradient(A, B, g_A, g_B, damping=1e-6))
    times = np.empty((trials + 3, 2))
    for i in range(len(times)):  # the first three repetitions only warm up
        for j in (0, 1) if i % 2 else (1, 0):
            start = time.perf_counter()
            works[j]()
            times[i, j] = time.perf_counter() - start
    penalty, scaling = np.median(times[3:], axis=0)
    faster = compare(np.log10(times[3:, 1] / times[3:, 0]), seed=seed).meta()
    verdict = decide(faster["interval"])
    note = f"{1e3 * penalty:.3f} ms against {1e3 * scaling:.3f} ms a step: {100 * penalty / scaling:.0f} %"
    evidence = {"penalty_seconds": float(penalty), "scaling_seconds": float(scaling), "log10_ratio": faster}
    return Measurement(verdict, trials, faster["interval"][0], note, evidence)


@measured_claim(
    "scaled-gd-makes-balance-idle",
    "Under ScaledGD the projection changes nothing: with and without it AB takes the same path.",
    kind="question",
    domain="one- and two-layer loss, 20×20 Gaussian targets, r = 4, Gaussian start, no damping, 40 steps",
    trials=4,
)
def scaled_gd_makes_balance_idle(trials: int, seed: int) -> Measurement:
    """Rule: no f − f* at any step and step size where neither diverges differs by more than 1e-6 of the larger.

    Proof: at (AT, T⁻¹B) the step is (AT − γGBᵀ(BBᵀ)⁻¹T, T⁻¹(B − γ(AᵀA)⁻¹AᵀG)) for every invertible T: that of (A, B) in
    the same gauge, with the same product; P is such a change of gauge.
    """
    worst = 0.0
    for loss in MAIN:
        result = convergence(
            ProblemSettings(loss=loss, start="gaussian", seeds=trials, seed=seed),
            methods=("scaled-gd:damping=0", "balora-scaled-gd:damping=0"),
            steps=40,
            step_sizes="auto:17",
        )
        first, second = np.moveaxis(result.arrays["excess"], 1, 0)
        stable = np.isfinite(first[-1] + second[-1])
        first, second = first[:, stable], second[:, stable]
        worst = max(worst, float((np.abs(first - second) / np.maximum(first, second)).max()))
    note = f"largest relative difference {worst:.1e}"
    return Measurement("holds" if worst <= 1e-6 else "not seen", trials, 1e-6 - worst, note, {"worst": worst})


CLAIMS = (
    *COMPARISONS,
    balora_versus_ilora,
    balora_versus_ilora_adam,
    ilora_ratio_optimal,
    ilora_prefers_balance,
    ilora_overhead,
    scaled_gd_makes_balance_idle,
)
