"""The penalty of the rival: exact gradient, the paper's update, when it is stable, one code for NumPy and torch."""

import numpy as np
import pytest
import torch

from lorakappa.conditioning import (
    imbalance,
    imbalance_penalty,
    paper_ratio,
    penalty_gradient,
    penalty_step,
    stable_penalty_step,
    trained_penalty_step,
)
from tests.strategies import orthogonal

RATIOS = (1.0, 0.25, 3.0)
every_ratio = pytest.mark.parametrize("ratio", RATIOS)


def pair(seed=0, a=5, b=4, r=3, leading=()):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*leading, a, r)), rng.standard_normal((*leading, r, b))


def proportional(ratio, seed=0, top=2.0):
    """A pair with BBᵀ = ratio·AᵀA and σ₁(B)² = top."""
    rng = np.random.default_rng(seed)
    Q, root = orthogonal(3, rng), np.sqrt(top * np.array([1.0, 0.5, 0.1]))
    B = Q * root @ orthogonal(4, rng)[:3]
    return orthogonal(5, rng)[:, :3] * root @ Q.T / ratio**0.5, B


@every_ratio
def test_imbalance_and_penalty_entry_by_entry(ratio):
    A, B = pair()
    D = imbalance(A, B, ratio)
    for i in range(3):
        for j in range(3):
            assert D[i, j] == pytest.approx(sum(B[i] * B[j]) - ratio * sum(A[:, i] * A[:, j]))
    assert imbalance_penalty(A, B, ratio) == pytest.approx(sum(d * d for d in D.ravel()))


def test_the_default_ratio_is_balance():
    A, B = pair()
    np.testing.assert_array_equal(imbalance(A, B), imbalance(A, B, 1.0))
    assert imbalance_penalty(A, B) == imbalance_penalty(A, B, 1.0)
    for default, given in zip(penalty_gradient(A, B), penalty_gradient(A, B, 1.0), strict=True):
        np.testing.assert_array_equal(default, given)
    for default, given in zip(penalty_step(A, B, step=0.1), penalty_step(A, B, step=0.1, ratio=1.0), strict=True):
        np.testing.assert_array_equal(default, given)
    assert stable_penalty_step(A, B) == stable_penalty_step(A, B, 1.0)


@every_ratio
def test_gradient_by_differences_of_the_penalty(ratio):
    A, B = pair(1)
    g_A, g_B = penalty_gradient(A, B, ratio)
    h = 0.1  # the penalty has degree 4, for which the five-point difference is exact
    for M, g in ((A, g_A), (B, g_B)):
        for index in np.ndindex(M.shape):
            values, kept = {}, M[index]
            for k in (-2, -1, 1, 2):
                M[index] = kept + k * h
                values[k] = imbalance_penalty(A, B, ratio)
            M[index] = kept
            slope = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h)
            assert g[index] == pytest.approx(slope, rel=1e-9, abs=1e-9)


@every_ratio
def test_the_update_is_a_gradient_step_on_a_quarter_of_the_penalty(ratio):
    A, B = pair(2)
    X, Y = penalty_step(A, B, step=0.01, ratio=ratio)
    g_A, g_B = penalty_gradient(A, B, ratio)
    np.testing.assert_allclose(X, A - 0.01 / 4 * g_A, atol=1e-14)
    np.testing.assert_allclose(Y, B - 0.01 / 4 * g_B, atol=1e-14)


@every_ratio
def test_the_update_in_the_letters_of_the_paper(ratio):
    A, B = pair(3)
    eta_lambda = 0.02
    B_i, A_i = A, B
    gap = A_i @ A_i.T - ratio * B_i.T @ B_i
    X, Y = penalty_step(A, B, step=eta_lambda, ratio=ratio)
    np.testing.assert_allclose(Y, A_i - eta_lambda * gap @ A_i, atol=1e-15)
    np.testing.assert_allclose(X, B_i + eta_lambda * ratio * B_i @ gap, atol=1e-15)


@every_ratio
def test_what_the_update_does_to_the_product(ratio):
    A, B = pair(4)
    D, step = imbalance(A, B, ratio), 0.03
    X, Y = penalty_step(A, B, step=step, ratio=ratio)
    expected = -step * (1 - ratio) * A @ D @ B - step**2 * ratio * A @ D @ D @ B
    np.testing.assert_allclose(X @ Y - A @ B, expected, atol=1e-13)
    assert np.linalg.norm(expected) > 1e-3


