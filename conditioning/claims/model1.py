"""Claims on Model 1, f(A, B) = ½‖Z − AB‖_F²: the orbit of minimizers, the spectrum, κ and its bounds.

Notation: s singular values of Z, k = min(a, b), m = min(σ_r(A)², σ_r(B)²), L and μ the largest and the
smallest non-zero eigenvalue of the Hessian at a minimizer, κ = L/μ, κ_bal its value at a balanced one.
A = U_r S^{1/2} G and B = G⁻¹ S^{1/2} V_rᵀ with the gauge G.
"""

from fractions import Fraction
from typing import Any

import flint
import numpy as np

from lorakappa.conditioning import spectra as closed_form
from lorakappa.conditioning.claims.canonical import CanonicalMinimizers, FloatPair, draw_confined_gauge, gaussian
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import (
    POSTER,
    Comparison,
    Shape,
    algebraic_claim,
    at_least,
    at_most,
    equal,
    more_than,
)
from lorakappa.conditioning.verification import exact as exactly

MINIMIZERS = CanonicalMinimizers()
INTERIOR = CanonicalMinimizers("r < min(a, b)", where=lambda shape: shape.r < shape.k)
FULL_RANK = CanonicalMinimizers("r = min(a, b)", where=lambda shape: shape.r == shape.k)
SPREADABLE = CanonicalMinimizers(
    "every shape but a = b = r = 1, where κ is always 1", where=lambda shape: shape.a + shape.b > 2
)
UNBALANCED = CanonicalMinimizers(
    "r < min(a, b), and ‖AᵀA − BBᵀ‖ ≥ 0.01·(‖A‖² + ‖B‖²)",
    where=lambda shape: shape.r < shape.k,
    gauge=draw_confined_gauge,
    min_imbalance=0.01,
)
UNBALANCED_LOW_RANK = CanonicalMinimizers(
    "r < min(a, b), r ≤ 2, and ‖AᵀA − BBᵀ‖ ≥ 0.01·(‖A‖² + ‖B‖²)",
    where=lambda shape: shape.r < shape.k and shape.r <= 2,
    gauge=draw_confined_gauge,
    min_imbalance=0.01,
)
EQUIVALENT = CanonicalMinimizers(
    "any target T in place of Z, any second gauge R",
    extras=(gaussian("T", lambda s: (s.a, s.b)), gaussian("R", lambda s: (s.r, s.r), max_condition=1e4)),
)

BALANCED_3x2_RANK_1 = (Shape(3, 2, 1), INTERIOR.parameters([2], [1], [[1]]))
BALANCED_3x3_RANK_2 = (Shape(3, 3, 2), INTERIOR.parameters([2, 1], [Fraction(1, 2)], [[1, 0], [0, 1]]))


@algebraic_claim(
    "invariance",
    "The loss depends on (A, B) only through AB: f(AR, R⁻¹B) = f(A, B) for every invertible R.",
    source=POSTER,
    family=EQUIVALENT,
    sides=("f(AR, R⁻¹B)", "f(A, B)"),
)
def invariance(x: Any) -> Comparison:
    """Proof: (AR)(R⁻¹B) = AB, and f is a function of the product alone."""
    T, R = x.extras["T"], x.extras["R"]
    if isinstance(x, FloatPair):
        moved, still = (x.A @ R) @ np.linalg.solve(R, x.B), x.A @ x.B
        size = (np.linalg.norm(T) + np.linalg.norm(x.A) * np.linalg.norm(x.B)) ** 2
        change = np.linalg.norm(T - moved) ** 2 - np.linalg.norm(T - still) ** 2
        return equal(float(change / size), 0.0, claim_rtol(float(np.linalg.cond(R)), x.shape.d))
    return equal(exactly.half_square(T - (x.A * R) * (R.inv() * x.B)), exactly.half_square(T - x.A * x.B))


@algebraic_claim(
    "minimizers-orbit",
    "The kernel of the Hessian at a minimizer is the tangent space of its GL(r) orbit: its dimension is exactly r².",
    family=MINIMIZERS,
    sides=("dim ker Hessian", "r²"),
)
def minimizers_orbit(x: Any) -> Comparison:
    """Proof: minimizers are the pairs with AB = Z_r (Eckart–Young, unique as s_r > s_{r+1}). If AB = A'B' with
    all four of rank r, then A' = AT and B' = T⁻¹B with T = A⁺A'. By the exact spectrum (claim
    `model1-exact-spectrum`) the other eigenvalues are positive: each block is congruent to
    [[S, −s_l I], [−s_l I, S]], whose eigenvalues s_i ± s_l are positive.
    """
    return equal(x.kernel_dimension, x.shape.r**2)


