"""What every instance offers to a claim, floating or exact."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, Protocol, Self

from lorakappa.conditioning.verification import Shape

Number = Any
"""A float; or exactly, a flint.fmpq (rational) or a flint.arb (real ball with certified radius)."""

Vector = Any
"""Numbers in a row: a float64 array, or a list of exact numbers."""

Matrix = Any
"""A float64 array (product `@`, transpose `.T`), or a flint.fmpq_mat (product `*`, transpose `.transpose()`)."""

BoundForm = Literal["paper", "corrected"]


class Pair(Protocol):
    """A minimizer (A, B) of ½‖Z − AB‖_F² in canonical form (`conditioning.instances`): `FloatPair` or `ExactPair`."""

    @property
    def shape(self) -> Shape:
        """Sizes a, b, r."""

    @property
    def q(self) -> Vector:
        """(r,) square roots of the leading singular values of Z, descending."""

    @property
    def tail(self) -> Vector:
        """(k − r,) other singular values s_{r+1}, …, s_k, descending."""

    @property
    def G(self) -> Matrix:
        """(r, r) gauge."""

    @property
    def extras(self) -> Mapping[str, Matrix]:
        """Further matrices of the family by name; a number is a (1, 1) matrix."""

    @property
    def s(self) -> Vector:
        """(k,) singular values of Z, descending."""

    @property
    def A(self) -> Matrix:
        """(a, r) factor [diag(q) G; 0], in floats turned into the instance's frame."""

    @property
    def B(self) -> Matrix:
        """(r, b) factor [G⁻¹ diag(q), 0], in floats turned into the instance's frame."""

    @property
    def Z(self) -> Matrix:
        """(a, b) target diag(s), in floats turned into the instance's frame."""

    @property
    def rounding(self) -> float:
        """Relative rounding of this instance's quantities; 0 in exact arithmetic."""

    @property
    def gram_A(self) -> Vector:
        """(r,) σ_i(A)², descending."""

    @property
    def gram_B(self) -> Vector:
        """(r,) σ_i(B)², descending."""

    @property
    def eigenvalues(self) -> Vector:
        """(d,) eigenvalues of the Hessian as a dense matrix, ascending."""

    @property
    def trace(self) -> Number:
        """Trace of the Hessian."""

    @property
    def kernel_dimension(self) -> int:
        """Number of zero eigenvalues of the Hessian."""

    @property
    def L(self) -> Number:
        """Largest eigenvalue of the Hessian."""

    @property
    def mu(self) -> Number:
        """Smallest eigenvalue of the Hessian past the r² zeros."""

    @property
    def kappa(self) -> Number:
        """Condition number L/μ."""

    @property
    def kappa_balanced(self) -> Number:
        """Condition number at the hyperbalanced pair with the same product."""

    @property
    def kappa_scaled(self) -> Number:
        """Condition number that scaled gradients see, of P⁻¹H past the r² zeros (module `preconditioning`)."""

    def bounds(self, form: BoundForm) -> tuple[Number, Number]:
        """(lower, upper) bound on κ; an upper bound that says nothing is infinite."""

    def with_gauge(self, G: Matrix) -> Self:
        """The pair with another gauge and the same product; in floats in a new frame, if it had a random one."""

    def with_diagonal_gauge(self, entries: Sequence[Number | Fraction | int]) -> Self:
        """The pair with a diagonal gauge."""

    def balanced(self) -> Self:
        """The hyperbalanced pair diag(q), diag(q) with the same product."""

    @staticmethod
    def number(value: Fraction | int) -> Number:
        """A rational as a number of this instance's kind."""

    @staticmethod
    def sqrt(value: Number) -> Number:
        """√value."""

    @staticmethod
    def minimum(x: Number, y: Number) -> Number:
        """The smaller of two numbers."""

    @staticmethod
    def maximum(x: Number, y: Number) -> Number:
        """The larger of two numbers."""
