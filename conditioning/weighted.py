"""The weighted loss f(A, B) = ½‖C(AB − Z)D‖_F², the simplest one for which balance is not the best gauge.

C weighs outputs and D inputs: with C = I and DDᵀ the second moment E xxᵀ it is ½E‖(AB − Z)x‖². All is derived here.

At (CA, BD) it is the loss of Model 1 with the target CZD. If C has full column and D full row rank, and C = Q_CR_C,
Dᵀ = Q_DR_D, then its minimizers are the pairs for which (R_CA, BR_Dᵀ) is a minimizer of Model 1 with target R_CZR_Dᵀ.
The parameters are A and B, though, so the Hessian is H = ΨᵀH̃Ψ with H̃ the one of Model 1 there and Ψ(dA, dB) =
(R_CdA, dB·R_Dᵀ): it has r² zeros, too (Sylvester), and its other eigenvalues are those of the pencil H̃ − λ(ΨΨᵀ)⁻¹. In
ascending order λ_i(H) = θ_iλ_i(H̃) with θ_i between the extreme squares of the singular values of C and D (Ostrowski),
so that κ differs from Model 1's by at most their ratio. There is no closed form in general. There is one where C, D and
Z have their singular vectors in common and the gauge is diagonal: with the entries c_i, d_j, z_i, α_i and β_j of C, D,
Z, A and B and i, j ≤ r the eigenvalues beside 0 are

- c_i²d_j²(α_i² + β_j²);
- for l = r+1..k those of [[c_l²d_j²β_j², −c_l²d_l²z_l], [−c_l²d_l²z_l, c_j²d_l²α_j²]], for each j;
- c_l²d_j²β_j² for each further row l of A, c_j²d_l²α_j² for each further column l of B.

The trace has one always: tr H = ‖C‖²‖BD‖² + ‖D‖²‖CA‖² ≥ 2‖C‖‖D‖·‖CABD‖_*, the nuclear norm, with equality where
(CA)ᵀCA/‖C‖² = BD(BD)ᵀ/‖D‖²: where the pair is balanced as the data see it.
"""

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import Array, as_matrix, as_pair, as_problem
from lorakappa.conditioning.factors import minimizer
from lorakappa.conditioning.gauge_optimization import (
    Criterion,
    OptimalGauge,
    check_criterion,
    optimal_gauge,
    optimal_gauge_from_traces,
)
from lorakappa.conditioning.hessians import product_curvature
from lorakappa.conditioning.minimizers import analyse_minimizer
from lorakappa.conditioning.scaling import fit_array, layer_exponent, shifted, unit
from lorakappa.conditioning.spectra import balanced_condition_number, condition_number
from lorakappa.conditioning.tolerances import MINIMIZER_RTOL, gap_rtol, psd_rtol


def weighted_hessian(
    A: ArrayLike, B: ArrayLike, Z: ArrayLike, C: ArrayLike | None = None, D: ArrayLike | None = None
) -> Array:
    """Hessian of ½‖C(AB − Z)D‖_F² at any point.

    With W = AB it is MᵀM for M(dA, dB) = C(dA·B + A·dB)D, plus the curvature of the product weighted by the gradient
    CᵀC(W − Z)DDᵀ.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        Z: (a, b) target.
        C: (p, a) weights of the rows; None means the identity.
        D: (b, q) weights of the columns; None means the identity.

    Returns:
        (d, d) symmetric float64 matrix, d = r(a + b), parameters (vec A, vec B) row-major.

    Raises:
        OutOfRangeError: if its largest entry does not fit into float64.
        ValueError: on mismatched shapes or non-finite entries.
    """
    left, right, target = as_problem(A, B, Z)
    e = layer_exponent(left, right, target)
    left, right, target = shifted(left, -e), shifted(right, -e), shifted(target, -2 * e)
    (rows, p), (columns, q) = (unit(M) for M in _weights(left, right, C, D))
    CA, BD = rows @ left, right @ columns
    M = np.hstack([np.kron(rows, BD.T), np.kron(CA, columns.T)])
    gradient = rows.T @ (CA @ BD - rows @ target @ columns) @ columns.T
    return fit_array("the Hessian", M.T @ M + product_curvature(gradient, left.shape[1]), 2 * (e + p + q))


