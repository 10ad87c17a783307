"""Claims on what balance is best for among the minimizers of Model 1: κ, and the trace of the Hessian.

Notation as in `claims.model1_spectrum`, and κ_bal the value of κ at a balanced minimizer.
"""

from fractions import Fraction

import numpy as np

from lorakappa.conditioning import spectra as closed_form
from lorakappa.conditioning.instances import (
    FULL_RANK,
    INTERIOR,
    MINIMIZERS,
    BALANCED_3x3_RANK_2,
    CanonicalMinimizers,
    ExactPair,
    FloatPair,
    Pair,
)
from lorakappa.conditioning.instances.sampling import draw_confined_gauge
from lorakappa.conditioning.sources import NOTES, POSTER, REVIEW
from lorakappa.conditioning.verification import (
    Comparison,
    algebraic_claim,
    at_least,
    at_most,
    equal,
    more_than,
)

UNBALANCED = CanonicalMinimizers(
    "r < min(a, b), and ‖AᵀA − BBᵀ‖ ≥ 0.01·(‖A‖² + ‖B‖²)",
    where=lambda shape: shape.r < shape.k,
    gauge=draw_confined_gauge,
    min_imbalance=0.01,
)
UNBALANCED_LOW_RANK = CanonicalMinimizers(
    "r < min(a, b), r ≤ 2, and ‖AᵀA − BBᵀ‖ ≥ 0.01·(‖A‖² + ‖B‖²)",
    where=lambda shape: shape.r < shape.k and shape.r <= 2,
    gauge=draw_confined_gauge,
    min_imbalance=0.01,
)


@algebraic_claim(
    "balanced-condition-number",
    "At a balanced minimizer κ = 2s₁/(s_r − s_{r+1}) for r < k, 2s₁/s_r for r = k, a ≠ b, s₁/s_r for r = a = b.",
    source=NOTES.at("Model 1, the gap"),
    family=MINIMIZERS,
    sides=("κ at a balanced minimizer", "closed form"),
)
def balanced_kappa(x: FloatPair) -> Comparison:
    """Proof: σ_i(A)² = σ_i(B)² = s_i in the exact spectrum; a block splits into 2×2 ones with eigenvalues
    s_i ± s_l.
    """
    left, _, right = np.linalg.svd(x.G)
    balanced = x.with_gauge(left @ right)  # any orthogonal gauge
    return equal(balanced.kappa, x.kappa_balanced, balanced.rounding)


@balanced_kappa.exact
def _(x: ExactPair) -> Comparison:
    r, k = x.shape.r, x.shape.k
    gap = x.s[r - 1] - (x.s[r] if r < k else 0)
    return equal(x.balanced().kappa, (1 if r == x.shape.a == x.shape.b else 2) * x.s[0] / gap)


@algebraic_claim(
    "balanced-optimal-model1",
    "Balanced minimizers are optimally conditioned: for r < min(a, b), κ ≥ κ_bal = 2s₁/(s_r − s_{r+1}) at every "
    "minimizer.",
    source=POSTER.at("Theoretical analysis, Theorem"),
    family=INTERIOR,
    sides=("κ", "κ_bal"),
    tight_at=BALANCED_3x3_RANK_2,
)
def balanced_optimal(x: Pair) -> Comparison:
    """Proof: L = σ₁(A)² + σ₁(B)² ≥ 2σ₁(A)σ₁(B) ≥ 2s₁. In the block take u = Gᵀe_r, v = G⁻¹e_r: the form is
    2(s_r − s_{r+1}) while ‖u‖² + ‖v‖² ≥ 2uᵀv = 2, so μ ≤ s_r − s_{r+1}.
    """
    return at_least(x.kappa, x.kappa_balanced, x.rounding)


@algebraic_claim(
    "balanced-optimal-full-rank",
    "Are balanced minimizers optimally conditioned for r = min(a, b), too, where LoRA is not used: κ ≥ κ_bal?",
    kind="question",
    family=FULL_RANK,
    sides=("κ", "κ_bal"),
    recorded="refuted",
    corrected_by="full-rank-optimum",
)
def balanced_optimal_full_rank(x: Pair) -> Comparison:
    """Fails: without a residual singular value μ is σ_r(B)², σ_r(A)² or their sum, which an imbalance can raise faster
    than L.
    """
    return at_least(x.kappa, x.kappa_balanced, x.rounding)


