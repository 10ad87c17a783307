"""Claims on the minimizers of Model 1, f(A, B) = ½‖Z − AB‖_F²: their orbit, the spread of κ, the Hessian's spectrum.

Notation: s singular values of Z, k = min(a, b), L and μ the largest and the smallest non-zero eigenvalue of the Hessian
at a minimizer, κ = L/μ. A = U_r S^{1/2} G and B = G⁻¹ S^{1/2} V_rᵀ with the gauge G.
"""

from fractions import Fraction

import flint
import numpy as np

from lorakappa.conditioning import spectra as closed_form
from lorakappa.conditioning.instances import (
    ANY_PAIR,
    MINIMIZERS,
    BALANCED_3x2_RANK_1,
    CanonicalMinimizers,
    ExactPair,
    FloatPair,
    Pair,
    gaussian,
)
from lorakappa.conditioning.sources import ABSTRACT, POSTER
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, algebraic_claim, at_least, equal
from lorakappa.conditioning.verification import exact as exactly

SPREADABLE = CanonicalMinimizers(
    "every shape but a = b = r = 1, where κ is always 1", where=lambda shape: shape.a + shape.b > 2
)
EQUIVALENT = CanonicalMinimizers(
    "any target T, any second gauge R",
    ANY_PAIR,
    extras=(gaussian("T", lambda s: (s.a, s.b)), gaussian("R", lambda s: (s.r, s.r), max_condition=1e4)),
)


@algebraic_claim(
    "invariance",
    "The loss depends on (A, B) only through AB: f(AR, R⁻¹B) = f(A, B) for every invertible R.",
    source=POSTER.at("Conditioning, invariance"),
    family=EQUIVALENT,
    sides=("f(AR, R⁻¹B)", "f(A, B)"),
)
def invariance(x: FloatPair) -> Comparison:
    """Proof: (AR)(R⁻¹B) = AB, and f is a function of the product alone."""
    T, R = x.extras["T"], x.extras["R"]
    moved, still = (x.A @ R) @ np.linalg.solve(R, x.B), x.A @ x.B
    size = (np.linalg.norm(T) + np.linalg.norm(x.A) * np.linalg.norm(x.B)) ** 2
    change = np.linalg.norm(T - moved) ** 2 - np.linalg.norm(T - still) ** 2
    return equal(float(change / size), 0.0, claim_rtol(float(np.linalg.cond(R)), x.shape.d))


@invariance.exact
def _(x: ExactPair) -> Comparison:
    T, R = x.extras["T"], x.extras["R"]
    return equal(exactly.half_square(T - (x.A * R) * (R.inv() * x.B)), exactly.half_square(T - x.A * x.B))


@algebraic_claim(
    "minimizers-orbit",
    "The kernel of the Hessian at a minimizer is the tangent space of its GL(r) orbit: its dimension is exactly r².",
    source=POSTER.at("Conditioning, manifold of minimizers"),
    family=MINIMIZERS,
    sides=("dim ker Hessian", "r²"),
)
def minimizers_orbit(x: Pair) -> Comparison:
    """Proof: minimizers are the pairs with AB = Z_r (Eckart–Young, unique as s_r > s_{r+1}). If AB = A'B' with
    all four of rank r, then A' = AT and B' = T⁻¹B with T = A⁺A'. By the exact spectrum (claim
    `model1-exact-spectrum`) the other eigenvalues are positive: each block is congruent to
    [[S, −s_l I], [−s_l I, S]], whose eigenvalues s_i ± s_l are positive.
    """
    return equal(x.kernel_dimension, x.shape.r**2)


