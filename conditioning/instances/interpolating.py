"""Interpolating pairs of Model 2, f(A, B) = ½‖h(AB) − Z‖², with the linear h(W) = J·vec(W) and J their extra matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Protocol

import flint
import numpy as np

from lorakappa.conditioning import bounds
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.factors import jacobian
from lorakappa.conditioning.instances.canonical import CanonicalMinimizers, Extra
from lorakappa.conditioning.instances.exact_pair import ExactPair
from lorakappa.conditioning.instances.float_pair import FloatPair
from lorakappa.conditioning.instances.pair import Number, Pair
from lorakappa.conditioning.tolerances import claim_rtol, gap_rtol
from lorakappa.conditioning.verification import Shape, exact
from lorakappa.conditioning.verification.family import Parameters

MAX_JACOBIAN_CONDITION = 1e3


class InterpolatingPair(Pair, Protocol):
    """What an interpolating pair offers; its κ is that of the non-zero eigenvalues of MᵀJᵀJM, M the Jacobian of AB."""

    @property
    def smoothness(self) -> Number:
        """The largest eigenvalue of MᵀJᵀJM."""

    @property
    def outer_condition(self) -> Number:
        """κ(JᵀJ), the largest over the smallest non-zero eigenvalue."""

    @property
    def tangent_condition(self) -> Number:
        """κ of JᵀJ on the tangent space {dA·B + A·dB}, the largest over the smallest non-zero eigenvalue."""


class FloatInterpolatingPair(FloatPair):
    """An interpolating pair in float64."""

    @cached_property
    def J(self) -> Array:
        """(n, ab) Jacobian in the frame of A and B."""
        left, right = self._frames
        return np.asarray(self.extras["J"] @ np.kron(left.T, right.T))

    @cached_property
    def tangent_values(self) -> Array:
        """Non-zero singular values of J on the tangent space, descending."""
        return non_zero(self.J @ bounds.tangent_basis(self.A, self.B))

    @cached_property
    def hessian(self) -> Array:
        JM = self.J @ jacobian(self.A, self.B)
        return np.asarray(JM.T @ JM)

    @property
    def smoothness(self) -> float:
        return float(np.linalg.norm(self.J @ jacobian(self.A, self.B), 2) ** 2)

    @property
    def kappa(self) -> float:
        sigma = np.linalg.svd(self.J @ jacobian(self.A, self.B), compute_uv=False)
        return float((sigma[0] / sigma[len(self.tangent_values) - 1]) ** 2)  # the range of M is the tangent space

    @property
    def outer_condition(self) -> float:
        values = non_zero(self.J)
        return float((values[0] / values[-1]) ** 2)

    @property
    def tangent_condition(self) -> float:
        return float((self.tangent_values[0] / self.tangent_values[-1]) ** 2)

    @property
    def rounding(self) -> float:
        """Relative rounding of κ: the condition of JM squared, J rounded as a whole."""
        outer = np.linalg.norm(self.J, 2) / self.tangent_values[-1]
        condition = np.linalg.cond(self.G) ** 2 * (self.q[0] / self.q[-1]) ** 2 * outer**2
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
    def smoothness(self) -> exact.Exact:
        return self.eigenvalues[-1]

    @property
    def kappa(self) -> exact.Exact:
        return _condition(self.eigenvalues)

    @property
    def outer_condition(self) -> exact.Exact:
        return _gram_condition(self.extras["J"])

    @property
    def tangent_condition(self) -> exact.Exact:
        J, columns = self.extras["J"], tangent_entries(self.shape)
        return _gram_condition(flint.fmpq_mat([[J[row, c] for c in columns] for row in range(J.nrows())]))


def tangent_entries(shape: Shape) -> list[int]:
    """Which entries (i, j) of W, row-major, span the tangent space in the canonical frame: i ≤ r or j ≤ r."""
    return [i * shape.b + j for i in range(shape.a) for j in range(shape.b) if i < shape.r or j < shape.r]


def non_zero(K: Array) -> Array:
    """Singular values of K that are not 0, descending, for a K whose others are rounding (`InterpolatingPairs`)."""
    sigma = np.linalg.svd(K, compute_uv=False)
    return np.asarray(sigma[sigma * 2 * MAX_JACOBIAN_CONDITION > sigma[0]])


def _gram_condition(K: flint.fmpq_mat) -> exact.Exact:
    """κ(KᵀK)."""
    return _condition(exact.eigenvalues(K.transpose() * K))


def _condition(eigenvalues: Sequence[exact.Exact]) -> exact.Exact:
    """The largest over the smallest non-zero one of eigenvalues ≥ 0 in ascending order."""
    return eigenvalues[-1] / next(x for x in eigenvalues if x != 0)


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


def draw_any_jacobian(shape: Shape, rng: np.random.Generator) -> Array:
    """A Jacobian of `draw_jacobian`, or some of its rows with zeros for the others."""
    J = draw_jacobian(shape, rng)
    rows = rng.permutation(len(J))[: rng.integers(len(J))]  # all but one at most
    return J if rng.random() < 0.5 else np.where(np.isin(np.arange(len(J)), rows)[:, None], 0.0, J)


def _size(shape: Shape) -> tuple[int, int]:
    return shape.a * shape.b, shape.a * shape.b


ANY_JACOBIAN = Extra("J", _size, draw_any_jacobian)
INJECTIVE_JACOBIAN = Extra(
    "J", _size, draw_jacobian, lambda J: bool(np.linalg.cond(J.astype(float)) <= MAX_JACOBIAN_CONDITION)
)


@dataclass(frozen=True)
class InterpolatingPairs(CanonicalMinimizers):
    """Interpolating pairs with a square Jacobian J; a `Family`.

    A J with fewer rows is one with rows of zeros, and one with more has the JᵀJ of a square one. The non-zero singular
    values of J and of J on the tangent space, one at least, lie within `MAX_JACOBIAN_CONDITION` of each other.
    """

    subject: str = "pairs (A, B) of rank r with h(AB) = Z"
    largest: int = 3
    extras: tuple[Extra, ...] = (ANY_JACOBIAN,)

    def valid(self, shape: Shape, parameters: Parameters) -> bool:
        """Whether the parameters describe an interpolating pair of the domain."""
        if not super().valid(shape, parameters):
            return False
        J = self._unpack(shape, np.asarray(parameters, dtype=object).astype(float))[3]["J"]
        for K in (J, J[:, tangent_entries(shape)]):
            sigma = np.linalg.svd(K, compute_uv=False)
            zero = sigma <= gap_rtol(len(J)) * sigma[0]
            if zero.all() or sigma[~zero][-1] * MAX_JACOBIAN_CONDITION < sigma[0]:
                return False
        return True

    def floating(
        self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None
    ) -> FloatInterpolatingPair:
        """The instance in float64, in a random orthonormal frame if a generator is given."""
        return FloatInterpolatingPair(*self._floating_parts(shape, parameters), frame)

    def exact(self, shape: Shape, parameters: Sequence[Fraction]) -> ExactInterpolatingPair:
        """The instance in exact arithmetic, in the canonical frame."""
        return ExactInterpolatingPair(*self._exact_parts(shape, parameters))


SPREAD = f"non-zero singular values within {MAX_JACOBIAN_CONDITION:g}"
INTERPOLATING = InterpolatingPairs(f"any J, rank-deficient and rectangular ones included, {SPREAD}")
INTERPOLATING_INTERIOR = InterpolatingPairs(
    f"r < min(a, b), any J, rank-deficient and rectangular ones included, {SPREAD}",
    where=lambda shape: shape.r < shape.k,
)
INJECTIVE = InterpolatingPairs("injective J with cond(J) ≤ 1e3", extras=(INJECTIVE_JACOBIAN,))
INJECTIVE_INTERIOR = InterpolatingPairs(
    "r < min(a, b), injective J with cond(J) ≤ 1e3",
    where=lambda shape: shape.r < shape.k,
    extras=(INJECTIVE_JACOBIAN,),
)
