"""One simulator: stacked trajectories over step sizes × seeds advance together, step by step."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from lorakappa.conditioning.checks import Array
from lorakappa.shared.forecast import FLOPS, PATIENCE_SECONDS, announce, check_duration, tracked
from lorakappa.shared.memory import check_memory
from lorakappa.synthetic.losses import Loss, Params, move
from lorakappa.synthetic.methods import Method, parse_method
from lorakappa.synthetic.optimizers import Optimizer, make_optimizer

DIVERGENCE_FACTOR = 1e6
"""A trajectory has diverged once f − f* exceeds this multiple of its starting value, or is not finite."""

LEAST_STEP_SECONDS = 1e-5
"""No step of any stack is faster."""

LARGEST_ENTRY = 1e75
"""Entries beyond this have diverged before any loss is evaluated: their fourth powers would overflow."""


@dataclass(frozen=True)
class Trajectories:
    """What a simulation recorded, all NumPy; G step sizes, n seeds.

    Attributes:
        excess: (steps + 1, G, n) f − f*, from the start on; inf from the step at which a trajectory diverged.
        imbalance: (steps + 1, G, n) ‖AᵀA − BBᵀ‖_F (root of the sum of squares over layers), inf likewise.
        path: (steps, G, n) lengths ‖A₊B₊ − AB‖_F of the steps (0 after divergence), or None.
        diverged_at: (G, n) step at which a trajectory diverged, −1 if it did not.
        factors: final factors, each (G, n, ·, ·); of diverged trajectories the last ones before divergence.
        seconds: wall time.
    """

    excess: Array
    imbalance: Array
    path: Array | None
    diverged_at: NDArray[np.int64]
    factors: Params
    seconds: float

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.excess) - 1


def simulate(
    loss: Loss,
    start: Params,
    *,
    method: str | Method = "lora",
    optimizer: str | Optimizer = "gd",
    step_sizes: ArrayLike,
    steps: int,
    stop_below: float = 0.0,
    record_path: bool = False,
    device: str | None = None,
    quiet: bool = True,
) -> Trajectories:
    """Runs one method from the same starts at every step size.

    A diverged trajectory is frozen at its last good point and its curve continues as inf; the others go on.

    Args:
        loss: n problems (leading dimension n), NumPy arrays.
        start: coordinates of the n starting points, each (n, ·, ·).
        method: name ("lora", "balora@5", "ilora:lambda=0.1", …) or a `Method`.
        optimizer: name ("gd", "sign-gd", "sign", "adam") or a fresh `Optimizer`.
        step_sizes: (G,) step sizes for all seeds, or (G, n).
        steps: how many steps.
        stop_below: stop early once f − f* ≤ stop_below·(its start) in every trajectory that has not diverged.
        record_path: whether to record the step lengths in AB.
        device: None for NumPy, or a torch device such as "cpu" or "cuda".
        quiet: never show a progress bar.

    Returns:
        The recorded trajectories.

    Raises:
        ValueError: on unknown names, empty, non-finite or non-positive step sizes, a negative `steps`, or more than
            memory holds or a year suffices for.
    """
    gammas = np.asarray(step_sizes, dtype=np.float64)
    gammas = gammas[:, None] if gammas.ndim == 1 else gammas
    if gammas.ndim != 2 or gammas.size == 0:
        raise ValueError("the grid of step sizes is empty")
    if not np.isfinite(gammas).all() or (gammas <= 0).any():
        raise ValueError("step sizes must be positive and finite")
    if steps < 0:
        raise ValueError(f"the number of steps must not be negative, but is {steps}")
    method = parse_method(method) if isinstance(method, str) else method
    optimizer = make_optimizer(optimizer) if isinstance(optimizer, str) else optimizer
    foresee(gammas.shape[0], start, steps, method.name, record_path=record_path, quiet=quiet)

    began = time.perf_counter()
    convert, context = _backend(device)
    with context, np.errstate(over="ignore", invalid="ignore"):
        recorded = _run(
            move(loss, convert),
            tuple(convert(x) for x in start),
            method,
            optimizer,
            convert(gammas),
            steps,
            stop_below=stop_below,
            record_path=record_path,
            quiet=quiet,
        )
    excess, imbalance, path, diverged_at, factors = recorded
    return Trajectories(
        excess=_to_numpy(excess),
        imbalance=_to_numpy(imbalance),
        path=_to_numpy(path) if record_path else None,
        diverged_at=_to_numpy(diverged_at).astype(np.int64),
        factors=tuple(_to_numpy(x) for x in factors),
        seconds=time.perf_counter() - began,
    )


def _run(
    loss: Loss,
    start: Params,
    method: Method,
    optimizer: Optimizer,
    gammas: Any,
    steps: int,
    *,
    stop_below: float,
    record_path: bool,
    quiet: bool,
) -> tuple[Any, Any, Any, Any, Params]:
    # Every step size × seed is one trajectory of a stack: leading dimensions (G, n), the same steps for all of them.
    # θ are coordinates (away from a minimizer, if the loss is in error coordinates), `factors` the pairs (A, B) there.
    xp = array_namespace(*start)
    batch = (gammas.shape[0], start[0].shape[0])
    theta: Params = tuple(xp.broadcast_to(x, batch + tuple(x.shape[1:])) for x in start)
    gamma = xp.broadcast_to(gammas, batch)[..., None, None]
    excess, gradient = loss.evaluate(theta)
    factors = loss.factors(theta)
    # `limit` ends a trajectory, `goal` ends the run; −1 in `diverged_at` is "not yet"
    limit, goal = DIVERGENCE_FACTOR * excess, stop_below * excess
    diverged_at = xp.zeros_like(excess) - 1
    # a fresh map for this run: that of a trained ratio has a state
    post_step = method.new_map() if method.new_map is not None else None
    excesses, imbalances, path = [excess], [_imbalance(factors)], []

    for t in tracked(steps, method.name, quiet=quiet):
        # the optimizer's step from θ, the same for all methods but for what it is given and A's multiple of γ
        given = gradient if method.transform is None else method.transform(factors, gradient)
        moved = optimizer.direction(factors, given)
        sizes = (method.faster * gamma, gamma) * (len(theta) // 2)
        candidate: Params = tuple(x - size * d for x, size, d in zip(theta, sizes, moved, strict=True))
        # `good`: neither diverged before nor about to. Entries are looked at first, because what is too large would
        # overflow in the map and in the loss below; such a trajectory stays at θ, so that both see finite numbers.
        good = diverged_at < 0
        for x in candidate:
            good = good & xp.all(xp.abs(x) < LARGEST_ENTRY, axis=(-2, -1))
        candidate = _select(xp, good, candidate, theta)
        # what the method does after a step, in every K-th of them
        if post_step is not None and (t + 1) % method.every == 0:
            mapped = post_step(loss.factors(candidate), gamma[..., 0, 0])
            candidate = loss.coordinates(mapped)
        # the verdict on the step: a loss far above its start, or none at all, is divergence
        new_excess, new_gradient = loss.evaluate(candidate)
        good = good & xp.isfinite(new_excess) & (new_excess <= limit)

        # Only good trajectories move. A diverged one is frozen at its last good point: the stack keeps its shape and
        # the others go on as if they ran alone, with no NaN in their way.
        theta = _select(xp, good, candidate, theta)
        gradient = _select(xp, good, new_gradient, gradient)
        diverged_at = xp.where(~good & (diverged_at < 0), t + 1.0, diverged_at)
        new_factors = loss.factors(theta)
        if record_path:
            path.append(_product_distance(xp, new_factors, factors))
        factors = new_factors
        # what is recorded of a frozen trajectory is inf, not where it stands
        inf = xp.full_like(new_excess, xp.inf)
        excesses.append(xp.where(good, new_excess, inf))
        imbalances.append(xp.where(good, _imbalance(factors), inf))
        # all that are left have arrived
        if stop_below > 0 and bool(xp.all(~good | (new_excess <= goal))):
            break
    lengths = xp.stack(path) if path else xp.zeros((0, *batch))
    return xp.stack(excesses), xp.stack(imbalances), lengths, diverged_at, factors


def foresee(grid: int, start: Params, steps: int, label: str, *, record_path: bool = False, quiet: bool = True) -> None:
    """Refuses what cannot fit; says how long it takes where a single step is long (`tracked` measures the others).

    Args:
        grid: number of step sizes.
        start: as for `simulate`.
        steps: likewise.
        label: of the run, for the messages.
        record_path: likewise.
        quiet: never say how long it takes.

    Raises:
        ValueError: if it does not fit into memory or takes longer than a year.
    """
    trajectories = grid * start[0].shape[0]
    pairs = list(zip(start[::2], start[1::2], strict=True))
    products = sum(A.shape[-2] * B.shape[-1] for A, B in pairs)
    # each curve once as it grows and once stacked; θ, candidate, direction and gradients; AB and the error of it
    recorded = 2 * (3 if record_path else 2) * (steps + 1)
    state = 6 * sum(x.shape[-2] * x.shape[-1] for x in start) + 2 * products
    check_memory(
        8 * trajectories * (recorded + state),
        f"{trajectories} trajectories (step sizes × seeds) of {steps} steps",
        "ask for fewer steps, seeds or step sizes, or a smaller shape",
    )
    step = trajectories * sum(12 * A.shape[-2] * A.shape[-1] * B.shape[-1] for A, B in pairs) / FLOPS
    check_duration(steps * max(step, LEAST_STEP_SECONDS), f"{label} ({steps} steps)", "ask for fewer steps")
    if step > PATIENCE_SECONDS:
        announce(steps * step, label, quiet=quiet)


def _select(xp: Any, condition: Any, yes: Params, no: Params) -> Params:
    return tuple(xp.where(condition[..., None, None], x, y) for x, y in zip(yes, no, strict=True))


def _imbalance(factors: Params) -> Any:
    """‖AᵀA − BBᵀ‖_F over all layers."""
    xp = array_namespace(*factors)
    square = 0.0
    for A, B in zip(factors[::2], factors[1::2], strict=True):
        gap = A.mT @ A - B @ B.mT
        square = square + xp.sum(gap * gap, axis=(-2, -1))
    return xp.sqrt(square)


def _product_distance(xp: Any, new: Params, old: Params) -> Any:
    """‖A₊B₊ − AB‖_F over all layers, without subtracting the products."""
    square = 0.0
    for i in range(0, len(new), 2):
        move = (new[i] - old[i]) @ new[i + 1] + old[i] @ (new[i + 1] - old[i + 1])
        square = square + xp.sum(move * move, axis=(-2, -1))
    return xp.sqrt(square)


def _backend(device: str | None) -> tuple[Any, AbstractContextManager[Any]]:
    """How to convert NumPy arrays, and the context in which to compute."""
    if device is None:
        return np.asarray, nullcontext()
    import torch

    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"torch device {device!r} is not available: {str(error).splitlines()[0]}") from None
    return lambda x: torch.as_tensor(np.asarray(x), device=target), target


def _to_numpy(x: Any) -> NDArray[Any]:
    return np.asarray(x.cpu() if hasattr(x, "cpu") else x)
