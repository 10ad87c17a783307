"""Bounds on κ: valid where they should be, tight at equality cases, wrong exactly where we say so."""

import numpy as np
import pytest
from hypothesis import given

from lorakappa.conditioning import (
    balanced_condition_number,
    condition_number,
    jacobian,
    kappa_bounds,
    minimizer,
    model2_condition_number,
    model2_kappa_bound,
    tangent_basis,
)
from lorakappa.conditioning.bounds import bounds_at
from lorakappa.conditioning.minimizers import analyse_minimizer
from tests.strategies import minimizers, orthogonal


def slack(problem):
    return 1 + 1e-12 * problem.condition


@given(minimizers(interior=True))
def test_paper_bounds_hold_for_interior_rank(problem):
    kappa = condition_number(problem.A, problem.B, problem.Z)
    lower, upper = kappa_bounds(problem.A, problem.B, problem.Z)
    assert lower <= kappa * slack(problem)
    assert kappa <= upper * slack(problem)


@given(minimizers())
def test_corrected_bounds_hold_everywhere_and_sharpen_the_papers(problem):
    kappa = condition_number(problem.A, problem.B, problem.Z)
    lower, upper = kappa_bounds(problem.A, problem.B, problem.Z, form="corrected")
    paper_lower, paper_upper = kappa_bounds(problem.A, problem.B, problem.Z)
    assert lower <= kappa * slack(problem)
    assert kappa <= upper * slack(problem)
    assert np.isfinite(upper)
    assert upper <= paper_upper * slack(problem)
    if problem.r < problem.k:
        assert lower >= paper_lower / slack(problem)


@given(minimizers(interior=True, balanced=True))
def test_corrected_bounds_and_papers_upper_are_tight_at_balance(problem):
    kappa = balanced_condition_number(problem.s, problem.r, problem.shape)
    rel = 1e-11 * problem.condition
    lower, upper = kappa_bounds(problem.A, problem.B, problem.Z, form="corrected")
    assert lower == pytest.approx(kappa, rel=rel)
    assert upper == pytest.approx(kappa, rel=rel)
    assert kappa_bounds(problem.A, problem.B, problem.Z).upper == pytest.approx(kappa, rel=rel)


def test_bounds_by_hand():
    # A = (2, 0)ᵀ, B = (1/2, 0), Z = diag(1, 1/8): L = 17/4, m = 1/4, s₂ = 1/8, t² = 4
    A, B, Z = np.array([[2.0], [0]]), np.array([[0.5, 0]]), np.diag([1, 0.125])
    assert kappa_bounds(A, B, Z) == pytest.approx((17.0, 34.0))
    pencil = (17 / 4 - np.sqrt((15 / 4) ** 2 + 4 / 64)) / 2
    lower, upper = kappa_bounds(A, B, Z, form="corrected")
    assert upper == pytest.approx(17 / 4 / pencil, rel=1e-14)
    assert lower == pytest.approx(17.0)  # max(1/m, (4 + 1/4)/(2·7/8)) = 4
    assert condition_number(A, B, Z) == pytest.approx(upper, rel=1e-14)


def test_papers_upper_bound_at_full_rank_takes_the_missing_singular_value_as_zero():
    A, B, Z = np.array([[2.0], [0], [0]]), np.array([[0.5]]), np.array([[1.0], [0], [0]])
    assert kappa_bounds(A, B, Z) == pytest.approx((17.0, 17.0))
    assert condition_number(A, B, Z) == pytest.approx(17.0)  # μ = σ_r(B)² = m since a > b


def test_corrected_lower_bound_uses_its_test_vector():
    # near-equal s_r, s_{r+1}: 1/m is useless, the test vector gives κ_bal at balance
    A, B, Z = np.array([[1.0], [0]]), np.array([[1.0, 0]]), np.diag([1, 0.99])
    lower, upper = kappa_bounds(A, B, Z, form="corrected")
    assert lower == pytest.approx(200.0)
    assert upper == pytest.approx(200.0)
    assert kappa_bounds(A, B, Z).lower == pytest.approx(2.0)


