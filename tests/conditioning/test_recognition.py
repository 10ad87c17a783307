"""The fast route to κ against the one that decomposes Z: it answers only where that one says the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakappa.conditioning import analysis, condition_number, extreme_eigenvalues, kappa_bounds, lapack, minimizer
from lorakappa.conditioning.bounds import bounds_at
from lorakappa.conditioning.checks import OutOfRangeError
from lorakappa.conditioning.minimizers import analyse_minimizer
from lorakappa.conditioning.recognition import recognize
from lorakappa.conditioning.tolerances import EPS, MINIMIZER_RTOL, claim_rtol
from tests.strategies import minimizers, orthogonal

often = settings(max_examples=400)
RTOLS = [MINIMIZER_RTOL, MINIMIZER_RTOL, 0.0, 1e-14, 1e-12, 1e-10, 1e-4, 0.5, 10.0]


@st.composite
def near_minimizers(draw, largest=9):
    """Pairs at, near and off the minimizers, from κ = 1 to 10¹² and more, and an rtol about as large as their distance.

    Gaps s_r − s_{r+1} go down to 0, ranks of Z to r and below it; shapes are of all kinds.
    """
    a, b = draw(st.integers(1, largest)), draw(st.integers(1, largest))
    k = min(a, b)
    r = draw(st.sampled_from([1, k, max(1, k - 1), draw(st.integers(1, k))]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    leading = np.sort(10.0 ** rng.uniform(-draw(st.sampled_from([0.0, 1.0, 4.0])), 0, r))[::-1]
    gap = draw(st.sampled_from([1.0, 0.5, 0.01, 1e-4, 1e-6, 1e-8, 1e-12, 1e-15, 0.0]))
    tail = leading[-1] * (1 - gap) * np.sort([1.0, *rng.uniform(0, 1, k)])[::-1]
    s = np.concatenate([leading, tail[: k - r]])
    if draw(st.integers(0, 9)) == 0:
        s[r - 1 :] = 0  # rank Z < r
    decades = draw(st.sampled_from([0.0, 0.3, 1.0, 2.0, 3.0, 5.0]))
    sigma = 10.0 ** rng.uniform(-decades, decades, r)
    U, V = orthogonal(a, rng), orthogonal(b, rng)
    P, Q = orthogonal(r, rng), orthogonal(r, rng)
    root = np.sqrt(s[:r])
    A, B = U[:, :r] * root @ (P * sigma @ Q), (Q.T / sigma @ P.T) @ (root[:, None] * V[:, :r].T)
    rtol = draw(st.sampled_from(RTOLS))
    size = draw(st.sampled_from([0.0, 0.0, EPS, 1e-13, 1e-10, 1e-9])) + rtol * draw(
        st.sampled_from([0.0, 0.0, 0.01, 0.1, 0.24, 0.26, 0.9, 0.999, 1.001, 1.1])
    )
    direction = draw(st.sampled_from(["any", "A", "B", "in size"]))
    if direction == "in size":
        A = A * (1 + size)
    else:
        E = rng.standard_normal((a, b))
        E *= size * np.linalg.norm(s[:r]) / np.linalg.norm(E)
        if direction == "any":  # the product moves by E, up to what rank r does not allow
            A, B = A + E @ np.linalg.pinv(B), B
        elif direction == "A":
            A = A + rng.standard_normal(A.shape) * size * np.linalg.norm(A) / A.size**0.5
        else:
            B = B + rng.standard_normal(B.shape) * size * np.linalg.norm(B) / B.size**0.5
    return A, B, U[:, :k] * s @ V[:, :k].T, s, rtol


def outcome(function):
    """A function's number, or its error's class and text."""
    try:
        return function()
    except ValueError as error:
        return type(error), str(error)


def assert_agree(found, slow, rtol):
    """Everything that is made of the two analyses agrees to ρ."""
    rho = min(rtol, MINIMIZER_RTOL)
    for name in ("kappa", "mu", "L"):
        assert getattr(found, name) == pytest.approx(getattr(slow, name), rel=rho + 1e-14), name
    assert found.s == pytest.approx(slow.s[: found.r], rel=rho + 1e-14)
    for form in ("paper", "corrected"):
        (lower, upper), (slow_lower, slow_upper) = bounds_at(found, form), bounds_at(slow, form)
        noise = turning(found) if form == "corrected" else 0.0
        assert float(lower) == pytest.approx(slow_lower, rel=2 * rho + noise + 1e-14)
        if form == "corrected":
            assert float(upper) == pytest.approx(slow_upper, rel=4 * rho + 1e-14)


def turning(found):
    """How much of ‖Gᵀe_r‖² + ‖G⁻¹e_r‖² is rounding: singular vectors of AB turn by rounding over the gap above s_r."""
    gaps = (found.s - found.s[-1])[found.s - found.s[-1] > MINIMIZER_RTOL * (found.s[-1] - found.tail)]
    if not len(gaps):
        return 0.0
    rounding = 16 * EPS * np.linalg.norm(found.sigma_A) * np.linalg.norm(found.sigma_B)
    root = np.sqrt(found.s)[:, None]
    return rounding / gaps.min() * sum(np.linalg.norm(M / root) ** 2 for M in (found.UtA, found.VtBt))


@often
@given(near_minimizers())
def test_what_is_recognized_the_other_route_accepts_with_the_same_numbers(case):
    A, B, Z, _, rtol = case
    found = recognize(A, B, Z, None, rtol)
    if found is not None:
        assert_agree(found, analyse_minimizer(A, B, Z, rtol=rtol), rtol)
    slow = outcome(lambda: analyse_minimizer(A, B, Z, rtol=rtol).kappa)
    assert outcome(lambda: condition_number(A, B, Z, rtol=rtol)) == (
        slow if isinstance(slow, tuple) else pytest.approx(slow, rel=min(rtol, MINIMIZER_RTOL) + 1e-14)
    )


@often
@given(near_minimizers(), st.sampled_from([0.0, 0.0, EPS, 0.1, 0.24, 0.26, 0.9, 1.1]), st.booleans())
def test_the_same_with_singular_values_in_place_of_the_target(case, off, short):
    A, B, Z, _, rtol = case
    s = np.linalg.svd(Z, compute_uv=False) * (1 + off * rtol)
    s = s[: len(B) + 1] if short else s
    found = recognize(A, B, None, s, rtol)
    if found is not None:
        assert_agree(found, analyse_minimizer(A, B, singular_values=s, rtol=rtol), rtol)
    slow = outcome(lambda: analyse_minimizer(A, B, singular_values=s, rtol=rtol).kappa)
    assert outcome(lambda: condition_number(A, B, singular_values=s, rtol=rtol)) == (
        slow if isinstance(slow, tuple) else pytest.approx(slow, rel=min(rtol, MINIMIZER_RTOL) + 1e-14)
    )


@given(minimizers(largest=12))
def test_plain_minimizers_are_recognized_and_keep_their_digits(problem):
    A, B, Z, r = problem.A, problem.B, problem.Z, problem.r
    slow = analyse_minimizer(A, B, Z)
    rel = claim_rtol(problem.condition, r * sum(problem.shape))
    for target, s in ((Z, None), (None, problem.s), (None, problem.s[: r + 1])):
        found = recognize(A, B, target, s, MINIMIZER_RTOL)
        if found is None:  # a condition of ρ/(4·16·EPS·r) ≈ 10⁵ is what is always good enough
            assert problem.condition > 1e4
            continue
        assert (found.a, found.b, found.r, found.k) == (*problem.shape, r, problem.k)
        assert found.kappa == pytest.approx(slow.kappa, rel=rel)
        assert pytest.approx(slow.L, rel=1e-13) == found.L
        assert found.mu == pytest.approx(slow.mu, rel=rel)
        assert found.sigma_A == pytest.approx(slow.sigma_A, rel=rel)
        assert found.sigma_B == pytest.approx(slow.sigma_B, rel=rel)


@pytest.mark.parametrize("decades", [0, 1, 2, 3])
def test_how_badly_conditioned_a_pair_may_be(decades):
    # the fast route is for pairs as they occur, up to κ ≈ 10⁷; beyond that the other one is safer
    Z = np.diag([4.0, 2.0, 1.0, 0.5])
    t = 10.0**decades
    A, B = minimizer(Z, 2, np.array([[t, 0.3], [0, 1 / t]]))
    kappa = condition_number(A, B, Z)
    assert kappa > t**4
    assert (recognize(A, B, Z, None, MINIMIZER_RTOL) is not None) == (decades < 3)


def test_pairs_that_are_almost_minimizers_are_left_to_the_other_route():
    # A grows by ε along u_r, so E = −εs_r·u_r v_rᵀ counts for A and for B: δ = √2·εs_r, s_r = 2, γ = 1, and 4δ ≤ ργ
    Z = np.diag([4.0, 2.0, 1.0])
    A, B = minimizer(Z, 2)
    rho = MINIMIZER_RTOL
    for factor, recognized in ((0.99, True), (1.01, False)):
        moved = A * [1, 1 + factor * rho / 2**3.5]
        assert (recognize(moved, B, Z, None, rho) is not None) == recognized
        assert condition_number(moved, B, Z) == pytest.approx(8, rel=1e-7)
        assert recognize(moved, B, Z, None, 1e-12) is None
        assert (recognize(moved, B, Z, None, 1e-3) is not None) == recognized
        s = np.array([4.0, 2.0 + factor * rho / 4, 1.0])  # δ = |s_r − 2|
        assert (recognize(A, B, None, s, rho) is not None) == recognized
    A, B = minimizer(Z, 3)  # r = k: Δ is all of E, and γ = s_r = 1
    for factor, recognized in ((0.99, True), (1.01, False)):
        moved = A * [1, 1, 1 + factor * rho / 4]
        assert (recognize(moved, B, Z, None, rho) is not None) == recognized


@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1), st.integers(2, 7), st.integers(2, 7), st.sampled_from([1e-6, 0.05, 0.25]))
def test_how_far_truncation_moves(seed, a, b, share):
    # item 2 of the proof: ‖Z_r − Z'_r‖_F ≤ ‖Δ‖_F (s_r + γ/4)/(γ/2) while ‖Δ‖_F ≤ γ/4
    rng = np.random.default_rng(seed)
    k = min(a, b)
    r = int(rng.integers(1, k + 1))
    s = np.sort(10.0 ** rng.uniform(-2, 0, k))[::-1]
    U, V = orthogonal(a, rng), orthogonal(b, rng)
    gap = s[r - 1] - (s[r] if r < k else 0.0)
    delta = rng.standard_normal((a, b))
    if r < k and rng.random() < 0.5:  # the direction that moves it most: between s_r and s_{r+1}
        x, y = s[r - 1], s[r]
        delta = x * np.outer(U[:, r], V[:, r - 1]) + y * np.outer(U[:, r - 1], V[:, r]) + 1e-3 * delta
    delta *= share * gap / np.linalg.norm(delta)
    before = U[:, :k] * s @ V[:, :k].T
    cut = [(lambda u, t, v: u[:, :r] * t[:r] @ v[:r])(*np.linalg.svd(M)) for M in (before, before + delta)]
    moved = np.linalg.norm(cut[1] - cut[0])
    assert moved <= share * gap * (s[r - 1] + gap / 4) / (gap / 2) + 1e-13


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 30, 60, 99, 101, 200, 400, 500, -30, -99, -101, -400, -500])
def test_pairs_of_any_common_size_are_recognized_after_a_power_of_two(n):
    Z = np.diag([4.0, 2.0, 1.0, 0.5])
    A, B = minimizer(Z, 2, [[1.0, 0.5], [0.0, 2.0]])
    problem = np.ldexp(A, n), np.ldexp(B, n), np.ldexp(Z, 2 * n)
    found = analysis._analysed(*problem, None, rtol=MINIMIZER_RTOL)
    assert isinstance(found, analysis.Recognized)
    assert found.kappa == condition_number(A, B, Z)
    mu, L = extreme_eigenvalues(*problem)
    assert (mu, L) == tuple(np.ldexp(extreme_eigenvalues(A, B, Z), 2 * n))
    assert kappa_bounds(*problem, form="corrected") == kappa_bounds(A, B, Z, form="corrected")
    given = analysis._analysed(*problem[:2], None, np.ldexp(np.diag(Z), 2 * n), rtol=MINIMIZER_RTOL)
    assert isinstance(given, analysis.Recognized)
    assert given.kappa == pytest.approx(found.kappa, rel=1e-14)


def test_eigenvalues_that_do_not_fit_are_named():
    Z = np.diag([1.0, 1e-200])
    A, B = np.array([[1e154], [0]]), np.array([[1e154, 0]])
    with pytest.raises(OutOfRangeError, match=r"L = 2\.00e\+308 does not fit"):
        extreme_eigenvalues(A, B, Z * 1e308)
    assert condition_number(A, B, Z * 1e308) == pytest.approx(2)
    with pytest.raises(OutOfRangeError, match=r"μ = 1\.00e-308 does not fit"):
        extreme_eigenvalues(A * 1e-308, B * 1e-308, Z * 1e-308)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308])
@pytest.mark.parametrize("which", range(3))
def test_nothing_is_recognized_in_what_is_not_finite_or_far_too_large(value, which):
    Z = np.diag([4.0, 2.0, 1.0, 0.5])
    problem = [*minimizer(Z, 2), Z]
    problem[which] = problem[which].copy()
    problem[which][1, 1] = value
    assert recognize(*problem, None, MINIMIZER_RTOL) is None


@pytest.mark.parametrize("value", [np.nan, 1e80, 1e200, 1e308])
def test_nor_in_singular_values_that_are_far_too_large(value):
    A, B = minimizer(np.diag([4.0, 2.0, 1.0, 0.5]), 2)
    assert recognize(A, B, None, np.array([value, value, 1.0]), 10.0) is None
    s = np.array([value, value, 1.0]) if value > 0 else np.array([4.0, 2.0, np.nan])
    with pytest.raises(ValueError, match=r"NaN or infinity|is not the best rank-2"):
        condition_number(A, B, singular_values=s)


def test_zero_is_nothing_to_divide_by():
    zero, one = np.zeros((3, 1)), np.ones((3, 1))
    for A, B in ((zero, zero.T), (one, zero.T), (zero, one.T)):
        for Z in (np.zeros((3, 3)), np.eye(3)):
            assert recognize(A, B, Z, None, 1.0) is None
    deficient = np.array([[1.0, 0], [0, 0], [0, 0]])
    assert recognize(deficient, np.eye(2, 3), np.diag([1.0, 0, 0]), None, 10.0) is None


# --- tall factors ----------------------------------------------------------------------------------------------------


def graded(n, r, decades, rng):
    """An (n, r) matrix of that condition number."""
    return orthogonal(n, rng)[:, :r] * 10.0 ** np.linspace(0, -decades, r) @ orthogonal(r, rng)


@pytest.mark.parametrize("decades", [0, 1, 2, 4, 6])
def test_cholesky_of_the_gram_matrix_is_as_accurate_as_it_says(decades):
    rng = np.random.default_rng(decades)
    M = graded(60, 5, decades, rng)
    R, sigma, error = lapack._by_gram(M)
    assert sigma == pytest.approx(10.0 ** np.linspace(0, -decades, 5), rel=error)
    assert error == pytest.approx(60 * EPS * np.linalg.norm(M) ** 2 * 100.0**decades, rel=0.01 + error)
    assert (np.tril(R, -1) == 0).all()
    exact = np.linalg.qr(M, mode="r")
    ratios = np.linalg.svd(R @ np.linalg.inv(exact), compute_uv=False) ** 2
    assert np.abs(ratios - 1).max() <= error + 1e-14 * 10**decades


def test_where_the_gram_matrix_is_too_inaccurate_it_is_not_used():
    rng = np.random.default_rng(0)
    assert lapack._by_gram(graded(50, 4, 12, rng)).relative_error > 1
    assert lapack._by_gram(np.zeros((50, 4))).relative_error == np.inf
    rows = lapack.TALL // 4
    well, badly = (graded_rows(rows, decades) for decades in (1, 6))
    assert 0 < lapack._triangular(well).relative_error < 1e-8
    assert lapack._triangular(well[:-4]).relative_error == 0  # not tall
    factor = lapack._triangular(badly)
    assert factor.relative_error == 0
    assert factor.sigma == pytest.approx(np.linalg.svd(badly, compute_uv=False), rel=1e-9)


def graded_rows(n, decades):
    """An (n, 4) matrix of that condition number, without an n×n frame."""
    rng = np.random.default_rng(1)
    return np.linalg.qr(rng.standard_normal((n, 4)))[0] * 10.0 ** np.linspace(0, -decades, 4)


@given(minimizers(largest=9))
def test_gram_matrices_and_householder_agree(problem):
    A, B, Z, r = problem.A, problem.B, problem.Z, problem.r
    slow = analyse_minimizer(A, B, Z)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lapack, "TALL", 1)
        for target, s in ((Z, None), (None, problem.s)):
            found = recognize(A, B, target, s, MINIMIZER_RTOL)
            if found is not None:
                assert_agree(found, slow, MINIMIZER_RTOL)
                rel = claim_rtol(problem.condition, r * sum(problem.shape))
                assert found.kappa == pytest.approx(slow.kappa, rel=rel * problem.condition)


def test_a_decomposition_that_fails_says_so():
    with pytest.raises(np.linalg.LinAlgError, match=r"LAPACK did not converge \(info = 3\)"):
        lapack._converged(3)
