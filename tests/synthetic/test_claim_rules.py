"""What decides the claims about dynamics: each rule on measurements made up by hand, at and beside its threshold."""

import numpy as np
import pytest

from lorakappa.synthetic.claims import CLAIMS, balora, critics, gains, ilora, rates
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.settings import ProblemSettings


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.1, 0.2), "holds"),
        ((0.01, 0.05), "holds"),
        ((-0.2, -0.1), "not seen"),
        ((-0.05, -0.01), "not seen"),
        ((-0.1, 0.2), "inconclusive"),
        ((0.0, 0.2), "inconclusive"),
        ((-0.2, 0.0), "inconclusive"),
        ((-0.05, 0.04), "inconclusive"),
        ((0.0, 0.0), "equivalent"),
        ((-0.049, 0.049), "equivalent"),
        ((0.01, 0.049), "equivalent"),
    ],
)
def test_a_gain_is_judged_by_its_whole_interval(interval, verdict):
    assert gains.judged({"interval": interval}) == verdict


def test_gains_are_shown_with_their_interval():
    assert gains.show("x", {"median": 0.5, "interval": (-0.25, 1.0)}) == "x +0.50 [-0.25, +1.00]"


def test_three_seeds_are_enough_and_two_are_not():
    gains.check_trials(3)
    with pytest.raises(ValueError, match="2 paired seeds"):
        gains.check_trials(2)


def fake_convergence(curves, asked, edges=()):
    """`convergence` of made-up curves {method: (T + 1, n)}."""

    def fake(settings, *, methods, **options):
        asked.append((settings, options))
        stacked = np.stack([curves[name] for name in methods], axis=1)
        summary = [{"method": name, "lambda": [len(name)], "best_at_edge_of_grid": name in edges} for name in methods]
        return Result("convergence", {"curves": stacked}, {"summary": summary}, 0)

    return fake


def test_a_gain_is_positive_if_the_second_method_ends_lower(monkeypatch):
    asked = []
    curves = {
        "lora": np.array([[1.0] * 4, [5.0] * 4, [1e-2, 1e-2, 1e-2, np.inf]]),
        "balora": np.array([[1.0] * 4, [np.inf] * 4, [1e-3, 1e-4, 1e-5, 1e-5]]),
    }
    monkeypatch.setattr(gains, "convergence", fake_convergence(curves, asked, edges=("balora",)))
    gains._best_curves.cache_clear()
    found = gains.measured_gain(ProblemSettings(rank=2), "adam", 4, 9, ("lora", "balora"))
    gains._best_curves.cache_clear()
    assert found["median"] == pytest.approx(2.5)  # of 1, 2, 3, 6 + 5
    assert (found["wins"], found["n"]) == (4, 4)
    assert found["diverged"] == [1, 0]
    assert found["best_at_edge_of_grid"] == ["balora"]
    assert all((s.seeds, s.seed, s.rank) == (4, 9, 2) for s, _ in asked)
    assert all(options == {"optimizer": "adam", "steps": 100} for _, options in asked)


def test_tuned_logs_are_of_the_last_step_by_method(monkeypatch):
    asked = []
    curves = {"lora": np.array([[1.0], [1e-1], [1e-2]]), "ilora": np.array([[1.0], [1e-5], [np.inf]])}
    monkeypatch.setattr(gains, "convergence", fake_convergence(curves, asked))
    gains.tuned_run.cache_clear()
    logs, chosen = gains.tuned_logs(ProblemSettings(), "gd", ("lora", "ilora"), "auto:3", (0.5,))
    gains.tuned_run.cache_clear()
    assert (logs["lora"].item(), logs["ilora"].item()) == (pytest.approx(-2), pytest.approx(6))
    assert chosen == {"lora": [4], "ilora": [5]}
    assert asked[0][1] == {"optimizer": "gd", "steps": 100, "step_sizes": "auto:3", "strengths": (0.5,)}
    assert gains.gain_between({"a": np.full(3, 2.0), "b": np.ones(3)}, "a", "b", 0)["median"] == 1


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.06, 0.2), "holds"),
        ((0.01, 0.2), "holds"),
        ((-0.01, 0.05), "inconclusive"),
        ((0.01, 0.04), "equivalent"),
        ((-0.01, 0.01), "equivalent"),
        ((-0.3, -0.1), "not seen"),
    ],
)
def test_the_rule_of_the_gain_from_balance(monkeypatch, interval, verdict):
    asked = []

    def fake(settings, *rest):
        asked.append((settings.start, settings.init_std, *rest))
        return {"median": 0.0, "interval": interval}

    monkeypatch.setattr(balora, "measured_gain", fake)
    found = CLAIMS["balora-beats-lora-from-balance"].examine(trials=4, seed=7)
    assert found.verdict == verdict
    assert found.worst_margin == interval[0]
    assert asked == [("balanced", 0.1, "gd", 4, 7)]


