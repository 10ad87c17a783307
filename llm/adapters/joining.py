"""Several optimizers that train one model, seen as one: whose pairs they are and when all of them have stepped."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import TensorWeakRef

from lorakappa.llm.adapters.factors import CannotBalanceError
from lorakappa.llm.adapters.pairs import LoraPair, storage

PATIENCE = 8
"""Rounds that may end with a gradient still to be stepped on (steps that a GradScaler skipped) before that is an error:
so many in a row are no accident."""


class JointOptimizer:
    """Several optimizers with their groups and states together; what reads a torch optimizer can read it.

    Args:
        optimizers: torch optimizers.

    Attributes:
        optimizers: the same.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = tuple(optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all of them."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> Mapping[Tensor, Any]:
        """Parameter to its own optimizer's entries, which may be written to."""
        return _States(self.optimizers)


class _States(Mapping[Tensor, Any]):
    """The states of several optimizers, looked up where they are."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._states = [optimizer.state for optimizer in optimizers]

    def __getitem__(self, parameter: Tensor) -> Any:
        for state in self._states:
            if parameter in state:
                return state[parameter]
        raise KeyError(parameter)

    def __iter__(self) -> Iterator[Tensor]:
        return (parameter for state in self._states for parameter in state)

    def __len__(self) -> int:
        return sum(map(len, self._states))


AnyOptimizer = torch.optim.Optimizer | JointOptimizer
"""One torch optimizer, or several as one."""


def unwrap_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """The torch optimizer inside accelerate's wrapper (which takes no hooks), or the optimizer itself.

    Raises:
        TypeError: if there is none, as with DeepSpeed's engine.
    """
    inner = optimizer
    while not (isinstance(inner, torch.optim.Optimizer) and hasattr(inner, "_optimizer_step_post_hooks")):
        if not hasattr(inner, "optimizer"):
            raise TypeError(f"{type(optimizer).__name__} holds no torch.optim.Optimizer that could be hooked")
        inner = inner.optimizer
    return inner


def unwrap_optimizers(optimizer: Any) -> list[torch.optim.Optimizer]:
    """The torch optimizers in a list or tuple of optimizers, or in a single one (`unwrap_optimizer`).

    Raises:
        TypeError: if there is none in some entry.
        ValueError: if the list is empty or names one twice.
    """
    several = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    inner = [unwrap_optimizer(one) for one in several]
    if not inner:
        raise ValueError("the list of optimizers is empty")
    if len({id(one) for one in inner}) < len(inner):
        raise ValueError("the list of optimizers names one of them twice")
    return inner


def joined(optimizers: Sequence[torch.optim.Optimizer]) -> AnyOptimizer:
    """A single optimizer itself, several as one."""
    return optimizers[0] if len(optimizers) == 1 else JointOptimizer(optimizers)


def name_of(optimizer: AnyOptimizer) -> str:
    """What messages call it."""
    several = optimizer.optimizers if isinstance(optimizer, JointOptimizer) else (optimizer,)
    return " and ".join(type(one).__name__ for one in several)


TOGETHER = "give all optimizers that train it as one list, as in balance_after_step([first, second], model)"
"""What to do about a pair whose factors two optimizers share, where that can be done."""


def owned_pairs(pairs: list[LoraPair], optimizer: AnyOptimizer, remedy: str = TOGETHER) -> list[LoraPair]:
    """The trainable pairs whose factors are both in an optimizer's groups as these are now.

    Pairs of other optimizers, or of none, are not among them: their gradients may be pending, and moments elsewhere.

    Args:
        pairs: as found by `lora_pairs`.
        optimizer: whose groups count.
        remedy: what the error advises.

    Raises:
        CannotBalanceError: for a pair with one factor in the groups and the other elsewhere.
    """
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    factors = [factor for pair in pairs for factor in (pair.left, pair.right)]
    memory = {storage(factor) for factor in factors if id(factor) in held}  # tied parameters are one
    owned = []
    for pair in pairs:
        A, B = (id(factor) in held or storage(factor) in memory for factor in (pair.left, pair.right))
        if pair.trainable and A != B:
            here, missing = ("A", "B") if A else ("B", "A")
            raise CannotBalanceError(
                pair.name,
                f"{name_of(optimizer)} trains its factor {here} but not {missing}; {remedy}",
            )
        if pair.trainable and A:
            owned.append(pair)
    return owned


class Rounds:
    """Tells when all of several optimizers have stepped, whatever their order and whoever was skipped.

    A round ends with a step after which each has stepped and none holds a gradient that it has yet to step on. Such a
    gradient belongs to the factors as they are: after a change of gauge the step would be wrong.

    Args:
        optimizers: which.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimizers = tuple(optimizers)
        self._used: dict[int, dict[int, tuple[TensorWeakRef, int]]] = {}
        self._unfinished = 0

    def ends_with(self, optimizer: torch.optim.Optimizer) -> bool:
        """Notes a step; whether it ends the round.

        Raises:
            ValueError: if no round ever ends.
        """
        if len(self._optimizers) == 1:
            return True
        self._used[id(optimizer)] = {
            id(parameter): (TensorWeakRef(parameter.grad), _version(parameter.grad))
            for parameter in _parameters(optimizer)
            if parameter.grad is not None
        }
        if len(self._used) < len(self._optimizers):
            return False
        waiting = [one for one in self._optimizers if one is not optimizer and self._has_new_gradients(one)]
        for one in waiting:
            del self._used[id(one)]
        self._unfinished = self._unfinished + 1 if waiting else 0
        if self._unfinished > PATIENCE:
            raise ValueError(
                f"{type(waiting[0]).__name__} gets gradients between its step and that of {type(optimizer).__name__}, "
                "so there is no moment at which all have stepped; compute all gradients before the first of them steps"
            )
        if not waiting:
            self._used.clear()
        return not waiting

    def _has_new_gradients(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether a gradient came or changed since the last step, other than to zero."""
        used = self._used[id(optimizer)]
        for parameter in _parameters(optimizer):
            gradient = parameter.grad
            if gradient is None:
                continue
            before, version = used.get(id(parameter), (None, 0))
            same = before is not None and before() is gradient and version == _version(gradient)
            if not same and bool((gradient.coalesce().values() if gradient.is_sparse else gradient).any()):
                return True
        return False


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _version(gradient: Tensor) -> int:
    """How often a gradient was changed in place; a DTensor counts in its local part."""
    return int(getattr(gradient, "_local_tensor", gradient)._version)
