"""The best gauge: against brute force over gauges, against what Model 1 knows in closed form, and certificates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from lorakappa.conditioning import (
    GaugeCertificate,
    NoOptimalGaugeError,
    OutOfRangeError,
    balanced_condition_number,
    change_gauge,
    gauge_optimization,
    hessian,
    jacobian,
    lower_bound_from_factor,
    lower_bound_over_gauges,
    minimizer,
    optimal_gauge,
    optimal_gauge_from_factor,
    optimal_gauge_from_products,
    optimal_gauge_from_traces,
    partial_traces,
)
from lorakappa.conditioning.gauge_certificate import squared_ratio
from lorakappa.conditioning.gauge_descent import Spot, _derivatives, _directions, _log_mean, exponential
from lorakappa.conditioning.instances.sampling import random_orthogonal
from lorakappa.conditioning.tolerances import EPS, GAUGE_GAP_RTOL


class Problem:
    """½‖J·vec(AB) − z‖² at an interpolating pair, whose Hessian in any gauge is formed from its definition."""

    def __init__(self, seed, *, largest=5, spread=1.0, rank=None):
        rng = np.random.default_rng(seed)
        self.a, self.b = (int(n) for n in rng.integers(2, largest + 1, 2))
        self.r = rank or int(rng.integers(1, min(self.a, self.b) + 1))
        self.A = rng.standard_normal((self.a, self.r)) * 10 ** rng.uniform(-spread, spread, self.r)
        self.B = rng.standard_normal((self.r, self.b))
        rows = int(rng.integers(self.d // 2 + 1, 2 * self.d))
        self.J = rng.standard_normal((rows, self.a * self.b)) * 10 ** rng.uniform(-spread, spread, self.a * self.b)

    @property
    def shape(self):
        return self.a, self.b, self.r

    @property
    def d(self):
        return self.r * (self.a + self.b)

    def factor(self, T=None):
        pair = (self.A, self.B) if T is None else (self.A @ T, np.linalg.solve(T, self.B))
        return self.J @ jacobian(*pair)

    def hessian(self, T=None):
        return self.factor(T).T @ self.factor(T)

    def value(self, criterion, T=None):
        squares = np.linalg.svd(self.factor(T), compute_uv=False) ** 2
        if criterion == "trace":
            return squares.sum()
        rank = min(len(self.J), self.d - self.r**2)
        return squares[0] / (1 if criterion == "lambda_max" else squares[rank - 1])


def random_gauges(r, count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield random_orthogonal(r, rng) * 10 ** rng.uniform(-1, 1, r) @ random_orthogonal(r, rng)


def lower_triangle(x, r):
    """A gauge from r(r + 1)/2 numbers: every TTᵀ has one such T with a positive diagonal."""
    T = np.zeros((r, r))
    T[np.tril_indices(r)] = x
    T[np.diag_indices(r)] = np.exp(T[np.diag_indices(r)])
    return T


@pytest.mark.parametrize("seed", range(200))
def test_smallest_trace_is_the_minimum_over_gauges(seed):
    problem = Problem(seed)
    found = optimal_gauge(problem.hessian(), problem.shape)
    at = problem.value("trace", found.T)
    H_A, H_B = partial_traces(problem.hessian(), problem.shape)

    def trace(x):
        """Log tr, from its definition, and its gradient by the chain rule."""
        T = lower_triangle(x, problem.r)
        inverse = np.linalg.inv(T)
        total = np.trace(inverse @ H_A @ inverse.T) + np.trace(T.T @ H_B @ T)
        slope = 2 * (H_B @ T - inverse.T @ inverse @ H_A @ inverse.T) / total
        slope[np.diag_indices(problem.r)] *= np.diag(T)
        return np.log(total), slope[np.tril_indices(problem.r)]

    size = problem.r * (problem.r + 1) // 2
    brute = optimize.minimize(trace, np.zeros(size), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 2000})
    assert np.exp(brute.fun) == pytest.approx(found.value, rel=1e-8)
    assert at == pytest.approx(found.value, rel=1e-11)
    assert found.lower_bound == found.value
    assert found.certificate is None
    assert found.given == pytest.approx(problem.value("trace"), rel=1e-12)


@pytest.mark.parametrize("seed", range(200))
def test_smallest_largest_eigenvalue_is_certified(seed):
    problem = Problem(seed, largest=4)
    H = problem.hessian()
    found = optimal_gauge(H, problem.shape, criterion="lambda_max")
    assert 0 <= found.value - found.lower_bound <= 1e-6 * found.value
    assert found.lower_bound == lower_bound_over_gauges(H, problem.shape, found.certificate)
    assert problem.value("lambda_max", found.T) == pytest.approx(found.value, rel=1e-10)
    assert found.given == pytest.approx(problem.value("lambda_max"), rel=1e-12)
    for T in random_gauges(problem.r, 20, seed):
        assert problem.value("lambda_max", T) >= found.lower_bound


def test_the_gap_of_most_certificates_is_as_small_as_asked_for():
    gaps = []
    for seed in range(60):
        found = optimal_gauge(Problem(seed).hessian(), Problem(seed).shape, criterion="lambda_max")
        gaps.append(1 - found.lower_bound / found.value)
    assert np.mean(np.array(gaps) <= GAUGE_GAP_RTOL) >= 0.95


@pytest.mark.parametrize("seed", range(12))
def test_smallest_condition_number_of_rank_1_is_certified(seed):
    problem = Problem(seed, rank=1)
    found = optimal_gauge(problem.hessian(), problem.shape, criterion="kappa")
    assert 0 <= found.value - found.lower_bound <= 1e-4 * found.value
    assert problem.value("kappa", found.T) == pytest.approx(found.value, rel=1e-8)
    # there is one gauge parameter only: try them all
    assert min(problem.value("kappa", np.array([[t]])) for t in np.geomspace(1e-3, 1e3, 400)) >= found.value * 0.9999


@pytest.mark.parametrize("seed", range(8))
def test_smallest_condition_number_of_higher_rank_lies_above_its_bound(seed):
    problem = Problem(seed, largest=4, rank=2)
    H = problem.hessian()
    found = optimal_gauge(H, problem.shape, criterion="kappa")
    assert 1 <= found.lower_bound <= found.value <= found.given
    assert found.lower_bound == lower_bound_over_gauges(H, problem.shape, found.certificate)
    assert problem.value("kappa", found.T) == pytest.approx(found.value, rel=1e-7)
    assert found.given == pytest.approx(problem.value("kappa"), rel=1e-7)

    def kappa(x):
        return np.log(problem.value("kappa", lower_triangle(x, 2)))

    for T in random_gauges(2, 30, seed):
        assert problem.value("kappa", T) >= found.lower_bound
    rng = np.random.default_rng(seed)
    brute = min(
        optimize.minimize(kappa, rng.standard_normal(3), method="Nelder-Mead", options={"maxfev": 400}).fun
        for _ in range(4)
    )
    assert found.value <= np.exp(brute) * (1 + 1e-3)


@pytest.mark.parametrize(("a", "b", "r"), [(3, 4, 1), (4, 3, 2), (5, 4, 3), (3, 3, 2)])
def test_model1_is_best_where_theory_says(a, b, r):
    rng = np.random.default_rng(a * b * r)
    Z, G = rng.standard_normal((a, b)), rng.standard_normal((r, r)) * 10 ** rng.uniform(-1, 1, r)
    A, B = minimizer(Z, r, G)
    H, s = hessian(A, B, Z), np.linalg.svd(Z, compute_uv=False)
    best = {
        criterion: optimal_gauge(H, (a, b, r), criterion=criterion) for criterion in ("trace", "lambda_max", "kappa")
    }
    assert best["trace"].value == pytest.approx(2 * np.sqrt(a * b) * s[:r].sum(), rel=1e-12)
    assert best["lambda_max"].value == pytest.approx(2 * s[0], rel=1e-6)
    assert best["lambda_max"].lower_bound == pytest.approx(2 * s[0], rel=1e-6)
    assert best["kappa"].value == pytest.approx(balanced_condition_number(s, r, (a, b)), rel=1e-4)
    assert best["kappa"].lower_bound <= balanced_condition_number(s, r, (a, b))
    X, Y = change_gauge(A, B, best["trace"].T)
    np.testing.assert_allclose(X.T @ X * b, Y @ Y.T * a, atol=1e-12 * a * b * s[0])
    np.testing.assert_allclose(best["trace"].T, best["trace"].T.T, rtol=1e-12, atol=1e-14)
    assert np.linalg.eigvalsh(best["trace"].T)[0] > 0


@pytest.mark.parametrize("seed", range(4))
def test_for_rank_1_free_moves_are_a_gauge_and_lead_to_the_best_one_at_once(seed, monkeypatch):
    """κ does not see a common factor of A's and B's directions, so that their best moves are a gauge's, T⁻¹ and T."""
    starts, real = [], gauge_optimization.descend

    def descend(start, objective, bound, **options):
        starts.append((start, bound))
        return real(start, objective, bound, **options)

    monkeypatch.setattr(gauge_optimization, "descend", descend)
    found = optimal_gauge(Problem(seed, rank=1).hessian(), Problem(seed, rank=1).shape, criterion="kappa")
    first = next(start for start, bound in starts if bound is None)
    assert first.value("kappa") == pytest.approx(found.value, rel=1e-3)
    assert (first.left @ first.right).item() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("r", [1, 2, 3])
