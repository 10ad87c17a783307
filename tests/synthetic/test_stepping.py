"""Blocks of trajectories against one trajectory at a time, in any number of processes, with and without divergence."""

import os
from functools import partial
from itertools import pairwise

import numpy as np
import pytest

from lorakappa.synthetic import stepping
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.losses import move
from lorakappa.synthetic.methods import Method
from lorakappa.synthetic.optimizers import OPTIMIZERS, MatchedGradientDescent
from lorakappa.synthetic.problems import make_problems, step_size_grid
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.stepping import usable_cores
from tests.shared.children import children
from tests.synthetic.plain_simulator import one_trajectory

METHODS = (
    "lora",
    "balora",
    "balora-symmetric",
    "balora-nearest",
    "balora@3",
    "lora-plus",
    "scaled-gd",
    "ilora",
    "ilora:trained=yes",
    "pilora",
    "ilora-balanced",
    "balora-scaled-gd",
    "balora-plus",
)
STEPS = 12


def settings(loss, **changes):
    return ProblemSettings(**{"loss": loss, "shape": (6, 5), "rank": 2, "seeds": 2, "init_std": 0.7, **changes})


def assert_same(run, loss, start, method, optimizer, gammas, *, rtol):
    """Every trajectory of a run is that of the plain simulator."""
    for i in range(start[0].shape[0]):
        alone = move(loss, lambda x, i=i: x[i])
        for g, gamma in enumerate(gammas):
            expected = one_trajectory(alone, tuple(x[i] for x in start), method, optimizer, gamma, STEPS)
            excess, imbalance, diverged, factors = expected
            assert run.diverged_at[g, i] == diverged
            np.testing.assert_allclose(run.excess[:, g, i], excess, rtol=rtol, atol=rtol * excess[0])
            size = max(np.linalg.norm(x) for x in factors) ** 2
            finite = np.isfinite(imbalance)
            np.testing.assert_array_equal(np.isfinite(run.imbalance[:, g, i]), finite)
            np.testing.assert_allclose(run.imbalance[finite, g, i], imbalance[finite], rtol=1e-6, atol=1e-9 * size)
            for got, wanted in zip(run.factors, factors, strict=True):
                np.testing.assert_allclose(got[g, i], wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("loss", ["one-layer", "two-layer", "mlp"])
@pytest.mark.parametrize("method", METHODS)
def test_stacks_equal_one_trajectory_at_a_time(method, loss, optimizer, monkeypatch):
    monkeypatch.setattr(stepping, "BLOCK", 4)  # three blocks
    problems = make_problems(settings(loss, start="gaussian"))
    unit = step_size_grid("auto:3", problems, optimizer)[0]
    gammas = unit * np.array([1.0, 3.0, 1e4, 9.0, 1e8])  # some diverge, in blocks with others and alone
    arguments = {"method": method, "optimizer": optimizer, "step_sizes": gammas, "steps": STEPS}
    run = simulate(problems.loss, problems.start, **arguments)
    assert_same(run, problems.loss, problems.start, method, optimizer, gammas, rtol=1e-7)


@pytest.mark.parametrize("method", ["lora", "balora", "ilora"])
def test_from_loras_start_with_a_scaling(method):
    problems = make_problems(settings("one-layer", scaling=0.5, seeds=3))
    gammas = np.array([0.01, 0.1, 0.3])
    run = simulate(problems.loss, problems.start, method=method, step_sizes=gammas, steps=STEPS)
    assert_same(run, problems.loss, problems.start, method, "gd", gammas, rtol=1e-9)


@pytest.mark.parametrize("method", ["lora", "balora"])
def test_in_error_coordinates(method):
    problems = make_problems(settings("one-layer"))
    U, s, Vt = np.linalg.svd(problems.Z)
    root = np.sqrt(s[:, :2])
    A, B = U[..., :2] * root[:, None], root[..., None] * Vt[:, :2]
    rng = np.random.default_rng(0)
    start = tuple(1e-6 * rng.standard_normal(x.shape) for x in (A, B))
    gammas = np.array([0.01, 0.05])
    run = simulate(problems.loss.about(A, B), start, method=method, step_sizes=gammas, steps=STEPS)
    # the projection subtracts the origin from what it has moved, and leaves rounding relative to 1e-6
    rtol = 1e-10 if method == "lora" else 1e-7
    assert_same(run, problems.loss.about(A, B), start, method, "gd", gammas, rtol=rtol)


def curves(run):
    return [run.excess, run.imbalance, run.path, run.diverged_at, *run.factors]


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
@pytest.mark.parametrize("method", ["lora", "balora", "ilora:trained=yes"])
def test_the_number_of_processes_changes_no_bit(method, optimizer, monkeypatch):
    monkeypatch.setattr(stepping, "LEAST_GAIN", 0.0)
    monkeypatch.setattr(stepping, "BLOCK", 6)
    problems = make_problems(settings("one-layer", seeds=3))
    grid = step_size_grid("auto:17", problems, optimizer)
    run = partial(
        simulate, problems.loss, problems.start, method=method, optimizer=optimizer, step_sizes=grid, steps=30
    )
    alone = curves(run(jobs=1, record_path=True))
    for jobs in (2, 3, 50):
        for ours, theirs in zip(curves(run(jobs=jobs, record_path=True)), alone, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("method", ["lora", "balora", "balora-symmetric"])
def test_the_size_of_the_blocks_changes_no_bit(method, monkeypatch):
    problems = make_problems(settings("one-layer", shape=(20, 20), rank=4, seeds=3))
    grid = step_size_grid("auto:12", problems, "gd")
    runs = []
    for block in (1, 7, 1000):
        monkeypatch.setattr(stepping, "BLOCK", block)
        runs.append(curves(simulate(problems.loss, problems.start, method=method, step_sizes=grid, steps=25))[0])
    np.testing.assert_array_equal(runs[1], runs[0])
    np.testing.assert_array_equal(runs[2], runs[0])


def test_prescribed_lengths_follow_their_step_sizes_into_the_blocks(monkeypatch):
    problems = make_problems(settings("one-layer", start="gaussian"))
    gammas = np.array([0.002, 0.004, 0.008, 0.016])
    path = simulate(problems.loss, problems.start, step_sizes=gammas, steps=6, record_path=True).path
    monkeypatch.setattr(stepping, "BLOCK", 2)
    matched = MatchedGradientDescent(path)
    run = simulate(
        problems.loss, problems.start, optimizer=matched, step_sizes=np.ones(4), steps=6, record_path=True, jobs=2
    )
    np.testing.assert_allclose(run.path, path, rtol=1e-6)
    again = simulate(
        problems.loss, problems.start, optimizer=matched, step_sizes=np.ones(4), steps=6, record_path=True, jobs=1
    )
    np.testing.assert_array_equal(again.path, run.path)  # the optimizer that was given is still fresh


def test_a_run_that_stops_early_stops_as_a_whole(monkeypatch):
    monkeypatch.setattr(stepping, "BLOCK", 2)
    problems = make_problems(settings("one-layer", start="gaussian"))
    run = simulate(problems.loss, problems.start, step_sizes=[0.01, 0.03, 0.05], steps=400, stop_below=0.5, jobs=2)
    arrived = run.excess <= 0.5 * run.excess[0]
    assert arrived[-1].all()
    assert not arrived[-2].all()
    assert np.isfinite(run.excess).all()


def test_where_all_diverge_nothing_more_is_computed(monkeypatch):
    problems = make_problems(settings("one-layer", start="gaussian"))
    calls = []
    step = stepping.Block.step
    monkeypatch.setattr(stepping.Block, "step", lambda self: (calls.append(self.taken), step(self)))
    run = simulate(problems.loss, problems.start, step_sizes=[50.0], steps=1000, record_path=True)
    assert len(calls) < 20
    assert run.steps == 1000
    last = run.diverged_at.max()
    assert 1 <= last <= len(calls)
    assert np.isinf(run.excess[last:]).all()
    assert np.isinf(run.imbalance[last:]).all()
    assert (run.path[last:] == 0).all()


def test_what_has_diverged_is_not_projected_again(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "lorakappa.synthetic.stacked_balance.balance", lambda A, B, **_: (asked.append(len(A)), (A.copy(), B.copy()))[1]
    )
    problems = make_problems(settings("one-layer", shape=(20, 20), rank=4, init_std=1.0))
    simulate(problems.loss, problems.start, method="balora", step_sizes=[0.01, 1e3], steps=30)
    assert sum(asked) <= 4  # at LoRA's start AB = 0 has no balanced pair; once it is left, nobody goes back to it


def test_a_gradient_that_no_trajectory_has_ends_them_unless_it_is_the_first():
    problems = make_problems(settings("one-layer", start="gaussian"))
    calls = []

    def transform(factors, gradient):
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("none of them has one")
        return gradient

    method = Method("fails", transform=transform)
    run = simulate(problems.loss, problems.start, method=method, step_sizes=[0.01], steps=10)
    assert (run.diverged_at == 4).all()
    with pytest.raises(ValueError, match="none of them"):
        simulate(problems.loss, problems.start, method=method, step_sizes=[0.01], steps=10)


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_in_a_block_reaches_the_caller_and_no_process_stays(jobs, monkeypatch):
    monkeypatch.setattr(stepping, "BLOCK", 2)
    monkeypatch.setattr(stepping, "LEAST_GAIN", 0.0)
    problems = make_problems(settings("one-layer", start="gaussian"))
    here = os.getpid()
    step = stepping.Block.step

    def fails_late(self):
        if self.taken == 5 and (jobs == 1 or os.getpid() != here):
            raise TypeError("on purpose")
        step(self)

    monkeypatch.setattr(stepping.Block, "step", fails_late)
    before = children()
    with pytest.raises(TypeError, match="on purpose"):
        simulate(problems.loss, problems.start, step_sizes=[0.01, 0.02, 0.03], steps=10, jobs=jobs)
    assert children() <= before


def test_the_cores_are_those_that_are_asked_for(monkeypatch):
    monkeypatch.setattr(stepping.os, "cpu_count", lambda: 6)
    for value, expected in (("3", 3), ("", 6), ("0", 6), ("many", 6), ("²", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert usable_cores() == expected
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert usable_cores() == 6
    monkeypatch.setattr(stepping.os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize("loss", ["one-layer", "two-layer"])
def test_the_path_is_how_far_each_product_moves(loss):
    problems = make_problems(settings(loss, start="gaussian"))
    steps = [
        simulate(problems.loss, problems.start, step_sizes=[1e-3, 2e-3], steps=t, record_path=True) for t in range(4)
    ]
    for t, (before, after) in enumerate(pairwise(steps)):
        layers = range(0, len(after.factors), 2)
        moved = [after.factors[i] @ after.factors[i + 1] - before.factors[i] @ before.factors[i + 1] for i in layers]
        expected = np.sqrt(sum((m**2).sum(axis=(-2, -1)) for m in moved))
        np.testing.assert_allclose(after.path[t], expected, rtol=1e-8)


@pytest.mark.parametrize(
    ("block", "jobs", "least", "copies"),
    [(2, 3, 0.0, 2), (2, 2, 0.0, 1), (2, 1, 0.0, 0), (1000, 3, 0.0, 0), (2, 3, 1e9, 0)],
)
def test_blocks_are_shared_if_there_are_several_and_it_pays(block, jobs, least, copies, monkeypatch):
    monkeypatch.setattr(stepping, "BLOCK", block)
    monkeypatch.setattr(stepping, "LEAST_GAIN", least)
    asked = []

    class Watched(stepping.Copies):
        def __init__(self, tasks):
            asked.append(len(tasks))
            super().__init__(tasks)

    monkeypatch.setattr(stepping, "Copies", Watched)
    problems = make_problems(settings("one-layer", start="gaussian"))
    simulate(problems.loss, problems.start, step_sizes=[0.01, 0.02, 0.03, 0.04], steps=20, jobs=jobs)
    assert asked == ([copies] if copies else [])


def test_without_room_for_another_process_all_is_done_here(monkeypatch):
    problems = make_problems(settings("one-layer", start="gaussian"))
    run = partial(simulate, problems.loss, problems.start, step_sizes=[0.01, 0.02, 0.03], steps=20)
    expected = curves(run(jobs=1, record_path=True))
    monkeypatch.setattr(stepping, "BLOCK", 2)
    monkeypatch.setattr(stepping, "LEAST_GAIN", 0.0)

    def full():
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    for ours, theirs in zip(curves(run(jobs=3, record_path=True)), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("grid", "seeds", "size"),
    [(50, 8, 9), (8, 8, 8), (9, 8, 5), (1, 1000, 1), (1000, 1, 63), (3, 50, 1), (140, 1, 70), (141, 1, 36)],
)
def test_blocks_are_an_even_number_of_about_the_same_size(grid, seeds, size):
    assert stepping.block_size(grid, seeds) == size
    assert size == 1 or size * seeds <= stepping.BLOCK + seeds
