"""Directions of the optimizers, by hand on tiny stacks."""

import numpy as np
import pytest

from lorakappa.synthetic.optimizers import OPTIMIZERS, MatchedGradientDescent, make_optimizer

GRADIENT = (np.array([[[1.0, -2.0]], [[0.0, 0.5]]]), np.array([[[-3.0], [0.0]], [[0.0], [0.25]]]))  # two problems


def test_gradient_descent_is_the_gradient():
    assert make_optimizer("gd").direction((), GRADIENT) is GRADIENT


def test_sign_gd_takes_the_norm_over_all_parameters_of_a_problem():
    left, right = make_optimizer("sign-gd").direction((), GRADIENT)
    np.testing.assert_array_equal(left, [[[6, -6]], [[0, 0.75]]])
    np.testing.assert_array_equal(right, [[[-6], [0]], [[0], [0.75]]])


def test_sign_is_the_sign():
    left, right = make_optimizer("sign").direction((), GRADIENT)
    np.testing.assert_array_equal(left, [[[1, -1]], [[0, 1]]])
    np.testing.assert_array_equal(right, [[[-1], [0]], [[0], [1]]])


def test_adam_corrects_both_moments():
    adam = make_optimizer("adam")
    first = adam.direction((), GRADIENT)
    for mine, g in zip(first, GRADIENT, strict=True):
        np.testing.assert_allclose(mine, g / (np.abs(g) + 1e-8))
    second = adam.direction((), tuple(3 * g for g in GRADIENT))
    for mine, g in zip(second, GRADIENT, strict=True):
        m = (0.9 * 0.1 * g + 0.1 * 3 * g) / (1 - 0.9**2)
        v = (0.999 * 0.001 * g**2 + 0.001 * 9 * g**2) / (1 - 0.999**2)
        np.testing.assert_allclose(mine, m / (np.sqrt(v) + 1e-8))


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_matched_step_moves_the_product_by_its_length_however_small_the_gradient(scale):
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2, 3, 2)), rng.standard_normal((2, 2, 4))
    g = scale * rng.standard_normal(A.shape), scale * rng.standard_normal(B.shape)
    lengths = np.array([[0.1, 0.02], [0.05, 0.2]])
    optimizer = MatchedGradientDescent(lengths)
    for wanted in lengths:
        dA, dB = optimizer.direction((A, B), g)
        moved = np.linalg.norm((A - dA) @ (B - dB) - A @ B, axis=(-2, -1))
        np.testing.assert_allclose(moved, wanted, rtol=1e-6)
        np.testing.assert_allclose(dA / g[0], (dB / g[1])[:, :1, :1] * np.ones_like(dA))  # one γ for both factors
        assert (dA[:, 0, 0] / g[0][:, 0, 0] > 0).all()


def test_a_matched_step_from_a_stationary_point_stays():
    A, B = np.ones((1, 2, 1)), np.ones((1, 1, 2))
    for X in MatchedGradientDescent(np.ones((1, 1))).direction((A, B), (0 * A, 0 * B)):
        np.testing.assert_array_equal(X, np.zeros_like(X))


def test_optimizers_have_no_state_in_common():
    for name in OPTIMIZERS:
        assert make_optimizer(name) is not make_optimizer(name)
    with pytest.raises(ValueError, match="unknown optimizer 'lion'"):
        make_optimizer("lion")
