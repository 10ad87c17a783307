"""`lorakappa report`: what it writes, what it says of what is missing, and with which exit code."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from lorakappa.__main__ import command_line
from lorakappa.figures.report.parts import PARTS

NAMES = {"report.html", "ledger.json", "ledger.md"}


ONLY = """
import sys
from dataclasses import replace
from lorakappa.figures.report.parts import PARTS
from lorakappa.__main__ import main
PARTS |= {name: replace(part, made_here=name in ("sources", "manifold")) for name, part in PARTS.items()}
main()
"""
"""The command with a report of which it makes two small parts."""


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


def test_a_failing_part_hides_no_other_and_the_command_fails(tmp_path, monkeypatch, capfd):
    for name, part in PARTS.items():
        monkeypatch.setitem(PARTS, name, replace(part, made_here=name in ("sources", "settle")))
    monkeypatch.setitem(PARTS, "settle", replace(PARTS["settle"], command="synthetic settle --seeds none"))
    found = report("--from", tmp_path, "--make", "--quiet")
    assert found.return_value == 1
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("settle failed")]
    assert line.startswith("settle failed with exit code 2: lorakappa synthetic settle --seeds none; error: ")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('class="document"') > 1  # the map of the sources is there
    assert "<b>settle</b> missing" in page
    monkeypatch.setitem(PARTS, "settle", replace(PARTS["settle"], made_here=False))
    assert report("--from", tmp_path, "--quiet").return_value == 0
    (tmp_path / "study.json").write_text("{")
    assert report("--from", tmp_path, "--quiet").return_value == 1  # what is there must be readable


@pytest.mark.slow
def test_a_killed_report_goes_on_where_it_was(tmp_path):
    """With everything that it had started, as when a machine goes down."""
    command = [sys.executable, "-c", ONLY, "report", "--from", str(tmp_path), "--make"]
    killed = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (first := tmp_path / "sources.json").is_file():
        assert killed.poll() is None
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "report.html").exists()
    made = first.stat().st_mtime_ns
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0
    assert "sources --json" not in again.stderr
    assert first.stat().st_mtime_ns == made
    assert {*NAMES, "sources.json", "manifold.json", "manifold.npz"} <= {path.name for path in tmp_path.iterdir()}
