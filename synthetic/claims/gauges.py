"""What the gauge does to the path of AB: RefLoRA beside BaLoRA, and whose path depends on the gauge of the start."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.projection import Gauge, balance
from lorakappa.conditioning.sources import REFLORA
from lorakappa.conditioning.verification import Measurement, measured_claim
from lorakappa.synthetic.claims.balora import beats_claim
from lorakappa.synthetic.claims.gains import MAIN
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.experiments.convergence import convergence
from lorakappa.synthetic.losses import Params
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.problems import Problems, make_problems
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.targets import generators, random_gauge

SAME, DIFFERENT = 1e-6, 1e-3
"""Relative differences of f − f* up to which two paths count as one, and from which on as two."""


def relative_difference(first: Array, second: Array) -> Array:
    """|f₁ − f₂| over the larger one, for two curves (T + 1, …) of f − f*; NaN where one has diverged."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(first - second) / np.maximum(first, second))


@measured_claim(
    "reflora-is-balora-gd",
    "Under gradient descent RefLoRA and BaLoRA are one method: from LoRA's start AB takes the same path.",
    kind="question",
    domain="one- and two-layer loss, 20×20 Gaussian targets, r = 4, LoRA's start, GD, 200 steps; 17 step sizes",
    trials=4,
)
def reflora_is_balora_gd(trials: int, seed: int) -> Measurement:
    """Rule: no f − f* differs by more than 1e-6 of the larger, at any step where neither curve has risen before.

    A curve that rises shows a step size beyond what is stable, where rounding is amplified at every step.

    Proof: `conditioning.refactoring`: with S = TTᵀ RefLoRA's step is that of the balanced pair (AT, T⁻¹B), taken back
    to the gauge of (A, B). At LoRA's start A = 0 neither P nor S does anything; from any other start BaLoRA's first
    step is taken before the first P, and theirs are the same from P(A, B) on.
    """
    worst, compared = 0.0, 0
    for loss in MAIN:
        settings = ProblemSettings(loss=loss, seeds=trials, seed=seed)
        result = convergence(settings, methods=("reflora", "balora"), steps=200, step_sizes="auto:17")
        first, second = np.moveaxis(result.arrays["excess"], 1, 0)
        with np.errstate(invalid="ignore"):
            falls = (np.diff(first, axis=0) <= 0) & (np.diff(second, axis=0) <= 0)
        stable = np.logical_and.accumulate(falls, axis=0)
        worst = max(worst, float(relative_difference(first, second)[1:][stable].max(initial=0.0)))
        compared += int(stable.sum())
    note = f"largest relative difference {worst:.1e} in {compared} steps"
    verdict: Literal["holds", "not seen"] = "holds" if worst <= SAME else "not seen"
    return Measurement(verdict, trials, SAME - worst, note, {"worst": worst, "steps": compared})


OPTIMIZERS = {"GD": ("gd", 0.3), "sign-GD": ("sign-gd", 0.3), "Adam": ("adam", 0.05)}
"""Name of each optimizer and its step size, in the unit of `problems.step_size_grid`."""

FREE_UNDER_GD = ("reflora", "scaled-gd:damping=0", "balora-scaled-gd:damping=0")
OTHERS = (
    "lora",
    "lora-plus:lr-ratio=2",
    "balora",
    "balora-symmetric",
    "balora-nearest",
    "reflora:mode=scalar",
    "ilora:lambda=0.1",
    "pilora:damping=0,lambda=0.1",
)
GAUGE_START = ProblemSettings(start="gaussian", init_std=0.5)
GAUGE_DOMAIN = (
    "one-layer loss, 20×20 Gaussian targets, r = 4, Gaussian start, 50 steps; the start in two gauges that differ by a "
    "random G, one moderate step size"
)


def _in_another_gauge(start: Params, seed: int) -> Params:
    """The same products AB from (AG, G⁻¹B), G random and well-conditioned."""
    A, B = start
    (rngs,) = generators(seed, len(A), 1)
    G = np.stack([random_gauge(A.shape[-1], 0.5, rng) for rng in rngs])
    return A @ G, np.linalg.solve(G, B)


def _step_size(problems: Problems, method: str, optimizer: str, multiple: float) -> Array:
    """(1,) a multiple of the optimizer's natural unit, for a method with scaled gradients times `Problems.gram`."""
    unit = {"gd": 1.0, "sign-gd": 1 / problems.parameters}.get(optimizer)
    if unit is None:
        return np.array([multiple * problems.entry])
    gram = problems.gram if parse_method(method).preconditioned else 1.0
    return np.array([multiple * gram * unit / float(np.median(problems.loss.smoothness))])


def gauge_dependence(
    methods: Iterable[str], trials: int, seed: int, *, project: Gauge | None = None
) -> dict[str, dict[str, tuple[float, float]]]:
    """How far AB's path depends on the gauge of the start.

    Args:
        methods: names.
        trials: problems.
        seed: root seed.
        project: gauge of the P that is applied to both starts; None for none.

    Returns:
        By optimizer and method, the smallest and the largest over the problems of the largest relative difference of
        f − f* over the steps.
    """
    problems = make_problems(replace(GAUGE_START, seeds=trials, seed=seed))
    starts = [problems.start, _in_another_gauge(problems.start, seed)]
    if project is not None:
        starts = [balance(*start, gauge=project) for start in starts]
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for label, (optimizer, multiple) in OPTIMIZERS.items():
        found[label] = {}
        for method in methods:
            first, second = (
                simulate(
                    problems.loss,
                    start,
                    method=method,
                    optimizer=optimizer,
                    step_sizes=_step_size(problems, method, optimizer, multiple),
                    steps=50,
                ).excess[:, 0]
                for start in starts
            )
            worst = relative_difference(first, second).max(axis=0)
            found[label][method] = float(worst.min()), float(worst.max())
    return found


