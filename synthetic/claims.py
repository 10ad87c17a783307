"""The claims about dynamics: measured rates against the bounds, BaLoRA against LoRA, and the critics' questions.

Every claim states its rule before it looks: which interval or error decides. Gains are log₁₀ ratios of the final
f − f* of LoRA over BaLoRA on paired problems (same target, same start, same step grid), each method at its own best
step size, with a 95 % bootstrap interval of the median over seeds.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import flint
import numpy as np

from conditioning.claims.canonical import GRADIENT_STEP, CanonicalMinimizers, FloatPair
from conditioning.factors import minimizer
from conditioning.projection import balance
from conditioning.tolerances import claim_rtol
from conditioning.verification import (
    POSTER,
    Comparison,
    MeasuredClaim,
    Measurement,
    algebraic_claim,
    equal,
    measured_claim,
    registry,
)
from conditioning.verification import exact as exactly
from synthetic.convergence import convergence
from synthetic.problems import Settings
from synthetic.rates import rates
from synthetic.settle import settle

STEPS = 100
NO_GAIN = 0.05
"""Decades of f − f* below which a gain counts as none: a factor of 1.12 after 100 steps."""

# --- rates ----------------------------------------------------------------------------------------


def _measure_rates(rule: str, trials: int, seed: int, *, tight: float | None = None) -> Measurement:
    """One rule of `rates`: refuted by a violation beyond the stated error, inconclusive below 80 % conclusive.

    Args:
        rule: of `synthetic.rates.RULES`.
        trials: instances.
        seed: root seed.
        tight: if given, |log rate/log bound − 1| must not exceed it at any conclusive instance.
    """
    result = rates(rules=(rule,), instances=trials, seed=seed)
    summary = result.meta["summary"][0]
    low, high = summary["log_ratio_min"], summary["log_ratio_max"]
    note = f"{summary['conclusive']} of {trials} conclusive; log rate / log bound in [{low:.4f}, {high:.4f}]"
    evidence = {**summary, "settings": result.meta["settings"]}
    if summary["conclusive"] < 0.8 * trials:
        return Measurement("inconclusive", trials, low - 1, note, evidence)
    broken = summary["violations"] > 0 or (tight is not None and max(high - 1, 1 - low) > tight)
    return Measurement("refuted" if broken else "holds", trials, low - 1, note, evidence)


RATES_DOMAIN = (
    "one-layer loss, 7×6 Gaussian targets, r = 2, κ ≤ 100; started next to random unbalanced minimizers, followed "
    "over 36 (GD) or 20 (sign-GD) decades of f − f*"
)


@measured_claim(
    "gd-rate",
    "GD with γ = 2/(L + μ) contracts f − f* asymptotically by at most ((κ − 1)/(κ + 1))² a step, κ at the limit point.",
    source=POSTER,
    domain=RATES_DOMAIN,
    trials=60,
)
def gd_rate_claim(trials: int, seed: int) -> Measurement:
    """Rule: no conclusive limsup above the bound beyond its stated error; 80 % of the runs conclusive.

    Argument: modulo the orbit the iteration linearizes to I − γH, whose eigenvalues lie in ±(κ − 1)/(κ + 1).
    """
    return _measure_rates("gd", trials, seed)


@measured_claim(
    "gd-rate-tight",
    "That rate is attained: the measured log rate is within 1 % of log ((κ − 1)/(κ + 1))² at every instance.",
    domain=RATES_DOMAIN,
    trials=60,
)
def gd_rate_tight(trials: int, seed: int) -> Measurement:
    """Rule: |log rate/log bound − 1| ≤ 0.01 at every conclusive instance.

    Argument: generic starts have components along the eigenvectors of μ and L, which contract at exactly that rate.
    """
    return _measure_rates("gd", trials, seed, tight=0.01)


@measured_claim(
    "sign-gd-rate",
    "Sign-GD, θ − γ‖∇f‖₁ sign ∇f with γ = 1/(dL), contracts f − f* asymptotically by at most 1 − 1/(dκ) a step.",
    source=POSTER,
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


@measured_claim(
    "balora-rate",
    "GD projected after every step contracts at ((κ_bal − 1)/(κ_bal + 1))², the rate at the balanced minimizer, from "
    "generic starts that converge.",
    domain="one-layer loss, 7×6 Gaussian targets, r = 2, κ_bal ≤ 100; Gaussian starts with entries 0.1·s₁^{1/2}",
    trials=50,
)
def balora_rate(trials: int, seed: int) -> Measurement:
    """Rule: no conclusive limsup above the bound beyond its stated error, and every one within 10 % of it (log).

    Argument: P changes a pair along its orbit only, so modulo the orbit the projected step linearizes to I − γH
    at the balanced limit: projection changes where GD goes, not how fast it goes there.
    """
    return _measure_rates("balora-gd", trials, seed, tight=0.1)


# --- BaLoRA against LoRA -----------------------------------------------------------------------------

MAIN = {"one-layer": Settings(), "two-layer": Settings(loss="two-layer")}
VARIATIONS = {
    "Gaussian start 0.1": Settings(start="gaussian", scale=0.1),
    "balanced start": Settings(start="balanced", scale=0.1),
    "linear spectrum": Settings(target="linear"),
    "geometric spectrum 0.7": Settings(target="geometric:0.7"),
    "r = 2": Settings(rank=2),
    "r = 10": Settings(rank=10),
}
BEATS_DOMAIN = (
    "20×20 Gaussian targets, r = 4, A = 0 and B standard normal at the start, 100 steps, best of 50 step sizes by "
    "median final loss; verdict from the one- and the two-layer loss, variations reported beside it"
)


def _gain(
    settings: Settings, optimizer: str, trials: int, seed: int, methods: tuple[str, str] = ("lora", "balora")
) -> dict[str, Any]:
    """Median log₁₀ gain of the second method over the first with its interval, and edge hits of the grid."""
    if trials < 3:
        raise ValueError(f"{trials} paired seeds give no interval; at least 3 trials are needed")
    settings = replace(settings, seeds=trials, seed=seed)
    result = convergence(settings, optimizer=optimizer, methods=methods, steps=STEPS)
    comparison = result.meta["comparisons"][0]
    edges = [line["method"] for line in result.meta["summary"] if line["best_at_edge_of_grid"]]
    return {**comparison["log10_gain"], "diverged": comparison["diverged"], "best_at_edge_of_grid": edges}


def _sign(gain: dict[str, Any]) -> int:
    """1 if the whole interval is positive, −1 if negative, else 0."""
    low, high = gain["interval"]
    return int(low > 0) - int(high < 0)


def _show(name: str, gain: dict[str, Any]) -> str:
    low, high = gain["interval"]
    return f"{name} {gain['median']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _beats(
    optimizer: str, trials: int, seed: int, methods: tuple[str, str], variations: Mapping[str, Settings]
) -> Measurement:
    """Holds if every main setting's interval is above 0, refuted if one is below 0, else inconclusive."""
    main = {name: _gain(settings, optimizer, trials, seed, methods) for name, settings in MAIN.items()}
    others = {name: _gain(settings, optimizer, trials, seed, methods) for name, settings in variations.items()}
    signs = [_sign(gain) for gain in main.values()]
    verdict: Any = "holds" if min(signs) > 0 else "refuted" if min(signs) < 0 else "inconclusive"
    note = "gain in decades: " + ", ".join(_show(name, gain) for name, gain in main.items())
    worse = [_show(name, gain) for name, gain in others.items() if _sign(gain) < 0]
    undecided = [_show(name, gain) for name, gain in others.items() if _sign(gain) == 0]
    note += f"; worse at: {', '.join(worse) or 'none'}; undecided at: {', '.join(undecided) or 'none'}"
    lowest = min(gain["interval"][0] for gain in main.values())
    return Measurement(verdict, trials, lowest, note, {"main": main, "variations": others})


