"""Adapters of a smaller rank: the nearest products of that rank, layer by layer, by Eckart and Young's theorem."""

import os
from dataclasses import dataclass

import torch

from lorakappa.conditioning.rank_rules import RankRule, truncation_error
from lorakappa.conditioning.truncation import ProductSVD, product_svd
from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.formats.stored import Adapter, Factors, StoredPair
from lorakappa.llm.adapters.formats.writing import write_adapter
from lorakappa.llm.adapters.operations.products import stored, stored_change
from lorakappa.llm.adapters.operations.refusals import refuse_magnitudes, refuse_start


@dataclass(frozen=True)
class ResizedLayer:
    """What became of one pair.

    Attributes:
        name: of the layer.
        shape: (a, b) of AB.
        scale: of AB, before and after.
        r: number of columns of A before.
        rank: number of columns afterwards.
        error: ‖AB − (AB)_k‖_F/‖AB‖_F of the nearest product of that rank; 0 if AB = 0.
        spectral_error: the same in the spectral norm, s_{k+1}/s_1.
        stored_error: ‖AB − A'B'‖_F/‖AB‖_F with the factors as they were stored and read again.
    """

    name: str
    shape: tuple[int, int]
    scale: float
    r: int
    rank: int
    error: float
    spectral_error: float
    stored_error: float


@torch.no_grad()
def resize_adapter(
    source: str | os.PathLike[str], target: str | os.PathLike[str], rule: RankRule
) -> list[ResizedLayer]:
    """Writes an adapter with the nearest products of smaller ranks, balanced, with the same scales.

    Without AB and without the base model (`conditioning.truncation`), one layer in memory at a time. No rank grows. The
    experts of a stack share the largest rank that one of them needs. What is written is read again and compared with
    the old product before it appears, whole or not at all.

    Args:
        source: the adapter.
        target: to be written; must not exist or be empty.
        rule: how many singular values each layer keeps.

    Returns:
        The layers, in the order of the file.

    Raises:
        OSError: if files cannot be read or written, or the target is in use.
        CannotBalanceError: for layers that are not a free product AB, or whose type is too coarse (float8).
        ValueError: for a source that is no readable adapter, NaN or infinity in a factor, DoRA's magnitudes, a start
            that is taken out of the base weights, or factors that their type cannot hold.
    """
    adapter = read_adapter(source)
    refuse_magnitudes(adapter, "resized")
    refuse_start(adapter, "resized")
    resizing = _Resizing(adapter, rule)
    write_adapter(adapter, target, resizing.factors, check=resizing.check)
    return resizing.layers


class _Resizing:
    """What `write_adapter` asks for: new factors of each pair, and whether what was written is right."""

    def __init__(self, adapter: Adapter, rule: RankRule) -> None:
        self.layers: list[ResizedLayer] = []
        self._adapter, self._rule = adapter, rule
        self._errors: dict[str, tuple[float, float]] = {}
        self._ranks: dict[str, int] = {}

    def factors(self, pair: StoredPair) -> Factors:
        """The truncated pair."""
        svd = self._svd(pair)
        k = self._rank(pair, svd)
        s = svd.relative.tolist()
        spectral = s[k] / s[0] if k < len(s) and s[0] else 0.0
        self._errors[pair.name] = truncation_error(s, k), spectral
        return stored(*svd.truncated(k), pair.dtypes, pair.scale, pair)

    def check(self, written: Adapter) -> None:
        """Compares what was written with what was read."""
        for old, new in zip(self._adapter.pairs, written.pairs, strict=True):
            error, spectral = self._errors[old.name]
            pairs = self._adapter.factors(old), written.factors(new)
            change = stored_change(*pairs, (old.scale, new.scale), new, error=error)
            self.layers.append(ResizedLayer(old.name, old.shape, new.scale, old.r, new.r, error, spectral, change))

    def _svd(self, pair: StoredPair) -> ProductSVD:
        return product_svd(*self._adapter.factors(pair))

    def _rank(self, pair: StoredPair, svd: ProductSVD) -> int:
        """The rank of a pair, or the one that its stack of experts shares."""
        if pair.experts == 1:
            return self._rule.choose(svd.relative)
        if pair.left not in self._ranks:
            stack = [one for one in self._adapter.pairs if one.left == pair.left]
            self._ranks[pair.left] = max(self._rule.choose(self._svd(one).relative) for one in stack)
        return self._ranks[pair.left]
