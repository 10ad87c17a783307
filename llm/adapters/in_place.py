"""P in place: all pairs of a model change gauge where they lie, through one working set that is made once.

Gram matrices of every factor, the r×r algebra of all pairs of one rank together, one question to the device whether
that served everywhere, and then (A, B) ← (AT, T⁻¹B). Nothing is written before the question is answered.

A factor is seen by its long side: A (a, r) is multiplied by T, Bᵀ (b, r) by T⁻ᵀ. Pairs so small that calling torch
costs more than computing are copied into stacks, padded with zeros; larger ones are read and written block by block.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import compress
from typing import Any

import torch
from array_api_compat import array_namespace
from torch import Tensor

from lorakappa.conditioning.projection_by_gram import (
    Gauges,
    chunked,
    diagonal_blocks,
    folded,
    full_precision,
    gauges_in,
    gram,
    repeated,
)
from lorakappa.conditioning.projection_gauges import Gauge
from lorakappa.llm.adapters.factors import is_sharded
from lorakappa.llm.adapters.pairs import LoraPair

SMALL = 2**14
"""Pairs with at most so many entries are stacked: copying them is cheaper than a dozen calls more for each."""

BLOCK = 2**18
"""Entries of the block that a large factor is multiplied through: 1 MiB of float32, which stays in the cache."""

DEVICE_BLOCK = 2**24
"""The same on a GPU, whose calls cost more than its memory."""


Find = Callable[..., Gauges]
"""Finds gauges from (xp, pairs, G), G the (n, 2, r, r) float64 Gram matrices of the pairs, and the keywords storage,
entries and eps of `projection_by_gram.gauges`."""


@dataclass(frozen=True)
class Outcome:
    """Gauges of some pairs.

    Attributes:
        pairs: of which.
        factors: (n, 2, r, r) float32 matrices T and T⁻ᵀ; I where refused.
        safe: for each pair whether (AT, T⁻¹B) is what `balance` promises.
        moves: for each pair whether T differs from I in the precision of the product.
    """

    pairs: list[LoraPair]
    factors: Tensor
    safe: list[bool]
    moves: list[bool]


def serves(pair: LoraPair) -> bool:
    """Whether a pair can be balanced in place.

    Whole, contiguous tensors of one type, single precision at most, and of a shape that allows AB the rank r.
    """
    left, right = pair.left, pair.right
    if is_sharded(left) or is_sharded(right):
        return False
    (a, r), b = pair.A.shape, pair.B.shape[1]
    return (
        r <= min(a, b)
        and left.dtype == right.dtype != torch.float64
        and left.device == right.device
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
    def gauges(self, gauge: Gauge | Find) -> list[Outcome]:
        """The gauges of all pairs as they are now; waits once for each device, and writes nothing.

        Args:
            gauge: which balanced pair, or what finds another gauge.
        """
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
        large = [pair for pair in pairs if pair.left.numel() + pair.right.numel() > SMALL]
        self._parts: list[_Stack | _Blocks] = [_Stack(members, length) for length, members in stacked.items()]
        self._parts += [_Blocks(large)] if large else []
        self.pairs = [pair for part in self._parts for pair in part.pairs]
        self._identity = torch.eye(pairs[0].A.shape[1], device=pairs[0].left.device)
        self._xp = array_namespace(self._identity)
        self._storage = torch.finfo(pairs[0].left.dtype)
        self._entries = max(pair.left.numel() + pair.right.numel() for pair in pairs)

    def gauges(self, gauge: Gauge | Find) -> tuple[Gauges, Tensor]:
        """The gauges, and bools (2, n): which are safe, and which move. They are not waited for."""
        xp = self._xp
        with full_precision(xp):
            grams = [part.grams() for part in self._parts]
        G = torch.cat(grams) if len(grams) > 1 else grams[0]
        options: dict[str, Any] = {"storage": self._storage, "entries": self._entries}
        if callable(gauge):
            factors, safe = gauge(xp, self.pairs, G, eps=torch.finfo(torch.float32).eps, **options)
            found = Gauges(factors.float(), safe)
        else:
            found = gauges_in(xp, G, gauge, torch.float32, **options)
        moves = (found.factors != self._identity).flatten(1).any(1)
        return found, torch.stack([found.safe, moves])

    def move(self, outcome: Outcome) -> None:
        """(A, B) ← (AT, T⁻¹B) where that is safe and changes anything."""
        chosen = [safe and moves for safe, moves in zip(outcome.safe, outcome.moves, strict=True)]
        start = 0
        with full_precision(self._xp):
            for part in self._parts:
                end = start + len(part.pairs)
                part.move(outcome.factors[start:end], chosen[start:end])
                start = end


class _Stack:
    """Small pairs, copied into one float32 array (2n, length, r) of A and Bᵀ by turns, and moved into another."""

    def __init__(self, pairs: list[LoraPair], length: int) -> None:
        self.pairs = pairs
        r = pairs[0].A.shape[1]
        self._factors = [factor for pair in pairs for factor in (pair.A.detach(), pair.B.detach().mT)]
        self._values = torch.zeros(len(self._factors), length, r, device=pairs[0].left.device)
        self._xp = array_namespace(self._values)
        self._wide = folded(self._xp, self._values)
        self._moved = torch.empty_like(self._wide)
        self._rows, self._results = (
            [M[i, : len(factor)] for i, factor in enumerate(self._factors)]
            for M in (self._values, self._moved.view(self._values.shape))
        )

    def grams(self) -> Tensor:
        """(n, 2, r, r) matrices AᵀA and BBᵀ of the factors as they are now."""
        torch._foreach_copy_(self._rows, self._factors)
        return _by_twos(gram(self._xp, self._values, -2))

    def move(self, gauge: Tensor, chosen: list[bool]) -> None:
        """Writes the chosen pairs, multiplied by (n, 2, r, r) matrices T and T⁻ᵀ."""
        if not any(chosen):
            return
        T = gauge.flatten(0, 1)
        torch.bmm(self._wide, repeated(self._xp, T, self._wide.shape[-1] // T.shape[-1]), out=self._moved)
        both = [yes for yes in chosen for _ in range(2)]
        torch._foreach_copy_(list(compress(self._factors, both)), list(compress(self._results, both)))


class _Blocks:
    """Large pairs, read and written where they lie, block by block through one workspace."""

    def __init__(self, pairs: list[LoraPair]) -> None:
        self.pairs = pairs
        self._r = pairs[0].A.shape[1]
        device = pairs[0].left.device
        self._workspace = torch.empty(BLOCK if device.type == "cpu" else DEVICE_BLOCK, device=device)
        self._xp = array_namespace(self._workspace)
        self._sides = [
            _Side(self._xp, [pair.A.detach() for pair in pairs], -2),
            _Side(self._xp, [pair.B.detach() for pair in pairs], -1),
        ]
        self._rows = [folded(self._xp, pair.A.detach()) for pair in pairs]
        self._columns = [pair.B.detach() for pair in pairs]

    def grams(self) -> Tensor:
        """(n, 2, r, r) matrices AᵀA and BBᵀ of the factors as they are now."""
        return torch.stack([side.grams() for side in self._sides], dim=1)

    def move(self, gauge: Tensor, chosen: list[bool]) -> None:
        """Writes the chosen pairs, multiplied by (n, 2, r, r) matrices T and T⁻ᵀ."""
        wide = max(rows.shape[1] for rows in self._rows) // self._r
        repeats = repeated(self._xp, gauge[:, 0], wide)
        for i, (rows, columns) in enumerate(zip(self._rows, self._columns, strict=True)):
            if chosen[i]:
                self._multiply(rows, repeats[i] if rows.shape[1] > self._r else gauge[i, 0])
                self._multiply(columns.mT, gauge[i, 1])

    def _multiply(self, M: Tensor, T: Tensor) -> None:
        """M ← MT in place; the workspace takes M's own order of memory."""
        step = max(1, len(self._workspace) // M.shape[1])
        for start in range(0, len(M), step):
            block = M[start : start + step]
            result = self._workspace[: block.numel()]
            result = result.view(block.shape) if block.stride(1) == 1 else result.view(block.mT.shape).mT
            torch.mm(block.float(), T, out=result)
            block.copy_(result)


class _Side:
    """All factors A, or all factors B, of large pairs, and the products that their Gram matrices are summed from."""

    def __init__(self, xp: Any, factors: list[Tensor], axis: int) -> None:
        self._xp = xp
        self._axis = axis
        self._r = factors[0].shape[-3 - axis]
        self._factors = factors
        self._whole = [i for i, M in enumerate(factors) if chunked(xp, M, axis)[1] is None]
        self._chunks = [chunked(xp, factors[i], axis)[0] for i in self._whole]
        counts = [len(chunks) for chunks in self._chunks]
        owners = [i for i, count in zip(self._whole, counts, strict=True) for _ in range(count)]
        device = factors[0].device
        self._owners = torch.tensor(owners, dtype=torch.int64, device=device)
        width = self._chunks[0].shape[1] if self._chunks else self._r
        self._products = torch.empty(len(owners), width, width, device=device)
        self._slices = list(self._products.split(counts)) if counts else []  # type: ignore[no-untyped-call]

    def grams(self) -> Tensor:
        """(n, r, r) float64 Gram matrices."""
        for chunks, out in zip(self._chunks, self._slices, strict=True):
            single = chunks.float()
            torch.bmm(single, single.mT, out=out)
        blocks = diagonal_blocks(self._xp, self._products.double(), self._r, self._axis)
        total = blocks.new_zeros(len(self._factors), self._r, self._r).index_add_(0, self._owners, blocks)
        for i in set(range(len(self._factors))) - set(self._whole):  # with a few rows more than chunks take
            total[i] = gram(self._xp, self._factors[i].float(), self._axis)
        return total


def _by_twos(G: Tensor) -> Tensor:
    """(2n, r, r) as (n, 2, r, r)."""
    return G.reshape(-1, 2, *G.shape[1:])
