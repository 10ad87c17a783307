"""Claims on the bounds on κ at minimizers of Model 1: the poster's, and those that hold.

Notation as in `claims.model1_spectrum`, and m = min(σ_r(A)², σ_r(B)²).
"""

from lorakappa.conditioning.instances import INTERIOR, MINIMIZERS, BALANCED_3x3_RANK_2, Pair
from lorakappa.conditioning.verification import POSTER, Comparison, Shape, algebraic_claim, at_least, at_most


@algebraic_claim(
    "model1-lower-bound",
    "κ ≥ (σ₁(A)² + σ₁(B)²)/m at every minimizer.",
    source=POSTER,
    family=MINIMIZERS,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/m"),
    recorded="refuted",
    corrected_by="model1-lower-bound-interior",
)
def lower_bound(x: Pair) -> Comparison:
    """Fails for r = min(a, b): no residual singular value is left that could push μ down to m. At
    a = b = r = 1 the only non-zero eigenvalue is A² + B², so κ = 1.
    """
    return at_least(x.kappa, x.bounds("paper")[0], x.rounding)


@algebraic_claim(
    "model1-lower-bound-interior",
    "κ ≥ (σ₁(A)² + σ₁(B)²)/m at every minimizer with r < min(a, b).",
    kind="correction",
    family=INTERIOR,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/m"),
    tight_at=(Shape(2, 2, 1), INTERIOR.parameters([1], [0], [[2]])),
)
def lower_bound_interior(x: Pair) -> Comparison:
    """Proof: a block [[BBᵀ, −sI], [−sI, AᵀA]] has diagonal sub-blocks BBᵀ and AᵀA, so its smallest eigenvalue
    is at most the smaller of σ_r(B)² and σ_r(A)². Equality if rank Z = r.
    """
    return at_least(x.kappa, x.bounds("paper")[0], x.rounding)


@algebraic_claim(
    "model1-upper-bound",
    "κ ≤ (σ₁(A)² + σ₁(B)²)/(m − s_{r+1}) at every minimizer with m > s_{r+1} (s_{k+1} = 0).",
    source=POSTER,
    family=MINIMIZERS,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/(m − s_{r+1})"),
    tight_at=BALANCED_3x3_RANK_2,
)
def upper_bound(x: Pair) -> Comparison:
    """Proof: the block is at least min(σ_r(B)², σ_r(A)²)·I plus the coupling, whose norm is s_{r+1} (Weyl);
    for r = k, μ ≥ m. Equality at balanced pairs, but for r = a = b. Where m ≤ s_{r+1} it says nothing.
    """
    return at_most(x.kappa, x.bounds("paper")[1], x.rounding)


@algebraic_claim(
    "model1-bounds-corrected-lower",
    "κ ≥ (σ₁(A)² + σ₁(B)²)·max(1/m, (‖Gᵀe_r‖² + ‖G⁻¹e_r‖²)/(2(s_r − s_{r+1}))) for r < k, and "
    "(σ₁(A)² + σ₁(B)²)/μ with μ from the shape for r = k.",
    kind="correction",
    family=MINIMIZERS,
    sides=("κ", "kappa_bounds(form='corrected').lower"),
    tight_at=BALANCED_3x3_RANK_2,
)
def corrected_lower(x: Pair) -> Comparison:
    """Proof: test the block with (Gᵀe_r, G⁻¹e_r): the quadratic form there is 2(s_r − s_{r+1}). The rest is
    `model1-lower-bound-interior` and the exact spectrum at r = k.
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
    lower_bound_interior,
    upper_bound,
    corrected_lower,
    corrected_upper,
)
