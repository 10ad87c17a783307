"""`lorakappa report`: what it writes, what it says of what is missing, and how it makes that."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from lorakappa.__main__ import command_line
from lorakappa.figures.report import making
from lorakappa.figures.report.parts import PARTS, Part

NAMES = {"report.html", "ledger.json", "ledger.md"}


def report(*arguments):
    return CliRunner().invoke(command_line(["report"]), ["report", *map(str, arguments)], standalone_mode=False)


def test_writes_page_and_ledger_and_says_what_is_missing(results, tmp_path):
    found = report("--from", results, "--out", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == NAMES
    assert found.return_value == 1  # parts are missing
    assert "settle missing: no settle.npz and no settle.json in results" in found.stdout
    assert not NAMES & {path.name for path in results.iterdir()}


def test_what_cannot_be_written_is_said_before_anything_is_done(results, tmp_path):
    (tmp_path / "file").touch()
    found = report("--from", results, "--out", tmp_path / "file")
    assert isinstance(found.exception, OSError)
    assert not found.stdout


@pytest.fixture
def few(monkeypatch):
    """Three parts, one of which needs another, and a list of what was run for them."""
    ran, broken = [], set()
    parts = {
        "first": Part("first", ("first.json",), "make first"),
        "second": Part("second", ("second.json",), "make second", needs=("first",)),
        "third": Part("third", ("third.json",), "make third", also_fine=(1,)),
        "bench": Part("bench", ("bench.json",), "", made_here=False),
    }

    def run(part, folder):
        ran.append(part.name)
        if part.name in broken:
            return 2
        folder.mkdir(exist_ok=True)
        (folder / part.files[0]).write_text("{}")
        return 1 if part.also_fine else 0

    monkeypatch.setattr(making, "PARTS", parts)
    monkeypatch.setattr(making, "_run", run)
    return ran, broken


def test_only_what_is_missing_is_made(few, tmp_path, capfd):
    ran, _ = few
    assert making.make_missing(tmp_path) == []
    assert ran == ["first", "second", "third"]
    assert "2 of 3: lorakappa make second" in capfd.readouterr().err
    (tmp_path / "second.json").unlink()
    assert making.make_missing(tmp_path, quiet=True) == []
    assert ran[3:] == ["second"]
    assert capfd.readouterr().err == ""


def test_a_part_that_fails_hides_no_other(few, tmp_path):
    ran, broken = few
    broken.add("first")
    failures = making.make_missing(tmp_path)
    assert ran == ["first", "third"]
    assert failures == [
        "first failed with exit code 2: lorakappa make first",
        "second was not made, since it needs first",
    ]
    assert (tmp_path / "third.json").is_file()


def test_a_stop_says_what_stays_and_the_next_call_goes_on(few, tmp_path, monkeypatch, capfd):
    ran, _ = few
    run = making._run

    def stopped(part, folder):
        if part.name == "second":
            raise KeyboardInterrupt
        return run(part, folder)

    with monkeypatch.context() as patched:
        patched.setattr(making, "_run", stopped)
        with pytest.raises(KeyboardInterrupt):
            making.make_missing(tmp_path, quiet=True)
    assert capfd.readouterr().err.startswith("stopped at second: what was made before stays")
    assert making.make_missing(tmp_path, quiet=True) == []
    assert ran == ["first", "second", "third"]


def test_commands_are_run_as_they_are_told(monkeypatch, tmp_path):
    seen = []

    def run(command, **options):
        seen.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(making.subprocess, "run", run)
    making._run(PARTS["audit"], tmp_path / "a b")
    assert seen == [
        [
            sys.executable,
            "-m",
            "lorakappa",
            "llm",
            "audit",
            f"{tmp_path}/a b/adapter",
            "--json",
            f"{tmp_path}/a b/audit.json",
        ]
    ]
