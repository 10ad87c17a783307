"""The weighted loss ½‖C(AB − Z)D‖²: against autodiff's definition by differences, Model 1, and closed forms."""

import numpy as np
import pytest

from lorakappa.conditioning import (
    DegenerateTargetError,
    NoOptimalGaugeError,
    NotAMinimizerError,
    balance,
    balanced_condition_number,
    change_gauge,
    condition_number,
    hessian,
    minimizer,
    optimal_gauge,
    optimal_gauge_of_pair,
    spectrum,
    weighted_condition_number,
    weighted_hessian,
    weighted_minimizer,
    weighted_spectrum,
)


def problem(seed, a=4, b=3, r=2, p=5, q=4):
    rng = np.random.default_rng(seed)
    C, D = rng.standard_normal((p, a)), rng.standard_normal((b, q))
    return rng.standard_normal((a, r)), rng.standard_normal((r, b)), rng.standard_normal((a, b)), C, D


def loss(theta, Z, C, D, r):
    a, b = Z.shape
    A, B = theta[: a * r].reshape(a, r), theta[a * r :].reshape(r, b)
    return 0.5 * np.linalg.norm(C @ (A @ B - Z) @ D) ** 2


@pytest.mark.parametrize("shape", [(4, 3, 2, 5, 4), (2, 4, 1, 2, 4), (3, 3, 3, 2, 5), (1, 2, 1, 3, 1)])
def test_hessian_is_the_second_difference_of_the_loss(shape):
    A, B, Z, C, D = problem(1, *shape)
    H, theta = weighted_hessian(A, B, Z, C, D), np.append(A, B)
    d, moves = len(theta), np.eye(len(theta))

    def f(*indices_and_signs):
        return loss(theta + sum(sign * moves[i] for i, sign in indices_and_signs), Z, C, D, shape[2])

    # exact for a polynomial that is at most quadratic in each entry
    numeric = np.array(
        [
            [
                f((i, 1)) - 2 * f() + f((i, -1))
                if i == j
                else (f((i, 1), (j, 1)) - f((i, 1), (j, -1)) - f((i, -1), (j, 1)) + f((i, -1), (j, -1))) / 4
                for j in range(d)
            ]
            for i in range(d)
        ]
    )
    np.testing.assert_allclose(H, numeric, rtol=1e-10, atol=1e-11 * np.abs(H).max())


