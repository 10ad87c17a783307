"""Exact arithmetic of certificates: matrices of polynomials with rational coefficients, and of quotients of such.

Scalars are Python's ints, and flint.fmpq, flint.fmpq_mpoly or `Quotient`; other numbers that can be added and
multiplied, such as real balls, work as well.
"""

import operator as op
from collections.abc import Callable
from functools import reduce
from typing import Any

import flint


class Quotient:
    """A quotient of polynomials."""

    def __init__(self, top: Any, bottom: Any) -> None:
        self.top, self.bottom = top, bottom

    def __add__(self, other: Any) -> Any:
        top, bottom = (other.top, other.bottom) if isinstance(other, Quotient) else (other * self.bottom, self.bottom)
        if bottom == self.bottom:
            return divide(self.top + top, bottom)
        return divide(self.top * bottom + top * self.bottom, self.bottom * bottom)

    def __mul__(self, other: Any) -> Any:
        top, bottom = (other.top, other.bottom) if isinstance(other, Quotient) else (other, 1)
        return divide(self.top * top, self.bottom * bottom)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + other * -1

    def __rsub__(self, other: Any) -> Any:
        return self * -1 + other

    def __pow__(self, exponent: int) -> Any:
        return reduce(op.mul, [self] * exponent, 1)  # of `power`


def divide(x: Any, y: Any) -> Any:
    """x/y in lowest terms, by entries if x is a matrix; a polynomial or a number where it is one."""
    if isinstance(x, Matrix):
        return x.each(lambda entry: divide(entry, y))
    if isinstance(y, Quotient):
        return divide(x * y.bottom, y.top)
    if not isinstance(y, flint.fmpq_mpoly):
        return x * (1 / (flint.fmpq(y) if isinstance(y, int) else y))
    top, bottom = (x.top, x.bottom * y) if isinstance(x, Quotient) else (x + 0 * y, y)
    common = top.gcd(bottom)
    top, bottom = top / common, bottom / common
    return top / bottom if bottom.is_constant() else Quotient(top, bottom)


def power(x: Any, exponent: int) -> Any:
    """A scalar to a whole power, 0 or more; `divide` gives the others."""
    if isinstance(x, Matrix) or not isinstance(exponent, int) or exponent < 0:
        raise ValueError("powers are those of scalars with a whole exponent, 0 or more")
    return x**exponent


class Matrix:
    """A matrix of scalars; * multiplies entries, @ matrices."""

    def __init__(self, rows: list[list[Any]], width: int) -> None:
        self.rows, self.size = rows, (len(rows), width)

    def each(self, apply: Callable[..., Any], *others: "Matrix") -> "Matrix":
        """A function of the entries in one place."""
        if any(other.size != self.size for other in others):
            raise ValueError(f"matrices of sizes {self.size} and {others[0].size}")
        together = zip(self.rows, *(other.rows for other in others), strict=True)
        return Matrix([[apply(*places) for places in zip(*rows, strict=True)] for rows in together], self.size[1])

    def __matmul__(self, other: "Matrix") -> "Matrix":
        if self.size[1] != other.size[0]:
            raise ValueError(f"matrices of sizes {self.size} and {other.size}")
        return Matrix([[reduce(op.add, map(op.mul, x, y), 0) for y in other.T.rows] for x in self.rows], other.size[1])

    def __mul__(self, other: Any) -> "Matrix":
        return self.each(op.mul, other) if isinstance(other, Matrix) else self.each(lambda x: x * other)

    def __getitem__(self, index: Any) -> Any:
        row, column = index if isinstance(index, tuple) else (index, 0)
        if isinstance(row, int) and isinstance(column, int):
            return self.rows[row][column]
        row, column = (i if isinstance(i, slice) else slice(i, i + 1) for i in (row, column))
        return Matrix([x[column] for x in self.rows[row]], len(range(self.size[1])[column]))

    __rmul__ = __mul__

    def __add__(self, other: "Matrix") -> "Matrix":
        return self.each(op.add, other)

    def __sub__(self, other: "Matrix") -> "Matrix":
        return self.each(op.sub, other)

    def __neg__(self) -> "Matrix":
        return self * -1

    @property
    def T(self) -> "Matrix":
        """The transpose."""
        return Matrix([[row[j] for row in self.rows] for j in range(self.size[1])], self.size[0])


def entries(x: Any) -> list[Any]:
    """Those of a matrix, or the one scalar."""
    return [entry for row in x.rows for entry in row] if isinstance(x, Matrix) else [x]


def is_zero(x: Any) -> bool:
    """Whether a scalar, or each entry of a matrix, is 0 identically."""
    return all(entry == 0 for entry in entries(x))


def regular(x: Any, nonzero: list[Any]) -> Any:
    """x; ValueError if a denominator in it is no product of factors of what is not 0."""
    tops = [f.top if isinstance(f, Quotient) else f for f in nonzero if isinstance(f, flint.fmpq_mpoly | Quotient)]
    for bottom in (entry.bottom for entry in entries(x) if isinstance(entry, Quotient)):
        for top in tops:
            while not (common := bottom.gcd(top)).is_constant():
                bottom /= common
        if not bottom.is_constant():
            raise ValueError(f"its denominator may be 0 where {bottom} is")
    return x


def diag(v: Matrix, height: int, width: int, start: int = 0) -> Matrix:
    """Matrix of a given size with a column on its diagonal, from the place `start` on."""
    places = {(start + i, start + i): x for i, x in enumerate(entries(v))}
    return Matrix([[places.get((i, j), 0) for j in range(width)] for i in range(height)], width)


def _cofactor(rows: list[list[Any]], i: int, j: int) -> Any:
    return _det([row[:j] + row[j + 1 :] for row in rows[:i] + rows[i + 1 :]]) * (-1) ** (i + j)


def _det(rows: list[list[Any]]) -> Any:
    return reduce(op.add, (x * _cofactor(rows, 0, j) for j, x in enumerate(rows[0])), 0) if rows else 1


def det(M: Matrix) -> Any:
    """Determinant of a square matrix; ValueError if it is not square."""
    if M.size[0] != M.size[1]:
        raise ValueError(f"a matrix of size {M.size} is not square")
    return _det(M.rows)


def inv(M: Matrix) -> Matrix:
    """Inverse of a square matrix, its adjugate over its determinant; ValueError if it is not square."""
    bottom, n = det(M), range(M.size[0])
    return divide(Matrix([[_cofactor(M.rows, j, i) for j in n] for i in n], len(n)), bottom)


def slope(x: Any, t: flint.fmpq_mpoly) -> Any:
    """Derivative of a polynomial or a quotient, or a matrix of such, by a variable where that is 0."""
    if isinstance(x, Matrix):
        return x.each(lambda y: slope(y, t))
    if isinstance(x, Quotient):
        top, bottom = (y.subs({str(t): 0}) for y in (x.top, x.bottom))
        return divide(slope(x.top, t) * bottom - top * slope(x.bottom, t), bottom**2)
    return (x + 0 * t).derivative(str(t)).subs({str(t): 0})


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "total": lambda x: reduce(op.add, entries(x), 0),
    "sq": lambda x: reduce(op.add, entries(x * x), 0),
    "dot": lambda x, y: reduce(op.add, entries(x * y), 0),
    "ones": lambda m, n: Matrix([[1] * n] * m, n),
    "eye": lambda n: diag(Matrix([[1]] * n, 1), n, n),
    "diag": diag,
    "det": det,
    "inv": inv,
    "slope": slope,
}
"""What expressions of certificates may call."""
