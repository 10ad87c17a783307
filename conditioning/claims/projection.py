"""Claims on P, the projection onto the (hyper)balanced manifold that keeps AB.

(X, Y) = P(A, B) = (US^{1/2}, S^{1/2}Vᵀ) for AB = USVᵀ. In the canonical frame of `claims.canonical`
X = diag(q) and Y = diag(q), up to signs, which makes P exact there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import flint
import numpy as np

from lorakappa.conditioning import manifold
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.claims.canonical import (
    GRADIENT_STEP,
    CanonicalMinimizers,
    ExactPair,
    FloatPair,
    diagonal,
    gaussian,
)
from lorakappa.conditioning.factors import change_gauge
from lorakappa.conditioning.projection import GAUGES, balance
from lorakappa.conditioning.tolerances import EPS, PRODUCT_RTOL, balance_rtol, claim_rtol
from lorakappa.conditioning.verification import (
    POSTER,
    Comparison,
    Shape,
    algebraic_claim,
    all_shapes,
    at_least,
    at_most,
    equal,
    more_than,
)
from lorakappa.conditioning.verification import exact as exactly
from lorakappa.conditioning.verification.family import Parameters

PAIRS = CanonicalMinimizers("any target; here the pair matters and Z does not")
SEPARATED = CanonicalMinimizers("distinct singular values, relative gaps of √s_i ≥ 0.05", min_root_gap=0.05)


SECOND_GAUGE = CanonicalMinimizers(
    "distinct singular values, any second gauge R with cond(R) ≤ 100",
    min_root_gap=0.05,
    extras=(gaussian("R", lambda s: (s.r, s.r), max_condition=100),),
)
ROTATED = CanonicalMinimizers(
    "compared with balanced pairs (XO, OᵀY), O = (I − S)(I + S)⁻¹ D, S skew, D signs",
    extras=(gaussian("K", lambda s: (s.r, s.r)),),
)
GRADIENT = CanonicalMinimizers("hyperbalanced pairs, any gradient ∇ℓ(W), any step γ", extras=GRADIENT_STEP)
MOVES = CanonicalMinimizers(
    "hyperbalanced pairs with separated singular values, any tangent direction",
    min_root_gap=0.1,
    extras=(gaussian("dA", lambda s: (s.a, s.r)), gaussian("dB", lambda s: (s.r, s.b))),
)


@dataclass(frozen=True)
class LoraStarts:
    """Starts with one factor 0, as LoRA's (here B = 0), and any A and Z with gradient AᵀZ ≠ 0; a `Family`."""

    largest: int = 3
    description: str = "A arbitrary, B = 0, AᵀZ ≠ 0; a, b ≤ 3"

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes up to `largest`."""
        return all_shapes(self.largest)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Array:
        """Gaussian A and Z."""
        return rng.standard_normal(shape.a * (shape.r + shape.b))

    def valid(self, shape: Shape, parameters: Parameters) -> bool:
        """Whether the gradient at the start is not negligible."""
        A, Z = self._unpack(shape, np.asarray(parameters, dtype=object).astype(float))
        return bool(np.linalg.norm(A.T @ Z) > 1e-3 * (1 + np.linalg.norm(A) * np.linalg.norm(Z)))

    def floating(
        self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None
    ) -> "tuple[Array, Array, Array]":
        """(A, B, Z) in float64."""
        A, Z = self._unpack(shape, np.asarray(parameters, dtype=float))
        return A, np.zeros((shape.r, shape.b)), Z

    def exact(self, shape: Shape, parameters: Sequence[Fraction]) -> tuple[flint.fmpq_mat, ...]:
        """(A, B, Z) over the rationals."""
        A, Z = self._unpack(shape, np.asarray(parameters, dtype=object))
        return exactly.matrix(A.tolist()), flint.fmpq_mat(shape.r, shape.b), exactly.matrix(Z.tolist())

    def describe(self, shape: Shape, parameters: Sequence[Fraction]) -> dict[str, Any]:
        """A, B, Z as rational strings."""
        matrices = zip("ABZ", self.exact(shape, parameters), strict=True)
        return {name: [[str(x) for x in row] for row in M.tolist()] for name, M in matrices}

    @staticmethod
    def _unpack(shape: Shape, parameters: Any) -> tuple[Any, Any]:
        split = shape.a * shape.r
        return parameters[:split].reshape(shape.a, shape.r), parameters[split:].reshape(shape.a, shape.b)


def relative_product_error(X: Array, Y: Array, A: Array, B: Array) -> float:
    """‖XY − AB‖_F/(‖A‖_F‖B‖_F)."""
    return float(np.linalg.norm(X @ Y - A @ B) / (np.linalg.norm(A) * np.linalg.norm(B)))


def _distance(pair: tuple[Array, Array], other: tuple[Array, Array]) -> float:
    return float(np.linalg.norm(pair[0] - other[0]) ** 2 + np.linalg.norm(pair[1] - other[1]) ** 2)


def _products_rounding(x: FloatPair) -> float:
    """Relative rounding of P: 16ε‖A‖‖B‖ against the smallest singular value kept."""
    size = np.linalg.norm(x.A) * np.linalg.norm(x.B) / x.s[x.shape.r - 1]
    return claim_rtol(float(size), x.shape.d)


@algebraic_claim(
    "projection-preserves-product",
    "P keeps the adapted matrix: if (X, Y) = P(A, B), then XY = AB.",
    source=POSTER,
    family=PAIRS,
    sides=("‖XY − AB‖/(‖A‖‖B‖)", "0"),
    has_exact=False,
)
def preserves_product(x: Any) -> Comparison:
    """Proof: US^{1/2}·S^{1/2}Vᵀ = USVᵀ. Measured on `balance`, which promises 16 machine epsilons; evaluating
    the two products costs up to r more.
    """
    error = max(relative_product_error(*balance(x.A, x.B, gauge=g), x.A, x.B) for g in GAUGES)
    return equal(error, 0.0, (PRODUCT_RTOL + x.shape.r) * EPS)


@algebraic_claim(
    "projection-hyperbalanced",
    "P(A, B) is hyperbalanced: XᵀX = YYᵀ, diagonal, if AB has rank r.",
    source=POSTER,
    family=PAIRS,
    sides=("(‖XᵀX − YYᵀ‖ + ‖offdiag XᵀX‖)/(‖X‖² + ‖Y‖²)", "0"),
    has_exact=False,
)
def hyperbalanced(x: Any) -> Comparison:
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
    family=SEPARATED,
    sides=("‖P(P(A, B)) − P(A, B)‖/‖P(A, B)‖", "0"),
    has_exact=False,
)
def idempotent(x: Any) -> Comparison:
    """Proof: at distinct singular values P depends on AB alone, up to signs, which follow the argument.

    Inside a cluster of equal ones the SVD is free to rotate.
    """
    once = balance(x.A, x.B)
    twice = balance(*once)
    size = float(np.linalg.norm(once[0]) ** 2 + np.linalg.norm(once[1]) ** 2)
    return equal((_distance(once, twice) / size) ** 0.5, 0.0, claim_rtol(_gap_condition(x), x.shape.d))


@algebraic_claim(
    "projection-removes-invariance",
    "P removes the invariance at distinct singular values: P(AR, R⁻¹B) = P(A, B) up to signs.",
    source=POSTER,
    family=SECOND_GAUGE,
    sides=("‖P(AR, R⁻¹B) − P(A, B)‖/‖P(A, B)‖, best signs", "0"),
    has_exact=False,
)
def removes_invariance(x: Any) -> Comparison:
    """Proof: both sides are the factors of the SVD of AB, unique up to signs for distinct singular values (and
    up to rotations inside equal ones).
    """
    X, Y = balance(x.A, x.B)
    X2, Y2 = balance(*change_gauge(x.A, x.B, x.extras["R"]))
    signs = np.sign(np.sum(X * X2, axis=0))
    size = float(np.linalg.norm(X) ** 2 + np.linalg.norm(Y) ** 2)
    condition = _gap_condition(x) * np.linalg.cond(x.extras["R"]) * np.linalg.norm(x.A) * np.linalg.norm(x.B)
    tolerance = claim_rtol(float(condition / x.s[x.shape.r - 1]), x.shape.d)
    return equal((_distance((X, Y), (X2 * signs, signs[:, None] * Y2)) / size) ** 0.5, 0.0, tolerance)


def _gap_condition(x: FloatPair) -> float:
    """Condition of the singular vectors of AB: size over the smallest gap of its singular values."""
    gaps = -np.diff(np.append(x.q**2, 0.0))
    return float(np.linalg.norm(x.A) * np.linalg.norm(x.B) / gaps.min())


@algebraic_claim(
    "projection-first-order",
    "At distinct singular values P agrees with the identity to first order on the hyperbalanced manifold, like a "
    "retraction: ‖P(x + tv) − (x + tv)‖ = O(t²) for x on it and v tangent.",
    family=MOVES,
    sides=("16·e(t/4)/e(t) at t = 2⁻⁴, e(t) = ‖P(x + tv) − (x + tv)‖", "2 (would be 4 at first order)"),
    has_exact=False,
)
def first_order(x: Any) -> Comparison:
    """Proof: P is smooth near a pair with distinct singular values and is the identity on the manifold, so
    DP(x)v = v for tangent v; e(t) is the second-order remainder.
    """
    X, Y = balance(x.A, x.B)
    v = manifold.tangent_projection(X, Y, x.extras["dA"], x.extras["dB"])
    size = float(np.linalg.norm(X) + np.linalg.norm(Y))
    scale = x.q[-1] * 0.1 / max(float(np.linalg.norm(v[0]) + np.linalg.norm(v[1])), 1e-300)

    def error(t: float) -> float:
        point = X + t * scale * v[0], Y + t * scale * v[1]
        return _distance(balance(*point), point) ** 0.5

    large, small = error(2.0**-4), error(2.0**-6)
    gaps = -np.diff(np.append(x.q**2, 0.0))
    noise = claim_rtol(float(x.q[0] ** 2 / gaps.min()), x.shape.d) * size
    if large <= 100 * noise:
        return at_most(1.0, 2.0)  # no remainder above rounding
    return at_most(16 * small / large, 2.0)


@algebraic_claim(
    "projection-nearest",
    "Is P(A, B), with the best signs, the nearest balanced pair with the same product?",
    kind="question",
    family=ROTATED,
    sides=("‖P(A, B) − (A, B)‖²", "‖(XO, OᵀY) − (A, B)‖² for some rotation O"),
    recorded="refuted",
    corrected_by="nearest-gauge-is-nearest",
)
def nearest(x: Any) -> Comparison:
    """Fails for r ≥ 2: a pair that is balanced but not hyperbalanced is moved although it need not be."""
    if isinstance(x, FloatPair):
        X, Y = balance(x.A, x.B)
        O = _rotation(x.extras["K"])
        best = np.diag(np.where(np.diag(X.T @ x.A + Y @ x.B.T) < 0, -1.0, 1.0))
        tolerance = _products_rounding(x)
        return at_most(_distance((X @ best, best @ Y), (x.A, x.B)), _distance((X @ O, O.T @ Y), (x.A, x.B)), tolerance)
    r, K, flat = x.shape.r, x.extras["K"], x.balanced()
    identity, skew = diagonal(r, r, [1] * r), K - K.transpose()
    O = (identity - skew) * (identity + skew).inv() * _signs(K)
    overlap = flat.A.transpose() * x.A + flat.B * x.B.transpose()
    return at_most(_exact_distance(flat, _signs(overlap), x), _exact_distance(flat, O, x))


def _signs(M: flint.fmpq_mat) -> flint.fmpq_mat:
    """Diagonal matrix of the signs of M's diagonal, 1 for 0."""
    r = M.nrows()
    return diagonal(r, r, [-1 if M[i, i] < 0 else 1 for i in range(r)])


