"""P applied to all LoRA pairs of a model at once: one batched call per shape, dtype and device."""

from dataclasses import dataclass
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn

from lorakappa.conditioning.projection import Gauge, balance
from lorakappa.llm.adapters.factors import NonFiniteError
from lorakappa.llm.adapters.joining import AnyOptimizer, joined, unwrap_optimizers
from lorakappa.llm.adapters.moments import Moments, check_moments, check_state, gauge_between, reset, transport
from lorakappa.llm.adapters.pairs import LoraPair, lora_pairs, stack_batches, storage
from lorakappa.llm.adapters.products import is_representable


@dataclass(frozen=True)
class BalanceReport:
    """What `balance_model` did.

    Attributes:
        balanced: number of pairs whose entries changed.
        unchanged: pairs left as they were: AB = 0, balanced already to the last bit, or with balanced factors that are
            too small or too large for the type they are stored in.
        frozen: number of pairs skipped because they do not train.
        batches: number of batched calls.
    """

    balanced: int
    unchanged: tuple[str, ...]
    frozen: int
    batches: int


def balance_model(
    model: nn.Module,
    *,
    gauge: Gauge = "hyperbalanced",
    adapter: str | None = None,
    optimizer: Any = None,
    moments: Moments = "keep",
) -> BalanceReport:
    """Replaces every trainable LoRA pair of a model, in place, by its balanced equivalent.

    The model computes the same function up to rounding. Pairs with AB = 0 (every fresh LoRA adapter) stay as they
    are, so a warm-up from learning rate 0 is safe. Frozen pairs are skipped. Either all pairs are written or, if
    any holds a NaN or cannot be balanced, none.

    Args:
        model: a PEFT model, or anything that contains one.
        gauge: which balanced pair (`conditioning.balance`).
        adapter: name of one adapter; None means all that train.
        optimizer: whose state to carry along, or a list of them; needed unless `moments` is "keep".
        moments: what becomes of the optimizer's moments of these factors (`llm.adapters.moments`).

    Returns:
        What was done.

    Raises:
        CannotBalanceError: for layers that `lora_pairs` refuses, and pairs of whose moments the optimizer has half.
        NonFiniteError: on NaN or infinity in a factor (it is named).
        ValueError: on an unknown gauge or moments, a missing optimizer,
            an optimizer state that cannot be transported, or no LoRA layer.
    """
    whole = None if optimizer is None else joined(unwrap_optimizers(optimizer))
    return balance_pairs(lora_pairs(model, adapter), gauge=gauge, optimizer=whole, moments=moments)


@torch.no_grad()
def balance_pairs(
    pairs: list[LoraPair],
    *,
    gauge: Gauge = "hyperbalanced",
    optimizer: AnyOptimizer | None = None,
    moments: Moments = "keep",
) -> BalanceReport:
    """`balance_model` for pairs found already."""
    check_moments(moments, optimizer)
    trainable = [pair for pair in pairs if pair.trainable]
    if optimizer is not None and moments != "keep":
        check_state(optimizer, trainable)
    batches = [(batch, *_balanced([ties[0] for ties in batch], gauge)) for batch in stack_batches(trainable)]
    unchanged: list[str] = []
    for batch, A, B, X, Y in batches:
        same = (X == A).flatten(1).all(1) & (Y == B).flatten(1).all(1)
        changed = (~same).tolist()
        unchanged += [ties[0].name for ties, moved in zip(batch, changed, strict=True) if not moved]
        if optimizer is not None and moments == "reset":
            for ties in compress(batch, changed):
                for pair in ties:
                    reset(optimizer, pair)
        if optimizer is not None and moments == "transport":
            _transport(optimizer, batch, gauge_between(A, B, X, Y))
        for ties, x, y in zip(batch, X, Y, strict=True):
            ties[0].write(x, y)
    done = sum(len(batch) for batch, *_ in batches) - len(unchanged)
    return BalanceReport(done, tuple(unchanged), len(pairs) - len(trainable), len(batches))


def _transport(optimizer: AnyOptimizer, batch: list[list[LoraPair]], gauges: tuple[Tensor, Tensor, Tensor]) -> None:
    """Transports the moments of every pair whose gauge is known, and of the parameters tied to it.

    A layer tied with exchanged factors, (Bᵀ, Aᵀ), changes gauge by T⁻ᵀ.
    """
    T, T_inv, known = gauges
    for ties, t, t_inv in compress(zip(batch, T, T_inv, strict=True), known.tolist()):
        first = ties[0]
        transport(optimizer, first, t, t_inv)
        for pair in ties[1:]:
            if pair.left is first.left or pair.left is first.right:
                continue  # the very same parameters, with one state
            exchanged = storage(pair.left) == storage(first.right)
            transport(optimizer, pair, *((t_inv.mT, t.mT) if exchanged else (t, t_inv)))


def _balanced(batch: list[LoraPair], gauge: Gauge) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Copies of the pairs (n, a, r), (n, r, b) and their balanced equivalents."""
    A, B = torch.stack([pair.A for pair in batch]), torch.stack([pair.B for pair in batch])
    dtype = torch.promote_types(A.dtype, B.dtype)
    A, B = A.to(dtype), B.to(A.device, dtype)
    try:
        X, Y = balance(A, B, gauge=gauge)
    except ValueError:
        finite = A.isfinite().flatten(1).all(1) & B.isfinite().flatten(1).all(1)
        bad = [pair.name for pair, ok in zip(batch, finite.tolist(), strict=True) if not ok]
        if not bad:
            raise
        raise NonFiniteError(
            f"{bad[0]} contains NaN or infinity ({len(bad)} such pairs); nothing was balanced"
        ) from None
    stored = batch[0].left.dtype, batch[0].right.dtype
    fits = is_representable(A, B, X, Y, *stored)
    if not bool(fits.all()):
        X, Y = (torch.where(fits[:, None, None], new, old) for new, old in ((X, A), (Y, B)))
    return A, B, X, Y
