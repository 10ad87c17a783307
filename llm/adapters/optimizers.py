"""Optimizers whose every step is BaLoRA's, iLoRA's, πLoRA's or RefLoRA's, in the shape of PEFT's `peft.optimizers`.

`create_…_optimizer(model, optimizer_cls, *, lr, …)` makes an ordinary object of the class it is given, over all that
trains in the model, with the hook of that method on it (`llm.adapters.hooks`, `fisher_balancing`, `regularizing`,
`refactoring`). It goes wherever an optimizer goes, the Trainer's `optimizers=` and `accelerator.prepare` included;
`step_handles` finds the hook.

Weight decay follows the Trainer's rule: none for biases and norms.

The count of steps, which matters to `every`, is saved and loaded with the optimizer's state.
"""

import inspect
from functools import partial
from typing import Any

import torch
from torch import nn

from lorakappa.conditioning.fisher_gauge import DAMPING
from lorakappa.conditioning.projection_gauges import Gauge
from lorakappa.llm.adapters.arguments import check_count
from lorakappa.llm.adapters.fisher_balancing import check_fisher_balancing, fisher_balance_after_step
from lorakappa.llm.adapters.gradient_moments import DECAY
from lorakappa.llm.adapters.handles import Handle
from lorakappa.llm.adapters.hooks import balance_after_step, check_balancing
from lorakappa.llm.adapters.moments import Moments
from lorakappa.llm.adapters.refactoring import refactor_before_step
from lorakappa.llm.adapters.regularizing import check_penalty, regularize_after_step

COUNT = "lorakappa_steps"
"""Under which the groups of a saved state have the number of real steps; in the optimizer's own it is out of date."""


def create_balora_optimizer(
    model: nn.Module,
    optimizer_cls: type[torch.optim.Optimizer],
    *,
    lr: float,
    gauge: Gauge = "hyperbalanced",
    every: int = 1,
    moments: Moments = "keep",
    adapter: str | None = None,
    **kwargs: Any,
) -> torch.optim.Optimizer:
    """An optimizer that balances the adapter after every `every`-th real step (BaLoRA; `balance_after_step`).

    Args:
        model: a PEFT model, or anything that contains one.
        optimizer_cls: any torch optimizer class.
        lr: its learning rate.
        gauge: which balanced pair (`conditioning.balance`).
        every: number of steps between two balancings.
        moments: what becomes of the optimizer's moments (`llm.adapters.moments`).
        adapter: name of one adapter to balance; None means all that train. Trained is all that requires a gradient.
        kwargs: further arguments of the class, such as weight_decay.

    Returns:
        An object of the class, hooked.

    Raises:
        TypeError: if `optimizer_cls` is no optimizer class, or `every` no integer.
        CannotBalanceError: for layers that `lora_pairs` refuses.
        ValueError: on `every` < 1, an unknown gauge or moments, or no LoRA layer that trains.
    """
    check_balancing(every, gauge, moments)
    optimizer = _plain_optimizer(model, optimizer_cls, lr=lr, **kwargs)
    handle = balance_after_step(optimizer, model, every=every, gauge=gauge, adapter=adapter, moments=moments)
    return _counted(optimizer, handle)


def create_fisher_balora_optimizer(
    model: nn.Module,
    optimizer_cls: type[torch.optim.Optimizer],
    *,
    lr: float,
    damping: float = DAMPING,
    decay: float = DECAY,
    gauge: Gauge = "symmetric",
    every: int = 1,
    moments: Moments = "keep",
    adapter: str | None = None,
    **kwargs: Any,
) -> torch.optim.Optimizer:
    """An optimizer that puts every pair into the gauge that its gradients ask for (`fisher_balance_after_step`).

    Args:
        model: a PEFT model, or anything that contains one.
        optimizer_cls: any torch optimizer class whose step needs no closure.
        lr: its learning rate.
        damping: δ > 0: what pulls towards balance (`conditioning.fisher_balance`).
        decay: weight of the past in the running means of the gradients' second moments.
        gauge: which of the pairs that have these second moments.
        every: number of steps between two changes of gauge.
        moments: what becomes of the optimizer's own moments (`llm.adapters.moments`).
        adapter: name of one adapter; None means all that train.
        kwargs: further arguments of the class.

    Returns:
        An object of the class, hooked.

    Raises:
        TypeError: if `optimizer_cls` is no optimizer class, `every` no integer or another option no number.
        CannotBalanceError: for layers that `lora_pairs` refuses.
        ValueError: on a bad option, or no LoRA layer that trains.
    """
    check_fisher_balancing(damping, decay, every, gauge, moments)
    optimizer = _plain_optimizer(model, optimizer_cls, lr=lr, **kwargs)
    handle = fisher_balance_after_step(
        optimizer, model, damping=damping, decay=decay, every=every, gauge=gauge, adapter=adapter, moments=moments
    )
    return _counted(optimizer, handle)


