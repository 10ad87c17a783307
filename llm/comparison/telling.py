"""How far the runs of a comparison have come: a bar on a terminal, one line without."""

import time
from contextlib import AbstractContextManager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lorakappa.llm.comparison.runs import Task
from lorakappa.shared.command_line import errors
from lorakappa.shared.forecast import announce

COLUMNS = (
    TextColumn("{task.description}", markup=False),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


class RunsShown(AbstractContextManager["RunsShown"]):
    """A progress bar for the batches of a comparison.

    Args:
        quiet: neither bar nor line.
    """

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._progress = Progress(*COLUMNS, console=errors, transient=True, disable=quiet)
        self._bar = self._progress.add_task("runs", total=0)

    def __enter__(self) -> "RunsShown":
        """Shows the bar."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes it away."""
        self._progress.stop()

    def batch(self, total: int, pending: int) -> "_Told":
        """Begins a batch.

        Args:
            total: number of its runs.
            pending: of those, how many are to be made.

        Returns:
            What is to be told each finished run and its status.
        """
        self._progress.update(self._bar, total=total, completed=total - pending)
        return _Told(self._progress, self._bar, pending, self._quiet)


class _Told:
    """Shows each finished run; where there is no terminal, says after the first how long all of them will take."""

    def __init__(self, progress: Progress, bar: TaskID, pending: int, quiet: bool) -> None:
        self._progress, self._bar, self._pending = progress, bar, pending
        self._quiet, self._finished, self._began = quiet or errors.is_terminal, 0, time.perf_counter()

    def __call__(self, task: Task, status: str) -> None:
        self._finished += 1
        if self._finished == 1:
            expected = (time.perf_counter() - self._began) * self._pending
            announce(expected, f"{self._pending} runs, one after the other", quiet=self._quiet)
        self._progress.update(self._bar, advance=1, description=f"{task.run.method} {status}")
