"""Certificates speak of their claims, and the checker refuses what is wrong, by name."""

import json
import re
from fractions import Fraction

import flint
import numpy as np
import pytest

from lorakappa.conditioning.certificates import check
from lorakappa.conditioning.certificates.arithmetic import Matrix, entries
from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.instances import exact_bounds, interpolating
from lorakappa.conditioning.instances.adapters import condition_number, pairs, squares, tangent_condition
from lorakappa.conditioning.instances.arrays import entries as entries_of
from lorakappa.conditioning.instances.arrays import rotation
from lorakappa.conditioning.verification import Shape, exact

FILES = sorted(check.FOLDER.glob("*.json"))
CASES = [
    pytest.param(CLAIMS[file.stem], case, id=f"{file.stem}-{i}")
    for file in FILES
    for i, case in enumerate(json.loads(file.read_text(encoding="utf-8"))["cases"])
]
RATIONAL_POINTS = 3
EXPRESSIONS = ("left", "right", "by", "square")
BY_HAND = ("ilora-restricts-freedom", "model1-exact-spectrum", "scaled-gd-spectrum")
"""Claims on dimensions and lists of eigenvalues, which no two sides of a certificate are."""


def matrix(rows):
    return Matrix(rows.tolist(), rows.ncols())


def column(entries):
    return Matrix([[entry] for entry in entries], 1)


def unit(x, name, side):
    """Eigenvector of a Gram matrix of a pair with diagonal gauge, for its largest or smallest eigenvalue."""
    gram = x.A.transpose() * x.A if side == "A" else x.B * x.B.transpose()
    wanted = getattr(x, f"gram_{side}")[0 if name else -1]
    place = next(i for i in range(x.shape.r) if gram[i, i] == wanted)
    return column([int(i == place) for i in range(x.shape.r)])


def far(x):
    """The pair of `kappa-spread`."""
    t = Fraction(1, 1000) if x.shape.r == 1 and x.shape.a < x.shape.b else Fraction(1000)
    return x.with_diagonal_gauge([t] + [1] * (x.shape.r - 1))


def quadratic(x):
    """The pair of `full-rank-optimum`."""
    c = 4 * x.q[0]
    return x.with_diagonal_gauge([q / c if x.shape.b <= x.shape.a else c / q for q in x.q])


def scalar(x):
    """The pair of `imbalanced-condition-number`."""
    return x.with_diagonal_gauge([abs(x.G[0, 0]) or 1] * x.shape.r)


def root(x):
    """The root in the closed form of its κ."""
    r, tau = x.shape.r, x.G[0, 0] ** 2 + 1 / x.G[0, 0] ** 2
    return exact.sqrt(x.s[r - 1] ** 2 * (tau**2 - 4) + 4 * x.s[r] ** 2) if x.G[0, 0] else 2 * x.s[r]


def smallest(x):
    return exact.minimum(x.gram_A[-1], x.gram_B[-1])


def pair_sums_inverted(x):
    """1/(s_i + s_j) with s_i = 0 beyond r, and 0 where that is 1/0."""
    s = [*x.s[: x.shape.r], *[flint.fmpq(0)] * max(x.shape.a, x.shape.b)]
    rows = [[1 / (s[i] + s[j]) if s[i] + s[j] else 0 for j in range(x.shape.b)] for i in range(x.shape.a)]
    return Matrix(rows, x.shape.b)


def firsts(x, place):
    """The largest or smallest singular values of two adapters' products."""
    return x.q[place] ** 2, x.extras["q2"].entries()[place] ** 2


def weakest(x):
    """The smaller m_l of two adapters."""
    m = [exact.minimum(squares(A)[x.shape.r - 1], squares(B.T)[x.shape.r - 1]) for A, B in pairs(x)]
    return exact.minimum(*m)


def turned(x):
    grams = x.G.transpose() * x.G, x.G.inv() * x.G.inv().transpose()
    return exact.minimum(*(exact.eigenvalues(gram)[0] for gram in grams))