def test_the_directions_of_a_descent_are_orthonormal_and_symmetric(r):
    pairs, alone = _directions(r, free=False), _directions(r, free=True)
    size = r * (r + 1) // 2
    np.testing.assert_allclose(np.einsum("ksij,lsij->kl", pairs, pairs), 2 * np.eye(size), atol=1e-15)
    np.testing.assert_allclose(np.einsum("ksij,lsij->kl", alone, alone), np.eye(2 * size), atol=1e-15)
    np.testing.assert_array_equal(pairs[:, 0], -pairs[:, 1])
    np.testing.assert_array_equal(alone, alone.swapaxes(-2, -1))


@pytest.mark.parametrize("power", [1.0, 2.0, 16.0, -2.0, -16.0])
@pytest.mark.parametrize("kind", ["pairs", "free", "equal eigenvalues"])
def test_derivatives_of_the_norms_are_their_differences(power, kind):
    shape, rng = (3, 2, 2), np.random.default_rng(1)
    F = np.eye(10)[:, 1:7] if kind == "equal eigenvalues" else rng.standard_normal((10, 6))
    spot, basis = Spot.at(F, np.eye(2), np.eye(2), shape), _directions(2, free=kind == "free")

    def second_difference(coefficients, h=1e-4):
        ends = (np.tensordot(sign * h * coefficients, basis, 1) for sign in (-1, 1))
        low, high = (_log_mean(spot.moved(*map(exponential, moves)).eigenvalues, power) for moves in ends)
        return (high - low) / (2 * h), (low - 2 * _log_mean(spot.eigenvalues, power) + high) / h**2

    gradient, curvature = _derivatives(spot, power, spot.tangents(basis))
    for coefficients in (*np.eye(len(basis)), *rng.standard_normal((3, len(basis)))):
        first, second = second_difference(coefficients)
        assert coefficients @ gradient == pytest.approx(first, abs=1e-5 * np.abs(curvature).max())
        assert coefficients @ curvature @ coefficients == pytest.approx(second, abs=1e-5 * np.abs(curvature).max())


