"""Claims on which balanced pair is nearest to (A, B), and on balanced pairs being nearest to 0.

The balanced pairs with the product AB are (XO, OᵀY), (X, Y) = P(A, B), with O orthogonal.
"""

import flint
import numpy as np

from lorakappa.conditioning.claims.projection import PAIRS, squared_distance
from lorakappa.conditioning.instances import (
    ANY_PAIR,
    CanonicalMinimizers,
    ExactPair,
    FloatPair,
    Pair,
    diagonal,
    gaussian,
)
from lorakappa.conditioning.instances.arrays import entries, rotation, square
from lorakappa.conditioning.projection import balance
from lorakappa.conditioning.sources import REVIEW
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, at_most, equal
from lorakappa.conditioning.verification import exact as exactly

ROTATED = CanonicalMinimizers(
    "compared with balanced pairs (XO, OᵀY), O = (I − S)(I + S)⁻¹ D, S skew, D signs",
    ANY_PAIR,
    extras=(gaussian("K", lambda s: (s.r, s.r)),),
    shown=lambda x: {"O": rotation(entries(x.extras["K"]))},
)


@algebraic_claim(
    "projection-nearest",
    "Is P(A, B), with the best signs, the nearest balanced pair with the same product?",
    kind="question",
    family=ROTATED,
    sides=("‖P(A, B) − (A, B)‖²", "‖(XO, OᵀY) − (A, B)‖² for some rotation O"),
    recorded="refuted",
    corrected_by="nearest-gauge-is-nearest",
)
def nearest(x: FloatPair) -> Comparison:
    """Fails for r ≥ 2: a pair that is balanced but not hyperbalanced is moved although it need not be."""
    X, Y = balance(x.A, x.B)  # with the signs that bring it nearest
    O = rotation(x.extras["K"])
    return at_most(squared_distance((X, Y), (x.A, x.B)), squared_distance((X @ O, O.T @ Y), (x.A, x.B)), _rounding(x))


@nearest.exact
def _(x: ExactPair) -> Comparison:
    flat, O = x.balanced(), flint.fmpq_mat(rotation(entries(x.extras["K"])).tolist())
    overlap = flat.A.transpose() * x.A + flat.B * x.B.transpose()
    return at_most(_exact_distance(flat, _signs(overlap), x), _exact_distance(flat, O, x))


def _rounding(x: FloatPair) -> float:
    """Relative rounding of P: 16ε‖A‖‖B‖ against the smallest singular value kept."""
    size = np.linalg.norm(x.A) * np.linalg.norm(x.B) / x.s[x.shape.r - 1]
    return claim_rtol(float(size), x.shape.d)


def _signs(M: flint.fmpq_mat) -> flint.fmpq_mat:
    """Diagonal matrix of the signs of M's diagonal, 1 for 0."""
    r = M.nrows()
    return diagonal(r, r, [-1 if M[i, i] < 0 else 1 for i in range(r)])


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
def nearest_gauge(x: FloatPair) -> Comparison:
    """Proof: balanced pairs with the product AB of rank r are (XO, OᵀY), O orthogonal: if (XT, T⁻¹Y) is balanced
    and N = TTᵀ, then NSN = S, so (S^{1/2}NS^{1/2})² = S² and N = I. Over O the distance is
    const − 2 tr Oᵀ(XᵀA + YBᵀ), an orthogonal Procrustes problem.
    """
    X, Y = balance(x.A, x.B)
    O = rotation(x.extras["K"])
    here = squared_distance(balance(x.A, x.B, gauge="nearest"), (x.A, x.B))
    return at_most(here, squared_distance((X @ O, O.T @ Y), (x.A, x.B)), _rounding(x))


@algebraic_claim(
    "balanced-smallest-norm",
    "Of all pairs with the same product the balanced ones have the smallest norm: ‖A‖² + ‖B‖² ≥ 2(s₁ + … + s_r).",
    kind="question",
    family=PAIRS,
    sides=("‖A‖² + ‖B‖²", "2(s₁ + … + s_r)"),
    tight_at=(Shape(3, 2, 1), PAIRS.parameters([2], [1], [[1]])),
)
def smallest_norm(x: Pair) -> Comparison:
    """Proof (classical): ‖A‖² + ‖B‖² ≥ 2‖A‖‖B‖ ≥ 2‖AB‖_*, the nuclear norm, by Hölder for Schatten norms."""
    return at_least(sum(x.gram_A) + sum(x.gram_B), 2 * sum(x.s[: x.shape.r]), x.rounding)


@algebraic_claim(
    "equal-norms-are-balance",
    "The balanced manifold is where both factors have the same norm: (tA, B/t) with ‖tA‖ = ‖B/t‖ is balanced.",
    source=REVIEW.at("Minor comment 2"),
    family=PAIRS,
    sides=("‖AᵀA − BBᵀ‖²/(‖AᵀA‖² + ‖BBᵀ‖²) at (tA, B/t)", "0"),
    recorded="refuted",
    corrected_by="balanced-smallest-norm",
)
def equal_norms(x: Pair) -> Comparison:
    """Fails for r ≥ 2: at A = diag(2, 1), B = diag(1, 2) the norms agree, direction by direction they do not. What the
    norms know of balance is that their squares have the smallest sum there.
    """
    A, B = entries(x.A), entries(x.B)
    gram_A, gram_B = A.T @ A, B @ B.T
    fourth = square(B) / square(A)  # t⁴ of ‖tA‖ = ‖B/t‖
    gap = fourth * square(gram_A) - 2 * np.sum(gram_A * gram_B) + square(gram_B) / fourth
    size = fourth * square(gram_A) + square(gram_B) / fourth
    return equal(gap / size, 0, claim_rtol(1.0, x.shape.d) if x.rounding else 0.0)


CLAIMS = (
    nearest,
    nearest_gauge,
    smallest_norm,
    equal_norms,
)
