"""Scaled gradients, which undo the gauge: g_A(BBᵀ)⁻¹ and (AᵀA)⁻¹g_B, and the Hessian that a method using them sees.

Source of the scaling: ScaledGD (Tong, Ma & Chi 2021); for LoRA, Riemannian preconditioning (Zhang & Pilanci 2024).

The spectrum is derived here. At a minimizer of ½‖Z − AB‖_F² the step x₊ = x − γP⁻¹∇f, P(dA, dB) = (dA·BBᵀ, AᵀA·dB),
linearizes to I − γP⁻¹H. A change of gauge (AG, G⁻¹B) turns P⁻¹H into a similar matrix, so its eigenvalues are those at
balance, where AᵀA = BBᵀ = S. Write dA = (U_rX + U_⊥Y)S^{-1/2} and dB = S^{-1/2}(X'V_rᵀ + Y'V_⊥ᵀ), which makes P the
identity. The form ‖dA·B + A·dB‖² − 2⟨Z − Z_r, dA·dB⟩ then splits:

- on (X, X') it is ‖X + X'‖²: 0 and 2, r² times each;
- each row y_l and column y'_l with l = r+1..k gives ‖y‖² + ‖y'‖² − 2s_l·yS⁻¹y': 1 ± s_l/s_i, i = 1..r;
- rows or columns beyond k meet no residual: 1, r|a − b| times.

So L = 2 at every minimizer, and for r < k the smallest non-zero eigenvalue is μ = 1 − s_{r+1}/s_r: the condition number
2s_r/(s_r − s_{r+1}) does not depend on the gauge, nor on s₁. It is s_r/s₁ times the one that balance reaches under
plain gradients. The best step is 2/(L + μ), with f − f* contracted by ((κ − 1)/(κ + 1))² a step; where rank Z = r < k
that is 2/3 and 1/9.
"""

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import (
    Array,
    as_number,
    as_problem,
    check_fits,
    check_gradients,
    check_rank,
    eye_like,
    factor_namespace,
)
from lorakappa.conditioning.factors import jacobian, leading_singular_values
from lorakappa.conditioning.scaling import Wide, common_exponent, exponents, fit_array, shifted, unit
from lorakappa.conditioning.tolerances import gap_rtol, gram_rtol

if TYPE_CHECKING:
    from lorakappa.conditioning.spectra import ExtremeEigenvalues

SMALLEST_GRAM = 2.0**-400
"""Gram matrices whose diagonal is no larger, or as large as its reciprocal, are formed from scaled factors."""

ArrayT = TypeVar("ArrayT", bound=Any)


def scaled_gradient(A: ArrayT, B: ArrayT, g_A: ArrayT, g_B: ArrayT, *, damping: float = 0.0) -> tuple[ArrayT, ArrayT]:
    """The preconditioned gradient (g_A(BBᵀ + δI)⁻¹, (AᵀA + δI)⁻¹g_B), both from the same pair.

    The r×r matrices are formed and inverted in float64. At δ = 0 the step −γ times it changes AB, to first order, by
    −γ(G·Π_B + Π_A·G) with G = ∇ℓ(AB) and Π_A, Π_B the projectors onto the column space of A and the row space of B: the
    same for all pairs with one product.

    Args:
        A: (…, a, r) NumPy array or torch tensor of a real floating type, on any device.
        B: (…, r, b) of the same library, dtype, device and leading dimensions.
        g_A: (…, a, r) gradient by A.
        g_B: (…, r, b) gradient by B.
        damping: δ ≥ 0, added to the diagonals in the units of the Gram matrices. LoRA's start has a factor 0 and
            needs δ > 0.

    Returns:
        New arrays of the gradients' shapes and dtype.

    Raises:
        OutOfRangeError: if a finite gradient becomes one that does not fit into the dtype.
        TypeError: if the arrays are of different libraries or dtypes, or not real floating point.
        ValueError: on mismatched shapes, a bad damping, factors that are not finite, or a Gram matrix that is singular
            to float64 with the damping given. A gradient that is not finite is not refused; nor is what comes of it.
    """
    xp = factor_namespace(A, B)
    check_gradients(A, B, g_A, g_B)
    damping = as_number("damping δ", damping)
    if not 0 <= damping < math.inf:
        raise ValueError(f"damping δ = {damping} must be finite and not negative")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for_A, a = _inverse(xp, "BBᵀ", xp.astype(B, xp.float64), damping)
        for_B, b = _inverse(xp, "AᵀA", xp.astype(A, xp.float64).mT, damping)
        scaled_A = xp.astype(g_A, xp.float64) @ for_A
        scaled_B = for_B @ xp.astype(g_B, xp.float64)
        if a is not None:
            scaled_A = scaled_A * a * a
        if b is not None:
            scaled_B = scaled_B * b * b
        scaled = xp.astype(scaled_A, A.dtype), xp.astype(scaled_B, B.dtype)
    for name, moved, gradient in (("g_A(BBᵀ + δI)⁻¹", scaled[0], g_A), ("(AᵀA + δI)⁻¹g_B", scaled[1], g_B)):
        check_fits(xp, name, moved, gradient, "pass damping > 0, or more of it")
    return scaled


