"""Adam in frames: as Adam where the frame is the pair's own, as P's gauges where theory says so."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.framed_adam import FRAMES, FramedAdam
from lorakappa.synthetic.problems import make_problems
from lorakappa.synthetic.settings import ProblemSettings

SETTINGS = ProblemSettings(shape=(7, 6), rank=3, seeds=3, seed=2)


@pytest.fixture(scope="module")
def problems():
    return make_problems(SETTINGS)


def path(problems, optimizer, method="balora-symmetric", steps=25):
    grid = problems.entry * np.asarray([0.01, 0.05])
    return simulate(problems.loss, problems.start, method=method, optimizer=optimizer, step_sizes=grid, steps=steps)


@pytest.mark.parametrize("method", ["lora", "balora", "balora-symmetric"])
def test_in_the_own_frame_it_is_adam(problems, method):
    for carried in (True, False):
        framed = path(problems, FramedAdam(carried=carried), method)
        np.testing.assert_allclose(framed.excess, path(problems, "adam", method).excess, rtol=1e-9)


def test_the_singular_frame_with_moments_left_behind_is_the_papers_gauge():
    # from balance the first P turns little, so that the signs of the singular vectors are chosen alike
    problems = make_problems(replace(SETTINGS, start="balanced", init_std=0.5))
    framed = path(problems, FramedAdam(frame="singular", carried=False))
    np.testing.assert_allclose(framed.excess, path(problems, "adam", "balora").excess, rtol=1e-6)
    other = path(problems, FramedAdam(frame="singular", carried=True)).excess
    assert (np.abs(other[-1] / framed.excess[-1] - 1) > 1e-3).all()


@pytest.mark.parametrize(("frame", "second"), list(product(FRAMES, ["row", "factor"])))
def test_without_entries_frames_are_one_as_long_as_the_momentum_is_carried_along(problems, frame, second):
    expected = path(problems, FramedAdam(second=second)).excess
    np.testing.assert_allclose(path(problems, FramedAdam(frame=frame, second=second)).excess, expected, rtol=1e-7)
    left = path(problems, FramedAdam(frame=frame, second=second, carried=False)).excess
    same = np.allclose(left, expected, rtol=1e-7)
    assert same == (frame in ("own", "fixed"))


def test_entries_see_their_frame(problems):
    finals = [path(problems, FramedAdam(frame=frame)).excess[-1] for frame in FRAMES]
    for i in range(len(finals)):
        for j in range(i):
            assert (np.abs(finals[i] / finals[j] - 1) > 1e-4).all()


def test_every_layer_has_a_frame_of_its_own():
    problems = make_problems(ProblemSettings(loss="two-layer", shape=(6, 5), rank=2, seeds=2, start="balanced"))
    framed = path(problems, FramedAdam(frame="singular", carried=False), steps=8)
    np.testing.assert_allclose(framed.excess, path(problems, "adam", "balora", steps=8).excess, rtol=1e-6)


def test_second_moments_are_of_rows_of_a_and_columns_of_b():
    A, B = np.arange(1.0, 7).reshape(1, 3, 2), np.arange(1.0, 9).reshape(1, 2, 4)
    d_A, d_B = FramedAdam(second="row", eps=0.0).direction((A, B), (A, B))
    np.testing.assert_allclose(d_A, A / np.sqrt((A * A).mean(axis=-1, keepdims=True)))
    np.testing.assert_allclose(d_B, B / np.sqrt((B * B).mean(axis=-2, keepdims=True)))
    d_A, d_B = FramedAdam(second="factor", eps=0.0).direction((A, B), (A, B))
    np.testing.assert_allclose(d_A, A / np.sqrt((A * A).mean()))
    np.testing.assert_allclose(d_B, B / np.sqrt((B * B).mean()))


def test_random_frames_depend_on_the_seed_alone(problems):
    first, again, other = (path(problems, FramedAdam(frame="random", seed=seed)).excess for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first[-1] != other[-1]).all()
    optimizer = FramedAdam(frame="fixed", seed=3, eps=1e-3, second="row", carried=False)
    assert optimizer.part(slice(1)) == optimizer
    assert optimizer.part(slice(1)) is not optimizer
