"""Claims on the gauge that second moments of gradients ask for (`conditioning.fisher_gauge`).

Two gradients of a loss by W = AB stand for its distribution: H_A = Σ g_Aᵀg_A and H_B = Σ g_B g_Bᵀ with g_A = GBᵀ and
g_B = AᵀG. In the canonical frame the balanced pair is diag(q), diag(q), and the pair at hand another gauge of it. With
f = tr H_A + tr H_B and g = ‖A‖² + ‖B‖² at the balanced pair, M_A = g·H_A + δf·BBᵀ and M_B = g·H_B + δf·AᵀA are the
damped moments, times f·g.
"""

from collections.abc import Sequence

import flint
import numpy as np

from lorakappa.conditioning.claims.intrinsic_steps import even_pair
from lorakappa.conditioning.instances import ANY_PAIR, CanonicalMinimizers, Extra, Number, Pair, gaussian
from lorakappa.conditioning.instances.arrays import Entries, entries, inverse, square
from lorakappa.conditioning.projection import balance
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, equal
from lorakappa.conditioning.verification import exact as exactly

DAMPED = CanonicalMinimizers(
    "two gradients ∇ℓ(W), δ > 0",
    ANY_PAIR,
    largest=3,
    extras=(
        gaussian("first", lambda s: (s.a, s.b)),
        gaussian("second", lambda s: (s.a, s.b)),
        Extra("damping", lambda s: (1, 1), lambda s, rng: 10.0 ** rng.uniform(-2, 1, (1, 1)), lambda d: d[0, 0] > 0),
    ),
)
ONE = {"first": [[1]], "second": [[1]], "damping": [[1]]}


def _pair(x: Pair) -> tuple[Entries, Entries]:
    """(A, B) in the canonical frame, in either arithmetic."""
    X, Y = even_pair(x)
    gauge = entries(x.G)
    return X @ gauge, inverse(gauge) @ Y


def _gradients(x: Pair, A: Entries, B: Entries) -> tuple[list[Entries], list[Entries]]:
    """g_A and g_B of both gradients."""
    both = [entries(x.extras[name]) for name in ("first", "second")]
    return [G @ B.T for G in both], [A.T @ G for G in both]


def _moments(x: Pair, A: Entries, B: Entries) -> tuple[Entries, Entries]:
    """(H_A, H_B)."""
    by_A, by_B = _gradients(x, A, B)
    return sum(g.T @ g for g in by_A), sum(g @ g.T for g in by_B)


def _sums(x: Pair, A: Entries, B: Entries) -> tuple[Number, Number]:
    """Σ‖g_A‖² + Σ‖g_B‖² and ‖A‖² + ‖B‖²."""
    by_A, by_B = _gradients(x, A, B)
    return sum(map(square, by_A + by_B)), square(A) + square(B)


def _damped(x: Pair, A: Entries, B: Entries) -> tuple[Entries, Entries]:
    """(M_A, M_B), with f and g from the pair's own balance."""
    f, g = _sums(x, *(balance(A, B) if x.rounding else even_pair(x)))
    H_A, H_B = _moments(x, A, B)
    pull = x.extras["damping"][0, 0] * f
    return g * H_A + pull * (B @ B.T), g * H_B + pull * (A.T @ A)


def _twice_nuclear(roots_A: Sequence[tuple[Number, Entries]], roots_B: Sequence[tuple[Number, Entries]]) -> Number:
    """2‖M_A^{1/2}M_B^{1/2}‖_* of M_A = Σ wRᵀR and M_B = Σ wRRᵀ, given as pairs (w, R)."""
    if roots_A[0][1].dtype != object:
        left = np.concatenate([w**0.5 * R for w, R in roots_A])
        right = np.concatenate([w**0.5 * R for w, R in roots_B], axis=1)
        return 2 * float(np.linalg.svd(left @ right, compute_uv=False).sum())
    M_A, M_B = sum(w * (R.T @ R) for w, R in roots_A), sum(w * (R @ R.T) for w, R in roots_B)
    squares = exactly.eigenvalues(exactly.matrix((M_A @ M_B).tolist()))
    return 2 * sum((exactly.sqrt(value) for value in squares), flint.fmpq(0))


def _tolerance(x: Pair) -> float:
    """Relative rounding; 0 in exact arithmetic."""
    if not x.rounding:
        return 0.0
    return claim_rtol(float(np.linalg.cond(np.asarray(x.G, dtype=float)) ** 2 * (x.q[0] / x.q[-1]) ** 2), x.shape.d)


def _difference(x: Pair, found: tuple[Entries, Entries], expected: tuple[Entries, Entries]) -> Comparison:
    """The statement that two pairs of moments are equal."""
    off = sum(square(one - other) for one, other in zip(found, expected, strict=True))
    if not x.rounding:
        return equal(off, flint.fmpq(0))
    return equal(float(off / (sum(map(square, expected)) or 1.0)) ** 0.5, 0.0, _tolerance(x))


def _transported(x: Pair, M_A: Entries, M_B: Entries) -> tuple[Entries, Entries]:
    """Moments at the balanced pair, carried to the pair at hand."""
    gauge = entries(x.G)
    return inverse(gauge) @ M_A @ inverse(gauge).T, gauge.T @ M_B @ gauge


