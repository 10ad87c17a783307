"""Tuning over λ, and the duel and the ratios on tiny grids."""

import json

import numpy as np
import pytest

from lorakappa.shared.records import read_npz
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.experiments.convergence import convergence
from lorakappa.synthetic.experiments.duel import NOBODY, TIE, duel, judge
from lorakappa.synthetic.experiments.ratios import ratios
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.problems import make_problems, step_size_grid
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.tuning import sweep
from tests.synthetic.test_synthetic_experiments import run_command

SMALL = ProblemSettings(shape=(6, 5), rank=2, seeds=4, init_std=0.3)
GRID = "0.02:2:5"
TINY = {
    "decays": (0.5, 0.8),
    "shapes": ((6, 4), (4, 6)),
    "starts": ("lora", "gaussian"),
    "steps": 25,
    "step_sizes": GRID,
    "strengths": (0.1, 1.0),
}


def swept(name="ilora", strengths=(0.01, 0.3, 1e3), steps=30, grid=None):
    problems = make_problems(SMALL)
    gammas = np.array([0.01, 0.05, 5.0]) if grid is None else grid
    return problems, sweep(
        problems.loss,
        problems.start,
        parse_method(name),
        optimizer="gd",
        step_sizes=gammas,
        steps=steps,
        strengths=strengths,
    )


def test_the_best_pair_of_step_size_and_strength_is_chosen():
    _, ran = swept()
    choice = ran.choose()
    finals = np.stack([np.median(run.excess[-1], axis=-1) for run in ran.runs])
    finals[~np.isfinite(finals)] = np.inf
    v, g = np.unravel_index(finals.argmin(), finals.shape)
    assert choice.variant.tolist() == [v] * 4
    assert choice.step.tolist() == [g] * 4
    assert ran.strength(choice) == [(0.01, 0.3, 1e3)[v]]
    np.testing.assert_array_equal(ran.excess(choice), ran.runs[v].excess)
    np.testing.assert_array_equal(ran.imbalance(choice), ran.runs[v].imbalance)
    np.testing.assert_array_equal(ran.diverged_at(choice), ran.runs[v].diverged_at)


def test_per_seed_tuning_chooses_pairs_per_seed():
    _, ran = swept(strengths=(0.03, 0.3, 1.0), grid=np.geomspace(0.01, 0.5, 8))
    choice = ran.choose("per-seed")
    for i in range(4):
        finals = np.stack([run.excess[-1, :, i] for run in ran.runs])
        assert finals[choice.variant[i], choice.step[i]] == np.min(finals[np.isfinite(finals)])
        np.testing.assert_array_equal(ran.excess(choice)[..., i], ran.runs[choice.variant[i]].excess[..., i])
    some = ran.choose(problems=slice(1, 3))
    assert len(some.step) == 2


def test_edges_of_both_grids_are_noticed():
    _, ran = swept(strengths=(0.01, 0.3, 1e3))
    choice = ran.choose()
    assert ran.at_edge(choice)[0] == (choice.step[0] in (0, 2))
    assert ran.at_edge(choice)[1] == (choice.variant[0] in (0, 2))
    _, plain = swept("lora")
    assert plain.at_edge(plain.choose())[1] is False
    assert plain.strength(plain.choose()) is None


