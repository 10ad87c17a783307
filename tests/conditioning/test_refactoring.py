"""RefLoRA's gradients: S solves its equation, steps are BaLoRA's, null directions and extremes are safe."""

import numpy as np
import pytest
import torch

from lorakappa.conditioning import OutOfRangeError, balance, change_gauge, refactored_gradient
from lorakappa.conditioning.tolerances import EPS
from tests.strategies import orthogonal


def problem(seed=0, a=7, b=5, r=3, leading=()):
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((*leading, a, r)), rng.standard_normal((*leading, r, b))
    return A, B, rng.standard_normal((*leading, a, b))


def gradients(A, B, G):
    """Of a loss of AB whose gradient by AB is G."""
    return G @ np.swapaxes(B, -1, -2), np.swapaxes(A, -1, -2) @ G


def product_after(A, B, G, step, mode="matrix"):
    g_A, g_B = refactored_gradient(A, B, *gradients(A, B, G), mode=mode)
    return (A - step * g_A) @ (B - step * g_B)


def balora_product_after(A, B, G, step, gauge="symmetric"):
    X, Y = balance(A, B, gauge=gauge)
    g_X, g_Y = gradients(X, Y, G)
    return (X - step * g_X) @ (Y - step * g_Y)


def test_S_solves_its_equation():
    A, B, _ = problem(1)
    eye = np.eye(3)
    S_inv, S = refactored_gradient(A[:3], B[:, :3], eye, eye)  # 3×3 factors, so that the gradients can be I
    gram_A, gram_B = A[:3].T @ A[:3], B[:, :3] @ B[:, :3].T
    rtol = 64 * EPS * np.linalg.cond(S)
    np.testing.assert_allclose(S @ S_inv, eye, atol=rtol)
    np.testing.assert_allclose(S, S.T, rtol=0, atol=rtol * np.abs(S).max())
    scale = np.linalg.norm(S, 2) ** 2 * np.linalg.norm(gram_A, 2)
    np.testing.assert_allclose(S @ gram_A @ S, gram_B, atol=64 * EPS * scale)
    assert (np.linalg.eigvalsh(S) > 0).all()


@pytest.mark.parametrize("gauge", ["symmetric", "hyperbalanced", "nearest"])
@pytest.mark.parametrize("condition", [1.0, 1e3])
def test_a_step_changes_the_product_as_balora_does(gauge, condition):
    A, B, G = problem(2)
    A, B = change_gauge(A, B, orthogonal(3, np.random.default_rng(3)) * np.geomspace(1, condition, 3))
    found, expected = product_after(A, B, G, 0.1), balora_product_after(A, B, G, 0.1, gauge)
    np.testing.assert_allclose(found, expected, atol=1000 * EPS * condition * np.abs(expected).max())


def test_products_stay_those_of_balora_over_many_steps():
    A, B, Z = problem(4)
    X, Y = balance(A, B, gauge="symmetric")
    for _ in range(200):
        g_A, g_B = refactored_gradient(A, B, *gradients(A, B, A @ B - Z))
        A, B = A - 0.02 * g_A, B - 0.02 * g_B
        g_X, g_Y = gradients(X, Y, X @ Y - Z)
        X, Y = balance(X - 0.02 * g_X, Y - 0.02 * g_Y, gauge="symmetric")
    np.testing.assert_allclose(A @ B, X @ Y, atol=200 * 64 * EPS * np.linalg.norm(Z))
    assert np.linalg.norm(A.T @ A - B @ B.T) > 0.1  # while the pair itself was never balanced


@pytest.mark.parametrize("mode", ["matrix", "scalar"])
def test_the_products_do_not_depend_on_the_gauge(mode):
    A, B, G = problem(5)
    gauge = orthogonal(3, np.random.default_rng(6)) * (np.array([4.0, 1.0, 0.2]) if mode == "matrix" else 4.0)
    expected = product_after(A, B, G, 0.1, mode)
    np.testing.assert_allclose(product_after(*change_gauge(A, B, gauge), G, 0.1, mode), expected, atol=1e-12)


def test_the_scalar_mode_is_the_step_between_equal_norms():
    A, B, G = problem(7)
    A, B = 5 * A, B / 3
    p = np.sqrt(np.linalg.norm(B) / np.linalg.norm(A))
    g_A, g_B = gradients(p * A, B / p, G)
    expected = (p * A - 0.1 * g_A) @ (B / p - 0.1 * g_B)
    np.testing.assert_allclose(product_after(A, B, G, 0.1, "scalar"), expected, atol=1e-12)
    assert not np.allclose(expected, product_after(A, B, G, 0.1), atol=1e-3)


def test_the_scalar_mode_of_factors_with_one_entry():
    A, B = np.zeros((4, 2)), np.zeros((2, 3))
    A[1, 1], B[1, 2] = 5.0, 0.2
    g_A, g_B = refactored_gradient(A, B, np.ones_like(A), np.ones_like(B), mode="scalar")
    np.testing.assert_allclose(g_A, 25.0)
    np.testing.assert_allclose(g_B, 0.04)


