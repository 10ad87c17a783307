"""The LoRA pairs (A, B) of a PEFT model, whatever kind of layer they adapt.

Pairs are looked up through the modules at every call and never kept: FSDP2 and `accelerate` replace Parameter
objects after a model was built.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorakappa.llm.adapters.factors import (
    PEFT_NAMES,
    REFUSED_VARIANTS,
    CannotBalanceError,
    NonFiniteError,
    check_dtypes,
    check_shapes,
    fill,
    is_sharded,
    matrix,
)


@dataclass(frozen=True, eq=False)
class LoraPair:
    """One pair of factors, in place in a model.

    Attributes:
        name: module name, adapter and, in stacks of experts, which one.
        adapter: PEFT's name of the adapter.
        left: the parameter that holds A.
        right: the parameter that holds B.
        trainable: whether both factors train; False if both are frozen.
        expert: index in a stack of experts, else 0.
        experts: size of that stack, else 1.
    """

    name: str
    adapter: str
    left: Tensor
    right: Tensor
    trainable: bool
    expert: int = 0
    experts: int = 1

    @property
    def A(self) -> Tensor:
        """(a, r) factor, a view of `left` where the memory layout allows it."""
        return matrix(self.left, "A", self.expert, self.experts)

    @property
    def B(self) -> Tensor:
        """(r, b) factor, a view of `right` where the memory layout allows it."""
        return matrix(self.right, "B", self.expert, self.experts)

    @torch.no_grad()
    def write(self, A: Tensor, B: Tensor) -> None:
        """Copies (A, B) into the model's own storage."""
        fill(self.left, A, "A", self.expert, self.experts)
        fill(self.right, B, "B", self.expert, self.experts)


def lora_pairs(model: nn.Module, adapter: str | None = None) -> list[LoraPair]:
    """Every LoRA pair of a model, in the order of its modules.

    Linear, embedding and convolution layers, DoRA, rsLoRA, any number of adapters, wrappers around the model,
    quantized bases and stacks of experts (one pair per expert). Scalings, dropout, biases and DoRA's magnitudes
    stay outside: they do not depend on the gauge.

    Args:
        model: a PEFT model, or anything that contains one.
        adapter: name of one adapter; None means all of them.

    Returns:
        The pairs; tied weights appear once per layer that uses them.

    Raises:
        CannotBalanceError: for a layer that is not a free product AB (KaSA, MiCA, BD-LoRA, MonteCLoRA, AdaLoRA,
            grouped convolutions, one factor frozen as in LoRA-FA) or whose values are elsewhere (meta device,
            ZeRO shards, tensor-parallel shards without DTensor).
        ValueError: if the model has no LoRA layer, or no adapter of that name.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no LoRA layer; wrap it with peft.get_peft_model(model, LoraConfig(…))"
        )
    pairs = [pair for name, layer in layers for pair in _pairs_of(name, layer, adapter)]
    if adapter is not None and not pairs:
        known = {name for _, layer in layers for side in PEFT_NAMES for name in getattr(layer, side[0])}
        raise ValueError(f"no adapter named {adapter!r}; this model has {', '.join(sorted(known))}")
    return pairs


def check_any_trains(pairs: list[LoraPair]) -> None:
    """Raises ValueError if no pair trains."""
    if not any(pair.trainable for pair in pairs):
        raise ValueError("no LoRA pair of this model trains; load the adapter with is_trainable=True")


def check_finite(batch: list[LoraPair], A: Tensor, B: Tensor, done: str) -> None:
    """Refuses stacked factors with NaN or infinity.

    Args:
        batch: the n pairs.
        A: (n, a, r) factors.
        B: (n, r, b) factors.
        done: what was not done then, for the message.

    Raises:
        NonFiniteError: naming the first.
    """
    finite = A.isfinite().flatten(1).all(1) & B.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        bad = [pair.name for pair, ok in zip(batch, finite.tolist(), strict=True) if not ok]
        raise NonFiniteError(f"{bad[0]} contains NaN or infinity ({len(bad)} such pairs); nothing was {done}")


def lora_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Names and modules of the model's LoRA layers."""
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def stack_batches(pairs: list[LoraPair]) -> list[list[list[LoraPair]]]:
    """Pairs sorted into batches of one shape, dtype and device, which can be computed together.

    Args:
        pairs: as found by `lora_pairs`.

    Returns:
        Batches of groups; the pairs of a group share their memory, such as an output layer tied to the embedding,
        so that writing the first writes all.
    """
    groups: dict[object, list[LoraPair]] = defaultdict(list)
    for pair in pairs:
        groups[frozenset((storage(pair.left), storage(pair.right))), pair.expert].append(pair)
    batches: dict[tuple[object, ...], list[list[LoraPair]]] = defaultdict(list)
    for ties in groups.values():
        A, B = ties[0].A, ties[0].B
        batches[A.shape, B.shape, A.dtype, B.dtype, A.device, B.device].append(ties)
    return list(batches.values())