def test_screening_does_not_change_the_outcome():
    gammas = np.array([0.01, 0.05, 5.0, 50.0])
    problems, ran = swept("ilora:lambda=0.3", steps=40, grid=gammas)
    whole = simulate(problems.loss, problems.start, method="ilora:lambda=0.3", step_sizes=gammas, steps=40)
    assert (whole.diverged_at >= 0).any(axis=-1).tolist() == [False, False, True, True]
    for name in ("excess", "imbalance", "diverged_at"):
        np.testing.assert_array_equal(getattr(ran.runs[0], name), getattr(whole, name))
    for mine, theirs in zip(ran.runs[0].factors, whole.factors, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    _, hopeless = swept("ilora:lambda=0.3", steps=40, grid=np.array([50.0, 80.0]))
    with pytest.raises(ValueError, match=r"^ilora:lambda=0.3: all step sizes diverge; try smaller ones \(--step-siz"):
        hopeless.choose()
    _, hopeless = swept("ilora", steps=40, grid=np.array([50.0, 80.0]))
    with pytest.raises(ValueError, match=r"or smaller λ \(--lambdas\)$"):
        hopeless.choose()


def test_convergence_tunes_lambda_and_says_which():
    result = convergence(SMALL, methods=("lora", "ilora"), steps=30, step_sizes=GRID, strengths=(0.03, 0.3, 3.0))
    lora, ilora = result.meta["summary"]
    assert lora["lambda"] is None
    assert (lora["trajectories"], ilora["trajectories"]) == (20, 60)
    (best,) = ilora["lambda"]
    finals = []
    for strength in (0.03, 0.3, 3.0):
        one = convergence(SMALL, methods=("lora", f"ilora:lambda={strength}"), steps=30, step_sizes=GRID)
        finals.append(one.meta["summary"][1]["final_median"])
        if strength == best:
            np.testing.assert_array_equal(one.arrays["curves"], result.arrays["curves"])
    assert ilora["final_median"] == min(finals)


def test_automatic_grids_have_as_many_points_as_asked_and_cover_preconditioned_steps():
    problems = make_problems(ProblemSettings(shape=(6, 5), rank=2))
    plain = step_size_grid("auto:8", problems, "gd")
    assert len(plain) == 8
    np.testing.assert_allclose(plain[[0, -1]], step_size_grid("auto", problems, "gd")[[0, -1]])
    s_1 = np.median(np.linalg.norm(problems.Z, 2, axis=(-2, -1)))
    assert s_1 > 2
    wide = step_size_grid("auto:8", problems, "gd", preconditioned=True)
    np.testing.assert_allclose(wide[[0, -1]], [plain[0], s_1 * plain[-1]])
    assert len(wide) == round(8 * (1 + np.log10(s_1) / 3.5))
    adam = step_size_grid("auto", problems, "adam")
    np.testing.assert_array_equal(step_size_grid("auto", problems, "adam", preconditioned=True), adam)
    for bad in ("auto:0", "auto:x", "auto:"):
        with pytest.raises(ValueError, match=r"step sizes must be \"auto\""):
            step_size_grid(bad, problems, "gd")


def test_cells_of_the_duel_equal_single_runs():
    result = duel(SMALL, methods=("lora", "ilora", "scaled-gd"), **TINY)
    arrays = result.arrays
    assert arrays["winner"].shape == (2, 2, 2)
    settings = ProblemSettings(shape=(4, 6), rank=2, seeds=4, init_std=0.3, target="geometric:0.8", start="gaussian")
    single = convergence(
        settings, methods=("lora", "ilora", "scaled-gd"), steps=25, step_sizes=GRID, strengths=(0.1, 1.0)
    )
    np.testing.assert_allclose(arrays["final"][1, 1, 1], single.arrays["curves"][-1], rtol=1e-8)
    for m, line in enumerate(single.meta["summary"]):
        assert arrays["best_step_size"][1, 1, 1, m] == line["step_size"][0]
    assert arrays["best_lambda"][1, 1, 1, 1] == single.meta["summary"][1]["lambda"][0]
    assert np.isnan(arrays["best_lambda"][1, 1, 1, [0, 2]]).all()
    for m, comparison in enumerate(single.meta["comparisons"], start=1):
        assert arrays["gain"][1, 1, 1, m] == pytest.approx(comparison["log10_gain"]["median"])
        np.testing.assert_allclose(arrays["interval"][1, 1, 1, m], comparison["log10_gain"]["interval"])
    assert sum(result.meta["wins"].values()) + result.meta["ties"] == 8


def test_the_duel_is_deterministic():
    first, second = (duel(SMALL, methods=("lora", "pilora"), **TINY) for _ in "ab")
    for name, value in first.arrays.items():
        np.testing.assert_array_equal(value, second.arrays[name])
    assert first.meta == second.meta


def test_who_wins():
    noise = np.linspace(-0.1, 0.1, 5)
    logs = np.zeros((1, 1, 4, 3, 5))
    logs[0, 0, 0] = [noise, noise - 1, noise - 3]  # the last one, by 2
    logs[0, 0, 1] = [noise, noise - 1, -1 - 3 * noise]  # two that are not told apart
    logs[0, 0, 2] = [noise, noise + 1, np.full(5, np.nan)]  # one diverges
    logs[0, 0, 3] = np.nan
    judged = judge(logs, 0)
    assert judged["winner"][0, 0].tolist() == [2, TIE, 0, NOBODY]
    assert judged["margin"][0, 0, 0, 0] == pytest.approx(2)
    assert judged["margin"][0, 0, 2, 0] == pytest.approx(1)
    np.testing.assert_allclose(judged["gain"][0, 0, 0], [0, 1, 3])
    assert np.isnan(judged["gain"][0, 0, 2, 2])
    assert np.isnan(judged["gain"][0, 0, 3]).all()
    alone = np.full((1, 1, 1, 2, 5), np.nan)
    alone[..., 1, :] = 0.0
    assert judge(alone, 0)["winner"].item() == 1


def test_a_diverged_cell_is_no_result_and_everything_diverged_is_an_error():
    knobs = {**TINY, "shapes": ((6, 4),), "starts": ("lora",), "decays": (0.5,)}
    with pytest.raises(ValueError, match=r"^ilora: all step sizes diverge"):
        duel(SMALL, methods=("lora", "ilora"), **{**knobs, "strengths": (1e9,)})
    knobs = {**knobs, "starts": ("lora", "imbalanced:1000")}
    result = duel(SMALL, methods=("lora", "scaled-gd"), **knobs)
    assert result.meta["at_edge_of_grid"][0]["no_result"] == 1
    assert np.isnan(result.arrays["final"][0, 0, 1, 0]).all()
    assert result.arrays["winner"][0, 0, 1] == 1


def test_ratios_sweep_the_ratio():
    settings = ProblemSettings(rank=2, seeds=4, init_std=0.3, target="geometric:0.6")
    knobs = {"shapes": ((8, 4), (4, 8)), "steps": 25, "step_sizes": GRID, "strengths": (0.1, 1.0)}
    result = ratios(settings, factors=(1.0, 4.0), powers=(0.0, 1.0), **knobs)
    np.testing.assert_allclose(result.arrays["ratio"], [[0.25, 1.0, 1.0, 0.25], [0.5, 2.0, 1.0, 0.5]])
    logs = result.arrays["log10"]
    np.testing.assert_array_equal(logs[:, 0], logs[:, 3])  # c = 1 and p = 1 are the same ratio
    np.testing.assert_array_equal(logs[0, 1], logs[0, 2])  # and so are 4·r/m and (r/m)⁰ for m = 4r
    balanced = convergence(
        ProblemSettings(shape=(8, 4), rank=2, seeds=4, init_std=0.3, target="geometric:0.6"),
        methods=("lora", "ilora-balanced"),
        steps=25,
        step_sizes=GRID,
        strengths=(0.1, 1.0),
    )
    np.testing.assert_allclose(10 ** logs[0, 2], balanced.arrays["curves"][-1, 1], rtol=1e-9)
    np.testing.assert_allclose(result.arrays["final_median"], 10 ** np.median(logs, axis=-1))
    with pytest.raises(ValueError, match=r"^ilora:factor=1\.0: all step sizes diverge"):
        ratios(settings, factors=(1.0,), powers=(1.0,), **{**knobs, "strengths": (1e9,)})


def test_commands_save_and_print(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("lorakappa.figures.names_for", lambda name: [])
    small = (
        "--rank",
        2,
        "--seeds",
        3,
        "--steps",
        10,
        "--step-sizes",
        "auto:3",
        "--lambdas",
        "0.1,1",
        "--out",
        tmp_path,
    )
    shapes = ("--shapes", "5x4,4×5")
    assert run_command(monkeypatch, "duel", "--decays", "0.5", "--starts", "lora", *shapes, *small) == 0
    printed = capsys.readouterr().out
    assert "4×5" in printed
    assert "won: lora" in printed
    described = json.loads((tmp_path / "duel.json").read_text())
    assert described["lambdas"] == [0.1, 1.0]
    assert read_npz(tmp_path / "duel.npz")["shapes"].tolist() == [[5, 4], [4, 5]]
    assert run_command(monkeypatch, "ratios", "--factors", "1,2", "--powers", "0", *shapes, *small) == 0
    assert "ilora:power=0.0" in capsys.readouterr().out
    methods = ("--methods", "lora,ilora:factor=2,power=0.5,lora-plus")
    assert run_command(monkeypatch, "convergence", "--shape", 5, 4, *methods, *small) == 0
    assert "ilora:factor=2,power=0.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convergence", "--methods", "lora,ilora:lambda=0"), "lambda must be finite and > 0"),
        (("convergence", "--methods", "ilora", "--lambdas", "0.1,0"), "lambda must be finite and > 0"),
        (("convergence", "--methods", "ilora", "--lambdas", "x"), "--lambdas must be comma-separated numbers"),
        (("convergence", "--methods", "lora,factor=2"), "belongs to no method"),
        (("convergence", "--methods", "scaled-gd:damping=0"), "pass damping > 0"),
        (("convergence", "--methods", "ilora:lambda=1e9", "--step-sizes", "1:2:3"), "ilora:lambda=1e9: all step sizes"),
        (("duel", "--methods", "lora"), "two or more different methods"),
        (("duel", "--shapes", "20"), "--shapes must be comma-separated like 40x10, not '20'"),
        (("duel", "--starts", ","), "at least one decay, one shape and one start"),
        (("duel", "--starts", "cold"), "unknown start 'cold'"),
        (("duel", "--steps", "0"), "Input should be greater than or equal to 1"),
        (("ratios", "--method", "lora"), "method must be ilora or pilora"),
        (("ratios", "--factors", ","), "at least one factor"),
        (("ratios", "--factors", "0"), "factor must be finite and > 0"),
    ],
)
def test_bad_input_is_one_line(monkeypatch, tmp_path, capsys, arguments, message):
    out = tmp_path / "results"
    assert run_command(monkeypatch, *arguments, "--rank", 2, "--seeds", 3, "--out", out) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not out.exists()


