"""How long work will take, told before it begins or from its first part: long work is announced, endless refused."""

import time
from collections.abc import Generator
from typing import Final

from rich.progress import Progress, TaskID

from lorakappa.shared.command_line import errors

PATIENCE_SECONDS = 5.0
"""Work that takes longer than this shows a progress bar, or where there is no terminal says how long it will take."""

LONG_SECONDS = 20.0
"""Work that is expected to take longer than this is announced."""

LONGEST_SECONDS: Final = 366 * 86400.0
"""Nobody waits longer than a year: such work is refused."""

FLOPS: Final = 4e9
"""Operations of linear algebra a second, for what is estimated and not measured: an optimistic core."""


def check_duration(seconds: float, what: str, remedy: str = "", *, longest: float = LONGEST_SECONDS) -> None:
    """Refuses work that nobody waits for.

    Args:
        seconds: at least.
        what: takes them, for the message.
        remedy: what to do instead.
        longest: that somebody may wait.

    Raises:
        ValueError: if it would take longer.
    """
    if not seconds <= longest:
        raise ValueError(f"{what} would take about {duration(seconds)}" + (f"; {remedy}" if remedy else ""))


def announce(seconds: float, what: str, *, quiet: bool = False) -> None:
    """Says on stderr how long the work will take, if that is long.

    Args:
        seconds: expected.
        what: takes them.
        quiet: never say so.
    """
    if seconds > LONG_SECONDS and not quiet:
        errors.print(f"{what}: about {duration(seconds)} expected; Ctrl-C ends it", markup=False, soft_wrap=True)


def tracked(total: int, label: str, *, quiet: bool = False) -> Generator[int, None, None]:
    """range(total), with a progress bar on stderr once it takes longer than `PATIENCE_SECONDS`.

    Without a terminal one line says how long all of it is expected to take.

    Args:
        total: number of steps.
        label: of the work.
        quiet: neither bar nor line.

    Yields:
        The steps.

    Raises:
        ValueError: once the work turns out to take longer than a year.
    """
    began = time.perf_counter()
    bar: Progress | None = None
    task = TaskID(0)
    try:
        for t in range(total):
            passed = 0.0 if bar is not None else time.perf_counter() - began
            if t and bar is None and passed > PATIENCE_SECONDS:
                bar = Progress(console=errors, transient=True, disable=quiet or not errors.is_terminal)
                expected = passed * total / t
                check_duration(expected, f"{label} ({total} steps)")
                announce(expected, label, quiet=quiet or errors.is_terminal)
                bar.start()
                task = bar.add_task(label, total=total)
            if bar is not None:
                bar.update(task, completed=t)
            yield t
    finally:
        if bar is not None:
            bar.stop()


def duration(seconds: float) -> str:
    """Seconds in words: "3 hours"."""
    for unit, length in (("years", 365.25 * 86400), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} seconds"
