"""P applied to all LoRA pairs of a model at once: in place where that keeps what is promised, else as copies."""

from dataclasses import dataclass
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn

from lorakappa.conditioning.projection import balance
from lorakappa.conditioning.projection_gauges import Gauge, check_gauge
from lorakappa.llm.adapters.in_place import Find, InPlace, serves
from lorakappa.llm.adapters.joining import AnyOptimizer, joined, unwrap_optimizers
from lorakappa.llm.adapters.moments import (
    Moments,
    check_choice,
    check_moments,
    check_no_iterates,
    check_state,
    gauge_between,
    reset,
    transport_ties,
)
from lorakappa.llm.adapters.pairs import LoraPair, check_finite, lora_pairs, stack_batches
from lorakappa.llm.adapters.products import is_representable


@dataclass(frozen=True)
class BalanceReport:
    """What `balance_model` did.

    Attributes:
        balanced: number of pairs whose entries changed.
        unchanged: pairs left as they were: AB = 0, balanced already to the last bit, or with balanced factors that are
            too small or too large for the type they are stored in.
        frozen: number of pairs skipped because they do not train.
        batches: number of batched calls of the projection, each for pairs of one shape; not of data.
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
            an optimizer state that cannot be transported or holds copies of the factors, or no LoRA layer.
    """
    whole = None if optimizer is None else joined(unwrap_optimizers(optimizer))
    return balance_pairs(lora_pairs(model, adapter), gauge=gauge, optimizer=whole, moments=moments)


def balance_pairs(
    pairs: list[LoraPair],
    *,
    gauge: Gauge = "hyperbalanced",
    optimizer: AnyOptimizer | None = None,
    moments: Moments = "keep",
) -> BalanceReport:
    """`balance_model` for pairs found already."""
    return Balancing(pairs, gauge=gauge, moments=moments)(optimizer)


class Balancing:
    """P for given pairs, to be applied again and again while the model keeps them (`lookup.PairLookup`).

    Args:
        pairs: as found by `lora_pairs`.
        gauge: which balanced pair.
        moments: what becomes of the optimizer's moments.

    Raises:
        ValueError: on an unknown gauge or moments.
    """

    def __init__(self, pairs: list[LoraPair], *, gauge: Gauge, moments: Moments) -> None:
        check_gauge(gauge)
        check_choice(moments)
        self.pairs = pairs
        self._gauge = gauge
        self._moments = moments
        self._without_iterates = False
        self._trainable = [pair for pair in pairs if pair.trainable]
        self._batches = stack_batches(self._trainable)
        self._ties = {ties[0].name: ties for batch in self._batches for ties in batch}
        firsts = [ties[0] for batch in self._batches for ties in batch]
        self._in_place = InPlace(pair for pair in firsts if serves(pair))
        self._others = [pair for pair in firsts if not serves(pair)]

    @torch.no_grad()
    def __call__(self, optimizer: AnyOptimizer | None = None) -> BalanceReport:
        """Balances the pairs as they are now; errors as of `balance_model`."""
        check_moments(self._moments, optimizer)
        if optimizer is not None and not self._without_iterates:
            check_no_iterates(optimizer, self._trainable)
            self._without_iterates = True
        if optimizer is not None and self._moments != "keep":
            check_state(optimizer, self._trainable)
        outcomes = self._in_place.gauges(self._choice())
        refused = [pair for one in outcomes for pair, safe in zip(one.pairs, one.safe, strict=True) if not safe]
        rest = [[ties[0] for ties in batch] for batch in stack_batches(refused + self._others)]
        copies = [self._copies(batch) for batch in rest]
        # nothing was written so far: what cannot be balanced has been refused by now
        unchanged: set[str] = set()
        for one in outcomes:
            moving = [safe and moves for safe, moves in zip(one.safe, one.moves, strict=True)]
            T, T_inv = one.factors[:, 0].double(), one.factors[:, 1].mT.double()
            self._moves(one.pairs, T, T_inv, moving)
            self._carry_state(optimizer, one.pairs, T, T_inv, moving)
            unchanged.update(pair.name for pair, yes in zip(one.pairs, moving, strict=True) if not yes)
        unchanged -= {pair.name for pair in refused}
        self._in_place.move(outcomes)
        for batch, (A, B, X, Y) in zip(rest, copies, strict=True):
            same = (X == A).flatten(1).all(1) & (Y == B).flatten(1).all(1)
            unchanged.update(pair.name for pair, yes in zip(batch, same.tolist(), strict=True) if yes)
            if self._moments != "keep":
                T, T_inv, known = gauge_between(A, B, X, Y)
                moving = (~same if self._moments == "reset" else known).tolist()
                self._carry_state(optimizer, batch, T, T_inv, moving)
            for pair, x, y in zip(batch, X, Y, strict=True):
                pair.write(x, y)
        left = tuple(name for name in self._ties if name in unchanged)
        frozen = len(self.pairs) - len(self._trainable)
        return BalanceReport(len(self._ties) - len(left), left, frozen, len(self._batches))

    def _choice(self) -> Gauge | Find:
        """What is asked of pairs in place."""
        return self._gauge

    def _copies(self, batch: list[LoraPair]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Copies of the pairs (n, a, r), (n, r, b) of one shape, and what they become."""
        A, B = stacked(batch)
        try:
            X, Y = balance(A, B, gauge=self._gauge)
        except ValueError:
            check_finite(batch, A, B, "balanced")
            raise
        fits = is_representable(A, B, X, Y, batch[0].left.dtype, batch[0].right.dtype)
        if not bool(fits.all()):
            X, Y = (torch.where(fits[:, None, None], new, old) for new, old in ((X, A), (Y, B)))
        return A, B, X, Y

    def _moves(self, pairs: list[LoraPair], T: Tensor, T_inv: Tensor, moving: list[bool]) -> None:
        """Told before pairs move in place, and by which gauges (n, r, r)."""

    def _carry_state(
        self, optimizer: AnyOptimizer | None, pairs: list[LoraPair], T: Tensor, T_inv: Tensor, moving: list[bool]
    ) -> None:
        """Resets or transports the moments of the pairs that move, and of the parameters tied to them."""
        if optimizer is None or self._moments == "keep":
            return
        for pair, t, t_inv in compress(zip(pairs, T, T_inv, strict=True), moving):
            ties = self._ties[pair.name]
            if self._moments == "transport":
                transport_ties(optimizer, ties, t, t_inv)
            else:
                for tied in ties:
                    reset(optimizer, tied)


def stacked(batch: list[LoraPair]) -> tuple[Tensor, Tensor]:
    """The factors (n, a, r) and (n, r, b) of pairs of one shape, in one dtype and on one device."""
    A, B = torch.stack([pair.A for pair in batch]), torch.stack([pair.B for pair in batch])
    dtype = torch.promote_types(A.dtype, B.dtype)
    return A.to(dtype), B.to(A.device, dtype)
