"""Targets, starts, step-size selection, statistics, the experiments' arrays and the command line."""

import json
import sys

import numpy as np
import pytest

from lorakappa.conditioning.manifold import balancing_gap, is_balanced
from lorakappa.conditioning.spectra import condition_number
from lorakappa.shared.command_line import run
from lorakappa.shared.records import read_npz
from lorakappa.synthetic.command import app
from lorakappa.synthetic.experiments.convergence import convergence
from lorakappa.synthetic.experiments.kappa_histogram import kappa_histogram
from lorakappa.synthetic.experiments.phase import phase
from lorakappa.synthetic.problems import make_problems, step_size_grid
from lorakappa.synthetic.selection import best_step, compare, score
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.targets import generators, random_gauge, spectrum_from_name, starts, targets

SMALL = ProblemSettings(shape=(6, 5), rank=2, seeds=4)


@pytest.fixture
def rngs():
    return generators(0, 3)[0]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("geometric:0.5", [1, 0.5, 0.25, 0.125]),
        ("power-law:2", [1, 1 / 4, 1 / 9, 1 / 16]),
    ],
)
def test_targets_have_the_spectrum(rngs, spec, expected):
    Z = targets(spec, (6, 4), rngs)
    assert Z.shape == (3, 6, 4)
    np.testing.assert_allclose(np.linalg.svd(Z, compute_uv=False), np.tile(expected, (3, 1)), rtol=1e-12)
    assert not np.allclose(Z[0], Z[1])


def test_target_files(rngs, tmp_path):
    matrix = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "z.npy", matrix)
    np.savez(tmp_path / "z.npz", z=matrix)
    np.savetxt(tmp_path / "s.txt", [3.0, 2.0, 1.0])
    for name in ("z.npy", "z.npz"):
        np.testing.assert_array_equal(targets(str(tmp_path / name), (4, 3), rngs), np.stack([matrix] * 3))
    s = np.linalg.svd(targets(str(tmp_path / "s.txt"), (4, 3), rngs), compute_uv=False)
    np.testing.assert_allclose(s, [[3, 2, 1]] * 3)
    with pytest.raises(ValueError, match="shape"):
        targets(str(tmp_path / "z.npy"), (3, 3), rngs)
    with pytest.raises(FileNotFoundError):
        targets(str(tmp_path / "missing.npy"), (3, 3), rngs)


@pytest.mark.parametrize("spec", ["cubic", "geometric:x", "geometric:0", "power-law:-1", "linear:2", "geometric:inf"])
def test_bad_spectra(spec):
    with pytest.raises(ValueError, match=spec.split(":", maxsplit=1)[0]):
        spectrum_from_name(spec, 3)


def test_starts(rngs):
    for spec, balanced, zero in (("lora", False, True), ("gaussian", False, False), ("balanced", True, False)):
        A, B = starts(spec, (6, 5), 2, generators(0, 3)[0], init_std=0.1)
        assert (A == 0).all() == zero
        assert is_balanced(A[0], B[0]) == balanced
        assert B.std() < 0.5
    A, B = starts("imbalanced:3", (6, 5), 2, generators(0, 3)[0])
    np.testing.assert_allclose(np.linalg.norm(A[0]) / np.linalg.norm(B[0]), 9, rtol=1e-10)
    with pytest.raises(ValueError, match="unknown start"):
        starts("lora:2", (6, 5), 2, rngs)
    with pytest.raises(ValueError, match="init std"):
        starts("lora", (6, 5), 2, rngs, init_std=0.0)


def test_gauge_spread():
    G = random_gauge(3, 0.0, np.random.default_rng(0))
    np.testing.assert_allclose(G.T @ G, np.eye(3), atol=1e-14)
    assert np.linalg.cond(random_gauge(3, 1.0, np.random.default_rng(0))) > 1.5


def test_grid():
    problems = make_problems(SMALL)
    np.testing.assert_allclose(step_size_grid("1e-3:1e-1:3", problems, "gd"), [1e-3, 1e-2, 1e-1])
    for optimizer in ("gd", "sign-gd", "sign", "adam"):
        grid = step_size_grid("auto", problems, optimizer)
        assert (np.diff(grid) > 0).all()
    for bad, message in (("1:2:0", "empty"), ("1:2", "LO:HI:N"), ("2:1:3", "LO ≤ HI"), ("a:b:c", "LO:HI:N")):
        with pytest.raises(ValueError, match=message):
            step_size_grid(bad, problems, "gd")


