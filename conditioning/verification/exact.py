"""Exact arithmetic for certificates: rationals where numbers are rational, real balls where they are not.

Eigenvalues of rational symmetric matrices are found from the factors of the characteristic polynomial: a
linear factor gives a rational eigenvalue, any other one isolated real roots in balls of certified radius
(Arb, through python-flint). Two numbers then compare either exactly or by disjoint balls, so that no
rounding can fake or hide a counterexample.
"""

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import flint

Exact = Any
"""A flint.fmpq (exact rational) or a flint.arb (real ball with certified radius)."""

PRECISION = 256
"""Bits of ball arithmetic; set for the whole process, since python-flint keeps it in a global context."""

flint.ctx.prec = PRECISION


def rational(value: Fraction | int) -> flint.fmpq:
    """A Python rational as flint.fmpq."""
    value = Fraction(value)
    return flint.fmpq(value.numerator, value.denominator)


def matrix(rows: Sequence[Sequence[Any]]) -> flint.fmpq_mat:
    """A rational matrix from rows of Python or flint rationals."""
    return flint.fmpq_mat([[x if isinstance(x, flint.fmpq) else rational(x) for x in row] for row in rows])


def to_float(value: Any) -> float:
    """Nearest float of a number, exact or not; the midpoint of a ball."""
    if isinstance(value, flint.fmpq):
        return float(Fraction(int(value.p), int(value.q)))
    return float(value.mid()) if isinstance(value, flint.arb) else float(value)


def show(value: Any) -> str:
    """A number as text: a rational exactly, a ball with its radius."""
    if isinstance(value, flint.arb):
        return str(value.str(20))
    return str(value)


def sqrt(value: Exact) -> Exact:
    """√value: rational if the value is the square of a rational, else a ball."""
    if isinstance(value, flint.fmpq):
        p, q = value.p, value.q
        if p >= 0 and p.isqrt() ** 2 == p and q.isqrt() ** 2 == q:
            return flint.fmpq(p.isqrt(), q.isqrt())
        value = flint.arb(value)
    return value.sqrt()


def maximum(x: Exact, y: Exact) -> Exact:
    """The larger of two exact numbers; for overlapping balls a ball that contains it."""
    if x >= y:
        return x
    return y if y >= x else flint.arb(x).max(flint.arb(y))


def minimum(x: Exact, y: Exact) -> Exact:
    """The smaller of two exact numbers; for overlapping balls a ball that contains it."""
    if x <= y:
        return x
    return y if y <= x else flint.arb(x).min(flint.arb(y))


def eigenvalues(M: flint.fmpq_mat) -> list[Exact]:
    """Eigenvalues of a rational symmetric matrix, ascending, with multiplicity.

    Args:
        M: (n, n) symmetric rational matrix.

    Returns:
        n numbers: rationals wherever the eigenvalue is rational, pairwise disjoint balls elsewhere.

    Raises:
        ArithmeticError: if roots could not be separated, which `PRECISION` bits make all but impossible.
    """
    roots: list[tuple[Exact, int]] = []
    for factor, multiplicity in M.charpoly().numer().factor()[1]:
        if factor.degree() == 1:
            roots.append((flint.fmpq(-factor[0], factor[1]), multiplicity))
        else:
            isolated: list[Any] = factor.complex_roots()
            roots += [(root.real, multiplicity) for root, _ in isolated]
    roots.sort(key=lambda entry: to_float(entry[0]))
    for (lower, _), (upper, _) in itertools.pairwise(roots):
        if not lower < upper:
            raise ArithmeticError(f"eigenvalues near {to_float(lower):.6g} are not separated; raise PRECISION")
    return [root for root, multiplicity in roots for _ in range(multiplicity)]


def hessian(loss: Callable[[list[flint.fmpq]], flint.fmpq], point: list[flint.fmpq]) -> flint.fmpq_mat:
    """Exact Hessian of a loss that is at most quadratic in every single parameter.

    For such polynomials the second differences with step 1 are exact: f(x + e) − 2f(x) + f(x − e) on the
    diagonal, (f(x + e + e') − f(x + e − e') − f(x − e + e') + f(x − e − e'))/4 off it. This knows nothing
    of the closed forms that it certifies.

    Args:
        loss: maps d rationals to a rational.
        point: d rationals.

    Returns:
        (d, d) symmetric rational matrix.
    """
    d = len(point)

    def at(*moves: tuple[int, int]) -> flint.fmpq:
        moved = list(point)
        for index, step in moves:
            moved[index] += step
        return loss(moved)

    plus, minus, centre = [at((i, 1)) for i in range(d)], [at((i, -1)) for i in range(d)], loss(point)
    H = flint.fmpq_mat(d, d)
    for i in range(d):
        H[i, i] = plus[i] - 2 * centre + minus[i]
        for j in range(i):
            mixed = at((i, 1), (j, 1)) - at((i, 1), (j, -1)) - at((i, -1), (j, 1)) + at((i, -1), (j, -1))
            H[i, j] = H[j, i] = mixed / 4
    return H


def half_square(M: flint.fmpq_mat) -> flint.fmpq:
    """½‖M‖_F²."""
    return sum((entry * entry for entry in M.entries()), flint.fmpq(0)) / 2