def test_ostrowski_bound_is_finite_where_the_papers_is_vacuous():
    Z = np.diag([3.0, 2.0, 1.0])
    A, B = minimizer(Z, 2, np.array([[3.0, 1.0], [0.0, 0.5]]))
    assert kappa_bounds(A, B, Z).upper == np.inf
    upper = kappa_bounds(A, B, Z, form="corrected").upper
    G = np.array([[3.0, 1.0], [0.0, 0.5]])
    norm = max(np.linalg.norm(G, 2), np.linalg.norm(np.linalg.inv(G), 2))
    L = np.linalg.norm(A, 2) ** 2 + np.linalg.norm(B, 2) ** 2
    assert upper == pytest.approx(L * norm**2 / (2 - 1), rel=1e-12)


def test_papers_lower_bound_fails_at_full_rank_and_the_corrected_one_does_not():
    one = np.array([[1.0]])
    assert condition_number(2 * one, 0.5 * one, one) == pytest.approx(1.0)
    assert kappa_bounds(2 * one, 0.5 * one, one).lower == pytest.approx(17.0)
    assert kappa_bounds(2 * one, 0.5 * one, one, form="corrected") == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("seed", range(20))
def test_model2_bounds_hold_and_are_ordered(seed):
    rng = np.random.default_rng(seed)
    a, b, r = rng.integers(2, 5), rng.integers(2, 5), rng.integers(1, 3)
    A, B = rng.standard_normal((a, r)), rng.standard_normal((r, b))
    J = rng.standard_normal((a * b + seed % 3, a * b))
    kappa = model2_condition_number(A, B, J)
    corrected, tangent = (model2_kappa_bound(A, B, J, form=form) for form in ("corrected", "tangent"))
    assert kappa <= tangent * (1 + 1e-10)
    assert tangent <= corrected * (1 + 1e-10)
    ratio = (np.linalg.norm(A, 2) ** 2 + np.linalg.norm(B, 2) ** 2) / min(
        np.linalg.svd(A)[1][-1], np.linalg.svd(B)[1][-1]
    ) ** 2
    assert corrected == pytest.approx(np.linalg.cond(J) ** 2 * ratio, rel=1e-10)
    assert model2_kappa_bound(A, B, J) == pytest.approx(np.linalg.cond(J) * ratio, rel=1e-10)


def test_model2_stretch_refutes_exponent_one_half_and_attains_one():
    A, B, c = np.array([[1.0], [0]]), np.array([[1.0, 0]]), 3.0
    J = np.diag([c, 1, 1, 1])
    assert model2_condition_number(A, B, J) == pytest.approx(2 * c**2)
    assert model2_kappa_bound(A, B, J, form="paper") == pytest.approx(2 * c)
    assert model2_kappa_bound(A, B, J, form="corrected") == pytest.approx(2 * c**2)
    assert model2_kappa_bound(A, B, J, form="tangent") == pytest.approx(2 * c**2)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_numerical_kernels_count_as_kernels_at_every_scale(scale):
    A, B = np.array([[1.0], [0]]), np.array([[1.0, 0]])
    assert model2_kappa_bound(A, B, scale * np.diag([1, 1, 1, 1e-17]), form="corrected") == np.inf
    assert model2_kappa_bound(A, B, scale * np.diag([1, 1, 1, 1e-12]), form="corrected") < np.inf
    assert model2_kappa_bound(A, B, scale * np.diag([1, 1, 1e-17, 1]), form="tangent") == np.inf


def test_tangent_bound_survives_a_kernel_off_the_tangent_space():
    A, B = np.array([[1.0], [0]]), np.array([[1.0, 0]])
    J = np.diag([2.0, 1, 1, 0])  # blind to the entry (2, 2), which no tangent direction reaches
    assert model2_kappa_bound(A, B, J, form="corrected") == np.inf
    assert model2_kappa_bound(A, B, J, form="tangent") == pytest.approx(8.0)
    assert model2_condition_number(A, B, J[:3]) == pytest.approx(8.0)


@given(minimizers(largest=4))
def test_tangent_basis_spans_the_range_of_the_jacobian(problem):
    Q, M = tangent_basis(problem.A, problem.B), jacobian(problem.A, problem.B)
    (a, b), r = problem.shape, problem.r
    assert Q.shape == (a * b, r * (a + b - r))
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-14)
    np.testing.assert_allclose(Q @ (Q.T @ M), M, atol=1e-13 * np.abs(M).max())


