"""Dense Hessians against three oracles: autograd of the loss, exact second differences, central differences."""

import flint
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorakappa.conditioning import hessian, jacobian, loss, model2_hessian, model2_jacobian, two_layer_hessian
from lorakappa.conditioning.verification import exact
from tests.strategies import shapes


def autograd_hessian(function, *matrices):
    """Hessian of a scalar torch function of matrices, parameters flattened row-major in order."""
    sizes = [M.size for M in matrices]

    def flat(theta):
        parts = torch.split(theta, sizes)
        return function(*(part.reshape(M.shape) for part, M in zip(parts, matrices, strict=True)))

    theta = torch.from_numpy(np.concatenate([M.ravel() for M in matrices]))
    return torch.func.hessian(flat)(theta).numpy()


def random_matrices(seed, *sizes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(size) for size in sizes]


@given(shapes(5), st.integers(0, 2**32 - 1))
def test_one_layer_equals_autograd_anywhere(shape, seed):
    a, b, r = shape
    A, B, Z = random_matrices(seed, (a, r), (r, b), (a, b))
    Z_t = torch.from_numpy(Z)
    expected = autograd_hessian(lambda A, B: 0.5 * ((Z_t - A @ B) ** 2).sum(), A, B)
    np.testing.assert_allclose(hessian(A, B, Z), expected, atol=1e-13 * np.abs(expected).max())


@given(shapes(3), st.integers(0, 2**32 - 1))
def test_one_layer_equals_exact_second_differences(shape, seed):
    a, b, r = shape
    integers = np.random.default_rng(seed).integers(-3, 4, a * r + r * b + a * b)
    A, B, Z = np.split(integers, [a * r, a * r + r * b])

    def exact_loss(theta):
        product = flint.fmpq_mat(a, r, theta[: a * r]) * flint.fmpq_mat(r, b, theta[a * r :])
        return exact.half_square(flint.fmpq_mat(a, b, [flint.fmpq(int(z)) for z in Z]) - product)

    H = exact.hessian(exact_loss, [flint.fmpq(int(x)) for x in (*A, *B)])
    expected = np.array([[exact.to_float(x) for x in row] for row in H.tolist()])
    actual = hessian(A.reshape(a, r), B.reshape(r, b), Z.reshape(a, b))
    np.testing.assert_array_equal(actual, expected)  # integers: no rounding at all


def test_one_layer_equals_central_differences_of_the_loss():
    A, B, Z = random_matrices(3, (4, 2), (2, 3), (4, 3))
    theta, h = np.concatenate([A.ravel(), B.ravel()]), 1e-4

    def f(x):
        return loss(x[:8].reshape(4, 2), x[8:].reshape(2, 3), Z)

    E = np.eye(len(theta)) * h
    H = np.array([[f(theta + p + q) - f(theta + p - q) - f(theta - p + q) + f(theta - p - q) for q in E] for p in E])
    # second differences: truncation h² against rounding 4·eps·f/(4h²) ≈ 1e-7
    np.testing.assert_allclose(hessian(A, B, Z), H / (4 * h * h), atol=2e-6)


def test_jacobian_is_the_derivative_of_the_product():
    A, B, dA, dB = random_matrices(4, (4, 2), (2, 3), (4, 2), (2, 3))
    actual = jacobian(A, B) @ np.concatenate([dA.ravel(), dB.ravel()])
    np.testing.assert_allclose(actual, (dA @ B + A @ dB).ravel(), atol=1e-14)


@pytest.mark.parametrize(
    ("p", "q", "s", "r1", "r2"), [(3, 4, 2, 2, 1), (2, 2, 2, 1, 2), (1, 3, 2, 1, 2), (4, 2, 3, 2, 2)]
)
def test_two_layer_equals_autograd_anywhere(p, q, s, r1, r2):
    A1, B1, A2, B2, W1, W2, target = random_matrices(p + q, (p, r1), (r1, q), (q, r2), (r2, s), (p, q), (q, s), (p, s))
    tW1, tW2, tt = map(torch.from_numpy, (W1, W2, target))
    expected = autograd_hessian(
        lambda A1, B1, A2, B2: 0.5 * ((tt - (tW1 + A1 @ B1) @ (tW2 + A2 @ B2)) ** 2).sum(), A1, B1, A2, B2
    )
    actual = two_layer_hessian(A1, B1, A2, B2, W1, W2, target)
    np.testing.assert_allclose(actual, expected, atol=1e-13 * np.abs(expected).max())


def small_network(seed, a, b, n=5):
    """A smooth h: R^{a×b} → R^{n×2}."""
    K, L = map(torch.from_numpy, random_matrices(seed, (n, a), (b, 2)))
    return lambda W: torch.tanh(K @ W @ L)


@pytest.mark.parametrize(("a", "b", "r"), [(3, 2, 1), (2, 4, 2), (3, 3, 2)])
def test_model2_equals_autograd_off_and_on_interpolation(a, b, r):
    A, B, target = random_matrices(7, (a, r), (r, b), (5, 2))
    h = small_network(8, a, b)
    interpolated = h(torch.from_numpy(A @ B)).numpy()
    for z in (target, interpolated):
        z_t = torch.from_numpy(z)
        expected = autograd_hessian(lambda A, B, z_t=z_t: 0.5 * ((h(A @ B) - z_t) ** 2).sum(), A, B)
        actual = model2_hessian(A, B, z, h)
        np.testing.assert_allclose(actual, expected, atol=1e-13 * np.abs(expected).max())
    J, M = model2_jacobian(A, B, h), jacobian(A, B)
    np.testing.assert_allclose(model2_hessian(A, B, interpolated, h), M.T @ J.T @ J @ M, atol=1e-13)


def test_bad_input_is_named():
    A, B, Z = random_matrices(1, (3, 2), (2, 4), (3, 4))
    with pytest.raises(ValueError, match=r"Z has shape \(4, 3\), but AB has shape \(3, 4\)"):
        hessian(A, B, Z.T)
    with pytest.raises(ValueError, match="do not share an inner dimension r"):
        hessian(A, B.T, Z)
    with pytest.raises(ValueError, match="A contains NaN or infinity"):
        hessian(np.full_like(A, np.nan), B, Z)
    with pytest.raises(TypeError, match="B must be a real matrix"):
        hessian(A, B.astype(complex), Z)
    with pytest.raises(ValueError, match="A must be a matrix"):
        hessian(A[0], B, Z)
    with pytest.raises(ValueError, match="must not be empty"):
        hessian(A[:, :0], B[:0], Z)
    with pytest.raises(ValueError, match=r"target has shape \(2, 5\), but h\(AB\) has shape \(5, 2\)"):
        model2_hessian(A, B, np.zeros((2, 5)), small_network(0, 3, 4))
    with pytest.raises(ValueError, match="Jacobian of h at AB contains NaN"):
        model2_jacobian(A, B, lambda W: (W * 0).sqrt())
    with pytest.raises(ValueError, match="W1 has shape"):
        two_layer_hessian(A, B, np.ones((4, 1)), np.ones((1, 2)), np.ones((4, 3)), np.ones((4, 2)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="target has shape"):
        two_layer_hessian(A, B, np.ones((4, 1)), np.ones((1, 2)), np.ones((3, 4)), np.ones((4, 2)), np.ones((2, 3)))