BOUND = {
    "q": lambda x: column(x.q),
    "tail": lambda x: column(x.tail),
    "X": lambda x: matrix(x.G.inv()),
    "A0": lambda x: matrix(x.A)[: x.shape.r, :],
    "B0": lambda x: matrix(x.B)[:, : x.shape.r],
    "t": lambda x: abs(x.G[0, 0]) or flint.fmpq(1),
    "w": root,
    "x": lambda x: exact.maximum(x.G[0, 0] ** 2, 1 / x.G[0, 0] ** 2),
    "quotient": lambda x: x.s[x.shape.r] / x.s[x.shape.r - 1],
    "root_w": lambda x: root(x) / x.s[x.shape.r - 1],
    "L": lambda x: x.L,
    "mu": lambda x: next(value for value in x.eigenvalues if value != 0),
    "Lt": lambda x: scalar(x).L,
    "mut": lambda x: scalar(x).mu,
    "Lf": lambda x: far(x).L,
    "muf": lambda x: far(x).mu,
    "Lc": lambda x: quadratic(x).L,
    "muc": lambda x: quadratic(x).mu,
    "Lb": lambda x: x.balanced().L,
    "mub": lambda x: x.balanced().mu,
    "Lp": lambda x: exact.eigenvalues(x.scaled_hessian)[-1],
    "mup": lambda x: exact.eigenvalues(x.scaled_hessian)[x.shape.r**2],
    "big": lambda x: flint.fmpq(1000),
    "s1": lambda x: x.s[0],
    "alpha": lambda x: x.gram_A[0],
    "beta": lambda x: x.gram_B[0],
    "ar": lambda x: x.gram_A[-1],
    "br": lambda x: x.gram_B[-1],
    "m": smallest,
    "M": lambda x: matrix((x.A.transpose() * x.A).inv()),
    "N": lambda x: matrix((x.B * x.B.transpose()).inv()),
    "O": lambda x: Matrix(rotation(entries_of(x.extras["R"])).tolist(), x.shape.r),
    "I": pair_sums_inverted,
    "q_2": lambda x: matrix(x.extras["q2"]).T,
    "A_2": lambda x: Matrix(pairs(x)[1][0][: x.shape.r].tolist(), x.shape.r),
    "B_2": lambda x: Matrix(pairs(x)[1][1][:, : x.shape.r].tolist(), x.shape.r),
    "c_1": lambda x: x.extras["c"][0, 0],
    "c_2": lambda x: x.extras["c"][0, 1],
    "above": lambda x: exact.maximum(*(c * s for c, s in zip(x.extras["c"].entries(), firsts(x, 0), strict=True))),
    "below": lambda x: exact.minimum(*(c * s for c, s in zip(x.extras["c"].entries(), firsts(x, -1), strict=True))),
    "largest": lambda x: exact.maximum(*(squares(A)[0] + squares(B.T)[0] for A, B in pairs(x))),
    "smallest": weakest,
    "alpha_1": lambda x: squares(pairs(x)[0][0])[0],
    "beta_1": lambda x: squares(pairs(x)[0][1].T)[0],
    "alpha_2": lambda x: squares(pairs(x)[1][0])[0],
    "beta_2": lambda x: squares(pairs(x)[1][1].T)[0],
    "L_2": condition_number,  # of L and μ, and of cmax and cmin, the quotient alone is compared
    "mu_2": lambda x: flint.fmpq(1),
    "cmax_2": tangent_condition,
    "cmin_2": lambda x: flint.fmpq(1),
    "rayleigh": exact_bounds._rayleigh_quotient,
    "lam": exact_bounds._pencil,
    "ost": exact_bounds._ostrowski,
    "o": turned,
    "nu": lambda x: exact.minimum(x.mu, x.s[x.shape.r - 1] - x.s[x.shape.r]) / 2,
    "c": lambda x: exact.sqrt(flint.fmpq(x.shape.b)),
    "d": lambda x: exact.sqrt(flint.fmpq(x.shape.a)),
    "eps": lambda x: flint.fmpq_mpoly_ctx.get(["eps", "eta"], "lex").gens()[0],  # by which derivatives are taken
    "eta": lambda x: flint.fmpq_mpoly_ctx.get(["eps", "eta"], "lex").gens()[1],
}
"""What variables of certificates are at an instance; others are matrices of the instance, or free."""
IMAGES = {"image": "P @ B + A @ Q", "image1": "P1 @ B + A @ Q1"}
"""Changes of AB, whose images under J have these squared norms."""
SPECIAL = {"Lb": lambda x: x.balanced(), "Lt": scalar, "Lf": far, "Lc": quadratic}
"""By variables: the pair that a certificate speaks of, if it is not the instance."""
ABOUT_MATRICES = {"T", "R", "dA", "dB", "gradient", "step", "ratio"}


