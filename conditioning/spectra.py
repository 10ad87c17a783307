"""The exact spectrum of Model 1's Hessian at a global minimizer, its condition number κ = L/μ, and κ of Model 2.

The closed forms are derived in `minimizers`.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.analysis import PerProblem, checked_problems, per_minimizer
from lorakappa.conditioning.checks import Array, as_matrix, as_number, as_pair, check_rank
from lorakappa.conditioning.factors import jacobian, leading_singular_values
from lorakappa.conditioning.minimizers import Minimizer as Minimizer
from lorakappa.conditioning.minimizers import analyse_minimizer as analyse_minimizer
from lorakappa.conditioning.scaling import Wide, WideArray, unit, unit_pair
from lorakappa.conditioning.stacks import flattened, one_by_one
from lorakappa.conditioning.tolerances import MINIMIZER_RTOL, gap_rtol


class ExtremeEigenvalues(NamedTuple):
    """The smallest non-zero and the largest eigenvalue of a Hessian; arrays for a stack."""

    mu: PerProblem
    L: PerProblem


def spectrum(A: ArrayLike, B: ArrayLike, Z: ArrayLike, *, rtol: float = MINIMIZER_RTOL) -> Array:
    """All eigenvalues of the Hessian of ½‖Z − AB‖_F² at a minimizer, in closed form.

    Args:
        A: (…, a, r) factor.
        B: (…, r, b) factor.
        Z: (…, a, b) target. Leading dimensions are broadcast; each problem of a stack has its own SVD.
        rtol: accepted distance ‖AB − Z_r‖_F relative to ‖Z_r‖_F.

    Returns:
        (…, d) float64, ascending, with multiplicity; the first r² are exactly 0. Those below EPS·L and above μ/EPS, if
        there are any, have the digits that scaling rows and columns can save (`lapack.graded_singular_values`): all
        for a gauge that is badly conditioned by its scales alone. Source: `minimizers`.

    Raises:
        NotAMinimizerError: if (A, B) is not a minimizer.
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        OutOfRangeError: if an eigenvalue other than these does not fit into float64.
        ValueError: on bad shapes, ranks or non-finite entries. In a stack every error names the problem's place.
    """
    if Z is None:
        raise TypeError("spectrum needs the target Z; its largest singular values do not determine the spectrum")
    left, right, target, _, lead = checked_problems(A, B, Z, None, rtol)
    if lead is None:
        return _spectrum(left, right, target, rtol)
    stacks = (flattened(M, lead, 2) for M in (left, right, target))
    found = one_by_one(partial(_spectrum, rtol=rtol), range(math.prod(lead)), lead, *stacks)
    d = left.shape[-1] * (left.shape[-2] + right.shape[-1])
    return np.reshape(np.asarray(found, dtype=np.float64), (*lead, d))


def _spectrum(A: Array, B: Array, Z: Array | None, rtol: float) -> Array:
    """`spectrum` of one problem."""
    pair = analyse_minimizer(A, B, Z, rtol=rtol)
    a, b, k, r = pair.a, pair.b, pair.k, pair.r
    alpha, beta = WideArray.of(pair.sigma_A, pair.p).squared(), WideArray.of(pair.sigma_B, pair.q).squared()
    eigenvalues = alpha.plus_each(beta).joined(pair.residual_block(pair.s[r:]))
    eigenvalues = eigenvalues.joined(beta.repeated(a - k)).joined(alpha.repeated(b - k))
    return np.sort(np.append(np.zeros(r * r), eigenvalues.fit("an eigenvalue of the Hessian")))


def extreme_eigenvalues(
    A: ArrayLike,
    B: ArrayLike,
    Z: ArrayLike | None = None,
    *,
    singular_values: ArrayLike | None = None,
    rtol: float = MINIMIZER_RTOL,
) -> ExtremeEigenvalues:
    """The smallest non-zero eigenvalue μ and the largest L of the Hessian at a minimizer, in closed form.

    Arguments, stacks, errors and cost are those of `condition_number`; μ and L must fit into float64, rather than κ.
    """
    mu, L = per_minimizer(lambda x: (x.mu, x.L), 2, A, B, Z, singular_values=singular_values, rtol=rtol)
    return ExtremeEigenvalues(mu=mu, L=L)


def condition_number(
    A: ArrayLike,
    B: ArrayLike,
    Z: ArrayLike | None = None,
    *,
    singular_values: ArrayLike | None = None,
    rtol: float = MINIMIZER_RTOL,
) -> PerProblem:
    """κ = L/μ of the Hessian of ½‖Z − AB‖_F² at a minimizer; μ is the smallest eigenvalue past the r² zeros.

    Args:
        A: (…, a, r) factor. Leading dimensions of all arguments are broadcast, as NumPy does it.
        B: (…, r, b) factor.
        Z: (…, a, b) target; the largest singular value of Z − AB dominates the cost, O(ab·min(a, b)), less than half
            of an SVD of Z. That is taken only where `recognition` leaves the pair to `minimizers`. Leave Z out to pass
            `singular_values`.
        singular_values: (…, n) descending singular values of Z, at least min(r + 1, k); then the cost is
            O((a + b)r² + r³), and only σ(AB) is checked, not the singular subspaces.
        rtol: accepted distance ‖AB − Z_r‖_F relative to ‖Z_r‖_F.

    Returns:
        κ ≥ 1, a float, or a float64 array (…) for a stack. Source: `minimizers`.

    Raises:
        NotAMinimizerError: if (A, B) is not a minimizer.
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        OutOfRangeError: if κ does not fit into float64; A, B, Z, L and μ may be of any size.
        ValueError: on bad shapes, ranks, singular values or non-finite entries. In a stack every error names the
            problem's place.
    """
    return per_minimizer(lambda x: (x.kappa,), 1, A, B, Z, singular_values=singular_values, rtol=rtol)[0]


def balanced_condition_number(singular_values: ArrayLike, r: int, shape: tuple[int, int] | None = None) -> float:
    """κ at a balanced minimizer, from the singular values of Z alone.

    Balanced factors have σ_i(A)² = σ_i(B)² = s_i, so the closed forms give 2s₁/(s_r − s_{r+1}) for
    r < min(a, b), 2s₁/s_r for r = min(a, b), a ≠ b, and s₁/s_r for r = a = b.

    Args:
        singular_values: (n,) descending singular values of Z; n ≥ min(r + 1, k).
        r: rank.
        shape: (a, b) of Z; None means a square Z with n = a = b.

    Returns:
        κ of every balanced minimizer.

    Raises:
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        ValueError: on a bad rank, shape or list of singular values.
    """
    s, (a, b), _ = leading_singular_values(singular_values, r, shape)
    k = min(a, b)
    if r < k:
        return float(2 * s[0] / (s[r - 1] - s[r]))
    return float((1 if a == b else 2) * s[0] / s[r - 1])


def imbalanced_condition_number(
    singular_values: ArrayLike, r: int, ratio: float, shape: tuple[int, int] | None = None
) -> float:
    """κ at a minimizer with BBᵀ = ρ·AᵀA, iLoRA's convention: what a prescribed ratio of the Gram matrices costs.

    Derived here. With t = ρ^{-1/4} the gauge is tI times an orthogonal matrix, L = s₁τ, τ = t² + t⁻², and for
    r < k μ is the smallest eigenvalue of [[s_r/t², −s_{r+1}], [−s_{r+1}, t²s_r]], written as determinant over
    largest eigenvalue so that it does not cancel. ρ = 1 gives `balanced_condition_number`; for r < k the value is
    the same at ρ and at 1/ρ.

    Args:
        singular_values: (n,) descending singular values of Z; n ≥ min(r + 1, k).
        r: rank.
        ratio: ρ > 0.
        shape: (a, b) of Z; None means a square Z with n = a = b.

    Returns:
        κ of every minimizer with that ratio.

    Raises:
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        OutOfRangeError: if κ does not fit into float64.
        ValueError: on a bad ratio, rank, shape or list of singular values.
    """
    ratio = as_number("ratio ρ", ratio)
    if not 0 < ratio < np.inf:
        raise ValueError(f"ratio ρ = {ratio:g} must be positive and finite")
    s, (a, b), _ = leading_singular_values(singular_values, r, shape)
    k = min(a, b)
    alpha, beta = Wide.of(s[r - 1] / ratio**0.5), Wide.of(s[r - 1] * ratio**0.5)  # σ_r(A)², σ_r(B)²
    L = Wide.of(s[0] * (ratio**0.5 + ratio**-0.5))
    if r == k:
        return (L / (alpha + beta if a == b else beta if a > b else alpha)).fit("κ")
    largest = (alpha + beta + (alpha - beta).hypot(Wide.of(2 * s[r]))) / Wide(2.0)
    return (L * largest / Wide.of((s[r - 1] - s[r]) * (s[r - 1] + s[r]))).fit("κ")


def model2_condition_number(A: ArrayLike, B: ArrayLike, J: ArrayLike) -> float:
    """κ of Model 2's Hessian MᵀJᵀJM at an interpolating pair, past the r² zeros of the GL(r) orbit.

    Args:
        A: (a, r) factor of full column rank.
        B: (r, b) factor of full row rank.
        J: (n, ab) Jacobian of h at AB, row-major; must be injective on the tangent space of the rank-r
            matrices at AB, so n ≥ r(a + b − r).

    Returns:
        κ = (σ_max/σ_min)² of JM on the complement of the orbit.

    Raises:
        ValueError: on bad shapes or non-finite entries, or if JM has further zero singular values.
    """
    left, right, _ = unit_pair(*as_pair(A, B))
    r = left.shape[1]
    check_rank(r, left.shape[0], right.shape[1])
    M = jacobian(left, right)
    outer, _ = unit(as_matrix("J", J))
    if outer.shape[1] != M.shape[0]:
        raise ValueError(f"J has {outer.shape[1]} columns, but AB has {M.shape[0]} entries")
    sigma = np.linalg.svd(outer @ M, compute_uv=False)
    rank = M.shape[1] - r * r
    if len(sigma) < rank or sigma[rank - 1] <= gap_rtol(M.shape[1]) * sigma[0]:
        raise ValueError(
            f"JM has fewer than d − r² = {rank} non-zero singular values: J is not injective on the tangent "
            "space at AB (or AB has rank < r), and κ would be infinite"
        )
    return float((sigma[0] / sigma[rank - 1]) ** 2)
