"""The gauge that gradients ask for: what it minimizes, that the given gauge does not matter, that it is safe."""

import numpy as np
import pytest
import torch
from array_api_compat import array_namespace
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakappa.conditioning import (
    GAUGES,
    NoOptimalGaugeError,
    balance,
    change_gauge,
    fisher_balance,
    fisher_gauge,
    optimal_gauge_from_traces,
    transport_second_moments,
)
from lorakappa.conditioning.fisher_gauge_by_gram import fisher_gauges
from lorakappa.conditioning.tolerances import EPS, PRODUCT_RTOL
from tests.strategies import orthogonal, pairs

DAMPINGS = (1e-3, 0.1, 1.0, 1e3, np.inf)


def problem(seed=0, a=7, b=6, r=3, leading=(), decades=1.0):
    """A pair and second moments of full rank, of graded sizes."""
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((*leading, a, r)), rng.standard_normal((*leading, r, b))
    roots = rng.standard_normal((2, *leading, r, r))
    F_A, F_B = roots * 10.0 ** rng.uniform(-decades, decades, (2, *(1,) * len(leading), 1, r))
    return A, B, F_A @ np.swapaxes(F_A, -1, -2), F_B @ np.swapaxes(F_B, -1, -2)


def moved_moments(G, H_A, H_B):
    """In the gauge (AG, G⁻¹B)."""
    inverse = np.linalg.inv(G)
    return inverse @ H_A @ inverse.T, G.T @ H_B @ G


def objective(A, B, H_A, H_B, damping):
    """The two sums of the module docstring, relative to those at balance, and what is minimized."""
    X, _ = balance(A, B, gauge="symmetric")
    T = np.linalg.lstsq(A, X, rcond=None)[0]
    at_balance = sum(map(np.trace, moved_moments(T, H_A, H_B)))
    f = (np.trace(H_A) + np.trace(H_B)) / at_balance
    g = (np.linalg.norm(A) ** 2 + np.linalg.norm(B) ** 2) / (2 * np.linalg.norm(A @ B, "nuc"))
    return f, g, f + damping * g


@pytest.mark.parametrize("gauge", GAUGES)
@pytest.mark.parametrize("damping", DAMPINGS)
def test_products_stay_damped_moments_meet_and_doing_it_again_changes_nothing(gauge, damping):
    A, B, H_A, H_B = problem(1)
    new = fisher_balance(A, B, H_A, H_B, damping=damping, gauge=gauge)
    size = np.linalg.norm(new.A) * np.linalg.norm(new.B)
    assert np.linalg.norm(new.A @ new.B - A @ B) <= PRODUCT_RTOL * EPS * size
    f = np.trace(H_A) + np.trace(H_B)
    share = 1 / (1 + damping)
    X, Y = balance(A, B)
    at_balance = fisher_balance(A, B, H_A, H_B, damping=np.inf, gauge="hyperbalanced")
    np.testing.assert_allclose(at_balance.A, X, atol=100 * EPS * size)
    f = np.trace(at_balance.H_A) + np.trace(at_balance.H_B)
    g = np.linalg.norm(X) ** 2 + np.linalg.norm(Y) ** 2
    M_A = share * new.H_A / f + (1 - share) * new.B @ new.B.T / g
    M_B = share * new.H_B / f + (1 - share) * new.A.T @ new.A / g
    np.testing.assert_allclose(M_A, M_B, atol=1e4 * EPS * np.abs(M_A).max())
    if gauge == "hyperbalanced":
        np.testing.assert_allclose(M_A, np.diag(np.sort(np.diag(M_A))[::-1]), atol=1e4 * EPS * np.abs(M_A).max())
    T, T_inv = fisher_gauge(*new, damping=damping, gauge=gauge)
    np.testing.assert_allclose(T, np.eye(3), atol=1e5 * EPS)
    np.testing.assert_allclose(T @ T_inv, np.eye(3), atol=1e4 * EPS)


@pytest.mark.parametrize("damping", DAMPINGS[:-1])
def test_no_other_gauge_has_a_smaller_sum_and_both_bounds_hold(damping):
    rng = np.random.default_rng(2)
    for seed in range(5):
        A, B, H_A, H_B = problem(seed)
        new = fisher_balance(A, B, H_A, H_B, damping=damping)
        f, g, smallest = objective(*new, damping)
        assert f <= 1 + 1e-9
        assert g <= 1 + 1 / damping + 1e-9
        assert objective(A, B, H_A, H_B, damping)[2] >= smallest * (1 - 1e-12)
        for size in (0.01, 1.0):
            G = np.eye(3) + size * rng.standard_normal((3, 3))
            other = (*change_gauge(new.A, new.B, G), *moved_moments(G, new.H_A, new.H_B))
            assert objective(*other, damping)[2] >= smallest * (1 - 1e-9)


