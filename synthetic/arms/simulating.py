"""Arms simulated: a choice among step sizes and λ on some problems, a measurement on others."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.synthetic.arms.arm import COLUMNS, DECIMALS, Arm, Choice, Measured, chosen_strengths
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR, Trajectories, simulate
from lorakappa.synthetic.framed_adam import FramedAdam
from lorakappa.synthetic.losses import Params
from lorakappa.synthetic.methods import Method, PostStep, parse_method
from lorakappa.synthetic.problems import Problems, make_problems, step_size_grid
from lorakappa.synthetic.selection import floored_log10
from lorakappa.synthetic.settings import ProblemSettings

SECOND_ROUND = 10_000


def root(seed: int, place: int) -> int:
    """Root seed of one of several independent sets of problems.

    0 to choose on, `SECOND_ROUND` to choose among the best on, 1, 2, … to measure on.
    """
    return int(np.random.SeedSequence(seed, spawn_key=(place,)).generate_state(1, np.uint64)[0])


def choose(arm: Arm, *, seed: int, count: int) -> Choice:
    """Tries an arm at every step size and λ.

    Args:
        arm: the arm; another one's tuning (`Arm.chooser`) is made for it where it has none of its own.
        seed: root seed of the problems.
        count: number of problems.

    Returns:
        The outcome; `Choice.place` is what is chosen.
    """
    like = arm.chooser
    problems = _problems(like.settings, seed, count)
    preconditioned = like.method != COLUMNS and parse_method(like.method).preconditioned
    grid = step_size_grid(like.step_sizes, problems, like.optimizer, preconditioned=preconditioned)
    medians = []
    for name in like.variants():
        logs, diverged = _final_logs(_run(like, name, problems, grid, seed).excess)
        row = np.median(np.where(diverged, np.inf, logs), axis=-1)
        medians.append(tuple(float(value) for value in np.round(row, DECIMALS)))
    return Choice(tuple(float(gamma) for gamma in grid), chosen_strengths(like), tuple(medians), arm.beyond)


def refine(arm: Arm, choice: Choice, *, seed: int, count: int) -> Choice:
    """Compares the best cells of a choice on further problems; arguments as of `choose`."""
    like = arm.chooser
    problems = _problems(like.settings, seed, count)
    cells = choice.best()
    medians: dict[tuple[int, int], float] = {}
    if len(cells) < 2:
        return choice
    for variant in {variant for variant, _ in cells}:
        steps = [step for v, step in cells if v == variant]
        grid = np.asarray([choice.grid[step] for step in steps])
        logs, diverged = _final_logs(_run(like, like.variants()[variant], problems, grid, seed).excess)
        row = np.round(np.median(np.where(diverged, np.inf, logs), axis=-1), DECIMALS)
        medians |= {(variant, step): float(median) for step, median in zip(steps, row, strict=True)}
    return replace(choice, finalists=tuple((*cell, medians[cell]) for cell in cells))


def measure(arm: Arm, choice: Choice, *, seed: int, count: int, jitter: float = 0.0) -> Measured:
    """Measures an arm at what was chosen for it.

    Args:
        arm: the arm.
        choice: for it.
        seed: root seed of the problems.
        count: number of problems.
        jitter: if positive, every entry of the factors is multiplied by 1 + u after every step, u uniform in ±jitter.
    """
    problems = _problems(arm.settings, seed, count)
    variant, step = choice.place
    run = _run(arm, arm.variants()[variant], problems, np.asarray([choice.grid[step]]), seed, jitter=jitter)
    logs, diverged = _final_logs(run.excess)
    return Measured(logs[0], int(diverged.sum()))


def columns_balanced(factors: Params, step_sizes: Any) -> Params:
    """‖A_i‖ = ‖B_i‖ for every column of A and row of B, by one number each; what is 0 stays as it is."""
    moved: list[Array] = []
    for A, B in zip(factors[::2], factors[1::2], strict=True):
        left, right = np.linalg.norm(A, axis=-2), np.linalg.norm(B, axis=-1)
        there = (left > 0) & (right > 0)
        t = np.sqrt(np.where(there, right, 1.0) / np.where(there, left, 1.0))
        moved += (A * t[..., None, :], B / t[..., :, None])
    return tuple(moved)


@lru_cache(maxsize=32)
def _problems(settings: ProblemSettings, seed: int, count: int) -> Problems:
    return make_problems(replace(settings, seeds=count, seed=seed))


def _run(arm: Arm, name: str, problems: Problems, grid: Array, seed: int, *, jitter: float = 0.0) -> Trajectories:
    """The method of that name on problems at every step size."""
    method = Method(COLUMNS, new_map=lambda _: columns_balanced) if name == COLUMNS else parse_method(name)
    if jitter:
        inner = method.new_map
        method = replace(method, new_map=lambda loss: _Jittered(inner and inner(loss), jitter, seed))
    own = arm.adam
    return simulate(
        problems.loss,
        problems.start,
        method=method,
        optimizer=arm.optimizer if own is None else FramedAdam(own.frame, own.carried, own.second, own.eps, seed=seed),
        step_sizes=grid,
        steps=arm.steps,
    )


class _Jittered:
    """A map, or none, whose outcome is moved a little."""

    def __init__(self, inner: PostStep | None, jitter: float, seed: int) -> None:
        self.inner, self.jitter, self.rng = inner, jitter, np.random.default_rng(seed)
        observe = getattr(inner, "observe", None)
        if observe is not None:  # a map that is shown the gradients
            self.observe = observe

    def __call__(self, factors: Params, step_sizes: Any) -> Params:
        """The factors after both."""
        moved = factors if self.inner is None else self.inner(factors, step_sizes)
        return tuple(x * (1 + self.jitter * self.rng.uniform(-1, 1, x.shape)) for x in moved)


def _final_logs(excess: Array) -> tuple[Array, Any]:
    """(G, n) floored log₁₀ of the final f − f* of (T + 1, G, n) curves, and which of them diverged.

    A diverged one counts as `engine.DIVERGENCE_FACTOR` times its start: to leave it out would flatter the method that
    diverges more.
    """
    diverged = ~np.isfinite(excess[-1])
    return floored_log10(np.where(diverged, DIVERGENCE_FACTOR * excess[0], excess[-1]), excess[0]), diverged
