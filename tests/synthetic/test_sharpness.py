"""How close starts come to sign-GD's bound: what is found is really there, and the search finds what is known."""

import numpy as np
import pytest

from lorakappa.conditioning import hessian, minimizer, sharp_sign_gd_rate
from lorakappa.synthetic.experiments.rates import rates
from lorakappa.synthetic.sharpness import _Quadratic, closest_sign_gd
from lorakappa.synthetic.tables import rates_table


def at_a_minimizer(seed, shape=(4, 3), r=2):
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal(shape)
    H = hessian(*minimizer(Z, r, rng.standard_normal((r, r)) + 2 * np.eye(r)), Z)
    return H, r * r, sharp_sign_gd_rate(H, kernel_dimension=r * r, exact=True)


def test_a_step_on_gradients_is_the_step_on_coordinates():
    H, kernel, sharp = at_a_minimizer(0)
    quadratic = _Quadratic(H, kernel, sharp.L_inf)
    g = quadratic.draw(5, np.random.default_rng(1))
    np.testing.assert_allclose(np.abs(g).sum(axis=1), 1)
    ratios, moved = quadratic.step(g)
    for i in range(5):
        z = np.linalg.pinv(H, rcond=1e-10) @ g[i]
        np.testing.assert_allclose(H @ z, g[i], atol=1e-12)
        after = z - np.abs(g[i]).sum() * np.sign(g[i]) / sharp.L_inf
        assert ratios[i] == pytest.approx((after @ H @ after) / (z @ H @ z), rel=1e-9)
        np.testing.assert_allclose(moved[i], H @ after, atol=1e-10)


def test_the_bound_is_never_passed_and_random_starts_are_beaten():
    for seed in range(4):
        H, kernel, sharp = at_a_minimizer(seed)
        found = closest_sign_gd(H, kernel, sharp, np.random.default_rng(seed))
        assert 1 - 1e-9 <= found.step <= found.tail
        quadratic = _Quadratic(H, kernel, sharp.L_inf)
        random = quadratic.step(quadratic.draw(1000, np.random.default_rng(9)))[0]
        assert found.step < np.log(random.max()) / np.log(sharp.rate)


def test_where_the_bound_is_attained_it_is_found():
    """H = diag(1, 1, 1, 9): all signs attain L_∞ = 12, and near g = e_1, where μ_∞ = 1, one step reaches 1 − 1/12."""
    H = np.diag([1.0, 1.0, 1.0, 9.0])
    sharp = sharp_sign_gd_rate(H, exact=True)
    assert (sharp.L_inf, sharp.mu_inf) == (12.0, 1.0)
    found = closest_sign_gd(H, 0, sharp, np.random.default_rng(0))
    assert found.step == pytest.approx(1.0, abs=1e-5)


def test_certificates_are_not_enough():
    H, kernel, _ = at_a_minimizer(0)
    with pytest.raises(ValueError, match="where L_∞ and μ_∞ are exact only"):
        closest_sign_gd(H, kernel, sharp_sign_gd_rate(H, kernel_dimension=kernel), np.random.default_rng(0))


def test_rates_record_the_closest_starts():
    options = {"shape": (4, 3), "rank": 1, "instances": 3, "seed": 2}
    result = rates(rules=("gd", "sign-gd-exact"), **options)
    step, tail = result.arrays["closest_step"], result.arrays["closest_tail"]
    assert np.isnan(step[:3]).all()
    assert (step[3:] >= 1 - 1e-9).all()
    assert (tail[3:] >= step[3:]).all()
    gd, exact = result.meta["summary"]
    assert gd["closest_step_range"] is None
    assert exact["closest_step_range"] == [step[3:].min(), step[3:].max()]
    sharp = rates(rules=("sign-gd-sharp",), **options)
    assert (result.arrays["bound"][3:] < sharp.arrays["bound"]).all()
    assert exact["violations"] == 0


def test_too_many_parameters_are_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match="d = 40 parameters"):
        rates(shape=(10, 10), rank=2, rules=("sign-gd-exact",))


def test_the_table_shows_the_closest_starts_of_the_rule_that_has_them():
    result = rates(shape=(3, 2), rank=1, instances=2, rules=("gd", "sign-gd-exact"))
    columns = rates_table(result).columns
    assert list(columns[0].cells) == ["gd", "sign-gd-exact"]
    low = result.meta["summary"][1]["closest_step_range"][0], result.meta["summary"][1]["closest_tail_range"][0]
    assert list(columns[-1].cells) == ["–", ", ".join(f"{x:.3g}" for x in low)]
