"""Measured rates on curves whose rate is known, and on the dynamics whose rate κ promises."""

import numpy as np
import pytest

from lorakappa.conditioning.factors import minimizer
from lorakappa.conditioning.hessians import hessian
from lorakappa.synthetic.experiments.rates import rates
from lorakappa.synthetic.experiments.settle import settle
from lorakappa.synthetic.measure import float_floor_decades, measure_rate, perturbation
from lorakappa.synthetic.settings import ProblemSettings


def measure(curve, **changes):
    return measure_rate(curve, **{"kappa": 10.0, "mu": 1.0, "decades": 30.0, **changes})


def test_geometric_curve():
    m = measure(0.9 ** np.arange(400))
    assert m.limsup == pytest.approx(0.9, rel=1e-12)
    assert m.mean == pytest.approx(0.9, rel=1e-12)
    assert (m.stopped, m.horizon, m.window) == ("horizon", 399, (300, 399))
    assert m.conclusive
    assert m.log_ratio(0.9) == pytest.approx(1)
    assert m.log_ratio(0.95) > 2


def test_floor_is_not_taken_for_a_rate_of_one():
    m = measure(np.maximum(0.5 ** np.arange(400.0), 1e-31))
    assert m.stopped == "floor"
    assert m.limsup == pytest.approx(0.5)
    assert m.horizon == 99  # 2⁻⁹⁹ > 1e-30 > 2⁻¹⁰⁰
    stalled = measure(0.5 ** np.arange(400.0) + 1e-16)  # a floor above the stated accuracy is seen, not believed
    assert not stalled.conclusive


def test_a_rate_that_still_changes_is_inconclusive():
    t = np.arange(200)
    assert not measure(0.99**t * 1e-8 + 0.8**t).conclusive
    assert measure(0.99**t + 0.8**t).conclusive


def test_divergence_and_short_curves_are_inconclusive():
    curve = 0.9 ** np.arange(100)
    curve[60:] = np.inf
    m = measure(curve)
    assert (m.stopped, m.horizon, m.conclusive) == ("diverged", 59, False)
    assert not measure(0.9 ** np.arange(9)).conclusive
    assert not measure(0.9 ** np.arange(16)).conclusive
    assert measure(0.9 ** np.arange(17)).conclusive  # eight ratios in either half
    assert not measure(np.ones(100)).conclusive


def test_limit_distance_is_a_bound_on_a_quadratic():
    z = 0.9 ** np.arange(50)  # f = ½·4z²
    m = measure(2 * z**2, mu=4.0)
    assert m.limit_distance == pytest.approx(z[49])


@pytest.mark.parametrize("curve", [[], [0.0, 1.0], [np.inf], [[1.0]]])
def test_bad_curves(curve):
    with pytest.raises(ValueError, match="starts positive and finite"):
        measure(curve)


def test_perturbation_is_off_the_orbit_and_of_the_stated_size():
    rng = np.random.default_rng(0)
    Z = rng.standard_normal((5, 4))
    A, B = minimizer(Z, 2, np.array([[2.0, 0.3], [0.0, 0.7]]))
    dA, dB = perturbation(A, B, Z, rng, size=1e-3)
    norm = np.hypot(np.linalg.norm(A), np.linalg.norm(B))
    assert np.hypot(np.linalg.norm(dA), np.linalg.norm(dB)) == pytest.approx(1e-3 * norm)
    for X in np.random.default_rng(1).standard_normal((4, 2, 2)):  # (AX, −XB) is the tangent of the orbit
        flat = np.concatenate([(A @ X).ravel(), (-X @ B).ravel()])
        assert np.linalg.norm(hessian(A, B, Z) @ flat) < 1e-13 * np.linalg.norm(flat) * 10
        assert abs(flat @ np.concatenate([dA.ravel(), dB.ravel()])) < 1e-14


def test_float_floor():
    assert float_floor_decades(1.0, 1.0) == pytest.approx(21.6, abs=0.1)
    assert float_floor_decades(1e-40, 1.0) == 0


