"""Certificates speak of their claims, and the checker refuses what is wrong, by name."""

import json
from fractions import Fraction

import flint
import numpy as np
import pytest

from lorakappa.conditioning.certificates import check
from lorakappa.conditioning.certificates.arithmetic import Matrix
from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.verification import Shape, exact

FILES = sorted(check.FOLDER.glob("*.json"))
CASES = [
    pytest.param(CLAIMS[file.stem], case, id=f"{file.stem}-{i}")
    for file in FILES
    for i, case in enumerate(json.loads(file.read_text(encoding="utf-8"))["cases"])
]
RATIONAL_POINTS = 3


def matrix(rows):
    return Matrix(rows.tolist(), rows.ncols())


def column(entries):
    return Matrix([[entry] for entry in entries], 1)


BOUND = {
    "q": lambda x: column(x.q),
    "tail": lambda x: column(x.tail),
    "t": lambda x: x.G[0, 0],
    "L": lambda x: x.L,
    "mu": lambda x: x.mu,
    "nu": lambda x: exact.minimum(x.mu, x.s[x.shape.r - 1] - x.s[x.shape.r]) / 2,
    "c": lambda x: exact.sqrt(flint.fmpq(x.shape.b)),
    "d": lambda x: exact.sqrt(flint.fmpq(x.shape.a)),
    "eps": lambda x: flint.fmpq_mpoly_ctx.get(["eps"], "lex").gens()[0],  # by which derivatives are taken
}
"""What variables of certificates are at an instance; others are matrices of the instance, or free."""
ABOUT_MATRICES = {"T", "R", "dA", "dB", "gradient", "step", "ratio"}


def bind(case, x, rng):
    """Values of a case's variables at an exact instance; free ones are drawn."""
    values = {}
    for name, size in case["variables"].items():
        if name in x.extras:
            found = matrix(x.extras[name])
            values[name] = found if size else found[0]
        elif name in BOUND:
            values[name] = BOUND[name](x)
        elif name in ("A", "B", "Z", "G"):
            values[name] = matrix(getattr(x, name))
        else:
            assert name not in ABOUT_MATRICES
            free = check.scope({"variables": {name: size}}, (x.shape.a, x.shape.b, x.shape.r))[name]
            draw = lambda _: flint.fmpq(int(rng.integers(-3, 4)), 2)  # noqa: E731
            values[name] = free.each(draw) if size else draw(free)
    return values


def exact_instances(claim, case):
    """Instances with small rational parameters at shapes of a case, smallest first."""
    rng, found = np.random.default_rng(0), 0
    for word in sorted(case["shapes"].split(), key=lambda w: (int(w[0]) + int(w[1])) * int(w[2]))[:12]:
        shape = Shape(*map(int, word))
        for _ in range(RATIONAL_POINTS):
            for _attempt in range(50):
                parameters = [Fraction(round(4 * p), 4) for p in claim.family.draw(shape, rng).tolist()]
                if claim.family.valid(shape, parameters):
                    found += 1
                    yield claim.family.exact(shape, parameters), rng
                    break
    assert found > 3


def compare(x, relation):
    """Whether exact numbers, or all entries of a matrix, may be in relation to 0: balls may contain it."""
    if isinstance(x, Matrix):
        return all(compare(entry, relation) for row in x.rows for entry in row)
    if isinstance(x, flint.fmpq_mpoly):
        return compare(x.leading_coefficient(), relation) and x.is_constant()
    return bool({"==": not (x > 0 or x < 0), ">=": not x < 0, ">": x > 0}[relation])


@pytest.mark.parametrize(("claim", "case"), CASES)
def test_a_certificate_says_what_its_claim_compares(claim, case):
    """At exact instances: what is given is true there, and the two sides are those that the claim compares."""
    for x, rng in exact_instances(claim, case):
        shape = (x.shape.a, x.shape.b, x.shape.r)
        names = check.scope(case, shape, bind(case, x, rng))
        for name, (text, relation, reason) in case.get("given", {}).items():
            assert reason
            assert compare(check.value(text, names), relation), (name, shape)
        if "H(x, y)" in case.get("let", {}):
            P, Q = (
                Matrix(rng.integers(-2, 3, size).tolist(), size[1])
                for size in ((shape[0], shape[2]), (shape[2], shape[1]))
            )
            v = flint.fmpq_mat(x.shape.d, 1, [entry for M in (P, Q) for row in M.rows for entry in row])
            assert names["H"](P, Q) == (v.transpose() * x.hessian * v)[0, 0]
        if "conclusion" in case:
            conclusion, comparison = case["conclusion"], claim.compare_exactly(x)
            assert conclusion["relation"] == comparison.relation
            for side in ("left", "right"):
                found = check.value(conclusion[side], names) - getattr(comparison, side)
                assert compare(found, "=="), (side, shape)


def certificate(**case):
    whole = {"shapes": "211", "variables": {"x": [], "y": [], "M": ["a", "r"]}, "given": {"y": ["y", ">", "chosen"]}}
    return {"claim": "planted", "statement": "", "says": "", "cases": [whole | case]}


def conclusion(left, relation, *terms, **options):
    return {"conclusion": {"left": left, "relation": relation, "terms": list(terms), **options}}


def square(root, *of, weight="1"):
    return {"weight": weight, "of": list(of), "square": root}


