"""The manifolds: membership with stated tolerances, tangent spaces of the right dimension."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorakappa.conditioning import balance, balancing_gap, is_balanced, is_hyperbalanced, tangent_projection
from lorakappa.conditioning.tolerances import EPS, balance_rtol
from tests.strategies import minimizers

each_manifold = pytest.mark.parametrize("manifold", ["balanced", "hyperbalanced"])


def test_gap_by_hand():
    A, B = np.array([[3.0, 0], [0, 1]]), np.array([[1.0, 0], [0, 1]])
    assert balancing_gap(A, B) == 8.0
    assert balancing_gap(A, A) == 0.0


def test_membership_and_its_tolerance():
    Q = np.array([[0.6, -0.8], [0.8, 0.6]])
    S = np.diag([2.0, 1.0])
    assert is_hyperbalanced(S, S)
    assert is_hyperbalanced(S[:, ::-1], S[::-1])  # any order
    assert is_balanced(S @ Q, Q.T @ S)
    assert not is_hyperbalanced(S @ Q, Q.T @ S)
    assert not is_balanced(S, 1.001 * S)
    assert not is_hyperbalanced(S, 1.001 * S)
    assert is_balanced(S, 1.001 * S, rtol=1e-2)
    # the default is balance_rtol·(‖A‖² + ‖B‖²): gap 2δ·√17 on a size of 10
    allowed = balance_rtol(EPS, 2) * 10 / (2 * 17**0.5)
    assert is_balanced(S, (1 + 0.9 * allowed) * S)
    assert not is_balanced(S, (1 + 1.2 * allowed) * S)
    # …and grows with ‖·‖², with √r and not with a: the same pair a hundred times larger, with seven rows of zeros
    tall = np.vstack([S, np.zeros((7, 2))])
    assert is_balanced(100 * tall, 100 * (1 + 0.9 * allowed) * S)
    assert not is_balanced(100 * tall, 100 * (1 + 1.2 * allowed) * S)
    assert not is_balanced(0.01 * tall, 0.01 * (1 + 1.2 * allowed) * S)
    assert is_balanced(S.astype(np.float32), ((1 + 1e-7) * S).astype(np.float32))
    assert is_balanced(torch.from_numpy(S), torch.from_numpy(S))
    assert is_balanced(np.eye(2, dtype=int), np.eye(2, dtype=int))
    with pytest.raises(ValueError, match="A contains NaN"):
        balancing_gap(np.nan * S, S)


def constraint_jacobian(A, B, manifold):
    """Rows: derivatives of the defining equations, by central differences (exact: they are quadratic)."""
    r = A.shape[1]
    off = ~np.eye(r, dtype=bool)

    def equations(theta):
        X, Y = theta[: A.size].reshape(A.shape), theta[A.size :].reshape(B.shape)
        gram_X, gram_Y = X.T @ X, Y @ Y.T
        rows = [(gram_X - gram_Y).ravel()]
        if manifold == "hyperbalanced":
            rows += [gram_X[off], gram_Y[off]]
        return np.concatenate(rows)

    theta = np.concatenate([A.ravel(), B.ravel()])
    return np.array([(equations(theta + e) - equations(theta - e)) / 2 for e in np.eye(len(theta))]).T


@each_manifold
@given(minimizers(largest=4), st.integers(0, 2**32 - 1))
def test_tangent_projection_is_the_orthogonal_projection_onto_the_kernel_of_the_constraints(manifold, problem, seed):
    A, B = balance(problem.A, problem.B, gauge="hyperbalanced" if manifold == "hyperbalanced" else "nearest")
    (a, b), r = problem.shape, problem.r
    if not (is_hyperbalanced(A, B) if manifold == "hyperbalanced" else is_balanced(A, B)):
        return  # a pair so ill-conditioned that the result is balanced to ‖A‖‖B‖·eps only
    C = constraint_jacobian(A, B, manifold)
    rank = r * (r + 1) // 2 if manifold == "balanced" else r * r
    assert np.linalg.matrix_rank(C, rtol=1e-9) == rank  # so the dimension is d − r(r+1)/2 or d − r²
    v = np.random.default_rng(seed).standard_normal(r * (a + b))
    dA, dB = tangent_projection(A, B, v[: A.size].reshape(A.shape), v[A.size :].reshape(B.shape), manifold=manifold)
    expected = v - np.linalg.pinv(C, rtol=1e-9) @ (C @ v)
    np.testing.assert_allclose(np.concatenate([dA.ravel(), dB.ravel()]), expected, atol=1e-6 * np.linalg.norm(v))


def test_tangent_projection_refuses_points_off_the_manifold():
    Q, S = np.array([[0.6, -0.8], [0.8, 0.6]]), np.diag([2.0, 1.0])
    zero = np.zeros((2, 2))
    with pytest.raises(ValueError, match="is not balanced; apply balance"):
        tangent_projection(S, 2 * S, S, S, manifold="balanced")
    with pytest.raises(ValueError, match="is not hyperbalanced; apply balance"):
        tangent_projection(S @ Q, Q.T @ S, S, S)
    with pytest.raises(ValueError, match="manifold must be"):
        tangent_projection(S, S, S, S, manifold="stiefel")
    with pytest.raises(ValueError, match="has rank < r"):
        tangent_projection(np.diag([1.0, 0]), np.diag([1.0, 0]), S, S)
    with pytest.raises(ValueError, match=r"has shapes \(3, 2\), \(2, 2\)"):
        tangent_projection(S, S, np.zeros((3, 2)), zero)


@pytest.mark.parametrize("scale", [1e-150, 1e-90, 1e90, 1e150])
def test_membership_does_not_depend_on_the_scale(scale):
    S = np.diag([2.0, 1.0])
    assert is_hyperbalanced(scale * S, scale * S)
    assert not is_balanced(scale * S, 1.001 * scale * S)
    assert not is_hyperbalanced(scale * S, 1.001 * scale * S)
    assert is_balanced(0 * S, 0 * S)
