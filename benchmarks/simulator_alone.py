"""The simulator in a process of its own, which has not loaded torch: so does the command `lorakappa synthetic`.

It shares its work with copies of the process, and torch's memory would make a copy take 20 ms in the place of 2. Reads
a request a line, a JSON object, and answers each with a line once it is done.
"""

import json
import sys
from functools import cache
from typing import Any

import numpy as np

from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.problems import Problems, make_problems, step_size_grid
from lorakappa.synthetic.settings import ProblemSettings


@cache
def problems_of(seeds: int) -> Problems:
    """The problems that all requests with so many seeds are about."""
    return make_problems(ProblemSettings(seeds=seeds))


def answer(method: str, optimizer: str, seeds: int, rows: int | None, steps: int, jobs: int) -> Any:
    """One simulation, on the grid of step sizes for these problems, or at a stable one, repeated `rows` times."""
    problems = problems_of(seeds)
    stable = 0.1 / np.median(problems.loss.smoothness)
    grid = step_size_grid("auto", problems, optimizer) if rows is None else np.full(rows, stable)
    return simulate(
        problems.loss, problems.start, method=method, optimizer=optimizer, step_sizes=grid, steps=steps, jobs=jobs
    )


if __name__ == "__main__":
    for line in sys.stdin:
        answer(**json.loads(line))
        print("done", flush=True)
