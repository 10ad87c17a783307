"""BaLoRA in any training loop: P after every real optimizer step, through torch's own step hooks."""

from typing import Any

import torch
from torch import nn

from conditioning.projection import GAUGES, Gauge
from llm.balancing import BalanceReport, balance_pairs
from llm.moments import Moments, check_moments
from llm.pairs import LoraPair, lora_pairs


def balance_after_step(
    optimizer: Any,
    model: nn.Module,
    *,
    every: int = 1,
    gauge: Gauge = "hyperbalanced",
    adapter: str | None = None,
    moments: Moments = "keep",
) -> "BalanceHandle":
    """Balances the model after every `every`-th step that the optimizer really makes.

    Micro-batches of an accumulation make no step, nor do steps that a GradScaler skips, and a subclass whose `step`
    calls its parent's (PEFT's Riemannian optimizer) makes one. The factors are looked up at each step, so wrapping
    or sharding the model later (accelerate, FSDP2) is fine.

    Args:
        optimizer: a torch optimizer, or accelerate's wrapper of one.
        model: the PEFT model it trains.
        every: number of steps between two balancings.
        gauge: which balanced pair (`conditioning.balance`).
        adapter: name of one adapter; None means all that train.
        moments: what becomes of the optimizer's moments (`llm.moments`).

    Returns:
        A handle: `remove()` ends it, `steps` counts real steps.

    Raises:
        TypeError: if there is no torch optimizer in `optimizer`.
        CannotBalanceError: for layers that `lora_pairs` refuses.
        ValueError: on `every` < 1, an unknown gauge or moments, or no LoRA layer that trains.
    """
    inner = unwrap_optimizer(optimizer)
    if every < 1:
        raise ValueError(f"every must be at least 1, not {every}")
    if gauge not in GAUGES:
        raise ValueError(f"gauge must be one of {', '.join(GAUGES)}, not {gauge!r}")
    check_moments(moments, inner)
    if not any(pair.trainable for pair in lora_pairs(model, adapter)):
        raise ValueError("no LoRA pair of this model trains; load the adapter with is_trainable=True")
    return BalanceHandle(inner, model, every, gauge, adapter, moments)


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


class BalanceHandle:
    """A running `balance_after_step`.

    Attributes:
        steps: real optimizer steps seen so far; set it when resuming in the middle of a period of `every` steps.
        last: report of the latest balancing.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        every: int,
        gauge: Gauge,
        adapter: str | None,
        moments: Moments,
    ) -> None:
        self.steps = 0
        self.last: BalanceReport | None = None
        self._model = model
        self._every = every
        self._gauge = gauge
        self._adapter = adapter
        self._moments = moments
        self._began = False
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """Ends the balancing; the model stays as it is."""
        for handle in self._handles:
            handle.remove()

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._began = True

    def _after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Counts the step and balances, unless this is the outer hook of a nested step or nothing was updated."""
        began, self._began = self._began, False
        if not began or _was_skipped(optimizer):
            return
        self.steps += 1
        if self.steps % self._every:
            return
        pairs = lora_pairs(self._model, self._adapter)
        _check_ownership(optimizer, pairs)
        self.last = balance_pairs(pairs, gauge=self._gauge, optimizer=optimizer, moments=self._moments)


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