def test_kappa_of_full_rank_falls_below_balance():
    A, B = minimizer(np.diag([2.0, 1.0]), 2)
    found = optimal_gauge(hessian(A, B, A @ B), (2, 2, 2), criterion="kappa")
    assert found.given == pytest.approx(2.0, rel=1e-12)
    assert found.value < 1.01
    assert 1 <= found.lower_bound <= found.value


@pytest.mark.parametrize("criterion", ["trace", "lambda_max", "kappa"])
def test_products_and_traces_give_what_the_matrix_gives(criterion):
    problem = Problem(3)
    H = problem.hessian()
    of_matrix = optimal_gauge(H, problem.shape, criterion=criterion)
    of_products = optimal_gauge_from_products(lambda x: H @ x, problem.shape, criterion=criterion)
    np.testing.assert_allclose(of_products.T, of_matrix.T, rtol=1e-6)
    for name in ("value", "given", "lower_bound"):
        assert getattr(of_products, name) == pytest.approx(getattr(of_matrix, name), rel=1e-10)
    if criterion == "trace":
        of_traces = optimal_gauge_from_traces(*partial_traces(H, problem.shape))
        np.testing.assert_allclose(of_traces.T, of_matrix.T, rtol=1e-12)
        assert (of_traces.value, of_traces.given) == pytest.approx((of_matrix.value, of_matrix.given), rel=1e-12)


