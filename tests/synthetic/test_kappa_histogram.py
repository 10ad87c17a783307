"""κ over minimizers and limit points, by plain loops over the same draws."""

from dataclasses import replace

import numpy as np
import pytest

from lorakappa.conditioning.hessians import hessian
from lorakappa.conditioning.spectra import condition_number
from lorakappa.synthetic.engine import Trajectories
from lorakappa.synthetic.experiments import kappa_histogram as module
from lorakappa.synthetic.experiments.kappa_histogram import kappa_histogram
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.targets import generators, random_gauge, starts, targets

SMALL = ProblemSettings(shape=(5, 4), rank=2, target="geometric:0.5", start="gaussian", init_std=0.4, seed=3)


def problem():
    (rng,), (gauge_rng,) = generators(3, 1, 2)
    Z = targets("geometric:0.5", (5, 4), [rng])[0]
    return Z, gauge_rng


def balanced():
    U, s, Vt = np.linalg.svd(problem()[0], full_matrices=False)
    return U[:, :2] * np.sqrt(s[:2]), np.sqrt(s[:2])[:, None] * Vt[:2]


def dense_kappa(A, B, Z):
    values = np.linalg.eigvalsh(hessian(A, B, Z))
    return values[-1] / values[4]


def test_kappa_of_random_gauges_by_the_dense_hessian():
    result = kappa_histogram(
        replace(SMALL, start=ProblemSettings.start, init_std=ProblemSettings.init_std), draws=6, limits=0, spread=0.7
    )
    Z, gauge_rng = problem()
    A, B = balanced()
    gauges = [random_gauge(2, 0.7, gauge_rng) for _ in range(6)]
    kappa = [dense_kappa(A @ G, np.linalg.solve(G, B), Z) for G in gauges]
    np.testing.assert_allclose(result.arrays["kappa"], kappa)
    np.testing.assert_allclose(result.arrays["singular_values"], [1, 0.5, 0.25, 0.125])
    assert result.meta["kappa_balanced"] == pytest.approx(dense_kappa(A, B, Z))
    assert result.meta["kappa_median"] == pytest.approx(np.median(kappa))
    assert result.arrays["kappa_limit"].shape == (0,)
    assert result.meta["kappa_limit_median"] is None
    assert result.meta["not_converged"] == 0
    assert result.meta["upper_bound_vacuous"] == np.isinf(result.arrays["upper"]).sum()
    for form in ("", "_corrected"):
        assert (result.arrays["lower" + form] <= result.arrays["upper" + form]).all()


def test_limit_points_are_those_of_plain_gradient_descent():
    result = kappa_histogram(SMALL, draws=1, limits=3)
    Z, _ = problem()
    rngs = generators(4, 3, 1)[0]  # not the target's seed
    start = starts("gaussian", (5, 4), 2, rngs, init_std=0.4)
    kappa = []
    for A, B in zip(*start, strict=True):
        gamma = 1 / max(np.linalg.norm(A, 2) ** 2 + np.linalg.norm(B, 2) ** 2, 2.0)
        for _ in range(3000):
            R = A @ B - Z
            A, B = A - gamma * R @ B.T, B - gamma * A.T @ R
        kappa.append(dense_kappa(A, B, Z))
    np.testing.assert_allclose(result.arrays["kappa_limit"], kappa, rtol=1e-3)
    assert result.meta["kappa_limit_median"] == pytest.approx(np.median(result.arrays["kappa_limit"]))


def test_runs_that_have_not_arrived_are_left_out_and_counted(monkeypatch):
    A, B = balanced()
    gauges = np.array([np.diag([1.0, t]) for t in (1.0, 2.0, 3.0, 4.0)])
    factors = (A @ gauges)[None], np.linalg.solve(gauges, B)[None]
    asked = {}

    def fake(loss, start, *, step_sizes, **options):
        asked.update(options, step_sizes=step_sizes, start=start)
        excess = np.full((3, 1, 4), 7.0)
        excess[0, 0] = 100.0
        excess[-1, 0] = 0.9e-6, 1.1e-6, 1e-7, np.inf
        return Trajectories(excess, excess, None, np.full((1, 4), -1), factors, 1.0)

    monkeypatch.setattr(module, "simulate", fake)
    result = kappa_histogram(replace(SMALL, init_std=2.0), draws=1, limits=4, steps=9)
    Z, _ = problem()
    expected = [dense_kappa(factors[0][0, i], factors[1][0, i], Z) for i in (0, 2)]
    np.testing.assert_allclose(result.arrays["kappa_limit"], expected, rtol=1e-9)
    assert result.meta["not_converged"] == 2
    assert asked["stop_below"] == 1e-8
    assert asked["steps"] == 9
    curvature = [np.linalg.norm(A, 2) ** 2 + np.linalg.norm(B, 2) ** 2 for A, B in zip(*asked["start"], strict=True)]
    assert min(curvature) > 2
    np.testing.assert_allclose(asked["step_sizes"][0], 1 / np.array(curvature))
    kappa_histogram(replace(SMALL, init_std=1e-3), draws=1, limits=4)
    np.testing.assert_allclose(asked["step_sizes"], 0.5)


@pytest.mark.parametrize("changes", [{"draws": 0}, {"limits": -1}, {"spread": -0.1}])
def test_bad_counts_are_refused(changes):
    with pytest.raises(ValueError, match="draws ≥ 1, limits ≥ 0 and spread ≥ 0"):
        kappa_histogram(SMALL, **{"draws": 1, "limits": 0, **changes})


def test_orthogonal_gauges_leave_kappa_alone():
    result = kappa_histogram(SMALL, draws=2, limits=1, spread=0, steps=1)
    np.testing.assert_allclose(result.arrays["kappa"], result.meta["kappa_balanced"], rtol=1e-9)
    assert condition_number(*balanced(), problem()[0]) == pytest.approx(result.meta["kappa_balanced"])
