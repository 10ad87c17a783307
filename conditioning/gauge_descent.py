"""Descent to the gauge in which a Hessian's largest eigenvalue, or its κ, is smallest.

For H = FFᵀ, F (d, n) of full rank, the non-zero eigenvalues λ of ΦᵀHΦ are those of G = FᵀΦΦᵀF (`gauge_certificate`).
Along a geodesic of N = TTᵀ from the current gauge T, T·exp(tX) with X symmetric, G(t) = (ΦᵀF)ᵀ exp(2tK) ΦᵀF with
K(dA, dB) = (−dA·X, X·dB). With ΦᵀF = V diag(σ) Uᵀ, c = VᵀKV and weights w_i = λ_i^p/Σλ^p, perturbation theory gives for
S_p = (1/p)·log tr G^p

    S_p′ = 2 Σ_i w_i c_ii,    S_p″ = 4 Σ_i w_i ‖Kv_i‖² + 4 Σ_ij D_ij c_ij² − p·(S_p′)²,

D_ij = (w_iλ_j − w_jλ_i)/(λ_i − λ_j), and (p − 1)w_i where both coincide. Derived here, like what follows.

S_p is convex along all geodesics for p ≥ 1 (claim `gauge-norms-log-convex`), starts at p = 1 with the trace, whose best
gauge is known in closed form, and tends to log λ_max; −S_{−p} tends to −log λ_min⁺. So Newton's method follows the best
gauge while p doubles. At a stationary point the mixture Σ w_i v_iv_iᵀ is balanced, so that the directions of a
certificate are the v_i at hand, and its gap is O(log n/p).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.gauge_certificate import GaugeCertificate, Shape
from lorakappa.conditioning.tolerances import EPS, GAUGE_GAP_RTOL

Objective = Literal["lambda_max", "kappa"]

LARGEST_POWER: dict[Objective, float] = {"lambda_max": 2.0**28, "kappa": 2.0**20}
"""Where a descent ends that has not closed the gap: S_p is within (log n)/p of its limit."""

NEWTON_STEPS = 30
"""Most steps for one power."""

DECREMENT = {True: 1e-12, False: 1e-4}
"""Newton's decrement times p at which the next power is begun, with a bound and without. Value and bound of λ_max lose
as much, the bound on κ its root."""

WIDEST = 30.0
"""Most that log T may move from where a descent starts: what goes further runs to infinity."""


@dataclass(frozen=True)
class Spot:
    """A gauge, and the Hessian's factor there.

    Attributes:
        F: (d, n) the factor ΦᵀF.
        left: (r, r) S with dA·S the move of A's directions, T⁻¹ for a gauge.
        right: (r, r) S with S·dB the move of B's directions, T for a gauge.
        shape: (a, b, r).
        V: (d, n) left singular vectors of F.
        eigenvalues: (n,) squared singular values, descending.
    """

    F: Array
    left: Array
    right: Array
    shape: Shape
    V: Array
    eigenvalues: Array

    @classmethod
    def at(cls, F: Array, left: Array, right: Array, shape: Shape) -> Self:
        """The spot with these moves, F being the factor after them."""
        V, sigma, _ = np.linalg.svd(F, full_matrices=False)
        return cls(F, left, right, shape, V, sigma**2)

    def moved(self, L: Array, R: Array) -> Self:
        """The spot after further moves dA·L and R·dB; with L = M⁻¹ and R = M it is the gauge TM."""
        return self.at(pulled_back(self.F, L, R, self.shape), L @ self.left, self.right @ R, self.shape)

    def relative(self, to: "Spot") -> tuple[Array, Array]:
        """The moves (L, R) that lead from another spot to this one."""
        return np.asarray(np.linalg.solve(to.left.T, self.left.T).T), np.asarray(np.linalg.solve(to.right, self.right))

    def tangents(self, basis: Array) -> Array:
        """(m, d, n) K_kV for m directions (X, Y) of symmetric matrices, dA·X and Y·dB."""
        return np.stack([pulled_back(self.V, X, Y, self.shape) for X, Y in basis])

    def value(self, objective: Objective) -> float:
        """λ_max or κ⁺."""
        return float(self.eigenvalues[0] / (1 if objective == "lambda_max" else self.eigenvalues[-1]))

    def directions(self, p: float) -> Array:
        """(m, d) directions of weight λ^{p−1} for a certificate, in the coordinates before any move."""
        a, b, r = self.shape
        weights = _weights(self.eigenvalues, p - 1)
        kept = weights > EPS * weights.max()
        X = (self.V[:, kept] * np.sqrt(weights[kept] / self.eigenvalues[kept])).T
        split = a * r
        dA = X[:, :split].reshape(-1, a, r) @ self.left
        dB = self.right @ X[:, split:].reshape(-1, r, b)
        return np.hstack([dA.reshape(len(X), -1), dB.reshape(len(X), -1)])


def pulled_back(M: Array, L: Array, R: Array, shape: Shape) -> Array:
    """ΦᵀM for Φ(dA, dB) = (dA·L, R·dB): (dA·Lᵀ, Rᵀ·dB) of the columns of the (d, n) matrix M."""
    a, b, r = shape
    of_A = np.einsum("ij,ajn->ain", L, M[: a * r].reshape(a, r, -1))
    of_B = np.einsum("ji,jbn->ibn", R, M[a * r :].reshape(r, b, -1))
    return np.vstack([of_A.reshape(a * r, -1), of_B.reshape(r * b, -1)])


Bound = Callable[[GaugeCertificate], float]
"""The lower bound that a certificate gives."""


def descend(
    start: Spot,
    objective: Objective,
    bound: Bound | None,
    *,
    free: bool = False,
    power: float = 2.0,
    gap: float = GAUGE_GAP_RTOL,
) -> tuple[Spot, GaugeCertificate, float]:
    """Follows the best spot for S_p, or S_p − S_{−p}, while p doubles.

    Args:
        start: where to begin.
        objective: what becomes small.
        bound: the bound that a certificate gives; None where none is wanted, and then the one returned is −∞.
        power: the first p; from a larger one a descent ends in another local minimum, if there are several.
        free: whether A's and B's directions may move independently, rather than by T⁻¹ and T.
        gap: relative, between value and bound, at which the descent ends.

    Returns:
        The best spot found, the best certificate and its bound.
    """
    basis = _directions(start.shape[2], free)
    spot = best = start
    certificate, found = GaugeCertificate(np.zeros((1, len(start.F)))), -np.inf
    p = power / 2
    while p < LARGEST_POWER[objective] and found < (1 - gap) * best.value(objective):
        p *= 2
        for _ in range(NEWTON_STEPS):
            following = _newton_step(spot, p, objective, basis, DECREMENT[bound is not None])
            if following is None:
                break
            spot = following
        if spot.value(objective) < best.value(objective):
            best = spot
        if bound is not None:
            new = GaugeCertificate(spot.directions(p), None if objective == "lambda_max" else spot.directions(-p))
            if (value := bound(new)) > found:
                certificate, found = new, value
        if _width(spot, start) > WIDEST:
            break
    return best, certificate, found


def _width(spot: Spot, start: Spot) -> float:
    """‖log‖₂ of the moves that lead from the start to a spot."""
    sizes = [np.log(np.linalg.svd(S, compute_uv=False)) for S in spot.relative(start)]
    return float(np.abs(sizes).max())


def _newton_step(spot: Spot, p: float, objective: Objective, basis: Array, enough: float) -> Spot | None:
    """The next spot, or None where there is nothing to gain."""
    products = spot.tangents(basis)
    gradient, curvature = _derivatives(spot, p, products)
    if objective == "kappa":
        other_gradient, other_curvature = _derivatives(spot, -p, products)
        gradient, curvature = gradient - other_gradient, curvature - other_curvature
    # where the objective is not convex the absolute curvature still makes a descent direction
    values, vectors = np.linalg.eigh(curvature)
    sizes = np.maximum(np.abs(values), GAUGE_GAP_RTOL * max(1.0, float(np.abs(values).max())))
    step = -vectors @ ((vectors.T @ gradient) / sizes)
    decrement = float(-gradient @ step)
    if decrement * p < enough:
        return None
    here, length = _objective(spot, p, objective), min(1.0, 1.0 / float(np.linalg.norm(step)))
    slack = EPS * (1 + abs(here))
    while length > EPS:
        following = spot.moved(*(exponential(X) for X in np.tensordot(length * step, basis, 1)))
        if _objective(following, p, objective) <= here + slack - 0.1 * length * decrement:
            return following
        length /= 2
    return None


def _objective(spot: Spot, p: float, objective: Objective) -> float:
    """S_p, or S_p − S_{−p}."""
    largest = _log_mean(spot.eigenvalues, p)
    return largest if objective == "lambda_max" else largest - _log_mean(spot.eigenvalues, -p)


def _log_mean(eigenvalues: Array, p: float) -> float:
    """S_p = (1/p)·log Σ λ^p."""
    dominant = eigenvalues[0 if p > 0 else -1]
    return float(np.log(dominant) + np.log(np.exp(p * np.log(eigenvalues / dominant)).sum()) / p)


def _weights(eigenvalues: Array, p: float) -> Array:
    """w_i = λ_i^p/Σλ^p."""
    powers = np.exp(p * np.log(eigenvalues / eigenvalues[0 if p > 0 else -1]))
    return np.asarray(powers / powers.sum())


def _derivatives(spot: Spot, p: float, products: Array) -> tuple[Array, Array]:
    """Gradient and second derivatives of S_p in the directions of which `products` are the KV."""
    weights, logs = _weights(spot.eigenvalues, p), np.log(spot.eigenvalues)
    c = spot.V.T @ products
    gradient = 2 * np.einsum("i,kii->k", weights, c)
    # with x = log(λ_i/λ_j) and p·x ≤ 0, D = w_j·(exp((p − 1)x) − 1)/(1 − exp(−x)), which nothing cancels in
    x = -np.sign(p) * np.abs(logs[:, None] - logs)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        quotient = np.where(x == 0, p - 1, np.expm1((p - 1) * x) / -np.expm1(-x))
    divided = np.maximum(weights[:, None], weights) * quotient
    m = len(products)
    moved = products * np.sqrt(weights)
    curvature = 4 * (moved.reshape(m, -1) @ moved.reshape(m, -1).T)
    curvature += 4 * ((c * divided).reshape(m, -1) @ c.reshape(m, -1).T)
    return gradient, curvature - p * np.outer(gradient, gradient)


def _directions(r: int, free: bool) -> Array:
    """(m, 2, r, r) basis of what (A's, B's) directions may move by: (−X, X), or each alone; orthonormal X."""
    single = []
    for i in range(r):
        for j in range(i + 1):
            X = np.zeros((r, r))
            X[i, j] = X[j, i] = 1.0 if i == j else 0.5**0.5
            single.append(X)
    zero = np.zeros((r, r))
    pairs = [(X, zero) for X in single] + [(zero, X) for X in single] if free else [(-X, X) for X in single]
    return np.array(pairs)


def exponential(X: Array) -> Array:
    """Exp X of a symmetric matrix."""
    values, vectors = np.linalg.eigh(X)
    return np.asarray(vectors * np.exp(values) @ vectors.T)
