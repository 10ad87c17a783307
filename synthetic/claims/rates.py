"""Measured contraction against the rates that κ promises, for GD, sign-GD, BaLoRA and ScaledGD."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.sources import ABSTRACT, POSTER, SCALED_GD
from lorakappa.conditioning.verification import MeasuredName, Measurement, measured_claim
from lorakappa.synthetic.experiments.rates import rates, scaled_gd_rates
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.targets import generators, random_matrix


@lru_cache(maxsize=8)
def _measured(experiment: Callable[..., Result], rule: str, trials: int, seed: int, **options: Any) -> Result:
    """One rule of the experiment, measured once for the claims that share it."""
    return experiment(rules=(rule,), instances=trials, seed=seed, **options)


def _measure_rates(rule: str, trials: int, seed: int, *, tight: float | None = None, **options: Any) -> Measurement:
    """One rule of `rates`: not seen with a violation beyond the stated error, inconclusive below 80 % conclusive.

    Args:
        rule: of `synthetic.experiments.rates.RULES`.
        trials: instances.
        seed: root seed.
        tight: if given, |log rate/log bound − 1| must not exceed it at any conclusive instance.
        options: of `rates`, where they are not its own.
    """
    result = _measured(rates, rule, trials, seed, **options)
    summary = result.meta["summary"][0]
    low, high = summary["log_ratio_min"], summary["log_ratio_max"]
    note = f"{summary['conclusive']} of {trials} conclusive; log rate / log bound in [{low:.4f}, {high:.4f}]"
    evidence = {**summary, "settings": result.meta["settings"]}
    if summary["conclusive"] < 0.8 * trials:
        return Measurement("inconclusive", trials, low - 1, note, evidence)
    broken = summary["violations"] > 0 or (tight is not None and max(high - 1, 1 - low) > tight)
    return Measurement("not seen" if broken else "holds", trials, low - 1, note, evidence)


RATES_DOMAIN = (
    "one-layer loss, 7×6 Gaussian targets, r = 2, κ ≤ 100; started next to random unbalanced minimizers, followed "
    "over 36 (GD) or 20 (sign-GD) decades of f − f*"
)


@measured_claim(
    "gd-rate",
    "GD with γ = 2/(L + μ) contracts f − f* asymptotically by at most ((κ − 1)/(κ + 1))² a step, κ at the limit point.",
    source=POSTER.at("Conditioning, rate of GD"),
    domain=RATES_DOMAIN,
    trials=60,
    experiment="gd-rate",
)
def gd_rate_claim(trials: int, seed: int) -> Measurement:
    """Rule: no conclusive limsup above the bound beyond its stated error; 80 % of the runs conclusive.

    Argument: modulo the orbit the iteration linearizes to I − γH, whose eigenvalues lie in ±(κ − 1)/(κ + 1).
    """
    return _measure_rates("gd", trials, seed)


@measured_claim(
    "gd-rate-tight",
    "That rate is attained: the measured log rate is within 1 % of log ((κ − 1)/(κ + 1))² at every instance.",
    source=ABSTRACT.at("minimizers and rates"),
    domain=RATES_DOMAIN,
    trials=60,
    experiment="gd-rate",
)
def gd_rate_tight(trials: int, seed: int) -> Measurement:
    """Rule: |log rate/log bound − 1| ≤ 0.01 at every conclusive instance.

    Argument: generic starts have components along the eigenvectors of μ and L, which contract at exactly that rate.
    """
    return _measure_rates("gd", trials, seed, tight=0.01)


@measured_claim(
    "sign-gd-rate",
    "Sign-GD, θ − γ‖∇f‖₁ sign ∇f with γ = 1/(dL), contracts f − f* asymptotically by at most 1 − 1/(dκ) a step.",
    source=POSTER.at("Conditioning, rate of sign-GD"),
    domain=RATES_DOMAIN,
    trials=50,
)
def sign_gd_rate_claim(trials: int, seed: int) -> Measurement:
    """Rule: no limsup above the bound, without allowance; 80 % of the runs conclusive.

    Argument: `conditioning.rates.sign_gd_rate`; far from tight, since ‖∇f‖₁² is rarely as small as ‖∇f‖₂².
    """
    return _measure_rates("sign-gd", trials, seed)


@measured_claim(
    "sign-gd-rate-sharp",
    "Sign-GD with γ = 1/L_∞ contracts f − f* asymptotically by at most 1 − μ_∞/L_∞ a step (certificates of both).",
    kind="correction",
    domain=RATES_DOMAIN,
    trials=50,
)
def sign_gd_rate_sharp(trials: int, seed: int) -> Measurement:
    """Rule: as for `sign-gd-rate`. Proof for quadratics: `conditioning.rates.sharp_sign_gd_rate`."""
    return _measure_rates("sign-gd-sharp", trials, seed)


FEW: dict[str, Any] = {"shape": (4, 3), "rank": 2}
FEW_DOMAIN = "one-layer loss, 4×3 Gaussian targets, r = 2 (14 parameters), κ ≤ 100; {}"


@measured_claim(
    "sign-gd-rate-exact",
    "Sign-GD with γ = 1/L_∞ contracts f − f* asymptotically by at most 1 − μ_∞/L_∞ a step, both exact: L_∞ over all "
    "signs, μ_∞ over all vertices of {‖g‖₁ ≤ 1} ∩ range H.",
    kind="correction",
    domain=FEW_DOMAIN.format("started next to random unbalanced minimizers, followed over 20 decades of f − f*"),
    trials=30,
    experiment="sign-gd-exact",
)
def sign_gd_rate_exact(trials: int, seed: int) -> Measurement:
    """Rule: as for `sign-gd-rate`. Proof for quadratics: `conditioning.rates.sharp_sign_gd_rate`."""
    return _measure_rates("sign-gd-exact", trials, seed, **FEW)


SHARP = 1.5
"""Log contraction over log bound up to which a bound counts as sharp."""


@measured_claim(
    "sign-gd-rate-attained",
    "Is that exact bound sharp: at every minimizer, does some start have a step whose log contraction is at most 1.5 "
    "times the bound's?",
    kind="question",
    domain=FEW_DOMAIN.format("starts of the quadratic ½zᵀHz found by evolution, 400 steps"),
    trials=30,
    experiment="sign-gd-exact",
)
def sign_gd_rate_attained(trials: int, seed: int) -> Measurement:
    """Rule: holds if the closest start found has a ratio of at most 1.5 at every minimizer, else inconclusive.

    A search can show that a bound is sharp, never that it is not. Random starts miss the bound by far, which is why a
    search is made; the note also says how close the steps come for ever, in the last quarter of a run. Argument:
    `synthetic.sharpness`: where μ_∞ is attained most signs are open, and some choice of them nearly attains L_∞.
    """
    result = _measured(rates, "sign-gd-exact", trials, seed, **FEW)
    step, tail, random = (result.arrays[name] for name in ("closest_step", "closest_tail", "log_ratio"))
    note = f"log contraction over log bound, closest start: one step {_span(step)}, for ever {_span(tail)}; "
    note += f"from random starts {_span(random)}"
    verdict: MeasuredName = "holds" if (step <= SHARP).all() else "inconclusive"
    evidence = {"closest_step": step, "closest_tail": tail, "random": random}
    return Measurement(verdict, trials, SHARP - float(step.max()), note, evidence)


def _span(values: Array) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"


SHAPES = (((4, 3), 1), ((7, 6), 2), ((12, 9), 3), ((6, 14), 2))
"""Shapes and ranks at which GD's rate is measured, up to a large κ."""


