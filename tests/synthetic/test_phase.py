"""The map of gains, from made-up runs whose outcome is known."""

from dataclasses import replace

import numpy as np
import pytest

from lorakappa.conditioning.tolerances import EPS
from lorakappa.synthetic.engine import Trajectories
from lorakappa.synthetic.experiments import phase as module
from lorakappa.synthetic.experiments.phase import phase
from lorakappa.synthetic.problems import make_problems, step_size_grid
from lorakappa.synthetic.selection import compare
from lorakappa.synthetic.settings import ProblemSettings

SMALL = ProblemSettings(shape=(6, 5), rank=2, seeds=5)
START = 100.0


def made_up(monkeypatch, finals, **changes):
    """`phase` over 2 decays × 3 init stds with final f − f* {method: (3 step sizes, 6 cells, n)}."""

    def fake(loss, start, *, method, step_sizes, steps, **_):
        final = np.asarray(finals[method], dtype=float)
        final = final.reshape(len(step_sizes), -1)
        assert final.shape[1] == len(start[0]) == len(loss.Z_r)
        excess = np.full((steps + 1, *final.shape), 7.0)
        excess[0], excess[-1] = START, final
        return Trajectories(excess, excess, None, np.full(final.shape, -1), (), 1.0)

    monkeypatch.setattr(module, "simulate", fake)
    knobs = {"decays": (0.5, 0.8), "init_stds": (0.1, 0.5, 1.0), "steps": 3, "step_sizes": "0.1:0.4:3", **changes}
    return phase(SMALL, **knobs)


def test_every_cell_has_its_own_best_step_and_its_own_gain(monkeypatch):
    rng = np.random.default_rng(0)
    finals = {name: 10 ** rng.uniform(-8, 1, (3, 6, 5)) for name in ("lora", "balora")}
    result = made_up(monkeypatch, finals)
    grid = np.array([0.1, 0.2, 0.4])
    assert result.arrays["best_step_size"].shape == (2, 3, 2)
    assert result.arrays["final"].shape == (2, 3, 2, 5)
    on_edge = 0
    for cell in range(6):
        at = divmod(cell, 3)
        ends = []
        for m, name in enumerate(("lora", "balora")):
            best = np.median(np.log10(finals[name][:, cell]), axis=-1).argmin()
            assert result.arrays["best_step_size"][at][m] == pytest.approx(grid[best])
            on_edge += best in (0, 2)
            ends.append(finals[name][best, cell])
            np.testing.assert_allclose(result.arrays["final"][at][m], ends[m])
        gains = np.log10(ends[0] / ends[1])
        np.testing.assert_allclose(result.arrays["gain_per_seed"][at], gains)
        assert result.arrays["gain"][at] == pytest.approx(np.median(gains))
        found = compare(result.arrays["gain_per_seed"][at], seed=SMALL.seed)
        np.testing.assert_array_equal(result.arrays["interval"][at], found.interval)
    assert result.meta["best_at_edge_of_grid"] == on_edge


@pytest.mark.parametrize(("best", "edges"), [([0, 0, 1, 1, 1, 2], 3), ([1, 1, 1, 1, 1, 1], 0), ([2, 2, 0, 2, 2, 1], 5)])
def test_best_steps_at_the_edge_of_the_grid_are_counted(monkeypatch, best, edges):
    final = np.ones((3, 6, 5))
    for cell, at in enumerate(best):
        final[at, cell] = 0.1
    assert made_up(monkeypatch, {"lora": final, "balora": final}).meta["best_at_edge_of_grid"] == 2 * edges


def test_cells_are_won_lost_undecided_or_without_result(monkeypatch):
    lora = np.ones((3, 6, 5))
    gains = np.array(
        [
            [0.3, 0.4, 0.5, 0.6, 0.7],  # won
            [0.2, 0.2, 0.2, 0.2, 0.2],  # won, all alike
            [-0.3, -0.4, -0.5, -0.6, -0.7],  # lost
            [-0.3, -0.1, 0.1, 0.2, 0.4],  # undecided
            [0.0, 0.0, 0.0, 0.0, 0.0],  # undecided: exactly none
            [0.5, 0.5, 0.5, 0.5, 0.5],  # diverges
        ]
    )
    balora = lora / 10**gains
    balora[:, 5, 1:4] = np.inf
    result = made_up(monkeypatch, {"lora": lora, "balora": balora})
    counts = [result.meta[f"cells_{name}"] for name in ("won", "lost", "undecided", "without_result")]
    assert counts == [2, 1, 2, 1]
    assert np.isnan(result.arrays["gain"][1, 2])
    assert np.isnan(result.arrays["best_step_size"][1, 2, 1])
    np.testing.assert_allclose(result.arrays["gain"].ravel()[:5], [0.5, 0.2, -0.5, 0.1, 0.0], atol=1e-12)


def test_a_diverged_seed_is_left_out_of_its_cell_and_rounding_is_floored(monkeypatch):
    lora, balora = np.ones((3, 6, 5)), np.full((3, 6, 5), 0.01)
    balora[:, 0, 0] = np.inf
    balora[:, 1] = 0.0
    result = made_up(monkeypatch, {"lora": lora, "balora": balora})
    assert np.isnan(result.arrays["gain_per_seed"][0, 0, 0])
    assert np.isfinite(result.arrays["gain_per_seed"][0, 0, 1:]).all()
    assert result.arrays["gain"][0, 0] == pytest.approx(2)
    np.testing.assert_allclose(result.arrays["gain_per_seed"][0, 1], -np.log10(EPS**2 * START))


def test_a_cell_with_few_seeds_has_a_gain_but_no_interval():
    per_seed = np.full((1, 2, 3), np.nan)
    per_seed[0, 0, :2] = 1.0, 2.0
    per_seed[0, 1] = 3.0, 4.0, 5.0
    gain, interval = module._summarize(per_seed, 0)
    np.testing.assert_allclose(gain, [[1.5, 4.0]])
    assert np.isnan(interval[0, 0]).all()
    assert 3 <= interval[0, 1, 0] <= 4 <= interval[0, 1, 1] <= 5
    assert interval[0, 1, 0] < interval[0, 1, 1]


def test_the_automatic_grid_takes_every_second_point():
    result = phase(replace(SMALL, seeds=1), decays=(0.5,), init_stds=(0.3,), steps=1)
    problems = make_problems(replace(SMALL, seeds=1, target="geometric:0.5", init_std=0.3))
    np.testing.assert_array_equal(result.arrays["step_sizes"], step_size_grid("auto", problems, "gd")[::2])


@pytest.mark.parametrize("changes", [{"decays": ()}, {"init_stds": ()}])
def test_empty_knobs_are_refused(changes):
    with pytest.raises(ValueError, match="at least one decay and one init std"):
        phase(SMALL, **changes)


def test_one_step_is_enough():
    assert phase(replace(SMALL, seeds=1), decays=(0.5,), init_stds=(0.3,), steps=1).arrays["gain"].shape == (1, 1)