def storage(tensor: Tensor) -> object:
    """What two tensors have in common when they are the same memory (sharded tensors never share any)."""
    return id(tensor) if is_sharded(tensor) else (tensor.device, tensor.data_ptr())


def _pairs_of(name: str, layer: Any, adapter: str | None) -> Iterator[LoraPair]:
    """The pairs of one LoRA layer."""
    experts = getattr(layer, "num_experts", 1)
    for left_name, right_name in PEFT_NAMES:
        lefts, rights = getattr(layer, left_name), getattr(layer, right_name)
        for key in lefts:
            if adapter not in (None, key):
                continue
            label = f"{name} (adapter {key})"
            _check_layer(label, layer, key)
            left, right = _parameter(lefts[key]), _parameter(rights[key])
            _check_parameters(label, layer, left, right, experts)
            for expert in range(experts):
                suffix = f" expert {expert}" if experts > 1 else ""
                yield LoraPair(label + suffix, key, left, right, left.requires_grad, expert, experts)


def _parameter(entry: Any) -> Tensor:
    """The tensor of a ModuleDict entry (a Linear or convolution) or of a ParameterDict entry."""
    tensor: Tensor = entry if isinstance(entry, Tensor) else entry.weight
    return tensor


def _check_layer(label: str, layer: Any, adapter: str) -> None:
    """Refuses layers whose update is not a free product AB."""
    if hasattr(layer, "lora_E"):
        raise CannotBalanceError(label, "AdaLoRA has a learned diagonal between the factors")
    variant = type(layer.lora_variant.get(adapter)).__name__.lower()
    for key, reason in REFUSED_VARIANTS.items():
        if variant.startswith(key):
            raise CannotBalanceError(label, reason)
    if type(layer).__name__ == "LoraParallelLinear":
        raise CannotBalanceError(label, "Megatron layers keep shards of one factor on each rank")


def _check_parameters(label: str, layer: Any, left: Tensor, right: Tensor, experts: int) -> None:
    """Refuses parameters whose values are not here, and pairs with one frozen factor."""
    for tensor in (left, right):
        if any(hasattr(tensor, mark) for mark in ("ds_id", "ds_status", "_hp_mapping")):
            raise CannotBalanceError(
                label, "DeepSpeed keeps its values in ZeRO shards or master copies; train with DDP or FSDP2 instead"
            )
        if tensor.device.type == "meta":
            raise CannotBalanceError(
                label, "its factors are on the meta device; load or offload them to a real one first"
            )
        sharded = is_sharded(tensor)
        if hasattr(layer, "_tp_info") and not sharded:
            raise CannotBalanceError(label, "tensor parallelism without DTensor leaves only a shard of it here")
        if sharded and experts > 1:
            raise CannotBalanceError(label, "stacked experts in sharded tensors (DTensor) are not supported")
    check_dtypes(label, left.dtype, right.dtype)
    check_shapes(label, left.shape, right.shape, experts)
    if left.requires_grad != right.requires_grad:
        raise CannotBalanceError(
            label,
            f"only one factor trains ({'A' if left.requires_grad else 'B'}; LoRA-FA and MiCA do that): "
            "balancing would move the frozen one",
        )