@pytest.mark.parametrize("interval", [(0.0, 0.5), (-0.5, 0.0)])
def test_a_comparison_with_an_interval_that_ends_at_0_is_inconclusive(monkeypatch, interval):
    monkeypatch.setattr(balora, "measured_gain", lambda *_: {"median": 0.2, "interval": interval})
    assert CLAIMS["balora-beats-lora-gd"].examine(trials=4, seed=0).verdict == "inconclusive"


def test_comparisons_run_the_methods_and_optimizers_that_they_name(monkeypatch):
    asked = []

    def fake(settings, optimizer, trials, seed, methods):
        asked.append((optimizer, methods))
        return {"median": 0.2, "interval": (0.1, 0.2)}

    monkeypatch.setattr(balora, "measured_gain", fake)
    expected = {
        "balora-beats-lora-gd": ("gd", ("lora", "balora")),
        "balora-beats-lora-sign-gd": ("sign-gd", ("lora", "balora")),
        "balora-beats-lora-sign": ("sign", ("lora", "balora")),
        "balora-beats-lora-adam": ("adam", ("lora", "balora")),
        "balora-symmetric-beats-lora-adam": ("adam", ("lora", "balora-symmetric")),
        "adam-prefers-the-symmetric-gauge": ("adam", ("balora", "balora-symmetric")),
    }
    for id, wanted in expected.items():
        asked.clear()
        CLAIMS[id].examine(trials=4, seed=0)
        assert set(asked) == {wanted}


