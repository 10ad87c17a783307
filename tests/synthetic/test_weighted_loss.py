"""The weighted loss of the simulator: against its definition, its minimizers and their curvature, and trained on."""

import numpy as np
import pytest

from lorakappa.conditioning import balance, weighted_hessian, weighted_minimizer
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.losses import Weighted, move


def problem(seed=0, n=3, a=4, b=3, r=2):
    rng = np.random.default_rng(seed)
    Z, C, D = rng.standard_normal((n, a, b)), rng.standard_normal((n, a, a)), rng.standard_normal((n, b, b))
    return Weighted.from_target(Z, C, D, r), Z, (rng.standard_normal((n, a, r)), rng.standard_normal((n, r, b)))


def value(loss, Z, A, B):
    return 0.5 * np.linalg.norm(loss.C @ (A @ B - Z) @ loss.D, axis=(-2, -1)) ** 2


def test_it_is_its_definition_with_its_gradient():
    loss, Z, (A, B) = problem()
    excess, (g_A, g_B) = loss.evaluate((A, B))
    np.testing.assert_allclose(excess + loss.minimum, value(loss, Z, A, B), rtol=1e-12)
    rng = np.random.default_rng(1)
    dA, dB = rng.standard_normal(A.shape), rng.standard_normal(B.shape)
    h = 1e-5
    slope = (value(loss, Z, A + h * dA, B + h * dB) - value(loss, Z, A - h * dA, B - h * dB)) / (2 * h)
    np.testing.assert_allclose((g_A * dA).sum(axis=(1, 2)) + (g_B * dB).sum(axis=(1, 2)), slope, rtol=1e-6)


def test_nothing_is_left_at_a_minimizer_and_the_step_size_unit_bounds_its_curvature():
    loss, Z, _ = problem()
    for i in range(len(Z)):
        A, B = balance(*weighted_minimizer(Z[i], 2, loss.C[i], loss.D[i]))
        excess, gradient = loss.evaluate((np.stack([A] * 3), np.stack([B] * 3)))
        assert abs(excess[i]) < 1e-24 * loss.smoothness[i] * np.linalg.norm(A) ** 2
        assert max(np.abs(g[i]).max() for g in gradient) < 1e-11 * loss.smoothness[i]
        largest = np.linalg.eigvalsh(weighted_hessian(A, B, Z[i], loss.C[i], loss.D[i]))[-1]
        assert 0.05 * loss.smoothness[i] < largest <= loss.smoothness[i] * (1 + 1e-12)


def test_it_trains():
    loss, _, start = problem()
    factors = tuple(0.3 * M for M in start)
    run = simulate(loss, factors, step_sizes=[0.2 / float(loss.smoothness.max())], steps=400)
    assert (run.excess[-1] < 0.5 * run.excess[0]).all()


def test_torch_takes_it_along():
    torch = pytest.importorskip("torch")
    loss, _, (A, B) = problem()
    moved = move(loss, lambda M: torch.from_numpy(np.asarray(M)))
    excess, gradient = moved.evaluate((torch.from_numpy(A), torch.from_numpy(B)))
    expected, expected_gradient = loss.evaluate((A, B))
    np.testing.assert_allclose(excess.numpy(), expected, rtol=1e-12)
    for one, other in zip(gradient, expected_gradient, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-10, atol=1e-12)


def test_bad_weights_are_refused():
    loss, Z, _ = problem()
    with pytest.raises(ValueError, match=r"C and D must be invertible|rank"):
        Weighted.from_target(Z, 0 * loss.C, loss.D, 2)
    singular = loss.C.copy()
    singular[:, 0] = 0.0
    with pytest.raises(ValueError, match="C and D must be invertible"):
        Weighted.from_target(Z, singular, loss.D, 2)