def test_without_weights_it_is_model_1():
    A, B, Z, _, _ = problem(2)
    np.testing.assert_allclose(weighted_hessian(A, B, Z), hessian(A, B, Z), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(weighted_hessian(A, B, Z, 2 * np.eye(4)), 4 * hessian(A, B, Z), rtol=1e-13, atol=1e-13)
    A, B = weighted_minimizer(Z, 2)
    for X, Y in zip((A, B), minimizer(Z, 2), strict=True):
        np.testing.assert_allclose(X, Y, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(weighted_spectrum(A, B, Z), spectrum(A, B, Z), rtol=1e-10, atol=1e-12)
    assert weighted_condition_number(A, B, Z) == pytest.approx(condition_number(A, B, Z), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_minimizers_have_no_better_neighbour_and_the_kernel_of_the_orbit(seed):
    _, _, Z, C, D = problem(seed)
    G = np.random.default_rng(seed).standard_normal((2, 2))
    A, B = weighted_minimizer(Z, 2, C, D, G)
    eigenvalues = np.linalg.eigvalsh(weighted_hessian(A, B, Z, C, D))
    assert np.abs(eigenvalues[:4]).max() < 1e-11 * eigenvalues[-1] < eigenvalues[4]
    found = weighted_spectrum(A, B, Z, C, D)
    assert (found[:4] == 0).all()
    np.testing.assert_allclose(found[4:], eigenvalues[4:], rtol=1e-8, atol=1e-12 * eigenvalues[-1])
    assert weighted_condition_number(A, B, Z, C, D) == pytest.approx(eigenvalues[-1] / eigenvalues[4], rel=1e-8)
    # no pair with the same weights does better: alternating least squares from random starts
    best, rng = loss(np.append(A, B), Z, C, D, 2), np.random.default_rng(seed)
    X = rng.standard_normal((4, 2))
    for _ in range(300):
        Y = np.linalg.lstsq(C @ X, C @ Z @ D, rcond=None)[0] @ np.linalg.pinv(D)
        X = np.linalg.pinv(C) @ np.linalg.lstsq((Y @ D).T, (C @ Z @ D).T, rcond=None)[0].T
    assert loss(np.append(X, Y), Z, C, D, 2) >= best * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_condition_number_is_that_of_model_1_up_to_the_weights(seed):
    _, _, Z, C, D = problem(seed)
    A, B = weighted_minimizer(Z, 2, C, D)
    # (R_CA, BR_Dᵀ) of Model 1 is turned by Q_C and Q_D into (CA, BD), padded with zeros
    R_C, R_D = np.linalg.qr(C, mode="r"), np.linalg.qr(D.T, mode="r")
    model1 = condition_number(R_C @ A, B @ R_D.T, R_C @ Z @ R_D.T)
    sigma = [np.linalg.svd(M, compute_uv=False) for M in (C, D)]
    spread = (max(s[0] for s in sigma) / min(s[-1] for s in sigma)) ** 2
    assert model1 / spread <= weighted_condition_number(A, B, Z, C, D) <= model1 * spread


def test_aligned_weights_have_a_spectrum_in_closed_form():
    c, d, z = [2.0, 1.0, 0.5, 3.0], [1.5, 0.5, 2.0], [4.0, 3.0, 0.25]
    alpha, beta = [1.0, 4.0], [4.0, 0.75]
    A, B = np.vstack([np.diag(alpha), np.zeros((2, 2))]), np.hstack([np.diag(beta), np.zeros((2, 1))])
    Z = np.vstack([np.diag(z), np.zeros((1, 3))])
    expected = [0.0] * 4
    for i in range(2):
        expected += [c[i] ** 2 * d[j] ** 2 * (alpha[i] ** 2 + beta[j] ** 2) for j in range(2)]
    for j in range(2):
        coupling = -(c[2] ** 2) * d[2] ** 2 * z[2]
        block = [[(c[2] * d[j] * beta[j]) ** 2, coupling], [coupling, (c[j] * d[2] * alpha[j]) ** 2]]
        expected += [*np.linalg.eigvalsh(block), (c[3] * d[j] * beta[j]) ** 2]
    found = weighted_spectrum(A, B, Z, np.diag(c), np.diag(d))
    np.testing.assert_allclose(found, np.sort(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("e", [-200, 200])
def test_sizes_far_from_1(e):
    _, _, Z, C, D = problem(3)
    A, B = weighted_minimizer(Z, 2, C, D)
    X, Y = weighted_minimizer(np.ldexp(Z, 2 * e), 2, np.ldexp(C, e // 2), np.ldexp(D, -e // 2))
    np.testing.assert_allclose(np.ldexp(X @ Y, -2 * e), A @ B, rtol=1e-12, atol=1e-13)
    H = weighted_hessian(np.ldexp(A, e), np.ldexp(B, e), np.ldexp(Z, 2 * e), np.ldexp(C, -e), D)
    np.testing.assert_allclose(H, weighted_hessian(A, B, Z, C, D), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_best_gauge_of_a_pair_is_that_of_its_hessian(seed):
    A, B, Z, C, D = problem(seed)
    gauss_newton = weighted_hessian(A, B, A @ B, C, D)
    for criterion in ("trace", "lambda_max", "kappa"):
        found = optimal_gauge_of_pair(A, B, C=C, D=D, criterion=criterion)
        expected = optimal_gauge(gauss_newton, (4, 3, 2), criterion=criterion)
        for name in ("value", "given", "lower_bound"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9)
    trace = optimal_gauge_of_pair(A, B, Z, C=C, D=D)
    nuclear = np.linalg.svd(C @ A @ B @ D, compute_uv=False).sum()
    assert trace.value == pytest.approx(2 * np.linalg.norm(C) * np.linalg.norm(D) * nuclear, rel=1e-12)
    X, Y = change_gauge(A, B, trace.T)
    CX, YD = C @ X / np.linalg.norm(C), Y @ D / np.linalg.norm(D)
    np.testing.assert_allclose(CX.T @ CX, YD @ YD.T, rtol=1e-10, atol=1e-12)
    assert np.trace(weighted_hessian(X, Y, Z, C, D)) == pytest.approx(trace.value, rel=1e-12)


def test_balance_is_not_best_for_weighted_data():
    _, _, Z, C, _ = problem(4)
    A, B = balance(*weighted_minimizer(Z, 2, C))
    for criterion in ("trace", "lambda_max", "kappa"):
        found = optimal_gauge_of_pair(A, B, Z, C=C, criterion=criterion)
        assert found.value < 0.999 * found.given


def test_model_1_needs_no_search_for_kappa():
    A, B, Z, _, _ = problem(5)
    A, B = minimizer(Z, 2, [[3.0, 1.0], [0.0, 0.5]])
    found = optimal_gauge_of_pair(A, B, Z, criterion="kappa")
    assert found.value == found.lower_bound == balanced_condition_number(np.linalg.svd(Z, compute_uv=False), 2, (4, 3))
    assert found.given == pytest.approx(condition_number(A, B, Z), rel=1e-12)
    X, Y = change_gauge(A, B, found.T)
    np.testing.assert_allclose(X.T @ X, Y @ Y.T, rtol=1e-10, atol=1e-12)
    full = optimal_gauge_of_pair(*minimizer(Z, 3), Z, criterion="kappa")  # r = min(a, b): balance is not best
    assert full.value < full.given
    assert full.certificate is not None


def test_bad_input_is_refused():
    A, B, Z, C, D = problem(6)
    with pytest.raises(ValueError, match=r"C has shape \(4, 5\) and D \(3, 4\), but must be \(p, 4\) and \(3, q\)"):
        weighted_hessian(A, B, Z, C.T, D)
    with pytest.raises(ValueError, match=r"C has shape \(5, 4\) and D \(4, 3\)"):
        weighted_spectrum(A, B, Z, C, D.T)
    with pytest.raises(NotAMinimizerError):
        weighted_spectrum(A, B, Z, C, D)
    with pytest.raises(ValueError, match="C has rank < 4: the loss has directions without weight"):
        weighted_minimizer(Z, 2, C[:3], D)
    with pytest.raises(ValueError, match="C has rank < 4"):
        weighted_minimizer(Z, 2, np.diag([1e17, 1.0, 1.0, 1.0]), D)  # 1 is rounding beside the largest
    with pytest.raises(ValueError, match="D has rank < 3"):
        weighted_minimizer(Z, 2, C, D * [[1.0], [1.0], [0.0]])
    with pytest.raises(DegenerateTargetError):
        weighted_minimizer(np.eye(4, 3), 2)
    with pytest.raises(ValueError, match="criterion must be one of"):
        optimal_gauge_of_pair(A, B, C=C, criterion="norm")
    with pytest.raises(NoOptimalGaugeError):
        optimal_gauge_of_pair(A, 0 * B, C=C)
    with pytest.raises(NotAMinimizerError):
        optimal_gauge_of_pair(A, B, Z, criterion="kappa")
    X, Y = weighted_minimizer(Z, 2, C, D)
    far = change_gauge(X, Y, np.diag([1e7, 1e-7]))
    with pytest.raises(ValueError, match="κ is beyond what the dense Hessian tells"):
        weighted_condition_number(*far, Z, C, D)
