"""Every static claim: the recorded verdict comes out, and refutations stand up to an outside check."""

import contextlib
import re
import textwrap
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lorakappa.conditioning import (
    balance,
    claims,
    hessian,
    imbalance,
    instances,
    jacobian,
    penalty_step,
    scaled_gradient,
    verification,
)
from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.verification import report

TRIALS = 250
PAGE = (Path(__file__).parents[2] / "conditioning/README.md").read_text(encoding="utf-8")
REFUTED = [claim for claim in CLAIMS.values() if claim.recorded == "refuted"]
ISSUED = [
    "invariance",
    "minimizers-orbit",
    "kappa-spread",
    "model1-lower-bound",
    "model1-lower-bound-full-rank",
    "model1-upper-bound",
    "model1-upper-bound-positive",
    "exact-rank-condition-number",
    "model1-smoothness",
    "model1-exact-spectrum",
    "balanced-optimal-model1",
    "balanced-optimal-full-rank",
    "balanced-smallest-smoothness",
    "balanced-smallest-smoothness-model2",
    "kappa-bounds-smoothness",
    "balanced-unique",
    "model2-upper-bound",
    "model2-upper-bound-exponent-1",
    "model2-upper-bound-corrected",
    "model2-upper-bound-tangent",
    "balanced-optimal-model2",
    "projection-preserves-product",
    "projection-hyperbalanced",
    "projection-idempotent",
    "projection-removes-invariance",
    "projection-polar-route",
    "projection-retraction",
    "projection-first-order",
    "balanced-gauges-first-order",
    "projection-nearest",
    "projection-reachable-set",
    "projection-reachable-rank",
    "projection-keeps-gradient-step",
    "intrinsic-gd",
    "intrinsic-metric",
    "intrinsic-retraction",
    "reflora-equals-balora-gd",
    "adam-scale",
    "adapters-upper-bound",
    "adapters-scales",
    "ilora-forward-variance",
    "ilora-gram-ratio",
    "ilora-forward-variance-upper-only",
    "ilora-gram-ratio-upper-only",
    "ilora-entry-variances-suffice",
    "ilora-penalty-fixes-variance",
    "ilora-restricts-freedom",
    "ilora-gd-proportion",
    "ilora-scaled-gd-proportion",
    "ilora-scaling-needed",
    "lora-plus-keeps-proportion",
    "ilora-scaled-gd-trace",
    "ilora-scaled-gd-diagonal",
    "ilora-gradient",
    "ilora-gradient-constant",
    "ilora-ratio-condition-number",
    "scaled-gd-rate-free-of-kappa",
    "pilora-defined-at-start",
]


def matrices(instance, names="ABZ"):
    return [np.array([[float(Fraction(x)) for x in row] for row in instance.values[name]]) for name in names]


def dense_kappa(H, r):
    eigenvalues = np.linalg.eigvalsh(H)
    return eigenvalues[-1] / eigenvalues[r * r]


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_verdict_is_as_recorded(claim):
    verdict = claim.examine(trials=TRIALS, seed=11)
    assert verdict.verdict == claim.recorded, verdict.note
    assert verdict.certified == (claim.recorded == "refuted")
    if getattr(claim, "tight_at", None) is not None:
        assert verdict.evidence["tight"]["equal"]