def _beats_claim(
    id: str,
    statement: str,
    optimizer: str,
    *,
    methods: tuple[str, str] = ("lora", "balora"),
    variations: Mapping[str, Settings] = VARIATIONS,
    trials: int = 16,
    **options: Any,
) -> MeasuredClaim:
    """A claim that the second method ends lower than the first; see `_beats` for the rule."""

    @measured_claim(id, statement, domain=BEATS_DOMAIN, trials=trials, **options)
    def measure(trials: int, seed: int) -> Measurement:
        """Rule: holds if the gain's interval is above 0 for both losses, refuted if below 0 for one of them.

        The variations (start, spectrum, rank) say where it is not so; they do not change the verdict.
        """
        return _beats(optimizer, trials, seed, methods, variations)

    return measure


@measured_claim(
    "balora-beats-lora-from-balance",
    "Does BaLoRA beat LoRA under gradient descent from a balanced start, too?",
    kind="question",
    domain="20×20 Gaussian targets, r = 4, balanced start with entries of size 0.1, 100 steps, best of 50 step sizes",
    trials=16,
    recorded="refuted",
    corrected_by="same-kappa-same-curve",
)
def balora_beats_lora_from_balance(trials: int, seed: int) -> Measurement:
    """Rule: holds if the gain's interval is above 0.05 decades, refuted if it lies below that, else inconclusive.

    LoRA stays balanced up to O(γ) by itself, so there is nothing for the projection to repair.
    """
    gain = _gain(VARIATIONS["balanced start"], "gd", trials, seed)
    low, high = gain["interval"]
    verdict: Any = "holds" if low > NO_GAIN else "refuted" if high < NO_GAIN else "inconclusive"
    return Measurement(verdict, trials, low, "gain in decades: " + _show("balanced start", gain), gain)


