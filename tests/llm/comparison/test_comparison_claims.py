"""The rules by which claims about fine-tuning are judged, on outcomes whose effects are known."""

import math
import re
from itertools import count
from typing import get_args

import numpy as np
import pytest
from scipy.stats import t

from lorakappa.conditioning.verification import MeasuredName
from lorakappa.llm.comparison.claim_kinds import STUDY, ComparisonClaim, FineTuneClaim, GrowthClaim
from lorakappa.llm.comparison.claims import CLAIMS, verdicts
from lorakappa.llm.comparison.effects import Effect, effect, seeds_to_decide
from lorakappa.llm.comparison.judges import (
    cheap_memory,
    cheap_step,
    larger_gain,
    larger_gain_at_the_largest_rank,
    lower_loss,
    lower_loss_at_every_rank,
    smaller_loss_off_the_best_rate,
    sooner,
    sooner_in_time,
    wider_window,
)
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.comparison.short_comparisons import (
    BEST_STARTS,
    BY_RANK,
    HORIZONS,
    OFF_THE_BEST,
    RIVALS,
    SGD,
    STARTS,
    VARIANTS,
)
from lorakappa.llm.comparison.studies.outcomes import kept
from tests.llm.comparison.outcomes import curved, diverged, fake_record, outcome_of

EFFECTS = [
    ((0.10, 0.11, 0.12), "holds"),
    ((-0.10, -0.11, -0.12), "not seen"),
    ((0.1, -0.1, 0.02), "inconclusive"),
    ((0.005, 0.004, 0.006), "equivalent"),
]


def gains(by_rank, **plan):
    """An outcome where BaLoRA's test loss is lower by so much, for each rank and seed."""

    def make(run):
        gain = by_rank[run.rank][run.seed] if run.method == "balora" else 0.0
        return fake_record(run, test_loss=1.5 + 0.3 * run.seed - gain)  # seeds differ by more than methods: paired

    return outcome_of(
        make, ranks=tuple(by_rank), rates=(1e-3,), seeds=tuple(range(len(next(iter(by_rank.values()))))), **plan
    )


@pytest.mark.parametrize(("values", "verdict"), EFFECTS)
def test_lower_loss(values, verdict):
    found = lower_loss(gains({4: values}), "lora", "balora")
    assert found.verdict == verdict
    assert found.trials == 3
    assert found.evidence["effect"]["estimate"] == pytest.approx(sum(values) / 3)
    assert found.worst_margin == found.evidence["effect"]["low"] < min(values)
    assert found.evidence["by_rank"]["4"] == pytest.approx(found.evidence["effect"])


def test_lower_loss_pools_ranks_by_seed():
    """Each rank alone is inconclusive; their mean by seed is not."""
    found = lower_loss(gains({4: (0.3, 0.1, -0.1), 8: (-0.1, 0.11, 0.32)}), "lora", "balora")
    assert found.verdict == "holds"
    assert found.trials == 3
    assert found.evidence["effect"]["estimate"] == pytest.approx(0.105)
    assert [found.evidence["by_rank"][rank]["low"] < 0 for rank in ("4", "8")] == [True, True]


@pytest.mark.parametrize(
    ("by_rank", "named"),
    [
        ({4: EFFECTS[0][0], 8: (0.3, 0.31, 0.32)}, False),
        ({4: EFFECTS[0][0], 8: EFFECTS[2][0]}, True),  # one holds, the other is inconclusive
        ({4: (0.3, 0.1, -0.1), 8: (-0.1, 0.11, 0.32)}, True),  # both inconclusive, the mean holds
        ({4: (0.3, -0.1, 0.1), 8: (0.3, -0.1, 0.2)}, False),  # all are inconclusive, on one side
        ({4: (0.3, -0.1, 0.1), 8: (-0.3, 0.1, -0.2)}, True),  # on both sides
        ({4: (0.001, 0.001, 0.001), 8: (-0.001, -0.001, -0.001)}, False),  # no effect has no side
        ({4: (0.3, -0.1, 0.1)}, False),
    ],
)
def test_a_note_names_the_ranks_that_disagree_with_their_mean(by_rank, named):
    found = lower_loss(gains(by_rank), "lora", "balora")
    own = "; ".join(f"r = {rank} {effect(values)}" for rank, values in by_rank.items())
    assert (f" ({own}) nats per answer token" in found.note) == ("(" in found.note) == named


