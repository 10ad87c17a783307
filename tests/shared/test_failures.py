"""What can be foreseen is one line and exit code 2; anything else is a bug, with its traceback in a file."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from rich.text import Text

from lorakappa.conditioning import condition_number
from lorakappa.shared.command_line import PlainConsole, _forget_odd_sizes, _Trimming, console, new_app, run, say
from lorakappa.shared.failures import BUG, foreseeable, one_line, printable
from lorakappa.shared.grids import parse_grid

ROOT = Path(__file__).parents[2]


def nested(depth):
    return nested(depth + 1)


def cannot_allocate():
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")


def library_raises(error):
    """As from another package: this module is not ours."""
    raise error


FORESEEABLE = {
    "refused by us": (lambda: parse_grid("fast"), "'fast' is no grid"),
    "wrong type, said by us": (
        lambda: condition_number(np.eye(2) > 0, np.eye(2), np.eye(2)),
        "A must be a real matrix",
    ),
    "no file": (lambda: Path("/nowhere/x").read_text(), "No such file or directory: /nowhere/x"),
    "refused by a library": (lambda: library_raises(ValueError("unrecognized model")), "unrecognized model"),
    "memory": (lambda: np.empty(10**15), "not enough memory: Unable to allocate"),
    "torch's memory": (cannot_allocate, "not enough memory: DefaultCPUAllocator"),
    "depth": (lambda: nested(0), "something is nested too deeply"),
    "size": (lambda: float(10**400), "a number is too large"),
    "text": (lambda: b"\xff".decode(), "a text has characters that cannot be read or written"),
    "no words": (lambda: library_raises(ValueError()), "ValueError"),
}

BUGS = {
    "type": lambda: len(3),
    "type, by a library": lambda: library_raises(TypeError("takes 2 positional arguments")),
    "key": lambda: {}["x"],
    "attribute": lambda: None.x,
    "value, by an operation": lambda: int("x"),
    "value, by unpacking": lambda: (lambda: [0 for a, b in [(1, 2, 3)]])(),
    "shapes": lambda: np.ones(2) + np.ones(3),
    "index": lambda: [][0],
    "division": lambda: 1 / 0,
    "assertion": lambda: library_raises(AssertionError("x")),
    "anything by a library": lambda: library_raises(RuntimeError("mat1 and mat2 shapes cannot be multiplied")),
    "end of file": lambda: library_raises(EOFError()),
}


def call(work, monkeypatch, capsys):
    app = new_app("Does something.")
    app.command()(lambda: work())
    app.command("other")(lambda: None)
    monkeypatch.setattr(sys, "argv", ["program", "<lambda>"])
    app.registered_commands[0].name = "<lambda>"
    with pytest.raises(SystemExit) as stopped:
        run(app)
    return stopped.value.code, *capsys.readouterr()


@pytest.mark.parametrize("name", FORESEEABLE)
def test_what_can_be_foreseen_is_one_line(name, monkeypatch, capsys):
    work, message = FORESEEABLE[name]
    code, out, err = call(work, monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_says_so_and_keeps_its_traceback_in_a_file(name, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, out, err = call(BUGS[name], monkeypatch, capsys)
    assert (code, out) == (BUG, "")
    (line,) = [line for line in err.splitlines() if line]  # Typer puts an empty one before the end of a file
    (file,) = tmp_path.iterdir()
    assert line.startswith("error: this is a bug: ")
    assert line.endswith(f"the traceback is in {file}, please report it")
    text = file.read_text()
    assert "Traceback (most recent call last)" in text
    assert "program" in text
    assert call(BUGS[name], monkeypatch, capsys)[0] == BUG
    assert len(list(tmp_path.iterdir())) == 2  # nothing is overwritten
    monkeypatch.setenv("LORAKAPPA_TRACEBACK", "1")
    code, _, err = call(BUGS[name], monkeypatch, capsys)
    assert code == BUG
    assert "Traceback (most recent call last)" in err
    assert len(list(tmp_path.iterdir())) == 2


def test_where_no_file_can_be_written_the_traceback_is_printed(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    code, _, err = call(lambda: 1 / 0, monkeypatch, capsys)
    assert code == BUG
    assert "Traceback (most recent call last)" in err
    assert "error: this is a bug: ZeroDivisionError: division by zero; please report it" in err


def test_failures_of_a_process_are_told_by_where_it_raised_them():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for task, arguments, ours in ((parse_grid, ("fast",), True), (parse_grid, (3,), False), (int, ("x",), False)):
            error = pool.submit(task, *arguments).exception()
            assert (foreseeable(error) is not None) == ours, task


def test_messages_are_one_line_without_what_steers_a_terminal():
    assert one_line("a\n  b\x1b[31m\u202e") == "a b\\x1b[31m\\u202e"
    assert printable("κ\n\t×\u00a0\udcff") == "κ\n\t×\u00a0\udcff"
    assert len(one_line("x" * 10**6)) < 3000


def test_what_is_printed_is_no_markup(capsys):
    from rich.table import Table

    table = Table("[red]head[/red]", title="[b]title", caption=":smile: caption", box=None)
    table.add_row("[/x] \x1b[31m")
    console.print(table)
    console.print("[bold]text[/]", ":smile:")
    say("saved", Path("/tmp/[/red]" + "x" * 200))
    out = capsys.readouterr().out
    for text in ("[red]head[/red]", "[b]title", ":smile: caption", "[/x] \\x1b[31m", "[bold]text[/] :smile:"):
        assert text in out
    assert out.splitlines()[-1] == "saved /tmp/[/red]" + "x" * 200


def python(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("environment", {})}
    return subprocess.run([sys.executable, *arguments], capture_output=True, cwd=ROOT, env=environment, **options)


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("61", 61), ("", 120), ("0", 120), ("wide", 120)])
def test_what_is_piped_is_as_wide_as_columns_says_and_ends_without_blanks(columns, width):
    environment = {"COLUMNS": columns, "PYTHONUTF8": "1"}
    done = python("-m", "conditioning", "list", "--source", "theorem", environment=environment)
    lines = done.stdout.decode("utf-8").splitlines()
    assert width - 12 < max(map(len, lines)) <= width
    assert lines == [line.rstrip() for line in lines]


@pytest.mark.parametrize("arguments", [("list", "--source", "theorem"), ("--help",)])
def test_a_width_that_is_no_number_is_as_good_as_none(arguments):
    done = python("-m", "conditioning", *arguments, environment={"COLUMNS": "²", "LINES": "²", "PYTHONUTF8": "1"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert 60 < max(map(len, done.stdout.decode("utf-8").splitlines())) <= 120


def test_only_sizes_that_something_can_be_printed_at_are_kept(monkeypatch):
    for sizes, kept in ((("80", "1", "1000000"), True), (("0", "", "-80", "٣", "²", "1000001", "9" * 5000), False)):
        for size in sizes:
            monkeypatch.setenv("COLUMNS", size)
            monkeypatch.setenv("LINES", size)
            _forget_odd_sizes()
            assert {os.environ.get(name) for name in ("COLUMNS", "LINES")} == {size if kept else None}


def test_blanks_are_trimmed_and_nothing_else():
    text = Text.assemble(("  red  ", "red"), " \n\n a ")
    made = PlainConsole(width=20, force_terminal=True, color_system="standard", legacy_windows=False)
    plain = PlainConsole(width=20)
    for target in (made, plain):
        target.push_render_hook(_Trimming())
    with made.capture() as styled, plain.capture() as bare:
        for target in (made, plain):
            target.print(text)
            target.print("b", "c", soft_wrap=True)
    assert styled.get() == "\x1b[31m  red\x1b[0m\n\n a\nb c\n"
    assert bare.get() == "  red\n\n a\nb c\n"


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"}]
)
def test_letters_that_the_terminal_does_not_have_are_no_failure(environment):
    done = python("-m", "conditioning", "list", "--source", "theorem", environment=environment)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    done = python("-m", "conditioning", "verify", "κ", environment=environment)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: unknown claim ")


def test_nobody_reading_is_no_failure_to_tell():
    command = f"{sys.executable} -m lorakappa list | head -1; echo ${{PIPESTATUS[0]}}"
    for _ in range(2):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
        assert not done.stderr
        assert done.stdout.splitlines()[-1] in ("141", "0")  # 0 if all of it was in the pipe before


def test_a_full_disk_behind_the_output_is_said():
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "conditioning", "list"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "error: No space left on device\n"


def test_without_an_output_the_command_still_runs(tmp_path):
    command = f"{sys.executable} -m conditioning verify invariance --trials 5 --jobs 1 --json {tmp_path}/a.json >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert (tmp_path / "a.json").is_file()
