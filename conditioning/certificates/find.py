"""Finds terms for steps of certificates: positive weights of products of known signs and squares, by a linear program.

    python -m lorakappa.conditioning.certificates.find FILE... [--products 2] [--degree 1] [--again] [--out FOLDER]

fills in every step of a file that the checker refuses, at the first shape of its case, and writes the file anew; the
checker then decides. The candidates are products of what is known to be ≥ 0 or > 0, times the squares of 1, of
monomials m and of m ± n and m ± 2n; what is known to be 0 may be multiplied with any polynomial. A vertex of the linear
program has few terms, whose weights an exact solution of the equations then makes rational. Not found does not mean
false.
"""

import argparse
import itertools
import operator as op
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import flint
import numpy as np
from scipy import optimize

from lorakappa.conditioning.certificates.arithmetic import Matrix, Quotient
from lorakappa.conditioning.certificates.check import WRONG, Facts, Names, prove, scope, value
from lorakappa.shared.records import write_json
from lorakappa.shared.schemas import read_json

Polynomial = Any
"""A flint.fmpq_mpoly."""
Scalar = Any
"""A polynomial or a quotient of two."""
Term = dict[str, Any]
LARGEST = 2 * 10**7
"""Entries of the linear program."""


def find(
    step: Mapping[str, Any], names: Names, known: Facts, *, products: int = 2, degree: int = 1
) -> list[Term] | None:
    """Terms that show a step, or None if the candidates do not.

    Args:
        step: with `left`, `relation`, `right` and perhaps `times`, between scalars.
        names: values of what the step names (`check.scope`).
        known: what is known before it.
        products: most factors of known sign in a term.
        degree: of the monomials in squares and in multiples of zeros, at most.

    Raises:
        ValueError: if the step compares matrices.
    """
    text = f"({step['left']}) - ({step['right']})" if "right" in step else step["left"]
    target = value(text, names) * (-1 if step["relation"] == "<=" else 1)
    target = reduce(op.mul, (known[name][0] for name in step.get("times", [])), target)
    if isinstance(target, Matrix):
        raise ValueError(f"{step['left']} is a matrix")
    variables = (target.top if isinstance(target, Quotient) else target).context().gens()
    monomials = list(_monomials(variables, degree))
    signed = list(_signed(known, monomials, products)) if step["relation"] != "==" else []
    zeros = [
        ({"zero": name, "by": text}, fact * monomial)
        for name, (fact, relation) in known.items()
        if relation == "==" and not isinstance(fact, Matrix)
        for text, monomial in [*monomials, *((f"-{text}", -monomial) for text, monomial in monomials)]
    ]
    strict = step["relation"] == ">"
    for required in [i for i, (_, _, sign) in enumerate(signed) if sign == ">"] if strict else [None]:
        columns = [(entry, polynomial) for entry, polynomial, _ in signed] + zeros
        if not columns:
            return None
        weights = _weights(*_over_one_denominator(target, [candidate for _, candidate in columns]), required)
        if weights is not None:
            return [_weighted(columns[i][0], weight) for i, weight in weights.items()]
    return None


def _monomials(variables: Sequence[Polynomial], degree: int) -> Iterator[tuple[str, Polynomial]]:
    """Monomials up to a degree, the first one 1, with their text."""
    for n in range(degree + 1):
        for chosen in itertools.combinations_with_replacement(variables, n):
            text = " * ".join(_text(str(variable)) for variable in chosen)
            yield text or "1", reduce(op.mul, chosen, variables[0] ** 0)


def _text(variable: str) -> str:
    """A variable as expressions name it: M[0, 1] for M_0_1, x for x_0_0 where x is a scalar (`_scalars`)."""
    name, row, column = variable.rsplit("_", 2)
    return f"{name}[{row}, {column}]"


def _signed(
    known: Facts, monomials: Sequence[tuple[str, Polynomial]], products: int
) -> Iterator[tuple[Term, Scalar, str]]:
    """Candidates that cannot be negative: what to write, their value, and its relation to 0."""
    one = monomials[0][1]
    facts = {name: fact for name, (fact, sign) in known.items() if sign != "==" and not isinstance(fact, Matrix)}
    for n in range(products + 1):
        for chosen in itertools.combinations_with_replacement(facts, n):
            product = reduce(op.mul, (facts[name] for name in chosen), one)
            positive = all(known[name][1] == ">" for name in chosen)
            yield {"of": list(chosen)}, product, ">" if positive else ">="
            for text, root in _roots(monomials):
                yield {"of": list(chosen), "square": text}, product * root**2, ">="


def _roots(monomials: Sequence[tuple[str, Polynomial]]) -> Iterator[tuple[str, Polynomial]]:
    """Monomials other than 1, and sums and differences of two with coefficients 1 and 2."""
    yield from monomials[1:]
    for factor in (-1, 1, -2, 2):
        for (text, m), (other, n) in itertools.permutations(monomials, 2):
            times = "" if abs(factor) == 1 else f"{abs(factor)} * "
            yield f"{text} {'-' if factor < 0 else '+'} {times}{other}", m + factor * n