AT_EVERY_RANK = [
    ({4: EFFECTS[0][0], 8: (0.3, 0.31, 0.32)}, "holds", 4),
    ({4: (0.3, 0.31, 0.32), 8: EFFECTS[1][0]}, "not seen", 8),
    ({4: EFFECTS[0][0], 8: EFFECTS[2][0]}, "inconclusive", 8),
    ({4: EFFECTS[1][0], 8: EFFECTS[2][0]}, "not seen", 8),
    ({4: EFFECTS[0][0], 8: EFFECTS[3][0]}, "inconclusive", 8),
    ({4: EFFECTS[3][0], 8: (0.001, 0.001, 0.001)}, "equivalent", 8),
]


def off_the_best(by_rank, at_twice=lambda run, loss: fake_record(run, (9.0, loss))):
    """LoRA's loss is higher by ½ at each doubling of the best rate, BaLoRA's by as much less as is given."""

    def make(run):
        gain = by_rank[run.rank][run.seed] if run.method == "balora" else 0.0
        loss = 1.0 + 0.3 * run.seed + (0.5 - gain) * math.log2(run.learning_rate / 1e-3)
        return at_twice(run, loss) if run.learning_rate == 2e-3 else fake_record(run, (9.0, loss))

    return outcome_of(make, ranks=tuple(by_rank), rates=(1e-3, 2e-3, 4e-3))


@pytest.mark.parametrize(("by_rank", "verdict", "worst"), AT_EVERY_RANK)
def test_a_smaller_loss_off_the_best_rate(by_rank, verdict, worst):
    found = smaller_loss_off_the_best_rate(off_the_best(by_rank), "lora", "balora")
    assert found.verdict == verdict
    wanted = {str(rank): effect(values, alpha=0.05 / 2) for rank, values in by_rank.items()}
    for rank, own in wanted.items():
        for key in ("estimate", "low", "high"):
            assert found.evidence["by_rank"][rank][key] == pytest.approx(getattr(own, key))
    assert found.worst_margin == found.evidence["by_rank"][str(worst)]["low"]
    assert ": validation loss rises less by r = 4 " in found.note
    assert ("would decide" in found.note) == (verdict == "inconclusive" and by_rank[8] == EFFECTS[2][0])
    assert "before training" not in found.note


@pytest.mark.parametrize("worse", [diverged, lambda run: fake_record(run, (9.0, 20.0))])
def test_a_run_that_diverges_off_the_best_rate_counts_as_none_at_all(worse):
    """As the model before training, 9 nats, which is finite, so that the others count, too."""

    def at_twice(run, loss):
        return worse(run) if (run.method, run.seed) == ("balora", 2) else fake_record(run, (9.0, loss))

    found = smaller_loss_off_the_best_rate(off_the_best({4: (0.1, 0.1, 0.1)}, at_twice), "lora", "balora")
    assert found.evidence["effect"]["estimate"] == pytest.approx((0.1 + 0.1 + 0.5 - (9.0 - 1.6)) / 3)
    assert math.isfinite(found.evidence["effect"]["low"])
    assert "; 1 of 6 runs there end no better than before training" in found.note


@pytest.mark.parametrize("name", ["lora", "balora"])
def test_a_doubled_rate_that_was_not_run_decides_nothing(name):
    def make(run):
        best = 4e-3 if run.method == name else 1e-3
        return fake_record(run, (9.0, 1.0 + abs(math.log2(run.learning_rate / best))))

    found = smaller_loss_off_the_best_rate(outcome_of(make, rates=(1e-3, 2e-3, 4e-3)), "lora", "balora")
    assert (found.verdict, found.trials, found.worst_margin) == ("inconclusive", 3, None)
    assert found.note.endswith(f": twice the best learning rate of {name} at r = 4 was not run")


@pytest.mark.parametrize(("by_rank", "verdict", "worst"), AT_EVERY_RANK)
def test_lower_loss_at_every_rank(by_rank, verdict, worst):
    found = lower_loss_at_every_rank(gains(by_rank), "lora", "balora")
    assert found.verdict == verdict
    assert set(found.evidence["by_rank"]) == {"4", "8"}
    assert found.worst_margin == found.evidence["by_rank"][str(worst)]["low"]
    assert "r = 4" in found.note
    assert "r = 8" in found.note


