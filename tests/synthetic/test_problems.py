"""Problems, starts, targets and grids of step sizes, each from its definition."""

from dataclasses import replace

import numpy as np
import pytest

from lorakappa.synthetic.problems import make_problems, step_size_grid
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.targets import (
    generators,
    low_rank,
    random_gauge,
    random_matrix,
    spectrum_from_name,
    split_parameter,
    starts,
    targets,
)

SMALL = ProblemSettings(shape=(6, 4), rank=2, seeds=3, seed=5)


def streams():
    """Generators of targets, starts and frozen weights."""
    return generators(5, 3, 3)


def test_one_layer_problems_are_the_targets():
    problems = make_problems(replace(SMALL, scaling=2.0))
    for_targets, for_starts, _ = streams()
    Z = np.stack([rng.standard_normal((6, 4)) for rng in for_targets])
    np.testing.assert_array_equal(problems.Z, Z)
    B = np.stack([(rng.standard_normal((6, 2)), rng.standard_normal((2, 4)))[1] for rng in for_starts])
    np.testing.assert_array_equal(problems.start[0], np.zeros((3, 6, 2)))
    np.testing.assert_array_equal(problems.start[1], B)
    s = np.linalg.svd(Z, compute_uv=False)
    assert problems.parameters == 20
    # a balanced minimizer has ‖A‖² + ‖B‖² = 2(s₁ + s₂)/λ
    assert problems.entry == pytest.approx(np.sqrt(2 * np.median(s[:, 0] + s[:, 1]) / 2 / 20))
    assert problems.gram == pytest.approx(np.median(s[:, 0]) / 2)
    assert problems.loss.scaling == 2.0


def test_two_layer_problems_reach_the_sum_of_frozen_weights_and_updates():
    problems = make_problems(replace(SMALL, loss="two-layer", target="geometric:0.5"))
    for_targets, for_starts, for_frozen = streams()
    first = targets("geometric:0.5", (6, 4), for_targets)
    W1 = np.stack([rng.standard_normal((6, 4)) for rng in for_frozen]) / 2
    W2 = np.stack([rng.standard_normal((4, 4)) for rng in for_frozen]) / 2
    second = targets("geometric:0.5", (4, 4), for_targets)
    starting = starts("lora", (6, 4), 2, for_starts) + starts("lora", (4, 4), 2, for_starts)
    np.testing.assert_allclose(problems.loss.target, (W1 + low_rank(first, 2)) @ (W2 + low_rank(second, 2)))
    np.testing.assert_array_equal(problems.loss.W1, W1)
    np.testing.assert_array_equal(problems.loss.W2, W2)
    for mine, theirs in zip(problems.start, starting, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert problems.parameters == 6 * 2 + 2 * 4 + 4 * 2 + 2 * 4
    assert problems.entry == pytest.approx(np.sqrt(2 * 2 * 1.5 / 36))  # 1 + ½ in either layer
    assert problems.gram == pytest.approx(1)


def test_the_mlp_sees_inputs_that_do_not_saturate_it():
    problems = make_problems(replace(SMALL, loss="mlp"))
    for_targets, _, for_frozen = streams()
    teacher = low_rank(targets("gaussian", (6, 4), for_targets), 2)
    C = np.stack([rng.standard_normal((6, 6)) for rng in for_frozen]) / np.sqrt(6)
    X = np.stack([rng.standard_normal((4, 8)) for rng in for_frozen])
    np.testing.assert_array_equal(problems.loss.C, C)
    for i in range(3):
        scale = np.sqrt(((teacher[i] @ X[i]) ** 2).mean())
        np.testing.assert_allclose(problems.loss.X[i], X[i] / scale)
        np.testing.assert_allclose(problems.loss.z[i], C[i] @ np.tanh(teacher[i] @ X[i] / scale))


def test_weights_have_their_condition_numbers_and_the_size_of_the_identity():
    problems = make_problems(replace(SMALL, loss="weighted", weights=(100.0, 3.0)))
    for M, condition in zip((problems.loss.C, problems.loss.D), (100.0, 3.0), strict=True):
        np.testing.assert_allclose(np.linalg.cond(M), condition, rtol=1e-9)
        np.testing.assert_allclose(np.linalg.norm(M, axis=(1, 2)) ** 2, M.shape[-1])
        steps = np.diff(np.log(np.linalg.svd(M, compute_uv=False)))
        np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1], steps.shape))
    best = low_rank(problems.loss.C @ problems.Z @ problems.loss.D, 2)
    np.testing.assert_allclose(problems.loss.C @ problems.loss.product @ problems.loss.D, best, atol=1e-12)
    s = np.linalg.svd(problems.loss.product, compute_uv=False)
    assert problems.entry == pytest.approx(np.sqrt(2 * np.median(s[:, 0] + s[:, 1]) / 20))
    assert problems.gram == pytest.approx(np.median(s[:, 0]))


