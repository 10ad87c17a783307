"""Gradients against automatic differentiation, f − f* against extended precision."""

import mpmath
import numpy as np
import pytest
import torch

from lorakappa.conditioning.checks import DegenerateTargetError
from lorakappa.conditioning.factors import minimizer
from lorakappa.conditioning.hessians import hessian, two_layer_hessian
from lorakappa.synthetic.losses import MLP, OneLayer, TwoLayer, move, polish
from lorakappa.synthetic.targets import low_rank

n, a, b, r = 3, 5, 4, 2


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def draw(rng, *shapes):
    return tuple(rng.standard_normal((n, *shape)) for shape in shapes)


def one_layer_value(Z, scaling, theta):
    return ((Z - scaling * theta[0] @ theta[1]) ** 2).sum(dim=(-2, -1)) / 2


def check_gradient(loss, value, theta):
    """`loss.evaluate` against torch autograd of an independently written `value`."""
    variables = [torch.tensor(x, requires_grad=True) for x in theta]
    f = value(variables)
    expected = torch.autograd.grad(f.sum(), variables)
    excess, gradient = loss.evaluate(theta)
    for ours, theirs in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-11, atol=1e-11)
    return excess, f.detach().numpy()


def test_one_layer_matches_autograd(rng):
    (Z,) = draw(rng, (a, b))
    loss = OneLayer.from_target(Z, r, scaling=0.7)
    theta = draw(rng, (a, r), (r, b))
    excess, f = check_gradient(loss, lambda x: one_layer_value(torch.tensor(Z), 0.7, x), theta)
    np.testing.assert_allclose(excess, f - loss.minimum, rtol=1e-12)


def test_error_coordinates_are_the_same_function(rng):
    (Z,) = draw(rng, (a, b))
    plain = OneLayer.from_target(Z, r, scaling=0.7)
    origin = tuple(np.stack(x) for x in zip(*(minimizer(z / 0.7, r) for z in Z), strict=True))
    loss = plain.about(*origin)
    theta = draw(rng, (a, r), (r, b))

    def value(x):
        return one_layer_value(torch.tensor(Z), 0.7, [torch.tensor(o) + v for o, v in zip(origin, x, strict=True)])

    excess, f = check_gradient(loss, value, theta)
    np.testing.assert_allclose(excess, f - loss.minimum, rtol=1e-12)
    for back, x in zip(loss.coordinates(loss.factors(theta)), theta, strict=True):
        np.testing.assert_allclose(back, x, rtol=1e-13, atol=1e-14)


def test_two_layer_matches_autograd(rng):
    W1, Z1, W2, Z2 = draw(rng, (a, b), (a, b), (b, 6), (b, 6))
    loss = TwoLayer.from_updates(W1, W2, Z1, Z2, r)
    target = torch.tensor((W1 + low_rank(Z1, r)) @ (W2 + low_rank(Z2, r)))

    def value(x):
        product = (torch.tensor(W1) + x[0] @ x[1]) @ (torch.tensor(W2) + x[2] @ x[3])
        return ((target - product) ** 2).sum(dim=(-2, -1)) / 2

    theta = draw(rng, (a, r), (r, b), (b, r), (r, 6))
    excess, f = check_gradient(loss, value, theta)
    np.testing.assert_allclose(excess, f, rtol=1e-12)


def test_mlp_matches_autograd_and_interpolates(rng):
    C, X, Z = draw(rng, (6, a), (b, 7), (a, b))
    loss = MLP.from_teacher(C, X, low_rank(Z, r))

    def value(x):
        return ((torch.tensor(C) @ torch.tanh(x[0] @ x[1] @ torch.tensor(X)) - torch.tensor(loss.z)) ** 2).sum(
            dim=(-2, -1)
        ) / 2

    excess, f = check_gradient(loss, value, draw(rng, (a, r), (r, b)))
    np.testing.assert_allclose(excess, f, rtol=1e-12)
    teacher = tuple(np.stack(x) for x in zip(*(minimizer(z, r) for z in Z), strict=True))
    assert loss.evaluate(teacher)[0].max() < 1e-27


def precise_excess(Z, A, B):
    """½‖Z − AB‖² − ½Σ_{l>r} s_l² in 60 digits, straight from the definition."""
    with mpmath.workdps(60):
        Zm, Am, Bm = (mpmath.matrix(x.tolist()) for x in (Z, A, B))
        D = Zm - Am * Bm
        squares = sum(x**2 for x in D)
        eigenvalues = sorted(mpmath.eigsy(Zm.T * Zm, eigvals_only=True), reverse=True)
        return float((squares - sum(eigenvalues[A.shape[1] :])) / 2)


@pytest.mark.parametrize("distance", [1e-1, 1e-4, 1e-8, 1e-11])
def test_excess_has_no_cancellation(rng, distance):
    Z = rng.standard_normal((a, b))
    A, B = minimizer(Z, r)
    A = A + distance * rng.standard_normal(A.shape)
    B = B + distance * rng.standard_normal(B.shape)
    ours = OneLayer.from_target(Z[None], r).evaluate((A[None], B[None]))[0][0]
    exact = precise_excess(Z, A, B)
    # E = AB − Z_r is rounded to a few ε‖Z‖ ~ 1e-15, so f − f* ~ distance² to 1e-15/distance relatively
    assert ours == pytest.approx(exact, rel=2e-14 / distance)
    if distance <= 1e-8:  # the difference of two losses would have lost it
        naive = 0.5 * np.linalg.norm(Z - A @ B) ** 2 - 0.5 * (np.linalg.svd(Z)[1][r:] ** 2).sum()
        assert abs(naive / exact - 1) > 1e-3


