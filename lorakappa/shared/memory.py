"""What fits into memory: asked before anything of that size is made."""

import os
from math import inf
from pathlib import Path

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container's limit stands."""


def in_words(size: float) -> str:
    """A number of bytes, such as "7.3 TiB"."""
    if size >= 1e300:  # also an int beyond floats
        return f"10^{len(str(int(size))) - 1} bytes"
    unit = 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.3g} {UNITS[unit]}" if size < 10000 else f"10^{len(str(int(size))) - 1} {UNITS[unit]}"


def available() -> float:
    """Bytes that this process may still take, as far as the machine says; infinite where it does not."""
    free = inf
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = 1024.0 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
            free = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    for limit in LIMITS:
        try:
            free = min(free, float(Path(limit).read_text(encoding="ascii")))
        except (OSError, ValueError):  # none, or "max"
            continue
    return free


class TooLargeError(ValueError, MemoryError):
    """What was asked for does not fit into memory; nothing of it was allocated."""


def check_memory(needed: float, what: str, remedy: str = "") -> None:
    """Refuses what cannot fit into memory.

    Args:
        needed: bytes, at least.
        what: needs them, for the message.
        remedy: what to do instead.

    Raises:
        TooLargeError: if there is less, with both numbers.
    """
    free = available()
    if needed > free:
        advice = f"; {remedy}" if remedy else ""
        raise TooLargeError(
            f"{what} would take {in_words(needed)} of memory, but only {in_words(free)} are free{advice}"
        )
