"""How the benchmarks measure time: medians of repetitions after one call that only warms up."""

import statistics
import time
from collections.abc import Callable


def seconds(function: Callable[[], object], repetitions: int) -> float:
    """Median wall time of a call."""
    function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