@measured_claim(
    "gd-rate-any-shape",
    "GD's asymptotic rate is ((κ − 1)/(κ + 1))² at other shapes and ranks, and up to κ = 10⁴, too.",
    source=POSTER.at("Conditioning, κ controls the rate"),
    domain=(
        "one-layer loss, Gaussian targets of 4×3, 7×6, 12×9 and 6×14 with r = 1, 2, 3 and 2, κ ≤ 10⁴; started next to "
        "random unbalanced minimizers, 36 decades of f − f* or 30,000 steps"
    ),
    trials=6,
    seconds=8.0,
)
def gd_rate_any_shape(trials: int, seed: int) -> Measurement:
    """Rule: wherever two horizons agree within 2 %, the log of the mean ratio is within 1 % of the bound's.

    The horizons are the whole run and its first half; a run at which they disagree is not asymptotic yet and says
    nothing. Inconclusive if those are more than a fifth, or no κ above 10³ is among the others. The mean over the last
    quarter of the run is what is judged: at κ = 10⁴ one step changes f − f* by 4·10⁻⁴ of itself, as little as rounding.
    """
    rows: list[dict[str, Any]] = []
    for shape, rank in SHAPES:
        options: dict[str, Any] = {"spread": 1.0, "kappa_max": 1e4, "steps": 30_000}
        arrays = rates(shape=shape, rank=rank, rules=("gd",), instances=trials, seed=seed, **options).arrays
        names = ("kappa", "mean", "bound", "error", "conclusive")
        rows += ({name: arrays[name][i] for name in names} for i in range(trials))
    kappa, mean, bound, _, sure = (np.array([row[name] for row in rows]) for name in rows[0])
    sure = sure.astype(bool)
    off = np.abs(np.log(mean[sure]) / np.log(bound[sure]) - 1)
    note = f"{sure.sum()} of {len(rows)} at κ from {kappa[sure].min(initial=np.inf):.3g} to "
    note += f"{kappa[sure].max(initial=0):.3g}: log rate / log bound within {off.max(initial=0):.1e} of 1; "
    note += f"{(~sure).sum()} not asymptotic yet"
    evidence = {"kappa": kappa, "mean": mean, "bound": bound, "asymptotic": sure}
    if sure.mean() < 0.8 or kappa[sure].max() <= 1e3:
        return Measurement("inconclusive", len(rows), None, note, evidence)
    return Measurement("holds" if off.max() <= 0.01 else "not seen", len(rows), 0.01 - float(off.max()), note, evidence)


