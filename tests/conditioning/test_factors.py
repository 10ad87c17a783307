"""The factorization itself: loss, Jacobian, gauges and minimizers, by small numbers and by definition."""

import numpy as np
import pytest

from lorakappa.conditioning.checks import DegenerateTargetError
from lorakappa.conditioning.factors import change_gauge, check_target, jacobian, loss, minimizer
from lorakappa.conditioning.tolerances import gap_rtol

A = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]])
B = np.array([[2.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, -2.0]])


def test_the_loss_is_half_the_squared_distance():
    assert loss([[1.0]], [[2.0]], [[5.0]]) == pytest.approx(4.5)
    assert loss(A, B, A @ B) == 0
    assert loss(A, B, A @ B + 1.0) == pytest.approx(6.0)  # ½·12


def test_the_jacobian_maps_a_displacement_to_that_of_the_product():
    rng = np.random.default_rng(0)
    dA, dB = rng.standard_normal(A.shape), rng.standard_normal(B.shape)
    M = jacobian(A, B)
    assert M.shape == (12, 14)
    moved = M @ np.concatenate([dA.ravel(), dB.ravel()])
    np.testing.assert_allclose(moved.reshape(3, 4), dA @ B + A @ dB)


def test_a_change_of_gauge_multiplies_A_by_G_and_B_by_its_inverse():
    G = np.array([[2.0, 1.0], [0.0, 4.0]])
    moved = change_gauge(A, B, G)
    np.testing.assert_allclose(moved[0], A @ G)
    np.testing.assert_allclose(moved[1], np.linalg.inv(G) @ B)
    np.testing.assert_allclose(moved[0] @ moved[1], A @ B)


@pytest.mark.parametrize("G", [np.eye(3), np.ones((2, 1))])
def test_a_gauge_of_another_size_is_refused(G):
    with pytest.raises(ValueError, match=r"G must be \(2, 2\)"):
        change_gauge(A, B, G)


def test_a_gauge_is_singular_below_its_tolerance_only():
    tolerance = gap_rtol(2)
    change_gauge(A, B, np.diag([1.0, 2 * tolerance]))
    change_gauge(A, B, np.diag([1e-3, 2e-3 * tolerance]))
    for scale in (1.0, 1e3, 1e-3):
        with pytest.raises(ValueError, match="singular to working precision"):
            change_gauge(A, B, scale * np.diag([1.0, 0.5 * tolerance]))


def test_a_minimizer_splits_the_best_approximation_evenly():
    Z = np.array([[0.0, 9.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    left, right = minimizer(Z, 2)
    np.testing.assert_allclose(left @ right, [[0, 9, 0], [4, 0, 0], [0, 0, 0], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(left.T @ left, np.diag([9.0, 4.0]), atol=1e-12)
    np.testing.assert_allclose(right @ right.T, np.diag([9.0, 4.0]), atol=1e-12)
    G = np.array([[2.0, 1.0], [0.0, 0.5]])
    turned = minimizer(Z, 2, G)
    np.testing.assert_allclose(turned[0], left @ G)
    np.testing.assert_allclose(turned[1], np.linalg.solve(G, right))
    assert loss(left, right, Z) == pytest.approx(0.5)


def test_targets_that_do_not_determine_their_minimizers():
    floor = gap_rtol(3)
    check_target(np.array([1.0, 2 * floor, 0.0]), 2)
    check_target(np.array([2.0, 1.0, 1.0 - 4 * floor]), 2)
    check_target(np.array([1.0, 1.0, 1.0]), 3)  # all of them: nothing is cut off
    check_target(np.array([2.0, 2.0, 1.0]), 2)
    with pytest.raises(DegenerateTargetError, match=r"rank Z < r: s_2 = .* \(s_1 = 1\)"):
        check_target(np.array([1.0, 0.5 * floor, 0.0]), 2)
    with pytest.raises(DegenerateTargetError, match="rank Z < r"):
        check_target(np.array([1e6, 0.5e6 * floor, 0.0]), 2)  # relative to s₁
    with pytest.raises(DegenerateTargetError, match=r"s_2 = s_3 = 1 to working precision"):
        check_target(np.array([2.0, 1.0, 1.0 - 1.5 * floor]), 2)
    with pytest.raises(DegenerateTargetError, match="best rank-1"):
        check_target(np.array([2.0, 2.0, 1.0]), 1)
    with pytest.raises(DegenerateTargetError):
        check_target(np.array([0.0, 0.0, 0.0]), 1)
