"""Runs on record, made again: what is allowed to differ, and what is caught."""

import itertools
import math

import pytest

from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.comparison.studies.progress import Progress
from lorakappa.llm.comparison.studies.replay import compared, make_again, sample, spread_of
from tests.llm.comparison.outcomes import diverged, fake_record
from tests.llm.comparison.small import SPLITS
from tests.llm.comparison.studies.made_up import Machine, known, noise, study

SETTINGS = TrainingSettings(steps=20, evaluations=2)
META = {"versions": {"torch": "2", "lorakappa": "1"}, "platform": "Linux x86_64", "processor": "x", "threads": 1}


def run(seed=0, method="lora"):
    return Run(method, 4, 1.0, 1e-3, seed)


def record(loss=1.0, seconds=1.0, meta=None, **rest):
    made = fake_record(run(), (3.0, loss), test_loss=loss, **rest)
    made["run_info"]["total_time"] = seconds
    return made | {"meta_info": META | (meta or {})}


def records(seconds):
    return {(run(seed), SETTINGS): record(seconds=took) for seed, took in enumerate(seconds)}


def test_a_sample_is_random_and_fits_into_the_time():
    known = records([1.0] * 50 + [100.0])
    first = sample(known, count=10, seed=0, seconds=5.0)
    assert len(set(first)) == len(first) == 5
    assert first == sample(dict(reversed(known.items())), count=10, seed=0, seconds=5.0)
    assert len({tuple(sample(known, count=3, seed=seed, seconds=50.0)) for seed in range(5)}) == 5
    assert len(sample(known, count=3, seed=0, seconds=math.inf)) == 3
    assert len(sample(records([9.0, 9.0]), count=2, seed=0, seconds=1.0)) == 1


@pytest.mark.parametrize(
    ("new", "meta", "agrees"),
    [
        (1.0, {}, True),
        (1.0 + 1e-7, {}, True),
        (1.0 + 1e-4, {}, False),
        (1.0 + 1e-4, {"processor": "y"}, True),
        (1.0 + 1e-4, {"versions": {"torch": "3"}}, True),
        (1.0 + 1e-4, {"versions": {"torch": "2", "lorakappa": "2"}}, False),
        (1.3, {"threads": 2}, False),
        (-1.0, {}, False),
    ],
)
def test_what_may_differ(new, meta, agrees):
    key = (run(), SETTINGS)
    found = compared(key, record(1.0), record(new, meta=meta), spread=0.2)
    assert (found.run, found.agrees) == (run(), agrees)
    assert found.difference == pytest.approx(abs(new - 1.0))


@pytest.mark.parametrize(("off", "agrees"), [(1e-3, True), (3e-3, False)])
def test_rounding_is_relative_to_the_largest_loss(off, agrees):
    found = compared((run(), SETTINGS), record(1000.0), record(1000.0 + off), spread=0.0)
    assert found.allowed == pytest.approx(16 * 2.0**-23 * 1000)
    assert found.agrees == agrees


def test_diverging_is_to_be_repeated_too():
    key, lost = (run(), SETTINGS), diverged(run()) | {"meta_info": META}
    assert compared(key, lost, lost, 0.1).agrees
    assert compared(key, record(), lost, 0.1).difference == math.inf
    assert not compared(key, lost, record(), 0.1).agrees


def test_a_loss_that_is_lost_in_one_of_both_is_no_agreement():
    """Wherever it stands: NaN compares with nothing, so that the largest of several differences may pass it over."""
    key, numbers = (run(), SETTINGS), (math.nan, 1.0, math.inf)
    for a, b in itertools.product(numbers, numbers):
        old, new = ({**fake_record(run(), (2.0, loss, 3.0), test_loss=1.0), "meta_info": META} for loss in (a, b))
        found = compared(key, old, new, spread=0.2)
        assert found.difference == (0.0 if a is b else math.inf)
        assert found.agrees == (a is b)


def test_the_spread_is_that_of_the_arm_s_fresh_seeds(tmp_path):
    def loss(each):
        return each.seed / 100 if each.method == "balora" else 0.1 * (each.seed % 2)

    progress, _ = Machine(loss).run(study(half_width=10.0), tmp_path)
    arms = {arm.method: arm for arm in progress.selections}
    assert spread_of(progress, (run(0, "balora"), arms["balora"].settings)) == pytest.approx(0.03)
    assert spread_of(progress, (run(0, "lora"), arms["lora"].settings)) == pytest.approx(0.1)
    assert spread_of(progress, (run(0, "dora"), arms["lora"].settings)) == pytest.approx(0.1)
    assert noise(run()) == noise(run())


def test_two_fresh_seeds_have_a_spread_and_none_have_none():
    def lookup(there):
        return known(lambda each: each.seed / 10, there=there)

    two = Progress(study(half_width=10.0, minimum=2, maximum=2), lookup(lambda run, settings: True))
    assert spread_of(two, (run(), SETTINGS)) == pytest.approx(0.1)
    none = Progress(study(), lookup(lambda run, settings: run.seed < 100))
    assert spread_of(none, (run(), SETTINGS)) == 0.0


def test_runs_that_really_train_repeat(task):
    from functools import partial

    from lorakappa.llm.comparison.workers import Workers

    key = (task.run, task.settings)
    with Workers(1) as workers:
        again = partial(make_again, [key], SPLITS, workers)
        first, second = again()[key], again()[key]
    found = compared(key, first, second, spread=0.0)
    assert found.same_machine
    assert found.difference == 0.0
    assert len(found.recorded) == 1 + len(first["train_info"]["metrics"])
