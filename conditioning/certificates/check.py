"""Checks certificates: that identities hold, and that what must not be negative is a sum of what cannot be.

Of this project it imports exact arithmetic alone, and knows nothing of how a certificate was found: at every shape that
a file states it expands each step into polynomials, or quotients of such, in all entries of all matrices, with rational
coefficients, and compares. README.md beside it describes the format.
"""

import ast
import json
import operator as op
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import flint

from lorakappa.conditioning.certificates.arithmetic import FUNCTIONS, Matrix, divide, entries, power

FOLDER = Path(__file__).parent
Names = Mapping[str, Any]  # values by name: scalars, matrices, functions
Facts = Mapping[str, tuple[Any, str]]  # what is known to be ==, >= or > 0, by name
WRONG = (ArithmeticError, AttributeError, IndexError, KeyError, RecursionError, SyntaxError, TypeError, ValueError)
OPERATORS: Mapping[type, Callable[..., Any]] = {
    **{ast.Add: op.add, ast.Sub: op.sub, ast.Mult: op.mul, ast.MatMult: op.matmul, ast.Pow: power, ast.Div: divide}
}


def value(node: ast.AST | str, names: Names) -> Any:
    """Value of an expression: names, whole numbers, + − * / @ **, slices, .T and calls of what `names` holds."""
    match ast.parse(node, mode="eval").body if isinstance(node, str) else node:
        case ast.Name(name):
            return names[name]
        case ast.Constant(int(number)):
            return number
        case ast.UnaryOp(ast.USub(), operand):
            return -value(operand, names)
        case ast.BinOp(left, sign, right):
            return OPERATORS[type(sign)](value(left, names), value(right, names))
        case ast.Attribute(matrix, "T"):
            return value(matrix, names).T
        case ast.Subscript(matrix, index):
            return value(matrix, names)[value(index, names)]
        case ast.Slice(lower, upper, None):
            return slice(*(bound and value(bound, names) for bound in (lower, upper)))
        case ast.Tuple(parts):
            return tuple(value(part, names) for part in parts)
        case ast.Call(called, arguments, []):
            return value(called, names)(*(value(argument, names) for argument in arguments))
    raise ValueError(f"{node if isinstance(node, str) else ast.unparse(node)} is not understood")


def scope(case: Mapping[str, Any], shape: tuple[int, ...], values: Names | None = None) -> dict[str, Any]:
    """All that steps may name: sizes, functions, variables (at `values`, or independent), what `let` makes of them."""
    names = {**FUNCTIONS, **dict(zip("abr", shape, strict=True)), "k": min(shape[:2])}
    sizes = {name: (*(value(n, names) for n in size), 1, 1)[:2] for name, size in case["variables"].items()}
    flat = [f"{name}_{i}_{j}" for name, (height, width) in sizes.items() for i in range(height) for j in range(width)]
    left = [*flint.fmpq_mpoly_ctx.get(flat, "degrevlex").gens()][::-1]
    free = {name: Matrix([[left.pop() for _ in range(w)] for _ in range(h)], w) for name, (h, w) in sizes.items()}
    names |= {name: free[name] if size else free[name][0] for name, size in case["variables"].items()} | {
        **(values or {})
    }
    for key, text in case.get("let", {}).items():
        name, _, words = key.removesuffix(")").partition("(")
        if name in names:
            raise ValueError(f"{name} is defined twice")
        names[name] = _function(words.split(", "), text, dict(names)) if words else value(text, names)
    return names


def _function(words: list[str], text: str, names: Names) -> Callable[..., Any]:
    return lambda *given: value(text, {**names, **dict(zip(words, given, strict=True))})


def is_zero(x: Any) -> bool:
    """Whether a scalar, or each entry of a matrix, is 0 identically."""
    return all(entry == 0 for entry in entries(x))


