"""Claims on the best gauge for a loss: trace, largest eigenvalue, κ, and the noise floor of SGD.

Instances are interpolating pairs of Model 2, ½‖h(AB) − Z‖², whose Hessian H is that of any loss as far as the gauge is
concerned, or minimizers of Model 1. A gauge T takes (A, B) to (AT, T⁻¹B); N = TTᵀ. H_A and H_B are the partial traces
of H, the r×r sums of its diagonal blocks over the rows of A and the columns of B (`conditioning.gauge_certificate`).
"""

from typing import Any

import flint
import numpy as np

from lorakappa.conditioning.gauge_certificate import GaugeCertificate, lower_bound_over_gauges, partial_traces
from lorakappa.conditioning.gauge_optimization import optimal_gauge_from_traces
from lorakappa.conditioning.instances import (
    CanonicalMinimizers,
    ExactPair,
    Extra,
    FloatPair,
    Number,
    Pair,
    gaussian,
)
from lorakappa.conditioning.instances.geodesics import TURN, along, diagonal_draws
from lorakappa.conditioning.instances.interpolating import (
    INJECTIVE,
    INJECTIVE_JACOBIAN,
    ExactInterpolatingPair,
    FloatInterpolatingPair,
    InterpolatingPair,
    InterpolatingPairs,
)
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, at_most, equal, exact

SMALL = 8
"""Largest number of parameters d where eigenvalues are wanted of several Hessians with unwieldy entries."""

ON_GEODESICS = InterpolatingPairs(
    f"injective J with cond(J) ≤ 1e3, d ≤ {SMALL}, gauges I, T, T² with T = KKᵀ, cond(T) ≤ 100",
    where=lambda shape: shape.d <= SMALL,
    extras=(INJECTIVE_JACOBIAN, TURN),
)
DIAGONAL_ON_GEODESICS = InterpolatingPairs(
    f"r = 2, injective J with cond(J) ≤ 1e3, d ≤ {SMALL}, gauges I, T, T² with T = KKᵀ, cond(T) ≤ 100; drawn diagonal",
    where=lambda shape: shape.r == 2 and shape.d <= SMALL,
    gauge=lambda r, rng: np.diag(10.0 ** rng.uniform(-0.5, 0.5, r)),
    extras=(diagonal_draws(INJECTIVE_JACOBIAN), diagonal_draws(TURN)),
)
ON_GEODESICS_RANK_1 = InterpolatingPairs(
    "r = 1, injective J with cond(J) ≤ 1e3, gauges I, T, T² with T = K², 1/100 ≤ T ≤ 100",
    where=lambda shape: shape.r == 1,
    extras=(INJECTIVE_JACOBIAN, TURN),
)
MINIMIZERS_ON_GEODESICS = CanonicalMinimizers(
    "r < min(a, b), gauges I, T, T² with T = KKᵀ, cond(T) ≤ 100",
    where=lambda shape: shape.r < shape.k,
    largest=3,
    extras=(TURN,),
)
WITH_DIRECTIONS = InterpolatingPairs(
    f"injective J with cond(J) ≤ 1e3, d ≤ {SMALL}, two directions",
    where=lambda shape: shape.d <= SMALL,
    extras=(INJECTIVE_JACOBIAN, gaussian("directions", lambda s: (2, s.d))),
)
STEP = Extra("t", lambda s: (1, 1), lambda s, rng: rng.uniform(0.01, 1.9, (1, 1)), lambda t: 0 < t[0, 0] < 2)
NOISY = CanonicalMinimizers("γ = t/tr H with 0 < t < 2", largest=3, extras=(STEP,))
NOISY_ON_GEODESICS = InterpolatingPairs(
    f"injective J with cond(J) ≤ 1e3, d ≤ {SMALL}, gauges I, T, T² with T = KKᵀ, cond(T) ≤ 100, "
    "γ = t/max tr H with 0 < t < 2",
    where=lambda shape: shape.d <= SMALL,
    extras=(INJECTIVE_JACOBIAN, TURN, STEP),
)
IDENTITY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def _exact_traces(H: flint.fmpq_mat, shape: Shape) -> tuple[flint.fmpq_mat, flint.fmpq_mat]:
    """(H_A, H_B)."""
    (a, b, r), split = (shape.a, shape.b, shape.r), shape.a * shape.r
    H_A, H_B = flint.fmpq_mat(r, r), flint.fmpq_mat(r, r)
    for i in range(r):
        for j in range(r):
            H_A[i, j] = sum((H[m * r + i, m * r + j] for m in range(a)), flint.fmpq(0))
            H_B[i, j] = sum((H[split + i * b + n, split + j * b + n] for n in range(b)), flint.fmpq(0))
    return H_A, H_B


