"""Both sides of every static claim, floating and exact, each on its own: neither may have to overrule the other."""

import itertools
import re
from fractions import Fraction

import numpy as np
import pytest

from lorakappa.conditioning.claims import (
    CLAIMS,
    fisher_gauge,
    gauge_independence,
    ilora_entry_variances,
    ilora_proportion,
    ilora_ratio,
    ilora_update,
    intrinsic_steps,
    model1_optimality,
    model1_spectrum,
    nearest_balanced_pair,
    preconditioning,
    projected_training,
    projection,
    vanishing,
)
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Shape, exact
from lorakappa.conditioning.verification.algebraic import AlgebraicClaim

ALGEBRAIC = {id: claim for id, claim in CLAIMS.items() if isinstance(claim, AlgebraicClaim)}
TRUE = [id for id, claim in ALGEBRAIC.items() if claim.recorded == "holds"]
REFUTED = [id for id, claim in ALGEBRAIC.items() if claim.recorded == "refuted"]


def instances(claim, number, largest, seed=0):
    """Valid shapes and parameters with d ≤ largest, round-robin over the shapes."""
    rng = np.random.default_rng(seed)
    shapes = [shape for shape in claim.family.shapes if shape.d <= largest]
    for i in range(number):
        shape = shapes[i % len(shapes)]
        while not claim.family.valid(shape, parameters := claim.family.draw(shape, rng)):
            pass
        yield shape, parameters, rng


@pytest.mark.parametrize("id", TRUE)
def test_floats_alone_see_no_violation_of_a_true_claim(id):
    claim = ALGEBRAIC[id]
    for shape, parameters, rng in instances(claim, 60, 32):
        found = claim.compare(claim.family.floating(shape, parameters, rng))
        assert not found.suspicious, (shape, found)
        assert found.tolerance < 0.02, "a tolerance that excuses everything"


@pytest.mark.parametrize("id", [id for id in TRUE if ALGEBRAIC[id].compare_exactly is not None])
def test_rationals_alone_see_no_violation_of_a_true_claim(id):
    claim, compared = ALGEBRAIC[id], 0
    for shape, parameters, _ in instances(claim, 24, 12, seed=1):
        rationals = tuple(Fraction(round(8 * x), 8) for x in parameters.tolist())
        if claim.family.valid(shape, rationals):
            compared += 1
            assert claim.compare_exactly(claim.family.exact(shape, rationals)).satisfied, (shape, rationals)
    assert compared > 3


def repeated(shape, rationals):
    """Whether leading singular values agree: P, which is not unique there, may differ between the two arithmetics."""
    return len(set(rationals[: shape.r])) < shape.r


RARE = (
    "balanced-unique",
    "projection-nearest",
    "projection-retraction",
    "intrinsic-gd-keeps-rank",
    "ilora-scaled-gd-proportion",
)
"""Claims whose violations take a search, equal singular values, a step close to one, or more than 24 parameters."""


@pytest.mark.parametrize("id", REFUTED)
def test_floats_and_rationals_agree_on_a_refuted_claim(id):
    """Where either is sure, the other one agrees; and some of the instances are violations."""
    claim, violated = ALGEBRAIC[id], 0
    for shape, parameters, _ in instances(claim, 60, 24, seed=2):
        rationals = tuple(Fraction(round(8 * x), 8) for x in parameters.tolist())
        if not claim.family.valid(shape, rationals) or repeated(shape, rationals):
            continue
        floats = claim.compare(claim.family.floating(shape, np.array([float(x) for x in rationals])))
        exactly = claim.compare_exactly(claim.family.exact(shape, rationals))
        if exactly.certainly_false:
            violated += 1
        if abs(floats.margin) > floats.tolerance:
            assert floats.suspicious == exactly.certainly_false, (shape, rationals)
    assert violated or id in RARE


