"""P: product kept, balance reached, nothing lost, one code for NumPy and torch, every dtype."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorakappa.conditioning import GAUGES, balance, balancing_gap, change_gauge, is_balanced, is_hyperbalanced
from lorakappa.conditioning.projection_by_qr import _refinement, _stored
from lorakappa.conditioning.projection_gauges import subnormal_error
from lorakappa.conditioning.tolerances import EPS, rank_rtol
from tests.strategies import minimizers, orthogonal, pairs

every_gauge = pytest.mark.parametrize("gauge", GAUGES)


def product_error(X, Y, A, B):
    """Largest ‖XY − AB‖_F in units of eps·‖A‖_F‖B‖_F over a stack, products in extended precision."""
    X, Y, A, B = (np.asarray(M, dtype=np.longdouble) for M in (X, Y, A, B))
    norm = lambda M: np.sqrt((M * M).sum(axis=(-2, -1)))  # noqa: E731
    return float(np.max(norm(X @ Y - A @ B) / (EPS * norm(A) * norm(B) + np.finfo(np.longdouble).tiny)))


def near_singular_pairs(number, a, b, r, seed):
    """Pairs of every kind of trouble: graded columns, ill-conditioned gauges, dependent and vanishing directions."""
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((number, a, r)), rng.standard_normal((number, r, b))
    kind = rng.integers(0, 6, number)
    A[kind == 1] *= 10.0 ** rng.uniform(-16, 0, (np.sum(kind == 1), 1, r))
    B[kind == 1] *= 10.0 ** rng.uniform(-16, 0, (np.sum(kind == 1), r, 1))
    for i in np.flatnonzero(kind == 2):
        G = orthogonal(r, rng) * 10.0 ** rng.uniform(-6, 6, r) @ orthogonal(r, rng)
        A[i], B[i] = A[i] @ G, np.linalg.solve(G, B[i])
    A[kind == 3, :, -1] = A[kind == 3, :, 0] + 10.0 ** rng.uniform(-17, -6) * A[kind == 3, :, -1]
    B[kind == 4, -1] = 0
    A[kind == 5, :, -1] = 0
    B[kind == 5, 0] *= 1e-300
    return A, B


@every_gauge
@pytest.mark.parametrize(("a", "b", "r"), [(6, 5, 3), (20, 30, 8), (3, 2, 4), (1, 1, 1)])
def test_product_kept_on_ten_thousand_near_singular_pairs(a, b, r, gauge):
    A, B = near_singular_pairs(10_000, a, b, r, seed=r)
    X, Y = balance(A, B, gauge=gauge)
    assert np.isfinite(X).all()
    assert np.isfinite(Y).all()
    assert product_error(X, Y, A, B) <= 16


@every_gauge
def test_well_conditioned_pairs_keep_the_product_to_a_few_epsilons(gauge):
    # without the refinement step the tail of these reaches 8
    A, B = np.random.default_rng(0).standard_normal((2, 10_000, 4, 4))
    X, Y = balance(A[..., :3], B[..., :3, :], gauge=gauge)
    assert product_error(X, Y, A[..., :3], B[..., :3, :]) <= 5


def test_refinement_is_the_smallest_correction_and_keeps_the_balance():
    rng = np.random.default_rng(1)
    residual, root = rng.standard_normal((3, 4, 4)), rng.uniform(0.5, 2, (3, 4))
    root[2, 3] = 0  # a null direction
    residual[2, 3, 3] = 0
    dx, dy = _refinement(np, residual, root)
    for E, q, x, y in zip(residual, root, dx, dy, strict=True):
        np.testing.assert_allclose(np.diag(q) @ y + x @ np.diag(q), E, atol=1e-15)
        gram_x, gram_y = np.diag(q) @ x, y @ np.diag(q)
        np.testing.assert_allclose(gram_x + gram_x.T, gram_y + gram_y.T, atol=1e-15)
        # smallest: the pseudo-inverse of (dx, dy) ↦ dx·diag(q) + diag(q)·dy
        operator = np.hstack([np.kron(np.eye(4), np.diag(q)), np.kron(np.diag(q), np.eye(4))])
        smallest = np.linalg.pinv(operator) @ E.ravel()
        np.testing.assert_allclose(np.concatenate([x.ravel(), y.ravel()]), smallest, atol=1e-13)


@every_gauge
@given(minimizers())
def test_full_rank_products_are_balanced(gauge, problem):
    A, B = problem.A, problem.B
    X, Y = balance(A, B, gauge=gauge)
    assert product_error(X, Y, A, B) <= 16
    lost = np.linalg.norm(A) * np.linalg.norm(B) / problem.s[0]
    rtol = 64 * EPS * lost
    assert is_balanced(X, Y, rtol=rtol)
    assert is_hyperbalanced(*balance(A, B), rtol=rtol)
    s = np.linalg.svd(X, compute_uv=False) ** 2
    np.testing.assert_allclose(s, problem.s[: problem.r], rtol=0, atol=1e-13 * lost * problem.s[0])


@given(minimizers())
def test_hyperbalanced_gauge_is_the_svd_up_to_signs_and_idempotent(problem):
    X, Y = balance(problem.A, problem.B)
    s = (X * X).sum(axis=0)
    assert (np.diff(s) <= 1e-12 * s[0] * problem.condition).all()
    X2, Y2 = balance(X, Y)
    if problem.r == 1 or (-np.diff(s)).min() > 1e-3 * s[0]:
        np.testing.assert_allclose(X2, X, atol=1e-10 * np.linalg.norm(X))
        np.testing.assert_allclose(Y2, Y, atol=1e-10 * np.linalg.norm(Y))
        assert (np.diag(X.T @ problem.A + Y @ problem.B.T) >= 0).all()


def test_signs_follow_the_argument():
    A, B = np.diag([-2.0, 1.0, -0.5]), np.diag([-2.0, 1.0, -0.5])
    X, Y = balance(A, B)
    np.testing.assert_allclose(X, A, atol=1e-15)
    np.testing.assert_allclose(Y, B, atol=1e-15)


@every_gauge
@given(minimizers(largest=5))
def test_each_gauge_is_what_it_says(gauge, problem):
    A, B, r = problem.A, problem.B, problem.r
    X, Y = balance(A, B, gauge=gauge)
    T, *_ = np.linalg.lstsq(A, X, rcond=None)
    tolerance = 1e-10 * problem.condition
    np.testing.assert_allclose(A @ T, X, atol=tolerance * np.linalg.norm(X))
    np.testing.assert_allclose(T @ Y, B, atol=tolerance * np.linalg.norm(B))  # T⁻¹B = Y
    if gauge == "symmetric":
        np.testing.assert_allclose(T, T.T, atol=tolerance * np.linalg.norm(T))
        assert np.linalg.eigvalsh((T + T.T) / 2)[0] > 0
        # T² = (AᵀA)⁻¹ # (BBᵀ) is the positive solution of T²(AᵀA)T² = BBᵀ
        S = T @ T
        np.testing.assert_allclose(S @ A.T @ A @ S, B @ B.T, atol=tolerance * np.linalg.norm(B) ** 2)
    if gauge == "nearest":
        rng = np.random.default_rng(0)

        def distance(P, Q):
            return np.linalg.norm(P - A) ** 2 + np.linalg.norm(Q - B) ** 2

        for Q in [np.eye(r), -np.eye(r), *(orthogonal(r, rng) for _ in range(5))]:
            assert distance(X, Y) <= distance(X @ Q, Q.T @ Y) * (1 + tolerance)
        # first-order condition of the Procrustes problem: XᵀA + YBᵀ is symmetric positive semidefinite
        overlap = X.T @ A + Y @ B.T
        np.testing.assert_allclose(overlap, overlap.T, atol=tolerance * np.linalg.norm(overlap))


def test_nearest_and_symmetric_leave_balanced_pairs_alone():
    rng = np.random.default_rng(1)
    Q = orthogonal(3, rng)
    root = np.diag([2.0, 1.0, 0.5])
    A, B = orthogonal(5, rng)[:, :3] @ root @ Q, Q.T @ root @ orthogonal(4, rng)[:3]
    for gauge in ("nearest", "symmetric"):
        X, Y = balance(A, B, gauge=gauge)
        np.testing.assert_allclose(X, A, atol=1e-14)
        np.testing.assert_allclose(Y, B, atol=1e-14)
    assert np.linalg.norm(balance(A, B)[0] - A) > 0.1


@given(minimizers(largest=5))
def test_projection_removes_the_gauge(problem):
    R = orthogonal(problem.r, np.random.default_rng(0)) * np.linspace(0.5, 2, problem.r)
    X, Y = balance(problem.A, problem.B)
    X2, Y2 = balance(*change_gauge(problem.A, problem.B, R))
    scale = problem.s[0] * 1e-10 * problem.condition
    np.testing.assert_allclose(X @ X.T, X2 @ X2.T, atol=scale)  # free of signs and rotations
    np.testing.assert_allclose(Y.T @ Y, Y2.T @ Y2, atol=scale)


# --- rank-deficient products -------------------------------------------------------------------------


@every_gauge
@pytest.mark.parametrize("zero", ["A", "B", "both", "orthogonal"])
def test_zero_product_is_returned_unchanged(gauge, zero):
    rng = np.random.default_rng(2)
    A, B = rng.standard_normal((4, 2)), rng.standard_normal((2, 3))
    if zero in ("A", "both"):
        A[:] = 0
    if zero in ("B", "both"):
        B[:] = 0
    if zero == "orthogonal":
        A[:, 1], B[0] = 0, 0
    X, Y = balance(A, B, gauge=gauge)
    np.testing.assert_array_equal(X, A)
    np.testing.assert_array_equal(Y, B)
    assert X is not A


@every_gauge
def test_warm_up_stays_alive(gauge):
    """LoRA start B = 0, two steps at learning rate 0, then real steps: the loss falls as it does without."""
    rng = np.random.default_rng(3)
    A, B, Z = rng.standard_normal((6, 2)), np.zeros((2, 5)), rng.standard_normal((6, 5))
    losses = []
    for step in (0.0, 0.0, *[0.05] * 60):
        residual = A @ B - Z
        A, B = A - step * residual @ B.T, B - step * A.T @ residual
        A, B = balance(A, B, gauge=gauge)
        losses.append(np.linalg.norm(A @ B - Z) ** 2 / 2)
    s = np.linalg.svd(Z, compute_uv=False)
    assert losses[1] == losses[0]
    assert losses[-1] - (s[2:] ** 2).sum() / 2 < 1e-2 * losses[0]


@every_gauge
@given(st.data())
def test_no_direction_is_lost_when_singular_values_vanish(gauge, data):
    A, B = data.draw(pairs(decades=2.0))
    X, Y = balance(A, B, gauge=gauge)
    assert product_error(X, Y, A, B) <= 16
    for before, after in ((A, X), (B, Y)):
        assert np.linalg.matrix_rank(after, rtol=1e-10) == np.linalg.matrix_rank(before, rtol=1e-10)


@every_gauge
def test_one_null_direction_is_carried_over_and_the_rest_balanced(gauge):
    rng = np.random.default_rng(4)
    A, B = rng.standard_normal((8, 3)), rng.standard_normal((3, 7))
    B[2] = B[0] - 2 * B[1]  # rank 2, with A of rank 3
    X, Y = balance(A, B, gauge=gauge)
    assert product_error(X, Y, A, B) <= 16
    assert np.linalg.matrix_rank(X) == 3
    s = np.linalg.svd(A @ B, compute_uv=False)
    U, _, Vt = np.linalg.svd(A @ B)
    # on the live subspaces the Gram matrices agree with S
    np.testing.assert_allclose(np.linalg.eigvalsh(Y @ Y.T)[1:], s[:2][::-1], rtol=1e-12)
    np.testing.assert_allclose(U[:, :2].T @ X @ X.T @ U[:, :2], np.diag(s[:2]), atol=1e-12 * s[0])
    np.testing.assert_allclose(Vt[2:] @ Y.T, 0, atol=1e-12)
    # the carried direction has the scale that the scalar balance of the pair gives it
    carried = np.linalg.svd(X - U[:, :2] @ U[:, :2].T @ X, compute_uv=False)[0]
    expected = np.sqrt(np.linalg.norm(B, 2) / np.linalg.norm(A, 2)) * np.linalg.norm(A, 2)
    assert 0.05 * expected < carried < 5 * expected


@every_gauge
def test_rank_deficient_pairs_are_moved_by_an_invertible_gauge_too(gauge):
    rng = np.random.default_rng(8)
    A, B = rng.standard_normal((8, 4)), rng.standard_normal((4, 7))
    B[2:] = rng.standard_normal((2, 2)) @ B[:2]  # AB has rank 2, A rank 4
    X, Y = balance(A, B, gauge=gauge)
    T = np.linalg.lstsq(A, X, rcond=None)[0]
    np.testing.assert_allclose(A @ T, X, atol=1e-13)
    np.testing.assert_allclose(T @ Y, B, atol=1e-13)
    if gauge == "symmetric":
        np.testing.assert_allclose(T, T.T, atol=1e-13)
        assert np.linalg.eigvalsh(T)[0] > 0
    if gauge == "nearest":
        overlap = X.T @ A + Y @ B.T
        np.testing.assert_allclose(overlap, overlap.T, atol=1e-12)


@every_gauge
@pytest.mark.parametrize("seed", range(4))
def test_null_directions_of_both_factors_are_moved_by_one_and_the_same_gauge(gauge, seed):
    rng = np.random.default_rng(seed)
    core = orthogonal(7, rng) * np.linspace(0.5, 2, 7) @ orthogonal(7, rng)
    # AB has rank 2; three directions live in A alone and two in B alone
    in_A, in_B = np.array([1.0, 0.8, 0.6, 0.9, 0.5, 0, 0]), np.array([0.9, 0.5, 0, 0, 0, 0.7, 1.1])
    A = orthogonal(9, rng)[:, :7] * in_A @ core
    B = np.linalg.solve(core, in_B[:, None] * orthogonal(8, rng)[:7])
    for left, right in ((A, B), (B.T.copy(), A.T.copy())):
        X, Y = balance(left, right, gauge=gauge)
        assert not np.array_equal(X, left)  # moved, not given up
        # some T has both X = AT and TY = B: the linear system for vec T is consistent
        system = np.vstack([np.kron(left, np.eye(7)), np.kron(np.eye(7), Y.T)])
        wanted = np.concatenate([X.ravel(), right.ravel()])
        vec_T = np.linalg.lstsq(system, wanted, rcond=1e-10)[0]
        np.testing.assert_allclose(system @ vec_T, wanted, atol=1e-12)
        for before, after in ((left, X), (right, Y)):
            assert np.linalg.matrix_rank(after, rtol=1e-10) == np.linalg.matrix_rank(before, rtol=1e-10)


def test_tiny_products_are_still_balanced_when_they_are_numerically_there():
    A, B = np.diag([1.0, 1.0]), np.diag([1.0, 1e-10])
    X, _ = balance(A, B)
    np.testing.assert_allclose(np.diag(X), [1.0, 1e-5], rtol=1e-5)
    below = rank_rtol(EPS, 2) / 2
    X, _ = balance(A, np.diag([1.0, below]))
    np.testing.assert_allclose(X, A, atol=1e-15)  # below the threshold: the direction keeps its size


def test_massive_cancellation_with_a_null_direction_leaves_the_pair_alone():
    e = 1e-9
    A = np.array([[1.0, 1.0, 0], [0, e, 0], [0, 0, 1.0]])
    B = np.array([[1.0, 0, 0], [-1.0, e, 0], [0, 0, 0]])
    X, Y = balance(A, B)
    assert product_error(X, Y, A, B) <= 16
    assert np.linalg.matrix_rank(X) == np.linalg.matrix_rank(A)


# --- shapes, libraries, dtypes ----------------------------------------------------------------------


@every_gauge
def test_batches_equal_loops(gauge):
    A, B = near_singular_pairs(60, 7, 5, 3, seed=9)
    A, B = A.reshape(3, 20, 7, 3), B.reshape(3, 20, 3, 5)
    X, Y = balance(A, B, gauge=gauge)
    for index in np.ndindex(3, 20):
        x, y = balance(A[index], B[index], gauge=gauge)
        np.testing.assert_allclose(X[index], x, atol=1e-12 * np.abs(x).max())
        np.testing.assert_allclose(Y[index], y, atol=1e-12 * np.abs(y).max())


@every_gauge
@pytest.mark.parametrize("vanish", [False, True])
def test_torch_equals_numpy(gauge, vanish):
    rng = np.random.default_rng(5)
    A, B = rng.standard_normal((4, 9, 3)), rng.standard_normal((4, 3, 6))
    if vanish:
        B[1], B[2, 1] = 0, 0
    X, Y = balance(A, B, gauge=gauge)
    X_t, Y_t = balance(torch.from_numpy(A), torch.from_numpy(B), gauge=gauge)
    assert isinstance(X_t, torch.Tensor)
    if vanish and gauge == "hyperbalanced":  # bases of null spaces are LAPACK's choice: compare invariants
        X, Y, X_t, Y_t = X @ X.mT, Y.mT @ Y, X_t @ X_t.mT, Y_t.mT @ Y_t
    np.testing.assert_allclose(X_t.numpy(), X, atol=1e-12)
    np.testing.assert_allclose(Y_t.numpy(), Y, atol=1e-12)


@every_gauge
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_keeps_the_product_and_balances_to_its_own_precision(gauge, dtype):
    torch.manual_seed(0)
    A, B = torch.randn(5, 40, 4).to(dtype), (0.1 * torch.randn(5, 4, 30)).to(dtype)
    X, Y = balance(A, B, gauge=gauge)
    assert X.dtype == Y.dtype == dtype
    eps = torch.finfo(dtype).eps
    A, B, X, Y = (M.double().numpy() for M in (A, B, X, Y))
    assert product_error(X, Y, A, B) * EPS <= 16 * eps
    assert max(balancing_gap(x, y) / np.linalg.norm(x) ** 2 for x, y in zip(X, Y, strict=True)) <= 16 * eps


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_numpy_half_and_single(dtype):
    rng = np.random.default_rng(6)
    A, B = rng.standard_normal((9, 2)).astype(dtype), rng.standard_normal((2, 8)).astype(dtype)
    X, Y = balance(A, B)
    assert X.dtype == Y.dtype == dtype
    assert is_balanced(X, Y)
    assert is_hyperbalanced(X, Y)
    assert not is_balanced(A, B)


def test_rank_beyond_the_matrix_is_balanced_on_what_is_there():
    rng = np.random.default_rng(7)
    A, B = rng.standard_normal((2, 5)), rng.standard_normal((5, 3))
    X, Y = balance(A, B)
    assert X.shape == A.shape
    assert Y.shape == B.shape
    assert product_error(X, Y, A, B) <= 16
    s = np.linalg.svd(A @ B, compute_uv=False)
    np.testing.assert_allclose(np.linalg.svd(X, compute_uv=False), np.sqrt(s), rtol=1e-12)


def test_inputs_are_not_modified_and_gradients_flow():
    A, B = torch.randn(4, 2, dtype=torch.float64, requires_grad=True), torch.randn(2, 3, dtype=torch.float64)
    kept = A.detach().clone(), B.clone()
    X, Y = balance(A, B)
    (X @ Y).sum().backward()
    torch.testing.assert_close(A.grad, B.sum(dim=1).expand(4, 2))  # XY = AB, so the gradient is that of AB
    torch.testing.assert_close(A.detach(), kept[0])
    torch.testing.assert_close(B, kept[1])


def test_bad_input_is_named():
    A, B = np.ones((3, 2)), np.ones((2, 4))
    with pytest.raises(ValueError, match="gauge must be one of hyperbalanced, nearest, symmetric"):
        balance(A, B, gauge="polar")
    with pytest.raises(ValueError, match="PEFT stores them the other way round"):
        balance(B, A)
    with pytest.raises(ValueError, match="different leading dimensions"):
        balance(A[None], np.stack([B, B]))
    with pytest.raises(ValueError, match="must be matrices or stacks"):
        balance(A[0], B)
    with pytest.raises(ValueError, match="must not be empty"):
        balance(A[:0], B)
    with pytest.raises(TypeError, match="share one real floating dtype"):
        balance(A.astype(np.float32), B)
    with pytest.raises(TypeError, match="share one real floating dtype"):
        balance(A.astype(int), B.astype(int))
    with pytest.raises(TypeError, match="both be NumPy arrays or both torch tensors"):
        balance(A, torch.ones(2, 4))
    with pytest.raises(TypeError, match="both be NumPy arrays or both torch tensors"):
        balance(A.tolist(), B.tolist())
    for bad in (np.nan, np.inf):
        A_bad = A.copy()
        A_bad[1, 1] = bad
        with pytest.raises(ValueError, match="contains NaN or infinity; nothing was balanced"):
            balance(A_bad, B)
        with pytest.raises(ValueError, match="contains NaN or infinity"):
            balance(B.T, A_bad.T)


@every_gauge
@pytest.mark.parametrize("exponents", [(150, 150), (-150, -150), (200, -200), (-90, 120), (-160, -150)])
def test_scale_does_not_matter(gauge, exponents):
    rng = np.random.default_rng(10)
    A, B = rng.standard_normal((6, 3)), rng.standard_normal((3, 5))
    X, Y = balance(A, B, gauge=gauge)
    p, q = exponents
    X2, Y2 = balance(A * 10.0**p, B * 10.0**q, gauge=gauge)
    size = 10.0 ** ((p + q) / 2)
    assert is_balanced(X2, Y2)
    if gauge != "nearest":  # which pair is nearest depends on the scales
        np.testing.assert_allclose(X2 / size, X, atol=1e-13)
        np.testing.assert_allclose(Y2 / size, Y, atol=1e-13)
    np.testing.assert_allclose((X2 / size) @ (Y2 / size), A @ B, atol=1e-14)


def test_storing_below_the_normal_numbers_is_allowed_as_far_as_the_product_may_move():
    limits = np.finfo(np.float32)
    X, Y, size = np.ones((3, 9, 2), np.float32), np.ones((3, 2, 4), np.float32), np.array([1.0, 0.5, 1.0])
    norm_X, norm_Y = np.array([5.0, 5.0, 5.0]), np.array([7.0, 7.0, 7.0])
    moved = subnormal_error(limits, 18) * 7.0 + subnormal_error(limits, 8) * 5.0  # entries of X, and of Y
    for share, expected in ((1.01, [True, False, True]), (2.02, [True, True, True]), (0.99, [False, False, False])):
        found = _stored(np, (X, norm_X), (Y, norm_Y), size, np.full(3, share * moved))
        assert found.tolist() == expected
    X[2, 0, 0] = np.inf  # what overflowed when it was stored
    norm_X[2] = 2 * float(limits.max)
    assert _stored(np, (X, norm_X), (Y, norm_Y), size, np.full(3, np.inf)).tolist() == [True, True, False]