def _twice_nuclear(H_A: flint.fmpq_mat, H_B: flint.fmpq_mat) -> exact.Exact:
    """2‖H_A^{1/2}H_B^{1/2}‖_*: twice the sum of the roots of the eigenvalues of H_AH_B."""
    return 2 * sum((exact.sqrt(x) for x in exact.eigenvalues(H_A * H_B)), flint.fmpq(0))


@algebraic_claim(
    "trace-optimal-gauge",
    "How small can a gauge make the trace of the Hessian? tr H ≥ 2‖H_A^{1/2}H_B^{1/2}‖_*, H_A and H_B taken in any "
    "gauge.",
    kind="question",
    family=INJECTIVE,
    sides=("tr H", "2‖H_A^{1/2}H_B^{1/2}‖_* at the balanced pair"),
    tight_at=(Shape(2, 2, 1), INJECTIVE.parameters([1], [0], [[1]], J=IDENTITY)),
)
def trace_optimal(x: FloatInterpolatingPair) -> Comparison:
    """Proof: in gauge T the trace is tr N⁻¹H_A + tr N H_B, and with L_A = H_A^{1/2}, L_B = H_B^{1/2} it is
    ‖T⁻¹L_A‖² + ‖TᵀL_B‖² ≥ 2‖L_AT⁻ᵀTᵀL_B‖_* (Hölder). Equality at N = H_B⁻¹ # H_A, which solves N H_B N = H_A. In
    Model 1 H_A = a·BBᵀ and H_B = b·AᵀA: this is `smallest-trace`.
    """
    balanced = x.balanced()
    traces = partial_traces(balanced.hessian, (x.shape.a, x.shape.b, x.shape.r))
    return at_least(float(np.trace(x.hessian)), optimal_gauge_from_traces(*traces).value, x.rounding)


@trace_optimal.exact
def _(x: ExactInterpolatingPair) -> Comparison:
    return at_least(x.trace, _twice_nuclear(*_exact_traces(x.balanced().hessian, x.shape)))


@algebraic_claim(
    "gauge-norms-log-convex",
    "Is every unitarily invariant norm of the Hessian log-convex along the geodesics of gauges? Halfway each Ky Fan "
    "norm (sum of the k largest eigenvalues) is at most the geometric mean of those at the ends.",
    kind="question",
    family=ON_GEODESICS,
    sides=("square of the norm halfway", "product of the norms at the ends"),
)
def norms_log_convex(x: Pair) -> Comparison:
    """Proof: seen from N₀ the Hessian is e^{tK}He^{tK} with K(dA, dB) = (−dA·X, X·dB) and T = e^X. It extends to
    complex t = τ + iη, where the factors e^{iηK} are unitary and do not change the norm; so log‖·‖, subharmonic on a
    strip and free of η, is convex in τ (three lines). Midpoints suffice, the norm being continuous.
    """
    pairs = along(x)
    rounding = max(pair.rounding for pair in pairs)
    norms = ([sum(pair.eigenvalues[-k:]) for pair in pairs] for k in range(1, x.shape.d + 1))
    comparisons = [at_most(middle * middle, start * end, rounding) for start, middle, end in norms]
    return min(comparisons, key=lambda comparison: (not comparison.certainly_false, comparison.margin))


@algebraic_claim(
    "largest-eigenvalue-certificate",
    "Can directions x at one pair bound λ_max in all gauges? λ_max ≥ 2‖Y_A^{1/2}Y_B^{1/2}‖_*/Σ xᵀHx, Y_A and Y_B the "
    "partial traces of Σ Hx(Hx)ᵀ; attained where a mixture of top eigenvectors (dA, dB) is balanced, "
    "Σ dAᵀdA = Σ dB·dBᵀ.",
    kind="question",
    family=WITH_DIRECTIONS,
    sides=("λ_max", "bound from the directions at the balanced pair"),
    tight_at=(
        Shape(2, 2, 1),
        WITH_DIRECTIONS.parameters([1], [0], [[1]], J=IDENTITY, directions=[[1, 0, 1, 0], [0, 0, 0, 0]]),
    ),
)
def certificate(x: FloatInterpolatingPair) -> Comparison:
    """Proof: with H = FFᵀ and y = Hx, yᵀΦΦᵀy = (Fᵀx)ᵀ(FᵀΦΦᵀF)(Fᵀx) ≤ λ_max·xᵀHx in the gauge of Φ, whose Hessian ΦᵀHΦ
    has the non-zero eigenvalues of FᵀΦΦᵀF. Summed over x the left side is tr N⁻¹Y_A + tr N Y_B, to which
    `trace-optimal-gauge` applies. For top eigenvectors x at N = I, y = λ_max·x, and a balanced mixture gives Y_A = Y_B
    with trace λ_max²Σ‖x‖²/2: the bound is λ_max, and the gauge optimal. Conversely the best gauge has such a mixture
    (`conditioning.gauge_certificate`).
    """
    shape = (x.shape.a, x.shape.b, x.shape.r)
    directions = GaugeCertificate(x.extras["directions"])
    return at_least(x.eigenvalues[-1], lower_bound_over_gauges(x.balanced().hessian, shape, directions), x.rounding)


