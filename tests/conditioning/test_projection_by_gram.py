"""The fast route of P: held to the slow one at its worst inputs, and honest about where it does not serve."""

import numpy as np
import pytest
import torch
from array_api_compat import numpy as xnp
from array_api_compat import torch as xtorch
from hypothesis import given
from hypothesis import strategies as st

from lorakappa.conditioning import GAUGES, balance, is_balanced, is_hyperbalanced
from lorakappa.conditioning.projection_by_gram import balance_by_gram, full_precision, gauges, gram, moved
from lorakappa.conditioning.projection_by_qr import balance_by_qr
from lorakappa.conditioning.tolerances import PRODUCT_RTOL, balance_rtol, change_noise, gram_noise
from tests.strategies import orthogonal

EPS32 = float(np.finfo(np.float32).eps)
every_gauge = pytest.mark.parametrize("gauge", GAUGES)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])


def norm(M):
    return np.linalg.norm(M, axis=(-2, -1))


def hostile(kind, a, b, r, decades, rng):
    """A float64 pair of one kind of trouble; `decades` says how much of it."""
    A, B = rng.standard_normal((a, r)), rng.standard_normal((r, b))
    d = 10.0 ** -np.sort(decades * rng.random(r))
    Q, P = orthogonal(r, rng), orthogonal(r, rng)
    if kind == "graded columns":
        A, B = A * d, B * d[::-1, None]
    elif kind == "ill-conditioned A":
        A = A * d @ Q
    elif kind == "ill-conditioned both":
        A, B = A * d @ Q, P @ (d[:, None] * B)
    elif kind == "unbalanced":
        A, B = A @ (Q * d @ P), P.T @ ((Q.T @ B) / d[:, None])
    elif kind == "unbalanced the other way":
        A, B = A @ (Q / d @ P), P.T @ ((Q.T @ B) * d[:, None])
    elif kind == "positive":
        A, B = np.abs(A), np.abs(B)
    elif kind == "nearly dependent":
        A[:, -1] = A[:, 0] + 10.0**-decades * A[:, -1]
    elif kind == "rank deficient":
        B[-1] = 0 if r == 1 else B[0]
    return A, B


KINDS = (
    "plain",
    "graded columns",
    "ill-conditioned A",
    "ill-conditioned both",
    "unbalanced",
    "unbalanced the other way",
    "positive",
    "nearly dependent",
    "rank deficient",
)


@st.composite
def stored_pairs(draw, dtype):
    r = draw(st.integers(1, 20))
    a, b = draw(st.integers(max(1, r - 1), 90)), draw(st.integers(max(1, r - 1), 90))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    A, B = hostile(draw(st.sampled_from(KINDS)), a, b, r, draw(st.floats(0, 9)), rng)
    scales = st.floats(-3, 3) if dtype == torch.float16 else st.floats(-15, 15)
    A, B = A * 10.0 ** draw(scales), B * 10.0 ** draw(scales)
    A, B = torch.tensor(A).to(dtype), torch.tensor(B).to(dtype)
    return A, B


# --- Gram matrices and products ------------------------------------------------------------------------


@pytest.mark.parametrize("xp", [xnp, xtorch])
@pytest.mark.parametrize("r", [1, 2, 3, 5, 8, 16, 19])
@pytest.mark.parametrize("n", [1, 7, 64, 1000, 2 * 32 * 5 * 3 + 11])
def test_gram_matrices_are_as_accurate_as_stated(xp, r, n):
    # positive entries: no rounding error cancels
    M = np.random.default_rng(n * r).random((2, 3, n, r)).astype(np.float32)
    exact = M.astype(float).mT @ M.astype(float)
    scale = np.sqrt(np.einsum("...ii->...i", exact))
    for axis, factor in ((-2, M), (-1, M.mT.copy())):
        G = np.asarray(gram(xp, xp.asarray(factor), axis))
        assert G.dtype == np.float64
        assert np.abs((G - exact) / scale[..., :, None] / scale[..., None, :]).max() <= gram_noise(EPS32, r)


