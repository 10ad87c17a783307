"""Claims on training steps as steps of W = AB alone: the metric behind projected gradient descent, and RefLoRA.

In the canonical frame W = diag(s₁, …, s_r, 0, …), so that H_W[G] = (WWᵀ)^{1/2}G + G(WᵀW)^{1/2} multiplies the entry
(i, j) of G by s_i + s_j, with s_i = 0 for i > r. Its range is the tangent space at W of the matrices of rank r.
"""

from fractions import Fraction

import numpy as np

from lorakappa.conditioning.claims.projected_training import GRADIENT, STEPPED
from lorakappa.conditioning.claims.vanishing import vanishes_for
from lorakappa.conditioning.instances import (
    ANY_PAIR,
    CanonicalMinimizers,
    ExactPair,
    FloatPair,
    Number,
    Pair,
    gaussian,
    hyperbalanced,
)
from lorakappa.conditioning.instances.arrays import Entries, entries, inverse, square
from lorakappa.conditioning.instances.pair import Matrix
from lorakappa.conditioning.projection import balance
from lorakappa.conditioning.refactoring import refactored_gradient
from lorakappa.conditioning.sources import NOTES
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, equal
from lorakappa.conditioning.verification import exact as exactly

MOVED = CanonicalMinimizers(
    "hyperbalanced, any direction (dA, dB)",
    ANY_PAIR,
    extras=(gaussian("dA", lambda s: (s.a, s.r)), gaussian("dB", lambda s: (s.r, s.b))),
    shown=hyperbalanced,
)


def even_pair(x: Pair) -> tuple[Entries, Entries]:
    """The hyperbalanced pair diag(q), diag(q) in the canonical frame."""
    (a, b, r), q = (x.shape.a, x.shape.b, x.shape.r), np.asarray(x.q)
    A, B = np.zeros((a, r), dtype=q.dtype), np.zeros((r, b), dtype=q.dtype)
    A[range(r), range(r)] = B[range(r), range(r)] = q
    return A, B


def gradient_step(A: Entries, B: Entries, G: Entries, step: Number) -> tuple[Entries, Entries]:
    """(A − γGBᵀ, B − γAᵀG)."""
    return A - step * (G @ B.T), B - step * (A.T @ G)


def _pair_sums(x: Pair) -> Entries:
    """(a, b) array of s_i + s_j, with 0 beyond r."""
    s = np.asarray(x.s)[: x.shape.r]
    return np.add.outer(*(np.concatenate([s, [0 * s[0]] * (n - x.shape.r)]) for n in (x.shape.a, x.shape.b)))


def _by_inverse(x: Pair, move: Entries) -> Entries:
    """H_W⁻¹ of a tangent direction, tangent itself."""
    sums = _pair_sums(x)
    return np.where(sums == 0, 0 * sums, move / np.where(sums == 0, sums + 1, sums))


def _condition(x: Pair) -> float:
    """What rounding in s_i + s_j grows by, in the canonical frame."""
    return exactly.to_float(x.q[0] / x.q[-1]) ** 2


def _tolerance(x: Pair) -> float:
    """Relative rounding; 0 in exact arithmetic."""
    return claim_rtol(_condition(x), x.shape.d) if x.rounding else 0.0


