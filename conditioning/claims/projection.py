"""Claims on P, the projection onto the (hyper)balanced manifold that keeps AB.

(X, Y) = P(A, B) = (US^{1/2}, S^{1/2}Vᵀ) for AB = USVᵀ. In the canonical frame (`conditioning.instances`)
X = diag(q) and Y = diag(q), up to signs, which makes P exact there.
"""

import numpy as np

from lorakappa.conditioning import manifold
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.factors import change_gauge
from lorakappa.conditioning.instances import CanonicalMinimizers, FloatPair, gaussian
from lorakappa.conditioning.projection import GAUGES, balance
from lorakappa.conditioning.sources import POSTER
from lorakappa.conditioning.tolerances import EPS, PRODUCT_RTOL, balance_rtol, claim_rtol
from lorakappa.conditioning.verification import Comparison, algebraic_claim, at_most, equal

PAIRS = CanonicalMinimizers("any target; here the pair matters and Z does not")
SEPARATED = CanonicalMinimizers("distinct singular values, relative gaps of √s_i ≥ 0.05", min_root_gap=0.05)
SECOND_GAUGE = CanonicalMinimizers(
    "distinct singular values, any second gauge R with cond(R) ≤ 100",
    min_root_gap=0.05,
    extras=(gaussian("R", lambda s: (s.r, s.r), max_condition=100),),
)
MOVES = CanonicalMinimizers(
    "hyperbalanced pairs with separated singular values, any tangent direction",
    min_root_gap=0.1,
    extras=(gaussian("dA", lambda s: (s.a, s.r)), gaussian("dB", lambda s: (s.r, s.b))),
)


def relative_product_error(X: Array, Y: Array, A: Array, B: Array) -> float:
    """‖XY − AB‖_F/(‖A‖_F‖B‖_F)."""
    return float(np.linalg.norm(X @ Y - A @ B) / (np.linalg.norm(A) * np.linalg.norm(B)))


def squared_distance(pair: tuple[Array, Array], other: tuple[Array, Array]) -> float:
    """‖A − A'‖² + ‖B − B'‖²."""
    return float(np.linalg.norm(pair[0] - other[0]) ** 2 + np.linalg.norm(pair[1] - other[1]) ** 2)


@algebraic_claim(
    "projection-preserves-product",
    "P keeps the adapted matrix: if (X, Y) = P(A, B), then XY = AB.",
    source=POSTER.at("BaLoRA, the product is kept"),
    family=PAIRS,
    sides=("‖XY − AB‖/(‖A‖‖B‖)", "0"),
    has_exact=False,
)
def preserves_product(x: FloatPair) -> Comparison:
    """Proof: US^{1/2}·S^{1/2}Vᵀ = USVᵀ. Measured on `balance`, which promises 16 machine epsilons; evaluating
    the two products costs up to r more.
    """
    error = max(relative_product_error(*balance(x.A, x.B, gauge=g), x.A, x.B) for g in GAUGES)
    return equal(error, 0.0, (PRODUCT_RTOL + x.shape.r) * EPS)


@algebraic_claim(
    "projection-hyperbalanced",
    "P(A, B) is hyperbalanced: XᵀX = YYᵀ, diagonal, if AB has rank r.",
    source=POSTER.at("BaLoRA, hyperbalanced manifold"),
    family=PAIRS,
    sides=("(‖XᵀX − YYᵀ‖ + ‖offdiag XᵀX‖)/(‖X‖² + ‖Y‖²)", "0"),
    has_exact=False,
)
def hyperbalanced(x: FloatPair) -> Comparison:
    """Proof: XᵀX = S^{1/2}UᵀUS^{1/2} = S = S^{1/2}VᵀVS^{1/2} = YYᵀ."""
    X, Y = balance(x.A, x.B)
    gram = X.T @ X
    gap = manifold.balancing_gap(X, Y) + np.linalg.norm(gram - np.diag(np.diag(gram)))
    lost = np.linalg.norm(x.A) * np.linalg.norm(x.B) / x.s[0]  # rounding of C against the size of the result
    return equal(
        gap / float(np.linalg.norm(X) ** 2 + np.linalg.norm(Y) ** 2),
        0.0,
        2 * lost * balance_rtol(EPS, x.shape.r),
    )


