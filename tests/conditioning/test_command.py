"""The command line as a user meets it: tables, files, exit codes, one-line errors."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.verification import report


def run(*arguments, cwd=None):
    command = [sys.executable, "-m", "conditioning", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def assert_one_line_error(result, fragment):
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert fragment in result.stderr
    assert result.stdout == ""


def test_list_names_every_claim():
    result = run("list")
    assert result.returncode == 0
    for id in CLAIMS:
        assert id in result.stdout


def test_verify_prints_a_table_and_writes_json(tmp_path):
    file = tmp_path / "new" / "verdicts.json"
    result = run("verify", "model1-lower-bound-full-rank", "model1-smoothness", "--trials", "60", "--json", str(file))
    assert result.returncode == 0, result.stderr
    assert "1 holds, 1 refuted; all as recorded" in result.stdout
    first, second = json.loads(file.read_text())
    for entry in (first, second):
        assert set(entry) >= {
            "id", "statement", "source", "domain", "verdict", "trials", "seed", "worst_margin", "counterexample",
            "certified", "corrected_by",
        }  # fmt: skip
        assert entry["provenance"]["versions"]["numpy"] == np.__version__
        assert entry["provenance"]["command"].startswith("python -m conditioning verify model1-lower-bound-full-rank")
    assert first["verdict"] == "refuted"
    assert first["certified"] is True
    assert first["corrected_by"] == "model1-bounds-corrected-lower"
    assert first["counterexample"]["shape"] == {"a": 1, "b": 1, "r": 1}
    assert second["counterexample"] is None
    assert list(file.parent.iterdir()) == [file]  # no temporary left behind

    replayed = run("replay", "model1-lower-bound-full-rank", "--from", str(file))
    assert replayed.returncode == 0
    assert "left >= right: violated" in replayed.stdout
    assert f"κ = {first['counterexample']['left']}" in replayed.stdout


def test_replay_of_an_equality_that_violates_a_strict_claim_says_so():
    result = run("replay", "projection-literal-trains-on", "--trials", "30")
    assert "left > right: violated" in result.stdout


def test_replay_searches_again_and_shows_tight_cases():
    refuted = run("replay", "model1-lower-bound-full-rank", "--trials", "60")
    assert "violated" in refuted.stdout
    assert "a = 1, b = 1, r = 1" in refuted.stdout
    tight = run("replay", "model1-upper-bound-positive", "--trials", "30")
    assert "κ = 16" in tight.stdout
    assert "left <= right: satisfied" in tight.stdout
    nothing = run("replay", "kappa-spread", "--trials", "30")
    assert nothing.returncode == 0
    assert "nothing to replay" in nothing.stdout


def test_exit_code_1_when_a_verdict_is_not_the_recorded_one(monkeypatch, capsys):
    import dataclasses

    from lorakappa.conditioning.command import app
    from lorakappa.shared.command_line import run as run_app

    claim = dataclasses.replace(CLAIMS["model1-lower-bound-full-rank"], recorded="holds")
    monkeypatch.setattr("lorakappa.conditioning.claims.CLAIMS", {claim.id: claim})
    monkeypatch.setattr(sys, "argv", ["conditioning", "verify", "--trials", "30", "--jobs", "1"])
    with pytest.raises(SystemExit) as exit:
        run_app(app)
    assert exit.value.code == 1
    assert "NOT as recorded: model1-lower-bound-full-rank" in capsys.readouterr().out


def test_verdicts_do_not_depend_on_the_number_of_processes(tmp_path):
    ids = ("model1-lower-bound-full-rank", "model1-smoothness", "projection-idempotent")
    entries = []
    for jobs in ("1", "2"):
        file = tmp_path / f"{jobs}.json"
        assert run("verify", *ids, "--trials", "60", "--jobs", jobs, "--json", str(file)).returncode == 0
        entries.append([{k: v for k, v in e.items() if k != "provenance"} for e in json.loads(file.read_text())])
    assert entries[0] == entries[1]
    assert [entry["id"] for entry in entries[0]] == list(ids)


def test_markdown_is_a_table():
    result = run("verify", "model1-lower-bound-full-rank", "--trials", "30", "--markdown")
    lines = result.stdout.splitlines()
    assert lines[1] == "|---|---|---|"
    assert lines[2].startswith("| `model1-lower-bound-full-rank` | Does κ ≥")
    assert "**refuted**" in lines[2]


def test_kappa_of_a_file(tmp_path):
    file = tmp_path / "pair.npz"
    np.savez(file, A=np.array([[2.0], [0]]), B=np.array([[0.5, 0]]), Z=np.diag([1.0, 0.0]))
    result = run("kappa", str(file))
    assert result.returncode == 0
    assert re.search(r"κ = L/μ +17 *\n", result.stdout)  # L/m with m = 1/4
    assert re.search(r"κ after balancing +2 *\n", result.stdout)
    assert re.search(r"upper bound \(corrected\) +17 *\n", result.stdout)


def test_wrong_usage_is_one_clear_line(tmp_path):
    assert_one_line_error(run("verify", "nonsense"), "unknown claim nonsense")
    assert_one_line_error(run("verify", "invarianse"), "unknown claim invarianse; is it invariance?")
    assert_one_line_error(run("verify", "--package", "llm"), "llm makes no claims; choose from conditioning")
    assert_one_line_error(run("list", "--source", "["), "no claim is left: none of them has a source that contains '['")
    assert_one_line_error(run("list", "--package", ""), "a package without a name makes no claims; choose from")
    assert_one_line_error(run("verify", "--trials", "0"), "--trials")
    assert_one_line_error(run("verify", "--trials", "many"), "--trials")
    assert_one_line_error(run("explain"), "No such command")
    assert_one_line_error(run("verify", "--nope"), "--nope")
    assert_one_line_error(run("replay"), "ID")
    assert_one_line_error(run("kappa", str(tmp_path / "none.npz")), "No such file")
    np.savez(tmp_path / "half.npz", A=np.eye(2))
    assert_one_line_error(run("kappa", str(tmp_path / "half.npz")), "has no array named B, Z; it holds A")
    (tmp_path / "text.npz").write_text("not an archive")
    assert_one_line_error(run("kappa", str(tmp_path / "text.npz")), "is not an .npz archive")
    (tmp_path / "bad.json").write_text("{")
    assert_one_line_error(run("replay", "invariance", "--from", str(tmp_path / "bad.json")), "not a file written by")
    (tmp_path / "part.json").write_text('[{"id": "invariance"}]')
    assert_one_line_error(run("replay", "invariance", "--from", str(tmp_path / "part.json")), "not a file written by")
    (tmp_path / "other.json").write_text("[]")
    assert_one_line_error(run("replay", "invariance", "--from", str(tmp_path / "other.json")), "no verdict on")
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "verdicts.json"
    assert_one_line_error(run("verify", "invariance", "--trials", "1", "--json", str(target)), "cannot write into")
    assert_one_line_error(run("verify", "invariance", "--json", str(tmp_path)), "is a folder")


def test_summary_names_the_correction():
    verdict = CLAIMS["model1-lower-bound-full-rank"].examine(trials=30, seed=0)
    assert report.summary(verdict) == "a=1, b=1, r=1: 1 against 2 → model1-bounds-corrected-lower"
