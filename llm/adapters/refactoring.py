"""RefLoRA in any training loop: before every optimizer step, the gradients become g_A S⁻¹ and S g_B.

S = (AᵀA)⁻¹ # (BBᵀ) is TTᵀ for the gauge T of any balanced pair (AT, T⁻¹B), and steps of SGD change AB as BaLoRA's do
(`conditioning.refactoring`, with the source). What is multiplied are the gradients that an optimizer has found when it
steps: clipped, unscaled and averaged over micro-batches. Its moments are those of the new gradients.

T comes from the Gram matrices of all pairs at once where that is safe (`llm.adapters.in_place`), else from
`conditioning.refactored_gradient`, which is also what says which directions count as null. Nothing but gradients is
written, so the model's outputs do not change.

RefLoRA-S is elsewhere (`llm.adapters.rescaling`).
"""

from collections import defaultdict
from typing import Any

import torch
from array_api_compat import array_namespace
from torch import Tensor, nn

from lorakappa.conditioning.projection_by_gram import full_precision
from lorakappa.conditioning.refactoring import refactored_gradient
from lorakappa.llm.adapters.factors import Side, fill, matrix
from lorakappa.llm.adapters.handles import GradientHandle
from lorakappa.llm.adapters.in_place import InPlace, serves
from lorakappa.llm.adapters.joining import AnyOptimizer, owned_pairs, unwrap_optimizers
from lorakappa.llm.adapters.lookup import PairLookup
from lorakappa.llm.adapters.pairs import LoraPair, check_any_trains, check_finite

ONE_OPTIMIZER = "RefLoRA multiplies both gradients by what the pair is before either factor moves: train both with one"
"""What to do about a pair whose factors two optimizers share."""


def refactor_before_step(optimizer: Any, model: nn.Module, *, adapter: str | None = None) -> GradientHandle:
    """Multiplies the gradients of the LoRA factors as RefLoRA does, before every step that the optimizer really makes.

    Micro-batches of an accumulation make no step, nor do steps that a GradScaler skips. The factors are looked up at
    each step, as in `map_after_step`. A pair with AB = 0, as every fresh LoRA adapter has, keeps its gradients; a
    factor without a gradient has none afterwards.

    Args:
        optimizer: a torch optimizer or accelerate's wrapper of one, or a list of them, each with pairs of its own.
        model: the PEFT model trained.
        adapter: name of one adapter; None means all that train.

    Returns:
        A handle: `remove()` ends it, `steps` counts real steps, of several optimizers all of them, `last` is the
        number of pairs whose gradients were multiplied at the latest.

    Raises:
        TypeError: if there is no torch optimizer in `optimizer`.
        CannotBalanceError: for layers that `lora_pairs` refuses, and pairs with one factor in another optimizer.
        ValueError: if no LoRA layer trains. While training: NonFiniteError if a factor is not finite, and ValueError
            from a step with a closure, which computes gradients too late.
    """
    optimizers = unwrap_optimizers(optimizer)
    lookup = PairLookup(model, adapter)
    pairs = lookup()
    check_any_trains(pairs)
    owners = [one for one in optimizers if owned_pairs(pairs, one, ONE_OPTIMIZER)]
    ready: dict[int, Refactoring] = {}

    def refactor(pairs: list[LoraPair], optimizer: AnyOptimizer) -> int:
        known = ready.get(id(optimizer))
        if known is None or known.pairs is not pairs:  # the handle gives the same list while nothing has changed
            known = ready[id(optimizer)] = Refactoring(pairs)
        return known()

    return GradientHandle(owners or optimizers, lookup, refactor)


