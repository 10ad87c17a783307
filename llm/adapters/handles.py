"""Running maps of LoRA pairs, or of their gradients: hooks on optimizers, and what they have done so far."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch

from lorakappa.llm.adapters.joining import AnyOptimizer, Rounds, joined, name_of, owned_pairs, unwrap_optimizer
from lorakappa.llm.adapters.lookup import PairLookup
from lorakappa.llm.adapters.pairs import LoraPair
from lorakappa.llm.adapters.stopwatch import Stopwatch

PairMap = Callable[[list[LoraPair], Any], Any]
"""Changes the pairs of a model in place, given the optimizer that has just stepped, or several of them as one
(`joining.JointOptimizer`: their groups and states together); what it returns is a report."""


class Handle:
    """A running map of the pairs that some optimizers train; as a context manager it ends with the block.

    Args:
        optimizers: torch optimizers.
        lookup: the pairs of the model.
        pair_map: what is done with them.

    Attributes:
        steps: real optimizer steps seen so far; set it when resuming in the middle of a period.
        last: what the map returned last.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], lookup: PairLookup, pair_map: PairMap) -> None:
        self.steps = 0
        self.last: Any = None
        self._stopwatch = Stopwatch()
        self._optimizers = tuple(optimizers)
        self._lookup = lookup
        self._map = pair_map
        self._began: set[int] = set()
        self._handles = [
            handle
            for optimizer in optimizers
            for handle in (
                optimizer.register_step_pre_hook(self._before),
                optimizer.register_step_post_hook(self._after),
            )
        ]
        for optimizer in optimizers:
            _CopyWarning.of(optimizer).handles.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Ends the mapping, once or more often; the model stays as it is."""
        for handle in self._handles:
            handle.remove()
        for optimizer in self._optimizers:
            _CopyWarning.forget(optimizer, self)

    @property
    def seconds(self) -> float:
        """Time spent in the map so far; on a GPU what it took there, for which reading this waits."""
        return self._stopwatch.seconds

    def _before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Notes that a step begins; of a nested step (PEFT's Riemannian optimizer) both hooks fire twice."""
        if id(optimizer) not in self._began:
            if not _was_skipped(optimizer):
                self._begin(optimizer, args, kwargs)  # if that fails, the step has not begun
            self._began.add(id(optimizer))

    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Notes that a step has ended, unless this is the outer hook of a nested one or nothing changed."""
        if id(optimizer) in self._began:
            self._began.remove(id(optimizer))
            if not _was_skipped(optimizer):
                self._end(optimizer)

    def _begin(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """What is done before a real step."""

    def _end(self, optimizer: torch.optim.Optimizer) -> None:
        """What is done after a real step."""

    def _apply(self, optimizer: AnyOptimizer, choice: "_Choice") -> None:
        pairs = self._lookup()
        with self._stopwatch.running(pairs[0].left.device):
            self.last = self._map(choice(pairs, optimizer), optimizer)


class StepHandle(Handle):
    """A running `map_after_step`. Of several optimizers a step is a round in which each has stepped.

    Args:
        optimizers: torch optimizers.
        lookup: the pairs of the model.
        pair_map: what is done with them.
        every: number of steps between two applications.
    """

    def __init__(
        self, optimizers: Sequence[torch.optim.Optimizer], lookup: PairLookup, pair_map: PairMap, every: int
    ) -> None:
        super().__init__(optimizers, lookup, pair_map)
        self._every = every
        self._optimizer = joined(optimizers)
        self._rounds = Rounds(optimizers)
        self._choice = _Choice()

    def _end(self, optimizer: torch.optim.Optimizer) -> None:
        """Counts the step and applies the map."""
        if not self._rounds.ends_with(optimizer):
            return
        self.steps += 1
        if self.steps % self._every == 0:
            self._apply(self._optimizer, self._choice)


class GradientHandle(Handle):
    """A running map of gradients, before each step; every optimizer's are its own, and so are its steps.

    Raises:
        ValueError: from a step with a closure, which computes gradients after the map.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], lookup: PairLookup, pair_map: PairMap) -> None:
        super().__init__(optimizers, lookup, pair_map)
        self._choices = {id(optimizer): _Choice() for optimizer in optimizers}

    def _begin(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        refuse_closure(optimizer, args, kwargs, "refactored")
        self._apply(optimizer, self._choices[id(optimizer)])

    def _end(self, optimizer: torch.optim.Optimizer) -> None:
        self.steps += 1


def step_handles(optimizer: Any) -> list[Handle]:
    """The running maps that are hooked onto an optimizer, whoever hooked them there, in that order.

    Args:
        optimizer: a torch optimizer or accelerate's wrapper of one.

    Returns:
        The handles; none if nothing is hooked.

    Raises:
        TypeError: if there is no torch optimizer in it.
    """
    found = vars(unwrap_optimizer(optimizer)).get("__getstate__")
    return list(found.handles) if isinstance(found, _CopyWarning) else []


def refuse_closure(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any, done: str) -> None:
    """Raises ValueError if a step was given a closure, whose gradients are not there before it; `done` is missed."""
    if any(map(callable, (*args[1:], *kwargs.values()))):
        raise ValueError(
            f"{type(optimizer).__name__}.step was given a closure, whose gradients come too late to be {done}; "
            "compute them before the step"
        )


class _Choice:
    """The pairs to map: the same list as before while neither they nor the optimizer's groups have changed."""

    def __init__(self) -> None:
        self._found: list[LoraPair] = []
        self._held: list[int] = []
        self._chosen: list[LoraPair] = []

    def __call__(self, pairs: list[LoraPair], optimizer: AnyOptimizer) -> list[LoraPair]:
        """`_mapped`, remembered."""
        held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
        if self._found is not pairs or self._held != held:
            self._found, self._held, self._chosen = pairs, held, _mapped(pairs, optimizer)
        return self._chosen


class _CopyWarning:
    """Stands in for `__getstate__` of a hooked optimizer, through which each copy and each pickle of it goes.

    torch leaves hooks out of both, and could not do better: the model that ours belong to is no part of the copy.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.handles: list[Handle] = []
        self._optimizer = optimizer

    def __call__(self) -> Any:
        """The state as ever, with a warning."""
        warnings.warn(
            f"a copy of this {type(self._optimizer).__name__} does not carry over what was hooked onto it: call "
            "balance_after_step (regularize_after_step, refactor_before_step, …) on the copy and its model",
            UserWarning,
            stacklevel=4,
        )
        return type(self._optimizer).__getstate__(self._optimizer)

    @staticmethod
    def of(optimizer: torch.optim.Optimizer) -> "_CopyWarning":
        """The one of an optimizer, made where there is none."""
        found = vars(optimizer).setdefault("__getstate__", _CopyWarning(optimizer))
        assert isinstance(found, _CopyWarning)
        return found

    @staticmethod
    def forget(optimizer: torch.optim.Optimizer, handle: Handle) -> None:
        """Leaves the optimizer as it was once its last handle has ended."""
        found = vars(optimizer).get("__getstate__")
        if isinstance(found, _CopyWarning):
            found.handles = [other for other in found.handles if other is not handle]
            if not found.handles:
                del vars(optimizer)["__getstate__"]


def _was_skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a fused optimizer, which fires its hooks regardless, was told by a GradScaler to change nothing."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and bool((found > 0).any())


def _mapped(pairs: list[LoraPair], optimizer: AnyOptimizer) -> list[LoraPair]:
    """The pairs that the optimizer trains, and the frozen ones, which maps report.

    Raises:
        CannotBalanceError: for a pair of which it holds one factor.
        ValueError: if it steps on other tensors (master copies), which would overwrite the pairs.
    """
    owned = {id(pair) for pair in owned_pairs(pairs, optimizer)}
    if not owned:
        raise ValueError(
            f"{name_of(optimizer)} does not hold the model's LoRA factors: it belongs to another model, or "
            "steps on master copies that would undo the balancing"
        )
    return [pair for pair in pairs if id(pair) in owned or not pair.trainable]