@algebraic_claim(
    "model1-exact-spectrum",
    "The Hessian's eigenvalues at a minimizer are: 0, r² times; σ_i(A)² + σ_j(B)²; those of "
    "[[BBᵀ, −s_l I], [−s_l I, AᵀA]] for l = r+1..k; and σ_j(B)², a−k times, or σ_i(A)², b−k times.",
    family=MINIMIZERS,
    sides=("spectrum of the Hessian", "closed form"),
)
def exact_spectrum(x: Any) -> Comparison:
    """Proof: docstring of `conditioning.spectra`. Exactly: the two characteristic polynomials are equal."""
    if isinstance(x, FloatPair):
        expected = closed_form.spectrum(x.A, x.B, x.Z, rtol=max(x.rounding, 1e-8))
        return equal(float(np.abs(x.dense_spectrum - expected).max() / expected[-1]), 0.0, x.rounding)
    r, k, (a, b) = x.shape.r, x.shape.k, (x.shape.a, x.shape.b)
    gram_A, gram_B = x.A.transpose() * x.A, x.B * x.B.transpose()
    sums = flint.fmpq_mat(r * r, r * r)  # the Kronecker sum has the eigenvalues σ_i(A)² + σ_j(B)²
    for i in range(r):
        for j in range(r):
            for l in range(r):
                sums[i * r + j, l * r + j] += gram_A[i, l]
                sums[i * r + j, i * r + l] += gram_B[j, l]
    polynomial = flint.fmpq_poly([0, 1]) ** (r * r) * sums.charpoly()
    for s_l in x.tail:
        block = flint.fmpq_mat(2 * r, 2 * r)
        for i in range(r):
            block[i, r + i] = block[r + i, i] = -s_l
            for j in range(r):
                block[i, j], block[r + i, r + j] = gram_B[i, j], gram_A[i, j]
        polynomial *= block.charpoly()
    polynomial *= gram_B.charpoly() ** (a - k) * gram_A.charpoly() ** (b - k)
    return equal(int(x.hessian.charpoly() == polynomial), 1)


@algebraic_claim(
    "model1-smoothness",
    "The largest eigenvalue of the Hessian at a minimizer is L = σ₁(A)² + σ₁(B)².",
    family=MINIMIZERS,
    sides=("L", "σ₁(A)² + σ₁(B)²"),
    tight_at=BALANCED_3x2_RANK_1,
)
def smoothness(x: Any) -> Comparison:
    """Proof: it is the largest of the sums in the exact spectrum. A block's largest eigenvalue is at most that of
    [[σ₁(B)², s_l], [s_l, σ₁(A)²]]; since s_l ≤ s₁ ≤ σ₁(A)σ₁(B) its determinant is ≥ 0, so that is at most its trace.
    """
    L = x.dense_spectrum[-1] if isinstance(x, FloatPair) else x.L
    return equal(L, x.gram_A[0] + x.gram_B[0], x.rounding)


@algebraic_claim(
    "kappa-spread",
    "κ is unbounded over the pairs with the same product, unless a = b = r = 1: Z has minimizers with κ ≥ 1000.",
    family=SPREADABLE,
    sides=("κ at G = diag(t, 1, …, 1), t = 1000", "1000"),
)
def kappa_spread(x: Any) -> Comparison:
    """Proof: for G = diag(t, 1, …, 1), t ≥ 2, L ≥ t²s₁. If r ≥ 2 or r < k, μ ≤ σ_r(A)² + σ_r(B)² and in each
    case of the exact spectrum μ ≤ s₁ + s₁/t² or less, so κ ≥ t²/(1 + t⁻²) → ∞. For r = 1 = k the sign of log t
    is chosen so that the factor whose square is μ shrinks; then κ = 1 + t⁴. Only a = b = r = 1 is excluded:
    there κ = 1 for all pairs.
    """
    r, shape = x.shape.r, x.shape
    t = Fraction(1, 1000) if r == 1 and shape.a < shape.b else Fraction(1000)
    return at_least(x.with_diagonal_gauge([t] + [1] * (r - 1)).kappa, 1000, x.rounding)


