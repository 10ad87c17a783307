"""An adapter in its files, whatever their format: pairs by name, each read when it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lorakappa.llm.adapters.factors import PEFT_NAMES, check_dtypes, check_shapes, matrix
from lorakappa.llm.adapters.formats import Format
from lorakappa.llm.adapters.formats.weights import Weights

Kind = Literal["linear", "embedding", "convolution", "experts"]


@dataclass(frozen=True)
class StoredPair:
    """One pair in a file: its module's weight is changed by scale · AB, A (a, r) and B (r, b).

    Attributes:
        name: of the module, as the file has it, and in stacks of experts which one.
        module: name of the module in its model; None where the file does not tell (`kohya`).
        component: part of a pipeline that the model is ("unet", "text_encoder", …); "" where there is only one model.
        left: key of the tensor that holds A.
        right: key of the tensor that holds B.
        shape: (a, b) of AB; of a convolution with k×k kernels b is the number of channels times k².
        r: number of columns of A.
        scale: by which AB is multiplied, α/r or α/√r.
        dtypes: in which A and B are stored.
        kind: of the layer.
        kernel: sizes of a convolution's kernel, else empty.
        expert: index in a stack of experts, else 0.
        experts: size of that stack, else 1.
    """

    name: str
    module: str | None
    component: str
    left: str
    right: str
    shape: tuple[int, int]
    r: int
    scale: float
    dtypes: tuple[torch.dtype, torch.dtype]
    kind: Kind = "linear"
    kernel: tuple[int, ...] = ()
    expert: int = 0
    experts: int = 1


class Factors(NamedTuple):
    """What a pair is to become: the update is scale · AB.

    Attributes:
        A: (a, r) factor, in the type that it is to be stored in.
        B: (r, b) factor.
        scale: of the product.
    """

    A: Tensor
    B: Tensor
    scale: float


NewFactors = Callable[[StoredPair], Factors]
"""The factors to be stored in the place of a pair's."""


@dataclass(frozen=True)
class Adapter:
    """An adapter, of which only configuration and header were read.

    Attributes:
        path: its folder or file.
        format: one of `FORMATS`.
        weights: the file of its tensors.
        pairs: its LoRA pairs.
        others: names of the tensors that belong to no pair: biases, magnitudes, modules_to_save.
        alphas: names of the tensors that hold the α of a pair, by the name of the pair's A.
        config: contents of PEFT's adapter_config.json, by component in a diffusers file.
    """

    path: Path
    format: Format
    weights: Weights
    pairs: list[StoredPair]
    others: list[str]
    alphas: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    _stack: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def factors(self, pair: StoredPair) -> tuple[Tensor, Tensor]:
        """A (a, r) and B (r, b), read now, in their common dtype.

        Raises:
            OSError: if the file cannot be read.
            ValueError: on NaN or infinity in them, or if the file has changed.
        """
        A, B = self.stored_factors(pair)
        dtype = torch.promote_types(A.dtype, B.dtype)
        return A.to(dtype), B.to(dtype)

    def stored_factors(self, pair: StoredPair) -> tuple[Tensor, Tensor]:
        """As `factors`, in the types in which they are stored."""
        A = matrix(self._tensor(pair, pair.left), "A", pair.expert, pair.experts)
        B = matrix(self._tensor(pair, pair.right), "B", pair.expert, pair.experts)
        for key, factor in ((pair.left, A), (pair.right, B)):
            if not bool(factor.isfinite().all()):
                raise ValueError(f"{key} in {self.path} contains NaN or infinity")
        return A, B

    def _tensor(self, pair: StoredPair, key: str) -> Tensor:
        """A tensor; those of the stack of experts that is being read are kept until the next stack."""
        if pair.experts == 1:
            return self.weights.read(key)
        if not self._stack.keys() <= {pair.left, pair.right}:
            self._stack.clear()
        if key not in self._stack:
            self._stack[key] = self.weights.read(key)
        return self._stack[key]

    def kept(self, pair: StoredPair) -> Factors:
        """The pair as it is, as `NewFactors`."""
        return Factors(*self.stored_factors(pair), pair.scale)

    def layers(self) -> list[list[StoredPair]]:
        """The pairs, those together that share their tensors."""
        return by_tensors(self.pairs)


def by_tensors(pairs: list[StoredPair]) -> list[list[StoredPair]]:
    """Pairs in their order, those together that share their tensors: the experts of a stack."""
    layers: dict[str, list[StoredPair]] = {}
    for pair in pairs:
        layers.setdefault(pair.left, []).append(pair)
    return list(layers.values())


def stored_pairs(
    weights: Weights,
    name: str,
    module: str | None,
    component: str,
    left: str,
    right: str,
    scale: Callable[[int], float],
    experts: int = 1,
) -> list[StoredPair]:
    """The pairs that two tensors of PEFT's shapes hold: one, or one for each expert.

    Args:
        weights: the file.
        name: of the module in it.
        module: its name in the model, if that is known.
        component: the part of a pipeline that it belongs to.
        left: name of the tensor that holds A.
        right: name of the tensor that holds B.
        scale: of the product, given r.
        experts: number of pairs stacked in the tensors.

    Raises:
        CannotBalanceError: for shapes and types that are not those of factors.
    """
    shapes, dtypes = (weights.shape(left), weights.shape(right)), (weights.dtype(left), weights.dtype(right))
    check_dtypes(name, *dtypes)
    check_shapes(name, *shapes, experts)
    r = shapes[1][0] // experts
    return [
        StoredPair(
            name=name + (f" expert {expert}" if experts > 1 else ""),
            module=module,
            component=component,
            left=left,
            right=right,
            shape=(shapes[0][0], shapes[1][1:].numel()),
            r=r,
            scale=scale(r),
            dtypes=dtypes,
            kind=_kind(left, len(shapes[1]), experts),
            kernel=tuple(shapes[1][2:]),
            expert=expert,
            experts=experts,
        )
        for expert in range(experts)
    ]


def found_adapter(
    path: Path,
    format: Format,
    weights: Weights,
    pairs: list[StoredPair],
    alphas: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
) -> Adapter:
    """An adapter with these pairs; all other tensors are `others`.

    Args:
        path: its folder or file.
        format: of it.
        weights: the file of its tensors.
        pairs: its pairs.
        alphas: as of `Adapter`.
        config: as of `Adapter`.

    Raises:
        ValueError: for a module with several pairs.
    """
    if len({pair.name for pair in pairs}) < len(pairs):
        raise ValueError(f"{weights.path} names the factors of a module twice")
    alphas = alphas or {}
    known = {key for pair in pairs for key in (pair.left, pair.right)} | set(alphas.values())
    others = [key for key in weights.entries if key not in known]
    return Adapter(path, format, weights, pairs, others, alphas, config or {})


def _kind(left: str, dimensions: int, experts: int) -> Kind:
    if experts > 1:
        return "experts"
    if dimensions > 2:
        return "convolution"
    return "embedding" if left.endswith(PEFT_NAMES[1][0]) else "linear"
