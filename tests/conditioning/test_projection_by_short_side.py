"""The route of P for more columns than AB can have rank: held to the one by QR, whose promises are the same."""

import numpy as np
import pytest
import torch
from array_api_compat import numpy as xnp
from array_api_compat import torch as xtorch
from hypothesis import given
from hypothesis import strategies as st

from lorakappa.conditioning import GAUGES, balance
from lorakappa.conditioning.projection_by_qr import balance_by_qr
from lorakappa.conditioning.projection_by_short_side import LEAST_RANK, balance_by_short_side
from lorakappa.conditioning.tolerances import PRODUCT_RTOL, balance_rtol
from tests.conditioning.test_projection_by_gram import KINDS, hostile, norm
from tests.strategies import orthogonal

EPS32 = float(np.finfo(np.float32).eps)
every_gauge = pytest.mark.parametrize("gauge", GAUGES)


def wide_pair(a, b, r, seed=0, stack=()):
    rng = np.random.default_rng(seed)
    A, B = 0.01 * rng.standard_normal((*stack, a, r)), rng.standard_normal((*stack, r, b)) / b**0.5
    return A.astype(np.float32), B.astype(np.float32)


def check(A, B, X, Y, gauge, eps):
    """What P promises, and the pair of the other route up to the rotation of null directions that is free."""
    X2, Y2 = balance_by_qr(xnp, A, B, gauge)
    A, B, X, Y, X2, Y2 = (M.astype(np.float64) for M in (A, B, X, Y, X2, Y2))
    assert norm(X @ Y - A @ B) <= PRODUCT_RTOL * eps * norm(A) * norm(B)
    allowed = balance_rtol(eps, A.shape[-1]) * (norm(X) ** 2 + norm(Y) ** 2)
    assert norm(X @ X.mT - X2 @ X2.mT) <= allowed
    assert norm(Y.mT @ Y - Y2.mT @ Y2) <= allowed
    k = min(A.shape[-2], B.shape[-1])
    if gauge == "hyperbalanced":
        S = np.linalg.svd(A @ B, compute_uv=False)[:k]
        for gram in (X.mT @ X, Y @ Y.mT):
            assert norm(gram[:k, :k] - np.diag(S)) <= allowed
            assert norm(gram[:k, k:]) <= allowed
        overlap = np.diagonal(X.mT @ A / norm(A) + Y @ B.mT / norm(A))
        assert (overlap >= -allowed / norm(A)).all()
    else:  # nothing is free there
        assert norm(X - X2) + norm(Y - Y2) <= 8 * A.shape[-1] ** 0.5 * eps * (norm(X) + norm(Y))


@every_gauge
@pytest.mark.parametrize("shape", [(5, 9, 7), (9, 5, 7), (5, 5, 7), (5, 6, 8), (1, 4, 3), (4, 1, 3), (20, 64, 48)])
def test_the_pair_is_that_of_the_other_route(gauge, shape):
    A, B = wide_pair(*shape)
    X, Y, safe = balance_by_short_side(xnp, A, B, gauge)
    assert safe
    assert X.dtype == Y.dtype == np.float32
    check(A, B, X, Y, gauge, EPS32)


