"""iLoRA and πLoRA, which keep the factors imbalanced, against LoRA, preconditioning and BaLoRA."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from lorakappa.conditioning.factors import minimizer
from lorakappa.conditioning.imbalance_regularization import paper_ratio, penalty_step
from lorakappa.conditioning.preconditioning import scaled_gradient
from lorakappa.conditioning.sources import ILORA
from lorakappa.conditioning.verification import MeasuredName, Measurement, all_of, decide, measured_claim
from lorakappa.synthetic.arms.arm import Arm
from lorakappa.synthetic.arms.intervals import median_interval
from lorakappa.synthetic.arms.outcomes import Outcomes, gain
from lorakappa.synthetic.claims.gains import (
    MAIN,
    NO_GAIN,
    arms_of,
    edges,
    edges_of,
    gains_claim,
    judged,
    show,
)
from lorakappa.synthetic.claims.on_record import RecordedClaim, recorded_claim
from lorakappa.synthetic.defaults import DUEL_DECAYS, DUEL_SHAPES, DUEL_STARTS, DUEL_STEP_SIZES, DUEL_STEPS
from lorakappa.synthetic.experiments.convergence import convergence
from lorakappa.synthetic.settings import ProblemSettings

BETTER = ILORA.at("Abstract, experiments")

GRID = "auto:18"
"""Five step sizes a decade."""

STRENGTHS = (1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
"""λ to choose from: down to where the penalty is next to none, which leaves the method without it."""

OPTIMIZERS = {"GD": "gd", "Adam": "adam"}

BEATS_DOMAIN = (
    "20×20 Gaussian targets, r = 4, A = 0 and B standard normal at the start, 100 steps; 5 step sizes a decade and λ "
    "from 1e-6 to 100, one a decade, of which the best by median final loss on other problems; one- and two-layer "
    "loss, {}"
)


def tuned_arm(loss: str, optimizer: str, method: str, **options: Any) -> Arm:
    """A method in the usual setting, with step size and λ to choose."""
    return Arm(MAIN[loss], optimizer, method, step_sizes=GRID, strengths=STRENGTHS, **options)


def tuned_claim(
    id: str,
    statement: str,
    first: str,
    second: str,
    *,
    optimizers: Sequence[str] = tuple(OPTIMIZERS),
    **options: Any,
) -> RecordedClaim:
    """A claim that the second method ends lower than the first in both losses under every optimizer."""
    settings = {f"{label} {loss}": (loss, OPTIMIZERS[label]) for label in optimizers for loss in MAIN}
    return gains_claim(
        id,
        statement,
        {name: (tuned_arm(*where, first), tuned_arm(*where, second)) for name, where in settings.items()},
        why="λ → 0 gives back the method without penalty, so a tuned λ cannot lose much.",
        domain=BEATS_DOMAIN.format(" and ".join(optimizers)),
        trials=12,
        **options,
    )


COMPARISONS = (
    tuned_claim(
        "ilora-beats-lora",
        "iLoRA reaches a lower loss than LoRA, each at its own best step size and λ.",
        "lora",
        "ilora",
        experiment="ilora",
        source=BETTER,
    ),
    tuned_claim(
        "pilora-beats-lora",
        "πLoRA reaches a lower loss than LoRA, each at its own best step size and λ.",
        "lora",
        "pilora",
        experiment="preconditioned",
        source=BETTER,
    ),
    tuned_claim(
        "pilora-beats-preconditioned",
        "πLoRA reaches a lower loss than preconditioning alone (ScaledGD, Scaled AdamW), each at its own best.",
        "scaled-gd",
        "pilora",
        experiment="preconditioned",
        source=BETTER,
        recorded="inconclusive",
        corrected_by="pilora-beats-preconditioned-adam",
    ),
    tuned_claim(
        "pilora-beats-preconditioned-adam",
        "Under Adam πLoRA reaches a lower loss than preconditioning alone (Scaled AdamW), each at its own best.",
        "scaled-gd",
        "pilora",
        experiment="preconditioned",
        optimizers=("Adam",),
        kind="correction",
    ),
)

DUEL = ProblemSettings(init_std=0.3)
DUEL_DOMAIN = (
    "one-layer loss, r = 4, {} start with entries of size 0.3, {}, 50 steps; geometric spectra 0.5, 0.7, 0.9 × shapes "
    "40×10, 20×20, 10×40, λ from 1e-6 to 100, chosen with the step size on other problems"
)
CELL_BATCHES = 4
"""Of problems on record in a cell of a map."""

Cell = tuple[str, str, str]
"""Spectrum, shape and start, in words."""


def cells(methods: tuple[str, str], starts: Sequence[str], optimizer: str) -> dict[Cell, tuple[Arm, Arm]]:
    """Two methods over spectrum × shape × start."""
    found = {}
    for decay, shape, start in product(DUEL_DECAYS, DUEL_SHAPES, starts):
        here = ProblemSettings(shape=shape, target=f"geometric:{decay!r}", start=start, init_std=DUEL.init_std)
        options: dict[str, Any] = {"steps": DUEL_STEPS, "step_sizes": DUEL_STEP_SIZES, "batches": CELL_BATCHES}
        pair = (Arm(here, optimizer, method, strengths=STRENGTHS, **options) for method in methods)
        name = f"q = {decay:g}", "×".join(map(str, shape)), f"{start} start"
        found[name] = next(pair), next(pair)
    return found


def tally(outcomes: Outcomes, contrasts: Mapping[Cell, tuple[Arm, Arm]]) -> Measurement:
    """Counts the cells won by the second method: the rule of the claims that ask about it."""
    gains = {cell: gain(outcomes, *pair, len(contrasts)) for cell, pair in contrasts.items()}
    words = {cell: judged(found) for cell, found in gains.items()}
    won, lost, alike = ([cell for cell in words if words[cell] == word] for word in ("holds", "not seen", "equivalent"))
    parts = []
    for knob in range(3):
        values = list(dict.fromkeys(cell[knob] for cell in gains))
        for value in values if len(values) > 1 else ():
            wins, losses = (sum(cell[knob] == value for cell in group) for group in (won, lost))
            parts.append(f"{value} {wins}:{losses}")
    ((commonest, count),) = Counter(words.values()).most_common(1)
    verdict: MeasuredName = commonest if count > len(gains) / 2 else "inconclusive"
    note = f"of {len(gains)} cells {len(won)} won, {len(lost)} lost, {len(alike)} no different; " + ", ".join(parts)
    named = {", ".join(cell): found for cell, found in gains.items()}
    at_edge = sum(map(bool, edges_of(named).values()))
    lost_runs = [max(found["diverged"]) for found in gains.values() if any(found["diverged"])]
    number = next(iter(gains.values()))["n"]
    note += f"; runs diverged in {len(lost_runs)} cells, at most {max(lost_runs)} of {number}" if lost_runs else ""
    note += f"; λ at the edge of its grid in {at_edge} of {len(gains)} cells" if at_edge else ""
    return Measurement(verdict, number, len(won) / len(gains) - 1 / 2, note, {"gains": named})


def duel_claim(
    id: str,
    statement: str,
    contrasts: Mapping[Cell, tuple[Arm, Arm]],
    *,
    why: str,
    domain: str,
    **options: Any,
) -> RecordedClaim:
    """A claim that the second method wins more than half of the cells."""

    def judge(outcomes: Outcomes) -> Measurement:
        return tally(outcomes, contrasts)

    judge.__doc__ = (
        "Rule: holds if the second method wins more than half of all cells, not seen if it loses more than half, "
        "equivalent if more than half are no different, else inconclusive. A cell is no different if the interval of "
        "the paired gain, one of as many as there are cells, lies within ±0.05 decades; else won if it is above 0, "
        f"lost if below.\n\n{why}"
    )
    arms = arms_of(contrasts.values())
    return recorded_claim(id, statement, domain=domain, arms=arms, trials=12, seconds=2.0, **options)(judge)


DUELS = (
    duel_claim(
        "balora-versus-ilora",
        "Is balance the better advice under gradient descent: does BaLoRA reach a lower loss than iLoRA, each at its "
        "best?",
        cells(("ilora", "balora"), DUEL_STARTS, "gd"),
        why="Where each method wins is reported.",
        kind="question",
        recorded="inconclusive",
        domain=DUEL_DOMAIN.format("LoRA's, balanced and Gaussian", "GD"),
    ),
    duel_claim(
        "balora-versus-ilora-adam",
        "Is balance the better advice under Adam: does BaLoRA reach a lower loss than iLoRA, each at its best?",
        cells(("ilora", "balora"), DUEL_STARTS, "adam"),
        why="The penalty moves the factors a little in every step and leaves Adam's coordinates in place; P may "
        "reorder them.",
        kind="question",
        domain=DUEL_DOMAIN.format("LoRA's, balanced and Gaussian", "Adam"),
        recorded="not seen",
    ),
    duel_claim(
        "ilora-prefers-balance",
        "iLoRA's penalty reaches a lower loss with ratio 1, which is balance, than with its ratio r/m.",
        cells(("ilora", "ilora-balanced"), ("lora",), "gd"),
        why="Each ratio is at its own best step size and λ.",
        kind="correction",
        domain=DUEL_DOMAIN.format("LoRA's", "GD"),
    ),
)


def ratio_arms(optimizer: str, factors: Sequence[float], powers: Sequence[float]) -> dict[str, dict[str, Arm]]:
    """By shape and ratio, iLoRA with c·r/m and (r/m)^p; c = 1 is the paper's."""
    names = [f"factor={c!r}" for c in factors] + [f"power={p!r}" for p in powers]
    found: dict[str, dict[str, Arm]] = {}
    for shape in DUEL_SHAPES:
        here = ProblemSettings(shape=shape, target="geometric:0.7", init_std=DUEL.init_std)
        found["×".join(map(str, shape))] = {
            name: Arm(
                here,
                optimizer,
                f"ilora:{name}",
                steps=DUEL_STEPS,
                step_sizes=DUEL_STEP_SIZES,
                strengths=STRENGTHS,
            )
            for name in names
        }
    return found