@algebraic_claim(
    "balanced-smallest-smoothness",
    "Balance has the smallest smoothness constant: L ≥ 2s₁ at every minimizer, its value at balance.",
    source=REVIEW.at("Rebuttal, constant reduced"),
    family=MINIMIZERS,
    sides=("L", "2s₁"),
    tight_at=BALANCED_3x3_RANK_2,
)
def smallest_smoothness(x: Pair) -> Comparison:
    """Proof: L = σ₁(A)² + σ₁(B)² ≥ 2σ₁(A)σ₁(B) ≥ 2σ₁(AB) = 2s₁ (`model1-smoothness`)."""
    return at_least(x.L, 2 * x.s[0], x.rounding)


@algebraic_claim(
    "kappa-bounds-smoothness",
    "The condition number of the factors bounds the Lipschitz constant of the loss: L ≤ κ, or L ≤ κ(A)κ(B) with "
    "κ(A) = σ₁(A)/σ_r(A), at every minimizer with r < min(a, b).",
    source=REVIEW.at("Rebuttal, Lipschitz constant"),
    family=INTERIOR,
    sides=("L", "max(κ, κ(A)κ(B))"),
    recorded="refuted",
    corrected_by="model1-smoothness",
)
def kappa_bounds_smoothness(x: Pair) -> Comparison:
    """Fails for either reading, and for any multiple or function of these numbers: (cA, cB), a minimizer for c²Z, has
    c² times the L and the same κ, κ(A) and κ(B).
    """
    of_factors = x.sqrt(x.gram_A[0] / x.gram_A[-1] * (x.gram_B[0] / x.gram_B[-1]))
    return at_most(x.L, x.maximum(x.kappa, of_factors), x.rounding)


@algebraic_claim(
    "full-rank-optimum",
    "For r = min(a, b) the infimum of κ over the minimizers is 1: every Z has minimizers with κ ≤ 1.01.",
    kind="correction",
    family=FULL_RANK,
    sides=("κ at B = cI or A = cI, c = 4 s₁^{1/2}", "101/100"),
)
def full_rank_optimum(x: Pair) -> Comparison:
    """Proof: for r = b ≤ a take B = cI, A = Z/c. Then μ ≥ c², L = c² + s₁²/c², so κ ≤ 1 + s₁²/c⁴ → 1: the loss
    becomes linear least squares in A. Likewise A = cI for r = a < b. At c = 4√s₁, s₁²/c⁴ = 1/256.
    """
    r, c = x.shape.r, 4 * x.q[0]
    diagonal = [x.q[i] / c if x.shape.b <= x.shape.a else c / x.q[i] for i in range(r)]
    return at_most(x.with_diagonal_gauge(diagonal).kappa, x.number(Fraction(101, 100)), x.rounding)


@algebraic_claim(
    "balanced-unique",
    "Only balanced minimizers are optimally conditioned: an unbalanced one has κ > κ_bal.",
    source=REVIEW.at("Major comment 2, strictly improved"),
    kind="question",
    family=UNBALANCED,
    sides=("κ", "κ_bal"),
    recorded="refuted",
    corrected_by="balanced-unique-rank-2",
)
def balanced_unique(x: Pair) -> Comparison:
    """Fails for r ≥ 3: L sees only the first direction and μ only the last one, so that a mild imbalance of a
    middle direction costs nothing.
    """
    return more_than(x.kappa, x.kappa_balanced, x.rounding)