@pytest.mark.parametrize(
    ("small", "large", "verdict"),
    [
        ((0.0, 0.1, 0.2), (0.10, 0.21, 0.32), "holds"),
        ((0.10, 0.21, 0.32), (0.0, 0.1, 0.2), "not seen"),
        ((0.1, 0.1, 0.1), (0.3, -0.1, 0.2), "inconclusive"),
        ((0.1, 0.2, 0.3), (0.104, 0.205, 0.306), "equivalent"),
    ],
)
def test_a_larger_gain_at_the_larger_rank(small, large, verdict):
    """The middle rank does not count, nor does the order in which ranks are given."""
    found = larger_gain_at_the_largest_rank(gains({16: large, 4: small, 8: (9.0, -9.0, 0.0)}), "lora", "balora")
    assert found.verdict == verdict
    grown = [after - before for before, after in zip(small, large, strict=True)]
    assert found.evidence["effect"]["estimate"] == pytest.approx(sum(grown) / 3)
    assert "gain at r = 16 above that at r = 4 by" in found.note


def test_how_many_seeds_would_decide():
    """Of effects that scatter by 0.2 around a mean of 0.1, the interval must shrink to ±0.1."""
    values = (0.3, -0.1, 0.1)

    def seeds(alpha):
        return next(n for n in count(3) if t.ppf(1 - alpha / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n) < 0.1)

    needed = seeds(0.05)
    assert lower_loss(gains({4: values}), "lora", "balora").note.endswith(
        f"; at this mean some {needed} seeds would decide"
    )
    found = lower_loss_at_every_rank(gains({4: values, 8: EFFECTS[0][0]}), "lora", "balora")
    assert found.note.endswith(f"; at this mean some {seeds(0.05 / 2)} seeds would decide")
    assert "would decide" not in lower_loss(gains({4: EFFECTS[0][0]}), "lora", "balora").note
    for found in (
        larger_gain_at_the_largest_rank(gains({4: (0.0, 0.0, 0.0), 8: values}), "lora", "balora"),
        larger_gain(gains({4: (0.0, 0.0, 0.0)}), gains({4: values}), "lora", "balora", "steps"),
    ):
        assert found.note.endswith(f"; at this mean some {needed} seeds would decide")


@pytest.mark.parametrize(
    ("found", "margin", "seeds"),
    [
        (Effect(0.1, -0.1, 0.3, 4), 0.01, 17),
        (Effect(-0.1, -0.3, 0.1, 4), 0.01, 17),
        (Effect(0.0, -0.2, 0.2, 4), 0.1, 17),
        (Effect(0.02, -0.18, 0.22, 4), 0.1, 26),
        (Effect(0.1, -math.inf, math.inf, 1), 0.01, None),
        (Effect(math.nan, -math.inf, math.inf, 0), 0.01, None),
        (Effect(0.0, -1.0, 1.0, 4), 0.0, None),
    ],
)
def test_seeds_to_decide(found, margin, seeds):
    assert seeds_to_decide(found, margin) == seeds


@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.05 / 6])
@pytest.mark.parametrize("first", [2, 3, 10])
@pytest.mark.parametrize(("mean", "spread"), [(0.1, 0.4), (-0.1, 1.0), (0.002, 0.05), (0.0, 0.04)])
def test_seeds_to_decide_counts_all_their_degrees_of_freedom(mean, spread, first, alpha):
    """The first number of seeds at which the interval at this scatter clears 0 or lies within ±0.01."""

    def decides(n):
        half = t.ppf(1 - alpha / 2, n - 1) * spread / math.sqrt(n)
        return half < abs(mean) or (abs(mean) + half < 0.01)

    half = t.ppf(1 - alpha / 2, first - 1) * spread / math.sqrt(first)
    found = Effect(mean, mean - half, mean + half, first)
    assert seeds_to_decide(found, 0.01, alpha=alpha) == next(n for n in count(first) if decides(n))
    assert seeds_to_decide(found, 0.01) >= seeds_to_decide(found, 0.01, alpha=alpha)


