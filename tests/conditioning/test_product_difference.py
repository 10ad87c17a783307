"""Differences of products beside the dense matrices: norms, scales, angles, cancellation, any size of entries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from lorakappa.conditioning import product_change, product_difference, truncate
from lorakappa.conditioning.tolerances import EPS
from tests.strategies import orthogonal, pairs


def two_pairs(seed=0, dtype=np.float64, a=7, b=9, r=3, other=2):
    rng = np.random.default_rng(seed)
    return tuple(
        (rng.standard_normal((a, k)).astype(dtype), rng.standard_normal((k, b)).astype(dtype)) for k in (r, other)
    )


def dense(pair, scale=1.0):
    return scale * (pair[0].astype(np.float64) @ pair[1].astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, -3.0), (2.0, 0.3)])
@given(st.integers(0, 2**31))
def test_everything_as_of_the_dense_matrices(dtype, scales, seed):
    first, second = two_pairs(seed, dtype)
    found = product_difference(first, second, scales=scales)
    W, V = dense(first, scales[0]), dense(second, scales[1])
    norms = np.linalg.norm(W), np.linalg.norm(V)
    np.testing.assert_allclose(found.norms, norms)
    np.testing.assert_allclose(found.distance, np.linalg.norm(W - V))
    np.testing.assert_allclose(found.spectral_distance, np.linalg.norm(W - V, 2))
    np.testing.assert_allclose(found.relative, np.linalg.norm(W - V) / max(norms))
    np.testing.assert_allclose(found.change, np.linalg.norm(W - V) / norms[0])
    np.testing.assert_allclose(found.cosine, (W * V).sum() / norms[0] / norms[1], atol=1e-12)
    assert found.ranks == (3, 2)
    allowed = 1e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(found.left_angles, subspace_angles(first[0], second[0]), atol=allowed)
    np.testing.assert_allclose(found.right_angles, subspace_angles(first[1].T, second[1].T), atol=allowed)


@given(pairs(), st.integers(0, 2**31))
def test_a_pair_in_another_gauge_is_the_same_product(pair, seed):
    A, B = pair
    rng = np.random.default_rng(seed)
    G = orthogonal(A.shape[1], rng)
    found = product_difference((A, B), (A @ G, G.T @ B))
    assert found.distance <= 64 * EPS * np.linalg.norm(A) * np.linalg.norm(B)


def test_the_same_pair_is_at_distance_0():
    for dtype in (np.float64, np.float32):
        first, _ = two_pairs(1, dtype)
        found = product_difference(first, tuple(M.copy() for M in first), scales=(0.3, 0.3))
        assert (found.distance, found.spectral_distance, found.relative, found.change) == (0, 0, 0, 0)
        np.testing.assert_allclose([found.cosine, *(1 + a for a in found.left_angles)], 1, atol=1e-6)
        assert product_difference(first, first, scales=(1.0, 2.0)).change == pytest.approx(1)


@pytest.mark.parametrize("decades", [3, 5, 6, 7, 8, 10])
def test_small_differences_of_single_precision_are_seen(decades):
    # from 64·EPS^{1/2} on down QR factorizations are made: float64's digits, not half of them
    rng = np.random.default_rng(2)
    A, B = (rng.standard_normal(shape).astype(np.float32) for shape in ((40, 4), (4, 30)))
    small = (rng.standard_normal((40, 1)) * 10.0**-decades).astype(np.float32)
    second = np.hstack([A, small]), np.vstack([B, np.ones((1, 30), np.float32)])
    found = product_difference((A, B), second)
    np.testing.assert_allclose(found.distance, np.linalg.norm(small.astype(float)) * math.sqrt(30), rtol=0.02)


def test_errors_of_truncation_are_the_distance():
    first, _ = two_pairs(3)
    s = np.linalg.svd(dense(first), compute_uv=False)
    found = product_difference(first, truncate(*first, 1))
    np.testing.assert_allclose([found.distance, found.spectral_distance], [np.linalg.norm(s[1:3]), s[1]])
    np.testing.assert_allclose(found.left_angles, [0], atol=1e-7)


def test_known_angles():
    e, turned = np.eye(5)[:, :1], (math.cos(0.3) * np.eye(5)[:, :1] + math.sin(0.3) * np.eye(5)[:, 1:2])
    found = product_difference((e, e.T), (turned, e.T))
    np.testing.assert_allclose(found.left_angles, [0.3])
    np.testing.assert_allclose(found.right_angles, [0], atol=1e-8)
    np.testing.assert_allclose(found.cosine, math.cos(0.3))


@pytest.mark.parametrize(("p", "q"), [(1e150, 1e-150), (1e100, 1e100), (1e-150, 1e-100), (1e300, 1e-290)])
def test_any_size_of_entries(p, q):
    first, second = two_pairs(4)
    expected = product_difference(first, second)
    found = product_difference((first[0] * p, first[1] * q), (second[0] * q, second[1] * p))
    np.testing.assert_allclose(found.relative, expected.relative, rtol=1e-12)
    np.testing.assert_allclose(found.cosine, expected.cosine, rtol=1e-12)
    np.testing.assert_allclose(found.distance, expected.distance * p * q, rtol=1e-12)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e3, 1e6])
def test_products_of_different_sizes(size):
    first, second = two_pairs(4)
    larger = second[0] * size, second[1]
    found = product_difference(first, larger)
    np.testing.assert_allclose(found.distance, np.linalg.norm(dense(first) - dense(larger)), rtol=1e-12)
    np.testing.assert_allclose(found.norms, [np.linalg.norm(dense(first)), np.linalg.norm(dense(larger))], rtol=1e-12)
    np.testing.assert_allclose(product_change(larger, first).change, found.distance / found.norms[1], rtol=1e-12)
    np.testing.assert_allclose(product_difference(first, second, scales=(1.0, size)).distance, found.distance)


def test_beyond_float64():
    first, second = two_pairs(5)
    large = (first[0] * 1e200, first[1] * 1e200)
    found = product_difference(large, second)
    assert found.distance == math.inf
    assert found.norms == (math.inf, 0)
    assert (found.relative, found.change) == pytest.approx((1, 1))
    tiny = product_difference((first[0] * 1e-200, first[1] * 1e-200), (second[0] * 1e-200, second[1] * 1e-200))
    assert tiny.distance == 0
    assert tiny.relative == pytest.approx(product_difference(first, second).relative)
    scaled = product_difference(first, second, scales=(1e-300, 1e-300))
    assert scaled.relative == pytest.approx(tiny.relative)


def test_products_of_0():
    first, second = two_pairs(6)
    zero = np.zeros_like(second[0]), second[1]
    found = product_difference(first, zero)
    assert (found.relative, found.change, found.cosine, found.ranks) == (1, 1, 0, (3, 0))
    assert found.left_angles == found.right_angles == ()
    back = product_difference(zero, first)
    assert (back.relative, back.change, back.norms[0]) == (1, math.inf, 0)
    both = product_difference(zero, (np.zeros((7, 1)), np.zeros((1, 9))))
    assert (both.relative, both.change, both.cosine, both.distance) == (0, 0, 0, 0)
    assert product_difference(first, second, scales=(1e200, 0.0)).change == pytest.approx(1)
    tiny = (first[0] * 1e-200, first[1])
    assert product_difference(tiny, second, scales=(1.0, 0.0)).change == pytest.approx(1)


def test_torch_tensors_of_different_types():
    first, second = two_pairs(7)
    expected = product_difference(first, second)
    one = tuple(torch.tensor(M) for M in first)
    other = tuple(torch.tensor(M).float() for M in second)
    np.testing.assert_allclose(product_difference(one, other).distance, expected.distance, rtol=1e-6)
    half = tuple(torch.tensor(M).bfloat16() for M in second)
    np.testing.assert_allclose(product_difference(one, half).distance, expected.distance, rtol=0.02)
    found = product_difference(half, half)
    assert (found.ranks, found.distance) == ((2, 2), 0)


def test_what_cannot_be_compared_is_refused():
    first, second = two_pairs(8)
    with pytest.raises(ValueError, match=r"factors \(7, 3\) and \(3, 9\) and \(6, 2\) and \(2, 9\) cannot be compared"):
        product_difference(first, (second[0][:6], second[1]))
    with pytest.raises(ValueError, match="cannot be compared"):
        product_difference((first[0][None], first[1][None]), (second[0][None], second[1][None]))
    with pytest.raises(ValueError, match=r"scales nan and 1\.0 must be finite"):
        product_difference(first, second, scales=(math.nan, 1.0))
    with pytest.raises(ValueError, match="NaN or infinity"):
        product_difference(first, (second[0] * np.nan, second[1]))
    with pytest.raises(ValueError, match="inner dimension"):
        product_difference(first, (second[0], first[1]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(st.integers(0, 2**31), st.sampled_from([1.0, 1e-3, 1e-6, 1e-9]))
def test_the_fast_change_is_the_change(dtype, seed, size):
    (A, B), (extra, rows) = two_pairs(seed, dtype)
    second = np.hstack([A, (extra * size).astype(dtype)]), np.vstack([B, rows])
    found = product_change((A, B), second, scales=(0.5, 0.5))
    expected = np.linalg.norm(dense((second[0][:, 3:], rows))) / np.linalg.norm(dense((A, B)))
    np.testing.assert_allclose(found.change, expected, rtol=1e-4, atol=1e-14)
    lengths = np.linalg.norm(second[0], axis=0) * np.linalg.norm(second[1], axis=1)
    np.testing.assert_allclose(found.amplification, lengths.sum() / np.linalg.norm(dense((A, B))), rtol=1e-5)
    np.testing.assert_allclose(product_difference((A, B), second).change, found.change, rtol=1e-4, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scales_by_column(dtype):
    (A, B), (C, D) = two_pairs(9, dtype)
    scales = [2.0, -0.5, 0.0]
    made = (A * np.array(scales)).astype(dtype), B
    assert product_change((A, B), made, scales=(scales, 1.0)).change <= 1e-6
    assert product_change(made, (A, B), scales=([1.0], scales)).change <= 1e-6
    W, V = dense(made), dense((C, D), 3.0)
    found = product_change((A, B), (C, D), scales=(scales, [3.0, 3.0]))
    np.testing.assert_allclose(found.change, np.linalg.norm(W - V) / np.linalg.norm(W), rtol=1e-6)


def test_changes_of_the_same_pair_and_of_products_of_0():
    (A, B), other = two_pairs(10)
    assert product_change((A, B), (A, B)).change == 0
    assert product_change((A * 0, B), (A * 0, B), scales=(1.0, 2.0)) == (0, 0)
    assert product_change((A * 0, B), other) == (math.inf, math.inf)
    # AB = 0 to rounding by cancellation: what rounding may do is said to be large
    cancelled = np.hstack([A, A]), np.vstack([B, -B])
    assert product_change(cancelled, (A, B)).amplification > 1e12
    single = tuple(M.astype(np.float32) for M in cancelled)
    assert product_change(single, (single[0] * 0, single[1])).amplification > 1e12
    with pytest.raises(ValueError, match="must be finite"):
        product_change((A, B), other, scales=([1.0, math.inf, 1.0], 1.0))