@algebraic_claim(
    "balanced-unique-rank-2",
    "For r ≤ 2 and r < min(a, b) an unbalanced minimizer has κ > κ_bal.",
    kind="correction",
    family=UNBALANCED_LOW_RANK,
    sides=("κ", "κ_bal"),
)
def balanced_unique_rank_2(x: Pair) -> Comparison:
    """Proof: κ = κ_bal forces L = 2s₁ and μ = s_r − s_{r+1}. The latter makes u = Gᵀe_r and v = G⁻¹e_r equal unit
    vectors. The former gives σ₁(A)² = σ₁(B)² = s₁, so Gᵀe₁ and G⁻¹e₁ have norm ≤ 1 and inner product 1: equal
    unit vectors too. For r ≤ 2 this says Gᵀ = G⁻¹, so AᵀA = GᵀSG = BBᵀ.
    """
    return more_than(x.kappa, x.kappa_balanced, x.rounding)


@algebraic_claim(
    "balanced-smallest-trace",
    "Is the trace of the Hessian, too, smallest at balance?",
    kind="question",
    family=MINIMIZERS,
    sides=("tr H", "tr H at balance"),
    recorded="refuted",
    corrected_by="smallest-trace",
)
def balanced_smallest_trace(x: Pair) -> Comparison:
    """Fails for a ≠ b: A counts b times and B counts a times."""
    return at_least(x.trace, (x.shape.a + x.shape.b) * sum(x.s[: x.shape.r]), x.rounding)


@algebraic_claim(
    "smallest-trace",
    "tr H = b‖A‖² + a‖B‖² ≥ 2(ab)^{1/2}(s₁ + … + s_r).",
    kind="correction",
    family=MINIMIZERS,
    sides=("tr H", "2(ab)^{1/2}(s₁ + … + s_r)"),
    tight_at=BALANCED_3x3_RANK_2,
)
def smallest_trace(x: Pair) -> Comparison:
    """Proof: the cross block has no diagonal, so tr H = tr MᵀM = b‖A‖² + a‖B‖² ≥ 2(ab)^{1/2}‖A‖‖B‖, and
    ‖A‖‖B‖ ≥ ‖AB‖_*, the nuclear norm (Hölder). Equality where AᵀA = (a/b)BBᵀ, which is balance only if a = b.
    """
    root = x.sqrt(x.number(x.shape.a * x.shape.b))
    return at_least(x.trace, 2 * root * sum(x.s[: x.shape.r]), x.rounding)


@algebraic_claim(
    "imbalanced-condition-number",
    "For r < k and BBᵀ = ρAᵀA, κ = 2s₁τ/(s_rτ − (s_r²(τ² − 4) + 4s_{r+1}²)^{1/2}) with τ = ρ^{1/2} + ρ^{-1/2}.",
    kind="question",
    family=INTERIOR,
    sides=("κ at G = G₁₁·I", "closed form"),
)
def imbalanced_kappa(x: FloatPair) -> Comparison:
    """Proof: G = tI, ρ = t⁻⁴, splits the block into [[s_i/t², −s_{r+1}], [−s_{r+1}, t²s_i]], which increase with
    s_i; the smallest eigenvalue is the one of i = r, and L = s₁τ.
    """
    r, t = x.shape.r, abs(x.G[0, 0]) or 1.0
    pair = x.with_diagonal_gauge([t] * r)
    expected = closed_form.imbalanced_condition_number(x.s, r, 1 / t**4, (x.shape.a, x.shape.b))
    return equal(pair.kappa, expected, pair.rounding)


@imbalanced_kappa.exact
def _(x: ExactPair) -> Comparison:
    r, t = x.shape.r, abs(x.G[0, 0]) or x.number(1)
    pair = x.with_diagonal_gauge([t] * r)
    tau, (s_r, s_next) = t**2 + 1 / t**2, (x.s[r - 1], x.s[r])
    root = x.sqrt(s_r**2 * (tau**2 - 4) + 4 * s_next**2)
    return equal(pair.kappa, 2 * x.s[0] * tau / (s_r * tau - root))


CLAIMS = (
    balanced_kappa,
    balanced_optimal,
    balanced_optimal_full_rank,
    smallest_smoothness,
    kappa_bounds_smoothness,
    full_rank_optimum,
    balanced_unique,
    balanced_unique_rank_2,
    balanced_smallest_trace,
    smallest_trace,
    imbalanced_kappa,
)
