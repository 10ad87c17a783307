"""The experiments the critics asked for: whether BaLoRA's gain is the conditioning or something simpler."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.checks import Array, DegenerateTargetError
from lorakappa.conditioning.factors import change_gauge, minimizer
from lorakappa.conditioning.rates import gd_rate
from lorakappa.conditioning.spectra import condition_number, extreme_eigenvalues
from lorakappa.synthetic import defaults
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR, simulate
from lorakappa.synthetic.losses import OneLayer, Params, polish
from lorakappa.synthetic.measure import check_hessian, float_floor_decades, measure_rate, perturbation
from lorakappa.synthetic.optimizers import MatchedGradientDescent
from lorakappa.synthetic.problems import check_settings, check_step_sizes, make_problems, step_size_grid
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.selection import best_step, compare, floored_log10, score
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.targets import generators

HALVINGS = 6
"""Step sizes γ₀, γ₀/2, … of the small-step experiments."""

MULTIPLES = (0.25, 0.5, 0.71, 1.0, 1.41, 2.0, 4.0)
"""Of the other method's step lengths, tried in the step-rescale experiment."""

FLOW_STEPS = 40
"""Steps at γ₀; at γ₀/2^j there are 2^j times as many, over the same time."""


EXPERIMENTS = ("rescale", "same-curve", "flow", "equal-kappa")


def settle(
    settings: ProblemSettings,
    *,
    steps: int = defaults.STEPS,
    step_sizes: str = defaults.STEP_SIZES,
    experiments: Sequence[str] = EXPERIMENTS,
    quiet: bool = True,
) -> Result:
    """Runs the four experiments, or some of them, on paired one-layer problems.

    - *same κ, same curve*: LoRA and BaLoRA from one balanced start, over a fixed time, for γ₀/2^j. The
      gradient flow conserves AᵀA − BBᵀ, so the curves differ by O(γ) at most.
    - *equal κ*: next to a minimizer whose middle direction is unbalanced without changing κ, both methods.
    - *not a step rescale*: each method at its best step size (per seed), then LoRA with BaLoRA's step lengths
      in AB and BaLoRA with LoRA's, and both with the best common multiple of those lengths.
    - *the flow conserves the imbalance*: by one step and over a fixed time, from the given start.

    Args:
        settings: the problems; loss must be "one-layer".
        steps: of the step-rescale experiment.
        step_sizes: its grid.
        experiments: which, of `EXPERIMENTS`; only their arrays and entries are in the result.
        quiet: never show a progress bar.

    Returns:
        Arrays, with J = 6 step sizes and n seeds: gammas (J,) as multiples of 1/(2s₁); deviation (J, n)
        max_t |f_LoRA − f_BaLoRA|/f₀ from the balanced start, imbalance_from_balanced (J, n) LoRA's relative
        gap there at the end; drift_one_step and drift_fixed_time (J, n) change of AᵀA − BBᵀ relative to
        ‖A‖² + ‖B‖² at the start; rescale_curves (steps + 1, 6, n) in the order of the description's
        "rescale_runs"; rescale_step_sizes (2, n); and unless rank < 3, equal_kappa_curves (T + 1, 2, n),
        equal_kappa (2, n) κ at the two limit points, equal_kappa_limsup, equal_kappa_log_ratio and
        equal_kappa_conclusive (2, n).

    Raises:
        ValueError: on bad settings, or if all step sizes diverge.
    """
    if settings.loss != "one-layer":
        raise ValueError("settle uses the one-layer loss")
    if settings.scaling != 1:
        raise ValueError("settle needs a scaling α/r of 1")
    unknown = [name for name in experiments if name not in EXPERIMENTS]
    if unknown or not experiments:
        raise ValueError(f"experiments must be some of {', '.join(EXPERIMENTS)}, not {', '.join(unknown) or 'none'}")
    if steps < 1:
        raise ValueError(f"{steps} steps asked for; at least 1 is needed")
    check_step_sizes(step_sizes)
    check_settings(settings)
    if settings.rank >= 3 and "equal-kappa" in experiments:
        check_hessian(settings.shape, settings.rank, count=settings.seeds, quiet=quiet)
    arrays: dict[str, NDArray[Any]] = {"gammas": 0.5 ** np.arange(1, HALVINGS + 1)}
    meta: dict[str, Any] = {"settings": settings.meta(), "steps": steps}
    run: dict[str, Callable[[], tuple[dict[str, NDArray[Any]], dict[str, Any]]]] = {
        "same-curve": lambda: _same_curve(settings, quiet),
        "flow": lambda: _flow(settings, quiet),
        "equal-kappa": lambda: _equal_kappa(settings, quiet),
        "rescale": lambda: _not_a_rescale(settings, steps, step_sizes, quiet),
    }
    for name in EXPERIMENTS:
        if name in experiments:
            found, described = run[name]()
            arrays |= found
            meta |= described
    return Result("settle", arrays, meta, settings.seed)


