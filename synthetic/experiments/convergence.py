"""Loss curves of several methods from the same starts, each at its own best step size and λ (paper: Fig. 3)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.checks import Array
from lorakappa.synthetic import defaults
from lorakappa.synthetic.choices import TUNING
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.optimizers import make_optimizer
from lorakappa.synthetic.problems import check_step_sizes, make_problems, step_size_grid
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.selection import compare, floored_log10, score
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.tuning import Choice, Sweep, check_strengths, sweep


def convergence(
    settings: ProblemSettings,
    *,
    optimizer: str = defaults.OPTIMIZER,
    methods: Sequence[str] = defaults.METHODS,
    steps: int = defaults.STEPS,
    step_sizes: str = defaults.STEP_SIZES,
    select: str = defaults.SELECT,
    tune: str = defaults.TUNE,
    strengths: Sequence[float] = defaults.STRENGTHS,
    device: str | None = None,
    quiet: bool = True,
) -> Result:
    """Runs every method on the same problems, starts and step sizes, and picks each one's best step size (and λ).

    Args:
        settings: the problems.
        optimizer: "gd", "sign-gd", "sign" or "adam".
        methods: names; the first is the baseline of the comparisons.
        steps: number of steps.
        step_sizes: "auto" or LO:HI:N (`step_size_grid`).
        select: "final", "area" or "threshold" (`selection.score`).
        tune: "shared" or "per-seed" (`selection.best_step`).
        strengths: λ from which a method with a penalty gets its best one; empty for its default.
        device: as for `simulate`.
        quiet: never show a progress bar.

    Returns:
        Arrays, with M methods, G step sizes, n seeds and T steps: excess (T+1, M, G, n), imbalance likewise,
        diverged_at (M, G, n) with −1 for no divergence, step_sizes (G,), scores (M, G, n), best (M, n)
        indices into the grid, curves (T+1, M, n) and curves_imbalance at the best step size, f_star (n,)
        (0 for the interpolating losses). A method with a λ is shown at its best λ, which the summary names.

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
    check_strengths(methods, strengths)
    check_step_sizes(step_sizes)
    problems = make_problems(settings, quiet=quiet)
    grid = step_size_grid(
        step_sizes, problems, optimizer, preconditioned=any(method.preconditioned for method in parsed)
    )
    sweeps = [
        sweep(
            problems.loss,
            problems.start,
            method,
            optimizer=optimizer,
            step_sizes=grid,
            steps=steps,
            select=select,
            strengths=strengths,
            device=device,
            quiet=quiet,
        )
        for method in parsed
    ]
    choices = [one.choose(tune) for one in sweeps]
    pairs = list(zip(sweeps, choices, strict=True))
    excess = np.stack([one.excess(choice) for one, choice in pairs], axis=1)
    imbalance = np.stack([one.imbalance(choice) for one, choice in pairs], axis=1)
    best = np.stack([choice.step for choice in choices])
    curves = _at_best(excess, best)
    meta = {
        "settings": settings.meta(),
        "optimizer": optimizer,
        "methods": list(methods),
        "steps": steps,
        "select": select,
        "tune": tune,
        "device": device or "numpy",
        "summary": [_summary(one, choice, grid, curves[:, i]) for i, (one, choice) in enumerate(pairs)],
        "comparisons": _comparisons(methods, curves, settings.seed),
    }
    arrays = {
        "excess": excess,
        "imbalance": imbalance,
        "diverged_at": np.stack([one.diverged_at(choice) for one, choice in pairs]),
        "step_sizes": grid,
        "scores": np.stack([score(excess[:, i], select) for i in range(len(sweeps))]),
        "best": best,
        "curves": curves,
        "curves_imbalance": _at_best(imbalance, best),
        "f_star": np.broadcast_to(getattr(problems.loss, "minimum", 0.0), (settings.seeds,)),
    }
    return Result("convergence", arrays, meta, settings.seed)


def _at_best(values: Array, best: NDArray[np.int64]) -> Array:
    """(T + 1, M, n) of (T + 1, M, G, n): each method and seed at its step size (M, n)."""
    return np.asarray(np.take_along_axis(values, best[None, :, None, :], axis=2)[:, :, 0], dtype=np.float64)


def _summary(one: Sweep, choice: Choice, grid: Array, curves: Array) -> dict[str, Any]:
    """One method's line: what was chosen, how it ended, what diverged, how long it took."""
    diverged = np.stack([run.diverged_at for run in one.runs]) >= 0
    step_at_edge, strength_at_edge = one.at_edge(choice)
    return {
        "method": one.method.name,
        "step_size": [float(grid[i]) for i in np.unique(choice.step)],
        "best_at_edge_of_grid": step_at_edge,
        "lambda": one.strength(choice),
        "best_lambda_at_edge": strength_at_edge,
        "final_median": float(np.median(curves[-1])),
        "final_quartiles": [float(q) for q in _quantiles(curves[-1])],
        "diverged": int(diverged.sum()),
        "diverged_at_best": int(diverged[choice.variant, choice.step, np.arange(len(choice.step))].sum()),
        "trajectories": int(diverged.size),
        "seconds": one.seconds,
        "trajectories_per_second": diverged.size / one.seconds,
    }


def _quantiles(values: Array) -> tuple[float, float]:
    """Quartiles that are data points, so that a diverged seed (inf) does not make them NaN."""
    low, high = np.quantile(values, [0.25, 0.75], method="inverted_cdf")
    return float(low), float(high)


def final_logs(curves: Array) -> Array:
    """log₁₀ of the final f − f* of (T + 1, …) curves.

    A diverged seed counts as DIVERGENCE_FACTOR times its start: dropping it would flatter the method that
    diverges more.
    """
    finite = np.isfinite(curves[-1])
    return floored_log10(np.where(finite, curves[-1], DIVERGENCE_FACTOR * curves[0]), curves[0])


def _comparisons(methods: Sequence[str], curves: Array, seed: int) -> list[dict[str, Any]]:
    """Paired gains log₁₀(baseline/method) in the final f − f* (`final_logs`)."""
    logs, diverged = final_logs(curves), (~np.isfinite(curves[-1])).sum(axis=-1)
    return [
        {
            "baseline": methods[0],
            "method": methods[i],
            "diverged": [int(diverged[0]), int(diverged[i])],
            "log10_gain": compare(logs[0] - logs[i], seed=seed).meta(),
        }
        for i in range(1, len(methods))
    ]