def _rotation(K: Array) -> Array:
    """Cayley transform of K − Kᵀ times the signs of K's diagonal: orthogonal matrices of either determinant."""
    skew = K - K.T
    identity = np.eye(len(K))
    return np.asarray((identity - skew) @ np.linalg.inv(identity + skew) * np.where(np.diag(K) < 0, -1.0, 1.0))


def _exact_distance(flat: ExactPair, O: flint.fmpq_mat, x: ExactPair) -> flint.fmpq:
    """‖XO − A‖² + ‖OᵀY − B‖² over the rationals."""
    return 2 * exactly.half_square(flat.A * O - x.A) + 2 * exactly.half_square(O.transpose() * flat.B - x.B)


@algebraic_claim(
    "nearest-gauge-is-nearest",
    "Turned by the polar factor of XᵀA + YBᵀ, P(A, B) is the nearest balanced pair with the same product.",
    kind="correction",
    family=ROTATED,
    sides=("‖balance(A, B, gauge='nearest') − (A, B)‖²", "‖(XO, OᵀY) − (A, B)‖² for any rotation O"),
    has_exact=False,
)
def nearest_gauge(x: Any) -> Comparison:
    """Proof: balanced pairs with the product AB of rank r are (XO, OᵀY), O orthogonal: if (XT, T⁻¹Y) is balanced
    and N = TTᵀ, then NSN = S, so (S^{1/2}NS^{1/2})² = S² and N = I. Over O the distance is
    const − 2 tr Oᵀ(XᵀA + YBᵀ), an orthogonal Procrustes problem.
    """
    X, Y = balance(x.A, x.B)
    O = _rotation(x.extras["K"])
    here = _distance(balance(x.A, x.B, gauge="nearest"), (x.A, x.B))
    return at_most(here, _distance((X @ O, O.T @ Y), (x.A, x.B)), _products_rounding(x))