@algebraic_claim(
    "model1-lower-bound",
    "κ ≥ (σ₁(A)² + σ₁(B)²)/m at every minimizer.",
    source=POSTER,
    family=MINIMIZERS,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/m"),
    recorded="refuted",
    corrected_by="model1-lower-bound-interior",
)
def lower_bound(x: Any) -> Comparison:
    """Fails for r = min(a, b): no residual singular value is left that could push μ down to m. At
    a = b = r = 1 the only non-zero eigenvalue is A² + B², so κ = 1.
    """
    return at_least(x.kappa, x.bounds("paper")[0], x.rounding)


@algebraic_claim(
    "model1-lower-bound-interior",
    "κ ≥ (σ₁(A)² + σ₁(B)²)/m at every minimizer with r < min(a, b).",
    kind="correction",
    family=INTERIOR,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/m"),
    tight_at=(Shape(2, 2, 1), INTERIOR.parameters([1], [0], [[2]])),
)
def lower_bound_interior(x: Any) -> Comparison:
    """Proof: a block [[BBᵀ, −sI], [−sI, AᵀA]] has diagonal sub-blocks BBᵀ and AᵀA, so its smallest eigenvalue
    is at most the smaller of σ_r(B)² and σ_r(A)². Equality if rank Z = r.
    """
    return at_least(x.kappa, x.bounds("paper")[0], x.rounding)


@algebraic_claim(
    "model1-upper-bound",
    "κ ≤ (σ₁(A)² + σ₁(B)²)/(m − s_{r+1}) at every minimizer with m > s_{r+1} (s_{k+1} = 0).",
    source=POSTER,
    family=MINIMIZERS,
    sides=("κ", "(σ₁(A)² + σ₁(B)²)/(m − s_{r+1})"),
    tight_at=BALANCED_3x3_RANK_2,
)
def upper_bound(x: Any) -> Comparison:
    """Proof: the block is at least min(σ_r(B)², σ_r(A)²)·I plus the coupling, whose norm is s_{r+1} (Weyl);
    for r = k, μ ≥ m. Equality at balanced pairs, but for r = a = b. Where m ≤ s_{r+1} it says nothing.
    """
    return at_most(x.kappa, x.bounds("paper")[1], x.rounding)


@algebraic_claim(
    "model1-bounds-corrected-lower",
    "κ ≥ (σ₁(A)² + σ₁(B)²)·max(1/m, (‖Gᵀe_r‖² + ‖G⁻¹e_r‖²)/(2(s_r − s_{r+1}))) for r < k, and "
    "(σ₁(A)² + σ₁(B)²)/μ with μ from the shape for r = k.",
    kind="correction",
    family=MINIMIZERS,
    sides=("κ", "kappa_bounds(form='corrected').lower"),
    tight_at=BALANCED_3x3_RANK_2,
)
def corrected_lower(x: Any) -> Comparison:
    """Proof: test the block with (Gᵀe_r, G⁻¹e_r): the quadratic form there is 2(s_r − s_{r+1}). The rest is
    `model1-lower-bound-interior` and the exact spectrum at r = k.
    """
    return at_least(x.kappa, x.bounds("corrected")[0], x.rounding)


@algebraic_claim(
    "model1-bounds-corrected-upper",
    "κ ≤ (σ₁(A)² + σ₁(B)²)/max(λ, (s_r − s_{r+1})/max(‖G‖, ‖G⁻¹‖)²) for r < k, λ the smallest eigenvalue of "
    "[[σ_r(B)², −s_{r+1}], [−s_{r+1}, σ_r(A)²]].",
    kind="correction",
    family=MINIMIZERS,
    sides=("κ", "kappa_bounds(form='corrected').upper"),
    tight_at=BALANCED_3x3_RANK_2,
)
def corrected_upper(x: Any) -> Comparison:
    """Proof: for any u, v: u'BBᵀu + v'AᵀAv − 2s u'v ≥ σ_r(B)²‖u‖² + σ_r(A)²‖v‖² − 2s‖u‖‖v‖ ≥ λ(‖u‖² + ‖v‖²).
    The second bound is Ostrowski's theorem for diag(G⁻¹, Gᵀ)·[[S, −sI], [−sI, S]]·diag(G⁻ᵀ, G). So the bound is never
    vacuous, and as λ ≥ m − s_{r+1} never weaker than the paper's.
    """
    return at_most(x.kappa, x.bounds("corrected")[1], x.rounding)


