"""A block of trajectories that advance together, and how several blocks share the cores of the machine.

The blocks are cut by the number of trajectories alone and each trajectory is computed as if it were alone, so what
comes out does not depend on the number of processes, nor on what else is simulated beside it.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from lorakappa.shared.forecast import tracked
from lorakappa.shared.forked import CAN_FORK, Copies, copying_seconds
from lorakappa.shared.processes import THREADS
from lorakappa.synthetic.losses import Loss, Params, contiguous, flat
from lorakappa.synthetic.methods import Method
from lorakappa.synthetic.optimizers import Optimizer

DIVERGENCE_FACTOR = 1e6
"""A trajectory has diverged once f − f* exceeds this multiple of its starting value, or is not finite."""

LARGEST_ENTRY = 1e75
"""Entries beyond this have diverged before any loss is evaluated: their fourth powers would overflow."""

BLOCK = 70
"""Trajectories of a block: enough for NumPy's overhead to be small, few enough for their state to stay in a cache."""

TRIAL = 2
"""Steps after which it is known how long the others take."""

LEAST_GAIN = 2.0
"""Copies of the process take work over if that saves this many times as long as making them takes."""


class State(NamedTuple):
    """What has come of a block: as its attributes of these names, and its curves from some step on."""

    taken: int
    factors: Params
    diverged_at: Any
    excess: Any
    imbalance: Any
    path: Any | None


