"""Maps of the LoRA pairs after every real optimizer step, through torch's own step hooks; BaLoRA is one of them."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lorakappa.conditioning.projection import GAUGES, Gauge
from lorakappa.llm.adapters.balancing import balance_pairs
from lorakappa.llm.adapters.moments import Moments, check_moments
from lorakappa.llm.adapters.pairs import LoraPair, lora_pairs

PairMap = Callable[[list[LoraPair], torch.optim.Optimizer], Any]
"""Changes the pairs of a model in place, given the optimizer that has just stepped; what it returns is a report."""


def balance_after_step(
    optimizer: Any,
    model: nn.Module,
    *,
    every: int = 1,
    gauge: Gauge = "hyperbalanced",
    adapter: str | None = None,
    moments: Moments = "keep",
) -> "StepHandle":
    """Balances the model after every `every`-th step that the optimizer really makes (BaLoRA).

    See `map_after_step` for what counts as a step.

    Args:
        optimizer: a torch optimizer, or accelerate's wrapper of one.
        model: the PEFT model it trains.
        every: number of steps between two balancings.
        gauge: which balanced pair (`conditioning.balance`).
        adapter: name of one adapter; None means all that train.
        moments: what becomes of the optimizer's moments (`llm.adapters.moments`).

    Returns:
        A handle: `remove()` ends it, `steps` counts real steps, `last` is the latest `BalanceReport`.

    Raises:
        TypeError: if there is no torch optimizer in `optimizer`.
        CannotBalanceError: for layers that `lora_pairs` refuses.
        ValueError: on `every` < 1, an unknown gauge or moments, or no LoRA layer that trains.
    """
    if gauge not in GAUGES:
        raise ValueError(f"gauge must be one of {', '.join(GAUGES)}, not {gauge!r}")
    check_moments(moments, unwrap_optimizer(optimizer))

    def balance(pairs: list[LoraPair], optimizer: torch.optim.Optimizer) -> Any:
        return balance_pairs(pairs, gauge=gauge, optimizer=optimizer, moments=moments)

    return map_after_step(optimizer, model, balance, every=every, adapter=adapter)


def map_after_step(
    optimizer: Any, model: nn.Module, pair_map: PairMap, *, every: int = 1, adapter: str | None = None
) -> "StepHandle":
    """Applies a map to the LoRA pairs after every `every`-th step that the optimizer really makes.

    Micro-batches of an accumulation make no step, nor do steps that a GradScaler skips, and a subclass whose `step`
    calls its parent's (PEFT's Riemannian optimizer) makes one. The factors are looked up at each step, so wrapping
    or sharding the model later (accelerate, FSDP2) is fine.

    Args:
        optimizer: a torch optimizer, or accelerate's wrapper of one.
        model: the PEFT model it trains.
        pair_map: what to do with the pairs.
        every: number of steps between two applications.
        adapter: name of one adapter; None means all that train.

    Returns:
        A handle: `remove()` ends it, `steps` counts real steps, `last` is what the map returned last.

    Raises:
        TypeError: if there is no torch optimizer in `optimizer`.
        CannotBalanceError: for layers that `lora_pairs` refuses.
        ValueError: on `every` < 1, or no LoRA layer that trains.
    """
    inner = unwrap_optimizer(optimizer)
    if every < 1:
        raise ValueError(f"every must be at least 1, not {every}")
    if not any(pair.trainable for pair in lora_pairs(model, adapter)):
        raise ValueError("no LoRA pair of this model trains; load the adapter with is_trainable=True")
    return StepHandle(inner, model, pair_map, every, adapter)


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


class StepHandle:
    """A running `map_after_step`.

    Attributes:
        steps: real optimizer steps seen so far; set it when resuming in the middle of a period of `every` steps.
        last: what the map returned last.
        seconds: wall time spent in the map so far, a GPU's queue being emptied before and after.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        pair_map: PairMap,
        every: int,
        adapter: str | None,
    ) -> None:
        self.steps = 0
        self.last: Any = None
        self.seconds = 0.0
        self._model = model
        self._map = pair_map
        self._every = every
        self._adapter = adapter
        self._began = False
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """Ends the mapping; the model stays as it is."""
        for handle in self._handles:
            handle.remove()

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._began = True

    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Counts the step and applies the map, unless this is the outer hook of a nested step or nothing changed."""
        began, self._began = self._began, False
        if not began or _was_skipped(optimizer):
            return
        self.steps += 1
        if self.steps % self._every:
            return
        pairs = lora_pairs(self._model, self._adapter)
        _check_ownership(optimizer, pairs)
        synchronize(pairs[0].left.device)
        start = time.perf_counter()
        self.last = self._map(pairs, optimizer)
        synchronize(pairs[0].left.device)
        self.seconds += time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Waits until a GPU has done what was asked of it, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _was_skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a fused optimizer, which fires its hooks regardless, was told by a GradScaler to change nothing."""
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and bool((found > 0).any())


def _check_ownership(optimizer: torch.optim.Optimizer, pairs: list[LoraPair]) -> None:
    """Raises ValueError if the optimizer steps on other tensors (master copies): they would overwrite the pairs."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not any(id(pair.left) in held or id(pair.right) in held for pair in pairs if pair.trainable):
        raise ValueError(
            f"{type(optimizer).__name__} does not hold the model's LoRA factors: it belongs to another model, or "
            "steps on master copies that would undo the balancing"
        )
