"""Claims on gauges: RefLoRA beside BaLoRA, and whose path of AB depends on the gauge of the start."""

import numpy as np
import pytest

from lorakappa.synthetic.claims import CLAIMS, gauges
from lorakappa.synthetic.problems import make_problems, step_size_grid
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.settings import ProblemSettings


@pytest.mark.parametrize("id", ["reflora-is-balora-gd", "gauge-free-methods", "gauge-free-after-projection"])
def test_they_come_out_as_recorded_on_other_problems(id):
    verdict = CLAIMS[id].examine(trials=2, seed=3)
    assert verdict.verdict == CLAIMS[id].recorded == "holds", verdict.note


def curves(off):
    """(T + 1, 2 methods, 2 step sizes, 1) curves: the first step size falls, the second rises in its second step."""
    excess = np.ones((4, 2, 2, 1))
    excess[:, :, 0, 0] = np.array([1.0, 0.5, 0.25, 0.125])[:, None]
    excess[:, :, 1, 0] = np.array([1.0, 0.5, 0.75, 0.1])[:, None]
    excess[2:, 1, 1] *= 2  # behind the rise: says nothing
    excess[2, 1, 0] *= 1 - off
    return excess


@pytest.mark.parametrize(("off", "verdict"), [(0.0, "holds"), (0.9e-6, "holds"), (1.1e-6, "not seen")])
def test_the_rule_of_one_path(monkeypatch, off, verdict):
    asked = []

    def fake(settings, *, methods, **options):
        asked.append((settings.loss, settings.seeds, settings.seed, methods, options["steps"]))
        return Result("convergence", {"excess": curves(off if settings.loss == "two-layer" else 0.0)}, {}, 0)

    monkeypatch.setattr(gauges, "convergence", fake)
    found = CLAIMS["reflora-is-balora-gd"].examine(trials=3, seed=7)
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(1e-6 - off, rel=1e-4, abs=1e-12)
    assert found.evidence["steps"] == 8  # 3 and 1 at each loss
    assert asked == [(loss, 3, 7, ("reflora", "balora"), 200) for loss in ("one-layer", "two-layer")]


def test_a_curve_that_diverges_is_compared_up_to_there(monkeypatch):
    excess = curves(0.0)
    excess[2:, 0, 0] = np.inf
    monkeypatch.setattr(gauges, "convergence", lambda *_, **__: Result("convergence", {"excess": excess}, {}, 0))
    assert CLAIMS["reflora-is-balora-gd"].examine(trials=3).evidence["steps"] == 4


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "holds"),
        ({"reflora": (1e-12, 0.9e-6)}, "holds"),
        ({"reflora": (1e-12, 1.1e-6)}, "inconclusive"),
        ({"reflora": (1.1e-3, 0.5)}, "not seen"),
        ({"lora": (0.9e-3, 0.5)}, "inconclusive"),
        ({"lora": (1e-12, 1e-12)}, "not seen"),
        ({"lora": (float("nan"), float("nan"))}, "inconclusive"),
    ],
)
def test_the_rule_of_free_and_dependent_paths(monkeypatch, change, verdict):
    def fake(methods, trials, seed, *, project=None):
        assert (trials, seed) == (3, 5)
        free = gauges.FREE_UNDER_GD
        row = {name: (1e-14, 1e-13) if name in free else (0.1, 0.5) for name in methods}
        return {
            "GD": row | change,
            "sign-GD": dict.fromkeys(methods, (0.1, 0.5)),
            "Adam": dict.fromkeys(methods, (0.1, 1)),
        }

    monkeypatch.setattr(gauges, "gauge_dependence", fake)
    found = CLAIMS["gauge-free-methods"].examine(trials=3, seed=5)
    assert found.verdict == verdict
    if verdict == "not seen":
        assert found.note.endswith(f"against the statement: {next(iter(change))} under GD")


def test_each_method_is_projected_in_its_own_gauge(monkeypatch):
    asked = {}

    def fake(methods, trials, seed, *, project):
        asked.update(dict.fromkeys(methods, project))
        mixed = project != "hyperbalanced"
        return {
            label: dict.fromkeys(methods, (0.1, 0.5) if mixed and label != "GD" else (0.0, 1e-14))
            for label in gauges.OPTIMIZERS
        }

    monkeypatch.setattr(gauges, "gauge_dependence", fake)
    assert CLAIMS["gauge-free-after-projection"].examine(trials=3).verdict == "holds"
    assert {name for name, gauge in asked.items() if gauge != "hyperbalanced"} == {"balora-symmetric", "balora-nearest"}
    assert asked["balora-nearest"] == "nearest"
    assert set(asked) == {*gauges.FREE_UNDER_GD, *gauges.OTHERS}


def test_both_starts_have_one_product_and_different_factors(monkeypatch):
    starts = []
    real = gauges.simulate

    def spy(loss, start, **options):
        starts.append(start)
        return real(loss, start, **options)

    monkeypatch.setattr(gauges, "simulate", spy)
    found = gauges.gauge_dependence(("lora", "scaled-gd:damping=0"), 2, 0)
    assert {label: list(row) for label, row in found.items()} == {
        label: ["lora", "scaled-gd:damping=0"] for label in ("GD", "sign-GD", "Adam")
    }
    first, second = starts[:2]
    np.testing.assert_allclose(first[0] @ first[1], second[0] @ second[1], atol=1e-13)
    assert (np.abs(first[0] - second[0]) > 1e-3).any(axis=(-2, -1)).all()
    low, high = found["GD"]["lora"]
    assert 0 < low < high < 1


@pytest.mark.parametrize(
    ("method", "optimizer", "unit"),
    [
        ("reflora", "gd", lambda p, L: 1 / L),
        ("scaled-gd", "gd", lambda p, L: p.gram / L),
        ("lora", "sign-gd", lambda p, L: 1 / (p.parameters * L)),
        ("scaled-gd", "sign-gd", lambda p, L: p.gram / (p.parameters * L)),
        ("scaled-gd", "adam", lambda p, L: p.entry),
    ],
)
def test_step_sizes_are_multiples_of_the_natural_unit(method, optimizer, unit):
    problems = make_problems(ProblemSettings(shape=(6, 5), rank=2, seeds=3))
    L = float(np.median(problems.loss.smoothness))
    (size,) = gauges._step_size(problems, method, optimizer, 0.25)
    assert size == pytest.approx(0.25 * unit(problems, L))
    low, high = step_size_grid("auto:2", problems, optimizer, preconditioned=method == "scaled-gd")[[0, -1]]
    assert low < size < high  # of what experiments try by themselves


def test_the_difference_of_two_curves_is_relative_to_the_larger_one():
    first, second = np.array([[1.0, 4.0], [3.0, np.inf]]), np.array([[2.0, 4.0], [1.0, np.inf]])
    np.testing.assert_allclose(gauges.relative_difference(first, second), [[0.5, 0.0], [2 / 3, np.nan]])
