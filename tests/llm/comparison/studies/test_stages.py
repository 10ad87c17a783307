"""How a study goes: cells on some seeds, effects on others, as many as the rule says, stopped and gone on with."""

import math
from dataclasses import replace

import pytest

from lorakappa.llm.comparison.studies import stages
from lorakappa.llm.comparison.studies.findings import findings, study_json
from lorakappa.llm.comparison.studies.progress import Progress
from lorakappa.llm.comparison.studies.stages import FATAL, StudyFolder, run_study
from lorakappa.llm.data.splits import read_splits
from tests.llm.comparison.studies.made_up import SETTINGS, SPLITS, Machine, noise, study, table

GRID = (1e-4, 1e-3, 1e-2)


def rates(runs):
    return sorted({run.learning_rate for run in runs})


def valley(run, best=-3.0):
    return 1 + abs(math.log10(run.learning_rate * run.scaling**0.5) - best)


def test_cells_are_chosen_on_some_seeds_and_effects_measured_on_others(tmp_path):
    """The selection seeds favour a cell that the fresh ones do not: its effect there is what counts."""

    def loss(run):
        chosen_by_luck = run.seed < 2 and run.learning_rate == 1e-2
        return 1.0 + 0.001 * noise(run) - (0.5 if chosen_by_luck and run.method == "balora" else 0.0)

    machine = Machine(loss)
    progress, failures = machine.run(study(table(rates=GRID), half_width=1.0, extensions=0), tmp_path)
    (found,) = findings(progress)
    assert failures == []
    assert found.method.learning_rate == 1e-2
    assert found.method.at_edge
    assert abs(found.effect.estimate) < 0.01
    assert found.effect.n == 4
    assert found.method.validation_loss < 0.6 < found.method.test_loss
    fresh = [run for run in machine.made if run.seed >= 100]
    assert {run.seed for run in fresh} == {100, 101, 102, 103}
    assert {run.learning_rate for run in fresh if run.method == "balora"} == {1e-2}
    assert len(machine.made) == 2 * (3 * 2 + 4)


def test_grids_grow_until_the_best_is_inside(tmp_path):
    machine = Machine(lambda run: valley(run, -5.0))
    progress, _ = machine.run(study(table(rates=GRID)), tmp_path)
    (found,) = findings(progress)
    assert found.method.learning_rate == pytest.approx(1e-5)
    assert not found.method.at_edge
    assert rates(machine.made) == pytest.approx([1e-6, 1e-5, *GRID])


def test_starts_are_scalings_at_fixed_effective_rates(tmp_path):
    machine = Machine(lambda run: valley(run) + (0.3 if run.method == "lora" and run.scaling > 1 else 0.0))
    progress, _ = machine.run(study(table(rates=GRID, starts=(0.01, 100.0))), tmp_path)
    small, large = findings(progress)
    assert (small.contrast.start, large.contrast.start) == (0.01, 100.0)
    assert (small.method.learning_rate, large.method.learning_rate) == (pytest.approx(1e-2), pytest.approx(1e-4))
    assert (small.verdict, large.verdict) == ("equivalent", "better")
    effective = {round(run.learning_rate * run.scaling**0.5, 9) for run in machine.made}
    assert sorted(effective) == pytest.approx(list(GRID))


def test_effective_rates_of_sgd(tmp_path):
    """η·α/r: the gradients of √c·(A, B) are those of (A, B) divided by √c, and so are SGD's steps."""
    machine = Machine(lambda run: 1.0 + noise(run))
    settings = replace(SETTINGS, optimizer="sgd")
    machine.run(study(table(rates=(1e-3,), starts=(0.01, 100.0), settings=settings)), tmp_path)
    assert {(run.scaling, run.learning_rate) for run in machine.made} == {(0.01, 1e-1), (100.0, 1e-5)}


