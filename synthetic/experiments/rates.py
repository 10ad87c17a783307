"""Measured asymptotic rates of GD, sign-GD and BaLoRA on random instances, against what κ promises."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array, check_rank
from lorakappa.conditioning.factors import minimizer
from lorakappa.conditioning.hessians import hessian
from lorakappa.conditioning.preconditioning import preconditioned_extremes, scaled_gradient
from lorakappa.conditioning.rates import SharpSignRate, check_enumerable, gd_rate, sharp_sign_gd_rate, sign_gd_rate
from lorakappa.conditioning.spectra import balanced_condition_number, condition_number, extreme_eigenvalues
from lorakappa.shared.forecast import tracked
from lorakappa.synthetic import defaults
from lorakappa.synthetic.choices import RULES
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.losses import OneLayer, polish
from lorakappa.synthetic.measure import (
    FLOAT_NOISE,
    RateMeasurement,
    check_hessian,
    float_floor_decades,
    measure_rate,
    perturbation,
)
from lorakappa.synthetic.problems import check_settings
from lorakappa.synthetic.results import Result
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.sharpness import Closest, closest_sign_gd
from lorakappa.synthetic.targets import LARGEST_SPREAD, generators, random_gauge, starts, targets

SCALED_GD = "scaled-gd:damping=0"

GD_START, GD_DECADES = 1e-10, 36.0
"""Relative distance from the limit point at which GD starts in error coordinates, and how far it is followed.

The nonlinear terms move the limit by 1e-20 of ‖θ‖, so ‖E‖ is accurate to ε·1e-20 and has fallen to 1e-10·1e-18
at the end: a step's rounding is 2e-8 of it, and the slowest mode accumulates that of κ steps."""

SIGN_START, SIGN_DECADES = 1e-6, 20.0
"""The same for sign-GD: its steps are not orthogonal to the orbit, the limit moves by 1e-6, rounding is 1e-6."""

TRIES = 1000
"""Draws per instance until κ ≤ kappa_max."""