def ordinary(claim, q=(1.5, 1.0)):
    """A well-conditioned instance of shape (4, 3, 2) with s₁, s₂ = q² and s₃ = ½; further matrices are drawn."""
    family, shape = claim.family, Shape(4, 3, 2)
    if shape not in family.shapes:
        shape = Shape(3, 3, 2)
    gauge = [1.2] if family.scalar_gauge else [1.2, 0.3, -0.2, 0.9]
    head = np.array([*q, *([] if family.exact_rank else [0.5]), *gauge])
    drawn = family.draw(shape, np.random.default_rng(7))
    parameters = np.concatenate([head, drawn[len(head) :]])
    assert family.valid(shape, parameters)
    return family.floating(shape, parameters)


def scaled(position, by=1 + 1e-6):
    """Turns a function into one that is wrong by a millionth in one of its results."""

    def wrong(real):
        def function(*arguments, **options):
            found = real(*arguments, **options)
            if not isinstance(found, tuple):
                return found * by
            return tuple(x * by if i == position else x for i, x in enumerate(found))

        return function

    return wrong


def uneven(real):
    """P, wrong by a millionth of the first factor times the size of its argument."""

    def function(A, B, **options):
        X, Y = real(A, B, **options)
        return X * (1 + 1e-6 * np.linalg.norm(A) / (1 + np.linalg.norm(A))), Y

    return function


def uneven_gradients(real):
    """A step or a gradient, wrong by a millionth of its first part times the size of the pair's first factor."""

    def function(*arguments):
        (A, _), found = next(x for x in arguments if isinstance(x, tuple)), real(*arguments)
        return found[0] * (1 + 1e-6 * np.linalg.norm(A) / (1 + np.linalg.norm(A))), found[1]

    return function


PLANTED = [
    ("ilora-scaled-gd-trace", ilora_proportion, "scaled_gradient", scaled(1)),
    ("ilora-scaled-gd-diagonal", ilora_proportion, "scaled_gradient", scaled(0)),
    ("ilora-scaled-gd-defect", ilora_proportion, "scaled_gradient", scaled(1)),
    ("ilora-gd-proportion", ilora_proportion, "_gram_changes", scaled(0)),
    ("ilora-gradient-constant", ilora_update, "penalty_step", scaled(0)),
    ("ilora-gradient-constant", ilora_update, "imbalance_penalty", scaled(0)),
    ("ilora-product-change", ilora_update, "penalty_step", scaled(1)),
    ("ilora-product-change", ilora_update, "imbalance", scaled(0)),
    ("ilora-ratio-condition-number", ilora_ratio.closed_form, "imbalanced_condition_number", scaled(0)),
    ("model1-exact-spectrum", model1_spectrum.closed_form, "spectrum", scaled(0)),
    ("imbalanced-condition-number", model1_optimality.closed_form, "imbalanced_condition_number", scaled(0)),
    ("scaled-gd-spectrum", preconditioning.closed_form, "preconditioned_spectrum", scaled(0)),
    ("scaled-gd-condition-number", preconditioning.closed_form, "preconditioned_extremes", scaled(0)),
    ("projection-preserves-product", projection, "balance", scaled(0)),
    ("projection-hyperbalanced", projection, "balance", scaled(1)),
    ("projection-idempotent", projection, "balance", scaled(0)),
    ("projection-removes-invariance", projection, "balance", uneven),
    ("intrinsic-gd", projected_training, "balance", scaled(0)),
    ("projection-reachable-rank", projected_training.manifold, "balancing_gap", lambda real: lambda *pair: 1e-6),
    ("projection-polar-route", projection, "balance", scaled(0)),
    ("lora-plus-keeps-proportion", ilora_proportion, "_gram_changes", scaled(0)),
    ("ilora-penalty-leaves-scale", ilora_entry_variances.np, "sum", scaled(0)),
    ("intrinsic-retraction", intrinsic_steps, "gradient_step", scaled(0)),
    ("intrinsic-retraction", intrinsic_steps, "_by_inverse", scaled(0)),
    ("reflora-equals-balora-gd", intrinsic_steps, "refactored_gradient", scaled(0)),
    ("reflora-equals-balora-gd", intrinsic_steps, "balance", scaled(1)),
    ("gauge-free-scaled-gd", gauge_independence, "_scaled_gradients", uneven_gradients),
    ("gauge-free-reflora-gd", gauge_independence, "_refactored_gradients", uneven_gradients),
    ("gauge-free-balora-gd", gauge_independence, "rotation", scaled(0)),
    ("gauge-free-balora-adam", gauge_independence, "balance", uneven),
    ("adam-scale", gauge_independence, "_sign_step", uneven_gradients),
    ("fisher-moments-transport", fisher_gauge, "_transported", scaled(0)),
    ("nearest-gauge-is-nearest", nearest_balanced_pair, "rotation", lambda real: lambda K: polar_of_the_overlap()),
]


