"""What κ promises: asymptotic one-step contraction of f − f* on the quadratic model ½zᵀHz."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import Array, as_matrix, as_number, check_integer
from lorakappa.conditioning.scaling import Wide, unit
from lorakappa.conditioning.tolerances import psd_rtol

ENUMERATION_LIMIT = 20
"""Largest d for which L_∞ is found by trying all 2^{d−1} sign vectors without being asked to."""

EXACT_LIMIT = 26
"""Largest d for which it is found that way at all: a second of work."""

VERTEX_LIMIT = 100_000
"""Most vertices that are looked at for μ_∞: a second of work."""


def gd_rate(kappa: float) -> float:
    """Contraction ((κ − 1)/(κ + 1))² of f − f* under gradient descent with γ = 2/(L + μ).

    Source: BaLoRA poster, rates; classical (each mode contracts by (1 − γλ)², worst at λ = μ and λ = L).

    Args:
        kappa: condition number L/μ ≥ 1 on the complement of the kernel.

    Returns:
        The rate, in [0, 1); what is nearest to 1 is rounded to 1.

    Raises:
        TypeError: if κ is not a real number.
        ValueError: if κ is not finite and at least 1.
    """
    kappa = _check_kappa(kappa)
    return ((kappa - 1) / (kappa + 1)) ** 2


def sign_gd_rate(kappa: float, d: int) -> float:
    """Contraction 1 − 1/(dκ) of f − f* under θ − γ‖∇f‖₁ sign ∇f with γ = 1/(dL).

    Source: BaLoRA poster, rates. It follows from `sharp_sign_gd_rate` by L_∞ ≤ dL and μ_∞ ≥ μ.

    Args:
        kappa: condition number L/μ ≥ 1 on the complement of the kernel.
        d: number of parameters, r(a + b).

    Returns:
        The rate, in [0, 1); what is nearest to 1 is rounded to 1.

    Raises:
        TypeError: if κ is not a real number or d no integer.
        ValueError: if κ is not finite and at least 1, or d < 1.
    """
    kappa = _check_kappa(kappa)
    check_integer("d", d)
    if d < 1:
        raise ValueError(f"d = {d} parameters; at least 1 is needed")
    return 1 - 1 / (int(d) * kappa)


@dataclass(frozen=True)
class SharpSignRate:
    """The ℓ∞ geometry of a Hessian and the rate it gives.

    Attributes:
        rate: 1 − μ_∞/L_∞ for θ − γ‖∇f‖₁ sign ∇f with γ = 1/L_∞.
        L_inf: max of sᵀHs over sign vectors s, or an upper bound of it.
        mu_inf: min ‖Hz‖₁²/⟨Hz, z⟩, or 1/max_i (H⁺)_ii, which is a lower bound of it.
        L_inf_exact: whether all sign vectors were tried.
        mu_inf_exact: whether `mu_inf` is attained: all vertices were tried, or H is regular, where both are one.
        steepest: (d,) gradient g = Hz with ‖g‖₁ = 1 at which μ_∞ is attained; None if it is not exact.
    """

    rate: float
    L_inf: float
    mu_inf: float
    L_inf_exact: bool
    mu_inf_exact: bool
    steepest: Array | None = None


def sharp_sign_gd_rate(H: ArrayLike, *, kernel_dimension: int = 0, exact: bool = False) -> SharpSignRate:
    """The sharper, computable rate 1 − μ_∞/L_∞ of sign-GD from the Hessian itself.

    Derived here. With g = Hz, f − f* = ½zᵀHz and s = sign g, one step of length γ‖g‖₁ changes f by
    −γ‖g‖₁² + ½γ²‖g‖₁² sᵀHs ≤ −‖g‖₁²/(2L_∞) at γ = 1/L_∞, and ‖g‖₁² ≥ 2μ_∞(f − f*). For g in the range of
    H, zᵀHz = gᵀH⁺g ≤ ‖g‖₁² max_ij |H⁺_ij|, and a positive semidefinite matrix has its largest entry on
    the diagonal; equality at g = e_i if e_i is in the range.

    Exactly, 1/μ_∞ is the maximum of the convex form gᵀH⁺g over the polytope {‖g‖₁ ≤ 1} ∩ range H, hence attained at a
    vertex. With n zero eigenvalues the range is given by n equations Nᵀg = 0, so a vertex has at most n + 1 non-zeros
    (its non-zero entries solve those equations and no fewer of them do): all supports of n + 1 entries are tried. A
    support whose n equations are dependent contains more than one vertex; each of them lies in a support where they
    are not, for its rows of N but one extend to a basis.

    Args:
        H: (d, d) symmetric positive semidefinite Hessian.
        kernel_dimension: number n of zero eigenvalues (r² at a minimizer), which are projected out.
        exact: whether both must be exact.

    Returns:
        The rate with its ingredients. Unless `exact`, μ_∞ is the lower bound, and L_∞ is exact for d ≤ 20, else the
        smaller of Σ|H_ij| and d·λ_max.

    Raises:
        OutOfRangeError: if L_∞ or μ_∞ does not fit into float64; H may be of any size.
        TypeError: if H is no real matrix or the kernel dimension no integer.
        ValueError: if H is not square, symmetric and positive semidefinite to rounding, the kernel dimension does
            not lie in [0, d), or exact numbers are asked for where d > 26 or there are too many vertices.
    """
    matrix, e = unit(as_matrix("H", H))
    check_integer("kernel_dimension", kernel_dimension)
    d = matrix.shape[0]
    if matrix.shape != (d, d):
        raise ValueError(f"H must be square, but has shape {matrix.shape}")
    if not 0 <= kernel_dimension < d:
        raise ValueError(f"kernel_dimension = {kernel_dimension} must lie between 0 and d − 1 = {d - 1}")
    if exact:
        check_enumerable(d, kernel_dimension)
    rounding = psd_rtol(d) * float(np.abs(matrix).max())
    if np.abs(matrix - matrix.T).max() > rounding:
        raise ValueError("H is not symmetric")
    eigenvalues, Q = np.linalg.eigh((matrix + matrix.T) / 2)
    kernel = eigenvalues[:kernel_dimension]
    if eigenvalues[kernel_dimension] <= rounding or np.abs(kernel).max(initial=0.0) > rounding:
        raise ValueError(
            f"H has not exactly {kernel_dimension} zero eigenvalues and otherwise positive ones; "
            "pass the true kernel_dimension (r² at a minimizer)"
        )
    # H⁺ = QΛ⁺Qᵀ; the bound needs its diagonal only: μ_∞ ≥ 1/max_i (H⁺)_ii
    positive, basis = eigenvalues[kernel_dimension:], Q[:, kernel_dimension:]
    pinv_diagonal = (basis**2 / positive).sum(axis=1)
    mu_inf, steepest = float(1 / pinv_diagonal.max()), None
    if kernel_dimension == 0:
        steepest = np.eye(d)[pinv_diagonal.argmax()]
    elif exact:
        mu_inf, steepest = _min_over_vertices(Q[:, :kernel_dimension], (basis / positive) @ basis.T)
    enumerable = d <= (EXACT_LIMIT if exact else ENUMERATION_LIMIT)
    L_inf = _max_over_signs(matrix) if enumerable else float(min(np.abs(matrix).sum(), d * eigenvalues[-1]))
    return SharpSignRate(
        rate=1 - mu_inf / L_inf,
        L_inf=Wide.of(L_inf, e).fit("L_∞"),
        mu_inf=Wide.of(mu_inf, e).fit("μ_∞"),
        L_inf_exact=enumerable,
        mu_inf_exact=steepest is not None,
        steepest=steepest,
    )


def check_enumerable(d: int, kernel_dimension: int) -> None:
    """Raises ValueError where `sharp_sign_gd_rate` cannot be exact with so many parameters and zero eigenvalues."""
    if d > EXACT_LIMIT:
        raise ValueError(f"d = {d} parameters have 2^{d - 1} sign vectors: L_∞ is exact up to d = {EXACT_LIMIT}")
    vertices = comb(d, kernel_dimension + 1) if kernel_dimension else d
    if vertices > VERTEX_LIMIT:
        raise ValueError(f"{vertices} vertices at d = {d}: μ_∞ is exact for at most {VERTEX_LIMIT}")


def _max_over_signs(H: Array) -> float:
    """Max of sᵀHs over s in {±1}^d; s and −s give the same value, so s_1 = +1.

    With s split into halves (u, v) it is uᵀH₁₁u + vᵀH₂₂v + 2uᵀH₁₂v: for some u and all v at once one product of
    matrices.
    """
    d = H.shape[0]
    first = (d + 1) // 2
    u, v = (1.0 - 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1) for n in (first, d - first))
    u = u[::2]  # the lowest bit, that of s_1, is 0
    squares_u, squares_v = (
        np.einsum("ni,ij,nj->n", s, block, s, optimize=True)
        for s, block in ((u, H[:first, :first]), (v, H[first:, first:]))
    )
    mixed = 2 * H[:first, first:] @ v.T
    best, chunk = -np.inf, 1 << 8
    for low in range(0, len(u), chunk):
        part = slice(low, low + chunk)
        best = max(best, float((squares_u[part, None] + squares_v + u[part] @ mixed).max()))
    return best


def _min_over_vertices(N: Array, pinv: Array) -> tuple[float, Array]:
    """μ_∞ and the vertex that attains it, from a basis N (d, n) of the kernel and H⁺ (d, d)."""
    d, n = N.shape
    worst, attained = -np.inf, np.zeros(d)
    for supports in _chunks(d, n + 1, 1 << 13):
        # of n equations in n + 1 unknowns the last right singular vector is a solution, whatever their rank
        solutions = np.linalg.svd(np.swapaxes(N[supports], -1, -2))[2][:, -1]
        solutions /= np.abs(solutions).sum(axis=1, keepdims=True)
        blocks = pinv[supports[:, :, None], supports[:, None, :]]
        values = np.einsum("mi,mij,mj->m", solutions, blocks, solutions)
        best = int(values.argmax())
        if values[best] > worst:
            worst, attained = float(values[best]), np.zeros(d)
            attained[supports[best]] = solutions[best]
    return 1 / worst, attained


def _chunks(d: int, size: int, length: int) -> Iterator[Array]:
    """(≤ length, size) arrays of the subsets of range(d) with so many elements."""
    subsets = combinations(range(d), size)
    while chosen := list(islice(subsets, length)):
        yield np.array(chosen)


def _check_kappa(kappa: float) -> float:
    kappa = as_number("κ", kappa)
    if not 1 <= kappa < np.inf:
        raise ValueError(f"κ = {kappa} is not a condition number: it must be finite and at least 1")
    return kappa
