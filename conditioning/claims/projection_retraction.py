"""Claims on P as a retraction: agreeing with the identity to first order along the manifold that it projects onto.

The hyperbalanced manifold 𝓗 = {(US^{1/2}, S^{1/2}Vᵀ), S > 0 diagonal} is one at equal singular values, too: S, and with
it U and V, are functions of the pair.
"""

import numpy as np

from lorakappa.conditioning import manifold
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.claims.projection import squared_distance
from lorakappa.conditioning.instances import ANY_PAIR, CanonicalMinimizers, FloatPair, Pair, gaussian, hyperbalanced
from lorakappa.conditioning.instances.arrays import Entries, entries, square
from lorakappa.conditioning.projection import Gauge, balance
from lorakappa.conditioning.sources import POSTER
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, algebraic_claim, at_most, equal

DIRECTION = (gaussian("dA", lambda s: (s.a, s.r)), gaussian("dB", lambda s: (s.r, s.b)))
TIED = CanonicalMinimizers(
    "hyperbalanced, equal singular values allowed, any tangent direction v = (dA, dB)",
    ANY_PAIR,
    extras=DIRECTION,
    shown=lambda x: hyperbalanced(x) | dict(zip(("dA", "dB"), _tangent(x), strict=True)),
)
MOVES = CanonicalMinimizers(
    "hyperbalanced, separated singular values, any tangent direction", ANY_PAIR, min_root_gap=0.1, extras=DIRECTION
)
BALANCED_MOVES = CanonicalMinimizers(
    "balanced, equal singular values allowed, any direction tangent to AᵀA = BBᵀ", ANY_PAIR, extras=DIRECTION
)


def _tangent(x: Pair) -> tuple[Entries, Entries]:
    """A direction (dA, dB) tangent at (diag(q), diag(q)), made from the two free matrices of the instance."""
    r, q, free_A, free_B = x.shape.r, np.asarray(x.q), entries(x.extras["dA"]), entries(x.extras["dB"])
    stretch = np.eye(r, dtype=int) * free_A[:r]
    dA = np.concatenate([(free_A[:r] - free_A[:r].T) * q + stretch, free_A[r:]])
    dB = np.concatenate([q[:, None] * (free_B[:, :r] - free_B[:, :r].T) + stretch, free_B[:, r:]], axis=1)
    return dA, dB


@algebraic_claim(
    "projection-retraction",
    "P is like a retraction on the hyperbalanced manifold: ‖P(x + tv) − (x + tv)‖ = O(t²) for x on it, equal singular "
    "values included, and v tangent.",
    source=POSTER.at("BaLoRA, retraction-like"),
    family=TIED,
    sides=("Σ(dAᵀdA + dB·dBᵀ)_ij²/‖v‖⁴ over i ≠ j with s_i = s_j, v = (dA, dB)", "0"),
    recorded="refuted",
    corrected_by="projection-first-order",
)
def retraction(x: Pair) -> Comparison:
    """Fails at equal singular values: which singular vectors P picks there the second-order terms decide.

    Say P(x + tv) = x + tv + t²(E, F) with E, F bounded, x = (diag(q), diag(q)) and q_i = q_j = q. Compare the terms of
    order t² in entry (i, j): that the product is kept says q(E + F)_ij → 0, and likewise (j, i). That both Gram
    matrices are diagonal says (dAᵀdA)_ij + q(E_ij + E_ji) → 0 and (dB·dBᵀ)_ij + q(F_ij + F_ji) → 0. Their sum is
    (dAᵀdA + dB·dBᵀ)_ij = 0, of which tangent vectors know nothing: those have dA = diag(q)-columns of a skew matrix
    plus a diagonal one, dB likewise with another skew one and the same diagonal one.
    """
    q, (dA, dB) = np.asarray(x.q), _tangent(x)
    tied = (q[:, None] == q) & ~np.eye(x.shape.r, dtype=bool)
    left = square((dA.T @ dA + dB @ dB.T)[tied]) / (square(dA) + square(dB) or 1) ** 2
    return equal(left, 0, claim_rtol(1.0, x.shape.d) if x.rounding else 0.0)