class Block:
    """Some of the step sizes from the same starts; leading dimensions (G, n), G step sizes and n seeds.

    θ are coordinates (away from a minimizer, if the loss is in error coordinates), `factors` the pairs (A, B) there.

    Args:
        loss: n problems.
        start: coordinates of the starting points, each (n, ·, ·).
        method: what is done around the optimizer's step.
        optimizer: fresh, for these step sizes.
        gammas: (G, n) step sizes, or (G, 1).
        excess: (steps + 1, G, n) into which f − f* is written, as far as the block comes.
        imbalance: likewise; ‖AᵀA − BBᵀ‖_F.
        path: (steps, G, n) likewise, or None; ‖A₊B₊ − AB‖_F.
        stop_below: ends the block once f − f* ≤ stop_below·(its start) in every trajectory that has not diverged.

    Attributes:
        taken: steps that have been taken.
        finished: whether no step is left, or nothing that could take one.
        factors: the factors (A, B, …), of diverged trajectories the last ones before divergence.
        diverged_at: (G, n) step at which a trajectory diverged, −1 if it has not.
    """

    def __init__(
        self,
        loss: Loss,
        start: Params,
        method: Method,
        optimizer: Optimizer,
        gammas: Any,
        *,
        excess: Any,
        imbalance: Any,
        path: Any | None,
        stop_below: float,
    ) -> None:
        self.taken, self._steps = 0, len(excess) - 1
        self.finished = self._steps == 0
        if hasattr(loss, "afresh"):  # noise of its own, the same for every block
            loss = loss.afresh()
        self._loss, self._method, self._optimizer = loss, method, optimizer
        self._excess, self._imbalance, self._path = excess, imbalance, path
        xp = self._xp = array_namespace(*start)
        self._eager = isinstance(start[0], np.ndarray)  # where looking at a value does not make a GPU wait
        batch = tuple(excess.shape[1:])
        self._theta: Params = tuple(xp.broadcast_to(x, batch + tuple(x.shape[1:])) for x in start)
        gamma = contiguous(xp.broadcast_to(gammas, batch))
        self._gamma = gamma
        self._sizes = (method.faster * gamma[..., None, None], gamma[..., None, None]) * (len(start) // 2)
        value, self._gradient = loss.evaluate(self._theta)
        self.factors: Params = loss.factors(self._theta)
        # `limit` ends a trajectory, `goal` ends the block; −1 in `diverged_at` is "not yet"
        self._limit, self._goal, self._stops = DIVERGENCE_FACTOR * value, stop_below * value, stop_below > 0
        self.diverged_at = xp.zeros_like(value) - 1
        # a fresh map for this run: that of a trained ratio has a state
        self._map = method.new_map(loss) if method.new_map is not None else None
        self._observe = getattr(self._map, "observe", None)
        excess[0], imbalance[0] = value, _imbalance(self.factors)

    def since(self, step: int) -> State:
        """What has come of the block after a step."""
        path = None if self._path is None else self._path[step : self.taken]
        curves = (self._excess[step + 1 : self.taken + 1], self._imbalance[step + 1 : self.taken + 1], path)
        return State(self.taken, self.factors, self.diverged_at, *curves)

    def go_on(self, state: State) -> None:
        """Takes over what has come of the block elsewhere, which ends it here."""
        t, self.taken, self.finished = self.taken, state.taken, True
        self.factors, self.diverged_at = state.factors, state.diverged_at
        self._excess[t + 1 : self.taken + 1], self._imbalance[t + 1 : self.taken + 1] = state.excess, state.imbalance
        if self._path is not None:
            self._path[t : self.taken] = state.path

    def step(self) -> None:
        """One step of every trajectory that has not diverged."""
        xp, t = self._xp, self.taken
        if self._observe is not None:
            self._observe(self._gradient)
        # the optimizer's step from θ, the same for all methods but for what it is given and A's multiple of γ
        moved = self._optimizer.direction(self.factors, self._given())
        candidate: Params = tuple(x - size * d for x, size, d in zip(self._theta, self._sizes, moved, strict=True))
        # `good`: neither diverged before nor about to. Entries are looked at first, because what is too large would
        # overflow in the map and in the loss below, which see finite numbers in its place.
        good = self.diverged_at < 0
        if not (self._eager and all(x.max() < LARGEST_ENTRY and x.min() > -LARGEST_ENTRY for x in candidate)):
            for x in candidate:
                good = good & xp.all(xp.abs(x) < LARGEST_ENTRY, axis=(-2, -1))
        candidate = self._where(good, candidate, self._stand_ins(good, candidate))
        # what the method does after a step, in every K-th of them
        if self._map is not None and (t + 1) % self._method.every == 0:
            candidate = self._loss.coordinates(self._map(self._loss.factors(candidate), self._gamma))
        # the verdict on the step: a loss far above its start, or none at all, is divergence
        value, gradient = self._loss.evaluate(candidate)
        good = good & xp.isfinite(value) & (value <= self._limit)

        # Only good trajectories move. A diverged one is frozen at its last good point: the stack keeps its shape and
        # the others go on as if they ran alone, with no NaN in their way.
        self._theta = self._where(good, candidate, self._theta)
        self._gradient = self._where(good, gradient, self._gradient)
        factors = self._loss.factors(self._theta)
        if self._path is not None:
            self._path[t] = _product_distance(xp, factors, self.factors)
        self.factors = factors
        # what is recorded of a frozen trajectory is inf, not where it stands
        imbalance = _imbalance(factors)
        if not (self._eager and good.all()):
            self.diverged_at = xp.where(~good & (self.diverged_at < 0), t + 1.0, self.diverged_at)
            inf = xp.full_like(value, xp.inf)
            imbalance, value = xp.where(good, imbalance, inf), xp.where(good, value, inf)
        self._excess[t + 1], self._imbalance[t + 1] = value, imbalance
        self.taken += 1
        if self._stops:  # once all that are left have arrived
            self.finished = bool(xp.all(~good | (value <= self._goal)))
        elif self._eager:
            self.finished = not good.any()
        self.finished = self.finished or self.taken == self._steps

    def _given(self) -> Params:
        """What the optimizer is given: the gradient, or what the method makes of it."""
        if self._method.transform is None:
            return self._gradient
        try:
            return self._method.transform(self.factors, self._gradient)
        except ValueError:  # no trajectory of this block has a transformed gradient
            if self.taken == 0:
                raise
            return tuple(self._xp.nan * g for g in self._gradient)

    def _stand_ins(self, good: Any, candidate: Params) -> Params:
        """What is computed in the place of those that have diverged, for nothing: θ, or a good one once more.

        A good one is a pair that the map has an easy time with; a frozen one may be LoRA's start, where P has none.
        """
        if not self._eager or good.all() or not good.any():
            return self._theta
        first = np.unravel_index(good.argmax(), good.shape)
        return tuple(x[first] for x in candidate)

    def _where(self, good: Any, yes: Params, no: Params) -> Params:
        """`yes` where it is good, else `no`."""
        if self._eager and good.all():
            return yes
        chosen = good[..., None, None]
        return tuple(self._xp.where(chosen, x, y) for x, y in zip(yes, no, strict=True))


def block_size(grid: int, seeds: int) -> int:
    """How many step sizes a block has; several blocks are an even number of about the same size, for two cores."""
    pairs = -(-grid * seeds // (2 * BLOCK))
    return grid if grid * seeds <= BLOCK else -(-grid // min(grid, 2 * pairs))


def usable_cores() -> int:
    """As many as OMP_NUM_THREADS allows, the variable that also bounds the libraries below; else all."""
    allowed = os.environ.get(THREADS, "")
    return int(allowed) if allowed.isascii() and allowed.isdecimal() and int(allowed) > 0 else os.cpu_count() or 1


def advance(blocks: Sequence[Block], steps: int, label: str, *, jobs: int, quiet: bool) -> None:
    """Takes all blocks to their ends.

    Threads would share Python's lock, and with arrays of this size they wait for it most of the time. So copies of this
    process take the blocks over once some steps have shown that it pays.

    Args:
        blocks: that have taken no step.
        steps: that each of them may take.
        label: of the run, for the progress bar.
        jobs: number of processes to share the blocks.
        quiet: never show a progress bar.

    Raises:
        ValueError: once the work turns out to take longer than a year, or as a method's parts do.
        ChildProcessError: if one of the processes is ended from outside.
    """
    progress = tracked(steps, label, quiet=quiet)
    began, mine = time.perf_counter(), list(blocks)
    with ExitStack() as stack:
        copies: Copies | None = None
        for t in progress:
            for block in mine:
                block.step()
            mine = [block for block in mine if not block.finished]
            if t + 1 == TRIAL and CAN_FORK and min(jobs, len(mine)) > 1:
                left = (time.perf_counter() - began) / TRIAL * (steps - TRIAL)
                hands = [mine[k::jobs] for k in range(min(jobs, len(mine)))]
                if left * (1 - 1 / len(hands)) > LEAST_GAIN * (len(hands) - 1) * copying_seconds():
                    with suppress(OSError):  # no room for another process
                        copies = stack.enter_context(Copies([partial(_take_over, blocks, hand) for hand in hands[1:]]))
                        mine = hands[0]
            if not mine:
                break
        progress.close()
        for place, state in copies.messages() if copies is not None else ():
            blocks[place].go_on(state)


def _take_over(blocks: Sequence[Block], hand: Sequence[Block], tell: Callable[[Any], None]) -> None:
    """A copy of the process: takes some of the blocks to their ends, and only then waits to be heard."""
    begun = [block.taken for block in hand]
    for block in hand:
        while not block.finished:
            block.step()
    for block, step in zip(hand, begun, strict=True):
        tell((blocks.index(block), block.since(step)))


def _imbalance(factors: Params) -> Any:
    """‖AᵀA − BBᵀ‖_F over all layers."""
    xp = array_namespace(*factors)
    square = 0.0
    for A, B in zip(factors[::2], factors[1::2], strict=True):
        gap = contiguous(A.mT) @ A
        gap -= B @ contiguous(B.mT)
        square = square + xp.vecdot(flat(gap), flat(gap))
    return xp.sqrt(square)


def _product_distance(xp: Any, new: Params, old: Params) -> Any:
    """‖A₊B₊ − AB‖_F over all layers, without subtracting the products."""
    square = 0.0
    for i in range(0, len(new), 2):
        move = (new[i] - old[i]) @ new[i + 1] + old[i] @ (new[i + 1] - old[i + 1])
        square = square + xp.sum(move * move, axis=(-2, -1))
    return xp.sqrt(square)
