"""How λ and step sizes are chosen and what is said about the choice, on scores and runs made up by hand."""

import numpy as np
import pytest

from lorakappa.conditioning.tolerances import EPS
from lorakappa.synthetic.engine import Trajectories
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.tuning import SCREENING, Choice, Sweep, _run_survivors, cells

STRENGTHS = (0.1, 1.0, 10.0)


def made_up(final, scores=None, start=1.0, name="ilora"):
    """A sweep with final f − f* (V, G, n); its other arrays tell which run, step size and problem they are of."""
    final = np.asarray(final, dtype=float)
    V, G, n = final.shape
    runs = []
    for v in range(V):
        excess = np.stack([np.full((G, n), 1.0) * start, final[v]])
        marks = 100.0 * v + 10.0 * np.arange(G)[:, None] + np.arange(n)
        runs.append(Trajectories(excess, excess + marks, None, marks.astype(np.int64), (), 1.0 + v))
    variants = tuple(parse_method(f"ilora:lambda={STRENGTHS[v]}") for v in range(V))
    if name == "lora":
        variants = (parse_method("lora"),)
    scores = np.where(np.isfinite(final), np.log10(np.where(final > 0, final, 1)), np.inf) if scores is None else scores
    return Sweep(parse_method(name), variants, tuple(runs), scores)


def test_the_edges_of_a_grid_are_its_first_and_its_last_point():
    ran = made_up(np.ones((3, 4, 2)))
    for step in range(4):
        for variant in range(3):
            choice = Choice(np.array([variant, 1]), np.array([step, 1]))
            assert ran.at_edge(choice) == (step in (0, 3), variant in (0, 2))
    single = made_up(np.ones((1, 1, 2)))
    assert single.at_edge(Choice(np.zeros(2, int), np.zeros(2, int))) == (False, False)  # a grid of one has no edge
    pair = made_up(np.ones((2, 2, 2)))
    assert pair.at_edge(Choice(np.array([1, 1]), np.array([0, 0]))) == (True, True)


def test_strengths_are_named_once_and_ascending():
    ran = made_up(np.ones((3, 2, 3)))
    assert ran.strength(Choice(np.array([2, 0, 2]), np.zeros(3, int))) == [0.1, 10.0]
    assert made_up(np.ones((1, 2, 3)), name="lora").strength(Choice(np.zeros(3, int), np.zeros(3, int))) is None


def test_each_problem_is_shown_at_its_own_strength():
    ran = made_up(np.ones((3, 2, 3)))
    choice = Choice(np.array([2, 0, 1]), np.zeros(3, int))
    np.testing.assert_array_equal(ran.diverged_at(choice), [[200, 1, 102], [210, 11, 112]])
    np.testing.assert_array_equal(ran.imbalance(choice)[0], 1 + ran.diverged_at(choice))
    assert ran.excess(choice).shape == (2, 2, 3)
    assert ran.seconds == 6


def test_some_problems_choose_for_themselves():
    scores = np.full((2, 3, 4), 5.0)
    scores[1, 2, :2] = 1.0
    scores[0, 1, 2:] = 2.0
    ran = made_up(np.ones((2, 3, 4)), scores)
    left, right = ran.choose(problems=slice(0, 2)), ran.choose(problems=slice(2, 4))
    assert (left.variant.tolist(), left.step.tolist()) == ([1, 1], [2, 2])
    assert (right.variant.tolist(), right.step.tolist()) == ([0, 0], [1, 1])


def test_cells_are_consecutive_problems_each_at_its_best():
    final = np.full((2, 2, 6), 1.0)
    final[1, 0, :3] = 1e-3, 1e-2, np.inf  # the best median of the first cell; one seed diverges
    final[0, 1, 3:] = 1e-4, 0.0, 1e-5
    ran = made_up(final, start=100.0)
    grid = np.array([0.5, 0.7])
    first, second = cells(ran, grid, 3)
    np.testing.assert_array_equal(first["final"], [1e-3, 1e-2, np.inf])
    np.testing.assert_allclose(first["log10"], [-3, -2, 8])
    assert (first["best_step_size"], first["best_lambda"], first["edges"]) == (0.5, 1.0, (True, True))
    np.testing.assert_allclose(second["log10"], [-4, 2 + 2 * np.log10(EPS), -5])
    assert (second["best_step_size"], second["best_lambda"]) == (0.7, 0.1)