class Clock:
    """Stands in for the module `time`; work done on `Ticking` matrices takes one second a product."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Ticking:
    """A matrix whose products take a second."""

    def __init__(self, clock):
        self.clock, self.shape = clock, (2, 2)

    def __matmul__(self, other):
        self.clock.now += 1
        return self

    def __sub__(self, other):
        return self

    @property
    def T(self):
        return self


@pytest.mark.parametrize(("cost", "verdict"), [(1.5, "holds"), (3.0, "holds"), (3.5, "not seen")])
def test_the_rule_of_the_projections_overhead(monkeypatch, cost, verdict):
    """One gradient is three products; the first repetition, which only warms up, takes far longer."""
    clock = Clock()
    pair = Ticking(clock), Ticking(clock)
    costs = iter((1000.0, cost / 2, 20.0, cost))

    def projection(A, B):
        assert A is pair[0]
        assert B is pair[1]
        clock.now += next(costs)

    def minimizer(Z, r, gauge):
        assert (Z.shape, r, gauge.shape) == ((1024, 1024), 8, (8, 8))
        return pair

    monkeypatch.setattr(balora, "time", clock)
    monkeypatch.setattr(balora, "balance", projection)
    monkeypatch.setattr(balora, "minimizer", minimizer)
    found = CLAIMS["overhead-per-step"].examine(trials=3, seed=0)
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(1 - cost / 3)
    assert found.evidence == {"projection_seconds": cost, "gradient_seconds": 3.0}
    assert found.note == f"{1e3 * cost:.2f} ms against 3000.00 ms a gradient: {100 * cost / 3:.0f} %"


@pytest.mark.parametrize(
    ("penalty", "scaling", "verdict"), [(1.0, 4.0, "holds"), (4.0, 1.0, "not seen"), (2.0, 2.0, "inconclusive")]
)
def test_the_rule_of_iloras_overhead(monkeypatch, penalty, scaling, verdict):
    clock, calls = Clock(), []

    def work(cost, name):
        def run(A, B, *gradients, **options):
            calls.append((name, A.shape, B.shape, options))
            # the first three repetitions are slow, for either
            noise = 0.02 * (-1) ** ((len(calls) - 1) // 2) if name == "penalty" else 0.0
            clock.now += 1000 if len(calls) <= 6 else cost * (1 + noise)

        return run

    monkeypatch.setattr(ilora, "time", clock)
    monkeypatch.setattr(ilora, "minimizer", lambda *_: (np.ones((1024, 8)), np.ones((8, 1024))))
    monkeypatch.setattr(ilora, "penalty_step", work(penalty, "penalty"))
    monkeypatch.setattr(ilora, "scaled_gradient", work(scaling, "scaling"))
    found = CLAIMS["ilora-overhead"].examine(trials=4, seed=0)
    assert found.verdict == verdict
    assert found.evidence["penalty_seconds"] == pytest.approx(penalty, rel=0.03)
    assert found.evidence["scaling_seconds"] == pytest.approx(scaling, rel=0.02)
    assert found.evidence["log10_ratio"]["median"] == pytest.approx(np.log10(scaling / penalty), abs=0.01)
    assert found.evidence["log10_ratio"]["n"] == 4
    low, high = found.evidence["log10_ratio"]["interval"]
    assert found.worst_margin == low < high
    penalty, scaling = found.evidence["penalty_seconds"], found.evidence["scaling_seconds"]
    share = f"{100 * penalty / scaling:.0f} %"
    assert found.note == f"{1e3 * penalty:.3f} ms against {1e3 * scaling:.3f} ms a step: {share}"
    assert calls[0][3] == calls[3][3] != {}  # who is first alternates
    assert {shapes for _, *shapes_, _ in calls for shapes in [tuple(shapes_)]} == {((1024, 8), (8, 1024))}
    ratios = [options["ratio"] for name, *_, options in calls if name == "penalty"]
    assert set(ratios) == {8 / 1024}


@pytest.mark.parametrize(("off", "verdict"), [(0.0, "holds"), (0.9e-6, "holds"), (1.1e-6, "not seen")])
def test_the_rule_of_the_idle_projection(monkeypatch, off, verdict):
    asked = []

    def fake(settings, *, methods, **options):
        asked.append((settings.loss, settings.start, settings.seeds, methods, options["steps"]))
        excess = np.ones((3, 2, 2, 3))  # steps, methods, step sizes, seeds
        excess[1, 1, 0, 2] = 1 + off if settings.loss == "two-layer" else 1
        excess[1, 1, 1, 0], excess[2, 0, 1, 0] = 7.0, np.inf  # diverges: says nothing
        return Result("convergence", {"excess": 1e-3 * excess}, {}, 0)

    monkeypatch.setattr(ilora, "convergence", fake)
    found = CLAIMS["scaled-gd-makes-balance-idle"].examine(trials=3, seed=0)
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(1e-6 - off, rel=1e-4, abs=1e-12)
    methods = ("scaled-gd:damping=0", "balora-scaled-gd:damping=0")
    assert asked == [(loss, "gaussian", 3, methods, 40) for loss in ("one-layer", "two-layer")]


def tally(monkeypatch, won, lost, id="balora-versus-ilora"):
    asked = {}

    def fake(settings, *, methods, starts, **options):
        asked.update(options, methods=methods, starts=starts, seeds=settings.seeds, seed=settings.seed)
        cells = (3, 3, len(starts))
        interval = np.empty((*cells, 2, 2))
        interval[...] = -9.0, -8.0  # the baseline's own, which nobody asks for
        mine = np.tile([-0.1, 0.1], (np.prod(cells), 1))
        mine[:won], mine[won : won + lost] = (0.1, 0.2), (-0.2, -0.1)
        mine[won + lost] = 0.0, 0.0  # neither
        interval[..., 1, :] = mine.reshape(*cells, 2)
        arrays = {
            "interval": interval,
            "gain": interval.mean(axis=-1),
            "best_lambda": np.zeros((*cells, 2)),
            "decays": np.array([0.5, 0.7, 0.9]),
            "shapes": np.array([[4, 2], [3, 3], [2, 4]]),
        }
        return Result("duel", arrays, {}, 0)

    monkeypatch.setattr(ilora, "duel", fake)
    return CLAIMS[id].examine(trials=5, seed=3), asked


@pytest.mark.parametrize(
    ("won", "lost", "verdict"),
    [(2, 1, "inconclusive"), (5, 2, "holds"), (1, 2, "inconclusive"), (2, 5, "not seen"), (0, 0, "inconclusive")],
)
def test_two_thirds_of_the_decided_cells_decide(monkeypatch, won, lost, verdict):
    found, asked = tally(monkeypatch, won, lost)
    assert found.verdict == verdict
    share = won / (won + lost) if won + lost else 0.5
    assert found.worst_margin == pytest.approx(share - 2 / 3)
    assert found.note.startswith(f"cells won {won}, lost {lost}, undecided {27 - won - lost}; ")
    assert found.evidence["gain"].shape == (3, 3, 3)
    assert (found.evidence["gain"] > -1).all()  # the second method's, not the baseline's
    assert (asked["methods"], asked["seeds"], asked["seed"], asked["optimizer"]) == (("ilora", "balora"), 5, 3, "gd")


def test_the_tally_says_where_who_wins(monkeypatch):
    found, _ = tally(monkeypatch, 10, 9)
    # cells in order: 9 of q = 0.5 won, 1 of q = 0.7 won and 8 lost, 1 of q = 0.9 lost
    assert "q = 0.5 9:0, q = 0.7 1:8, q = 0.9 0:1" in found.note
    assert "4×2 4:3, 3×3 3:3, 2×4 3:3" in found.note
    assert "lora start 4:3, balanced start 3:3, gaussian start 3:3" in found.note
    found, asked = tally(monkeypatch, 3, 1, "ilora-prefers-balance")
    assert "start" not in found.note  # one start is no knob
    assert (asked["methods"], asked["starts"]) == (("ilora", "ilora-balanced"), ("lora",))
    _, asked = tally(monkeypatch, 3, 1, "balora-versus-ilora-adam")
    assert (asked["optimizer"], asked["strengths"]) == ("adam", (0.1, 1.0, 10.0))


@pytest.mark.parametrize("signs", [(0.5, -0.5, -0.5), (-0.5, -0.5, 0.5)])
def test_one_shape_at_which_a_rival_ratio_is_ahead_decides(monkeypatch, signs):
    names = [f"ilora:v={i}" for i in range(7)]
    logs = np.zeros((3, 7, 7))
    logs[:, 2, :3] = -9.0  # the rival of the first three seeds; c = 1 itself, index 1, is no rival
    logs[:, 1, :3] = -99.0
    for shape, sign in enumerate(signs):
        logs[shape, 2, 3:] = np.array([-0.1, 0.0, 0.1, 0.2]) - sign
    arrays = {"log10": logs, "shapes": np.array([[4, 2], [3, 3], [2, 4]])}
    asked = {}

    def fake(settings, **options):
        asked.update(options, target=settings.target, seeds=settings.seeds)
        return Result("ratios", arrays, {"variants": names}, 0)

    monkeypatch.setattr(ilora, "ratios", fake)
    found = CLAIMS["ilora-ratio-optimal"].examine(trials=7, seed=0)
    assert found.verdict == "not seen"
    medians = [gain["median"] for gain in found.evidence["gains"].values()]
    assert medians == [pytest.approx(sign - 0.05) for sign in signs]
    assert all(gain["n"] == 4 for gain in found.evidence["gains"].values())
    assert list(found.evidence["gains"]) == ["4×2 v=2", "3×3 v=2", "2×4 v=2"]
    highest = max(gain["interval"][0] for gain in found.evidence["gains"].values())
    assert found.worst_margin == -highest
    assert asked["factors"][1] == 1.0
    assert (asked["target"], asked["seeds"], asked["strengths"]) == ("geometric:0.7", 7, (0.01, 0.1, 1.0))


def test_six_seeds_are_enough_for_two_halves(monkeypatch):
    arrays = {"log10": np.zeros((1, 7, 6)), "shapes": np.array([[4, 2]])}
    names = [f"ilora:v={i}" for i in range(7)]
    monkeypatch.setattr(ilora, "ratios", lambda *_, **__: Result("ratios", arrays, {"variants": names}, 0))
    assert CLAIMS["ilora-ratio-optimal"].examine(trials=6, seed=0).verdict == "equivalent"


@pytest.mark.parametrize(("low", "verdict"), [(0.1, "holds"), (0.0, "inconclusive"), (-0.3, "inconclusive")])
def test_ilora_must_be_ahead_everywhere(monkeypatch, low, verdict):
    """The least favourable of the four comparisons decides."""
    asked = []

    def fake(settings, optimizer, methods, grid, strengths):
        asked.append((settings.loss, settings.seeds, settings.seed, optimizer, methods, grid, strengths))
        least = (settings.loss, optimizer) == ("two-layer", "gd")
        logs = np.linspace(low, 0.5, settings.seeds) if least else np.full(settings.seeds, 0.5)
        return {"lora": logs, "ilora": np.zeros_like(logs)}, {"ilora": [1.0], "lora": None}

    monkeypatch.setattr(ilora, "tuned_logs", fake)
    monkeypatch.setattr(
        ilora,
        "gain_between",
        lambda logs, first, second, seed: {
            "median": 0.0,
            "interval": ((logs[first] - logs[second]).min(), (logs[first] - logs[second]).max()),
        },
    )
    found = CLAIMS["ilora-beats-lora"].examine(trials=3, seed=8)
    assert found.verdict == verdict
    assert found.worst_margin == low
    assert {(loss, optimizer) for loss, _, _, optimizer, *_ in asked} == {
        (loss, optimizer) for loss in ("one-layer", "two-layer") for optimizer in ("gd", "adam")
    }
    assert {line[1:3] for line in asked} == {(3, 8)}
    assert set(found.evidence["lambda"]) == {"GD one-layer", "GD two-layer", "Adam one-layer", "Adam two-layer"}


CRITICS = {
    "deviation_exponent": 0.95,
    "imbalance_exponent": 1.0,
    "equal_kappa_log_rate_difference": 0.05,
    "equal_kappa_conclusive_share": 0.8,
    "equal_kappa_difference": 0.005,
    "equal_kappa_imbalance": [0.1, 0.0],
    "drift_one_step_exponent": 2.01,
    "drift_fixed_time_exponent": 1.02,
}


@pytest.mark.parametrize(
    ("id", "change", "verdict"),
    [
        ("same-kappa-same-curve", {"deviation_exponent": 0.9}, "holds"),
        ("same-kappa-same-curve", {"deviation_exponent": 0.899}, "not seen"),
        ("same-kappa-same-curve", {"deviation_exponent": 1.9}, "holds"),
        ("same-kappa-same-curve", {"equal_kappa_log_rate_difference": 0.1}, "holds"),
        ("same-kappa-same-curve", {"equal_kappa_difference": 0.01}, "holds"),
        ("same-kappa-same-curve", {"equal_kappa_difference": 0.011}, "not seen"),
        ("same-kappa-same-curve", {"equal_kappa_conclusive_share": 0.5}, "holds"),
        ("same-kappa-same-curve", {"equal_kappa_conclusive_share": 0.49}, "inconclusive"),
        ("flow-conserves-imbalance", {"drift_one_step_exponent": 2.049}, "holds"),
        ("flow-conserves-imbalance", {"drift_one_step_exponent": 1.951}, "holds"),
        ("flow-conserves-imbalance", {"drift_one_step_exponent": 2.051}, "not seen"),
        ("flow-conserves-imbalance", {"drift_one_step_exponent": 1.949}, "not seen"),
        ("flow-conserves-imbalance", {"drift_fixed_time_exponent": 1.099}, "holds"),
        ("flow-conserves-imbalance", {"drift_fixed_time_exponent": 0.901}, "holds"),
        ("flow-conserves-imbalance", {"drift_fixed_time_exponent": 1.101}, "not seen"),
        ("flow-conserves-imbalance", {"drift_fixed_time_exponent": 0.899}, "not seen"),
    ],
)
def test_the_thresholds_of_the_critics_questions(monkeypatch, id, change, verdict):
    meta, asked = {**CRITICS, **change}, []

    def fake(settings, *, experiments):
        asked.append((settings.seeds, settings.seed, experiments))
        return Result("settle", {}, meta, 0)

    monkeypatch.setattr(critics, "settle", fake)
    found = CLAIMS[id].examine(trials=3, seed=4)
    assert found.verdict == verdict
    if id == "flow-conserves-imbalance":
        assert found.worst_margin == pytest.approx(0.05 - abs(meta["drift_one_step_exponent"] - 2))
        assert asked == [(3, 4, ("flow",))]
    else:
        assert found.worst_margin == pytest.approx(meta["deviation_exponent"] - 0.9)
        assert asked == [(3, 4, ("same-curve", "equal-kappa"))]
        percent = 100 * meta["equal_kappa_log_rate_difference"]
        assert f"differ by up to {percent:.2g} %" in found.note
        assert f"{100 * meta['equal_kappa_conclusive_share']:.0f} % of pairs" in found.note


def test_the_rescale_question_is_decided_by_multiples_of_baloras_lengths(monkeypatch):
    intervals = {
        "each_at_best": (-3.0, -2.0),
        "at_multiples_of_balora_lengths": (0.25, 0.5),
        "at_multiples_of_lora_lengths": (-5.0, -4.0),
    }
    meta = {"log10_gain": {name: {"median": 0.0, "interval": ends} for name, ends in intervals.items()}}
    monkeypatch.setattr(critics, "settle", lambda settings, *, experiments: Result("settle", {}, meta, 0))
    found = CLAIMS["not-a-step-rescale"].examine(trials=3, seed=0)
    assert (found.verdict, found.worst_margin) == ("holds", 0.25)


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


def test_one_gd_step_changes_the_imbalance_by_exactly_that():
    """Floats and rationals are two sources: neither may have to overrule the other."""
    found = CLAIMS["gd-step-imbalance"].examine(trials=120, seed=1)
    assert found.verdict == "holds"
    assert found.evidence["exact_instances"] > 10
    assert found.evidence["cleared_exactly"] == 0


def test_the_step_of_the_imbalance_claim_is_a_step_of_gradient_descent():
    """Wrong by a term of first order in γ, by a sign or by a transpose, the comparison notices."""
    rng = np.random.default_rng(0)
    family = CLAIMS["gd-step-imbalance"].family
    shape = next(s for s in family.shapes if (s.a, s.b, s.r) == (3, 2, 2))
    x = family.floating(shape, family.draw(shape, rng))
    found = CLAIMS["gd-step-imbalance"].compare(x)
    assert abs(found.left) < found.tolerance < 1e-10
    A, B, G, step = x.A, x.B, x.extras["gradient"], x.extras["step"].item()
    moved = A - step * G @ B.T, B - step * A.T @ G
    change = moved[0].T @ moved[0] - moved[1] @ moved[1].T - A.T @ A + B @ B.T
    expected = step**2 * (B @ G.T @ G @ B.T - A.T @ G @ G.T @ A)
    np.testing.assert_allclose(change, expected, atol=1e-9 * np.linalg.norm(expected))


def test_variations_are_what_their_names_say():
    assert {"one-layer": ProblemSettings(), "two-layer": ProblemSettings(loss="two-layer")} == gains.MAIN
    default = ProblemSettings()
    assert (default.shape, default.rank, default.target, default.start) == ((20, 20), 4, "gaussian", "lora")
    for name, settings in gains.VARIATIONS.items():
        words = {
            f"Gaussian start {settings.init_std:g}": settings.start == "gaussian",
            "balanced start": settings.start == "balanced" and settings.init_std == 0.1,
            "linear spectrum": settings.target == "linear",
            f"geometric spectrum {settings.target.partition(':')[2]}": settings.target.startswith("geometric"),
            f"r = {settings.rank}": settings.rank in (2, 10),
        }
        assert words[name], name


def test_protocols_of_the_claims_are_those_on_record():
    """How many seeds or instances decide by default, and the knobs that the domains name."""
    trials = {id: claim.default_trials for id, claim in CLAIMS.items() if hasattr(claim, "default_trials")}
    assert trials == {
        "balance-helps-weighted-gd": 24,
        "data-gauge-beats-balance-gd": 24,
        "data-gauge-beats-balance-sgd": 24,
        "data-gauge-beats-balance-sgd-uneven": 24,
        "fisher-gauge-beats-balance-sgd": 24,
        "fisher-gauge-finds-the-data": 24,
        "sgd-noise-floor-measured": 16,
        "sgd-noise-floor-lowest": 16,
        "adam-epsilon-idle": 24,
        "adam-frame-fixed": 24,
        "adam-balance-without-entries": 24,
        "adam-entries-matter": 24,
        "adam-turned-momentum": 24,
        "adam-both-moments-left": 24,
        "adam-paper-gauge-stable": 24,
        "adam-random-frames": 24,
        "adam-singular-frame": 24,
        "adam-columns-suffice": 24,
        "adam-columns-all": 24,
        "gd-rate": 60,
        "gd-rate-tight": 60,
        "sign-gd-rate": 50,
        "sign-gd-rate-sharp": 50,
        "sign-gd-rate-exact": 30,
        "sign-gd-rate-attained": 30,
        "gd-rate-any-shape": 6,
        "balora-rate": 50,
        "scaled-gd-rate-measured": 36,
        "balora-beats-lora-gd": 16,
        "balora-beats-lora-sign-gd": 16,
        "balora-beats-lora-sign": 16,
        "balora-beats-lora-adam": 24,
        "balora-symmetric-beats-lora-adam": 24,
        "adam-prefers-the-symmetric-gauge": 24,
        "balora-beats-lora-from-balance": 16,
        "overhead-per-step": 15,
        "reflora-is-balora-gd": 4,
        "reflora-beats-lora-adam": 24,
        "reflora-versus-balora-adam": 24,
        "gauge-free-methods": 4,
        "gauge-free-after-projection": 4,
        "same-kappa-same-curve": 8,
        "not-a-step-rescale": 24,
        "flow-conserves-imbalance": 8,
        "ilora-beats-lora": 12,
        "pilora-beats-lora": 12,
        "pilora-beats-preconditioned": 12,
        "pilora-beats-preconditioned-adam": 12,
        "balora-versus-ilora": 8,
        "balora-versus-ilora-adam": 8,
        "ilora-prefers-balance": 8,
        "ilora-ratio-optimal": 20,
        "ilora-overhead": 60,
        "scaled-gd-makes-balance-idle": 4,
        "ilora-trained-ratio-worse": 12,
        "ilora-untuned": 12,
        "pilora-beats-lora-plus": 12,
        "lora-plus-beats-lora": 12,
        "lora-plus-proportional": 12,
        "ilora-robust-lr": 12,
        "ilora-trained-ratio-close": 12,
        "ilora-keeps-ratio": 12,
        "ilora-factor-ablation": 12,
        "ilora-exponent-ablation": 12,
        "simulations-repeat": 12,
    }
    assert ilora.GRID == "auto:18"
    assert ilora.STRENGTHS == (0.001, 0.01, 0.1, 1.0)
    assert (ilora.FACTORS, ilora.POWERS) == ((0.25, 1.0, 4.0, 16.0), (0.0, 0.5, 2.0))
    assert ProblemSettings(init_std=0.3) == ilora.DUEL
    assert (rates.SCALED_SHAPE, rates.SCALED_RANK) == ((7, 6), 2)
