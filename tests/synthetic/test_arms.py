"""Arms: chosen on some problems, measured on others, with intervals that cover the median as often as they say."""

from dataclasses import replace
from fractions import Fraction
from math import comb
from types import SimpleNamespace

import numpy as np
import pytest

from lorakappa.synthetic.arms import simulating
from lorakappa.synthetic.arms.arm import COLUMNS, AdamOptions, Arm, Choice
from lorakappa.synthetic.arms.intervals import ALPHA, check_number, least, median_interval, rank
from lorakappa.synthetic.arms.outcomes import Simulated, gain
from lorakappa.synthetic.arms.simulating import (
    SECOND_ROUND,
    choose,
    columns_balanced,
    measure,
    refine,
    root,
)
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.experiments.convergence import convergence, final_logs
from lorakappa.synthetic.experiments.gauges import reach
from lorakappa.synthetic.problems import make_problems
from lorakappa.synthetic.settings import ProblemSettings

SMALL = ProblemSettings(shape=(5, 4), rank=2)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 4, 0.05 / 27])
@pytest.mark.parametrize("n", [5, 6, 11, 12, 40, 257])
def test_the_rank_is_the_largest_that_covers(n, alpha):
    def miss(k):
        return 2 * Fraction(sum(comb(n, i) for i in range(k)), 2**n)

    k = rank(n, alpha)
    assert miss(k) <= Fraction(alpha) < miss(k + 1)
    assert (k > 0) == (n >= least(alpha))


def test_intervals_cover_the_median_of_a_skewed_distribution():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        low, high = median_interval(rng.exponential(size=15))["interval"]
        covered += low <= np.log(2) <= high
    assert 0.95 <= covered / 1000 <= 0.985  # 0.9648 for n = 15, which is the first level above 0.95


def test_an_interval_is_told_with_its_level_and_few_values_have_none():
    values = np.array([3.0, -1.0, 2.0, 1e9, 4.0, 5.0])
    found = median_interval(values)
    assert found == {"median": 3.5, "interval": [-1.0, 1e9], "level": 1 - ALPHA, "n": 6, "positive": 5}
    check_number(6, 1)
    with pytest.raises(ValueError, match="5 paired seeds give no interval; at least 6 trials are needed"):
        median_interval(values[:5])
    with pytest.raises(ValueError, match="6 paired seeds give no interval; at least 8 trials are needed"):
        median_interval(values, 4)


def test_the_first_of_the_lowest_medians_is_chosen():
    inf = float("inf")
    grid = (0.1, 0.2, 0.4, 0.8)
    choice = Choice(grid, (1.0, 2.0), ((0.0, -1.0, -2.0, inf), (0.0, -2.0, -2.0, inf)))
    assert (choice.place, choice.step_size, choice.strength, choice.at_edge) == ((0, 2), 0.4, 1.0, False)
    assert Choice(grid, (), ((0.0, -1.0, -2.0, inf),), beyond=3).step_size == 0.8
    assert Choice(grid, (), ((-3.0, -1.0, -2.0, inf),)).at_edge
    rows = ((0.0, -1.0, 0.0, 0.0), (0.0, -3.0, 0.0, 0.0), (0.0, -2.0, 0.0, 0.0))
    edges = [Choice(grid, (0.1, 1.0, 10.0), (*rows[i:], *rows[:i])).strength_at_edge for i in range(3)]
    assert edges == [False, True, True]
    assert not Choice(grid, (0.1,), rows[:1]).strength_at_edge
    assert Choice(grid, (), ((0.0, -1.0, -2.0, -3.0),)).at_edge
    assert Choice(grid, (), ((0.0, -1.0, -2.0, inf),)).strength is None
    with pytest.raises(ValueError, match="every step size diverged"):
        _ = Choice(grid, (), ((inf,) * 4,)).place


def test_the_best_cells_are_compared_once_more():
    inf = float("inf")
    first = Choice((0.1, 0.2, 0.4), (1.0, 2.0), ((0.0, -2.0, inf), (-3.0, -2.5, -1.0)))
    assert first.best() == [(1, 0)]
    several = replace(first, medians=((0.0, -2.9, inf), (-3.0, -2.8, -2.7999)))
    assert several.best() == [(1, 0), (0, 1), (1, 1)]
    assert replace(first, medians=((0.0,) * 3, (0.1,) * 3)).best() == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert first.place == (1, 0)
    second = replace(first, finalists=((1, 0, -1.0), (1, 1, -2.0), (0, 1, -2.5), (1, 2, inf)))
    assert (second.place, second.lowest, second.strength) == ((0, 1), -2.5, 1.0)
    assert replace(second, beyond=1).place == (0, 2)
    arm = Arm(SMALL, "gd", "ilora", steps=15, step_sizes="auto:7", strengths=(0.001, 0.01))
    near = ((9.0, 0.0, 0.1, *[9.0] * 4), (9.0, 0.15, *[9.0] * 5))
    tried = replace(choose(arm, seed=3, count=6), medians=near)
    alone = replace(tried, medians=((0.0, *[9.0] * 6),))
    assert [cell[:2] for cell in refine(arm, alone, seed=4, count=9).finalists] == [(0, 0)]
    refined = refine(arm, tried, seed=4, count=9)
    assert refined.fits
    assert [cell[:2] for cell in refined.finalists] == tried.best()
    for variant, step, median in refined.finalists:
        alone = replace(tried, finalists=((variant, step, 0.0),))
        assert median == pytest.approx(np.median(measure(arm, alone, seed=4, count=9).values), abs=1e-4)
    assert refine(arm, tried, seed=4, count=9) == refined


