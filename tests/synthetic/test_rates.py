"""What the rate experiment runs and reports: step sizes, starts, bounds and counts, each by another route."""

import numpy as np
import pytest

from lorakappa.conditioning.hessians import hessian
from lorakappa.conditioning.rates import sharp_sign_gd_rate
from lorakappa.conditioning.tolerances import EPS
from lorakappa.synthetic.experiments import rates as module
from lorakappa.synthetic.experiments.rates import rates, scaled_gd_rates
from lorakappa.synthetic.targets import generators, random_gauge, random_matrix, starts, targets

SHAPE, RANK = (5, 4), 2


@pytest.fixture
def asked(monkeypatch):
    """What `simulate` and `measure_rate` were asked, by call."""
    calls = {"simulate": [], "measure_rate": []}
    for name, kept in calls.items():
        real = getattr(module, name)

        def spied(*arguments, real=real, kept=kept, **options):
            kept.append((arguments, options))
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, spied)
    return calls


def extremes(A, B, Z):
    """The smallest non-zero and the largest eigenvalue of the dense Hessian."""
    values = np.linalg.eigvalsh(hessian(A, B, Z))
    return values[A.shape[1] ** 2], values[-1]


def targets_of(loss):
    return loss.Z_r + loss.U * loss.tail[:, None, :] @ np.swapaxes(loss.V, -1, -2)


@pytest.mark.parametrize(
    ("rule", "start", "decades", "agreement"),
    [("gd", 1e-10, 36, 0.02), ("sign-gd", 1e-6, 20, 0.1), ("sign-gd-sharp", 1e-6, 20, 0.1)],
)
def test_local_rules_run_and_are_judged_as_stated(asked, rule, start, decades, agreement):
    steps = 20000 if rule == "gd" else 300
    result = rates(shape=SHAPE, rank=RANK, rules=(rule,), instances=3, kappa_max=30, steps=steps, seed=2)
    ((loss, offsets), options), measured = asked["simulate"][0], asked["measure_rate"]
    assert options["optimizer"] == ("gd" if rule == "gd" else "sign-gd")
    assert options["stop_below"] == pytest.approx(10.0 ** -(decades + 1), rel=1e-12)
    assert options["steps"] == steps
    d = RANK * sum(SHAPE)
    for i, Z in enumerate(targets_of(loss)):
        A, B = (x[i] for x in loss.origin)
        mu, L = extremes(A, B, Z)
        norm = np.hypot(*(np.linalg.norm(x) for x in (A, B)))
        assert np.hypot(*(np.linalg.norm(x[i]) for x in offsets)) == pytest.approx(start * norm)
        sharp = sharp_sign_gd_rate(hessian(A, B, Z), kernel_dimension=RANK**2)
        gamma = {"gd": 2 / (L + mu), "sign-gd": 1 / (d * L), "sign-gd-sharp": 1 / sharp.L_inf}[rule]
        assert options["step_sizes"][0, i] == pytest.approx(gamma)
        kappa = L / mu
        bound = {"gd": ((kappa - 1) / (kappa + 1)) ** 2, "sign-gd": 1 - 1 / (d * kappa), "sign-gd-sharp": sharp.rate}
        row = {name: value[i] for name, value in result.arrays.items()}
        assert row["bound"] == pytest.approx(bound[rule], rel=1e-4)
        assert row["kappa_start"] == pytest.approx(kappa)
        assert row["kappa"] == pytest.approx(kappa, rel=1e-4)
        assert row["step_size"] == pytest.approx(gamma)
        assert row["log_ratio"] == pytest.approx(np.log(row["limsup"]) / np.log(row["bound"]))
        judged = measured[i][1]
        assert judged["mu"] == pytest.approx(mu, rel=1e-4)
        assert judged["kappa"] == pytest.approx(kappa, rel=1e-4)
        assert judged["decades"] == decades
        assert judged["rounding"] == pytest.approx(4e-8 * kappa if rule == "gd" else 2e-6, rel=1e-3)
        assert judged["agreement"] == agreement
    kappas = result.arrays["kappa"]
    assert result.meta["summary"][0]["kappa_range"] == [kappas.min(), kappas.max()]


