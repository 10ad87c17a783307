"""What a replay prints is what its labels say: both sides computed once more from the printed matrices alone."""

from fractions import Fraction

import numpy as np
import pytest

from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.verification.exact import to_float


def norm2(M):
    return float((M * M).sum())


def gram_changes(v, dA, dB):
    """(d(BBᵀ), d(AᵀA))."""
    return dB @ v["B"].T + v["B"] @ dB.T, v["A"].T @ dA + dA.T @ v["A"]


def ratio(v):
    """μ of BBᵀ = μAᵀA."""
    return norm2(v["B"]) / norm2(v["A"])


def scaled_proportion(v):
    A, B, G = v["A"], v["B"], v["error"] @ v["input"].T
    for_B, for_A = gram_changes(v, -G @ B.T @ np.linalg.inv(B @ B.T), -np.linalg.inv(A.T @ A) @ A.T @ G)
    return norm2(for_B - ratio(v) * for_A), norm2(for_B) / 4


def two_rates(v):
    mu = v["μ"][0, 0]
    for_B, for_A = gram_changes(v, -v["gradient"] @ v["B"].T, -mu * v["A"].T @ v["gradient"])
    return norm2(for_B - mu * for_A), norm2(for_B) / 4


def equal_norms(v):
    t = (norm2(v["B"]) / norm2(v["A"])) ** 0.25
    gram_A, gram_B = t**2 * v["A"].T @ v["A"], v["B"] @ v["B"].T / t**2
    return norm2(gram_A - gram_B) / (norm2(gram_A) + norm2(gram_B)), 0


def retraction(v):
    (A, B), (dA, dB), r = (v["A"], v["B"]), (v["dA"], v["dB"]), v["A"].shape[1]
    for change in (A.T @ dA + dA.T @ A, dB @ B.T + B @ dB.T):  # both Gram matrices stay diagonal, and stay equal
        assert change == pytest.approx(np.diag(np.diag(change)))
    assert np.diag(A.T @ dA) == pytest.approx(np.diag(B @ dB.T))
    s = np.diag(A @ B)[:r]
    tied = (s[:, None] == s) & ~np.eye(r, dtype=bool)
    return norm2((dA.T @ dA + dB @ dB.T)[tied]) / (norm2(dA) + norm2(dB)) ** 2, 0


def nearest(v):
    """P of a pair whose product is diagonal, with the signs that bring it nearest."""
    A, B, O = v["A"], v["B"], v["O"]
    a, b, r = len(A), B.shape[1], len(B)
    roots = np.sqrt(np.diag(A @ B)[:r])
    X, Y = np.eye(a, r) * roots, (np.eye(b, r) * roots).T
    assert norm2(O @ O.T - np.eye(r)) < 1e-20

    def distance(T):
        return norm2(X @ T - A) + norm2(T.T @ Y - B)

    return distance(np.diag(np.where(np.diag(X.T @ A + Y @ B.T) < 0, -1, 1))), distance(O)


def sign_step(A, B, v):
    step, G = v["step"][0, 0], v["gradient"]
    return (A - step * np.sign(G @ B.T)) @ (B - step * np.sign(A.T @ G))


def gradient_step(A, B, v):
    step, G = v["step"][0, 0], v["gradient"]
    return (A - step * G @ B.T) @ (B - step * A.T @ G)


def from_gauges(step):
    return lambda v: (norm2(step(v["A"], v["B"], v) - step(v["A"] @ v["R"], np.linalg.inv(v["R"]) @ v["B"], v)), 0)


def from_rotations(step):
    return lambda v: (norm2(step(v["A"], v["B"], v) - step(v["A"] @ v["O"], v["O"].T @ v["B"], v)), 0)


def gradient_of_the_penalty(v):
    A, B, dA, dB, rho = v["A"], v["B"], v["dA"], v["dB"], v["ratio"][0, 0]
    D = B @ B.T - rho * A.T @ A
    dD = dB @ B.T + B @ dB.T - rho * (dA.T @ A + A.T @ dA)
    return 2 * (D * dD).sum(), -(rho * (A @ D * dA).sum() - (D @ B * dB).sum())


def penalty_step(v):
    A, B, rho, step = v["A"], v["B"], v["ratio"][0, 0], v["step"][0, 0]
    D = B @ B.T - rho * A.T @ A
    return norm2((A + step * rho * A @ D) @ (B - step * D @ B) - A @ B), 0


