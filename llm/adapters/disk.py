"""PEFT adapters on disk, read, balanced and written without the base model."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorakappa.conditioning.manifold import is_balanced
from lorakappa.conditioning.projection import GAUGES, Gauge, balance
from lorakappa.conditioning.tolerances import PRODUCT_RTOL, balance_rtol
from lorakappa.llm.adapters.config import CONFIG, AdapterConfig, read_config
from lorakappa.llm.adapters.factors import PEFT_NAMES, CannotBalanceError, check_dtypes, check_shapes, fill, matrix
from lorakappa.llm.adapters.folders import files_to_carry
from lorakappa.llm.adapters.products import is_representable, product_errors, storage_eps
from lorakappa.llm.adapters.weights import INDEX, PICKLED, WEIGHTS, copy_weights, read_weights
from lorakappa.shared.whole_folders import final_folder, whole_folder

_FACTOR = re.compile(r"(?P<module>.+)\.(?P<factor>lora_(?:embedding_)?[AB])(?P<weight>\.weight)?")
_OTHER_ADAPTER = re.compile(r".+\.lora_(?:embedding_)?[AB]\.[^.]+(\.weight)?")


@dataclass(frozen=True)
class DiskPair:
    """Where one pair lies in an adapter's file.

    Attributes:
        name: module name and, in stacks of experts, which one.
        left: key of the tensor that holds A.
        right: key of the tensor that holds B.
        expert: index in a stack of experts, else 0.
        experts: size of that stack, else 1.
    """

    name: str
    left: str
    right: str
    expert: int = 0
    experts: int = 1


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter in memory.

    Attributes:
        folder: where it was read from.
        config: contents of adapter_config.json.
        tensors: everything in the weights file: factors, biases, magnitudes, modules_to_save.
        metadata: header of that file.
        pairs: its LoRA pairs.
    """

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    pairs: list[DiskPair]

    def factors(self, pair: DiskPair) -> tuple[Tensor, Tensor]:
        """A (a, r) and B (r, b) in their common dtype.

        Raises:
            ValueError: on NaN or infinity in them.
        """
        A = matrix(self.tensors[pair.left], "A", pair.expert, pair.experts)
        B = matrix(self.tensors[pair.right], "B", pair.expert, pair.experts)
        for key, factor in ((pair.left, A), (pair.right, B)):
            if not bool(factor.isfinite().all()):
                raise ValueError(f"{key} in {self.folder} contains NaN or infinity")
        dtype = torch.promote_types(A.dtype, B.dtype)
        return A.to(dtype), B.to(dtype)


