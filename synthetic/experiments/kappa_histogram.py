"""κ over random minimizers and over the limit points of LoRA, against the balanced value and the bounds."""

from dataclasses import replace

import numpy as np

from lorakappa.conditioning.bounds import kappa_bounds
from lorakappa.conditioning.factors import minimizer
from lorakappa.conditioning.spectra import balanced_condition_number, condition_number
from lorakappa.shared.forecast import tracked
from lorakappa.shared.memory import check_memory
from lorakappa.synthetic import defaults
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.losses import OneLayer, polish
from lorakappa.synthetic.problems import check_settings
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.targets import LARGEST_SPREAD, generators, random_gauge, starts, targets

DRAW_BYTES = 500
"""A draw's κ and bounds while they are Python's numbers."""

LIMIT_GOAL = 1e-8
"""f − f* relative to its start at which a run counts as arrived; the pair is then polished to a minimizer."""


def kappa_histogram(
    settings: ProblemSettings,
    *,
    draws: int = defaults.HISTOGRAM_DRAWS,
    limits: int = defaults.HISTOGRAM_LIMITS,
    spread: float = defaults.HISTOGRAM_SPREAD,
    steps: int = defaults.LONGEST,
    quiet: bool = True,
) -> Result:
    """κ of one target's minimizers: in random gauges, and where GD on LoRA ends up from random starts.

    Args:
        settings: loss must be "one-layer"; one target is drawn, `seeds` is not used.
        draws: random gauges (`targets.random_gauge`).
        limits: GD runs, with γ = 1/L for the larger L of start and balanced minimizer.
        spread: of the gauges.
        steps: of the GD runs, at most; those that have not arrived are left out and counted.
        quiet: never show a progress bar.

    Returns:
        Arrays: kappa (draws,), lower, upper, lower_corrected, upper_corrected (draws,) bounds at the same
        minimizers (inf: vacuous), kappa_limit (≤ limits,), singular_values (k,).

    Raises:
        ValueError: on bad settings or counts.
    """
    if settings.loss != "one-layer":
        raise ValueError("κ histograms are of the one-layer loss")
    if draws < 1 or limits < 0 or spread < 0:
        raise ValueError("kappa-histogram needs draws ≥ 1, limits ≥ 0 and spread ≥ 0")
    if not spread <= LARGEST_SPREAD:
        raise ValueError(f"the spread must be at most {LARGEST_SPREAD:g}, but is {spread:g}")
    if steps < 1:
        raise ValueError(f"{steps} steps asked for; at least 1 is needed")
    ignored = {"start": settings.start, "init_std": settings.init_std, "steps": steps}
    usual = {"start": ProblemSettings.start, "init_std": ProblemSettings.init_std, "steps": defaults.LONGEST}
    if limits == 0 and ignored != usual:
        changed = ", ".join(name.replace("_", " ") for name in usual if ignored[name] != usual[name])
        raise ValueError(f"with no limit points (--limits 0) there are no runs, and {changed} has no effect")
    check_settings(replace(settings, seeds=max(1, limits)))
    check_memory(draws * DRAW_BYTES, f"{draws} draws", "ask for fewer")
    (target_rng,), (gauge_rng,) = generators(settings.seed, 1, 2)
    r = settings.rank
    Z = targets(settings.target, settings.shape, [target_rng])[0]
    OneLayer.from_target(Z, r)  # refuses bad ranks and degenerate targets
    s = np.linalg.svd(Z, compute_uv=False)
    kappas, bounds, corrected = [], [], []
    for _ in tracked(draws, "gauges", quiet=quiet):
        A, B = minimizer(Z, r, random_gauge(r, spread, gauge_rng))
        kappas.append(condition_number(A, B, Z))
        bounds.append(kappa_bounds(A, B, Z))
        corrected.append(kappa_bounds(A, B, Z, form="corrected"))
    kappa_limit, missed = _limit_points(settings, Z, s[0], limits, steps, quiet)
    kappa = np.asarray(kappas)
    lower, upper = np.asarray(bounds).T
    lower_corrected, upper_corrected = np.asarray(corrected).T
    balanced = balanced_condition_number(s, r, settings.shape)
    arrays = {
        "kappa": kappa,
        "lower": lower,
        "upper": upper,
        "lower_corrected": lower_corrected,
        "upper_corrected": upper_corrected,
        "kappa_limit": kappa_limit,
        "singular_values": s,
    }
    meta = {
        "settings": settings.meta(),
        "spread": spread,
        "draws": draws,
        "limits": limits,
        "kappa_balanced": balanced,
        "kappa_median": float(np.median(kappa)),
        "kappa_limit_median": float(np.median(kappa_limit)) if len(kappa_limit) else None,
        "upper_bound_vacuous": int(np.isinf(upper).sum()),
        "not_converged": missed,
    }
    return Result("kappa-histogram", arrays, meta, settings.seed)


def _limit_points(
    settings: ProblemSettings, Z: np.ndarray, s_1: float, limits: int, steps: int, quiet: bool
) -> tuple[np.ndarray, int]:
    """κ where GD on LoRA converges to, and how many runs did not get there."""
    if limits == 0:
        return np.empty(0), 0
    (rngs,) = generators(settings.seed + 1, limits, 1)
    start = starts(settings.start, settings.shape, settings.rank, rngs, init_std=settings.init_std)
    curvature = sum(np.linalg.norm(X, 2, axis=(-2, -1)) ** 2 for X in start)
    loss = OneLayer.from_target(np.broadcast_to(Z, (limits, *Z.shape)), settings.rank)
    gamma = 1 / np.maximum(curvature, 2 * s_1)
    run = simulate(loss, start, step_sizes=gamma[None], steps=steps, stop_below=LIMIT_GOAL, quiet=quiet)
    arrived = np.flatnonzero(run.excess[-1, 0] <= LIMIT_GOAL * run.excess[0, 0])
    points = [polish(run.factors[0][0, i], run.factors[1][0, i], Z) for i in arrived]
    return np.asarray([condition_number(A, B, Z) for A, B in points]), limits - len(arrived)
