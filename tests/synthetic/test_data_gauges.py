"""Gauges that data ask for: the maps against their definitions, noise against its covariance, the experiment."""

from dataclasses import replace

import numpy as np
import pytest

from lorakappa.conditioning import fisher_balance, optimal_gauge, weighted_hessian
from lorakappa.synthetic.data_gauges import DataBalancing, FisherBalancing
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.experiments.duel import TIE
from lorakappa.synthetic.experiments.gauges import gauges, noisy, reach
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.noise import NoisyLabels
from lorakappa.synthetic.problems import make_problems, step_size_grid
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.stacked_balance import equalize_stack

SMALL = ProblemSettings(
    loss="weighted", shape=(5, 4), rank=2, seeds=3, seed=1, weights=(10.0, 30.0), start="gaussian", init_std=0.5
)


@pytest.fixture(scope="module")
def problems():
    return make_problems(SMALL)


def test_the_traces_are_those_of_the_hessian(problems):
    loss, (A, B) = problems.loss, problems.start
    H_A, H_B = loss.traces((A, B))
    for i in range(len(A)):
        H = weighted_hessian(A[i], B[i], A[i] @ B[i], loss.C[i], loss.D[i])
        np.testing.assert_allclose(np.einsum("kikj->ij", H[:10, :10].reshape(5, 2, 5, 2)), H_A[i], rtol=1e-10)
        np.testing.assert_allclose(np.einsum("ikjk->ij", H[10:, 10:].reshape(2, 4, 2, 4)), H_B[i], rtol=1e-10)


def test_the_oracle_is_the_optimal_gauge_and_keeps_the_product(problems):
    loss, (A, B) = problems.loss, problems.start
    X, Y = DataBalancing()(loss)((A, B), None)
    np.testing.assert_allclose(X @ Y, A @ B, atol=1e-12)
    for i in range(len(A)):
        H = weighted_hessian(A[i], B[i], A[i] @ B[i], loss.C[i], loss.D[i])
        np.testing.assert_allclose(X[i], A[i] @ optimal_gauge(H, (5, 4, 2)).T, rtol=1e-6, atol=1e-8)


def test_the_oracle_of_the_plain_loss_is_balance_up_to_the_shape():
    plain = make_problems(ProblemSettings(shape=(6, 4), rank=2, seeds=2, start="gaussian"))
    A, B = DataBalancing()(plain.loss)(plain.start, None)
    np.testing.assert_allclose(4 * A.mT @ A, 6 * B @ B.mT, rtol=1e-8)


def test_the_oracle_needs_a_loss_that_knows():
    with pytest.raises(ValueError, match="balora-data needs a loss with known curvature: one-layer or weighted"):
        DataBalancing()(make_problems(ProblemSettings(loss="mlp", shape=(4, 3), rank=1, seeds=1)).loss)


@pytest.mark.parametrize("gauge", ["symmetric", "hyperbalanced", "nearest"])
def test_the_fisher_map_is_fisher_balance_with_moments_carried_along(problems, gauge):
    A, B = problems.start
    rng = np.random.default_rng(3)
    gradients = [(rng.standard_normal(A.shape), 3 * rng.standard_normal(B.shape)) for _ in range(2)]
    fisher = FisherBalancing(damping=0.1, decay=0.7, gauge=gauge)(problems.loss)
    for gradient in gradients:
        fisher.observe(gradient)
    H_A, H_B = (
        0.7 * gram(gradients[0][k]) + 0.3 * gram(gradients[1][k])
        for k, gram in enumerate((lambda g: g.mT @ g, lambda g: g @ g.mT))
    )
    expected = fisher_balance(A, B, H_A, H_B, damping=0.1, gauge=gauge)
    moved = fisher((A, B), None)
    for found, wanted in zip((*moved, *fisher.moments[0]), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7)


