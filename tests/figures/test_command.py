"""`python -m figures`: what it writes, and one clear line when it cannot."""

import dataclasses
import shutil
import sys
import warnings

import numpy as np
import pytest

from lorakappa.figures import FIGURES
from lorakappa.figures.command import app
from lorakappa.shared.command_line import run as run_app
from tests.figures.samples import rates, ratios, save


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the command line; returns exit code, stdout and stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["figures", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run_app(app)
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run


def test_all_is_every_figure_whose_data_is_there(call, tmp_path):
    save(rates(), tmp_path)
    for names in ([], ["rates", "all"]):
        target = tmp_path / "-".join(["to", *names])
        code, out, err = call(*names, "--from", tmp_path, "--out", target, "--format", "png, svg")
        assert (code, err) == (0, "")
        assert sorted(path.name for path in target.iterdir()) == ["rates.png", "rates.svg"]
        assert out.split() == [str(target / "rates.png"), str(target / "rates.svg")]


def test_what_data_makes_matplotlib_warn_of_is_said_in_a_line(call, tmp_path):
    nothing_left = dataclasses.replace(ratios(), arrays={**ratios().arrays, "log10": np.full((2, 5, 4), -400.0)})
    save(nothing_left, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, out, err = call("ratios", "--from", tmp_path, "--out", tmp_path)
    assert (code, out.strip()) == (0, str(tmp_path / "ratios.png"))
    assert err == "drawn, but: Data has no positive values, and therefore cannot be log-scaled.\n"


def test_several_names(call, data, tmp_path):
    assert call("bound-tightness", "phase", "--from", data, "--out", tmp_path)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bound-tightness.png", "phase.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "unknown figure 'nonsense'; choose from manifold, kappa-histogram"),
        (["phase", "--format", "gif"], "unknown format 'gif'; choose from png, svg, pdf"),
        (["phase", "--format", ","], "no format given"),
        (["phase", "--speed", "9"], "No such option"),
    ],
)
def test_bad_usage_is_one_line_and_writes_nothing(call, data, tmp_path, arguments, message):
    code, out, err = call(*arguments, "--from", data, "--out", tmp_path / "to")
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("name", FIGURES)
def test_missing_data_says_what_makes_it(call, tmp_path, name):
    code, _, err = call(name, "--from", tmp_path, "--out", tmp_path / "to")
    kind = FIGURES[name]
    needed = f"{kind.data}.npz and {kind.data}.json" if kind.arrays else f"{kind.data}.json"
    commands = {
        "audit": f"lorakappa llm audit ADAPTER --json {tmp_path}/audit.json",
        "curvature": f"lorakappa llm curvature ADAPTER --out {tmp_path}",
        "llm-compare": f"lorakappa llm compare --out {tmp_path}",
        "benchmarks": "make bench",
        "study": f"lorakappa llm report STUDY --json {tmp_path}/study.json",
    }
    command = commands.get(kind.data, f"lorakappa synthetic {kind.data} --out {tmp_path}")
    assert code == 2
    assert err == f"error: {name} needs {needed} in {tmp_path}: run {command}\n"
    assert not (tmp_path / "to").exists()


def test_no_data_at_all(call, tmp_path):
    code, _, err = call("--from", tmp_path)
    assert code == 2
    assert "no data for any figure" in err


def test_one_missing_figure_stops_the_others_too(call, data, tmp_path):
    shutil.copy(data / "phase.npz", tmp_path)
    shutil.copy(data / "phase.json", tmp_path)
    assert call("phase", "rates", "--from", tmp_path, "--out", tmp_path / "to")[0] == 2
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        ("npz", b"not an archive", "rates.npz is not an .npz archive of arrays"),
        ("npz", None, "rates.npz has no array 'kappa'"),
        ("json", b"{", "rates.json is not JSON"),
        ("json", b"[]", "rates.json holds no description"),
        ("json", b"{}", "rates.json is not a description of rates that figures can show: settings: field required"),
    ],
)
def test_broken_data_is_one_line(call, tmp_path, suffix, content, message):
    saved = rates()
    if content is None:
        del saved.arrays["kappa"]
    save(saved, tmp_path)
    if content is not None:
        (tmp_path / f"rates.{suffix}").write_bytes(content)
    code, _, err = call("rates", "--from", tmp_path, "--out", tmp_path / "to")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "to").exists()


def test_an_unwritable_folder_leaves_nothing_behind(call, data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = call("phase", "--from", data, "--out", tmp_path / "file")
    assert code == 2
    assert err.startswith("error: cannot write into ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (tmp_path / "to" / "phase.svg").mkdir(parents=True)
    code, _, err = call("phase", "--from", data, "--out", tmp_path / "to", "--format", "png,svg")
    assert code == 2
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["phase.svg"]