def test_one_rank_has_no_larger_one():
    found = larger_gain_at_the_largest_rank(gains({4: EFFECTS[0][0]}), "lora", "balora")
    assert (found.verdict, found.trials) == ("inconclusive", 3)
    assert found.note.endswith(": one rank only, r = 4")


def slopes(values):
    """BaLoRA's loss rises by so much per decade away from the best, seed by seed; LoRA's by 0.02, for a window of 1."""

    def make(run):
        slope = values[run.seed] if run.method == "balora" else 0.02
        return fake_record(run, (9.0, curved(run, slope=slope)))

    return outcome_of(make)


@pytest.mark.parametrize(
    ("values", "verdict", "cut"),
    [
        ((0.012, 0.0121, 0.0122), "holds", 0),
        ((0.03, 0.031, 0.032), "not seen", 0),
        ((0.015, 0.02, 0.03), "inconclusive", 0),
        ((0.005, 0.0051, 0.0121), "holds", 2),
        ((0.02, 0.0201, 0.0199), "equivalent", 0),
    ],
)
def test_wider_window(values, verdict, cut):
    found = wider_window(slopes(values), "lora", "balora")
    assert found.verdict == verdict
    assert f"{cut} of 6 windows reach the edge of the grid" in found.note
    assert found.evidence["effect"]["estimate"] == pytest.approx(sum(min(2, 0.02 / x) - 1 for x in values) / 3)


def costs(values, name="method_seconds"):
    def make(run):
        value = values[run.seed] if run.method == "balora" else {"method_seconds": 0.0, "peak_memory": 1000}[name]
        return fake_record(run, **{name: value})

    return outcome_of(make, rates=(1e-3,))


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [
        ((0.05, 0.051, 0.052), "holds"),
        ((0.25, 0.251, 0.252), "not seen"),
        ((0.1, 0.2, 0.3), "inconclusive"),
        ((0.1999, 0.1999, 0.1999), "holds"),
        ((0.2001, 0.2001, 0.2001), "not seen"),
    ],
)
def test_cheap_step(shares, verdict):
    """A map that takes a share of the rest of a step of 0.5 s."""
    found = cheap_step(costs([0.5 * share / (1 + share) for share in shares]), "lora", "balora")
    assert found.verdict == verdict
    assert found.evidence["effect"]["estimate"] == pytest.approx(sum(shares) / 3)
    assert found.note.endswith(" of the rest of a step")


@pytest.mark.parametrize(
    ("bytes_", "verdict"),
    [
        ((1010, 1011, 1012), "holds"),
        ((990, 991, 992), "holds"),
        ((1060, 1061, 1062), "not seen"),
        ((1020, 1050, 1080), "inconclusive"),
        ((1049, 1049, 1049), "holds"),
        ((1051, 1051, 1051), "not seen"),
    ],
)
def test_cheap_memory(bytes_, verdict):
    found = cheap_memory(costs(bytes_, "peak_memory"), "lora", "balora")
    assert found.verdict == verdict
    assert found.evidence["effect"]["estimate"] == pytest.approx(sum(bytes_) / 3000 - 1)


def test_costs_are_judged_at_every_rank():
    """A mean over ranks would hide the one where it costs most."""

    def make(run):
        more = {4: 0, 8: 1000}[run.rank] if run.method == "balora" else 0
        return fake_record(run, seconds=0.5, method_seconds=more * 1e-4, peak_memory=10_000 + more + run.seed)

    outcome = outcome_of(make, ranks=(4, 8), rates=(1e-3,))
    for judge, at in ((cheap_memory, 0.1), (cheap_step, 0.25)):
        found = judge(outcome, "lora", "balora")
        assert found.verdict == "not seen"
        assert found.evidence["effect"]["estimate"] == pytest.approx(at, rel=1e-3)
        assert f"r = 4 {'+0.0' if judge is cheap_memory else '0'} % [" in found.note
        assert "; r = 8 " in found.note


def test_memory_that_was_not_measured_says_nothing():
    found = cheap_memory(costs((1010, None, 1010), "peak_memory"), "lora", "balora")
    assert found.verdict == "inconclusive"
    assert found.note.endswith(": the peak memory of some runs was not measured")


