"""What the two sides of a claim are: its statement once more, from the matrices alone, against both arithmetics."""

from fractions import Fraction

import numpy as np
import pytest

from lorakappa.conditioning import balance, hessian, jacobian
from lorakappa.conditioning.claims import CLAIMS, ilora_update, nearest_balanced_pair, projected_training
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Shape, exact
from tests.conditioning.test_claim_sides import instances, ordinary, repeated


class Plain:
    """The numbers that statements speak of, from A, B, Z and J by dense algebra."""

    def __init__(self, A, B, Z, extras):
        self.A, self.B, self.Z, self.extras = A, B, Z, extras
        (self.a, self.r), self.b = A.shape, B.shape[1]
        self.k = min(self.a, self.b)
        self.s = np.append(np.linalg.svd(Z, compute_uv=False), 0.0)
        self.s_r, self.s_next = self.s[self.r - 1], self.s[self.r]
        self.norms = np.linalg.norm(A, 2) ** 2, np.linalg.norm(B, 2) ** 2
        self.least = np.linalg.svd(A)[1][-1] ** 2, np.linalg.svd(B)[1][-1] ** 2
        self.L, self.m = sum(self.norms), min(self.least)
        self.eigenvalues = np.linalg.eigvalsh(hessian(A, B, Z))
        self.kappa = kappa_of(self.eigenvalues, self.r)
        self.size = np.linalg.norm(A) ** 2 + np.linalg.norm(B) ** 2
        self.nuclear = self.s[: self.r].sum()
        gap = self.s_r - self.s_next
        self.kappa_balanced = (1 if self.r == self.a == self.b else 2) * self.s[0] / gap
        self.gauge = np.linalg.lstsq(balanced_left(A, B), A, rcond=None)[0]

    def at(self, entries):
        """κ at the pair with a diagonal gauge, where the Hessian falls into blocks of at most 2×2, to all digits."""
        s, rest, g = self.s[: self.r], self.s[self.r : self.k], np.square(entries)
        alpha, beta = s * g, s / g
        values = [
            *np.add.outer(alpha, beta).ravel(),
            *(list(beta) * (self.a - self.k) + list(alpha) * (self.b - self.k)),
        ]
        for s_l in rest:
            largest = (alpha + beta + np.hypot(alpha - beta, 2 * s_l)) / 2
            values += [*largest, *((s**2 - s_l**2) / largest)]
        return max(values) / min(values)

    def scaled(self):
        """Condition number of P⁻¹H past the r² zeros, P the Kronecker product of the Gram matrices."""
        P = np.zeros((self.r * (self.a + self.b),) * 2)
        cut = self.a * self.r
        P[:cut, :cut] = np.kron(np.eye(self.a), self.B @ self.B.T)
        P[cut:, cut:] = np.kron(self.A.T @ self.A, np.eye(self.b))
        values = np.sort(np.linalg.eigvals(np.linalg.solve(P, hessian(self.A, self.B, self.Z))).real)
        return values[-1] / values[self.r**2]

    def model2(self, A, B):
        """κ of Model 2 at an interpolating pair with this J."""
        return condition_of(self.extras["J"] @ jacobian(A, B))

    def model2_smoothness(self, A, B):
        return np.linalg.norm(self.extras["J"] @ jacobian(A, B), 2) ** 2

    def outer_condition(self):
        return condition_of(self.extras["J"])

    def tangent_condition(self):
        Q, s, _ = np.linalg.svd(jacobian(self.A, self.B))
        return condition_of(self.extras["J"] @ Q[:, : (s > 1e-9 * s[0]).sum()])

    def gap_at_equal_norms(self):
        """‖AᵀA − BBᵀ‖² at (tA, B/t) with ‖tA‖ = ‖B/t‖, relative to ‖AᵀA‖² + ‖BBᵀ‖² there."""
        t = np.sqrt(np.linalg.norm(self.B) / np.linalg.norm(self.A))
        left, right = t**2 * self.A.T @ self.A, self.B @ self.B.T / t**2
        return np.linalg.norm(left - right) ** 2 / (np.linalg.norm(left) ** 2 + np.linalg.norm(right) ** 2)

    def motion(self):
        return np.linalg.norm(self.extras["dA"]) ** 2 + np.linalg.norm(self.extras["dB"]) ** 2

    def metric(self):
        """The shortest motion from the hyperbalanced pair to the same first-order change, by least squares."""
        X, Y = diagonal_pair(self)
        change = self.extras["dA"] @ Y + X @ self.extras["dB"]
        shortest = np.linalg.lstsq(jacobian(X, Y), change.ravel(), rcond=None)[0]
        return np.linalg.norm(shortest) ** 2

    def stepped(self):
        """σ_r² of the product after a GD step from the hyperbalanced pair."""
        (X, Y), G, step = diagonal_pair(self), self.extras["gradient"], self.extras["step"].item()
        return np.linalg.svd((X - step * G @ Y.T) @ (Y - step * X.T @ G))[1][self.r - 1] ** 2

    def freedom(self):
        """Dimension of the kernel of f + R, from directions (AΩ, −ΩB) that leave D alone."""
        ratio, kept = RHO(self), []
        for i, j in np.ndindex(self.r, self.r):
            turn = np.zeros((self.r, self.r))
            turn[i, j] = 1
            moves = self.A @ turn, -turn @ self.B
            change = moves[1] @ self.B.T - ratio * self.A.T @ moves[0]
            kept.append((change + change.T).ravel())
        return self.r**2 - np.linalg.matrix_rank(np.array(kept), tol=1e-9)

    def turned(self, X, Y):
        """Squared distance to a balanced pair turned by the Cayley transform of K − Kᵀ and the signs of K."""
        K = self.extras["K"]
        skew, identity = K - K.T, np.eye(self.r)
        O = np.linalg.solve(identity - skew, identity + skew).T * np.where(np.diag(K) < 0, -1, 1)
        return np.linalg.norm(X @ O - self.A) ** 2 + np.linalg.norm(O.T @ Y - self.B) ** 2