def test_a_duel_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="0 steps"):
        duel(ProblemSettings(), steps=0)


def test_marks_of_cells_without_a_winner_are_those_in_saved_files():
    assert (TIE, NOBODY) == (-1, -2)


def test_edge_hits_are_counted_by_method_and_by_grid(monkeypatch):
    """Made-up outcomes: method m's step size is at an edge in 1 + m cells, its λ in 3 − m."""
    order = iter(("lora", "ilora"))

    def fake(*_):
        name = next(order)
        m = ("lora", "ilora").index(name)
        for cell in range(4):
            if m == 1 and cell == 3:
                yield None
                continue
            values = np.full(4, 10.0 * m + cell)
            edges = (cell < 1 + m, cell < 3 - m)
            yield {"final": values, "log10": -values, "best_step_size": cell, "best_lambda": -cell, "edges": edges}

    monkeypatch.setattr("lorakappa.synthetic.experiments.duel.cells", fake)
    result = duel(SMALL, methods=("lora", "ilora"), **{**TINY, "shapes": ((6, 4),)})
    assert result.meta["at_edge_of_grid"] == [
        {"method": "lora", "step_size": 1, "lambda": 3, "no_result": 0},
        {"method": "ilora", "step_size": 2, "lambda": 2, "no_result": 1},
    ]
    # cells are counted decay by decay, start by start
    np.testing.assert_array_equal(result.arrays["best_step_size"][:, 0, :, 0], [[0, 1], [2, 3]])
    np.testing.assert_array_equal(result.arrays["best_lambda"][:, 0, :, 1], [[0, -1], [-2, np.nan]])
    np.testing.assert_array_equal(result.arrays["final"][1, 0, 0], [[2.0] * 4, [12.0] * 4])
    assert result.meta["wins"] == {"lora": 1, "ilora": 3}
    assert result.meta["ties"] == 0


