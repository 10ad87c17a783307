"""Which methods see the gauge of their start: counterexamples by hand, equalities over many steps, the page's table."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lorakappa.conditioning import balance, scaled_gradient
from lorakappa.conditioning.claims import CLAIMS, gauge_independence
from lorakappa.conditioning.claims.intrinsic_steps import gradient_step
from lorakappa.conditioning.instances.arrays import entries, inverse, root, rotation
from lorakappa.conditioning.refactoring import refactored_gradient
from lorakappa.conditioning.verification import Shape, exact

PAGE = Path(__file__).parents[2] / "conditioning" / "README.md"
REFUTED = {
    "gauge-free-lora-gd": lambda A, B, G: (G @ B.T, A.T @ G),
    "gauge-free-lora-adam": lambda A, B, G: signs(G @ B.T, A.T @ G),
    "gauge-free-scaled-adam": lambda A, B, G: signs(*scaled_gradient(A, B, G @ B.T, A.T @ G)),
    "gauge-free-reflora-adam": lambda A, B, G: signs(*refactored_gradient(A, B, G @ B.T, A.T @ G)),
}


def signs(*gradients):
    return tuple(np.sign(g) for g in gradients)


def counterexample(id, other="R"):
    instance = CLAIMS[id].examine(trials=250, seed=11).counterexample
    names = ("A", "B", other, "gradient", "step")
    return [np.array([[float(Fraction(x)) for x in row] for row in instance.values[name]]) for name in names]


@pytest.mark.parametrize("id", REFUTED)
def test_a_step_from_two_gauges_leads_to_two_products(id):
    A, B, R, G, step = counterexample(id)
    products = []
    for left, right in ((A, B), (A @ R, np.linalg.solve(R, B))):
        for_A, for_B = REFUTED[id](left, right, G)
        products.append((left - step * for_A) @ (right - step * for_B))
    assert np.linalg.norm(products[0] - products[1]) > 1e-3 * np.linalg.norm(products[0])


def test_signs_see_the_rotation_that_the_symmetric_gauge_leaves():
    A, B, O, G, step = counterexample("gauge-free-balora-symmetric-adam", "O")
    np.testing.assert_allclose(O @ O.T, np.eye(len(O)), atol=1e-15)
    products = []
    for start in ((A, B), (A @ O, O.T @ B)):
        for fixed in ("symmetric", "nearest"):
            left, right = balance(*start, gauge=fixed)
            np.testing.assert_allclose(left, start[0], atol=1e-12)
        products.append((left - step * np.sign(G @ right.T)) @ (right - step * np.sign(left.T @ G)))
    assert np.linalg.norm(products[0] - products[1]) > 1e-3 * np.linalg.norm(products[0])


def problem(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((5, 3)), rng.standard_normal((3, 4)), rng.standard_normal((5, 4))


def test_reflora_and_balora_have_one_path_under_gd():
    A, B, Z = problem()
    X, Y = balance(A, B)
    for _ in range(50):
        for_A, for_B = refactored_gradient(A, B, (A @ B - Z) @ B.T, A.T @ (A @ B - Z))
        A, B = A - 0.05 * for_A, B - 0.05 * for_B
        X, Y = balance(*gradient_step(X, Y, X @ Y - Z, 0.05))
        np.testing.assert_allclose(A @ B, X @ Y, atol=1e-11)
    assert np.linalg.norm(A.T @ A - B @ B.T) > 0.1  # RefLoRA's pair keeps its gauge


class Adam:
    """As its paper has it, with ε = 0."""

    def __init__(self, rate):
        self.rate, self.t, self.m, self.v = rate, 0, 0.0, 0.0

    def move(self, g):
        self.t += 1
        self.m, self.v = 0.9 * self.m + 0.1 * g, 0.99 * self.v + 0.01 * g**2
        return -self.rate * self.m / (1 - 0.9**self.t) / np.sqrt(self.v / (1 - 0.99**self.t))


def adam_path(A, B, Z, rate, steps, scale=1.0, project=False):
    """Products of Adam's path on ½‖Z − scale·AB‖²."""
    optimizers = Adam(rate), Adam(rate)
    for _ in range(steps):
        G = scale * (scale * A @ B - Z)
        A, B = A + optimizers[0].move(G @ B.T), B + optimizers[1].move(A.T @ G)
        if project:
            A, B = balance(A, B)
        yield scale * A @ B


