"""What both sides of the claims on best gauges, weights and gradients are: from the statements, by dense algebra."""

from itertools import islice

import numpy as np
import pytest

from lorakappa.conditioning import hessian, jacobian
from lorakappa.conditioning.claims import CLAIMS, optimal_gauge
from lorakappa.conditioning.verification import exact
from tests.conditioning.test_claim_formulas import condition_of, diagonal_pair, gentle, kappa_of, plain

INSTANCES = 10


def factor(x, pair=None):
    """F with H = FᵀF of ½‖J·vec(AB) − z‖² at the pair."""
    J = x.extras["J"] if "C" not in x.extras else np.kron(x.extras["C"], x.extras["D"].T)
    return J @ jacobian(*(pair or (x.A, x.B)))


def trace(x, pair=None):
    return np.linalg.norm(factor(x, pair)) ** 2


def partial(rows, x):
    """H_A and H_B of Σ vvᵀ over rows v = (vec A, vec B)."""
    of_A, of_B = rows[:, : x.a * x.r].reshape(-1, x.a, x.r), rows[:, x.a * x.r :].reshape(-1, x.r, x.b)
    return np.einsum("nai,naj->ij", of_A, of_A), np.einsum("nib,njb->ij", of_B, of_B)


def twice_nuclear(H_A, H_B):
    return 2 * np.sqrt(np.linalg.eigvals(H_A @ H_B).real.clip(0)).sum()


def pairs(x):
    """The pair, the one halfway along its geodesic and the one at the end."""
    T = x.extras["K"] @ x.extras["K"].T
    return [(x.A @ M, np.linalg.solve(M, x.B)) for M in (np.eye(x.r), T, T @ T)]


def spectra(x):
    return [np.linalg.eigvalsh(F.T @ F)[::-1] for F in (factor(x, pair) for pair in pairs(x))]


def tightest_norm(x):
    """Square halfway and product at the ends of the Ky Fan norm with the least room."""
    start, middle, end = (values.cumsum() for values in spectra(x))
    k = int(np.argmin(1 - middle**2 / (start * end)))
    return middle[k] ** 2, start[k] * end[k]


def bound(x):
    """What the directions at the balanced pair say of every gauge."""
    F, X = factor(x, diagonal_pair(x)), x.extras["directions"]
    images = X @ F.T @ F
    return twice_nuclear(*partial(images, x)) / np.sum(images * X)


def halfway(kappas):
    start, middle, end = kappas
    return middle**2, start * end


def larger_end(kappas):
    start, middle, end = kappas
    return middle, max(start, end)


def model1(x):
    return [kappa_of(np.linalg.eigvalsh(hessian(*pair, x.Z)), x.r) for pair in pairs(x)]


def model2(x):
    return [condition_of(factor(x, pair)) for pair in pairs(x)]


def noise_floor(x):
    """Three steps' noise, each damped by those that follow, and the sum over eigenvalues."""
    values, t = x.eigenvalues, x.extras["t"].item()
    gamma = t / values.sum()
    excess = sum(gamma**2 / 2 * np.sum(values**2 * (1 - gamma * values) ** (2 * k)) for k in range(3))
    return excess, gamma / 2 * np.sum(values * (1 - (1 - gamma * values) ** 6) / (2 - gamma * values))


def floors(x):
    values = spectra(x)
    gamma = x.extras["t"].item() / max(part.sum() for part in values)
    return halfway([np.sum(part / (2 - gamma * part)) for part in values])


def gradients(x, A, B):
    """Rows of g_A = GBᵀ and columns of g_B = AᵀG, both gradients together."""
    both = [x.extras["first"], x.extras["second"]]
    return np.vstack([G @ B.T for G in both]), np.hstack([A.T @ G for G in both])


def moments(x, A, B):
    by_A, by_B = gradients(x, A, B)
    return by_A.T @ by_A, by_B @ by_B.T


def sizes(x, A, B):
    return sum(np.trace(H) for H in moments(x, A, B)), np.linalg.norm(A) ** 2 + np.linalg.norm(B) ** 2


def damped(x):
    """Both sides of `fisher-damped-optimum`, the moments taken at the pair itself."""
    (f, g), (gradient, size) = sizes(x, *diagonal_pair(x)), sizes(x, x.A, x.B)
    pull, (H_A, H_B) = x.extras["damping"].item() * f, moments(x, x.A, x.B)
    M_A, M_B = g * H_A + pull * x.B @ x.B.T, g * H_B + pull * x.A.T @ x.A
    return gradient * g + pull * size, twice_nuclear(M_A, M_B)


def norms(x):
    return np.linalg.norm(x.extras["C"]), np.linalg.norm(x.extras["D"])


def sigma(x, name):
    return np.linalg.svd(x.extras[name], compute_uv=False)


def weighted_smallest(x):
    return 2 * np.prod(norms(x)) * np.linalg.norm(x.extras["C"] @ x.A @ x.B @ x.extras["D"], "nuc")


def trace_cost(x):
    (C, D), (of_C, of_D) = norms(x), (sigma(x, "C"), sigma(x, "D"))
    rho = max(C * of_D[0] / (D * of_C[-1]), D * of_C[0] / (C * of_D[-1]))
    return trace(x, diagonal_pair(x)) / weighted_smallest(x), (rho + 1 / rho) / 2