# --- the critics' questions -------------------------------------------------------------------------


@measured_claim(
    "same-kappa-same-curve",
    "From one balanced start LoRA and BaLoRA follow the same curve up to O(γ), and at engineered equal κ they converge "
    "at the same rate.",
    kind="question",
    domain="one-layer loss, 20×20 Gaussian targets, r = 4; γ = γ₀/2^j, j = 1..6, over one fixed time",
    trials=8,
)
def same_kappa_same_curve(trials: int, seed: int) -> Measurement:
    """Rule: deviation ~ γ^p with p ≥ 0.9; at equal κ (within 1 %) all conclusive pairs' log limsups within 10 %.

    Inconclusive if fewer than half of the pairs at equal κ are. Argument: the gradient flow conserves AᵀA − BBᵀ, so it
    stays balanced, where P is the identity; Euler's method leaves it by O(γ). At equal κ both linearize to I − γH
    with the same extreme eigenvalues.
    """
    meta = settle(Settings(seeds=trials, seed=seed)).meta
    exponent, difference = meta["deviation_exponent"], meta["equal_kappa_log_rate_difference"]
    share = meta["equal_kappa_conclusive_share"]
    note = f"deviation ~ γ^{exponent:.2f}; log rates at equal κ differ by up to {100 * difference:.2g} % in the "
    note += f"{100 * share:.0f} % of pairs that are conclusive"
    holds = exponent >= 0.9 and difference <= 0.1 and meta["equal_kappa_difference"] <= 0.01
    verdict: Any = "inconclusive" if share < 0.5 else "holds" if holds else "refuted"
    names = ("deviation_exponent", "imbalance_exponent", "equal_kappa_log_rate_difference", "equal_kappa_imbalance")
    evidence = {name: meta[name] for name in (*names, "equal_kappa_conclusive_share", "equal_kappa_difference")}
    return Measurement(verdict, trials, exponent - 0.9, note, evidence)


@measured_claim(
    "not-a-step-rescale",
    "BaLoRA's gain is more than a longer step: LoRA at the best multiple of BaLoRA's step lengths in AB stays behind.",
    kind="question",
    domain="one-layer loss, 20×20 Gaussian targets, r = 4, LoRA's start, GD, 100 steps, step sizes per seed",
    trials=24,
    recorded="holds",
)
def not_a_step_rescale(trials: int, seed: int) -> Measurement:
    """Rule: holds if the interval of BaLoRA's gain over that LoRA is above 0, refuted if below, else inconclusive.

    The converse, BaLoRA confined to LoRA's step lengths, is reported beside it.
    """
    gains = settle(Settings(seeds=trials, seed=seed)).meta["log10_gain"]
    decisive = gains["at_multiples_of_balora_lengths"]
    sign = _sign(decisive)
    verdict: Any = {1: "holds", -1: "refuted", 0: "inconclusive"}[sign]
    labels = {
        "each_at_best": "each at its best",
        "at_multiples_of_balora_lengths": "at multiples of BaLoRA's lengths",
        "at_multiples_of_lora_lengths": "at multiples of LoRA's lengths",
    }
    note = "gain in decades: " + ", ".join(_show(label, gains[name]) for name, label in labels.items())
    return Measurement(verdict, trials, decisive["interval"][0], note, {"log10_gain": gains})


@measured_claim(
    "flow-conserves-imbalance",
    "The gradient flow conserves AᵀA − BBᵀ: GD changes it by O(γ²) in one step and by O(γ) over a fixed time.",
    domain="one-layer loss, 20×20 Gaussian targets, r = 4, Gaussian starts; γ = γ₀/2^j, j = 1..6",
    trials=8,
)
def flow_conserves_imbalance(trials: int, seed: int) -> Measurement:
    """Rule: the measured exponents are 2 ± 0.05 and 1 ± 0.1.

    Proof: claim `gd-step-imbalance`, and 1/γ steps fit into a fixed time.
    """
    meta = settle(Settings(seeds=trials, seed=seed)).meta
    one, fixed = meta["drift_one_step_exponent"], meta["drift_fixed_time_exponent"]
    holds = abs(one - 2) <= 0.05 and abs(fixed - 1) <= 0.1
    note = f"one step ~ γ^{one:.3f}, fixed time ~ γ^{fixed:.3f}"
    evidence = {"drift_one_step_exponent": one, "drift_fixed_time_exponent": fixed}
    return Measurement("holds" if holds else "refuted", trials, 0.05 - abs(one - 2), note, evidence)


