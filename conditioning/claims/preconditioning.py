"""Claims on scaled gradients, g_A(BBᵀ)⁻¹ and (AᵀA)⁻¹g_B: the spectrum of P⁻¹H at a minimizer, and the rate it gives.

P(dA, dB) = (dA·BBᵀ, AᵀA·dB). Here κ_P is the condition number of P⁻¹H past its r² zeros; with γ = 2/(L + μ) scaled
gradient descent contracts f − f* by ((κ_P − 1)/(κ_P + 1))² a step close to a minimizer.
"""

from fractions import Fraction

import flint
import numpy as np

from lorakappa.conditioning import preconditioning as closed_form
from lorakappa.conditioning.instances import MINIMIZERS, CanonicalMinimizers, ExactPair, FloatPair, Pair
from lorakappa.conditioning.instances.lora_starts import ExactStart, FloatStart, LoraStarts
from lorakappa.conditioning.sources import ILORA, SCALED_GD
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import (
    Comparison,
    Shape,
    algebraic_claim,
    at_least,
    at_most,
    equal,
    more_than,
)
from lorakappa.conditioning.verification import exact as exactly

EXACT_RANK = CanonicalMinimizers("rank Z = r", exact_rank=True)


@algebraic_claim(
    "scaled-gd-spectrum",
    "The eigenvalues of P⁻¹H at a minimizer do not depend on the gauge: 0 and 2, r² times each; 1 ± s_l/s_i for "
    "i ≤ r < l ≤ k; and 1, r(a + b − 2k) times.",
    kind="question",
    family=MINIMIZERS,
    sides=("spectrum of P⁻¹H", "closed form"),
)
def scaled_gd_spectrum(x: FloatPair) -> Comparison:
    """Proof: docstring of `conditioning.preconditioning`. Exactly: the two characteristic polynomials are equal."""
    expected = closed_form.preconditioned_spectrum(x.s, x.shape.r, (x.shape.a, x.shape.b))
    return equal(float(np.abs(x.scaled_eigenvalues - expected).max()), 0.0, x.rounding)


@scaled_gd_spectrum.exact
def _(x: ExactPair) -> Comparison:
    r, variable = x.shape.r, flint.fmpq_poly([0, 1])
    polynomial = (variable * (variable - 2)) ** (r * r) * (variable - 1) ** (r * abs(x.shape.a - x.shape.b))
    for s_l in x.tail:
        for s_i in x.s[:r]:
            polynomial *= (variable - 1) ** 2 - (s_l / s_i) ** 2
    return equal(int(x.scaled_hessian.charpoly() == polynomial), 1)


@algebraic_claim(
    "scaled-gd-rate-exact-rank",
    "For rank Z = r the rate of scaled GD close to a minimizer depends neither on Z's spectrum nor on the gauge: "
    "κ_P ≤ 2, so that γ = 2/3 contracts f − f* by 1/9 a step.",
    source=SCALED_GD.at("rate independent of κ"),
    family=EXACT_RANK,
    sides=("κ_P", "2"),
    tight_at=(Shape(3, 2, 1), EXACT_RANK.parameters([2], [], [[3]])),
)
def rate_exact_rank(x: Pair) -> Comparison:
    """Proof: all s_l with l > r vanish, so the eigenvalues are 0, 1 and 2 (`scaled-gd-spectrum`); only for r = a = b
    the 1 is missing, too, and κ_P = 1.
    """
    return at_most(x.kappa_scaled, 2, x.rounding)


@algebraic_claim(
    "scaled-gd-rate-free-of-kappa",
    "Is the rate of scaled GD free of Z's spectrum for every Z, as it is for rank Z = r: κ_P ≤ 2 at every minimizer?",
    kind="question",
    family=MINIMIZERS,
    sides=("κ_P", "2"),
    recorded="refuted",
    corrected_by="scaled-gd-condition-number",
)
def rate_free_of_kappa(x: Pair) -> Comparison:
    """Fails wherever r < k and s_{r+1} > 0: the residual couples A and B, and μ = 1 − s_{r+1}/s_r."""
    return at_most(x.kappa_scaled, 2, x.rounding)