def test_two_steps_of_adam_are_those_of_its_paper():
    claim = CLAIMS["adam-scale"]
    shape = Shape(3, 2, 2)
    x = claim.family.floating(shape, claim.family.draw(shape, np.random.default_rng(4)))
    found = gauge_independence._two_adam_steps(x, (x.A, x.B), 0.1, scale=3.0)
    A, B, optimizers = x.A, x.B, (Adam(0.1), Adam(0.1))
    for G in (x.extras["gradient"], x.extras["next"]):
        A, B = A + optimizers[0].move(3 * G @ B.T), B + optimizers[1].move(3 * A.T @ G)
    np.testing.assert_allclose(found[0], A)
    np.testing.assert_allclose(found[1], B)


@pytest.mark.parametrize("project", [False, True])
def test_the_scale_of_adam_is_a_learning_rate_and_a_start(project):
    A, B, Z = problem(1)
    one = adam_path(A, B, Z, 0.02, 30, scale=4.0, project=project)
    other = adam_path(2 * A, 2 * B, Z, 0.04, 30, project=project)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-9)


def test_after_p_the_gauge_of_the_start_is_forgotten_under_adam():
    A, B, Z = problem(2)
    R = np.array([[1.0, 0.3, 0.0], [-0.2, -2.0, 0.1], [0.0, 0.4, 0.7]])
    one = adam_path(*balance(A, B), Z, 0.01, 20, project=True)
    other = adam_path(*balance(A @ R, np.linalg.solve(R, B)), Z, 0.01, 20, project=True)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-8)


def test_where_no_gradient_was_adam_stands_still():
    claim = CLAIMS["adam-scale"]
    flat = claim.family.parameters(
        [1], [1], [[1]], ρ=[[2]], gradient=[[0, 0], [0, 1]], next=[[0, 0], [0, 1]], step=[[1]]
    )
    for x in (
        claim.family.exact(Shape(2, 2, 1), flat),
        claim.family.floating(Shape(2, 2, 1), np.array(flat, dtype=float)),
    ):
        A, B = gauge_independence._two_adam_steps(x, (entries(x.A), entries(x.B)), x.extras["step"][0, 0])
        # G reaches only the second entry of both, first when they are 0: nothing moves
        found = [exact.to_float(v) for v in (*A.ravel(), *B.ravel())]
        assert not any(np.subtract(found, [1, 0, 1, 0]))


def test_arrays_of_both_arithmetics():
    M = exact.matrix([[4, 1], [1, Fraction(1, 4)]])
    assert (entries(M) == np.array([[4, 1], [1, exact.rational(Fraction(1, 4))]], dtype=object)).all()
    G = entries(exact.matrix([[2, 1], [0, 1]]))
    one = inverse(G) @ G
    assert (one == np.eye(2, dtype=int)).all()
    assert root(entries(exact.matrix([[4, 9]]))).tolist() == [[2, 3]]
    np.testing.assert_allclose(root(np.array([[4.0, 2.0]])), [[2, 2**0.5]])
    O = rotation(G)
    square = O.T @ O
    assert (square == np.eye(2, dtype=int)).all()


def test_the_table_is_on_the_page_and_says_what_is_on_record():
    text = gauge_independence.table()
    assert text in PAGE.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[2] == "| LoRA | no | no |"
    assert lines[3:5] == ["| scaled GD | yes | no |", "| RefLoRA | yes | no |"]
    assert [line.split("|")[2:4] for line in lines[5:]] == [[" yes ", " yes "], [" yes ", " no "]]
    named = {id for ids in gauge_independence.TABLE.values() for id in ids}
    assert named == {claim.id for claim in gauge_independence.CLAIMS} - {"adam-scale"}
