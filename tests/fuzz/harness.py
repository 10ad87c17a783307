"""Runs one command line in this process and says what it broke of what must always hold."""

import contextlib
import io
import itertools
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lorakappa.__main__ import command_line
from lorakappa.shared.command_line import run

SECONDS = 20
"""Longer than this a command must not take without saying so."""

FORECAST = re.compile(r"about .* expected")
"""How a command says that it takes long (`lorakappa.shared.forecast.announce`)."""

BUG = 70
"""Exit code of what the command line did not foresee."""


AFTERWARDS = 1
"""Seconds for which a command goes on that has said so: the rest is more of the same."""


class Hang(BaseException):
    """A case was stopped, after `SECONDS` or, if it said that it takes long, `AFTERWARDS`."""


class Heard(io.StringIO):
    """Stderr of a case; once a forecast is heard on it, the case is stopped soon."""

    def write(self, text):
        if FORECAST.search(text):
            signal.setitimer(signal.ITIMER_REAL, AFTERWARDS, 5)
        return super().write(text)


@dataclass
class Outcome:
    """What a command did.

    Attributes:
        code: exit code; None if an exception got out.
        out: what it printed.
        err: what it said on stderr.
        error: the exception that got out, with its traceback.
        hung: whether it had to be stopped.
    """

    code: int | None
    out: str
    err: str
    error: str = ""
    hung: bool = False


def call(arguments, folder):
    """Runs `lorakappa ARGUMENTS` in a folder."""
    stdout, stderr = io.StringIO(), Heard()

    def stop(*_):
        raise Hang

    before, directory, argv = signal.signal(signal.SIGALRM, stop), os.getcwd(), sys.argv
    code, error, hung = None, "", False
    temporary = folder.with_name(f"{folder.name}-tmp")
    temporary.mkdir()
    tempfile.tempdir, old = str(temporary), tempfile.tempdir
    os.chdir(folder)
    sys.argv = ["lorakappa", *arguments]
    signal.setitimer(signal.ITIMER_REAL, SECONDS, 1)  # again and again, since a finalizer may swallow it
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            run(command_line(arguments[:1]))
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 0 if stopped.code is None else 1
    except Hang:
        hung, error = True, traceback.format_exc()
    except BaseException:
        error = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.argv = argv
        os.chdir(directory)
        tempfile.tempdir = old
    left = sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*"))
    shutil.rmtree(temporary, ignore_errors=True)
    if left and code != BUG and not error:  # the traceback of a bug is kept in a file
        error = f"left in the temporary folder: {left[:5]}"
    return Outcome(code, stdout.getvalue(), stderr.getvalue(), error, hung)


