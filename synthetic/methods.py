"""Methods: what LoRA, BaLoRA, iLoRA and their relatives add to an optimizer.

One iteration of any of them, with any optimizer, is

    (A, B) ← map((A, B) − γ·(ηd_A, d_B)),  (d_A, d_B) = direction(transform(∇f)),

with a `transform` of the gradient (preconditioning), a `map` after the step (projection, penalty) and a multiple η of
the step size for A, the factor that LoRA starts at 0. A method is such a triple. What there is to know of it without
running it, its name, options and defaults, stands in the vocabulary (`lorakappa.shared.methods`); `PARTS` here says
what the name does, so a rival is one entry in each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from lorakappa.conditioning.checks import eye_like
from lorakappa.conditioning.imbalance_regularization import paper_ratio, penalty_step, trained_penalty_step
from lorakappa.conditioning.preconditioning import scaled_gradient
from lorakappa.conditioning.projection import Gauge, balance
from lorakappa.conditioning.refactoring import Mode, refactored_gradient
from lorakappa.conditioning.tolerances import gram_rtol
from lorakappa.shared.methods import parse_method_name
from lorakappa.synthetic.data_gauges import DataBalancing, FisherBalancing
from lorakappa.synthetic.losses import Loss, Params
from lorakappa.synthetic.stacked_balance import LARGEST_RANK, balance_stack, refactor_stack

Transform = Callable[[Params, Params], Params]
"""Maps the factors (A, B, …) and the gradient to what the optimizer is given."""

PostStep = Callable[[Params, Any], Params]
"""Maps the factors (A, B, …) after a step; gets the step sizes γ (…) too."""


@dataclass(frozen=True)
class Method:
    """What is done around an optimizer's step.

    Attributes:
        name: as given, e.g. "balora@5".
        transform: of the gradient, or None.
        new_map: makes the map that follows the step, for a loss and afresh for every run, because it may keep a state;
            or None. A map with a method `observe` is shown the gradient before every step.
        faster: η, the multiple of γ by which A moves.
        every: the map follows every `every`-th step.
        options: what was or can be set behind the name, with its values.
    """

    name: str
    transform: Transform | None = None
    new_map: Callable[[Loss], PostStep] | None = None
    faster: float = 1.0
    every: int = 1
    options: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def preconditioned(self) -> bool:
        """Whether the gradient is divided by Gram matrices, which changes the natural unit of γ."""
        return isinstance(self.transform, Preconditioning)


# --- the parts --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Balancing:
    """BaLoRA's projection of every pair onto the balanced manifold."""

    gauge: Gauge

    def __call__(self, loss: Loss | None = None) -> PostStep:
        """The projection; it has no state, and no use for the loss."""
        return lambda factors, _: _each_pair(self._projected, factors)

    def _projected(self, A: Any, B: Any) -> tuple[Any, Any]:
        return (balance_stack if _in_stacks(A) else balance)(A, B, gauge=self.gauge)


@dataclass(frozen=True)
class Penalty:
    """iLoRA's step on λ‖BBᵀ − cAᵀA‖² after the optimizer's (its Alg. 1, whose gradient has no factor 4).

    Attributes:
        strength: λ > 0; the step is γλ.
        factor: of the ratio c = factor·(r/a)^power.
        power: p; p = 0 and factor 1 is the classical balancing regularizer.
        trained: whether c is learned, from that value on (`trained_penalty_step`).
    """

    strength: float
    factor: float
    power: float
    trained: bool

    def __call__(self, loss: Loss | None = None) -> "PenaltyStep":
        """The penalty step, afresh; it has no use for the loss."""
        return PenaltyStep(self)


class PenaltyStep:
    """A run's penalty step, with a state of its own if the ratio is trained; what it makes explode becomes inf.

    Attributes:
        log_ratios: log c of every pair, (…) each, once a ratio has been trained.
    """

    def __init__(self, penalty: Penalty) -> None:
        self.penalty = penalty
        self.log_ratios: list[Any] = []

    def __call__(self, factors: Params, step_sizes: Any) -> Params:
        """The factors after the step."""
        xp, penalty = array_namespace(*factors), self.penalty
        moved: list[Any] = []
        for i, (A, B) in enumerate(_pairs(factors)):
            ratio = paper_ratio(A.shape[-2], A.shape[-1], factor=penalty.factor, power=penalty.power)
            sizes = penalty.strength * step_sizes
            explodes = ~(sizes * max(ratio, 1.0) * _largest(xp, A, B) ** 3 < LARGEST_MOVE)
            sizes = xp.where(explodes, xp.zeros_like(sizes), sizes)
            if penalty.trained:
                if len(self.log_ratios) == i:
                    self.log_ratios.append(xp.log(ratio * xp.ones_like(sizes)))
                new_A, new_B, self.log_ratios[i] = trained_penalty_step(A, B, step=sizes, log_ratio=self.log_ratios[i])
            else:
                new_A, new_B = penalty_step(A, B, step=sizes, ratio=ratio)
            moved += (xp.where(explodes[..., None, None], xp.inf, new) for new in (new_A, new_B))
        return tuple(moved)


LARGEST_MOVE = 1e100
"""A penalty step with terms beyond this has exploded; it is not computed, since it would overflow."""


def _largest(xp: Any, A: Any, B: Any) -> Any:
    """(…) the largest entry of a pair."""
    return xp.maximum(xp.max(xp.abs(A), axis=(-2, -1)), xp.max(xp.abs(B), axis=(-2, -1)))