@pytest.mark.parametrize("axis", ["scaling", "strength"])
@pytest.mark.parametrize(("best", "edge"), [(0, True), (1, False), (2, True)])
def test_the_first_and_last_start_or_strength_is_an_edge(axis, best, edge, tmp_path):
    """In whatever order they are given; of a method without λ there is only one."""
    values = (0.1, 1.0, 10.0)

    def loss(run):
        value = run.scaling if axis == "scaling" else float(run.method.partition("=")[2] or 1.0)
        return abs(math.log10(value / values[best])) + noise(run, 0.01)

    given = {"scalings" if axis == "scaling" else "strengths": (10.0, 0.1, 1.0)}
    progress, _ = Machine(loss).run(study(table(methods=("lora", "ilora"), **given), half_width=1.0), tmp_path)
    (found,) = findings(progress)
    assert found.method.at_edge == edge
    assert found.baseline.at_edge == (edge and axis == "scaling")


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.3, "better"), (-0.3, "worse"), (0.0, "equivalent"), (0.045, "inconclusive")]
)
def test_verdicts(shift, verdict, tmp_path):
    def loss(run):
        return noise(run, 0.02) - (shift if run.method == "balora" else 0.0)

    maximum = 4 if verdict == "inconclusive" else 40
    progress, _ = Machine(loss).run(study(delta=0.05, half_width=0.02, maximum=maximum), tmp_path)
    (found,) = findings(progress)
    assert found.effect.estimate == pytest.approx(shift, abs=0.03)
    assert found.verdict == verdict
    assert (found.to_decide is None) == (verdict != "inconclusive")
    assert found.to_decide is None or found.to_decide > 4


def test_seeds_are_added_until_the_interval_is_narrow(tmp_path):
    machine = Machine(lambda run: noise(run, 0.05))
    progress, _ = machine.run(study(half_width=0.05, maximum=400), tmp_path)
    (found,) = findings(progress)
    assert 4 < found.needed <= found.effect.n < found.needed + 2
    assert found.effect.high - found.effect.low <= 0.1
    assert found.reason == "width"
    assert len({run.seed for run in machine.made if run.seed >= 100}) == found.effect.n


def test_seeds_end_at_the_maximum(tmp_path):
    progress, _ = Machine(lambda run: noise(run, 1.0)).run(study(half_width=0.01, maximum=9), tmp_path)
    (found,) = findings(progress)
    assert (found.effect.n, found.reason) == (9, "maximum")
    assert found.needed > 9


def test_a_method_that_needs_fewer_seeds_counts_no_more_of_them(tmp_path):
    """The baseline has them, and the arm of another table may, but the rule says how many count."""

    def loss(run):
        quiet = run.method == "balora"
        return 0.5 * math.sin(run.seed) + (0.0 if quiet or run.method == "lora" else noise(run, 0.3))

    chosen = study(table(methods=("lora", "balora", "ilora")), half_width=0.1, maximum=30)
    progress, _ = Machine(loss).run(chosen, tmp_path)
    calm, wild = findings(progress)
    assert calm.effect.n == 4 < wild.effect.n
    assert len(progress.fresh(calm.contrast.baseline)) == wild.effect.n


def test_the_error_is_shared_by_the_comparisons_of_a_table():
    chosen = study(table("one", ranks=(2, 4), steps=(20, 40)), table("two", methods=("lora", "dora", "pissa")))
    assert chosen.alpha("one") == pytest.approx(0.05 / 4 / 2)  # two looks
    assert chosen.alpha("two") == pytest.approx(0.05 / 2 / 2)
    assert len(chosen.arms()) == 8 + 2  # lora at rank 4 and 20 steps is in both
    assert chosen.least_runs() == 10 * (2 + 4)
    assert chosen.most_runs() == 10 * (2 + 20)


