"""How far two adapters are from each other as updates: products compared, not factors, whose gauge means nothing."""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from lorakappa.conditioning.product_difference import ProductDifference, product_difference
from lorakappa.llm.adapters.factors import shown
from lorakappa.llm.adapters.formats.origins import component_of
from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.formats.stored import Adapter, StoredPair
from lorakappa.llm.adapters.operations.refusals import different_bases


@dataclass(frozen=True)
class LayerDifference:
    """One layer of two adapters.

    Attributes:
        name: of the layer.
        shape: (a, b) of its update.
        r: columns of both A's; 0 in an adapter that does not have the layer, whose update is 0.
        scales: s and s' of the updates sAB and s'A'B'.
        difference: norms, distances and angles of these.
    """

    name: str
    shape: tuple[int, int]
    r: tuple[int, int]
    scales: tuple[float, float]
    difference: ProductDifference


@dataclass(frozen=True)
class AdapterDifference:
    """Two adapters.

    Attributes:
        layers: those of either, largest relative difference first.
        norms: (Σ‖sAB‖_F²)^{1/2} over all layers, of both.
        distance: (Σ‖sAB − s'A'B'‖_F²)^{1/2}.
        relative: distance over the larger norm.
        remarks: what else differs, or is not compared.
    """

    layers: list[LayerDifference]
    norms: tuple[float, float]
    distance: float
    relative: float
    remarks: list[str]


@torch.no_grad()
def diff_adapters(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> AdapterDifference:
    """Compares two adapters layer by layer, by their updates sAB, without forming them.

    Args:
        first: an adapter.
        second: another one, of the same model.

    Returns:
        The differences.

    Raises:
        OSError: if files cannot be read.
        CannotBalanceError: for layers that are not a free product AB, or whose type is too coarse (float8).
        ValueError: for what is no readable adapter, NaN or infinity in a factor, layers of different shapes, or
            different formats whose names have no layer in common.
    """
    one, two = read_adapter(first), read_adapter(second)
    parts = _parts(one), _parts(two)
    whole = {""} in parts and all(len(part) == 1 for part in parts)
    pairs_of_one, pairs_of_two = _by_name(one, whole), _by_name(two, whole)
    if one.format != two.format and pairs_of_one.keys().isdisjoint(pairs_of_two):
        raise ValueError(
            f"{one.path} is of the format {one.format} and {two.path} of {two.format}, and no layer of one has the "
            "name of a layer of the other; convert one first"
        )
    layers = []
    for name in dict.fromkeys([*pairs_of_one, *pairs_of_two]):
        layers.append(_compared(one, pairs_of_one.get(name), two, pairs_of_two.get(name)))
    norms = _norm(layer.difference.norms[0] for layer in layers), _norm(layer.difference.norms[1] for layer in layers)
    distance = _norm(layer.difference.distance for layer in layers)
    layers.sort(key=lambda layer: -layer.difference.relative)
    remarks = list(_remarks(one, two, layers))
    return AdapterDifference(layers, norms, distance, distance / max(norms) if max(norms) else 0.0, remarks)


def _compared(one: Adapter, pair: StoredPair | None, two: Adapter, other: StoredPair | None) -> LayerDifference:
    """One layer, which one of them may not have."""
    known = pair or other
    assert known is not None
    if pair is not None and other is not None and pair.shape != other.shape:
        raise ValueError(
            f"{pair.name} changes a matrix of shape {pair.shape} in {one.path}, but of shape {other.shape} in "
            f"{two.path}: these are no adapters of one model"
        )
    first = None if pair is None else one.factors(pair)
    second = None if other is None else two.factors(other)
    some = first or second
    assert some is not None
    nothing = torch.zeros_like(some[0][:, :1]), torch.zeros_like(some[1][:1])
    scales = 1.0 if pair is None else pair.scale, 1.0 if other is None else other.scale
    difference = product_difference(first or nothing, second or nothing, scales=scales)
    ranks = 0 if pair is None else pair.r, 0 if other is None else other.r
    return LayerDifference(known.name, known.shape, ranks, scales, difference)


def _parts(adapter: Adapter) -> set[str]:
    """The parts of a pipeline in it; a PEFT folder is for one, which it may say."""
    return {component_of(adapter)} if adapter.format == "peft" else {pair.component for pair in adapter.pairs}


def _by_name(adapter: Adapter, whole: bool) -> dict[tuple[str, str, int], StoredPair]:
    """The pairs by what names them in any format that tells the modules' names; a whole one needs no part."""
    (of_all,) = _parts(adapter) if adapter.format == "peft" else ("",)
    return {
        ("" if whole else of_all or pair.component, pair.module or pair.name, pair.expert): pair
        for pair in adapter.pairs
    }


def _remarks(one: Adapter, two: Adapter, layers: list[LayerDifference]) -> Iterator[str]:
    for number, adapter in ((0, one), (1, two)):
        missing = sum(layer.r[number] == 0 for layer in layers)
        if missing:
            yield f"{missing} of {len(layers)} layers are not in {adapter.path} and count as 0 there"
    if bases := different_bases(one, two):
        yield f"trained on different models, {shown(bases[0])} and {shown(bases[1])}"
    others = {key for adapter in (one, two) for key in adapter.others}
    if others:
        yield (
            f"not compared: {len(others)} tensors that are no LoRA factors (biases, magnitudes, modules_to_save), such "
            f"as {shown(min(others))}"
        )


def _norm(parts: Iterable[float]) -> float:
    return math.hypot(*parts)
