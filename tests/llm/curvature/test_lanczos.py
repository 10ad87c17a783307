"""Lanczos against dense eigenvalues, at spectra that are hard for it, and against ARPACK in products."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh

from lorakappa.llm.curvature import lanczos
from lorakappa.llm.curvature.lanczos import BLOCK, NoConvergenceError, estimated_errors, extremes
from lorakappa.llm.curvature.solvers import PROBES, dense_spectrum, expected_products

EPS = np.finfo(np.float64).eps


def symmetric(values, seed=0):
    """A symmetric matrix with these eigenvalues."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    return (Q * values) @ Q.T


def counted(H):
    """Products with H, and a list of how many there were at a time."""
    calls = []

    def products(V):
        calls.append(len(V))
        return V @ H

    return products, calls


SPECTRA = {
    "decaying": lambda d, rng: 0.7 ** np.arange(d),
    "clustered": lambda d, rng: np.repeat(np.linspace(2, 1, -(-d // 6)), 6)[:d] + 1e-3 * rng.standard_normal(d),
    "fourfold": lambda d, rng: np.repeat(np.linspace(2, 1, -(-d // BLOCK)), BLOCK)[:d],
    "two-sided": lambda d, rng: np.concatenate([np.linspace(1, 0, d - d // 2), -np.linspace(1, 0.1, d // 2)]),
    "of low rank": lambda d, rng: np.where(np.arange(d) < 3, [5.0] * d, 0.0),
    "random": lambda d, rng: rng.standard_normal(d),
    "zero": lambda d, rng: np.zeros(d),
    "one": lambda d, rng: np.ones(d),
}


@given(
    name=st.sampled_from(sorted(SPECTRA)),
    d=st.integers(2, 90),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
    memory=st.sampled_from([0, 2**31]),
    exponent=st.sampled_from([-200, 0, 200]),
)
def test_the_extremes_are_those_of_the_dense_matrix(name, d, share, seed, memory, exponent):
    H = symmetric(SPECTRA[name](d, np.random.default_rng(seed)), seed) * 2.0**exponent
    count = 1 + int(share * (d // 4))
    found = extremes(counted(H)[0], d, count, smallest=True, accuracy=1e-8, noise=EPS, seed=seed, memory=memory)
    exact = np.linalg.eigvalsh(H)[::-1]
    size = np.abs(exact).max()
    np.testing.assert_allclose(found.leading, exact[:count], rtol=1e-7, atol=64 * d * EPS * size)
    assert found.smallest == pytest.approx(exact[-1], abs=1e-5 * size)
    np.testing.assert_allclose(found.Q @ found.Q.T, np.eye(len(found.Q)), atol=1e-12)
    np.testing.assert_allclose(found.T, found.Q @ H @ found.Q.T, atol=64 * d * EPS * size)


def test_the_errors_are_those_of_the_formula():
    found = estimated_errors(np.array([3.0, 2.0, 1.0]), np.array([0.1, 0.2, 0.3]), 2)
    np.testing.assert_allclose(found, [0.1**2 / 1, (0.1**2 + 0.2**2) / 1])  # the first also by 0.05/2, which is more
    within = estimated_errors(np.array([3.0, 3.0, 1.0]), np.array([0.1, 0.2, 0.3]), 3)
    np.testing.assert_allclose(within, [0.05 / 2, 0.05 / 2, 0.3])
    np.testing.assert_allclose(estimated_errors(np.array([3.0, 2.0]), np.array([5.0, 0.0]), 2), [5.0, 0.0])


@given(seed=st.integers(0, 2**32 - 1), m=st.integers(2, 11))
def test_the_errors_are_bounded_where_the_rest_lies_below(seed, m):
    """Of [[diag θ, Eᵀ], [E, C]] with the spectrum of C below that of θ the first m − 1 errors are within them."""
    rng = np.random.default_rng(seed)
    theta, C = np.sort(rng.uniform(1, 2, m))[::-1], -symmetric(rng.uniform(0, 1, 12), seed)
    E = 1e-3 * rng.standard_normal((12, m))
    exact = np.linalg.eigvalsh(np.block([[np.diag(theta), E.T], [E, C]]))[::-1][:m]
    estimated = estimated_errors(np.append(theta, 0.0), np.append(np.linalg.norm(E, axis=0), np.inf), m)
    assert (np.abs(exact - theta) <= 1.01 * estimated + 64 * 24 * EPS).all()


def test_both_ends_take_fewer_products_than_arpack():
    """At a spectrum like a Hessian's, whose largest eigenvalues come in clusters and have negative counterparts."""
    d, count, rng = 1200, 48, np.random.default_rng(0)
    half = np.repeat(np.exp(-np.arange(75) / 8), 8) * (1 + 0.05 * rng.standard_normal(600))
    H = np.diag(np.append(half, -half))
    products, calls = counted(H)
    found = extremes(products, d, count, smallest=True, accuracy=1e-8, noise=EPS, seed=0)
    theirs = []
    operator = LinearOperator((d, d), matvec=lambda v: (theirs.append(1), H @ v)[1], dtype=float)
    for k, which in ((count, "LA"), (1, "SA")):
        eigsh(operator, k=k, which=which, v0=rng.standard_normal(d), tol=1e-8, return_eigenvectors=False)
    np.testing.assert_allclose(found.leading, np.sort(np.diag(H))[::-1][:count], rtol=1e-7)
    assert sum(calls) < len(theirs)


def test_rounding_of_the_products_ends_the_search():
    """Products that are wrong at 1e-6 decide nothing below it: no more are asked for than at that accuracy."""
    d, H = 200, symmetric(0.9 ** np.arange(200))
    rng = np.random.default_rng(0)
    calls = []

    def noisy(V):
        calls.append(len(V))
        return V @ H + 1e-8 * rng.standard_normal(V.shape)

    found = extremes(noisy, d, 12, smallest=False, accuracy=1e-14, noise=1e-6, seed=0)
    np.testing.assert_allclose(found.leading, 0.9 ** np.arange(12), atol=1e-5)
    assert sum(calls) < d / 2


def test_what_does_not_converge_says_how_many_did(monkeypatch):
    monkeypatch.setattr(lanczos, "RESTARTS", 0)
    H = symmetric(np.linspace(1, 2, 300))
    with pytest.raises(NoConvergenceError, match=r"found \d+ of 8 eigenvalues; .* \(d = 300\)"):
        extremes(counted(H)[0], 300, 8, smallest=False, accuracy=1e-12, noise=EPS, seed=0, memory=0)


def test_a_start_near_the_eigenvectors_saves_products():
    values = np.append(0.8 ** np.arange(150), -(0.9 ** np.arange(50)) / 2)
    H = symmetric(values)
    vectors = np.linalg.eigh(H)[1]
    near = (vectors[:, [0, -1, -2, -3]] + 1e-3 * symmetric(np.ones(200), 1)[:, :4]).T
    counts = []
    for start in (None, near):
        products, calls = counted(H)
        found = extremes(products, 200, 1, smallest=True, accuracy=1e-5, noise=EPS, seed=0, start=start)
        assert found.leading[0] == pytest.approx(1, rel=1e-5)
        assert found.smallest == pytest.approx(-0.5, abs=1e-5)
        counts.append(sum(calls))
    assert counts[1] < 0.7 * counts[0]


def test_the_forecast_counts_both_ends_and_less_in_further_gauges():
    assert expected_products(6144, {"r": 8, "2r": 16}, 1, semidefinite=True) == 3 * 16 + 16 + PROBES
    assert expected_products(6144, {"r": 8, "2r": 16}, 3, semidefinite=False) == 96 + PROBES + 2 * 48
    assert expected_products(32, {"r": 8}, 1, semidefinite=False) == 32 + PROBES


def test_what_counts_as_zero_is_relative_to_the_largest_eigenvalue():
    found = dense_spectrum(
        np.array([8.0, 3.0, 1.0, -0.5, -4.0]), {"three": 3, "two": 2, "one": 1}, rtol=0.25, leading=True
    )
    assert (found.tolerance, found.rank, found.negative) == (2.0, 3, 1)
    assert (found.lambda_max, found.lambda_min, found.trace, found.trace_error) == (8.0, -4.0, 7.5, 0.0)
    assert found.kappa == {"three": np.inf, "two": 8 / 3, "one": 1.0}
    assert found.leading == (8.0, 3.0, 1.0, -0.5, -4.0)
