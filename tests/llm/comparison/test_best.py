"""The best cell of each method and rank, on records whose numbers are known."""

import math

import numpy as np
import pytest

from lorakappa.llm.comparison.best import best_cells
from lorakappa.llm.comparison.summary import description
from tests.llm.comparison.outcomes import RATES, curved, diverged, fake_record, only, outcome_of


def test_the_best_cell_has_the_lowest_mean_validation_loss():
    """1e-2 is best at two of the three seeds, but not in the mean; the test loss would choose 1e-4."""
    table = {1e-4: (2.0, 2.0, 2.0), 1e-3: (1.0, 1.1, 1.2), 1e-2: (0.9, 1.0, 2.0)}

    def make(run):
        return fake_record(run, (3.0, table[run.learning_rate][run.seed]), test_loss=run.learning_rate)

    best = only(outcome_of(make))
    assert best.learning_rate == 1e-3
    assert not best.at_edge
    assert best.grid == RATES
    np.testing.assert_array_equal(best.curve, list(table.values()))
    assert [record["run"]["seed"] for record in best.records] == [0, 1, 2]
    np.testing.assert_array_equal(best.history("valid loss")[:, -1], table[1e-3])
    assert (best.method, best.variant, best.rank, best.scaling) == ("lora", "lora", 4, 1.0)


@pytest.mark.parametrize(("optimum", "edge"), [(-4, True), (-3, False), (-2, True)])
def test_edges(optimum, edge):
    best = only(outcome_of(lambda run: fake_record(run, (3.0, curved(run, optimum)))))
    assert best.learning_rate == 10**optimum
    assert best.at_edge == edge
    assert not only(outcome_of(fake_record, rates=(1e-3,))).at_edge


def test_the_best_of_scales_and_strengths():
    def make(run):
        wanted = (run.method, run.scaling) == ("ilora:lambda=0.1", 2.0)
        return fake_record(run, (3.0, curved(run) - wanted))

    outcome = outcome_of(make, methods=("lora", "ilora"), scalings=(1.0, 2.0), strengths=(0.1, 1.0))
    best = only(outcome, "ilora")
    assert (best.method, best.variant, best.scaling, best.learning_rate) == ("ilora", "ilora:lambda=0.1", 2.0, 1e-3)
    assert len(best.records) == 3
    assert best.curve.shape == (3, 3)
    assert len(description(outcome)["cells"]) == 3 * 2 + 3 * 2 * 2


def test_cells_without_every_seed_are_never_chosen():
    """1e-2 would be best, but a seed of it failed; 1e-4 diverged at one seed."""

    def make(run):
        if run.learning_rate == 1e-2:
            return None if run.seed == 1 else fake_record(run, (3.0, 0.1))
        return diverged(run) if (run.learning_rate, run.seed) == (1e-4, 2) else fake_record(run)

    best = only(outcome_of(make))
    assert best.learning_rate == 1e-3
    assert best.grid == (1e-4, 1e-3)
    np.testing.assert_array_equal(best.curve, [[1, 1, math.inf], [1, 1, 1]])
    assert best_cells(outcome_of(diverged)) == {}
    assert best_cells(outcome_of(lambda run: None)) == {}


def test_seconds_a_step_are_those_of_the_whole_run():
    """Steps of ½, 1 and 1½ s; the map takes a tenth of that in the second half of the run only."""

    def make(run):
        record = fake_record(run, (3.0, 2.0, curved(run)), seconds=0.5 * (run.seed + 1))
        for metric, seconds in zip(record["train_info"]["metrics"], (0.0, 0.0, run.seed + 1.0), strict=True):
            metric["method time"] = seconds
        return record

    best = only(outcome_of(make))
    np.testing.assert_allclose(best.seconds_per_step, [0.5, 1.0, 1.5])
    np.testing.assert_allclose(best.method_seconds_per_step, [1 / 20, 2 / 20, 3 / 20])
    np.testing.assert_array_equal(best.values("peak_memory"), [1000] * 3)
    assert np.isnan(best.values("not measured")).all()
    np.testing.assert_array_equal(np.isnan(best.history("train loss")[0]), [True, False, False])


def test_both_of_two_learning_rates_are_edges():
    best = only(outcome_of(lambda run: fake_record(run, (3.0, curved(run))), rates=(1e-4, 1e-3)))
    assert best.grid == (1e-4, 1e-3)
    assert best.at_edge


def test_histories_are_as_long_as_the_shortest():
    best = only(outcome_of(lambda run: fake_record(run, (3.0, *[2.0] * run.seed, curved(run)))))
    np.testing.assert_array_equal(best.history("valid loss"), [[3.0, 1.0], [3.0, 2.0], [3.0, 2.0]])
