"""Claims on Model 2, f(A, B) = ½‖h(AB) − Z‖², at interpolating pairs, h(AB) = Z.

There the Hessian is MᵀJᵀJM with J the Jacobian of h at AB and M that of (A, B) ↦ AB, so that claims about all
h are claims about all J, and the linear h(W) = J·vec(W) realizes each. L₁ = σ₁(A)² + σ₁(B)², m and κ_bal are as
in `claims.model1`.
"""

from typing import Any

import flint
import numpy as np

from lorakappa.conditioning import bounds
from lorakappa.conditioning import spectra as closed_form
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.claims.canonical import CanonicalMinimizers, ExactPair, Extra, FloatPair
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import POSTER, Comparison, Shape, algebraic_claim, at_least, at_most
from lorakappa.conditioning.verification import exact as exactly


def draw_jacobian(shape: Shape, rng: np.random.Generator) -> Array:
    """A square Jacobian: diagonal with entries over two decades, one stretched entry, or Gaussian."""
    n = shape.a * shape.b
    kind = rng.choice(["diagonal", "stretched", "general"])
    if kind == "general":
        return rng.standard_normal((n, n))
    diagonal = 10.0 ** rng.uniform(-1, 1, n) if kind == "diagonal" else np.ones(n)
    if kind == "stretched":
        diagonal[rng.integers(n)] = 10.0 ** rng.uniform(-1, 1)
    return np.diag(diagonal)


JACOBIAN = Extra(
    "J",
    lambda s: (s.a * s.b, s.a * s.b),
    draw_jacobian,
    lambda J: bool(np.linalg.cond(J.astype(float)) <= 1e3),
)
INTERPOLATING = CanonicalMinimizers("square J with cond(J) ≤ 1e3", largest=3, extras=(JACOBIAN,))
INTERPOLATING_INTERIOR = CanonicalMinimizers(
    "r < min(a, b), square J with cond(J) ≤ 1e3",
    where=lambda shape: shape.r < shape.k,
    largest=3,
    extras=(JACOBIAN,),
)