@pytest.mark.parametrize("stop", [0, 1, 5, 13, 17])
def test_a_study_that_is_stopped_goes_on(stop, tmp_path):
    def loss(run):
        return valley(run, -4.0) + noise(run, 0.05)

    chosen = study(table(rates=GRID), half_width=0.1)
    whole = Machine(loss)
    wanted = study_json(whole.run(chosen, tmp_path / "whole")[0], "sums")
    first = Machine(loss)
    first.stop_after = stop
    with pytest.raises(KeyboardInterrupt):
        first.run(chosen, tmp_path / "parts")
    second = Machine(loss)
    assert study_json(second.run(chosen, tmp_path / "parts")[0], "sums") == wanted
    assert sorted(map(repr, first.made + second.made)) == sorted(map(repr, whole.made))
    third = Machine(loss)
    third.run(chosen, tmp_path / "parts")
    assert third.made == []


@pytest.mark.parametrize(
    ("hours", "made", "seeds"),
    [(0.081, 9, 2), (0.12, 12, 4), (0.27, 12, 4), (0.27999, 12, 4), (0.28, 28, 12), (100.0, 28, 12)],
)
def test_a_budget_of_hours_is_kept(hours, made, seeds, tmp_path):
    """A run is a hundredth of an hour; 2 arms of 1 cell take 4 runs to choose and 8 to begin with."""
    machine = Machine(lambda run: noise(run, 1.0))
    progress, _ = machine.run(study(half_width=0.01, maximum=12, hours=hours), tmp_path)
    (found,) = findings(progress)
    assert len(machine.made) == made
    assert (found.effect.n, found.reason) == (seeds, "maximum" if seeds == 12 else "budget")


@pytest.mark.parametrize(("runs", "made", "seeds"), [(17, 12, 4), (43, 12, 4), (44, 44, 20), (50, 44, 20)])
def test_a_budget_of_runs_is_kept(runs, made, seeds, tmp_path):
    """Seeds that would not bring a comparison to its number are not begun."""
    machine = Machine(lambda run: noise(run, 1.0))
    progress, _ = machine.run(study(half_width=0.01, runs=runs), tmp_path)
    assert len(machine.made) == made
    assert findings(progress)[0].effect.n == seeds


def test_a_budget_goes_to_those_first_that_need_the_fewest(tmp_path):
    def loss(run):
        return 0.5 * math.sin(run.seed) + {"lora": 0.0, "balora": 0.1, "dora": 1.0}[run.method] * (noise(run) % 1)

    chosen = study(table(methods=("lora", "dora", "balora")), half_width=0.03, maximum=40, runs=60)
    progress, _ = Machine(loss).run(chosen, tmp_path)
    wild, calm = findings(progress)
    assert (wild.effect.n, wild.reason) == (4, "budget")
    assert 4 < calm.effect.n == progress.target(calm.contrast) < progress.target(wild.contrast)
    assert len(progress.fresh(calm.contrast.baseline)) == calm.effect.n


def test_what_the_first_seeds_decide_takes_no_more_of_them(tmp_path):
    machine = Machine(lambda run: noise(run, 0.05) - (run.method == "balora"))
    (found,) = findings(machine.run(study(half_width=0.001), tmp_path)[0])
    assert (found.verdict, found.effect.n, found.needed, found.reason) == ("better", 4, 4, "decided")
    assert found.effect.high - found.effect.low > 0.002


def test_a_run_that_fails_stops_nobody_else(tmp_path):
    machine = Machine(lambda run: None if run.method == "dora" else noise(run))
    progress, failures = machine.run(study(table(methods=("lora", "dora", "balora"))), tmp_path)
    lost, kept = findings(progress)
    assert len(failures) == 2
    assert all("dora" in line and line.endswith("ValueError: no") for line in failures)
    assert (lost.verdict, lost.method, lost.effect.n) == ("inconclusive", None, 0)
    assert kept.effect.n >= 4