@algebraic_claim(
    "intrinsic-metric",
    "⟨ξ, H_W⁻¹ξ⟩, which depends on W alone, is the least motion ‖dA‖² + ‖dB‖² of a balanced pair that moves W = AB by "
    "ξ = dA·B + A·dB: a metric on the matrices of rank r, and projected GD descends along its gradient.",
    source=NOTES.at("BaLoRA as Riemannian gradient descent"),
    family=MOVED,
    sides=("‖dA‖² + ‖dB‖²", "⟨ξ, H_W⁻¹ξ⟩"),
    tight_at=(Shape(1, 1, 1), MOVED.parameters([2], [], [[1]], dA=[[3]], dB=[[3]])),
)
def intrinsic_metric(x: Pair) -> Comparison:
    """Proof: with M(dA, dB) = dA·B + A·dB at a balanced pair MMᵀ[G] = GBᵀB + AAᵀG = H_W[G], positive definite on the
    tangent space. The shortest (dA, dB) with M(dA, dB) = ξ has the squared length ⟨ξ, (MMᵀ)⁻¹ξ⟩. The gradient of ℓ in
    that metric is H_W[∇ℓ(W)], which is the first-order step of `intrinsic-gd`. For W = Wᵀ ⪰ 0, H_W[G] = WG + GW: the
    metric is twice the one of Bures and Wasserstein.
    """
    A, B = even_pair(x)
    dA, dB = entries(x.extras["dA"]), entries(x.extras["dB"])
    move = dA @ B + A @ dB
    return at_least(square(dA) + square(dB), np.sum(move * _by_inverse(x, move)), _tolerance(x))


@algebraic_claim(
    "intrinsic-retraction",
    "The projected step is one of the metric's geometry: with ξ = −γH_W[G] and K = H_W⁻¹ξ, W₊ = W + ξ + KWᵀK. So what "
    "of the gradient is normal to the matrices of rank r moves nothing, and W₊ = W + ξ + O(‖ξ‖²), as in a retraction.",
    source=NOTES.at("BaLoRA as Riemannian gradient descent"),
    family=GRADIENT,
    sides=("‖W₊ − W − ξ − KWᵀK‖²", "0"),
)
def intrinsic_retraction(x: Pair) -> Comparison:
    """Proof: `intrinsic-gd` with −K/γ in place of G, whose tangent part it is: the rest, N, has NWᵀ = 0 and WᵀN = 0,
    so GWᵀG does not see it. As a product of (a, r) and (r, b) matrices W₊ has rank r at most.
    """
    A, B = even_pair(x)
    G, step = entries(x.extras["gradient"]), x.extras["step"][0, 0]
    new_A, new_B = gradient_step(A, B, G, step)
    W, move = A @ B, -step * _pair_sums(x) * G
    K = _by_inverse(x, move)
    size = square(A) + square(B) + step**2 * (square(G @ B.T) + square(A.T @ G))
    return vanishes_for(x, new_A @ new_B - W - move - K @ W.T @ K, size, _condition(x))


@algebraic_claim(
    "intrinsic-gd-keeps-rank",
    "Does a projected GD step keep W well inside the matrices of rank r: is σ_r(W₊) at least a hundredth of s_r?",
    kind="question",
    family=GRADIENT,
    sides=("σ_r(W₊)²", "(s_r/100)²"),
    recorded="refuted",
    corrected_by="intrinsic-gd-keeps-rank-small-steps",
)
def keeps_rank(x: Pair) -> Comparison:
    """Fails: at a = b = r = 1, W₊ = (1 − γG)²W, which vanishes at γG = 1. From rank < r the formula US^{1/2}, S^{1/2}Vᵀ
    never returns (`projection-literal-trains-on`), for a direction as for all of W.
    """
    return at_least(_smallest_kept(x), (x.s[x.shape.r - 1] / 100) ** 2, _tolerance(x))


@algebraic_claim(
    "intrinsic-gd-keeps-rank-small-steps",
    "For γ‖G‖₂ ≤ 1 a projected GD step keeps σ_r(W₊) ≥ (1 − γ‖G‖₂)²s_r, so rank r for γ‖G‖₂ < 1.",
    kind="correction",
    family=GRADIENT,
    sides=("σ_r(W₊)²", "max(0, 1 − γ‖G‖₂)⁴s_r²"),
    tight_at=(Shape(1, 1, 1), GRADIENT.parameters([1], [], [[1]], gradient=[[Fraction(1, 2)]], step=[[1]])),
)
def keeps_rank_small_steps(x: Pair) -> Comparison:
    """Proof: A = US^{1/2} and B = S^{1/2}Vᵀ make A − γGBᵀ = (U − γGV)S^{1/2}, and σ_r(U − γGV) ≥ 1 − γ‖G‖₂ (Weyl);
    likewise B − γAᵀG = S^{1/2}(Vᵀ − γUᵀG). So W₊ = (U − γGV)S(Vᵀ − γUᵀG), and σ_r of a product of an (a, r), an (r, r)
    and an (r, b) matrix is at least the product of their σ_r.
    """
    G, step = x.extras["gradient"], x.extras["step"][0, 0]
    shrink = x.maximum(1 - step * x.sqrt(_largest_square(G)), x.number(0))
    return at_least(_smallest_kept(x), shrink**4 * x.s[x.shape.r - 1] ** 2, _tolerance(x))


