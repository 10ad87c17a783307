"""Who wins where: methods that give opposite advice, over spectrum decay × shape × start, each tuned on its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR
from lorakappa.synthetic.losses import OneLayer
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.problems import Settings, make_problems, step_size_grid
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.selection import compare, floored_log10
from lorakappa.synthetic.tuning import STRENGTHS, Sweep, sweep

METHODS = ("lora", "balora", "ilora", "scaled-gd", "pilora")
SHAPES = ((40, 10), (20, 20), (10, 40))
DECAYS = (0.5, 0.7, 0.9)
STARTS = ("lora", "balanced", "gaussian")

STEPS = 50
"""Few enough that the fastest methods do not reach rounding, where nobody could win."""

GRID = "auto:17"
"""Five step sizes a decade."""

TIE, NOBODY = -1, -2
"""What stands for a method in `winner`: the two best are not told apart; every method diverges."""


def duel(
    settings: Settings,
    *,
    methods: Sequence[str] = METHODS,
    family: str = "geometric",
    decays: Sequence[float] = DECAYS,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    starts: Sequence[str] = STARTS,
    optimizer: str = "gd",
    steps: int = STEPS,
    step_sizes: str = GRID,
    strengths: Sequence[float] = STRENGTHS,
    select: str = "final",
    quiet: bool = True,
) -> Result:
    """The winner of every cell, each method at its own best step size and λ in that cell.

    The winner has the lowest median final f − f*, and the 95 % interval of its paired gain over the runner-up excludes
    0; otherwise the cell is a tie. A diverged seed counts as `DIVERGENCE_FACTOR` times its start. All cells of one
    shape advance together; a seed has the same singular vectors for every decay and start, and the same draw of
    entries for every start.

    Args:
        settings: the problems; loss must be "one-layer"; target, shape and start are replaced by the knobs.
        methods: names; the first is the baseline of the gains.
        family: spectrum family of `targets.spectrum_from_name` with one parameter.
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
        board = _Board.of(replace(settings, shape=shape), family, knobs)
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
            for cell, outcome in enumerate(_cells(ran, grid, settings.seeds)):
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
    arrays |= _judge(arrays["log10"], settings.seed)
    arrays |= {"decays": np.asarray(decays, dtype=np.float64), "shapes": np.asarray(shapes, dtype=np.int64)}
    meta = {
        "settings": settings.meta(),
        "family": family,
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


@dataclass(frozen=True)
class _Board:
    """All cells of one shape as one stack of problems, seeds innermost."""

    loss: OneLayer
    start: tuple[Array, ...]
    first: Any

    @classmethod
    def of(cls, settings: Settings, family: str, knobs: Sequence[tuple[float, str]]) -> "_Board":
        made = [make_problems(replace(settings, target=f"{family}:{d!r}", start=start)) for d, start in knobs]
        Z = np.concatenate([problems.Z for problems in made])
        start = tuple(np.concatenate(parts) for parts in zip(*(p.start for p in made), strict=True))
        return cls(OneLayer.from_target(Z, settings.rank, scaling=settings.scaling), start, made[0])


def _cells(ran: Sweep, grid: Array, seeds: int) -> Iterator[dict[str, Any] | None]:
    """What one method reaches in every cell at its best (λ, γ) there; None where every pair diverges."""
    first = ran.runs[0].excess[0, 0]
    for low in range(0, len(first), seeds):
        cell = slice(low, low + seeds)
        if not np.isfinite(np.median(ran.scores[..., cell], axis=-1)).any():
            yield None
            continue
        choice = ran.choose(problems=cell)
        v, g = choice.variant[0], choice.step[0]
        final = ran.runs[v].excess[-1, g, cell]
        start = first[cell]
        strength = ran.strength(choice)
        yield {
            "final": final,
            "log10": floored_log10(np.where(np.isfinite(final), final, DIVERGENCE_FACTOR * start), start),
            "best_step_size": grid[g],
            "best_lambda": strength[0] if strength else np.nan,
            "edges": ran.at_edge(choice),
        }


def _judge(logs: Array, seed: int) -> dict[str, Any]:
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
            winner[cell] = ranked[0] if low > 0 else TIE
            margin[cell] = found.median, low, high
    return {"gain": gain, "interval": interval, "winner": winner, "margin": margin}


RATIO_SCALES = (1 / 16, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 16.0)
RATIO_POWERS = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0)