def bind(claim, case, x, rng):
    """Values of a case's variables at an exact instance; free ones are drawn."""
    values, extras = {}, getattr(x, "extras", {})
    for name, size in case["variables"].items():
        if name in extras:
            found = matrix(x.extras[name])
            values[name] = found if size else found[0]
        elif name in ("y", "z") and size:
            values[name] = unit(x, "alpha" in case["variables"], "A" if name == "y" else "B")
        elif name in ("cmax", "cmin"):
            tangent = claim.id.endswith("tangent")
            J, columns = x.extras["J"], range(x.shape.a * x.shape.b)
            columns = interpolating.tangent_entries(x.shape) if tangent else columns
            K = flint.fmpq_mat([[J[row, c] for c in columns] for row in range(J.nrows())])
            eigenvalues = [value for value in exact.eigenvalues(K.transpose() * K) if value != 0]
            values[name] = eigenvalues[-1 if name == "cmax" else 0]
        elif name in ("variance_A", "variance_B", "floor"):
            values[name] = getattr(x, name)
        elif name in BOUND and not (name in ("M", "N") and "R" not in extras):
            values[name] = BOUND[name](x)
        elif name in ("A", "B", "Z", "G"):
            values[name] = matrix(getattr(x, name))
        else:
            assert name not in ABOUT_MATRICES
            free = check.scope({"variables": {name: size}}, (x.shape.a, x.shape.b, x.shape.r))[name]
            draw = lambda _: flint.fmpq(int(rng.integers(1, 5)), 2) * (rng.choice([-1, 1]) if size else 1)  # noqa: E731, B023
            values[name] = free.each(draw) if size else draw(free)
    for name, change in IMAGES.items():
        if name in values and "A_2" not in values:
            moved = check.value(change, check.scope(case, (x.shape.a, x.shape.b, x.shape.r), values))
            values[name] = 2 * exact.half_square(x.extras["J"] * flint.fmpq_mat(len(entries(moved)), 1, entries(moved)))
    return values


