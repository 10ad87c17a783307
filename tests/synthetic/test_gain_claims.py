"""What decides the claims about arms: each rule on outcomes made up by hand, at and beside its threshold."""

import numpy as np
import pytest

from lorakappa.synthetic.arms.arm import AdamOptions, Arm
from lorakappa.synthetic.claims import CLAIMS
from lorakappa.synthetic.claims.adam_frames import BEYOND, variant
from lorakappa.synthetic.claims.gains import gains_claim, judge_gains
from lorakappa.synthetic.claims.record import RECORDED
from lorakappa.synthetic.settings import ProblemSettings
from tests.synthetic.made_up import WORDS, MadeUp, ahead, around

MAIN = {"one": ProblemSettings(), "two": ProblemSettings(loss="two-layer")}
BESIDE = {
    "Gaussian": ProblemSettings(start="gaussian"),
    "balanced": ProblemSettings(start="balanced"),
    "linear": ProblemSettings(target="linear"),
}


def pairs(settings):
    return {name: (Arm(here), Arm(here, method="balora")) for name, here in settings.items()}


@pytest.mark.parametrize(("interval", "verdict"), WORDS)
def test_a_gain_is_judged_by_its_interval(interval, verdict):
    found = judge_gains(ahead("balora", lambda _: interval), pairs({"one": MAIN["one"]}))
    assert found.verdict == verdict
    assert found.worst_margin == interval[0]
    assert found.trials == 64
    assert found.evidence["gains"]["one"]["level"] == 0.95
    assert set(found.evidence) == {"gains"}


@pytest.mark.parametrize(
    ("one", "two", "verdict"),
    [
        ((0.1, 0.5), (0.2, 0.3), "holds"),
        ((0.1, 0.5), (-0.1, 0.3), "inconclusive"),
        ((-0.5, -0.1), (0.2, 0.3), "not seen"),
        ((0.1, 0.5), (-0.5, -0.1), "not seen"),
        ((0.1, 0.5), (-0.01, 0.01), "inconclusive"),
        ((-0.02, 0.01), (-0.01, 0.01), "equivalent"),
    ],
)
def test_every_setting_decides_but_those_beside(one, two, verdict):
    there = {MAIN["one"]: one, MAIN["two"]: two, BESIDE["Gaussian"]: (-0.2, -0.1), BESIDE["balanced"]: (-0.01, 0.01)}
    outcomes = ahead("balora", lambda arm: there.get(arm.settings, (-0.1, 0.1)))
    found = judge_gains(outcomes, pairs(MAIN), pairs(BESIDE))
    assert found.verdict == verdict
    assert found.worst_margin == min(one[0], two[0])
    worse, same = "Gaussian -0.15 [-0.20, -0.10]", "balanced +0.00 [-0.01, +0.01]"
    assert f"; worse at: {worse}; no different at: {same}; undecided at: linear +0.00 [" in found.note
    assert {gain["level"] for group in found.evidence.values() for gain in group.values()} == {1 - 0.05 / 5}
    claim = gains_claim("x", "y", pairs(MAIN), beside=pairs(BESIDE), why="Because.", domain="z", trials=9)
    assert claim.judge(outcomes).verdict == verdict
    assert (claim.id, claim.statement, claim.domain, claim.default_trials) == ("x", "y", "z", 9)
    assert len(claim.arms) == 10
    assert claim.argument.startswith("Rule: holds if the gain's interval is above 0 in every setting, ")
    assert claim.argument.endswith("\n\nBecause.")


def test_runs_that_diverged_are_counted_where_there_are_any():
    outcomes = ahead("balora", lambda _: (0.1, 0.2))
    assert "diverged" not in judge_gains(outcomes, pairs(MAIN)).note
    outcomes.diverged = lambda arm: 9 if (arm.method, arm.settings.loss) == ("lora", "two-layer") else 0
    assert judge_gains(outcomes, pairs(MAIN)).note.endswith("; diverged: two 9 and 0 of 64")
    assert judge_gains(outcomes, pairs(BESIDE), pairs({"two": MAIN["two"]})).note.endswith("two 9 and 0 of 64")


