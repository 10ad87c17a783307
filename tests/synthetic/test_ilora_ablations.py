"""iLoRA's ablations: what is measured, and the rules at and beside their thresholds."""

from dataclasses import replace

import numpy as np
import pytest

from lorakappa.conditioning.imbalance_regularization import trained_penalty_step
from lorakappa.synthetic.claims import CLAIMS, ilora, ilora_ablations
from lorakappa.synthetic.claims.gains import MAIN, tuned_run
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.problems import make_problems
from lorakappa.synthetic.results import Result


def test_a_window_is_the_share_of_the_grid_within_a_decade_of_the_best():
    grid = 10.0 ** np.arange(5.0)
    logs = np.array([[0.0, -4, 0, 0, 0], [-0.5, -0.5, 9, np.inf, 0], [5.0, 4, 3, -9, np.inf]]).T
    widths = ilora_ablations.window(grid, logs)
    # seed 0 rises by 4 a decade on both sides; seed 1 by 9.5 on one side only, and comes back within reach at the end
    assert widths[0] == pytest.approx(2 * 1 / 4, abs=0.03)
    assert widths[1] == pytest.approx(1 + 1 / 9.5 + 1.5 / 101.5 / 1.5, abs=0.04)
    assert 0 < widths[2] < 0.12


def fake_runs(monkeypatch, excess):
    """The shared runs of all settings, with made-up final f − f* (4 methods, G step sizes, n seeds)."""
    arrays = {"excess": np.stack([np.ones_like(excess), excess]), "step_sizes": 10.0 ** np.arange(excess.shape[1])}
    result = Result("convergence", arrays, {}, 0)
    runs = {name: ("gd", "one-layer", result) for name in ("GD one-layer", "Adam one-layer")}
    monkeypatch.setattr(ilora_ablations, "_runs", lambda methods, trials, seed: runs)


@pytest.mark.parametrize(("slope", "verdict"), [(2.0, "holds"), (4.0, "equivalent"), (8.0, "not seen")])
def test_the_rule_of_robustness(monkeypatch, slope, verdict):
    """LoRA's loss rises by 4 decades a decade from its best step size, iLoRA's by `slope`."""
    excess = np.ones((4, 5, 3))
    away = np.abs(np.arange(5.0) - 2)[:, None] + np.zeros(3)
    excess[0], excess[1] = 10 ** (4 * away - 9), 10 ** (slope * away - 5)
    fake_runs(monkeypatch, excess)
    found = CLAIMS["ilora-robust-lr"].examine(trials=3)
    assert found.verdict == verdict
    assert found.note.startswith("decades by which it is wider: GD one-layer ")


def test_what_is_run_again_is_the_run_at_its_best(monkeypatch):
    """The same final loss, from the factors; and the maps are the ones that ran, a trained ratio with its state."""
    monkeypatch.setattr(ilora_ablations, "MAIN", {"one-layer": replace(MAIN["one-layer"], shape=(6, 5), rank=2)})
    settings = replace(ilora_ablations.MAIN["one-layer"], seeds=3, seed=1)
    methods = ("lora", "ilora", "ilora:trained=yes", "scaled-gd")
    run = tuned_run(settings, "gd", methods, "auto:5", (0.1, 1.0))
    problems = make_problems(settings)
    for i, method in enumerate(methods):
        (A, B), maps = ilora_ablations._again("gd", "one-layer", run, method, 3, 1)
        excess = problems.loss.evaluate((A[0], B[0]))[0]
        np.testing.assert_allclose(excess, run.arrays["curves"][-1, i], rtol=1e-9)
        assert len(maps) == (parse_method(method).new_map is not None)
    _, (step,) = ilora_ablations._again("gd", "one-layer", run, "ilora:trained=yes", 3, 1)
    assert step.penalty.trained
    assert step.penalty.strength == run.meta["summary"][2]["lambda"][0]
    (logs,) = step.log_ratios
    assert logs.shape == (1, 3)
    assert (np.exp(logs) != 2 / 6).all()


