"""Which gauge for which data: the weighted loss over the condition numbers of its weights, under three optimizers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.checks import Array
from lorakappa.shared.forecast import tracked
from lorakappa.synthetic import defaults
from lorakappa.synthetic.choices import TRAINED
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR, simulate
from lorakappa.synthetic.experiments.duel import TIE, judge
from lorakappa.synthetic.losses import Weighted
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.noise import NoisyLabels
from lorakappa.synthetic.problems import Problems, check_settings, check_step_sizes, make_problems, step_size_grid
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.selection import best_step, floored_log10
from lorakappa.synthetic.settings import ProblemSettings

TAIL = 5
"""With noise the last 1/5 of the steps is averaged: single values of f − f* jump there."""


@dataclass(frozen=True)
class Reached:
    """What a method reaches on n problems at its best step size.

    Attributes:
        final: (n,) f − f*, with noise its mean over the last steps; inf for a seed that diverged.
        log10: (n,) its logarithm, floored; a diverged seed counts as `engine.DIVERGENCE_FACTOR` times its start.
        step_size: the best one, by the median of log10.
        at_edge: whether it is an end of the grid.
    """

    final: Array
    log10: Array
    step_size: float
    at_edge: bool


def noisy(problems: Problems, noise: float, seed: int) -> NoisyLabels:
    """The weighted loss with noisy labels.

    Args:
        problems: of the weighted loss.
        noise: σ in units of the root mean square of CZD.
        seed: of the noise.
    """
    loss = problems.loss
    assert isinstance(loss, Weighted)
    size = noise * np.sqrt(np.mean((loss.C @ problems.Z @ loss.D) ** 2, axis=(-2, -1)))
    return NoisyLabels(loss, size, seed)


def final_excess(excess: Array, optimizer: str) -> Array:
    """(G, n) what (T + 1, G, n) curves of f − f* are judged by: the last value, under "sgd" the last fifth's mean."""
    return np.asarray(excess[-max(1, (len(excess) - 1) // TAIL) :].mean(axis=0) if optimizer == "sgd" else excess[-1])


def reach(
    problems: Problems, method: str, optimizer: str, *, steps: int, step_sizes: str, noise: float, seed: int
) -> Reached | None:
    """Runs one method at every step size.

    Args:
        problems: of the weighted loss.
        method: its name.
        optimizer: "gd", "sgd" or "adam".
        steps: number of steps.
        step_sizes: grid (`problems.step_size_grid`).
        noise: as for `noisy`, under "sgd".
        seed: of the noise.

    Returns:
        What it reaches; None if all step sizes diverge.
    """
    parsed = parse_method(method)
    rule = "adam" if optimizer == "adam" else "gd"
    grid = step_size_grid(step_sizes, problems, rule, preconditioned=parsed.preconditioned)
    loss = noisy(problems, noise, seed) if optimizer == "sgd" else problems.loss
    excess = simulate(loss, problems.start, method=parsed, optimizer=rule, step_sizes=grid, steps=steps).excess
    final = final_excess(excess, optimizer)
    logs = floored_log10(np.where(np.isfinite(final), final, DIVERGENCE_FACTOR * excess[0]), excess[0])
    try:
        best = int(best_step(np.where(np.isfinite(final), logs, np.inf))[0])
    except ValueError:
        return None
    return Reached(final[best], logs[best], float(grid[best]), best in (0, len(grid) - 1))


def gauges(
    settings: ProblemSettings,
    *,
    methods: Sequence[str] = defaults.GAUGES_METHODS,
    conditions_c: Sequence[float] = defaults.GAUGES_CONDITIONS,
    conditions_d: Sequence[float] = defaults.GAUGES_CONDITIONS,
    optimizers: Sequence[str] = TRAINED,
    steps: int = defaults.STEPS,
    step_sizes: str = defaults.DUEL_STEP_SIZES,
    noise: float = defaults.GAUGES_NOISE,
    quiet: bool = True,
) -> Result:
    """The winner of every cell, each method at its own best step size in that cell; rules as for `duel`.

    Targets and starts of a seed are the same in every cell, and so are the singular vectors of its weights: random ones
    or, if `settings.alignment` says so, crossed ones.

    Args:
        settings: the problems; loss must be "weighted"; weights are replaced by the knobs.
        methods: names; the first is the baseline of the gains.
        conditions_c: condition numbers of C.
        conditions_d: condition numbers of D.
        optimizers: "gd", "sgd" (GD with noisy labels) or "adam".
        steps: number of steps.
        step_sizes: grid (`problems.step_size_grid`), around the natural unit of each cell.
        noise: standard deviation of the labels' noise under "sgd", in units of the root mean square of CZD.
        quiet: never show a progress bar.

    Returns:
        Arrays, with P and Q condition numbers of C and D, K optimizers, M methods, n seeds: final (P, Q, K, M, n)
        f − f*, under "sgd" its mean over the last fifth of the steps; log10, gain, interval, winner, margin and
        best_step_size as of `duel`; conditions_c (P,), conditions_d (Q,). A method that diverges at every step size in
        a cell is NaN there.

    Raises:
        ValueError: on bad settings or empty knobs.
    """
    if settings.loss != "weighted":
        raise ValueError("gauges uses the weighted loss")
    if len(methods) < 2 or len(set(methods)) != len(methods):
        raise ValueError("gauges needs two or more different methods")
    if not conditions_c or not conditions_d or not optimizers:
        raise ValueError("gauges needs at least one condition number of C, one of D and one optimizer")
    for name in optimizers:
        if name not in TRAINED:
            raise ValueError(f"unknown optimizer {name!r}; choose from {', '.join(TRAINED)}")
    if steps < 1:
        raise ValueError(f"{steps} steps asked for; at least 1 is needed")
    if not 0 < noise < 1e6:
        raise ValueError(f"the noise must be positive and at most 1e6, but is {noise:g}")
    for name in methods:
        parse_method(name)
    check_step_sizes(step_sizes)
    knobs = [(c, d) for c in conditions_c for d in conditions_d]
    for weights in knobs:
        check_settings(replace(settings, weights=weights))
    sizes = (len(conditions_c), len(conditions_d), len(optimizers), len(methods))
    arrays: dict[str, NDArray[Any]] = {
        "final": np.full((*sizes, settings.seeds), np.nan),
        "log10": np.full((*sizes, settings.seeds), np.nan),
        "best_step_size": np.full(sizes, np.nan),
    }
    edges = dict.fromkeys(methods, 0)
    for cell in tracked(len(knobs), "gauges", quiet=quiet):
        i, j = divmod(cell, len(conditions_d))
        problems = make_problems(replace(settings, weights=knobs[cell]))
        for k, optimizer in enumerate(optimizers):
            for m, name in enumerate(methods):
                found = reach(
                    problems,
                    name,
                    optimizer,
                    steps=steps,
                    step_sizes=step_sizes,
                    noise=noise,
                    seed=settings.seed,
                )
                if found is not None:
                    at = (i, j, k, m)
                    arrays["final"][at], arrays["log10"][at] = found.final, found.log10
                    arrays["best_step_size"][at] = found.step_size
                    edges[name] += found.at_edge
    arrays |= judge(arrays["log10"], settings.seed)
    arrays |= {
        "conditions_c": np.asarray(conditions_c, dtype=np.float64),
        "conditions_d": np.asarray(conditions_d, dtype=np.float64),
    }
    meta = {
        "settings": {key: value for key, value in settings.meta().items() if key != "weights"},
        "optimizers": list(optimizers),
        "methods": list(methods),
        "steps": steps,
        "noise": noise,
        "wins": {name: int((arrays["winner"] == m).sum()) for m, name in enumerate(methods)},
        "ties": int((arrays["winner"] == TIE).sum()),
        "at_edge_of_grid": edges,
    }
    return Result("gauges", arrays, meta, settings.seed)
