"""An arm of a comparison: one method in one setting, with what was chosen for it.

An arm's step size and λ are chosen on some problems and its outcome is measured on others, so that no arm is flattered
by the luck of what it was tuned on. All arms of a setting see the same problems, which pairs them.
"""

import math
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import numpy as np

from lorakappa.shared.methods import at_strengths
from lorakappa.synthetic.framed_adam import Frame, Second
from lorakappa.synthetic.settings import ProblemSettings

Quantity = Literal["final", "window", "ratio", "defect"]
"""What is measured of a run: log₁₀ of the final f − f*; decades of step sizes that end within one of the best; by layer
a trained ratio over r/m; by layer ‖BBᵀ − (r/m)AᵀA‖/(‖BBᵀ‖ + (r/m)‖AᵀA‖) at the end."""

COLUMNS = "columns"
"""A method that is in no vocabulary: it balances columns one by one."""


@dataclass(frozen=True)
class AdamOptions:
    """An Adam of its own; the fields are those of `synthetic.framed_adam.FramedAdam`."""

    frame: Frame = "own"
    carried: bool = True
    second: Second = "entry"
    eps: float = 1e-8


@dataclass(frozen=True)
class Arm:
    """One method in one setting.

    Attributes:
        settings: the problems; how many, and their root seed, are replaced.
        optimizer: "gd", "sign-gd", "sign", "adam", or "sgd", which is GD with noisy labels.
        method: name, or `COLUMNS`.
        steps: number of steps.
        step_sizes: grid to choose from (`problems.step_size_grid`).
        strengths: λ to choose from, for a method whose name leaves it open; empty for its default.
        adam: in place of the optimizer, if given.
        noise: of labels under "sgd", in units of the root mean square of CZD; f − f* is then a mean of the last steps.
        quantity: what is measured.
        beyond: points of the grid above the step size chosen for `like`, in place of a choice of its own.
        like: an arm in the same setting, with the same grid, or None.
        batches: of problems that are on record.
    """

    settings: ProblemSettings
    optimizer: str = "gd"
    method: str = "lora"
    steps: int = 100
    step_sizes: str = "auto"
    strengths: tuple[float, ...] = ()
    adam: AdamOptions | None = None
    noise: float = 0.0
    quantity: Quantity = "final"
    beyond: int = 0
    like: "Arm | None" = None
    batches: int = 8

    def __post_init__(self) -> None:
        """Takes out of the settings what every measurement sets by itself, so that equal arms are equal."""
        object.__setattr__(
            self, "settings", replace(self.settings, seeds=ProblemSettings.seeds, seed=ProblemSettings.seed)
        )

    @property
    def chooser(self) -> "Arm":
        """The arm whose tuning is this one's: all quantities of a method are at what is best for its loss."""
        if self.like is not None:
            return self.like
        return self if self.quantity == "final" else replace(self, quantity="final", batches=Arm.batches)

    @property
    def layers(self) -> int:
        """How many pairs of factors a problem has."""
        return 2 if self.settings.loss == "two-layer" else 1

    @property
    def rows(self) -> int:
        """L of `Measured`."""
        return self.layers if self.quantity in ("ratio", "defect") else 1

    def variants(self) -> list[str]:
        """The names of the method at every λ; its own alone if there is none to choose."""
        return [self.method] if self.method == COLUMNS else at_strengths(self.method, self.strengths, "synthetic")

    def as_json(self) -> dict[str, Any]:
        """The arm as JSON-like data, without what is as by default."""
        return _plain(self)

    def __str__(self) -> str:
        """The arm in a few words."""
        where = ", ".join(f"{name} {value}" for name, value in _plain(self.settings).items())
        return f"{self.method} under {self.optimizer} ({where or 'usual setting'})"


