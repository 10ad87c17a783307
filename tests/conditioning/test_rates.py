"""Rates: values, limits, and the sign-GD geometry against brute force and against actual steps."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import HalfspaceIntersection

from lorakappa.conditioning import gd_rate, hessian, minimizer, sharp_sign_gd_rate, sign_gd_rate
from lorakappa.conditioning.tolerances import psd_rtol


def test_values_by_hand():
    assert gd_rate(3.0) == 0.25
    assert gd_rate(1.0) == 0.0
    assert sign_gd_rate(2.0, 4) == 1 - 1 / 8
    assert sign_gd_rate(1.0, 1) == 0.0
    assert sharp_sign_gd_rate(np.array([[3.0]]), kernel_dimension=0).rate == 0.0


def test_gd_rate_is_attained_by_the_extreme_modes():
    mu, L = 0.5, 4.0
    step = 2 / (L + mu)
    for eigenvalue in (mu, L):
        assert (1 - step * eigenvalue) ** 2 == pytest.approx(gd_rate(L / mu), rel=1e-14)


def random_psd(seed, d, kernel):
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return Q[:, kernel:] * rng.uniform(0.1, 3, d - kernel) @ Q[:, kernel:].T


@given(st.integers(0, 10**6), st.integers(2, 7), st.integers(0, 2))
def test_sign_geometry_equals_brute_force(seed, d, kernel):
    kernel = min(kernel, d - 1)
    H = random_psd(seed, d, kernel)
    sharp = sharp_sign_gd_rate(H, kernel_dimension=kernel)
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=d)))
    assert sharp.L_inf == pytest.approx(max(s @ H @ s for s in signs), rel=1e-12)
    assert sharp.L_inf_exact
    assert sharp.mu_inf_exact == (kernel == 0)
    z = np.random.default_rng(seed + 1).standard_normal((2000, d))
    ratios = np.abs(z @ H).sum(axis=1) ** 2 / np.einsum("ni,ij,nj->n", z, H, z)
    assert sharp.mu_inf <= ratios.min() * (1 + 1e-9)
    if kernel == 0:  # attained at Hz = e_i
        z = np.linalg.inv(H)
        attained = min(np.abs(H @ c).sum() ** 2 / (c @ H @ c) for c in z.T)
        assert sharp.mu_inf == pytest.approx(attained, rel=1e-9)
    kappa = np.linalg.eigvalsh(H)[-1] / np.linalg.eigvalsh(H)[kernel]
    assert sharp.rate == pytest.approx(1 - sharp.mu_inf / sharp.L_inf, rel=1e-14)
    assert sharp.rate <= sign_gd_rate(kappa, d) * (1 + 1e-12)
    # one step from anywhere contracts at least so much
    for x in np.random.default_rng(seed + 2).standard_normal((20, d)):
        g = H @ x
        step = x - np.abs(g).sum() * np.sign(g) / sharp.L_inf
        assert step @ H @ step <= sharp.rate * (x @ H @ x) * (1 + 1e-9)


def test_beyond_enumeration_the_bound_is_an_upper_bound():
    Z = np.random.default_rng(0).standard_normal((7, 6))
    H = hessian(*minimizer(Z, 2), Z)
    sharp = sharp_sign_gd_rate(H, kernel_dimension=4)
    assert not sharp.L_inf_exact
    assert sharp.L_inf == pytest.approx(min(np.abs(H).sum(), 26 * np.linalg.eigvalsh(H)[-1]), rel=1e-12)
    signs = np.sign(np.random.default_rng(1).standard_normal((500, 26)))
    assert np.einsum("ni,ij,nj->n", signs, H, signs).max() <= sharp.L_inf
    diagonal = sharp_sign_gd_rate(np.diag(np.arange(1.0, 31.0)))
    assert diagonal.L_inf == pytest.approx(465.0)  # Σ|H_ij| is exact for diagonal H
    assert diagonal.mu_inf == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_kernel_is_told_from_small_eigenvalues_at_every_scale(scale):
    limit = psd_rtol(3)
    assert sharp_sign_gd_rate(scale * np.diag([1, 1, 2 * limit])).mu_inf == pytest.approx(2 * limit * scale)
    with pytest.raises(ValueError, match="not exactly 0 zero eigenvalues"):
        sharp_sign_gd_rate(scale * np.diag([1, 1, limit / 2]))
    skew = np.zeros((3, 3))
    skew[0, 1] = scale
    sharp_sign_gd_rate(scale * np.eye(3) + limit / 2 * skew)
    with pytest.raises(ValueError, match="not symmetric"):
        sharp_sign_gd_rate(scale * np.eye(3) + 2 * limit * skew)


@pytest.mark.parametrize(("a", "b"), [(2, 2), (3, 5), (8, 8), (10, 10), (13, 13), (12, 13)])
def test_enumeration_covers_every_sign(a, b):
    """The maximum is at one pair of opposite sign vectors, wherever its signs change."""
    d = a + b
    for where in {0, 1, a - 1, a, a + 1, d - 1}:
        s = np.where(np.arange(d) <= where, 1.0, -1.0)
        H = np.outer(s, s) + np.eye(d)
        sharp = sharp_sign_gd_rate(H, exact=True)
        assert sharp.L_inf_exact
        assert sharp.L_inf == pytest.approx(d * d + d, rel=1e-12)


def vertices(H, kernel):
    """Of {x: ‖Bx‖₁ ≤ 1}, B a basis of the range, as gradients Bx: by intersecting all 2^d half-spaces."""
    B = np.linalg.eigh(H)[1][:, kernel:]
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=len(H))))
    halfspaces = np.column_stack([signs @ B, -np.ones(len(signs))])
    return HalfspaceIntersection(halfspaces, np.zeros(B.shape[1])).intersections @ B.T


@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(1, 3))
@settings(max_examples=30)
def test_exact_mu_equals_that_of_all_vertices(seed, d, kernel):
    kernel = min(kernel, d - 2)
    H = random_psd(seed, d, kernel)
    sharp = sharp_sign_gd_rate(H, kernel_dimension=kernel, exact=True)
    pinv = np.linalg.pinv(H, rcond=1e-9)
    g = vertices(H, kernel)
    assert 1 / sharp.mu_inf == pytest.approx(np.einsum("ni,ij,nj->n", g, pinv, g).max(), rel=1e-8)
    assert sharp.mu_inf_exact
    assert sharp.mu_inf >= sharp_sign_gd_rate(H, kernel_dimension=kernel).mu_inf * (1 - 1e-12)
    assert sharp.rate == pytest.approx(1 - sharp.mu_inf / sharp.L_inf, rel=1e-14)
    steepest = sharp.steepest
    assert np.abs(steepest).sum() == pytest.approx(1)
    assert np.count_nonzero(steepest) <= kernel + 1
    np.testing.assert_allclose(H @ pinv @ steepest, steepest, atol=1e-9)  # in the range
    assert steepest @ pinv @ steepest == pytest.approx(1 / sharp.mu_inf, rel=1e-9)


def test_a_kernel_along_the_axes_leaves_supports_with_dependent_equations():
    """Where two coordinates have no curvature at all, supports that miss them meet one equation 0 = 0 and more."""
    H = np.zeros((5, 5))
    H[:3, :3] = [[2.0, 1, 0], [1, 3, 1], [0, 1, 4]]
    sharp = sharp_sign_gd_rate(H, kernel_dimension=2, exact=True)
    assert sharp.mu_inf == pytest.approx(1 / np.linalg.inv(H[:3, :3]).diagonal().max())
    assert np.count_nonzero(np.abs(sharp.steepest) > 1e-12) == 1


def test_exact_numbers_at_a_minimizer_tighten_both_certificates():
    Z = np.random.default_rng(3).standard_normal((6, 6))
    H = hessian(*minimizer(Z, 2, [[2.0, 1.0], [0.0, 0.7]]), Z)  # d = 24, beyond what is enumerated unasked
    exact, bounds = (sharp_sign_gd_rate(H, kernel_dimension=4, exact=flag) for flag in (True, False))
    assert (exact.L_inf_exact, exact.mu_inf_exact) == (True, True)
    assert (bounds.L_inf_exact, bounds.mu_inf_exact, bounds.steepest) == (False, False, None)
    assert exact.L_inf < bounds.L_inf
    assert exact.mu_inf > 1.05 * bounds.mu_inf
    assert exact.rate < bounds.rate


def test_what_cannot_be_exact_is_refused_before_any_work():
    with pytest.raises(ValueError, match=r"d = 27 parameters have 2\^26 sign vectors: L_∞ is exact up to d = 26"):
        sharp_sign_gd_rate(np.eye(27), exact=True)
    with pytest.raises(ValueError, match="134596 vertices at d = 24: μ_∞ is exact for at most 100000"):
        sharp_sign_gd_rate(np.diag([*np.ones(19), *np.zeros(5)]), kernel_dimension=5, exact=True)
    assert sharp_sign_gd_rate(np.diag([1.0, 2.0]), exact=True).steepest.tolist() == [1.0, 0.0]


def test_bad_input():
    with pytest.raises(ValueError, match=r"κ = 0\.5 is not a condition number"):
        gd_rate(0.5)
    with pytest.raises(ValueError, match="κ = nan"):
        sign_gd_rate(np.nan, 3)
    with pytest.raises(ValueError, match="κ = inf"):
        gd_rate(np.inf)
    with pytest.raises(ValueError, match="d = 0 parameters"):
        sign_gd_rate(2.0, 0)
    with pytest.raises(ValueError, match="H must be square"):
        sharp_sign_gd_rate(np.ones((2, 3)))
    with pytest.raises(ValueError, match="not symmetric"):
        sharp_sign_gd_rate(np.array([[1.0, 0.5], [0, 1]]))
    with pytest.raises(ValueError, match="not exactly 0 zero eigenvalues"):
        sharp_sign_gd_rate(np.diag([1.0, 0]))
    with pytest.raises(ValueError, match="not exactly 1 zero eigenvalues"):
        sharp_sign_gd_rate(np.diag([1.0, 0, -1]), kernel_dimension=1)
    with pytest.raises(ValueError, match="not exactly 1 zero eigenvalues"):
        sharp_sign_gd_rate(np.diag([-1.0, 1, 2]), kernel_dimension=1)
    with pytest.raises(ValueError, match="kernel_dimension = 2"):
        sharp_sign_gd_rate(np.eye(2), kernel_dimension=2)
