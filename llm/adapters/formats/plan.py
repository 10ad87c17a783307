"""What is to be written: pairs under the names that a format gives them, and what else goes into the file."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor

from lorakappa.llm.adapters.formats import Format
from lorakappa.llm.adapters.formats.stored import Adapter, Factors, NewFactors, StoredPair, by_tensors
from lorakappa.llm.adapters.formats.weights import Weights, WeightsWriter


class Other(NamedTuple):
    """A tensor that is carried along.

    Attributes:
        weights: the file that it is in.
        key: its name there.
        shape: to be given to it; None for its own.
    """

    weights: Weights
    key: str
    shape: Size | None = None


class Written(NamedTuple):
    """What was written of a layer.

    Attributes:
        pair: its pair, the first one in a stack of experts.
        r: its rank now.
        scale: of its product now.
    """

    pair: StoredPair
    r: int
    scale: float


@dataclass(frozen=True)
class Plan:
    """A file to be written.

    Attributes:
        format: of the file.
        pairs: with the names that the file gives to their tensors.
        alphas: names of tensors for α, by the name of the tensor that holds A; none for a format that needs none.
        others: what else goes into the file, by name.
        metadata: texts in its header.
        config: PEFT's configuration, by component for diffusers.
        new_modules: whether there are modules that the configuration does not name.
    """

    format: Format
    pairs: list[StoredPair]
    alphas: dict[str, str]
    others: dict[str, Other]
    metadata: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    new_modules: bool = False


def plan_of(adapter: Adapter, pairs: list[StoredPair] | None = None) -> Plan:
    """The plan for writing an adapter as it is, with all names.

    Args:
        adapter: the adapter.
        pairs: None for its own; others are of the same format.
    """
    pairs = adapter.pairs if pairs is None else pairs
    known = {pair.module for pair in adapter.pairs}
    return Plan(
        format=adapter.format,
        pairs=pairs,
        alphas=adapter.alphas,
        others={key: Other(adapter.weights, key) for key in adapter.others},
        metadata=adapter.weights.metadata,
        config=adapter.config,
        new_modules=any(pair.module not in known for pair in pairs),
    )


def write_tensors(plan: Plan, factors: NewFactors, writer: WeightsWriter) -> list[Written]:
    """Adds the tensors of a plan to a file: of pairs, of α, and others.

    Args:
        plan: the plan.
        factors: gives the new factors of a pair.
        writer: of the file.

    Returns:
        Ranks and scales of all layers.

    Raises:
        OSError: if the files cannot be read or written.
        ValueError: for factors of other shapes, stacks of experts with several ranks or scales, and tensors that
            changed.
    """
    written = []
    for layer in by_tensors(plan.pairs):
        new, first = joined(layer, factors), layer[0]
        r = new.B.shape[0] // first.experts
        writer.add(first.left, new.A)
        writer.add(first.right, new.B)
        if first.left in plan.alphas:
            writer.add(plan.alphas[first.left], alpha_tensor(new.scale * r))
        written.append(Written(first, r, new.scale))
    for name, other in plan.others.items():
        if other.shape is None:
            writer.copy(name, other.weights, other.key)
        else:
            writer.add(name, other.weights.read(other.key).reshape(other.shape))
    return written


def alpha_tensor(alpha: float) -> Tensor:
    """α as files hold it: a number in single precision, or in double where that would change it."""
    single = torch.tensor(alpha, dtype=torch.float32)
    return single if single.item() == alpha else torch.tensor(alpha, dtype=torch.float64)


def joined(layer: list[StoredPair], factors: NewFactors) -> Factors:
    """The tensors of a layer, in PEFT's shapes, from the new factors of its pairs.

    Args:
        layer: pairs that share their tensors.
        factors: their new factors.

    Returns:
        The tensor that holds A, the one that holds B, and their scale.

    Raises:
        ValueError: for a pair whose product would have another shape, or a stack whose experts would have different
            ranks, types or scales.
    """
    new = [factors(pair) for pair in layer]
    first = layer[0]
    for pair, one in zip(layer, new, strict=True):
        if (one.A.shape[0], one.B.shape[1]) != pair.shape or one.A.shape[1] != one.B.shape[0]:
            raise ValueError(
                f"{pair.name} changes a matrix of shape {pair.shape}, which factors of shapes {tuple(one.A.shape)} and "
                f"{tuple(one.B.shape)} do not"
            )
    if len({(one.A.shape[1], one.A.dtype, one.B.dtype, one.scale) for one in new}) > 1:
        raise ValueError(f"{first.name}: the experts of one stack must keep one rank, type and scale")
    A, B, scale = new[0]
    if first.experts > 1:
        return Factors(torch.stack([one.A for one in new], -1).flatten(1), torch.cat([one.B for one in new]), scale)
    if first.kind == "convolution":
        A = A.reshape(*A.shape, *[1] * len(first.kernel))
        B = B.reshape(B.shape[0], -1, *first.kernel)
    return Factors(A, B, scale)
