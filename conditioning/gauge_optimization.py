"""The best gauge for a loss: the pair (AT, T⁻¹B) at which its Hessian has the smallest trace, λ_max or κ.

Balance is best for ½‖Z − AB‖² with r < min(a, b), as nothing weighs directions there. A loss that weighs them has
another best gauge. `gauge_certificate` has the theory, and bounds for all gauges, `gauge_descent` the search.
Derived here.

- "trace": N = TTᵀ = H_B⁻¹ # H_A in closed form, with the Hessian's partial traces H_A and H_B. With Cholesky factors
  H_A = L_AL_Aᵀ, H_B = L_BL_Bᵀ and L_AᵀL_B = USVᵀ it is T = L_AUS^{-1/2} up to a rotation, as in balanced truncation,
  and both partial traces become S there: the pair is balanced as the loss sees it. The minimum is 2 tr S.
- "lambda_max": a convex problem, solved to `tolerances.GAUGE_GAP_RTOL` together with a certificate.
- "kappa": for r = 1 quasi-convex, and solved like it; for r ≥ 2 it has local minima, of which several are visited, and
  the bound may be loose.

TQ with orthogonal Q is as good as T; the T returned is symmetric positive definite, which makes it unique.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import Array, as_array, as_matrix
from lorakappa.conditioning.gauge_certificate import (
    GaugeCertificate,
    Shape,
    as_factor,
    as_hessian,
    check_semidefinite,
    check_shape,
    lower_bound_from_factor,
    lower_bound_over_gauges,
    symmetrized,
    traced,
)
from lorakappa.conditioning.gauge_descent import Bound, Objective, Spot, descend, exponential, pulled_back
from lorakappa.conditioning.scaling import Wide, fit_array, unit
from lorakappa.conditioning.tolerances import GAUGE_GAP_RTOL, gram_rtol, psd_rtol

Criterion = Literal["trace", "lambda_max", "kappa"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)

RANDOM_STARTS = 4
"""Starts of the search for the smallest κ beside those that have a reason."""

POWERS = (2.0, 16.0)
"""Powers that its descents begin with; they end in the same local minimum or in two."""


class NoOptimalGaugeError(ValueError):
    """No gauge attains the smallest value: it is approached by gauges that tend to infinity or to 0."""


@dataclass(frozen=True, eq=False)
class OptimalGauge:
    """The best gauge found for a criterion.

    Attributes:
        criterion: "trace", "lambda_max" or "kappa".
        T: (r, r) symmetric positive definite; `change_gauge(A, B, T)` applies it.
        value: trace, λ_max or κ⁺ (largest over smallest non-zero eigenvalue) of the Hessian at (AT, T⁻¹B).
        given: the same at (A, B), where T = I.
        lower_bound: no gauge has a smaller value. It is `value` for the trace; for the others it is less by the gap of
            the certificate and by what rounding may amount to.
        certificate: from which `lower_bound_over_gauges` computes `lower_bound`, given the Hessian; None for the trace,
            and where theory knows the best gauge.
    """

    criterion: Criterion
    T: Array
    value: float
    given: float
    lower_bound: float
    certificate: GaugeCertificate | None = None


def optimal_gauge(H: ArrayLike, shape: Shape, *, criterion: Criterion = "trace") -> OptimalGauge:
    """The best gauge for a Hessian or a Gauss–Newton matrix.

    Args:
        H: (d, d) positive semidefinite matrix in (vec A, vec B), row-major, d = r(a + b).
        shape: (a, b, r).
        criterion: what becomes smallest.

    Returns:
        The gauge, its value and a bound for all gauges. For "kappa" the smallest value may be approached by gauges that
        tend to infinity; then T is where the search stopped. Source: module docstring.

    Raises:
        NoOptimalGaugeError: if a partial trace is singular: some direction of the inner dimension costs nothing
            in A or nothing in B (every one does at LoRA's start, A = 0), and the value falls for ever as T shrinks it.
        OutOfRangeError: if a value does not fit into float64.
        ValueError: on a bad shape, criterion or entry, or H that is not positive semidefinite.
    """
    check_criterion(criterion)
    matrix, e = unit(as_hessian(H, shape))
    T, inverse, smallest = _smallest_trace(*traced(matrix, shape))
    if criterion == "trace":
        return _of_trace(T, Wide.of(smallest, e), Wide.of(float(np.trace(matrix)), e))
    there = pulled_back(pulled_back(matrix, inverse, T, shape).T, inverse, T, shape)
    values, vectors = np.linalg.eigh(there / 2 + there.T / 2)
    check_semidefinite(values)
    kept = values > psd_rtol(len(matrix)) * values[-1]
    # where H is scaled so well its factor loses nothing
    start = Spot.at(vectors[:, kept] * np.sqrt(values[kept]), inverse, T, shape)

    def bound(certificate: GaugeCertificate) -> float:
        return lower_bound_over_gauges(matrix, shape, certificate)

    return _searched(criterion, start, bound, float(np.linalg.eigvalsh(matrix)[-1]), e)


def optimal_gauge_from_factor(
    F: ArrayLike, shape: Shape, *, criterion: Criterion = "trace", gap: float = GAUGE_GAP_RTOL
) -> OptimalGauge:
    """`optimal_gauge` for H = FFᵀ, which is not formed: a step costs O(r²dn²), where n is the number of columns.

    Gauss–Newton matrices come as such products, with a column of F for each row of the Jacobian, and Fisher matrices
    with one for each gradient. Of a matrix whose eigenvalues fall fast the leading eigenvectors will do:
    `lower_bound` for λ_max and the trace hold for H + R with any R ⪰ 0 as well.

    Args:
        F: (d, n) matrix, rows in (vec A, vec B), row-major.
        shape: (a, b, r).
        criterion: what becomes smallest.
        gap: relative, between λ_max and its bound, at which the search ends.

    Returns:
        As `optimal_gauge`, like the errors; `lower_bound_from_factor` computes `lower_bound` from the certificate.
    """
    check_criterion(criterion)
    factor, e = unit(as_factor(F, shape))
    T, inverse, smallest = _smallest_trace(*_traced_factor(factor, shape))
    if criterion == "trace":
        return _of_trace(T, Wide.of(smallest, 2 * e), Wide.of(float((factor**2).sum()), 2 * e))
    U, sigma, _ = np.linalg.svd(pulled_back(factor, inverse, T, shape), full_matrices=False)
    kept = sigma**2 > psd_rtol(len(factor)) * sigma[0] ** 2
    start = Spot.at(U[:, kept] * sigma[kept], inverse, T, shape)

    def bound(certificate: GaugeCertificate) -> float:
        return lower_bound_from_factor(factor, shape, certificate)

    return _searched(criterion, start, bound, float(np.linalg.norm(factor, 2)) ** 2, 2 * e, gap)


def _searched(
    criterion: Objective, start: Spot, bound: Bound, largest: float, e: int, gap: float = GAUGE_GAP_RTOL
) -> OptimalGauge:
    """The best gauge for λ_max, whose given value is `largest`, or κ⁺, from the gauge with the smallest trace."""
    if criterion == "lambda_max":
        best, certificate, lower = descend(start, criterion, bound, gap=gap)
        value, given, lower = (Wide.of(size, e).fit("λ_max") for size in (best.value(criterion), largest, lower))
    else:
        best, certificate, lower = _smallest_kappa(start, bound)
        # `right` and `left` are the moves that led here from the given pair
        value, given = best.value(criterion), start.moved(start.right, start.left).value(criterion)
    return OptimalGauge(criterion, symmetric(best.right), value, given, lower, certificate)


def optimal_gauge_from_products(
    product: Callable[[Array], ArrayLike], shape: Shape, *, criterion: Criterion = "trace"
) -> OptimalGauge:
    """`optimal_gauge` from Hessian-vector products: d of them, in d numbers of memory for the trace, else in d².

    Args:
        product: maps a (d,) float64 vector in (vec A, vec B), row-major, to its (d,) product with the Hessian.
        shape: (a, b, r).
        criterion: what becomes smallest.

    Returns:
        As `optimal_gauge`, like the errors.
    """
    check_criterion(criterion)
    check_shape(shape)
    a, b, r = shape
    d = r * (a + b)

    def column(i: int) -> Array:
        vector = np.zeros(d)
        vector[i] = 1.0
        found = as_array("the product", product(vector), what="a vector of real numbers")
        if found.shape != (d,):
            raise ValueError(f"the product has shape {found.shape}, but (a, b, r) = {(a, b, r)} asks for ({d},)")
        return found

    if criterion != "trace":
        return optimal_gauge(np.stack([column(i) for i in range(d)]), shape, criterion=criterion)
    H_A, H_B = np.zeros((r, r)), np.zeros((r, r))
    for m in range(a):
        for i in range(r):
            H_A[i] += column(m * r + i)[m * r : (m + 1) * r]
    for i in range(r):
        for n in range(b):
            H_B[i] += column(a * r + i * b + n)[a * r :].reshape(r, b)[:, n]
    return optimal_gauge_from_traces(H_A, H_B)


def optimal_gauge_from_traces(H_A: ArrayLike, H_B: ArrayLike) -> OptimalGauge:
    """The gauge of the smallest trace from the partial traces alone, or from any statistics that stand for them.

    With gradients g_A (a, r) and g_B (r, b) of single examples E g_Aᵀg_A and E g_B g_Bᵀ are the partial traces of the
    second moment E gᵀg, the empirical Fisher matrix.

    Args:
        H_A: (r, r) positive definite matrix.
        H_B: (r, r) positive definite matrix.

    Returns:
        The gauge that makes tr N⁻¹H_A + tr N H_B smallest, N = TTᵀ.

    Raises:
        NoOptimalGaugeError: if one of them is singular to working precision.
        OutOfRangeError: if a value or T does not fit into float64.
        ValueError: on bad shapes or entries, or matrices that are not symmetric positive semidefinite.
    """
    (left, p), (right, q) = (unit(_as_gram(name, M)) for name, M in (("H_A", H_A), ("H_B", H_B)))
    if left.shape != right.shape:
        raise ValueError(f"H_A has shape {left.shape} and H_B {right.shape}, but both must be (r, r)")
    T, _, smallest = _smallest_trace(left, right)
    # in units of 2^p and 2^q N is one of 2^((p − q)/2), T of 2^((p − q)/4), the value of 2^((p + q)/2)
    halves, odd = divmod((p - q) // 2, 2)
    traces = Wide.of(float(np.trace(left)), p) + Wide.of(float(np.trace(right)), q)
    return _of_trace(fit_array("T", T * 2.0 ** (odd / 2), halves), Wide.of(smallest, (p + q) // 2), traces)


def symmetric(T: Array) -> Array:
    """(TTᵀ)^{1/2}, the gauge with N = TTᵀ that has no rotation."""
    W, sigma, _ = np.linalg.svd(T)
    return np.asarray(W * sigma @ W.T)


def _of_trace(T: Array, value: Wide, given: Wide) -> OptimalGauge:
    smallest = value.fit("the trace")
    return OptimalGauge("trace", symmetric(T), smallest, given.fit("the trace"), smallest)


def _smallest_trace(H_A: Array, H_B: Array) -> tuple[Array, Array, float]:
    """T with TTᵀ = H_B⁻¹ # H_A, its inverse, and the trace there."""
    left, right = (_cholesky(name, M) for name, M in (("H_A", H_A), ("H_B", H_B)))
    U, s, Vt = np.linalg.svd(left.T @ right)
    root = np.sqrt(s)
    return left @ U / root, (Vt @ right.T) / root[:, None], 2 * float(s.sum())


def _cholesky(name: str, M: Array) -> Array:
    """The lower triangular factor of a positive definite matrix, whatever the sizes of its diagonal entries."""
    diagonal = np.diag(M)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    correlations = M / scale[:, None] / scale
    if diagonal.min() <= 0 or np.linalg.eigvalsh(correlations)[0] <= gram_rtol(len(M)):
        of = {"H_A": "A", "H_B": "B"}[name]
        raise NoOptimalGaugeError(
            f"{name} is singular: some direction of the inner dimension costs nothing in {of}, and the value falls for "
            "ever as the gauge shrinks what the other factor has there; add a multiple of the identity to damp it"
        )
    return np.asarray(scale[:, None] * np.linalg.cholesky(correlations))


def _traced_factor(F: Array, shape: Shape) -> tuple[Array, Array]:
    """The partial traces of FFᵀ."""
    a, _, r = shape
    of_A = F[: a * r].reshape(a, r, -1).swapaxes(0, 1).reshape(r, -1)
    of_B = F[a * r :].reshape(r, -1)
    return of_A @ of_A.T, of_B @ of_B.T


def _smallest_kappa(start: Spot, bound: Bound) -> tuple[Spot, GaugeCertificate, float]:
    """The smallest κ⁺ found by descents from several starts, and a bound."""
    # moved independently of each other, A's and B's directions make κ⁺ quasi-convex for all r: that gives the bound;
    # the moves dA·L and R·dB stand for N⁻¹ = LᵀL and N = RRᵀ, which the geometric mean reconciles
    relaxed, certificate, lower = descend(start, "kappa", bound, free=True)
    inverse, T = relaxed.relative(start)
    middle, middle_inverse, _ = _smallest_trace(T @ T.T, inverse.T @ inverse)
    starts = [start.moved(middle_inverse, middle), start, descend(start, "lambda_max", bound)[0]]
    rng = np.random.default_rng(0)
    for _ in range(RANDOM_STARTS):
        X = rng.standard_normal(T.shape) / 2
        starts.append(start.moved(exponential(-X - X.T), exponential(X + X.T)))
    best = start
    for first, power in itertools.product(starts, POWERS):
        if lower >= (1 - GAUGE_GAP_RTOL) * best.value("kappa"):
            break
        found, _, _ = descend(first, "kappa", None, power=power)
        best = min(best, found, key=lambda spot: spot.value("kappa"))
    return best, certificate, lower


def _as_gram(name: str, value: ArrayLike) -> Array:
    """A symmetric matrix, positive semidefinite to rounding."""
    M = as_matrix(name, value)
    if M.shape[0] != M.shape[1]:
        raise ValueError(f"{name} must be (r, r), but has shape {M.shape}")
    M = symmetrized(name, M)
    check_semidefinite(np.linalg.eigvalsh(M), name)
    return M


def check_criterion(criterion: str) -> None:
    """Raises ValueError on an unknown criterion."""
    if criterion not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, not {criterion!r}")
