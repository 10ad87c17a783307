"""Scaled gradients and the Hessian that they see: against plain algebra, in every gauge, dtype and library."""

import numpy as np
import pytest
import torch
from hypothesis import given

from lorakappa.conditioning import (
    DegenerateTargetError,
    balanced_condition_number,
    change_gauge,
    gd_rate,
    hessian,
    minimizer,
    preconditioned_extremes,
    preconditioned_hessian,
    preconditioned_spectrum,
    scaled_gradient,
)
from tests.strategies import minimizers, orthogonal


def problem(seed=0, a=5, b=4, r=3, leading=()):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((*leading, a, r)), rng.standard_normal((*leading, r, b))
    return A, B, rng.standard_normal((*leading, a, r)), rng.standard_normal((*leading, r, b))


def metric(A, B):
    """P as a dense matrix on (vec A, vec B)."""
    (a, r), b = A.shape, B.shape[1]
    zeros = np.zeros((a * r, r * b))
    return np.block([[np.kron(np.eye(a), B @ B.T), zeros], [zeros.T, np.kron(A.T @ A, np.eye(b))]])


# --- scaled gradients -----------------------------------------------------------------------------------


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_scaled_gradient_solves_its_equations(damping):
    A, B, g_A, g_B = problem()
    scaled_A, scaled_B = scaled_gradient(A, B, g_A, g_B, damping=damping)
    np.testing.assert_allclose(scaled_A @ (B @ B.T + damping * np.eye(3)), g_A, atol=1e-13)
    np.testing.assert_allclose((A.T @ A + damping * np.eye(3)) @ scaled_B, g_B, atol=1e-13)