def test_gram_matrices_of_long_narrow_factors_are_as_accurate_as_stated():
    # added up in one chain these err by 20 to 50 epsilons
    M = torch.rand(60_000, 2, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    exact = M.double().T @ M.double()
    scale = exact.diagonal().sqrt()
    error = (gram(xtorch, M, -2) - exact) / scale[:, None] / scale
    assert error.abs().max() <= gram_noise(EPS32, 2) / 4


@pytest.mark.parametrize("shape", [(8, 1), (8, 4), (7, 4), (2, 3, 32, 8), (5, 20), (64, 16)])
@pytest.mark.parametrize("xp", [xnp, xtorch])
def test_folded_products_are_products(xp, shape):
    rng = np.random.default_rng(0)
    A, T = rng.standard_normal(shape), rng.standard_normal((*shape[:-2], shape[-1], shape[-1]))
    np.testing.assert_allclose(np.asarray(moved(xp, xp.asarray(A), xp.asarray(T))), A @ T, atol=1e-14)


# --- what is accepted is right --------------------------------------------------------------------------


@every_gauge
@every_dtype
@given(st.data())
def test_accepted_pairs_keep_the_product_and_are_balanced(gauge, dtype, data):
    A, B = data.draw(stored_pairs(dtype))
    X, Y, safe = balance_by_gram(xtorch, A, B, gauge)
    assert X.dtype == Y.dtype == dtype
    if not safe:
        return
    eps = torch.finfo(dtype).eps
    A, B, X, Y = (M.double().numpy() for M in (A, B, X, Y))
    assert norm(X @ Y - A @ B) <= PRODUCT_RTOL / 4 * eps * norm(A) * norm(B)
    assert norm(X.T @ X - Y @ Y.T) <= balance_rtol(eps, A.shape[1]) * (norm(X) ** 2 + norm(Y) ** 2) / 2


@every_gauge
@given(st.data())
def test_accepted_pairs_are_those_of_the_slow_route(gauge, data):
    A, B = data.draw(stored_pairs(torch.float32))
    X, Y, safe = balance_by_gram(xtorch, A, B, gauge)
    if not safe:
        return
    X2, Y2 = balance_by_qr(xtorch, A, B, gauge)
    A, B, X, Y, X2, Y2 = (M.double().numpy() for M in (A, B, X, Y, X2, Y2))
    tolerance = balance_rtol(EPS32, A.shape[1]) * norm(X) ** 2
    # XXᵀ = (ABBᵀAᵀ)^{1/2}: free of signs and of rotations in equal singular values
    np.testing.assert_allclose(X @ X.T, X2 @ X2.T, atol=tolerance)
    np.testing.assert_allclose(Y.T @ Y, Y2.T @ Y2, atol=tolerance)
    if gauge == "hyperbalanced":
        squares = (X * X).sum(axis=0)
        assert (np.diff(squares) <= tolerance).all()
        assert (np.diag(X.T @ A + Y @ B.T) >= -EPS32 * norm(X) * norm(A) - EPS32 * norm(Y) * norm(B)).all()


@every_gauge
@every_dtype
def test_ordinary_pairs_are_accepted(gauge, dtype):
    # otherwise the two tests before would say nothing
    rng = np.random.default_rng(0)
    for r in (1, 2, 4, 8, 16, 64):
        A, B = rng.standard_normal((5, 3 * r, r)), 1e-3 * rng.standard_normal((5, r, 4 * r))
        _, _, safe = balance_by_gram(xtorch, torch.tensor(A).to(dtype), torch.tensor(B).to(dtype), gauge)
        assert safe.all(), r


def single_gauges(A, B, gauge="hyperbalanced"):
    """Gauges from Gram matrices in single precision."""
    G = torch.stack([gram(xtorch, A, -2), gram(xtorch, B, -1)], dim=-3)
    return gauges(xtorch, G, gauge, storage=torch.finfo(torch.float32), entries=A.numel() + B.numel(), eps=EPS32)


def test_hyperbalanced_pairs_are_accepted_however_ill_conditioned():
    # what a training with P looks like after its first step
    rng = np.random.default_rng(1)
    A, B = hostile("ill-conditioned both", 60, 50, 8, 2.5, rng)
    A, B = torch.tensor(A).float(), torch.tensor(B).float()
    assert not single_gauges(A, B).safe
    X, Y = balance(A, B)
    assert torch.linalg.cond(X) > 100
    assert single_gauges(X + 1e-3 * X.abs().mean() * torch.randn_like(X), Y).safe


def test_what_single_precision_cannot_do_is_done_in_double():
    rng = np.random.default_rng(2)
    A, B = (torch.tensor(M).float() for M in hostile("ill-conditioned A", 60, 50, 8, 5, rng))
    assert not single_gauges(A, B).safe
    X, Y, safe = balance_by_gram(xtorch, A, B, "hyperbalanced")
    assert safe
    assert is_hyperbalanced(X.numpy(), Y.numpy())


# --- what is not accepted -------------------------------------------------------------------------------


@every_gauge
@pytest.mark.parametrize("kind", ["zero", "one null direction", "cancelling", "too small", "too large", "wide"])
def test_the_others_take_the_slow_route(gauge, kind):
    rng = np.random.default_rng(3)
    A, B = rng.standard_normal((4, 9, 3)), rng.standard_normal((4, 3, 7))
    if kind == "zero":
        A[2] = 0
    elif kind == "one null direction":
        B[2, 1] = B[2, 0]
    elif kind == "cancelling":
        A[2, :, 1] = A[2, :, 0] * (1 + 1e-7)
    elif kind == "too small":
        A[2] *= 1e-25
    elif kind == "too large":
        B[2] *= 1e25
    else:
        A, B = A[:, :2], B[..., :2]
    A, B = A.astype(np.float32), B.astype(np.float32)
    _, _, safe = balance_by_gram(xnp, A, B, gauge)
    refused = np.arange(4) if kind == "wide" else np.array([2])
    assert np.flatnonzero(~safe).tolist() == refused.tolist()
    X, Y = balance(A, B, gauge=gauge)
    X2, Y2 = balance_by_qr(xnp, A[refused], B[refused], gauge)
    np.testing.assert_array_equal(X[refused], X2)
    np.testing.assert_array_equal(Y[refused], Y2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@every_gauge
def test_not_a_number_is_refused(gauge, bad):
    A, B = np.ones((3, 5, 2), np.float32), np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    A[1, 2, 1] = bad
    for left, right in ((A, B), (B.mT.copy(), A.mT.copy())):
        assert not balance_by_gram(xnp, left, right, gauge)[2][1]
        with pytest.raises(ValueError, match="contains NaN or infinity"):
            balance(left, right, gauge=gauge)


def test_half_precision_that_cannot_hold_the_balanced_pair_is_refused():
    A, B = np.random.default_rng(0).standard_normal((2, 6, 2)) * 1e-5
    A, B = A.astype(np.float16), B.T.astype(np.float16)
    assert not balance_by_gram(xnp, A, B, "hyperbalanced")[2]
    assert balance_by_gram(xnp, A.astype(np.float32), B.astype(np.float32), "hyperbalanced")[2]


# --- libraries, batches, surroundings -------------------------------------------------------------------


@every_gauge
@every_dtype
def test_numpy_equals_torch_and_batches_equal_loops(gauge, dtype):
    rng = np.random.default_rng(4)
    A, B = (torch.tensor(rng.standard_normal(s)).to(dtype) for s in ((2, 3, 40, 5), (2, 3, 5, 33)))
    A[1, 1] = 0
    X, Y = balance(A, B, gauge=gauge)
    eps = 4 * torch.finfo(dtype).eps
    for i in np.ndindex(2, 3):
        x, y = balance(A[i], B[i], gauge=gauge)
        torch.testing.assert_close(X[i], x, rtol=eps, atol=eps)
        torch.testing.assert_close(Y[i], y, rtol=eps, atol=eps)
    if dtype != torch.bfloat16:
        X_n, Y_n = balance(A.numpy(), B.numpy(), gauge=gauge)
        assert X_n.dtype == A.numpy().dtype
        np.testing.assert_allclose(X_n, X.numpy(), atol=eps)
        np.testing.assert_allclose(Y_n, Y.numpy(), atol=eps)


def test_no_inputs_are_modified():
    A, B = torch.randn(3, 20, 4), torch.randn(3, 4, 10)
    A[1] = 0
    kept = A.clone(), B.clone()
    X, Y = balance(A, B)
    assert torch.equal(A, kept[0])
    assert torch.equal(B, kept[1])
    assert X.data_ptr() != A.data_ptr()
    assert Y.data_ptr() != B.data_ptr()


def test_reduced_precision_around_does_not_matter():
    torch.manual_seed(0)
    A, B = torch.randn(300, 32), torch.randn(32, 200)
    expected = balance(A, B)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = balance(A, B)
        assert (A.T @ A).dtype == torch.bfloat16
    assert all(map(torch.equal, inside, expected))
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with full_precision(xtorch):
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.get_float32_matmul_precision() == "medium"
        assert all(map(torch.equal, balance(A, B), expected))
    finally:
        torch.set_float32_matmul_precision(before)


def test_tolerances_of_this_route_are_shares_of_what_is_promised():
    for r in (1, 4, 64, 256):
        assert gram_noise(EPS32, r) < balance_rtol(EPS32, r) / 5
        assert change_noise(EPS32, r) < balance_rtol(EPS32, r) / 5


def test_single_precision_keeps_the_gauge_of_the_argument():
    A, B = np.diag([-2.0, 1.0, -0.5]).astype(np.float32), np.diag([-2.0, 1.0, -0.5]).astype(np.float32)
    X, Y = balance(A, B)
    np.testing.assert_array_equal(X, A)
    np.testing.assert_array_equal(Y, B)
    assert is_balanced(X, Y)
