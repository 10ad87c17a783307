"""The closed-form spectrum against dense and exact eigenvalues, κ in every case, and clear refusals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakappa.conditioning import (
    DegenerateTargetError,
    NotAMinimizerError,
    balance,
    balanced_condition_number,
    change_gauge,
    condition_number,
    extreme_eigenvalues,
    hessian,
    imbalanced_condition_number,
    minimizer,
    model2_condition_number,
    spectrum,
)
from lorakappa.conditioning.instances import CanonicalMinimizers
from lorakappa.conditioning.verification import Shape
from lorakappa.conditioning.verification.exact import to_float
from tests.strategies import minimizers

EDGES = [(a, b, r) for a in range(1, 9) for b in range(1, 9) for r in {1, min(a, b), max(1, min(a, b) - 1)}]


def test_spectrum_equals_dense_eigenvalues_on_1000_instances_of_all_shapes():
    rng = np.random.default_rng(0)
    worst, count = 0.0, 0
    while count < 1000:
        for a, b, r in EDGES:
            Z = rng.standard_normal((a, b))
            if count % 3 == 0:  # rank Z = r
                Z = minimizer(Z, r)[0] @ minimizer(Z, r)[1]
            A, B = minimizer(Z, r, rng.standard_normal((r, r)))
            expected = np.linalg.eigvalsh(hessian(A, B, Z))
            actual = spectrum(A, B, Z)
            assert actual.shape == (r * (a + b),)
            assert (actual[: r * r] == 0).all()
            assert (np.diff(actual) >= 0).all()
            worst = max(worst, float(np.abs(actual - expected).max() / expected[-1]))
            count += 1
    assert worst < 1e-12


@given(minimizers(max_gauge_decades=0.5))
def test_condition_number_equals_dense_ratio(problem):
    A, B, Z, r = problem.A, problem.B, problem.Z, problem.r
    eigenvalues = np.linalg.eigvalsh(hessian(A, B, Z))
    mu, L = extreme_eigenvalues(A, B, Z)
    assert pytest.approx(eigenvalues[-1], rel=1e-13) == L
    assert mu == pytest.approx(eigenvalues[r * r], abs=1e-13 * L)
    kappa = condition_number(A, B, Z)
    assert kappa == L / mu
    assert condition_number(A, B, singular_values=problem.s) == pytest.approx(kappa, rel=1e-12 * problem.condition)
    assert condition_number(A, B, singular_values=problem.s[: r + 1]) == pytest.approx(
        kappa, rel=1e-12 * problem.condition
    )


@pytest.mark.parametrize("shape", [Shape(3, 3, 2), Shape(4, 3, 2), Shape(3, 4, 3), Shape(3, 3, 3)])
def test_ill_conditioned_kappa_keeps_its_digits(shape):
    # κ ≈ 1e13: a dense eigendecomposition has no digit of μ left, √κ·eps ≈ 1e-9 is what the closed form promises
    family = CanonicalMinimizers()
    G = [[Fraction(0)] * shape.r for _ in range(shape.r)]
    for i in range(shape.r):
        G[i][i], G[i][0] = Fraction(10) ** (3 - 3 * i), Fraction(1, 7)
    G[0][0] = Fraction(1000)
    q = [Fraction(3), Fraction(2), Fraction(1)][: shape.r]
    parameters = family.parameters(q, [Fraction(1, 2)] * (shape.k - shape.r), G)
    exact = family.exact(shape, parameters)
    floating = family.floating(shape, np.array([float(x) for x in parameters]))
    kappa = condition_number(floating.A, floating.B, floating.Z)
    assert to_float(exact.kappa) > 1e11
    assert kappa == pytest.approx(to_float(exact.kappa), rel=1e-8)


@given(minimizers())
def test_condition_number_ignores_orthogonal_frames_and_transposition(problem):
    A, B, Z = problem.A, problem.B, problem.Z
    kappa = condition_number(A, B, Z)
    rel = 1e-12 * problem.condition
    assert condition_number(B.T, A.T, Z.T) == pytest.approx(kappa, rel=rel)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((problem.r, problem.r)))[0]
    assert condition_number(*change_gauge(A, B, Q), Z) == pytest.approx(kappa, rel=rel)
    assert condition_number(3 * A, B, 3 * Z) != pytest.approx(0)


@given(minimizers(balanced=True))
def test_balanced_closed_form(problem):
    kappa = condition_number(problem.A, problem.B, problem.Z)
    assert balanced_condition_number(problem.s, problem.r, problem.shape) == pytest.approx(
        kappa, rel=1e-12 * problem.condition
    )


@pytest.mark.parametrize(
    ("s", "r", "shape", "kappa"),
    [
        ([4, 2, 1], 2, None, 8.0),  # 2·4/(2 − 1)
        ([4, 2, 1], 1, None, 4.0),
        ([4, 2], 2, None, 2.0),  # s₁/s_r
        ([4, 2], 2, (2, 3), 4.0),
        ([4, 2], 2, (3, 2), 4.0),
        ([4, 2, 0], 2, (3, 5), 4.0),
        ([3], 1, (1, 1), 1.0),
    ],
)
def test_balanced_values_by_hand(s, r, shape, kappa):
    assert balanced_condition_number(s, r, shape) == kappa
    assert imbalanced_condition_number(s, r, 1.0, shape) == pytest.approx(kappa, rel=1e-15)


@given(minimizers(balanced=True), st.floats(0.05, 20))
def test_imbalanced_closed_form(problem, ratio):
    t = ratio**-0.25
    kappa = condition_number(t * problem.A, problem.B / t, problem.Z)
    actual = imbalanced_condition_number(problem.s, problem.r, ratio, problem.shape)
    assert actual == pytest.approx(kappa, rel=1e-10 * problem.condition)


def test_balancing_an_interior_minimizer_reaches_the_balanced_value():
    Z = np.diag([4.0, 2.0, 1.0, 0.5])
    A, B = minimizer(Z, 3, np.array([[1.0, 2, 0], [0, 3, 1], [1, 0, 1]]))
    assert condition_number(A, B, Z) > 20
    assert condition_number(*balance(A, B), Z) == pytest.approx(16.0, rel=1e-12)


def test_model2_condition_number_equals_dense():
    rng = np.random.default_rng(5)
    A, B, J = rng.standard_normal((3, 2)), rng.standard_normal((2, 4)), rng.standard_normal((13, 12))
    from lorakappa.conditioning import jacobian

    H = jacobian(A, B).T @ J.T @ J @ jacobian(A, B)
    eigenvalues = np.linalg.eigvalsh(H)
    assert model2_condition_number(A, B, J) == pytest.approx(eigenvalues[-1] / eigenvalues[4], rel=1e-10)
    with pytest.raises(ValueError, match="not injective on the tangent space"):
        model2_condition_number(A, B, J[:9])
    with pytest.raises(ValueError, match="not injective on the tangent space"):
        model2_condition_number(A, B, 1e-6 * J[:, [0] * 12])
    J_flat = J.copy()
    J_flat[:, :] = J[:, :1]
    with pytest.raises(ValueError, match="not injective on the tangent space"):
        model2_condition_number(A, B, J_flat)
    with pytest.raises(ValueError, match="J has 5 columns, but AB has 12 entries"):
        model2_condition_number(A, B, J[:, :5])


def test_degenerate_targets_are_refused():
    ones = np.ones((3, 1)), np.ones((1, 3))
    with pytest.raises(DegenerateTargetError, match="rank Z < r: s_2"):
        minimizer(np.diag([1.0, 0, 0]), 2)
    with pytest.raises(DegenerateTargetError, match="s_1 = s_2 = 1 to working precision"):
        minimizer(np.diag([1.0, 1.0, 0.5]), 1)
    with pytest.raises(DegenerateTargetError, match="s_1 = s_2"):
        condition_number(np.eye(3)[:, :1], np.eye(3)[:1], np.diag([1.0, 1.0, 0.5]))
    with pytest.raises(DegenerateTargetError, match="rank Z < r"):
        condition_number(*ones, np.zeros((3, 3)))
    with pytest.raises(DegenerateTargetError, match="rank Z < r"):
        balanced_condition_number([1.0, 0.0], 2)


def test_other_bad_input_is_refused():
    Z = np.diag([3.0, 2.0, 1.0])
    A, B = minimizer(Z, 2)
    with pytest.raises(NotAMinimizerError, match="AB is not the best rank-2 approximation"):
        condition_number(1.01 * A, B, Z)
    # a stationary point that is no minimizer: the second and third directions
    with pytest.raises(NotAMinimizerError, match="use hessian"):
        spectrum(np.eye(3)[:, 1:], np.diag([2.0, 1.0]) @ np.eye(3)[1:], Z)
    with pytest.raises(NotAMinimizerError):
        condition_number(1.01 * A, B, singular_values=[3.0, 2.0, 1.0])
    assert condition_number(1.0001 * A, B, Z, rtol=1e-3) == pytest.approx(6.0, rel=1e-3)
    with pytest.raises(ValueError, match=r"rank r = 4 must lie between 1 and min\(a, b\) = 3"):
        minimizer(Z, 4)
    with pytest.raises(ValueError, match="rank r = 0"):
        minimizer(Z, 0)
    with pytest.raises(ValueError, match="rank r = 4"):
        condition_number(np.ones((3, 4)), np.ones((4, 3)), Z)
    with pytest.raises(ValueError, match="Z has shape"):
        condition_number(A, B, Z[:2])
    with pytest.raises(ValueError, match="not both and not neither"):
        condition_number(A, B)
    with pytest.raises(ValueError, match="not both and not neither"):
        condition_number(A, B, Z, singular_values=[3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match=r"2 singular values given, but s_1 … s_3 are needed"):
        condition_number(A, B, singular_values=[3.0, 2.0])
    with pytest.raises(ValueError, match="descending"):
        condition_number(A, B, singular_values=[2.0, 3.0, 1.0])
    with pytest.raises(ValueError, match="not be negative"):
        balanced_condition_number([2.0, -1.0], 1)
    with pytest.raises(ValueError, match="NaN"):
        balanced_condition_number([np.nan, 1.0], 1)
    with pytest.raises(ValueError, match="non-empty vector"):
        balanced_condition_number([[1.0]], 1)
    with pytest.raises(ValueError, match="1 singular values given, but s_1 … s_2 are needed"):
        balanced_condition_number([1.0], 1, (3, 3))
    with pytest.raises(ValueError, match="ratio ρ = 0 must be positive"):
        imbalanced_condition_number([2.0, 1.0], 1, 0)
    for scale in (1e-3, 1.0, 1e3):
        with pytest.raises(ValueError, match="G is singular"):
            minimizer(Z, 2, scale * np.array([[1.0, 1.0], [1.0, 1.0 + 4e-16]]))
        minimizer(Z, 2, scale * np.array([[1.0, 1.0], [1.0, 1.0 + 1e-12]]))
    with pytest.raises(ValueError, match=r"G must be \(2, 2\)"):
        minimizer(Z, 2, np.eye(3))


@pytest.mark.parametrize("scale", [1e3, 1e8, 1e12])
def test_kappa_of_extreme_scalar_imbalance(scale):
    Z = np.diag([4.0, 2.0, 1.0, 0.5])
    A, B = minimizer(Z, 2)
    expected = imbalanced_condition_number([4.0, 2.0, 1.0, 0.5], 2, scale**-4)
    assert condition_number(A * scale, B / scale, Z) == pytest.approx(expected, rel=1e-12)


def test_tolerances_and_ranks_must_make_sense():
    Z = np.diag([3.0, 2.0, 1.0])
    A, B = minimizer(Z, 2)
    for rtol in (np.nan, -1.0):
        with pytest.raises(ValueError, match="must be a number ≥ 0"):
            condition_number(2 * A, B, Z, rtol=rtol)
    for r in (2.0, True, "2"):
        with pytest.raises(TypeError, match="rank r must be an integer"):
            minimizer(Z, r)
