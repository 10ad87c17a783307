"""Tuning: every method at its own best step size γ and, if it has a penalty, at its own best strength λ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.checks import Array
from lorakappa.shared.methods import at_strengths
from lorakappa.synthetic import defaults
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR, Trajectories, foresee, simulate
from lorakappa.synthetic.losses import Loss, Params
from lorakappa.synthetic.methods import Method, parse_method
from lorakappa.synthetic.selection import best_step, floored_log10, score


def check_strengths(methods: Sequence[str], strengths: Sequence[float]) -> None:
    """Checks the λ that methods are to be tried at.

    Args:
        methods: their names.
        strengths: the λ.

    Raises:
        ValueError: for a λ that no method can have, or λ that are listed twice.
    """
    if len(set(strengths)) != len(strengths):
        raise ValueError("each λ can be asked for once (--lambdas)")
    for name in methods:
        at_strengths(name, strengths, "synthetic")


@dataclass(frozen=True)
class Choice:
    """What was chosen for each of n problems.

    Attributes:
        variant: (n,) index of λ.
        step: (n,) index into the grid of step sizes.
    """

    variant: NDArray[np.int64]
    step: NDArray[np.int64]


@dataclass(frozen=True)
class Sweep:
    """One method from the same starts at every λ and every step size; V variants, G step sizes, n problems.

    Attributes:
        method: as asked for.
        variants: the method at each λ; itself alone if there is none to tune.
        runs: what each did.
        scores: (V, G, n), smaller is better (`selection.score`).
    """

    method: Method
    variants: tuple[Method, ...]
    runs: tuple[Trajectories, ...]
    scores: Array

    def choose(self, tune: str = "shared", problems: slice = slice(None)) -> Choice:
        """The best pair (λ, γ) of some of the problems.

        Args:
            tune: "shared" (one pair for all of them, the best median score) or "per-seed" (each its own).
            problems: which problems.

        Raises:
            ValueError: on an unknown `tune`, or if every pair diverges.
        """
        scores = self.scores[..., problems]
        try:
            best = best_step(scores.reshape(-1, scores.shape[-1]), tune)
        except ValueError as error:
            tuned = " or smaller λ (--lambdas)" if len(self.variants) > 1 else ""
            raise ValueError(f"{self.method.name}: {error}{tuned}") from None
        return Choice(*np.divmod(best, scores.shape[1]))

    def strength(self, choice: Choice) -> list[float] | None:
        """The different λ that were chosen, ascending; None for a method without."""
        if "lambda" not in self.method.options:
            return None
        return sorted({float(self.variants[v].options["lambda"]) for v in choice.variant})

    def at_edge(self, choice: Choice) -> tuple[bool, bool]:
        """Whether a chosen step size, and whether a chosen λ, is an end of its grid."""
        ends = [len(self.scores[0]) - 1, len(self.variants) - 1]
        chosen = [choice.step, choice.variant]
        step, variant = (bool(end > 0 and np.isin(at, (0, end)).any()) for at, end in zip(chosen, ends, strict=True))
        return step, variant

    def excess(self, choice: Choice) -> Array:
        """(T + 1, G, n) f − f*, each problem at its chosen λ; `choice` must be one of all problems."""
        return np.stack([self.runs[v].excess[..., i] for i, v in enumerate(choice.variant)], axis=-1)

    def imbalance(self, choice: Choice) -> Array:
        """(T + 1, G, n) ‖AᵀA − BBᵀ‖_F likewise."""
        return np.stack([self.runs[v].imbalance[..., i] for i, v in enumerate(choice.variant)], axis=-1)

    def diverged_at(self, choice: Choice) -> NDArray[np.int64]:
        """(G, n) steps of divergence likewise."""
        return np.stack([self.runs[v].diverged_at[..., i] for i, v in enumerate(choice.variant)], axis=-1)

    @property
    def seconds(self) -> float:
        """Wall time of all runs."""
        return sum(run.seconds for run in self.runs)


def sweep(
    loss: Loss,
    start: Params,
    method: Method,
    *,
    optimizer: str,
    step_sizes: Array,
    steps: int,
    select: str = "final",
    strengths: Sequence[float] = defaults.STRENGTHS,
    device: str | None = None,
    quiet: bool = True,
) -> Sweep:
    """Runs one method at every step size and, if its name leaves λ open, at every λ.

    Args:
        loss: n problems.
        start: starting points, each (n, ·, ·).
        method: the method.
        optimizer: optimizer name.
        step_sizes: (G,) grid.
        steps: number of steps.
        select: criterion of `selection.score`.
        strengths: λ to try; empty leaves the method's default.
        device: as for `simulate`.
        quiet: never show a progress bar.

    Raises:
        ValueError: on bad settings.
    """
    foresee(len(step_sizes), start, steps, method.name)
    variants = tuple(parse_method(name) for name in at_strengths(method.name, strengths, "synthetic"))

    def run(variant: Method, gammas: Array, steps: int) -> Trajectories:
        return simulate(
            loss,
            start,
            method=variant,
            optimizer=optimizer,
            step_sizes=gammas,
            steps=steps,
            device=device,
            quiet=quiet,
        )

    runs = tuple(_run_survivors(variant, step_sizes, steps, run) for variant in variants)
    return Sweep(method, variants, runs, np.stack([score(run.excess, select) for run in runs]))


def cells(ran: Sweep, grid: Array, seeds: int) -> Iterator[dict[str, Any] | None]:
    """What one method reaches in each of several cells, whose problems were stacked, at its best (λ, γ) there.

    Args:
        ran: the method on all cells.
        grid: (G,) step sizes.
        seeds: problems of a cell; they follow each other.

    Yields:
        Per cell final (n,) f − f*, log10 (n,) of it, best_step_size, best_lambda (NaN for a method without) and edges
        (`Sweep.at_edge`); or None where every pair diverges. A diverged seed counts as `engine.DIVERGENCE_FACTOR` times
        its start.
    """
    first = ran.runs[0].excess[0, 0]
    for low in range(0, len(first), seeds):
        cell = slice(low, low + seeds)
        if not np.isfinite(np.median(ran.scores[..., cell], axis=-1)).any():
            yield None
            continue
        choice = ran.choose(problems=cell)
        v, g = choice.variant[0], choice.step[0]
        final = ran.runs[v].excess[-1, g, cell]
        start = first[cell]
        strength = ran.strength(choice)
        yield {
            "final": final,
            "log10": floored_log10(np.where(np.isfinite(final), final, DIVERGENCE_FACTOR * start), start),
            "best_step_size": grid[g],
            "best_lambda": strength[0] if strength else np.nan,
            "edges": ran.at_edge(choice),
        }


SCREENING = 10
"""Steps after which step sizes that have diverged for every problem are dropped; too large ones do so at once."""


def _run_survivors(
    method: Method, step_sizes: Array, steps: int, run: Callable[[Method, Array, int], Trajectories]
) -> Trajectories:
    """The run at all step sizes, without simulating on and on what has diverged: the outcome is the same."""
    if steps <= 2 * SCREENING:
        return run(method, step_sizes, steps)
    short = run(method, step_sizes, SCREENING)
    alive = (short.diverged_at < 0).any(axis=-1)
    if alive.mean() > 1 - SCREENING / steps:
        return run(method, step_sizes, steps)
    excess = np.full((steps + 1, *short.excess.shape[1:]), np.inf)
    imbalance = excess.copy()
    excess[: SCREENING + 1], imbalance[: SCREENING + 1] = short.excess, short.imbalance
    diverged_at, factors, seconds = short.diverged_at.copy(), [x.copy() for x in short.factors], short.seconds
    if alive.any():
        full = run(method, step_sizes[alive], steps)
        excess[:, alive], imbalance[:, alive], diverged_at[alive] = full.excess, full.imbalance, full.diverged_at
        for mine, ended in zip(factors, full.factors, strict=True):
            mine[alive] = ended
        seconds += full.seconds
    return Trajectories(excess, imbalance, None, diverged_at, tuple(factors), seconds)
