"""Arms simulated: a choice among step sizes and λ on some problems, a measurement on others."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.synthetic.arms.arm import COLUMNS, DECIMALS, Arm, Choice, Measured, chosen_strengths
from lorakappa.synthetic.arms.quantities import relative_defect, trained_growth, window
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR, Trajectories, simulate
from lorakappa.synthetic.experiments.gauges import final_excess, noisy
from lorakappa.synthetic.framed_adam import FramedAdam
from lorakappa.synthetic.losses import Loss, Params
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
    grid = step_size_grid(like.step_sizes, problems, _rule(like), preconditioned=preconditioned)
    medians = tuple(_medians(like, _run(like, name, problems, grid, seed)) for name in like.variants())
    return Choice(tuple(float(gamma) for gamma in grid), chosen_strengths(like), medians, arm.beyond)


def refine(arm: Arm, choice: Choice, *, seed: int, count: int) -> Choice:
    """Compares the best cells of a choice on further problems, and the next ones where all of these diverge.

    Arguments are as of `choose`.
    """
    like = arm.chooser
    problems = _problems(like.settings, seed, count)
    finalists: list[tuple[int, int, float]] = []
    while cells := choice.best(len(finalists)):
        medians: dict[tuple[int, int], float] = {}
        for variant in {variant for variant, _ in cells}:
            steps = [step for v, step in cells if v == variant]
            grid = np.asarray([choice.grid[step] for step in steps])
            row = _medians(like, _run(like, like.variants()[variant], problems, grid, seed))
            medians |= {(variant, step): median for step, median in zip(steps, row, strict=True)}
        finalists += [(*cell, medians[cell]) for cell in cells]
        if np.isfinite(min(medians.values())):
            break
    return replace(choice, finalists=tuple(finalists))


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
    grid = np.asarray(choice.grid if arm.quantity == "window" else [choice.grid[step]])
    maps: list[PostStep] = []
    run = _run(arm, arm.variants()[variant], problems, grid, seed, maps=maps, jitter=jitter)
    logs, diverged = _final_logs(arm, run.excess)
    if arm.quantity == "window":  # what diverges is outside, and lost to no one
        return Measured(window(grid, np.where(diverged, np.inf, logs))[None], 0)
    pairs = [(A[0], B[0]) for A, B in zip(run.factors[::2], run.factors[1::2], strict=True)]
    if arm.quantity == "ratio":
        values = trained_growth(maps, pairs)
    elif arm.quantity == "defect":
        values = np.stack([relative_defect(*pair) for pair in pairs])
    else:
        values = logs
    return Measured(values, int(diverged.sum()))


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


def _rule(arm: Arm) -> str:
    """What `simulate` calls an arm's optimizer: noise is the loss's."""
    return "gd" if arm.optimizer == "sgd" else arm.optimizer


def _run(
    arm: Arm,
    name: str,
    problems: Problems,
    grid: Array,
    seed: int,
    *,
    maps: list[PostStep] | None = None,
    jitter: float = 0.0,
) -> Trajectories:
    """The method of that name on problems at every step size; its maps, one a block, are put into `maps`."""
    method = Method(COLUMNS, new_map=lambda _: columns_balanced) if name == COLUMNS else parse_method(name)
    inner, own = method.new_map, arm.adam

    def new_map(loss: Loss) -> PostStep:
        made = None if inner is None else inner(loss)
        if maps is not None and made is not None:
            maps.append(made)
        return _Jittered(made, jitter, seed) if jitter or made is None else made

    return simulate(
        noisy(problems, arm.noise, seed) if arm.optimizer == "sgd" else problems.loss,
        problems.start,
        method=method if inner is None and not jitter else replace(method, new_map=new_map),
        optimizer=_rule(arm) if own is None else FramedAdam(own.frame, own.carried, own.second, own.eps, seed=seed),
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


def _medians(arm: Arm, run: Trajectories) -> tuple[float, ...]:
    """By step size, the median over the problems of log₁₀ of the final f − f*; inf where half or more diverged."""
    logs, diverged = _final_logs(arm, run.excess)
    row = np.median(np.where(diverged, np.inf, logs), axis=-1)
    return tuple(float(median) for median in np.round(row, DECIMALS))


def _final_logs(arm: Arm, excess: Array) -> tuple[Array, Any]:
    """(G, n) floored log₁₀ of the final f − f* of (T + 1, G, n) curves, and which of them diverged.

    A diverged one counts as `engine.DIVERGENCE_FACTOR` times its start: to leave it out would flatter the method that
    diverges more.
    """
    final = final_excess(excess, arm.optimizer)
    diverged = ~np.isfinite(final)
    return floored_log10(np.where(diverged, DIVERGENCE_FACTOR * excess[0], final), excess[0]), diverged