def test_where_the_best_cells_diverge_in_the_second_round_the_next_ones_follow():
    """Step sizes from 10² on look best in a first round that is made up, and diverge."""
    arm = Arm(SMALL, "gd", "lora", steps=30, step_sizes="0.01:1e4:7")
    first = Choice(tuple(10.0 ** np.arange(-2.0, 5)), (), ((0.0, 5.0, -1.0, 9.0, -9.0, -8.9, -5.0),))
    assert [first.best(tried) for tried in range(8)] == [
        [(0, 4), (0, 5)],
        [(0, 5)],
        [(0, 6)],
        [(0, 2)],
        [(0, 0)],
        [(0, 1)],
        [(0, 3)],
        [],
    ]
    found = refine(arm, first, seed=0, count=5)
    inf = float("inf")
    medians = {cell[1]: cell[2] for cell in found.finalists}
    assert list(medians)[:3] == [4, 5, 6]
    assert [medians[step] for step in (4, 5, 6)] == [inf] * 3
    assert np.isfinite(found.lowest)
    assert found.place == (0, list(medians)[-1])
    assert found.fits
    assert not replace(found, finalists=found.finalists[:-1]).fits
    assert not replace(found, finalists=(*found.finalists, (0, 3, 1.0))).fits
    assert not replace(found, finalists=found.finalists[1:]).fits
    with pytest.raises(ValueError, match="every step size diverged"):
        _ = replace(found, finalists=((0, 4, inf), (0, 5, inf))).place


def test_an_arm_is_chosen_and_measured_as_the_experiment_does():
    """On the same problems `convergence`, with all of its machinery, chooses and measures the same."""
    for method, optimizer in (("balora", "gd"), ("ilora", "adam"), ("scaled-gd", "gd")):
        arm = Arm(SMALL, optimizer, method, steps=15, step_sizes="auto:7", strengths=(0.1, 1.0))
        choice = choose(arm, seed=3, count=6)
        wanted = convergence(
            replace(SMALL, seeds=6, seed=3),
            optimizer=optimizer,
            methods=(method,),
            steps=15,
            step_sizes="auto:7",
            strengths=(0.1, 1.0),
        )
        (line,) = wanted.meta["summary"]
        assert (choice.step_size, choice.strength) == (
            line["step_size"][0],
            None if line["lambda"] is None else line["lambda"][0],
        )
        assert choice.at_edge == line["best_at_edge_of_grid"]
        assert all(median == round(median, 4) for row in choice.medians for median in row)
        found = measure(arm, choice, seed=3, count=6)
        np.testing.assert_array_equal(found.values, final_logs(wanted.arrays["curves"])[:1])
        assert found.diverged == 0


def test_noisy_labels_and_their_means_are_those_of_the_map_of_gauges():
    settings = replace(SMALL, loss="weighted", seeds=6, seed=5)
    wanted = reach(make_problems(settings), "balora-fisher", "sgd", steps=20, step_sizes="auto:7", noise=1.0, seed=5)
    arm = Arm(settings, "sgd", "balora-fisher", steps=20, step_sizes="auto:7", noise=1.0)
    choice = choose(arm, seed=5, count=6)
    assert choice.step_size == wanted.step_size
    np.testing.assert_array_equal(measure(arm, choice, seed=5, count=6).values[0], wanted.log10)


def test_what_diverges_counts_as_a_million_times_its_start_and_is_not_chosen():
    arm = Arm(SMALL, "gd", "lora", steps=30, step_sizes="0.01:1e3:5")
    choice = choose(arm, seed=0, count=5)
    assert np.isinf(choice.medians[0][-1])
    problems = make_problems(replace(SMALL, seeds=5, seed=1))
    start = simulate(problems.loss, problems.start, step_sizes=[0.1], steps=0).excess[0, 0]
    far = Choice(choice.grid, (), ((0.0, 0.0, 0.0, 0.0, -1.0),))
    found = measure(arm, far, seed=1, count=5)
    assert found.diverged == 5
    np.testing.assert_allclose(found.values[0], np.log10(1e6 * start))


def test_a_step_size_may_be_borrowed():
    like = Arm(SMALL, "adam", "balora-symmetric", steps=15, step_sizes="auto:9", adam=AdamOptions())
    arm = replace(like, adam=AdamOptions(frame="singular", carried=False), like=like, beyond=2)
    own, borrowed = (choose(each, seed=0, count=5) for each in (like, arm))
    assert borrowed.medians == own.medians
    assert borrowed.grid.index(borrowed.step_size) == own.grid.index(own.step_size) + 2
    assert not np.array_equal(
        measure(arm, borrowed, seed=1, count=4).values, measure(like, own, seed=1, count=4).values
    )


