"""The families of minimizers that static claims speak of (`conditioning.instances` says what the canonical form is)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import flint
import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.instances.arrays import entries
from lorakappa.conditioning.instances.exact_pair import ExactPair
from lorakappa.conditioning.instances.float_pair import FloatPair
from lorakappa.conditioning.instances.pair import Matrix
from lorakappa.conditioning.instances.sampling import draw_gauge, draw_spectrum
from lorakappa.conditioning.verification import exact as exactly
from lorakappa.conditioning.verification.family import Parameters, Shape, all_shapes

MODEL_1 = "global minimizers of ½‖Z − AB‖² with s_r > s_{r+1}"
ANY_PAIR = "pairs (A, B) of rank r"
"""Minimizers for Z = AB, with which all that a statement about a pair alone depends on is said."""
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
        restriction: the domain in words, beyond its subject.
        subject: what is restricted, in words; Z belongs to an instance only if it is `MODEL_1`.
        where: shapes that belong to the domain.
        largest: largest a and b.
        extras: further matrices that an instance carries.
        gauge: draws G.
        min_imbalance: smallest relative imbalance ‖AᵀA − BBᵀ‖_F/(‖A‖_F² + ‖B‖_F²) of an instance.
        min_root_gap: smallest relative gap between consecutive q (0 allows equal singular values).
        scalar_gauge: only G = tI, t > 0, so that BBᵀ = t⁻⁴AᵀA; an instance then carries t alone.
        exact_rank: only targets of rank r; an instance then carries no tail.
        positive_bound: only pairs with min(σ_r(A)², σ_r(B)²) > s_{r+1}; without s_{r+1} all of them are.
        shown: matrices by name that the statement speaks of where they are not A, B and the extras but made from them;
            a replay prints them instead, and the A and B among them in place of the instance's own.
    """

    restriction: str = "all shapes with r ≤ min(a, b)"
    subject: str = MODEL_1
    where: Callable[[Shape], bool] = lambda shape: True
    largest: int = 4
    extras: tuple[Extra, ...] = ()
    gauge: Callable[[int, np.random.Generator], Array] = draw_gauge
    min_imbalance: float = 0.0
    min_root_gap: float = 0.0
    scalar_gauge: bool = False
    exact_rank: bool = False
    positive_bound: bool = False
    shown: Callable[[ExactPair], Mapping[str, Matrix]] = lambda pair: pair.extras

    @property
    def description(self) -> str:
        """The domain in words."""
        gap = "(s_r − s_{r+1})/s_1" if self.subject == MODEL_1 else "s_r/s_1"
        return (
            f"{self.subject}; {self.restriction}; searched for a, b ≤ {self.largest}, "
            f"cond(G) ≤ {MAX_GAUGE_CONDITION:g}, {gap} ≥ {MIN_RELATIVE_GAP:g}"
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
        if self.positive_bound and r < shape.k:
            smallest = min(np.linalg.svd(q[:, None] * G)[1][-1], np.linalg.svd(np.linalg.inv(G) * q)[1][-1]) ** 2
            if smallest <= (1 + MIN_RELATIVE_GAP) * s[r]:
                return False
        return all(extra.valid(extras[extra.name]) for extra in self.extras)

    def floating(self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None) -> FloatPair:
        """The instance in float64, in a random orthonormal frame if a generator is given."""
        return FloatPair(*self._floating_parts(shape, parameters), frame)

    def exact(self, shape: Shape, parameters: Sequence[Fraction]) -> ExactPair:
        """The instance in exact arithmetic, in the canonical frame."""
        return ExactPair(*self._exact_parts(shape, parameters))

    def describe(self, shape: Shape, parameters: Sequence[Fraction]) -> dict[str, Any]:
        """A, B, Z if it matters, and the extras, or what is shown of them, as rational strings."""
        pair = self.exact(shape, parameters)
        target = {"Z": pair.Z} if self.subject == MODEL_1 else {}
        named = {"A": pair.A, "B": pair.B, **target, **self.shown(pair)}
        return {name: [[str(x) for x in row] for row in entries(matrix).tolist()] for name, matrix in named.items()}

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

    def _floating_parts(
        self, shape: Shape, parameters: Array
    ) -> tuple[Shape, Array, Array, Array, Mapping[str, Array]]:
        """(shape, q, tail, G, extras) as arrays."""
        return (shape, *self._unpack(shape, np.asarray(parameters, dtype=np.float64)))

    def _exact_parts(
        self, shape: Shape, parameters: Sequence[Fraction]
    ) -> tuple[Shape, list[exactly.Exact], list[exactly.Exact], flint.fmpq_mat, Mapping[str, flint.fmpq_mat]]:
        """(shape, q, tail, G, extras) over the rationals."""
        q, tail, G, extras = self._unpack(shape, np.asarray(parameters, dtype=object))
        matrices = {name: exactly.matrix(value.tolist()) for name, value in extras.items()}
        roots, residual = [exactly.rational(x) for x in q], [exactly.rational(x) for x in tail]
        return shape, roots, residual, exactly.matrix(G.tolist()), matrices

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


def hyperbalanced(x: ExactPair) -> dict[str, Matrix]:
    """What is shown where a statement is about the hyperbalanced pair diag(q), diag(q): that pair, and the extras."""
    even = x.balanced()
    return {"A": even.A, "B": even.B, **x.extras}


MINIMIZERS = CanonicalMinimizers()
INTERIOR = CanonicalMinimizers("r < min(a, b)", where=lambda shape: shape.r < shape.k)
FULL_RANK = CanonicalMinimizers("r = min(a, b)", where=lambda shape: shape.r == shape.k)

BALANCED_3x2_RANK_1 = (Shape(3, 2, 1), INTERIOR.parameters([2], [1], [[1]]))
BALANCED_3x3_RANK_2 = (Shape(3, 3, 2), INTERIOR.parameters([2, 1], [Fraction(1, 2)], [[1, 0], [0, 1]]))
"""Balanced minimizers (shape and parameters), at which several statements are equalities."""