@algebraic_claim(
    "balanced-condition-number",
    "At a balanced minimizer κ = 2s₁/(s_r − s_{r+1}) for r < k, 2s₁/s_r for r = k, a ≠ b, s₁/s_r for r = a = b.",
    family=MINIMIZERS,
    sides=("κ at a balanced minimizer", "closed form"),
)
def balanced_kappa(x: Any) -> Comparison:
    """Proof: σ_i(A)² = σ_i(B)² = s_i in the exact spectrum; a block splits into 2×2 ones with eigenvalues
    s_i ± s_l.
    """
    r, k = x.shape.r, x.shape.k
    if isinstance(x, FloatPair):
        left, _, right = np.linalg.svd(x.G)
        balanced = x.with_gauge(left @ right)  # any orthogonal gauge
        return equal(balanced.kappa, x.kappa_balanced, balanced.rounding)
    gap = x.s[r - 1] - (x.s[r] if r < k else 0)
    return equal(x.balanced().kappa, (1 if r == x.shape.a == x.shape.b else 2) * x.s[0] / gap)


@algebraic_claim(
    "balanced-optimal-model1",
    "Balanced minimizers are optimally conditioned: κ ≥ κ_bal at every minimizer.",
    source=POSTER,
    family=MINIMIZERS,
    sides=("κ", "κ_bal"),
    recorded="refuted",
    corrected_by="balanced-optimal-model1-interior",
)
def balanced_optimal(x: Any) -> Comparison:
    """Fails for r = min(a, b): without a residual singular value μ is σ_r(B)², σ_r(A)² or their sum, which an
    imbalance can raise faster than L (claim `full-rank-optimum`). LoRA has r < min(a, b), where it is true.
    """
    return at_least(x.kappa, x.kappa_balanced, x.rounding)


@algebraic_claim(
    "balanced-optimal-model1-interior",
    "For r < min(a, b), κ ≥ κ_bal = 2s₁/(s_r − s_{r+1}) at every minimizer.",
    kind="correction",
    family=INTERIOR,
    sides=("κ", "κ_bal"),
    tight_at=BALANCED_3x3_RANK_2,
)
def balanced_optimal_interior(x: Any) -> Comparison:
    """Proof: L = σ₁(A)² + σ₁(B)² ≥ 2σ₁(A)σ₁(B) ≥ 2s₁. In the block take u = Gᵀe_r, v = G⁻¹e_r: the form is
    2(s_r − s_{r+1}) while ‖u‖² + ‖v‖² ≥ 2uᵀv = 2, so μ ≤ s_r − s_{r+1}.
    """
    return at_least(x.kappa, x.kappa_balanced, x.rounding)


@algebraic_claim(
    "full-rank-optimum",
    "For r = min(a, b) the infimum of κ over the minimizers is 1: every Z has minimizers with κ ≤ 1.01.",
    kind="correction",
    family=FULL_RANK,
    sides=("κ at B = cI or A = cI, c = 4 s₁^{1/2}", "1.01"),
)
def full_rank_optimum(x: Any) -> Comparison:
    """Proof: for r = b ≤ a take B = cI, A = Z/c. Then μ ≥ c², L = c² + s₁²/c², so κ ≤ 1 + s₁²/c⁴ → 1: the loss
    becomes linear least squares in A. Likewise A = cI for r = a < b. At c = 4√s₁, s₁²/c⁴ = 1/256.
    """
    r, c = x.shape.r, 4 * x.q[0]
    diagonal = [x.q[i] / c if x.shape.b <= x.shape.a else c / x.q[i] for i in range(r)]
    limit = 1.01 if isinstance(x, FloatPair) else flint.fmpq(101, 100)
    return at_most(x.with_diagonal_gauge(diagonal).kappa, limit, x.rounding)


@algebraic_claim(
    "balanced-unique",
    "Only balanced minimizers are optimally conditioned: an unbalanced one has κ > κ_bal.",
    kind="question",
    family=UNBALANCED,
    sides=("κ", "κ_bal"),
    recorded="refuted",
    corrected_by="balanced-unique-rank-2",
)
def balanced_unique(x: Any) -> Comparison:
    """Fails for r ≥ 3: L sees only the first direction and μ only the last one, so that a mild imbalance of a
    middle direction costs nothing.
    """
    return more_than(x.kappa, x.kappa_balanced, x.rounding)


