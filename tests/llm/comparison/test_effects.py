"""Effects of a method against a baseline, on records whose numbers are known."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from lorakappa.llm.comparison.best import best_cells
from lorakappa.llm.comparison.effects import (
    effect,
    excess,
    loss_gain,
    memory_overhead,
    paired,
    speedup,
    speedup_in_time,
    time_overhead,
    window,
    window_gain,
)
from lorakappa.llm.comparison.summary import description
from tests.llm.comparison.outcomes import curved, diverged, fake_record, only, outcome_of


@pytest.mark.parametrize("values", [[0.1, 0.3, 0.2], [1.0, -1.0], list(np.linspace(-3, 5, 11) ** 3)])
def test_effect_is_the_t_interval(values):
    found, reference = effect(values), ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.estimate == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert found.n == len(values)


def test_effect_of_one_value_and_of_none_that_counts():
    one = effect([0.25])
    assert (one.estimate, one.low, one.high, one.n) == (0.25, -math.inf, math.inf, 1)
    nothing = effect([0.25, math.nan, 1.0])
    assert math.isnan(nothing.estimate)
    assert (nothing.low, nothing.high, nothing.n) == (-math.inf, math.inf, 3)
    assert str(effect([0.1, 0.2, 0.3])) == "+0.2 [-0.0484, +0.448]"


def test_pairs_go_by_seed_and_by_ranks_that_both_have():
    def make(run):
        if (run.method, run.rank) == ("balora", 8):
            return diverged(run)
        return fake_record(run, test_loss=2.0 + run.seed - (0.1 * (run.seed + 1) + run.rank) * (run.method == "balora"))

    best = best_cells(outcome_of(make, ranks=(2, 4, 8)))
    gains = paired(best, "balora", "lora", loss_gain)
    assert set(gains) == {2, 4}
    np.testing.assert_allclose(gains[2], [2.1, 2.2, 2.3])
    np.testing.assert_allclose(gains[4], [4.1, 4.2, 4.3])
    assert paired(best, "dora", "lora", loss_gain) == {}


FIVE = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def window_of(losses, rates=FIVE):
    """Decades, whether they are cut off, and log₁₀ of the ends, of one curve for all seeds."""
    outcome = outcome_of(
        lambda run: fake_record(run, (9.0, losses[rates.index(run.learning_rate)])), methods=("lora",), rates=rates
    )
    decades, censored = window(only(outcome))
    (entry,) = description(outcome)["best"]
    assert len(set(decades)) == len(set(censored)) == 1
    assert entry["decades"] == pytest.approx(decades[0])
    assert entry["window_censored"] == censored[0]
    ends = np.log10(entry["window"])
    assert ends[1] - ends[0] == pytest.approx(decades[0])
    return decades[0], censored[0], ends


def test_windows_of_analytic_curves():
    decades, censored, ends = window_of([1.04, 1.02, 1.0, 1.02, 1.04])  # 0.02 per decade: half a decade on each side
    assert decades == pytest.approx(1.0)
    assert not censored
    assert ends == pytest.approx([-3.5, -2.5])
    decades, censored, ends = window_of([9.0, 1.005, 1.0, 1.005, 2.0])  # reaches beyond the neighbours
    assert ends == pytest.approx([-4 - 0.005 / 7.995, -2 + 0.005 / 0.995])
    assert not censored
    decades, censored, ends = window_of([2.0, 2.02, 2.04, 2.06, 2.08])  # relative to the loss: 0.02 of 2.0
    assert ends == pytest.approx([-5, -4])
    assert (decades, censored) == (pytest.approx(1.0), True)
    decades, censored, ends = window_of([2.0, 2.0, 2.0, 1.0, 1.001])
    assert ends == pytest.approx([-2.01, -1])
    assert censored
    assert window_of([1.0] * 5)[:2] == (pytest.approx(4.0), True)
    decades, censored, ends = window_of([1.0, 1.5, 1.001, 1.5, 1.002])  # only the interval around the best
    assert ends == pytest.approx([-5, -4.98])


def test_windows_next_to_divergence_and_below_zero():
    decades, censored, ends = window_of([math.inf, math.inf, 1.0, 1.005, math.inf])
    assert ends == pytest.approx([-3, -2])
    assert (decades, censored) == (pytest.approx(1.0), False)
    assert window_of([math.inf, math.inf, 1.0, math.inf, math.inf])[:2] == (0, False)
    decades, _, ends = window_of([1.0, 1.0, -1.0, 1.0, 1.0])
    assert ends == pytest.approx([-3.005, -2.995])


def test_windows_of_a_coarse_grid_and_the_gain():
    def make(run):
        return fake_record(run, (9.0, curved(run, slope=0.02 if run.method == "lora" else 0.04 / (run.seed + 1))))

    best = best_cells(outcome_of(make))
    np.testing.assert_allclose(window(best["lora", 4])[0], 1.0)
    np.testing.assert_allclose(window(best["balora", 4])[0], [0.5, 1.0, 1.5])
    np.testing.assert_allclose(window_gain(best["lora", 4], best["balora", 4]), [-0.5, 0.0, 0.5])


def bests(baseline, method):
    """The best cells of two methods, given their losses by evaluation, seed by seed, and further arguments."""

    def make(run):
        losses, options = (baseline, method)[run.method == "balora"]
        return fake_record(run, losses[run.seed], **options)

    seeds = tuple(range(len(baseline[0])))
    best = best_cells(outcome_of(make, rates=(1e-3,), seeds=seeds))
    return best["lora", 4], best["balora", 4]


def test_speedup():
    """Against the higher one of both ends: 1, 1, 1½ and 1."""
    reference = [(3.0, 2.0, 1.0)] * 4
    curves = [(3.0, 1.0, 0.5), (3.0, 2.0, 0.0), (3.0, 2.0, 1.5), (3.0, 2.0, 1.0)]
    pair = bests((reference, {"seconds": 0.5}), (curves, {"seconds": 1.0, "method_seconds": 0.5}))
    np.testing.assert_allclose(speedup(*pair), np.log2([20 / 10, 20 / 15, 15 / 20, 1]))
    np.testing.assert_allclose(speedup_in_time(*pair), np.log2([20 / 20, 20 / 30, 15 / 40, 1 / 2]), atol=1e-15)
    slow = bests((reference, {"seconds": 0.5}), (curves, {"seconds": 7.0}))  # the machine was busy
    np.testing.assert_array_equal(speedup_in_time(*slow), speedup(*slow))


def test_speedup_counts_the_first_time_and_survives_plateaus():
    reference = [(3.0, 2.0, 1.0, 1.0)] * 3
    curves = [(3.0, 0.5, 2.0, 0.5), (3.0, 3.0, 1.0, 1.0), (3.0, 2.0, 1.0, 0.0)]
    pair = bests((reference, {}), (curves, {}))
    np.testing.assert_allclose(speedup(*pair), [math.log2(20 / 8), 0, 0])


def test_a_start_at_or_below_the_target_counts_as_one_step_whatever_follows():
    curves = {
        (2.0, 2.0, 2.0): ((2.0, 1.0, 0.5), 1 / 1),  # both are there before they begin
        (3.0, 2.0, 1.0): ((1.0, 1.5, 9.0), 1 / 1),
        (2.0, 3.0, 2.5): ((3.0, 2.75, 1.0), 1 / (80 / 7)),
        (3.0, 2.5, 1.0): ((0.5, 1.5, 1.0), 20 / 1),
        (3.0, 2.6, 1.0): ((1.05, 0.05, 0.04), 20 / 1),  # within the first step
    }
    pair = bests((list(curves), {}), ([curve for curve, _ in curves.values()], {}))
    wanted = np.log2([ratio for _, ratio in curves.values()])
    np.testing.assert_allclose(speedup(*pair), wanted, atol=1e-15)


def drawn_curves(count, seed):
    """Curves of five evaluations on few levels, so that ties, plateaus and rises are among them."""
    rng = np.random.default_rng(seed)
    return [tuple(map(float, sorted(rng.integers(1, 9, 5), reverse=i % 3 > 0))) for i in range(count)]


@pytest.mark.parametrize("gain", [speedup, speedup_in_time])
def test_names_exchanged_change_the_sign_and_nothing_else(gain):
    options = {"seconds": 0.5, "method_seconds": 0.1}
    first, second = bests((drawn_curves(60, 1), options), (drawn_curves(60, 2), options | {"method_seconds": 0.2}))
    forward, backward = gain(first, second), gain(second, first)
    np.testing.assert_array_equal(forward, -backward)
    assert (forward > 0).any()
    assert (forward < 0).any()
    np.testing.assert_array_equal(gain(first, first), np.zeros(60))


def test_speedup_is_where_densely_drawn_curves_first_meet_the_target():
    curves = drawn_curves(60, 3), drawn_curves(60, 4)
    found = speedup(*bests((curves[0], {}), (curves[1], {})))
    dense = np.linspace(0, 40, 40_001)
    for pair, gain in zip(zip(*curves, strict=True), found, strict=True):
        lines = [np.interp(dense, [0, 10, 20, 30, 40], curve) for curve in pair]
        target = max(curve[-1] for curve in pair)
        times = [max(1.0, dense[np.argmax(line <= target + 1e-9)]) for line in lines]
        assert gain == pytest.approx(math.log2(times[0] / times[1]), abs=0.01)


DOUBLING = (1e-3, 2e-3, 4e-3)


def off(losses, rates=DOUBLING, start=9.0):
    """The excess where a seed's losses along the grid are those; infinity for a diverged run."""

    def make(run):
        loss = losses[run.seed][rates.index(run.learning_rate)]
        return fake_record(run, (start,), status="diverged") if math.isinf(loss) else fake_record(run, (start, loss))

    return excess(only(outcome_of(make, rates=rates, seeds=tuple(range(len(losses))), methods=("lora",))))