@dataclass(frozen=True)
class Preconditioning:
    """ScaledGD's gradient (g_A(BBᵀ + δI)⁻¹, (AᵀA + δI)⁻¹g_B); fed to Adam's moments it is Scaled AdamW.

    Attributes:
        damping: δ ≥ 0; without it the Gram matrix of LoRA's start A = 0 has no inverse.
    """

    damping: float

    def __call__(self, factors: Params, gradient: Params) -> Params:
        """The scaled gradient of every pair; NaN, which ends a trajectory, where a Gram matrix is singular.

        Raises:
            ValueError: if they all are, as at LoRA's start without damping.
        """
        moved: list[Any] = []
        for (A, B), (g_A, g_B) in zip(_pairs(factors), _pairs(gradient), strict=True):
            try:
                moved += scaled_gradient(A, B, g_A, g_B, damping=self.damping)
            except ValueError:
                moved += self._where_regular(A, B, g_A, g_B)
        return tuple(moved)

    def _where_regular(self, A: Any, B: Any, g_A: Any, g_B: Any) -> tuple[Any, Any]:
        """The slow way, one that singular pairs do not stop: the identity stands in for them."""
        xp = array_namespace(A, B)
        r = A.shape[-1]
        singular = xp.zeros(A.shape[:-2], dtype=xp.bool, device=device(A))
        for gram in (A.mT @ A, B @ B.mT):
            eigenvalues = xp.linalg.eigvalsh(gram + self.damping * eye_like(xp, gram))
            singular = singular | ~(eigenvalues[..., 0] > gram_rtol(r) * eigenvalues[..., -1])
        if bool(xp.all(singular)):
            return scaled_gradient(A, B, g_A, g_B, damping=self.damping)
        chosen = singular[..., None, None]
        square = eye_like(xp, A.mT @ A)
        stand_in = (xp.concat([square] * (x.shape[-2] // r + 1), axis=-2)[: x.shape[-2]] for x in (A, B.mT))
        left, right = (xp.where(chosen, one, x) for one, x in zip(stand_in, (A, B.mT), strict=True))
        scaled = scaled_gradient(left, right.mT, g_A, g_B, damping=self.damping)
        return tuple(xp.where(chosen, xp.nan, x) for x in scaled)


@dataclass(frozen=True)
class Refactoring:
    """RefLoRA's gradient (g_A S⁻¹, S g_B); it is the gradient itself at LoRA's start, where no S balances.

    Attributes:
        mode: which S (`conditioning.refactoring`).
    """

    mode: Mode

    def __call__(self, factors: Params, gradient: Params) -> Params:
        """The refactored gradient of every pair."""
        moved: list[Any] = []
        for pair, gradients in zip(_pairs(factors), _pairs(gradient), strict=True):
            if self.mode == "matrix" and _in_stacks(pair[0]):
                moved += refactor_stack(*pair, *gradients)
            else:
                moved += refactored_gradient(*pair, *gradients, mode=self.mode)
        return tuple(moved)


def _in_stacks(A: Any) -> bool:
    """Whether the routes of `stacked_balance` are the faster ones."""
    return isinstance(A, np.ndarray) and A.shape[-1] <= LARGEST_RANK


def _pairs(params: Params) -> list[tuple[Any, Any]]:
    return list(zip(params[::2], params[1::2], strict=True))


def _each_pair(function: Callable[[Any, Any], tuple[Any, Any]], factors: Params) -> Params:
    return tuple(factor for A, B in _pairs(factors) for factor in function(A, B))


# --- the methods ------------------------------------------------------------------------------------

Options = Mapping[str, Any]
Parts = Mapping[str, Any]
"""Attributes of `Method` by name: transform, new_map, faster; what is left out is LoRA's."""


def _balanced(gauge: Gauge) -> Callable[[Options], Parts]:
    return lambda options: {"new_map": Balancing(gauge)}


def _penalized(options: Options) -> Parts:
    """The penalty; where the ratio cannot be set it is 1, that of balance."""
    return {
        "new_map": Penalty(
            strength=options["lambda"],
            factor=options.get("factor", 1.0),
            power=options.get("power", 0.0),
            trained=options.get("trained") == "yes",
        )
    }


def _preconditioned(options: Options) -> Parts:
    return {"transform": Preconditioning(options["damping"])}


def _refactored(options: Options) -> Parts:
    return {"transform": Refactoring(options["mode"])}


def _faster(options: Options) -> Parts:
    return {"faster": options["lr-ratio"]}


def _by_gradients(options: Options) -> Parts:
    return {"new_map": FisherBalancing(options["delta"], options["decay"], options["gauge"])}


def _both(first: Callable[[Options], Parts], second: Callable[[Options], Parts]) -> Callable[[Options], Parts]:
    return lambda options: {**first(options), **second(options)}


PARTS: dict[str, Callable[[Options], Parts]] = {
    "lora": lambda options: {},
    "balora": _balanced("hyperbalanced"),
    "balora-symmetric": _balanced("symmetric"),
    "balora-nearest": _balanced("nearest"),
    "balora-data": lambda options: {"new_map": DataBalancing()},
    "balora-fisher": _by_gradients,
    "lora-plus": _faster,
    "reflora": _refactored,
    "scaled-gd": _preconditioned,
    "ilora": _penalized,
    "pilora": _both(_preconditioned, _penalized),
    "ilora-balanced": _penalized,
    "balora-scaled-gd": _both(_preconditioned, _balanced("hyperbalanced")),
    "balora-plus": _both(_faster, _balanced("hyperbalanced")),
}
"""What each name of the vocabulary does, given its options."""


def parse_method(name: str) -> Method:
    """The method called NAME[:KEY=VALUE,…][@K].

    Args:
        name: of `PARTS`, with options and, behind @, how often its map is applied.

    Returns:
        The method.

    Raises:
        ValueError: as `lorakappa.shared.methods.parse_method_name`.
    """
    found = parse_method_name(name, "synthetic")
    return Method(name, every=found.every, options=found.options, **PARTS[found.base](found.options))