def races(curves, costs=(1.0, 1.0)):
    """LoRA and another curve; a step and its map cost so much of a step without."""

    def make(run):
        cost = costs[run.method != "lora"]
        losses = (3.0, 2.0, 1.0) if run.method == "lora" else curves[run.seed]
        return fake_record(run, losses, seconds=0.5 * cost, method_seconds=0.5 * (cost - 1))

    return outcome_of(make, rates=(1e-3,))


FAST, SLOW = [(3.0, 1.0, 0.5), (3.0, 0.9, 0.5), (3.0, 1.0, 0.5)], [(3.0, 2.5, 1.5)] * 3


@pytest.mark.parametrize(
    ("curves", "costs", "in_steps", "in_time"),
    [
        (FAST, (1.0, 1.0), "holds", "holds"),
        (FAST, (1.0, 2.0), "holds", "inconclusive"),  # sooner in steps, about the same in time
        (FAST, (1.0, 4.0), "holds", "not seen"),  # sooner in steps, later in time
        (SLOW, (1.0, 1.0), "not seen", "not seen"),
        ([(3.0, 2.0, 1.0)] * 3, (1.5, 1.5), "equivalent", "equivalent"),
        ([(3.0, 2.0, 1.0)] * 3, (1.1, 1.0), "equivalent", "holds"),  # the same in steps, sooner in time
        ([*FAST[:2], SLOW[0]], (1.0, 1.0), "inconclusive", "inconclusive"),
    ],
)
def test_sooner(curves, costs, in_steps, in_time):
    """And with the names exchanged the opposite, which no tie can lose on both sides."""
    for judge, verdict, unit in ((sooner, in_steps, "steps"), (sooner_in_time, in_time, "time")):
        found, back = (judge(races(curves, costs), *names) for names in (("lora", "balora"), ("balora", "lora")))
        assert found.verdict == verdict
        assert f" times as fast in {unit}" in found.note
        assert set(found.evidence) == {"effect", "by_rank"}
        assert back.verdict == {"holds": "not seen", "not seen": "holds"}.get(verdict, verdict)
        for key, other in (("estimate", "estimate"), ("low", "high"), ("high", "low")):
            assert back.evidence["effect"][key] == pytest.approx(-found.evidence["effect"][other], abs=1e-15)


def test_how_many_seeds_would_decide_who_is_sooner():
    found = sooner(races([*FAST[:2], SLOW[0]]), "lora", "balora")
    wanted = seeds_to_decide(Effect(**found.evidence["effect"]), 0.07, alpha=0.05)
    assert wanted is not None
    assert found.note.endswith(f"; at this mean some {wanted} seeds would decide")


def test_ranks_that_would_be_decided_in_different_ways_are_told():
    """One rank holds and the other would be equivalent, which is neither for all."""
    found = lower_loss_at_every_rank(gains({4: (0.2, 0.21, 0.22), 8: (0.05, -0.05, 0.001)}), "lora", "balora")
    assert found.verdict == "inconclusive"
    own = effect((0.05, -0.05, 0.001), alpha=0.025)
    seeds = seeds_to_decide(own, 0.01, alpha=0.025)
    assert found.note.endswith(f"; at these means {seeds} seeds would decide each rank, but not all alike")
    found = lower_loss_at_every_rank(gains({4: (0.2, 0.21, 0.22), 8: (0.5, -0.1, 0.05)}), "lora", "balora")
    assert found.verdict == "inconclusive"
    assert found.note.endswith(" seeds would decide")
    assert "at this mean some " in found.note
    found = lower_loss_at_every_rank(gains({4: (0.2, 0.21, 0.22), 8: (0.0, 0.0, 0.0)}), "lora", "balora")
    assert found.verdict == "inconclusive"
    assert "would decide" not in found.note


JUDGES = [
    lower_loss,
    lower_loss_at_every_rank,
    larger_gain_at_the_largest_rank,
    wider_window,
    smaller_loss_off_the_best_rate,
    cheap_step,
    cheap_memory,
    sooner,
    sooner_in_time,
]