@algebraic_claim(
    "projection-idempotent",
    "P is a projection at distinct singular values: P(P(A, B)) = P(A, B).",
    source=POSTER.at("BaLoRA, the projection"),
    family=SEPARATED,
    sides=("‖P(P(A, B)) − P(A, B)‖/‖P(A, B)‖", "0"),
    has_exact=False,
)
def idempotent(x: FloatPair) -> Comparison:
    """Proof: at distinct singular values P depends on AB alone, up to signs, which follow the argument.

    Inside a cluster of equal ones the SVD is free to rotate.
    """
    once = balance(x.A, x.B)
    twice = balance(*once)
    size = float(np.linalg.norm(once[0]) ** 2 + np.linalg.norm(once[1]) ** 2)
    return equal((squared_distance(once, twice) / size) ** 0.5, 0.0, claim_rtol(_gap_condition(x), x.shape.d))


@algebraic_claim(
    "projection-removes-invariance",
    "P removes the invariance at distinct singular values: P(AR, R⁻¹B) = P(A, B) up to signs.",
    source=POSTER.at("BaLoRA, invariances removed"),
    family=SECOND_GAUGE,
    sides=("‖P(AR, R⁻¹B) − P(A, B)‖/‖P(A, B)‖, best signs", "0"),
    has_exact=False,
)
def removes_invariance(x: FloatPair) -> Comparison:
    """Proof: both sides are the factors of the SVD of AB, unique up to signs for distinct singular values (and
    up to rotations inside equal ones).
    """
    X, Y = balance(x.A, x.B)
    X2, Y2 = balance(*change_gauge(x.A, x.B, x.extras["R"]))
    signs = np.sign(np.sum(X * X2, axis=0))
    size = float(np.linalg.norm(X) ** 2 + np.linalg.norm(Y) ** 2)
    condition = _gap_condition(x) * np.linalg.cond(x.extras["R"]) * np.linalg.norm(x.A) * np.linalg.norm(x.B)
    tolerance = claim_rtol(float(condition / x.s[x.shape.r - 1]), x.shape.d)
    return equal((squared_distance((X, Y), (X2 * signs, signs[:, None] * Y2)) / size) ** 0.5, 0.0, tolerance)


def _gap_condition(x: FloatPair) -> float:
    """Condition of the singular vectors of AB: size over the smallest gap of its singular values."""
    gaps = -np.diff(np.append(x.q**2, 0.0))
    return float(np.linalg.norm(x.A) * np.linalg.norm(x.B) / gaps.min())


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
    DP(x)v = v for tangent v; e(t) is the second-order remainder.
    """
    X, Y = balance(x.A, x.B)
    v = manifold.tangent_projection(X, Y, x.extras["dA"], x.extras["dB"])
    size = float(np.linalg.norm(X) + np.linalg.norm(Y))
    scale = x.q[-1] * 0.1 / max(float(np.linalg.norm(v[0]) + np.linalg.norm(v[1])), 1e-300)

    def error(t: float) -> float:
        point = X + t * scale * v[0], Y + t * scale * v[1]
        return squared_distance(balance(*point), point) ** 0.5

    large, small = error(2.0**-4), error(2.0**-6)
    gaps = -np.diff(np.append(x.q**2, 0.0))
    noise = claim_rtol(float(x.q[0] ** 2 / gaps.min()), x.shape.d) * size
    if large <= 100 * noise:
        return at_most(1.0, 2.0)  # no remainder above rounding
    return at_most(16 * small / large, 2.0)


CLAIMS = (
    preserves_product,
    hyperbalanced,
    idempotent,
    removes_invariance,
    first_order,
)
