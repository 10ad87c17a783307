# Copyright 2026-present the HuggingFace Inc. team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""
This module contains the implementation of the BaLoRA optimizer.
"""

from collections import defaultdict

import torch
from torch.optim import Optimizer

from peft.peft_model import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer


FREE_PRODUCT_VARIANTS = ("Dora", "ALora")
"""LoRA variants whose update depends on `lora_A` and `lora_B` through their product only."""


def _collect_lora_layers(model: torch.nn.Module) -> list[tuple[LoraLayer, str]]:
    """Return `(layer, adapter_name)` of every LoRA pair that trains.

    Layers rather than parameters are kept, because FSDP2 and `accelerate` may replace the parameters later.

    Raises:
        ValueError: If the update of a layer is not the product of two free factors, so that balancing would change it.
    """
    found = []
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        for adapter in [*layer.lora_A, *layer.lora_embedding_A]:
            lora_a, lora_b = _lora_pair(layer, adapter)
            if not (lora_a.requires_grad or lora_b.requires_grad):
                continue
            variant = type(layer.lora_variant.get(adapter)).__name__
            if (
                not (lora_a.requires_grad and lora_b.requires_grad)
                or hasattr(layer, "lora_E")
                or getattr(layer, "num_experts", 1) > 1
                or lora_b[0, 0].numel() != 1  # a grouped convolution
                or not variant.startswith((*FREE_PRODUCT_VARIANTS, "NoneType"))
            ):
                raise ValueError(f"BaLoRA cannot balance {name} (adapter {adapter}): its update is not a free product.")
            if min(lora_b.shape[0], lora_a[0].numel()) < lora_a.shape[0]:
                raise ValueError(
                    f"BaLoRA cannot balance {name} (adapter {adapter}): rank {lora_a.shape[0]} exceeds its dimensions."
                )
            found.append((layer, adapter))
    return found


def _lora_pair(layer: BaseTunerLayer, adapter: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `lora_A` (r, in, ...) and `lora_B` (out, r, ...) of one layer as they are now."""
    if adapter in layer.lora_A:
        return layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter]


def _balanced(lora_a: torch.Tensor, lora_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return pairs with the same product and `B^T B = A A^T = S`, where `B A = U S V^T`.

    With QR decompositions `B = Q_B R_B` and `A^T = Q_A R_A` only the r x r matrix `R_B R_A^T` needs an SVD. Signs are
    chosen such that the new factors are near the old ones.

    Args:
        lora_a (`torch.Tensor`): Factors of shape (n, r, in).
        lora_b (`torch.Tensor`): Factors of shape (n, out, r).

    Returns:
        The new factors and, for each pair, whether they may be used. They may not where the product has a rank below
        r, as before the first step, or is not finite: there the formula would lose directions of `A` and `B`, and at a
        product of zero training would never leave zero again.
    """
    eps = max(torch.finfo(dtype).eps for dtype in (lora_a.dtype, lora_b.dtype))
    a, b = lora_a.double(), lora_b.double()
    (q_b, r_b), (q_a, r_a) = torch.linalg.qr(b), torch.linalg.qr(a.mT)
    core = r_b @ r_a.mT
    finite = core.isfinite().flatten(1).all(1)
    u, s, vt = torch.linalg.svd(torch.where(finite[:, None, None], core, 0.0))
    root = s.sqrt()
    new_b, new_a = (q_b @ u) * root[:, None, :], root[:, :, None] * (vt @ q_a.mT)
    sign = torch.where((new_b * b).sum(1) + (new_a * a).sum(2) < 0, -1.0, 1.0)
    norms = torch.linalg.matrix_norm(a) * torch.linalg.matrix_norm(b)
    usable = finite & (s[:, -1] > a.shape[1] * eps * norms)
    return sign[:, :, None] * new_a, new_b * sign[:, None, :], usable


@torch.no_grad()
def _balance(layers: list[tuple[LoraLayer, str]]) -> None:
    """Balance the pairs of all layers in place, those of one shape together."""
    batches = defaultdict(list)
    for layer, adapter in layers:
        lora_a, lora_b = _lora_pair(layer, adapter)
        batches[lora_a.shape, lora_b.shape, lora_a.dtype, lora_b.dtype, lora_a.device].append((lora_a, lora_b))
    for pairs in batches.values():
        stacked = [torch.stack([factor.flatten(1) for factor in factors]) for factors in zip(*pairs)]
        new_a, new_b, usable = _balanced(*stacked)
        for (lora_a, lora_b), a, b, use in zip(pairs, new_a, new_b, usable.tolist()):
            if use:
                lora_a.copy_(a.view(lora_a.shape))
                lora_b.copy_(b.view(lora_b.shape))


def create_balora_optimizer(model: PeftModel, optimizer_cls: type[Optimizer], *, lr: float, **kwargs) -> Optimizer:
    """
    Creates a BaLoRA optimizer for a LoRA-adapted model.

    Balanced LoRA: https://huggingface.co/papers/2605.31484

    The returned optimizer behaves like `optimizer_cls`, except that after every step each pair of LoRA factors is
    replaced by the balanced pair with the same product, `B^T B = A A^T = S` with `S` the diagonal matrix of the
    singular values of `B A`. The outputs of the model do not change, but its loss is better conditioned as a function
    of the factors. The state of the optimizer is left as it is.

    Args:
        model (`torch.nn.Module`): The PEFT model containing LoRA-adapted parameters.
        optimizer_cls (`type[torch.optim.Optimizer]`): The optimizer class, e.g. `torch.optim.AdamW`.
        lr (`float`): Learning rate passed to the optimizer.
        kwargs (`dict`): Additional keyword arguments passed to the optimizer (e.g. `weight_decay`, `betas`).

    Returns:
        `torch.optim.Optimizer`: An instance of `optimizer_cls` with a hook that follows each step.
    """
    if not (isinstance(optimizer_cls, type) and issubclass(optimizer_cls, Optimizer)):
        raise TypeError(f"optimizer_cls must be a subclass of torch.optim.Optimizer, got {optimizer_cls!r}.")
    layers = _collect_lora_layers(model)
    if not layers:
        raise ValueError(
            "create_balora_optimizer did not find any trainable LoRA layer on the model. BaLoRA only applies to LoRA "
            "adapters."
        )
    optimizer = optimizer_cls([param for param in model.parameters() if param.requires_grad], lr=lr, **kwargs)

    def balance_after_step(optimizer: Optimizer, args, kwargs) -> None:
        # A fused optimizer runs its hooks even if a GradScaler has told it to skip the step.
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is None or not bool((found_inf > 0).any()):
            _balance(layers)

    optimizer.register_step_post_hook(balance_after_step)
    return optimizer
