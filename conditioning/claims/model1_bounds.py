"""Claims on the bounds on κ at minimizers of Model 1: the poster's, and those that hold.

Notation as in `claims.model1_spectrum`, and m = min(σ_r(A)², σ_r(B)²).
"""

from fractions import Fraction

from lorakappa.conditioning.instances import (
    FULL_RANK,
    INTERIOR,
    MINIMIZERS,
    BALANCED_3x3_RANK_2,
    CanonicalMinimizers,
    Pair,
)
from lorakappa.conditioning.sources import NOTES, POSTER
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, at_most, equal

POSITIVE = CanonicalMinimizers("m > s_{r+1}", positive_bound=True)
EXACT_RANK_INTERIOR = CanonicalMinimizers(
    "rank Z = r < min(a, b)", where=lambda shape: shape.r < shape.k, exact_rank=True
)


@algebraic_claim(
    "model1-lower-bound",
    "κ ≥ (σ₁(A)² + σ₁(B)²)/m at every minimizer with r < min(a, b).",
    source=POSTER.at("Model 1, Proposition, lower bound"),
    family=INTERIOR,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/m"),
    tight_at=(Shape(2, 2, 1), INTERIOR.parameters([1], [0], [[2]])),
)
def lower_bound(x: Pair) -> Comparison:
    """Proof: a block [[BBᵀ, −sI], [−sI, AᵀA]] has diagonal sub-blocks BBᵀ and AᵀA, so its smallest eigenvalue
    is at most the smaller of σ_r(B)² and σ_r(A)². Equality if rank Z = r.
    """
    return at_least(x.kappa, x.bounds("paper")[0], x.rounding)


@algebraic_claim(
    "model1-lower-bound-full-rank",
    "Does κ ≥ (σ₁(A)² + σ₁(B)²)/m hold for r = min(a, b), too, where LoRA is not used?",
    kind="question",
    family=FULL_RANK,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/m"),
    recorded="refuted",
    corrected_by="model1-bounds-corrected-lower",
)
def lower_bound_full_rank(x: Pair) -> Comparison:
    """Fails: no residual singular value is left that could push μ down to m. At a = b = r = 1 the only non-zero
    eigenvalue is A² + B², so κ = 1.
    """
    return at_least(x.kappa, x.bounds("paper")[0], x.rounding)


@algebraic_claim(
    "model1-upper-bound",
    "κ ≤ (σ₁(A)² + σ₁(B)²)/(m − s_{r+1}) at every minimizer with r < min(a, b).",
    source=POSTER.at("Model 1, Proposition, upper bound"),
    family=INTERIOR,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/(m − s_{r+1})"),
    recorded="refuted",
    corrected_by="model1-upper-bound-positive",
)
def upper_bound(x: Pair) -> Comparison:
    """Fails wherever m < s_{r+1}: the quotient is negative and κ is not. An imbalance brings that about at every Z
    with s_{r+1} > 0, since A may be made as small as one likes. Where m = s_{r+1} there is no quotient: it counts as ∞.
    """
    L, m = x.gram_A[0] + x.gram_B[0], x.minimum(x.gram_A[-1], x.gram_B[-1])
    gap = m - x.s[x.shape.r]
    return at_most(
        x.kappa, x.bounds("paper")[1] if abs(gap) <= x.number(Fraction(x.rounding)) * m else L / gap, x.rounding
    )


@algebraic_claim(
    "model1-upper-bound-positive",
    "κ ≤ (σ₁(A)² + σ₁(B)²)/(m − s_{r+1}) at every minimizer with m > s_{r+1} (s_{k+1} = 0).",
    kind="correction",
    family=POSITIVE,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/(m − s_{r+1})"),
    tight_at=BALANCED_3x3_RANK_2,
)
def upper_bound_positive(x: Pair) -> Comparison:
    """Proof: the block is at least min(σ_r(B)², σ_r(A)²)·I plus the coupling, whose norm is s_{r+1} (Weyl);
    for r = k, μ ≥ m. Equality at balanced pairs, but for r = a = b.
    """
    return at_most(x.kappa, x.bounds("paper")[1], x.rounding)


@algebraic_claim(
    "exact-rank-condition-number",
    "For rank Z = r < min(a, b), κ = (σ₁(A)² + σ₁(B)²)/m at every minimizer.",
    source=NOTES.at("Model 1, rank Z = r"),
    family=EXACT_RANK_INTERIOR,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/m"),
    tight_at=(Shape(3, 2, 1), EXACT_RANK_INTERIOR.parameters([2], [], [[3]])),
)
def exact_rank(x: Pair) -> Comparison:
    """Proof: s_{r+1} = 0 makes the bounds `model1-lower-bound` and `model1-upper-bound-positive` meet. By
    `balanced-optimal-model1` the least value is 2s₁/s_r.
    """
    return equal(x.kappa, x.bounds("paper")[0], x.rounding)


@algebraic_claim(
    "model1-bounds-corrected-lower",
    "κ ≥ (σ₁(A)² + σ₁(B)²)·max(1/m, (‖Gᵀe_r‖² + ‖G⁻¹e_r‖²)/(2(s_r − s_{r+1}))) for r < k, and "
    "for r = k (σ₁(A)² + σ₁(B)²)/μ with μ = σ_r(A)² + σ_r(B)² if a = b, σ_r(B)² if a > b and σ_r(A)² if a < b.",
    kind="correction",
    family=MINIMIZERS,
    sides=("κ", "kappa_bounds(form='corrected').lower"),
    tight_at=BALANCED_3x3_RANK_2,
)
def corrected_lower(x: Pair) -> Comparison:
    """Proof: test the block with (Gᵀe_r, G⁻¹e_r): the quadratic form there is 2(s_r − s_{r+1}). The rest is
    `model1-lower-bound` and the exact spectrum at r = k.
    """
    return at_least(x.kappa, x.bounds("corrected")[0], x.rounding)


@algebraic_claim(
    "model1-bounds-corrected-upper",
    "κ ≤ (σ₁(A)² + σ₁(B)²)/max(λ, (s_r − s_{r+1})/max(‖G‖, ‖G⁻¹‖)²) for r < k, λ the smallest eigenvalue of "
    "[[σ_r(B)², −s_{r+1}], [−s_{r+1}, σ_r(A)²]].",
    kind="correction",
    family=MINIMIZERS,
    sides=("κ", "kappa_bounds(form='corrected').upper"),
    tight_at=BALANCED_3x3_RANK_2,
)
def corrected_upper(x: Pair) -> Comparison:
    """Proof: for any u, v: u'BBᵀu + v'AᵀAv − 2s u'v ≥ σ_r(B)²‖u‖² + σ_r(A)²‖v‖² − 2s‖u‖‖v‖ ≥ λ(‖u‖² + ‖v‖²).
    The second bound is Ostrowski's theorem for diag(G⁻¹, Gᵀ)·[[S, −sI], [−sI, S]]·diag(G⁻ᵀ, G). So the bound is never
    vacuous, and as λ ≥ m − s_{r+1} never weaker than the paper's.
    """
    return at_most(x.kappa, x.bounds("corrected")[1], x.rounding)


CLAIMS = (
    lower_bound,
    lower_bound_full_rank,
    upper_bound,
    upper_bound_positive,
    exact_rank,
    corrected_lower,
    corrected_upper,
)