def test_balora_runs_from_a_gaussian_start_and_is_judged_at_its_limit(asked):
    result = rates(shape=SHAPE, rank=RANK, rules=("balora-gd",), instances=3, kappa_max=30, seed=2)
    ((loss, start), options) = asked["simulate"][0]
    assert options["method"] == "balora"
    Z = targets_of(loss)
    s = np.linalg.svd(Z, compute_uv=False)
    rngs = generators(2, 3, 3)[2]
    expected = starts("gaussian", SHAPE, RANK, rngs, init_std=0.1 * np.median(s[:, 0]) ** 0.5)
    for mine, theirs in zip(start, expected, strict=True):
        np.testing.assert_allclose(mine, theirs)
    decades = []
    for i in range(3):
        # from the dense Hessian of the balanced minimizer
        U, values, Vt = np.linalg.svd(Z[i], full_matrices=False)
        root = np.sqrt(values[:RANK])
        mu, L = extremes(U[:, :RANK] * root, root[:, None] * Vt[:RANK], Z[i])
        assert options["step_sizes"][0, i] == pytest.approx(2 / (mu + L))
        f = ((Z[i] - start[0][i] @ start[1][i]) ** 2).sum() / 2 - (values[RANK:] ** 2).sum() / 2
        decades.append(np.log10(f / ((EPS * values[0] / 1e-5) ** 2 / 2)))
        judged = asked["measure_rate"][i][1]
        assert judged["decades"] == pytest.approx(decades[i])
        assert judged["mu"] == pytest.approx(mu)
        assert judged["kappa"] == pytest.approx(L / mu, rel=1e-5)
        assert judged["rounding"] == 2e-5
        assert result.arrays["bound"][i] == pytest.approx(((L / mu - 1) / (L / mu + 1)) ** 2, rel=1e-5)
        assert result.arrays["step_size"][i] == pytest.approx(2 / (mu + L))
    assert options["stop_below"] == pytest.approx(10 ** -(max(decades) + 1))
    assert np.isnan(result.arrays["kappa_start"]).all()


def test_balora_that_has_not_arrived_is_judged_at_the_balanced_kappa(asked):
    short = rates(shape=SHAPE, rank=RANK, rules=("balora-gd",), instances=2, kappa_max=30, steps=4, seed=2)
    whole = rates(shape=SHAPE, rank=RANK, rules=("balora-gd",), instances=2, kappa_max=30, seed=2)
    np.testing.assert_allclose(short.arrays["kappa"], whole.arrays["kappa"], rtol=1e-5)
    assert not short.arrays["conclusive"].any()


def test_draws_are_repeated_until_kappa_is_moderate_and_counted():
    drawn = module._Instances(SHAPE, RANK, "gaussian", 4, 0.5, 12.0, 3, True)
    for_targets, for_gauges, _ = generators(3, 4, 3)
    rejected = 0
    for i in range(4):
        while True:
            Z = targets("gaussian", SHAPE, [for_targets[i]])[0]
            U, s, Vt = np.linalg.svd(Z, full_matrices=False)
            G = random_gauge(RANK, 0.5, for_gauges[i])
            root = np.sqrt(s[:RANK])
            A, B = U[:, :RANK] * root @ G, np.linalg.solve(G, root[:, None] * Vt[:RANK])
            mu, L = extremes(A, B, Z)
            if L / mu <= 12:
                break
            rejected += 1
        np.testing.assert_allclose(drawn.Z[i], Z)
        np.testing.assert_allclose(drawn.A[i], A, rtol=1e-8)
        np.testing.assert_allclose(drawn.B[i], B, rtol=1e-8)
        assert (drawn.mu[i], drawn.L[i]) == (pytest.approx(mu), pytest.approx(L))
    assert drawn.rejected == rejected > 0
    assert len(drawn) == 4


def row(**changes):
    line = {"rule": "gd", "conclusive": True, "log_ratio": 1.0, "uncertainty": 0.01, "error": 0.0, "kappa": 5.0}
    return {**line, **changes}


def test_the_summary_counts_violations_beyond_the_stated_error():
    rows = [
        row(log_ratio=0.98, error=0.3),  # beyond 0.01
        row(log_ratio=0.995, kappa=2.0),  # within it
        row(log_ratio=1.005),  # faster than the bound
        row(log_ratio=0.5, conclusive=False, error=9.0, kappa=80.0),  # says nothing
    ]
    found = module._summary("gd", rows)
    assert (found["measurements"], found["conclusive"], found["violations"]) == (4, 3, 1)
    assert (found["log_ratio_min"], found["log_ratio_median"], found["log_ratio_max"]) == (0.98, 0.995, 1.005)
    assert found["largest_error"] == 0.3
    assert found["kappa_range"] == [2.0, 80.0]
    assert module._summary("sign-gd", rows)["violations"] == 2  # nothing excuses a larger ratio
    assert module._summary("balora-gd", rows)["violations"] == 1
    assert module._summary("sign-gd", [row()])["violations"] == 0
    nothing = module._summary("gd", [row(conclusive=False)])
    assert (nothing["conclusive"], nothing["violations"]) == (0, 0)
    assert nothing["log_ratio_min"] == np.inf
    assert nothing["log_ratio_max"] == -np.inf
    assert np.isnan(nothing["log_ratio_median"])


