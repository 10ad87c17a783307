"""What is to be done next, from records that are given: budgets to the last run, and what a run is expected to take."""

import pytest

from lorakappa.llm.comparison.studies.findings import findings
from lorakappa.llm.comparison.studies.progress import Progress, run_seconds
from tests.llm.comparison.studies.made_up import Machine, known, study, table


def selected(run, settings):
    return run.seed < 100


@pytest.mark.parametrize(("runs", "pending"), [(1, 1), (3, 3), (4, 4), (100, 4)])
def test_no_more_runs_are_pending_than_the_budget_has(runs, pending):
    """Two arms of one cell are chosen on two seeds."""
    progress = Progress(study(runs=runs), lambda run, settings: None)
    assert len(progress.pending()) == pending


@pytest.mark.parametrize(("hours", "pending"), [(0.04, 0), (0.05, 1), (0.0625, 3), (1.0, 8)])
def test_no_more_hours_are_pending_than_the_budget_has(hours, pending):
    """The four runs of the choice took 36 s each, and so will the others; the one that passes the limit is begun."""
    progress = Progress(study(hours=hours), known(lambda run: 1.0, there=selected))
    assert len(progress.pending()) == pending


def test_a_run_takes_what_those_of_its_arm_took_or_else_those_with_its_horizon():
    def seconds(run):
        return 36.0 if run.method == "lora" else 72.0

    chosen = study(table(methods=("lora", "balora", "dora"), steps=(20, 40)))
    progress = Progress(
        chosen,
        known(lambda run: 1.0, seconds, there=lambda run, settings: settings.steps == 20 and run.method != "dora"),
    )
    expected = {(arm.method, arm.settings.steps): progress.expected_seconds(arm) for arm in progress.selections}
    assert [expected[method, 20] for method in ("lora", "balora", "dora")] == [36.0, 72.0, 54.0]
    assert {expected[method, 40] for method in ("lora", "balora", "dora")} == {0.0}
    assert run_seconds({"run_info": {}}) == 0.0


@pytest.mark.parametrize(("rates", "edge"), [((1e-3,), False), ((1e-3, 1e-2), True)])
def test_one_rate_has_no_edge_and_two_have_nothing_else(rates, edge):
    progress = Progress(study(table(rates=rates), extensions=0), known(lambda run: run.learning_rate))
    assert {selection.at_edge for selection in progress.selections.values()} == {edge}


def test_an_arm_whose_first_fresh_seed_fails_is_left_alone(tmp_path):
    machine = Machine(lambda run: None if (run.method, run.seed) == ("pissa", 100) else 1.0 + run.seed % 2)
    machine.stop_after = 30  # were it tried again and again
    progress, failures = machine.run(study(table(methods=("lora", "pissa", "balora")), half_width=10.0), tmp_path)
    lost, kept = findings(progress)
    assert (lost.effect.n, kept.effect.n) == (0, 4)
    assert len(failures) == 1
    assert len(machine.made) == len(set(machine.made)) == 3 * (2 + 4)
