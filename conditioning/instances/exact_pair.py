"""Minimizers over the rationals, in the canonical frame; nothing here comes from the library's formulas.

Eigenvalues are those of the characteristic polynomial of the Hessian, which is built from second differences of the
loss: rationals where rational, else disjoint real balls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Self

import flint

from lorakappa.conditioning.instances.exact_bounds import corrected_bounds, paper_bounds
from lorakappa.conditioning.instances.pair import BoundForm, Number
from lorakappa.conditioning.verification import Shape, exact


@dataclass(frozen=True)
class ExactPair:
    """A minimizer in exact arithmetic; `Pair` documents what it offers, and its attributes."""

    shape: Shape
    q: list[exact.Exact]
    tail: list[exact.Exact]
    G: flint.fmpq_mat
    extras: Mapping[str, flint.fmpq_mat]

    rounding = 0.0

    @cached_property
    def s(self) -> list[exact.Exact]:
        return [x * x for x in self.q] + self.tail

    @cached_property
    def A(self) -> flint.fmpq_mat:
        return diagonal(self.shape.a, self.shape.r, self.q) * self.G

    @cached_property
    def B(self) -> flint.fmpq_mat:
        return self.G.inv() * diagonal(self.shape.r, self.shape.b, self.q)

    @cached_property
    def Z(self) -> flint.fmpq_mat:
        return diagonal(self.shape.a, self.shape.b, self.s)

    def residual(self, product: flint.fmpq_mat) -> flint.fmpq_mat:
        """The residual whose half square is the loss, at the (a, b) product of any pair."""
        return product - self.Z

    @cached_property
    def hessian(self) -> flint.fmpq_mat:
        """(d, d) Hessian of the loss, by exact second differences; parameters (vec A, vec B), row-major."""
        (a, b, r), split = (self.shape.a, self.shape.b, self.shape.r), self.shape.a * self.shape.r

        def loss(theta: list[flint.fmpq]) -> flint.fmpq:
            A, B = flint.fmpq_mat(a, r, theta[:split]), flint.fmpq_mat(r, b, theta[split:])
            return exact.half_square(self.residual(A * B))

        return exact.hessian(loss, self.A.entries() + self.B.entries())

    @cached_property
    def gram_A(self) -> list[exact.Exact]:
        return exact.eigenvalues(self.A.transpose() * self.A)[::-1]

    @cached_property
    def gram_B(self) -> list[exact.Exact]:
        return exact.eigenvalues(self.B * self.B.transpose())[::-1]

    @cached_property
    def eigenvalues(self) -> list[exact.Exact]:
        return exact.eigenvalues(self.hessian)

    @property
    def trace(self) -> flint.fmpq:
        return sum((self.hessian[i, i] for i in range(self.shape.d)), flint.fmpq(0))

    @property
    def kernel_dimension(self) -> int:
        return sum(1 for x in self.eigenvalues if x == 0)

    @property
    def L(self) -> exact.Exact:
        return self.eigenvalues[-1]

    @property
    def mu(self) -> exact.Exact:
        return self.eigenvalues[self.shape.r**2]

    @property
    def kappa(self) -> exact.Exact:
        return self.L / self.mu

    @cached_property
    def kappa_balanced(self) -> exact.Exact:
        return self.balanced().kappa

    @cached_property
    def scaled_hessian(self) -> flint.fmpq_mat:
        """(d, d) matrix P⁻¹H with P(dA, dB) = (dA·BBᵀ, AᵀA·dB)."""
        (a, b, r), split = (self.shape.a, self.shape.b, self.shape.r), self.shape.a * self.shape.r
        for_A, for_B = (self.B * self.B.transpose()).inv(), (self.A.transpose() * self.A).inv()
        inverse = flint.fmpq_mat(self.shape.d, self.shape.d)
        for i in range(r):
            for j in range(r):
                for row in range(a):  # dA·(BBᵀ)⁻¹ mixes the entries of a row of dA
                    inverse[row * r + i, row * r + j] = for_A[i, j]
                for column in range(b):  # (AᵀA)⁻¹·dB those of a column of dB
                    inverse[split + i * b + column, split + j * b + column] = for_B[i, j]
        return inverse * self.hessian

    @property
    def kappa_scaled(self) -> exact.Exact:
        eigenvalues = exact.eigenvalues(self.scaled_hessian)
        return eigenvalues[-1] / eigenvalues[self.shape.r**2]

    def bounds(self, form: BoundForm) -> tuple[exact.Exact, exact.Exact]:
        return paper_bounds(self) if form == "paper" else corrected_bounds(self)

    def with_gauge(self, G: flint.fmpq_mat) -> Self:
        return replace(self, G=G)

    def with_diagonal_gauge(self, entries: Sequence[Number | Fraction]) -> Self:
        rationals = [x if isinstance(x, flint.fmpq) else exact.rational(x) for x in entries]
        return self.with_gauge(diagonal(self.shape.r, self.shape.r, rationals))

    def balanced(self) -> Self:
        return self.with_diagonal_gauge([1] * self.shape.r)

    @staticmethod
    def number(value: Fraction | int) -> flint.fmpq:
        return exact.rational(value)

    @staticmethod
    def sqrt(value: exact.Exact) -> exact.Exact:
        return exact.sqrt(value)

    @staticmethod
    def minimum(x: exact.Exact, y: exact.Exact) -> exact.Exact:
        return exact.minimum(x, y)

    @staticmethod
    def maximum(x: exact.Exact, y: exact.Exact) -> exact.Exact:
        return exact.maximum(x, y)


def diagonal(rows: int, columns: int, entries: Sequence[Number]) -> flint.fmpq_mat:
    """A rational matrix with these entries on its diagonal and zeros elsewhere."""
    D = flint.fmpq_mat(rows, columns)
    for i, x in enumerate(entries):
        D[i, i] = x
    return D
