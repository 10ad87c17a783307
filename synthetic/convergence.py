"""Loss curves of several methods from the same starts, each at its own best step size (paper: Fig. 3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conditioning.checks import Array
from synthetic.engine import DIVERGENCE_FACTOR, Trajectories, simulate
from synthetic.methods import make_optimizer, parse_method
from synthetic.problems import Settings, make_problems, step_size_grid
from synthetic.results import Result
from synthetic.selection import TUNING, best_step, compare, floored_log10, score


def convergence(
    settings: Settings,
    *,
    optimizer: str = "gd",
    methods: Sequence[str] = ("lora", "balora"),
    steps: int = 100,
    step_sizes: str = "auto",
    select: str = "final",
    tune: str = "shared",
    device: str | None = None,
    quiet: bool = True,
) -> Result:
    """Runs every method on the same problems, starts and step sizes, and picks each one's best step size.

    Args:
        settings: the problems.
        optimizer: "gd", "sign-gd", "sign" or "adam".
        methods: names; the first is the baseline of the comparisons.
        steps: number of steps.
        step_sizes: "auto" or LO:HI:N (`step_size_grid`).
        select: "final", "area" or "threshold" (`selection.score`).
        tune: "shared" or "per-seed" (`selection.best_step`).
        device: as for `simulate`.
        quiet: never show a progress bar.

    Returns:
        Arrays, with M methods, G step sizes, n seeds and T steps: excess (T+1, M, G, n), imbalance likewise,
        diverged_at (M, G, n) with −1 for no divergence, step_sizes (G,), scores (M, G, n), best (M, n)
        indices into the grid, curves (T+1, M, n) and curves_imbalance at the best step size, f_star (n,)
        (0 for the interpolating losses).

    Raises:
        ValueError: on bad settings, or if all step sizes diverge for some method.
    """
    if not methods or len(set(methods)) != len(methods):
        raise ValueError("methods must be a list of one or more different names")
    parsed = [parse_method(name) for name in methods]
    make_optimizer(optimizer)  # unknown names fail before anything is computed
    if steps < 1:
        raise ValueError(f"{steps} steps asked for; at least 1 is needed")
    if tune not in TUNING:
        raise ValueError(f"unknown tuning {tune!r}; choose from {', '.join(TUNING)}")
    score(np.ones((2, 1)), select)
    problems = make_problems(settings)
    grid = step_size_grid(step_sizes, problems, optimizer)
    runs = [
        simulate(
            problems.loss,
            problems.start,
            method=method,
            optimizer=optimizer,
            step_sizes=grid,
            steps=steps,
            device=device,
            quiet=quiet,
        )
        for method in parsed
    ]
    scores = np.stack([score(run.excess, select) for run in runs])
    best = np.stack([_best(name, values, tune) for name, values in zip(methods, scores, strict=True)])
    curves = np.stack([_at_best(run.excess, index) for run, index in zip(runs, best, strict=True)], axis=1)
    meta = {
        "settings": settings.meta(),
        "optimizer": optimizer,
        "methods": list(methods),
        "steps": steps,
        "select": select,
        "tune": tune,
        "device": device or "numpy",
        "summary": [
            _summary(name, run, grid, index, curves[:, i])
            for i, (name, run, index) in enumerate(zip(methods, runs, best, strict=True))
        ],
        "comparisons": _comparisons(methods, curves, settings.seed),
    }
    arrays = {
        "excess": np.stack([run.excess for run in runs], axis=1),
        "imbalance": np.stack([run.imbalance for run in runs], axis=1),
        "diverged_at": np.stack([run.diverged_at for run in runs]),
        "step_sizes": grid,
        "scores": scores,
        "best": best,
        "curves": curves,
        "curves_imbalance": np.stack(
            [_at_best(run.imbalance, index) for run, index in zip(runs, best, strict=True)], axis=1
        ),
        "f_star": np.broadcast_to(getattr(problems.loss, "minimum", 0.0), (settings.seeds,)),
    }
    return Result("convergence", arrays, meta, settings.seed)


def _best(name: str, scores: Array, tune: str) -> NDArray[np.int64]:
    try:
        return best_step(scores, tune)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _at_best(values: Array, index: NDArray[np.int64]) -> Array:
    """(T + 1, n) of (T + 1, G, n): each seed at its step size."""
    return np.asarray(np.take_along_axis(values, index[None, None, :], axis=1)[:, 0], dtype=np.float64)


def _summary(name: str, run: Trajectories, grid: Array, index: NDArray[np.int64], curves: Array) -> dict[str, Any]:
    """One method's line: what was chosen, how it ended, what diverged, how long it took."""
    chosen = run.diverged_at[index, np.arange(len(index))]
    return {
        "method": name,
        "step_size": [float(grid[i]) for i in np.unique(index)],
        "best_at_edge_of_grid": bool(len(grid) > 1 and np.isin(index, (0, len(grid) - 1)).any()),
        "final_median": float(np.median(curves[-1])),
        "final_quartiles": [float(q) for q in _quantiles(curves[-1])],
        "diverged": int((run.diverged_at >= 0).sum()),
        "diverged_at_best": int((chosen >= 0).sum()),
        "trajectories": int(run.diverged_at.size),
        "seconds": run.seconds,
        "trajectories_per_second": run.diverged_at.size / run.seconds,
    }


def _quantiles(values: Array) -> tuple[float, float]:
    """Quartiles that are data points, so that a diverged seed (inf) does not make them NaN."""
    low, high = np.quantile(values, [0.25, 0.75], method="inverted_cdf")
    return float(low), float(high)


def _comparisons(methods: Sequence[str], curves: Array, seed: int) -> list[dict[str, Any]]:
    """Paired gains log₁₀(baseline/method) in the final f − f*.

    A diverged seed counts as DIVERGENCE_FACTOR times its start: dropping it would flatter the method that
    diverges more.
    """
    finite = np.isfinite(curves[-1])
    logs = floored_log10(np.where(finite, curves[-1], DIVERGENCE_FACTOR * curves[0]), curves[0])
    return [
        {
            "baseline": methods[0],
            "method": methods[i],
            "diverged": [int((~finite[0]).sum()), int((~finite[i]).sum())],
            "log10_gain": compare(logs[0] - logs[i], seed=seed).meta(),
        }
        for i in range(1, len(methods))
    ]