def test_crossed_weights_are_strong_in_outputs_where_they_are_weak_in_inputs():
    problems = make_problems(replace(SMALL, loss="weighted", weights=(100.0, 10.0), alignment="crossed"))
    U, _, Vt = np.linalg.svd(problems.Z)
    c, d = U.mT @ problems.loss.C @ U, Vt @ problems.loss.D @ Vt.mT
    for found, slope, ratio in ((c, -1, 100.0), (d, 1, 10.0)):
        diagonal = np.einsum("nii->ni", found)
        np.testing.assert_allclose(found, diagonal[..., None] * np.eye(found.shape[-1]), atol=1e-12)
        assert (slope * np.diff(diagonal) > 0).all()
        np.testing.assert_allclose(diagonal.max(axis=1) / diagonal.min(axis=1), ratio)


def test_equal_weights_are_the_one_layer_loss_in_other_coordinates():
    weighted = make_problems(replace(SMALL, loss="weighted", weights=(1.0, 1.0)))
    plain = make_problems(SMALL)
    for M in (weighted.loss.C, weighted.loss.D):
        np.testing.assert_allclose(M @ M.mT, np.broadcast_to(np.eye(M.shape[-1]), M.shape), atol=1e-14)
    theta = tuple(x + 0.1 for x in plain.start)
    np.testing.assert_allclose(weighted.loss.evaluate(theta)[0], plain.loss.evaluate(theta)[0], rtol=1e-11)
    np.testing.assert_allclose(weighted.loss.smoothness, plain.loss.smoothness, rtol=1e-12)


@pytest.mark.parametrize("weights", [(0.5, 10.0), (10.0, np.nan), (10.0, 1e9)])
def test_condition_numbers_that_weights_cannot_have_are_refused(weights):
    with pytest.raises(ValueError, match=r"condition number of weights must lie in \[1, 1e\+06\]"):
        make_problems(replace(SMALL, loss="weighted", weights=weights))
    with pytest.raises(ValueError, match="unknown alignment 'x'; choose from random, crossed"):
        make_problems(replace(SMALL, loss="weighted", alignment="x"))


def test_weights_belong_to_the_weighted_loss_and_to_what_is_saved_of_it():
    for other in ({"weights": (1.0, 1.0)}, {"alignment": "crossed"}):
        with pytest.raises(ValueError, match="belong to the weighted loss"):
            make_problems(replace(SMALL, **other))
    assert not {"weights", "alignment"} & set(SMALL.meta())
    assert replace(SMALL, loss="weighted").meta()["weights"] == (10.0, 10.0)


@pytest.mark.parametrize("loss", ["two-layer", "mlp"])
def test_the_scaling_belongs_to_the_one_layer_loss(loss):
    make_problems(replace(SMALL, loss=loss))
    for scaling in (0.5, 2.0):
        make_problems(replace(SMALL, scaling=scaling))
        with pytest.raises(ValueError, match="belongs to the one-layer loss"):
            make_problems(replace(SMALL, loss=loss, scaling=scaling))