def _smallest_kept(x: Pair) -> Number:
    """σ_r(W₊)²."""
    new_A, new_B = gradient_step(*even_pair(x), entries(x.extras["gradient"]), x.extras["step"][0, 0])
    W = new_A @ new_B
    if W.dtype != object:
        return float(np.linalg.svd(W)[1][x.shape.r - 1]) ** 2
    return exactly.eigenvalues(exactly.matrix((W.T @ W).tolist()))[x.shape.b - x.shape.r]


def _largest_square(G: Matrix) -> Number:
    """‖G‖₂²."""
    if isinstance(G, np.ndarray):
        return float(np.linalg.norm(G, 2)) ** 2
    return exactly.eigenvalues(G.transpose() * G)[-1]


@algebraic_claim(
    "reflora-equals-balora-gd",
    "RefLoRA is BaLoRA under GD: from any pair the step A − γg_A S⁻¹, B − γS g_B with S = (AᵀA)⁻¹ # (BBᵀ) leads to the "
    "product that the GD step from P(A, B) leads to.",
    kind="question",
    family=STEPPED,
    sides=("‖product of RefLoRA's step − product of the step from P(A, B)‖²", "0"),
)
def reflora_equals_balora(x: FloatPair) -> Comparison:
    """Proof: S = TTᵀ for every T with (AT, T⁻¹B) balanced, and the step from there, taken back by T⁻¹, is RefLoRA's
    (module `refactoring`). Each next pair is a gauge of the other's, so it holds at every step. Exactly: S = (GᵀG)⁻¹,
    of which S(AᵀA)S = BBᵀ is checked.
    """
    G, step = x.extras["gradient"], float(x.extras["step"][0, 0])
    scaled_A, scaled_B = refactored_gradient(x.A, x.B, G @ x.B.T, x.A.T @ G)
    new_A, new_B = x.A - step * scaled_A, x.B - step * scaled_B
    X, Y = gradient_step(*balance(x.A, x.B), G, step)
    size = (np.linalg.norm(x.A) + step * np.linalg.norm(scaled_A)) * (
        np.linalg.norm(x.B) + step * np.linalg.norm(scaled_B)
    )
    lost = float(np.linalg.cond(x.G) ** 2 * (x.q[0] / x.q[-1]) ** 2)
    return equal(float(np.linalg.norm(new_A @ new_B - X @ Y) / size), 0.0, claim_rtol(lost, x.shape.d))


@reflora_equals_balora.exact
def _(x: ExactPair) -> Comparison:
    A, B, G, step = entries(x.A), entries(x.B), entries(x.extras["gradient"]), x.extras["step"][0, 0]
    gauge = entries(x.G)
    S = inverse(gauge.T @ gauge)
    if square(S @ (A.T @ A) @ S - B @ B.T) != 0:
        raise ArithmeticError("S is not the geometric mean of (AᵀA)⁻¹ and BBᵀ")
    new_A, new_B = A - step * (G @ B.T @ inverse(S)), B - step * (S @ A.T @ G)
    X, Y = gradient_step(*even_pair(x), G, step)
    return equal(square(new_A @ new_B - X @ Y), 0)


CLAIMS = (
    intrinsic_metric,
    intrinsic_retraction,
    keeps_rank,
    keeps_rank_small_steps,
    reflora_equals_balora,
)
