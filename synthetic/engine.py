"""One simulator: stacked trajectories over step sizes × seeds advance together, step by step."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from lorakappa.conditioning.checks import Array
from lorakappa.shared.forecast import FLOPS, PATIENCE_SECONDS, announce, check_duration
from lorakappa.shared.memory import check_memory
from lorakappa.synthetic.losses import Loss, Params, move
from lorakappa.synthetic.methods import Method, parse_method
from lorakappa.synthetic.optimizers import Optimizer, make_optimizer
from lorakappa.synthetic.stepping import DIVERGENCE_FACTOR as DIVERGENCE_FACTOR
from lorakappa.synthetic.stepping import Block, advance, block_size, usable_cores

LEAST_STEP_SECONDS = 1e-5
"""No step of any stack is faster."""


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
    jobs: int | None = None,
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
        jobs: number of processes that share NumPy's simulation once that pays (on Linux; elsewhere it is one); None
            for one a core, or OMP_NUM_THREADS. The outcome is the same bit by bit.
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
    batch = (len(gammas), start[0].shape[0])
    with context, np.errstate(over="ignore", invalid="ignore"):
        moved_loss, moved_start, moved_gammas = move(loss, convert), tuple(convert(x) for x in start), convert(gammas)
        xp = array_namespace(*moved_start)
        excess, imbalance = (xp.empty((steps + 1, *batch), dtype=xp.float64) for _ in range(2))
        path = xp.empty((steps, *batch), dtype=xp.float64) if record_path else None
        # on a device the stack stays whole; it also does if its end depends on all of it
        whole = device is not None or stop_below > 0
        size = batch[0] if whole else block_size(*batch)
        parts = [slice(low, low + size) for low in range(0, batch[0], size)]
        blocks = [
            Block(
                moved_loss,
                moved_start,
                method,
                optimizer.part(part),
                moved_gammas[part],
                excess=excess[:, part],
                imbalance=imbalance[:, part],
                path=None if path is None else path[:, part],
                stop_below=stop_below,
            )
            for part in parts
        ]
        advance(blocks, steps, method.name, jobs=jobs or usable_cores(), quiet=quiet)
        taken = max(block.taken for block in blocks) if stop_below > 0 else steps
        for block, part in zip(blocks, parts, strict=True):  # what all have diverged in goes no further
            excess[block.taken + 1 : taken + 1, part] = imbalance[block.taken + 1 : taken + 1, part] = xp.inf
            if path is not None:
                path[block.taken : taken, part] = 0.0
        diverged_at = xp.concat([block.diverged_at for block in blocks])
        factors = [xp.concat(list(same)) for same in zip(*(block.factors for block in blocks), strict=True)]
    return Trajectories(
        excess=_to_numpy(excess[: taken + 1]),
        imbalance=_to_numpy(imbalance[: taken + 1]),
        path=None if path is None else _to_numpy(path[:taken]),
        diverged_at=_to_numpy(diverged_at).astype(np.int64),
        factors=tuple(_to_numpy(x) for x in factors),
        seconds=time.perf_counter() - began,
    )


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
    # the curves, and a copy of some of them; θ, candidate, direction and gradients; AB and the error of it
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
