"""The claims on ill-conditioned data: each rule decides as stated, and what is far beyond doubt comes out so."""

import numpy as np
import pytest

from lorakappa.conditioning.factors import change_gauge
from lorakappa.conditioning.weighted import optimal_gauge_of_pair, weighted_hessian
from lorakappa.synthetic.claims import CLAIMS, data_gauges
from lorakappa.synthetic.claims.data_gauges import smallest_trace, trace
from lorakappa.synthetic.problems import make_problems
from lorakappa.synthetic.settings import ProblemSettings


def test_traces_are_those_of_the_hessian_now_and_in_the_best_gauge():
    problems = make_problems(
        ProblemSettings(loss="weighted", shape=(5, 4), rank=2, seeds=2, start="gaussian", weights=(3.0, 20.0))
    )
    loss, (A, B) = problems.loss, problems.start
    found = trace(loss, (A, B)), smallest_trace(loss, (A, B))
    for i in range(2):
        T = optimal_gauge_of_pair(A[i], B[i], C=loss.C[i], D=loss.D[i]).T
        for given, pair in zip(found, ((A[i], B[i]), change_gauge(A[i], B[i], T)), strict=True):
            H = weighted_hessian(*pair, A[i] @ B[i], loss.C[i], loss.D[i])
            assert given[i] == pytest.approx(np.trace(H))


@pytest.mark.parametrize(
    ("fisher", "verdict"), [([0.2] * 8, "holds"), ([0.6] * 8, "not seen"), ([0.2] * 3 + [np.nan] * 5, "inconclusive")]
)
def test_the_fisher_gauge_has_to_halve_the_excess(monkeypatch, fisher, verdict):
    monkeypatch.setattr(
        data_gauges,
        "_trace_excess",
        lambda problems, method, seed: np.asarray([1.0] * 8 if method == "balora" else fisher),
    )
    found = CLAIMS["fisher-gauge-finds-the-data"].measure(8, 1)
    assert found.verdict == verdict
    low = 0.0 if np.isnan(fisher[-1]) else -np.log10(fisher[0])
    assert found.worst_margin == pytest.approx(low - np.log10(2))


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [((1.05, 0.95), "holds"), ((1.05, 1.2), "not seen"), ((0.8, 1.0), "not seen")],
)
def test_a_floor_is_the_predicted_one_within_a_tenth(monkeypatch, ratios, verdict):
    floors = {
        name: (np.full(8, 2 * ratio), np.full(8, 2.0))
        for name, ratio in zip(("balora", "balora-data"), ratios, strict=True)
    }
    monkeypatch.setattr(data_gauges, "noise_floors", lambda trials, seed: floors)
    found = CLAIMS["sgd-noise-floor-measured"].measure(8, 1)
    assert found.verdict == verdict
    assert found.worst_margin == pytest.approx(0.1 - max(abs(ratio - 1) for ratio in ratios))
    lowest = CLAIMS["sgd-noise-floor-lowest"].measure(8, 1)
    assert lowest.evidence["median"] == pytest.approx(np.log10(ratios[0] / ratios[1]))
    assert lowest.evidence["predicted"] == 0.0


def test_what_is_far_beyond_doubt_comes_out_with_few_seeds():
    for id, trials in (("fisher-gauge-finds-the-data", 12), ("sgd-noise-floor-lowest", 7)):
        assert CLAIMS[id].examine(trials=trials, seed=2).verdict == "holds"


def test_floors_are_where_theory_has_them_and_their_notes_count_from_1():
    for measured, predicted in data_gauges.noise_floors(7, 2).values():
        np.testing.assert_allclose(measured, predicted, rtol=0.25)
    found = CLAIMS["sgd-noise-floor-measured"].measure(7, 2)
    assert (
        f"balora {1 + found.evidence['balora']['median']:.3f} [{1 + found.evidence['balora']['interval'][0]:.3f}"
        in found.note
    )
