"""Checks certificates: that identities hold, and that what must not be negative is a sum of what cannot be.

Of this project it imports exact arithmetic alone, and knows nothing of how a certificate was found: at every shape of a
file it expands each step into polynomials, or quotients of such whose denominators are known not to vanish, in all
entries of all matrices, with rational coefficients, and compares. README.md beside it describes the format.
"""

import ast
import json
import operator as op
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from types import FunctionType
from typing import Any

import flint

from lorakappa.conditioning.certificates.arithmetic import FUNCTIONS, Matrix, divide, entries, is_zero, power, regular

FOLDER = Path(__file__).parent
Names = Mapping[str, Any]  # values by name: scalars, matrices, functions
Facts = Mapping[str, tuple[Any, str]]  # what is known to be ==, >=, > or != 0, by name
WRONG = (ArithmeticError, AttributeError, IndexError, KeyError, RecursionError, SyntaxError, TypeError, ValueError)
OPERATORS: Mapping[type, Callable[..., Any]] = {
    **{ast.Add: op.add, ast.Sub: op.sub, ast.Mult: op.mul, ast.MatMult: op.matmul, ast.Pow: power, ast.Div: divide}
}
FORM = {  # fields that must be there, and that may
    "certificate": ("claim statement says cases", "by_hand"),
    "case": ("shapes variables", "branch let given steps conclusion"),
    "step": ("name left relation", "right times terms both"),
    "multiple": ("zero by", ""),
    "term": ("of", "weight square"),
}


def fields(entry: Mapping[str, Any], kind: str) -> None:
    """Raises ValueError if an entry lacks a field or has one that is not known."""
    must, may = (set(words.split()) for words in FORM[kind])
    if wrong := (must - entry.keys()) | (entry.keys() - must - may):
        raise ValueError(f"a {kind} lacks, or does not know, {', '.join(map(repr, sorted(wrong)))}")


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
        case ast.Call(ast.Name(f), arguments, []) if isinstance(names[f], FunctionType):
            return names[f](*(value(argument, names) for argument in arguments))
    raise ValueError(f"{node if isinstance(node, str) else ast.unparse(node)} is not understood")


def scope(case: Mapping[str, Any], shape: tuple[int, ...], values: Names | None = None) -> dict[str, Any]:
    """All that steps may name: sizes, functions, variables (at `values`, or free), what `let` makes of them."""
    names = {**FUNCTIONS, **dict(zip("abr", shape, strict=True)), "k": min(shape[:2])}
    let = [(*key.removesuffix(")").partition("("), text) for key, text in case.get("let", {}).items()]
    if taken := names.keys() & {*case["variables"], *(word for _, _, words, _ in let for word in words.split(", "))}:
        raise ValueError(f"{', '.join(sorted(taken))} has a meaning already")
    sizes = {name: (*(value(n, names) for n in size), 1, 1)[:2] for name, size in case["variables"].items()}
    flat = [f"{name}_{i}_{j}" for name, (height, width) in sizes.items() for i in range(height) for j in range(width)]
    left = [*flint.fmpq_mpoly_ctx.get(flat, "degrevlex").gens()][::-1]
    free = {name: Matrix([[left.pop() for _ in range(w)] for _ in range(h)], w) for name, (h, w) in sizes.items()}
    names |= {name: free[name] if size else free[name][0] for name, size in case["variables"].items()}
    names |= values or {}
    for name, _, words, text in let:
        if name in names:
            raise ValueError(f"{name} is defined twice")
        names[name] = _function(words.split(", "), text, dict(names)) if words else value(text, names)
    return names


def _function(words: list[str], text: str, names: Names) -> Callable[..., Any]:
    return lambda *given: value(text, {**names, **dict(zip(words, given, strict=True))})


def defined(x: Any, known: Facts) -> Any:
    """x; ValueError if a denominator in it is no product of factors of what is known not to be 0."""
    return regular(x, [entry for fact, sign in known.values() if sign in (">", "!=") for entry in entries(fact)])


def term(entry: Mapping[str, Any], names: Names, known: Facts) -> tuple[Any, str]:
    """A term and its relation to 0: a multiple of a zero, or a positive weight times signed factors and a square."""
    fields(entry, "multiple" if "zero" in entry else "term")
    if "zero" in entry:
        zero, relation = known[entry["zero"]]
        if relation != "==":
            raise ValueError(f"{entry['zero']} is not known to be 0")
        return FUNCTIONS["dot"](zero, defined(value(entry["by"], names), known)), "=="
    weight, factors = flint.fmpq(*map(int, entry.get("weight", "1").split("/"))), [known[f] for f in entry["of"]]
    if weight <= 0 or any(relation not in (">=", ">") for _, relation in factors):
        raise ValueError(f"the term {entry} may be negative")
    product: Any = reduce(op.mul, (factor for factor, _ in factors), weight)
    strict = not isinstance(product, Matrix) and all(relation == ">" for _, relation in factors)
    if "square" not in entry:
        return FUNCTIONS["total"](product), ">" if strict else ">="
    root = defined(value(entry["square"], names), known)
    return FUNCTIONS["dot"](product, root * root), ">="


def prove(step: Mapping[str, Any], names: Names, known: Facts) -> tuple[Any, str]:
    """The fact that a step states: left − right (for <= right − left) in relation to 0.

    It holds if, times what is positive, it is a sum of terms of right signs, or an equality of two known inequalities.
    """
    sides = [defined(value(step[side], names), known) for side in ("left", "right") if side in step]
    target, relation = reduce(op.sub, sides), step["relation"]
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
    known: dict[str, tuple[Any, str]] = {}
    for name, (text, relation, _) in case.get("given", {}).items():
        if relation not in ("==", ">=", ">", "!="):
            raise ValueError(f"{name}: nothing is given by {relation}")
        known[name] = defined(value(text, names), known), relation
    for name in case.get("let", {}).keys() & names.keys():
        defined(names[name], known)
    conclusion = [{"name": "conclusion", **case["conclusion"]}] if "conclusion" in case else []
    for step in [*case.get("steps", []), *conclusion]:
        try:
            fields(step, "step")
            known[step["name"]] = prove(step, names, known)
        except WRONG as error:
            raise ValueError(f"{step['name']} at (a, b, r) = {shape}: {error}") from None


def check(file: Path) -> tuple[dict[str, Any], list[tuple[int, ...]]]:
    """Checks a file; returns what it holds and the shapes covered, or raises ValueError naming file and step.

    At each shape there must be a conclusion, of one case or of all branches of a split.
    """
    branches: dict[tuple[int, ...], set[str]] = {}
    try:
        certificate = json.loads(file.read_text(encoding="utf-8"))
        fields(certificate, "certificate")
        for case in certificate["cases"]:
            fields(case, "case")
            if any(why.startswith("case: ") for _, _, why in case.get("given", {}).values()) != ("branch" in case):
                raise ValueError("a branch, such as 1 of 2, is what has something given by case")
            for shape in (tuple(map(int, word)) for word in case["shapes"].split()):
                if not 1 <= shape[2] <= min(shape[:2]):
                    raise ValueError(f"{shape} is no shape")
                check_case(case, shape)
                branches.setdefault(shape, set()).update([case.get("branch", "1 of 1")] if "conclusion" in case else [])
        for shape, found in branches.items():
            if found != {f"{i + 1} of {len(found)}" for i in range(len(found))} or not found:
                raise ValueError(f"{shape}: there is no conclusion, or not of all branches")
    except WRONG as error:
        raise ValueError(f"{file.name}: {error}") from None
    return certificate, sorted(branches)


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
