"""What decides the claims about dynamics: each rule on measurements made up by hand, at and beside its threshold."""

import numpy as np
import pytest

from lorakappa.synthetic.claims import CLAIMS, balora, critics, gains, ilora, rates
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.settings import ProblemSettings
from tests.synthetic.made_up import around


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
    found = CLAIMS["ilora-overhead"].examine(trials=6, seed=0)
    assert found.verdict == verdict
    assert found.evidence["penalty_seconds"] == pytest.approx(penalty, rel=0.03)
    assert found.evidence["scaling_seconds"] == pytest.approx(scaling, rel=0.02)
    assert found.evidence["log10_ratio"]["median"] == pytest.approx(np.log10(scaling / penalty), abs=0.01)
    assert found.evidence["log10_ratio"]["n"] == 6
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


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.25, 0.5), "holds"), ((-0.1, 0.2), "inconclusive"), ((-0.2, -0.1), "not seen"), ((0.01, 0.04), "equivalent")],
)
def test_the_rescale_question_is_decided_by_multiples_of_baloras_lengths(monkeypatch, interval, verdict):
    """LoRA ends far below BaLoRA where each is at its best and at LoRA's lengths, which decide nothing."""
    logs = np.zeros((6, 64))
    logs[0], logs[3], logs[5] = -3.0, around(*interval), 5.0
    curves = np.stack([np.ones((6, 64)), 10.0**logs])
    asked = []

    def fake(settings, *, experiments):
        asked.append((settings.seeds, settings.seed, experiments))
        return Result("settle", {"rescale_curves": curves}, {}, 0)

    monkeypatch.setattr(critics, "settle", fake)
    found = CLAIMS["not-a-step-rescale"].examine(trials=64, seed=5)
    assert asked == [(64, 5, ("rescale",))]
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(interval[0])
    assert found.evidence["log10_gain"]["at_multiples_of_balora_lengths"]["level"] == 0.95
    assert "each at its best -3.00 [-3.00, -3.00], at multiples of BaLoRA's lengths " in found.note
    with pytest.raises(ValueError, match="5 paired seeds give no interval; at least 6"):
        CLAIMS["not-a-step-rescale"].examine(trials=5, seed=0)


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
            f"LoRA's start, B of size {settings.init_std:g}": settings.start == "lora",
            f"LoRA's start, B of size {settings.init_std:g}, two-layer": settings.loss == "two-layer",
            f"Gaussian start {settings.init_std:g}": settings.start == "gaussian",
            "balanced start": settings.start == "balanced" and settings.init_std == 0.1,
            "linear spectrum": settings.target == "linear",
            f"geometric spectrum {settings.target.partition(':')[2]}": settings.target.startswith("geometric"),
            f"r = {settings.rank}": settings.rank in (2, 10),
        }
        assert words[name], name
        assert (settings.loss == "two-layer") == name.endswith(", two-layer")


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
        "not-a-step-rescale": 96,
        "flow-conserves-imbalance": 8,
        "ilora-beats-lora": 12,
        "pilora-beats-lora": 12,
        "pilora-beats-preconditioned": 12,
        "pilora-beats-preconditioned-adam": 12,
        "balora-versus-ilora": 12,
        "balora-versus-ilora-adam": 12,
        "ilora-prefers-balance": 12,
        "ilora-ratio-optimal": 12,
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
    assert ilora.STRENGTHS == (1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
    assert ProblemSettings(init_std=0.3) == ilora.DUEL
    assert (rates.SCALED_SHAPE, rates.SCALED_RANK) == ((7, 6), 2)