@pytest.fixture(scope="module")
def measured():
    result = rates(instances=50, kappa_max=60.0, seed=7)
    rule = result.arrays["rule"]
    return {name: {key: value[rule == name] for key, value in result.arrays.items()} for name in set(rule)}


def test_gd_attains_its_rate_and_never_exceeds_it(measured):
    rows = measured["gd"]
    assert len(rows["kappa"]) == 50
    assert rows["conclusive"].all()
    assert np.abs(rows["log_ratio"] - 1).max() < 0.01
    assert (rows["log_ratio"] >= 1 - rows["uncertainty"]).all()
    assert rows["uncertainty"].max() < 0.02
    np.testing.assert_allclose(rows["kappa"], rows["kappa_start"], rtol=1e-6)
    assert rows["limit_distance"].max() < 1e-20


@pytest.mark.parametrize("rule", ["sign-gd", "sign-gd-sharp"])
def test_sign_gd_is_below_its_bound(measured, rule):
    rows = measured[rule]
    assert rows["conclusive"].sum() >= 45
    assert (rows["limsup"] < rows["bound"]).all()
    assert (rows["limsup"] < 1).all()


def test_the_sharp_sign_bound_is_below_the_other(measured):
    assert (measured["sign-gd-sharp"]["bound"] < measured["sign-gd"]["bound"]).all()


def test_balora_attains_the_balanced_rate(measured):
    rows = measured["balora-gd"]
    sure = rows["conclusive"]
    assert sure.sum() >= 40  # two modes that are close together need more decades than plain float64 has
    assert np.abs(rows["log_ratio"][sure] - 1).max() < 0.01
    assert (rows["log_ratio"] >= 1 - rows["uncertainty"])[sure].all()
    assert (rows["kappa"][sure] <= 1.0001 * measured["gd"]["kappa"][sure]).all()


def test_settle_exponents():
    result = settle(ProblemSettings(shape=(8, 7), rank=3, seeds=3, target="geometric:0.6", init_std=0.3), steps=40)
    assert result.meta["drift_one_step_exponent"] == pytest.approx(2, abs=1e-6)
    assert result.meta["drift_fixed_time_exponent"] == pytest.approx(1, abs=0.1)
    assert 0.9 < result.meta["deviation_exponent"] < 1.2
    arrays = result.arrays
    assert arrays["rescale_curves"].shape == (41, 6, 3)
    np.testing.assert_allclose(arrays["equal_kappa"][0], arrays["equal_kappa"][1], rtol=1e-4)
    assert result.meta["equal_kappa_imbalance"][0] > 1e-3 > 1e-12 > result.meta["equal_kappa_imbalance"][1]
    assert result.meta["equal_kappa_log_rate_difference"] < 0.02


def test_every_field_by_hand():
    # 40 steps at ratio 0.5, then 40 alternating 0.8, 0.2: mean 0.4, limsup 0.8
    ratios = np.concatenate([np.full(40, 0.5), np.tile([0.8, 0.2], 20)])
    curve = np.concatenate([[2.0], 2 * np.cumprod(ratios)])
    found = measure_rate(curve, kappa=7.0, mu=0.5, decades=60.0, rounding=1e-3)
    assert (found.steps, found.horizon, found.window, found.stopped) == (80, 80, (60, 80), "horizon")
    assert found.limsup == pytest.approx(0.8)
    assert found.mean == pytest.approx(0.4)
    assert found.half_mean == pytest.approx(0.5)
    assert found.limit_distance == pytest.approx((2 * curve[-1] / 0.5) ** 0.5)
    error = abs(np.log(0.5) / np.log(0.4) - 1)
    scatter = abs(np.log(0.8) / np.log(0.4) - 1)
    assert found.error == pytest.approx(error)
    assert found.scatter == pytest.approx(scatter)
    assert found.uncertainty == pytest.approx(error + scatter + 2e-3 / abs(np.log(0.4)))
    assert not found.conclusive
    assert found.log_ratio(0.64) == pytest.approx(0.5)
    assert measure_rate(curve[:41], kappa=7.0, mu=0.5, decades=60.0).conclusive