@dataclass(frozen=True)
class Choice:
    """What was tried and chosen for an arm.

    Attributes:
        grid: (G,) ascending step sizes.
        strengths: (V,) λ; empty for a method without a choice of it.
        medians: (V or 1, G) median of log₁₀ of the final f − f* over the problems it was chosen on, to `DECIMALS`; inf
            where half of them or more diverged.
        beyond: as of the arm.
        finalists: index of λ, index of the step size, and the median on further problems, of the cells that were best;
            empty if there was one round only.
    """

    grid: tuple[float, ...]
    strengths: tuple[float, ...]
    medians: tuple[tuple[float, ...], ...]
    beyond: int = 0
    finalists: tuple[tuple[int, int, float], ...] = ()

    def best(self, tried: int = 0) -> list[tuple[int, int]]:
        """The cells, index of λ and of the step size, within `CLOSE` of the lowest: `FINALISTS` at most, best first.

        They go on to a second round. Where all of them diverge there the next ones follow.

        Args:
            tried: how many of the best are left out.
        """
        cells = sorted((median, v, g) for v, row in enumerate(self.medians) for g, median in enumerate(row))[tried:]
        return [(v, g) for median, v, g in cells if math.isfinite(median) and median <= cells[0][0] + CLOSE][:FINALISTS]

    @property
    def fits(self) -> bool:
        """Whether the finalists are those that the first round asks for."""
        tried = 0
        while cells := self.best(tried):
            there = self.finalists[tried : tried + len(cells)]
            if [cell[:2] for cell in there] != cells:
                return False
            tried += len(cells)
            if any(math.isfinite(median) for *_, median in there):
                break
        return tried == len(self.finalists)

    @property
    def place(self) -> tuple[int, int]:
        """Index of λ and of the step size, the lowest in the last round; `beyond` points above that if asked for.

        Raises:
            ValueError: if everything diverged.
        """
        if not math.isfinite(self.lowest):
            raise ValueError("every step size diverged on half of the problems or more")
        if self.finalists:
            variant, step, _ = min(self.finalists, key=lambda cell: cell[2])
        else:
            variant, step = self.best()[0]
        return variant, min(step + self.beyond, len(self.grid) - 1)

    @property
    def lowest(self) -> float:
        """The lowest median of the last round; inf if everything diverged."""
        medians = [cell[2] for cell in self.finalists] or [median for row in self.medians for median in row]
        return min(medians)

    @property
    def step_size(self) -> float:
        """The step size."""
        return self.grid[self.place[1]]

    @property
    def strength(self) -> float | None:
        """λ; None for a method without a choice of it."""
        return self.strengths[self.place[0]] if self.strengths else None

    @property
    def at_edge(self) -> bool:
        """Whether the step size is an end of the grid, so that a better one may lie beyond."""
        return self.place[1] in (0, len(self.grid) - 1)

    @property
    def strength_at_edge(self) -> bool:
        """Whether λ is an end of its grid, likewise; one λ has no other beside it and so no edge."""
        return len(self.strengths) > 1 and self.place[0] in (0, len(self.strengths) - 1)


def chosen_strengths(arm: Arm) -> tuple[float, ...]:
    """The λ that are tried for an arm; empty if there is nothing to choose."""
    return arm.strengths if arm.variants() != [arm.method] else ()


CLOSE, FINALISTS = 0.2, 4
"""Decades from the lowest median, and number of cells, up to which cells are compared on further problems.

Where two are close, few problems would leave the choice to chance."""

DECIMALS = 4
"""Of medians that choices are made by, in decades: rounding of floats does not reach them."""


@dataclass(frozen=True)
class Measured:
    """What was measured of an arm on n problems.

    Attributes:
        values: (L, n), L the number of layers for a quantity that each layer has, else 1.
        diverged: how many of the n runs diverged; in a "final" they count as `engine.DIVERGENCE_FACTOR` times their
            start.
    """

    values: "np.ndarray[Any, np.dtype[np.float64]]"
    diverged: int


def _plain(value: Any) -> Any:
    """A dataclass as a dictionary without its defaults."""
    if not is_dataclass(value):
        return list(value) if isinstance(value, tuple) else value
    found = {field.name: (getattr(value, field.name), field.default) for field in fields(value)}
    return {name: _plain(entry) for name, (entry, usual) in found.items() if entry != usual}