def _over_one_denominator(target: Scalar, columns: Sequence[Scalar]) -> tuple[Polynomial, list[Polynomial]]:
    """Numerators over the least common denominator, of a target and of candidates."""
    bottoms = [scalar.bottom for scalar in (target, *columns) if isinstance(scalar, Quotient)]
    common = reduce(lambda x, y: x * y / x.gcd(y), bottoms) if bottoms else 1
    multiplied = [scalar * common for scalar in (target, *columns)]
    return multiplied[0], multiplied[1:]


def _weights(target: Polynomial, columns: Sequence[Polynomial], required: int | None) -> dict[int, flint.fmpq] | None:
    """Positive rational weights of few columns that add up to the target, the required one among them, or None."""
    as_dicts = [column.to_dict() for column in columns]
    wanted = target.to_dict()
    rows = {exponents: i for i, exponents in enumerate(set(wanted).union(*as_dicts))}
    if len(rows) * len(columns) > LARGEST:
        raise ValueError(f"{len(columns)} candidates with {len(rows)} monomials are too many")
    A, b = np.zeros((len(rows), len(columns))), np.zeros(len(rows))
    for j, entries in enumerate(as_dicts):
        for exponents, coefficient in entries.items():
            A[rows[exponents], j] = float(coefficient)
    for exponents, coefficient in wanted.items():
        b[rows[exponents]] = float(coefficient)
    cost = np.abs(A).sum(axis=0) * (1 + np.arange(len(columns)) / len(columns))  # the simpler ones come first
    lower = np.zeros(len(columns))
    if required is not None:
        lower[required] = 2.0**-10
    found = optimize.linprog(cost, A_eq=A, b_eq=b, bounds=np.column_stack([lower, np.full(len(columns), np.inf)]))
    if not found.success:
        return None
    support = [j for j in range(len(columns)) if found.x[j] > 1e-9]
    return _exactly(wanted, as_dicts, support, list(rows))


def _exactly(
    wanted: Mapping[Any, Any], columns: Sequence[Mapping[Any, Any]], support: list[int], rows: list[Any]
) -> Any:
    """The weights of the columns in the support over the rationals, where they are unique and positive."""
    system = flint.fmpq_mat(
        [
            [columns[j].get(exponents, flint.fmpq(0)) for j in support] + [wanted.get(exponents, flint.fmpq(0))]
            for exponents in rows
        ]
    )
    reduced, rank = system.rref()
    if rank != len(support) or any(reduced[i, i] != 1 for i in range(rank)):
        return None
    weights = {j: reduced[i, len(support)] for i, j in enumerate(support)}
    return weights if all(weight > 0 for weight in weights.values()) else None


def _weighted(entry: Term, weight: flint.fmpq) -> Term:
    if "zero" in entry:
        return {"zero": entry["zero"], "by": entry["by"] if weight == 1 else f"{weight} * ({entry['by']})"}
    return entry if weight == 1 else {"weight": str(weight), **entry}


def fill(case: dict[str, Any], *, products: int = 2, degree: int = 1) -> list[str]:
    """Fills in the terms of every step of a case that the checker refuses, in place.

    Args:
        case: of a certificate.
        products: as for `find`.
        degree: as for `find`.

    Returns:
        The names of the steps that were filled.

    Raises:
        ValueError: if no terms are found for one, by name.
    """
    shape = tuple(map(int, case["shapes"].split()[0]))
    names, filled = scope(case, shape), []
    scalars = {name for name, size in case["variables"].items() if not size}
    known = {name: (value(text, names), relation) for name, (text, relation, _) in case.get("given", {}).items()}
    for step in _steps(case):
        name = step.get("name", "conclusion")
        try:
            known[name] = prove(step, names, known)
        except WRONG:
            terms = find(step, names, known, products=products, degree=degree)
            if terms is None:
                raise ValueError(f"{name}: no terms found; more products or a higher degree may do") from None
            step["terms"] = [_in_scalars(entry, scalars) for entry in terms]
            known[name] = prove(step, names, known)
            filled.append(name)
    return filled


def _steps(case: dict[str, Any]) -> list[dict[str, Any]]:
    return [*case.get("steps", []), *([case["conclusion"]] if "conclusion" in case else [])]


def _in_scalars(entry: Term, scalars: set[str]) -> Term:
    """A term with x for x[0, 0] where x is a scalar."""
    for key in ("square", "by"):
        for name in scalars if key in entry else ():
            entry = entry | {key: entry[key].replace(f"{name}[0, 0]", name)}
    return entry


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="find terms for the steps of certificates that have none")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--products", type=int, default=2, help="most factors of known sign in a term")
    parser.add_argument("--degree", type=int, default=1, help="of monomials in squares")
    parser.add_argument("--again", action="store_true", help="forget the terms that are there")
    parser.add_argument("--out", type=Path, help="folder for the files; they are written in place without it")
    options = parser.parse_args(arguments)
    for file in options.files:
        try:
            certificate = read_json(file)
            for place, case in enumerate(certificate["cases"]):
                if options.again:
                    for step in _steps(case):
                        step.pop("terms", None)
                for name in fill(case, products=options.products, degree=options.degree):
                    print(f"{file.name}, case {place}: {name} found", flush=True)
            write_json(file if options.out is None else options.out / file.name, certificate)
        except (OSError, *WRONG) as error:
            print(f"error: {file}: {error}", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
