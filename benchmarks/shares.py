"""Where the processor time of a call goes: functions wrapped by name, each counted without those wrapped inside it.

What was found is kept as `Limit`s, and shown as a table of Markdown.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self
from unittest.mock import patch


class Spans:
    """Counts the seconds of this thread's processor time in functions that are wrapped as long as the context lasts.

    Args:
        parts: label to the functions that belong to it, as (module or class, name).

    Attributes:
        seconds: by label, each without the parts that it calls.
    """

    def __init__(self, parts: dict[str, list[tuple[Any, str]]]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._parts = parts
        self._inside = [0.0]
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        for label, functions in self._parts.items():
            for owner, name in functions:
                self._patches.enter_context(patch.object(owner, name, self._counted(label, getattr(owner, name))))
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def _counted(self, label: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            began = time.thread_time()
            self._inside.append(0.0)
            try:
                return function(*arguments, **options)
            finally:
                took = time.thread_time() - began
                self.seconds[label] += took - self._inside.pop()
                self._inside[-1] += took

        return counted


def shares(call: Callable[[], object], parts: dict[str, list[tuple[Any, str]]], *, calls: int, rest: str) -> Any:
    """Seconds of processor time a call, and the share of each part, what is left over under the name `rest`.

    Args:
        call: what is examined; it is called once before, to warm up.
        parts: as for `Spans`.
        calls: how often it is called.
        rest: name of what no part counts.

    Returns:
        (seconds, label to share).
    """
    call()
    with Spans(parts) as spans:
        began = time.thread_time()
        for _ in range(calls):
            call()
        total = time.thread_time() - began
    found = {label: spans.seconds[label] / total for label in parts}
    return total / calls, {**found, rest: 1 - sum(found.values())}


@dataclass(frozen=True)
class Limit:
    """One goal that is missed, and where the time goes.

    Attributes:
        row: what is measured.
        wanted: the goal.
        measured: what was reached, in the same words.
        seconds: of processor time a call.
        parts: share of each part.
        why: what cannot be cut, and the best that the parts allow.
    """

    row: str
    wanted: str
    measured: str
    seconds: float
    parts: dict[str, float]
    why: str


def table(record: dict[str, Any]) -> str:
    """The rows as Markdown: goal, measured, the parts from the largest on, and why they stay."""
    lines = ["| row | wanted | measured | where the time goes | what limits it |", "|---|---|---|---|---|"]
    for row in record["rows"]:
        parts = sorted(row["parts"].items(), key=lambda part: -part[1])
        shown = ", ".join(f"{label} {100 * share:.0f} %" for label, share in parts if share >= 0.02)
        lines.append(f"| {row['row']} | {row['wanted']} | {row['measured']} | {shown} | {row['why']} |")
    return "\n".join(lines)
