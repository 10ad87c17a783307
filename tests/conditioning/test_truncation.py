"""The truncated SVD of AB: Eckart and Young's errors reached, balanced, by both routes, at any size of entries."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorakappa.conditioning import OutOfRangeError, balance, is_hyperbalanced, product_svd, truncate
from lorakappa.conditioning.tolerances import EPS, PRODUCT_RTOL, truncation_singular_value
from lorakappa.conditioning.truncation import equilibrated
from tests.strategies import orthogonal, pairs

SHAPES = [(6, 5, 3), (3, 2, 4), (20, 30, 8), (2, 9, 2), (1, 1, 1)]


def given_pair(a, b, r, seed=0, dtype=np.float64, lead=()):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((*lead, *shape)).astype(dtype) for shape in ((a, r), (r, b)))


def size(A, B):
    """Σ_j ‖a_j‖‖b_j‖, which the errors are relative to; at most ‖A‖_F‖B‖_F."""
    return float((np.linalg.norm(A, axis=0) * np.linalg.norm(B, axis=1)).sum())


def check_truncations(A, B):
    """Every truncation of a pair has Eckart and Young's error, and its pair is balanced."""
    P, r = A.astype(np.longdouble) @ B.astype(np.longdouble), A.shape[1]
    U, s, Vt = np.linalg.svd(P.astype(float))
    n, eps = len(s), max(EPS, float(np.finfo(A.dtype).eps))
    allowed = PRODUCT_RTOL * eps * size(A.astype(float), B.astype(float))
    svd = product_svd(A, B)
    np.testing.assert_allclose(svd.sigma[: min(n, r)], s[:r], rtol=0, atol=allowed)
    assert (svd.sigma[n:] <= allowed).all()
    for k in range(1, r + 1):
        X, Y = svd.truncated(k)
        assert (X.shape, Y.shape, X.dtype, Y.dtype) == ((A.shape[0], k), (k, B.shape[1]), A.dtype, B.dtype)
        made = X.astype(np.longdouble) @ Y.astype(np.longdouble)
        error = float(np.sqrt(((made - P) ** 2).sum()))
        assert abs(error - np.linalg.norm(s[k:])) <= allowed
        np.testing.assert_allclose((X * X).sum(axis=0, dtype=float), svd.sigma[:k], rtol=0, atol=allowed)
        np.testing.assert_allclose((Y * Y).sum(axis=1, dtype=float), svd.sigma[:k], rtol=0, atol=allowed)
        gap = s[k - 1] - s[k] if k < n else 0
        if gap > 1e-3 * s[0]:  # then the best approximation is unique
            np.testing.assert_allclose(made.astype(float), U[:, :k] * s[:k] @ Vt[:k], atol=allowed * s[0] / gap)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_truncations_are_the_nearest_products(shape, dtype):
    for seed in range(20):
        check_truncations(*given_pair(*shape, seed, dtype))


@given(pairs())
def test_truncations_of_ill_conditioned_and_singular_pairs(pair):
    A, B = pair
    if np.any(A @ B):
        check_truncations(A, B)
        check_truncations(A.astype(np.float32), B.astype(np.float32))


def test_a_stack_is_its_pairs_and_torch_is_numpy():
    for dtype in (np.float64, np.float32):
        A, B = given_pair(6, 5, 3, 1, dtype, lead=(2, 4))
        X, Y = truncate(A, B, 2)
        x, y = truncate(torch.tensor(A), torch.tensor(B), 2)
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose((x @ y).numpy(), X @ Y, atol=100 * eps)
        np.testing.assert_allclose(product_svd(torch.tensor(A), torch.tensor(B)).sigma, product_svd(A, B).sigma)
        for place in np.ndindex(2, 4):
            one = truncate(A[place], B[place], 2)
            np.testing.assert_allclose(one[0] @ one[1], (X @ Y)[place], atol=100 * eps)


def test_bfloat16():
    A, B = (torch.tensor(M).bfloat16() for M in given_pair(20, 30, 8))
    X, Y = truncate(A, B, 3)
    assert X.dtype == Y.dtype == torch.bfloat16
    s = torch.linalg.svdvals(A.double() @ B.double())
    np.testing.assert_allclose(product_svd(A, B).sigma, s[:8], atol=1e-10)
    error = torch.linalg.matrix_norm(A.double() @ B.double() - X.double() @ Y.double())
    assert abs(error - s[3:].norm()) <= 2**-8 * s.sum()


def test_both_routes_agree_where_the_fast_one_serves():
    A, B = given_pair(40, 30, 5, 3, np.float32)
    fast, safe = product_svd(A, B), product_svd(A.astype(float), B.astype(float))
    assert np.abs(fast.bases[0].T @ fast.bases[0] - np.eye(5)).max() > 0.1  # A itself, no orthonormal basis
    np.testing.assert_allclose(safe.bases[0].T @ safe.bases[0], np.eye(5), atol=1e-14)
    np.testing.assert_allclose(fast.sigma, safe.sigma, rtol=1e-12)
    for k in range(1, 6):
        products = [X @ Y for X, Y in ((svd.bases[0] @ svd.left[:, :k], svd.right[:k] @ svd.bases[1])
                                       for svd in (fast, safe))]  # fmt: skip
        np.testing.assert_allclose(*products, atol=1e-12)


