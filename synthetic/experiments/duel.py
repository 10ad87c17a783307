"""Who wins where: methods that give opposite advice, over spectrum decay × shape × start, each tuned on its own."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.synthetic import defaults
from lorakappa.synthetic.losses import OneLayer
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.optimizers import make_optimizer
from lorakappa.synthetic.problems import check_settings, check_step_sizes, make_problems, step_size_grid
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.selection import compare, score
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.tuning import cells, check_strengths, sweep

TIE, NOBODY = -1, -2
"""What stands for a method in `winner`: the two best are not told apart; every method diverges."""


def duel(
    settings: ProblemSettings,
    *,
    methods: Sequence[str] = defaults.DUEL_METHODS,
    spectrum: str = defaults.SPECTRUM,
    decays: Sequence[float] = defaults.DUEL_DECAYS,
    shapes: Sequence[tuple[int, int]] = defaults.DUEL_SHAPES,
    starts: Sequence[str] = defaults.DUEL_STARTS,
    optimizer: str = defaults.OPTIMIZER,
    steps: int = defaults.DUEL_STEPS,
    step_sizes: str = defaults.DUEL_STEP_SIZES,
    strengths: Sequence[float] = defaults.STRENGTHS,
    select: str = defaults.SELECT,
    quiet: bool = True,
) -> Result:
    """The winner of every cell, each method at its own best step size and λ in that cell.

    The winner has the lowest median final f − f*, and the 95 % interval of its paired gain over the runner-up excludes
    0; otherwise the cell is a tie. A diverged seed counts as `engine.DIVERGENCE_FACTOR` times its start. All cells of
    one shape advance together; a seed has the same singular vectors for every decay and start, and the same draw of
    entries for every start.

    Args:
        settings: the problems; loss must be "one-layer"; target, shape and start are replaced by the knobs.
        methods: names; the first is the baseline of the gains.
        spectrum: name of `targets.spectrum_from_name` that takes a parameter.
        decays: its parameters.
        shapes: (a, b) of AB.
        starts: starting points.
        optimizer: optimizer name.
        steps: number of steps.
        step_sizes: grid (`problems.step_size_grid`), shared by all cells of a shape: every spectrum has s₁ = 1.
        strengths: λ from which a method with a penalty gets its best one.
        select: criterion of `selection.score`.
        quiet: never show a progress bar.

    Returns:
        Arrays, with D decays, S shapes, K starts, M methods, n seeds: final (D, S, K, M, n) f − f*, log10 likewise its
        floored logarithm, gain (D, S, K, M) decades over the baseline, interval (D, S, K, M, 2), best_step_size and
        best_lambda (D, S, K, M), margin (D, S, K, 3) the winner's gain over the runner-up and its interval, winner
        (D, S, K) index of the method, `TIE` or `NOBODY`, decays (D,), shapes (S, 2). What does not exist (fewer than
        3 seeds for an interval, no λ, a method that diverges at every step size in a cell) is NaN.

    Raises:
        ValueError: on bad settings or empty knobs, or if a method diverges at every step size in every cell.
    """
    if settings.loss != "one-layer":
        raise ValueError("duel uses the one-layer loss")
    if len(methods) < 2 or len(set(methods)) != len(methods):
        raise ValueError("duel needs two or more different methods")
    if not decays or not shapes or not starts:
        raise ValueError("duel needs at least one decay, one shape and one start")
    if steps < 1:
        raise ValueError(f"{steps} steps asked for; at least 1 is needed")
    parsed = [parse_method(name) for name in methods]
    make_optimizer(optimizer)
    check_strengths(methods, strengths)
    score(np.ones((2, 1)), select)
    check_step_sizes(step_sizes)
    for shape in shapes:
        for start in starts:
            for decay in decays:
                check_settings(replace(settings, shape=shape, start=start, target=f"{spectrum}:{decay!r}"))
    sizes = (len(decays), len(shapes), len(starts), len(methods))
    arrays = {
        "final": np.full((*sizes, settings.seeds), np.nan),
        "log10": np.full((*sizes, settings.seeds), np.nan),
        "best_step_size": np.full(sizes, np.nan),
        "best_lambda": np.full(sizes, np.nan),
    }
    edges: list[dict[str, Any]] = [{"method": name, "step_size": 0, "lambda": 0, "no_result": 0} for name in methods]
    for j, shape in enumerate(shapes):
        knobs = [(decay, start) for decay in decays for start in starts]
        board = _Board.of(replace(settings, shape=shape), spectrum, knobs)
        for m, method in enumerate(parsed):
            grid = step_size_grid(step_sizes, board.first, optimizer, preconditioned=method.preconditioned)
            ran = sweep(
                board.loss,
                board.start,
                method,
                optimizer=optimizer,
                step_sizes=grid,
                steps=steps,
                select=select,
                strengths=strengths,
                quiet=quiet,
            )
            for cell, outcome in enumerate(cells(ran, grid, settings.seeds)):
                i, k = divmod(cell, len(starts))
                if outcome is None:
                    edges[m]["no_result"] += 1
                    continue
                for name in arrays:
                    arrays[name][i, j, k, m] = outcome[name]
                edges[m]["step_size"] += outcome["edges"][0]
                edges[m]["lambda"] += outcome["edges"][1]
    for line in edges:
        if line["no_result"] == np.prod(sizes[:3]):
            raise ValueError(f"{line['method']}: all step sizes diverge; try smaller ones (--step-sizes LO:HI:N)")
    arrays |= judge(arrays["log10"], settings.seed)
    arrays |= {"decays": np.asarray(decays, dtype=np.float64), "shapes": np.asarray(shapes, dtype=np.int64)}
    meta = {
        "settings": settings.meta(),
        "spectrum": spectrum,
        "starts": list(starts),
        "optimizer": optimizer,
        "methods": list(methods),
        "steps": steps,
        "select": select,
        "lambdas": list(strengths),
        "wins": {name: int((arrays["winner"] == m).sum()) for m, name in enumerate(methods)},
        "ties": int((arrays["winner"] == TIE).sum()),
        "at_edge_of_grid": edges,
    }
    return Result("duel", arrays, meta, settings.seed)


ROUNDING = 1e-6
"""Decades that two methods which are one may differ by."""


@dataclass(frozen=True)
class _Board:
    """All cells of one shape as one stack of problems, seeds innermost."""

    loss: OneLayer
    start: tuple[Array, ...]
    first: Any

    @classmethod
    def of(cls, settings: ProblemSettings, spectrum: str, knobs: Sequence[tuple[float, str]]) -> "_Board":
        made = [make_problems(replace(settings, target=f"{spectrum}:{d!r}", start=start)) for d, start in knobs]
        Z = np.concatenate([problems.Z for problems in made])
        start = tuple(np.concatenate(parts) for parts in zip(*(p.start for p in made), strict=True))
        return cls(OneLayer.from_target(Z, settings.rank, scaling=settings.scaling), start, made[0])


def judge(logs: Array, seed: int) -> dict[str, Any]:
    """Gains over the baseline, and the winner of every cell with its margin, from (D, S, K, M, n) logarithms."""
    cells, M = logs.shape[:3], logs.shape[3]
    gain, interval = np.full((*cells, M), np.nan), np.full((*cells, M, 2), np.nan)
    winner, margin = np.full(cells, NOBODY), np.full((*cells, 3), np.nan)
    for cell in np.ndindex(*cells):
        here = logs[cell]
        there = np.flatnonzero(np.isfinite(here).all(axis=-1))
        for m in there if 0 in there else ():
            found = compare(here[0] - here[m], seed=seed)
            gain[cell][m], interval[cell][m] = found.median, found.interval or (np.nan, np.nan)
        ranked = there[np.argsort(np.median(here[there], axis=-1), kind="stable")]
        if len(ranked) == 1:
            winner[cell] = ranked[0]
        elif len(ranked):
            found = compare(here[ranked[1]] - here[ranked[0]], seed=seed)
            low, high = found.interval or (np.nan, np.nan)
            winner[cell] = ranked[0] if low > ROUNDING else TIE
            margin[cell] = found.median, low, high
    return {"gain": gain, "interval": interval, "winner": winner, "margin": margin}
