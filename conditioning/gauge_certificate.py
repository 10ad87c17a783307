"""Lower bounds on a Hessian's largest eigenvalue, trace or κ that hold in every gauge, from a few directions.

A gauge T takes (A, B) to (AT, T⁻¹B) and the Hessian H to ΦᵀHΦ with Φ(dA, dB) = (dA·T⁻¹, T·dB). Its partial traces are
the r×r sums of its diagonal blocks over the rows of A and the columns of B,

    (H_A)_ij = Σ_m H[A_mi, A_mj],    (H_B)_ij = Σ_n H[B_in, B_jn],

so that tr ΦᵀHΦ = tr N⁻¹H_A + tr N H_B with N = TTᵀ. All that follows is derived here.

*The smallest trace.* The derivative vanishes where N H_B N = H_A, whose only solution is the geometric mean
N = H_B⁻¹ # H_A; the trace is convex in N, and its minimum is 2 tr N H_B = 2‖H_A^{1/2}H_B^{1/2}‖_* (nuclear norm).

*A bound for the largest eigenvalue.* For H = FFᵀ ⪰ 0 the non-zero eigenvalues of ΦᵀHΦ are those of FᵀΦΦᵀF. For any
directions x_i, put y_i = Hx_i. Then yᵀΦΦᵀy = (Fᵀx)ᵀ(FᵀΦΦᵀF)(Fᵀx) ≤ λ_max·xᵀHx, and summing over i

    λ_max(ΦᵀHΦ) ≥ (tr N⁻¹Y_A + tr N Y_B)/τ ≥ 2‖Y_A^{1/2}Y_B^{1/2}‖_*/τ,    τ = Σ x_iᵀHx_i,

with Y_A and Y_B the partial traces of Σ y_iy_iᵀ. The right side knows nothing of T. It is attained: the best weight
V = Σ (Fᵀx_i)(Fᵀx_i)ᵀ/τ and the best N form a saddle point, because FᵀΦΦᵀF is convex in N (N⁻¹ is operator convex),
linear in V, and the weights are compact. There Σ (Φ⁻¹x_i)(Φ⁻¹x_i)ᵀ is a mixture of top eigenvectors (dA, dB) with
Σ dAᵀdA = Σ dB·dBᵀ: a balanced one, which is the condition for the best gauge.

*A bound for κ.* With a second set of directions, of weight U instead of V, xᵀHx λ_min⁺ ≤ yᵀΦΦᵀy. If Y_A(V) ⪰ c·Y_A(U)
and Y_B(V) ⪰ c·Y_B(U), both divided by their τ, then λ_max ≥ c·λ_min⁺ in every gauge. This does not use that N⁻¹ and N
belong together, so that for r ≥ 2 the best of these bounds may stay below the best κ; for r = 1 nothing is lost.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorakappa.conditioning.checks import Array, as_matrix, check_integer
from lorakappa.conditioning.scaling import Wide, unit
from lorakappa.conditioning.tolerances import psd_rtol, summation_rtol

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class GaugeCertificate:
    """Directions from which `lower_bound_over_gauges` computes a bound.

    Attributes:
        top: (m, d) directions in (vec A, vec B) for the largest eigenvalue.
        bottom: (n, d) directions for the smallest non-zero one, if the bound is one on κ.
    """

    top: Array
    bottom: Array | None = None


def partial_traces(H: ArrayLike, shape: Shape) -> tuple[Array, Array]:
    """The partial traces (H_A, H_B) of a Hessian in (vec A, vec B), row-major (module docstring).

    Args:
        H: (d, d) symmetric matrix, d = r(a + b).
        shape: (a, b, r).

    Returns:
        Two (r, r) symmetric float64 matrices.

    Raises:
        ValueError: on a bad shape, non-finite entries, or H that is not positive semidefinite.
    """
    return traced(as_hessian(H, shape), shape)


def traced(H: Array, shape: Shape) -> tuple[Array, Array]:
    """`partial_traces` of a checked matrix."""
    a, b, r = shape
    split = a * r
    H_A = np.einsum("mimj->ij", H[:split, :split].reshape(a, r, a, r))
    return H_A, np.einsum("injn->ij", H[split:, split:].reshape(r, b, r, b))


def lower_bound_over_gauges(H: ArrayLike, shape: Shape, certificate: GaugeCertificate) -> float:
    """A lower bound on λ_max of ΦᵀHΦ for every gauge, or on κ⁺ if the certificate has directions for λ_min⁺, too.

    Rounding is allowed for: each product Hx is trusted to d·EPS times |H||x| entry by entry, and the bound lowered by
    what that can amount to. It needs nothing but these products, so that a certificate is worth what it says whoever
    found it.

    Args:
        H: (d, d) positive semidefinite matrix in (vec A, vec B), row-major; that it is one is checked to rounding.
        shape: (a, b, r).
        certificate: the directions; any are valid, `optimal_gauge` finds good ones.

    Returns:
        The bound, ≥ 0 for λ_max and ≥ 1 for κ⁺.

    Raises:
        OutOfRangeError: if the bound on λ_max does not fit into float64.
        ValueError: on a bad shape, non-finite entries, or H that is not positive semidefinite.
    """
    matrix, e = unit(as_hessian(H, shape))
    d = len(matrix)
    return _bound(lambda X: (X @ matrix, np.abs(X) @ np.abs(matrix)), d, d, shape, certificate, e)


def lower_bound_from_factor(F: ArrayLike, shape: Shape, certificate: GaugeCertificate) -> float:
    """`lower_bound_over_gauges` for H = FFᵀ, which is not formed.

    The bound on λ_max holds for H + R in place of H with any R ⪰ 0, too, since ΦᵀRΦ ⪰ 0: the leading part of a matrix
    is enough for a bound on all of it.

    Args:
        F: (d, n) factor of the Hessian in (vec A, vec B), row-major.
        shape: (a, b, r).
        certificate: the directions.

    Returns:
        As `lower_bound_over_gauges`, like the errors.
    """
    factor, e = unit(as_factor(F, shape))

    def products(X: Array) -> tuple[Array, Array]:
        return X @ factor @ factor.T, np.abs(X) @ np.abs(factor) @ np.abs(factor).T

    return _bound(products, len(factor), sum(factor.shape), shape, certificate, 2 * e)


Weighing = Callable[[Array], tuple[Array, Array]]
"""(m, d) rows X to the rows XH, and to the sums of absolute values that bound the rounding in them."""


def _bound(products: Weighing, d: int, terms: int, shape: Shape, certificate: GaugeCertificate, e: int) -> float:
    """The bound for a (d, d) matrix times 2^e, each entry of a product with which takes so many products and sums."""
    top = _Products.of(products, d, terms, shape, "certificate.top", certificate.top)
    if certificate.bottom is None:
        return Wide.of(top.largest, e).fit("the bound on λ_max") if top.largest > 0 else 0.0
    return _Products.of(products, d, terms, shape, "certificate.bottom", certificate.bottom).ratio_below(top)


@dataclass(frozen=True)
class _Products:
    """What a bound needs of y_i = Hx_i.

    Attributes:
        left: (r, r) factor R with RᵀR = Y_A, triangular.
        right: the same for Y_B.
        left_error: ‖·‖_F by which rounding may have moved `left`.
        right_error: the same for `right`.
        tau: Σ x_iᵀHx_i.
        tau_error: by how much rounding may have moved it.
    """

    left: Array
    right: Array
    left_error: float
    right_error: float
    tau: float
    tau_error: float

    @classmethod
    def of(cls, products: Weighing, d: int, terms: int, shape: Shape, name: str, directions: ArrayLike) -> "_Products":
        """The products of the directions with a (d, d) H."""
        a, b, r = shape
        X = as_matrix(name, directions)
        if X.shape[1] != d:
            raise ValueError(f"{name} has {X.shape[1]} columns, but H has {d} rows")
        Y, sizes = products(X)
        split, rtol = a * r, summation_rtol(max(Y.size, terms))
        left = np.linalg.qr(Y[:, :split].reshape(-1, r), mode="r")
        right = np.linalg.qr(Y[:, split:].reshape(-1, r, b).swapaxes(1, 2).reshape(-1, r), mode="r")
        return cls(
            left=np.asarray(left),
            right=np.asarray(right),
            left_error=rtol * float(np.linalg.norm(sizes[:, :split])),
            right_error=rtol * float(np.linalg.norm(sizes[:, split:])),
            tau=float((X * Y).sum()),
            tau_error=rtol * float((np.abs(X) * sizes).sum()),
        )

    @property
    def largest(self) -> float:
        """2‖R_A R_Bᵀ‖_*/τ, less rounding; −inf where that leaves nothing."""
        bound = 2 * float(np.linalg.svd(self.left @ self.right.T, compute_uv=False).sum())
        left, right = float(np.linalg.norm(self.left)), float(np.linalg.norm(self.right))
        # nuclear norms of δR_A R_Bᵀ, R_A δR_Bᵀ, and of both errors together
        error = self.left_error * right + left * self.right_error + self.left_error * self.right_error
        return (bound - 2 * error) / (self.tau + self.tau_error) if bound > 2 * error else -np.inf

    def ratio_below(self, top: "_Products") -> float:
        """The largest c of the module docstring, less rounding, these being the directions of λ_min⁺; at least 1."""
        shares = [
            squared_ratio(self.left, self.left_error, top.left, top.left_error),
            squared_ratio(self.right, self.right_error, top.right, top.right_error),
        ]
        tau, largest = self.tau - self.tau_error, max(shares)
        if tau <= 0 or not 0 < largest < np.inf:
            return 1.0
        return max(1.0, tau / (top.tau + top.tau_error) / largest)


def squared_ratio(R: Array, error: float, of: Array, of_error: float) -> float:
    """‖R S⁻¹‖₂², the largest eigenvalue of (SᵀS)⁻¹RᵀR, plus what errors of R and S = `of` can add; else inf."""
    sigma = np.linalg.svd(of, compute_uv=False)
    if len(of) < of.shape[1] or sigma[-1] <= of_error:
        return np.inf
    quotient = float(np.linalg.norm(np.linalg.solve(of.T, R.T), 2))
    return ((quotient + error / sigma[-1]) / (1 - of_error / sigma[-1])) ** 2


def as_hessian(H: ArrayLike, shape: Shape) -> Array:
    """H as a finite positive semidefinite float64 matrix of the size that the shape asks for."""
    check_shape(shape)
    a, b, r = shape
    matrix = as_matrix("H", H)
    d = r * (a + b)
    if matrix.shape != (d, d):
        raise ValueError(f"H has shape {matrix.shape}, but (a, b, r) = {(a, b, r)} has d = r(a + b) = {d} parameters")
    matrix = symmetrized("H", matrix)
    check_semidefinite(np.linalg.eigvalsh(matrix))
    return matrix


def as_factor(F: ArrayLike, shape: Shape) -> Array:
    """F as a finite float64 matrix with as many rows as the shape asks for."""
    check_shape(shape)
    a, b, r = shape
    matrix = as_matrix("F", F)
    d = r * (a + b)
    if len(matrix) != d:
        raise ValueError(f"F has {len(matrix)} rows, but (a, b, r) = {(a, b, r)} has d = r(a + b) = {d} parameters")
    return matrix


def symmetrized(name: str, M: Array) -> Array:
    """(M + Mᵀ)/2 of a matrix that is symmetric to rounding, or raises ValueError."""
    half, other = M / 2, M.T / 2
    if float(np.abs(half - other).max()) > psd_rtol(len(M)) * float(np.abs(M).max()):
        raise ValueError(f"{name} is not symmetric; pass ({name} + {name}.T)/2 if that is what you mean")
    return half + other


def check_semidefinite(eigenvalues: NDArray[Any], name: str = "H") -> None:
    """Raises ValueError unless ascending eigenvalues are those of a positive semidefinite matrix, to rounding."""
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    if low < -psd_rtol(len(eigenvalues)) * max(-low, high):
        raise ValueError(
            f"{name} is not positive semidefinite: its smallest eigenvalue is {low:.3g}, its largest {high:.3g}; pass "
            "a Gauss–Newton matrix, or the Hessian at a minimizer"
        )


def check_shape(shape: Shape) -> None:
    """Raises ValueError or TypeError unless the shape is (a, b, r), three positive integers."""
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ValueError(f"the shape must be (a, b, r), not {shape!r}")
    for name, size in zip("abr", shape, strict=True):
        check_integer(name, size)
        if size < 1:
            raise ValueError(f"{name} = {size} must be positive")
