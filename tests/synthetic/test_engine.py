"""The batched simulator against plain loops, torch and what it promises about divergence."""

import numpy as np
import pytest
import torch

from lorakappa.conditioning.projection import balance
from lorakappa.shared.methods import VOCABULARY, Description
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR, simulate
from lorakappa.synthetic.methods import PARTS, Method, parse_method
from lorakappa.synthetic.optimizers import MatchedGradientDescent
from lorakappa.synthetic.problems import make_problems
from lorakappa.synthetic.settings import ProblemSettings

SMALL = ProblemSettings(shape=(6, 5), rank=2, seeds=3, start="gaussian", init_std=0.5)
GAMMAS = np.array([0.01, 0.03, 0.05])


def plain_loop(Z, A, B, r, gamma, steps, optimizer, balanced):
    """One trajectory of ½‖Z − AB‖², written independently of the engine."""
    f_star = (np.linalg.svd(Z, compute_uv=False)[r:] ** 2).sum() / 2
    theta = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(x)) for x in (A, B)])
    adam = torch.optim.Adam(theta, lr=gamma)
    target = torch.tensor(Z)
    curve = []
    for t in range(steps + 1):
        loss = ((target - theta[0] @ theta[1]) ** 2).sum() / 2
        curve.append(loss.item() - f_star)
        if t == steps:
            break
        gradient = torch.autograd.grad(loss, list(theta))
        norm = sum(g.abs().sum() for g in gradient)
        for x, g in zip(theta, gradient, strict=True):
            x.grad = g
        if optimizer == "adam":
            adam.step()
        with torch.no_grad():
            for x, g in zip(theta, gradient, strict=True):
                if optimizer != "adam":
                    x -= gamma * {"gd": g, "sign": g.sign(), "sign-gd": norm * g.sign()}[optimizer]
            if balanced:
                X, Y = balance(theta[0].data.numpy(), theta[1].data.numpy())
                theta[0].copy_(torch.tensor(X))
                theta[1].copy_(torch.tensor(Y))
    return np.array(curve)


