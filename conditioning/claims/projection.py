"""Claims on P, the projection onto the (hyper)balanced manifold that keeps AB.

(X, Y) = P(A, B) = (US^{1/2}, S^{1/2}Vᵀ) for AB = USVᵀ. In the canonical frame (`conditioning.instances`)
X = diag(q) and Y = diag(q), up to signs, which makes P exact there.
"""

import numpy as np

from lorakappa.conditioning import manifold
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.factors import change_gauge
from lorakappa.conditioning.instances import ANY_PAIR, CanonicalMinimizers, FloatPair, gaussian
from lorakappa.conditioning.projection import GAUGES, balance
from lorakappa.conditioning.sources import POSTER
from lorakappa.conditioning.tolerances import EPS, PRODUCT_RTOL, balance_rtol, claim_rtol
from lorakappa.conditioning.verification import Comparison, algebraic_claim, equal

PAIRS = CanonicalMinimizers(subject=ANY_PAIR)
SEPARATED = CanonicalMinimizers("distinct singular values, relative gaps of √s_i ≥ 0.05", ANY_PAIR, min_root_gap=0.05)
SECOND_GAUGE = CanonicalMinimizers(
    "distinct singular values, any second gauge R with cond(R) ≤ 100",
    ANY_PAIR,
    min_root_gap=0.05,
    extras=(gaussian("R", lambda s: (s.r, s.r), max_condition=100),),
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
    "projection-polar-route",
    "The poster's route to P, by the polar decompositions A = R_A S_A, B = S_B R_B and the SVD S_A S_B = USVᵀ, gives "
    "(R_A U S^{1/2}, S^{1/2}VᵀR_B), which at distinct singular values is `balance`'s pair up to signs.",
    source=POSTER.at("BaLoRA, the projection"),
    family=SEPARATED,
    sides=("‖pair by the polar route − P(A, B)‖/‖P(A, B)‖, best signs", "0"),
    has_exact=False,
)
def polar_route(x: FloatPair) -> Comparison:
    """Proof: R_A U S Vᵀ R_B = AB, and R_A U and (VᵀR_B)ᵀ have orthonormal columns, so this is an SVD of AB, like
    Q_A U S Vᵀ Q_Bᵀ by QR. Polar factors and P are irrational, so it is compared in floats.
    """
    (left, stretch_A), (right, stretch_B) = _polar(x.A), _polar(x.B.T)
    U, s, Vt = np.linalg.svd(stretch_A @ stretch_B.T)
    by_polar = left @ U * np.sqrt(s), np.sqrt(s)[:, None] * Vt @ right.T
    X, Y = balance(x.A, x.B)
    signs = np.sign(np.sum(X * by_polar[0], axis=0))
    size = float(np.linalg.norm(X) ** 2 + np.linalg.norm(Y) ** 2)
    difference = squared_distance((X, Y), (by_polar[0] * signs, signs[:, None] * by_polar[1])) / size
    lost = float(np.linalg.norm(x.A) * np.linalg.norm(x.B) / x.s[x.shape.r - 1])
    return equal(difference**0.5, 0.0, claim_rtol(_gap_condition(x) * lost, x.shape.d))


def _polar(M: Array) -> tuple[Array, Array]:
    """(R, S) with M = RS, R of orthonormal columns, S symmetric positive definite."""
    U, s, Vt = np.linalg.svd(M, full_matrices=False)
    return U @ Vt, Vt.T * s @ Vt


CLAIMS = (
    preserves_product,
    hyperbalanced,
    idempotent,
    removes_invariance,
    polar_route,
)