def test_no_damping_is_the_default():
    for found, expected in zip(scaled_gradient(*problem()), scaled_gradient(*problem(), damping=0.0), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_first_order_change_of_the_product_is_free_of_the_gauge():
    A, B, *_ = problem(1)
    rng = np.random.default_rng(2)
    G = rng.standard_normal((5, 4))
    for pair in ((A, B), change_gauge(A, B, orthogonal(3, rng) * [10.0, 1.0, 0.1])):
        scaled_A, scaled_B = scaled_gradient(*pair, G @ pair[1].T, pair[0].T @ G)
        onto_A, onto_B = A @ np.linalg.pinv(A), np.linalg.pinv(B) @ B
        np.testing.assert_allclose(scaled_A @ pair[1] + pair[0] @ scaled_B, G @ onto_B + onto_A @ G, atol=1e-12)


def test_stacks_are_treated_one_by_one():
    stack = problem(3, leading=(2, 3))
    together = scaled_gradient(*stack, damping=0.1)
    for i in range(2):
        for j in range(3):
            single = scaled_gradient(*(M[i, j] for M in stack), damping=0.1)
            for found, expected in zip(together, single, strict=True):
                np.testing.assert_allclose(found[i, j], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_torch_gives_what_numpy_gives(dtype):
    tensors = [torch.tensor(M).to(dtype) for M in problem(4, leading=(2,))]
    expected = scaled_gradient(*(M.double().numpy() for M in tensors))
    for found, reference in zip(scaled_gradient(*tensors), expected, strict=True):
        assert found.dtype == dtype
        atol = torch.finfo(dtype).eps * np.abs(reference).max() * (64 if dtype == torch.float64 else 1)
        np.testing.assert_allclose(found.double().numpy(), reference, rtol=0, atol=atol)


def test_single_precision_is_solved_in_double():
    A, B, g_A, g_B = problem(5)
    B[2] = B[1] + 1e-4 * B[2]  # cond(BBᵀ) ≈ 1e9: hopeless in float32
    single = [M.astype(np.float32) for M in (A, B, g_A, g_B)]
    expected = scaled_gradient(*(M.astype(float) for M in single))
    for found, reference in zip(scaled_gradient(*single), expected, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, reference, rtol=1e-6, atol=1e-7 * np.abs(reference).max())


@pytest.mark.parametrize(("which", "name"), [(0, "AᵀA"), (1, "BBᵀ")])
def test_singular_gram_matrices_are_named_and_damping_helps(which, name):
    arguments = list(problem(6))
    for spoil in (0.0, "dependent"):
        factor = arguments[which]
        if spoil == 0.0:
            spoiled = np.zeros_like(factor)
        else:
            spoiled = factor.copy()
            rows = spoiled if which else spoiled.T
            rows[2] = rows[0] - 2 * rows[1]
        changed = [*arguments[:which], spoiled, *arguments[which + 1 :]]
        with pytest.raises(ValueError, match=f"{name} . δI is singular .* δ = 0: .*pass damping > 0"):
            scaled_gradient(*changed)
        scaled_A, scaled_B = scaled_gradient(*changed, damping=0.5)
        np.testing.assert_allclose(scaled_A @ (changed[1] @ changed[1].T + 0.5 * np.eye(3)), changed[2], atol=1e-12)
        np.testing.assert_allclose((changed[0].T @ changed[0] + 0.5 * np.eye(3)) @ scaled_B, changed[3], atol=1e-12)


def test_one_singular_pair_in_a_stack_is_noticed():
    stack = problem(7, leading=(4,))
    stack[1][2] = 0
    with pytest.raises(ValueError, match="BBᵀ"):
        scaled_gradient(*stack)


def test_ill_conditioned_is_not_singular():
    A, B, g_A, g_B = problem(8)
    B = orthogonal(3, np.random.default_rng(8)) * [1.0, 1e-3, 1e-7] @ orthogonal(4, np.random.default_rng(9))[:3]
    scaled, _ = scaled_gradient(A, B, g_A, g_B)
    assert np.abs(scaled).max() > 1e12
    B[2] = 1e-9 * B[1]  # beyond 1/sqrt(4·3·eps) the Gram matrix says nothing
    with pytest.raises(ValueError, match="singular"):
        scaled_gradient(A, B, g_A, g_B)


def test_singular_is_measured_against_the_largest_eigenvalue():
    A, B, g_A, g_B = problem(8)
    B = np.diag([1.0, 1e-9, 0.9e-9]) @ orthogonal(4, np.random.default_rng(9))[:3]
    with pytest.raises(ValueError, match="singular"):
        scaled_gradient(A, B, g_A, g_B)
    scaled_A, _ = scaled_gradient(A, 1e-60 * orthogonal(4, np.random.default_rng(9))[:3], g_A, g_B)
    np.testing.assert_allclose(scaled_A, 1e120 * g_A, rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("which", "name"), [(0, "AᵀA"), (1, "BBᵀ")])
def test_factors_that_are_not_finite_are_refused(which, name, bad):
    arguments = problem(9)
    arguments[which][1, 1] = bad
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=f"{name} contains NaN or infinity"):
        scaled_gradient(*arguments)


def test_bad_arguments():
    A, B, g_A, g_B = problem()
    for damping in (-1e-9, np.nan, np.inf):
        with pytest.raises(ValueError, match="must be finite and not negative"):
            scaled_gradient(A, B, g_A, g_B, damping=damping)
    with pytest.raises(ValueError, match=r"g_A is \(5, 2\) float64, but its factor is \(5, 3\) float64"):
        scaled_gradient(A, B, g_A[:, :2], g_B)
    with pytest.raises(ValueError, match=r"g_B is .* float32, but its factor is .* float64"):
        scaled_gradient(A, B, g_A, g_B.astype(np.float32))
    with pytest.raises(TypeError, match="g_A and g_B must be arrays of the library"):
        scaled_gradient(A, B, torch.tensor(g_A), torch.tensor(g_B))
    with pytest.raises(TypeError, match="both be NumPy arrays or both torch tensors"):
        scaled_gradient(A, torch.tensor(B), g_A, g_B)


# --- the preconditioned Hessian -------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b", "r"), [(5, 4, 3), (3, 6, 3), (4, 4, 4), (2, 5, 1)])
def test_hessian_is_similar_to_metric_inverse_times_hessian_at_any_pair(a, b, r):
    A, B, *_ = problem(10, a, b, r)
    Z = np.random.default_rng(11).standard_normal((a, b))
    H = preconditioned_hessian(A, B, Z)
    np.testing.assert_array_equal(H, H.T)
    expected = np.linalg.eigvals(np.linalg.solve(metric(A, B), hessian(A, B, Z)))
    np.testing.assert_allclose(np.linalg.eigvalsh(H), np.sort(expected.real), atol=1e-10 * np.abs(expected).max())


@given(minimizers(largest=5))
def test_spectrum_at_minimizers_of_any_gauge(problem):
    dense = np.linalg.eigvalsh(preconditioned_hessian(problem.A, problem.B, problem.Z))
    closed = preconditioned_spectrum(problem.s, problem.r, problem.shape)
    np.testing.assert_allclose(dense, closed, atol=1e-13 * problem.condition)
    assert (closed[: problem.r**2] == 0).all()
    mu, L = preconditioned_extremes(problem.s, problem.r, problem.shape)
    assert closed[-1] == L == 2
    assert closed[problem.r**2] == pytest.approx(mu, rel=1e-9)
    balanced = balanced_condition_number(problem.s, problem.r, problem.shape)
    assert L / mu == pytest.approx(balanced * problem.s[problem.r - 1] / problem.s[0], rel=1e-9)


@pytest.mark.parametrize("t", [1e8, 1e-8])
def test_the_hessian_does_not_feel_the_scale_of_the_factors(t):
    Z = np.diag([4.0, 2.0, 1.0])
    A, B = minimizer(Z, 2)
    dense = np.linalg.eigvalsh(preconditioned_hessian(t * A, B / t, Z))
    np.testing.assert_allclose(dense, preconditioned_spectrum([4.0, 2.0, 1.0], 2), atol=1e-14)
    with pytest.raises(ValueError, match="AB has rank < r"):
        preconditioned_hessian(t * A * [1, 1e-16], B / t, Z)


def test_spectrum_by_hand():
    s = [4.0, 2.0, 1.0]
    expected = [0] * 4 + [0.5, 0.75, 1, 1, 1.25, 1.5] + [2] * 4
    np.testing.assert_array_equal(preconditioned_spectrum(s, 2, (4, 3)), expected)
    np.testing.assert_array_equal(preconditioned_spectrum(s, 2, (3, 4)), expected)
    square = [0] * 4 + [0.5, 0.75, 1.25, 1.5] + [2] * 4
    np.testing.assert_array_equal(preconditioned_spectrum(s, 2), square)
    assert preconditioned_extremes(s, 2) == (0.5, 2)
    assert preconditioned_extremes(s, 3) == (2, 2)
    assert preconditioned_extremes(s, 3, (3, 5)) == (1, 2)
    assert preconditioned_extremes([4.0, 2.0], 1, (30, 40)) == (0.5, 2)


def test_spectrum_errors():
    with pytest.raises(DegenerateTargetError):
        preconditioned_spectrum([2.0, 1.0, 1.0], 2)
    with pytest.raises(DegenerateTargetError):
        preconditioned_extremes([2.0, 0.0, 0.0], 2)
    with pytest.raises(ValueError, match="2 singular values given, but the spectrum needs all 5"):
        preconditioned_spectrum([2.0, 1.0], 1, (5, 6))
    with pytest.raises(ValueError, match="rank r = 3"):
        preconditioned_extremes([2.0, 1.0], 3)


def test_hessian_errors():
    A, B, *_ = problem(a=4, b=4, r=2)
    Z = np.eye(4)
    with pytest.raises(ValueError, match="rank r = 5"):
        preconditioned_hessian(np.ones((4, 5)), np.ones((5, 4)), Z)
    with pytest.raises(ValueError, match="but AB has shape"):
        preconditioned_hessian(A, B, np.eye(3))
    for left, right in ((A * [1, 0], B), (A, B * [[1], [0]])):
        with pytest.raises(ValueError, match="AB has rank < r"):
            preconditioned_hessian(left, right, Z)


@pytest.mark.parametrize("tail", [0.0, 0.5])
def test_scaled_gradient_descent_contracts_at_the_promised_rate_in_every_gauge(tail):
    rng = np.random.default_rng(12)
    s = np.array([100.0, 10.0, 1.0, tail, tail / 2])
    Z = orthogonal(6, rng)[:, :5] * s @ orthogonal(5, rng)
    mu, L = preconditioned_extremes(s, 3, (6, 5))
    expected = gd_rate(L / mu)
    assert expected == pytest.approx(1 / 9 if tail == 0 else ((1 + tail) / (3 - tail)) ** 2)
    for gauge in (np.eye(3), orthogonal(3, rng) * [30.0, 1.0, 0.05]):
        A, B = minimizer(Z, 3, gauge)
        best = A @ B
        A, B = A * (1 + 1e-4 * rng.standard_normal(A.shape)), B * (1 + 1e-4 * rng.standard_normal(B.shape))
        distances = []
        for _ in range(12):
            residual = A @ B - Z
            g_A, g_B = scaled_gradient(A, B, residual @ B.T, A.T @ residual)
            A, B = A - 2 / (L + mu) * g_A, B - 2 / (L + mu) * g_B
            distances.append(np.linalg.norm(A @ B - best) ** 2)
        # ‖AB − Z_r‖² contracts like f − f*, being another quadratic form of the distance
        measured = (distances[-1] / distances[4]) ** (1 / 7)
        assert measured == pytest.approx(expected, rel=0.1)