def condition_of(K):
    """The largest over the smallest non-zero eigenvalue of KᵀK."""
    sigma = np.linalg.svd(K, compute_uv=False)
    return (sigma[0] / min(x for x in sigma if x > 1e-9 * sigma[0])) ** 2


def kappa_of(eigenvalues, r):
    return eigenvalues[-1] / eigenvalues[r * r]


def balanced_left(A, B):
    U, s, _ = np.linalg.svd(A @ B)
    return U[:, : A.shape[1]] * np.sqrt(s[: A.shape[1]])


def diagonal_pair(x):
    """US^{1/2}, S^{1/2}Vᵀ without regard to signs: in the canonical frame, diag(q) both."""
    root = np.sqrt(x.s[: x.r])
    return np.eye(x.a, x.r) * root, root[:, None] * np.eye(x.r, x.b)


def distance(pair, x):
    return np.linalg.norm(pair[0] - x.A) ** 2 + np.linalg.norm(pair[1] - x.B) ** 2


def corrected_lower(x):
    if x.r == x.k:
        return x.kappa
    G, gap = x.gauge, x.s_r - x.s_next
    last = np.linalg.norm(G[-1]) ** 2 + np.linalg.norm(np.linalg.inv(G)[:, -1]) ** 2
    return x.L * max(1 / x.m, last / (2 * gap))


def corrected_upper(x):
    if x.r == x.k:
        return x.kappa
    block = np.array([[x.least[1], -x.s_next], [-x.s_next, x.least[0]]])
    worst = max(np.linalg.norm(x.gauge, 2), np.linalg.norm(np.linalg.inv(x.gauge), 2))
    return x.L / max(np.linalg.eigvalsh(block)[0], (x.s_r - x.s_next) / worst**2)


def spread_gauge(x):
    first = 1e-3 if x.r == 1 and x.a < x.b else 1e3
    return [first] + [1] * (x.r - 1)


def far_gauge(x):
    """B = cI or A = cI, whichever is square, c = 4√s₁."""
    c, q = 4 * np.sqrt(x.s[0]), np.sqrt(x.s[: x.r])
    return q / c if x.b <= x.a else c / q


RHO = lambda x: np.linalg.norm(x.B @ x.B.T) / np.linalg.norm(x.A.T @ x.A)  # noqa: E731

