"""The ratio of iLoRA: what another factor or power than the paper's would reach."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lorakappa.synthetic import defaults
from lorakappa.synthetic.methods import parse_method
from lorakappa.synthetic.optimizers import make_optimizer
from lorakappa.synthetic.problems import check_settings, check_step_sizes, make_problems, step_size_grid
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.tuning import cells, check_strengths, sweep


def ratios(
    settings: ProblemSettings,
    *,
    method: str = defaults.RATIOS_METHOD,
    factors: Sequence[float] = defaults.RATIOS_FACTORS,
    powers: Sequence[float] = defaults.RATIOS_POWERS,
    shapes: Sequence[tuple[int, int]] = defaults.DUEL_SHAPES,
    optimizer: str = defaults.OPTIMIZER,
    steps: int = defaults.DUEL_STEPS,
    step_sizes: str = defaults.DUEL_STEP_SIZES,
    strengths: Sequence[float] = defaults.STRENGTHS,
    quiet: bool = True,
) -> Result:
    """The ablation of iLoRA's ratio: final f − f* with c·r/m and with (r/m)^p, each at its best step size and λ.

    Args:
        settings: the problems; loss must be "one-layer"; the shape is replaced.
        method: "ilora" or "pilora".
        factors: c, at p = 1.
        powers: p, at c = 1.
        shapes: (a, b) of AB; m = a.
        optimizer: optimizer name.
        steps: number of steps.
        step_sizes: grid (`problems.step_size_grid`).
        strengths: λ to choose from.
        quiet: never show a progress bar.

    Returns:
        Arrays, with S shapes, V = factors + powers variants, n seeds: log10 (S, V, n) of the final f − f*, ratio (S, V)
        the ratios, final_median (S, V), best_lambda (S, V), factors, powers, shapes.

    Raises:
        ValueError: on bad settings, or if a variant diverges at every step size and λ.
    """
    if method not in ("ilora", "pilora"):
        raise ValueError(f"the ratio is iLoRA's: method must be ilora or pilora, not {method!r}")
    if not factors or not powers or not shapes:
        raise ValueError("ratios needs at least one factor, one power and one shape")
    if steps < 1:
        raise ValueError(f"{steps} steps asked for; at least 1 is needed")
    make_optimizer(optimizer)
    check_step_sizes(step_sizes)
    for shape in shapes:
        check_settings(replace(settings, shape=shape))
    names = [f"{method}:factor={c!r}" for c in factors] + [f"{method}:power={p!r}" for p in powers]
    check_strengths(names, strengths)
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
            (outcome,) = cells(ran, grid, settings.seeds)
            if outcome is None:
                ran.choose()  # says which one diverges, and what to try
            else:
                logs[j, v], strength[j, v] = outcome["log10"], outcome["best_lambda"]
    r_over_m = settings.rank / np.asarray([a for a, _ in shapes])[:, None]
    arrays = {
        "log10": logs,
        "final_median": 10 ** np.median(logs, axis=-1),
        "ratio": np.concatenate([np.asarray(factors) * r_over_m, r_over_m ** np.asarray(powers)], axis=1),
        "best_lambda": strength,
        "factors": np.asarray(factors, dtype=np.float64),
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