def test_every_layer_has_moments_of_its_own():
    problems = make_problems(ProblemSettings(loss="two-layer", shape=(5, 4), rank=2, seeds=2, start="gaussian"))
    gradient = problems.loss.evaluate(problems.start)[1]
    both = FisherBalancing(damping=0.1, decay=0.7)(problems.loss)
    both.observe(gradient)
    moved = both(problems.start, None)
    for layer in (slice(0, 2), slice(2, 4)):
        one = FisherBalancing(damping=0.1, decay=0.7)(problems.loss)
        one.observe(gradient[layer])
        for found, expected in zip(moved[layer], one(problems.start[layer], None), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_pair_without_a_gauge_stays_and_so_do_its_moments(problems):
    A, B = (np.array(x) for x in problems.start)
    A[1] = 0.0
    fisher = FisherBalancing(damping=0.1, decay=0.5)(problems.loss)
    fisher.observe((B.mT[:, [0, 1, 2, 3, 0]], 0 * B))
    H = fisher.moments[0][0].copy()
    X, Y = fisher((A, B), None)
    np.testing.assert_array_equal(X[1], A[1])
    np.testing.assert_array_equal(Y[1], B[1])
    np.testing.assert_array_equal(fisher.moments[0][0][1], H[1])
    assert np.abs(X[0] - A[0]).max() > 1e-3


def test_equal_matrices_ask_for_nothing(problems):
    M = np.broadcast_to(np.diag([2.0, 1.0]), (3, 2, 2))
    _, _, T, T_inverse = equalize_stack(*problems.start, M, M)
    np.testing.assert_allclose(T, np.broadcast_to(np.eye(2), T.shape), atol=1e-14)
    np.testing.assert_allclose(T @ T_inverse, np.broadcast_to(np.eye(2), T.shape), atol=1e-14)


def test_the_noise_has_the_covariance_of_the_curvature():
    problems = make_problems(replace(SMALL, seeds=1))
    A, B = problems.start
    clean = problems.loss.evaluate((A, B))
    run = NoisyLabels(problems.loss, np.asarray([0.5]), 7).afresh()
    draws = []
    for _ in range(20000):
        excess, (g_A, g_B) = run.evaluate((A, B))
        assert excess == clean[0]
        draws.append(np.concatenate([(g_A - clean[1][0]).ravel(), (g_B - clean[1][1]).ravel()]))
    H = weighted_hessian(A[0], B[0], A[0] @ B[0], problems.loss.C[0], problems.loss.D[0])
    # an entry of a sample covariance has a relative error of about (2/20000)^½
    np.testing.assert_allclose(np.cov(np.stack(draws).T, bias=True), 0.25 * H, atol=5 * 0.25 * np.diag(H).max() / 100)


def test_noise_does_not_depend_on_processes_nor_on_other_step_sizes():
    problems = make_problems(replace(SMALL, seeds=2))
    labels = noisy(problems, 0.3, seed=5)
    grid = np.logspace(-4, -2, 150) / problems.loss.smoothness.max()  # more than one block
    both = [simulate(labels, problems.start, step_sizes=grid, steps=6, jobs=n).excess for n in (1, 3)]
    np.testing.assert_array_equal(*both)
    one = simulate(labels, problems.start, step_sizes=grid[-1:], steps=6).excess
    np.testing.assert_array_equal(one[:, 0], both[0][:, -1])
    other = simulate(noisy(problems, 0.3, seed=6), problems.start, step_sizes=grid[-1:], steps=6).excess
    assert (other[-1] != one[-1]).all()


def test_methods_take_their_options():
    map_of = parse_method("balora-fisher:delta=2,decay=0,gauge=nearest").new_map
    assert map_of == FisherBalancing(damping=2.0, decay=0.0, gauge="nearest")
    assert parse_method("balora-fisher").options["decay"] == 0.9


def test_the_experiment_finds_what_each_method_reaches():
    settings = replace(SMALL, alignment="crossed")
    methods = ("lora", "balora-data", "balora-fisher")
    result = gauges(
        settings, methods=methods, conditions_c=(1.0, 10.0), conditions_d=(3.0,), steps=20, step_sizes="auto:5"
    )
    arrays = result.arrays
    assert arrays["final"].shape == (2, 1, 3, 3, 3)
    problems = make_problems(replace(settings, weights=(10.0, 3.0)))
    for k, optimizer in enumerate(("gd", "sgd", "adam")):
        for m, method in enumerate(methods):
            found = reach(problems, method, optimizer, steps=20, step_sizes="auto:5", noise=0.3, seed=1)
            np.testing.assert_array_equal(arrays["final"][1, 0, k, m], found.final)
            assert arrays["best_step_size"][1, 0, k, m] == found.step_size
    gain = np.median(arrays["log10"][..., :1, :] - arrays["log10"], axis=-1)
    np.testing.assert_allclose(arrays["gain"], gain)
    assert "weights" not in result.meta["settings"]
    assert list(result.meta["wins"].values()) == [(arrays["winner"] == m).sum() for m in range(3)]
    assert result.meta["ties"] == (arrays["winner"] == TIE).sum() > 0
    ends = arrays["best_step_size"][..., 1]
    grids = [step_size_grid("auto:5", make_problems(replace(settings, weights=(c, 3.0))), "gd") for c in (1.0, 10.0)]
    at_edge = sum(np.isin(ends[i, 0, :2], grids[i][[0, -1]]).sum() for i in range(2))
    grids = [step_size_grid("auto:5", make_problems(replace(settings, weights=(c, 3.0))), "adam") for c in (1.0, 10.0)]
    at_edge += sum(np.isin(ends[i, 0, 2], grids[i][[0, -1]]).sum() for i in range(2))
    assert result.meta["at_edge_of_grid"]["balora-data"] == at_edge


def test_with_noise_the_last_fifth_of_the_steps_is_averaged():
    problems = make_problems(replace(SMALL, seeds=2))
    one = reach(problems, "lora", "sgd", steps=3, step_sizes="0.001", noise=0.3, seed=1)
    last = simulate(noisy(problems, 0.3, 1), problems.start, step_sizes=[0.001], steps=3).excess[-1, 0]
    np.testing.assert_array_equal(one.final, last)
    found = reach(problems, "lora", "sgd", steps=10, step_sizes="0.001", noise=0.3, seed=1)
    run = simulate(noisy(problems, 0.3, 1), problems.start, step_sizes=[0.001], steps=10)
    np.testing.assert_allclose(found.final, run.excess[-2:, 0].mean(axis=0))
    assert reach(problems, "lora", "gd", steps=30, step_sizes="1000", noise=0.3, seed=1) is None


def test_a_seed_that_diverges_counts_as_a_million_times_its_start():
    problems = make_problems(replace(SMALL, seeds=3))
    start = (problems.start[0], problems.start[1] * np.asarray([1.0, 1.0, 300.0])[:, None, None])
    problems = replace(problems, start=start)
    found = reach(problems, "lora", "gd", steps=15, step_sizes="0.001", noise=0.3, seed=1)
    assert np.isfinite(found.final).tolist() == [True, True, False]
    assert found.log10[2] == pytest.approx(6 + np.log10(problems.loss.evaluate(start)[0][2]))
    np.testing.assert_allclose(found.log10[:2], np.log10(found.final[:2]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizers": ["sign"]}, "unknown optimizer 'sign'; choose from gd, sgd, adam"),
        ({"methods": ["lora"]}, "two or more different methods"),
        ({"conditions_c": []}, "at least one condition number"),
        ({"conditions_c": [0.5]}, "condition number of weights must lie"),
        ({"noise": 0.0}, "the noise must be positive"),
        ({"steps": 0}, "at least 1 is needed"),
        ({"methods": ["lora", "lora+"]}, "unknown method"),
        ({"step_sizes": "x"}, "step sizes must be"),
    ],
)
def test_bad_knobs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        gauges(SMALL, **change)


def test_only_the_weighted_loss_has_weights():
    with pytest.raises(ValueError, match="gauges uses the weighted loss"):
        gauges(ProblemSettings())