def exact_instances(claim, case):
    """Instances with small rational parameters at shapes of a case, smallest first; diagonal ones for eigenvectors."""
    rng, found = np.random.default_rng(0), 0
    for word in sorted(case["shapes"].split(), key=lambda w: (int(w[0]) + int(w[1])) * int(w[2]))[:10]:
        shape = Shape(*map(int, word))
        for _ in range(max(RATIONAL_POINTS, 40 // len(case["shapes"].split()))):
            for _attempt in range(50):
                parameters = [Fraction(round(4 * p), 4) for p in claim.family.draw(shape, rng).tolist()]
                if claim.family.valid(shape, parameters):
                    x = claim.family.exact(shape, parameters)
                    if {"y", "z"} & {name for name, size in case["variables"].items() if size}:
                        x = x.with_diagonal_gauge([abs(x.G[i, i]) + flint.fmpq(1, 2) for i in range(shape.r)])
                    found += 1
                    yield x, rng
                    break
    assert found > 0


def compare(x, relation):
    """Whether exact numbers, or all entries of a matrix, may be in relation to 0: balls may contain it."""
    if isinstance(x, Matrix):
        return all(compare(entry, relation) for row in x.rows for entry in row)
    if isinstance(x, flint.fmpq_mpoly):
        return compare(x.leading_coefficient(), relation) and x.is_constant()
    return bool({"==": not (x > 0 or x < 0), ">=": not x < 0, ">": x > 0, "!=": not bool(x == 0)}[relation])


def concerns(given, prefix=("case: ", "where: ")):
    """Whether an instance is one of a case's, by what is given by case or only where something holds."""
    return all(compare(found, sign) for found, sign, why in given.values() if why.startswith(prefix))


def given_at(case, names):
    return {name: (check.value(text, names), *rest) for name, (text, *rest) in case.get("given", {}).items()}


@pytest.mark.parametrize(("claim", "case"), CASES)
def test_a_certificate_says_what_its_claim_compares(claim, case):
    """At exact instances: what is given is true there, and the two sides are those that the claim compares."""
    compared = 0
    for x, rng in exact_instances(claim, case):
        shape = (x.shape.a, x.shape.b, x.shape.r)
        names = check.scope(case, shape, bind(claim, case, x, rng))
        given = given_at(case, names)
        if not concerns(given):
            continue
        for name, (found, relation, reason) in given.items():
            assert reason
            # an eigenvector of the Hessian is rarely rational
            assert name.endswith("-attained") or compare(found, relation), (name, shape)
        if {"A", "B"} <= names.keys() and "H" in names:
            sizes = (shape[0], shape[2]), (shape[2], shape[1])
            P, Q = (Matrix(rng.integers(-2, 3, size).tolist(), size[1]) for size in sizes)
            v = flint.fmpq_mat(x.shape.d, 1, [entry for M in (P, Q) for row in M.rows for entry in row])
            pair = next((SPECIAL[name](x) for name in SPECIAL if name in names), x)
            assert names["H"](P, Q) == (v.transpose() * pair.hessian * v)[0, 0]
        for step in all_steps(case):
            texts = [entry[key] for entry in (step, *step.get("terms", [])) for key in EXPRESSIONS if key in entry]
            for text in texts:  # nothing is divided by 0
                assert all(is_finite(entry) for entry in entries(check.value(text, names))), text
        compared += 1
        if "conclusion" in case and claim.id not in BY_HAND:
            conclusion, comparison = case["conclusion"], claim.compare_exactly(x)
            assert conclusion["relation"] == comparison.relation
            for side in ("left", "right"):
                found = check.value(conclusion[side], names) - getattr(comparison, side)
                assert compare(found, "=="), (side, shape)
    assert compared


def is_finite(x):
    return (
        x.is_finite() if isinstance(x, flint.arb) else isinstance(x, int | flint.fmpz | flint.fmpq | flint.fmpq_mpoly)
    )


def test_what_is_concluded_by_hand_is_said_in_its_file():
    files = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FILES}
    assert tuple(id for id, content in files.items() if content.get("by_hand")) == BY_HAND


SPLIT = [file for file in FILES if '"branch"' in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("file", SPLIT, ids=lambda file: file.stem)
def test_the_branches_of_a_split_leave_no_instance_out(file):
    cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    branches = [case for case in cases if "branch" in case]
    for x, _ in exact_instances(CLAIMS[file.stem], branches[0]):
        shape = (x.shape.a, x.shape.b, x.shape.r)
        found = []
        for case in branches:
            names = check.scope(case, shape, bind(CLAIMS[file.stem], case, x, np.random.default_rng(0)))
            found.append(concerns(given_at(case, names), "case: "))
        assert any(found), shape


def all_steps(case):
    return [*case.get("steps", []), *([case["conclusion"]] if "conclusion" in case else [])]


@pytest.mark.parametrize(("claim", "case"), CASES)
def test_no_term_of_a_certificate_is_idle(claim, case):
    """Without any one of its terms a step fails at some shape, unless the term is 0 at all of them."""
    shapes = [tuple(map(int, word)) for word in case["shapes"].split()]
    for step in all_steps(case):
        for term in list(step.get("terms", [])):
            for shape in shapes:
                names = check.scope(case, shape)
                known = {}
                for name, (text, relation, _) in case.get("given", {}).items():
                    known[name] = check.value(text, names), relation
                for other in all_steps(case):
                    if other is step:
                        break
                    known[other["name"]] = check.prove(other, names, known)
                if check.is_zero(check.term(term, names, known)[0]):
                    continue
                rest = step | {"terms": [entry for entry in step["terms"] if entry is not term]}
                with pytest.raises(ValueError, match="its two sides differ"):
                    check.prove(rest, names, known)
                break


def certificate(**case):
    whole = {"shapes": "211", "variables": {"x": [], "y": [], "M": ["a", "r"]}, "given": {"y": ["y", ">", "chosen"]}}
    return {"claim": "planted", "statement": "", "says": "", "cases": [whole | case]}


def conclusion(left, relation, *terms, **options):
    return {"conclusion": {"left": left, "relation": relation, "terms": list(terms), **options}}


def square(root, *of, weight="1"):
    return {"weight": weight, "of": list(of), "square": root}


TRUE = {
    "divided by a factor of what is positive": {"given": {"z": ["x**2 * y", ">", "chosen"]}}
    | conclusion("1 / x", "==", right="y / (x * y)"),
    "divided by what is not 0": {"given": {"G": ["det(M[:r, :])", "!=", "chosen"]}}
    | conclusion("inv(M[:r, :]) @ M[:r, :]", "==", right="eye(r)"),
    "divided by a quotient that is not 0": {"given": {"y": ["y", ">", "chosen"], "z": ["(x + y) / y", ">", "chosen"]}}
    | conclusion("x / (x + y)", "==", right="1 - y / (x + y)"),
    "divided by entries": {"variables": {"M": ["a", "r"]}, "given": {"M": ["M", ">", "chosen"]}}
    | conclusion("M[0, 0] / (M[0, 0] * M[1, 0]**2)", "==", right="1 / M[1, 0]**2"),
    "derivative of a quotient": {"given": {"y": ["y", ">", "chosen"]}}
    | conclusion("slope((x**2 + 3 * x + y) / (y + x), x)", "==", right="2 / y"),
    "square": conclusion("x**2 + 4*y**2", ">=", square("x - 2*y"), square("1", "y", weight="1"), right="4*x*y - y"),
    "quotient": conclusion("x**2 / y", ">=", square("x / y", "y")),
    "multiplied": conclusion("x**2 / y", ">=", square("x"), times=["y"]),
    "strict": conclusion("1 + x**2", ">", square("x"), {"of": []}),
    "matrix": conclusion("2 * sq(M)", ">=", square("M", weight="2")),
    "identity": conclusion("M @ M.T - M @ M.T", "=="),
    "at most": conclusion("-x**2", "<=", square("x")),
    "zero": {"given": {"unit": ["sq(M) - 1", "==", "chosen"]}}
    | conclusion("x * sq(M)", "==", {"zero": "unit", "by": "x"}, right="x"),
    "power": conclusion("(x / y) ** 2 * y**2 + x**0", ">", square("x"), {"of": []}),
    "entries": {"given": {"each": ["M", ">=", "chosen"]}} | conclusion("total(M)", ">=", {"of": ["each"]}),
    "derivative of a matrix": conclusion("slope(M * x**2 + M * x * y, x)", "==", right="M * y"),
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
    "times nothing": (
        {"given": {"M": ["M[2:, :]", ">", "chosen"]}} | conclusion("x", ">=", times=["M"]),
        "multiplied by what may be 0",
    ),
    "negative power": (conclusion("2 ** -1 - 2 ** -1", "=="), "with a whole exponent, 0 or more"),
    "negative power of a quotient": (conclusion("(x / y) ** (-1) - 1", "=="), "with a whole exponent, 0 or more"),
    "power by a variable": (conclusion("2 ** y - 2 ** y", "=="), "with a whole exponent, 0 or more"),
    "power of a matrix": (conclusion("M ** 2", "=="), "with a whole exponent, 0 or more"),
    "no shape": ({"shapes": "000"} | conclusion("0", "=="), "(0, 0, 0) is no shape"),
    "a rank too large": ({"shapes": "122"} | conclusion("0", "=="), "(1, 2, 2) is no shape"),
    "half a shape": ({"shapes": "11"} | conclusion("0", "=="), ""),
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
    "divided by what is 0": (
        {"given": {"x": ["x", "==", "chosen"]}} | conclusion("1", "==", {"zero": "x", "by": "1 / x"}),
        "its denominator may be 0 where x_0_0 is",
    ),
    "a pole of a square": (
        {"given": {"x": ["-x*x", ">=", "chosen"]}} | conclusion("-1", ">=", square("1 / x", "x")),
        "its denominator may be 0 where x_0_0 is",
    ),
    "a singular inverse": (
        {"given": {"unit": ["M.T @ M - eye(r)", "==", "chosen"]}}
        | conclusion("1", "==", {"zero": "unit", "by": "inv(M.T @ M - eye(r))"}),
        "its denominator may be 0 where",
    ),
    "a pole of a side": (conclusion("1 / x", "==", right="1 / x"), "its denominator may be 0 where x_0_0 is"),
    "a pole of a name": ({"let": {"z": "1 / x"}} | conclusion("x", "==", right="x"), "may be 0 where x_0_0 is"),
    "a pole of what is given": (
        {"given": {"z": ["1 / x", ">=", "chosen"]}} | conclusion("x", "==", right="x"),
        "may be 0 where x_0_0 is",
    ),
    "a denominator known too late": (
        {
            "given": {"y": ["y", ">", "chosen"], "x": ["x*x - y", "==", "chosen"]},
            "steps": [{"name": "no", "left": "1/x**2", "relation": ">", "terms": [square("1/x")]}],
        }
        | conclusion("1", "==", right="1"),
        "no at (a, b, r) = (2, 1, 1): its denominator may be 0 where x_0_0^2 is",
    ),
    "not 0 is no sign": (
        {"given": {"x": ["x", "!=", "chosen"]}} | conclusion("x", ">=", {"of": ["x"]}),
        "may be negative",
    ),
    "not 0 is not positive": (
        {"given": {"x": ["x", "!=", "chosen"]}} | conclusion("x", ">=", square("x"), times=["x"]),
        "multiplied by what may be 0",
    ),
    "a variable with the name of a function": (
        {"variables": {"x": [], "dot": []}, "given": {"z": ["0", "==", "0 = 0"]}}
        | conclusion("1", "==", {"zero": "z", "by": "1"}),
        "dot has a meaning already",
    ),
    "a variable with the name of a size": (
        {"variables": {"k": [], "total": []}, "given": {}} | conclusion("k", "==", right="k"),
        "k, total has a meaning already",
    ),
    "a word of a function with the name of one": (
        {"let": {"F(x, dot)": "dot(2)"}} | conclusion("0", "=="),
        "dot has a meaning already",
    ),
    "given by another relation": (
        {"given": {"x": ["x + 1", "<=", "chosen"]}} | conclusion("x", ">=", {"of": ["x"]}, right="-1"),
        "x: nothing is given by <=",
    ),
    "inverse of a matrix that is not square": (conclusion("inv(M)[0, 0]", "=="), "of size (2, 1) is not square"),
    "determinant of a matrix that is not square": (conclusion("det(M)", "=="), "of size (2, 1) is not square"),
    "a polynomial called": (conclusion("x(7, 7, 7, 7)", "==", right="7"), "x(7, 7, 7, 7) is not understood"),
    "no conclusion": ({}, "(2, 1, 1): there is no conclusion, or not of all branches"),
    "one branch of two": (
        {"branch": "1 of 2", "given": {"x": ["x", ">", "case: x > 0"]}} | conclusion("x", ">=", {"of": ["x"]}),
        "(2, 1, 1): there is no conclusion, or not of all branches",
    ),
    "by case, and no branch": (
        {"given": {"x": ["x", ">", "case: x > 0"]}} | conclusion("x", ">=", {"of": ["x"]}),
        "a branch, such as 1 of 2, is what has something given by case",
    ),
    "a branch without case": ({"branch": "1 of 1"} | conclusion("0", "=="), "a branch, such as 1 of 2, is what"),
    "an unknown field of a case": ({"hints": ""} | conclusion("0", "=="), "a case lacks, or does not know, 'hints'"),
    "an unknown field of a step": (conclusion("0", "==", why=""), "a step lacks, or does not know, 'why'"),
    "an unknown field of a term": (conclusion("0", "==", {"of": [], "root": "x"}), "a term lacks, or does not know"),
    "an unknown field of a multiple": (
        conclusion("0", "==", {"zero": "y", "by": "x", "of": []}),
        "a multiple lacks, or does not know, 'of'",
    ),
    "a step without name": ({"steps": [{"left": "0", "relation": "=="}]} | conclusion("0", "=="), "'name'"),
}


def checked(tmp_path, case):
    file = tmp_path / "planted.json"
    file.write_text(json.dumps(certificate(**case)))
    return check.check(file)[1]


@pytest.mark.parametrize("name", TRUE)
def test_what_is_true_and_shown_passes(name, tmp_path):
    assert len(checked(tmp_path, TRUE[name])) == 1


def branches(*words, shapes=("211", "211")):
    cases = []
    for word, shape, (text, relation) in zip(words, shapes, (("x", ">="), ("-x", ">")), strict=False):
        sign = {"given": {"sign": [text, relation, f"case: {text} {relation} 0"]}}
        cases += certificate(branch=word, shapes=shape, **sign, **conclusion("x**2", ">=", square("x")))["cases"]
    return certificate() | {"cases": cases}


def test_a_split_counts_where_all_its_branches_are(tmp_path):
    file = tmp_path / "planted.json"
    file.write_text(json.dumps(branches("1 of 2", "2 of 2")))
    assert check.check(file)[1] == [(2, 1, 1)]
    for words, shapes in (
        (("1 of 2", "1 of 2"), ("211", "211")),
        (("1 of 2", "2 of 3"), ("211", "211")),
        (("1 of 2", "2 of 2"), ("211", "221")),
        (("1 of 2", "2 of 2"), ("211 221", "211")),
        (("the first", "the second"), ("211", "211")),
    ):
        file.write_text(json.dumps(branches(*words, shapes=shapes)))
        with pytest.raises(ValueError, match="there is no conclusion, or not of all branches"):
            check.check(file)


@pytest.mark.parametrize("field", ["claim", "statement", "says", "cases"])
def test_a_file_has_all_its_fields_and_no_others(field, tmp_path):
    whole = certificate(**TRUE["square"])
    file = tmp_path / "planted.json"
    for content in ({key: value for key, value in whole.items() if key != field}, whole | {f"{field}2": ""}):
        file.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="a certificate lacks, or does not know, '"):
            check.check(file)


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


def test_claims_that_certificates_name_exist():
    for file in FILES:
        content = json.loads(file.read_text(encoding="utf-8"))
        reasons = [why for case in content["cases"] for _, _, why in case.get("given", {}).values()]
        words = " ".join([content["says"], content.get("by_hand", ""), *reasons])
        assert set(re.findall(r"(?<![\w-])[a-z0-9]+(?:-[a-z0-9]+){2,}", words)) <= CLAIMS.keys(), file.name


def test_the_checker_is_short_and_knows_nothing_of_the_project():
    text = (check.FOLDER / "check.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    for name in ("check.py", "arithmetic.py"):
        lines = (check.FOLDER / name).read_text(encoding="utf-8").splitlines()
        used = {line.split()[1] for line in lines if line.startswith(("import lorakappa", "from lorakappa"))}
        assert used <= {"lorakappa.conditioning.certificates.arithmetic"}
