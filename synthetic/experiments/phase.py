"""A map of BaLoRA's gain over two knobs: the decay of the target's spectrum and the size of the starting entries."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.synthetic import defaults
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.losses import OneLayer
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.optimizers import make_optimizer
from lorakappa.synthetic.problems import check_settings, check_step_sizes, make_problems, step_size_grid
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.selection import best_step, compare, floored_log10, score
from lorakappa.synthetic.settings import ProblemSettings


def phase(
    settings: ProblemSettings,
    *,
    spectrum: str = defaults.SPECTRUM,
    decays: Sequence[float] = defaults.PHASE_DECAYS,
    init_stds: Sequence[float] = defaults.PHASE_INIT_STDS,
    optimizer: str = defaults.OPTIMIZER,
    methods: Sequence[str] = defaults.METHODS,
    steps: int = defaults.STEPS,
    step_sizes: str = defaults.STEP_SIZES,
    select: str = defaults.SELECT,
    quiet: bool = True,
) -> Result:
    """The paired gain log₁₀(f_first/f_second) of final f − f* in every cell, each at its own best step size.

    All cells × seeds advance in one simulation per method; a seed has the same singular vectors and the same
    start (up to its size) in every cell.

    Args:
        settings: the problems; loss must be "one-layer"; target and init_std are replaced by the knobs.
        spectrum: name of `targets.spectrum_from_name` that takes a parameter.
        decays: its parameters, one row each.
        init_stds: standard deviations of the starting entries, one column each.
        optimizer: optimizer name.
        methods: the two methods to compare.
        steps: number of steps.
        step_sizes: grid, shared by all cells (every spectrum has s₁ = 1); "auto" takes every second point.
        select: criterion of `selection.score`.
        quiet: never show a progress bar.

    Returns:
        Arrays, with D decays, S init stds, n seeds: gain (D, S) medians, interval (D, S, 2) (NaN where there are
        fewer than 3 pairs), gain_per_seed (D, S, n), final (D, S, 2, n) f − f*, best_step_size (D, S, 2),
        decays (D,), init_stds (S,), step_sizes (G,). A cell where every step size diverges for a method is
        NaN and counted in the description.

    Raises:
        ValueError: on bad settings or empty knobs, or if all step sizes diverge in every cell.
    """
    if settings.loss != "one-layer":
        raise ValueError("phase maps the one-layer loss")
    if not decays or not init_stds:
        raise ValueError("phase needs at least one decay and one init std")
    if len(methods) != 2:
        raise ValueError(f"phase compares two methods, not {len(methods)}")
    if methods[0] == methods[1]:
        raise ValueError(f"phase compares two different methods, not {methods[0]} with itself")
    if steps < 1:
        raise ValueError(f"{steps} steps asked for; at least 1 is needed")
    for method in methods:
        parse_method(method)
    make_optimizer(optimizer)
    score(np.ones((2, 1)), select)
    check_step_sizes(step_sizes)
    cells = [(decay, init_std) for decay in decays for init_std in init_stds]
    for d, s in cells:
        check_settings(replace(settings, target=f"{spectrum}:{d!r}", init_std=s))
    made = [make_problems(replace(settings, target=f"{spectrum}:{d!r}", init_std=s)) for d, s in cells]
    Z = np.concatenate([problems.Z for problems in made])
    loss = OneLayer.from_target(Z, settings.rank, scaling=settings.scaling)
    start = tuple(np.concatenate(parts) for parts in zip(*(p.start for p in made), strict=True))
    grid = step_size_grid(step_sizes, made[0], optimizer)[:: 2 if step_sizes == "auto" else 1]
    shape = (len(decays), len(init_stds), settings.seeds)
    final, chosen = np.full((*shape[:2], 2, shape[2]), np.nan), np.full((*shape[:2], 2), np.nan)
    logs = np.full((2, *shape), np.nan)
    for m, method in enumerate(methods):
        run = simulate(loss, start, method=method, optimizer=optimizer, step_sizes=grid, steps=steps, quiet=quiet)
        scores = score(run.excess, select).reshape(len(grid), *shape)
        last = run.excess[-1].reshape(len(grid), *shape)
        first = run.excess[0, 0].reshape(shape)
        for i, j in np.ndindex(*shape[:2]):
            if not np.isfinite(np.median(scores[:, i, j], axis=-1)).any():
                continue
            best = best_step(scores[:, i, j])[0]
            chosen[i, j, m] = grid[best]
            final[i, j, m] = last[best, i, j]
            finite = np.isfinite(final[i, j, m])
            logs[m, i, j, finite] = floored_log10(final[i, j, m][finite], first[i, j][finite])
    per_seed = logs[0] - logs[1]
    if np.isnan(per_seed).all():
        raise ValueError("all step sizes diverge; try smaller ones (--step-sizes LO:HI:N)")
    gain, interval = _summarize(per_seed, settings.seed)
    arrays = {
        "gain": gain,
        "interval": interval,
        "gain_per_seed": per_seed,
        "final": final,
        "best_step_size": chosen,
        "decays": np.asarray(decays, dtype=np.float64),
        "init_stds": np.asarray(init_stds, dtype=np.float64),
        "step_sizes": grid,
    }
    meta = {
        "settings": settings.meta(),
        "spectrum": spectrum,
        "optimizer": optimizer,
        "methods": list(methods),
        "steps": steps,
        "select": select,
        "cells_won": int((interval[..., 0] > 0).sum()),
        "cells_lost": int((interval[..., 1] < 0).sum()),
        "cells_undecided": int(((interval[..., 0] <= 0) & (interval[..., 1] >= 0)).sum()),
        "cells_without_result": int(np.isnan(gain).sum()),
        "best_at_edge_of_grid": int(np.isin(chosen, (grid[0], grid[-1])).sum()),
    }
    return Result("phase", arrays, meta, settings.seed)


def _summarize(per_seed: Array, seed: int) -> tuple[Array, Array]:
    """Median and interval over the seeds of every cell."""
    gain = np.full(per_seed.shape[:2], np.nan)
    interval = np.full((*per_seed.shape[:2], 2), np.nan)
    for i, j in np.ndindex(*per_seed.shape[:2]):
        pairs = per_seed[i, j][np.isfinite(per_seed[i, j])]
        if len(pairs):
            found = compare(pairs, seed=seed)
            gain[i, j] = found.median
            interval[i, j] = found.interval or (np.nan, np.nan)
    return gain, interval