def ratios(
    settings: Settings,
    *,
    method: str = "ilora",
    scales: Sequence[float] = RATIO_SCALES,
    powers: Sequence[float] = RATIO_POWERS,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    optimizer: str = "gd",
    steps: int = STEPS,
    step_sizes: str = GRID,
    strengths: Sequence[float] = STRENGTHS,
    quiet: bool = True,
) -> Result:
    """ILoRA's ablation of its ratio: final f − f* with c·r/m and with (r/m)^p, each at its best step size and λ.

    Args:
        settings: the problems; loss must be "one-layer"; the shape is replaced.
        method: "ilora" or "pilora".
        scales: c, at p = 1.
        powers: p, at c = 1.
        shapes: (a, b) of AB; m = a.
        optimizer: optimizer name.
        steps: number of steps.
        step_sizes: grid (`problems.step_size_grid`).
        strengths: λ to choose from.
        quiet: never show a progress bar.

    Returns:
        Arrays, with S shapes, V = scales + powers variants, n seeds: log10 (S, V, n) of the final f − f*, ratio (S, V)
        the ratios, final_median (S, V), best_lambda (S, V), scales, powers, shapes, paper (1,) index of the variant
        c = p = 1 if there is one.

    Raises:
        ValueError: on bad settings, or if a variant diverges at every step size and λ.
    """
    if method not in ("ilora", "pilora"):
        raise ValueError(f"the ratio is iLoRA's: method must be ilora or pilora, not {method!r}")
    if not scales or not powers or not shapes:
        raise ValueError("ratios needs at least one scale, one power and one shape")
    names = [f"{method}:scale={c!r}" for c in scales] + [f"{method}:power={p!r}" for p in powers]
    sizes = (len(shapes), len(names))
    logs, strength = np.empty((*sizes, settings.seeds)), np.empty(sizes)
    for j, shape in enumerate(shapes):
        problems = make_problems(replace(settings, shape=shape))
        for v, name in enumerate(names):
            parsed = parse_method(name)
            grid = step_size_grid(step_sizes, problems, optimizer, preconditioned=parsed.preconditioned)
            ran = sweep(
                problems.loss,
                problems.start,
                parsed,
                optimizer=optimizer,
                step_sizes=grid,
                steps=steps,
                strengths=strengths,
                quiet=quiet,
            )
            (outcome,) = _cells(ran, grid, settings.seeds)
            if outcome is None:
                ran.choose()  # says which one diverges, and what to try
            else:
                logs[j, v], strength[j, v] = outcome["log10"], outcome["best_lambda"]
    r_over_m = settings.rank / np.asarray([a for a, _ in shapes])[:, None]
    arrays = {
        "log10": logs,
        "final_median": 10 ** np.median(logs, axis=-1),
        "ratio": np.concatenate([np.asarray(scales) * r_over_m, r_over_m ** np.asarray(powers)], axis=1),
        "best_lambda": strength,
        "scales": np.asarray(scales, dtype=np.float64),
        "powers": np.asarray(powers, dtype=np.float64),
        "shapes": np.asarray(shapes, dtype=np.int64),
    }
    meta = {
        "settings": settings.meta(),
        "method": method,
        "optimizer": optimizer,
        "steps": steps,
        "lambdas": list(strengths),
        "variants": names,
    }
    return Result("ratios", arrays, meta, settings.seed)
