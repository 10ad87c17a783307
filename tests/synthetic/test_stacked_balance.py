"""P from Gram matrices against the safe projection, where it is used and where it must not be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakappa.conditioning.projection import GAUGES, balance
from lorakappa.conditioning.tolerances import EPS, PRODUCT_RTOL, balance_rtol
from lorakappa.synthetic import stacked_balance
from lorakappa.synthetic.stacked_balance import balance_stack
from tests.strategies import orthogonal

norm = np.linalg.norm


def pair(a, b, s, gauge, rng):
    """A pair whose product has singular values s, by A where they are 0, in a gauge away from the balanced one."""
    r = len(s)
    A = orthogonal(a, rng)[:, :r] * np.sqrt(s)
    B = np.sqrt(np.where(s > 0, s, 1.0))[:, None] * orthogonal(b, rng)[:, :r].T
    return A @ gauge, np.linalg.solve(gauge, B)


@st.composite
def stacks(draw):
    """Stacks of pairs: good and bad products and gauges side by side, tied and vanishing singular values."""
    r = draw(st.integers(1, 6))
    a, b = (draw(st.integers(r, 9)) for _ in "ab")
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    pairs = []
    for _ in range(draw(st.integers(1, 5))):
        rank = r - draw(st.sampled_from([0, 0, 0, int(r > 1)]))
        decades = draw(st.sampled_from([0.0, 0.5, 2.0, 5.0, 9.0]))
        s = 10.0 ** -np.sort(decades * rng.random(r))
        if draw(st.booleans()):
            s[-1] = s[0]  # a tie
        s[rank:] = 0.0
        skew = draw(st.sampled_from([0.0, 1e-3, 0.5, 3.0]))
        gauge = orthogonal(r, rng) * np.exp(skew * rng.standard_normal(r)) @ orthogonal(r, rng)
        gauge = gauge if draw(st.booleans()) else np.eye(r)
        scale = 10.0 ** draw(st.sampled_from([0, 0, -60, 60, -120, 120]))
        A, B = pair(a, b, s, gauge, rng)
        pairs.append((scale * A, B * 10.0 ** draw(st.sampled_from([0, 0, -3, 6]))))
    return tuple(np.stack(part) for part in zip(*pairs, strict=True))


@given(stacks(), st.sampled_from(GAUGES))
def test_the_product_stays_and_the_pair_is_as_balanced_as_the_safe_projection_leaves_it(stack, gauge):
    A, B = stack
    X, Y = balance_stack(A, B, gauge=gauge)
    safe = balance(A, B, gauge=gauge)
    # at a scale of 1, where nothing underflows
    size_A, size_B = (np.abs(M).max(axis=(-2, -1), keepdims=True) for M in (A, B))
    root = np.sqrt(size_A) * np.sqrt(size_B)
    missed = norm((X / root) @ (Y / root) - (A / size_A) @ (B / size_B), axis=(-2, -1))
    assert (missed <= PRODUCT_RTOL * EPS * norm(A / size_A, axis=(-2, -1)) * norm(B / size_B, axis=(-2, -1))).all()

    def gap(P, Q):
        P, Q = P / root, Q / root
        return norm(P.mT @ P - Q @ Q.mT, axis=(-2, -1)) / (norm(P, axis=(-2, -1)) ** 2 + norm(Q, axis=(-2, -1)) ** 2)

    assert (gap(X, Y) <= gap(*safe) + balance_rtol(EPS, A.shape[-1])).all()


@pytest.mark.parametrize("gauge", GAUGES)
def test_it_is_the_same_pair_and_not_only_a_balanced_one(gauge):
    rng = np.random.default_rng(3)
    A, B = rng.standard_normal((50, 20, 4)), 1e-3 * rng.standard_normal((50, 4, 20))
    for ours, theirs in zip(balance_stack(A, B, gauge=gauge), balance(A, B, gauge=gauge), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    X, Y = balance_stack(*balance(A, B, gauge=gauge), gauge=gauge)  # P is idempotent
    np.testing.assert_allclose(X, balance(A, B, gauge=gauge)[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(Y, balance(A, B, gauge=gauge)[1], rtol=1e-9, atol=1e-12)


def test_hyperbalanced_pairs_are_diagonal_and_descending_and_keep_their_signs():
    rng = np.random.default_rng(4)
    X, Y = balance_stack(rng.standard_normal((30, 8, 3)), rng.standard_normal((30, 3, 7)))
    gram = X.mT @ X
    S = np.diagonal(gram, axis1=-2, axis2=-1)
    np.testing.assert_allclose(gram, S[..., None] * np.eye(3), atol=1e-13)
    assert (np.diff(S) < 0).all()
    again = balance_stack(X + 1e-6 * rng.standard_normal(X.shape), Y)
    assert (np.einsum("nki,nki->ni", again[0], X) > 0).all()


@pytest.fixture
def sent(monkeypatch):
    """The pairs that the safe projection is asked for."""
    asked = []

    def safe(A, B, **options):
        asked.extend(zip(A, B, strict=True))
        return balance(A, B, **options)

    monkeypatch.setattr(stacked_balance, "balance", safe)
    return asked


HARD = {
    "no product": lambda A, B: (0 * A, B),
    "no factors": lambda A, B: (0 * A, 0 * B),
    "dependent rows of B": lambda A, B: (A, B[[0, 0, 2]]),
    "almost dependent rows of B": lambda A, B: (A, B[[0, 0, 2]] + 1e-6 * B),
    "a small singular value": lambda A, B: (A * [1.0, 1.0, 1e-5], B),
    "very large": lambda A, B: (1e120 * A, B),
    "very small": lambda A, B: (A, 1e-120 * B),
    "squares that overflow": lambda A, B: (1e160 * A, 1e160 * B),
}


@pytest.mark.parametrize("kind", HARD)
def test_what_gram_matrices_cannot_do_goes_to_the_safe_projection_alone(kind, sent):
    rng = np.random.default_rng(5)
    A, B = rng.standard_normal((4, 9, 3)), rng.standard_normal((4, 3, 8))
    A[1], B[1] = HARD[kind](A[1], B[1])
    X, Y = balance_stack(A, B)
    assert len(sent) == 1
    np.testing.assert_array_equal(sent[0][0], A[1])
    np.testing.assert_array_equal(X[1], balance(A[1:2], B[1:2])[0][0])
    others = [0, 2, 3]
    alone = balance_stack(A[others], B[others])
    np.testing.assert_array_equal(X[others], alone[0])
    np.testing.assert_array_equal(Y[others], alone[1])


@pytest.mark.parametrize("scales", [(1e-8, 1.0), (1.0, 1e-8), (1e8, 1.0), (1.0, 1e8), (1e-9, 1e9)])
def test_what_is_safe_does_not_depend_on_the_scale(scales, sent):
    rng = np.random.default_rng(9)
    A, B = rng.standard_normal((6, 9, 3)), rng.standard_normal((6, 3, 8))
    A[3:, :, 2] *= 1e-5
    balance_stack(scales[0] * A, scales[1] * B)
    assert len(sent) == 3
    np.testing.assert_array_equal(np.stack([pair[0] for pair in sent]), scales[0] * A[3:])


def test_more_columns_than_rows_are_no_obstacle(sent):
    rng = np.random.default_rng(6)
    A, B = rng.standard_normal((3, 2, 4)), rng.standard_normal((3, 4, 9))
    X, Y = balance_stack(A, B)
    assert len(sent) == 3
    np.testing.assert_allclose(X @ Y, A @ B, atol=1e-13)


def test_pairs_between_steps_need_no_help(sent):
    rng = np.random.default_rng(7)
    A, B = balance(rng.standard_normal((40, 20, 4)), rng.standard_normal((40, 4, 20)))
    for _ in range(5):
        A, B = balance_stack(A + 0.1 * rng.standard_normal(A.shape), B + 0.1 * rng.standard_normal(B.shape))
    assert not sent


@pytest.mark.parametrize("r", [1, 2, 3, 5, 8, 13])
def test_the_triangular_inverse_for_every_rank(r):
    rng = np.random.default_rng(r)
    M = rng.standard_normal((6, r, 2 * r))
    L, inverse, determinant = stacked_balance._cholesky(M @ M.mT)
    np.testing.assert_allclose(L @ L.mT, M @ M.mT, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(inverse @ L, np.broadcast_to(np.eye(r), L.shape), atol=1e-9)
    scaled = M / norm(M, axis=-1, keepdims=True)
    np.testing.assert_allclose(determinant, np.linalg.det(scaled @ scaled.mT), rtol=1e-9)


def test_leading_dimensions_are_kept():
    rng = np.random.default_rng(8)
    A, B = rng.standard_normal((2, 3, 7, 2)), rng.standard_normal((2, 3, 2, 5))
    X, Y = balance_stack(A, B)
    assert (X.shape, Y.shape) == (A.shape, B.shape)
    np.testing.assert_array_equal(X[1, 2], balance_stack(A[1, 2:], B[1, 2:])[0][0])