@algebraic_claim(
    "balanced-smallest-norm",
    "Of all pairs with the same product the balanced ones have the smallest norm: ‖A‖² + ‖B‖² ≥ 2(s₁ + … + s_r).",
    family=PAIRS,
    sides=("‖A‖² + ‖B‖²", "2(s₁ + … + s_r)"),
    tight_at=(Shape(3, 2, 1), PAIRS.parameters([2], [1], [[1]])),
)
def smallest_norm(x: Any) -> Comparison:
    """Proof (classical): ‖A‖² + ‖B‖² ≥ 2‖A‖‖B‖ ≥ 2‖AB‖_*, the nuclear norm, by Hölder for Schatten norms."""
    return at_least(sum(x.gram_A) + sum(x.gram_B), 2 * sum(x.s[: x.shape.r]), x.rounding)


@algebraic_claim(
    "projection-reachable-set",
    "Staying on the manifold loses no adapted matrix: every W of rank r is the product of a hyperbalanced pair.",
    source=POSTER,
    family=PAIRS,
    sides=("‖XY − W‖/‖W‖ + gap of (X, Y), X = US^{1/2}, Y = S^{1/2}Vᵀ", "0"),
    has_exact=False,
)
def reachable_set(x: Any) -> Comparison:
    """Proof: split the SVD W = USVᵀ evenly. For rank W < r the pair is hyperbalanced with zeros on the diagonal."""
    W = x.A @ x.B
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    root = np.sqrt(s[: x.shape.r])
    X, Y = U[:, : x.shape.r] * root, root[:, None] * Vt[: x.shape.r]
    error = np.linalg.norm(X @ Y - W) + manifold.balancing_gap(X, Y)
    size = np.linalg.norm(x.A) * np.linalg.norm(x.B) / s[0]
    return equal(float(error / s[0]), 0.0, claim_rtol(float(size), x.shape.d))


