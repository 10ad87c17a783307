"""Families of instances: the domain of a claim, drawn in floating point and evaluated exactly.

An instance of a family is a shape and a flat vector of real parameters. Floats make it cheap to draw and to
optimize over; the same parameters as rationals make it exact, simple to print, and certifiable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, TypeVar

import numpy as np

from lorakappa.conditioning.checks import Array


@dataclass(frozen=True, order=True)
class Shape:
    """Sizes of a factorization: A is (a, r), B is (r, b)."""

    a: int
    b: int
    r: int

    @property
    def k(self) -> int:
        """min(a, b)."""
        return min(self.a, self.b)

    @property
    def d(self) -> int:
        """Number of parameters r(a + b)."""
        return self.r * (self.a + self.b)

    def as_dict(self) -> dict[str, int]:
        """Sizes by name."""
        return {"a": self.a, "b": self.b, "r": self.r}


def all_shapes(largest: int) -> tuple[Shape, ...]:
    """Every shape with a, b ≤ largest and r ≤ min(a, b), fewest parameters first."""
    sizes = range(1, largest + 1)
    shapes = [Shape(a, b, r) for a in sizes for b in sizes for r in range(1, min(a, b) + 1)]
    return tuple(sorted(shapes, key=lambda shape: (shape.d, shape.a + shape.b, shape)))


Parameters = Sequence[Any] | Array
"""Flat parameters of an instance: floats or Fractions."""


Floating = TypeVar("Floating", covariant=True)
Exact = TypeVar("Exact", covariant=True)


class Family(Protocol[Floating, Exact]):
    """What the search needs to know of a domain; its instances are of type `Floating` and, in exact form, `Exact`."""

    @property
    def description(self) -> str:
        """The domain in words."""

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes searched, smallest first."""

    def draw(self, shape: Shape, rng: np.random.Generator) -> Array:
        """Random parameters; they need not be valid."""

    def valid(self, shape: Shape, parameters: Parameters) -> bool:
        """Whether these parameters, floats or Fractions, describe an instance of the domain."""

    def floating(self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None) -> Floating:
        """The instance in float64, turned into a random orthonormal frame if one is given."""

    def exact(self, shape: Shape, parameters: Sequence[Fraction]) -> Exact:
        """The instance in exact arithmetic."""

    def describe(self, shape: Shape, parameters: Sequence[Fraction]) -> dict[str, Any]:
        """Matrices and numbers of the instance by name, as rational strings."""