def _small_steps(loss: OneLayer) -> Array:
    """(J, n): 2^{−1}, …, 2^{−J} in units of 1/L at the balanced minimizer."""
    return np.asarray(0.5 ** np.arange(1, HALVINGS + 1)[:, None] / loss.smoothness, dtype=np.float64)


def _slope(values: Array) -> float:
    """Exponent p of values ~ γ^p, from the medians over seeds at the smaller half of the step sizes."""
    medians = np.median(values, axis=1)[HALVINGS // 2 :]
    return float(np.polyfit(-np.log(2) * np.arange(len(medians)), np.log(medians), 1)[0])


def _one_layer(settings: ProblemSettings) -> tuple[OneLayer, Params]:
    problems = make_problems(settings)
    assert isinstance(problems.loss, OneLayer)
    return problems.loss, problems.start


def _same_curve(settings: ProblemSettings, quiet: bool) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """LoRA and BaLoRA from one balanced start, scaled so that ‖A‖ is a third of the minimizer's."""
    loss, start = _one_layer(replace(settings, start="balanced", init_std=_gentle_std(settings)))
    gammas = _small_steps(loss)
    deviation, gap = np.empty_like(gammas), np.empty_like(gammas)
    for j, gamma in enumerate(gammas):
        runs = [
            simulate(loss, start, method=m, step_sizes=gamma[None], steps=FLOW_STEPS << j, quiet=quiet)
            for m in ("lora", "balora")
        ]
        f, g = (run.excess[:, 0] for run in runs)
        deviation[j] = np.abs(f - g).max(axis=0) / f[0]
        gap[j] = runs[0].imbalance[-1, 0] / _mass(runs[0].factors)[0]
    arrays = {"deviation": deviation, "imbalance_from_balanced": gap}
    return arrays, {"deviation_exponent": _slope(deviation), "imbalance_exponent": _slope(gap)}


def _gentle_std(settings: ProblemSettings) -> float:
    """Entries such that a Gaussian pair has about a third of the balanced minimizer's size."""
    return make_problems(settings).entry / 3


def _mass(factors: Params) -> Array:
    """‖A‖² + ‖B‖²."""
    return np.asarray(sum((X**2).sum(axis=(-2, -1)) for X in factors), dtype=np.float64)


def _flow(settings: ProblemSettings, quiet: bool) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Change of AᵀA − BBᵀ: exactly γ²(g_Aᵀg_A − g_B g_Bᵀ) in one GD step, so O(γ) over a fixed time."""
    loss, start = _one_layer(replace(settings, start="gaussian", init_std=_gentle_std(settings)))
    gammas = _small_steps(loss)
    A, B = start
    before, mass = A.mT @ A - B @ B.mT, _mass(start)

    def drift(gamma: Array, steps: int) -> Array:
        A, B = simulate(loss, start, step_sizes=gamma, steps=steps, quiet=quiet).factors
        return np.asarray(np.linalg.norm(A.mT @ A - B @ B.mT - before, axis=(-2, -1)) / mass, dtype=np.float64)

    one = drift(gammas, 1)
    fixed = np.concatenate([drift(gamma[None], FLOW_STEPS << j) for j, gamma in enumerate(gammas)])
    arrays = {"drift_one_step": one, "drift_fixed_time": fixed}
    return arrays, {"drift_one_step_exponent": _slope(one), "drift_fixed_time_exponent": _slope(fixed)}


def _equal_kappa(settings: ProblemSettings, quiet: bool) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Both methods next to an unbalanced minimizer with the balanced κ; needs a middle direction, r ≥ 3."""
    if settings.rank < 3:
        return {}, {"equal_kappa_skipped": "rank < 3 has no direction that can be unbalanced at the same κ"}
    loss, _ = _one_layer(settings)
    Z = make_problems(settings).Z
    (rngs,) = generators(settings.seed, settings.seeds, 1)
    pairs = [_unbalanced_at_equal_kappa(z, settings.rank) for z in Z]
    offsets = [perturbation(A, B, z, rng, size=1e-3) for (A, B), z, rng in zip(pairs, Z, rngs, strict=True)]
    start = tuple(np.stack([pair[i] + offset[i] for pair, offset in zip(pairs, offsets, strict=True)]) for i in (0, 1))
    extremes = [extreme_eigenvalues(A, B, z) for (A, B), z in zip(pairs, Z, strict=True)]
    gamma = np.asarray([2 / (mu + L) for mu, L in extremes])
    start_excess = loss.evaluate(start)[0]
    decades = [float_floor_decades(f, 0.5 * L) for f, L in zip(start_excess, loss.smoothness, strict=True)]
    steps = int(20 * max(L / mu for mu, L in extremes))
    goal = 10.0 ** -max(decades)
    runs = [
        simulate(loss, start, method=m, step_sizes=gamma[None], steps=steps, stop_below=goal, quiet=quiet)
        for m in ("lora", "balora")
    ]
    n = len(Z)
    kappa, limsup, ratio = np.empty((2, n)), np.empty((2, n)), np.empty((2, n))
    conclusive = np.empty((2, n), dtype=bool)
    for m, run in enumerate(runs):
        for i, z in enumerate(Z):
            kappa[m, i] = condition_number(*polish(run.factors[0][0, i], run.factors[1][0, i], z), z)
            found = measure_rate(run.excess[:, 0, i], kappa=kappa[m, i], mu=extremes[i].mu, decades=decades[i])
            limsup[m, i], conclusive[m, i] = found.limsup, found.conclusive
            ratio[m, i] = found.log_ratio(gd_rate(kappa[m, i]))
    length = min(len(run.excess) for run in runs)
    arrays = {
        "equal_kappa_curves": np.stack([run.excess[:length, 0] for run in runs], axis=1),
        "equal_kappa": kappa,
        "equal_kappa_limsup": limsup,
        "equal_kappa_log_ratio": ratio,
        "equal_kappa_conclusive": conclusive,
    }
    imbalance = [run.imbalance[-1, 0] / _mass(run.factors)[0] for run in runs]
    return arrays, {
        "equal_kappa_imbalance": [float(np.median(gap)) for gap in imbalance],
        "equal_kappa_log_rate_difference": _largest_log_rate_difference(limsup[:, conclusive.all(axis=0)]),
        "equal_kappa_conclusive_share": float(conclusive.all(axis=0).mean()),
        "equal_kappa_difference": float(np.abs(kappa[0] / kappa[1] - 1).max()),
    }


def _largest_log_rate_difference(limsup: Array) -> float:
    """Max |log rate of LoRA/log rate of BaLoRA − 1| over the pairs (2, n); 0 for none."""
    return float(np.abs(np.log(limsup[0]) / np.log(limsup[1]) - 1).max(initial=0.0))


def _unbalanced_at_equal_kappa(Z: Array, r: int) -> tuple[Array, Array]:
    """A minimizer diag(1, t, 1, …) away from the balanced one with t as large as κ allows (bisection)."""
    A, B = minimizer(Z, r)
    kappa = condition_number(A, B, Z)

    def turned(t: float) -> tuple[Array, Array]:
        gauge = np.eye(r)
        gauge[1, 1] = t
        return polish(*change_gauge(A, B, gauge), Z)

    low, high = 1.0, 16.0
    for _ in range(40):
        middle = (low * high) ** 0.5
        if condition_number(*turned(middle), Z) <= kappa * (1 + 1e-12):
            low = middle
        else:
            high = middle
    if low == 1.0:
        raise DegenerateTargetError("s₁ = s₂ to working precision: no imbalance leaves κ unchanged")
    return turned(1 + 0.9 * (low - 1))


def _not_a_rescale(
    settings: ProblemSettings, steps: int, step_sizes: str, quiet: bool
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Final losses of LoRA and BaLoRA at their best step sizes, and of each with the other's step lengths."""
    problems = make_problems(settings)
    loss, start = problems.loss, problems.start
    grid = step_size_grid(step_sizes, problems, "gd")
    names = ("lora", "balora")
    seeds = np.arange(settings.seeds)
    curves, paths, chosen = [], [], []
    for name in names:
        run = simulate(loss, start, method=name, step_sizes=grid, steps=steps, record_path=True, quiet=quiet)
        best = best_step(score(run.excess, "final"), "per-seed")
        assert run.path is not None
        curves.append(run.excess[:, best, seeds])
        paths.append(run.path[:, best, seeds])
        chosen.append(grid[best])
    missed = []
    for name, path in zip(names, reversed(paths), strict=True):
        lengths = path[:, None] * np.asarray(MULTIPLES)[:, None]
        run = simulate(
            loss,
            start,
            method=name,
            optimizer=MatchedGradientDescent(lengths),
            step_sizes=np.ones(len(MULTIPLES)),
            steps=steps,
            record_path=True,
            quiet=quiet,
        )
        assert run.path is not None
        same = MULTIPLES.index(1.0)
        curves += [
            run.excess[:, same],
            run.excess[:, best_step(score(run.excess, "final"), "per-seed"), seeds],
        ]
        missed.append(float((np.abs(run.path[:, same] - path) > 0.01 * path).mean()))
    stacked = np.stack(curves, axis=1)
    return {"rescale_curves": stacked, "rescale_step_sizes": np.stack(chosen)}, {
        "rescale_runs": [
            "lora",
            "balora",
            "lora with balora's lengths",
            "lora with the best multiple of balora's lengths",
            "balora with lora's lengths",
            "balora with the best multiple of lora's lengths",
        ],
        "rescale_multiples": list(MULTIPLES),
        "rescale_steps_without_that_length": missed,
        "log10_gain": {name: compare(gain, seed=settings.seed).meta() for name, gain in rescale_gains(stacked).items()},
    }


def rescale_gains(curves: Array) -> dict[str, Array]:
    """(n,) decades by which BaLoRA ends below LoRA in each pair of the runs of `rescale_curves`, (T + 1, 6, n)."""
    finite = np.where(np.isfinite(curves[-1]), curves[-1], DIVERGENCE_FACTOR * curves[0])
    lora, balora, lora_matched, lora_multiple, balora_matched, balora_multiple = floored_log10(finite, curves[0])
    return {
        "each_at_best": lora - balora,
        "at_balora_lengths": lora_matched - balora,
        "at_multiples_of_balora_lengths": lora_multiple - balora,
        "at_lora_lengths": lora - balora_matched,
        "at_multiples_of_lora_lengths": lora - balora_multiple,
    }