def weighted_minimizer(
    Z: ArrayLike, r: int, C: ArrayLike | None = None, D: ArrayLike | None = None, gauge: ArrayLike | None = None
) -> tuple[Array, Array]:
    """A global minimizer of ½‖C(AB − Z)D‖_F², from one of Model 1 with target R_CZR_Dᵀ (module docstring).

    Args:
        Z: (a, b) target.
        r: rank, 1 ≤ r ≤ min(a, b).
        C: (p, a) weights of rank a; None means the identity.
        D: (b, q) weights of rank b; None means the identity.
        gauge: (r, r) invertible G; None means that (CA, BD) is hyperbalanced.

    Returns:
        A (a, r) and B (r, b), float64.

    Raises:
        DegenerateTargetError: if rank Z < r, or the r-th and the next singular value of CZD agree to working precision.
        ValueError: on a bad rank or shape, a non-finite entry, a singular gauge, or C or D of lower rank.
    """
    target = as_matrix("Z", Z)
    R_C, R_D = _roots(target, target, C, D)
    A, B = minimizer(R_C @ target @ R_D.T, r, gauge)
    return np.asarray(np.linalg.solve(R_C, A)), np.asarray(np.linalg.solve(R_D, B.T).T)


def weighted_spectrum(
    A: ArrayLike,
    B: ArrayLike,
    Z: ArrayLike,
    C: ArrayLike | None = None,
    D: ArrayLike | None = None,
    *,
    rtol: float = MINIMIZER_RTOL,
) -> Array:
    """All eigenvalues of the Hessian of ½‖C(AB − Z)D‖_F² at a minimizer, in O(d³).

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        Z: (a, b) target.
        C: (p, a) weights of rank a; None means the identity.
        D: (b, q) weights of rank b; None means the identity.
        rtol: accepted relative distance of CABD from the best approximation of CZD of rank r.

    Returns:
        (d,) float64, ascending; the first r² are exactly 0, the others right to rounding of the largest.

    Raises:
        NotAMinimizerError: if (A, B) is not a minimizer.
        DegenerateTargetError: as `weighted_minimizer`.
        OutOfRangeError: if the Hessian does not fit into float64.
        ValueError: on bad shapes, ranks or non-finite entries.
    """
    left, right, target = as_problem(A, B, Z)
    R_C, R_D = _roots(left, right, C, D)
    analyse_minimizer(R_C @ left, right @ R_D.T, R_C @ target @ R_D.T, rtol=rtol)
    eigenvalues = np.linalg.eigvalsh(weighted_hessian(left, right, target, R_C, R_D.T))
    zeros = left.shape[1] ** 2
    return np.append(np.zeros(zeros), eigenvalues[zeros:])


def weighted_condition_number(
    A: ArrayLike,
    B: ArrayLike,
    Z: ArrayLike,
    C: ArrayLike | None = None,
    D: ArrayLike | None = None,
    *,
    rtol: float = MINIMIZER_RTOL,
) -> float:
    """κ = L/μ of the Hessian of ½‖C(AB − Z)D‖_F² at a minimizer; μ is the smallest eigenvalue past the r² zeros.

    Arguments and errors are those of `weighted_spectrum`; ValueError also where μ is too small beside L to be told from
    rounding.
    """
    eigenvalues = weighted_spectrum(A, B, Z, C, D, rtol=rtol)
    mu, L = float(eigenvalues[np.shape(A)[1] ** 2]), float(eigenvalues[-1])
    if mu <= psd_rtol(len(eigenvalues)) * L:
        raise ValueError(f"κ is beyond what the dense Hessian tells: μ = {mu:.3g} is rounding beside L = {L:.3g}")
    return L / mu