FORMULAS = {
    "minimizers-orbit": (lambda x: (np.abs(x.eigenvalues) < 1e-9 * x.eigenvalues[-1]).sum(), "==", lambda x: x.r**2),
    "model1-smoothness": (lambda x: x.eigenvalues[-1], "==", lambda x: x.L),
    "kappa-spread": (lambda x: x.at(spread_gauge(x)), ">=", lambda x: 1000),
    "model1-lower-bound": (lambda x: x.kappa, ">=", lambda x: x.L / x.m),
    "model1-lower-bound-full-rank": (lambda x: x.kappa, ">=", lambda x: x.L / x.m),
    "model1-upper-bound": (
        lambda x: x.kappa, "<=", lambda x: np.inf if abs(x.m - x.s_next) < 1e-12 else x.L / (x.m - x.s_next)
    ),
    "model1-upper-bound-positive": (lambda x: x.kappa, "<=", lambda x: x.L / (x.m - x.s_next)),
    "exact-rank-condition-number": (lambda x: x.kappa, "==", lambda x: x.L / x.m),
    "model1-bounds-corrected-lower": (lambda x: x.kappa, ">=", corrected_lower),
    "model1-bounds-corrected-upper": (lambda x: x.kappa, "<=", corrected_upper),
    "balanced-condition-number": (lambda x: x.at(np.ones(x.r)), "==", lambda x: x.kappa_balanced),
    "balanced-optimal-model1": (lambda x: x.kappa, ">=", lambda x: 2 * x.s[0] / (x.s_r - x.s_next)),
    "balanced-optimal-full-rank": (lambda x: x.kappa, ">=", lambda x: x.kappa_balanced),
    "balanced-smallest-smoothness": (lambda x: x.eigenvalues[-1], ">=", lambda x: 2 * x.s[0]),
    "kappa-bounds-smoothness": (
        lambda x: x.eigenvalues[-1], "<=", lambda x: max(x.kappa, np.linalg.cond(x.A) * np.linalg.cond(x.B))
    ),
    "full-rank-optimum": (lambda x: x.at(far_gauge(x)), "<=", lambda x: 1.01),
    "balanced-unique": (lambda x: x.kappa, ">", lambda x: x.kappa_balanced),
    "balanced-unique-rank-2": (lambda x: x.kappa, ">", lambda x: x.kappa_balanced),
    "balanced-smallest-trace": (lambda x: x.eigenvalues.sum(), ">=", lambda x: (x.a + x.b) * x.nuclear),
    "smallest-trace": (lambda x: x.eigenvalues.sum(), ">=", lambda x: 2 * np.sqrt(x.a * x.b) * x.nuclear),
    "balanced-smallest-norm": (lambda x: x.size, ">=", lambda x: 2 * x.nuclear),
    "model2-upper-bound": (
        lambda x: x.model2(x.A, x.B), "<=", lambda x: np.sqrt(x.outer_condition()) * x.L / x.m
    ),
    "model2-upper-bound-exponent-1": (
        lambda x: x.model2(x.A, x.B), "<=", lambda x: x.outer_condition() * x.L / x.m
    ),
    "model2-upper-bound-corrected": (
        lambda x: x.model2(x.A, x.B), "<=", lambda x: np.linalg.cond(x.extras["J"]) ** 2 * x.L / x.m
    ),
    "model2-upper-bound-tangent": (
        lambda x: x.model2(x.A, x.B), "<=", lambda x: x.tangent_condition() * x.L / x.m
    ),
    "balanced-optimal-model2": (
        lambda x: x.model2(x.A, x.B), ">=", lambda x: x.model2(*diagonal_pair(x))
    ),
    "balanced-smallest-smoothness-model2": (
        lambda x: x.model2_smoothness(x.A, x.B), ">=", lambda x: x.model2_smoothness(*diagonal_pair(x))
    ),
    "balanced-optimal-model2-bound": (lambda x: x.L / x.m, ">=", lambda x: 2 * x.s[0] / x.s_r),
    "equal-norms-are-balance": (lambda x: x.gap_at_equal_norms(), "==", lambda x: 0),
    "intrinsic-metric": (lambda x: x.motion(), ">=", lambda x: x.metric()),
    "intrinsic-gd-keeps-rank": (lambda x: x.stepped(), ">=", lambda x: x.s_r**2 / 1e4),
    "intrinsic-gd-keeps-rank-small-steps": (
        lambda x: x.stepped(),
        ">=",
        lambda x: max(0, 1 - x.extras["step"].item() * np.linalg.norm(x.extras["gradient"], 2)) ** 4 * x.s_r**2,
    ),
    "ilora-restricts-freedom": (lambda x: x.freedom(), "==", lambda x: x.r * (x.r - 1) / 2),
    "ilora-isolates-minimizers": (lambda x: x.freedom(), "==", lambda x: 0),
    "ilora-penalty-fixes-variance": (lambda x: np.linalg.norm(x.A @ x.B) ** 2 / x.a, "<=", lambda x: 10),
    "projection-nearest": (lambda x: distance(balance(x.A, x.B), x), "<=", lambda x: x.turned(*balance(x.A, x.B))),
    "scaled-gd-rate-exact-rank": (lambda x: x.scaled(), "<=", lambda x: 2),
    "scaled-gd-rate-free-of-kappa": (lambda x: x.scaled(), "<=", lambda x: 2),
    "scaled-gd-condition-number": (
        lambda x: x.scaled(),
        "==",
        lambda x: 2 * x.s_r / (x.s_r - x.s_next) if x.r < x.k else 1 if x.a == x.b else 2,
    ),
    "scaled-gd-against-balance": (lambda x: x.scaled(), "<=", lambda x: x.kappa_balanced),
    "ilora-ratio-cost-lower": (
        lambda x: x.kappa / x.kappa_balanced, ">=", lambda x: (RHO(x) + 2 + 1 / RHO(x)) / 4
    ),
    "ilora-ratio-cost-upper": (
        lambda x: x.kappa / x.kappa_balanced, "<=", lambda x: (1 + max(RHO(x), 1 / RHO(x))) / 2
    ),
    "ilora-ratio-smallest-trace": (
        lambda x: x.eigenvalues.sum(),
        ">=",
        lambda x: (x.b * np.sqrt(x.a / x.r) + x.a / np.sqrt(x.a / x.r)) * x.nuclear,
    ),
}  # fmt: skip


