"""Claims on training with P: what the manifold can reach, what a projected step does to AB, and LoRA's start."""

import flint
import numpy as np

from lorakappa.conditioning import manifold
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.claims.projection import PAIRS
from lorakappa.conditioning.claims.vanishing import vanishes_exactly
from lorakappa.conditioning.instances import (
    ANY_PAIR,
    GRADIENT_STEP,
    CanonicalMinimizers,
    ExactPair,
    FloatPair,
    diagonal,
    hyperbalanced,
)
from lorakappa.conditioning.instances.lora_starts import ExactStart, FloatStart, LoraStarts
from lorakappa.conditioning.projection import GAUGES, balance
from lorakappa.conditioning.sources import POSTER, REVIEW
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, algebraic_claim, at_least, equal, more_than
from lorakappa.conditioning.verification import exact as exactly

STEPPED = CanonicalMinimizers("any gradient ∇ℓ(W), any step γ", ANY_PAIR, extras=GRADIENT_STEP)
GRADIENT = CanonicalMinimizers(
    "hyperbalanced, any gradient ∇ℓ(W), any step γ", ANY_PAIR, extras=GRADIENT_STEP, shown=hyperbalanced
)


@algebraic_claim(
    "projection-reachable-set",
    "The manifold leaves the set of adapted matrices that can be reached unchanged: every AB, LoRA's start AB = 0 "
    "included, is the product of a pair (US^{1/2}, S^{1/2}Vᵀ) with S > 0.",
    source=REVIEW.at("Core claim, reachable set"),
    family=LoraStarts(),
    sides=("rank of AB", "r, the rank of every such product"),
    recorded="refuted",
    corrected_by="projection-reachable-rank",
)
def reachable_set(x: FloatStart) -> Comparison:
    """Fails for every AB of rank < r: those products are USVᵀ with S > 0, of rank r. That P keeps AB wherever it is
    defined says nothing of the rest.
    """
    A, B, _ = x
    return at_least(int(np.linalg.matrix_rank(A @ B)), A.shape[1])


@reachable_set.exact
def _(x: ExactStart) -> Comparison:
    A, B, _ = x
    return at_least(int((A * B).rank()), A.ncols())


@algebraic_claim(
    "projection-reachable-rank",
    "The products of hyperbalanced pairs (US^{1/2}, S^{1/2}Vᵀ), S > 0, are exactly the W of rank r.",
    kind="correction",
    family=PAIRS,
    sides=("‖XY − W‖/‖W‖ + gap of (X, Y), X = US^{1/2}, Y = S^{1/2}Vᵀ", "0"),
)
def reachable_rank(x: FloatPair) -> Comparison:
    """Proof: split the SVD W = USVᵀ of a W of rank r evenly. Conversely XᵀX = YYᵀ = S > 0 gives XᵀWYᵀ = S², which is
    invertible. For rank W < r the pair is balanced with zeros on the diagonal, which 𝓗 excludes.
    """
    W = x.A @ x.B
    U, s, Vt = np.linalg.svd(W, full_matrices=False)
    root = np.sqrt(s[: x.shape.r])
    X, Y = U[:, : x.shape.r] * root, root[:, None] * Vt[: x.shape.r]
    error = np.linalg.norm(X @ Y - W) + manifold.balancing_gap(X, Y)
    size = np.linalg.norm(x.A) * np.linalg.norm(x.B) / s[0]
    return equal(float(error / s[0]), 0.0, claim_rtol(float(size), x.shape.d))


@reachable_rank.exact
def _(x: ExactPair) -> Comparison:
    even = x.balanced()
    gram_A, gram_B = even.A.transpose() * even.A, even.B * even.B.transpose()
    inside = (x.A * x.B).rank() == x.shape.r
    gap = 2 * exactly.half_square(even.A * even.B - x.A * x.B) + 2 * exactly.half_square(gram_A - gram_B)
    return equal(gap, flint.fmpq(0 if inside else 1))


@algebraic_claim(
    "projection-keeps-gradient-step",
    "P leaves the gradient step in AB unchanged: to first order GD from (A, B) and from P(A, B) change AB alike, by "
    "−γ(AAᵀG + GBᵀB).",
    source=REVIEW.at("Rebuttal, gradient step unchanged"),
    family=STEPPED,
    sides=("‖(AAᵀG + GBᵀB) − (XXᵀG + GYᵀY)‖², (X, Y) = P(A, B)", "0"),
    recorded="refuted",
    corrected_by="intrinsic-gd",
)
def keeps_gradient_step(x: FloatPair) -> Comparison:
    """Fails off balance: AAᵀ and BᵀB depend on the gauge. At A = (2, 0)ᵀ, B = (1/2, 0) the two off-diagonal entries of
    G count 4 and 1/4, at balance 1 and 1. What P leaves is a step of AB alone, not that one.
    """
    X, Y = balance(x.A, x.B)
    G = x.extras["gradient"]
    change = (x.A @ x.A.T - X @ X.T) @ G + G @ (x.B.T @ x.B - Y.T @ Y)
    size = float(np.linalg.norm(G) * (np.linalg.norm(x.A) ** 2 + np.linalg.norm(x.B) ** 2))
    lost = np.linalg.norm(x.A) * np.linalg.norm(x.B) / x.s[x.shape.r - 1]
    return equal(float(np.linalg.norm(change)) / (size or 1.0), 0.0, claim_rtol(float(lost), x.shape.d))


