"""How step sizes are judged and methods compared, by hand."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, wilcoxon

from lorakappa.conditioning.tolerances import EPS
from lorakappa.synthetic.selection import best_step, compare, floored_log10, score


def test_logs_are_floored_at_eps_squared_of_the_start():
    start = np.array([100.0, 1.0])
    floor = 2 * np.log10(EPS)
    np.testing.assert_allclose(floored_log10(np.array([0.0, -1e-40]), start), [2 + floor, floor])
    np.testing.assert_allclose(floored_log10(np.array([1e-3, 10.0]), start), [-3.0, 1.0])


def test_criteria_by_hand():
    curves = np.array([[1.0, 1.0, 100.0], [1e-2, 10.0, 1.0], [1e-4, 1e-2, 1e-1]])  # (T + 1, runs)
    np.testing.assert_allclose(score(curves, "final"), [-4.0, -2.0, -1.0])
    np.testing.assert_allclose(score(curves, "area"), [-2.0, -1 / 3, 1 / 3])
    # 1e-3 of the start: reached at step 2, never (1e-2 left), at step 2 (1e-1 = 1e-3 · 100)
    np.testing.assert_allclose(score(curves, "threshold"), [2.0, 3 + 1e-2, 2.0])
    np.testing.assert_allclose(score(curves, "threshold", tolerance=0.05), [1.0, 2.0, 1.0])
    hopeless = np.array([[1.0], [1e9]])
    np.testing.assert_allclose(score(hopeless, "threshold"), [2 + 1e6])
    with pytest.raises(ValueError, match="unknown criterion 'luck'"):
        score(curves, "luck")


def test_diverged_runs_score_infinity():
    curves = np.array([[1.0, 1.0], [np.inf, 0.5], [np.inf, 0.1]])
    for criterion in ("final", "area", "threshold"):
        assert score(curves, criterion)[0] == np.inf
        assert np.isfinite(score(curves, criterion)[1])


def test_best_steps_shared_and_per_seed():
    scores = np.array([[3.0, 0.0, 9.0], [1.0, 2.0, 2.0], [2.0, 5.0, 0.0]])  # (step sizes, seeds); medians 3, 2, 2
    np.testing.assert_array_equal(best_step(scores, "shared"), [1, 1, 1])
    np.testing.assert_array_equal(best_step(scores, "per-seed"), [1, 0, 2])
    with pytest.raises(ValueError, match="all step sizes diverge"):
        best_step(np.full((2, 3), np.inf))
    with pytest.raises(ValueError, match="unknown tuning"):
        best_step(scores, "luck")


def test_comparison_of_paired_differences():
    found = compare(np.array([0.5, 0.7, -0.1, 0.9, 0.6, 0.8, 0.4, 0.3]))
    assert found.median == pytest.approx(0.55)
    assert (found.wins, found.n) == (7, 8)
    assert found.interval is not None
    assert found.interval[0] < 0.55 < found.interval[1]
    assert found.p_value == pytest.approx(2 * 2 / 2**8)  # the one negative difference has the smallest rank
    equal = compare(np.full(4, 0.25))
    assert equal.interval == (0.25, 0.25)
    nothing = compare(np.zeros(3))
    assert nothing.p_value is None
    assert nothing.interval == (0.0, 0.0)
    few = compare(np.array([1.0, 2.0]))
    assert few.interval is None
    assert few.p_value is None


@given(st.integers(3, 60), st.floats(-2, 2), st.integers(0, 2**31), st.sampled_from(["plain", "ties", "zeros"]))
def test_intervals_and_p_values_are_scipys(n, shift, seed, kind):
    differences = np.random.default_rng(seed).standard_normal(n) + shift
    if kind == "ties":
        differences[1] = -differences[0]
    if kind == "zeros":
        differences[0] = 0.0
    found = compare(differences, seed=seed)
    rng = np.random.default_rng(seed)
    expected = bootstrap((differences,), np.median, n_resamples=2000, rng=rng, method="percentile").confidence_interval
    spread = np.ptp(differences)
    np.testing.assert_allclose(found.interval, expected, rtol=1e-12, atol=1e-11 * spread)
    assert found.p_value == pytest.approx(wilcoxon(differences).pvalue, rel=1e-12)


def test_extreme_p_values_by_hand():
    assert compare(np.arange(1.0, 11.0)).p_value == pytest.approx(2 / 2**10)
    assert compare(-np.arange(1.0, 11.0)).p_value == pytest.approx(2 / 2**10)
    assert compare(np.array([1.0, 2.0, -3.0])).p_value == 1.0  # 1 + 2 against 3


def test_a_comparison_does_not_wait_for_scipy_stats():
    code = "import sys, numpy as np; from lorakappa.synthetic.selection import compare; compare(np.arange(5.0) - 1.7);"
    loaded = subprocess.run([sys.executable, "-c", code + "print('scipy.stats' in sys.modules)"], capture_output=True)
    assert loaded.stdout.split() == [b"False"], loaded.stderr