@every_ratio
def test_reading_the_listing_in_sequence_differs_by_what_is_said(ratio):
    A, B = pair(5)
    D, gram = imbalance(A, B, ratio), B @ B.T
    differences = []
    for step in (1e-3, 1e-4):
        X, Y = penalty_step(A, B, step=step, ratio=ratio)
        in_sequence = A + step * ratio * A @ imbalance(A, Y, ratio)
        differences.append((in_sequence - X) / step**2)
    expected = -ratio * A @ (D @ gram + gram @ D)
    np.testing.assert_allclose(differences[1], expected, rtol=0, atol=2e-2 * np.abs(expected).max())
    errors = [np.linalg.norm(d - expected) for d in differences]
    assert errors[1] < 0.2 * errors[0]


@every_ratio
def test_repeated_steps_reach_the_ratio(ratio):
    A, B = pair(6)
    for _ in range(3000):
        A, B = penalty_step(A, B, step=stable_penalty_step(A, B, ratio), ratio=ratio)
    np.testing.assert_allclose(B @ B.T, ratio * A.T @ A, atol=1e-8 * np.linalg.norm(B) ** 2)


# --- stability ------------------------------------------------------------------------------------------


def largest_scale(A, B, ratio):
    return np.maximum(np.linalg.norm(B, 2, axis=(-2, -1)) ** 2, ratio * np.linalg.norm(A, 2, axis=(-2, -1)) ** 2)


def test_up_to_the_stable_step_neither_scale_nor_penalty_grow():
    rng = np.random.default_rng(7)
    for ratio in (1e-3, 0.1, 1.0, 2.0, 50.0):
        A, B = pair(8, leading=(500,))
        A, B = A * 10.0 ** rng.uniform(-2, 1, (500, 1, 3)), B * 10.0 ** rng.uniform(-2, 1, (500, 3, 1))
        step = stable_penalty_step(A, B, ratio)
        scale, penalty = largest_scale(A, B, ratio), imbalance_penalty(A, B, ratio)
        for fraction in (1.0, 0.5, 0.1):
            X, Y = A, B
            last = penalty
            for _ in range(5):
                X, Y = penalty_step(X, Y, step=fraction * step, ratio=ratio)
                now = imbalance_penalty(X, Y, ratio)
                assert (largest_scale(X, Y, ratio) <= scale * (1 + 1e-12)).all()
                assert (now <= last).all()
                last = now


def test_the_stable_step_by_hand():
    # σ₁(B)² = 4; ratio·σ₁(A)² = 9, 36
    A, B = np.diag([3.0, 1.0]), np.diag([1.0, 2.0])
    assert stable_penalty_step(A, B, 1.0) == pytest.approx(1 / 27)
    assert stable_penalty_step(A, B, 4.0) == pytest.approx(1 / (3 * 4 * 36))
    assert stable_penalty_step(A, B, 0.25) == pytest.approx(1 / (3 * 4))


@every_ratio
def test_beyond_three_times_the_stable_step_the_solutions_repel(ratio):
    A, B = proportional(ratio)
    np.testing.assert_allclose(imbalance(A, B, ratio), 0, atol=1e-14)
    limit = 1 / ((1 + ratio) * 2.0)
    assert stable_penalty_step(A, B, ratio) <= limit <= 3 * stable_penalty_step(A, B, ratio)
    top = np.linalg.svd(B)[0][:, :1]
    near = B + 1e-6 * top @ top.T @ B
    before = imbalance_penalty(A, near, ratio)
    assert imbalance_penalty(*penalty_step(A, near, step=1.01 * limit, ratio=ratio), ratio) > before
    assert imbalance_penalty(*penalty_step(A, near, step=0.99 * limit, ratio=ratio), ratio) < before