@keeps_gradient_step.exact
def _(x: ExactPair) -> Comparison:
    even, G = x.balanced(), x.extras["gradient"]
    change = (x.A * x.A.transpose() - even.A * even.A.transpose()) * G
    return vanishes_exactly(change + G * (x.B.transpose() * x.B - even.B.transpose() * even.B))


@algebraic_claim(
    "intrinsic-gd",
    "A projected GD step is a step on W = AB alone: from a hyperbalanced pair "
    "W₊ = W − γ(G(WᵀW)^{1/2} + (WWᵀ)^{1/2}G) + γ²GWᵀG with G = ∇ℓ(W).",
    source=POSTER.at("BaLoRA, intrinsic gradient descent"),
    family=GRADIENT,
    sides=("‖(A − γGBᵀ)(B − γAᵀG) − W + γ(G(WᵀW)^{1/2} + (WWᵀ)^{1/2}G) − γ²GWᵀG‖²", "0"),
)
def intrinsic_gd(x: FloatPair) -> Comparison:
    """Proof: expand the product; AAᵀ = USUᵀ = (WWᵀ)^{1/2}, BᵀB = VSVᵀ = (WᵀW)^{1/2}, BᵀAᵀ = Wᵀ, and P keeps W₊."""
    A, B = balance(x.A, x.B)
    G, step = x.extras["gradient"], float(x.extras["step"][0, 0])
    W = A @ B
    U, s, Vt = np.linalg.svd(W)
    s = np.append(s[: x.shape.r], np.zeros(max(W.shape) - x.shape.r))
    left, right = U * s[: len(U)] @ U.T, Vt.T * s[: len(Vt)] @ Vt  # (WWᵀ)^{1/2}, (WᵀW)^{1/2}
    expected = W - step * (G @ right + left @ G) + step**2 * G @ W.T @ G
    moved = (A - step * G @ B.T) @ (B - step * A.T @ G)
    size = (np.linalg.norm(A) + step * np.linalg.norm(G @ B.T)) ** 2
    cancelled = np.linalg.norm(x.A) * np.linalg.norm(x.B) / s[0]
    tolerance = claim_rtol(float(cancelled), x.shape.d)
    return equal(float(np.linalg.norm(moved - expected) / size), 0.0, tolerance)


@intrinsic_gd.exact
def _(x: ExactPair) -> Comparison:
    balanced = x.balanced()
    A, B = balanced.A, balanced.B
    G, step = x.extras["gradient"], x.extras["step"][0, 0]
    W = A * B
    # in the canonical frame W is diagonal, so both square roots are |W| with the missing rows or columns 0
    roots = [W[i, i] for i in range(x.shape.r)]
    root_left, root_right = (diagonal(n, n, roots) for n in (x.shape.a, x.shape.b))
    expected = W - (G * root_right + root_left * G) * step + G * W.transpose() * G * step**2
    moved = (A - G * B.transpose() * step) * (B - A.transpose() * G * step)
    return vanishes_exactly(moved - expected)


@algebraic_claim(
    "projection-literal-trains-on",
    "After the literal formula US^{1/2}, S^{1/2}Vᵀ training can go on from LoRA's start: the gradient is not 0.",
    source=REVIEW.at("Load-bearing premise, no artifacts"),
    family=LoraStarts(),
    sides=("‖∇f‖² after the literal P", "0"),
    recorded="refuted",
    corrected_by="projection-trains-on",
)
def literal_trains_on(x: FloatStart) -> Comparison:
    """Fails at every such start: AB = 0, so the formula returns (0, 0), where the gradient of every loss of AB
    vanishes for ever. A learning-rate warm-up from 0 does exactly that in the first step.
    """
    A, B, Z = x
    U, s, Vt = np.linalg.svd(A @ B, full_matrices=False)
    r = A.shape[1]
    return more_than(_gradient_norm(U[:, :r] * np.sqrt(s[:r]), np.sqrt(s[:r])[:, None] * Vt[:r], Z), 0.0)


@literal_trains_on.exact
def _(x: ExactStart) -> Comparison:
    A, B, Z = x
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
def trains_on(x: FloatStart) -> Comparison:
    """By construction; directions in which AB vanishes numerically are carried over (module `projection`). It is a
    promise of `balance`, which computes in floats.
    """
    A, B, Z = x
    before = _gradient_norm(A, B, Z)
    after = [_gradient_norm(*balance(A, B, gauge=g), Z) for g in GAUGES]
    return more_than(before if after == [before] * len(GAUGES) else 0.0, 0.0)


def _gradient_norm(A: Array, B: Array, Z: Array) -> float:
    """‖∇f‖² of ½‖Z − AB‖²."""
    residual = A @ B - Z
    return float(np.linalg.norm(residual @ B.T) ** 2 + np.linalg.norm(A.T @ residual) ** 2)


CLAIMS = (
    reachable_set,
    reachable_rank,
    keeps_gradient_step,
    intrinsic_gd,
    literal_trains_on,
    trains_on,
)
