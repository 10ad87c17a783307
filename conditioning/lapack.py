"""The few decompositions that κ takes, for one problem by LAPACK's own routines, for a stack of problems by NumPy's.

NumPy's functions spend 4 to 8 μs a call on what a single 20×20 problem does not need, so calling LAPACK itself
(`scipy.linalg.lapack`) halves the time of a small κ. `SINGLE` and `STACK` offer the same, so that what is computed of
these decompositions is written once: matrices (m, n) and numbers there, arrays (N, m, n) and (N,) here.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import blas, lapack

from lorakappa.conditioning.tolerances import EPS, ILL_CONDITIONED

TALL = 2**15
"""Entries from which on a factor is reduced by its Gram matrix where that is accurate: a QR is several times slower."""


class TriangularFactor(NamedTuple):
    """R of a matrix M = QR.

    Attributes:
        R: (r, r), upper triangular.
        sigma: (r,) singular values of M, descending.
        relative_error: θ with (1 − θ)MᵀM ⪯ RᵀR ⪯ (1 + θ)MᵀM beyond backward errors of order EPS: 0 for a Householder
            QR. For Cholesky of the Gram matrix, RᵀR = MᵀM + D with |D_ij| ≤ n·EPS·‖m_i‖‖m_j‖ for n rows (n·EPS/2 each
            from the products and, at most, from Cholesky), so ‖D‖ ≤ n·EPS·‖M‖_F² and θ = n·EPS·‖M‖_F²/σ_r².
    """

    R: Any
    sigma: Any
    relative_error: float = 0.0


class Decompositions(NamedTuple):
    """What is needed of matrices, or of stacks of them.

    Attributes:
        dot: product.
        norm: Frobenius norm.
        sqrt: square root of a number per problem.
        entry: entry i of a vector per problem.
        column: a number per problem, made to meet (r, 1) columns.
        triangular: `TriangularFactor` of an (n, r) matrix, n ≥ r.
        svd: U, s and Vᵀ of a square matrix.
        largest_eigenvalue: of a symmetric matrix, of which the lower triangle is read.
    """

    dot: Callable[[Any, Any], Any]
    norm: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    entry: Callable[[Any, int], Any]
    column: Callable[[Any], Any]
    triangular: Callable[[Any], TriangularFactor]
    svd: Callable[[Any], Any]
    largest_eigenvalue: Callable[[Any], Any]


def _converged(info: int) -> None:
    if info:
        raise np.linalg.LinAlgError(f"LAPACK did not converge (info = {info})")


def _norm(M: Any) -> float:
    return float(blas.dnrm2(M.ravel()))  # which neither over- nor underflows


@cache
def _upper(r: int) -> Any:
    """(r, r) ones on and above the diagonal, 0 below: dgeqrf leaves Householder vectors there."""
    return np.asfortranarray(np.triu(np.ones((r, r))))


def _triangular(M: Any) -> TriangularFactor:
    n, r = M.shape
    if n * r >= TALL:
        factor = _by_gram(M)
        if factor.relative_error <= ILL_CONDITIONED:
            return factor
    R = lapack.dgeqrf(M)[0][:r] * _upper(r)
    _, sigma, _, info = lapack.dgesvd(R, compute_uv=0)
    _converged(info)
    return TriangularFactor(R, sigma)


def _by_gram(M: Any) -> TriangularFactor:
    """R from Cholesky of MᵀM; its relative error is infinite where there is none."""
    gram = M.T.dot(M)
    R, info = lapack.dpotrf(gram)
    if info:
        return TriangularFactor(R, R, np.inf)
    squares, _, info = lapack.dsyevd(gram, compute_v=0)
    _converged(info)
    if not squares[0] > 0:
        return TriangularFactor(R, R, np.inf)
    return TriangularFactor(R, np.sqrt(squares[::-1]), float(len(M) * EPS * np.trace(gram) / squares[0]))


def _svd(M: Any) -> Any:
    U, s, Vt, info = lapack.dgesdd(M)
    _converged(info)
    return U, s, Vt


def _largest_eigenvalue(M: Any) -> float:
    n = len(M)
    values, _, _, _, info = lapack.dsyevr(M, compute_v=0, range="I", lower=1, il=n, iu=n)
    _converged(info)
    return float(values[0])


def graded_singular_values(M: Any, inverse: Any) -> tuple[Any, Any, Any]:
    """Singular values of a square matrix that an SVD leaves without digits where they are small.

    An SVD has errors of EPS·σ₁ in all of them, so half of a float64's digits or more are right down to
    ILL_CONDITIONED·σ₁; reciprocals of those of the inverse are as good up to σ_n/ILL_CONDITIONED. What lies between is
    left to one-sided Jacobi rotations with pivoted rows (LAPACK's dgejsv, Drmač & Veselić 2008), whose relative error
    is EPS times the condition number that scaling rows and columns leaves: all digits of a graded matrix.

    Args:
        M: (n, n).
        inverse: (n, n) multiple of M⁻¹, accurate by itself rather than computed from M.

    Returns:
        (n,) singular values of M, descending; (n,) singular values of `inverse`, ascending; (n,) which of the first are
        better had from the second.
    """
    sigma, reciprocals = (np.linalg.svd(X, compute_uv=False) for X in (M, inverse))
    reciprocals = reciprocals[::-1]
    small = sigma <= ILL_CONDITIONED * sigma[0]
    from_inverse = small & (reciprocals >= ILL_CONDITIONED * reciprocals[-1])
    if (small & ~from_inverse).any():
        # rows pivoted and scaled too, no vectors, nothing rounded to 0, nothing transposed, nothing perturbed
        values, _, _, scale, _, info = lapack.dgejsv(M, joba=2, jobu=3, jobv=3, jobr=0, jobt=0, jobp=0)
        _converged(info)
        sigma = np.where(small, values * (scale[0] / scale[1]), sigma)
    return sigma, reciprocals, from_inverse


SINGLE = Decompositions(
    dot=np.ndarray.dot,
    norm=_norm,
    sqrt=math.sqrt,
    entry=np.ndarray.item,
    column=lambda x: x,
    triangular=_triangular,
    svd=_svd,
    largest_eigenvalue=_largest_eigenvalue,
)


def _triangular_stack(M: Any) -> TriangularFactor:
    R = np.linalg.qr(M, mode="r")
    return TriangularFactor(R, np.linalg.svd(R, compute_uv=False))


STACK = Decompositions(
    dot=np.matmul,
    norm=lambda M: np.sqrt(np.einsum("...ij,...ij->...", M, M)),
    sqrt=np.sqrt,
    entry=lambda x, i: x[..., i],
    column=lambda x: x[..., None, None],
    triangular=_triangular_stack,
    svd=np.linalg.svd,
    largest_eigenvalue=lambda M: np.linalg.eigvalsh(M)[..., -1],
)