class Refactoring:
    """RefLoRA's gradients of given pairs, again and again while the model keeps them.

    Args:
        pairs: as found by `lora_pairs`.
    """

    def __init__(self, pairs: list[LoraPair]) -> None:
        self.pairs = pairs
        # a pair of parameters that several layers use has one gradient; other ties have gradients of their own
        once = {(frozenset((id(p.left), id(p.right))), p.expert): p for p in pairs if p.trainable}
        self._in_place = InPlace(pair for pair in once.values() if serves(pair))
        self._others = [pair for pair in once.values() if not serves(pair)]

    @torch.no_grad()
    def __call__(self) -> int:
        """Multiplies the gradients as they are now.

        Returns:
            The number of pairs that have any.

        Raises:
            NonFiniteError: on NaN or infinity in a factor (it is named); then no gradient is changed.
        """
        safe: list[tuple[LoraPair, Tensor, Tensor]] = []
        rest = [pair for pair in self._others if _has_gradient(pair)]
        for outcome in self._in_place.gauges("hyperbalanced"):
            for pair, (T, T_inv_t), is_safe in zip(outcome.pairs, outcome.factors, outcome.safe, strict=True):
                if _has_gradient(pair):
                    safe.append((pair, T, T_inv_t)) if is_safe else rest.append(pair)
        batches = _batches(rest)
        refactored = [_refactored(batch) for batch in batches]
        # nothing was written so far: a factor that is not finite has been refused by now
        for batch, new in zip(batches, refactored, strict=True):
            for pair, g_A, g_B in zip(batch, *new, strict=True):
                _write(pair, g_A, g_B)
        for pair, T, T_inv_t in safe:
            g_A, g_B = _gradient(pair, "A"), _gradient(pair, "B")
            with full_precision(array_namespace(T)):
                _write(
                    pair,
                    None if g_A is None else g_A.float() @ T_inv_t @ T_inv_t.mT,
                    None if g_B is None else T @ (T.mT @ g_B.float()),
                )
        return len(safe) + len(rest)


def _batches(pairs: list[LoraPair]) -> list[list[LoraPair]]:
    """Pairs that can be stacked; unlike `stack_batches` it keeps those that share their memory, not their gradients."""
    batches: dict[object, list[LoraPair]] = defaultdict(list)
    for pair in pairs:
        batches[pair.A.shape, pair.B.shape, pair.A.dtype, pair.B.dtype, pair.A.device].append(pair)
    return list(batches.values())


def _has_gradient(pair: LoraPair) -> bool:
    return pair.left.grad is not None or pair.right.grad is not None


def _gradient(pair: LoraPair, side: Side) -> Tensor | None:
    """The gradient by A (a, r) or B (r, b), or None."""
    gradient = (pair.left if side == "A" else pair.right).grad
    return None if gradient is None else matrix(gradient, side, pair.expert, pair.experts)


def _write(pair: LoraPair, g_A: Tensor | None, g_B: Tensor | None) -> None:
    """Copies the gradients into those of the pair, where it has any."""
    if pair.left.grad is not None and g_A is not None:
        fill(pair.left.grad, g_A, "A", pair.expert, pair.experts)
    if pair.right.grad is not None and g_B is not None:
        fill(pair.right.grad, g_B, "B", pair.expert, pair.experts)


def _refactored(batch: list[LoraPair]) -> tuple[Tensor, Tensor]:
    """The new gradients (n, a, r) and (n, r, b) of pairs of one shape; a missing one counts as 0.

    Raises:
        NonFiniteError: on NaN or infinity in a factor.
    """
    A, B = torch.stack([pair.A for pair in batch]), torch.stack([pair.B for pair in batch])
    found = [(_gradient(pair, "A"), _gradient(pair, "B")) for pair in batch]
    g_A = torch.stack([torch.zeros_like(x) if g is None else g for x, (g, _) in zip(A, found, strict=True)])
    g_B = torch.stack([torch.zeros_like(y) if g is None else g for y, (_, g) in zip(B, found, strict=True)])
    dtype = torch.promote_types(torch.promote_types(A.dtype, B.dtype), torch.float32)
    check_finite(batch, A, B, "refactored")
    return refactored_gradient(*(M.to(A.device, dtype) for M in (A, B, g_A, g_B)))