@pytest.mark.parametrize(
    ("sizes", "verdict"), [((0.06, 0.2), "holds"), ((0.04, 0.2), "inconclusive"), ((0.01, 0.04), "not seen")]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_basis_matters_where_the_ends_differ_whichever_is_lower(sizes, verdict, sign):
    claim = CLAIMS["adam-frame-fixed"]

    def values(arm):
        there = sizes if arm.settings.loss == "two-layer" else (0.3, 0.4)
        return sign * around(*there) if arm.adam.frame == "fixed" else np.zeros(64)

    found = claim.judge(MadeUp(values))
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(min(sizes[0], 0.3) - 0.05)
    assert f"one-layer +0.35 [+0.30, +0.40], two-layer +{sum(sizes) / 2:.2f} [+{sizes[0]:.2f}, " in found.note
    assert f"; with its sign: one-layer {-sign * 0.35:+.2f} [" in found.note
    turned = [arm for arm in claim.arms if arm.adam.frame == "fixed"]
    assert [arm.like for arm in turned] == [arm for arm in claim.arms if arm.adam.frame == "own"]
    assert {arm.beyond for arm in turned} == {0}  # at one step size, as the symmetry asks


GAINS = {
    "balora-beats-lora-gd": ("gd", "lora", "balora"),
    "balora-beats-lora-sign-gd": ("sign-gd", "lora", "balora"),
    "balora-beats-lora-sign": ("sign", "lora", "balora"),
    "balora-beats-lora-adam": ("adam", "lora", "balora"),
    "balora-symmetric-beats-lora-adam": ("adam", "lora", "balora-symmetric"),
    "adam-prefers-the-symmetric-gauge": ("adam", "balora", "balora-symmetric"),
    "reflora-beats-lora-adam": ("adam", "lora", "reflora"),
    "reflora-versus-balora-adam": ("adam", "balora", "reflora"),
    "balance-helps-weighted-gd": ("gd", "lora", "balora"),
    "data-gauge-beats-balance-gd": ("gd", "balora", "balora-data"),
    "data-gauge-beats-balance-sgd": ("sgd", "balora", "balora-data"),
    "data-gauge-beats-balance-sgd-uneven": ("sgd", "balora", "balora-data"),
    "fisher-gauge-beats-balance-sgd": ("sgd", "balora", "balora-fisher"),
    "pilora-beats-preconditioned-adam": ("adam", "scaled-gd", "pilora"),
    "pilora-beats-lora-plus": ("adam", "lora-plus", "pilora"),
    "lora-plus-beats-lora": ("adam", "lora", "lora-plus"),
    "ilora-beats-lora": (None, "lora", "ilora"),
    "pilora-beats-lora": (None, "lora", "pilora"),
    "pilora-beats-preconditioned": (None, "scaled-gd", "pilora"),
    "ilora-trained-ratio-worse": (None, "ilora:trained=yes", "ilora"),
    "ilora-untuned": (None, "lora", "ilora:lambda=0.01"),
    "lora-plus-proportional": (None, "lora-plus", "lora-plus:lr-ratio=5"),
}


@pytest.mark.parametrize("id", GAINS)
def test_gains_are_of_the_methods_and_optimizers_that_they_name(id):
    optimizer, first, second = GAINS[id]
    outcomes = ahead(second, lambda _: (0.1, 0.2))
    found = CLAIMS[id].judge(outcomes)
    assert found.verdict == "holds"
    assert {arm.method for arm in outcomes.asked} == {first, second}
    assert {arm.optimizer for arm in outcomes.asked} == ({optimizer} if optimizer else {"gd", "adam"})
    assert all((arm.noise == 1.0) == (arm.optimizer == "sgd") for arm in outcomes.asked)
    assert set(outcomes.asked) == set(CLAIMS[id].arms)
    assert CLAIMS[id].judge(ahead(first, lambda _: (0.1, 0.2))).verdict == "not seen"


@pytest.mark.parametrize("claim", RECORDED, ids=lambda claim: claim.id)
def test_a_claim_asks_for_no_arm_that_it_does_not_name(claim):
    outcomes = MadeUp(lambda arm: np.ones((arm.rows, 64)))
    claim.judge(outcomes)
    assert set(outcomes.asked) == set(claim.arms)
    assert {arm.settings.seeds for arm in claim.arms} == {8}  # is replaced, and so one number for all


def test_uneven_settings_leave_out_the_even_one():
    even = CLAIMS["data-gauge-beats-balance-sgd"].arms
    uneven = CLAIMS["data-gauge-beats-balance-sgd-uneven"].arms
    left = {(arm.settings.weights, arm.settings.alignment) for arm in set(even) - set(uneven)}
    assert left == {((10.0, 10.0), "random")}
    assert len(even) == 8
    assert len(uneven) == 6


def test_variants_are_told_apart_and_borrow_a_step_size_where_they_say_so():
    plain = CLAIMS["adam-epsilon-idle"].arms
    assert {arm.adam for arm in plain} == {AdamOptions(), AdamOptions(eps=1e-30)}
    assert {arm.settings.loss for arm in plain} == {"one-layer", "two-layer", "weighted"}
    for arm in CLAIMS["adam-both-moments-left"].arms:
        assert (arm.beyond, arm.like.settings, arm.like.adam) == (BEYOND, arm.settings, variant().adam)
    assert all(arm.like is None for arm in plain)


def test_few_seeds_give_no_interval_and_are_refused_at_once():
    with pytest.raises(ValueError, match="6 paired seeds give no interval; at least 7 trials are needed"):
        CLAIMS["adam-random-frames"].examine(trials=6, seed=0)


def test_what_is_far_beyond_doubt_comes_out_with_few_seeds():
    claim = CLAIMS["adam-random-frames"]
    verdict = claim.examine(trials=7, seed=4)
    assert verdict.verdict == claim.recorded, verdict.note
    assert (verdict.trials, verdict.seed) == (7, 4)


def test_the_default_variant_is_adam_with_the_symmetric_gauge():
    assert (variant().method, variant().optimizer) == ("balora-symmetric", "adam")
    assert variant().adam == AdamOptions("own", True, "entry", 1e-8)