def test_growth_is_allowed_and_overflow_is_not():
    A, B = np.full((2, 1), 1e60), np.full((1, 2), 1e-3)
    X, Y = penalty_step(A, B, step=1.0)
    assert np.abs(X).max() > 1e170
    assert np.isfinite(Y).all()
    for large_A, large_B in ((X, B), (B.T, X.T)):
        with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"NaN or infinity.*stable_penalty_step"):
            penalty_step(large_A, large_B, step=1.0)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_factors_that_are_not_finite_are_refused(which, bad):
    factors = pair()
    factors[which][0, 0] = bad
    with np.errstate(all="ignore"):
        with pytest.raises(ValueError, match="NaN or infinity"):
            penalty_step(*factors, step=0.1)
        with pytest.raises(ValueError, match="no step is stable"):
            stable_penalty_step(*factors)


def test_nothing_moves_a_pair_of_zeros():
    A, B = np.zeros((3, 2)), np.zeros((2, 4))
    assert stable_penalty_step(A, B) == np.inf
    for moved in penalty_step(A, B, step=1e6):
        assert not moved.any()


# --- arrays ---------------------------------------------------------------------------------------------


def calls(A, B, ratio, step):
    return [
        imbalance(A, B, ratio),
        imbalance_penalty(A, B, ratio),
        *penalty_gradient(A, B, ratio),
        *penalty_step(A, B, step=step, ratio=ratio),
        stable_penalty_step(A, B, ratio),
    ]


def test_stacks_are_treated_one_by_one():
    A, B = pair(9, leading=(2, 3))
    steps = np.linspace(0.01, 0.06, 6).reshape(2, 3)
    together = calls(A, B, 0.4, steps)
    for i in range(2):
        for j in range(3):
            for stack, single in zip(together, calls(A[i, j], B[i, j], 0.4, steps[i, j]), strict=True):
                np.testing.assert_allclose(stack[i, j], single, rtol=1e-13, atol=1e-13)
    rows = penalty_step(A, B, step=steps[:, :1], ratio=0.4)[0]
    np.testing.assert_allclose(rows[1, 2], penalty_step(A[1, 2], B[1, 2], step=steps[1, 0], ratio=0.4)[0], rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_numpy_keeps_its_dtype(dtype):
    A, B = (M.astype(dtype) for M in pair(10))
    exact = calls(A.astype(float), B.astype(float), 0.4, 0.01)
    for index, (found, expected) in enumerate(zip(calls(A, B, 0.4, 0.01), exact, strict=True)):
        # only the stable step, the last one, is not for storing beside the factors
        assert found.dtype == (dtype if index < len(exact) - 1 else np.promote_types(dtype, np.float32))
        np.testing.assert_allclose(found, expected, rtol=0, atol=8 * np.finfo(dtype).eps * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_torch_gives_what_numpy_gives(dtype):
    A, B = (torch.tensor(M).to(dtype) for M in pair(11, leading=(2,)))
    exact = calls(A.double().numpy(), B.double().numpy(), 0.4, 0.01)
    found = calls(A, B, 0.4, 0.01)
    for tensor, expected in zip(found, exact, strict=True):
        assert isinstance(tensor, torch.Tensor)
        atol = 4 * torch.finfo(dtype).eps * np.abs(expected).max()
        np.testing.assert_allclose(tensor.double().numpy(), expected, rtol=0, atol=atol)
    assert all(tensor.dtype == dtype for tensor in found[:-1])
    assert found[-1].dtype == torch.promote_types(dtype, torch.float32)


def test_half_precision_is_calculated_in_single():
    # 300² does not fit into float16, and the difference of the Gram matrices is lost in bfloat16
    A, B = torch.full((1, 1), 300.0, dtype=torch.float16), torch.full((1, 1), 301.0, dtype=torch.float16)
    assert imbalance(A, B).item() == pytest.approx(601, rel=1e-3)
    X, Y = penalty_step(A, B, step=1e-6)
    assert (X.item(), Y.item()) == pytest.approx((300.18, 300.82), abs=0.15)
    A, B = torch.full((1, 1), 1.0, dtype=torch.bfloat16), torch.full((1, 1), 1.0078125, dtype=torch.bfloat16)
    assert imbalance(A, B).item() == pytest.approx(1.0078125**2 - 1, rel=4e-3)


def test_steps_may_be_tensors():
    A, B = (torch.tensor(M) for M in pair(12, leading=(2,)))
    steps = torch.tensor([0.01, 0.02], dtype=torch.float64)
    X, _ = penalty_step(A, B, step=steps)
    torch.testing.assert_close(X[1], penalty_step(A[1], B[1], step=0.02)[0])


def test_the_arguments_are_left_alone():
    A, B = pair(13)
    kept = A.copy(), B.copy()
    for moved in penalty_step(A, B, step=0.0):
        assert not any(np.shares_memory(moved, M) for M in (A, B))
    calls(A, B, 0.4, 0.1)
    np.testing.assert_array_equal(A, kept[0])
    np.testing.assert_array_equal(B, kept[1])


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-1e-9, np.nan, np.inf, np.array([0.1, -0.1])])
def test_bad_steps(step):
    A, B = pair(leading=(2,))
    with pytest.raises(ValueError, match=r"step = .* must be finite and not negative"):
        penalty_step(A, B, step=step)