def polar_of_the_overlap():
    """Slightly better than the nearest pair can be: not orthogonal."""
    x = ordinary(ALGEBRAIC["nearest-gauge-is-nearest"])
    X, Y = nearest_balanced_pair.balance(x.A, x.B)
    U, _, Vt = np.linalg.svd(X.T @ x.A + Y @ x.B.T)
    best = U @ Vt
    towards = (X @ best - x.A, Y.T @ best - x.B.T)
    slope = sum((part * (M @ best)).sum() for part, M in zip(towards, (X, Y.T), strict=True))
    return best * (1 - 1e-6 * np.sign(slope))


@pytest.mark.parametrize(
    ("id", "module", "name", "wrong"), PLANTED, ids=lambda value: getattr(value, "__name__", value)
)
def test_floats_notice_an_error_of_a_millionth(monkeypatch, id, module, name, wrong):
    claim = ALGEBRAIC[id]
    x = ordinary(claim)
    assert not claim.compare(x).suspicious
    monkeypatch.setattr(module, name, wrong(getattr(module, name)))
    assert claim.compare(ordinary_again(x)).suspicious


def ordinary_again(x):
    """The same instance with nothing remembered."""
    return type(x)(x.shape, x.q, x.tail, x.G, x.extras)


def test_ids_are_ids_and_statements_are_sentences():
    for claim in CLAIMS.values():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+|invariance", claim.id)
        assert " " in claim.statement
        assert claim.statement[-1] in ".?"


def test_the_size_of_what_cancels_in_the_penaltys_product():
    """‖A‖‖B‖ times the growth of both factors: 1 + step·max(1, ρ)·(‖B‖² + ρ‖A‖²), squared."""
    x = ordinary(ALGEBRAIC["ilora-product-change"])
    norm_A, norm_B = np.linalg.norm(x.A), np.linalg.norm(x.B)
    for step, ratio in ((0.1, 0.5), (0.2, 3.0)):
        x.extras["step"][0, 0], x.extras["ratio"][0, 0] = step, ratio
        growth = 1 + step * max(1, ratio) * (norm_B**2 + ratio * norm_A**2)
        assert ilora_update._product_size(x) == pytest.approx(norm_A * norm_B * growth**2)


@pytest.mark.parametrize("id", ALGEBRAIC)
def test_domains_have_the_shapes_that_they_name(id):
    """Every shape up to the largest that the words of the domain let in, and no other."""
    family = ALGEBRAIC[id].family
    words = family.description
    assert f"a, b ≤ {family.largest}" in words
    expected = {
        (a, b, r)
        for a, b, r in itertools.product(range(1, family.largest + 1), repeat=3)
        if r <= min(a, b)
        and (r < min(a, b) or "r < min(a, b)" not in words)
        and (r == min(a, b) or "r = min(a, b)" not in words)
        and (r <= 2 or "r ≤ 2" not in words)
        and (r == 1 or "; r = 1," not in words)
        and (r == 2 or "; r = 2," not in words)
        and (not (most := re.search(r"\bd ≤ (\d+)", words)) or r * (a + b) <= int(most[1]))
        and (r <= min(a, b) / 4 or "r ≤ min(a, b)/4" not in words)
        and ((a, b, r) != (1, 1, 1) or "every shape but a = b = r = 1" not in words)
    }
    assert {(s.a, s.b, s.r) for s in family.shapes} == expected