@every_gauge
@given(st.data())
def test_accepted_pairs_are_what_is_promised_however_hostile(gauge, data):
    short, r = sorted(data.draw(st.lists(st.integers(1, 24), min_size=2, max_size=2, unique=True)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    A, B = hostile(
        data.draw(st.sampled_from(KINDS)), short, data.draw(st.integers(short, 60)), r, data.draw(st.floats(0, 6)), rng
    )
    scales = st.floats(-15, 15)
    A, B = (A * 10.0 ** data.draw(scales)).astype(np.float32), (B * 10.0 ** data.draw(scales)).astype(np.float32)
    if data.draw(st.booleans()):
        A, B = B.T.copy(), A.T.copy()
    X, Y, safe = balance_by_short_side(xnp, A, B, gauge)
    if safe:
        check(A, B, X, Y, gauge, EPS32)


@pytest.mark.parametrize("kind", ["A = 0", "rank", "nearly rank", "orthogonal", "too small", "too large"])
def test_what_this_route_cannot_do_is_refused(kind):
    A, B = wide_pair(4, 9, 6, stack=(3,))
    fine = np.array([True, False, True])
    if kind == "A = 0":
        A[1] = 0
    elif kind == "rank":
        A[1, 3] = A[1, 0]
    elif kind == "nearly rank":  # below what counts as zero: the other route carries that direction over
        A[1, 3] = A[1, 0] * (1 + 2 * EPS32)
    elif kind == "orthogonal":
        A[1, :, :3], B[1, 3:] = 0, 0
    elif kind == "too small":
        A[1] *= 1e-38
        B[1] *= 1e-38
    else:  # singular values above the entries
        A[1], B[1] = 3e38 * np.sign(A[1]), 3e38 * np.sign(B[1])
    assert balance_by_short_side(xnp, A, B, "hyperbalanced")[2].tolist() == fine.tolist()


def test_half_precision_that_cannot_hold_the_balanced_pair_is_refused():
    A, B = wide_pair(4, 9, 6)
    A, B = A * 1e-4, B * 1e-3
    assert balance_by_short_side(xnp, A, B, "hyperbalanced")[2]
    assert not balance_by_short_side(xnp, A.astype(np.float16), B.astype(np.float16), "hyperbalanced")[2]


def test_nearly_opposite_null_spaces_are_refused():
    """Long t and τ: their oblique projection, and with it T⁻¹, would lose the digits of single precision."""
    rng = np.random.default_rng(1)
    Q = orthogonal(6, rng)
    for tilt, fine in ((1e-2, True), (1e-9, False)):
        A = np.array([Q[0], Q[1]])
        B = np.stack([tilt * Q[0] + Q[2], tilt * Q[1] + Q[3]], axis=1) @ rng.standard_normal((2, 5))
        safe = balance_by_short_side(xnp, A.astype(np.float32), B.astype(np.float32), "hyperbalanced")[2]
        assert bool(safe) is fine


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number_is_refused(bad):
    A, B = wide_pair(4, 9, 6)
    B[2, 3] = bad
    for left, right in ((A, B), (B.T.copy(), A.T.copy())):
        with pytest.raises(ValueError, match="contains NaN or infinity"):
            balance_by_short_side(xnp, left, right, "hyperbalanced")


@every_gauge
def test_p_takes_this_route_from_a_rank_on_and_the_other_where_it_is_refused(gauge):
    A, B = wide_pair(5, 8, LEAST_RANK, stack=(3,))
    A[1, 4] = A[1, 0]
    X, Y = balance(A, B, gauge=gauge)
    X2, Y2, safe = balance_by_short_side(xnp, A, B, gauge)
    assert safe.tolist() == [True, False, True]
    X2[1], Y2[1] = balance_by_qr(xnp, A[1], B[1], gauge)
    np.testing.assert_array_equal(X, X2)
    np.testing.assert_array_equal(Y, Y2)
    A, B = A[..., 1:], B[:, 1:]
    X, Y = balance(A, B, gauge=gauge)
    X2, Y2 = balance_by_qr(xnp, A, B, gauge)
    np.testing.assert_array_equal(X, X2)
    np.testing.assert_array_equal(Y, Y2)


def test_balanced_pairs_stay():
    A, B = wide_pair(5, 9, 7)
    X, Y, _ = balance_by_short_side(xnp, A, B, "hyperbalanced")
    X2, Y2, _ = balance_by_short_side(xnp, X, Y, "hyperbalanced")
    np.testing.assert_allclose(X2, X, atol=8 * EPS32 * norm(X))
    np.testing.assert_allclose(Y2, Y, atol=8 * EPS32 * norm(Y))


@every_gauge
def test_numpy_equals_torch_and_batches_equal_loops(gauge):
    A, B = wide_pair(5, 9, 7, stack=(2, 3))
    kept = A.copy(), B.copy()
    X, Y, safe = balance_by_short_side(xnp, A, B, gauge)
    X_t, Y_t, safe_t = balance_by_short_side(xtorch, torch.tensor(A), torch.tensor(B), gauge)
    assert safe.all()
    assert bool(safe_t.all())
    for i, j in np.ndindex(2, 3):
        x, y, _ = balance_by_short_side(xnp, A[i, j], B[i, j], gauge)
        for one, many, other in ((x, X, X_t), (y, Y, Y_t)):
            np.testing.assert_allclose(one, many[i, j], atol=2 * EPS32 * norm(one))
            np.testing.assert_allclose(one, other[i, j].numpy(), atol=2 * EPS32 * norm(one))
    np.testing.assert_array_equal(A, kept[0])
    np.testing.assert_array_equal(B, kept[1])