TRUE = {
    "square": conclusion("x**2 + 4*y**2", ">=", square("x - 2*y"), square("1", "y", weight="1"), right="4*x*y - y"),
    "quotient": conclusion("x**2 / y", ">=", square("x / y", "y")),
    "multiplied": conclusion("x**2 / y", ">=", square("x"), times=["y"]),
    "strict": conclusion("1 + x**2", ">", square("x"), {"of": []}),
    "matrix": conclusion("2 * sq(M)", ">=", square("M", weight="2")),
    "identity": conclusion("M @ M.T - M @ M.T", "=="),
    "at most": conclusion("-x**2", "<=", square("x")),
    "zero": {"given": {"unit": ["sq(M) - 1", "==", "chosen"]}}
    | conclusion("x * sq(M)", "==", {"zero": "unit", "by": "x"}, right="x"),
    "entries": {"given": {"each": ["M", ">=", "chosen"]}} | conclusion("total(M)", ">=", {"of": ["each"]}),
    "derivative": conclusion("slope((x + 3) * (x + 2 * y), x)", "==", right="3 + 2 * y"),
    "inverse": {"shapes": "332", "variables": {"M": ["r", "r"]}, "given": {}}
    | conclusion("M @ inv(M)", "==", right="eye(r)"),
    "both": {
        "given": {"up": ["x - y", ">=", "chosen"], "down": ["y - x", ">=", "chosen"]},
    }
    | conclusion("x", "==", right="y", both=["up", "down"]),
}
FALSE = {
    "wrong coefficient": (conclusion("x**2", ">=", square("x", weight="2")), "its two sides differ"),
    "wrong identity": (conclusion("M.T @ M", "=="), "its two sides differ"),
    "negative weight": (conclusion("-x**2", ">=", square("x", weight="-1")), "may be negative"),
    "weight 0": (conclusion("0", ">", {"of": [], "weight": "0"}), "may be negative"),
    "sign unknown": (conclusion("x", ">=", {"of": ["x"]}), "conclusion at (a, b, r) = (2, 1, 1): 'x'"),
    "not strict": (conclusion("x**2", ">", square("x")), "its terms do not show >"),
    "not strict by a matrix": (
        {"given": {"M": ["M", ">", "chosen"]}} | conclusion("total(M)", ">", {"of": ["M"]}),
        "its terms do not show >",
    ),
    "equal by a square": (conclusion("x**2", "==", square("x")), "its terms do not show =="),
    "zero by sign": (
        {"given": {"x": ["x", ">=", "chosen"]}} | conclusion("x", "==", {"zero": "x", "by": "1"}),
        "x is not known to be 0",
    ),
    "sign by zero": ({"given": {"x": ["x", "==", "chosen"]}} | conclusion("x", ">=", {"of": ["x"]}), "may be negative"),
    "times a sign": (
        {"given": {"x": ["x", ">=", "chosen"]}} | conclusion("x", ">=", square("x"), times=["x"]),
        "multiplied by what may be 0",
    ),
    "compares matrices": (conclusion("M * 0", ">="), "its terms do not show >="),
    "one side only": (
        {"given": {"up": ["x - y", ">=", "chosen"]}} | conclusion("x", "==", right="y", both=["up", "up"]),
        "these are not the two inequalities",
    ),
    "both for an inequality": (
        {"given": {"up": ["x - y", ">=", "chosen"], "down": ["y - x", ">=", "chosen"]}}
        | conclusion("x", ">", right="y", both=["up", "down"]),
        "these are not the two inequalities",
    ),
    "sizes": (conclusion("M @ M", "=="), "matrices of sizes (2, 1) and (2, 1)"),
    "added sizes": (conclusion("M + M.T", "=="), "matrices of sizes (2, 1) and (1, 2)"),
    "defined twice": ({"let": {"x": "y"}} | conclusion("x - y", "=="), "x is defined twice"),
    "a function of Python": (conclusion("open(x)", "=="), "'open'"),
    "a call by name": (conclusion("eye(n=3)", "=="), "eye(n=3) is not understood"),
    "another attribute": (conclusion("x.top", "=="), "x.top is not understood"),
    "a float": (conclusion("0.5 - 0.5", "=="), "0.5 is not understood"),
    "a comparison": (conclusion("x < y", "=="), "x < y is not understood"),
    "division by 0": (conclusion("x / (y - y)", "=="), ""),
    "no such relation": (conclusion("0", "<"), "'<'"),
    "half a line": (conclusion("x +", "=="), "invalid syntax"),
}


def checked(tmp_path, case):
    file = tmp_path / "planted.json"
    file.write_text(json.dumps(certificate(**case)))
    return check.check(file)[1]


@pytest.mark.parametrize("name", TRUE)
def test_what_is_true_and_shown_passes(name, tmp_path):
    assert len(checked(tmp_path, TRUE[name])) == 1


@pytest.mark.parametrize("name", FALSE)
def test_what_is_false_or_not_shown_is_refused_by_name(name, tmp_path):
    case, message = FALSE[name]
    with pytest.raises(ValueError, match=r"^planted\.json: ") as raised:
        checked(tmp_path, case)
    assert message in str(raised.value)


def test_the_command_names_what_fails(tmp_path, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(certificate(**TRUE["square"])))
    bad.write_text(json.dumps(certificate(**FALSE["wrong identity"][0])))
    assert check.main([str(good)]) == 0
    assert check.main([str(bad), str(good), str(tmp_path / "none.json")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[2] == "good.json: holds at 1 shapes"
    assert lines[1] == "FAILS bad.json: conclusion at (a, b, r) = (2, 1, 1): its two sides differ"
    assert lines[3].startswith("FAILS [Errno 2]")


def test_the_checker_is_short_and_knows_nothing_of_the_project():
    text = (check.FOLDER / "check.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    for name in ("check.py", "arithmetic.py"):
        lines = (check.FOLDER / name).read_text(encoding="utf-8").splitlines()
        used = {line.split()[1] for line in lines if line.startswith(("import lorakappa", "from lorakappa"))}
        assert used <= {"lorakappa.conditioning.certificates.arithmetic"}