def test_the_gauge_by_hand():
    # N = H_B⁻¹ # H_A = diag(4, 1/3), T = N^{1/2}; the trace is 2·(4 + 3) there
    found = optimal_gauge_from_traces(np.diag([16.0, 1.0]), np.diag([1.0, 9.0]))
    np.testing.assert_allclose(found.T, np.diag([2.0, 3**-0.5]), rtol=1e-15)
    assert (found.value, found.given) == (14.0, 27.0)
    H_A, H_B = partial_traces(np.diag([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]), (3, 2, 2))
    np.testing.assert_array_equal(H_A, np.diag([9.0, 12.0]))  # rows of A: (1, 2), (3, 4), (5, 6)
    np.testing.assert_array_equal(H_B, np.diag([15.0, 19.0]))  # rows of B: (7, 8), (9, 10)


def test_a_certificate_by_hand():
    # a = b = r = 1: H = [[4, 2], [2, 1]]·2, in gauge t [[8/t², 4], [4, 2t²]] with λ_max = 8/t² + 2t² ≥ 8
    H = np.array([[8.0, 4.0], [4.0, 2.0]])
    bound = lower_bound_over_gauges(H, (1, 1, 1), GaugeCertificate(np.array([[1.0, 0.0]])))
    assert bound == pytest.approx(2 * 8 * 4 / 8, rel=1e-13)  # y = (8, 4), τ = 8
    assert bound < 8
    assert lower_bound_over_gauges(H, (1, 1, 1), GaugeCertificate(np.array([[1.0, -2.0]]))) == 0.0  # Hx = 0
    split = np.diag([8.0, 2.0])  # (8/t², 2t²): κ ≥ 1, with x = e₁, e₂
    certificate = GaugeCertificate(np.eye(2), np.eye(2))
    assert lower_bound_over_gauges(split, (1, 1, 1), certificate) == 1.0
    # a = 2: eigenvalues 8/t², 1/t², 2t²; e₁ is 8 times e₂ in every gauge
    stretched = np.diag([8.0, 1.0, 2.0])
    top, bottom = np.eye(3)[[0, 2]], np.eye(3)[[1, 2]]
    weighted = GaugeCertificate(top * [[1.0], [2.0]], bottom * [[8**0.5], [1.0]])
    # Y_A = 64 and 8, Y_B = 16 and 4; τ = 16 and 10: c = min(64/8, 16/4)·10/16
    assert lower_bound_over_gauges(stretched, (2, 1, 1), weighted) == pytest.approx(2.5, rel=1e-12)


