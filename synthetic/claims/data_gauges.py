"""What the gauge does where the data are ill-conditioned: the weighted loss ½‖C(AB − Z)D‖² under GD and SGD."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.verification import Measurement, all_of, decide, measured_claim
from lorakappa.conditioning.weighted import weighted_hessian
from lorakappa.synthetic.claims.gains import check_trials, judged, show
from lorakappa.synthetic.data_gauges import DataMap
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.experiments.gauges import Reached, noisy, reach
from lorakappa.synthetic.losses import Params, Weighted
from lorakappa.synthetic.noise import NoisyLabels
from lorakappa.synthetic.problems import Problems, make_problems
from lorakappa.synthetic.selection import compare
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


@lru_cache(maxsize=64)
def _reached(settings: ProblemSettings, method: str, optimizer: str) -> Reached:
    found = reach(
        make_problems(settings),
        method,
        optimizer,
        steps=100,
        step_sizes="auto:17",
        noise=NOISE,
        seed=settings.seed,
    )
    assert found is not None, "the smallest step sizes do not diverge"
    return found


def weighted_gains(
    optimizer: str, methods: tuple[str, str], trials: int, seed: int, chosen: Mapping[str, ProblemSettings] = WEIGHTS
) -> dict[str, Any]:
    """By setting, the gain of the second method over the first, each at its own best step size."""
    check_trials(trials)
    found = {}
    for name, settings in chosen.items():
        here = replace(settings, seeds=trials, seed=seed)
        first, second = (_reached(here, method, optimizer) for method in methods)
        found[name] = {
            **compare(first.log10 - second.log10, seed=seed).meta(),
            "best_at_edge_of_grid": [m for m, at in zip(methods, (first, second), strict=True) if at.at_edge],
        }
    return found


def judge_gains(found: Mapping[str, Any], trials: int) -> Measurement:
    """Holds if every setting's gain does, not seen if one is not, equivalent if all are (`gains.judged`)."""
    note = "gain in decades: " + ", ".join(show(name, gain) for name, gain in found.items())
    lowest = min(gain["interval"][0] for gain in found.values())
    return Measurement(all_of(judged(gain) for gain in found.values()), trials, lowest, note, dict(found))


@measured_claim(
    "balance-helps-weighted-gd",
    "Does balance still help where the data are ill-conditioned: does BaLoRA reach a lower loss than LoRA under "
    "gradient descent, each at its own best step size?",
    kind="question",
    domain=DOMAIN,
    trials=24,
    experiment="weighted",
    seconds=2.0,
)
def balance_helps_weighted_gd(trials: int, seed: int) -> Measurement:
    """Rule: holds if the gain's interval is above 0 in all four settings, not seen if it is below 0 in one."""
    return judge_gains(weighted_gains("gd", ("lora", "balora"), trials, seed), trials)


@measured_claim(
    "data-gauge-beats-balance-gd",
    "Is the gauge of the smallest trace, taken from C and D themselves at every step, better than balance under "
    "gradient descent?",
    kind="question",
    domain=DOMAIN,
    trials=24,
    experiment="weighted",
    seconds=2.0,
    recorded="not seen",
    corrected_by="data-gauge-beats-balance-sgd-uneven",
)
def data_gauge_beats_balance_gd(trials: int, seed: int) -> Measurement:
    """Rule: holds if the gain's interval is above 0 in all four settings, not seen if it is below 0 in one.

    The trace is not what limits gradient descent without noise; κ and λ_max are, of which neither gauge is the best.
    """
    return judge_gains(weighted_gains("gd", ("balora", "balora-data"), trials, seed), trials)


