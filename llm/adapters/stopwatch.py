"""How long work takes on the device that does it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def synchronize(device: torch.device) -> None:
    """Waits until a GPU has done what was asked of it, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Adds up how long pieces of work take, without making a GPU wait for the processor or the other way round."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: list[tuple[Any, Any]] = []  # starts and ends on a GPU that were not read yet

    @contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """Counts what is done inside, on that device."""
        if device.type != "cuda":
            start = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - start
            return
        first: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        last: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        stream = torch.cuda.current_stream(device)
        first.record(stream)
        yield
        last.record(stream)
        self._events.append((first, last))
        if len(self._events) >= 1000 and self._events[-2][1].query():  # long finished: no wait
            self._collect(self._events[:-1])
            del self._events[:-1]

    @property
    def seconds(self) -> float:
        """The sum so far; waits for a GPU that still works."""
        self._collect(self._events)
        self._events.clear()
        return self._seconds

    def _collect(self, events: list[tuple[Any, Any]]) -> None:
        for first, last in events:
            last.synchronize()
            self._seconds += first.elapsed_time(last) / 1000
