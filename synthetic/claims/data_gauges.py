"""What the gauge does where the data are ill-conditioned: the weighted loss ½‖C(AB − Z)D‖² under GD and SGD."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.verification import Measurement, all_of, decide, measured_claim
from lorakappa.conditioning.weighted import weighted_hessian
from lorakappa.synthetic.arms.intervals import check_number, median_interval
from lorakappa.synthetic.claims.gains import Contrasts, gains_claim, judged, paired, show
from lorakappa.synthetic.claims.on_record import RecordedClaim
from lorakappa.synthetic.data_gauges import DataMap
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.experiments.gauges import noisy
from lorakappa.synthetic.losses import Params, Weighted
from lorakappa.synthetic.noise import NoisyLabels
from lorakappa.synthetic.problems import Problems, make_problems
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.targets import generators, low_rank, targets, weights

WEIGHTS = {
    "random 10, 10": ProblemSettings(loss="weighted", weights=(10.0, 10.0)),
    "random 1, 100": ProblemSettings(loss="weighted", weights=(1.0, 100.0)),
    "random 100, 1": ProblemSettings(loss="weighted", weights=(100.0, 1.0)),
    "crossed 10, 10": ProblemSettings(loss="weighted", weights=(10.0, 10.0), alignment="crossed"),
}
"""Singular vectors of C and D and their condition numbers; "crossed" is strong in C where weak in D."""

DOMAIN = (
    "weighted loss, 20×20 Gaussian targets, r = 4, A = 0 and B standard normal at the start, 100 steps; condition "
    "numbers of C and D 10 and 10, 1 and 100, 100 and 1 with random singular vectors, 10 and 10 with crossed ones"
)
NOISY_DOMAIN = (
    DOMAIN + "; noise of labels as large as the root mean square of CZD, mean of f − f* over the last 20 steps"
)
UNEVEN = {name: settings for name, settings in WEIGHTS.items() if name != "random 10, 10"}
"""Settings where outputs and inputs weigh the directions of AB differently: balance is not what they ask for."""


NOISE = 1.0
"""Of labels, against the root mean square of CZD: what is left after 100 steps is noise, not distance."""


def _contrasts(optimizer: str, methods: tuple[str, str], chosen: Mapping[str, ProblemSettings] = WEIGHTS) -> Contrasts:
    """Two methods under one optimizer, by setting."""
    noise = NOISE if optimizer == "sgd" else 0.0
    return paired(chosen, methods, optimizer=optimizer, step_sizes="auto:17", noise=noise)


def _claim(id: str, statement: str, contrasts: Contrasts, *, why: str, **options: Any) -> RecordedClaim:
    given = {"kind": "question", "domain": DOMAIN, "trials": 24, "experiment": "weighted", "seconds": 2.0, **options}
    return gains_claim(id, statement, contrasts, why=why, **given)


GAINS = (
    _claim(
        "balance-helps-weighted-gd",
        "Does balance still help where the data are ill-conditioned: does BaLoRA reach a lower loss than LoRA under "
        "gradient descent, each at its own best step size?",
        _contrasts("gd", ("lora", "balora")),
        why="It is not what such data ask for, but what leaves the pair unbalanced is the start.",
    ),
    _claim(
        "data-gauge-beats-balance-gd",
        "Is the gauge of the smallest trace, taken from C and D themselves at every step, better than balance under "
        "gradient descent?",
        _contrasts("gd", ("balora", "balora-data")),
        why="The trace is not what limits gradient descent without noise; κ and λ_max are, of which neither gauge is "
        "the best.",
        recorded="not seen",
        corrected_by="data-gauge-beats-balance-sgd-uneven",
    ),
    _claim(
        "data-gauge-beats-balance-sgd",
        "With noisy gradients, is the gauge of the smallest trace better than balance, each at its own best step size?",
        _contrasts("sgd", ("balora", "balora-data")),
        why="The noise has covariance σ² times the Gauss–Newton matrix.",
        domain=NOISY_DOMAIN,
        recorded="inconclusive",
        corrected_by="data-gauge-beats-balance-sgd-uneven",
    ),
    _claim(
        "data-gauge-beats-balance-sgd-uneven",
        "With noisy gradients the gauge of the smallest trace is better than balance where outputs and inputs are "
        "weighed unevenly.",
        _contrasts("sgd", ("balora", "balora-data"), UNEVEN),
        why="With 10 and 10 at random outputs and inputs weigh the leading directions of AB alike, and the trace of "
        "balance is within a few percent of the smallest one (`fisher-gauge-finds-the-data`).",
        kind="correction",
        domain=NOISY_DOMAIN + "; the three settings but for random 10, 10",
    ),
    _claim(
        "fisher-gauge-beats-balance-sgd",
        "With noisy gradients, is the Fisher gauge better than balance where outputs and inputs are weighed unevenly?",
        _contrasts("sgd", ("balora", "balora-fisher"), UNEVEN),
        why="As for `data-gauge-beats-balance-sgd-uneven`.",
        domain=NOISY_DOMAIN + "; the three settings but for random 10, 10",
    ),
)


def trace(loss: Weighted, factors: Params) -> Array:
    """(n,) trace of the Gauss–Newton matrix."""
    return np.asarray(sum(np.einsum("nii->n", H) for H in loss.traces(factors)))


def smallest_trace(loss: Weighted, factors: Params) -> Array:
    """(n,) its smallest value over all gauges of the same product."""
    return trace(loss, DataMap(loss, "symmetric")(factors, None))


@measured_claim(
    "fisher-gauge-finds-the-data",
    "Does the Fisher gauge, which knows r×r moments of noisy gradients only, find the gauge of the data: is its trace "
    "nearer to the smallest one than that of balance, by at least a factor of 2 in the excess?",
    kind="question",
    domain="weighted loss, 20×20 Gaussian targets, r = 4, Gaussian start with entries of size 0.1, 200 steps of size "
    "0.2/L; weights and noise as for `data-gauge-beats-balance-sgd`",
    trials=24,
    experiment="weighted",
    seconds=2.0,
)
def fisher_gauge_finds_the_data(trials: int, seed: int) -> Measurement:
    """Rule: log₁₀ of the ratio of the excesses tr H/min − 1, balance over Fisher, above log₁₀ 2 in all four settings.

    At the end of each run, at its own product; damping and decay as the method has them by default. A seed that
    diverges counts as no gain.
    """
    check_number(trials, len(WEIGHTS))
    found: dict[str, Any] = {}
    for name, settings in WEIGHTS.items():
        problems = make_problems(replace(settings, start="gaussian", init_std=0.1, seeds=trials, seed=seed))
        excesses = [_trace_excess(problems, method, seed) for method in ("balora", "balora-fisher")]
        decades = np.log10(excesses[0]) - np.log10(excesses[1])
        gain = median_interval(np.where(np.isfinite(decades), decades, 0.0), len(WEIGHTS))
        found[name] = {**gain, "excess": [float(np.nanmedian(excess)) for excess in excesses]}
    note = "decades by which the excess is smaller: " + ", ".join(show(name, gain) for name, gain in found.items())
    balanced, fisher = (", ".join(f"{gain['excess'][k]:.2g}" for gain in found.values()) for k in range(2))
    note += f"; excess of balance {balanced}, of Fisher {fisher}"
    threshold = float(np.log10(2))
    verdict = all_of(decide(gain["interval"], threshold=threshold) for gain in found.values())
    lowest = min(gain["interval"][0] for gain in found.values())
    return Measurement(verdict, trials, lowest - threshold, note, found)


def _trace_excess(problems: Problems, method: str, seed: int) -> Array:
    """(n,) tr H/min − 1 after a run with noisy labels; NaN for a seed that diverges."""
    loss = problems.loss
    assert isinstance(loss, Weighted)
    gammas = 0.2 / loss.smoothness[None]
    run = simulate(noisy(problems, NOISE, seed), problems.start, method=method, step_sizes=gammas, steps=200)
    factors = tuple(x[0] for x in run.factors)
    excess = trace(loss, factors) / smallest_trace(loss, factors) - 1
    return np.where(run.diverged_at[0] < 0, excess, np.nan)


# --- the noise floor --------------------------------------------------------------------------------

FLOOR_STEPS = 3000
FLOOR_DOMAIN = (
    "weighted loss with crossed singular vectors, 10×10 targets of rank r = 2, condition numbers 10 of C and D, step "
    "size 0.2/L; noise of labels 0.1 of the root mean square of CZD, mean over 2000 steps after 1000"
)
SHARE = 0.1
"""Relative error up to which a measured floor counts as the predicted one: so far means over 2000 correlated steps and
terms of higher order lead."""


@lru_cache(maxsize=4)
def noise_floors(trials: int, seed: int) -> dict[str, tuple[Array, Array]]:
    """By the gauge held, (n,) measured and predicted f − f*, (γσ²/2)Σλ/(2 − γλ) with γ the same in both gauges."""
    check_number(trials, 2)
    for_targets, for_weights = generators(seed, trials, 2)
    Z = low_rank(targets("gaussian", (10, 10), for_targets), 2)
    C, D = weights((10.0, 10.0), Z, for_weights, "crossed")
    loss = Weighted.from_target(Z, C, D, 2)
    U, s, Vt = np.linalg.svd(loss.product)
    root = np.sqrt(s[:, :2])
    balanced = U[:, :, :2] * root[:, None, :], root[:, :, None] * Vt[:, :2]
    pairs = {"balora": balanced, "balora-data": DataMap(loss, "symmetric")(balanced, None)}
    spectra = {
        method: np.stack([np.linalg.eigvalsh(weighted_hessian(*each)) for each in zip(*pair, Z, C, D, strict=True)])
        for method, pair in pairs.items()
    }
    gamma = 0.2 / np.max([eigenvalues[:, -1] for eigenvalues in spectra.values()], axis=0)
    size = 0.1 * np.sqrt(np.mean((C @ Z @ D) ** 2, axis=(-2, -1)))
    found = {}
    for method, pair in pairs.items():
        # a little away from the minimizer, since f − f* = 0 at the start would make everything a divergence
        start = tuple(1.01 * x for x in pair)
        labels = NoisyLabels(loss, size, seed)
        run = simulate(labels, start, method=method, step_sizes=gamma[None], steps=FLOOR_STEPS)
        eigenvalues = spectra[method]
        predicted = gamma * size**2 / 2 * (eigenvalues / (2 - gamma[:, None] * eigenvalues)).sum(axis=-1)
        found[method] = run.excess[FLOOR_STEPS // 3 :, 0].mean(axis=0), predicted
    return found


@measured_claim(
    "sgd-noise-floor-measured",
    "SGD with a constant step size γ and gradient noise of covariance σ²H ends at f − f* = (γσ²/2)Σλ/(2 − γλ), in "
    "whatever gauge it is held.",
    kind="question",
    domain=FLOOR_DOMAIN,
    trials=16,
    experiment="noise floor",
)
def sgd_noise_floor_measured(trials: int, seed: int) -> Measurement:
    """Rule: holds if the interval of measured over predicted lies in 1 ± 0.1 for balance and for the data's gauge.

    Not seen if it lies outside for one of them. Source: as for `sgd-noise-floor`, for a quadratic loss; here the loss
    is of the fourth degree and P follows every step.
    """
    verdicts, parts, evidence, slack = [], [], {}, []
    for method, (measured, predicted) in noise_floors(trials, seed).items():
        ratio = median_interval(measured / predicted - 1, 2)
        low, high = ratio["interval"]
        inside, outside = max(-low, high) < SHARE, low > SHARE or high < -SHARE
        verdicts.append("holds" if inside else "not seen" if outside else "inconclusive")
        parts.append(f"{method} {1 + ratio['median']:.3f} [{1 + low:.3f}, {1 + high:.3f}]")
        slack.append(SHARE - max(abs(low), abs(high)))
        evidence[method] = ratio
    note = "measured over predicted: " + ", ".join(parts)
    return Measurement(all_of(verdicts), trials, min(slack), note, evidence)  # type: ignore[arg-type]


@measured_claim(
    "sgd-noise-floor-lowest",
    "Is that noise floor lower in the gauge of the smallest trace than at balance?",
    kind="question",
    domain=FLOOR_DOMAIN,
    trials=16,
    experiment="noise floor",
)
def sgd_noise_floor_lowest(trials: int, seed: int) -> Measurement:
    """Rule: holds if the interval of log₁₀(floor at balance / floor in data's gauge) lies above 0, not seen if below.

    To first order in γ the floor is (γσ²/4) tr H, so that the ratio of the floors is that of the traces.
    """
    floors = noise_floors(trials, seed)
    (balanced, of_balanced), (data, of_data) = floors["balora"], floors["balora-data"]
    gain = median_interval(np.log10(balanced / data))
    predicted = float(np.median(np.log10(of_balanced / of_data)))
    note = f"decades by which the floor is lower: {show('in the gauge of the data', gain)}, predicted {predicted:+.2f}"
    return Measurement(judged(gain), trials, gain["interval"][0], note, {**gain, "predicted": predicted})


CLAIMS = (
    *GAINS,
    fisher_gauge_finds_the_data,
    sgd_noise_floor_measured,
    sgd_noise_floor_lowest,
)