@measured_claim(
    "data-gauge-beats-balance-sgd",
    "With noisy gradients, is the gauge of the smallest trace better than balance, each at its own best step size?",
    kind="question",
    domain=NOISY_DOMAIN,
    trials=24,
    experiment="weighted",
    seconds=2.0,
    recorded="inconclusive",
    corrected_by="data-gauge-beats-balance-sgd-uneven",
)
def data_gauge_beats_balance_sgd(trials: int, seed: int) -> Measurement:
    """Rule: as for `data-gauge-beats-balance-gd`; the noise has covariance σ² times the Gauss–Newton matrix."""
    return judge_gains(weighted_gains("sgd", ("balora", "balora-data"), trials, seed), trials)


@measured_claim(
    "data-gauge-beats-balance-sgd-uneven",
    "With noisy gradients the gauge of the smallest trace is better than balance where outputs and inputs are weighed "
    "unevenly.",
    kind="correction",
    domain=NOISY_DOMAIN + "; the three settings but for random 10, 10",
    trials=24,
    experiment="weighted",
    seconds=2.0,
)
def data_gauge_beats_balance_sgd_uneven(trials: int, seed: int) -> Measurement:
    """Rule: holds if the gain's interval is above 0 in the three settings, not seen if it is below 0 in one.

    With 10 and 10 at random outputs and inputs weigh the leading directions of AB alike, and the trace of balance is
    within a few percent of the smallest one (`fisher-gauge-finds-the-data`).
    """
    return judge_gains(weighted_gains("sgd", ("balora", "balora-data"), trials, seed, UNEVEN), trials)


@measured_claim(
    "fisher-gauge-beats-balance-sgd",
    "With noisy gradients, is the Fisher gauge better than balance where outputs and inputs are weighed unevenly?",
    kind="question",
    domain=NOISY_DOMAIN + "; the three settings but for random 10, 10",
    trials=24,
    experiment="weighted",
    seconds=2.0,
)
def fisher_gauge_beats_balance_sgd(trials: int, seed: int) -> Measurement:
    """Rule: as for `data-gauge-beats-balance-sgd-uneven`."""
    return judge_gains(weighted_gains("sgd", ("balora", "balora-fisher"), trials, seed, UNEVEN), trials)


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
    check_trials(trials)
    found: dict[str, Any] = {}
    for name, settings in WEIGHTS.items():
        problems = make_problems(replace(settings, start="gaussian", init_std=0.1, seeds=trials, seed=seed))
        excesses = [_trace_excess(problems, method, seed) for method in ("balora", "balora-fisher")]
        decades = np.log10(excesses[0]) - np.log10(excesses[1])
        gain = compare(np.where(np.isfinite(decades), decades, 0.0), seed=seed)
        found[name] = {**gain.meta(), "excess": [float(np.nanmedian(excess)) for excess in excesses]}
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
    check_trials(trials)
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
        ratio = compare(measured / predicted - 1, seed=seed)
        low, high = ratio.interval or (-1.0, 1.0)
        inside, outside = max(-low, high) < SHARE, low > SHARE or high < -SHARE
        verdicts.append("holds" if inside else "not seen" if outside else "inconclusive")
        parts.append(f"{method} {1 + ratio.median:.3f} [{1 + low:.3f}, {1 + high:.3f}]")
        slack.append(SHARE - max(abs(low), abs(high)))
        evidence[method] = ratio.meta()
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
    gain = compare(np.log10(balanced / data), seed=seed).meta()
    predicted = float(np.median(np.log10(of_balanced / of_data)))
    note = f"decades by which the floor is lower: {show('in the gauge of the data', gain)}, predicted {predicted:+.2f}"
    return Measurement(judged(gain), trials, gain["interval"][0], note, {**gain, "predicted": predicted})


CLAIMS = (
    balance_helps_weighted_gd,
    data_gauge_beats_balance_gd,
    data_gauge_beats_balance_sgd,
    data_gauge_beats_balance_sgd_uneven,
    fisher_gauge_beats_balance_sgd,
    fisher_gauge_finds_the_data,
    sgd_noise_floor_measured,
    sgd_noise_floor_lowest,
)
