"""Rules for ranks: smallest rank that meets a measure, by definition and beside kohya's rules."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lorakappa.conditioning import RankRule, entropy_rank, stable_rank, truncation_error

spectra = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8).map(lambda s: sorted(s, reverse=True))
shares = st.floats(0.01, 0.99)


def measured(s, k):
    """The measures of keeping k, from their definitions."""
    s = np.array(s)
    return {
        "energy": (s[:k] ** 2).sum() / (s**2).sum(),
        "nuclear": s[:k].sum() / s.sum(),
        "error": math.sqrt((s[k:] ** 2).sum() / (s**2).sum()),
        "spectral_error": (s[k] if k < len(s) else 0.0) / s[0],
    }


@given(spectra, st.sampled_from(["energy", "nuclear", "error", "spectral_error"]), shares)
def test_the_smallest_rank_that_meets_a_measure(s, name, wanted):
    sign = 1 if name in ("energy", "nuclear") else -1
    values = [sign * (measured(s, k)[name] - wanted) for k in range(1, len(s) + 1)]
    assume(min(map(abs, values)) > 1e-12)  # no tie
    k = RankRule(**{name: wanted}).choose(s)
    assert values[k - 1] > 0
    assert all(value < 0 for value in values[: k - 1])


@given(spectra, shares)
def test_kohyas_rules_under_other_names(s, q):
    assume(len(set(s)) == len(s))
    S = np.array(s)
    last = len(S) - 1  # kohya never keeps the last one
    fro = np.cumsum(S**2) / (S**2).sum()
    cumulative = np.cumsum(S) / S.sum()
    assume(min(np.abs(fro - q**2).min(), np.abs(cumulative - q).min(), np.abs(S / S[0] - q).min()) > 1e-12)
    assert min(RankRule(energy=q**2).choose(s), last) == min(int(np.searchsorted(fro, q**2)) + 1, last)
    assert min(RankRule(nuclear=q).choose(s), last) == min(int(np.searchsorted(cumulative, q)) + 1, last)
    assert RankRule(spectral_error=q).choose(s) == int((S[0] * q < S).sum())


@given(spectra, shares, shares, st.integers(1, 9))
def test_all_measures_are_met_but_rank_is_never_exceeded(s, energy, error, rank):
    both = RankRule(energy=energy, error=error).choose(s)
    assert both == max(RankRule(energy=energy).choose(s), RankRule(error=error).choose(s))
    assert RankRule(energy=energy, error=error, rank=rank).choose(s) == min(both, rank)
    assert RankRule(rank=rank).choose(s) == min(rank, len(s))


def test_edges():
    assert RankRule(energy=1).choose([3.0, 1.0, 0.0]) == 2
    assert RankRule(nuclear=1).choose([3.0, 1.0, 0.0]) == 2
    assert RankRule(error=0).choose([3.0, 1.0, 0.0]) == 2
    assert RankRule(spectral_error=0).choose([3.0, 1.0, 0.0]) == 2
    assert RankRule(spectral_error=0).choose([3.0, 1.0]) == 2
    assert RankRule(spectral_error=0.5).choose([2.0, 1.0]) == 1  # s_{k+1}/s_1 = 0.5 is allowed
    assert RankRule(error=0.9999999).choose([1.0, 1.0]) == 1
    assert [RankRule(energy=0.5).choose([0.0, 0.0]), RankRule(rank=4).choose([0.0, 0.0])] == [1, 2]
    assert RankRule(energy=0.99).choose([1e300, 1e299]) == 1
    assert RankRule(energy=0.5, rank=1).choose([1e-300, 1e-300]) == 1
    assert RankRule(energy=0.9).choose([1e-200, 1e-200]) == 2


@given(spectra)
def test_ranks_lie_between_1_and_the_rank(s):
    for rank in (stable_rank(s), entropy_rank(s)):
        assert 1 - 1e-12 <= rank <= len(s) + 1e-12
    assert stable_rank(s) == pytest.approx(sum(x * x for x in s) / s[0] ** 2)
    p = np.array(s) / sum(s)
    assert entropy_rank(s) == pytest.approx(math.exp(-(p * np.log(p)).sum()))


def test_ranks_of_flat_single_and_vanishing_spectra():
    for rank in (stable_rank, entropy_rank):
        assert rank([2.0] * 4) == pytest.approx(4)
        assert rank([5.0, 0.0]) == pytest.approx(1)
        assert rank([0.0, 0.0]) == 0
        assert rank([1e-200, 1e-200]) == pytest.approx(2)
        assert rank([1e300, 1e300, 1e300]) == pytest.approx(3)


@given(spectra, st.integers(0, 9))
def test_truncation_error_is_the_share_of_the_rest(s, k):
    assert truncation_error(s, k) == pytest.approx(measured(s, min(k, len(s)))["error"])
    assert truncation_error([0.0, 0.0], k) == 0
    assert truncation_error([1e-200, 1e-200], 1) == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say how far"),
        ({"rank": 0}, "rank = 0 must be at least 1"),
        ({"energy": 0}, r"energy = 0 is a share to keep: it must lie in \(0, 1\]"),
        ({"nuclear": 1.5}, "nuclear = 1.5 is a share"),
        ({"error": 1.0}, r"error = 1 is a relative error: it must lie in \[0, 1\)"),
        ({"error": -0.1}, "error = -0.1"),
        ({"spectral_error": float("nan")}, "spectral_error = nan"),
        ({"energy": float("nan")}, "energy = nan"),
    ],
)
def test_rules_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RankRule(**options)


@pytest.mark.parametrize("options", [{"rank": 1.5}, {"rank": True}, {"energy": "0.5"}, {"error": True}])
def test_what_is_no_number_is_refused(options):
    with pytest.raises(TypeError, match="must be"):
        RankRule(**options)


@pytest.mark.parametrize("sigma", [[1.0, 2.0], [math.nan], [math.inf, 1.0], [1.0, -1.0], []])
def test_what_is_no_spectrum_is_refused(sigma):
    with pytest.raises(ValueError, match="singular values"):
        RankRule(energy=0.5).choose(sigma)
