"""How means are judged against what is expected of them, and which factors are drawn."""

import numpy as np
import pytest

from lorakappa.conditioning.claims import ilora_variances as module
from lorakappa.conditioning.claims.ilora_variances import _factors, _judge
from lorakappa.conditioning.verification import Shape


def spread(mean, deviation, n=16):
    """Values with that mean and that standard deviation (of n − 1)."""
    x = np.resize([-1.0, 1.0], n)
    return mean + deviation * x / x.std(ddof=1)


@pytest.mark.parametrize(
    ("mean", "deviation", "verdict"),
    [
        (1.0, 0.2, "holds"),
        (1.19, 0.2, "holds"),  # half-width 4·0.2/√16 = 0.2
        (0.81, 0.2, "holds"),
        (1.21, 0.2, "not seen"),
        (0.79, 0.2, "not seen"),
        (1.0, 0.26, "inconclusive"),  # too wide: above 0.25
        (1.0, 0.24, "holds"),
        (2.0, 0.26, "not seen"),
    ],
)
def test_means_are_judged_by_four_standard_errors(mean, deviation, verdict):
    found = _judge(16, {"x": 1.0}, {"x": spread(mean, deviation)})
    assert found.verdict == verdict
    assert found.trials == 16
    assert found.worst_margin == pytest.approx(1 - abs(mean - 1) / deviation)
    evidence = found.evidence["x"]
    assert evidence["expected"] == 1
    assert evidence["mean"] == pytest.approx(mean)
    assert evidence["half_width"] == pytest.approx(deviation)
    assert f"at most {100 * deviation:.1f} %" in found.note
    assert ("not all" in found.note) == (verdict == "not seen")


def test_the_worst_and_the_widest_of_several_decide():
    expected = {"small": 0.5, "zero": 0.0, "large": 100.0}
    observed = {"small": spread(0.5, 0.1), "zero": spread(0.03, 0.2), "large": spread(110.0, 20.0)}
    found = _judge(16, expected, observed)
    assert found.worst_margin == pytest.approx(0.5)  # 10 of 20
    assert "at most 20.0 %" in found.note  # 0.1 of 0.5, 0.2 absolutely, 20 of 100
    assert found.verdict == "holds"
    assert "at most 20.0 %" in _judge(16, {"zero": 0.0}, {"zero": observed["zero"]}).note
    assert _judge(16, expected, {**observed, "zero": spread(0.25, 0.2)}).verdict == "not seen"
    assert _judge(16, expected, {**observed, "small": spread(0.5, 0.13)}).verdict == "inconclusive"


def test_two_draws_are_an_interval_and_one_is_none():
    assert _judge(1, {"x": 1.0}, {"x": [1.0]}).verdict == "inconclusive"
    assert _judge(2, {"x": 1.0}, {"x": [0.9, 1.2]}).worst_margin is not None


@pytest.mark.parametrize("uniform", [False, True])
def test_factors_have_the_variances_on_record(uniform):
    pairs = list(_factors(Shape(40, 30, 5), 60, 3, uniform=uniform))
    A, B = (np.stack(part) for part in zip(*pairs, strict=True))
    assert (A.shape, B.shape) == ((60, 40, 5), (60, 5, 30))
    assert A.var() * 5 == pytest.approx(1, abs=0.05)
    assert B.var() * 30 == pytest.approx(1, abs=0.05)
    assert abs(A.mean()) * 5**0.5 < 0.05
    assert abs(B.mean()) * 30**0.5 < 0.05
    if uniform:
        assert 1.7 < abs(A).max() * 5**0.5 < 3**0.5
        assert -(3**0.5) < B.min() * 30**0.5 < -1.7
    else:
        assert abs(A).max() * 5**0.5 > 3


def test_both_claims_hold_at_small_dimensions(monkeypatch):
    shapes = (Shape(12, 8, 2), Shape(6, 9, 3))
    monkeypatch.setattr(module, "DIMENSIONS", shapes)
    for measure in (module.forward_variance, module.gram_ratio):
        found = measure.examine(trials=3000, seed=2)
        assert found.verdict == "holds", found.note
    assert len(module.forward_variance.measure(50, 0).evidence) == 8
    found = module.gram_ratio.measure(50, 0).evidence
    assert {entry["expected"] for entry in found.values()} == {0.0, 1.0}
    assert len(found) == 4


def test_the_samples_are_those_of_the_definitions(monkeypatch):
    """One draw: means over the entries of Bx and ABx; trace and norm of BBᵀ − (r/a)AᵀA."""
    shape = Shape(6, 9, 3)
    monkeypatch.setattr(module, "DIMENSIONS", (shape,))
    monkeypatch.setattr(module, "_judge", lambda trials, expected, observed: (trials, expected, observed))
    trials, expected, observed = module.forward_variance.measure(2, 5)
    x = np.random.default_rng(5).standard_normal(9)
    x *= 3 / np.linalg.norm(x)  # mean square 1
    for uniform, kind in ((False, "Gaussian"), (True, "uniform")):
        for i, (A, B) in enumerate(_factors(shape, 2, 5, uniform=uniform)):
            assert observed[f"6×9, r = 3, {kind}: Bx"][i] == pytest.approx(((B @ x) ** 2).mean())
            assert observed[f"6×9, r = 3, {kind}: ABx"][i] == pytest.approx(((A @ B @ x) ** 2).mean())
    assert set(expected.values()) == {1.0}
    trials, expected, observed = module.gram_ratio.measure(2, 5)
    assert trials == 2
    for i, (A, B) in enumerate(_factors(shape, 2, 5)):
        D = B @ B.T - 0.5 * A.T @ A
        assert observed["6×9, r = 3: tr D/r"][i] == pytest.approx(np.trace(D) / 3)
        assert observed["6×9, r = 3: ‖D‖² relative"][i] == pytest.approx((D**2).sum() / (12 * (1 / 6 + 1 / 9)))
    assert expected == {"6×9, r = 3: tr D/r": 0.0, "6×9, r = 3: ‖D‖² relative": 1.0}