def floats(matrix):
    if isinstance(matrix, np.ndarray):
        return matrix
    return np.array([[exact.to_float(x) for x in row] for row in matrix.tolist()])


def plain(instance):
    extras = {name: floats(value) for name, value in instance.extras.items()}
    return Plain(floats(instance.A), floats(instance.B), floats(instance.Z), extras)


def gentle(claim):
    """Instances whose numbers dense algebra gives to many digits, in floats and exactly."""
    chosen = 0
    for shape, parameters, _ in instances(claim, 400, 24, seed=5):
        rationals = tuple(Fraction(round(8 * x), 8) for x in parameters.tolist())
        if chosen == 24 or not claim.family.valid(shape, rationals) or repeated(shape, rationals):
            continue
        floating = claim.family.floating(shape, np.array([float(x) for x in rationals]))
        if np.linalg.cond(floating.G) < 30 and floating.rounding < 1e-9:
            chosen += 1
            yield floating, claim.family.exact(shape, rationals)
    assert chosen == 24


@pytest.mark.parametrize("id", FORMULAS)
def test_both_sides_are_what_the_statement_says(id):
    claim = CLAIMS[id]
    left, relation, right = FORMULAS[id]
    for floating, rational in gentle(claim):
        x = plain(floating)
        expected = pytest.approx([left(x), right(x)], rel=1e-6)
        found = claim.compare(floating)
        assert (found.relation, [found.left, found.right]) == (relation, expected), floating.shape
        if id == "projection-nearest":  # O is arbitrary: exactly it turns diag(q), diag(q), whatever the signs of P
            expected = pytest.approx([left(x), x.turned(*diagonal_pair(x))], rel=1e-6)
        if claim.compare_exactly is not None:
            found = claim.compare_exactly(rational)
            sides = [exact.to_float(found.left), exact.to_float(found.right)]
            assert (found.relation, sides) == (relation, expected), floating.shape


@pytest.mark.parametrize("id", [id for id, claim in CLAIMS.items() if getattr(claim, "tight_at", None)])
def test_the_case_of_equality_on_record_is_one(id):
    claim = CLAIMS[id]
    _, comparison = claim.evaluate(*claim.tight_at)
    assert comparison.indistinguishable
    assert comparison.relation in ("<=", ">=", "==")