def test_a_fresh_run_that_fails_ends_its_own_arm_only(tmp_path):
    def loss(run):
        return None if run.method == "pissa" and run.seed == 105 else noise(run, 0.3)

    machine = Machine(loss)
    chosen = study(table(methods=("lora", "pissa", "balora")), half_width=0.05, maximum=12)
    progress, failures = machine.run(chosen, tmp_path)
    lost, kept = findings(progress)
    assert len(failures) == 1
    assert (lost.effect.n, kept.effect.n) == (4, 12)  # five seeds are there, the rule has an interval for four
    again = Machine(lambda run: noise(run, 0.3))
    progress, failures = again.run(chosen, tmp_path)
    assert failures == []
    assert [found.effect.n for found in findings(progress)] == [12, 12]
    assert {run.method for run in again.made} == {"pissa"}


def test_a_method_with_an_optimizer_of_its_own_is_refused_with_another(tmp_path):
    settings = replace(SETTINGS, optimizer="sgd")
    chosen = study(replace(table(methods=("lora", "lora-plus")), settings=settings))
    with pytest.raises(ValueError, match="lora-plus brings an optimizer of its own, so that sgd means nothing"):
        Machine(noise).run(chosen, tmp_path)


@pytest.mark.parametrize("lost", [102, 106])
def test_a_run_that_diverges_on_a_fresh_seed_is_no_number(lost, tmp_path):
    """Whether it is one of those that give the variance or not; neither the width nor the budget ended the seeds."""

    def loss(run):
        return math.inf if run.method == "balora" and run.seed == lost else noise(run, 0.3)

    (found,) = findings(Machine(loss).run(study(half_width=0.1), tmp_path)[0])
    assert (found.verdict, found.effect.low, found.method.diverged) == ("inconclusive", -math.inf, 1)
    assert (found.reason, found.to_decide) == ("diverged", None)
    assert found.as_json()["effect"]["low"] is None


def test_an_arm_that_never_trains_has_no_cell(tmp_path):
    machine = Machine(lambda run: math.inf if run.method == "balora" else noise(run))
    progress, failures = machine.run(study(table(rates=GRID), extensions=2), tmp_path)
    (found,) = findings(progress)
    assert (found.verdict, found.method, failures) == ("inconclusive", None, [])
    assert rates(run for run in machine.made if run.method == "balora") == pytest.approx([1e-6, 1e-5, *GRID])
    assert not [run for run in machine.made if run.seed >= 100]


def test_a_look_while_it_runs_changes_nothing(tmp_path):
    def loss(run):
        return noise(run, 0.3)

    chosen, machine = study(half_width=0.1), Machine(loss)
    machine.stop_after = 9
    with pytest.raises(KeyboardInterrupt):
        machine.run(chosen, tmp_path)
    (data,) = (tmp_path / "data").iterdir()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    seen = findings(Progress(chosen, StudyFolder(tmp_path, data, read_splits(data).digest).lookup()))
    assert seen[0].reason == "unfinished"
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_one_process_makes_the_runs_unless_more_are_asked_for(tmp_path, watched):
    """A run's own ValueError ends no study; what is shown are all runs so far known and those to be made."""
    machine = Machine(noise)
    begun, batches = watched(stages, machine)
    run_study(study(half_width=10.0), SPLITS, tmp_path)
    assert begun == [(1, FATAL)]
    assert batches == [(4, 4), (12, 8)]


def test_effects_are_measured_at_a_multiple_of_the_best_rate(tmp_path):
    """What was chosen stays on record; the runs that choose are those of the table at the best rate."""
    machine = Machine(valley)
    tables = (table(name="best", rates=GRID), table(name="twice", rates=GRID, times_best_rate=2.0))
    progress, failures = machine.run(study(*tables, half_width=1.0), tmp_path)
    best, twice = findings(progress)
    assert failures == []
    assert (best.method.learning_rate, twice.method.learning_rate) == (1e-3, 2e-3)
    assert best.method.validation_loss == twice.method.validation_loss == 1.0
    assert (best.method.test_loss, twice.method.test_loss) == (1.0, pytest.approx(1 + math.log10(2)))
    assert len(machine.made) == 2 * (3 * 2 + 4 + 4)
    assert not progress.pending()


def test_a_multiple_of_the_best_rate_is_a_positive_number():
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="times_best_rate must be positive and finite"):
            table(times_best_rate=value)