def test_the_winner_and_its_margin_are_over_the_runner_up():
    noise = np.array([-0.4, -0.1, 0.0, 0.1, 0.4])
    logs = np.zeros((1, 1, 1, 3, 5))
    logs[0, 0, 0] = [np.zeros(5), -0.05 + noise, -1 + noise]
    judged = judge(logs, 3)
    assert judged["winner"].item() == 2
    median, low, high = judged["margin"][0, 0, 0]
    assert median == pytest.approx(0.95)  # over the runner-up, not over the baseline
    assert (low, high) == (pytest.approx(0.95), pytest.approx(0.95))
    low, high = judged["interval"][0, 0, 0, 2]
    assert judged["gain"][0, 0, 0, 2] == pytest.approx(1)
    assert low < 1 < high
    few = judge(logs[..., :2], 3)  # two seeds give no interval: nobody is told apart
    assert few["winner"].item() == TIE
    assert np.isnan(few["interval"]).all()
    assert np.isnan(few["margin"][..., 1:]).all()


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_gains_need_the_baseline_and_nobody_else(lost):
    logs = np.zeros((1, 1, 1, 3, 5)) - np.arange(3.0)[:, None]
    logs[..., lost, :] = np.nan
    gain = judge(logs, 0)["gain"][0, 0, 0]
    np.testing.assert_array_equal(np.isnan(gain), [lost == 0 or m == lost for m in range(3)])
