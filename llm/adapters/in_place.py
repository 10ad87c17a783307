"""P in place: all pairs of a model change gauge where they lie, through one working set that is made once.

Gram matrices of every factor, the r×r algebra of all pairs of one rank together, one question to the device whether
that served everywhere, and then (A, B) ← (AT, T⁻¹B). Nothing is written before the question is answered.

A factor is seen by its long side: A (a, r) is multiplied by T, Bᵀ (b, r) by T⁻ᵀ. Pairs so small that calling torch
costs more than computing are copied into stacks, padded with zeros; larger ones are read and written block by block.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from array_api_compat import array_namespace
from torch import Tensor

from lorakappa.conditioning.projection_by_gram import Gauges, full_precision, gauges, gram, moved
from lorakappa.conditioning.projection_gauges import Gauge
from lorakappa.llm.adapters.factors import is_sharded
from lorakappa.llm.adapters.pairs import LoraPair

SMALL = 2**15
"""Pairs with at most so many entries are stacked: copying them is cheaper than a dozen calls more for each."""

BLOCK = 2**18
"""Entries of the block that a large factor is multiplied through: 1 MiB of float32, which stays in the cache."""

DEVICE_BLOCK = 2**24
"""The same on a GPU, whose calls cost more than its memory."""


EPS32 = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Outcome:
    """Gauges of some pairs.

    Attributes:
        pairs: of which.
        factors: (n, 2, r, r) float64 matrices T and T⁻ᵀ; I where refused.
        safe: for each pair whether (AT, T⁻¹B) is what `balance` promises.
        moves: for each pair whether T differs from I in the precision of the product.
    """

    pairs: list[LoraPair]
    factors: Tensor
    safe: list[bool]
    moves: list[bool]


def serves(pair: LoraPair) -> bool:
    """Whether a pair can be balanced in place: whole, contiguous tensors of one type, single precision at most."""
    left, right = pair.left, pair.right
    return (
        left.dtype == right.dtype != torch.float64
        and left.device == right.device
        and not is_sharded(left)
        and not is_sharded(right)
        and left.is_contiguous()
        and right.is_contiguous()
    )


class InPlace:
    """Pairs that change gauge in place, as often as wanted, while they keep their memory.

    Args:
        pairs: of any shapes and devices, none of which share memory, and all of which `serves` accepts.
    """

    def __init__(self, pairs: Iterable[LoraPair]) -> None:
        groups: dict[object, list[LoraPair]] = defaultdict(list)
        for pair in pairs:
            groups[pair.A.shape[1], pair.left.dtype, pair.left.device].append(pair)
        self._groups = [_Group(members) for members in groups.values()]

    @torch.no_grad()
    def gauges(self, gauge: Gauge) -> list[Outcome]:
        """The gauges of all pairs as they are now; waits once for each device, and writes nothing."""
        found = [group.gauges(gauge) for group in self._groups]
        by_device: dict[torch.device, list[Tensor]] = defaultdict(list)
        for _, flags in found:
            by_device[flags.device].append(flags)
        on_host = {device: iter(torch.cat(flags, dim=1).T.tolist()) for device, flags in by_device.items()}
        outcomes = []
        for group, (one, flags) in zip(self._groups, found, strict=True):
            rows = [next(on_host[flags.device]) for _ in group.pairs]
            safe, moves = [row[0] for row in rows], [row[1] for row in rows]
            outcomes.append(Outcome(group.pairs, one.factors, safe, moves))
        return outcomes

    @torch.no_grad()
    def move(self, outcomes: list[Outcome]) -> None:
        """Writes the pairs that are safe and move, which must be as they were when their gauges were computed."""
        for group, outcome in zip(self._groups, outcomes, strict=True):
            group.move(outcome)


class _Group:
    """Pairs of one rank, dtype and device: small ones by padded length, then the large ones."""

    def __init__(self, pairs: list[LoraPair]) -> None:
        small = [pair for pair in pairs if pair.left.numel() + pair.right.numel() <= SMALL]
        lengths = [max(pair.A.shape[0], pair.B.shape[1]) for pair in small]
        # one stack if padding all to the longest is cheap, else one for each power of two
        few = 2 * len(small) * max(lengths, default=0) * pairs[0].A.shape[1] <= BLOCK
        stacked: dict[int, list[LoraPair]] = defaultdict(list)
        for pair, length in zip(small, lengths, strict=True):
            stacked[max(lengths) if few else 1 << (length - 1).bit_length()].append(pair)
        self._stacks = [_Stack(members, length) for length, members in stacked.items()]
        self._large = [pair for pair in pairs if pair.left.numel() + pair.right.numel() > SMALL]
        self.pairs = [pair for stack in self._stacks for pair in stack.pairs] + self._large
        device = pairs[0].left.device
        entries = BLOCK if device.type == "cpu" else DEVICE_BLOCK
        self._block = torch.empty(entries if self._large else 0, device=device)
        self._identity = torch.eye(pairs[0].A.shape[1], device=device)
        self._xp = array_namespace(self._identity)
        self._storage = torch.finfo(pairs[0].left.dtype)
        self._entries = max(pair.left.numel() + pair.right.numel() for pair in pairs)

    def gauges(self, gauge: Gauge) -> tuple[Gauges, Tensor]:
        """The gauges, and bools (2, n): which are safe, and which move. They are not waited for."""
        xp = self._xp
        with full_precision(xp):
            grams = [stack.grams() for stack in self._stacks]
            if self._large:
                parts = [gram(xp, M.float(), k) for p in self._large for M, k in ((p.A, -2), (p.B, -1))]
                grams.append(_by_twos(torch.stack(parts)))
        G = torch.cat(grams) if len(grams) > 1 else grams[0]
        found = gauges(xp, G, gauge, storage=self._storage, entries=self._entries, eps=EPS32)
        moves = (found.factors.float() != self._identity).flatten(1).any(1)
        return found, torch.stack([found.safe, moves])

    def move(self, outcome: Outcome) -> None:
        """(A, B) ← (AT, T⁻¹B) where that is safe and changes anything."""
        chosen = [safe and moves for safe, moves in zip(outcome.safe, outcome.moves, strict=True)]
        factors = outcome.factors.float()
        start = 0
        with full_precision(self._xp):
            for stack in self._stacks:
                end = start + len(stack.pairs)
                stack.move(factors[start:end], chosen[start:end])
                start = end
            for pair, (T, T_inv_t), yes in zip(self._large, factors[start:], chosen[start:], strict=True):
                if yes:
                    _move(pair.A, T, self._block)
                    _move(pair.B.mT, T_inv_t, self._block)


class _Stack:
    """Small pairs, copied into one float32 array (2n, length, r) of A and Bᵀ by turns."""

    def __init__(self, pairs: list[LoraPair], length: int) -> None:
        self.pairs = pairs
        r = pairs[0].A.shape[1]
        self._factors = [factor for pair in pairs for factor in (pair.A.detach(), pair.B.detach().mT)]
        self._values = torch.zeros(len(self._factors), length, r, device=pairs[0].left.device)
        self._rows = [self._values[i, : len(factor)] for i, factor in enumerate(self._factors)]
        self._xp = array_namespace(self._values)

    def grams(self) -> Tensor:
        """(n, 2, r, r) matrices AᵀA and BBᵀ of the factors as they are now."""
        torch._foreach_copy_(self._rows, self._factors)
        return _by_twos(gram(self._xp, self._values, -2))

    def move(self, gauge: Tensor, chosen: list[bool]) -> None:
        """Writes the chosen pairs, multiplied by (n, 2, r, r) matrices T and T⁻ᵀ."""
        new = moved(self._xp, self._values, gauge.flatten(0, 1))
        kept = [i for i in range(len(self._factors)) if chosen[i // 2]]
        if kept:
            factors = [self._factors[i] for i in kept]
            torch._foreach_copy_(factors, [new[i, : len(self._factors[i])] for i in kept])


def _by_twos(G: Tensor) -> Tensor:
    """(2n, r, r) as (n, 2, r, r)."""
    return G.reshape(-1, 2, *G.shape[1:])


def _move(M: Tensor, T: Tensor, workspace: Tensor) -> None:
    """M ← MT in place, block by block of rows.

    Args:
        M: (n, r) view of a parameter.
        T: (r, r) float32.
        workspace: float32 entries to compute in.
    """
    n, r = M.shape
    rows = max(1, len(workspace) // r)
    for start in range(0, n, rows):
        block = M[start : start + rows]
        result = workspace[: block.numel()].view(block.shape)
        torch.mm(block.float(), T, out=result)
        block.copy_(result)
