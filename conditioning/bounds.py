"""Bounds on κ: as the BaLoRA poster states them, and as they hold.

Write L = σ₁(A)² + σ₁(B)², m = min(σ_r(A)², σ_r(B)²), s = singular values of Z, k = min(a, b), and
G for the gauge of the minimizer (A = U_r S^{1/2} G, B = G⁻¹ S^{1/2} V_rᵀ).
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.analysis import Analysis, PerProblem, per_minimizer
from lorakappa.conditioning.checks import as_matrix, as_pair, check_rank
from lorakappa.conditioning.minimizers import Minimizer
from lorakappa.conditioning.recognition import Recognized
from lorakappa.conditioning.scaling import (
    Wide,
    hypotenuse,
    larger,
    nearest,
    quotient_or_infinity,
    shifted,
    smaller,
    squared,
    unit,
    wide_norm,
)
from lorakappa.conditioning.tolerances import MINIMIZER_RTOL, gap_rtol


class KappaBounds(NamedTuple):
    """lower ≤ κ ≤ upper; an upper bound that says nothing, or more than float64 can, is inf. Arrays for a stack."""

    lower: PerProblem
    upper: PerProblem


def kappa_bounds(
    A: ArrayLike,
    B: ArrayLike,
    Z: ArrayLike | None = None,
    *,
    form: Literal["paper", "corrected"] = "paper",
    singular_values: ArrayLike | None = None,
    rtol: float = MINIMIZER_RTOL,
) -> KappaBounds:
    """Bounds on κ of ½‖Z − AB‖_F² at a minimizer.

    "paper" (BaLoRA poster, Model 1): L/m ≤ κ ≤ L/(m − s_{r+1}). The lower bound is false for
    r = min(a, b) (claim `model1-lower-bound-full-rank`). Where m ≤ s_{r+1}, which is the rule rather than
    the exception far from balance, the upper one is negative and false (claim `model1-upper-bound`): inf.

    "corrected" (derived here; claims `model1-bounds-corrected-lower` and `…-upper`). For r < k:

    - lower: the larger of L/m and L(‖Gᵀe‖² + ‖G⁻¹e‖²) / (2(s_r − s_{r+1})) with e = e_r, by the test vector (Gᵀe, G⁻¹e)
      in the block whose smallest eigenvalue is μ. If s_r is a multiple singular value, any unit vector e of its
      eigenspace gives the same quadratic form, 2(eᵀSe − s_{r+1}), and the largest of these bounds is taken, an
      eigenvalue of GGᵀ + G⁻ᵀG⁻¹ restricted to that space, which does not depend on the basis that an SVD happens to
      choose there. Singular values count as equal if they differ by no more than `gap_rtol` or, relatively
      to the gap s_r − s_{r+1}, √EPS; then s_r above is the largest of them, which eᵀSe does not exceed;
    - upper: the smaller of L/λ and L·max(‖G‖₂, ‖G⁻¹‖₂)² / (s_r − s_{r+1}). Here λ is the smallest
      eigenvalue of [[σ_r(B)², −s_{r+1}], [−s_{r+1}, σ_r(A)²]] where positive (λ ≥ m − s_{r+1}, so it is never
      weaker than the paper's), and the second is Ostrowski's theorem for the congruence
      diag(G⁻¹, Gᵀ)·[[S, −s_{r+1}I], [−s_{r+1}I, S]]·diag(G⁻ᵀ, G), which is never vacuous.

    For r = k there is no residual block and both bounds equal κ: L/(σ_r(A)² + σ_r(B)²) if a = b,
    L/σ_r(B)² if a > b, L/σ_r(A)² if a < b.

    Args:
        A: (…, a, r) factor. Leading dimensions of all arguments are broadcast.
        B: (…, r, b) factor.
        Z: (…, a, b) target; leave it out to pass `singular_values`.
        form: which pair of bounds.
        singular_values: as for `condition_number`.
        rtol: accepted distance ‖AB − Z_r‖_F relative to ‖Z_r‖_F.

    Returns:
        (lower, upper), floats or arrays (…); inf for a bound that says nothing, or that float64 does not hold while it
        holds κ.

    Raises:
        NotAMinimizerError: if (A, B) is not a minimizer.
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        OutOfRangeError: if κ does not fit into float64; A, B and Z may be of any size.
        ValueError: on bad shapes, ranks, an unknown form or non-finite entries. In a stack every error names the
            problem's place.
    """
    if form not in ("paper", "corrected"):
        raise ValueError(f'form must be "paper" or "corrected", not {form!r}')
    found = per_minimizer(lambda x: bounds_at(x, form), 2, A, B, Z, singular_values=singular_values, rtol=rtol)
    return KappaBounds(*found)


def bounds_at(x: Analysis, form: Literal["paper", "corrected"]) -> KappaBounds:
    """The bounds of `kappa_bounds` for a minimizer that has been analysed, or for a stack of them."""
    bounds = _paper(x) if form == "paper" else _corrected(x)
    if isinstance(x, Minimizer) and np.inf in bounds:
        _ = x.kappa  # inf stands for a bound that says nothing or that float64 does not hold, but never for κ
    return bounds


def _paper(x: Analysis) -> KappaBounds:
    m = squared(smaller(x.sigma("A", -1), x.sigma("B", -1)))
    margin = m - x.singular_value(x.r) if x.r < x.k else m
    return KappaBounds(nearest(x.largest / m), quotient_or_infinity(x.largest, margin))


def _corrected(x: Analysis) -> KappaBounds:
    if x.r == x.k:
        return KappaBounds(x.kappa, x.kappa)
    s_next = x.singular_value(x.r)
    sigma_A, sigma_B = x.sigma("A", -1), x.sigma("B", -1)
    alpha, beta = squared(sigma_A), squared(sigma_B)
    test_vector, s_top, gauge = _gauge(x)
    gap = s_top - s_next
    lower = x.largest * larger(1.0 / smaller(alpha, beta), test_vector / (gap + gap))

    # λ_min of the 2×2 matrix as det / λ_max, which does not cancel
    doubled = alpha + beta + hypotenuse(alpha - beta, s_next + s_next)  # 2·λ_max
    pencil = (sigma_A * sigma_B - s_next) * (sigma_A * sigma_B + s_next) / doubled
    ostrowski = (x.singular_value(x.r - 1) - s_next) / gauge
    return KappaBounds(nearest(lower), nearest(x.largest / larger(pencil + pencil, ostrowski)))


def _gauge(x: Analysis) -> tuple[Any, Any, Any]:
    """What the corrected bounds need of G.

    Returns:
        The largest ‖Gᵀe‖² + ‖G⁻¹e‖² of unit vectors e in the eigenspace of s_r, the largest singular value that counts
        as equal to s_r, and max(‖G‖₂, ‖G⁻¹‖₂)².
    """
    s, s_r = x.s[..., : x.r], x.s[..., x.r - 1 : x.r]
    s_next = np.expand_dims(x.tail, -1) if isinstance(x, Recognized) else x.s[x.r]
    tied = s - s_r <= np.maximum(gap_rtol(x.k) * s[..., :1], MINIMIZER_RTOL * (s_r - s_next))
    if isinstance(x, Recognized):
        root = np.sqrt(s)[..., None]
        X, Y = x.UtA / root, x.VtBt / root  # G and G⁻ᵀ
        squares_G, squares_inverse = x.on.dot(X, X.mT), x.on.dot(Y, Y.mT)
        of_tied = (squares_G + squares_inverse) * (tied[..., None] & tied[..., None, :])
        norms = x.on.largest_eigenvalue(squares_G), x.on.largest_eigenvalue(squares_inverse)
        return x.on.largest_eigenvalue(of_tied), np.where(tied, s, 0.0).max(axis=-1), larger(*norms)
    root, first = np.sqrt(s), int(np.argmax(tied))
    Gt, G_inv = x.AtU / root, x.BV / root  # in units of 2^{(p−q)/2} and 2^{(q−p)/2}
    half = (x.p - x.q) // 2
    if first == x.r - 1:
        test_vector = wide_norm(Gt[:, -1], half).squared() + wide_norm(G_inv[:, -1], -half).squared()
    else:
        top = abs(half)
        both = np.vstack([shifted(Gt[:, first:], half - top), shifted(G_inv[:, first:], -half - top)])
        test_vector = wide_norm(both, top, 2).squared()
    gauge = max(wide_norm(Gt, half, 2), wide_norm(G_inv, -half, 2)).squared()
    return test_vector, x.singular_value(first), gauge


def model2_kappa_bound(
    A: ArrayLike, B: ArrayLike, J: ArrayLike, *, form: Literal["paper", "corrected", "tangent"] = "paper"
) -> float:
    """Upper bound on κ of Model 2's Hessian MᵀJᵀJM at an interpolating pair.

    "paper" (BaLoRA poster, Model 2): κ(JᵀJ)^{1/2}·L/m. False as stated (claim `model2-upper-bound`).

    "corrected": κ(JᵀJ)·L/m for an injective J, because σ_max(JM) ≤ σ_max(J)σ_max(M), σ_min(JM) ≥ σ_min(J)σ_min(M) on
    the complement of the kernel of M, and σ²(M) lies between m and L there. Attained.

    "tangent": κ of JᵀJ restricted to the range of M, the tangent space {U_r X + Y V_rᵀ} of the rank-r
    matrices, times L/m. Never larger, and finite for any J that is injective on that space.

    Args:
        A: (a, r) factor of full column rank.
        B: (r, b) factor of full row rank.
        J: (n, ab) Jacobian of h at AB, row-major.
        form: which bound.

    Returns:
        The bound; inf where J has a kernel (on the tangent space for "tangent"), or where float64 ends.

    Raises:
        ValueError: on bad shapes, rank-deficient factors, an unknown form or non-finite entries.
    """
    (left, p), (right, q) = (unit(M) for M in as_pair(A, B))
    outer, _ = unit(as_matrix("J", J))
    (a, r), b = left.shape, right.shape[1]
    if outer.shape[1] != a * b:
        raise ValueError(f"J has {outer.shape[1]} columns, but AB has {a * b} entries")
    sigma_A, sigma_B = np.linalg.svd(left, compute_uv=False), np.linalg.svd(right, compute_uv=False)
    for name, sigma in (("A", sigma_A), ("B", sigma_B)):
        if len(sigma) < r or sigma[-1] <= gap_rtol(r) * sigma[0]:
            raise ValueError(f"{name} has rank < r = {r}: the bound needs full-rank factors")
    (top_A, low_A), (top_B, low_B) = ([Wide.of(s[i], e) for i in (0, -1)] for s, e in ((sigma_A, p), (sigma_B, q)))
    factor_ratio = (top_A.squared() + top_B.squared()) / min(low_A, low_B).squared()
    if form == "tangent":
        return (Wide.of(_gram_condition(outer @ tangent_basis(left, right))) * factor_ratio).nearest
    if form in ("paper", "corrected"):
        return (Wide.of(_gram_condition(outer) ** (0.5 if form == "paper" else 1.0)) * factor_ratio).nearest
    raise ValueError(f'form must be "paper", "corrected" or "tangent", not {form!r}')


def tangent_basis(A: ArrayLike, B: ArrayLike) -> np.ndarray:
    """Orthonormal basis of {dA·B + A·dB}, the tangent space at AB of the matrices of rank r.

    Args:
        A: (a, r) factor of full column rank.
        B: (r, b) factor of full row rank.

    Returns:
        (ab, r(a + b − r)) float64 matrix with orthonormal columns, row-major vec.

    Raises:
        ValueError: on bad shapes or non-finite entries.
    """
    (left, _), (right, _) = (unit(M) for M in as_pair(A, B))
    r = left.shape[1]
    check_rank(r, left.shape[0], right.shape[1])
    U, V = np.linalg.qr(left, mode="complete")[0], np.linalg.qr(right.T, mode="complete")[0]
    on_columns = np.kron(U[:, :r], V)  # u_i v_jᵀ with i ≤ r, all j
    on_rows = np.kron(U[:, r:], V[:, :r])
    return np.hstack([on_columns, on_rows])


def _gram_condition(K: np.ndarray) -> float:
    """κ(KᵀK), inf if K has a kernel."""
    sigma = np.linalg.svd(K, compute_uv=False)
    if len(sigma) < K.shape[1] or sigma[-1] <= gap_rtol(K.shape[1]) * sigma[0]:
        return np.inf
    return float((sigma[0] / sigma[-1]) ** 2)
