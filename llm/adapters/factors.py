"""PEFT's names and shapes for the two LoRA factors, translated here and nowhere else.

The adapted update is AB with A (a, r) and B (r, b). PEFT calls A `lora_B` (weight out×r, in convolutions
out×r×1×1) and B `lora_A` (weight r×in, in convolutions r×in×k×k); embeddings use bare parameters
`lora_embedding_B` (dim×r) and `lora_embedding_A` (r×vocabulary). Stacked experts share one weight:
`lora_B` (out, r·E) is indexed (out, rank, expert) and `lora_A` (E·r, in) is indexed (expert, rank, in).
"""

from typing import Final, Literal

import torch
from torch import Tensor

Side = Literal["A", "B"]

PEFT_NAMES: Final = (("lora_B", "lora_A"), ("lora_embedding_B", "lora_embedding_A"))
"""PEFT's names of (A, B), for layers with weights and for embeddings."""

REFUSED_VARIANTS: Final = {
    "kasa": "KaSA has a learned diagonal between the factors, so P(A, B) would change the update",
    "mica": "MiCA trains one factor and freezes the other, so there is no gauge to choose",
    "bdlora": "BD-LoRA's factors are block diagonal, and balancing would fill the blocks",
    "monteclora": "MonteCLoRA adds noise to one factor in its own coordinates, which P would change",
}
"""LoRA variants of PEFT whose update is not a free product AB, with the reason."""


STORED_DTYPES: Final = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of factors. Others are no floating point, or too coarse to hold a balanced pair (float8)."""


class CannotBalanceError(ValueError):
    """A LoRA layer that cannot be balanced or reached.

    Attributes:
        module: name of the layer.
        reason: why, and the way out where there is one.
    """

    def __init__(self, module: str, reason: str) -> None:
        super().__init__(f"{module}: {reason}")
        self.module = module
        self.reason = reason


class NonFiniteError(ValueError):
    """A factor with NaN or infinity: the training that made it has diverged."""


def check_shapes(module: str, left: torch.Size, right: torch.Size, experts: int = 1) -> None:
    """Raises CannotBalanceError unless the shapes of PEFT's tensors are those of one pair per expert.

    Args:
        module: name for the message.
        left: shape of the tensor that holds A (PEFT's `lora_B`).
        right: shape of the tensor that holds B (PEFT's `lora_A`).
        experts: number of pairs stacked in them.
    """
    if experts > 1 and (len(left), len(right)) != (2, 2):
        raise CannotBalanceError(module, f"stacked experts of shapes {tuple(left)} and {tuple(right)} are no matrices")
    if min(len(left), len(right)) < 2 or 0 in left or 0 in right:
        raise CannotBalanceError(
            module,
            f"its factors have shapes {tuple(left)} and {tuple(right)}, which are no matrices: "
            "a shard of ZeRO-3 or FSDP1 that was not gathered?",
        )
    if left[1] != right[0] or left[2:].numel() != 1:
        kind = "a grouped convolution" if len(left) > 2 else "factors that do not share r"
        raise CannotBalanceError(
            module, f"{kind}, shapes {tuple(left)} and {tuple(right)}: its update is not one product AB"
        )
    if right[0] % experts:
        raise CannotBalanceError(module, f"{right[0]} rows do not divide into {experts} experts")


def check_dtypes(module: str, left: torch.dtype, right: torch.dtype) -> None:
    """Raises CannotBalanceError unless both factors are of `STORED_DTYPES`.

    Args:
        module: name for the message.
        left: type of the tensor that holds A.
        right: type of the tensor that holds B.
    """
    for dtype in (left, right):
        if dtype not in STORED_DTYPES:
            name = str(dtype).removeprefix("torch.")
            what = "too coarse for new factors" if dtype.is_floating_point else "not floating point"
            raise CannotBalanceError(module, f"its factors are {name}, which is {what}; store them in bfloat16 first")


def shown(value: object) -> str:
    """What a message says of a value that somebody else made: short and on one line."""
    text = value if isinstance(value, str) and value.isprintable() and value else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def matrix(tensor: Tensor, side: Side, expert: int = 0, experts: int = 1) -> Tensor:
    """A (a, r) or B (r, b) in a tensor of PEFT's shape (a parameter, its gradient or its moment).

    A view where the memory layout allows it; sharded tensors (DTensor) are gathered first.
    """
    full: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    if experts == 1:
        return full if full.ndim == 2 else full.flatten(1)
    if side == "A":
        return full.reshape(full.shape[0], -1, experts)[..., expert]
    return full.reshape(experts, -1, full.shape[1])[expert]


def fill(tensor: Tensor, value: Tensor, side: Side, expert: int = 0, experts: int = 1) -> None:
    """Writes what `matrix` reads, in place: storage shared with tied weights stays shared.

    Args:
        tensor: tensor of PEFT's shape; a DTensor is written shard by shard on every rank.
        value: A (a, r) or B (r, b), of any dtype and device.
        side: which factor.
        expert: index of the pair in the stack.
        experts: size of the stack.
    """
    if experts > 1:
        target = tensor.view(tensor.shape[0], -1, experts) if side == "A" else tensor.view(experts, -1, tensor.shape[1])
        (target[..., expert] if side == "A" else target[expert]).copy_(value)
        return
    value = value.reshape(tensor.shape)
    if is_sharded(tensor):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(tensor, DTensor)
        value = distribute_tensor(value.to(tensor.dtype), tensor.device_mesh, tensor.placements)
    tensor.copy_(value)


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, of which each rank holds a part (FSDP2, tensor parallelism)."""
    return hasattr(tensor, "full_tensor")