def test_bad_input():
    A, B, Z = np.eye(3)[:, :1], np.eye(3)[:1], np.diag([1.0, 0.5, 0])
    with pytest.raises(ValueError, match="form must be"):
        kappa_bounds(A, B, Z, form="poster")
    with pytest.raises(ValueError, match="form must be"):
        model2_kappa_bound(A, B, np.eye(9), form="poster")
    with pytest.raises(ValueError, match="J has 4 columns, but AB has 9 entries"):
        model2_kappa_bound(A, B, np.eye(4))
    with pytest.raises(ValueError, match="A has rank < r = 2"):
        model2_kappa_bound(np.ones((3, 2)), np.eye(2, 3), np.eye(9))
    with pytest.raises(ValueError, match="B has rank < r = 2"):
        model2_kappa_bound(np.eye(3, 2), np.ones((2, 3)), np.eye(9))


def test_what_counts_as_rank_deficient_goes_with_the_size():
    for size in (1e-10, 1e10):
        with pytest.raises(ValueError, match="A has rank < r = 2"):
            model2_kappa_bound(size * np.ones((3, 2)) * [[0.1, 0.3]], np.eye(2, 3), np.eye(9))
        J = size * np.array([[0.1, 0.3], [0.2, 0.6], [0.7, 2.1]])
        assert np.linalg.svd(J, compute_uv=False)[1] > 0
        assert model2_kappa_bound(np.ones((2, 1)), np.ones((1, 1)), J, form="corrected") == np.inf


def tied_problem(seed, s=(3.0, 2.0, 2.0, 1.0), r=3):
    """A minimizer whose s_r is double, in a random frame, with its gauge in the basis of the frame."""
    rng = np.random.default_rng(seed)
    U, V = orthogonal(5, rng)[:, :4], orthogonal(4, rng)
    G = np.eye(r) + 0.3 * rng.standard_normal((r, r))
    root = np.sqrt(s[:r])
    return U[:, :r] * root @ G, np.linalg.solve(G, root[:, None] * V[:, :r].T), U * s @ V.T, G


@pytest.mark.parametrize("t", [1.0, 1e3, 1e20, 1e45, 1e-45])
@pytest.mark.parametrize("seed", range(5))
def test_where_s_r_is_double_the_lower_bound_takes_the_best_of_its_eigenspace(seed, t):
    A, B, Z, G = tied_problem(seed)
    A, B, G = A * t, B / t, G * t
    L = np.linalg.norm(A, 2) ** 2 + np.linalg.norm(B, 2) ** 2
    m = min(np.linalg.svd(M, compute_uv=False)[-1] for M in (A, B)) ** 2
    best = np.linalg.eigvalsh((G @ G.T + np.linalg.inv(G @ G.T))[1:, 1:])[-1]
    expected = L * max(1 / m, best / (2 * (2 - 1)))
    lower, upper = kappa_bounds(A, B, Z, form="corrected")
    assert lower == pytest.approx(expected, rel=1e-11)
    assert lower <= condition_number(A, B, Z) * (1 + 1e-11) <= upper * (1 + 1e-10)
    assert bounds_at(analyse_minimizer(A, B, Z), "corrected").lower == pytest.approx(expected, rel=1e-11)
    if t < 1e10:
        # a vector of the eigenspace says no more; e_r is one, and the best is better than most
        e_r = (np.linalg.norm(G[2]) ** 2 + np.linalg.norm(np.linalg.inv(G)[:, 2]) ** 2) / 2
        assert lower >= L * e_r * (1 - 1e-12)


def test_singular_values_that_are_only_close_are_not_one():
    A, B, Z, G = tied_problem(1, s=(3.0, 2.0 + 1e-6, 2.0, 1.0))
    e_r = (np.linalg.norm(G[2]) ** 2 + np.linalg.norm(np.linalg.inv(G)[:, 2]) ** 2) / 2
    L = np.linalg.norm(A, 2) ** 2 + np.linalg.norm(B, 2) ** 2
    m = min(np.linalg.svd(M, compute_uv=False)[-1] for M in (A, B)) ** 2
    expected = L * max(1 / m, e_r)
    assert kappa_bounds(A, B, Z, form="corrected").lower == pytest.approx(expected, rel=1e-8)
    assert bounds_at(analyse_minimizer(A, B, Z), "corrected").lower == pytest.approx(expected, rel=1e-8)
