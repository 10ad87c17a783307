"""`lorakappa`: all packages behind one command, old spellings answered, help that loads nothing heavy."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lorakappa.__main__ import command_line
from lorakappa.shared.command_line import run
from lorakappa.shared.renamed import ARGUMENTS, OPTIONS

ROOT = Path(__file__).parent.parent


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["lorakappa", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        run(command_line(arguments[:1]))
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout


def test_claims_of_several_packages_in_one_call(monkeypatch, capsys, tmp_path):
    ids = ["flow-conserves-imbalance", "model1-smoothness", "gd-step-imbalance"]
    file = tmp_path / "verdicts.json"
    code, out, _ = call(monkeypatch, capsys, "verify", *ids, "--trials", 30, "--jobs", 1, "--json", file)
    assert code == 0
    assert "3 holds; all as recorded" in out
    entries = json.loads(file.read_text())
    assert [entry["id"] for entry in entries] == ids
    assert [entry["package"] for entry in entries] == ["synthetic", "conditioning", "synthetic"]
    lines = [line.strip() for line in out.splitlines()]
    assert lines.index("synthetic") < lines.index("conditioning")


def test_workers_find_the_claims_of_each_package(monkeypatch, capsys):
    ids = ["gd-step-imbalance", "flow-conserves-imbalance", "invariance", "model1-smoothness"]
    outputs = [
        call(monkeypatch, capsys, "verify", *ids, "--trials", 30, "--jobs", jobs, "--markdown")[1] for jobs in (1, 2)
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("holds") == 4


def test_claims_are_listed_by_package_and_by_source(monkeypatch, capsys):
    _, everything, _ = call(monkeypatch, capsys, "list")
    assert all(id in everything for id in ("invariance", "gd-rate", "llm-balora-loss"))
    _, some, _ = call(monkeypatch, capsys, "list", "--package", "synthetic")
    assert "gd-rate" in some
    assert "invariance" not in some
    _, some, _ = call(monkeypatch, capsys, "list", "--source", "theorem 3")
    assert "ilora-scaled-gd-proportion" in some
    assert "gd-rate" not in some


def test_quiet_prints_nothing_and_keeps_the_exit_code(monkeypatch, capsys):
    assert call(monkeypatch, capsys, "verify", "invariance", "--trials", 20, "--jobs", 1, "--quiet") == (0, "", "")


def test_replay_of_a_measured_claim_says_what_to_run(monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, "replay", "gd-rate")
    assert code == 0
    assert "run lorakappa verify gd-rate" in out


def test_the_commands_of_the_packages_are_those_of_the_whole(monkeypatch, capsys, tmp_path):
    code, out, _ = call(monkeypatch, capsys, "synthetic", "manifold", "--out", tmp_path)
    assert code == 0
    assert (tmp_path / "manifold.png").is_file()
    code, out, _ = call(monkeypatch, capsys, "figures", "manifold", "--from", tmp_path, "--out", tmp_path / "again")
    assert code == 0
    assert out.strip() == str(tmp_path / "again" / "manifold.png")


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [(command, old, new) for old, renamed in OPTIONS.items() for command, new in renamed.items()],
)
def test_an_old_spelling_is_answered_with_the_new_one(command, old, new, monkeypatch, capsys):
    package = "llm" if command in ("compare", "finetune", "curvature") else "synthetic"
    words = ["figures"] if command == "figures" else [package, command]
    code, out, err = call(monkeypatch, capsys, *words, old, "1")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.endswith(f"; {old} is called {new} now\n")
    _, out, _ = call(monkeypatch, capsys, *words, "--help")
    assert new in out


@pytest.mark.parametrize(("command", "option"), ARGUMENTS.items())
def test_a_folder_that_was_an_argument_is_an_option_now(command, option, monkeypatch, capsys):
    words = ["one", "two"] if command == "balance" else ["one"]
    for more in ([option, "out"], []):
        code, _, err = call(monkeypatch, capsys, "llm", command, *words, *more)
        assert code == 2
        assert err.endswith(f"; the folder to write is named with {option} now\n")


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "--version")
    assert (code, err) == (0, "")
    assert out == f"lorakappa {importlib.metadata.version('lorakappa')}\n"


@pytest.mark.parametrize(
    "words", [[], ["verify"], ["synthetic"], ["synthetic", "phase"], ["llm"], ["llm", "compare"], ["figures"]]
)
def test_help_loads_nothing_that_computes(words):
    code = f"""
import sys
from lorakappa.__main__ import main
sys.argv = ["lorakappa", *{words}, "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code
print()
print({{"numpy", "scipy", "flint", "matplotlib", "torch", "transformers", "peft"}} & set(sys.modules))"""
    assert python(code).splitlines()[-1] == "set()"


@pytest.mark.parametrize("words", [["list"], ["llm", "methods"], ["llm", "presets"]])
def test_lists_load_neither_torch_nor_transformers(words):
    code = f"""
import sys
from lorakappa.__main__ import main
sys.argv = ["lorakappa", *{words}]
try:
    main()
except SystemExit as stop:
    assert not stop.code
print()
print({{"torch", "transformers", "peft", "datasets"}} & set(sys.modules))"""
    assert python(code).splitlines()[-1] == "set()"
