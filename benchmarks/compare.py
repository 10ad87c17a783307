"""How the benchmarks compare: ours and its peers by turns, in one run, on a stated number of threads.

A time alone says little on a machine that others use too. So every row times all contenders in turn, round by round,
and what is reported is the median over the rounds of the ratio within each round, with its quartiles.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from threadpoolctl import threadpool_limits
from torch.utils.benchmark import Timer

LEAST_SECONDS = 0.01
"""Shorter calls are repeated within a round until they take this long."""


@dataclass(frozen=True)
class Timing:
    """Seconds a call, one entry a round.

    Attributes:
        seconds: mean over the calls of each round.
        calls: how many calls each round made.
    """

    seconds: tuple[float, ...]
    calls: int = 1

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance of the quartiles over the rounds, relative to the median."""
        return _quartile_distance(self.seconds) / self.median


def measure(calls: Mapping[str, Callable[[], object]], *, rounds: int, threads: int = 1) -> dict[str, Timing]:
    """Times several calls by turns; a GPU's queue is emptied before the clock is read (torch's Timer does).

    Args:
        calls: name to what is timed; torch's Timer calls each twice before, to warm up.
        rounds: how often the turn goes round; 1 for calls that take minutes.
        threads: of torch and of every BLAS and OpenMP library in the process.

    Returns:
        Name to timing, in the order given.
    """
    numbers: dict[str, int] = {}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    timers = {name: Timer("call()", globals={"call": call}, num_threads=threads) for name, call in calls.items()}
    with threadpool_limits(threads):
        for name, timer in timers.items():
            once = timer.timeit(1).mean
            numbers[name] = max(1, round(LEAST_SECONDS / once))
            if rounds == 1:
                seconds[name].append(once)
        for _ in range(rounds if rounds > 1 else 0):
            for name, timer in timers.items():
                seconds[name].append(timer.timeit(numbers[name]).mean)
    return {name: Timing(tuple(found), numbers[name]) for name, found in seconds.items()}


@dataclass(frozen=True)
class Goal:
    """What a row is to reach.

    Attributes:
        least: smallest ratio of the peer's time to ours; without a peer, smallest number of `Row.unit` a second,
            or, where the row has no unit, the reciprocal of the largest number of seconds.
        peer: whose time.
    """

    least: float
    peer: str | None = None


@dataclass(frozen=True)
class Row:
    """One piece of work, done by us and by others.

    Attributes:
        work: what is done; rows of one kind stand together.
        setting: sizes, dtype and whatever else tells rows of a kind apart.
        timings: name to timing; ours first.
        goals: what is wanted.
        amount: how many of `unit` one call does.
        unit: what the work is counted in, if not in calls.
        threads: on how many.
        growth: (name of the size, its value) if the row is a point of a curve of growth, one for each `work`.
        exponent: of that size in the number of operations.
        note: what else there is to say.
    """

    work: str
    setting: str
    timings: dict[str, Timing]
    goals: tuple[Goal, ...] = ()
    amount: float = 1.0
    unit: str = ""
    threads: int = 1
    growth: tuple[str, float] | None = None
    exponent: float | None = None
    note: str = ""

    @property
    def ours(self) -> Timing:
        """Our own timing."""
        return next(iter(self.timings.values()))

    @property
    def peers(self) -> list[str]:
        """Names of the others."""
        return list(self.timings)[1:]

    def ratio(self, peer: str) -> tuple[float, float]:
        """Median over the rounds of the peer's time over ours, and the distance of its quartiles."""
        rounds = [theirs / mine for theirs, mine in zip(self.timings[peer].seconds, self.ours.seconds, strict=True)]
        return statistics.median(rounds), _quartile_distance(rounds)

    def reached(self, goal: Goal) -> bool:
        """Whether the median reaches a goal."""
        value = self.amount / self.ours.median if goal.peer is None else self.ratio(goal.peer)[0]
        return value >= goal.least

    def record(self) -> dict[str, Any]:
        """The row as data, with what follows from its timings."""
        return {
            **asdict(self),
            "seconds": {name: timing.median for name, timing in self.timings.items()},
            "spread": {name: timing.spread for name, timing in self.timings.items()},
            "ratios": {peer: dict(zip(("median", "spread"), self.ratio(peer), strict=True)) for peer in self.peers},
            "rate": self.amount / self.ours.median,
            "reached": [self.reached(goal) for goal in self.goals],
        }


def _quartile_distance(values: Any) -> float:
    if len(values) < 2:
        return 0.0
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return quartiles[2] - quartiles[0]