def test_rotations_are_orthogonal_and_of_either_determinant():
    rng, determinants = np.random.default_rng(0), set()
    for r in (1, 2, 3, 4):
        for _ in range(8):
            K = rng.standard_normal((r, r))
            O = nearest_balanced_pair.rotation(K)
            np.testing.assert_allclose(O.T @ O, np.eye(r), atol=1e-14)
            determinants.add(round(np.linalg.det(O)))
            S = O * np.where(np.diag(K) < 0, -1, 1)  # (I − S)(I + S)⁻¹ with S = K − Kᵀ
            np.testing.assert_allclose(S @ (np.eye(r) + K - K.T), np.eye(r) - K + K.T, atol=1e-13)
    assert determinants == {-1, 1}
    assert nearest_balanced_pair._signs(exact.matrix([[0, 5], [5, -3]])) == exact.matrix([[1, 0], [0, -1]])


def test_the_rounding_of_the_nearest_pair_is_that_of_its_smallest_singular_value():
    x = ordinary(CLAIMS["nearest-gauge-is-nearest"])
    size = np.linalg.norm(x.A) * np.linalg.norm(x.B) / x.s[1]
    assert nearest_balanced_pair._rounding(x) == pytest.approx(claim_rtol(size, 14))


def test_the_gradient_at_a_start_by_hand(monkeypatch):
    A, B, Z = np.array([[1.0], [2.0]]), np.array([[3.0, 0.0]]), np.array([[1.0, 1.0], [0.0, 2.0]])
    # AB − Z = [[2, −1], [6, −2]]; times Bᵀ: [6, 18]; Aᵀ times it: [14, −5]
    assert projected_training._gradient_norm(A, B, Z) == 6**2 + 18**2 + 14**2 + 5**2
    claim, start = CLAIMS["projection-trains-on"], (np.zeros((2, 1)), B, Z)
    assert claim.compare(start).left == 9 + 0  # −ZBᵀ = [−3, 0]
    monkeypatch.setattr(projected_training, "balance", lambda A, B, gauge: (A, 2 * B if gauge == "nearest" else B))
    assert claim.compare(start).left == 0
    assert claim.compare(start).suspicious
    dead = CLAIMS["projection-literal-trains-on"]
    found = dead.compare_exactly(tuple(exact.matrix(M.astype(int).tolist()) for M in start))
    assert (found.left, found.relation, found.right) == (0, ">", 0)


def test_where_p_leaves_no_remainder_above_rounding_nothing_is_divided():
    """Numbers q, q stay balanced along every tangent: what P changes there is rounding, against ‖X‖ + ‖Y‖ = 2q."""
    claim = CLAIMS["projection-first-order"]
    family = claim.family
    for seed in range(40):
        x = family.floating(Shape(1, 1, 1), family.draw(Shape(1, 1, 1), np.random.default_rng(seed)))
        found = claim.compare(x)
        assert (found.left, found.relation, found.right) == (1.0, "<=", 2.0)
    found = claim.compare(ordinary(claim))
    assert (found.relation, found.right) == ("<=", 2.0)
    assert 0.5 < found.left < 1.5  # a second-order remainder


def test_the_slope_of_the_penalty_is_relative_to_the_size_of_its_terms(monkeypatch):
    claim = CLAIMS["ilora-gradient-constant"]
    x = ordinary(claim)
    monkeypatch.setattr(ilora_update, "_five_point_slope", lambda values: 1.0)
    monkeypatch.setattr(ilora_update, "_update", lambda x: (0 * x.A, 0 * x.B))
    norms = [np.linalg.norm(M) for M in (x.A, x.B, x.extras["dA"], x.extras["dB"])]
    for step, ratio in ((0.1, 0.5), (0.2, 3.0)):
        x.extras["step"][0, 0], x.extras["ratio"][0, 0] = step, ratio
        # R of a pair of norm up to 2·Σ, eight times in the difference; and the update's part, 4/step times
        size = 8 * max(ratio, 1) ** 2 * (2 * sum(norms)) ** 4 + 4 / step * (norms[0] * norms[2] + norms[1] * norms[3])
        assert claim.compare(x).left == pytest.approx(1 / size)