def test_the_excess_at_twice_the_best_rate():
    """That of the mean, 2e-3, although the first seed alone is better at 4e-3."""
    gains, capped = off([(3.0, 2.0, 1.5), (3.0, 1.0, 2.25)])
    np.testing.assert_allclose(gains, [-0.5, 1.25])
    assert not capped.any()


@pytest.mark.parametrize("lost", [math.inf, 9.5, 9.0])
def test_no_run_is_worse_than_the_model_before_training(lost):
    gains, capped = off([(1.0, lost, 3.0), (1.0, 8.75, 3.0)])
    np.testing.assert_allclose(gains, [8.0, 7.75])
    np.testing.assert_array_equal(capped, [True, False])


def test_a_doubled_rate_may_be_rounded_and_must_be_there():
    gains, _ = off([(1.0, 2.5)], rates=(0.0006251, 0.00125))
    np.testing.assert_allclose(gains, [1.5])
    assert off([(1.0, 2.5)], rates=(1e-3, 2.1e-3)) is None
    assert off([(3.0, 2.0, 1.0)]) is None  # the best one is the last


def test_overheads():
    curve = [(3.0, 2.0, 1.0)] * 2
    baseline, method = bests((curve, {"peak_memory": 1000}), (curve, {"method_seconds": 0.1, "peak_memory": 1250}))
    np.testing.assert_allclose(method.seconds_per_step, 0.5)
    np.testing.assert_allclose(method.method_seconds_per_step, 0.1)
    np.testing.assert_allclose(time_overhead(method), 0.25)
    np.testing.assert_allclose(time_overhead(baseline), 0.0)
    np.testing.assert_allclose(memory_overhead(baseline, method), 0.25)
    np.testing.assert_allclose(memory_overhead(method, baseline), -0.2)


def test_missing_values():
    best, other = bests(([(3.0, 1.0)] * 2, {"peak_memory": None}), ([(3.0, 1.0)] * 2, {}))
    assert np.isnan(best.values("peak_memory")).all()
    assert np.isnan(best.values("extrapolate_loss")).all()
    assert np.isnan(memory_overhead(best, other)).all()
    assert math.isnan(best.history("train loss")[0, 0])
