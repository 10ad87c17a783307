"""The scale of an adapter folded into its factors: afterwards AB is the update itself, α = r."""

import os
from dataclasses import dataclass

import torch

from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.formats.stored import Adapter, Factors, StoredPair
from lorakappa.llm.adapters.formats.writing import write_adapter
from lorakappa.llm.adapters.operations.products import absorbed, stored, stored_change
from lorakappa.llm.adapters.operations.refusals import refuse_biases, refuse_start


@dataclass(frozen=True)
class FoldedLayer:
    """What became of one pair.

    Attributes:
        name: of the layer.
        scale: that AB had; it is 1 now.
        change: ‖A'B' − sAB‖_F/‖sAB‖_F, as stored and read again; 0 if both are 0.
    """

    name: str
    scale: float
    change: float


@torch.no_grad()
def fold_adapter(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> list[FoldedLayer]:
    """Writes an adapter with the same updates and scale 1: √|s|·A and √|s|·B, the sign of s on A.

    Whoever loads it needs no α to get the scale right. A balanced pair stays balanced, and DoRA's magnitudes stay
    right, since sAB does. What is written is read again and compared before it appears, whole or not at all.

    Args:
        source: the adapter.
        target: to be written; must not exist or be empty.

    Returns:
        The layers, in the order of the file.

    Raises:
        OSError: if files cannot be read or written, or the target is in use.
        CannotBalanceError: for layers that are not a free product AB, or whose type is too coarse (float8).
        ValueError: for a source that is no readable adapter, NaN or infinity in a factor, biases inside of the update,
            a start that is taken out of the base weights, or factors that their type cannot hold.
    """
    adapter = read_adapter(source)
    refuse_biases(adapter, "folded")
    refuse_start(adapter, "folded")
    layers: list[FoldedLayer] = []

    def factors(pair: StoredPair) -> Factors:
        A, B = adapter.stored_factors(pair)
        return Factors(A, B, 1.0) if pair.scale == 1 else stored(*absorbed(A, B, pair.scale), pair.dtypes, 1.0, pair)

    def check(written: Adapter) -> None:
        for old, new in zip(adapter.pairs, written.pairs, strict=True):
            change = stored_change(adapter.factors(old), written.factors(new), (old.scale, new.scale), new)
            layers.append(FoldedLayer(old.name, old.scale, change))

    write_adapter(adapter, target, factors, check=check)
    return layers