@algebraic_claim(
    "fisher-moments-transport",
    "Second moments of gradients, damped towards balance, are carried along by every change of gauge: at (AT, T⁻¹B) "
    "they are T⁻¹M_A T⁻ᵀ and TᵀM_B T. So the gauge that makes them equal does not depend on the pair's, and doing it "
    "again changes nothing.",
    kind="question",
    family=DAMPED,
    sides=("squared distance of the moments found in two ways", "0"),
)
def moments_transport(x: Pair) -> Comparison:
    """Proof: g_A = GBᵀ becomes g_A T⁻ᵀ and g_B = AᵀG becomes Tᵀg_B; BBᵀ and AᵀA change alike; f and g are those of the
    balanced pair, which is the same up to a rotation. At M_A = M_B the mean M_B⁻¹ # M_A is I.
    """
    return _difference(x, _damped(x, *_pair(x)), _transported(x, *_damped(x, *even_pair(x))))


@algebraic_claim(
    "fisher-moments-transport-identity",
    "Damped by a multiple of the identity, are second moments of gradients carried along by every change of gauge?",
    kind="question",
    family=DAMPED,
    sides=("squared distance of the moments found in two ways", "0"),
    recorded="refuted",
    corrected_by="fisher-moments-transport",
)
def identity_transport(x: Pair) -> Comparison:
    """Fails: δI would have to become δT⁻¹T⁻ᵀ. Where such a gauge is taken again and again, the damping fades: the pair
    stays only where H_A + δI = H_B + δI, that is, where H_A = H_B.
    """
    pull = x.extras["damping"][0, 0] * np.eye(x.shape.r, dtype=int)

    def damped(A: Entries, B: Entries) -> tuple[Entries, Entries]:
        H_A, H_B = _moments(x, A, B)
        return H_A + pull, H_B + pull

    return _difference(x, damped(*_pair(x)), _transported(x, *damped(*even_pair(x))))


@algebraic_claim(
    "fisher-smallest-trace",
    "How small can a gauge make the mean square of the gradients? Σ‖g_A‖² + Σ‖g_B‖² ≥ 2‖H_A^{1/2}H_B^{1/2}‖_*, H_A and "
    "H_B taken in any gauge.",
    kind="question",
    family=DAMPED,
    sides=("Σ‖g_A‖² + Σ‖g_B‖²", "2‖H_A^{1/2}H_B^{1/2}‖_* at the balanced pair"),
    tight_at=(Shape(1, 1, 1), DAMPED.parameters([1], [], [[1]], **ONE)),
)
def smallest_trace(x: Pair) -> Comparison:
    """Proof: that of `trace-optimal-gauge`, with Σ ggᵀ, the empirical Fisher matrix, in place of the Hessian; equality
    at N = H_B⁻¹ # H_A where both are invertible.
    """
    by_A, by_B = _gradients(x, *even_pair(x))
    one = x.number(1)
    smallest = _twice_nuclear([(one, g) for g in by_A], [(one, g) for g in by_B])
    return at_least(_sums(x, *_pair(x))[0], smallest, _tolerance(x))


@algebraic_claim(
    "fisher-damped-optimum",
    "How small can a gauge make (Σ‖g_A‖² + Σ‖g_B‖²)/f + δ(‖A‖² + ‖B‖²)/g? Not below 2‖M_A^{1/2}M_B^{1/2}‖_*/(fg), the "
    "damped moments M_A and M_B taken in any gauge.",
    kind="question",
    family=DAMPED,
    sides=("(Σ‖g_A‖² + Σ‖g_B‖²)g + δf(‖A‖² + ‖B‖²)", "2‖M_A^{1/2}M_B^{1/2}‖_* at the balanced pair"),
    tight_at=(Shape(1, 1, 1), DAMPED.parameters([1], [], [[1]], **ONE)),
)
def damped_optimum(x: Pair) -> Comparison:
    """Proof: ‖AT‖² = tr N AᵀA and ‖T⁻¹B‖² = tr N⁻¹BBᵀ, so the left side is tr N⁻¹M_A + tr N M_B, and
    `trace-optimal-gauge` holds for any two matrices. It is (1 + δ)fg at balance: so at its smallest ‖A‖² + ‖B‖² is at
    most (1 + 1/δ)g, and the mean square of the gradients at most f, since balance has the smallest ‖A‖² + ‖B‖²
    (`balanced-smallest-norm`).
    """
    X, Y = even_pair(x)
    f, g = _sums(x, X, Y)
    pull = x.extras["damping"][0, 0] * f
    by_A, by_B = _gradients(x, X, Y)
    smallest = _twice_nuclear([*((g, G) for G in by_A), (pull, Y.T)], [*((g, G) for G in by_B), (pull, X.T)])
    gradients, squares = _sums(x, *_pair(x))
    return at_least(gradients * g + pull * squares, smallest, _tolerance(x))


CLAIMS = (moments_transport, identity_transport, smallest_trace, damped_optimum)