def test_a_trained_ratio_is_kept_layer_by_layer():
    rng = np.random.default_rng(0)
    pairs = [rng.standard_normal(shape) for shape in ((5, 2), (2, 4), (4, 2), (2, 3))]
    step = parse_method("ilora:trained=yes,lambda=0.5").new_map()
    step(tuple(pairs), np.array(0.1))
    for layer, rows in enumerate((5, 4)):
        log_ratio = trained_penalty_step(*pairs[2 * layer : 2 * layer + 2], step=0.05, log_ratio=np.log(2 / rows))[2]
        np.testing.assert_allclose(step.log_ratios[layer], log_ratio)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((1.01, 1.99), "holds"),
        ((1.0, 1.5), "inconclusive"),
        ((0.9, 1.5), "inconclusive"),
        ((1.5, 2.1), "inconclusive"),
        ((0.5, 0.99), "not seen"),
        ((2.01, 3.0), "not seen"),
    ],
)
def test_the_rule_of_the_trained_ratio(monkeypatch, interval, verdict):
    logs = np.log(0.2 * np.array([[interval[0], interval[1], interval[1]]]))
    step = parse_method("ilora:trained=yes").new_map()
    step.log_ratios = [logs]
    runs = {"GD one-layer": ("gd", "one-layer", None)}
    monkeypatch.setattr(ilora_ablations, "_runs", lambda methods, trials, seed: runs)
    monkeypatch.setattr(ilora_ablations, "_again", lambda *_: ((), [step]))
    monkeypatch.setattr(ilora_ablations, "compare", lambda values, seed: Interval(values))
    found = CLAIMS["ilora-trained-ratio-close"].examine(trials=3)
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(min(interval[0] - 1, 2 - interval[1]))


class Interval:
    """Stands in for a comparison whose interval is all of the values."""

    def __init__(self, values):
        self.values = values

    def meta(self):
        low, high = float(np.min(self.values)), float(np.max(self.values))
        return {"median": float(np.median(self.values)), "interval": (low, high)}


@pytest.mark.parametrize(
    ("defects", "verdict"), [((0.05, 0.09), "holds"), ((0.09, 0.11), "inconclusive"), ((0.11, 0.5), "not seen")]
)
def test_the_rule_of_the_ratio_that_is_kept(monkeypatch, defects, verdict):
    """BBᵀ = (1 + 2δ/(1 − δ))·(r/m)AᵀA has the relative defect δ."""

    def again(optimizer, loss, run, method, trials, seed):
        A = np.zeros((1, 2, 8, 2))
        A[..., :2, :] = 2 * np.eye(2)  # (r/m)AᵀA = I
        B = np.zeros((1, 2, 2, 3))
        for i, defect in enumerate(defects):
            B[0, i, :, :2] = np.sqrt((1 + defect) / (1 - defect)) * np.eye(2)
        return (A, B), []

    runs = {"GD one-layer": ("gd", "one-layer", None)}
    monkeypatch.setattr(ilora_ablations, "_runs", lambda methods, trials, seed: runs)
    monkeypatch.setattr(ilora_ablations, "_again", again)
    monkeypatch.setattr(ilora_ablations, "compare", lambda values, seed: Interval(values))
    found = CLAIMS["ilora-keeps-ratio"].examine(trials=3)
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(0.1 - max(defects))


@pytest.mark.parametrize(
    ("id", "factors", "powers"),
    [
        ("ilora-factor-ablation", (0.5, 0.9, 1.0, 1.1, 1.5, 2.0), (1.0,)),
        ("ilora-exponent-ablation", (1.0,), (0.5, 0.75, 1.5, 2.0)),
    ],
)
@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((0.3, 0.2, 0.1), "holds"),
        ((0.3, 0.2, -0.1), "not seen"),
        ((0.3, 0.2, 0.0), "inconclusive"),
        ((0.01, 0.0, -0.01), "equivalent"),
    ],
)
def test_the_rule_of_the_ablations(monkeypatch, id, factors, powers, gains, verdict):
    """The rival is chosen on the first half of the seeds, where r/m itself looks best of all and is no rival."""
    names = [f"ilora:factor={c}" for c in factors] + [f"ilora:power={p}" for p in powers]
    paper, rival = factors.index(1.0), (4 if len(factors) > 1 else 2)

    def fake(settings, **options):
        assert (options["factors"], options["powers"], options["optimizer"]) == (factors, powers, "adam")
        logs = np.zeros((3, len(names), 7))
        logs[:, rival, :3] = -1.0
        logs[:, [paper, *([-1] if 1.0 in powers else [])], :3] = -9.0
        logs[:, rival, 3:] = np.array(gains)[:, None]
        arrays = {"log10": logs, "shapes": np.array([[4, 2], [3, 3], [2, 4]]), "final_median": logs[..., 0]}
        return Result("ratios", arrays, {"variants": names}, 0)

    monkeypatch.setattr(ilora_ablations, "ratios", fake)
    found = CLAIMS[id].examine(trials=7)
    assert found.verdict == verdict
    assert f"4×2 {names[rival].partition(':')[2]}" in found.note
    with pytest.raises(ValueError, match="at least 6 trials"):
        CLAIMS[id].examine(trials=5)


def test_the_ratio_of_lora_plus_is_that_of_the_problem():
    settings = MAIN["one-layer"]
    assert f"lora-plus:lr-ratio={settings.shape[0] // settings.rank}" in ilora.PRECONDITIONED
