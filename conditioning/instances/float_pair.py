"""Minimizers in float64, in a random orthonormal frame: their quantities come from the library's public functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Self

import numpy as np

from lorakappa.conditioning import bounds
from lorakappa.conditioning import hessians as dense
from lorakappa.conditioning import spectra as closed_form
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.instances.pair import BoundForm
from lorakappa.conditioning.instances.sampling import random_orthogonal
from lorakappa.conditioning.preconditioning import preconditioned_hessian
from lorakappa.conditioning.tolerances import EPS, claim_rtol
from lorakappa.conditioning.verification import Shape


@dataclass(frozen=True)
class FloatPair:
    """A minimizer in float64; `Pair` documents what it offers.

    Attributes:
        shape: as in `Pair`, like q, tail, G and extras.
        frame: draws the orthonormal frame; None is the canonical frame.
    """

    shape: Shape
    q: Array
    tail: Array
    G: Array
    extras: Mapping[str, Array]
    frame: np.random.Generator | None = None
    _frames: tuple[Array, Array] = field(init=False, repr=False)

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
    def gram_A(self) -> list[float]:
        return list(np.linalg.svd(self.A, compute_uv=False) ** 2)

    @cached_property
    def gram_B(self) -> list[float]:
        return list(np.linalg.svd(self.B, compute_uv=False) ** 2)

    @cached_property
    def hessian(self) -> Array:
        """(d, d) Hessian of the loss; parameters (vec A, vec B), row-major."""
        return dense.hessian(self.A, self.B, self.Z)

    @cached_property
    def eigenvalues(self) -> Array:
        return np.asarray(np.linalg.eigvalsh(self.hessian))

    @property
    def trace(self) -> float:
        return float(self.eigenvalues.sum())

    @property
    def kernel_dimension(self) -> int:
        eigenvalues = self.eigenvalues
        return int((eigenvalues <= 16 * len(eigenvalues) * EPS * eigenvalues[-1]).sum())

    @cached_property
    def closed(self) -> closed_form.Minimizer:
        """The library's analysis, which L, μ and κ come from."""
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
    def scaled_eigenvalues(self) -> Array:
        """(d,) eigenvalues of P⁻¹H, from the dense matrix, ascending."""
        return np.asarray(np.linalg.eigvalsh(preconditioned_hessian(self.A, self.B, self.Z)))

    @property
    def kappa_scaled(self) -> float:
        return float(self.scaled_eigenvalues[-1] / self.scaled_eigenvalues[self.shape.r**2])

    def bounds(self, form: BoundForm) -> tuple[float, float]:
        return bounds.bounds_at(self.closed, form)

    def with_gauge(self, G: Array) -> Self:
        return replace(self, G=np.asarray(G, dtype=float))

    def with_diagonal_gauge(self, entries: Sequence[float | Fraction]) -> Self:
        return self.with_gauge(np.diag([float(x) for x in entries]))

    def balanced(self) -> Self:
        return self.with_diagonal_gauge([1] * self.shape.r)

    @staticmethod
    def number(value: Fraction | int) -> float:
        return float(value)

    @staticmethod
    def sqrt(value: float) -> float:
        return np.sqrt(value)

    @staticmethod
    def minimum(x: float, y: float) -> float:
        return min(x, y)

    @staticmethod
    def maximum(x: float, y: float) -> float:
        return max(x, y)