@pytest.mark.parametrize("ratio", [0.0, -1.0, np.nan, np.inf])
def test_bad_ratios(ratio):
    A, B = pair()
    for call in (imbalance, imbalance_penalty, penalty_gradient, stable_penalty_step):
        with pytest.raises(ValueError, match="must be positive and finite"):
            call(A, B, ratio)
    with pytest.raises(ValueError, match="must be positive and finite"):
        penalty_step(A, B, step=0.1, ratio=ratio)


def test_bad_arrays():
    A, B = pair()
    with pytest.raises(ValueError, match="do not share an inner dimension"):
        imbalance(A, B[:2])
    with pytest.raises(ValueError, match="different leading dimensions"):
        imbalance(A[None], B)
    with pytest.raises(ValueError, match="must not be empty"):
        imbalance(A[:0], B)
    with pytest.raises(TypeError, match="both be NumPy arrays or both torch tensors"):
        imbalance(A, torch.tensor(B))
    with pytest.raises(TypeError, match="one real floating dtype"):
        imbalance(A, B.astype(np.float32))
    with pytest.raises(TypeError, match="one real floating dtype"):
        imbalance(A.astype(int), B.astype(int))


def test_the_ratio_of_the_paper():
    assert paper_ratio(4096, 8) == 8 / 4096
    assert paper_ratio(16, 4, factor=3.0) == 0.75
    assert paper_ratio(16, 4, power=0.5) == 0.5
    assert paper_ratio(16, 4, power=-1) == 4
    assert paper_ratio(16, 4, power=0.0) == 1
    assert paper_ratio(5, 5) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": 4, "r": 0}, "rank r = 0 must lie between 1 and a = 4"),
        ({"a": 4, "r": 5}, "rank r = 5"),
        ({"a": 4, "r": 2, "factor": 0.0}, "factor = 0.0 must be positive"),
        ({"a": 4, "r": 2, "factor": np.inf}, "factor = inf"),
        ({"a": 4, "r": 2, "factor": np.nan}, "factor = nan"),
        ({"a": 4, "r": 2, "power": np.nan}, "power = nan"),
        ({"a": 4, "r": 2, "power": np.inf}, "power = inf"),
    ],
)
def test_bad_ratio_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        paper_ratio(**arguments)


def test_a_trained_ratio_moves_down_the_penalty_in_its_logarithm():
    """By differences of the penalty, for each pair of a stack with a ratio and a step of its own."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2, 4, 2)), rng.standard_normal((2, 2, 3))
    log_ratio, step = np.log([0.5, 2.0]), np.array([0.01, 0.03])
    new_A, new_B, new_log = trained_penalty_step(A, B, step=step, log_ratio=log_ratio)
    for i in range(2):
        ratio = float(np.exp(log_ratio[i]))
        expected = penalty_step(A[i], B[i], step=step[i], ratio=ratio)
        np.testing.assert_allclose(new_A[i], expected[0])
        np.testing.assert_allclose(new_B[i], expected[1])
        t = 1e-6
        slope = imbalance_penalty(A[i], B[i], ratio * np.exp(t)) - imbalance_penalty(A[i], B[i], ratio * np.exp(-t))
        assert new_log[i] == pytest.approx(log_ratio[i] - step[i] * slope / (2 * t) / 4, rel=1e-6)
    gradient = penalty_gradient(A[0], B[0], 0.5)
    np.testing.assert_allclose(new_A[0], A[0] - 0.01 / 4 * gradient[0])