def _inverse(xp: Any, name: str, factor: Any, damping: float) -> tuple[Any, Any]:
    """(FFᵀ + δI)⁻¹ of a (…, r, n) factor F, or a ValueError that names FFᵀ.

    Returns:
        The inverse, to be multiplied by u² where u, (…, 1, 1) powers of two, is not None.
    """
    unit = None
    gram = factor @ factor.mT
    gram = gram + damping * eye_like(xp, gram)
    largest = xp.max(xp.linalg.diagonal(gram), axis=-1)
    if not bool(xp.all((largest > SMALLEST_GRAM) & (largest < 1 / SMALLEST_GRAM))):
        if not bool(xp.all(xp.isfinite(factor))):
            raise ValueError(f"{name} contains NaN or infinity; nothing was preconditioned")
        gram, unit = _scaled_gram(xp, factor, damping)
    eigenvalues, Q = xp.linalg.eigh(gram)
    if bool(xp.any(eigenvalues[..., 0] <= gram_rtol(gram.shape[-1]) * eigenvalues[..., -1])):
        raise ValueError(
            f"{name} + δI is singular to working precision at δ = {damping:g}: the factor's r directions are dependent "
            "(at LoRA's start one factor is 0); pass damping > 0, in the units of the Gram matrix"
        )
    return (Q / eigenvalues[..., None, :]) @ Q.mT, unit


def _scaled_gram(xp: Any, factor: Any, damping: float) -> tuple[Any, Any]:
    """u²(FFᵀ + δI) with entries of order 1, and u."""
    p = exponents(xp, factor)
    reduced = factor * 2.0**-p
    gram = reduced @ reduced.mT
    if damping == 0:
        return gram, 2.0**-p
    mantissa, k = math.frexp(damping)
    e = xp.maximum(2 * p, xp.full_like(p, k + k % 2))
    return gram * 2.0 ** (2 * p - e) + mantissa * 2.0 ** (k - e) * eye_like(xp, gram), 2.0 ** (-e / 2)


