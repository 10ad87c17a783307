"""Claims on Model 2, f(A, B) = ½‖h(AB) − Z‖², at interpolating pairs, h(AB) = Z.

There the Hessian is MᵀJᵀJM with J the Jacobian of h at AB and M that of (A, B) ↦ AB, so that claims about all
h are claims about all J, and the linear h(W) = J·vec(W) realizes each. J may have a kernel: κ is L over the smallest
non-zero eigenvalue, of the Hessian and of JᵀJ alike. L₁ = σ₁(A)² + σ₁(B)², m and κ_bal are as
in `claims.model1_bounds` and `claims.model1_optimality`.
"""

from lorakappa.conditioning.instances import Number, Pair
from lorakappa.conditioning.instances.interpolating import (
    INJECTIVE,
    INJECTIVE_INTERIOR,
    INTERPOLATING,
    INTERPOLATING_INTERIOR,
    InterpolatingPair,
)
from lorakappa.conditioning.sources import POSTER
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, at_most

STRETCHED = (
    Shape(2, 2, 1),
    INTERPOLATING.parameters([1], [0], [[1]], J=[[3, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
)


def factor_ratio(x: Pair) -> Number:
    """L₁/m."""
    return (x.gram_A[0] + x.gram_B[0]) / x.minimum(x.gram_A[-1], x.gram_B[-1])


@algebraic_claim(
    "model2-upper-bound",
    "κ ≤ κ(JᵀJ)^{1/2}·(σ₁(A)² + σ₁(B)²)/m at every interpolating pair, whatever J.",
    source=POSTER.at("Model 2, Proposition"),
    family=INTERPOLATING_INTERIOR,
    sides=("κ", "κ(JᵀJ)^{1/2}·(σ₁(A)² + σ₁(B)²)/m"),
    recorded="refuted",
    corrected_by="model2-upper-bound-tangent",
)
def upper_bound(x: InterpolatingPair) -> Comparison:
    """Fails: J enters the Hessian squared. A stretch c of the entry of W that A and B share gives κ = 2c²
    against 2c, with a J that is invertible.
    """
    return at_most(x.kappa, x.sqrt(x.outer_condition) * factor_ratio(x), x.rounding)


@algebraic_claim(
    "model2-upper-bound-exponent-1",
    "Is the exponent all: κ ≤ κ(JᵀJ)·(σ₁(A)² + σ₁(B)²)/m at every interpolating pair, whatever J?",
    kind="question",
    family=INTERPOLATING_INTERIOR,
    sides=("κ", "κ(JᵀJ)·(σ₁(A)² + σ₁(B)²)/m"),
    recorded="refuted",
    corrected_by="model2-upper-bound-tangent",
)
def upper_bound_exponent_1(x: InterpolatingPair) -> Comparison:
    """Fails where J has a kernel: a row of J that is nearly normal to the tangent space counts in full in κ(JᵀJ) and
    hardly in κ. At A = e₁, B = e₁ᵀ the rows (0, ε, 0, (1 − ε²)^{1/2}) and (0, 0, 1, 0) have κ(JᵀJ) = 1, L/m = 2 and
    κ = 1/ε²: no bound in κ(JᵀJ) alone exists.
    """
    return at_most(x.kappa, x.outer_condition * factor_ratio(x), x.rounding)


@algebraic_claim(
    "model2-upper-bound-corrected",
    "κ ≤ κ(JᵀJ)·(σ₁(A)² + σ₁(B)²)/m at every interpolating pair if J is injective.",
    kind="correction",
    family=INJECTIVE,
    sides=("κ", "κ(JᵀJ)·(σ₁(A)² + σ₁(B)²)/m"),
    tight_at=STRETCHED,
)
def upper_bound_corrected(x: InterpolatingPair) -> Comparison:
    """Proof: σ_max(JM) ≤ σ_max(J)σ_max(M), and on the complement of ker M ‖JMx‖ ≥ σ_min(J)σ_min⁺(M)‖x‖; the
    non-zero σ²(M) are σ_i(A)² + σ_j(B)², σ_j(B)² and σ_i(A)², all between m and σ₁(A)² + σ₁(B)².
    """
    return at_most(x.kappa, x.outer_condition * factor_ratio(x), x.rounding)


@algebraic_claim(
    "model2-upper-bound-tangent",
    "κ ≤ κ(ΠJᵀJΠ)·(σ₁(A)² + σ₁(B)²)/m at every interpolating pair, whatever J, with Π the projector onto the tangent "
    "space {dA·B + A·dB}.",
    kind="correction",
    family=INTERPOLATING,
    sides=("κ", "κ(JᵀJ on the tangent space)·(σ₁(A)² + σ₁(B)²)/m"),
    tight_at=STRETCHED,
)
def upper_bound_tangent(x: InterpolatingPair) -> Comparison:
    """Proof: the range of M is the tangent space, so JM = KM with K = JΠ. The non-zero eigenvalues of MᵀKᵀKM are those
    of KMMᵀKᵀ. On the tangent space mI ⪯ MMᵀ ⪯ L₁I (`model2-upper-bound-corrected`), so mKKᵀ ⪯ KMMᵀKᵀ ⪯ L₁KKᵀ: both
    have the same kernel, and by Weyl's inequality each eigenvalue lies within m and L₁ times that of KKᵀ.
    """
    return at_most(x.kappa, x.tangent_condition * factor_ratio(x), x.rounding)


@algebraic_claim(
    "balanced-optimal-model2",
    "Are balanced pairs optimally conditioned in Model 2, too: κ(A, B) ≥ κ(P(A, B))?",
    kind="question",
    family=INJECTIVE_INTERIOR,
    sides=("κ(A, B)", "κ(P(A, B))"),
    recorded="refuted",
    corrected_by="balanced-optimal-model2-bound",
)
def balanced_optimal(x: InterpolatingPair) -> Comparison:
    """Fails: J can be large exactly where one factor acts alone, and an imbalance can undo that. What balance
    optimizes is the upper bound.
    """
    return at_least(x.kappa, x.balanced().kappa, max(x.rounding, x.balanced().rounding))


@algebraic_claim(
    "balanced-smallest-smoothness-model2",
    "Does balance have the smallest smoothness constant in Model 2, too: L(A, B) ≥ L(P(A, B))?",
    kind="question",
    family=INJECTIVE_INTERIOR,
    sides=("L(A, B)", "L(P(A, B))"),
    recorded="refuted",
    corrected_by="balanced-smallest-smoothness",
)
def smallest_smoothness(x: InterpolatingPair) -> Comparison:
    """Fails for the same reason as `balanced-optimal-model2`: a direction that J stretches may be the share of the
    factor that an imbalance makes small.
    """
    return at_least(x.smoothness, x.balanced().smoothness, max(x.rounding, x.balanced().rounding))


@algebraic_claim(
    "balanced-optimal-model2-bound",
    "Balanced pairs minimize the upper bound: (σ₁(A)² + σ₁(B)²)/m ≥ 2s₁/s_r, its value at balance.",
    kind="correction",
    family=INTERPOLATING,
    sides=("(σ₁(A)² + σ₁(B)²)/m", "2s₁/s_r"),
    tight_at=STRETCHED,
)
def balanced_optimal_bound(x: Pair) -> Comparison:
    """Proof: σ₁(A)² + σ₁(B)² ≥ 2σ₁(A)σ₁(B) ≥ 2s₁ and m ≤ σ_r(A)σ_r(B) ≤ σ_r(AB) = s_r."""
    return at_least(factor_ratio(x), 2 * x.s[0] / x.s[x.shape.r - 1], x.rounding)


CLAIMS = (
    upper_bound,
    upper_bound_exponent_1,
    upper_bound_corrected,
    upper_bound_tangent,
    balanced_optimal,
    smallest_smoothness,
    balanced_optimal_bound,
)