def test_scores_and_selection():
    t = np.arange(11.0)
    curves = np.stack([0.5**t, np.where(t < 3, 1.0, 1e-3), np.full(11, np.inf)], axis=1)[:, :, None]
    curves[0] = 1.0
    curves = np.repeat(curves, 2, axis=2)
    assert score(curves, "final").argmin(axis=0).tolist() == [0, 0]  # 2⁻¹⁰ < 1e-3
    assert score(curves, "area").argmin(axis=0).tolist() == [1, 1]
    np.testing.assert_array_equal(score(curves, "threshold", tolerance=0.1)[:, 0], [4, 3, np.inf])
    assert best_step(np.array([[1.0, 5.0, 1.0], [2.0, 2.0, 2.0]])).tolist() == [0, 0, 0]
    assert best_step(np.array([[1.0, 5.0, 1.0], [2.0, 2.0, 2.0]]), "per-seed").tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="all step sizes diverge"):
        best_step(np.full((2, 3), np.inf))
    with pytest.raises(ValueError, match="unknown criterion"):
        score(curves, "best")


def test_comparison():
    sure = compare(np.random.default_rng(0).normal(1.0, 0.1, 12))
    assert sure.interval is not None
    assert 0.8 < sure.interval[0] < sure.median < sure.interval[1] < 1.2
    assert sure.p_value is not None
    assert (sure.p_value < 1e-3, sure.wins, sure.n) == (True, 12, 12)
    none = compare(np.array([-3.0, -2.0, -1.0, -0.5, 0.5, 1.1, 2.1, 3.1]))
    assert none.interval is not None
    assert none.interval[0] < 0 < none.interval[1]
    assert none.p_value is not None
    assert none.p_value > 0.5
    assert compare(np.array([1.0, 1.0, 1.0])).interval == (1.0, 1.0)
    assert compare(np.array([1.0])).interval is None


@pytest.mark.parametrize("loss", ["one-layer", "two-layer", "mlp"])
def test_convergence_is_paired_and_consistent(loss):
    result = convergence(ProblemSettings(**{**SMALL.meta(), "loss": loss}), steps=30, step_sizes="1e-3:1e-1:6")
    arrays = result.arrays
    assert arrays["excess"].shape == (31, 2, 6, 4)
    np.testing.assert_array_equal(arrays["excess"][0, 0], arrays["excess"][0, 1])
    for m in range(2):
        final = np.median(arrays["excess"][-1, m], axis=-1)
        assert final[arrays["best"][m, 0]] == final.min()
        np.testing.assert_array_equal(arrays["curves"][:, m, 2], arrays["excess"][:, m, arrays["best"][m, 2], 2])
    assert not any(np.isnan(value).any() for value in arrays.values())
    expected = np.log10(arrays["curves"][-1, 0] / arrays["curves"][-1, 1])
    assert result.meta["comparisons"][0]["log10_gain"]["median"] == pytest.approx(np.median(expected))


def test_phase_cells_equal_single_runs():
    result = phase(SMALL, decays=(0.5, 0.8), init_stds=(0.1, 0.5, 1.0), steps=15, step_sizes="1e-2:0.5:4")
    assert result.arrays["gain"].shape == (2, 3)
    single = convergence(
        ProblemSettings(**{**SMALL.meta(), "target": "geometric:0.8", "init_std": 0.5}),
        steps=15,
        step_sizes="1e-2:0.5:4",
    )
    np.testing.assert_allclose(result.arrays["final"][1, 1], single.arrays["curves"][-1], rtol=1e-9)
    gain = single.meta["comparisons"][0]["log10_gain"]["median"]
    assert result.arrays["gain"][1, 1] == pytest.approx(gain)


def test_kappa_histogram_lies_above_the_balanced_value():
    result = kappa_histogram(ProblemSettings(shape=(6, 5), rank=2, target="geometric:0.5"), draws=40, limits=10)
    arrays = result.arrays
    assert len(arrays["kappa_limit"]) + result.meta["not_converged"] == 10
    assert len(arrays["kappa_limit"]) >= 8
    for kappa in (arrays["kappa"], arrays["kappa_limit"]):
        assert (kappa >= result.meta["kappa_balanced"] * (1 - 1e-9)).all()
    assert (arrays["lower_corrected"] <= arrays["kappa"] * (1 + 1e-9)).all()
    assert (arrays["kappa"] <= arrays["upper_corrected"] * (1 + 1e-9)).all()


