"""Makes the results that a report lacks, several commands at a time: what fails does not keep the others from it."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lorakappa.figures.report.parts import PARTS, Part, find
from lorakappa.shared.command_line import note
from lorakappa.shared.forecast import duration
from lorakappa.shared.memory import available
from lorakappa.shared.processes import THREADS

LOOKS_A_SECOND = 10
"""How often it is looked which command has ended."""


@dataclass(frozen=True)
class _Running:
    """A command that makes a part, and the file of what it says on stderr; None where people see it at once."""

    part: Part
    process: subprocess.Popen[bytes]
    began: float
    said: Path | None


def make_missing(folder: Path, *, jobs: int | None = None, quiet: bool = False) -> list[str]:
    """Runs the command of each part that is missing, out of date or unreadable.

    A part that is there stays as it is, so that a report killed at any moment goes on where it was. Commands that
    divide their work among all cores run first, each alone; then the others side by side, as many as memory allows.

    Args:
        folder: of the results.
        jobs: number of commands at a time; one a core unless it is given.
        quiet: says nothing but what failed.

    Returns:
        A line for each part that could not be made.

    Raises:
        KeyboardInterrupt: when the commands have ended, after a line that says where it stopped.
    """
    jobs = jobs or os.cpu_count() or 1
    waiting = _in_order([part for part in PARTS.values() if part.made_here and find(part, folder).state != "present"])
    if waiting and not quiet:
        time_taken = duration(forecast(waiting, jobs))
        note(f"{len(waiting)} results to make: about {time_taken} on {jobs} core{'s' * (jobs > 1)}; Ctrl-C ends it")
    with tempfile.TemporaryDirectory() as messages:
        return _make(waiting, folder, jobs, None if quiet else len(waiting), Path(messages))


def _make(waiting: list[Part], folder: Path, jobs: int, total: int | None, messages: Path) -> list[str]:
    """Makes parts; where there is a total, says of each when it is done."""
    memory = available()
    running: dict[str, _Running] = {}
    failures: dict[str, str] = {}
    done = 0
    try:
        while waiting or running:
            for lost in [part for part in waiting if not failures.keys().isdisjoint(part.needs)]:
                waiting.remove(lost)
                without = [need for need in lost.needs if need in failures]
                failures[lost.name] = f"{lost.name} was not made, since it needs {', '.join(without)}"
            while (part := _next(waiting, [each.part for each in running.values()], jobs, memory)) is not None:
                waiting.remove(part)
                said = None if part.shares and total is not None else messages / part.name
                running[part.name] = _Running(part, _start(part, folder, jobs, said), time.monotonic(), said)
            for name, each in list(running.items()):
                if (code := each.process.poll()) is None:
                    continue
                del running[name]
                done += 1
                if code not in (0, *each.part.also_fine) or find(each.part, folder).state != "present":
                    told = each.part.told(folder)
                    failures[name] = f"{name} failed with exit code {code}: {told}{_last_words(each.said)}"
                elif total is not None:
                    note(f"{done} of {total}: {each.part.told(folder)} ({time.monotonic() - each.began:.0f} s)")
            if running:
                time.sleep(1 / LOOKS_A_SECOND)
    except KeyboardInterrupt:
        for each in running.values():
            each.process.terminate()  # files are written whole or not at all
        for each in running.values():
            each.process.wait()
        stopped = ", ".join(running) or "the start"
        note(f"stopped at {stopped}: what was made before stays, and the same command goes on from there")
        raise
    return [failures[name] for name in PARTS if name in failures]


def forecast(parts: Sequence[Part], jobs: int) -> float:
    """Seconds that making parts takes, about.

    It is their work, divided among the cores, or the longest chain of parts that need each other if that takes longer.

    Args:
        parts: to make.
        jobs: number of commands at a time, one a core.
    """
    by_name = {part.name: part for part in parts}
    alone = sum(part.seconds for part in parts if part.shares) / jobs
    beside = [part for part in parts if not part.shares]
    chain = max((_chain(part, by_name) for part in beside), default=0.0)
    return alone + max(sum(part.seconds for part in beside) / jobs, chain)


def _chain(part: Part, by_name: Mapping[str, Part]) -> float:
    """Seconds of a part with those that must be made before it."""
    return part.seconds + max((_chain(by_name[need], by_name) for need in part.needs if need in by_name), default=0.0)


def _in_order(parts: Sequence[Part]) -> list[Part]:
    """Those that take all cores first, then those that others wait for, then the longest."""
    needed = {need for part in parts for need in part.needs}
    return sorted(parts, key=lambda part: (not part.shares, part.name not in needed, -part.seconds))


def _next(waiting: Sequence[Part], running: Sequence[Part], jobs: int, memory: float) -> Part | None:
    """The part to begin now; None if none can begin beside what is running."""
    if len(running) >= jobs or any(part.shares for part in running):
        return None
    unmade = {part.name for part in (*waiting, *running)}
    left = memory - sum(part.memory for part in running)
    for part in waiting:
        if unmade.isdisjoint(part.needs) and (not running or (not part.shares and part.memory <= left)):
            return part
    return None


def _start(part: Part, folder: Path, jobs: int, said: Path | None) -> subprocess.Popen[bytes]:
    """Starts a part's command in a process of its own, its messages to a file or, without one, to stderr."""
    arguments = [word.replace("{folder}", str(folder)) for word in part.command.split()]
    command = [sys.executable, "-m", "lorakappa", *arguments]
    threads = {} if part.shares else {THREADS: str(max(1, (os.cpu_count() or 1) // jobs))}
    environment = threads | os.environ
    if said is None:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    with said.open("wb") as stream:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stream, env=environment)


def _last_words(said: Path | None) -> str:
    """The last line that a command said, for the line on its failure; empty if there is none, or people saw it."""
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines() if said is not None else []
    return f"; {lines[-1]}" if lines else ""
