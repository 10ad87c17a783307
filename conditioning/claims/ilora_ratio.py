"""Claims on the ratio that Imbalance-Regularized LoRA asks for, BBᵀ = ρAᵀA with ρ = r/m: what it costs in κ and trace.

The paper's m is a here.
"""

from lorakappa.conditioning import spectra as closed_form
from lorakappa.conditioning.instances import INTERIOR, CanonicalMinimizers, ExactPair, FloatPair, Number, Pair
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, at_most, equal

RATIOS = CanonicalMinimizers(
    "r < min(a, b) and BBᵀ = ρAᵀA for any ρ", where=lambda shape: shape.r < shape.k, scalar_gauge=True
)


def _cost(x: Pair) -> Number:
    """κ over κ_bal."""
    return x.kappa / x.kappa_balanced


@algebraic_claim(
    "ilora-ratio-condition-number",
    "What iLoRA's ratio, BBᵀ = ρAᵀA with ρ = r/m, costs against balance: for r < k and any ρ, κ/κ_bal = "
    "τ(τ + (τ² − 4 + 4q²)^{1/2})/(4(1 + q)), τ = ρ^{1/2} + ρ^{-1/2}, q = s_{r+1}/s_r.",
    kind="question",
    family=RATIOS,
    sides=("κ/κ_bal at BBᵀ = ρAᵀA", "closed form"),
)
def ratio_condition_number(x: FloatPair) -> Comparison:
    """Proof: L = s₁τ against 2s₁. μ is the smaller eigenvalue of [[s_r√ρ, −s_{r+1}], [−s_{r+1}, s_r/√ρ]]: determinant
    s_r²(1 − q²) over the larger one, s_r(τ + (τ² − 4 + 4q²)^{1/2})/2.
    """
    r, t = x.shape.r, abs(x.G[0, 0])
    cost = closed_form.imbalanced_condition_number(x.s, r, 1 / t**4, (x.shape.a, x.shape.b)) / x.kappa_balanced
    return equal(_cost(x), cost, x.rounding)


@ratio_condition_number.exact
def _(x: ExactPair) -> Comparison:
    r, t = x.shape.r, x.G[0, 0]
    tau, q = t**2 + 1 / t**2, x.s[r] / x.s[r - 1]
    return equal(_cost(x), tau * (tau + x.sqrt(tau**2 - 4 + 4 * q**2)) / (4 * (1 + q)))


@algebraic_claim(
    "ilora-ratio-cost-lower",
    "The ratio BBᵀ = ρAᵀA costs at least (ρ + 2 + 1/ρ)/4 in κ against balance for r < k: iLoRA's ρ = r/m more than "
    "m/(4r).",
    kind="question",
    family=RATIOS,
    sides=("κ/κ_bal at BBᵀ = ρAᵀA", "(ρ + 2 + 1/ρ)/4"),
)
def ratio_cost_lower(x: Pair) -> Comparison:
    """Proof: the closed form decreases with q: with w = (τ² − 4 + 4q²)^{1/2} ≥ 2q, 4q(1 + q) ≤ (τ + w)w because
    τ ≥ 2, and at q = 1 it is τ²/4. The bound exceeds 1 unless ρ = 1.
    """
    rho = 1 / x.G[0, 0] ** 4
    return at_least(_cost(x), (rho + 2 + 1 / rho) / 4, x.rounding)


@algebraic_claim(
    "ilora-ratio-cost-upper",
    "The ratio BBᵀ = ρAᵀA costs at most (1 + max(ρ, 1/ρ))/2 in κ against balance for r < k, and just that where "
    "rank Z = r: iLoRA's ρ = r/m half of 1 + m/r.",
    kind="question",
    family=RATIOS,
    sides=("κ/κ_bal at BBᵀ = ρAᵀA", "(1 + max(ρ, 1/ρ))/2"),
    tight_at=(Shape(3, 2, 1), RATIOS.parameters([2], [0], [[2]])),
)
def ratio_cost_upper(x: Pair) -> Comparison:
    """Proof: the closed form decreases with q (`ilora-ratio-cost-lower`); at q = 0 it is τ·max(ρ, 1/ρ)^{1/2}/2."""
    rho = 1 / x.G[0, 0] ** 4
    return at_most(_cost(x), (1 + x.maximum(rho, 1 / rho)) / 2, x.rounding)


@algebraic_claim(
    "ilora-ratio-smallest-trace",
    "Is the trace of the Hessian, for r < k, smallest at iLoRA's ratio BBᵀ = (r/m)AᵀA?",
    kind="question",
    family=INTERIOR,
    sides=("tr H", "tr H at BBᵀ = (r/m)AᵀA"),
    recorded="refuted",
    corrected_by="smallest-trace",
)
def ratio_smallest_trace(x: Pair) -> Comparison:
    """Fails for b ≠ r: the trace is smallest at BBᵀ = (b/a)AᵀA, m = a, not at r/a. With BBᵀ = ρAᵀA it is
    (bρ^{-1/2} + aρ^{1/2})(s₁ + … + s_r).
    """
    a, b, r = x.shape.a, x.shape.b, x.shape.r
    root = x.sqrt(x.number(a) / r)
    return at_least(x.trace, (b * root + a / root) * sum(x.s[:r]), x.rounding)


CLAIMS = (
    ratio_condition_number,
    ratio_cost_lower,
    ratio_cost_upper,
    ratio_smallest_trace,
)
