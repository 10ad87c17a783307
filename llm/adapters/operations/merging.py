"""Adapters added up: Σ w_i s_i A_i B_i is one product again, [A_1 … A_n] times [B_1; …; B_n]."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorakappa.conditioning.rank_rules import RankRule, truncation_error
from lorakappa.conditioning.truncation import ProductSVD, product_svd
from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.formats.stored import Adapter, Factors, StoredPair
from lorakappa.llm.adapters.formats.writing import write_adapter
from lorakappa.llm.adapters.operations.products import absorbed, stored, stored_change
from lorakappa.llm.adapters.operations.refusals import (
    refuse_biases,
    refuse_different,
    refuse_magnitudes,
    refuse_start,
)


@dataclass(frozen=True)
class MergedLayer:
    """One product of the sum.

    Attributes:
        name: of the layer.
        adapters: numbers of the adapters that have it, from 0.
        full_rank: rank at which the sum is exact: Σ r_i, or min(a, b) where that is smaller.
        rank: number of columns of A.
        error: relative distance, in the Frobenius norm, of the nearest product of that rank from the sum; 0 if exact.
        stored_error: the same of the product as it was stored and read again.
    """

    name: str
    adapters: tuple[int, ...]
    full_rank: int
    rank: int
    error: float
    stored_error: float


@torch.no_grad()
def merge_adapters(
    sources: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    rule: RankRule | None = None,
    other_bases: bool = False,
) -> list[MergedLayer]:
    """Writes the weighted sum of adapters, Σ w_i s_i A_i B_i in every layer, as one adapter of scale 1.

    Ranks, scales (α, rsLoRA) and layers may differ; a layer that an adapter does not have counts as 0 there. Factors
    stand side by side, so that nothing is rounded but by √|w_i s_i| and the sum is exact; where Σ r_i > min(a, b), or a
    rule asks for less, they are truncated (`conditioning.truncation`) and balanced. Configuration and further files are
    those of the first adapter, types the widest of all. What is written is read again and compared before it appears,
    whole or not at all.

    Args:
        sources: the adapters, of one format.
        target: to be written; must not exist or be empty.
        weights: w_i, any finite numbers; None means 1 for each.
        rule: how many singular values of the sum each layer keeps; None keeps all.
        other_bases: allows adapters whose configurations name different base models.

    Returns:
        The layers: those of the first adapter, then what the others add.

    Raises:
        OSError: if files cannot be read or written, or the target is in use.
        CannotBalanceError: for layers that are not a free product AB, or whose type is too coarse (float8).
        ValueError: for sources that are no readable adapters or cannot be added up: different shapes, formats, base
            models or tensors that are no factors (biases, modules_to_save), DoRA's magnitudes, biases inside of the
            update, starts taken out of the base weights; NaN or infinity; weights that are as many as the adapters and
            finite; factors that their type cannot hold.
    """
    weights = [1.0] * len(sources) if weights is None else list(weights)
    if not sources:
        raise ValueError("name the adapters to merge")
    if len(weights) != len(sources) or not all(math.isfinite(w) for w in weights):
        raise ValueError(f"{len(sources)} adapters need as many finite weights, not {', '.join(map(str, weights))}")
    adapters = [read_adapter(source) for source in sources]
    for adapter in adapters:
        refuse_magnitudes(adapter, "merged")
        refuse_biases(adapter, "merged")
        refuse_start(adapter, "merged")
    refuse_different(adapters, other_bases=other_bases)
    merging = _Merging(adapters, weights, rule)
    write_adapter(adapters[0], target, merging.factors, pairs=merging.pairs, check=merging.check)
    return merging.layers


@dataclass(frozen=True)
class _Part:
    """A pair of one adapter, and what it is multiplied by."""

    adapter: Adapter
    number: int
    pair: StoredPair
    scale: float


class _Merging:
    """What `write_adapter` asks for: the pairs of the sum, their factors, and whether what was written is right."""

    def __init__(self, adapters: list[Adapter], weights: list[float], rule: RankRule | None) -> None:
        self.layers: list[MergedLayer] = []
        self._rule = rule
        self._errors: dict[tuple[str, str], float] = {}
        self._ranks: dict[str, int] = {}
        self._parts: dict[tuple[str, str], list[_Part]] = {}
        for number, (adapter, weight) in enumerate(zip(adapters, weights, strict=True)):
            for pair in adapter.pairs:
                part = _Part(adapter, number, pair, weight * pair.scale)
                self._parts.setdefault(_key(pair), []).append(part)
        self.pairs = [self._pair(parts) for parts in self._parts.values()]

    def factors(self, pair: StoredPair) -> Factors:
        """The sum of a layer."""
        A, B = self._sum(pair)
        full = min(A.shape[1], *pair.shape)
        self._errors[_key(pair)] = 0.0
        if self._rule is not None or full < A.shape[1]:
            svd = product_svd(A, B)
            k = full if self._rule is None else min(full, self._rank(pair, svd, self._rule))
            self._errors[_key(pair)] = truncation_error(svd.relative.tolist(), k)
            A, B = svd.truncated(k)
        return stored(A, B, pair.dtypes, 1.0, pair)

    def _sum(self, pair: StoredPair) -> tuple[Tensor, Tensor]:
        """Factors of the sum, scales included."""
        parts = self._parts[_key(pair)]
        return _joined([absorbed(*part.adapter.factors(part.pair), part.scale) for part in parts])

    def _rank(self, pair: StoredPair, svd: ProductSVD, rule: RankRule) -> int:
        """The rank of a sum, or the one that its stack of experts shares."""
        if pair.experts == 1:
            return rule.choose(svd.relative)
        if pair.left not in self._ranks:
            stack = [one for one in self.pairs if one.left == pair.left]
            self._ranks[pair.left] = max(rule.choose(product_svd(*self._sum(one)).relative) for one in stack)
        return self._ranks[pair.left]

    def check(self, written: Adapter) -> None:
        """Compares what was written with the sum."""
        found = {_key(pair): pair for pair in written.pairs}
        for key, parts in self._parts.items():
            new = found[key]
            scales = [part.scale for part in parts for _ in range(part.pair.r)]
            meant = _joined([part.adapter.factors(part.pair) for part in parts])
            error = stored_change(meant, written.factors(new), (scales, new.scale), new, error=self._errors[key])
            full = min(len(scales), *new.shape)
            numbers = tuple(part.number for part in parts)
            self.layers.append(MergedLayer(new.name, numbers, full, new.r, self._errors[key], error))

    def _pair(self, parts: list[_Part]) -> StoredPair:
        """The pair as its first adapter has it, with the widest types of all."""
        first, *others = (part.pair for part in parts)
        for part in parts[1:]:
            other = part.pair
            if (other.shape, other.kind, other.kernel, other.experts) != (
                first.shape,
                first.kind,
                first.kernel,
                first.experts,
            ):
                raise ValueError(
                    f"{first.name} is {first.kind} of shape {first.shape} in {parts[0].adapter.path}, but {other.kind} "
                    f"of shape {other.shape} in {part.adapter.path}: these are no adapters of one model"
                )
        left, right = first.dtypes
        for other in others:
            left, right = torch.promote_types(left, other.dtypes[0]), torch.promote_types(right, other.dtypes[1])
        return replace(first, dtypes=(left, right))


def _key(pair: StoredPair) -> tuple[str, str]:
    """What names a pair in all adapters of one format."""
    return pair.component, pair.name


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """[A_1 … A_n] and [B_1; …; B_n] in the widest of their types."""
    dtype = pairs[0][0].dtype
    for A, _ in pairs:
        dtype = torch.promote_types(dtype, A.dtype)
    return torch.cat([A.to(dtype) for A, _ in pairs], 1), torch.cat([B.to(dtype) for _, B in pairs])