@algebraic_claim(
    "scaled-gd-condition-number",
    "κ_P = 2s_r/(s_r − s_{r+1}) at every minimizer for r < k, 2 for r = k, a ≠ b, and 1 for r = a = b: of Z's spectrum "
    "only the gap after s_r counts.",
    kind="correction",
    family=MINIMIZERS,
    sides=("κ_P", "closed form"),
)
def scaled_condition_number(x: FloatPair) -> Comparison:
    """Proof: largest over smallest non-zero eigenvalue of `scaled-gd-spectrum`."""
    mu, L = closed_form.preconditioned_extremes(x.s, x.shape.r, (x.shape.a, x.shape.b))
    return equal(x.kappa_scaled, L / mu, x.rounding)


@scaled_condition_number.exact
def _(x: ExactPair) -> Comparison:
    r, (a, b) = x.shape.r, (x.shape.a, x.shape.b)
    expected = 2 * x.s[r - 1] / (x.s[r - 1] - x.s[r]) if r < x.shape.k else 1 if a == b else 2
    return equal(x.kappa_scaled, expected)


@algebraic_claim(
    "scaled-gd-against-balance",
    "Is scaled GD, from any gauge, at least as well conditioned as gradient descent at balance: κ_P ≤ κ_bal?",
    kind="question",
    family=MINIMIZERS,
    sides=("κ_P", "κ_bal"),
    tight_at=(Shape(3, 3, 2), MINIMIZERS.parameters([2, 2], [1], [[3, 1], [0, 1]])),
)
def scaled_against_balance(x: Pair) -> Comparison:
    """Proof: κ_P = κ_bal·s_r/s₁ by the closed forms of both, in each of the three cases of the shape."""
    return at_most(x.kappa_scaled, x.kappa_balanced, x.rounding)


@algebraic_claim(
    "pilora-defined-at-start",
    "πLoRA's scaled gradients, g_A(BBᵀ)⁻¹ and (AᵀA)⁻¹g_B in every iteration, exist in the first one, where LoRA has "
    "one factor 0: both Gram matrices are invertible.",
    source=ILORA.at("Algorithm 3, line 5"),
    family=LoraStarts(),
    sides=("det AᵀA·det BBᵀ", "0"),
    recorded="refuted",
    corrected_by="scaled-gd-damped-at-start",
)
def defined_at_start(x: FloatStart) -> Comparison:
    """Fails at every such start: the Gram matrix of the factor that is 0 is 0."""
    A, B, _ = x
    return more_than(float(np.linalg.det(A.T @ A) * np.linalg.det(B @ B.T)), 0.0)


@defined_at_start.exact
def _(x: ExactStart) -> Comparison:
    A, B, _ = x
    return more_than((A.transpose() * A).det() * (B * B.transpose()).det(), flint.fmpq(0))


@algebraic_claim(
    "scaled-gd-damped-at-start",
    "Damped, with BBᵀ + δI and AᵀA + δI, scaled gradients exist at LoRA's start and everywhere: no eigenvalue is below "
    "δ (here 1).",
    kind="correction",
    family=LoraStarts(),
    sides=("smallest eigenvalue of AᵀA + I and BBᵀ + I", "1"),
    tight_at=(Shape(1, 1, 1), (Fraction(2), Fraction(1))),
)
def damped_at_start(x: FloatStart) -> Comparison:
    """Proof: Gram matrices are positive semidefinite. That of A = 0 is 0, so that the first step of B is g_B/δ."""
    A, B, _ = x
    identity = np.eye(A.shape[1])
    smallest = min(float(np.linalg.eigvalsh(gram + identity)[0]) for gram in (A.T @ A, B @ B.T))
    return at_least(
        smallest, 1.0, claim_rtol(1 + float(np.linalg.norm(A) ** 2 + np.linalg.norm(B) ** 2), A.size + B.size)
    )


@damped_at_start.exact
def _(x: ExactStart) -> Comparison:
    A, B, _ = x
    grams = A.transpose() * A, B * B.transpose()
    return at_least(min((exactly.eigenvalues(gram)[0] for gram in grams), key=exactly.to_float) + 1, flint.fmpq(1))


CLAIMS = (
    scaled_gd_spectrum,
    rate_exact_rank,
    rate_free_of_kappa,
    scaled_condition_number,
    scaled_against_balance,
    defined_at_start,
    damped_at_start,
)