def test_rounding_is_allowed_for_in_a_ratio():
    R, S = np.diag([3.0, 1.0]), np.diag([2.0, 0.5])
    assert squared_ratio(R, 0.0, S, 0.0) == 4.0  # ‖R S⁻¹‖ = 1/0.5
    # δR adds 0.1/0.5 at most, and a δS of norm 0.125 makes S⁻¹ at most 1/(1 − 0.25) times larger
    assert squared_ratio(R, 0.1, S, 0.125) == pytest.approx(((2 + 0.2) / 0.75) ** 2, rel=1e-14)
    assert squared_ratio(R, 0.0, S, 0.5) == np.inf


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_any_direction_is_a_certificate(seed, count):
    problem, rng = Problem(seed, largest=4), np.random.default_rng(seed)
    H = problem.hessian()
    top, bottom = rng.standard_normal((2, count, problem.d))
    bound = lower_bound_over_gauges(H, problem.shape, GaugeCertificate(top))
    of_kappa = lower_bound_over_gauges(H, problem.shape, GaugeCertificate(top, bottom))
    for T in random_gauges(problem.r, 5, seed):
        assert problem.value("lambda_max", T) >= bound > 0
        assert problem.value("kappa", T) >= of_kappa >= 1


@given(st.integers(0, 10**6), st.floats(-6, 6), st.floats(0, 3))
def test_bad_conditioning_costs_only_what_rounding_may(seed, skew, width):
    problem, rng = Problem(seed, largest=4), np.random.default_rng(seed)
    G = random_orthogonal(problem.r, rng) * 10 ** rng.uniform(skew - width, skew + width, problem.r)
    problem.A, problem.B = problem.A @ G, np.linalg.solve(G, problem.B)
    trace = optimal_gauge(problem.hessian(), problem.shape)
    assert problem.value("trace", trace.T) == pytest.approx(trace.value, rel=1e3 * EPS * 10 ** (2 * width + 4))
    found = optimal_gauge(problem.hessian(), problem.shape, criterion="lambda_max")
    assert problem.value("lambda_max", found.T) == pytest.approx(found.value, rel=1e3 * EPS * 10 ** (2 * width + 4))
    assert 0 <= found.lower_bound <= found.value