@certificate.exact
def _(x: ExactInterpolatingPair) -> Comparison:
    X, H = x.extras["directions"].transpose(), x.balanced().hessian
    Y, form = H * X, X.transpose() * H * X
    tau = form[0, 0] + form[1, 1]  # 0 only where Y is
    return at_least(x.L, _twice_nuclear(*_exact_traces(Y * Y.transpose(), x.shape)) / (tau or 1))


@algebraic_claim(
    "model1-kappa-log-convex",
    "For r < min(a, b), is κ at the minimizers of Model 1 log-convex along the geodesics of gauges, so that the best "
    "ones form one convex set? κ halfway is at most the geometric mean of κ at the ends.",
    kind="question",
    family=MINIMIZERS_ON_GEODESICS,
    sides=("κ² halfway", "product of κ at the ends"),
)
def kappa_log_convex(x: Pair) -> Comparison:
    """Proof: L is log-convex (`gauge-norms-log-convex`). μ is the smallest eigenvalue of M = [[BBᵀ, −sI], [−sI, AᵀA]],
    s = s_{r+1}, which a gauge takes to ΨᵀMΨ with Ψ = diag(T⁻ᵀ, T); 1/μ is the largest one of the inverse,
    Ψ⁻¹M⁻¹Ψ⁻ᵀ, and log-convex for the same reason.
    """
    start, middle, end = along(x)
    rounding = max(start.rounding, middle.rounding, end.rounding)
    return at_most(middle.kappa * middle.kappa, start.kappa * end.kappa, rounding)


@algebraic_claim(
    "model2-kappa-log-convex",
    "Is κ log-convex along the geodesics of gauges in Model 2, too?",
    kind="question",
    family=ON_GEODESICS,
    sides=("κ² halfway", "product of κ at the ends"),
    recorded="refuted",
    corrected_by="model2-kappa-quasi-convex-rank-1",
)
def model2_kappa_log_convex(x: InterpolatingPair) -> Comparison:
    """Fails: without the blocks of Model 1, λ_min⁺ is that of a sum of what A and B contribute, which need not be
    log-concave.
    """
    start, middle, end = along(x)
    rounding = max(start.rounding, middle.rounding, end.rounding)
    return at_most(middle.kappa * middle.kappa, start.kappa * end.kappa, rounding)


@algebraic_claim(
    "model2-kappa-quasi-convex",
    "Is κ at least quasi-convex along the geodesics of gauges in Model 2, so that every local minimum is a global one?",
    kind="question",
    family=DIAGONAL_ON_GEODESICS,
    sides=("κ halfway", "larger κ of both ends"),
    recorded="refuted",
    corrected_by="model2-kappa-quasi-convex-rank-1",
)
def model2_kappa_quasi_convex(x: InterpolatingPair) -> Comparison:
    """Fails for r ≥ 2: of different directions one may want a large T and another one a small T."""
    return _quasi_convex(x)


@algebraic_claim(
    "model2-kappa-quasi-convex-rank-1",
    "For r = 1 κ is quasi-convex in the gauge in Model 2: halfway it is at most the larger one of the ends.",
    kind="correction",
    family=ON_GEODESICS_RANK_1,
    sides=("κ halfway", "larger κ of both ends"),
)
def model2_kappa_quasi_convex_rank_1(x: InterpolatingPair) -> Comparison:
    """Proof: the non-zero eigenvalues are those of P/n + nQ with P and Q positive semidefinite, n = T². Divided by n
    they keep κ, and become those of Q + P/n²: linear in 1/n². The largest is convex in it, the smallest concave and
    positive, so that their ratio is quasi-convex in 1/n², and in any monotone function of it.
    """
    return _quasi_convex(x)


def _quasi_convex(x: InterpolatingPair) -> Comparison:
    start, middle, end = along(x)
    rounding = max(start.rounding, middle.rounding, end.rounding)
    return at_most(middle.kappa, x.maximum(start.kappa, end.kappa), rounding)


