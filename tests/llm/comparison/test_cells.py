"""Records sorted into cells, and the rule by which the best one is chosen."""

import math

import pytest

from lorakappa.llm.comparison.cells import Cell, best_cell, by_cell, validation_loss
from lorakappa.llm.comparison.settings import Run
from tests.llm.comparison.outcomes import diverged, fake_record


def record(rate, seed, loss, method="lora", scaling=1.0):
    return fake_record(Run(method, 4, scaling, rate, seed), (9.0, loss))


def best(records, seeds):
    return best_cell(by_cell(records), seeds)


def test_a_cell_has_all_its_seeds_in_order_and_nothing_else():
    wanted = [Cell("lora", 1.0, 1e-2), Cell("ilora", 2.0, 1e-2), Cell("lora", 1.0, 1e-3), Cell("ilora", 2.0, 1e-3)]
    records = [record(c.learning_rate, seed, 2.0, c.variant, c.scaling) for seed in (1, 0) for c in wanted]
    cells = by_cell(records)
    assert list(cells) == wanted
    assert all([record["run"]["seed"] for record in group] == [0, 1] for group in cells.values())
    assert sorted(cells) == [wanted[3], wanted[1], wanted[2], wanted[0]]


def test_nothing_is_chosen_where_nothing_trained():
    assert best([], 1) is None
    assert best([diverged(Run("lora", 4, 1.0, 1e-3, 0))], 1) is None


def test_a_learning_rate_that_lacks_a_seed_is_not_chosen():
    whole = [record(1e-3, seed, 2.0) for seed in (0, 1)]
    assert best([*whole, record(1e-2, 0, 1.0)], 2).learning_rate == 1e-3
    assert best([*whole, record(1e-2, 0, 1.0), record(1e-2, 1, 1.5)], 2).learning_rate == 1e-2


def test_of_equals_the_first_is_chosen():
    assert best([record(1e-2, 0, 1.0), record(1e-3, 0, 1.0)], 1).learning_rate == 1e-2


def test_the_loss_of_a_run_is_its_last():
    assert validation_loss(record(1e-3, 0, 1.5)) == pytest.approx(1.5)
    assert validation_loss(fake_record(Run("lora", 4, 1.0, 1e-3, 0), (9.0, 7.0, 2.5))) == pytest.approx(2.5)
    assert validation_loss(diverged(Run("lora", 4, 1.0, 1e-3, 0))) == math.inf