def test_a_variant_is_at_its_own_best_step_size_or_three_beyond_that_of_another(monkeypatch):
    """ε names the best of 17 step sizes; every other costs a decade, and what is more than four off diverges."""
    grids = []

    def run(loss, start, *, optimizer, step_sizes, **options):
        if len(step_sizes) == 17:
            grids.append(step_sizes)
        off = np.abs(np.searchsorted(grids[-1], step_sizes) - optimizer.eps)
        final = np.where(off <= 4, 10.0 ** (off - 8), np.inf)
        curves = [np.full(len(off), 100.0), np.full(len(off), 7.0), final]
        return SimpleNamespace(excess=np.repeat(curves, 2, axis=1).reshape(3, len(off), 2), factors=())

    monkeypatch.setattr(simulating, "simulate", run)

    def logs(best, like=None):
        arm = Arm(ProblemSettings(shape=(7, 6), rank=3), "adam", step_sizes="auto:17", adam=AdamOptions(eps=best))
        if like is not None:
            arm = replace(arm, beyond=3, like=replace(arm, adam=AdamOptions(eps=like)))
        return measure(arm, choose(arm, seed=0, count=2), seed=1, count=2).values[0].tolist()

    assert logs(4.0) == [-8.0, -8.0]
    assert logs(13.0, like=9.0) == [-7.0, -7.0]  # the 13th is the best, the 12th is looked at
    assert logs(13.0, like=15.0) == [-5.0, -5.0]  # there is none beyond the 16th
    assert logs(4.0, like=9.0) == [8.0, 8.0]  # 10⁶ times the start


def test_gains_are_paired_signed_and_measured_on_other_problems():
    lora, balora = (Arm(SMALL, "gd", method, steps=15, step_sizes="auto:7") for method in ("lora", "balora"))
    outcomes = Simulated(8, 3)
    forth, back = gain(outcomes, lora, balora, 1), gain(outcomes, balora, lora, 1)
    assert forth["median"] == -back["median"]
    assert forth["interval"] == [-end for end in reversed(back["interval"])]
    assert gain(outcomes, lora, lora, 4)["interval"] == [0.0, 0.0]
    assert forth["step_size"] == [outcomes.choice(arm).step_size for arm in (lora, balora)]
    tried = choose(lora, seed=root(3, 0), count=8)
    assert outcomes.choice(lora) == refine(lora, tried, seed=root(3, SECOND_ROUND), count=8)
    fresh = measure(lora, outcomes.choice(lora), seed=root(3, 1), count=8)
    np.testing.assert_array_equal(outcomes.measured(lora).values, fresh.values)
    assert len({root(seed, place) for seed in range(5) for place in (*range(9), SECOND_ROUND)}) == 50


def test_jitter_moves_what_is_measured_a_little_and_nothing_else_does():
    for method in ("lora", "balora", "balora-fisher", COLUMNS):
        arm = Arm(SMALL, "gd", method, steps=15, step_sizes="auto:7")
        choice = choose(arm, seed=0, count=5)
        plain, again, moved = (measure(arm, choice, seed=1, count=4, jitter=j).values for j in (0.0, 0.0, 1e-9))
        np.testing.assert_array_equal(plain, again)
        assert 0 < np.abs(moved - plain).max() < 1e-3
    (ones,) = simulating._Jittered(None, 0.5, seed=0)((np.ones((4, 5)),), None)
    assert 0.5 <= ones.min() < 1 < ones.max() <= 1.5


def test_columns_are_balanced_one_by_one():
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((2, 5, 3)), 0.1 * rng.standard_normal((2, 3, 4))
    A[0, :, 1] = 0.0
    X, Y = columns_balanced((A, B), None)
    np.testing.assert_allclose(X @ Y, A @ B, atol=1e-14)
    left, right = np.linalg.norm(X, axis=-2), np.linalg.norm(Y, axis=-1)
    moved = np.ones((2, 3), dtype=bool)
    moved[0, 1] = False
    np.testing.assert_allclose(left[moved], right[moved])
    np.testing.assert_array_equal(Y[0, 1], B[0, 1])


def test_an_arm_is_written_without_what_is_as_usual_and_named_in_a_few_words():
    arm = Arm(replace(SMALL, seeds=3, seed=9), "adam", "lora", adam=AdamOptions(eps=1e-30), strengths=(0.1,))
    assert arm.as_json() == {
        "settings": {"shape": [5, 4], "rank": 2},
        "optimizer": "adam",
        "strengths": [0.1],
        "adam": {"eps": 1e-30},
    }
    assert str(arm) == "lora under adam (shape [5, 4], rank 2)"
    assert str(Arm(ProblemSettings())) == "lora under gd (usual setting)"