@algebraic_claim(
    "projection-first-order",
    "At distinct singular values P agrees with the identity to first order on the hyperbalanced manifold, like a "
    "retraction: ‖P(x + tv) − (x + tv)‖ = O(t²) for x on it and v tangent.",
    source=POSTER.at("BaLoRA, retraction-like"),
    family=MOVES,
    sides=("16·e(t/4)/e(t) at t = 2⁻⁴, e(t) = ‖P(x + tv) − (x + tv)‖", "2 (would be 4 at first order)"),
    has_exact=False,
)
def first_order(x: FloatPair) -> Comparison:
    """Proof: P is smooth near a pair with distinct singular values and is the identity on the manifold, so
    DP(x)v = v for tangent v; e(t) is the second-order remainder. P is irrational, so it is compared in floats.
    """
    X, Y = balance(x.A, x.B)
    v = manifold.tangent_projection(X, Y, x.extras["dA"], x.extras["dB"])
    gaps = -np.diff(np.append(x.q**2, 0.0))
    return _second_order(x, (X, Y), v, "hyperbalanced", float(x.q[0] ** 2 / gaps.min()))


@algebraic_claim(
    "balanced-gauges-first-order",
    "The symmetric and the nearest gauge agree with the identity to first order on the whole balanced manifold, equal "
    "singular values included: ‖P(x + tv) − (x + tv)‖ = O(t²) for x with AᵀA = BBᵀ and v tangent to that.",
    kind="correction",
    family=BALANCED_MOVES,
    sides=("the larger 16·e(t/4)/e(t) of the two gauges at t = 2⁻⁴", "2 (would be 4 at first order)"),
    has_exact=False,
)
def balanced_gauges_first_order(x: FloatPair) -> Comparison:
    """Proof: both are smooth near every pair of rank r and the identity on balanced ones, so DP(x)v = v.

    The symmetric gauge (AT, T⁻¹B) has T² = (AᵀA)⁻¹ # (BBᵀ), a smooth function of two positive definite matrices, which
    is I where they agree. With (X, Y) that pair, the nearest one is (XO, OᵀY), O the polar factor of XᵀA + YBᵀ, which
    at a balanced (A, B) is that of 2AᵀA, positive definite: smooth there, and I. P is irrational, so it is compared in
    floats.
    """
    X, Y = balance(x.A, x.B, gauge="symmetric")
    v = manifold.tangent_projection(X, Y, x.extras["dA"], x.extras["dB"], manifold="balanced")
    condition = float((x.q[0] / x.q[-1]) ** 4)
    found = [_second_order(x, (X, Y), v, gauge, condition) for gauge in ("symmetric", "nearest")]
    return max(found, key=lambda comparison: float(comparison.left))


def _second_order(
    x: FloatPair, point: tuple[Array, Array], v: tuple[Array, Array], gauge: Gauge, condition: float
) -> Comparison:
    """Whether P(x + tv) − (x + tv) falls faster than t from t = 2⁻⁴ to 2⁻⁶, v of a tenth of the smallest √s_i."""
    scale = x.q[-1] * 0.1 / max(float(np.linalg.norm(v[0]) + np.linalg.norm(v[1])), 1e-300)

    def error(t: float) -> float:
        moved = point[0] + t * scale * v[0], point[1] + t * scale * v[1]
        return squared_distance(balance(*moved, gauge=gauge), moved) ** 0.5

    large, small = error(2.0**-4), error(2.0**-6)
    noise = claim_rtol(condition, x.shape.d) * float(np.linalg.norm(point[0]) + np.linalg.norm(point[1]))
    if large <= 100 * noise:
        return at_most(1.0, 2.0)  # no remainder above rounding
    return at_most(16 * small / large, 2.0)


CLAIMS = (
    retraction,
    first_order,
    balanced_gauges_first_order,
)