def first_order_steps(v):
    A, B, G = v["A"], v["B"], v["gradient"]
    s = np.diag(A @ B)[: len(B)]
    left, right = (np.diag(np.append(s, np.zeros(n - len(s)))) for n in (len(A), B.shape[1]))  # XXᵀ, YᵀY
    return norm2(A @ A.T @ G + G @ B.T @ B - left @ G - G @ right), 0


def metric(v):
    (A, B), r = (v["A"], v["B"]), len(v["B"])
    move = v["dA"] @ B + A @ v["dB"]
    s = np.diag(A @ B)[:r]
    sums = np.add.outer(np.append(s, np.zeros(len(A) - r)), np.append(s, np.zeros(B.shape[1] - r)))
    return norm2(v["dA"]) + norm2(v["dB"]), (move**2 / np.where(sums == 0, 1, sums)).sum()


def kept_rank(v):
    r = len(v["B"])
    after = gradient_step(v["A"], v["B"], v)
    return np.linalg.svd(after)[1][r - 1] ** 2, (np.diag(v["A"] @ v["B"])[r - 1] / 100) ** 2


def adapters(v):
    layers = [(v["A"], v["B"]), (v["A2"], v["B2"])]
    sigma = [[np.linalg.svd(M)[1][: len(B)] ** 2 for M in (A, B)] for A, B in layers]
    top = [np.linalg.svd(A @ B)[1][: len(B)] for A, B in layers]
    largest, smallest = (max(x[0] + y[0] for x, y in sigma), min(min(x[-1], y[-1]) for x, y in sigma))
    return largest / smallest, 2 * max(s[0] for s in top) / min(s[-1] for s in top)


SIDES = {
    "projection-retraction": retraction,
    "projection-nearest": nearest,
    "equal-norms-are-balance": equal_norms,
    "balanced-smallest-norm": lambda v: (
        norm2(v["A"]) + norm2(v["B"]),
        2 * np.linalg.svd(v["A"] @ v["B"])[1].sum(),
    ),
    "projection-keeps-gradient-step": first_order_steps,
    "intrinsic-metric": metric,
    "intrinsic-gd-keeps-rank": kept_rank,
    "gauge-free-lora-gd": from_gauges(gradient_step),
    "gauge-free-lora-adam": from_gauges(sign_step),
    "gauge-free-balora-gd": from_rotations(gradient_step),
    "gauge-free-balora-symmetric-adam": from_rotations(sign_step),
    "ilora-scaled-gd-proportion": scaled_proportion,
    "ilora-scaling-needed": two_rates,
    "ilora-penalty-fixes-variance": lambda v: (norm2(v["A"] @ v["B"]) / len(v["A"]), 10),
    "ilora-penalty-leaves-scale": lambda v: (norm2(v["A"] @ v["B"]), ratio(v) * norm2(v["A"].T @ v["A"])),
    "ilora-gradient": gradient_of_the_penalty,
    "ilora-keeps-product": penalty_step,
    "adapters-balanced-bound": adapters,
    "balanced-smallest-smoothness": lambda v: (
        np.linalg.norm(v["A"], 2) ** 2 + np.linalg.norm(v["B"], 2) ** 2,
        2 * v["Z"][0, 0],
    ),
}
"""Both sides of claims, from nothing but the printed matrices."""


def printed(claim, number=12):
    """Random instances with numbers that are quarters, as they are printed, and both sides there."""
    rng, family = np.random.default_rng(5), claim.family
    shapes = [shape for shape in family.shapes if shape.d <= 32]
    for i in range(number):
        shape = shapes[-1 - i % len(shapes)]
        for _ in range(1000):
            rationals = tuple(Fraction(round(4 * x), 4) for x in family.draw(shape, rng).tolist())
            if i % 2:  # equal singular values, too
                rationals = (rationals[0],) * shape.r + rationals[shape.r :]
            if family.valid(shape, rationals):
                break
        else:
            continue
        instance, comparison = claim.evaluate(shape, rationals)
        values = {
            name: np.array([[float(Fraction(x)) for x in row] for row in rows])
            for name, rows in instance.values.items()
            if name != "parameters"
        }
        yield values, comparison


@pytest.mark.parametrize("id", SIDES)
def test_labels_say_what_is_printed(id):
    seen = 0
    for values, comparison in printed(CLAIMS[id]):
        left, right = SIDES[id](values)
        assert left == pytest.approx(to_float(comparison.left), rel=1e-8, abs=1e-8)
        assert right == pytest.approx(to_float(comparison.right), rel=1e-8, abs=1e-8)
        seen += bool(to_float(comparison.left) or to_float(comparison.right))
    assert seen or CLAIMS[id].sides[1] == "0"
    assert seen > 1 or id == "gauge-free-balora-gd"