def test_error_coordinates_keep_tails_below_1e_40(rng):
    """At A° = U S^{1/2}, B° = S^{1/2}Vᵀ with Z = A°B° + R exactly: small rational factors make both exact."""
    A, B = np.eye(4, 2), np.eye(2, 4)
    Z = np.diag([1.0, 1.0, 0.5, 0.25])
    dA, dB = 1e-25 * rng.standard_normal((4, 2)), 1e-25 * rng.standard_normal((2, 4))
    ours = OneLayer.from_target(Z[None], 2).about(A[None], B[None]).evaluate((dA[None], dB[None]))[0][0]
    with mpmath.workdps(120):
        Am, Bm = mpmath.matrix(A.tolist()), mpmath.matrix(B.tolist())
        D = mpmath.matrix(Z.tolist()) - (Am + mpmath.matrix(dA.tolist())) * (Bm + mpmath.matrix(dB.tolist()))
        exact = float((sum(x**2 for x in D) - mpmath.mpf("0.3125")) / 2)
    assert 0 < exact < 1e-45
    assert ours == pytest.approx(exact, rel=1e-13)


def test_polish_reaches_the_product(rng):
    Z = rng.standard_normal((a, b))
    A, B = minimizer(Z / 0.5, r, np.array([[2.0, 1.0], [0.0, 0.5]]))
    A_near, B_near = A + 1e-5, B - 1e-5
    left, right = polish(A_near, B_near, Z, scaling=0.5)
    np.testing.assert_allclose(0.5 * left @ right, low_rank(Z, r), atol=1e-14)
    assert np.linalg.norm(left - A) + np.linalg.norm(right - B) < 1e-3
    with pytest.raises(ValueError, match="singular"):
        polish(A, np.zeros_like(B), Z)


def test_bad_problems_are_refused(rng):
    (Z,) = draw(rng, (a, b))
    with pytest.raises(ValueError, match="rank r = 9"):
        OneLayer.from_target(Z, 9)
    with pytest.raises(DegenerateTargetError):
        OneLayer.from_target(np.eye(4)[None], 2)
    with pytest.raises(ValueError, match="NaN"):
        OneLayer.from_target(np.full((1, 3, 3), np.nan), 1)
    with pytest.raises(ValueError, match="scaling"):
        OneLayer.from_target(Z, r, scaling=0.0)


def test_move_converts_every_array(rng):
    (Z,) = draw(rng, (a, b))
    loss = OneLayer.from_target(Z, r)
    moved = move(loss.about(*draw(rng, (a, r), (r, b))), torch.as_tensor)
    assert all(isinstance(x, torch.Tensor) for x in (moved.Z_r, moved.U, moved.minimum, *moved.origin))
    assert moved.scaling == 1.0


@pytest.mark.parametrize("scaling", [1.0, 0.5])
def test_one_layer_smoothness_is_the_largest_eigenvalue_at_balance(rng, scaling):
    Z = rng.standard_normal((a, b))
    loss = OneLayer.from_target(Z[None], r, scaling=scaling)
    A, B = minimizer(Z / scaling, r)
    # ½‖Z − λAB‖² = λ²·½‖Z/λ − AB‖²
    eigenvalues = scaling**2 * np.linalg.eigvalsh(hessian(A, B, Z / scaling))
    assert loss.smoothness[0] == pytest.approx(eigenvalues[-1], rel=1e-12)
    s = np.linalg.svd(Z, compute_uv=False)
    assert loss.minimum[0] == pytest.approx(0.5 * (s[r:] ** 2).sum(), rel=1e-12)


def test_smoothness_estimates_by_hand_and_against_dense_hessians(rng):
    one = np.ones((1, 1, 1))
    # P = 1 + 2 = 3, Q = 1 + 3 = 4: 2·max(2·4², 3·3²) = 64
    assert TwoLayer.from_updates(one, one, 2 * one, 3 * one, 1).smoothness[0] == pytest.approx(64.0)
    assert TwoLayer.from_updates(one, one, 3 * one, 2 * one, 1).smoothness[0] == pytest.approx(64.0)
    assert MLP.from_teacher(3 * one, 5 * one, 2 * one).smoothness[0] == pytest.approx(2 * 2 * 3**2 * 5**2)
    W1, W2, Z1, Z2 = (rng.standard_normal((4, 4)) for _ in range(4))
    loss = TwoLayer.from_updates(W1[None], W2[None], Z1[None], Z2[None], 2)
    (A1, B1), (A2, B2) = minimizer(Z1, 2), minimizer(Z2, 2)
    L = np.linalg.eigvalsh(two_layer_hessian(A1, B1, A2, B2, W1, W2, loss.target[0]))[-1]
    assert 0.25 < loss.smoothness[0] / L < 2


def test_problems_and_points_broadcast_against_each_other():
    rng = np.random.default_rng(5)
    loss = OneLayer.from_target(rng.standard_normal((3, 6, 5)), 2)
    A, B = rng.standard_normal((6, 2)), rng.standard_normal((2, 5))
    excess, gradient = loss.evaluate((A, B))
    stacked, gradients = loss.evaluate((np.stack([A] * 3), np.stack([B] * 3)))
    np.testing.assert_array_equal(excess, stacked)
    for one, other in zip(gradient, gradients, strict=True):
        np.testing.assert_array_equal(one, other)
    row, _ = loss.evaluate((np.stack([A] * 2)[:, None], np.stack([B] * 2)[:, None]))
    np.testing.assert_array_equal(row, np.stack([stacked] * 2))
