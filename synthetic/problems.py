"""From settings to stacked problems: the losses, their paired starting points and a grid of step sizes."""

from dataclasses import dataclass

import numpy as np

from lorakappa.conditioning.checks import Array, check_rank
from lorakappa.shared.forecast import FLOPS, announce, check_duration
from lorakappa.shared.grids import MOST_POINTS, parse_grid
from lorakappa.shared.memory import check_memory
from lorakappa.synthetic.choices import LOSSES
from lorakappa.synthetic.losses import MLP, Loss, OneLayer, Params, TwoLayer, Weighted
from lorakappa.synthetic.settings import ProblemSettings
from lorakappa.synthetic.targets import (
    check_start_name,
    check_target_name,
    check_weights,
    generators,
    low_rank,
    starts,
    targets,
    weights,
)

GRID_POINTS = 50


@dataclass(frozen=True)
class Problems:
    """n stacked problems.

    Attributes:
        loss: the loss, leading dimension n.
        start: starting factors, each (n, ·, ·).
        Z: (n, a, b) targets (teacher updates of the first layer for the other losses).
        entry: typical size of an entry of a balanced minimizer, the natural unit of a sign step.
        gram: typical size of ‖AᵀA‖ and ‖BBᵀ‖ there, by which preconditioning divides a gradient.
        parameters: number of parameters d.
    """

    loss: Loss
    start: Params
    Z: Array
    entry: float
    gram: float
    parameters: int


GENERATOR_BYTES = 3000
"""Three random generators of one seed, and what else Python keeps of it."""


def check_settings(settings: ProblemSettings) -> None:
    """Checks what `make_problems` is asked for, cheaply and before anything is drawn.

    Raises:
        ValueError: as `make_problems`, or if the problems do not fit into memory or take longer than a year to draw.
        OSError: if a target file cannot be read.
    """
    if settings.loss not in LOSSES:
        raise ValueError(f"unknown loss {settings.loss!r}; choose from {', '.join(LOSSES)}")
    (a, b), r = settings.shape, settings.rank
    check_rank(r, a, b)
    if settings.scaling != 1 and settings.loss != "one-layer":
        raise ValueError("the scaling α/r belongs to the one-layer loss")
    if not 1e-50 < settings.scaling < 1e50:
        raise ValueError(f"the scaling α/r must be positive and finite, but is {settings.scaling}")
    if settings.loss == "weighted":
        check_weights(settings.weights, settings.alignment)
    elif (settings.weights, settings.alignment) != (ProblemSettings.weights, ProblemSettings.alignment):
        raise ValueError("weights and their alignment belong to the weighted loss (--loss weighted)")
    if settings.seeds < 1:
        raise ValueError(f"{settings.seeds} seeds given; at least 1 is needed")
    check_start_name(settings.start, settings.init_std)
    frozen = {
        "one-layer": 0,
        "two-layer": a * b + 3 * b * b,
        "mlp": a * a + 3 * b * b,
        "weighted": a * a + b * b + a * b,
    }[settings.loss]
    check_memory(
        settings.seeds * (8 * (4 * a * b + 2 * r * (a + b) + frozen) + GENERATOR_BYTES),
        f"{settings.seeds} problems of shape {a}×{b}",
        "ask for fewer seeds or a smaller shape",
    )
    check_duration(_drawing_seconds(settings), f"drawing {settings.seeds} problems of shape {a}×{b}")
    check_target_name(settings.target, settings.shape)


def _drawing_seconds(settings: ProblemSettings) -> float:
    """Time for the singular value decompositions."""
    (a, b), loss = settings.shape, settings.loss
    sizes = [(a, b), *({"one-layer": [], "weighted": [(a, a), (b, b), (a, b)]}.get(loss, [(b, b)]))]
    return settings.seeds * sum(20 * a * b * min(a, b) for a, b in sizes) / FLOPS