@pytest.mark.parametrize("above", [True, False])
def test_the_fast_route_serves_down_to_its_tolerance(above):
    rng = np.random.default_rng(4)
    U, V = orthogonal(9, rng)[:, :3], orthogonal(7, rng)[:, :3]
    least = truncation_singular_value(float(np.finfo(np.float32).eps), 3) * (2.0 if above else 0.25)
    # mixed by a rotation, or its columns would be made equal
    A = (U * [1.0, 0.5, least] @ orthogonal(3, rng)).astype(np.float32)
    B = np.linalg.lstsq(A, (U * [1.0, 0.5, least]) @ V.T, rcond=None)[0].astype(np.float32)
    orthonormal = np.abs((Q := product_svd(A, B).bases[0]).T @ Q - np.eye(3)).max() < 1e-12
    assert orthonormal is not np.bool_(above)
    check_truncations(A, B)


def test_all_columns_and_rows_are_the_projection():
    A, B = given_pair(6, 5, 3, 5)
    X, Y = truncate(A, B, 3)
    P = balance(A, B)
    assert is_hyperbalanced(X, Y)
    np.testing.assert_allclose(np.abs(X), np.abs(P[0]), atol=1e-13)
    np.testing.assert_allclose(np.abs(Y), np.abs(P[1]), atol=1e-13)


@pytest.mark.parametrize("shift", [(150, -150), (-150, 150), (150, 150), (-150, -150), (0, 300), (-300, -10)])
def test_any_size_of_entries(shift):
    A, B = given_pair(6, 5, 3, 6)
    p, q = (10.0**n for n in shift)
    X, Y = truncate(A * p, B * q, 2)
    with np.errstate(over="ignore"):
        expected = product_svd(A, B).sigma * p * q
    np.testing.assert_allclose(product_svd(A * p, B * q).sigma, expected, rtol=1e-12)
    root = np.sqrt(p) * np.sqrt(q)
    x, y = truncate(A, B, 2)
    np.testing.assert_allclose((X / root) @ (Y / root), x @ y, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_graded_columns_cost_no_digits(dtype):
    # A's columns and B's rows of size 10^±150 (10^±15): all errors are relative to AB
    rng = np.random.default_rng(7)
    far = 150 if dtype == np.float64 else 15
    U, V = orthogonal(8, rng)[:, :3], orthogonal(9, rng)[:, :3]
    A, B = U * 10.0 ** np.array([far, 0, -far]), (V * 10.0 ** np.array([-far, 0, far]) * [3.0, 2.0, 1.0]).T
    sigma = product_svd(A.astype(dtype), B.astype(dtype)).sigma
    np.testing.assert_allclose(sigma, [3.0, 2.0, 1.0], rtol=8 * np.finfo(dtype).eps)
    X, Y = truncate(A.astype(dtype), B.astype(dtype), 1)
    np.testing.assert_allclose(X @ Y, 3 * np.outer(U[:, 0], V[:, 0]), atol=64 * np.finfo(dtype).eps)


def test_subnormal_factors():
    A, B = (M.astype(np.float16) for M in given_pair(6, 5, 2, 8))
    tiny = np.float16(2.0**-14)
    np.testing.assert_allclose(product_svd(A * tiny, B).sigma / 2.0**-14, product_svd(A, B).sigma, rtol=0.01)
    A, B = given_pair(6, 5, 2, 8)
    svd = product_svd(A * 2.0**-1060, B)
    np.testing.assert_allclose(svd.sigma / 2.0**-1060, product_svd(A, B).sigma, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_column_whose_row_is_0_counts_for_nothing(dtype):
    A, B = given_pair(6, 5, 3, 9, dtype)
    A[:, 1] *= 1e30
    B[1] = 0
    assert product_svd(A, B).sigma[2] <= 4 * EPS * size(A[:, ::2], B[::2])
    X, Y = truncate(A, B, 2)
    np.testing.assert_allclose(X @ Y, A[:, ::2] @ B[::2], atol=1e-5 if dtype == np.float32 else 1e-14)
    left, right, _ = equilibrated(np, A.astype(float), B.astype(float))
    assert not left[:, 1].any()
    assert not right[1].any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("zero", ["A", "B", "both", "product"])
def test_a_product_of_0_stays_0_and_can_be_trained(zero, dtype):
    A, B = given_pair(6, 5, 3, 10, dtype, lead=(2,))
    if zero in ("A", "both"):
        A[0] = 0
    if zero in ("B", "both"):
        B[0] = 0
    if zero == "product":
        A[0, :, 1:], B[0, 0] = 0, 0
    X, Y = truncate(A, B, 2)
    assert not (X[0] @ Y[0]).any()
    assert product_svd(A, B).sigma[0].tolist() == [0, 0, 0]
    if zero == "A":
        assert (Y[0] == B[0, :2]).all()
    elif zero == "B":
        assert (X[0] == A[0, :, :2]).all()
    if zero == "product":
        assert not X[0].any()
        assert Y[0].any()
    one = truncate(A[1], B[1], 2)
    np.testing.assert_allclose(X[1] @ Y[1], one[0] @ one[1], atol=1e-5)


@given(st.integers(-3, 8).filter(lambda k: not 1 <= k <= 3))
def test_a_rank_beyond_the_pair_is_refused(k):
    with pytest.raises(ValueError, match=rf"rank k = {k} must lie between 1 and r = 3"):
        truncate(*given_pair(6, 5, 3), k)


def test_what_is_no_pair_is_refused():
    A, B = given_pair(6, 5, 3)
    with pytest.raises(TypeError, match="rank k must be an integer"):
        truncate(A, B, 1.5)
    with pytest.raises(ValueError, match="share an inner dimension"):
        product_svd(A, B.T)
    for bad in (np.nan, np.inf):
        C = A.copy()
        C[1, 1] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            product_svd(C, B)
        with pytest.raises(ValueError, match="NaN or infinity"):
            product_svd(A, C[:5, :3].T.copy())
    assert issubclass(OutOfRangeError, ValueError)
