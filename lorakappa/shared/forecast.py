"""What work will cost, told before it begins: memory that is not there is refused, a long time is announced.

Sizes are lower bounds made of shapes; durations are measured on the first part of the work and extrapolated.
"""

import math
import os
import time
from collections.abc import Generator
from pathlib import Path
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

MEMORY = Path("/proc/meminfo")
"""Where Linux says how much memory can be had without swapping."""

CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much memory a container may have."""

UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def available_memory() -> int | None:
    """Bytes that a process can still get without swapping; None if the system does not tell."""
    try:
        lines = MEMORY.read_text().splitlines()
        there = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):  # no Linux
        try:
            there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        except (AttributeError, ValueError, OSError):
            return None
    try:
        return min(there, int(CONTAINER_LIMIT.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return there


def check_memory(needed: int, what: str, remedy: str = "") -> None:
    """Refuses work that cannot fit.

    Args:
        needed: bytes, at least.
        what: needs them, for the message.
        remedy: what to do instead.

    Raises:
        ValueError: if there is less, with both numbers.
    """
    there = available_memory()
    if there is not None and needed > there:
        advice = f"; {remedy}" if remedy else ""
        raise ValueError(f"not enough memory for {what}: {size(needed)} needed, {size(there)} available{advice}")


def check_duration(seconds: float, what: str, remedy: str = "") -> None:
    """Refuses work that would take longer than a year.

    Args:
        seconds: at least.
        what: takes them, for the message.
        remedy: what to do instead.

    Raises:
        ValueError: if it would.
    """
    if not seconds <= LONGEST_SECONDS:
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


def size(count: int) -> str:
    """Bytes in words: "7.5 GiB"."""
    unit = min(max(0, (int(count).bit_length() - 1) // 10), len(UNITS) - 1)
    scaled = int(count) / 1024**unit if int(count).bit_length() < 1000 else math.inf
    return f"{scaled:.3g} {UNITS[unit]}" if unit else f"{count} bytes"


def duration(seconds: float) -> str:
    """Seconds in words: "3 hours"."""
    for unit, length in (("years", 365.25 * 86400), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} seconds"