def test_the_error_of_the_intrinsic_step_is_relative_to_the_size_of_its_terms(monkeypatch):
    """From a pair that is balanced up to a hundredth: both sides from square roots of WWᵀ and WᵀW."""
    claim = ALGEBRAIC["intrinsic-gd"]
    x = ordinary(claim)
    x.extras["step"][0, 0] = 0.3
    X, Y = projected_training.balance(x.A, x.B)
    X = 1.01 * X
    monkeypatch.setattr(projected_training, "balance", lambda A, B: (X, Y))
    W, G = X @ Y, x.extras["gradient"]
    left, right = psd_root(W @ W.T), psd_root(W.T @ W)
    expected = W - 0.3 * (G @ right + left @ G) + 0.09 * G @ W.T @ G
    off = (X - 0.3 * G @ Y.T) @ (Y - 0.3 * X.T @ G) - expected
    size = (np.linalg.norm(X) + 0.3 * np.linalg.norm(G @ Y.T)) ** 2
    found = claim.compare(x)
    assert found.left == pytest.approx(np.linalg.norm(off) / size, rel=1e-6)
    assert found.left > 1e-4


def test_the_error_of_the_reachable_set_adds_up(monkeypatch):
    claim = ALGEBRAIC["projection-reachable-rank"]
    x = ordinary(claim)
    monkeypatch.setattr(projected_training.manifold, "balancing_gap", lambda X, Y: 0.25)
    assert claim.compare(x).left == pytest.approx(0.25 / x.s[0])


def psd_root(M):
    """The positive semidefinite square root."""
    values, Q = np.linalg.eigh(M)
    return Q * np.sqrt(np.maximum(values, 0)) @ Q.T


def test_the_condition_of_singular_vectors_is_size_over_the_smallest_gap():
    family = ALGEBRAIC["projection-idempotent"].family
    for q, smallest in (([1.5, 1.2], 0.81), ([3.0, 0.5], 0.25)):
        x = family.floating(Shape(2, 2, 2), np.array([*q, 1.0, 0.0, 0.0, 2.0]))
        size = np.linalg.norm(x.A) * np.linalg.norm(x.B)
        assert projection._gap_condition(x) == pytest.approx(size / smallest)


def test_vanishing_is_relative_to_what_cancels_and_exact_in_rationals():
    matrix, shape = np.array([[3.0, 0.0], [0.0, 4.0]]), Shape(3, 2, 2)
    found = vanishing.vanishes(matrix, 20.0, shape)
    assert (found.left, found.relation, found.right) == (0.25, "==", 0.0)
    assert found.tolerance == claim_rtol(1.0, 10)
    assert vanishing.vanishes(matrix, 0.0, shape).left == 5  # nothing cancels: absolute
    assert vanishing.vanishes_exactly(exact.matrix([[3, 0], [0, 4]])).left == 25
    assert vanishing.vanishes_exactly(exact.matrix([[0, 0]])).certainly_true


def test_the_gap_of_a_projected_pair_is_relative_to_both_factors(monkeypatch):
    claim = ALGEBRAIC["projection-hyperbalanced"]
    x = ordinary(claim)
    X, Y = np.array([[1.0, 0.5], [0.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 3.0]])
    monkeypatch.setattr(projection, "balance", lambda A, B: (X, Y))
    # XᵀX = [[1, ½], [½, 4¼]], YYᵀ = diag(1, 9); ‖X‖² = 5¼, ‖Y‖² = 10
    expected = (np.sqrt(2 * 0.25 + 4.75**2) + np.sqrt(0.5)) / 15.25
    assert claim.compare(x).left == pytest.approx(expected)