@measured_claim(
    "balora-rate",
    "GD projected after every step contracts at ((κ_bal − 1)/(κ_bal + 1))², the rate at the balanced minimizer, from "
    "generic starts that converge.",
    source=ABSTRACT.at("minimizers and rates"),
    domain="one-layer loss, 7×6 Gaussian targets, r = 2, κ_bal ≤ 100; Gaussian starts with entries 0.1·s₁^{1/2}",
    trials=50,
)
def balora_rate(trials: int, seed: int) -> Measurement:
    """Rule: no conclusive limsup above the bound beyond its stated error, and every one within 10 % of it (log).

    Argument: P changes a pair along its orbit only, so modulo the orbit the projected step linearizes to I − γH
    at the balanced limit: projection changes where GD goes, not how fast it goes there.
    """
    return _measure_rates("balora-gd", trials, seed, tight=0.1)


SCALED_SHAPE, SCALED_RANK = (7, 6), 2


@measured_claim(
    "scaled-gd-rate-measured",
    "ScaledGD with γ = 2/(L + μ), L = 2, μ = 1 − s_{r+1}/s_r, contracts f − f* asymptotically by ((κ' − 1)/(κ' + 1))² "
    "a step, κ' = L/μ: 1/9 if rank Z = r < k, at any κ.",
    source=SCALED_GD.at("rate independent of κ"),
    domain=(
        "one-layer loss, 7×6 targets, r = 2, next to random unbalanced minimizers, 36 decades; a third of the targets "
        "each: rank r with s₁/s₂ from 1.5 to 10⁴, s₃/s₂ = 0.6 with the same s₁/s₂, s₁/s₂ = 2 with s₃/s₂ from 0.05 to "
        "0.9"
    ),
    trials=36,
)
def scaled_gd_rate_measured(trials: int, seed: int) -> Measurement:
    """Rule: every conclusive log limsup within 1 % of the bound's and of its stated error; 80 % conclusive.

    Argument: `conditioning.preconditioning`: I − γP⁻¹H has the eigenvalues 1 − γλ, λ ∈ {0, 2, 1, 1 ± s_l/s_i}, and P
    is covariant, so neither the gauge nor s₁ matters.
    """
    (rngs,) = generators(seed, trials, 1)
    kind = np.arange(trials) % 3
    tail = np.choose(kind, [np.zeros(trials), np.full(trials, 0.6), np.linspace(0.05, 0.9, trials)])
    top = np.where(kind == 2, 2.0, np.geomspace(1.5, 1e4, trials))
    rest = tail[:, None] * np.geomspace(1, 0.3, 4)
    spectra = np.concatenate([top[:, None], np.ones((trials, 1)), rest], axis=1)
    Z = np.stack([random_matrix(s, SCALED_SHAPE, rng) for s, rng in zip(spectra, rngs, strict=True)])
    found = scaled_gd_rates(Z, SCALED_RANK, seed=seed)
    sure = found["conclusive"].astype(bool)
    kappa, scaled = found["kappa"][sure], found["kappa_scaled"][sure]
    off = np.abs(found["log_ratio"][sure] - 1)
    note = f"{sure.sum()} of {trials} conclusive; log rate / log bound within {off.max(initial=0.0):.2g} of 1 at "
    note += f"κ from {kappa.min(initial=np.inf):.3g} to {kappa.max(initial=0.0):.3g}, "
    note += f"κ' from {scaled.min(initial=np.inf):.3g} to {scaled.max(initial=0.0):.3g}"
    evidence = {
        "conclusive": int(sure.sum()),
        "log_ratio": found["log_ratio"],
        "uncertainty": found["uncertainty"],
        "kappa": found["kappa"],
        "kappa_scaled": found["kappa_scaled"],
    }
    if sure.sum() < 0.8 * trials:
        return Measurement("inconclusive", trials, None, note, evidence)
    broken = (off > np.maximum(0.01, found["uncertainty"][sure])).any()
    return Measurement("not seen" if broken else "holds", trials, 0.01 - float(off.max()), note, evidence)


CLAIMS = (
    gd_rate_claim,
    gd_rate_tight,
    sign_gd_rate_claim,
    sign_gd_rate_sharp,
    sign_gd_rate_exact,
    sign_gd_rate_attained,
    gd_rate_any_shape,
    balora_rate,
    scaled_gd_rate_measured,
)