# --- null directions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["matrix", "scalar"])
@pytest.mark.parametrize("zero", ["A", "B", "both"])
def test_where_the_product_is_zero_the_gradient_stays(mode, zero):
    A, B, _ = problem(8)
    A, B = A * (zero == "B"), B * (zero == "A")
    g_A, g_B = np.ones_like(A), np.ones_like(B)
    found = refactored_gradient(A, B, g_A, g_B, mode=mode)
    np.testing.assert_array_equal(found[0], g_A)
    np.testing.assert_array_equal(found[1], g_B)


@pytest.mark.parametrize("null", ["A", "B"])
def test_null_directions_go_where_balora_takes_them(null):
    A, B, G = problem(9)
    if null == "A":
        A[:, 2] = A[:, 0] - 2 * A[:, 1]
    else:
        B[2] = 0
    found, expected = product_after(A, B, G, 0.1), balora_product_after(A, B, G, 0.1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert np.linalg.matrix_rank(found) == 3  # the lost direction is found again


def test_more_columns_than_the_product_has_rank_for():
    A, B, G = problem(10, a=3, b=2, r=4)
    found, expected = product_after(A, B, G, 0.1), balora_product_after(A, B, G, 0.1)
    np.testing.assert_allclose(found, expected, atol=1e-12)


# --- stacks, dtypes and sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["matrix", "scalar"])
def test_stacks_are_treated_one_by_one(mode):
    A, B, G = problem(11, leading=(2, 3))
    A[0, 1] = 0
    A[1, 2, :, 0] = 0
    together = refactored_gradient(A, B, *gradients(A, B, G), mode=mode)
    for i in range(2):
        for j in range(3):
            single = refactored_gradient(A[i, j], B[i, j], *gradients(A[i, j], B[i, j], G[i, j]), mode=mode)
            for found, expected in zip(together, single, strict=True):
                np.testing.assert_allclose(found[i, j], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("mode", ["matrix", "scalar"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_torch_gives_what_numpy_gives(dtype, mode):
    A, B, G = problem(12)
    tensors = [torch.tensor(M).to(dtype) for M in (A, B, *gradients(A, B, G))]
    expected = refactored_gradient(*(M.double().numpy() for M in tensors), mode=mode)
    for found, reference in zip(refactored_gradient(*tensors, mode=mode), expected, strict=True):
        assert found.dtype == dtype
        atol = torch.finfo(dtype).eps * np.abs(reference).max() * (64 if dtype == torch.float64 else 1)
        np.testing.assert_allclose(found.double().numpy(), reference, rtol=0, atol=atol)


@pytest.mark.parametrize("mode", ["matrix", "scalar"])
@pytest.mark.parametrize(("p", "q"), [(-300, 300), (250, -250), (200, 200), (-450, -451), (-600, -550)])
def test_sizes_far_from_one_are_taken_out(mode, p, q):
    A, B, G = problem(13)
    g_A, g_B = gradients(A, B, G)
    near = refactored_gradient(A, B, g_A, g_B, mode=mode)
    far = refactored_gradient(A * 2.0**p, B * 2.0**q, g_A * 2.0**q, g_B * 2.0**p, mode=mode)
    # S is multiplied by 2^(q − p)
    np.testing.assert_allclose(far[0] * 2.0**-p, near[0], rtol=1e-11)
    np.testing.assert_allclose(far[1] * 2.0**-q, near[1], rtol=1e-11)


@pytest.mark.parametrize("mode", ["matrix", "scalar"])
def test_what_does_not_fit_is_said(mode):
    A, B, G = (M.astype(np.float16) for M in problem(14))
    with pytest.raises(OutOfRangeError, match=r"g_A S⁻¹ does not fit into float16; the factors are of too different"):
        refactored_gradient(A * np.float16(300), B / np.float16(300), *gradients(A, B, G), mode=mode)


def test_gradients_that_are_not_finite_pass():
    A, B, G = problem(15)
    g_A, g_B = gradients(A, B, G)
    g_A[0, 0] = np.inf
    found = refactored_gradient(A, B, g_A, g_B)
    assert not np.isfinite(found[0]).all()
    assert np.isfinite(found[1]).all()


@pytest.mark.parametrize("mode", ["matrix", "scalar"])
def test_factors_that_are_not_finite_are_refused(mode):
    A, B, _ = problem(16)
    B[0, 0] = np.nan
    with pytest.raises(ValueError, match="A or B contains NaN or infinity"):
        refactored_gradient(A, B, A, B, mode=mode)


def test_bad_arguments_are_refused():
    A, B, _ = problem(17)
    with pytest.raises(ValueError, match="mode must be one of matrix, scalar, not 'vector'"):
        refactored_gradient(A, B, A, B, mode="vector")
    with pytest.raises(ValueError, match=r"g_B is \(7, 3\) float64, but its factor is \(3, 5\) float64"):
        refactored_gradient(A, B, A, A)
    with pytest.raises(TypeError, match="must be arrays of the library"):
        refactored_gradient(A, B, torch.tensor(A), B)


def test_matrix_is_the_default():
    A, B, G = problem(18)
    found = refactored_gradient(A, B, *gradients(A, B, G))
    for one, other in zip(found, refactored_gradient(A, B, *gradients(A, B, G), mode="matrix"), strict=True):
        np.testing.assert_array_equal(one, other)