@pytest.mark.parametrize("judge", JUDGES)
def test_judges_say_nothing_of_what_did_not_train(judge):
    lost = outcome_of(lambda run: diverged(run) if run.method == "balora" else fake_record(run))
    found = judge(lost, "lora", "balora")
    assert (found.verdict, found.trials, found.worst_margin) == ("inconclusive", 3, None)
    assert "balora or its baseline trained at no learning rate with every seed" in found.note
    assert found.note.endswith("; 9 of 9 runs of balora diverged, 0 of 9 runs of lora diverged")


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize(
    ("where", "lost"), [(lambda run: run.rank == 8, 3), (lambda run: (run.rank, run.seed) == (4, 2), 1)]
)
def test_a_rank_where_one_of_them_diverges_is_not_left_out(judge, where, lost):
    """Else a method could win at every rank because it diverged at the one where it is worse."""

    def make(run):
        if run.method == "balora" and where(run):
            return diverged(run)
        return fake_record(run, test_loss=0.5 + 0.1 * run.seed if run.method == "balora" else 1.5 + 0.1 * run.seed)

    found = judge(outcome_of(make, ranks=(4, 8), rates=(1e-3,)), "lora", "balora")
    assert (found.verdict, found.worst_margin) == ("inconclusive", None)
    assert found.note.endswith(f"; {lost} of 6 runs of balora diverged, 0 of 6 runs of lora diverged")


@pytest.mark.parametrize("judge", JUDGES)
def test_one_seed_decides_nothing(judge):
    found = judge(outcome_of(fake_record, seeds=(0,)), "lora", "balora")
    assert found.verdict == "inconclusive"
    assert found.worst_margin is None or not math.isinf(found.worst_margin)


@pytest.mark.parametrize("judge", JUDGES)
def test_notes_name_the_model(judge):
    assert judge(outcome_of(fake_record), "lora", "balora").note.startswith("tiny model, 3 seeds, 20 steps: ")
    other = outcome_of(fake_record, settings=TrainingSettings(model="big/one", steps=20, evaluations=2))
    note = judge(other, "lora", "balora").note
    assert note.startswith("big/one, 3 seeds, 20 steps: ")
    assert "tiny" not in note


def test_the_registry():
    assert {
        "llm-balora-loss",
        "llm-balora-rank",
        "llm-balora-robust-lr",
        "llm-balora-twice-the-rate",
        "llm-overhead-time",
        "llm-overhead-memory",
        "llm-converges-faster",
        "llm-converges-faster-time",
    } <= set(CLAIMS)
    for id, claim in CLAIMS.items():
        assert claim.id == id
        assert claim.recorded in get_args(MeasuredName)
        assert claim.argument
        if isinstance(claim, ComparisonClaim):
            assert claim.experiment == "llm-compare"
            plans = (BY_RANK, RIVALS, VARIANTS)
            assert any({claim.baseline, claim.method} <= set(plan.methods) for plan in plans)
            assert "tiny model" in claim.domain
            assert claim.argument.split("\n")[0] == claim.judge.__doc__.split("\n")[0]


def test_about_another_comparison():
    outcome = gains({4: EFFECTS[0][0]})
    claim = CLAIMS["llm-balora-loss"]
    verdict = claim.about(outcome)
    assert (verdict.claim, verdict.verdict, verdict.trials, verdict.seed) == (claim, "holds", 3, 0)
    assert verdict.note == lower_loss(outcome, "lora", "balora").note
    assert verdict.setting == "lora and balora on the tiny model, r = 4, 20 steps"
    assert verdict.evidence["effect"]["n"] == 3
    assert claim.about(outcome_of(fake_record, methods=("lora", "dora"))) is None
    assert claim.about(outcome_of(fake_record, methods=("balora", "dora"))) is None


def test_verdicts_are_those_whose_methods_are_there():
    found = verdicts(gains({4: EFFECTS[0][0]}))
    wanted = {
        id
        for id, c in CLAIMS.items()
        if isinstance(c, FineTuneClaim) and (c.baseline, c.method, c.table) == ("lora", "balora", None)
    }
    assert {verdict.claim.id for verdict in found} == wanted
    assert verdicts(outcome_of(fake_record, methods=("lora", "dora"))) == []


def test_ids_are_ids_and_statements_are_sentences():
    for claim in CLAIMS.values():
        assert re.fullmatch(r"llm(-[a-z]+)+", claim.id)
        assert claim.statement[-1] in ".?"
        assert " " in claim.statement