def _judge(found: dict[tuple[str, str], tuple[float, float]], free: set[tuple[str, str]], trials: int) -> Measurement:
    """Holds if all of `free` and nothing else stays on one path; inconclusive if some path is neither one nor two."""
    one = {key for key, (_, high) in found.items() if high <= SAME}
    two = {key for key, (low, _) in found.items() if low >= DIFFERENT}
    wrong = sorted((one - free) | (two & free))
    largest = max((found[key][1] for key in one), default=float("nan"))
    smallest = min((found[key][0] for key in two), default=float("nan"))
    note = f"{len(one)} of {len(found)} pairs (method, optimizer) are free of the gauge, to {largest:.0e}; the others "
    note += f"depend on it, by {smallest:.0e} at least"
    if wrong:
        note += "; against the statement: " + ", ".join(f"{method} under {optimizer}" for method, optimizer in wrong)
    evidence: dict[str, Any] = {f"{method} under {optimizer}": ends for (method, optimizer), ends in found.items()}
    complete = len(one) + len(two) == len(found)
    verdict: Literal["holds", "not seen", "inconclusive"] = (
        "not seen" if wrong else "holds" if complete else "inconclusive"
    )
    return Measurement(verdict, trials, None, note, evidence)


@measured_claim(
    "gauge-free-methods",
    "Whose path of AB does not depend on the gauge of the start? Under GD RefLoRA's and ScaledGD's, with P or without, "
    "and no other's; under sign-GD and Adam nobody's.",
    kind="question",
    domain=GAUGE_DOMAIN,
    trials=4,
)
def gauge_free_methods(trials: int, seed: int) -> Measurement:
    """Rule: f − f* differs by at most 1e-6 of itself for all problems where the statement says free, 1e-3 elsewhere.

    The larger difference is reached somewhere on the path, for every problem. The others are LoRA, LoRA+, BaLoRA in
    three gauges, RefLoRA's scalar mode, iLoRA and πLoRA without damping. Argument: at (AT, T⁻¹B) the steps of RefLoRA
    and ScaledGD are those at (A, B), in that gauge; BaLoRA's are, after its first step, which is taken before any P.
    Sign and Adam treat entries apart, and T mixes them.
    """
    by_optimizer = gauge_dependence((*FREE_UNDER_GD, *OTHERS), trials, seed)
    found = {(method, label): ends for label, row in by_optimizer.items() for method, ends in row.items()}
    return _judge(found, {(method, "GD") for method in FREE_UNDER_GD}, trials)


@measured_claim(
    "gauge-free-after-projection",
    "Projected once before the first step by the paper's P, no method's path depends on the gauge under GD, sign-GD or "
    "Adam; projected by the symmetric or the nearest P, BaLoRA's in that gauge still does under sign-GD and Adam.",
    kind="question",
    domain=GAUGE_DOMAIN,
    trials=4,
)
def gauge_free_after_projection(trials: int, seed: int) -> Measurement:
    """Rule: as for `gauge-free-methods`.

    Argument: the paper's P leads from every gauge to the same pair up to signs of columns, which GD, sign-GD and Adam
    carry along. The symmetric and the nearest P lead to balanced pairs that differ by a rotation, which only GD does.
    """
    found: dict[tuple[str, str], tuple[float, float]] = {}
    plain = (*FREE_UNDER_GD, *(name for name in OTHERS if name not in ("balora-symmetric", "balora-nearest")))
    groups: tuple[tuple[Gauge, tuple[str, ...]], ...] = (
        ("hyperbalanced", plain),
        ("symmetric", ("balora-symmetric",)),
        ("nearest", ("balora-nearest",)),
    )
    for gauge, methods in groups:
        for label, row in gauge_dependence(methods, trials, seed, project=gauge).items():
            found |= {(method, label): ends for method, ends in row.items()}
    dependent = {(method, label) for method in ("balora-symmetric", "balora-nearest") for label in ("sign-GD", "Adam")}
    return _judge(found, set(found) - dependent, trials)


COMPARISONS = (
    beats_claim(
        "reflora-beats-lora-adam",
        "Under Adam RefLoRA reaches a lower loss than LoRA, each at its own best step size.",
        "adam",
        methods=("lora", "reflora"),
        variations={},
        trials=24,
        experiment="adam",
        source=REFLORA.at("Abstract, faster and better"),
        recorded="inconclusive",
    ),
    beats_claim(
        "reflora-versus-balora-adam",
        "Under Adam, where the two are different methods, does RefLoRA reach a lower loss than BaLoRA?",
        "adam",
        methods=("balora", "reflora"),
        variations={},
        trials=24,
        experiment="adam",
        kind="question",
        recorded="not seen",
    ),
)

CLAIMS = (reflora_is_balora_gd, *COMPARISONS, gauge_free_methods, gauge_free_after_projection)