def create_ilora_optimizer(
    model: nn.Module,
    optimizer_cls: type[torch.optim.Optimizer],
    *,
    lr: float,
    strength: float = 1.0,
    ratio: float | None = None,
    factor: float = 1.0,
    power: float = 1.0,
    trained: bool = False,
    every: int = 1,
    adapter: str | None = None,
    **kwargs: Any,
) -> torch.optim.Optimizer:
    """An optimizer that takes iLoRA's penalty step after every `every`-th real step (`regularize_after_step`).

    Args:
        model: a PEFT model, or anything that contains one.
        optimizer_cls: any torch optimizer class.
        lr: its learning rate, which is also that of the penalty.
        strength: λ > 0.
        ratio: c of the penalty ‖BBᵀ − cAᵀA‖², the same for all layers; None means factor·(r/a)^power.
        factor: multiple of the paper's ratio.
        power: of the paper's ratio.
        trained: whether each layer's ratio is trained, from that value on; it is not saved with the state.
        every: number of steps between two penalty steps.
        adapter: name of one adapter to regularize; None means all that train.
        kwargs: further arguments of the class.

    Returns:
        An object of the class, hooked.

    Raises:
        TypeError: if `optimizer_cls` is no optimizer class, `every` no integer or another option no number.
        CannotBalanceError: for layers that `lora_pairs` refuses.
        ValueError: if a number is out of range, or no LoRA layer trains.
    """
    check_count("every", every)
    check_penalty(strength, ratio, factor, power)
    optimizer = _plain_optimizer(model, optimizer_cls, lr=lr, **kwargs)
    handle = regularize_after_step(
        optimizer,
        model,
        strength=strength,
        ratio=ratio,
        factor=factor,
        power=power,
        trained=trained,
        every=every,
        adapter=adapter,
    )
    return _counted(optimizer, handle)


def create_pilora_optimizer(
    model: nn.Module,
    optimizer_cls: type[torch.optim.Optimizer],
    *,
    lr: float,
    reg: float = 1e-2,
    strength: float = 1.0,
    ratio: float | None = None,
    factor: float = 1.0,
    power: float = 1.0,
    trained: bool = False,
    every: int = 1,
    adapter: str | None = None,
    **kwargs: Any,
) -> torch.optim.Optimizer:
    """PEFT's Riemannian-preconditioned optimizer with iLoRA's penalty step after it (πLoRA).

    PEFT preconditions linear layers only: convolutions and embeddings get the plain step, then the penalty's. It keeps
    the parameters of its start, which FSDP2 replaces: do not use it there.

    Args:
        model: a PEFT model, or anything that contains one.
        optimizer_cls: any torch optimizer class whose step needs no closure.
        lr: its learning rate, which is also that of the penalty.
        reg: damping δ of the Gram matrices that are inverted, as PEFT calls it.
        strength: λ > 0.
        ratio: c of the penalty ‖BBᵀ − cAᵀA‖², the same for all layers; None means factor·(r/a)^power.
        factor: multiple of the paper's ratio.
        power: of the paper's ratio.
        trained: whether each layer's ratio is trained, from that value on; it is not saved with the state.
        every: number of steps between two penalty steps.
        adapter: name of one adapter to regularize; None means all that train.
        kwargs: further arguments of the class.

    Returns:
        An object of a subclass of the class, hooked.

    Raises:
        TypeError: if `optimizer_cls` is no optimizer class, `every` no integer or another option no number.
        CannotBalanceError: for layers that `lora_pairs` refuses.
        ValueError: if a number is out of range, no linear LoRA layer trains, or the class needs a closure.
    """
    from peft.optimizers import create_riemannian_optimizer

    check_count("every", every)
    check_penalty(strength, ratio, factor, power)
    _check_class(optimizer_cls)
    optimizer = create_riemannian_optimizer(model, optimizer_cls, lr=lr, reg=reg, **kwargs)  # type: ignore[arg-type]
    decaying, others = _by_decay(model)
    if others and _has_decay(optimizer_cls, kwargs):  # PEFT makes one group of all
        optimizer.param_groups[0]["params"] = decaying
        optimizer.add_param_group({"params": others, "weight_decay": 0.0})
    handle = regularize_after_step(
        optimizer,
        model,
        strength=strength,
        ratio=ratio,
        factor=factor,
        power=power,
        trained=trained,
        every=every,
        adapter=adapter,
    )
    return _counted(optimizer, handle)