@algebraic_claim(
    "model1-exact-spectrum",
    "The Hessian's eigenvalues at a minimizer are: 0, r² times; σ_i(A)² + σ_j(B)²; those of "
    "[[BBᵀ, −s_l I], [−s_l I, AᵀA]] for l = r+1..k; and σ_j(B)², a−k times, or σ_i(A)², b−k times.",
    kind="question",
    family=MINIMIZERS,
    sides=("spectrum of the Hessian", "closed form"),
)
def exact_spectrum(x: FloatPair) -> Comparison:
    """Proof: docstring of `conditioning.spectra`. Exactly: the two characteristic polynomials are equal."""
    expected = closed_form.spectrum(x.A, x.B, x.Z, rtol=max(x.rounding, 1e-8))
    return equal(float(np.abs(x.eigenvalues - expected).max() / expected[-1]), 0.0, x.rounding)


@exact_spectrum.exact
def _(x: ExactPair) -> Comparison:
    r, k, (a, b) = x.shape.r, x.shape.k, (x.shape.a, x.shape.b)
    gram_A, gram_B = x.A.transpose() * x.A, x.B * x.B.transpose()
    sums = flint.fmpq_mat(r * r, r * r)  # the Kronecker sum has the eigenvalues σ_i(A)² + σ_j(B)²
    for i in range(r):
        for j in range(r):
            for l in range(r):
                sums[i * r + j, l * r + j] += gram_A[i, l]
                sums[i * r + j, i * r + l] += gram_B[j, l]
    polynomial = flint.fmpq_poly([0, 1]) ** (r * r) * sums.charpoly()
    for s_l in x.tail:  # [[BBᵀ, −s_l I], [−s_l I, AᵀA]]
        block = flint.fmpq_mat(2 * r, 2 * r)
        for i in range(r):
            block[i, r + i] = block[r + i, i] = -s_l
            for j in range(r):
                block[i, j], block[r + i, r + j] = gram_B[i, j], gram_A[i, j]
        polynomial *= block.charpoly()
    polynomial *= gram_B.charpoly() ** (a - k) * gram_A.charpoly() ** (b - k)
    return equal(int(x.hessian.charpoly() == polynomial), 1)


@algebraic_claim(
    "model1-smoothness",
    "The largest eigenvalue of the Hessian at a minimizer is L = σ₁(A)² + σ₁(B)².",
    kind="question",
    family=MINIMIZERS,
    sides=("L", "σ₁(A)² + σ₁(B)²"),
    tight_at=BALANCED_3x2_RANK_1,
)
def smoothness(x: Pair) -> Comparison:
    """Proof: it is the largest of the sums in the exact spectrum. A block's largest eigenvalue is at most that of
    [[σ₁(B)², s_l], [s_l, σ₁(A)²]]; since s_l ≤ s₁ ≤ σ₁(A)σ₁(B) its determinant is ≥ 0, so that is at most its trace.
    """
    return equal(x.eigenvalues[-1], x.gram_A[0] + x.gram_B[0], x.rounding)


@algebraic_claim(
    "kappa-spread",
    "κ is unbounded over the pairs with the same product, unless a = b = r = 1: Z has minimizers with κ ≥ 1000.",
    source=ABSTRACT.at("condition numbers differ"),
    family=SPREADABLE,
    sides=("κ at G = diag(t, 1, …, 1), t = 1000", "1000"),
)
def kappa_spread(x: Pair) -> Comparison:
    """Proof: for G = diag(t, 1, …, 1), t ≥ 2, L ≥ t²s₁. If r ≥ 2 or r < k, μ ≤ σ_r(A)² + σ_r(B)² and in each
    case of the exact spectrum μ ≤ s₁ + s₁/t² or less, so κ ≥ t²/(1 + t⁻²) → ∞. For r = 1 = k the sign of log t
    is chosen so that the factor whose square is μ shrinks; then κ = 1 + t⁴. Only a = b = r = 1 is excluded:
    there κ = 1 for all pairs.
    """
    r, shape = x.shape.r, x.shape
    t = Fraction(1, 1000) if r == 1 and shape.a < shape.b else Fraction(1000)
    return at_least(x.with_diagonal_gauge([t] + [1] * (r - 1)).kappa, 1000, x.rounding)


CLAIMS = (
    invariance,
    minimizers_orbit,
    kappa_spread,
    exact_spectrum,
    smoothness,
)