def test_less_damping_is_a_smaller_trace_and_larger_factors():
    A, B, H_A, H_B = problem(3)
    found = [objective(*fisher_balance(A, B, H_A, H_B, damping=d), 0)[:2] for d in (0, 1e-3, 0.1, 1.0, 1e3, np.inf)]
    traces, norms = np.transpose(found)
    assert (np.diff(traces) > 0).all()
    assert (np.diff(norms) < 0).all()
    np.testing.assert_allclose((traces[-1], norms[-1]), 1.0, rtol=1e-12)


@pytest.mark.parametrize("damping", DAMPINGS)
def test_the_gauge_that_the_pair_was_given_in_does_not_matter(damping):
    A, B, H_A, H_B = problem(4)
    G = orthogonal(3, np.random.default_rng(5)) * np.array([4.0, 1.0, 0.1])
    new = fisher_balance(A, B, H_A, H_B, damping=damping, gauge="hyperbalanced")
    moved = *change_gauge(A, B, G), *moved_moments(G, H_A, H_B)
    other = fisher_balance(*moved, damping=damping, gauge="hyperbalanced")
    signs = np.sign(np.diag(new.A.T @ other.A))
    for one, two in zip(new, other, strict=True):
        left = signs if one.shape[0] == 3 else 1.0
        right = signs if one.shape[1] == 3 else 1.0
        np.testing.assert_allclose(two, np.reshape(left, (-1, 1)) * one * right, atol=1e5 * EPS * np.abs(one).max())


def test_sizes_of_the_loss_and_of_the_factors_do_not_matter():
    A, B, H_A, H_B = problem(6)
    T, _ = fisher_gauge(A, B, H_A, H_B)
    np.testing.assert_array_equal(fisher_gauge(A, B, 2.0**40 * H_A, 2.0**40 * H_B)[0], T)
    # g_A of a loss of AB is G·Bᵀ: when B grows 4 times, so does g_A, and balance asks for T twice as large
    np.testing.assert_allclose(fisher_gauge(A, 4 * B, 16 * H_A, H_B)[0], 2 * T, rtol=1e4 * EPS)


def test_without_damping_it_is_the_gauge_of_the_smallest_trace():
    for seed in range(20):
        A, B, H_A, H_B = problem(seed)
        best = optimal_gauge_from_traces(H_A, H_B)
        T, _ = fisher_gauge(A, B, H_A, H_B, damping=0)
        np.testing.assert_allclose(T, best.T, rtol=1e-9, atol=1e-9 * np.abs(T).max())
        new = fisher_balance(A, B, H_A, H_B, damping=0)
        np.testing.assert_allclose(np.trace(new.H_A) + np.trace(new.H_B), best.value, rtol=1e-9)
        np.testing.assert_allclose(new.H_A, new.H_B, atol=1e-9 * best.value)
        assert best.value <= np.trace(H_A) + np.trace(H_B)