def create_reflora_optimizer(
    model: nn.Module,
    optimizer_cls: type[torch.optim.Optimizer],
    *,
    lr: float,
    adapter: str | None = None,
    **kwargs: Any,
) -> torch.optim.Optimizer:
    """An optimizer whose every step has RefLoRA's gradients (`refactor_before_step`).

    Args:
        model: a PEFT model, or anything that contains one.
        optimizer_cls: any torch optimizer class whose step needs no closure.
        lr: its learning rate.
        adapter: name of one adapter whose gradients are multiplied; None means all that train.
        kwargs: further arguments of the class.

    Returns:
        An object of the class, hooked.

    Raises:
        TypeError: if `optimizer_cls` is no optimizer class.
        CannotBalanceError: for layers that `lora_pairs` refuses.
        ValueError: if no LoRA layer trains.
    """
    optimizer = _plain_optimizer(model, optimizer_cls, lr=lr, **kwargs)
    return _counted(optimizer, refactor_before_step(optimizer, model, adapter=adapter))


def _plain_optimizer(
    model: nn.Module, optimizer_cls: type[torch.optim.Optimizer], **arguments: Any
) -> torch.optim.Optimizer:
    """An optimizer of all that trains, in one group, or in two if something is not to decay."""
    _check_class(optimizer_cls)
    decaying, others = _by_decay(model)
    if not decaying + others:
        raise ValueError(f"nothing of this {type(model).__name__} trains; load the adapter with is_trainable=True")
    groups: list[dict[str, Any]] = [{"params": decaying + others}]
    if others and _has_decay(optimizer_cls, arguments):
        groups = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    return optimizer_cls(groups, **arguments)


def _check_class(optimizer_cls: Any) -> None:
    if not (isinstance(optimizer_cls, type) and issubclass(optimizer_cls, torch.optim.Optimizer)):
        raise TypeError(f"optimizer_cls must be a subclass of torch.optim.Optimizer, not {optimizer_cls!r}")


def _by_decay(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What trains: that to which weight decay applies, and the rest, by the Trainer's rule."""
    from transformers.trainer_pt_utils import get_parameter_names

    patterns = ["bias", "layernorm", "rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    names = set(get_parameter_names(model, [nn.LayerNorm], patterns))
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [p for name, p in trained if name in names], [p for name, p in trained if name not in names]


def _has_decay(optimizer_cls: type[torch.optim.Optimizer], arguments: dict[str, Any]) -> bool:
    """Whether the class knows weight decay; one that does not may take no groups either, as LBFGS."""
    return "weight_decay" in arguments or "weight_decay" in inspect.signature(optimizer_cls).parameters


def _counted(optimizer: torch.optim.Optimizer, handle: Handle) -> torch.optim.Optimizer:
    """The optimizer, which now saves and loads how many steps it has made."""
    for group in optimizer.param_groups:  # torch's distributed checkpoints ask the groups which entries to load
        group[COUNT] = 0
    optimizer.register_state_dict_post_hook(partial(_save_count, handle))
    optimizer.register_load_state_dict_post_hook(partial(_load_count, handle))
    return optimizer


def _save_count(handle: Handle, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    for group in state["param_groups"]:
        group[COUNT] = handle.steps


def _load_count(handle: Handle, optimizer: torch.optim.Optimizer) -> None:
    """Takes the count over; a state that was saved without has none to offer."""
    counts = [group[COUNT] for group in optimizer.param_groups if COUNT in group]
    if counts:
        handle.steps = counts[0]
