"""Every public function at every size of its arguments: right, or an error that says which number does not fit.

`LORAKAPPA_FUZZ=20000 pytest tests/conditioning/test_extremes.py` draws as many examples a test.
"""

import contextlib
import os
import re
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from flint import arb, ctx
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lorakappa import conditioning
from lorakappa.conditioning import (
    GAUGES,
    DegenerateTargetError,
    NotAMinimizerError,
    OutOfRangeError,
    balance,
    balanced_condition_number,
    balancing_gap,
    condition_number,
    extreme_eigenvalues,
    hessian,
    imbalance,
    imbalance_penalty,
    imbalanced_condition_number,
    is_balanced,
    kappa_bounds,
    loss,
    minimizer,
    model2_condition_number,
    model2_kappa_bound,
    penalty_gradient,
    penalty_step,
    preconditioned_hessian,
    scaled_gradient,
    sharp_sign_gd_rate,
    spectrum,
    stable_penalty_step,
    two_layer_hessian,
)
from lorakappa.conditioning.scaling import LARGEST, SMALLEST
from lorakappa.conditioning.tolerances import EPS
from tests.strategies import orthogonal

number_of_examples = os.environ.get("LORAKAPPA_FUZZ")
fuzz = settings(max_examples=int(number_of_examples)) if number_of_examples else settings()

Z = np.diag([3.0, 2, 1, 0.5])
A, B = minimizer(Z, 2)
SCALES = [10.0**n for n in (-300, -200, -170, -155, -154, -100, -20, 20, 100, 154, 155, 160, 200, 300)]
every_scale = pytest.mark.parametrize("e", SCALES)


# --- the defects ----------------------------------------------------------------------------------------


@every_scale
@pytest.mark.parametrize("function", [condition_number, extreme_eigenvalues, spectrum, kappa_bounds])
def test_a_pair_that_is_no_minimizer_is_refused_at_every_size(function, e):
    with pytest.raises(NotAMinimizerError, match="AB is not the best rank-2 approximation"):
        function((A + 1) * e**0.5, B * e**0.5, Z * e)
    if function is not spectrum:
        with pytest.raises(NotAMinimizerError):
            function((A + 1) * e**0.5, B * e**0.5, singular_values=np.diag(Z) * e)


@every_scale
def test_bounds_and_kappa_do_not_depend_on_the_size(e):
    pair = A * e**0.5, B * e**0.5, Z * e
    assert condition_number(*pair) == pytest.approx(6, rel=1e-13)
    assert kappa_bounds(*pair, form="corrected") == pytest.approx((6, 6), rel=1e-13)
    assert kappa_bounds(*pair) == pytest.approx((3, 6), rel=1e-13)
    assert balanced_condition_number(np.diag(Z) * e, 2) == pytest.approx(6, rel=1e-13)
    assert extreme_eigenvalues(*pair) == pytest.approx((e, 6 * e), rel=1e-13)
    np.testing.assert_allclose(spectrum(*pair), spectrum(A, B, Z) * e, rtol=1e-13)


@pytest.mark.parametrize("t", [1e50, 1e76, 7e76, 1e-50, 1e-76])
def test_kappa_of_a_scalar_imbalance_is_right_while_float64_holds_it(t):
    exact = 2 * max(t, 1 / t) ** 4  # L = 3t², μ → (s_r² − s_{r+1}²)/(s_r t²) = 3/(2t²)
    assert condition_number(A * t, B / t, Z) == pytest.approx(exact, rel=1e-12)
    lower, upper = kappa_bounds(A * t, B / t, Z, form="corrected")
    assert 0.5 * exact < lower <= exact * (1 + 1e-12) <= upper * (1 + 1e-11)
    assert imbalanced_condition_number(np.diag(Z), 2, t**4) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(("t", "kappa"), [(1e77, r"2\.00e\+308"), (1e155, r"2\.00e\+620"), (1e300, r"2\.00e\+1200")])
