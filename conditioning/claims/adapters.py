"""Claims on several adapters at once, W_l = A_lB_l: the bound of Model 2, and what balancing layer by layer leaves.

L_l = σ₁(A_l)² + σ₁(B_l)² and m_l = min(σ_r(A_l)², σ_r(B_l)²). Compared for two adapters; the proofs take any number.
"""

from fractions import Fraction

from lorakappa.conditioning.instances import Number, Pair
from lorakappa.conditioning.instances.adapters import (
    TWO_ADAPTERS,
    condition_number,
    pairs,
    rounding,
    squares,
    tangent_condition,
)
from lorakappa.conditioning.instances.arrays import entries
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, at_most


def _identity(n: int) -> list[list[int]]:
    return [[int(i == j) for j in range(n)] for i in range(n)]


ALIKE = (
    Shape(2, 2, 1),
    TWO_ADAPTERS.parameters([1], [0], [[1]], q2=[[1]], G2=[[1]], c=[[1, 1]], J=_identity(8)),
)
"""Two balanced pairs with the same singular value."""
SCALED = (
    Shape(2, 2, 1),
    TWO_ADAPTERS.parameters([1], [0], [[1]], q2=[[2]], G2=[[1]], c=[[1, Fraction(1, 4)]], J=_identity(8)),
)
"""Two balanced pairs, each with the scale that makes its smallest singular value 1."""


def _factor_ratio(x: Pair) -> Number:
    """max_l L_l/min_l m_l."""
    grams = [(squares(A), squares(B.T)) for A, B in pairs(x)]
    r = x.shape.r
    largest = x.maximum(*(of_A[0] + of_B[0] for of_A, of_B in grams))
    return largest / x.minimum(*(x.minimum(of_A[r - 1], of_B[r - 1]) for of_A, of_B in grams))


def _spectra(x: Pair) -> list[tuple[Number, Number]]:
    """(s₁, s_r) of both products."""
    both = [list(x.q), list(entries(x.extras["q2"])[0])]
    return [(q[0] ** 2, q[-1] ** 2) for q in both]


@algebraic_claim(
    "adapters-upper-bound",
    "With several adapters κ ≤ κ(ΠJᵀJΠ)·max_l L_l/min_l m_l at every interpolating point, whatever J, with Π the "
    "projector onto all tangent spaces {dA·B_l + A_l·dB}.",
    kind="question",
    family=TWO_ADAPTERS,
    sides=("κ", "κ(JᵀJ on the tangent spaces)·max_l L_l/min_l m_l"),
    tight_at=ALIKE,
)
def upper_bound(x: Pair) -> Comparison:
    """Proof: that of `model2-upper-bound-tangent`, M being block diagonal: min_l m_l·I ⪯ MMᵀ ⪯ max_l L_l·I on the
    tangent spaces.
    """
    return at_most(condition_number(x), tangent_condition(x) * _factor_ratio(x), rounding(x))


@algebraic_claim(
    "adapters-balanced-bound",
    "Balancing layer by layer minimizes the bound over all gauges: max_l L_l/min_l m_l ≥ "
    "2max_l s₁(W_l)/min_l s_r(W_l), its value at balance.",
    kind="question",
    family=TWO_ADAPTERS,
    sides=("max_l L_l/min_l m_l", "2max_l s₁(W_l)/min_l s_r(W_l)"),
    tight_at=ALIKE,
)
def balanced_bound(x: Pair) -> Comparison:
    """Proof: L_l ≥ 2s₁(W_l) and m_l ≤ s_r(W_l) in each layer (`balanced-optimal-model2-bound`)."""
    (largest, smallest), (largest_2, smallest_2) = _spectra(x)
    bound = 2 * x.maximum(largest, largest_2) / x.minimum(smallest, smallest_2)
    return at_least(_factor_ratio(x), bound, rounding(x))


@algebraic_claim(
    "adapters-balance-is-all",
    "Is balance layer by layer all that there is: is its max_l 2s₁(W_l)/min_l s_r(W_l) no larger than the largest "
    "2s₁(W_l)/s_r(W_l) of a single layer?",
    kind="question",
    family=TWO_ADAPTERS,
    sides=("2max_l s₁(W_l)/min_l s_r(W_l)", "max_l 2s₁(W_l)/s_r(W_l)"),
    recorded="refuted",
    corrected_by="adapters-scales",
)
def balance_is_all(x: Pair) -> Comparison:
    """Fails where adapted matrices are of different sizes, at r = 1 already."""
    (largest, smallest), (largest_2, smallest_2) = _spectra(x)
    together = 2 * x.maximum(largest, largest_2) / x.minimum(smallest, smallest_2)
    return at_most(together, _worst_layer(x), rounding(x))


@algebraic_claim(
    "adapters-scales",
    "What balance leaves is one scale a layer, W_l = c_l·A_lB_l: balanced, the bound is "
    "2max_l c_l s₁(W_l)/min_l c_l s_r(W_l), at best max_l 2s₁(W_l)/s_r(W_l), which c_l = 1/s_r(W_l) attains.",
    kind="question",
    family=TWO_ADAPTERS,
    sides=("2max_l c_l s₁(W_l)/min_l c_l s_r(W_l)", "max_l 2s₁(W_l)/s_r(W_l)"),
    tight_at=SCALED,
)
def scales(x: Pair) -> Comparison:
    """Proof: A_lB_l = W_l/c_l has the singular values s_i/c_l, and the Jacobian of c_l·A_lB_l is c_l times that of
    A_lB_l, so L_l and m_l are c_l² times 2s₁/c_l and s_r/c_l. Each layer's own quotient is a lower bound. J stays.
    """
    (largest, smallest), (largest_2, smallest_2) = _spectra(x)
    first, second = entries(x.extras["c"])[0]
    above, below = x.maximum(first * largest, second * largest_2), x.minimum(first * smallest, second * smallest_2)
    return at_least(2 * above / below, _worst_layer(x), rounding(x))


def _worst_layer(x: Pair) -> Number:
    """max_l 2s₁(W_l)/s_r(W_l)."""
    (largest, smallest), (largest_2, smallest_2) = _spectra(x)
    return 2 * x.maximum(largest / smallest, largest_2 / smallest_2)


CLAIMS = (
    upper_bound,
    balanced_bound,
    balance_is_all,
    scales,
)
