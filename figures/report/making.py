"""Makes the results that a report lacks, one command after the other: what fails does not keep the others from it."""

import subprocess
import sys
import time
from pathlib import Path

from lorakappa.figures.report.parts import PARTS, Part, find
from lorakappa.shared.command_line import note


def make_missing(folder: Path, *, quiet: bool = False) -> list[str]:
    """Runs the command of each part that is missing, out of date or unreadable.

    A part that is there stays as it is, so that a report killed at any moment goes on where it was.

    Args:
        folder: of the results.
        quiet: says nothing but what failed.

    Returns:
        A line for each part that could not be made.

    Raises:
        KeyboardInterrupt: after a line that says where it stopped.
    """
    wanted = [part for part in PARTS.values() if part.made_here and find(part, folder).state != "present"]
    failures: dict[str, str] = {}
    for number, part in enumerate(wanted, 1):
        without = [need for need in part.needs if need in failures]
        if without:
            failures[part.name] = f"{part.name} was not made, since it needs {', '.join(without)}"
            continue
        if not quiet:
            note(f"{number} of {len(wanted)}: {part.told(folder)}")
        began = time.perf_counter()
        try:
            code = _run(part, folder)
        except KeyboardInterrupt:
            note(f"stopped at {part.name}: what was made before stays, and the same command goes on from there")
            raise
        if code not in (0, *part.also_fine) or find(part, folder).state != "present":
            failures[part.name] = f"{part.name} failed with exit code {code}: {part.told(folder)}"
        elif not quiet:
            note(f"   {time.perf_counter() - began:.0f} s")
    return list(failures.values())


def _run(part: Part, folder: Path) -> int:
    """Runs a part's command in a process of its own; its messages go to stderr, which is this command's, too."""
    arguments = [word.replace("{folder}", str(folder)) for word in part.command.split()]
    command = [sys.executable, "-m", "lorakappa", *arguments]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
