"""RefLoRA-S in any training loop: after every optimizer step, (A, B) ← (pA, B/p) with ‖pA‖_F = ‖B/p‖_F.

Source: RefLoRA (Zhang, Li & Giannakis 2025, arXiv 2505.18877), the variant whose S is the number p² = ‖B‖_F/‖A‖_F.
Multiplying gradients by it, as `llm.adapters.refactoring` does with the matrix, would be lost on Adam, which takes
factors out of its gradients again. So the factors themselves are multiplied, and the moments with them, as in the
authors' public code. With SGD it makes no difference (tested).
"""

from typing import Any

import torch
from torch import nn

from lorakappa.llm.adapters.handles import StepHandle
from lorakappa.llm.adapters.hooks import map_after_step
from lorakappa.llm.adapters.joining import AnyOptimizer
from lorakappa.llm.adapters.moments import check_state, transport_ties
from lorakappa.llm.adapters.pairs import LoraPair, check_finite, stack_batches


def rescale_after_step(optimizer: Any, model: nn.Module, *, every: int = 1, adapter: str | None = None) -> StepHandle:
    """Makes the norms of both factors of every pair equal after every `every`-th real step (RefLoRA-S).

    See `map_after_step` for what counts as a step. AB stays but for rounding; moments are transported, exactly for
    this gauge. A pair with a factor 0 stays as it is.

    Args:
        optimizer: a torch optimizer or accelerate's wrapper of one; where several train the model, a list of them.
        model: the PEFT model trained.
        every: number of steps between two of these.
        adapter: name of one adapter; None means all that train.

    Returns:
        A handle, as of `map_after_step`; `last` is the number of pairs seen, those that share memory once.

    Raises:
        TypeError: if there is no torch optimizer in `optimizer`, or `every` is no integer.
        CannotBalanceError: for layers that `lora_pairs` refuses, and pairs with one factor in other optimizers.
        ValueError: on `every` < 1, or no LoRA layer that trains. While training: NonFiniteError if a factor is not
            finite, and ValueError on moments of a kind that cannot be transported.
    """
    return map_after_step(optimizer, model, rescale_pairs, every=every, adapter=adapter)


@torch.no_grad()
def rescale_pairs(pairs: list[LoraPair], optimizer: AnyOptimizer) -> int:
    """`rescale_after_step`'s map.

    Args:
        pairs: as found by `lora_pairs`.
        optimizer: whose moments go with them.

    Returns:
        The number of pairs, those that share memory once.

    Raises:
        NonFiniteError: on NaN or infinity in a factor; pairs of other shapes may be rescaled already.
        ValueError: on moments of a kind that cannot be transported.
    """
    trainable = [pair for pair in pairs if pair.trainable]
    check_state(optimizer, trainable)
    batches = stack_batches(trainable)
    for batch in batches:
        firsts = [ties[0] for ties in batch]
        A, B = (torch.stack([getattr(pair, side) for pair in firsts]).double() for side in ("A", "B"))
        check_finite(firsts, A, B, "rescaled")
        a, b = (torch.linalg.matrix_norm(M) for M in (A, B))
        ratio = b / a
        p = torch.where(ratio.isfinite() & (ratio > 0), ratio, 1.0).sqrt()
        eye = torch.eye(A.shape[-1], dtype=p.dtype, device=p.device)
        for ties, X, Y, scale in zip(batch, A * p[:, None, None], B / p[:, None, None], p, strict=True):
            ties[0].write(X, Y)
            transport_ties(optimizer, ties, scale * eye, eye / scale)
    return sum(map(len, batches))