def condition_bound(x):
    (of_C, of_D), s = (sigma(x, "C"), sigma(x, "D")), np.linalg.svd(x.extras["C"] @ x.A @ x.B @ x.extras["D"])[1]
    return 2 * s[0] / s[x.r - 1] * (min(of_C[-1], of_D[-1]) / max(of_C[0], of_D[0])) ** 2


SIDES = {
    "trace-optimal-gauge": lambda x: (trace(x), twice_nuclear(*partial(factor(x), x))),
    "gauge-norms-log-convex": tightest_norm,
    "largest-eigenvalue-certificate": lambda x: (np.linalg.norm(factor(x), 2) ** 2, bound(x)),
    "model1-kappa-log-convex": lambda x: halfway(model1(x)),
    "model2-kappa-log-convex": lambda x: halfway(model2(x)),
    "model2-kappa-quasi-convex": lambda x: larger_end(model2(x)),
    "model2-kappa-quasi-convex-rank-1": lambda x: larger_end(model2(x)),
    "sgd-noise-floor": noise_floor,
    "sgd-noise-floor-log-convex": floors,
    "fisher-smallest-trace": lambda x: (sizes(x, x.A, x.B)[0], twice_nuclear(*moments(x, x.A, x.B))),
    "fisher-damped-optimum": damped,
    "weighted-balanced-smallest-trace": lambda x: (trace(x), trace(x, diagonal_pair(x))),
    "weighted-smallest-trace": lambda x: (trace(x), weighted_smallest(x)),
    "weighted-balance-trace-cost": trace_cost,
    "weighted-balanced-optimal": lambda x: (condition_of(factor(x)), condition_of(factor(x, diagonal_pair(x)))),
    "weighted-condition-number-bound": lambda x: (condition_of(factor(x)), condition_bound(x)),
}


@pytest.mark.parametrize("id", SIDES)
def test_both_sides_are_what_the_statement_says(id):
    claim = CLAIMS[id]
    for floating, rational in islice(gentle(claim), INSTANCES):
        expected = pytest.approx(SIDES[id](plain(floating)), rel=1e-6)
        exactly = claim.compare_exactly(rational)
        for found in (claim.compare(floating), exactly):
            assert (exact.to_float(found.left), exact.to_float(found.right)) == expected, floating.shape
        assert exactly.tolerance == 0


@pytest.mark.parametrize(
    ("id", "damping"), [("fisher-moments-transport", "balance"), ("fisher-moments-transport-identity", "identity")]
)
def test_what_transported_moments_differ_by(id, damping):
    """Squared distance of the moments at the pair and of those carried there from the balanced one."""
    claim = CLAIMS[id]
    for floating, rational in islice(gentle(claim), INSTANCES):
        x = plain(floating)
        delta, (f, g) = x.extras["damping"].item(), sizes(x, *diagonal_pair(x))

        def at(A, B, x=x, delta=delta, f=f, g=g):
            H_A, H_B = moments(x, A, B)
            if damping == "identity":
                return H_A + delta * np.eye(x.r), H_B + delta * np.eye(x.r)
            return g * H_A + delta * f * B @ B.T, g * H_B + delta * f * A.T @ A

        T = np.linalg.lstsq(diagonal_pair(x)[0], x.A, rcond=None)[0]
        M_A, M_B = at(*diagonal_pair(x))
        carried = np.linalg.solve(T, np.linalg.solve(T, M_A).T), T.T @ M_B @ T
        off = sum(np.linalg.norm(one - other) ** 2 for one, other in zip(at(x.A, x.B), carried, strict=True))
        size = sum(np.linalg.norm(M) ** 2 for M in carried)
        exactly, floats = claim.compare_exactly(rational), claim.compare(floating)
        assert exact.to_float(exactly.left) == pytest.approx(off, rel=1e-6, abs=1e-12 * size)
        assert floats.left == pytest.approx((off / size) ** 0.5, rel=1e-6, abs=100 * floats.tolerance)
        assert (exact.to_float(exactly.right), floats.right) == (0, 0)


def test_without_a_direction_the_certificate_says_nothing():
    claim = CLAIMS["largest-eigenvalue-certificate"]
    shape = claim.tight_at[0]
    zero = optimal_gauge.WITH_DIRECTIONS.parameters(
        [1], [0], [[1]], J=optimal_gauge.IDENTITY, directions=[[0, 0, 0, 0]] * 2
    )
    for found in (
        claim.compare_exactly(claim.family.exact(shape, zero)),
        claim.compare(claim.family.floating(shape, np.array(zero, dtype=float))),
    ):
        assert exact.to_float(found.left) == pytest.approx(2)
        assert found.right == 0


def test_diagonal_gauges_and_turns_are_drawn_over_a_decade():
    family, rng = optimal_gauge.DIAGONAL_ON_GEODESICS, np.random.default_rng(0)
    drawn = [family.floating(shape, family.draw(shape, rng)) for shape in family.shapes for _ in range(300)]
    for matrices in ([x.G for x in drawn], [x.extras["K"] for x in drawn], [x.extras["J"] for x in drawn]):
        entries = np.concatenate([np.diag(M) for M in matrices])
        assert all(np.count_nonzero(M) == len(M) for M in matrices)
        assert 10**-0.5 <= entries.min() < 0.33
        assert 3.1 < entries.max() <= 10**0.5