def snapshot(folder):
    """What is in a folder, by relative path: kind and, of regular files, contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = path.read_bytes() if stat.S_ISREG(mode) else os.readlink(path) if stat.S_ISLNK(mode) else ""
        found[str(path.relative_to(folder))] = (stat.S_IFMT(mode), content)
    return found


def broken(outcome, before, after, promised):
    """What must always hold and does not; None if all does.

    Args:
        outcome: of the command.
        before: `snapshot` of its folder.
        after: likewise.
        promised: paths, relative to the folder, at or below which files may appear.
    """
    if outcome.hung and not FORECAST.search(outcome.err):
        return f"hangs: {last_line_here(outcome.error)}"
    if not outcome.hung and (wrong := misbehaved(outcome)) is not None:
        return wrong
    changed = [name for name, entry in before.items() if after.get(name) != entry]
    changed = [name for name in changed if not below(name, promised)]
    if changed:
        return f"touched {changed[:3]}"
    new = [name for name in after if name not in before]
    stray = [name for name in new if not below(name, promised) and not above(name, promised)]
    if stray:
        return f"left {stray[:3]}"
    kept = {name for name in new if "llm-compare/" in f"{name}/"}  # runs that were made, and why others failed
    kept |= {name for name in new if above(name, kept)}
    if outcome.code == 2 and set(new) - kept:
        return f"failed and left {new[:3]}"
    if any(name.endswith(".part") or ("/." in f"/{name}" and not name.endswith(".lock")) for name in new):
        return f"left a temporary file among {new[:3]}"
    return unreadable(after, new)


def misbehaved(outcome):
    """What is wrong with the end of a command and with what it said; None if nothing is."""
    if outcome.error:
        return last_line_here(outcome.error)
    if outcome.code == BUG:
        return f"bug: {outcome.err[-300:]}"
    if outcome.code not in (0, 1, 2):
        return f"exit code {outcome.code}"
    if "Traceback" in outcome.err or "Traceback" in outcome.out:
        return "a traceback on the terminal"
    said = [line for line in outcome.err.splitlines() if line.strip()]
    errors = [line for line in said if line.startswith("error: ")]
    if outcome.code == 2 and (len(errors) != 1 or len([x for x in said if not FORECAST.search(x)]) != 1):
        return f"{len(said)} lines on stderr for one error: {said[:3]}"
    if outcome.code == 2 and len(errors[0]) > 8000:
        return f"an error of {len(errors[0])} characters"
    if outcome.code == 0 and errors:
        return f"exit code 0 with {errors[0]}"
    return None


def unreadable(after, new):
    """The first new result that cannot be read back."""
    import json

    for name in new:
        kind, content = after[name]
        if not stat.S_ISREG(kind):
            continue
        try:
            if name.endswith(".json"):
                json.loads(content)
            elif name.endswith(".npz"):
                with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                    for key in archive.files:
                        archive[key]
        except Exception as error:
            return f"{name} cannot be read back: {error}"
    return None


def below(name, promised):
    return "." in promised or any(name == place or name.startswith(f"{place}/") for place in promised)


def above(name, promised):
    return any(place.startswith(f"{name}/") for place in promised)


def last_line_here(text):
    """Type and message of a traceback, and the last place in this project that it passed."""
    lines = text.strip().splitlines()
    places = re.findall(r'File "[^"]*?/((?:conditioning|synthetic|llm|figures|lorakappa)/[^"]+)", line (\d+)', text)
    return f"{lines[-1][:300]} at {':'.join(places[-1]) if places else '?'}"


@dataclass
class Report:
    """What was run of one command, and what broke."""

    command: str
    codes: Counter = field(default_factory=Counter)
    failures: dict = field(default_factory=dict)

    def add(self, outcome, failure, shown):
        stopped = "announced" if FORECAST.search(outcome.err) else "hang"
        self.codes[stopped if outcome.hung else str(outcome.code)] += 1
        if failure is not None:
            key = re.sub(r"[0-9]+|'[^']*'", "…", failure)
            self.failures.setdefault(key, (failure, shown))


def attempt(report, arguments, folder, promised):
    """One case: runs it, and notes what broke."""
    before = snapshot(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=ResourceWarning)
        warnings.filterwarnings("ignore", module=r"transformers|peft|accelerate|torch|datasets|multiprocess|dill")
        outcome = call(arguments, folder)
    failure = broken(outcome, before, snapshot(folder), promised)
    report.add(outcome, failure, " ".join(repr(argument)[:200] for argument in arguments))
    return outcome


def places(arguments, folder, defaults=("results",)):
    """Where a command line may write: the values of --out, --json and --comparison, with the figure beside the latter.

    `llm report FOLDER` draws its figures into that folder.

    Where one is a link, what it leads to is written, if that is in the folder.
    """
    found = list(defaults)
    if list(arguments[:2]) == ["llm", "report"]:
        found += [name for name in arguments[2:] if name and (folder / name).is_dir()]
    for name, value in itertools.pairwise(arguments):
        if name in ("--out", "--json", "--comparison") and value:
            for path in {Path(os.path.normpath(folder / value)), Path(os.path.realpath(folder / value))}:
                if path == folder:
                    found.append(".")
                elif path.is_relative_to(folder):
                    found += [str(path.relative_to(folder)), str(path.relative_to(folder).with_suffix(".png"))]
    return found