def test_automatic_grids_span_the_natural_unit_of_each_optimizer():
    problems = make_problems(SMALL)
    L = np.median(2 * np.linalg.norm(problems.Z, 2, axis=(-2, -1)))
    ends = {
        "gd": (1e-2 / L, 10**1.5 / L),
        "sign-gd": (0.1 / (20 * L), 100 / (20 * L)),
        "sign": (1e-3 * problems.entry, 10**0.5 * problems.entry),
        "adam": (1e-3 * problems.entry, 10**0.5 * problems.entry),
    }
    for optimizer, (low, high) in ends.items():
        np.testing.assert_allclose(step_size_grid("auto", problems, optimizer), np.geomspace(low, high, 50))
        np.testing.assert_allclose(step_size_grid("auto:1", problems, optimizer), [low])
        np.testing.assert_allclose(step_size_grid("auto:3", problems, optimizer), np.geomspace(low, high, 3))


@pytest.mark.parametrize(("size", "points"), [(10.0, 9), (0.1, 9), (1.0, 7)])
def test_preconditioned_grids_are_longer_at_the_same_density(size, points):
    """Gram matrices of norm 10 or 1/10 move the natural unit by a decade, up or down."""
    problems = replace(make_problems(SMALL), gram=size)
    L = np.median(2 * np.linalg.norm(problems.Z, 2, axis=(-2, -1)))
    grid = step_size_grid("auto:7", problems, "gd", preconditioned=True)
    np.testing.assert_allclose(grid, np.geomspace(1e-2 * min(size, 1) / L, 10**1.5 * max(size, 1) / L, points))
    grid = step_size_grid("auto:6", problems, "sign-gd", preconditioned=True)
    np.testing.assert_allclose(grid[-1], 100 * max(size, 1) / (20 * L))
    assert len(grid) == (6 if size == 1 else 8)
    np.testing.assert_array_equal(step_size_grid("auto:7", problems, "gd"), step_size_grid("auto:7", problems, "gd"))
    assert len(step_size_grid("auto:7", problems, "gd")) == 7


@pytest.mark.parametrize("spec", ["-1:1:3", "0,1", "1e999"])
def test_step_sizes_that_are_not_positive_and_finite_are_refused(spec):
    with pytest.raises(ValueError, match="step sizes must be"):
        step_size_grid(spec, make_problems(SMALL), "gd")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("geometric", [1, 0.8, 0.64, 0.512]),
        ("geometric:1", [1, 1, 1, 1]),
        ("power-law", [1, 1 / 2, 1 / 3, 1 / 4]),
        ("power-law:0.5", [1, 2**-0.5, 3**-0.5, 0.5]),
        ("power-law:0", [1, 1, 1, 1]),
    ],
)
def test_named_spectra(spec, expected):
    np.testing.assert_allclose(spectrum_from_name(spec, 4), expected)


@pytest.mark.parametrize("spec", ["geometric:1.01", "geometric:-0.5", "power-law:-0.01", "linear:1"])
def test_spectra_with_parameters_out_of_range_are_refused(spec):
    with pytest.raises(ValueError, match=spec):
        spectrum_from_name(spec, 4)


def test_parameters_are_split_from_names():
    assert split_parameter("x") == ("x", None)
    assert split_parameter("x", 3.0) == ("x", 3.0)
    assert split_parameter("x:-2.5", 3.0) == ("x", -2.5)
    for bad in ("x:", "x:y", "x:nan", "x:inf"):
        with pytest.raises(ValueError, match="is not a number"):
            split_parameter(bad)


def test_a_random_matrix_has_its_singular_values_and_haar_bases():
    s = np.array([3.0, 2.0])
    for shape in ((2, 4), (4, 2)):
        M = random_matrix(s, shape, np.random.default_rng(0))
        assert M.shape == shape
        np.testing.assert_allclose(np.linalg.svd(M, compute_uv=False), s)
    # without the signs of R the first entry of Q would never be positive
    tops = [random_matrix(np.array([1.0]), (3, 1), np.random.default_rng(i))[0, 0] for i in range(40)]
    assert 10 < sum(top > 0 for top in tops) < 30
    with pytest.raises(ValueError, match="2 singular values given, but a 3×4 matrix has 3"):
        random_matrix(s, (3, 4), np.random.default_rng(0))


