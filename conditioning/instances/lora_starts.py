"""Starts of training with one factor 0, as LoRA has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import flint
import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.verification import Shape, all_shapes, exact
from lorakappa.conditioning.verification.family import Parameters

FloatStart = tuple[Array, Array, Array]
"""(A, B, Z) in float64."""

ExactStart = tuple[flint.fmpq_mat, flint.fmpq_mat, flint.fmpq_mat]
"""(A, B, Z) over the rationals."""


@dataclass(frozen=True)
class LoraStarts:
    """Starts with A = 0, which is the paper's B, and any B and Z with gradient ZBᵀ ≠ 0; a `Family`.

    Attributes:
        largest: largest a and b.
        description: the domain in words.
    """

    largest: int = 3
    description: str = "A = 0, B arbitrary, ZBᵀ ≠ 0; a, b ≤ 3"

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes up to `largest`."""
        return all_shapes(self.largest)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Array:
        """Gaussian B and Z."""
        return rng.standard_normal(shape.b * (shape.r + shape.a))

    def valid(self, shape: Shape, parameters: Parameters) -> bool:
        """Whether the gradient at the start is not negligible."""
        B, Z = self._unpack(shape, np.asarray(parameters, dtype=object).astype(float))
        return bool(np.linalg.norm(Z @ B.T) > 1e-3 * (1 + np.linalg.norm(B) * np.linalg.norm(Z)))

    def floating(self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None) -> FloatStart:
        """(A, B, Z) in float64; B and Z are arbitrary, so no frame is special."""
        B, Z = self._unpack(shape, np.asarray(parameters, dtype=float))
        return np.zeros((shape.a, shape.r)), B, Z

    def exact(self, shape: Shape, parameters: Sequence[Fraction]) -> ExactStart:
        """(A, B, Z) over the rationals."""
        B, Z = self._unpack(shape, np.asarray(parameters, dtype=object))
        return flint.fmpq_mat(shape.a, shape.r), exact.matrix(B.tolist()), exact.matrix(Z.tolist())

    def describe(self, shape: Shape, parameters: Sequence[Fraction]) -> dict[str, Any]:
        """A, B, Z as rational strings."""
        matrices = zip("ABZ", self.exact(shape, parameters), strict=True)
        return {name: [[str(x) for x in row] for row in M.tolist()] for name, M in matrices}

    @staticmethod
    def _unpack(shape: Shape, parameters: Any) -> tuple[Any, Any]:
        split = shape.r * shape.b
        return parameters[:split].reshape(shape.r, shape.b), parameters[split:].reshape(shape.a, shape.b)