NOISE_STEPS = 3


@algebraic_claim(
    "sgd-noise-floor",
    "What does gradient noise of covariance σ²H cost SGD at a constant step? From the minimizer of a quadratic loss n "
    "steps x − γ(Hx + noise) lead to the expected excess (γσ²/2) Σ λ(1 − (1 − γλ)^{2n})/(2 − γλ): for γ < 2/L it tends "
    "to (γσ²/2) Σ λ/(2 − γλ).",
    kind="question",
    family=NOISY,
    sides=(f"excess after {NOISE_STEPS} steps, σ = 1", "sum over the eigenvalues of H"),
)
def noise_floor(x: FloatPair) -> Comparison:
    """Proof: in the eigenbasis a coordinate's variance v becomes (1 − γλ)²v + γ²σ²λ, and 1 − (1 − γλ)² = γλ(2 − γλ);
    the excess is Σ λv/2. For small γ it is γσ²/4 times the trace, so that the gauge of `trace-optimal-gauge` has the
    lowest floor.
    """
    H, gamma = x.hessian, float(x.extras["t"][0, 0]) / x.trace
    covariance, contraction = np.zeros_like(H), np.eye(len(H)) - gamma * H
    for _ in range(NOISE_STEPS):
        covariance = contraction @ covariance @ contraction.T + gamma**2 * H
    expected = _floor(x.eigenvalues, gamma, NOISE_STEPS)
    return equal(float(np.trace(H @ covariance)) / 2, expected, x.rounding)


@noise_floor.exact
def _(x: ExactPair) -> Comparison:
    H, gamma, d = x.hessian, x.extras["t"][0, 0] / x.trace, x.shape.d
    covariance, contraction = flint.fmpq_mat(d, d), _identity(d) - gamma * H
    for _ in range(NOISE_STEPS):
        covariance = contraction * covariance * contraction + gamma * gamma * H
    return equal(_trace(H * covariance) / 2, _floor(x.eigenvalues, gamma, NOISE_STEPS))


def _floor(eigenvalues: Any, gamma: Number, steps: int) -> Number:
    """(γ/2) Σ λ(1 − (1 − γλ)^{2n})/(2 − γλ)."""
    return gamma / 2 * sum(x * (1 - (1 - gamma * x) ** (2 * steps)) / (2 - gamma * x) for x in eigenvalues)


@algebraic_claim(
    "sgd-noise-floor-log-convex",
    "Is the noise floor log-convex along the geodesics of gauges, so that what is best nearby is best of all? For "
    "γ < 2/L Σ λ/(2 − γλ) halfway is at most the geometric mean of those at the ends.",
    kind="question",
    family=NOISY_ON_GEODESICS,
    sides=("square of Σ λ/(2 − γλ) halfway", "product of those at the ends"),
)
def noise_floor_log_convex(x: FloatInterpolatingPair) -> Comparison:
    """Proof: λ/(2 − γλ) = Σ_k γ^kλ^{k+1}/2^{k+1}, and each tr H^{k+1} is the power of a norm and log-convex
    (`gauge-norms-log-convex`); sums of log-convex functions are log-convex. Not strictly, so that there may be several
    best gauges, but each is best of all.
    """
    pairs = along(x)
    gamma = float(x.extras["t"][0, 0]) / max(float(np.trace(pair.hessian)) for pair in pairs)
    low, middle, high = (float(np.sum(pair.eigenvalues / (2 - gamma * pair.eigenvalues))) for pair in pairs)
    return at_most(middle**2, low * high, max(pair.rounding for pair in pairs))


@noise_floor_log_convex.exact
def _(x: ExactInterpolatingPair) -> Comparison:
    pairs = along(x)
    gamma = x.extras["t"][0, 0] / max(pair.trace for pair in pairs)
    low, middle, high = (
        _trace(pair.hessian * (2 * _identity(x.shape.d) - gamma * pair.hessian).inv()) for pair in pairs
    )
    return at_most(middle * middle, low * high)


def _identity(n: int) -> flint.fmpq_mat:
    return exact.matrix([[int(i == j) for j in range(n)] for i in range(n)])


def _trace(M: flint.fmpq_mat) -> flint.fmpq:
    return sum((M[i, i] for i in range(M.nrows())), flint.fmpq(0))


CLAIMS = (
    trace_optimal,
    norms_log_convex,
    certificate,
    kappa_log_convex,
    model2_kappa_log_convex,
    model2_kappa_quasi_convex,
    model2_kappa_quasi_convex_rank_1,
    noise_floor,
    noise_floor_log_convex,
)