def test_every_rule_is_summarized_by_its_own_rows():
    result = rates(shape=SHAPE, rank=RANK, rules=("gd", "sign-gd"), instances=2, kappa_max=30, steps=50, seed=2)
    assert [line["rule"] for line in result.meta["summary"]] == ["gd", "sign-gd"]
    assert [line["measurements"] for line in result.meta["summary"]] == [2, 2]
    assert result.arrays["window"].shape == (4, 2)
    for line, kappa in zip(result.meta["summary"], result.arrays["kappa"].reshape(2, 2), strict=True):
        assert line["kappa_range"] == [kappa.min(), kappa.max()]


def test_scaled_gd_is_run_at_the_best_step_of_its_own_hessian(asked):
    """P⁻¹H has the eigenvalues 2, 1 and 1 ± s_l/s_i: here 0.5 … 2, so γ = 0.8 and κ' = 4 at any κ."""
    rngs = generators(1, 2, 1)[0]
    spectra = np.array([[2.0, 1.0, 0.5, 0.2], [500.0, 1.0, 0.5, 0.0]])
    Z = np.stack([random_matrix(s, SHAPE, rng) for s, rng in zip(spectra, rngs, strict=True)])
    found = scaled_gd_rates(Z, RANK, seed=4)
    ((loss, offsets), options) = asked["simulate"][0]
    np.testing.assert_allclose(options["step_sizes"], [[0.8, 0.8]])
    assert options["stop_below"] == pytest.approx(1e-37, rel=1e-9)
    np.testing.assert_allclose(found["kappa_scaled"], 4)
    np.testing.assert_allclose(found["bound"], (3 / 5) ** 2)
    np.testing.assert_allclose(found["limsup"], (3 / 5) ** 2, rtol=0.02)
    np.testing.assert_allclose(found["log_ratio"], np.log(found["limsup"]) / np.log(0.36))
    assert found["conclusive"].all()
    for i in range(2):
        A, B = (x[i] for x in loss.origin)
        np.testing.assert_allclose(A @ B, loss.Z_r[i], atol=1e-9)
        mu, L = extremes(A, B, Z[i])
        assert found["kappa"][i] == pytest.approx(L / mu, rel=1e-6)
        judged = asked["measure_rate"][i][1]
        assert judged["mu"] == pytest.approx(mu, rel=1e-6)
        assert judged["kappa"] == pytest.approx(L / mu, rel=1e-6)
        assert judged["decades"] == 36
        assert judged["rounding"] == pytest.approx(4e-8 * max(4, L / mu), rel=1e-6)
        moved = np.hypot(*(np.linalg.norm(x[i]) for x in offsets))
        assert moved == pytest.approx(1e-10 * np.hypot(np.linalg.norm(A), np.linalg.norm(B)))


def test_the_preconditioned_displacement_lies_in_the_range_of_the_scaled_hessian():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal(SHAPE)
    U, s, Vt = np.linalg.svd(Z, full_matrices=False)
    G = np.array([[2.0, 0.5], [0.0, 0.4]])
    root = np.sqrt(s[:RANK])
    A, B = U[:, :RANK] * root @ G, np.linalg.solve(G, root[:, None] * Vt[:RANK])
    dA, dB = module._scaled_offset(A, B, Z, np.random.default_rng(1))
    # undone, (dA·BBᵀ, AᵀA·dB) is orthogonal to every tangent (AX, −XB) of the orbit
    g_A, g_B = dA @ (B @ B.T), (A.T @ A) @ dB
    for X in np.eye(RANK**2).reshape(-1, RANK, RANK):
        inner = (g_A * (A @ X)).sum() - (g_B * (X @ B)).sum()
        assert abs(inner) < 1e-12 * np.linalg.norm(g_A) * np.linalg.norm(A)


@pytest.mark.parametrize(
    "changes", [{"spread": -0.1}, {"kappa_max": 1.0}, {"steps": 0}, {"kappa_max": float("nan")}, {"rules": ()}]
)
def test_bad_numbers_are_refused(changes):
    with pytest.raises(ValueError, match=r"rates needs|rules must be"):
        rates(shape=SHAPE, rank=RANK, instances=1, **changes)


def test_the_smallest_admissible_numbers_are_not_refused():
    assert len(rates(shape=SHAPE, rank=RANK, rules=("gd",), instances=1, spread=0, steps=1, seed=1).arrays["mean"]) == 1