@algebraic_claim(
    "intrinsic-gd",
    "A projected GD step is a step on W = AB alone: from a hyperbalanced pair "
    "W₊ = W − γ(G(WᵀW)^{1/2} + (WWᵀ)^{1/2}G) + γ²GWᵀG with G = ∇ℓ(W).",
    family=GRADIENT,
    sides=("(A − γGBᵀ)(B − γAᵀG)", "W − γ(G(WᵀW)^{1/2} + (WWᵀ)^{1/2}G) + γ²GWᵀG"),
)
def intrinsic_gd(x: Any) -> Comparison:
    """Proof: expand the product; AAᵀ = USUᵀ = (WWᵀ)^{1/2}, BᵀB = VSVᵀ = (WᵀW)^{1/2}, BᵀAᵀ = Wᵀ, and P keeps W₊."""
    if isinstance(x, FloatPair):
        A, B = balance(x.A, x.B)
        G, step = x.extras["gradient"], float(x.extras["step"][0, 0])
        W = A @ B
        U, s, Vt = np.linalg.svd(W)
        s = np.append(s[: x.shape.r], np.zeros(max(W.shape) - x.shape.r))
        left, right = U * s[: len(U)] @ U.T, Vt.T * s[: len(Vt)] @ Vt
        expected = W - step * (G @ right + left @ G) + step**2 * G @ W.T @ G
        moved = (A - step * G @ B.T) @ (B - step * A.T @ G)
        size = (np.linalg.norm(A) + step * np.linalg.norm(G @ B.T)) ** 2
        cancelled = np.linalg.norm(x.A) * np.linalg.norm(x.B) / s[0]
        tolerance = claim_rtol(float(cancelled), x.shape.d)
        return equal(float(np.linalg.norm(moved - expected) / size), 0.0, tolerance)
    balanced = x.balanced()
    A, B = balanced.A, balanced.B
    G, step = x.extras["gradient"], x.extras["step"][0, 0]
    W = A * B
    # in the canonical frame W is diagonal, so both square roots are |W| with the missing rows or columns 0
    roots = [W[i, i] for i in range(x.shape.r)]
    root_left, root_right = (diagonal(n, n, roots) for n in (x.shape.a, x.shape.b))
    expected = W - (G * root_right + root_left * G) * step + G * W.transpose() * G * step**2
    moved = (A - G * B.transpose() * step) * (B - A.transpose() * G * step)
    return equal(exactly.half_square(moved - expected), flint.fmpq(0))