@pytest.mark.parametrize("e", [-900, -200, 200, 900])
def test_sizes_far_from_1(e):
    problem = Problem(5)
    H = problem.hessian()
    for criterion in ("trace", "lambda_max", "kappa"):
        far, near = (optimal_gauge(M, problem.shape, criterion=criterion) for M in (np.ldexp(H, e), H))
        np.testing.assert_allclose(far.T, near.T, rtol=1e-10)
        shift = 0 if criterion == "kappa" else e
        assert np.ldexp(far.value, -shift) == pytest.approx(near.value, rel=1e-10)
        assert np.ldexp(far.given, -shift) == pytest.approx(near.given, rel=1e-10)
    H_A, H_B = partial_traces(H, problem.shape)
    near = optimal_gauge_from_traces(H_A, H_B)
    for p, q in ((e, e), (e, 0), (e + 2, 0), (0, e)):
        far = optimal_gauge_from_traces(np.ldexp(H_A, p), np.ldexp(H_B, q))
        np.testing.assert_allclose(far.T, near.T * 2.0 ** ((p - q) / 4), rtol=1e-12)
        assert np.ldexp(far.value, -(p + q) // 2) == pytest.approx(near.value, rel=1e-12)


def test_the_smallest_value_need_not_be_attained():
    A, B = np.ones((2, 1)), np.zeros((1, 3))  # LoRA's start: A's Hessian vanishes
    with pytest.raises(
        NoOptimalGaugeError, match="H_A is singular: some direction of the inner dimension costs nothing in A"
    ):
        optimal_gauge(hessian(A, B, A @ B), (2, 3, 1), criterion="lambda_max")
    with pytest.raises(NoOptimalGaugeError, match="H_B is singular"):
        optimal_gauge_from_traces(np.eye(2), np.ones((2, 2)))
    assert optimal_gauge_from_traces(np.diag([1.0, 1e-30]), np.eye(2)).T[1, 1] == pytest.approx(10**-7.5)


@pytest.mark.parametrize(
    ("H", "shape", "message"),
    [
        (np.eye(4), (2, 2, 2), r"H has shape \(4, 4\), but \(a, b, r\) = \(2, 2, 2\) has d = r\(a \+ b\) = 8"),
        (np.eye(4), (2, 2), r"the shape must be \(a, b, r\), not \(2, 2\)"),
        (np.eye(4), (4, 0, 1), "b = 0 must be positive"),
        (np.diag([1.0, 1.0, 1.0, -1.0]), (2, 2, 1), "H is not positive semidefinite: its smallest eigenvalue is -1"),
        (np.triu(np.ones((4, 4))), (2, 2, 1), r"H is not symmetric; pass \(H \+ H.T\)/2"),
        (np.full((4, 4), np.nan), (2, 2, 1), "H contains NaN"),
    ],
)
def test_bad_input_is_refused(H, shape, message):
    for criterion in ("trace", "lambda_max", "kappa"):
        with pytest.raises(ValueError, match=message):
            optimal_gauge(H, shape, criterion=criterion)
    with pytest.raises(ValueError, match=message):
        lower_bound_over_gauges(H, shape, GaugeCertificate(np.ones((1, 4))))


def test_more_bad_input_is_refused():
    with pytest.raises(ValueError, match="criterion must be one of trace, lambda_max, kappa, not 'norm'"):
        optimal_gauge(np.eye(4), (2, 2, 1), criterion="norm")
    with pytest.raises(ValueError, match="criterion must be one of"):
        optimal_gauge_from_products(lambda x: x, (2, 2, 1), criterion="norm")
    with pytest.raises(
        ValueError, match=r"the product has shape \(3,\), but \(a, b, r\) = \(2, 2, 1\) asks for \(4,\)"
    ):
        optimal_gauge_from_products(lambda x: x[1:], (2, 2, 1))
    with pytest.raises(ValueError, match="a = 0 must be positive"):
        optimal_gauge_from_products(lambda x: x, (0, 2, 1))
    with pytest.raises(TypeError, match="r must be an integer"):
        optimal_gauge(np.eye(4), (2, 2, 1.0))
    with pytest.raises(ValueError, match=r"certificate.top has 3 columns, but H has 4 rows"):
        lower_bound_over_gauges(np.eye(4), (2, 2, 1), GaugeCertificate(np.ones((1, 3))))
    with pytest.raises(ValueError, match=r"H_A has shape \(2, 2\) and H_B \(1, 1\)"):
        optimal_gauge_from_traces(np.eye(2), np.eye(1))
    with pytest.raises(ValueError, match=r"H_A must be \(r, r\), but has shape \(2, 3\)"):
        optimal_gauge_from_traces(np.ones((2, 3)), np.eye(2))
    with pytest.raises(ValueError, match="H_B is not symmetric"):
        optimal_gauge_from_traces(np.eye(2), np.array([[1.0, 1.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="H_B is not positive semidefinite"):
        optimal_gauge_from_traces(np.eye(2), np.diag([1.0, -1.0]))
    with pytest.raises(OutOfRangeError, match="the trace"):
        optimal_gauge_from_traces(np.eye(2) * 1.5e308, np.eye(2) * 1.5e308)


def test_a_bound_from_a_factor_allows_for_all_of_its_columns():
    """Rounding of a product with FFᵀ grows with the number of columns, though FFᵀ has few entries."""
    n = 20_000
    F = np.full((2, n), n**-0.5)  # FFᵀ = [[1, 1], [1, 1]], whose largest eigenvalue N + 1/N is 2 at least
    bound = lower_bound_from_factor(F, (1, 1, 1), GaugeCertificate(np.ones((1, 2))))
    assert 2 * (1 - 20 * n * EPS) < bound < 2 * (1 - n * EPS)


@pytest.mark.parametrize("criterion", ["trace", "lambda_max", "kappa"])
def test_a_factor_gives_what_its_hessian_gives(criterion):
    for seed in range(6):
        problem = Problem(seed, largest=4, rank=1 if criterion == "kappa" else None)
        F, H = problem.factor().T, problem.hessian()
        of_H = optimal_gauge(H, problem.shape, criterion=criterion)
        of_F = optimal_gauge_from_factor(F, problem.shape, criterion=criterion)
        assert of_F.value == pytest.approx(of_H.value, rel=1e-6)
        assert of_F.given == pytest.approx(of_H.given, rel=1e-9)
        assert of_F.value == pytest.approx(problem.value(criterion, of_F.T), rel=1e-7)
        assert 0 <= of_F.value - of_F.lower_bound <= 1e-4 * of_F.value
        if criterion != "trace":
            assert of_F.lower_bound == lower_bound_from_factor(F, problem.shape, of_F.certificate)
            assert of_F.lower_bound == pytest.approx(
                lower_bound_over_gauges(H, problem.shape, of_F.certificate), rel=1e-6
            )


def test_the_bound_of_a_leading_part_holds_for_the_whole_and_stays_below_that_of_its_products():
    for seed in range(20):
        problem = Problem(seed, spread=1.5)
        U, sigma, _ = np.linalg.svd(problem.factor().T, full_matrices=False)
        kept = max(problem.r, len(sigma) // 3)
        F = U[:, :kept] * sigma[:kept]
        part = optimal_gauge_from_factor(F, problem.shape, criterion="lambda_max")
        whole = optimal_gauge(problem.hessian(), problem.shape, criterion="lambda_max")
        anew = lower_bound_over_gauges(problem.hessian(), problem.shape, part.certificate)
        assert 0 < part.lower_bound <= whole.value
        assert 0 < anew <= whole.value
        assert problem.value("lambda_max", part.T) >= whole.lower_bound


def test_a_wider_gap_ends_the_search_earlier():
    gaps = []
    for seed in range(6):
        problem = Problem(seed)
        loose = optimal_gauge_from_factor(problem.factor().T, problem.shape, criterion="lambda_max", gap=0.05)
        gaps.append(1 - loose.lower_bound / loose.value)
        assert problem.value("lambda_max", loose.T) == pytest.approx(loose.value, rel=1e-9)
    assert max(gaps) <= 0.05
    assert max(gaps) > 1e-3


def test_factors_of_extreme_size_and_of_wrong_shape():
    problem = Problem(3)
    F = problem.factor().T
    for criterion in ("trace", "lambda_max"):
        near = optimal_gauge_from_factor(F, problem.shape, criterion=criterion)
        far = optimal_gauge_from_factor(np.ldexp(F, 400), problem.shape, criterion=criterion)
        for field in ("value", "given", "lower_bound"):
            assert getattr(far, field) == pytest.approx(np.ldexp(getattr(near, field), 800), rel=1e-9)
        np.testing.assert_allclose(far.T, near.T, rtol=1e-6)
    with pytest.raises(OutOfRangeError, match="λ_max"):
        optimal_gauge_from_factor(np.ldexp(F, 520), problem.shape, criterion="lambda_max")
    with pytest.raises(ValueError, match=r"F has .* rows, but \(a, b, r\)"):
        optimal_gauge_from_factor(F[1:], problem.shape)
    with pytest.raises(NoOptimalGaugeError, match="H_A is singular"):
        optimal_gauge_from_factor(np.where(np.arange(len(F))[:, None] < problem.a * problem.r, 0, F), problem.shape)