PAPER = "factor=1.0"


def rival_gains(outcomes: Outcomes, arms: Mapping[str, Mapping[str, Arm]]) -> dict[str, dict[str, Any]]:
    """By shape and rival, the gain of r/m over the ratio that is best among the others where choices are made."""
    gains = {}
    for shape, here in arms.items():
        rivals = {name: outcomes.choice(arm).lowest for name, arm in here.items() if name != PAPER}
        rival = min(rivals, key=lambda name: rivals[name])
        gains[f"{shape} {rival}"] = gain(outcomes, here[rival], here[PAPER], len(arms))
    return gains


def every_arm(arms: Mapping[str, Mapping[str, Arm]]) -> tuple[Arm, ...]:
    """The arms of all shapes and ratios."""
    return tuple(arm for here in arms.values() for arm in here.values())


RATIOS = ratio_arms("gd", (0.25, 1.0, 4.0, 16.0), (0.0, 0.5, 2.0))


@recorded_claim(
    "ilora-ratio-optimal",
    "The ratio r/m is iLoRA's best: neither c·r/m nor (r/m)^p with other c, p reaches a lower loss.",
    source=ILORA.at("Section 6.4, optimal"),
    domain=(
        "one-layer loss, r = 4, LoRA's start with entries of size 0.3, GD, 50 steps; geometric spectrum 0.7, shapes "
        "40×10, 20×20, 10×40, c = 1/4, 1, 4, 16 and p = 0, ½, 2, each at its best step size and λ on other problems"
    ),
    arms=every_arm(RATIOS),
    trials=12,
    seconds=2.0,
    recorded="not seen",
    corrected_by="ilora-prefers-balance",
)
def ilora_ratio_optimal(outcomes: Outcomes) -> Measurement:
    """Rule: not seen if a rival ratio, the best one on the problems that choices are made on, is ahead on the others.

    That is asked at each of the three shapes, and one suffices. Holds if r/m itself is ahead of the best rival at all
    three; equivalent if all three intervals lie within ±0.05 decades; else inconclusive.
    """
    gains = rival_gains(outcomes, RATIOS)
    rivals = {name: {**found, "median": -found["median"]} for name, found in gains.items()}
    for found in rivals.values():
        low, high = found["interval"]
        found["interval"] = [-high, -low]
    verdict = all_of(decide(found["interval"], margin=NO_GAIN) for found in gains.values())
    note = "gain of the best rival over r/m in decades: " + ", ".join(show(name, rivals[name]) for name in rivals)
    note += edges(edges_of(gains))
    lowest = min(found["interval"][0] for found in gains.values())
    return Measurement(verdict, next(iter(gains.values()))["n"], lowest, note, {"gains": gains})


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
    faster = median_interval(np.log10(times[3:, 1] / times[3:, 0]))
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
    *DUELS[:2],
    ilora_ratio_optimal,
    *DUELS[2:],
    ilora_overhead,
    scaled_gd_makes_balance_idle,
)