@algebraic_claim(
    "projection-literal-trains-on",
    "After the literal formula US^{1/2}, S^{1/2}Vᵀ training can go on from LoRA's start: the gradient is not 0.",
    kind="question",
    family=LoraStarts(),
    sides=("‖∇f‖² after the literal P", "0"),
    recorded="refuted",
    corrected_by="projection-trains-on",
)
def literal_trains_on(x: Any) -> Comparison:
    """Fails at every start with B = 0: AB = 0, so the formula returns (0, 0), where the gradient of every loss of AB
    vanishes for ever. A learning-rate warm-up from 0 does exactly that in the first step.
    """
    A, B, Z = x
    if isinstance(A, np.ndarray):
        U, s, Vt = np.linalg.svd(A @ B, full_matrices=False)
        r = A.shape[1]
        return more_than(_gradient_norm(U[:, :r] * np.sqrt(s[:r]), np.sqrt(s[:r])[:, None] * Vt[:r], Z), 0.0)
    if (A * B).rank() != 0:
        raise ArithmeticError("the exact literal P is implemented for AB = 0 only")
    X, Y = A * 0, B * 0
    residual = X * Y - Z
    gradients = residual * Y.transpose(), X.transpose() * residual
    return more_than(sum((2 * exactly.half_square(g) for g in gradients), flint.fmpq(0)), flint.fmpq(0))


@algebraic_claim(
    "projection-trains-on",
    "`balance` leaves a pair with AB = 0 as it is: the gradient after it equals the one before and is not 0.",
    kind="correction",
    family=LoraStarts(),
    sides=("‖∇f‖² after balance", "0"),
    has_exact=False,
)
def trains_on(x: Any) -> Comparison:
    """By construction; directions in which AB vanishes numerically are carried over (module `projection`)."""
    A, B, Z = x
    before = _gradient_norm(A, B, Z)
    after = min(_gradient_norm(*balance(A, B, gauge=g), Z) for g in GAUGES)
    return more_than(after if after == before else 0.0, 0.0)


def _gradient_norm(A: Array, B: Array, Z: Array) -> float:
    """‖∇f‖² of ½‖Z − AB‖²."""
    residual = A @ B - Z
    return float(np.linalg.norm(residual @ B.T) ** 2 + np.linalg.norm(A.T @ residual) ** 2)


CLAIMS = (
    preserves_product,
    hyperbalanced,
    idempotent,
    removes_invariance,
    first_order,
    nearest,
    nearest_gauge,
    smallest_norm,
    reachable_set,
    intrinsic_gd,
    literal_trains_on,
    trains_on,
)