def test_kappa_that_float64_does_not_hold_is_named(t, kappa):
    for pair in ((A * t, B / t), (A / t, B * t)):
        with pytest.raises(OutOfRangeError, match=f"κ = {kappa} does not fit into float64"):
            condition_number(*pair, Z)
        for form in ("paper", "corrected"):
            with pytest.raises(OutOfRangeError, match=f"κ = {kappa} does not fit into float64"):
                kappa_bounds(*pair, Z, form=form)
    if t > 1e150:
        with pytest.raises(OutOfRangeError, match=r"μ = 1\.50e-\d+ does not fit"):
            extreme_eigenvalues(A * t, B / t, Z)
        with pytest.raises(OutOfRangeError, match="an eigenvalue of the Hessian = "):
            spectrum(A * t, B / t, Z)


@pytest.mark.parametrize("t", [1e10, 1e100, 1e155, 1e300])
def test_where_both_factors_count_for_mu_any_imbalance_is_fine(t):
    # r = a = b: κ = (s₁t² + s₁/t²)/(s_r t² + s_r/t²); r = b < a: μ = σ_r(B)², r = a < b: μ = σ_r(A)²
    square, tall = minimizer(np.diag([3.0, 2]), 2), np.eye(3, 2) * [3, 2]
    assert condition_number(square[0] * t, square[1] / t, np.diag([3.0, 2])) == pytest.approx(1.5, rel=1e-14)
    X, Y = minimizer(tall, 2)
    assert condition_number(X / t, Y * t, tall) == pytest.approx(1.5, rel=1e-14)
    with pytest.raises(OutOfRangeError) if t > 1e76 else warnings.catch_warnings():
        condition_number(X * t, Y / t, tall)


# --- against exact numbers ------------------------------------------------------------------------------