def test_a_cell_without_a_finite_median_anywhere_is_none():
    inf = np.inf
    final = np.array([[[1.0, inf, inf, 1.0], [1.0, inf, inf, inf], [inf, inf, 1.0, 1.0]]])
    hopeless = [found is None for found in cells(made_up(final), np.array([1.0, 2.0, 3.0]), 2)]
    assert hopeless == [True, False]
    # every step size has a finite seed, none a finite median
    final = np.array([[[1.0, inf, inf], [inf, 1.0, inf], [inf, inf, 1.0]]])
    assert list(cells(made_up(final), np.array([1.0, 2.0, 3.0]), 3)) == [None]
    # one step size at which most seeds diverge, one at which none does
    final = np.array([[[inf, inf, 1.0], [1.0, 2.0, 3.0]]])
    (found,) = cells(made_up(final), np.array([1.0, 2.0]), 3)
    assert found["best_step_size"] == 2.0
    (found,) = cells(made_up(np.ones((1, 2, 1)), name="lora"), np.array([1.0, 2.0]), 1)
    assert np.isnan(found["best_lambda"])


def recorded(alive):
    """A stand-in for simulation: step size i survives if alive[i], else it diverges at step 3; and what was asked."""
    asked = []

    def run(method, gammas, steps):
        asked.append((len(gammas), steps))
        lives = np.asarray(alive)[np.asarray(gammas).astype(int)]
        excess = np.ones((steps + 1, len(gammas), 2)) * np.arange(steps + 1)[:, None, None]
        excess[3:, ~lives] = np.inf
        diverged_at = np.where(lives, -1, 3)[:, None] * np.ones((1, 2), int)
        factors = (np.full((len(gammas), 2, 1, 1), float(steps)),)
        return Trajectories(excess, 2 * excess, None, diverged_at, factors, 1.5)

    return run, asked


@pytest.mark.parametrize(
    ("alive", "steps", "calls"),
    [
        ([True, False, False, False], 2 * SCREENING, [(4, 20)]),  # too short to be worth it
        ([True, False, False, False], 2 * SCREENING + 1, [(4, 10), (1, 21)]),
        ([True, True, True, True], 40, [(4, 10), (4, 40)]),
        ([True, True, True, False], 100, [(4, 10), (3, 100)]),
        ([True, True, True, False], 39, [(4, 10), (4, 39)]),  # a quarter of 39 steps is less than the screening cost
        ([True, True, True, False], 40, [(4, 10), (3, 40)]),
        ([False, False, False, False], 40, [(4, 10)]),
    ],
)
def test_screening_runs_only_survivors_and_changes_nothing(alive, steps, calls):
    run, asked = recorded(alive)
    grid = np.arange(4.0)
    found = _run_survivors(None, grid, steps, run)
    assert asked == calls
    whole = run(None, grid, steps)
    for name in ("excess", "imbalance", "diverged_at"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
    lives = np.asarray(alive)
    assert (found.factors[0][lives] == steps).all()
    if len(calls) == 2 and calls[1][0] < 4:
        assert (found.factors[0][~lives] == 10).all()
        assert found.seconds == 3.0


@pytest.mark.parametrize("variants", [1, 2])
def test_smaller_strengths_are_advised_where_there_are_several(variants):
    with pytest.raises(ValueError, match=r"^ilora: all step sizes diverge") as raised:
        made_up(np.full((variants, 2, 3), np.inf)).choose()
    assert str(raised.value).endswith("or smaller λ (--lambdas)") == (variants > 1)
