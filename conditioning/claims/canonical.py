"""The family behind all static claims: minimizers of Model 1 in canonical form.

By the SVD every minimizer is orthogonally equivalent to A = [diag(q) G; 0], B = [G⁻¹ diag(q), 0],
Z = diag(q₁², …, q_r², s_{r+1}, …, s_k) with q > 0 and G invertible, and every side of the claims is invariant
under orthogonal changes of frame. With rational q, s and G all of it is rational, and so is the
hyperbalanced pair diag(q), diag(q) with the same product.

A claim's comparison reads the same quantities from a `FloatPair`, which asks the library, and from an
`ExactPair`, which knows nothing of the library: its Hessian is a second difference of the loss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any

import flint
import numpy as np

from lorakappa.conditioning import bounds
from lorakappa.conditioning import hessians as dense
from lorakappa.conditioning import spectra as closed_form
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import exact
from lorakappa.conditioning.verification.family import Parameters, Shape, all_shapes

MAX_GAUGE_CONDITION = 1e4
MIN_RELATIVE_GAP = 1e-6


@dataclass(frozen=True)
class Extra:
    """Further parameters of an instance: a matrix by name, with its size and how to draw it."""

    name: str
    size: Callable[[Shape], tuple[int, int]]
    draw: Callable[[Shape, np.random.Generator], Array]
    valid: Callable[[Any], bool] = lambda matrix: True


def gaussian(name: str, size: Callable[[Shape], tuple[int, int]], max_condition: float | None = None) -> Extra:
    """A matrix of standard normal entries, of bounded condition number if one is given."""
    if max_condition is None:
        return Extra(name, size, lambda shape, rng: rng.standard_normal(size(shape)))
    return Extra(
        name,
        size,
        lambda shape, rng: rng.standard_normal(size(shape)),
        lambda matrix: bool(np.linalg.cond(matrix.astype(float)) <= max_condition),
    )


GRADIENT_STEP = (
    gaussian("gradient", lambda s: (s.a, s.b)),
    Extra("step", lambda s: (1, 1), lambda s, rng: 10.0 ** rng.uniform(-3, 1, (1, 1))),
)
"""A gradient ∇ℓ(W) (a, b) and a step size γ over four decades."""


@dataclass(frozen=True)
class CanonicalMinimizers:
    """Minimizers (A, B) of ½‖Z − AB‖_F² in canonical form; a `Family`.

    Attributes:
        restriction: the domain in words, beyond "all minimizers".
        where: shapes that belong to the domain.
        largest: largest a and b.
        extras: further matrices that an instance carries.
        gauge: draws G.
        min_imbalance: smallest relative imbalance ‖AᵀA − BBᵀ‖_F/(‖A‖_F² + ‖B‖_F²) of an instance.
        min_root_gap: smallest relative gap between consecutive q (0 allows equal singular values).
        scalar_gauge: only G = tI, t > 0, so that BBᵀ = t⁻⁴AᵀA; an instance then carries t alone.
        exact_rank: only targets of rank r; an instance then carries no tail.
    """

    restriction: str = "all shapes with r ≤ min(a, b)"
    where: Callable[[Shape], bool] = lambda shape: True
    largest: int = 4
    extras: tuple[Extra, ...] = ()
    gauge: Callable[[int, np.random.Generator], Array] = lambda r, rng: draw_gauge(r, rng)
    min_imbalance: float = 0.0
    min_root_gap: float = 0.0
    scalar_gauge: bool = False
    exact_rank: bool = False

    @property
    def description(self) -> str:
        """The domain in words."""
        return (
            f"global minimizers of ½‖Z − AB‖² with s_r > s_{{r+1}}; {self.restriction}; searched for a, b ≤ "
            f"{self.largest}, cond(G) ≤ {MAX_GAUGE_CONDITION:g}, (s_r − s_{{r+1}})/s_1 ≥ {MIN_RELATIVE_GAP:g}"
        )

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes up to `largest` in the domain, fewest parameters first."""
        return tuple(shape for shape in all_shapes(self.largest) if self.where(shape))

    def draw(self, shape: Shape, rng: np.random.Generator) -> Array:
        """Random spectrum (clustered to spread, gaps down to 1e-4), gauge (orthogonal to wild) and extras."""
        q, tail = draw_spectrum(shape, rng)
        G = 10.0 ** rng.uniform(-1, 1, 1) if self.scalar_gauge else self.gauge(shape.r, rng).ravel()
        parts = [q, tail[: self._tail_size(shape)], G]
        return np.concatenate(parts + [extra.draw(shape, rng).ravel() for extra in self.extras])

    def valid(self, shape: Shape, parameters: Parameters) -> bool:
        """Whether the parameters describe a minimizer of the domain."""
        r = shape.r
        q, tail, G, extras = self._unpack(shape, np.asarray(parameters, dtype=object).astype(float))
        s = np.append(q**2, tail)
        if q.min() <= 0 or (tail < 0).any() or (np.diff(s[:r]) > 0).any() or (np.diff(s[r:]) > 0).any():
            return False
        if (r < shape.k and s[r - 1] - s[r] < MIN_RELATIVE_GAP * s[0]) or s[r - 1] < MIN_RELATIVE_GAP * s[0]:
            return False
        if r > 1 and (-np.diff(q)).min() < self.min_root_gap * q[0]:
            return False
        sigma = np.linalg.svd(G, compute_uv=False)
        if sigma[-1] * MAX_GAUGE_CONDITION < sigma[0] or not 1e-3 < sigma[0] < 1e3:
            return False
        if self.min_imbalance:
            gram_A, gram_B = G.T * q**2 @ G, (inverse := np.linalg.inv(G)) * q**2 @ inverse.T
            size = np.trace(gram_A) + np.trace(gram_B)
            if np.linalg.norm(gram_A - gram_B) < self.min_imbalance * size:
                return False
        return all(extra.valid(extras[extra.name]) for extra in self.extras)

    def floating(self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None) -> "FloatPair":
        """The instance in float64, in a random orthonormal frame if a generator is given."""
        q, tail, G, extras = self._unpack(shape, np.asarray(parameters, dtype=np.float64))
        return FloatPair(shape, q, tail, G, extras, frame)

    def exact(self, shape: Shape, parameters: Sequence[Fraction]) -> "ExactPair":
        """The instance in exact arithmetic, in the canonical frame."""
        q, tail, G, extras = self._unpack(shape, np.asarray(parameters, dtype=object))
        matrices = {name: exact.matrix(value.tolist()) for name, value in extras.items()}
        roots, residual = [exact.rational(x) for x in q], [exact.rational(x) for x in tail]
        return ExactPair(shape, roots, residual, exact.matrix(G.tolist()), matrices)

    def describe(self, shape: Shape, parameters: Sequence[Fraction]) -> dict[str, Any]:
        """A, B, Z and the extras as rational strings."""
        pair = self.exact(shape, parameters)
        named = {"A": pair.A, "B": pair.B, "Z": pair.Z, **pair.extras}
        return {name: [[str(x) for x in row] for row in matrix.tolist()] for name, matrix in named.items()}

    def parameters(
        self,
        q: Sequence[Fraction | int],
        tail: Sequence[Fraction | int],
        G: Sequence[Sequence[Fraction | int]],
        **extras: Sequence[Sequence[Fraction | int]],
    ) -> tuple[Fraction, ...]:
        """Flat rational parameters from named parts, to state an instance by hand."""
        rows = [row for matrix in [G, *(extras[extra.name] for extra in self.extras)] for row in matrix]
        return tuple(Fraction(x) for part in [q, tail, *rows] for x in part)

    def _unpack(self, shape: Shape, parameters: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        r, tail_size = shape.r, self._tail_size(shape)
        q, tail, start = parameters[:r], parameters[r : r + tail_size], r + tail_size
        if self.exact_rank:
            tail = np.zeros(shape.k - r, dtype=parameters.dtype)
        if self.scalar_gauge:
            G, start = parameters[start] * np.eye(r, dtype=parameters.dtype), start + 1
        else:
            G, start = parameters[start : start + r * r].reshape(r, r), start + r * r
        extras = {}
        for extra in self.extras:
            rows, columns = extra.size(shape)
            extras[extra.name] = parameters[start : start + rows * columns].reshape(rows, columns)
            start += rows * columns
        return q, tail, G, extras

    def _tail_size(self, shape: Shape) -> int:
        return 0 if self.exact_rank else shape.k - shape.r


def draw_spectrum(shape: Shape, rng: np.random.Generator) -> tuple[Array, Array]:
    """Square roots q of the leading singular values, and the tail s_{r+1..k} with a prescribed gap.

    The leading values spread over up to three decades or coincide, the gap (s_r − s_{r+1})/s_r is 1 (rank
    Z = r) or log-uniform in [1e-4, 1].
    """
    spread = rng.choice([0.0, 0.3, 1.0, 3.0])
    q = np.sort(10.0 ** rng.uniform(-spread / 2, 0, shape.r))[::-1] * 10.0 ** rng.uniform(-1, 1)
    gap = 1.0 if rng.random() < 0.2 else 10.0 ** rng.uniform(-4, 0)
    tail = q[-1] ** 2 * (1 - gap) * np.sort(rng.uniform(0, 1, shape.k - shape.r))[::-1]
    if len(tail):
        tail[0] = q[-1] ** 2 * (1 - gap)
    return q, tail


def draw_gauge(r: int, rng: np.random.Generator) -> Array:
    """An invertible r×r matrix: orthogonal, scalar, confined to a few directions, or general.

    Singular values are log-uniform over up to four decades, so that cond(G) ≤ 1e4.
    """
    width = rng.choice([0.1, 0.5, 1.0, 2.0])
    sigma = 10.0 ** rng.uniform(-width, width, r)
    kind = rng.choice(["orthogonal", "scalar", "confined", "diagonal", "general"], p=[0.05, 0.15, 0.2, 0.2, 0.4])
    if kind == "orthogonal":
        return random_orthogonal(r, rng)
    if kind == "scalar":
        return sigma[0] * np.eye(r)
    if kind == "confined":
        return np.diag(np.where(rng.random(r) < 0.5, 1.0, sigma ** rng.choice([0.1, 1.0])))
    if kind == "diagonal":
        return np.diag(sigma)
    return random_orthogonal(r, rng) * sigma @ random_orthogonal(r, rng)


def draw_confined_gauge(r: int, rng: np.random.Generator) -> Array:
    """Mostly a mild imbalance of one single direction, else a gauge of `draw_gauge`."""
    if rng.random() < 0.3:
        return draw_gauge(r, rng)
    sigma = np.ones(r)
    sigma[rng.integers(r)] = 10.0 ** rng.uniform(-0.3, 0.3)
    return np.diag(sigma)


def random_orthogonal(n: int, rng: np.random.Generator) -> Array:
    """A Haar-distributed orthogonal matrix (QR of a Gaussian with positive diagonal of R)."""
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return np.asarray(Q * np.where(np.diag(R) < 0, -1.0, 1.0))


@dataclass(frozen=True)
class FloatPair:
    """A minimizer in float64; its quantities come from the library's public functions.

    Names are those of `ExactPair`, which documents them.
    """

    shape: Shape
    q: Array
    tail: Array
    G: Array
    extras: Mapping[str, Array]
    frame: np.random.Generator | None = None
    _frames: tuple[Array, Array] = field(init=False, repr=False)

    infinity = np.inf
    sqrt = staticmethod(np.sqrt)
    minimum = staticmethod(min)
    maximum = staticmethod(max)

    def __post_init__(self) -> None:
        a, b = self.shape.a, self.shape.b
        frames = np.eye(a), np.eye(b)
        if self.frame is not None:
            frames = random_orthogonal(a, self.frame), random_orthogonal(b, self.frame)
        object.__setattr__(self, "_frames", frames)

    @cached_property
    def s(self) -> Array:
        return np.append(self.q**2, self.tail)

    @cached_property
    def A(self) -> Array:
        return self._frames[0][:, : self.shape.r] * self.q @ self.G

    @cached_property
    def B(self) -> Array:
        return np.asarray(np.linalg.solve(self.G, self.q[:, None] * self._frames[1][:, : self.shape.r].T))

    @cached_property
    def Z(self) -> Array:
        return self._frames[0][:, : self.shape.k] * self.s @ self._frames[1][:, : self.shape.k].T

    @cached_property
    def condition(self) -> float:
        """What multiplies rounding errors in this instance's quantities."""
        r = self.shape.r
        gap = (self.s[r - 1] - self.s[r]) / self.s[0] if r < self.shape.k else self.s[r - 1] / self.s[0]
        sigma = np.linalg.svd(self.G, compute_uv=False)
        return float(max(sigma[0], 1.0) ** 2 * max(1 / sigma[-1], 1.0) ** 2 / gap)

    @property
    def rounding(self) -> float:
        return claim_rtol(self.condition, self.shape.d)

    @cached_property
    def closed(self) -> closed_form.Minimizer:
        return closed_form.analyse_minimizer(self.A, self.B, self.Z, rtol=max(self.rounding, 1e-8))

    @property
    def L(self) -> float:
        return self.closed.L

    @property
    def mu(self) -> float:
        return self.closed.mu

    @property
    def kappa(self) -> float:
        return self.closed.L / self.closed.mu

    @cached_property
    def kappa_balanced(self) -> float:
        return closed_form.balanced_condition_number(self.s, self.shape.r, (self.shape.a, self.shape.b))

    @cached_property
    def gram_A(self) -> list[float]:
        return list(np.linalg.svd(self.A, compute_uv=False) ** 2)

    @cached_property
    def gram_B(self) -> list[float]:
        return list(np.linalg.svd(self.B, compute_uv=False) ** 2)

    @cached_property
    def dense_spectrum(self) -> Array:
        return np.asarray(np.linalg.eigvalsh(dense.hessian(self.A, self.B, self.Z)))

    @property
    def trace(self) -> float:
        return float(self.dense_spectrum.sum())

    @property
    def kernel_dimension(self) -> int:
        eigenvalues = self.dense_spectrum
        return int((eigenvalues <= 16 * len(eigenvalues) * 2.0**-52 * eigenvalues[-1]).sum())

    def bounds(self, form: Any) -> bounds.KappaBounds:
        return bounds.kappa_bounds(self.A, self.B, self.Z, form=form, rtol=max(self.rounding, 1e-8))

    def with_gauge(self, G: Any) -> "FloatPair":
        return FloatPair(self.shape, self.q, self.tail, np.asarray(G, dtype=float), self.extras, self.frame)

    def with_diagonal_gauge(self, entries: Sequence[Any]) -> "FloatPair":
        return self.with_gauge(np.diag([float(x) for x in entries]))

    def balanced(self) -> "FloatPair":
        return self.with_diagonal_gauge([1] * self.shape.r)


@dataclass(frozen=True)
class ExactPair:
    """A minimizer over the rationals, in the canonical frame.

    Eigenvalues come from the characteristic polynomial of the Hessian, which is built from second
    differences of the loss: rationals where rational, else disjoint real balls.
    """

    shape: Shape
    q: list[exact.Exact]
    tail: list[exact.Exact]
    G: flint.fmpq_mat
    extras: Mapping[str, flint.fmpq_mat]

    infinity = flint.arb("inf")
    rounding = 0.0
    sqrt = staticmethod(exact.sqrt)
    minimum = staticmethod(exact.minimum)
    maximum = staticmethod(exact.maximum)

    @cached_property
    def s(self) -> list[exact.Exact]:
        """Singular values of Z."""
        return [x * x for x in self.q] + self.tail

    @cached_property
    def A(self) -> flint.fmpq_mat:
        """(a, r) factor [diag(q) G; 0]."""
        return diagonal(self.shape.a, self.shape.r, self.q) * self.G

    @cached_property
    def B(self) -> flint.fmpq_mat:
        """(r, b) factor [G⁻¹ diag(q), 0]."""
        return self.G.inv() * diagonal(self.shape.r, self.shape.b, self.q)

    @cached_property
    def Z(self) -> flint.fmpq_mat:
        """(a, b) target diag(s)."""
        return diagonal(self.shape.a, self.shape.b, self.s)

    @cached_property
    def hessian(self) -> flint.fmpq_mat:
        """(d, d) Hessian of the loss, by exact second differences."""
        (a, b, r), split = (self.shape.a, self.shape.b, self.shape.r), self.shape.a * self.shape.r

        def loss(theta: list[flint.fmpq]) -> flint.fmpq:
            A, B = flint.fmpq_mat(a, r, theta[:split]), flint.fmpq_mat(r, b, theta[split:])
            return exact.half_square(self.outer(A * B - self.residual_target))

        return exact.hessian(loss, self.A.entries() + self.B.entries())

    @property
    def residual_target(self) -> flint.fmpq_mat:
        """What the product is compared with in the loss: Z, or AB itself for Model 2 (interpolation)."""
        return self.A * self.B if "J" in self.extras else self.Z

    def outer(self, residual: flint.fmpq_mat) -> flint.fmpq_mat:
        """The residual as the loss sees it: itself for Model 1, J·vec for Model 2."""
        if "J" not in self.extras:
            return residual
        return self.extras["J"] * flint.fmpq_mat(len(residual.entries()), 1, residual.entries())

    @cached_property
    def eigenvalues(self) -> list[exact.Exact]:
        """All d eigenvalues of the Hessian, ascending."""
        return exact.eigenvalues(self.hessian)

    @property
    def trace(self) -> flint.fmpq:
        """Trace of the Hessian."""
        return sum((self.hessian[i, i] for i in range(self.shape.d)), flint.fmpq(0))

    @property
    def kernel_dimension(self) -> int:
        """Number of zero eigenvalues of the Hessian."""
        return sum(1 for x in self.eigenvalues if x == 0)

    @property
    def L(self) -> exact.Exact:
        """Largest eigenvalue of the Hessian."""
        return self.eigenvalues[-1]

    @property
    def mu(self) -> exact.Exact:
        """Smallest eigenvalue past the r² zeros."""
        return self.eigenvalues[self.shape.r**2]

    @property
    def kappa(self) -> exact.Exact:
        """Condition number L/μ."""
        return self.L / self.mu

    @cached_property
    def kappa_balanced(self) -> exact.Exact:
        """Condition number at the hyperbalanced pair with the same product."""
        return self.balanced().kappa

    @cached_property
    def gram_A(self) -> list[exact.Exact]:
        """σ_i(A)², descending."""
        return exact.eigenvalues(self.A.transpose() * self.A)[::-1]

    @cached_property
    def gram_B(self) -> list[exact.Exact]:
        """σ_i(B)², descending."""
        return exact.eigenvalues(self.B * self.B.transpose())[::-1]

    def bounds(self, form: str) -> tuple[exact.Exact, exact.Exact]:
        """`kappa_bounds` over again in exact arithmetic: (lower, upper)."""
        r, k = self.shape.r, self.shape.k
        numerator = self.gram_A[0] + self.gram_B[0]
        alpha, beta = self.gram_A[-1], self.gram_B[-1]
        m = exact.minimum(alpha, beta)
        s_next = self.s[r] if r < k else flint.fmpq(0)
        if form == "paper":
            return numerator / m, numerator / (m - s_next) if m > s_next else self.infinity
        if r == k:
            square = self.shape.a == self.shape.b
            mu = alpha + beta if square else (beta if self.shape.a > self.shape.b else alpha)
            return numerator / mu, numerator / mu
        inverse, gap = self.G.inv(), self.s[r - 1] - s_next
        test = sum((self.G[r - 1, j] ** 2 + inverse[j, r - 1] ** 2 for j in range(r)), flint.fmpq(0))
        lower = numerator * exact.maximum(1 / m, test / (2 * gap))
        pencil = (alpha + beta - exact.sqrt((alpha - beta) ** 2 + 4 * s_next**2)) / 2
        norms = [exact.eigenvalues(X.transpose() * X)[-1] for X in (self.G, inverse)]
        return lower, numerator / exact.maximum(pencil, gap / exact.maximum(*norms))

    def with_gauge(self, G: Any) -> "ExactPair":
        """The pair with another gauge and the same product."""
        gauge = G if isinstance(G, flint.fmpq_mat) else exact.matrix(G)
        return ExactPair(self.shape, self.q, self.tail, gauge, self.extras)

    def with_diagonal_gauge(self, entries: Sequence[Any]) -> "ExactPair":
        """The pair with a diagonal gauge."""
        rationals = [x if isinstance(x, flint.fmpq) else exact.rational(x) for x in entries]
        return self.with_gauge(diagonal(self.shape.r, self.shape.r, rationals))

    def balanced(self) -> "ExactPair":
        """The hyperbalanced pair diag(q), diag(q) with the same product."""
        return self.with_diagonal_gauge([1] * self.shape.r)


def diagonal(rows: int, columns: int, entries: Sequence[Any]) -> flint.fmpq_mat:
    """A rational matrix with these entries on its diagonal and zeros elsewhere."""
    D = flint.fmpq_mat(rows, columns)
    for i, x in enumerate(entries):
        D[i, i] = x
    return D
