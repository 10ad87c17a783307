"""What decides the claims on rates: each rule on measurements made up by hand, at and beside its threshold."""

import numpy as np
import pytest

from lorakappa.synthetic.claims import CLAIMS, rates
from lorakappa.synthetic.results import Result


@pytest.mark.parametrize("id", ["gd-rate", "sign-gd-rate", "sign-gd-rate-sharp", "balora-rate"])
def test_rate_claims_measure_their_own_rule(monkeypatch, id):
    asked = []

    def fake(**options):
        asked.append(options)
        line = {"conclusive": 8, "violations": 0, "log_ratio_min": 0.99, "log_ratio_max": 1.05}
        return Result("rates", {}, {"summary": [line], "settings": {}}, 0)

    monkeypatch.setattr(rates, "rates", fake)
    found = CLAIMS[id].examine(trials=10, seed=6)
    rule = {"gd-rate": "gd", "sign-gd-rate": "sign-gd", "sign-gd-rate-sharp": "sign-gd-sharp"}.get(id, "balora-gd")
    assert asked == [{"rules": (rule,), "instances": 10, "seed": 6}]
    assert found.verdict == "holds"  # 8 of 10 are enough
    assert found.worst_margin == pytest.approx(-0.01)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.9, 1.1, "holds"), (0.899, 1.0, "not seen"), (1.0, 1.101, "not seen")]
)
def test_the_balanced_rate_is_within_ten_percent(monkeypatch, low, high, verdict):
    line = {"conclusive": 10, "violations": 0, "log_ratio_min": low + 1e-12, "log_ratio_max": high - 1e-12}
    monkeypatch.setattr(rates, "rates", lambda **_: Result("rates", {}, {"summary": [line], "settings": {}}, 0))
    assert CLAIMS["balora-rate"].examine(trials=10, seed=0).verdict == verdict


@pytest.mark.parametrize(
    ("step", "verdict"), [([1.0, 1.5], "holds"), ([1.0, 1.51], "inconclusive"), ([2.0, 3.0], "inconclusive")]
)
def test_a_bound_is_sharp_if_some_start_comes_near_it_everywhere(monkeypatch, step, verdict):
    asked = []

    def fake(**options):
        asked.append(options)
        arrays = {"closest_step": step, "closest_tail": [1.75, 2.0], "log_ratio": [4.0, 9.0]}
        return Result("rates", {name: np.array(values) for name, values in arrays.items()}, {}, 0)

    monkeypatch.setattr(rates, "rates", fake)
    found = CLAIMS["sign-gd-rate-attained"].examine(trials=2, seed=6)
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(1.5 - max(step))
    assert asked == [{"rules": ("sign-gd-exact",), "instances": 2, "seed": 6, "shape": (4, 3), "rank": 2}]
    assert "for ever 1.75 to 2.00; from random starts 4.00 to 9.00" in found.note


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "holds"),
        ({"off": 0.0099}, "holds"),
        ({"off": 0.0101}, "not seen"),
        ({"off": -0.0101}, "not seen"),
        ({"unsure": 2}, "holds"),  # 8 of 40
        ({"unsure": 3}, "inconclusive"),
        ({"unsure": 2, "off": 0.5}, "holds"),  # the wrong ones are not asymptotic yet
        ({"largest": 999.0}, "inconclusive"),
    ],
)
def test_the_rate_at_any_shape(monkeypatch, change, verdict):
    asked = []

    def fake(*, shape, rank, instances, **options):
        asked.append((shape, rank))
        assert options == {"rules": ("gd",), "seed": 8, "spread": 1.0, "kappa_max": 1e4, "steps": 30_000}
        kappa = np.geomspace(5, change.get("largest", 5000.0), instances)[::-1]
        bound = ((kappa - 1) / (kappa + 1)) ** 2
        mean, sure = bound.copy(), np.ones(instances, bool)
        mean[1] = bound[1] ** (1 + change.get("off", 0.0))
        sure[1 : 1 + change.get("unsure", 0)] = False
        arrays = {"kappa": kappa, "mean": mean, "bound": bound, "error": np.zeros(instances), "conclusive": sure}
        return Result("rates", arrays, {}, 0)

    monkeypatch.setattr(rates, "rates", fake)
    found = CLAIMS["gd-rate-any-shape"].examine(trials=10, seed=8)
    assert found.verdict == verdict
    assert asked == [((4, 3), 1), ((7, 6), 2), ((12, 9), 3), ((6, 14), 2)]
    unsure = 4 * change.get("unsure", 0)
    assert found.note.startswith(f"{40 - unsure} of 40 at κ from 5 to ")
    assert found.note.endswith(f"{unsure} not asymptotic yet")


def scaled(monkeypatch, **change):
    seen = {}

    def fake(Z, r, *, seed):
        seen.update(Z=Z, r=r, seed=seed)
        n = len(Z)
        found = {
            "conclusive": np.ones(n, bool),
            "log_ratio": np.ones(n),
            "uncertainty": np.full(n, 1e-3),
            "kappa": np.arange(1.0, n + 1),
            "kappa_scaled": np.full(n, 2.0),
        }
        for name, values in change.items():
            found[name][: len(values)] = values
        return found

    monkeypatch.setattr(rates, "scaled_gd_rates", fake)
    return CLAIMS["scaled-gd-rate-measured"].examine(trials=10, seed=2), seen


def test_the_targets_of_the_scaled_rate_have_the_spectra_on_record(monkeypatch):
    found, seen = scaled(monkeypatch)
    assert (seen["r"], seen["seed"], found.verdict) == (2, 2, "holds")
    s = np.linalg.svd(seen["Z"], compute_uv=False)
    assert seen["Z"].shape == (10, 7, 6)
    np.testing.assert_allclose(s[:, 1], 1)
    rest = np.geomspace(1, 0.3, 4)
    np.testing.assert_allclose(s[[0, 3, 6, 9], 2:], 0, atol=1e-10)
    np.testing.assert_allclose(s[[1, 4, 7], 2:], np.tile(0.6 * rest, (3, 1)), rtol=1e-7)
    gaps = np.linspace(0.05, 0.9, 10)
    for i in (2, 5, 8):
        np.testing.assert_allclose(s[i, 2:], gaps[i] * rest)
        assert s[i, 0] == pytest.approx(2)
    tops = np.geomspace(1.5, 1e4, 10)
    np.testing.assert_allclose(s[[0, 1, 3, 9], 0], tops[[0, 1, 3, 9]])


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"conclusive": [False, False]}, "holds"),
        ({"conclusive": [False, False, False]}, "inconclusive"),
        ({"log_ratio": [1.0099]}, "holds"),
        ({"log_ratio": [0.9901]}, "holds"),
        ({"log_ratio": [1.0101]}, "not seen"),
        ({"log_ratio": [0.5], "conclusive": [False]}, "holds"),
        ({"log_ratio": [1.02], "uncertainty": [0.021]}, "holds"),
        ({"log_ratio": [1.02], "uncertainty": [0.019]}, "not seen"),
    ],
)
def test_the_thresholds_of_the_scaled_rate(monkeypatch, change, verdict):
    found, _ = scaled(monkeypatch, **change)
    assert found.verdict == verdict
    if verdict == "inconclusive":
        assert found.worst_margin is None
    else:
        sure = [i >= len(change.get("conclusive", ())) for i in range(10)]
        off = [abs(x - 1) for x, counted in zip([*change.get("log_ratio", [1.0])], sure, strict=False) if counted]
        assert found.worst_margin == pytest.approx(0.01 - max(off, default=0.0))