@st.composite
def graded(draw):
    """Minimizers UDS^{1/2}, D⁻¹S^{1/2}Vᵀ with powers of two in D, from balanced to hopeless, and the exact spectrum."""
    a, b = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    k = min(a, b)
    r = draw(st.integers(1, k))
    q = [1 + 0.25 * (r - i) for i in range(r)]  # exact square roots of s_i
    tail = sorted((draw(st.sampled_from([0.0, 0.25, 0.5, 0.75])) for _ in range(k - r)), reverse=True)
    base = draw(st.sampled_from([0, 20, 250, 500, 900])) * draw(st.sampled_from([1, -1]))
    spread = draw(st.sampled_from([0, 0, 10, 60, 250]))
    n = [min(max(base + draw(st.integers(-spread, spread)), -950), 950) for _ in range(r)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    U, V = (orthogonal(m, rng) if draw(st.booleans()) else np.eye(m) for m in (a, b))
    left, right = U[:, :r] * np.ldexp(q, n), np.ldexp(q, np.negative(n))[:, None] * V[:, :r].T
    s = np.array([x * x for x in q] + tail)
    target = U[:, :k] * s @ V[:, :k].T
    return (left, right, target), exact_eigenvalues(a, b, q, tail, n)


def exact_eigenvalues(a, b, q, tail, n):
    """All d eigenvalues, the r² zeros left out, as balls: D is diagonal, so the blocks are 2×2."""
    ctx.prec = 4000
    alpha = [arb(x) ** 2 * arb(4) ** m for x, m in zip(q, n, strict=True)]
    beta = [arb(x) ** 2 / arb(4) ** m for x, m in zip(q, n, strict=True)]
    k = min(a, b)
    values = [x + y for x in alpha for y in beta] + beta * (a - k) + alpha * (b - k)
    for s in tail:
        for x, y in zip(alpha, beta, strict=True):
            root = ((x - y) ** 2 + 4 * arb(s) ** 2).sqrt()
            values += [(x + y + root) / 2, (x + y - root) / 2]
    return values


def fits(x):
    return SMALLEST <= x <= LARGEST


def extremes(values):
    """The smallest and the largest ball."""
    low, high = values[0], values[0]
    for x in values[1:]:
        low, high = (x if x < low else low), (x if x > high else high)
    return low, high


def right_or_out_of_range(function, exact, rel):
    """The number, compared with balls, or OutOfRangeError where one does not fit; close to the border, either."""
    if any(fits(x * (1 + rel)) != fits(x * (1 - rel)) for x in exact):
        with contextlib.suppress(OutOfRangeError):
            function()
        return None
    if all(fits(x) for x in exact):
        found = function()
        for x, y in zip(found, exact, strict=True):
            assert abs(arb(float(x)) / y - 1) < rel, (x, y)
        return found
    with pytest.raises(OutOfRangeError, match="not fit into float64"):
        function()
    return None


@fuzz
@given(graded(), st.integers(-450, 450))
def test_kappa_and_bounds_against_exact_numbers(case, i):
    pair, eigenvalues = case
    try:
        pair = up(pair[0], i), up(pair[1], i), up(pair[2], 2 * i)
    except Beyond:
        assume(False)
    mu, L = extremes(eigenvalues)
    found = right_or_out_of_range(lambda: [condition_number(*pair)], [L / mu], 1e-11)
    right_or_out_of_range(lambda: extreme_eigenvalues(*pair), [mu * arb(4) ** i, L * arb(4) ** i], 1e-11)
    if found:
        for form in ("paper", "corrected"):
            lower, upper = kappa_bounds(*pair, form=form)
            assert lower > 0
            assert found[0] <= upper * (1 + 1e-11)
            if form == "corrected" or len(pair[1]) < min(pair[2].shape):
                assert lower <= found[0] * (1 + 1e-11)


@fuzz
@given(graded())
def test_the_spectrum_against_exact_numbers(case):
    pair, eigenvalues = case
    r = len(pair[1])
    assume(all(np.abs(M).max() < 2.0**500 for M in pair[:2]))
    found = spectrum(*pair)
    assert len(found) == r * sum(pair[2].shape)
    assert (found[: r * r] == 0).all()
    assert (found[r * r :] > 0).all()
    exact = sorted(float(x.mid()) for x in eigenvalues)
    # an SVD loses digits with √(L/λ); where half of them would be gone, another route has them all
    rel = 1e-11 + 1e-15 * np.minimum(exact[-1] ** 0.5 / np.sqrt(exact), EPS**-0.5)
    assert (np.abs(found[r * r :] / exact - 1) <= rel * 4).all()


# --- powers of two ---------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
J = RNG.standard_normal((20, 16))
G = RNG.standard_normal((2, 2))
DIRECTION = RNG.standard_normal((4, 2)), RNG.standard_normal((2, 4))
GENERIC = RNG.standard_normal((4, 2)), RNG.standard_normal((2, 4))
W = RNG.standard_normal((4, 4))


class Beyond(Exception):
    """An argument of a test is itself beyond float64."""


def up(M, n):
    """M·2^n, exactly."""
    with np.errstate(over="ignore"):
        scaled = np.ldexp(np.asarray(M, dtype=float), n)
    if not np.isfinite(scaled).all() or (np.ldexp(scaled, -n) != M).any():
        raise Beyond
    return scaled


def numbers(result):
    """All numbers of a result in one vector."""
    if isinstance(result, tuple | list):
        return np.concatenate([numbers(x) for x in result])
    return np.asarray(result, dtype=float).ravel()


# name: (function of i, degree): scaling by 2^i multiplies the result by 2^(degree·i), exactly
HOMOGENEOUS = {
    "loss": (lambda i: loss(up(GENERIC[0], i), up(GENERIC[1], i), up(W, 2 * i)), 4),
    "jacobian": (lambda i: conditioning.jacobian(up(A, i), up(B, i)), 1),
    "change_gauge": (lambda i: conditioning.change_gauge(up(A, i), up(B, i), G), 1),
    "change_gauge by a large one": (lambda i: conditioning.change_gauge(up(A, -i), up(B, i), up(G, i))[0], 0),
    "minimizer": (lambda i: minimizer(up(W, 2 * i), 2), 1),
    "minimizer in a gauge": (lambda i: minimizer(up(W, 2 * i), 2, G), 1),
    "hessian": (lambda i: hessian(up(GENERIC[0], i), up(GENERIC[1], i), up(W, 2 * i)), 2),
    "two_layer_hessian": (
        lambda i: two_layer_hessian(
            *(up(M, i) for M in (*GENERIC, *DIRECTION)), *(up(W, 2 * i), up(W.T, 2 * i)), up(W, 4 * i)
        ),
        6,
    ),
    "model2_hessian": (
        lambda i: conditioning.model2_hessian(up(A, i), up(B, i), up(W, 2 * i), lambda X: 2 * X + X.T),
        2,
    ),
    "model2_jacobian": (lambda i: conditioning.model2_jacobian(up(A, i), up(B, i), lambda X: 2 * X + X.T), 0),
    "spectrum": (lambda i: spectrum(up(A, i), up(B, i), up(Z, 2 * i)), 2),
    "extreme_eigenvalues": (lambda i: extreme_eigenvalues(up(A, i), up(B, i), up(Z, 2 * i)), 2),
    "condition_number": (lambda i: condition_number(up(A, i), up(B, i), up(Z, 2 * i)), 0),
    "condition_number by singular values": (
        lambda i: condition_number(up(A, i), up(B, i), singular_values=up(np.diag(Z), 2 * i)),
        0,
    ),
    "kappa_bounds": (lambda i: kappa_bounds(up(A, i), up(B, i), up(Z, 2 * i)), 0),
    "kappa_bounds corrected": (lambda i: kappa_bounds(up(A, i), up(B, i), up(Z, 2 * i), form="corrected"), 0),
    "balanced_condition_number": (lambda i: balanced_condition_number(up(np.diag(Z), 2 * i), 2), 0),
    "imbalanced_condition_number": (lambda i: imbalanced_condition_number(up(np.diag(Z), 2 * i), 2, 0.3), 0),
    "model2_condition_number": (lambda i: model2_condition_number(up(A, i), up(B, i), up(J, -i)), 0),
    "model2_kappa_bound": (
        lambda i: [model2_kappa_bound(up(A, i), up(B, i), up(J, i), form=f) for f in ("paper", "corrected", "tangent")],
        0,
    ),
    "tangent_basis": (lambda i: conditioning.tangent_basis(up(A, i), up(B, -i)), 0),
    "balancing_gap": (lambda i: balancing_gap(up(GENERIC[0], i), up(GENERIC[1], i)), 2),
    "is_balanced": (lambda i: [is_balanced(up(A, i), up(B, i)), is_balanced(up(A + 1, i), up(B, i))], 0),
    "is_hyperbalanced": (lambda i: conditioning.is_hyperbalanced(up(A, i), up(B, i)), 0),
    "tangent_projection": (
        lambda i: conditioning.tangent_projection(up(A, i), up(B, i), *(up(M, -i) for M in DIRECTION)),
        -1,
    ),
    "tangent_projection, balanced": (
        lambda i: conditioning.tangent_projection(
            up(A, i), up(B, i), *(up(M, i) for M in DIRECTION), manifold="balanced"
        ),
        1,
    ),
    "sharp_sign_gd_rate": (lambda i: sharp_sign_gd_rate(up(np.diag([3.0, 2, 1]) + 0.1, i)).rate, 0),
    "L_inf, mu_inf": (
        lambda i: (lambda x: [x.L_inf, x.mu_inf])(sharp_sign_gd_rate(up(np.diag([3.0, 2, 1]) + 0.1, i))),
        1,
    ),
    "preconditioned_hessian": (lambda i: preconditioned_hessian(up(A, i), up(B, i), up(Z, 2 * i)), 0),
    "preconditioned_spectrum": (lambda i: conditioning.preconditioned_spectrum(up(np.diag(Z), i), 2), 0),
    "preconditioned_extremes": (lambda i: conditioning.preconditioned_extremes(up(np.diag(Z), i), 2), 0),
    "scaled_gradient": (lambda i: scaled_gradient(*(up(M, i) for M in (*GENERIC, *DIRECTION))), -1),
    "scaled_gradient, damped": (
        lambda i: scaled_gradient(*(up(M, i) for M in (*GENERIC, *DIRECTION)), damping=float(up(0.5, 2 * i))),
        -1,
    ),
    **{f"balance, {g}": (lambda i, g=g: balance(up(GENERIC[0], i), up(GENERIC[1], i), gauge=g), 1) for g in GAUGES},
    **{f"balance at {g}": (lambda i, g=g: balance(up(A, 2 * i), up(B, -i), gauge=g), 0.5) for g in GAUGES},
    "imbalance": (lambda i: imbalance(up(GENERIC[0], i), up(GENERIC[1], i), 0.3), 2),
    "imbalance_penalty": (lambda i: imbalance_penalty(up(GENERIC[0], i), up(GENERIC[1], i), 0.3), 4),
    "penalty_gradient": (lambda i: penalty_gradient(up(GENERIC[0], i), up(GENERIC[1], i), 0.3), 3),
    "penalty_step": (
        lambda i: penalty_step(up(GENERIC[0], i), up(GENERIC[1], i), step=float(up(0.01, -2 * i)), ratio=0.3),
        1,
    ),
    "stable_penalty_step": (lambda i: stable_penalty_step(up(GENERIC[0], i), up(GENERIC[1], i), 0.3), -2),
}
ASKS_FOR_AB = {"model2_hessian", "model2_jacobian"}
ROUNDS_TO_ZERO = {"imbalance", "imbalance_penalty", "penalty_gradient"}


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_powers_of_two_change_no_digit(name):
    function, degree = HOMOGENEOUS[name]
    unit = numbers(function(0))
    assert np.isfinite(unit).all()
    held = 0
    for i in (-1000, -508, -480, -340, -254, -200, -100, -30, -2, 2, 30, 100, 200, 254, 340, 480, 508, 1000):
        with np.errstate(over="ignore"):
            expected = np.ldexp(unit, round(degree * i))
        sizes = np.abs(expected[unit != 0])
        try:
            found = numbers(function(i))
        except Beyond:
            continue
        except OutOfRangeError:
            assert not fits(sizes.min()) or not fits(sizes.max()) or name in ASKS_FOR_AB, i
            continue
        if name == "stable_penalty_step":  # the largest number is a stable step where a larger one is, too
            expected = np.minimum(expected, LARGEST)
        elif name not in ROUNDS_TO_ZERO:
            assert fits(sizes.max()), i
        np.testing.assert_allclose(found, expected, rtol=0, atol=2.0**-1073, err_msg=str(i))
        held += 1
    assert held >= 4


# --- anything ----------------------------------------------------------------------------------------------

VALUES = [0.0, 5e-324, 1e-310, 1e-300, 1e-200, 1e-155, 1e-100, 1e-20, 1.0, 1.5, 3.0, 1e20, 1e100, 1e155, 1e200, 1e300]
entry = st.builds(lambda x, sign: x * sign, st.sampled_from([*VALUES, 1.7e308]), st.sampled_from([1.0, -1.0, 0.7]))


@st.composite
def anything(draw):
    """Matrices A, B, Z, zero, rank-deficient, uniform or wildly graded, of matching small shapes."""
    a, b = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    r = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def matrix(rows, columns):
        kind = draw(st.sampled_from(["zero", "scaled", "scaled", "graded", "deficient", "columns"]))
        M = rng.standard_normal((rows, columns))
        if kind == "zero":
            return 0 * M
        if kind == "deficient":
            M = M[:, :1] @ M[:1]
        if kind == "columns":
            return np.clip(M, -1, 1) * [draw(entry) for _ in range(columns)]
        if kind == "graded":
            return np.array([[draw(entry) for _ in range(columns)] for _ in range(rows)])
        return np.clip(M, -1, 1) * draw(entry)

    pair = matrix(a, r), matrix(r, b)
    if draw(st.booleans()) and r <= min(a, b):  # a true minimizer, as far as there is one
        try:
            target = np.clip(rng.standard_normal((a, b)), -1, 1) * draw(entry)
            X, Y = minimizer(target, r)
            t = 10.0 ** draw(st.integers(-150, 150))
            with np.errstate(over="ignore"):
                scaled = X * t, Y / t
            if all(np.isfinite(M).all() for M in scaled):
                return *scaled, target
        except ValueError:
            pass
    return *pair, matrix(a, b)


def every_function(A, B, Z, x):
    """A call of each public function that takes matrices."""
    r = B.shape[0]
    shape = Z.shape
    s = np.sort(np.abs(Z).ravel())[::-1][: min(shape)]
    wide = np.outer(np.ones(2), Z.ravel())
    return {
        "loss": lambda: loss(A, B, Z),
        "jacobian": lambda: conditioning.jacobian(A, B),
        "change_gauge": lambda: conditioning.change_gauge(A, B, np.eye(r) * x),
        "minimizer": lambda: minimizer(Z, r),
        "hessian": lambda: hessian(A, B, Z),
        "two_layer_hessian": lambda: two_layer_hessian(A, B, B.T, A.T, Z, Z.T, A @ A.T if abs(A).max() < 1e150 else Z),
        "model2_hessian": lambda: conditioning.model2_hessian(A, B, Z, lambda X: 3 * X),
        "model2_jacobian": lambda: conditioning.model2_jacobian(A, B, lambda X: X.sin()),
        "spectrum": lambda: spectrum(A, B, Z),
        "extreme_eigenvalues": lambda: extreme_eigenvalues(A, B, Z),
        "condition_number": lambda: condition_number(A, B, Z),
        "by singular values": lambda: condition_number(A, B, singular_values=s, rtol=10.0),
        "kappa_bounds": lambda: [bound for bound in kappa_bounds(A, B, Z, rtol=1e-3) if bound < np.inf] or 0.0,
        "kappa_bounds corrected": lambda: kappa_bounds(A, B, Z, form="corrected").lower,
        "balanced_condition_number": lambda: balanced_condition_number(s, r, shape),
        "imbalanced_condition_number": lambda: imbalanced_condition_number(s, r, abs(x), shape),
        "model2_condition_number": lambda: model2_condition_number(A, B, np.vstack([wide, np.eye(wide.shape[1]) * x])),
        "tangent_basis": lambda: conditioning.tangent_basis(A, B),
        "balancing_gap": lambda: balancing_gap(A, B),
        "is_balanced": lambda: is_balanced(A, B),
        "is_hyperbalanced": lambda: conditioning.is_hyperbalanced(A, B),
        "tangent_projection": lambda: conditioning.tangent_projection(A, B, A, B),
        "tangent_projection at balance": lambda: conditioning.tangent_projection(*balance(A, B), A, B),
        "sharp_sign_gd_rate": lambda: (
            (lambda y: [y.rate, y.L_inf, y.mu_inf])(sharp_sign_gd_rate(A @ A.T / 4 + np.eye(len(A)) * abs(x)))
            if abs(A).max() < 1e150
            else 0.0
        ),
        "preconditioned_hessian": lambda: preconditioned_hessian(A, B, Z),
        "preconditioned_spectrum": lambda: conditioning.preconditioned_spectrum(s, r, shape),
        "preconditioned_extremes": lambda: conditioning.preconditioned_extremes(s, r, shape),
        "scaled_gradient": lambda: scaled_gradient(A, B, A, B),
        "scaled_gradient, damped": lambda: scaled_gradient(A, B, A, B, damping=abs(x)),
        **{f"balance, {g}": lambda g=g: balance(A, B, gauge=g) for g in GAUGES},
        "imbalance": lambda: imbalance(A, B, abs(x)),
        "imbalance_penalty": lambda: imbalance_penalty(A, B),
        "penalty_gradient": lambda: penalty_gradient(A, B, abs(x)),
        "penalty_step": lambda: penalty_step(A, B, step=abs(x)),
        "stable_penalty_step": lambda: stable_penalty_step(A, B, abs(x)) if A.any() or B.any() else 0.0,
    }


@fuzz
@given(anything(), entry)
def test_whatever_comes_in_numbers_or_a_clear_error_come_out(matrices, x):
    for name, call in every_function(*matrices, x).items():
        try:
            found = numbers(call())
        except np.linalg.LinAlgError as error:
            raise AssertionError(f"{name}: {error}") from error
        except ValueError:
            continue
        assert np.isfinite(found).all(), (name, found)


@fuzz
@given(anything(), st.sampled_from(GAUGES), st.sampled_from(["float64", "float32", "float16", "bfloat16"]))
def test_balance_keeps_the_product_in_every_dtype_at_every_size(matrices, gauge, dtype):
    left, right = (torch.from_numpy(M).to(getattr(torch, dtype)) for M in matrices[:2])
    assume(left.isfinite().all() and right.isfinite().all())
    X, Y = balance(left, right, gauge=gauge)
    assert X.isfinite().all()
    assert Y.isfinite().all()
    before, after = (
        [[[Fraction(float(x)) for x in row] for row in M] for M in pair] for pair in ((left, right), (X, Y))
    )
    norms = [sum(x * x for row in M for x in row) for M in before]
    error = sum((p - q) ** 2 for p, q in zip(product(*before), product(*after), strict=True))
    assert error <= (16 * Fraction(torch.finfo(left.dtype).eps)) ** 2 * norms[0] * norms[1]


def rational(M):
    return [[Fraction(x) for x in row] for row in M]


def product(A, B):
    """The entries of AB, exactly."""
    return [sum((x * y[j] for x, y in zip(row, B, strict=True)), Fraction(0)) for row in A for j in range(len(B[0]))]


@fuzz
@given(anything(), st.floats(0, 1e300), entry)
def test_the_penalty_against_exact_numbers(matrices, step, ratio):
    left, right = matrices[:2]
    ratio = abs(ratio)
    assume(ratio > 0)
    A, B = (rational(M.tolist()) for M in (left, right))
    At, Bt = ([list(column) for column in zip(*M, strict=True)] for M in (A, B))
    r = len(B)
    D = [x - Fraction(ratio) * y for x, y in zip(product(B, Bt), product(At, A), strict=True)]
    size = [sum(x * x for x in row) for row in B], [sum(x * x for x in row) * Fraction(ratio) for row in At]
    scale = max(map(max, size))
    try:
        found = imbalance(left, right, ratio).ravel()
    except OutOfRangeError:
        assert 2 * scale * r > Fraction(LARGEST)
    else:
        for x, y in zip(found.tolist(), D, strict=True):
            assert abs(Fraction(x) - y) <= Fraction(1e-14) * scale + Fraction(1e-322)


# --- the ends ------------------------------------------------------------------------------------------------


def test_errors_name_the_number_that_does_not_fit():
    big, small = 1e200 * np.ones((2, 2)), 1e-200 * np.ones((2, 2))
    for function, name in (
        (lambda: loss(big, big, big), "the loss = "),
        (lambda: loss(small, small, 0 * small), "the loss = "),
        (lambda: hessian(big, big, big), "the largest entry of the Hessian = "),
        (lambda: hessian(small, small, 0 * small), "the largest entry of the Hessian = "),
        (lambda: balancing_gap(big, big), r"‖A‖² \+ ‖B‖² = "),
        (lambda: balancing_gap(small, small), r"‖A‖² \+ ‖B‖² = "),
        (lambda: conditioning.change_gauge(big, big, 1e200 * np.eye(2)), "the largest entry of AG = "),
        (lambda: conditioning.change_gauge(small, small, 1e200 * np.eye(2)), "the largest entry of G⁻¹B = "),
        (lambda: imbalanced_condition_number([2.0, 1.9], 1, 1e308), "κ = "),
        (lambda: two_layer_hessian(*[big] * 7), "the largest entry of the Hessian = "),
        (lambda: imbalance_penalty(big, 2 * big), "the penalty is too large for float64|the penalty"),
        (lambda: stable_penalty_step(big, big), "the stable step is too small for float64"),
        (lambda: scaled_gradient(small, small.T, big, big, damping=1e-300), "does not fit into float64"),
        (lambda: conditioning.paper_ratio(8, 2, power=-1e308), "does not fit into float64"),
    ):
        try:
            function()
        except OutOfRangeError as error:
            found = str(error)
        else:
            found = "nothing"
        assert re.search(name, found), (name, found)


@pytest.mark.parametrize("size", [1.25730221e-311, 5e-324, 1e-200])
@pytest.mark.parametrize("ratio", [5e-324, 1e-300])
def test_the_stable_step_is_infinite_at_zero_only(size, ratio):
    """ρσ₁(A)² may underflow beside B = 0: the step is the largest number then, as for any pair as small."""
    tiny, zero = np.full((1, 1), size), np.zeros((1, 1))
    for kind in (np.asarray, torch.from_numpy):
        assert stable_penalty_step(kind(tiny), kind(zero), ratio) == LARGEST
        assert stable_penalty_step(kind(zero), kind(zero), ratio) == np.inf


def test_zero_is_zero():
    zero = np.zeros((2, 2))
    assert loss(zero, zero, zero) == 0
    assert balancing_gap(zero, zero) == 0
    assert not hessian(zero, zero, zero).any()
    assert is_balanced(zero, zero)
    assert imbalance_penalty(zero, zero) == 0
    with pytest.raises(DegenerateTargetError, match="rank Z < r: s_2 = 0 "):
        condition_number(zero, zero, zero)


def test_a_gap_below_rounding_may_vanish_but_no_other():
    tiny = 1e-153  # ‖A‖² = 2e-306 fits, its rounding does not
    assert balancing_gap(A * tiny, B * tiny) < 1e-15 * SMALLEST * 1e6
    assert balancing_gap(A * tiny, 2 * B * tiny) == pytest.approx(3 * np.sqrt(13) * tiny**2, rel=1e-10)


def test_a_target_of_another_size_than_the_product_is_no_reason_for_nan():
    pair = 1e-200 * np.ones((2, 1)), 1e-200 * np.ones((1, 2))
    with pytest.raises(NotAMinimizerError, match=r"‖AB − Z_r‖_F = 1e\+300"):
        condition_number(*pair, np.diag([1e300, 1e299]))
    with pytest.raises(NotAMinimizerError, match=r"‖AB − Z_r‖_F = 2\.00e\+400, allowed 1\.49e-308"):
        condition_number(1e200 * np.ones((2, 1)), 1e200 * np.ones((1, 2)), np.diag([1e-300, 1e-301]))
    assert loss(1e-200 * np.eye(2), np.eye(2), np.diag([4.0, 0])) == 8


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e37, 3e38])
def test_balance_of_single_precision_at_its_ends_keeps_the_product_or_the_pair(size):
    rng = np.random.default_rng(0)
    left, right = (np.float32(size) * rng.uniform(0.3, 1, shape).astype(np.float32) for shape in ((5, 2), (2, 90)))
    X, Y = balance(left, right)
    assert np.isfinite(X).all()
    assert np.isfinite(Y).all()
    exact, kept = (np.asarray(P, dtype=float) @ np.asarray(Q, dtype=float) for P, Q in ((left, right), (X, Y)))
    allowed = 16 * 2.0**-23 * np.linalg.norm(left.astype(float)) * np.linalg.norm(right.astype(float))
    assert np.linalg.norm(kept - exact) <= allowed
    if size < 1e-44:
        np.testing.assert_array_equal(X, left)


def test_scaled_gradients_of_tiny_and_huge_factors_are_right():
    X, Y = GENERIC
    expected = scaled_gradient(X, Y, *DIRECTION)
    found = scaled_gradient(X * 2.0**600, Y * 2.0**-600, up(DIRECTION[0], -600), up(DIRECTION[1], 600))
    np.testing.assert_array_equal(found[0], up(expected[0], 600))
    np.testing.assert_array_equal(found[1], up(expected[1], -600))
    one_of_three = np.stack([X, X * 2.0**-600, X * 2.0**600]), np.stack([Y, Y * 2.0**-600, Y * 2.0**600])
    stack = scaled_gradient(*one_of_three, *(np.stack([M, M * 2.0**-600, M * 2.0**600]) for M in DIRECTION))
    for M, whole in zip(expected, stack, strict=True):
        for i, e in enumerate((0, 600, -600)):
            np.testing.assert_array_equal(whole[i], up(M, e))