def test_moments_are_transported_as_gradients_are():
    rng = np.random.default_rng(7)
    A, B, _, _ = problem(7)
    G, T = rng.standard_normal((20, 7, 6)), rng.standard_normal((3, 3))

    def moments(A, B):
        g_A, g_B = G @ B.T, A.T @ G
        return (g_A.mT @ g_A).mean(0), (g_B @ g_B.mT).mean(0)

    found = transport_second_moments(*moments(A, B), T, np.linalg.inv(T))
    for one, other in zip(found, moments(*change_gauge(A, B, T)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e4 * EPS, atol=1e4 * EPS * np.abs(other).max())


@pytest.mark.parametrize("gauge", GAUGES)
def test_stacks_are_their_pairs_and_torch_agrees(gauge):
    stack = problem(8, leading=(2, 3))
    new = fisher_balance(*stack, gauge=gauge)
    for index in np.ndindex(2, 3):
        one = fisher_balance(*(M[index] for M in stack), gauge=gauge)
        for whole, part in zip(new, one, strict=True):
            np.testing.assert_allclose(whole[index], part, rtol=1e4 * EPS, atol=1e4 * EPS * np.abs(part).max())
    tensors = fisher_balance(*map(torch.from_numpy, stack), gauge=gauge)
    for array, tensor in zip(new, tensors, strict=True):
        np.testing.assert_allclose(tensor.numpy(), array, rtol=1e5 * EPS, atol=1e5 * EPS * np.abs(array).max())


@settings(max_examples=40, deadline=None)
@given(pairs(), st.integers(0, 2**32 - 1), st.sampled_from([1e-3, 0.1, 1.0]), st.sampled_from(GAUGES))
def test_any_pair_and_moments_of_any_rank_keep_the_product_and_stay_bounded(pair, seed, damping, gauge):
    A, B = pair
    r, rng = A.shape[1], np.random.default_rng(seed)
    G = rng.standard_normal((int(rng.integers(0, 3)), *A.shape[:1], *B.shape[1:])) * 10.0 ** rng.uniform(-20, 20)
    g_A, g_B = G @ B.T, A.T @ G
    H_A, H_B = np.einsum("nai,naj->ij", g_A, g_A), np.einsum("nib,njb->ij", g_B, g_B)
    new = fisher_balance(A, B, H_A, H_B, damping=damping, gauge=gauge)
    given_size, size = (np.linalg.norm(P) * np.linalg.norm(Q) for P, Q in ((A, B), new[:2]))
    assert np.linalg.norm(new.A @ new.B - A @ B) <= PRODUCT_RTOL * EPS * max(size, given_size)
    assert all(np.isfinite(M).all() for M in new)
    live = np.linalg.matrix_rank(A @ B, tol=1e-13 * max(given_size, 1e-300)) == r
    if live:
        g = 2 * np.linalg.norm(A @ B, "nuc")
        assert np.linalg.norm(new.A) ** 2 + np.linalg.norm(new.B) ** 2 <= (1 + 1 / damping) * g * (1 + 1e-3)


def test_the_first_steps_of_lora_are_safe():
    A, B, H_A, _ = problem(9)
    zero = np.zeros((3, 3))
    for start in (fisher_balance(0 * A, B, H_A, zero), fisher_balance(0 * A, B, zero, zero)):
        np.testing.assert_array_equal(start.A, 0 * A)
        np.testing.assert_array_equal(start.B, B)
        np.testing.assert_array_equal(start.H_B, zero)
    # after the first step A is small, and H_B still 0
    X, Y = balance(1e-6 * A, B)
    new = fisher_balance(1e-6 * A, B, H_A, zero, damping=0.1)
    squares = np.linalg.norm(new.A) ** 2 + np.linalg.norm(new.B) ** 2
    assert squares <= 11 * (np.linalg.norm(X) ** 2 + np.linalg.norm(Y) ** 2) * (1 + 1e-9)
    assert np.linalg.norm(new.A) > np.linalg.norm(X)  # for g_A is all there is, and gets smaller
    np.testing.assert_allclose(fisher_balance(A, B, zero, zero).A, balance(A, B, gauge="symmetric")[0], rtol=100 * EPS)


def test_null_directions_are_carried_over_and_the_rest_is_as_without_them():
    A, B, H_A, H_B = problem(10)
    padded_A, padded_B = np.concatenate([A, 0 * A[:, :1]], 1), np.concatenate([B, np.ones((1, 6))], 0)
    moments = [np.zeros((4, 4)), np.zeros((4, 4))]
    for M, H in zip(moments, (H_A, H_B), strict=True):
        M[:3, :3] = H
    new = fisher_balance(padded_A, padded_B, *moments)
    T, T_inv = fisher_gauge(padded_A, padded_B, *moments)
    np.testing.assert_allclose(T @ T_inv, np.eye(4), atol=1e4 * EPS)
    np.testing.assert_allclose(new.A @ new.B, A @ B, atol=100 * EPS * np.abs(A @ B).max())
    alone = fisher_balance(A, B, H_A, H_B, gauge="hyperbalanced")
    with_null = fisher_balance(padded_A, padded_B, *moments, gauge="hyperbalanced")
    np.testing.assert_allclose(with_null.A[:, 0], 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(with_null.A[:, 1:]), np.abs(alone.A), rtol=1e-6)
    assert np.linalg.norm(with_null.B[0]) > 0.1  # so that A's direction can be learned again


def test_null_directions_are_not_scaled_where_there_is_no_damping():
    A, B, _, _ = problem(18)
    H_A, H_B = problem(18, r=4)[2:]
    padded_A, padded_B = np.concatenate([A, 0 * A[:, :1]], 1), np.concatenate([B, np.ones((1, 6))], 0)
    for scale in (1.0, 1e6):  # the live directions take it up
        T, T_inv = fisher_gauge(padded_A, padded_B, scale * H_A, H_B, damping=0)
        np.testing.assert_allclose(T @ T_inv, np.eye(4), atol=1e5 * EPS * np.linalg.norm(T) * np.linalg.norm(T_inv))
        np.testing.assert_allclose(padded_A @ T @ T_inv @ padded_B, A @ B, atol=1e4 * EPS * np.abs(A @ B).max())


@pytest.mark.parametrize("damping", [1e-3, 0.1])
@pytest.mark.parametrize("power", [-150, 150])
def test_graded_moments_and_factors_of_extreme_size(damping, power):
    A, B, H_A, H_B = problem(11)
    D = 10.0 ** np.array([power, 0, -power])
    for moments in ((np.diag(D**2), H_B), (H_A, D[:, None] * H_B * D), (np.diag(D), np.diag(1 / D))):
        new = fisher_balance(A, B, *moments, damping=damping)
        size = np.linalg.norm(new.A) * np.linalg.norm(new.B)
        assert np.linalg.norm(new.A @ new.B - A @ B) <= PRODUCT_RTOL * EPS * size
        assert size <= (1 + 1 / damping) * np.linalg.norm(A @ B, "nuc") * (1 + 1e-9)
    scale = 10.0**power
    T, _ = fisher_gauge(scale * A, B / scale, H_A / scale**2, H_B * scale**2, damping=damping)
    np.testing.assert_allclose(T * scale, fisher_gauge(A, B, H_A, H_B, damping=damping)[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_stored_types_keep_the_product_to_their_epsilon(dtype):
    A, B, H_A, H_B = (torch.from_numpy(M) for M in problem(12, a=40, b=30, r=4))
    A, B = A.to(dtype), B.to(dtype)
    new = fisher_balance(A, B, H_A.float(), H_B.float())
    assert new.A.dtype == new.B.dtype == dtype
    assert new.H_A.dtype == torch.float32
    product, size = A.double() @ B.double(), new.A.double().norm() * new.B.double().norm()
    assert float((new.A.double() @ new.B.double() - product).norm()) <= 16 * torch.finfo(dtype).eps * float(size)
    assert float((new.A - A).norm()) > 0.01


def test_what_a_type_cannot_hold_comes_back_with_its_moments():
    A, B, H_A, H_B = (torch.from_numpy(M) for M in problem(13))
    A, B = (A * 2.0**-20).half(), (B * 2.0**-20).half()
    new = fisher_balance(A, B, H_A, H_B)
    assert all(torch.equal(*both) for both in zip(new, (A, B, H_A, H_B), strict=True))
    assert not torch.equal(fisher_gauge(A, B, H_A, H_B)[0], torch.eye(3, dtype=torch.float64))


def test_bad_input_is_refused_by_name():
    A, B, H_A, H_B = problem(14)
    nan, wrong = H_A.copy(), H_B.copy()
    nan[1, 1], wrong[0, 1] = np.nan, 1e3
    for arguments, options, message in (
        ((A, B, nan, H_B), {}, "H_A contains NaN or infinity"),
        ((A, B, H_A, H_B * np.inf), {}, "H_B contains NaN or infinity"),
        ((A * np.nan, B, H_A, H_B), {}, "A or B contains NaN"),
        ((A, B, H_A, wrong), {}, "H_B is not symmetric"),
        ((A, B, -H_A, H_B), {}, "H_A is not positive semidefinite"),
        ((A, B, np.array([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]]), H_B), {}, "H_A is not positive semidefinite"),
        ((A, B, H_A[:2, :2], H_B), {}, r"H_A has shape \(2, 2\)"),
        ((A, B, H_A, H_B[None]), {}, r"H_B has shape \(1, 3, 3\)"),
        ((A, B, H_A, H_B), {"damping": -1}, "damping δ = -1.0 must not be negative"),
        ((A, B, H_A, H_B), {"damping": np.nan}, "must not be negative"),
        ((A, B, H_A, H_B), {"gauge": "best"}, "gauge must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            fisher_balance(*arguments, **options)
    for name, arguments in (("H_A", (A, B, torch.eye(3), H_B)), ("H_B", (A, B, H_A, np.eye(3, dtype=int)))):
        with pytest.raises(TypeError, match=f"{name} must be of real floating type"):
            fisher_balance(*arguments)
    with pytest.raises(TypeError, match="A requires grad"):
        fisher_balance(*(torch.from_numpy(M).requires_grad_() for M in (A, B, H_A, H_B)))
    with pytest.raises(TypeError, match="damping δ must be a real number"):
        fisher_balance(A, B, H_A, H_B, damping="0.1")


def test_without_damping_singular_moments_have_no_best_gauge():
    A, B, H_A, H_B = problem(15)
    F = np.ones((3, 1))
    for name, moments in (("H_A", (F @ F.T, H_B)), ("H_B", (H_A, np.zeros((3, 3))))):
        with pytest.raises(NoOptimalGaugeError, match=f"{name} is singular"):
            fisher_balance(A, B, *moments, damping=0)
    with pytest.raises(NoOptimalGaugeError, match="at balance, is singular"):
        fisher_balance(A, B, np.diag([1e150, 1, 1e-150]), np.diag([1e-150, 1, 1e150]), damping=0)
    start = fisher_balance(0 * A, B, H_A, np.zeros((3, 3)), damping=0)  # but AB = 0 asks for none
    np.testing.assert_array_equal(start.B, B)


def from_gram(A, B, H_A, H_B, dtype=np.float32, damping=0.1, gauge="symmetric"):
    """The fast route, for one stack of pairs."""
    G, H = np.stack([A.mT @ A, B @ B.mT], -3), np.stack([H_A, H_B], -3)
    entries, eps = A.shape[-2] * A.shape[-1] + B.shape[-2] * B.shape[-1], float(np.finfo(np.float32).eps)
    options = {"storage": np.finfo(dtype), "entries": entries, "eps": eps}
    with np.errstate(all="ignore"):
        return fisher_gauges(array_namespace(A), G, H, gauge, damping=damping, **options)


@pytest.mark.parametrize("gauge", GAUGES)
@pytest.mark.parametrize("damping", [1e-2, 0.1, np.inf])
def test_the_route_by_gram_matrices_finds_the_same_gauges(gauge, damping):
    stack = problem(16, a=9, b=8, leading=(20,))
    factors, safe = from_gram(*stack, damping=damping, gauge=gauge)
    assert safe.all()
    T, T_inv = fisher_gauge(*stack, damping=damping, gauge=gauge)
    size = np.abs(T).max()
    np.testing.assert_allclose(factors[:, 0], T, rtol=1e-7, atol=1e-7 * size)
    np.testing.assert_allclose(factors[:, 1].mT, T_inv, rtol=1e-7, atol=1e-7 * np.abs(T_inv).max())


def test_the_route_by_gram_matrices_knows_what_it_cannot_do():
    A, B, H_A, H_B = problem(17, leading=(8,))
    hostile = [M.copy() for M in (A, B, H_A, H_B)]
    hostile[2][0, 0, 0] = np.nan  # gradients that are not finite
    hostile[3][1] = np.inf
    hostile[0][2] = 0  # AB = 0
    hostile[0][3, :, 0] = hostile[0][3, :, 1] * (1 + 1e-9)  # null directions
    hostile[1][4] *= 1e30  # out of range
    hostile[0][5] *= 1e-5 ** np.arange(3)  # too ill-conditioned for single precision
    hostile[2][6], hostile[3][6] = 0, 0  # no gradient at all: balance
    factors, safe = from_gram(*hostile)
    assert safe.tolist() == [False] * 6 + [True] * 2
    np.testing.assert_array_equal(factors[~safe], np.broadcast_to(np.eye(3), (6, 2, 3, 3)))
    X, Y = balance(A[6], B[6], gauge="symmetric")
    np.testing.assert_allclose(A[6] @ factors[6, 0], X, atol=1e-6)
    np.testing.assert_allclose(factors[6, 1].T @ B[6], Y, atol=1e-6)
    # singular moments without damping
    assert not from_gram(A[:1], B[:1], np.ones((1, 3, 3)), np.eye(3)[None], damping=0)[1].any()


@pytest.mark.parametrize(("smallest", "expected"), [(0.08, True), (0.065, False), (1e-5, False)])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_route_by_gram_matrices_leaves_what_a_rounded_gauge_would_move_too_far(smallest, expected, transposed):
    """A = diag(1, ε), B = I: at balance the columns of T are 1 and ε^{-1/2}, and turned by 45° they meet both of Y.

    Then ‖A‖²Σ‖T_j‖²‖Y_j‖² = (1/ε + 2 + ε)/2 up to ε², to be at most 4‖A‖²‖B‖² = 8.
    """
    A, B = np.zeros((5, 2)), np.zeros((2, 4))
    A[:2], B[:, :2] = np.diag([1.0, smallest]), np.eye(2)
    to_balance = np.diag([1.0, smallest**-0.5])
    H = np.array([[1.0, 0.9], [0.9, 1.0]])
    H_A, H_B = to_balance @ H @ to_balance, np.linalg.inv(to_balance) @ H @ np.linalg.inv(to_balance)
    if transposed:
        A, B, H_A, H_B = B.T.copy(), A.T.copy(), H_B, H_A
    _, safe = from_gram(*(M[None] for M in (A, B, H_A, H_B)), damping=1e-6, gauge="hyperbalanced")
    assert safe.tolist() == [expected]
