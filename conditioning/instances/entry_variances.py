"""Laws of random factors by the variances of their entries, of which the first theorem of iLoRA's paper speaks."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.instances.pair import Number
from lorakappa.conditioning.verification import Shape, all_shapes, exact
from lorakappa.conditioning.verification.family import Parameters

SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True)
class EntryVariances:
    """Variances of the entries of A (a, r) and of B (r, b), whose means are 0, floats or rationals.

    Attributes:
        shape: sizes a, b, r.
        variance_A: σ_A² ≤ 1/r.
        variance_B: σ_B² ≤ 1/b.
        floor: c with σ_A² ≥ c/r and σ_B² ≥ c/b.
    """

    shape: Shape
    variance_A: Number
    variance_B: Number
    floor: Number

    @property
    def after_B(self) -> Number:
        """Variance of an entry of Bx for independent entries, those of x of variance 1: bσ_B²."""
        return self.shape.b * self.variance_B

    @property
    def after_AB(self) -> Number:
        """Variance of an entry of ABx for independent entries: rσ_A²·bσ_B²."""
        return self.shape.r * self.variance_A * self.after_B

    @property
    def after_aligned_AB(self) -> Number:
        """Variance of an entry of ABx for A = σ_A·uvᵀ and B = σ_B·vwᵀ with random signs u, v, w.

        All entries of AB are ±rσ_Aσ_B, since vᵀv = r.
        """
        return self.shape.r**2 * self.variance_A * self.shape.b * self.variance_B

    @property
    def gram_ratio(self) -> Number:
        """μ with E BBᵀ = μ·E AᵀA, the two being bσ_B²·I and aσ_A²·I for independent entries."""
        return self.shape.b * self.variance_B / (self.shape.a * self.variance_A)


@dataclass(frozen=True)
class BoundedVariances:
    """Laws with σ_A² ≤ 1/r and σ_B² ≤ 1/b, the O(1/r) and O(1/b) of a theorem with constant 1; a `Family`.

    Attributes:
        floored: whether they are at least c/r and c/b, too, with a c that an instance carries: Θ for O.
        largest: largest a and b.
    """

    floored: bool = False
    largest: int = 4

    @property
    def description(self) -> str:
        """The domain in words."""
        between = "c/r ≤ σ_A² ≤ 1/r, c/b ≤ σ_B² ≤ 1/b, any c > 0" if self.floored else "σ_A² ≤ 1/r, σ_B² ≤ 1/b"
        return f"entries of mean 0 with {between}; searched for a, b ≤ {self.largest}, variances and c ≥ 1e-6"

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes up to `largest`."""
        return all_shapes(self.largest)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Array:
        """rσ_A² and bσ_B² over five decades, and c; the larger ones more often."""
        floor = 10.0 ** (-5 * rng.uniform() ** 2) if self.floored else 1e-5
        return np.array([*(floor ** (rng.uniform(0, 1, 2) ** 2)), *([floor] if self.floored else [])])

    def valid(self, shape: Shape, parameters: Parameters) -> bool:
        """Whether the variances keep to their bounds."""
        floor = parameters[2] if self.floored else SMALLEST_VARIANCE
        return SMALLEST_VARIANCE <= floor <= min(parameters[:2]) <= max(parameters[:2]) <= 1

    def floating(self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None) -> EntryVariances:
        """The law in float64; a law has no frame."""
        return self._law(shape, [float(x) for x in parameters])

    def exact(self, shape: Shape, parameters: Sequence[Fraction]) -> EntryVariances:
        """The law over the rationals."""
        return self._law(shape, [exact.rational(x) for x in parameters])

    def describe(self, shape: Shape, parameters: Sequence[Fraction]) -> dict[str, Any]:
        """The variances, and c, as rational strings."""
        law = self.exact(shape, parameters)
        named = {"variance_A": law.variance_A, "variance_B": law.variance_B} | (
            {"c": law.floor} if self.floored else {}
        )
        return {name: [[str(value)]] for name, value in named.items()}

    def _law(self, shape: Shape, numbers: Sequence[Any]) -> EntryVariances:
        return EntryVariances(shape, numbers[0] / shape.r, numbers[1] / shape.b, numbers[2] if self.floored else None)
