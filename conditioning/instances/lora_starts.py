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
    """Starts with one factor 0, and any other factor and Z with a gradient ≠ 0; a `Family`.

    LoRA starts at A = 0. Drawn is B = 0, A arbitrary; (A, B, Z) → (Bᵀ, Aᵀ, Zᵀ) makes one of the other.

    Attributes:
        largest: largest a and b.
        description: the domain in words.
    """

    largest: int = 3
    description: str = "one factor 0: B = 0, A arbitrary, AᵀZ ≠ 0, or that transposed, which is LoRA's A = 0; a, b ≤ 3"

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """All shapes up to `largest`."""
        return all_shapes(self.largest)

    def draw(self, shape: Shape, rng: np.random.Generator) -> Array:
        """Gaussian A and Z."""
        return rng.standard_normal(shape.a * (shape.r + shape.b))

    def valid(self, shape: Shape, parameters: Parameters) -> bool:
        """Whether the gradient at the start is not negligible."""
        A, Z = self._unpack(shape, np.asarray(parameters, dtype=object).astype(float))
        return bool(np.linalg.norm(A.T @ Z) > 1e-3 * (1 + np.linalg.norm(A) * np.linalg.norm(Z)))

    def floating(self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None) -> FloatStart:
        """(A, B, Z) in float64; A and Z are arbitrary, so no frame is special."""
        A, Z = self._unpack(shape, np.asarray(parameters, dtype=float))
        return A, np.zeros((shape.r, shape.b)), Z

    def exact(self, shape: Shape, parameters: Sequence[Fraction]) -> ExactStart:
        """(A, B, Z) over the rationals."""
        A, Z = self._unpack(shape, np.asarray(parameters, dtype=object))
        return exact.matrix(A.tolist()), flint.fmpq_mat(shape.r, shape.b), exact.matrix(Z.tolist())

    def describe(self, shape: Shape, parameters: Sequence[Fraction]) -> dict[str, Any]:
        """A, B, Z as rational strings."""
        matrices = zip("ABZ", self.exact(shape, parameters), strict=True)
        return {name: [[str(x) for x in row] for row in M.tolist()] for name, M in matrices}

    @staticmethod
    def _unpack(shape: Shape, parameters: Any) -> tuple[Any, Any]:
        split = shape.a * shape.r
        return parameters[:split].reshape(shape.a, shape.r), parameters[split:].reshape(shape.a, shape.b)
