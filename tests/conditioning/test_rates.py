"""Rates: values, limits, and the sign-GD geometry against brute force and against actual steps."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_enumeration_covers_more_than_one_chunk():
    H = -np.ones((16, 16)) + 20 * np.eye(16)
    s = np.array([1.0] * 8 + [-1.0] * 8)
    assert sharp_sign_gd_rate(H).L_inf == pytest.approx(s @ H @ s)


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