def rates(
    *,
    shape: tuple[int, int] = defaults.RATES.shape,
    rank: int = defaults.RATES.rank,
    target: str = "gaussian",
    rules: Sequence[str] = defaults.RATES_RULES,
    instances: int = defaults.RATES_INSTANCES,
    spread: float = defaults.RATES_SPREAD,
    kappa_max: float = defaults.RATES_LARGEST_KAPPA,
    steps: int = defaults.LONGEST,
    seed: int = 0,
    quiet: bool = True,
) -> Result:
    """Measures one-step contractions of f − f* on the one-layer loss and compares them with their bounds.

    GD and sign-GD start next to a random unbalanced minimizer, in error coordinates; BaLoRA from a Gaussian
    pair. The κ and the bound of each row belong to the limit point that the run reached.

    Args:
        shape: (a, b).
        rank: r.
        target: as in `targets.targets`.
        rules: which of `RULES`.
        instances: random instances per rule.
        spread: of the gauges (`targets.random_gauge`).
        kappa_max: instances with a larger κ (balanced κ for BaLoRA) are drawn again, and counted.
        steps: of every run, at most.
        seed: root seed.
        quiet: never show a progress bar.

    Returns:
        Arrays with one row per measurement, N = rules × instances: rule (names), kappa, kappa_start, bound,
        limsup, mean, half_mean, log_ratio (log limsup/log bound), error, scatter, uncertainty, limit_distance,
        step_size, window (N, 2), horizon, steps, conclusive, stopped (names); for "sign-gd-exact" also closest_step and
        closest_tail (`sharpness.Closest`), elsewhere NaN.

    Raises:
        ValueError: on unknown rules or bad numbers, too many parameters for "sign-gd-exact", or if no instance with
            κ ≤ kappa_max is found.
    """
    check_rank(rank, *shape)
    if "sign-gd-exact" in rules:
        check_enumerable(rank * sum(shape), rank * rank)
    if not rules or any(rule not in RULES for rule in rules):
        raise ValueError(f"rules must be one or more of {', '.join(RULES)}, not {', '.join(rules) or 'nothing'}")
    if not 0 <= spread <= LARGEST_SPREAD or not kappa_max > 1 or steps < 1:
        raise ValueError(f"rates needs spread between 0 and {LARGEST_SPREAD:g}, kappa_max > 1 and steps ≥ 1")
    if len(set(rules)) != len(rules):
        raise ValueError("each rule can be asked for once")
    if instances < 1:
        raise ValueError(f"{instances} instances asked for; at least 1 is needed")
    check_settings(ProblemSettings(shape=shape, rank=rank, target=target, seeds=max(1, instances), seed=seed))
    check_hessian(shape, rank, count=2 * instances * len(rules), quiet=quiet)
    drawn = _Instances(shape, rank, target, instances, spread, kappa_max, seed, quiet)
    rows: list[dict[str, Any]] = []
    for rule in rules:
        if rule == "balora-gd":
            rows += _balora_rows(drawn, steps, quiet)
        else:
            rows += _local_rows(drawn, rule, steps, quiet)
    arrays = {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
    meta = {
        "settings": {
            "shape": list(shape),
            "rank": rank,
            "target": target,
            "instances": instances,
            "spread": spread,
            "kappa_max": kappa_max,
            "steps": steps,
            "seed": seed,
        },
        "rejected_draws": drawn.rejected,
        "summary": [_summary(rule, [row for row in rows if row["rule"] == rule]) for rule in rules],
    }
    return Result("rates", arrays, meta, seed)


class _Instances:
    """Targets with unbalanced minimizers of moderate κ, stacked; and, for BaLoRA, of moderate balanced κ."""

    def __init__(
        self,
        shape: tuple[int, int],
        r: int,
        target: str,
        count: int,
        spread: float,
        kappa_max: float,
        seed: int,
        quiet: bool,
    ) -> None:
        self.r, self.shape = r, shape
        for_targets, for_gauges, self.rngs = generators(seed, count, 3)
        self.rejected = 0
        drawn = []
        for i in tracked(count, "instances", quiet=quiet):
            target_rng, gauge_rng = for_targets[i], for_gauges[i]
            for _ in range(TRIES):
                Z = targets(target, shape, [target_rng])[0]
                A, B = polish(*minimizer(Z, r, random_gauge(r, spread, gauge_rng)), Z)
                mu, L = extreme_eigenvalues(A, B, Z)
                if L / mu <= kappa_max:
                    break
                self.rejected += 1
            else:
                raise ValueError(
                    f"no instance with κ ≤ {kappa_max:g} in {TRIES} draws: raise kappa_max or lower spread"
                )
            drawn.append((Z, A, B, mu, L))
        self.Z, self.A, self.B, self.mu, self.L = (np.stack(part) for part in zip(*drawn, strict=True))

    def __len__(self) -> int:
        return len(self.Z)


def _local_rows(drawn: _Instances, rule: str, steps: int, quiet: bool) -> list[dict[str, Any]]:
    """GD or sign-GD next to an unbalanced minimizer."""
    r, d = drawn.r, drawn.r * sum(drawn.shape)
    gd = rule == "gd"
    size, decades = (GD_START, GD_DECADES) if gd else (SIGN_START, SIGN_DECADES)
    loss = OneLayer.from_target(drawn.Z, r).about(drawn.A, drawn.B)
    points = list(zip(drawn.A, drawn.B, drawn.Z, strict=True))
    exact = rule == "sign-gd-exact"

    def sharp(A: Array, B: Array, Z: Array) -> SharpSignRate:
        return sharp_sign_gd_rate(hessian(A, B, Z), kernel_dimension=r * r, exact=exact)

    offsets = [perturbation(*point, rng, size=size) for point, rng in zip(points, drawn.rngs, strict=True)]
    gamma: Array
    if gd:
        gamma = 2 / (drawn.L + drawn.mu)
    elif rule == "sign-gd":
        gamma = 1 / (d * drawn.L)
    else:
        gamma = np.asarray([1 / sharp(*point).L_inf for point in points])
    run = simulate(
        loss,
        tuple(np.stack(part) for part in zip(*offsets, strict=True)),
        optimizer="gd" if gd else "sign-gd",
        step_sizes=gamma[None],
        steps=steps,
        stop_below=10.0 ** -(decades + 1),
        quiet=quiet,
    )
    rows = []
    for i, Z in enumerate(drawn.Z):
        A, B = polish(run.factors[0][0, i], run.factors[1][0, i], Z)
        mu, L = extreme_eigenvalues(A, B, Z)
        closest = None
        if gd:
            bound = gd_rate(L / mu)
        elif rule == "sign-gd":
            bound = sign_gd_rate(L / mu, d)
        else:
            geometry = sharp(A, B, Z)
            bound = geometry.rate
            if exact:
                closest = closest_sign_gd(hessian(A, B, Z), r * r, geometry, np.random.default_rng(i))
        measured = measure_rate(
            run.excess[:, 0, i],
            kappa=L / mu,
            mu=mu,
            decades=decades,
            rounding=4e-8 * L / mu if gd else 2e-6,
            agreement=0.02 if gd else 0.1,
        )
        rows.append(_row(rule, measured, drawn.L[i] / drawn.mu[i], bound, gamma[i], closest))
    return rows


def scaled_gd_rates(
    Z: Array, r: int, *, spread: float = defaults.RATES_SPREAD, steps: int = 2000, seed: int = 0, quiet: bool = True
) -> dict[str, Array]:
    """Measured contraction of ScaledGD next to random minimizers, at its best step size γ = 2/(L + μ).

    L and μ are those of the preconditioned Hessian (`conditioning.preconditioning`), the same for every gauge.

    Args:
        Z: (n, a, b) targets.
        r: rank.
        spread: of the gauges (`targets.random_gauge`).
        steps: of the runs, at most.
        seed: of the gauges and of the displacements from the minimizers.
        quiet: never show a progress bar.

    Returns:
        Arrays (n,): kappa, the plain κ at the minimizer, kappa_scaled, the preconditioned one, limsup, bound,
        log_ratio (log limsup/log bound), uncertainty, conclusive.

    Raises:
        ValueError: on bad settings or degenerate targets.
    """
    for_gauges, for_offsets = generators(seed, len(Z), 2)
    points = [polish(*minimizer(z, r, random_gauge(r, spread, rng)), z) for z, rng in zip(Z, for_gauges, strict=True)]
    offsets = [_scaled_offset(A, B, z, rng) for (A, B), z, rng in zip(points, Z, for_offsets, strict=True)]
    A, B, dA, dB = (np.stack(part) for pairs in (points, offsets) for part in zip(*pairs, strict=True))
    s = np.linalg.svd(Z, compute_uv=False)
    extremes = [preconditioned_extremes(values, r, Z.shape[1:]) for values in s]
    run = simulate(
        OneLayer.from_target(Z, r).about(A, B),
        (dA, dB),
        method=SCALED_GD,
        step_sizes=[[2 / (mu + L) for mu, L in extremes]],
        steps=steps,
        stop_below=10.0 ** -(GD_DECADES + 1),
        quiet=quiet,
    )
    rows = []
    for i, (mu, L) in enumerate(extremes):
        kappa, bound = condition_number(A[i], B[i], Z[i]), gd_rate(L / mu)
        smallest = extreme_eigenvalues(A[i], B[i], Z[i]).mu
        rounding = 4e-8 * max(kappa, L / mu)
        found = measure_rate(run.excess[:, 0, i], kappa=kappa, mu=smallest, decades=GD_DECADES, rounding=rounding)
        rows.append(
            {
                "kappa": kappa,
                "kappa_scaled": L / mu,
                "limsup": found.limsup,
                "bound": bound,
                "log_ratio": found.log_ratio(bound),
                "uncertainty": found.uncertainty,
                "conclusive": found.conclusive,
            }
        )
    return {name: np.asarray([row[name] for row in rows]) for name in rows[0]}


def _scaled_offset(A: Array, B: Array, Z: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """A displacement in the range of P⁻¹H, from which ScaledGD ends at (A, B) itself up to O(size²)."""
    dA, dB = scaled_gradient(A, B, *perturbation(A, B, Z, rng, size=1.0))
    size = GD_START * np.hypot(np.linalg.norm(A), np.linalg.norm(B)) / np.hypot(np.linalg.norm(dA), np.linalg.norm(dB))
    return size * dA, size * dB


def _balora_rows(drawn: _Instances, steps: int, quiet: bool) -> list[dict[str, Any]]:
    """Projected GD from a Gaussian start; the limit is balanced, so L, μ and γ are known beforehand.

    What its linearization says (derived here). At a hyperbalanced limit DP projects along the orbit's tangent
    space, the kernel of H, onto that of the hyperbalanced manifold. Modulo the orbit DP(I − γH) is therefore
    I − γH, with eigenvalues 1 − γλ for the non-zero λ, and f sees nothing but that quotient: the rate is GD's
    at κ_bal, ((κ_bal − 1)/(κ_bal + 1))².
    """
    s = np.linalg.svd(drawn.Z, compute_uv=False)
    init_std = 0.1 * float(np.sqrt(np.median(s[:, 0])))
    start = starts("gaussian", drawn.shape, drawn.r, drawn.rngs, init_std=init_std)
    balanced = [minimizer(Z, drawn.r) for Z in drawn.Z]
    extremes = [extreme_eigenvalues(A, B, Z) for (A, B), Z in zip(balanced, drawn.Z, strict=True)]
    gamma = np.asarray([2 / (mu + L) for mu, L in extremes])
    loss = OneLayer.from_target(drawn.Z, drawn.r)
    decades = [float_floor_decades(f, s_1) for f, s_1 in zip(loss.evaluate(start)[0], s[:, 0], strict=True)]
    run = simulate(
        loss,
        start,
        method="balora",
        step_sizes=gamma[None],
        steps=steps,
        stop_below=10.0 ** -(max(decades) + 1),
        quiet=quiet,
    )
    rows = []
    for i, Z in enumerate(drawn.Z):
        kappa = balanced_condition_number(s[i], drawn.r, drawn.shape)
        if run.excess[-1, 0, i] <= 1e-12 * run.excess[0, 0, i]:
            kappa = condition_number(*polish(run.factors[0][0, i], run.factors[1][0, i], Z), Z)
        measured = measure_rate(
            run.excess[:, 0, i],
            kappa=kappa,
            mu=extremes[i].mu,
            decades=decades[i],
            rounding=2 * FLOAT_NOISE,
        )
        rows.append(_row("balora-gd", measured, float("nan"), gd_rate(kappa), gamma[i]))
    return rows


def _row(
    rule: str,
    m: RateMeasurement,
    kappa_start: float,
    bound: float,
    step_size: float,
    closest: Closest | None = None,
) -> dict[str, Any]:
    return {
        "rule": rule,
        "kappa": m.kappa,
        "kappa_start": kappa_start,
        "bound": bound,
        "limsup": m.limsup,
        "mean": m.mean,
        "half_mean": m.half_mean,
        "log_ratio": m.log_ratio(bound),
        "error": m.error,
        "scatter": m.scatter,
        "uncertainty": m.uncertainty,
        "limit_distance": m.limit_distance,
        "step_size": step_size,
        "window": m.window,
        "horizon": m.horizon,
        "steps": m.steps,
        "conclusive": m.conclusive,
        "stopped": m.stopped,
        "closest_step": closest.step if closest else float("nan"),
        "closest_tail": closest.tail if closest else float("nan"),
    }


def _summary(rule: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts and worst cases of one rule; a violation is a limsup above the bound beyond the stated error."""
    sure = [row for row in rows if row["conclusive"]]
    ratios = np.asarray([row["log_ratio"] for row in sure])
    slack = np.asarray([row["uncertainty"] for row in sure])
    if rule.startswith("sign"):  # the bound holds for every step, so nothing excuses a larger ratio
        slack = np.zeros_like(slack)
    return {
        "rule": rule,
        "measurements": len(rows),
        "conclusive": len(sure),
        "violations": int((ratios < 1 - slack).sum()),
        "log_ratio_min": float(ratios.min(initial=np.inf)),
        "log_ratio_median": float(np.median(ratios)) if len(sure) else float("nan"),
        "log_ratio_max": float(ratios.max(initial=-np.inf)),
        "largest_error": float(max((row["error"] for row in sure), default=float("nan"))),
        **{
            f"{name}_range": _range(rows, name) if rule == "sign-gd-exact" else None
            for name in ("closest_step", "closest_tail")
        },
        "kappa_range": _range(rows, "kappa"),
    }


def _range(rows: list[dict[str, Any]], name: str) -> list[float]:
    values = [row[name] for row in rows]
    return [min(values), max(values)]
