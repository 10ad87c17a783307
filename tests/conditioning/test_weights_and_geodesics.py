"""Instances with weights, and three on a geodesic: what they are made of, and what counts as one."""

import flint
import numpy as np
import pytest

from lorakappa.conditioning.instances.canonical import CanonicalMinimizers
from lorakappa.conditioning.instances.geodesics import TURN, along
from lorakappa.conditioning.instances.weighted import WEIGHTED, WEIGHTED_INTERIOR, WEIGHTED_RANK_1
from lorakappa.conditioning.verification import Shape
from tests.conditioning.test_instances import drawn, to_array

SHAPE = Shape(3, 2, 2)


def floats(matrix):
    return np.asarray(to_array(matrix) if isinstance(matrix, flint.fmpq_mat) else matrix, dtype=float)


def weights(name):
    return next(extra for extra in WEIGHTED.extras if extra.name == name)


def test_the_jacobian_is_that_of_the_weighted_product():
    """J·vec(W) = vec(CWD), row-major, in floats and exactly."""
    W = np.random.default_rng(1).integers(-3, 4, (3, 2)).astype(float)
    for x in drawn(WEIGHTED, SHAPE, np.random.default_rng(0)):
        C, D, J = (floats(x.extras[name]) for name in "CDJ")
        assert (C.shape, D.shape) == ((3, 3), (2, 2))
        np.testing.assert_allclose(J @ W.ravel(), (C @ W @ D).ravel(), rtol=1e-12, atol=1e-12)


def test_weights_are_drawn_of_every_kind():
    rng = np.random.default_rng(0)
    found = [weights("C").draw(SHAPE, rng) for _ in range(300)]
    diagonal = [np.diag(C) for C in found if np.count_nonzero(C) == 3]
    entries = np.concatenate([d for d in diagonal if (d != 1).any()])
    assert 0 < len(diagonal) < 300
    assert any((d == 1).all() for d in diagonal)
    assert 0.1 <= entries.min() < 0.12
    assert 8 < entries.max() <= 10
    assert any((C < 0).any() for C in found)


@pytest.mark.parametrize(("condition", "valid"), [(99.0, True), (101.0, False)])
def test_weights_are_of_bounded_condition(condition, valid):
    assert weights("D").valid(np.diag([condition, 1.0]).astype(object)) == valid


def test_weighted_families_have_the_shapes_that_they_name():
    assert all(shape.r < min(shape.a, shape.b) for shape in WEIGHTED_INTERIOR.shapes)
    assert all(shape.r == 1 for shape in WEIGHTED_RANK_1.shapes)
    assert {*WEIGHTED_INTERIOR.shapes, *WEIGHTED_RANK_1.shapes} < set(WEIGHTED.shapes)
    assert Shape(3, 2, 1) in WEIGHTED_INTERIOR.shapes


def test_the_second_of_three_gauges_is_halfway():
    """G, GT and GT² with T = KKᵀ, in floats and exactly."""
    family = CanonicalMinimizers(extras=(TURN,))
    for x in drawn(family, Shape(3, 3, 2), np.random.default_rng(2)):
        first, halfway, end = (floats(y.G) for y in along(x))
        K = floats(x.extras["K"])
        np.testing.assert_allclose(halfway, first @ (K @ K.T), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(end, halfway @ (K @ K.T), rtol=1e-12, atol=1e-12)
        assert np.abs(K - K.T).max() > 0.1


def test_turns_are_drawn_from_close_to_a_multiple_of_the_identity_to_far_from_it():
    """K = uI + cN with u between 1/2 and 2 and c = 0.1, 0.5 or 1, told by what is off the diagonal."""
    rng = np.random.default_rng(0)
    drawn = [TURN.draw(Shape(4, 4, 4), rng) for _ in range(300)]
    off = np.array([np.sqrt(np.mean(K[~np.eye(4, dtype=bool)] ** 2)) for K in drawn])
    assert 70 < np.count_nonzero(off < 0.2) < 130
    assert 0.3 < np.median(off) < 0.7
    assert 1.2 < off.max() < 1.9
    means = [np.trace(K) / 4 for K, spread in zip(drawn, off, strict=True) if spread < 0.2]
    assert 0.4 < min(means) < 0.7
    assert 1.8 < max(means) < 2.1


@pytest.mark.parametrize(
    ("sigma", "valid"),
    [
        ((1.0, 0.5, 0.105), True),
        ((1.0, 0.5, 0.095), False),
        ((9.9, 1.0), True),
        ((10.1, 9.0), False),
        ((0.11, 0.1), True),
        ((0.09, 0.08), False),
        ((0.2,), True),
        ((0.05,), False),
    ],
)
def test_turns_are_of_order_1_and_bounded_condition(sigma, valid):
    assert TURN.valid(np.diag(sigma).astype(object)) == valid
