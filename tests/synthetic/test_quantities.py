"""What is measured of a run beside its final loss, against runs and pairs that are made up."""

from dataclasses import replace

import numpy as np
import pytest

from lorakappa.conditioning.imbalance_regularization import trained_penalty_step
from lorakappa.synthetic.arms.arm import Arm
from lorakappa.synthetic.arms.quantities import relative_defect, window
from lorakappa.synthetic.arms.simulating import choose, measure
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.problems import make_problems
from lorakappa.synthetic.settings import ProblemSettings

SMALL = ProblemSettings(shape=(5, 4), rank=2)


@pytest.mark.parametrize("loss", ["one-layer", "two-layer"])
def test_quantities_are_of_the_run_that_is_best_for_the_loss(loss):
    """The same run made by hand, with a map that is kept."""
    settings = replace(SMALL, loss=loss)
    final = Arm(settings, "gd", "ilora:trained=yes", steps=15, step_sizes="auto:7", strengths=(0.05, 0.1))
    choice = choose(final, seed=2, count=5)
    problems = make_problems(replace(settings, seeds=4, seed=3))
    method = parse_method(f"ilora:trained=yes,lambda={choice.strength}")
    kept = method.new_map(problems.loss)

    def run(method, step_sizes):
        return simulate(problems.loss, problems.start, method=method, step_sizes=step_sizes, steps=15)

    factors = run(replace(method, new_map=lambda _: kept), [choice.step_size]).factors
    excess = run(method, choice.grid).excess
    with np.errstate(divide="ignore"):
        wide = window(np.asarray(choice.grid), np.where(np.isfinite(excess[-1]), np.log10(excess[-1]), np.inf))
    sizes = [A.shape[-2] for A in factors[::2]]
    wanted = {
        "ratio": [np.exp(logs[0]) * a / 2 for logs, a in zip(kept.log_ratios, sizes, strict=True)],
        "defect": [relative_defect(A[0], B[0]) for A, B in zip(factors[::2], factors[1::2], strict=True)],
        "window": [wide],
    }
    for quantity, values in wanted.items():
        arm = replace(final, quantity=quantity, batches=2)
        assert arm.chooser == final
        assert arm.rows == len(values)
        found = measure(arm, choose(arm, seed=2, count=5), seed=3, count=4)
        np.testing.assert_allclose(found.values, values, rtol=1e-12)
        lost = int((~np.isfinite(excess[-1, choice.place[1]])).sum())
        assert found.diverged == (0 if quantity == "window" else lost)


def test_a_window_is_the_share_of_the_grid_within_a_decade_of_the_best():
    grid = 10.0 ** np.arange(5.0)
    logs = np.array([[0.0, -4, 0, 0, 0], [-0.5, -0.5, 9, np.inf, 0], [5.0, 4, 3, -9, np.inf]]).T
    widths = window(grid, logs)
    # seed 0 rises by 4 a decade on both sides; seed 1 by 9.5 on one side only, and comes back within reach at the end
    assert widths[0] == pytest.approx(2 * 1 / 4, abs=0.03)
    assert widths[1] == pytest.approx(1 + 1 / 9.5 + 1.5 / 101.5 / 1.5, abs=0.04)
    assert 0 < widths[2] < 0.12
    assert window(grid, np.full((5, 1), np.inf)).tolist() == [0.0]


@pytest.mark.parametrize("defect", [0.0, 0.05, 0.4])
def test_the_defect_of_a_ratio(defect):
    """BBᵀ = (1 + 2δ/(1 − δ))·(r/m)AᵀA has the relative defect δ."""
    A, B = np.zeros((3, 8, 2)), np.zeros((3, 2, 3))
    A[:, :2] = 2 * np.eye(2)  # (r/m)AᵀA = I
    B[:, :, :2] = np.sqrt((1 + defect) / (1 - defect)) * np.eye(2)
    np.testing.assert_allclose(relative_defect(A, B), defect, atol=1e-15)


def test_a_trained_ratio_is_kept_layer_by_layer():
    rng = np.random.default_rng(0)
    pairs = [rng.standard_normal(shape) for shape in ((5, 2), (2, 4), (4, 2), (2, 3))]
    step = parse_method("ilora:trained=yes,lambda=0.5").new_map()
    step(tuple(pairs), np.array(0.1))
    for layer, rows in enumerate((5, 4)):
        log_ratio = trained_penalty_step(*pairs[2 * layer : 2 * layer + 2], step=0.05, log_ratio=np.log(2 / rows))[2]
        np.testing.assert_allclose(step.log_ratios[layer], log_ratio)
