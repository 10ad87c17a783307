"""What κ promises: asymptotic one-step contraction of f − f* on the quadratic model ½zᵀHz."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import Array, as_matrix, as_number, check_integer
from lorakappa.conditioning.scaling import Wide, unit
from lorakappa.conditioning.tolerances import psd_rtol

ENUMERATION_LIMIT = 20
"""Largest d for which L_∞ is found by trying all 2^{d−1} sign vectors."""


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
        mu_inf: 1/max_i (H⁺)_ii, which is min ‖Hz‖₁²/⟨Hz, z⟩ if H is regular and a lower bound otherwise.
        L_inf_exact: whether all sign vectors were tried.
        mu_inf_exact: whether H is regular, so that `mu_inf` is attained.
    """

    rate: float
    L_inf: float
    mu_inf: float
    L_inf_exact: bool
    mu_inf_exact: bool


def sharp_sign_gd_rate(H: ArrayLike, *, kernel_dimension: int = 0) -> SharpSignRate:
    """The sharper, computable rate 1 − μ_∞/L_∞ of sign-GD from the Hessian itself.

    Derived here. With g = Hz, f − f* = ½zᵀHz and s = sign g, one step of length γ‖g‖₁ changes f by
    −γ‖g‖₁² + ½γ²‖g‖₁² sᵀHs ≤ −‖g‖₁²/(2L_∞) at γ = 1/L_∞, and ‖g‖₁² ≥ 2μ_∞(f − f*). For g in the range of
    H, zᵀHz = gᵀH⁺g ≤ ‖g‖₁² max_ij |H⁺_ij|, and a positive semidefinite matrix has its largest entry on
    the diagonal; equality at g = e_i if e_i is in the range.

    Args:
        H: (d, d) symmetric positive semidefinite Hessian.
        kernel_dimension: number of zero eigenvalues (r² at a minimizer), which are projected out.

    Returns:
        The rate with its ingredients. L_∞ is exact for d ≤ 20, else the smaller of Σ|H_ij| and d·λ_max.

    Raises:
        OutOfRangeError: if L_∞ or μ_∞ does not fit into float64; H may be of any size.
        TypeError: if H is no real matrix or the kernel dimension no integer.
        ValueError: if H is not square, symmetric and positive semidefinite to rounding, or the kernel
            dimension does not lie in [0, d).
    """
    matrix, e = unit(as_matrix("H", H))
    check_integer("kernel_dimension", kernel_dimension)
    d = matrix.shape[0]
    if matrix.shape != (d, d):
        raise ValueError(f"H must be square, but has shape {matrix.shape}")
    if not 0 <= kernel_dimension < d:
        raise ValueError(f"kernel_dimension = {kernel_dimension} must lie between 0 and d − 1 = {d - 1}")
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
    # H⁺ = QΛ⁺Qᵀ; only its diagonal is needed: μ_∞ = 1/max_i (H⁺)_ii
    positive, basis = eigenvalues[kernel_dimension:], Q[:, kernel_dimension:]
    pinv_diagonal = (basis**2 / positive).sum(axis=1)
    mu_inf = float(1 / pinv_diagonal.max())
    L_inf = _max_over_signs(matrix) if d <= ENUMERATION_LIMIT else float(min(np.abs(matrix).sum(), d * eigenvalues[-1]))
    return SharpSignRate(
        rate=1 - mu_inf / L_inf,
        L_inf=Wide.of(L_inf, e).fit("L_∞"),
        mu_inf=Wide.of(mu_inf, e).fit("μ_∞"),
        L_inf_exact=d <= ENUMERATION_LIMIT,
        mu_inf_exact=kernel_dimension == 0,
    )


def _max_over_signs(H: Array) -> float:
    """Max of sᵀHs over s in {±1}^d, in chunks; s and −s give the same value, so s_d = +1."""
    d = H.shape[0]
    best = -np.inf
    chunk = 1 << 14
    for start in range(0, 1 << (d - 1), chunk):
        codes = np.arange(start, min(start + chunk, 1 << (d - 1)))
        signs = 1.0 - 2.0 * ((codes[:, None] >> np.arange(d)) & 1)
        best = max(best, float(np.einsum("ni,ni->n", signs @ H, signs).max()))
    return best


def _check_kappa(kappa: float) -> float:
    kappa = as_number("κ", kappa)
    if not 1 <= kappa < np.inf:
        raise ValueError(f"κ = {kappa} is not a condition number: it must be finite and at least 1")
    return kappa
