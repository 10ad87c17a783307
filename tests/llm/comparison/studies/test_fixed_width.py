"""Intervals of a given width cover as often as they say, however the number of seeds was found."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, t

from lorakappa.llm.comparison.effects import effect
from lorakappa.llm.comparison.studies.fixed_width import LOOKS, seeds_needed

ALPHA, MINIMUM = 0.1, 5


def undecided(values, minimum, alpha, half_width):
    """The number of seeds of values around 0, whose interval decides nothing."""
    first = values[:minimum]
    middle = first.mean() if len(first) and np.isfinite(first).all() else 0.0
    return seeds_needed(first - middle, minimum, alpha, half_width, delta=0.0)


@pytest.mark.parametrize(("half_width", "maximum"), [(0.5, 10**6), (0.5, 12), (2.0, 10**6)])
def test_coverage(half_width, maximum):
    """Of normal values: exact in theory; here within the error of 4,000 draws. With a maximum, too."""
    rng = np.random.default_rng(0)
    covered, widths, numbers = 0, [], []
    for _ in range(4000):
        first = rng.normal(3.0, 1.0, MINIMUM)
        needed = min(undecided(first, MINIMUM, ALPHA, half_width), maximum)
        values = np.concatenate([first, rng.normal(3.0, 1.0, needed - MINIMUM)])
        found = effect(values, first=MINIMUM, alpha=ALPHA)
        covered += found.low < 3.0 < found.high
        widths.append((found.high - found.low) / 2)
        numbers.append(len(values))
    assert binomtest(covered, 4000, 1 - ALPHA).pvalue > 0.01
    assert max(numbers) > MINIMUM
    if maximum > 1000:
        assert max(widths) <= half_width * (1 + 1e-12)
    else:
        assert max(numbers) == maximum
        assert max(widths) > half_width


@pytest.mark.parametrize("mean", [0.0, 0.4, 1.0, 3.0])
@pytest.mark.parametrize("budget", [6, 60, 10**6])
def test_two_looks_cover_together(mean, budget):
    """A mean that decides at the first look is told there, so is one whose seeds the budget does not reach."""
    rng = np.random.default_rng(2)
    covered, early = 0, 0
    for _ in range(2000):
        first = rng.normal(mean, 1.0, MINIMUM)
        needed = seeds_needed(first, MINIMUM, ALPHA / LOOKS, 0.7, delta=0.5)
        number = needed if needed <= budget else MINIMUM
        found = effect(np.concatenate([first, rng.normal(mean, 1.0, number - MINIMUM)]), first=MINIMUM, alpha=ALPHA / 2)
        covered += found.low < mean < found.high
        early += needed == MINIMUM
    assert binomtest(covered, 2000, 1 - ALPHA, alternative="less").pvalue > 0.01
    assert 0 < early <= 2000
    assert (early > 1000) == (mean == 3.0)


def test_a_decision_at_the_first_look_ends_it():
    spread = np.array([-1.0, 0.0, 1.0, 0.0])
    half = effect(spread, alpha=0.05).high
    for mean, delta, ends in [
        (1.01 * half, 0.0, True),
        (-1.01 * half, 0.0, True),
        (0.99 * half, 0.0, False),
        (-0.99 * half, 0.0, False),
        (0.0, 1.01 * half, True),
        (0.0, 0.99 * half, False),
    ]:
        assert (seeds_needed(spread + mean, 4, 0.05, half / 10, delta=delta) == 4) == ends


def test_the_variance_of_all_values_covers_less_often():
    """Why the first values alone give it: a rule that ends where the variance looks small undercovers."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(4000):
        values = rng.normal(0.0, 1.0, 100)
        n = 3
        while n < 100 and 2 * effect(values[:n]).high - 2 * effect(values[:n]).estimate > 2.0:
            n += 1
        found = effect(values[:n])
        covered += found.low < 0 < found.high
    assert binomtest(covered, 4000, 0.95).pvalue < 1e-4
    assert covered < 0.95 * 4000


def test_what_the_first_values_say():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    s = np.std([1, 2, 3, 4], ddof=1)
    assert undecided(values, 4, 0.05, 0.5) == math.ceil((t.ppf(0.975, 3) * s / 0.5) ** 2)
    assert undecided(values, 4, 0.05, 1e9) == 4
    found = effect(values, first=4, alpha=0.05)
    assert (found.estimate, found.n) == (22.0, 5)
    assert found.high - found.estimate == pytest.approx(t.ppf(0.975, 3) * s / math.sqrt(5))
    assert found.estimate - found.low == pytest.approx(found.high - found.estimate)


def test_with_the_least_number_it_is_students_interval():
    values = np.array([1.0, 2.0, 4.0, 3.5])
    found, student = effect(values, first=4, alpha=0.05), effect(values)
    assert (found.low, found.high) == pytest.approx((student.low, student.high))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, math.nan], [1.0, math.inf, 2.0, 3.0]])
def test_too_little_is_known(values):
    values = np.array(values)
    found = effect(values, first=3, alpha=0.05)
    assert (found.low, found.high, found.n) == (-math.inf, math.inf, len(values))
    assert undecided(values, 3, 0.05, 1.0) is None


def test_a_later_value_that_diverged_leaves_the_number_and_takes_the_interval():
    values = np.array([1.0, 2.0, 3.0, math.nan])
    assert undecided(values, 3, 0.05, 1.0) is not None
    assert effect(values, first=3, alpha=0.05).high == math.inf