def optimal_gauge_of_pair(
    A: ArrayLike,
    B: ArrayLike,
    Z: ArrayLike | None = None,
    *,
    C: ArrayLike | None = None,
    D: ArrayLike | None = None,
    criterion: Criterion = "trace",
) -> OptimalGauge:
    """The best gauge of a pair for ½‖C(AB − Z)D‖_F².

    The trace does not depend on Z and costs O((p + q)(a + b)r). For the others the Hessian is formed, but for κ of
    Model 1 (neither C nor D) at r < min(a, b): there the balanced gauge is the best one (claim
    `balanced-optimal-model1`), and the bound is its κ.

    Args:
        A: (a, r) factor.
        B: (r, b) factor.
        Z: (a, b) target; None means that AB fits it, so that the Hessian is the Gauss–Newton matrix.
        C: (p, a) weights of the rows; None means the identity.
        D: (b, q) weights of the columns; None means the identity.
        criterion: "trace", "lambda_max" or "kappa".

    Returns:
        As `optimal_gauge`.

    Raises:
        NotAMinimizerError: for κ of Model 1, if (A, B) is not a minimizer.
        DegenerateTargetError: for κ of Model 1, as `condition_number`.
        NoOptimalGaugeError: if BD or CA has rank < r.
        OutOfRangeError: if a value does not fit into float64.
        ValueError: on a bad shape, criterion or entry, or where the Hessian is not positive semidefinite.
    """
    check_criterion(criterion)
    left, right = as_pair(A, B)
    (a, r), b = left.shape, right.shape[1]
    rows, columns = _weights(left, right, C, D)
    if criterion == "trace":
        CA, BD = rows @ left, right @ columns
        return optimal_gauge_from_traces(float((rows**2).sum()) * BD @ BD.T, float((columns**2).sum()) * CA.T @ CA)
    if criterion == "kappa" and Z is not None and C is None and D is None and r < min(a, b):
        given = float(condition_number(left, right, Z))
        singular_values = np.linalg.svd(as_matrix("Z", Z), compute_uv=False)
        best = balanced_condition_number(singular_values, r, (a, b))
        T = optimal_gauge_from_traces(right @ right.T, left.T @ left).T
        return OptimalGauge(criterion, T, best, given, best)
    H = weighted_hessian(left, right, left @ right if Z is None else Z, rows, columns)
    return optimal_gauge(H, (a, b, r), criterion=criterion)


def _weights(A: Array, B: Array, C: ArrayLike | None, D: ArrayLike | None) -> tuple[Array, Array]:
    """C and D for as many rows as A and columns as B have."""
    rows = np.eye(A.shape[0]) if C is None else as_matrix("C", C)
    columns = np.eye(B.shape[1]) if D is None else as_matrix("D", D)
    if rows.shape[1] != A.shape[0] or columns.shape[0] != B.shape[1]:
        shapes = f"C has shape {rows.shape} and D {columns.shape}"
        raise ValueError(f"{shapes}, but must be (p, {A.shape[0]}) and ({B.shape[1]}, q) to weigh the loss")
    return rows, columns


def _roots(A: Array, B: Array, C: ArrayLike | None, D: ArrayLike | None) -> tuple[Array, Array]:
    """R_C and R_D with R_CᵀR_C = CᵀC and R_DᵀR_D = DDᵀ, invertible."""
    rows, columns = _weights(A, B, C, D)
    for name, M in (("C", rows), ("D", columns.T)):
        sigma = np.linalg.svd(M, compute_uv=False)
        if len(sigma) < M.shape[1] or sigma[-1] <= gap_rtol(M.shape[1]) * sigma[0]:
            raise ValueError(f"{name} has rank < {M.shape[1]}: the loss has directions without weight, and no κ")
    return np.asarray(np.linalg.qr(rows, mode="r")), np.asarray(np.linalg.qr(columns.T, mode="r"))