def test_the_short_comparisons_are_those_on_record():
    """What the recorded verdicts rest on: a change here changes them."""
    for plan in (BY_RANK, RIVALS):
        assert plan.learning_rates == (0.0063, 0.01992, 0.063)
        assert (plan.extensions, plan.scalings) == (1, (1.0,))
        settings = plan.settings
        assert (settings.steps, settings.batch_size, settings.evaluations, settings.generate) == (30, 8, 2, 0)
        assert settings.targets == ("q_proj", "v_proj", "down_proj")
    assert (BY_RANK.ranks, RIVALS.ranks, RIVALS.strengths) == ((2, 8), (8,), (10.0,))
    assert (OFF_THE_BEST.ranks, OFF_THE_BEST.learning_rates) == ((8,), (0.0063, 0.0126, 0.0252, 0.0504))
    by_rank = {"llm-balora-rank", "llm-balora-larger-ranks"}
    for id, claim in CLAIMS.items():
        if not isinstance(claim, ComparisonClaim):
            continue
        assert claim.default_trials == (3 if id in by_rank else 4)
        if kept(STUDY) is None:  # else the domain is that of the evidence
            assert f"r = {'2, 8' if id in by_rank else '8'}, 30 steps of 8" in claim.domain


def test_examining_a_claim_judges_its_own_comparison(monkeypatch):
    asked = []

    def fake(plan, seeds, first):
        asked.append((plan, seeds, first))
        return gains({4: EFFECTS[0][0]})

    monkeypatch.setattr("lorakappa.llm.comparison.claim_kinds.short_comparison", fake)
    verdict = CLAIMS["llm-balora-loss"].examine(trials=3, seed=9)
    assert (verdict.verdict, verdict.seed) == ("holds", 9)
    assert verdict.setting == "lora and balora on the tiny model, r = 8, 30 steps of 8"  # not that of the evidence
    assert CLAIMS["llm-balora-rank"].examine(trials=2, seed=5).verdict == "holds"
    assert CLAIMS["llm-balora-twice-the-rate"].examine(trials=3).verdict == "inconclusive"  # one rate only
    assert asked == [(RIVALS, 3, 9), (BY_RANK, 2, 5), (OFF_THE_BEST, 3, 0)]
    asked.clear()
    assert CLAIMS["llm-balora-sgd"].examine(trials=3).verdict == "holds"
    assert CLAIMS["llm-balora-best-start"].examine(trials=3).verdict == "holds"
    assert CLAIMS["llm-balora-horizon"].examine(trials=3, seed=4).verdict == "equivalent"
    assert CLAIMS["llm-balora-start"].examine(trials=2).verdict == "equivalent"
    wanted = [(SGD, 3, 0), (BEST_STARTS, 3, 0), *((plan, 3, 4) for plan in HORIZONS)]
    assert asked == wanted + [(plan, 2, 0) for plan in STARTS]


def test_what_changes_from_one_short_comparison_to_another():
    assert [plan.settings.steps for plan in HORIZONS] == [15, 60]
    effective = [[rate * plan.scalings[0] ** 0.5 for rate in plan.learning_rates] for plan in STARTS]
    assert effective[0] == pytest.approx(effective[1], rel=1e-3)
    assert [plan.scalings for plan in STARTS] == [(0.01,), (100.0,)]
    assert SGD.settings.optimizer == "sgd"
    assert BEST_STARTS.scalings == (1.0, 10.0)


@pytest.mark.parametrize(
    ("axis", "plans", "names"),
    [
        ("steps", ({"settings": TrainingSettings(steps=20, evaluations=2)}, {}), ("20 steps", "60 steps")),
        ("start", ({"scalings": (0.01,)}, {"scalings": (100.0,)}), ("α/r = 0.01", "α/r = 100")),
    ],
)
@pytest.mark.parametrize(
    ("small", "large", "verdict"),
    [
        ((0.0, 0.1, 0.2), (0.10, 0.21, 0.32), "holds"),
        ((0.10, 0.21, 0.32), (0.0, 0.1, 0.2), "not seen"),
        ((0.1, 0.1, 0.1), (0.3, -0.1, 0.2), "inconclusive"),
        ((0.1, 0.2, 0.3), (0.104, 0.205, 0.306), "equivalent"),
    ],
)
def test_a_larger_gain_along_an_axis(small, large, verdict, axis, plans, names):
    """Pooled over ranks, paired by seed."""
    settings = {} if axis == "start" else {"settings": TrainingSettings(steps=60, evaluations=2)}
    before = gains({4: small, 8: [gain + 0.3 for gain in small]}, **plans[0])
    after = gains({4: large, 8: [gain + 0.3 for gain in large]}, **{**settings, **plans[1]})
    found = larger_gain(before, after, "lora", "balora", axis)
    assert found.verdict == verdict
    grown = [late - early for early, late in zip(small, large, strict=True)]
    assert found.evidence["effect"]["estimate"] == pytest.approx(sum(grown) / 3)
    assert f": gain at {names[1]} above that at {names[0]} by " in found.note