@pytest.mark.parametrize("optimizer", ["gd", "sign-gd", "sign", "adam"])
@pytest.mark.parametrize("method", ["lora", "balora"])
def test_batch_equals_single_trajectories(optimizer, method):
    problems = make_problems(SMALL)
    gammas = GAMMAS * (0.1 if optimizer == "sign-gd" else 1)
    run = simulate(problems.loss, problems.start, method=method, optimizer=optimizer, step_sizes=gammas, steps=15)
    for g, gamma in enumerate(gammas):
        for i, Z in enumerate(problems.Z):
            A, B = (x[i] for x in problems.start)
            expected = plain_loop(Z, A, B, SMALL.rank, gamma, 15, optimizer, method == "balora")
            np.testing.assert_allclose(run.excess[:, g, i], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("loss", ["one-layer", "two-layer", "mlp"])
@pytest.mark.parametrize("method", ["lora", "balora-nearest"])
def test_torch_equals_numpy(loss, method):
    problems = make_problems(ProblemSettings(**{**SMALL.meta(), "loss": loss, "seeds": 2}))
    runs = [
        simulate(
            problems.loss, problems.start, method=method, step_sizes=[1e-3, 5e-3], steps=20, record_path=True, device=d
        )
        for d in (None, "cpu")
    ]
    np.testing.assert_allclose(runs[1].excess, runs[0].excess, rtol=1e-9)
    np.testing.assert_allclose(runs[1].imbalance, runs[0].imbalance, atol=1e-9)
    np.testing.assert_allclose(runs[1].path, runs[0].path, rtol=1e-7)
    assert isinstance(runs[1].factors[0], np.ndarray)


def test_curves_decrease_and_balora_stays_balanced():
    problems = make_problems(SMALL)
    run = simulate(problems.loss, problems.start, method="balora", step_sizes=[0.02], steps=30)
    assert (np.diff(run.excess[:, 0], axis=0) < 0).all()
    assert run.imbalance[1:].max() < 1e-12
    assert run.imbalance[0].min() > 0.1


def test_every_k_steps():
    problems = make_problems(SMALL)
    gap = simulate(problems.loss, problems.start, method="balora@5", step_sizes=[0.02], steps=11).imbalance[:, 0, 0]
    balanced = gap < 1e-9
    assert balanced.nonzero()[0].tolist() == [5, 10]


def test_a_diverged_trajectory_is_frozen_flagged_and_alone():
    problems = make_problems(SMALL)
    for method in ("lora", "balora"):
        both = simulate(problems.loss, problems.start, method=method, step_sizes=[0.02, 50.0], steps=12)
        alone = simulate(problems.loss, problems.start, method=method, step_sizes=[0.02], steps=12)
        np.testing.assert_array_equal(both.excess[:, :1], alone.excess)
        assert (both.diverged_at[0] == -1).all()
        assert not np.isnan(both.excess).any()
        assert not np.isnan(both.imbalance).any()
        for i, t in enumerate(both.diverged_at[1]):
            assert 1 <= t <= 12
            assert np.isinf(both.excess[t:, 1, i]).all()
            assert (both.excess[:t, 1, i] <= DIVERGENCE_FACTOR * both.excess[0, 1, i]).all()
        assert all(np.isfinite(x).all() for x in both.factors)


@pytest.mark.parametrize("gamma", [1e60, 1e200, 1e308])
def test_overflow_is_divergence(gamma):
    problems = make_problems(SMALL)
    for method in ("lora", "balora"):
        run = simulate(problems.loss, problems.start, method=method, optimizer="sign-gd", step_sizes=[gamma], steps=3)
        assert (run.diverged_at == 1).all()


def test_same_starts_for_every_method_and_more_seeds():
    few, many = make_problems(SMALL), make_problems(ProblemSettings(**{**SMALL.meta(), "seeds": 5}))
    np.testing.assert_array_equal(many.Z[:3], few.Z)
    np.testing.assert_array_equal(many.start[0][:3], few.start[0])
    assert not np.allclose(few.Z[0], few.Z[1])
    runs = [simulate(few.loss, few.start, method=m, step_sizes=GAMMAS, steps=2) for m in ("lora", "balora")]
    np.testing.assert_array_equal(runs[0].excess[0], runs[1].excess[0])
    assert (runs[0].excess[2] != runs[1].excess[2]).all()


def test_step_sizes_per_seed():
    problems = make_problems(SMALL)
    run = simulate(problems.loss, problems.start, step_sizes=GAMMAS[None], steps=8)
    full = simulate(problems.loss, problems.start, step_sizes=GAMMAS, steps=8)
    for i in range(3):
        np.testing.assert_array_equal(run.excess[:, 0, i], full.excess[:, i, i])


def test_stop_below_stops():
    problems = make_problems(SMALL)
    run = simulate(problems.loss, problems.start, step_sizes=[0.05], steps=500, stop_below=0.5)
    assert run.steps < 500
    assert (run.excess[-1] <= 0.5 * run.excess[0]).all()
    assert (run.excess[-2] > 0.5 * run.excess[0]).any()


def test_matched_lengths_are_met():
    problems = make_problems(SMALL)
    reference = simulate(problems.loss, problems.start, method="balora", step_sizes=[0.01], steps=10, record_path=True)
    matched = MatchedGradientDescent(reference.path)
    run = simulate(problems.loss, problems.start, optimizer=matched, step_sizes=[1.0], steps=10, record_path=True)
    np.testing.assert_allclose(run.path, reference.path, rtol=1e-6)
    assert (run.excess[-1] != reference.excess[-1]).all()


def test_a_rival_is_a_word_and_what_it_does(monkeypatch):
    def new_map(loss):
        return lambda factors, gamma: tuple(0.5 * x for x in factors)

    monkeypatch.setitem(VOCABULARY, "shrink", Description("Shrink", "halves both factors", has_map=True))
    monkeypatch.setitem(PARTS, "shrink", lambda options: {"new_map": new_map})
    problems = make_problems(SMALL)
    run = simulate(problems.loss, problems.start, method="shrink@2", step_sizes=[1e-12], steps=2)
    np.testing.assert_allclose(run.factors[0][0], 0.5 * problems.start[0], rtol=1e-9)
    assert parse_method("shrink@2") == Method("shrink@2", new_map=new_map, every=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "nolora"}, "unknown method 'nolora'"),
        ({"method": "balora@0"}, "positive integer"),
        ({"optimizer": "newton"}, "unknown optimizer"),
        ({"step_sizes": []}, "empty"),
        ({"step_sizes": [-1.0]}, "positive"),
        ({"step_sizes": [np.nan]}, "positive and finite"),
        ({"steps": -1}, "negative"),
        ({"device": "nowhere"}, "not available"),
    ],
)
def test_bad_arguments(change, message):
    problems = make_problems(SMALL)
    arguments = {"step_sizes": [0.1], "steps": 1, **change}
    with pytest.raises(ValueError, match=message):
        simulate(problems.loss, problems.start, **arguments)


def test_no_step_is_a_run_and_too_few_are_not():
    problems = make_problems(SMALL)
    run = simulate(problems.loss, problems.start, step_sizes=GAMMAS, steps=0, record_path=True)
    assert run.steps == 0
    assert run.path.shape == (0, 3, 3)
    np.testing.assert_allclose(run.excess[0], np.tile(problems.loss.evaluate(problems.start)[0], (3, 1)))