def make_problems(settings: ProblemSettings, *, quiet: bool = True) -> Problems:
    """Draws the problems; the same settings give the same problems.

    Args:
        settings: which.
        quiet: never say how long it takes.

    Raises:
        ValueError: on an unknown name, rank > min(a, b), bad numbers, or more than fits.
        DegenerateTargetError: if a target does not determine its minimizers.
        OSError: if a target file cannot be read.
    """
    check_settings(settings)
    (a, b), r = settings.shape, settings.rank
    announce(_drawing_seconds(settings), f"drawing {settings.seeds} problems of shape {a}×{b}", quiet=quiet)
    for_targets, for_starts, for_frozen = generators(settings.seed, settings.seeds, 3)
    Z = targets(settings.target, (a, b), for_targets)
    start: Params = starts(settings.start, (a, b), r, for_starts, init_std=settings.init_std)
    updates = [Z]
    loss: Loss
    if settings.loss == "one-layer":
        loss = OneLayer.from_target(Z, r, scaling=settings.scaling)
    elif settings.loss == "two-layer":
        W1 = np.stack([rng.standard_normal((a, b)) for rng in for_frozen]) / np.sqrt(b)
        W2 = np.stack([rng.standard_normal((b, b)) for rng in for_frozen]) / np.sqrt(b)
        updates.append(targets(settings.target, (b, b), for_targets))
        loss = TwoLayer.from_updates(W1, W2, Z, updates[1], r)
        start += starts(settings.start, (b, b), r, for_starts, init_std=settings.init_std)
    elif settings.loss == "weighted":
        loss = Weighted.from_target(Z, *weights(settings.weights, Z, for_frozen, settings.alignment), r)
        updates = [loss.product]
    else:
        # the inputs are scaled so that the hidden units see WX of order 1 and are not saturated
        teacher = low_rank(Z, r)
        C = np.stack([rng.standard_normal((a, a)) for rng in for_frozen]) / np.sqrt(a)
        X = np.stack([rng.standard_normal((b, 2 * b)) for rng in for_frozen])
        X /= np.sqrt(np.mean((teacher @ X) ** 2, axis=(-2, -1), keepdims=True))
        loss = MLP.from_teacher(C, X, teacher)
    parameters = sum(x.shape[-2] * x.shape[-1] for x in start)
    mass = sum(np.linalg.svd(M, compute_uv=False)[:, :r].sum(axis=-1) for M in updates)
    entry = float(np.sqrt(2 * np.median(mass) / settings.scaling / parameters))
    gram = float(np.median(np.linalg.norm(updates[0], 2, axis=(-2, -1)))) / settings.scaling
    return Problems(loss=loss, start=start, Z=Z, entry=entry, gram=gram, parameters=parameters)


def step_size_grid(spec: str, problems: Problems, optimizer: str, *, preconditioned: bool = False) -> Array:
    """Step sizes, the same for every method and seed.

    Args:
        spec: a grid (`lorakappa.shared.grids`), or "auto" or "auto:N", 50 or N step sizes around the natural unit of
            the optimizer: 10^{−2…1.5}/L for GD, 10^{−1…2}/(dL) for sign-GD, 10^{−3…0.5} of a typical parameter for
            sign and Adam, with L as in `Loss.smoothness` (median over the problems).
        problems: what the grid is for.
        optimizer: its name.
        preconditioned: whether it is for a method with scaled gradients, too: for GD and sign-GD "auto" then also
            covers the same decades around `Problems.gram` times that unit, at the same density.

    Returns:
        (N,) ascending step sizes.

    Raises:
        ValueError: on a malformed, empty or non-positive grid.
    """
    points = _auto_points(spec)
    if points is None:
        return _given_step_sizes(spec)
    L = float(np.median(problems.loss.smoothness))
    unit, low, high = {
        "gd": (1 / L, -2, 1.5),
        "sign-gd": (1 / (problems.parameters * L), -1, 2),
    }.get(optimizer, (problems.entry, -3, 0.5))
    shift = float(np.log10(problems.gram)) if preconditioned and optimizer in ("gd", "sign-gd") else 0.0
    count = round(points * (1 + abs(shift) / (high - low)))
    return np.asarray(unit * np.logspace(low + min(shift, 0), high + max(shift, 0), count), dtype=np.float64)


def check_step_sizes(spec: str) -> None:
    """Raises ValueError for what `step_size_grid` cannot make a grid of, before there are problems for it."""
    if _auto_points(spec) is None:
        _given_step_sizes(spec)


def _auto_points(spec: str) -> int | None:
    """N of "auto:N"; None for anything but "auto" and "auto:N"."""
    name, _, points = spec.partition(":")
    if spec == "auto":
        return GRID_POINTS
    if name != "auto" or not (points.isdecimal() and points.isascii()) or not points.strip("0"):
        return None
    if len(points) > 7 or int(points) > MOST_POINTS:
        raise ValueError(f"{spec!r}: at most {MOST_POINTS} step sizes can be asked for")
    return int(points)


def _given_step_sizes(spec: str) -> Array:
    try:
        grid = np.asarray(parse_grid(spec), dtype=np.float64)
    except ValueError as error:
        raise ValueError(f'step sizes must be "auto", "auto:N" or a grid: {error}') from None
    if not (np.isfinite(grid).all() and (grid > 0).all()):
        raise ValueError(f"{spec!r}: step sizes must be positive and finite")
    return grid