@pytest.mark.parametrize("lost", ["before", "after"])
def test_an_end_where_nothing_trains_decides_nothing(lost):
    good, bad = gains({4: EFFECTS[0][0]}), outcome_of(diverged)
    before, after = (bad, good) if lost == "before" else (good, bad)
    found = larger_gain(before, after, "lora", "balora", "steps")
    assert found.verdict == "inconclusive"
    assert found.note.endswith("; 9 of 9 runs of balora diverged, 9 of 9 runs of lora diverged")


def test_a_claim_on_growth_says_its_rule():
    claim = CLAIMS["llm-balora-horizon"]
    assert isinstance(claim, GrowthClaim)
    assert claim.argument.startswith("Holds if the gain in test loss")
    assert "Args" not in claim.argument
    assert claim.default_trials == 3
    assert claim.argument.endswith("0.01 nats per answer token.")


def test_the_note_of_a_cheap_step_is_of_the_methods_own_step():
    """The baseline's step takes twice as long."""

    def make(run):
        slower = {} if run.method == "balora" else {"seconds": 1.0}
        return fake_record(run, **({"method_seconds": 0.02 + 0.01 * run.seed} if run.method == "balora" else slower))

    found = cheap_step(outcome_of(make, rates=(1e-3,)), "lora", "balora")
    effect = found.evidence["effect"]
    shares = [x / (0.5 - x) for x in (0.02, 0.03, 0.04)]
    assert effect["estimate"] == pytest.approx(sum(shares) / 3)
    low, high = 100 * effect["low"], 100 * effect["high"]
    assert found.note.endswith(f": {100 * sum(shares) / 3:.0f} % [{low:.0f}, {high:.0f}] of the rest of a step")


def test_the_notes_show_the_interval():
    found = cheap_memory(costs((1100, 1200, 1600), "peak_memory"), "lora", "balora")
    effect = found.evidence["effect"]
    assert found.note.endswith(
        f": peak memory +30.0 % [{100 * effect['low']:+.1f}, {100 * effect['high']:+.1f}]",
    )
    for judge, unit in ((sooner, "steps"), (sooner_in_time, "time")):
        found = judge(races([*FAST[:2], (3.0, 1.5, 0.5)]), "lora", "balora")
        ends = [f"{2 ** found.evidence['effect'][key]:.2f}" for key in ("estimate", "low", "high")]
        assert f"{ends[0]} [{ends[1]}, {ends[2]}] times as fast in {unit}" in found.note


def test_one_rank_above_0_and_one_at_0_are_inconclusive():
    touching = gains({4: (0.2, 0.2), 8: (0.0, 0.0)})
    assert lower_loss_at_every_rank(touching, "lora", "balora").verdict == "inconclusive"
    nothing = gains({4: (0.0, 0.0)})
    assert lower_loss(nothing, "lora", "balora").verdict == "equivalent"
    assert lower_loss_at_every_rank(nothing, "lora", "balora").verdict == "equivalent"


def test_windows_of_every_rank_are_counted():
    def make(run):
        slope = 0.005 if (run.method, run.rank) == ("balora", 8) else 0.02
        return fake_record(run, (9.0, curved(run, slope=slope)))

    found = wider_window(outcome_of(make, ranks=(4, 8)), "lora", "balora")
    assert found.note.endswith("; 3 of 12 windows reach the edge of the grid")
    assert found.evidence["effect"]["estimate"] == pytest.approx(0.5)  # 0 at one rank, 1 decade at the other
    assert "window wider by +0.5 [+0.5, +0.5] (r = 4 +0 [+0, +0]; r = 8 +1 [+1, +1]) decades" in found.note