@pytest.mark.parametrize("claim", REFUTED, ids=lambda claim: claim.id)
def test_the_page_shows_the_counterexample_that_verify_finds(claim):
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{claim.id}` | ")]
    assert row == report.markdown_table([claim.examine()]).splitlines()[-1]


def test_every_promised_claim_is_there_and_says_what_it_must():
    assert set(ISSUED) <= set(CLAIMS)
    for claim in CLAIMS.values():
        assert claim.argument, f"{claim.id} gives no argument"
        assert claim.statement.endswith(".") or claim.statement.endswith("?")
        assert claim.origin
        assert claim.domain
        if claim.recorded == "refuted":
            assert CLAIMS[claim.corrected_by].recorded == "holds"


def test_the_examples_for_a_new_claim_are_claims_that_hold():
    blocks, names = re.findall(r"(?:^    .*\n|^\n)+", claims.__doc__, flags=re.M), dict(vars(instances) | {"np": np})
    exec("\n".join(textwrap.dedent(block) for block in blocks), vars(verification) | names, names)
    for claim in (names["largest_product"], names["gram_trace"]):
        verdict = claim.examine(trials=60, seed=0)
        assert verdict.verdict == "holds", verdict.note
        assert verdict.evidence["exact_instances"] > 0
        assert claim.argument.startswith("Proof")
    assert names["gram_trace"].compare_exactly is not names["gram_trace"].compare


def refute(id):
    return CLAIMS[id].examine(trials=TRIALS, seed=11).counterexample


def test_lower_bound_counterexample_by_dense_algebra():
    instance = refute("model1-lower-bound-full-rank")
    A, B, Z = matrices(instance)
    sigma_A, sigma_B = np.linalg.svd(A)[1], np.linalg.svd(B)[1]
    bound = (sigma_A[0] ** 2 + sigma_B[0] ** 2) / min(sigma_A[-1], sigma_B[-1]) ** 2
    assert dense_kappa(hessian(A, B, Z), A.shape[1]) < bound * (1 - 1e-6)
    assert A.shape[1] == min(Z.shape)


def test_upper_bound_counterexample_by_dense_algebra():
    A, B, Z = matrices(refute("model1-upper-bound"))
    r = A.shape[1]
    assert r < min(Z.shape)
    U, s, Vt = np.linalg.svd(Z)
    np.testing.assert_allclose(A @ B, U[:, :r] * s[:r] @ Vt[:r], atol=1e-12)
    sigma_A, sigma_B = np.linalg.svd(A)[1], np.linalg.svd(B)[1]
    bound = (sigma_A[0] ** 2 + sigma_B[0] ** 2) / (min(sigma_A[-1], sigma_B[-1]) ** 2 - s[r])
    assert dense_kappa(hessian(A, B, Z), r) > bound * (1 + 1e-6)


def test_smoothness_counterexamples_by_dense_algebra():
    A, B, Z = matrices(refute("kappa-bounds-smoothness"))
    H = hessian(A, B, Z)
    bound = max(dense_kappa(H, A.shape[1]), np.linalg.cond(A) * np.linalg.cond(B))
    assert np.linalg.eigvalsh(H)[-1] > bound * (1 + 1e-6)
    A, B, J = matrices(refute("balanced-smallest-smoothness-model2"), "ABJ")
    largest = [np.linalg.norm(J @ jacobian(*pair), 2) for pair in ((A, B), balance(A, B))]
    assert largest[0] < largest[1] * (1 - 1e-6)


def test_balanced_optimality_counterexample_by_dense_algebra():
    A, B, Z = matrices(refute("balanced-optimal-full-rank"))
    r = A.shape[1]
    assert dense_kappa(hessian(A, B, Z), r) < dense_kappa(hessian(*balance(A, B), Z), r) * (1 - 1e-6)
    assert r == min(Z.shape)


def test_uniqueness_counterexample_by_dense_algebra():
    A, B, Z = matrices(refute("balanced-unique"))
    r = A.shape[1]
    assert r >= 3
    assert np.linalg.norm(A.T @ A - B @ B.T) > 0.01
    balanced = dense_kappa(hessian(*balance(A, B), Z), r)
    assert dense_kappa(hessian(A, B, Z), r) == pytest.approx(balanced, rel=1e-12)


def test_model2_counterexamples_by_dense_algebra():
    for id, exponent in (("model2-upper-bound", 0.5), ("model2-upper-bound-exponent-1", 1.0)):
        A, B, J = matrices(refute(id), "ABJ")
        values = np.linalg.svd(J @ jacobian(A, B))[1], np.linalg.svd(J)[1], np.linalg.svd(A)[1], np.linalg.svd(B)[1]
        image, outer, sigma_A, sigma_B = ([x**2 for x in sigma if x > 1e-9] for sigma in values)  # J may have a kernel
        ratio = (sigma_A[0] + sigma_B[0]) / min(sigma_A[-1], sigma_B[-1])
        assert image[0] / image[-1] > (outer[0] / outer[-1]) ** exponent * ratio * (1 + 1e-6)
        assert A.shape[1] < min(A.shape[0], B.shape[1])
    assert len(outer) < J.shape[1]  # where J is injective the exponent 1 is right

    A, B, J = matrices(refute("balanced-optimal-model2"), "ABJ")
    M, balanced = jacobian(A, B), jacobian(*balance(A, B))
    kappas = [dense_kappa(m.T @ J.T @ J @ m, A.shape[1]) for m in (M, balanced)]
    assert kappas[0] < kappas[1] * (1 - 1e-6)


def test_nearest_counterexample_by_hand():
    instance = refute("projection-nearest")
    A, B, O = matrices(instance, "ABO")
    r = A.shape[1]
    assert r >= 2
    X, Y = balance(A, B)
    root = np.diag(np.sqrt(np.linalg.svd(A @ B)[1][:r]))
    flat = np.eye(len(A), r) @ root, root @ np.eye(r, B.shape[1])
    distance = lambda P, Q: np.linalg.norm(P - A) ** 2 + np.linalg.norm(Q - B) ** 2  # noqa: E731
    np.testing.assert_allclose(flat[0] @ O @ O.T @ flat[1], A @ B, atol=1e-12)
    assert distance(flat[0] @ O, O.T @ flat[1]) < min(distance(X @ D, D @ Y) for D in sign_matrices(r)) * (1 - 1e-6)


def sign_matrices(r):
    return [np.diag(np.array(list(np.binary_repr(i, r)), dtype=float) * 2 - 1) for i in range(2**r)]


def test_the_first_order_check_is_not_empty_and_catches_a_first_order_error(monkeypatch):
    import lorakappa.conditioning.claims.projection_retraction as module

    claim, rng = CLAIMS["projection-first-order"], np.random.default_rng(0)
    draws = []
    while len(draws) < 40:
        shape = claim.family.shapes[len(draws) % len(claim.family.shapes)]
        parameters = claim.family.draw(shape, rng)
        if claim.family.valid(shape, parameters):
            draws.append(claim.family.floating(shape, parameters, rng))
    compared = [claim.compare(x) for x in draws]
    assert sum(c.left != 1.0 for c in compared) >= 30  # 1.0 marks instances with no remainder above rounding

    reference = {}

    def shifted(A, B, gauge="hyperbalanced"):
        """P with an error that is linear in the distance from the first pair projected."""
        X, Y = balance(A, B)
        origin = reference.setdefault("X", X)
        return X + 0.01 * (X - origin), Y

    violated = 0
    for x in draws:
        reference.clear()
        monkeypatch.setattr(module, "balance", shifted)
        violated += claim.compare(x).suspicious
    assert violated >= 30


def test_literal_projection_counterexample_is_a_dead_start():
    A, B, Z = matrices(refute("projection-literal-trains-on"))
    assert not (A @ B).any()
    assert np.linalg.norm(Z @ B.T) > 0  # a gradient step would move A, were the pair not sent to (0, 0)


def test_scaled_gd_counterexample_by_finite_differences():
    A, B, error, given = matrices(refute("ilora-scaled-gd-proportion"), ["A", "B", "error", "input"])
    assert 4 * A.shape[1] <= min(A.shape[0], B.shape[1])  # the paper's r ≪ min(m, n)
    G = error @ given.T  # of one input
    mu = (B @ B.T)[0, 0] / (A.T @ A)[0, 0]
    np.testing.assert_allclose(B @ B.T, mu * A.T @ A)
    scaled_A, scaled_B = scaled_gradient(A, B, G @ B.T, A.T @ G)
    t = 1e-6
    moved = [(A - s * t * scaled_A, B - s * t * scaled_B) for s in (1, -1)]
    drift = (imbalance(*moved[0], ratio=mu) - imbalance(*moved[1], ratio=mu)) / (2 * t)
    size = np.linalg.norm(scaled_B @ B.T + B @ scaled_B.T)
    assert np.linalg.norm(drift) > 0.5 * size
    assert abs(np.trace(drift)) < 1e-6 * size


def test_two_learning_rates_keep_the_ratio_where_scaled_gd_does_not():
    A, B, error, given = matrices(refute("ilora-scaled-gd-proportion"), ["A", "B", "error", "input"])
    G, t = error @ given.T, 1e-6
    mu = (B @ B.T)[0, 0] / (A.T @ A)[0, 0]
    moved = [(A - s * t * G @ B.T, B - s * t * mu * A.T @ G) for s in (1, -1)]
    drift = (imbalance(*moved[0], ratio=mu) - imbalance(*moved[1], ratio=mu)) / (2 * t)
    assert np.linalg.norm(drift) < 1e-6 * np.linalg.norm(A.T @ G @ B.T)


def test_p_is_no_retraction_at_equal_singular_values():
    """From (I, I) along one direction the error of P is of first order, that of the two other gauges is not."""
    dA, dB = (np.array(M) for M in ([[1, 0.5], [-0.5, 0]], [[1, 1.5], [-1.5, 0]]))
    errors = {gauge: [] for gauge in ("hyperbalanced", "symmetric", "nearest")}
    for t in (1e-2, 1e-3, 1e-4):
        moved = np.eye(2) + t * dA, np.eye(2) + t * dB
        for gauge, found in errors.items():
            X, Y = balance(*moved, gauge=gauge)
            found.append(np.hypot(np.linalg.norm(X - moved[0]), np.linalg.norm(Y - moved[1])) / t)
    assert errors["hyperbalanced"] == pytest.approx([0.5] * 3, rel=0.05)
    for gauge in ("symmetric", "nearest"):
        assert errors[gauge][2] < 2e-3
    claim = CLAIMS["projection-retraction"]
    exact = claim.family.parameters(
        [1, 1], [], [[1, 0], [0, 1]], dA=[[1, Fraction(1, 2)], [0, 0]], dB=[[1, Fraction(3, 2)], [0, 0]]
    )
    _, comparison = claim.evaluate(verification.Shape(2, 2, 2), exact)
    # (dAᵀdA + dB·dBᵀ)₁₂ = ½ − 3/2 = −1, twice, over (‖dA‖² + ‖dB‖²)² = (3/2 + 11/2)²
    assert comparison.certainly_false
    assert str(comparison.left) == "2/49"


def test_the_gradient_step_is_changed_by_p_in_its_counterexample():
    A, B, G = matrices(refute("projection-keeps-gradient-step"), ["A", "B", "gradient"])
    X, Y = balance(A, B)
    changes = [M @ M.T @ G + G @ N.T @ N for M, N in ((A, B), (X, Y))]
    assert np.linalg.norm(changes[0] - changes[1]) > 0.01 * np.linalg.norm(changes[0])


def test_the_penalty_moves_the_product_in_its_counterexample():
    A, B, step, ratio = matrices(refute("ilora-keeps-product"), ["A", "B", "step", "ratio"])
    X, Y = penalty_step(A, B, step=step.item(), ratio=ratio.item())
    assert np.linalg.norm(X @ Y - A @ B) > 0.1


def test_scaled_gd_depends_on_the_spectrum_in_its_counterexample():
    A, B, Z = matrices(refute("scaled-gd-rate-free-of-kappa"))
    assert A.shape[1] == 1  # P is a number on each factor
    scale = np.concatenate([np.full(A.size, (B @ B.T).item()), np.full(B.size, (A.T @ A).item())])
    eigenvalues = np.sort(np.linalg.eigvals(hessian(A, B, Z) / scale[:, None]).real)
    assert eigenvalues[-1] / eigenvalues[1] > 2 * (1 + 1e-6)


@pytest.mark.parametrize("id", ["ilora-forward-variance", "ilora-gram-ratio"])
def test_monte_carlo_claims_notice_wrong_variances_and_few_draws(id, monkeypatch):
    import lorakappa.conditioning.claims.ilora_variances as module

    assert CLAIMS[id].examine(trials=1).verdict == "inconclusive"
    assert CLAIMS[id].examine(trials=4).verdict in ("inconclusive", "not seen")
    drawn = module._factors
    for scale_A, scale_B in ((1.1, 1.0), (1.0, 1.1)):
        monkeypatch.setattr(
            module,
            "_factors",
            lambda *args, a=scale_A, b=scale_B, **kwargs: ((a * A, b * B) for A, B in drawn(*args, **kwargs)),
        )
        assert CLAIMS[id].examine(trials=TRIALS).verdict == "not seen"


def test_families_restricted_to_scalar_gauges_and_to_exact_rank():
    from lorakappa.conditioning.claims.ilora_proportion import PROPORTIONAL
    from lorakappa.conditioning.claims.preconditioning import EXACT_RANK

    rng = np.random.default_rng(0)
    for family in (PROPORTIONAL, EXACT_RANK):
        for shape in family.shapes:
            parameters = family.draw(shape, rng)
            assert family.valid(shape, parameters)
            x = family.floating(shape, parameters, rng)
            exact = family.exact(shape, [Fraction(p) for p in parameters.tolist()])
            np.testing.assert_allclose(x.s, [float(Fraction(str(s))) for s in exact.s], rtol=1e-12)
            if family is PROPORTIONAL:
                np.testing.assert_allclose(x.G, x.G[0, 0] * np.eye(shape.r))
                mu = (x.B @ x.B.T)[0, 0] / (x.A.T @ x.A)[0, 0]
                np.testing.assert_allclose(x.B @ x.B.T, mu * x.A.T @ x.A, atol=1e-12 * x.s[0] * mu**0.5)
            else:
                assert np.linalg.matrix_rank(x.Z) == shape.r
                assert len(parameters) == shape.r + shape.r**2


def test_scaled_gradients_at_the_start_by_hand():
    A, B, _ = matrices(refute("pilora-defined-at-start"))
    assert not A.any()
    for undamped in (A.T @ A, B @ B.T):
        with pytest.raises(np.linalg.LinAlgError) if not undamped.any() else contextlib.nullcontext():
            np.linalg.inv(undamped)
    claim = CLAIMS["scaled-gd-damped-at-start"]
    start = claim.family.exact(verification.Shape(1, 2, 2), [Fraction(x) for x in (1, 0, 0, 2, 1, 1)])
    assert str(claim.compare_exactly(start).left) == "1"
    floats = claim.compare((np.diag([1.0, 2.0]), np.array([[3.0], [0.0]]), np.ones((2, 1))))
    assert floats.left == pytest.approx(1)  # BBᵀ = diag(9, 0)
    assert claim.compare((np.diag([1.0, 2.0]), 3 * np.eye(2), np.ones((2, 2)))).left == pytest.approx(2)