@algebraic_claim(
    "balanced-unique-rank-2",
    "For r ≤ 2 and r < min(a, b) an unbalanced minimizer has κ > κ_bal.",
    kind="correction",
    family=UNBALANCED_LOW_RANK,
    sides=("κ", "κ_bal"),
)
def balanced_unique_rank_2(x: Any) -> Comparison:
    """Proof: κ = κ_bal forces L = 2s₁ and μ = s_r − s_{r+1}. The latter makes u = Gᵀe_r and v = G⁻¹e_r equal unit
    vectors. The former gives σ₁(A)² = σ₁(B)² = s₁, so Gᵀe₁ and G⁻¹e₁ have norm ≤ 1 and inner product 1: equal
    unit vectors too. For r ≤ 2 this says Gᵀ = G⁻¹, so AᵀA = GᵀSG = BBᵀ.
    """
    return more_than(x.kappa, x.kappa_balanced, x.rounding)


@algebraic_claim(
    "balanced-smallest-trace",
    "Is the trace of the Hessian, too, smallest at balance?",
    kind="question",
    family=MINIMIZERS,
    sides=("tr H", "tr H at balance"),
    recorded="refuted",
    corrected_by="smallest-trace",
)
def balanced_smallest_trace(x: Any) -> Comparison:
    """Fails for a ≠ b: A counts b times and B counts a times."""
    return at_least(x.trace, (x.shape.a + x.shape.b) * sum(x.s[: x.shape.r]), x.rounding)


@algebraic_claim(
    "smallest-trace",
    "tr H = b‖A‖² + a‖B‖² ≥ 2(ab)^{1/2}(s₁ + … + s_r).",
    kind="correction",
    family=MINIMIZERS,
    sides=("tr H", "2(ab)^{1/2}(s₁ + … + s_r)"),
    tight_at=BALANCED_3x3_RANK_2,
)
def smallest_trace(x: Any) -> Comparison:
    """Proof: the cross block has no diagonal, so tr H = tr MᵀM = b‖A‖² + a‖B‖² ≥ 2(ab)^{1/2}‖A‖‖B‖, and
    ‖A‖‖B‖ ≥ ‖AB‖_*, the nuclear norm (Hölder). Equality where AᵀA = (a/b)BBᵀ, which is balance only if a = b.
    """
    dimension = x.shape.a * x.shape.b
    root = x.sqrt(dimension if isinstance(x, FloatPair) else flint.fmpq(dimension))
    return at_least(x.trace, 2 * root * sum(x.s[: x.shape.r]), x.rounding)


@algebraic_claim(
    "imbalanced-condition-number",
    "For r < k and AᵀA = ρBBᵀ, κ = 2s₁τ/(s_rτ − (s_r²(τ² − 4) + 4s_{r+1}²)^{1/2}) with τ = ρ^{1/2} + ρ^{-1/2}.",
    family=INTERIOR,
    sides=("κ at G = G₁₁·I", "closed form"),
)
def imbalanced_kappa(x: Any) -> Comparison:
    """Proof: G = tI, ρ = t⁴, splits the block into [[s_i/t², −s_{r+1}], [−s_{r+1}, t²s_i]], which increase with
    s_i; the smallest eigenvalue is the one of i = r, and L = s₁τ.
    """
    r, t = x.shape.r, abs(x.G[0, 0])
    if t == 0:
        t = 1
    pair = x.with_diagonal_gauge([t] * r)
    if isinstance(x, FloatPair):
        shape = (x.shape.a, x.shape.b)
        expected = closed_form.imbalanced_condition_number(x.s, r, t**4, shape)
        return equal(pair.kappa, expected, pair.rounding)
    tau, (s_r, s_next) = t**2 + 1 / t**2, (x.s[r - 1], x.s[r])
    root = x.sqrt(s_r**2 * (tau**2 - 4) + 4 * s_next**2)
    return equal(pair.kappa, 2 * x.s[0] * tau / (s_r * tau - root))


CLAIMS = (
    invariance,
    minimizers_orbit,
    kappa_spread,
    exact_spectrum,
    smoothness,
    lower_bound,
    lower_bound_interior,
    upper_bound,
    corrected_lower,
    corrected_upper,
    balanced_kappa,
    balanced_optimal,
    balanced_optimal_interior,
    full_rank_optimum,
    balanced_unique,
    balanced_unique_rank_2,
    balanced_smallest_trace,
    smallest_trace,
    imbalanced_kappa,
)