STEPPED = CanonicalMinimizers("any pair, any gradient ∇ℓ(W), any step γ", extras=GRADIENT_STEP)


@algebraic_claim(
    "gd-step-imbalance",
    "One GD step on any loss of AB changes AᵀA − BBᵀ by exactly γ²(BGᵀGBᵀ − AᵀGGᵀA), G = ∇ℓ(AB).",
    family=STEPPED,
    sides=("change of AᵀA − BBᵀ", "γ²(BGᵀGBᵀ − AᵀGGᵀA)"),
)
def gd_step_imbalance(x: Any) -> Comparison:
    """Proof: A₊ = A − γGBᵀ and B₊ = B − γAᵀG; the terms linear in γ, −γ(AᵀGBᵀ + BGᵀA), occur on both sides."""
    A, B, G, step = x.A, x.B, x.extras["gradient"], x.extras["step"][0, 0]
    if isinstance(x, FloatPair):
        A2, B2 = A - step * G @ B.T, B - step * A.T @ G
        change = A2.T @ A2 - B2 @ B2.T - A.T @ A + B @ B.T
        expected = step**2 * (B @ G.T @ G @ B.T - A.T @ G @ G.T @ A)
        size = sum(float(np.linalg.norm(M) ** 2) for M in (A, B, A2, B2, step * G @ B.T, step * A.T @ G))
        return equal(float(np.linalg.norm(change - expected)) / size, 0.0, claim_rtol(1.0, x.shape.d))
    At, Bt, Gt = A.transpose(), B.transpose(), G.transpose()
    A2, B2 = A - G * Bt * step, B - At * G * step
    change = A2.transpose() * A2 - B2 * B2.transpose() - At * A + B * Bt
    return equal(exactly.half_square(change - (B * Gt * G * Bt - At * G * Gt * A) * step**2), flint.fmpq(0))


@measured_claim(
    "overhead-per-step",
    "The projection is cheap: on a 1024×1024 one-layer problem with r = 8 it takes less time than one gradient.",
    source=POSTER,
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
    return Measurement("holds" if share <= 1 else "refuted", trials, 1 - share, note, evidence)


BEATS = "BaLoRA reaches a lower loss than LoRA under {}, each at its own best step size."
STARTS = {name: VARIATIONS[name] for name in ("Gaussian start 0.1", "balanced start")}

COMPARISONS: Sequence[MeasuredClaim] = (
    _beats_claim("balora-beats-lora-gd", BEATS.format("gradient descent"), "gd", source=POSTER),
    _beats_claim("balora-beats-lora-sign-gd", BEATS.format("sign-GD, θ − γ‖∇f‖₁ sign ∇f"), "sign-gd", source=POSTER),
    _beats_claim("balora-beats-lora-sign", BEATS.format("the step θ − γ sign ∇f"), "sign", source=POSTER),
    _beats_claim(
        "balora-beats-lora-adam",
        BEATS.format("Adam"),
        "adam",
        source=POSTER,
        trials=24,
        recorded="inconclusive",
        corrected_by="balora-symmetric-beats-lora-adam",
    ),
    _beats_claim(
        "balora-symmetric-beats-lora-adam",
        "Under Adam BaLoRA in the symmetric gauge reaches a lower loss than LoRA.",
        "adam",
        methods=("lora", "balora-symmetric"),
        variations=STARTS,
        trials=24,
        kind="correction",
    ),
    _beats_claim(
        "adam-prefers-the-symmetric-gauge",
        "Is P's symmetric gauge, which keeps Adam's coordinates in order, always better under Adam than the paper's?",
        "adam",
        methods=("balora", "balora-symmetric"),
        variations=STARTS,
        trials=24,
        kind="question",
        recorded="refuted",
    ),
)

CLAIMS = registry(
    (
        gd_rate_claim,
        gd_rate_tight,
        sign_gd_rate_claim,
        sign_gd_rate_sharp,
        balora_rate,
        *COMPARISONS,
        balora_beats_lora_from_balance,
        same_kappa_same_curve,
        not_a_step_rescale,
        gd_step_imbalance,
        flow_conserves_imbalance,
        overhead_per_step,
    )
)
