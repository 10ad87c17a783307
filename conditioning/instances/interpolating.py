"""Interpolating pairs of Model 2, f(A, B) = ½‖h(AB) − Z‖², with the linear h(W) = J·vec(W) and J their extra matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Protocol

import flint
import numpy as np

from lorakappa.conditioning import bounds
from lorakappa.conditioning import spectra as closed_form
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.instances.canonical import CanonicalMinimizers, Extra
from lorakappa.conditioning.instances.exact_pair import ExactPair
from lorakappa.conditioning.instances.float_pair import FloatPair
from lorakappa.conditioning.instances.pair import Number, Pair
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Shape, exact


class InterpolatingPair(Pair, Protocol):
    """What an interpolating pair offers; its κ is that of MᵀJᵀJM past the r² zeros, M the Jacobian of AB."""

    @property
    def outer_condition(self) -> Number:
        """κ(JᵀJ)."""

    @property
    def tangent_condition(self) -> Number:
        """κ of JᵀJ on the tangent space {dA·B + A·dB}."""


class FloatInterpolatingPair(FloatPair):
    """An interpolating pair in float64."""

    @property
    def kappa(self) -> float:
        return closed_form.model2_condition_number(self.A, self.B, self.extras["J"])

    @property
    def outer_condition(self) -> float:
        return float(np.linalg.cond(self.extras["J"]) ** 2)

    @property
    def tangent_condition(self) -> float:
        return float(np.linalg.cond(self.extras["J"] @ bounds.tangent_basis(self.A, self.B)) ** 2)

    @property
    def rounding(self) -> float:
        """Relative rounding of κ: the condition of JM squared."""
        condition = np.linalg.cond(self.G) ** 2 * (self.q[0] / self.q[-1]) ** 2 * np.linalg.cond(self.extras["J"]) ** 2
        return claim_rtol(float(condition), self.shape.d)


class ExactInterpolatingPair(ExactPair):
    """An interpolating pair over the rationals."""

    @cached_property
    def product(self) -> flint.fmpq_mat:
        """(a, b) product AB, whose image under h is the target."""
        return self.A * self.B

    def residual(self, product: flint.fmpq_mat) -> flint.fmpq_mat:
        """J·vec(product − AB)."""
        change = product - self.product
        return self.extras["J"] * flint.fmpq_mat(len(change.entries()), 1, change.entries())

    @property
    def outer_condition(self) -> exact.Exact:
        return _gram_condition(self.extras["J"])

    @property
    def tangent_condition(self) -> exact.Exact:
        """In the canonical frame the tangent space is spanned by the entries (i, j) of W with i ≤ r or j ≤ r."""
        (a, b, r), J = (self.shape.a, self.shape.b, self.shape.r), self.extras["J"]
        columns = [i * b + j for i in range(a) for j in range(b) if i < r or j < r]
        return _gram_condition(flint.fmpq_mat([[J[row, c] for c in columns] for row in range(J.nrows())]))


def _gram_condition(K: flint.fmpq_mat) -> exact.Exact:
    """κ(KᵀK)."""
    eigenvalues = exact.eigenvalues(K.transpose() * K)
    return eigenvalues[-1] / eigenvalues[0]


def draw_jacobian(shape: Shape, rng: np.random.Generator) -> Array:
    """A square Jacobian: diagonal with entries over two decades, one stretched entry, or Gaussian."""
    n = shape.a * shape.b
    kind = rng.choice(["diagonal", "stretched", "general"])
    if kind == "general":
        return rng.standard_normal((n, n))
    diagonal = 10.0 ** rng.uniform(-1, 1, n) if kind == "diagonal" else np.ones(n)
    if kind == "stretched":
        diagonal[rng.integers(n)] = 10.0 ** rng.uniform(-1, 1)
    return np.diag(diagonal)


JACOBIAN = Extra(
    "J",
    lambda s: (s.a * s.b, s.a * s.b),
    draw_jacobian,
    lambda J: bool(np.linalg.cond(J.astype(float)) <= 1e3),
)


@dataclass(frozen=True)
class InterpolatingPairs(CanonicalMinimizers):
    """Interpolating pairs with a square Jacobian J; a `Family`."""

    largest: int = 3
    extras: tuple[Extra, ...] = (JACOBIAN,)

    def floating(
        self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None
    ) -> FloatInterpolatingPair:
        """The instance in float64, in a random orthonormal frame if a generator is given."""
        return FloatInterpolatingPair(*self._floating_parts(shape, parameters), frame)

    def exact(self, shape: Shape, parameters: Sequence[Fraction]) -> ExactInterpolatingPair:
        """The instance in exact arithmetic, in the canonical frame."""
        return ExactInterpolatingPair(*self._exact_parts(shape, parameters))


INTERPOLATING = InterpolatingPairs("square J with cond(J) ≤ 1e3")
INTERPOLATING_INTERIOR = InterpolatingPairs(
    "r < min(a, b), square J with cond(J) ≤ 1e3", where=lambda shape: shape.r < shape.k
)