def run_command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["synthetic", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        run(app)
    return stopped.value.code


def test_command_saves_arrays_and_provenance(monkeypatch, tmp_path, capsys):
    small = ("--shape", 5, 4, "--rank", 2, "--seeds", 3, "--seed", 5, "--steps", 5, "--out", tmp_path / "new")
    assert run_command(monkeypatch, "convergence", "--step-sizes", "1e-2:1e-1:3", *small) == 0
    arrays = read_npz(tmp_path / "new" / "convergence.npz")
    described = json.loads((tmp_path / "new" / "convergence.json").read_text())
    assert described["arrays"] == {name: list(value.shape) for name, value in arrays.items()}
    assert described["provenance"]["seed"] == 5
    assert described["settings"]["rank"] == 2
    assert "balora" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convergence", "--methods", "lora,dora"), "unknown method 'dora'"),
        (("convergence", "--methods", ","), "methods must be"),
        (("convergence", "--rank", "9"), "rank r = 9"),
        (("convergence", "--step-sizes", "1:2:0"), "is empty"),
        (("convergence", "--step-sizes", "1e8:1e9:3"), "all step sizes diverge"),
        (("convergence", "--loss", "three-layer"), "unknown loss"),
        (("convergence", "--optimizer", "lion"), "unknown optimizer"),
        (("convergence", "--select", "luck"), "unknown criterion"),
        (("convergence", "--target", "cubic"), "unknown target"),
        (("convergence", "--seeds", "0"), "Input should be greater than or equal to 1"),
        (("convergence", "--steps", "0"), "Input should be greater than or equal to 1"),
        (("phase", "--decays", "0.5,x"), "comma-separated numbers"),
        (("phase", "--methods", "lora"), "two methods"),
        (("phase", "--step-sizes", "1e8:1e9:2"), "all step sizes diverge"),
        (("rates", "--rules", "newton"), "rules must be"),
        (("rates", "--kappa-max", "1.0001", "--instances", "1"), "no instance with κ"),
        (("kappa-histogram", "--draws", "0"), "draws ≥ 1"),
        (("settle", "--step-sizes", "1e8:1e9:2"), "all step sizes diverge"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(monkeypatch, tmp_path, capsys, arguments, message):
    out = tmp_path / "results"
    shape = () if arguments[0] == "rates" else ("--shape", 6, 5)
    rank = () if "--rank" in arguments or arguments[0] == "rates" else ("--rank", 2)
    assert run_command(monkeypatch, *arguments, *shape, *rank, "--out", out) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not out.exists()


def test_unwritable_folder_is_noticed_before_computing(monkeypatch, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr("lorakappa.synthetic.tuning.simulate", lambda *_, **__: pytest.fail("computed"))
    assert run_command(monkeypatch, "convergence", "--out", blocked / "results") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_start_is_unbalanced_and_kappa_of_limits_is_meant(rngs):
    """The default start is the unbalanced LoRA one; otherwise convergence would compare two equal methods."""
    problems = make_problems(SMALL)
    assert balancing_gap(problems.start[0][0], problems.start[1][0]) > 1
    U, s, Vt = np.linalg.svd(problems.Z[0])
    A, B = U[:, :2] * np.sqrt(s[:2]), np.sqrt(s[:2])[:, None] * Vt[:2]
    assert condition_number(3 * A, B / 3, problems.Z[0]) > condition_number(A, B, problems.Z[0])


def test_comparison_with_ties_has_an_interval():
    interval = compare(np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])).interval
    assert interval is not None
    assert np.isfinite(interval).all()


@pytest.mark.parametrize("experiment", [convergence, phase])
def test_experiments_refuse_no_seeds_and_no_steps_by_themselves(experiment):
    with pytest.raises(ValueError, match="0 seeds"):
        experiment(ProblemSettings(shape=(6, 5), rank=2, seeds=0))
    with pytest.raises(ValueError, match="0 steps"):
        experiment(ProblemSettings(shape=(6, 5), rank=2), steps=0)