def term(entry: Mapping[str, Any], names: Names, known: Facts) -> tuple[Any, str]:
    """A term and its relation to 0: a multiple of a zero, or a positive weight times signed factors and a square."""
    if "zero" in entry:
        zero, relation = known[entry["zero"]]
        if relation != "==":
            raise ValueError(f"{entry['zero']} is not known to be 0")
        return names["dot"](zero, value(entry["by"], names)), "=="
    weight, factors = flint.fmpq(*map(int, entry.get("weight", "1").split("/"))), [known[f] for f in entry["of"]]
    if weight <= 0 or any(relation == "==" for _, relation in factors):
        raise ValueError(f"the term {entry} may be negative")
    product: Any = reduce(op.mul, (factor for factor, _ in factors), weight)
    strict = not isinstance(product, Matrix) and all(relation == ">" for _, relation in factors)
    if "square" not in entry:
        return names["total"](product), ">" if strict else ">="
    root = value(entry["square"], names)
    return names["dot"](product, root * root), ">="


def prove(step: Mapping[str, Any], names: Names, known: Facts) -> tuple[Any, str]:
    """The fact that a step states: its left side less its right one (for <= the other way round) in relation to 0.

    It holds if, multiplied by what is positive, it adds up from terms of the right signs; an equality also if both
    inequalities are known.
    """
    target, relation = (
        value(f"({step['left']}) - ({step['right']})" if "right" in step else step["left"], names),
        step["relation"],
    )
    if relation == "<=":
        target, relation = target * -1, ">="
    if "both" in step:
        (one, above), (other, below) = (known[name] for name in step["both"])
        if above == below == ">=" and relation == "==" and is_zero(target - one) and is_zero(target + other):
            return target, relation
        raise ValueError("these are not the two inequalities")
    multipliers = [known[name] for name in step.get("times", [])]
    if any(sign != ">" or isinstance(factor, Matrix) for factor, sign in multipliers):
        raise ValueError("it is multiplied by what may be 0")
    terms = [term(entry, names, known) for entry in step.get("terms", [])]
    product = reduce(op.mul, (factor for factor, _ in multipliers), target)
    if not is_zero(reduce(op.sub, (summand for summand, _ in terms), product)):
        raise ValueError("its two sides differ")
    signs = [sign for _, sign in terms]
    if not {"==": {*signs} <= {"=="}, ">=": not isinstance(target, Matrix), ">": ">" in signs}[relation]:
        raise ValueError(f"its terms do not show {relation}")
    return target, relation


def check_case(case: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    """Checks all steps at one shape; raises ValueError naming the step that fails."""
    names = scope(case, shape)
    known = {name: (value(text, names), relation) for name, (text, relation, _) in case.get("given", {}).items()}
    conclusion = [{"name": "conclusion", **case["conclusion"]}] if "conclusion" in case else []
    for step in [*case.get("steps", []), *conclusion]:
        try:
            known[step["name"]] = prove(step, names, known)
        except WRONG as error:
            raise ValueError(f"{step['name']} at (a, b, r) = {shape}: {error}") from None


def check(file: Path) -> tuple[dict[str, Any], list[tuple[int, ...]]]:
    """Checks a file; returns what it holds and the shapes covered, or raises ValueError naming file and step."""
    try:
        certificate = json.loads(file.read_text(encoding="utf-8"))
        covered = [(case, tuple(map(int, word))) for case in certificate["cases"] for word in case["shapes"].split()]
        for case, shape in covered:
            if not 1 <= shape[2] <= min(shape[:2]):
                raise ValueError(f"{shape} is no shape")
            check_case(case, shape)
    except WRONG as error:
        raise ValueError(f"{file.name}: {error}") from None
    return certificate, sorted({shape for _, shape in covered})


def main(files: list[str]) -> int:
    """Checks files, or all; prints a line each and returns 1 if one fails."""
    failed = 0
    for file in map(Path, files) if files else sorted(FOLDER.glob("*.json")):
        try:
            print(f"{file.name}: holds at {len(check(file)[1])} shapes")
        except (OSError, ValueError) as error:
            failed, _ = 1, print(f"FAILS {error}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
