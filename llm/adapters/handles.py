"""A running map of LoRA pairs: hooks on one optimizer or several, and what they have done so far."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from lorakappa.llm.adapters.joining import AnyOptimizer, Rounds, joined, name_of, owned_pairs
from lorakappa.llm.adapters.lookup import PairLookup
from lorakappa.llm.adapters.pairs import LoraPair
from lorakappa.llm.adapters.stopwatch import Stopwatch

PairMap = Callable[[list[LoraPair], Any], Any]
"""Changes the pairs of a model in place, given the optimizer that has just stepped, or several of them as one
(`joining.JointOptimizer`: their groups and states together); what it returns is a report."""


class StepHandle:
    """A running `map_after_step`; as a context manager it ends with the block.

    Attributes:
        steps: real optimizer steps seen so far (of several optimizers: rounds in which each has stepped); set it when
            resuming in the middle of a period of `every` steps.
        last: what the map returned last.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        lookup: PairLookup,
        pair_map: PairMap,
        every: int,
    ) -> None:
        self.steps = 0
        self.last: Any = None
        self._stopwatch = Stopwatch()
        self._optimizer = joined(optimizers)
        self._optimizers = tuple(optimizers)
        self._rounds = Rounds(optimizers)
        self._lookup = lookup
        self._map = pair_map
        self._every = every
        self._mapped = _Mapped([], [], [])
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

    def __enter__(self) -> "StepHandle":
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Ends the mapping, once or more often; the model stays as it is."""
        for handle in self._handles:
            handle.remove()
        for optimizer in self._optimizers:
            _CopyWarning.forget(optimizer, self)

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._began.add(id(optimizer))

    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Counts the step and applies the map, unless this is the outer hook of a nested step or nothing changed."""
        if id(optimizer) not in self._began:
            return
        self._began.remove(id(optimizer))
        if _was_skipped(optimizer) or not self._rounds.ends_with(optimizer):
            return
        self.steps += 1
        if self.steps % self._every:
            return
        pairs = self._lookup()
        with self._stopwatch.running(pairs[0].left.device):
            self.last = self._map(self._owned(pairs), self._optimizer)

    def _owned(self, pairs: list[LoraPair]) -> list[LoraPair]:
        """The pairs to map: the same list as before while neither they nor the optimizer's groups have changed."""
        held = [id(parameter) for group in self._optimizer.param_groups for parameter in group["params"]]
        if self._mapped.found is not pairs or self._mapped.held != held:
            self._mapped = _Mapped(pairs, held, _mapped(pairs, self._optimizer))
        return self._mapped.chosen

    @property
    def seconds(self) -> float:
        """Time spent in the map so far; on a GPU what it took there, for which reading this waits."""
        return self._stopwatch.seconds


class _Mapped(NamedTuple):
    """What `_mapped` chose, and from what.

    Attributes:
        found: the pairs of the model.
        held: ids of the parameters in the optimizer's groups.
        chosen: the pairs that are mapped.
    """

    found: list[LoraPair]
    held: list[int]
    chosen: list[LoraPair]


class _CopyWarning:
    """Stands in for `__getstate__` of a hooked optimizer, through which each copy and each pickle of it goes.

    torch leaves hooks out of both, and could not do better: the model that ours belong to is no part of the copy.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.handles: list[StepHandle] = []
        self._optimizer = optimizer

    def __call__(self) -> Any:
        """The state as ever, with a warning."""
        warnings.warn(
            f"a copy of this {type(self._optimizer).__name__} does not carry over what was hooked onto it: balance or "
            "regularize after its steps by calling balance_after_step (regularize_after_step, map_after_step) on the "
            "copy and its model",
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
    def forget(optimizer: torch.optim.Optimizer, handle: StepHandle) -> None:
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