STRETCHED = (
    Shape(2, 2, 1),
    INTERPOLATING.parameters([1], [0], [[1]], J=[[3, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
)


def kappa(x: Any) -> Any:
    """κ of MᵀJᵀJM past the r² zeros."""
    if isinstance(x, FloatPair):
        return closed_form.model2_condition_number(x.A, x.B, x.extras["J"])
    return x.kappa


def outer_condition(x: Any) -> Any:
    """κ(JᵀJ)."""
    return _gram_condition(x, x.extras["J"])


def tangent_condition(x: Any) -> Any:
    """κ of JᵀJ on the tangent space, which in the canonical frame is spanned by the entries (i, j) of W with
    i ≤ r or j ≤ r.
    """
    (a, b, r), J = (x.shape.a, x.shape.b, x.shape.r), x.extras["J"]
    if isinstance(x, FloatPair):
        return _gram_condition(x, J @ bounds.tangent_basis(x.A, x.B))
    columns = [i * b + j for i in range(a) for j in range(b) if i < r or j < r]
    return _gram_condition(x, flint.fmpq_mat([[J[row, c] for c in columns] for row in range(J.nrows())]))


def _gram_condition(x: Any, K: Any) -> Any:
    if isinstance(x, FloatPair):
        return float(np.linalg.cond(K) ** 2)
    eigenvalues = exactly.eigenvalues(K.transpose() * K)
    return eigenvalues[-1] / eigenvalues[0]


def factor_ratio(x: Any) -> Any:
    """L₁/m."""
    return (x.gram_A[0] + x.gram_B[0]) / x.minimum(x.gram_A[-1], x.gram_B[-1])


def rounding(x: Any) -> float:
    """Relative rounding of κ: the condition of JM squared."""
    if isinstance(x, ExactPair):
        return 0.0
    condition = np.linalg.cond(x.G) ** 2 * (x.q[0] / x.q[-1]) ** 2 * np.linalg.cond(x.extras["J"]) ** 2
    return claim_rtol(float(condition), x.shape.d)


@algebraic_claim(
    "model2-upper-bound",
    "κ ≤ κ(JᵀJ)^{1/2}·(σ₁(A)² + σ₁(B)²)/m at every interpolating pair.",
    source=POSTER,
    family=INTERPOLATING_INTERIOR,
    sides=("κ", "κ(JᵀJ)^{1/2}·(σ₁(A)² + σ₁(B)²)/m"),
    recorded="refuted",
    corrected_by="model2-upper-bound-corrected",
)
def upper_bound(x: Any) -> Comparison:
    """Fails: J enters the Hessian squared. A stretch c of the entry of W that A and B share gives κ = 2c²
    against 2c.
    """
    return at_most(kappa(x), x.sqrt(outer_condition(x)) * factor_ratio(x), rounding(x))


@algebraic_claim(
    "model2-upper-bound-corrected",
    "κ ≤ κ(JᵀJ)·(σ₁(A)² + σ₁(B)²)/m at every interpolating pair.",
    kind="correction",
    family=INTERPOLATING,
    sides=("κ", "κ(JᵀJ)·(σ₁(A)² + σ₁(B)²)/m"),
    tight_at=STRETCHED,
)
def upper_bound_corrected(x: Any) -> Comparison:
    """Proof: σ_max(JM) ≤ σ_max(J)σ_max(M), and on the complement of ker M ‖JMx‖ ≥ σ_min(J)σ_min⁺(M)‖x‖; the
    non-zero σ²(M) are σ_i(A)² + σ_j(B)², σ_j(B)² and σ_i(A)², all between m and σ₁(A)² + σ₁(B)².
    """
    return at_most(kappa(x), outer_condition(x) * factor_ratio(x), rounding(x))


@algebraic_claim(
    "model2-upper-bound-tangent",
    "κ ≤ κ(ΠJᵀJΠ)·(σ₁(A)² + σ₁(B)²)/m with Π the projector onto the tangent space {dA·B + A·dB}.",
    kind="correction",
    family=INTERPOLATING,
    sides=("κ", "κ(JᵀJ on the tangent space)·(σ₁(A)² + σ₁(B)²)/m"),
    tight_at=STRETCHED,
)
def upper_bound_tangent(x: Any) -> Comparison:
    """Proof: the range of M is the tangent space, so J may be restricted to it in the argument for
    `model2-upper-bound-corrected`. Never weaker, and finite for every J that is injective there.
    """
    return at_most(kappa(x), tangent_condition(x) * factor_ratio(x), rounding(x))


@algebraic_claim(
    "balanced-optimal-model2",
    "Balanced pairs are optimally conditioned in Model 2 too: κ(A, B) ≥ κ(P(A, B)).",
    source=POSTER,
    family=INTERPOLATING_INTERIOR,
    sides=("κ(A, B)", "κ(P(A, B))"),
    recorded="refuted",
    corrected_by="balanced-optimal-model2-bound",
)
def balanced_optimal(x: Any) -> Comparison:
    """Fails: J can be large exactly where one factor acts alone, and an imbalance can undo that. What balance
    optimizes is the upper bound.
    """
    return at_least(kappa(x), kappa(x.balanced()), max(rounding(x), rounding(x.balanced())))


@algebraic_claim(
    "balanced-optimal-model2-bound",
    "Balanced pairs minimize the upper bound: (σ₁(A)² + σ₁(B)²)/m ≥ 2s₁/s_r, its value at balance.",
    kind="correction",
    family=INTERPOLATING,
    sides=("(σ₁(A)² + σ₁(B)²)/m", "2s₁/s_r"),
    tight_at=STRETCHED,
)
def balanced_optimal_bound(x: Any) -> Comparison:
    """Proof: σ₁(A)² + σ₁(B)² ≥ 2σ₁(A)σ₁(B) ≥ 2s₁ and m ≤ σ_r(A)σ_r(B) ≤ σ_r(AB) = s_r."""
    return at_least(factor_ratio(x), 2 * x.s[0] / x.s[x.shape.r - 1], rounding(x))


CLAIMS = (
    upper_bound,
    upper_bound_corrected,
    upper_bound_tangent,
    balanced_optimal,
    balanced_optimal_bound,
)
