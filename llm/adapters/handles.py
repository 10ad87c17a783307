"""A running map of LoRA pairs: hooks on one optimizer or several, and what they have done so far."""

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from lorakappa.llm.adapters.joining import AnyOptimizer, Rounds, joined, name_of, owned_pairs
from lorakappa.llm.adapters.pairs import LoraPair, lora_pairs

PairMap = Callable[[list[LoraPair], Any], Any]
"""Changes the pairs of a model in place, given the optimizer that has just stepped, or several of them as one
(`joining.JointOptimizer`: their groups and states together); what it returns is a report."""


class StepHandle:
    """A running `map_after_step`; as a context manager it ends with the block.

    Attributes:
        steps: real optimizer steps seen so far (of several optimizers: rounds in which each has stepped); set it when
            resuming in the middle of a period of `every` steps.
        last: what the map returned last.
        seconds: wall time spent in the map so far, a GPU's queue being emptied before and after.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        model: nn.Module,
        pair_map: PairMap,
        every: int,
        adapter: str | None,
    ) -> None:
        self.steps = 0
        self.last: Any = None
        self.seconds = 0.0
        self._optimizer = joined(optimizers)
        self._optimizers = tuple(optimizers)
        self._rounds = Rounds(optimizers)
        self._model = model
        self._map = pair_map
        self._every = every
        self._adapter = adapter
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
        pairs = lora_pairs(self._model, self._adapter)
        mapped = _mapped(pairs, self._optimizer)
        synchronize(pairs[0].left.device)
        start = time.perf_counter()
        self.last = self._map(mapped, self._optimizer)
        synchronize(pairs[0].left.device)
        self.seconds += time.perf_counter() - start


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


def synchronize(device: torch.device) -> None:
    """Waits until a GPU has done what was asked of it, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