def test_a_random_gauge_has_log_normal_singular_values():
    rng = np.random.default_rng(3)
    values = np.exp(0.5 * rng.standard_normal(3))
    G = random_gauge(3, 0.5, np.random.default_rng(3))
    np.testing.assert_allclose(np.linalg.svd(G, compute_uv=False), np.sort(values)[::-1])


def test_low_rank_approximations_of_a_stack():
    Z = np.stack([np.diag([3.0, 2.0, 1.0]), np.diag([1.0, 2.0, 5.0])])
    np.testing.assert_allclose(low_rank(Z, 2), [np.diag([3, 2, 0]), np.diag([0, 2, 5])], atol=1e-12)


def test_starts_by_their_definition():
    rngs = generators(1, 2, 1)[0]
    drawn = [(0.3 * rng.standard_normal((5, 2)), 0.3 * rng.standard_normal((2, 3))) for rng in rngs]
    A, B = (np.stack(part) for part in zip(*drawn, strict=True))

    def made(spec):
        return starts(spec, (5, 3), 2, generators(1, 2, 1)[0], init_std=0.3)

    for mine, theirs in zip(made("gaussian"), (A, B), strict=True):
        np.testing.assert_allclose(mine, theirs)
    np.testing.assert_array_equal(made("lora")[0], 0)
    np.testing.assert_allclose(made("lora")[1], B)
    X, Y = made("balanced")
    np.testing.assert_allclose(X @ Y, A @ B, atol=1e-12)
    np.testing.assert_allclose(np.swapaxes(X, 1, 2) @ X, Y @ np.swapaxes(Y, 1, 2), atol=1e-12)
    for spec, t in (("imbalanced", 4.0), ("imbalanced:0.5", 0.5)):
        np.testing.assert_allclose(made(spec)[0], t * X)
        np.testing.assert_allclose(made(spec)[1], Y / t)
    for bad in ("imbalanced:0", "imbalanced:-1"):
        with pytest.raises(ValueError, match="the ratio must lie between 1e-50 and 1e\\+50"):
            made(bad)
    for bad in (-1.0, 0.0, np.inf):
        with pytest.raises(ValueError, match="init std must lie between"):
            starts("lora", (5, 3), 2, rngs, init_std=bad)


def test_the_smallest_problems_are_problems():
    assert len(generators(0, 1)[0]) == 1
    assert targets("gaussian", (1, 1), generators(0, 2)[0]).shape == (2, 1, 1)
    with pytest.raises(ValueError, match="0 seeds given"):
        generators(0, 0)
    with pytest.raises(ValueError, match="seed must not be negative"):
        generators(-1, 1)
    with pytest.raises(ValueError, match="the shape must be positive, but is 3×0"):
        targets("gaussian", (3, 0), generators(0, 2)[0])


def test_streams_of_a_seed_are_independent_and_do_not_depend_on_the_number_of_seeds():
    few, many = generators(7, 2, 2), generators(7, 4, 2)
    draws = [[rng.standard_normal() for rng in stream] for stream in few]
    assert [[rng.standard_normal() for rng in stream[:2]] for stream in many] == draws
    assert len({x for stream in draws for x in stream}) == 4


def test_a_file_with_two_arrays_or_of_singular_values(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.eye(2), b=np.eye(2))
    with pytest.raises(ValueError, match="holds 2 arrays; exactly one is needed"):
        targets(str(tmp_path / "two.npz"), (2, 2), generators(0, 1)[0])
    np.save(tmp_path / "s.npy", np.array([2.0, 1.0]))
    Z = targets(str(tmp_path / "s.npy"), (3, 2), generators(0, 2)[0])
    np.testing.assert_allclose(np.linalg.svd(Z, compute_uv=False), [[2, 1], [2, 1]])