class Changes(dict[str, float]):
    """‖A'B' − AB‖_F/‖AB‖_F by pair, as stored.

    Attributes:
        left: names of the pairs that stayed as they were although not balanced: their balanced factors are too small or
            too large for the type they are stored in, or AB = 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []


def read_adapter(folder: str | os.PathLike[str]) -> Adapter:
    """Reads a folder written by PEFT's `save_pretrained`.

    Args:
        folder: one adapter: adapter_config.json and adapter_model.safetensors.

    Returns:
        The adapter with its pairs found.

    Raises:
        OSError: if files are missing or cannot be read.
        CannotBalanceError: for layers that are not a free product AB, or whose type is too coarse (float8).
        ValueError: if the folder holds something else, is damaged or has half a pair.
    """
    folder = Path(folder)
    content, config = read_config(folder)
    tensors, metadata = read_weights(folder)
    pairs = list(_find_pairs(folder, config, tensors))
    if not pairs:
        raise ValueError(f"{folder / WEIGHTS} holds no LoRA factors")
    if len({pair.name for pair in pairs}) < len(pairs):
        raise ValueError(f"{folder / WEIGHTS} names the factors of a module twice")
    return Adapter(folder, content, tensors, metadata, pairs)


@torch.no_grad()
def balance_adapter(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, gauge: Gauge = "hyperbalanced"
) -> Changes:
    """Writes an adapter with the same products and balanced factors; all other files and tensors are copied.

    The target appears whole or not at all. Folders inside the source (checkpoints, other adapters) are not copied, and
    links are followed inside the source only, or to the blobs of its repository in the Hugging Face cache.

    Each product is compared with the old one as stored: ‖A'B' − AB‖_F ≤ 16 ε ‖A‖_F‖B‖_F, ε the epsilon of the storage
    type. A pair for which that cannot be kept, since its balanced factors leave the range of the type, stays as it is.

    Args:
        source: folder of the adapter.
        target: folder to write; must not exist or be empty.
        gauge: which balanced pair (`conditioning.balance`).

    Returns:
        ‖A'B' − AB‖_F/‖AB‖_F by pair, as stored, and which pairs stayed as they were.

    Raises:
        OSError: if files cannot be read or written, the target is in use, or a link leads out of the source.
        CannotBalanceError: for layers that are not a free product AB, or whose type is too coarse (float8).
        ValueError: for a source that is no readable adapter, NaN or infinity in a factor, an unknown gauge, or factors
            none of which can be stored balanced.
    """
    if gauge not in GAUGES:
        raise ValueError(f"gauge must be one of {', '.join(GAUGES)}, not {gauge!r}")
    source, target = Path(source), Path(target)
    final = final_folder(target)
    adapter = read_adapter(source)
    files = [file for file in files_to_carry(source) if file.name not in (WEIGHTS, PICKLED, INDEX)]
    changes = Changes()
    fits = []
    for pair in adapter.pairs:
        changes[pair.name], balanced, fit = _balance_pair(adapter, pair, gauge)
        fits.append(fit)
        if not balanced:
            changes.left.append(pair.name)
    if len(changes.left) == len(changes) and not all(fits):
        raise ValueError(
            f"no pair of {source} can be balanced: its factors would leave the range of the type they are stored in; "
            "nothing was written"
        )
    with whole_folder(final) as folder:
        for file in files:
            shutil.copy2(file, folder / file.name)
        keys = dict.fromkeys(key for pair in adapter.pairs for key in (pair.left, pair.right))
        copy_weights(source / WEIGHTS, folder / WEIGHTS, adapter.tensors, keys)
    return changes


def _balance_pair(adapter: Adapter, pair: DiskPair, gauge: Gauge) -> tuple[float, bool, bool]:
    """Balances one pair in memory if its product stays what it was, as stored.

    Returns:
        The relative change of the product, whether the pair is balanced now, and whether its type can hold that.
    """
    tensors = adapter.tensors[pair.left], adapter.tensors[pair.right]
    dtypes = tensors[0].dtype, tensors[1].dtype
    eps = storage_eps(*dtypes)
    A, B = (factor.clone() for factor in adapter.factors(pair))
    X, Y = _balanced(A, B, gauge)
    if torch.equal(X, A) and torch.equal(Y, B):
        already = is_balanced(A.double().numpy(), B.double().numpy(), rtol=balance_rtol(eps, A.shape[1]))
        return 0.0, already, already or bool(is_representable(A[None], B[None], X[None], Y[None], *dtypes))
    change, error = product_errors(A, B, X.to(dtypes[0]).to(X.dtype), Y.to(dtypes[1]).to(Y.dtype))
    if not error <= PRODUCT_RTOL * eps:  # nor if it is NaN
        return 0.0, False, False
    fill(tensors[0], X, "A", pair.expert, pair.experts)
    fill(tensors[1], Y, "B", pair.expert, pair.experts)
    return change, True, True


def _balanced(A: Tensor, B: Tensor, gauge: Gauge) -> tuple[Tensor, Tensor]:
    """The balanced pair, or infinity where finite factors have norms beyond float64."""
    try:
        return balance(A, B, gauge=gauge)
    except ValueError:
        return torch.full_like(A, torch.inf), B


def _find_pairs(folder: Path, config: AdapterConfig, tensors: dict[str, Tensor]) -> Iterator[DiskPair]:
    matches = {key: match for key in tensors if (match := _FACTOR.fullmatch(key))}
    found = {(match["module"], match["factor"]): key for key, match in matches.items()}
    if len(found) < len(matches):
        raise ValueError(f"{folder / WEIGHTS} names the factors of a module twice")
    for key in tensors:
        if key not in matches and _OTHER_ADAPTER.fullmatch(key) and not key.endswith(".bias"):
            raise ValueError(f"{key} in {folder} names an adapter: a raw state dict; save it with save_pretrained")
    for module in dict.fromkeys(module for module, _ in found):
        for left_name, right_name in PEFT_NAMES:
            left, right = found.get((module, left_name)), found.get((module, right_name))
            if left is None and right is None:
                continue
            if left is None or right is None:
                missing = left_name if left is None else right_name
                raise ValueError(f"{folder} has no {missing} for {module}: the adapter is incomplete")
            shapes = tensors[left].shape, tensors[right].shape
            check_dtypes(module, tensors[left].dtype, tensors[right].dtype)
            experts = _experts(module, config, shapes[1][0] if shapes[1] else 0)
            check_shapes(module, *shapes, experts)
            if experts == 1 and config.ranks and shapes[1][0] not in config.ranks:
                raise ValueError(
                    f"{module} in {folder} has factors of rank {shapes[1][0]}, but {CONFIG} says r = {config.r}"
                    + (f" (rank_pattern {sorted(set(config.rank_pattern.values()))})" if config.rank_pattern else "")
                )
            for expert in range(experts):
                yield DiskPair(module + (f" expert {expert}" if experts > 1 else ""), left, right, expert, experts)


def _experts(module: str, config: AdapterConfig, rows: int) -> int:
    """Number of experts stacked in a module's factors; 1 for all but those adapted by `target_parameters`."""
    parents = {name.rpartition(".")[0] for name in config.target_parameters or ()}
    path = module
    while path.endswith(".base_layer"):
        path = path.removesuffix(".base_layer")
    if not any(path == parent or path.endswith("." + parent) for parent in parents if parent):
        return 1
    if config.rank_pattern:
        raise CannotBalanceError(
            module, "stacked experts with a rank_pattern: the number of experts is not in the file"
        )
    if config.r is None or rows % config.r:
        raise ValueError(f"{module} has {rows} rows, which the rank r = {config.r} of {CONFIG} does not divide")
    return rows // config.r
