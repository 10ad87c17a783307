"""What is reported of the methods' curves, from made-up runs."""

import numpy as np
import pytest

from lorakappa.conditioning.tolerances import EPS
from lorakappa.synthetic.engine import Trajectories
from lorakappa.synthetic.experiments.convergence import (
    _at_best,
    _comparisons,
    _quantiles,
    _summary,
    convergence,
    final_logs,
)
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.tuning import Choice, Sweep

SMALL = ProblemSettings(shape=(4, 3), rank=1, seeds=3)


def run_of(diverged_at, seconds):
    diverged_at = np.asarray(diverged_at)
    excess = np.zeros((3, *diverged_at.shape))
    return Trajectories(excess, excess, None, diverged_at, (), seconds)


def test_the_summary_of_a_method():
    variants = tuple(parse_method(f"ilora:lambda={strength}") for strength in (0.1, 1.0, 10.0))
    runs = (
        run_of([[0, -1, -1, -1], [-1, 5, -1, 7], [9, 9, 9, 9]], 1.0),
        run_of([[-1, -1, -1, -1], [-1, -1, 0, -1], [9, 9, -1, 9]], 2.0),
        run_of([[-1, -1, -1, -1], [-1, -1, -1, -1], [-1, -1, -1, -1]], 1.0),
    )
    one = Sweep(parse_method("ilora"), variants, runs, np.zeros((3, 3, 4)))
    choice = Choice(np.array([0, 1, 1, 0]), np.array([1, 1, 1, 1]))
    curves = np.array([[8.0, 8, 8, 8], [16.0, 16, 16, 16], [1.0, 2.0, 4.0, np.inf]])
    line = _summary(one, choice, np.array([0.01, 0.02, 0.04]), curves)
    assert line["method"] == "ilora"
    assert line["step_size"] == [0.02]
    assert line["lambda"] == [0.1, 1.0]
    assert (line["best_at_edge_of_grid"], line["best_lambda_at_edge"]) == (False, True)
    assert line["final_median"] == 3
    assert line["final_quartiles"] == [1, 4]
    assert line["diverged"] == 7 + 4
    assert line["diverged_at_best"] == 2  # the third problem at λ = 1 and the fourth at λ = 0.1
    assert line["trajectories"] == 36
    assert line["seconds"] == 4
    assert line["trajectories_per_second"] == 9


def test_quartiles_are_data_points():
    assert _quantiles(np.array([5.0, 1.0, np.inf, 3.0, 2.0, 4.0, np.inf, np.inf])) == (2, np.inf)
    assert _quantiles(np.array([1.0, 2.0, 3.0, np.inf])) == (1, 3)


def test_final_logs_count_divergence_and_rounding_from_the_start():
    curves = np.array([[100.0, 100.0, 100.0], [1.0, 1.0, 1.0], [1e-3, np.inf, 0.0]])
    np.testing.assert_allclose(final_logs(curves), [-3, 8, 2 + 2 * np.log10(EPS)])


def test_comparisons_are_with_the_first_method():
    curves = np.ones((3, 3, 4))  # (T + 1, methods, seeds)
    curves[0] = 10.0
    curves[-1, 0] = 1e-2, 1e-2, 1e-2, np.inf
    curves[-1, 1] = 1e-3, 1e-4, 1e-5, np.inf
    curves[-1, 2] = 1e-1, np.inf, np.inf, 1e-1
    first, second = _comparisons(["a", "b", "c"], curves, 0)
    assert (first["baseline"], first["method"], first["diverged"]) == ("a", "b", [1, 1])
    assert (second["baseline"], second["method"], second["diverged"]) == ("a", "c", [1, 2])
    assert first["log10_gain"]["median"] == pytest.approx(1.5)  # of 1, 2, 3, 0
    assert second["log10_gain"]["median"] == pytest.approx(-5)  # of −1, −9, −9, 8
    assert first["log10_gain"]["wins"] == 3


def test_each_method_and_seed_is_shown_at_its_own_step_size():
    values = np.arange(2 * 2 * 3 * 2.0).reshape(2, 2, 3, 2)  # (T + 1, methods, step sizes, seeds)
    np.testing.assert_array_equal(
        _at_best(values, np.array([[0, 2], [1, 1]])),
        [[[values[t, m, [[0, 2], [1, 1]][m][i], i] for i in range(2)] for m in range(2)] for t in range(2)],
    )


def test_arrays_of_an_mlp_and_of_one_step():
    result = convergence(SMALL, methods=("lora",), steps=1, step_sizes="0.01:0.1:2")
    assert result.arrays["excess"].shape == (2, 1, 2, 3)
    assert result.arrays["diverged_at"].shape == (1, 2, 3)
    assert (result.arrays["f_star"] > 0).all()
    np.testing.assert_allclose(result.arrays["scores"][0], np.log10(result.arrays["excess"][-1, 0]))
    nothing_left = convergence(
        ProblemSettings(shape=(4, 3), rank=1, seeds=3, loss="mlp"), steps=1, step_sizes="1e-3:1e-3:1"
    )
    assert (nothing_left.arrays["f_star"] == 0).all()
    assert nothing_left.arrays["f_star"].shape == (3,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ()}, "one or more different names"),
        ({"methods": ("lora", "lora")}, "one or more different names"),
        ({"tune": "luck"}, "unknown tuning"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        convergence(SMALL, **changes)