def preconditioned_hessian(A: ArrayLike, B: ArrayLike, Z: ArrayLike) -> Array:
    """The Hessian of ½‖Z − AB‖_F² as scaled gradients see it, P^{-1/2}HP^{-1/2}, at any pair of rank r.

    With A = Q_A R_A and Bᵀ = Q_B R_B, dA = X·R_B⁻ᵀ and dB = R_A⁻¹·Y make P the identity, and the quadratic form is
    ‖X·Q_Bᵀ + Q_A·Y‖² + 2⟨AB − Z, X(R_A R_Bᵀ)⁻¹Y⟩: no ill-conditioned factor is inverted, only the core of AB. The basis
    differs from P^{1/2}'s by rotations, which do not move eigenvalues.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        Z: (a, b) target.

    Returns:
        (d, d) symmetric float64 matrix, parameters (vec X, vec Y) row-major.

    Raises:
        OutOfRangeError: if its largest entry does not fit into float64; A, B and Z may be of any size.
        ValueError: on mismatched shapes, non-finite entries, or if AB has rank < r.
    """
    (left, p), (right, q), (target, z) = (unit(M) for M in as_problem(A, B, Z))
    (a, r), b = left.shape, right.shape[1]
    check_rank(r, a, b)
    (Q_A, R_A), (Q_B, R_B) = np.linalg.qr(left), np.linalg.qr(right.T)
    core = R_A @ R_B.T
    sigma = np.linalg.svd(core, compute_uv=False)
    if sigma[-1] <= gap_rtol(r) * np.linalg.norm(R_A, 2) * np.linalg.norm(R_B, 2):
        raise ValueError("AB has rank < r to working precision: scaled gradients are not defined there")
    H = np.asarray((J := jacobian(Q_A, Q_B.T)).T @ J)  # ‖X·Q_Bᵀ + Q_A·Y‖²
    # ⟨E, X K Y⟩ with K = core⁻¹: the entry of (X_ij, Y_lm) is E_im K_jl
    product = left @ right
    top = common_exponent((product, p + q), (target, z))  # of E; K⁻¹ is in units of 2^{p+q}
    E = shifted(product, p + q - top) - shifted(target, z - top)
    cross = np.einsum("im,jl->ijlm", E, np.linalg.inv(core)).reshape(a * r, r * b)
    cross = fit_array("P^{-1/2}HP^{-1/2}", cross, top - p - q, size=Wide(1.0))
    H[: a * r, a * r :] += cross
    H[a * r :, : a * r] += cross.T
    return H


def preconditioned_spectrum(singular_values: ArrayLike, r: int, shape: tuple[int, int] | None = None) -> Array:
    """All eigenvalues of `preconditioned_hessian` at every minimizer, in closed form.

    Args:
        singular_values: (k,) descending singular values of Z, all of them.
        r: rank.
        shape: (a, b) of Z; None means a square Z with a = b = len(singular_values).

    Returns:
        (d,) float64, ascending, with multiplicity; the first r² are exactly 0. Source: module docstring.

    Raises:
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        ValueError: on a bad rank, shape or list of singular values.
    """
    s, (a, b), _ = leading_singular_values(singular_values, r, shape)
    k = min(a, b)
    if len(s) < k:
        raise ValueError(f"{len(s)} singular values given, but the spectrum needs all {k}")
    quotients = (s[r:, None] / s[:r]).ravel()
    parts = [np.repeat([0.0, 2.0], r * r), 1 - quotients, 1 + quotients, np.ones(r * abs(a - b))]
    return np.sort(np.concatenate(parts))


def preconditioned_extremes(
    singular_values: ArrayLike, r: int, shape: tuple[int, int] | None = None
) -> "ExtremeEigenvalues":
    """The smallest non-zero eigenvalue μ and the largest L = 2 of `preconditioned_hessian` at every minimizer.

    μ is 1 − s_{r+1}/s_r for r < k, 1 for r = k, a ≠ b, and 2 for r = a = b. Close to a minimizer scaled gradient
    descent is fastest with γ = 2/(L + μ), and then contracts f − f* by `gd_rate(L/μ)` a step. Source: module docstring.

    Args:
        singular_values: (n,) descending singular values of Z; n ≥ min(r + 1, k).
        r: rank.
        shape: (a, b) of Z; None means a square Z with n = a = b.

    Returns:
        Both.

    Raises:
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        ValueError: on a bad rank, shape or list of singular values.
    """
    from lorakappa.conditioning.spectra import ExtremeEigenvalues  # and SciPy, which the simulator has no use for

    s, (a, b), _ = leading_singular_values(singular_values, r, shape)
    if r == min(a, b):
        return ExtremeEigenvalues(mu=2.0 if a == b else 1.0, L=2.0)
    return ExtremeEigenvalues(mu=float((s[r - 1] - s[r]) / s[r - 1]), L=2.0)
