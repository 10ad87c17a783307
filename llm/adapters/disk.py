"""PEFT adapters on disk, read, balanced and written without the base model."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lorakappa.conditioning.projection import GAUGES, Gauge, balance
from lorakappa.llm.adapters.factors import PEFT_NAMES, REFUSED_VARIANTS, CannotBalanceError, check_shapes, fill, matrix

WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
CONFIG = "adapter_config.json"

VARIANT_FIELDS = {"kasa_config": "kasa", "use_bdlora": "bdlora", "monteclora_config": "monteclora"}
"""Fields of adapter_config.json that switch on a variant in `factors.REFUSED_VARIANTS`."""

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


def read_adapter(folder: Path) -> Adapter:
    """Reads a folder written by PEFT's `save_pretrained`.

    Args:
        folder: one adapter: adapter_config.json and adapter_model.safetensors.

    Returns:
        The adapter with its pairs found.

    Raises:
        OSError: if files are missing or cannot be read.
        CannotBalanceError: for layers that are not a free product AB.
        ValueError: if the folder holds something else, is damaged or has half a pair.
    """
    config = _read_config(folder)
    path = folder / WEIGHTS
    if not path.is_file() and (folder / PICKLED).is_file():
        raise ValueError(
            f"{folder} has only {PICKLED}, a pickle that can run code when read; where you trust it, load it with "
            "PeftModel.from_pretrained and save it again with save_pretrained, which writes safetensors"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}; PEFT's save_pretrained writes it")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            keys = file.keys()
            tensors = {key: file.get_tensor(key) for key in keys}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    pairs = list(_find_pairs(folder, config, tensors))
    if not pairs:
        raise ValueError(f"{path} holds no LoRA factors")
    return Adapter(folder, config, tensors, metadata, pairs)


@torch.no_grad()
def balance_adapter(source: Path, target: Path, *, gauge: Gauge = "hyperbalanced") -> dict[str, float]:
    """Writes an adapter with the same products and balanced factors; all other files and tensors are copied.

    The target appears whole or not at all. Folders inside the source (checkpoints, other adapters) are not copied.

    Args:
        source: folder of the adapter.
        target: folder to write; must not exist or be empty.
        gauge: which balanced pair (`conditioning.balance`).

    Returns:
        ‖A'B' − AB‖_F/‖AB‖_F by pair, as stored.

    Raises:
        OSError: if files cannot be read or written, or the target is in use.
        CannotBalanceError: for layers that are not a free product AB.
        ValueError: for a source that is no readable adapter, NaN or infinity in a factor, or an unknown gauge.
    """
    if gauge not in GAUGES:
        raise ValueError(f"gauge must be one of {', '.join(GAUGES)}, not {gauge!r}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} exists and is not an empty folder; nothing was written")
    adapter = read_adapter(source)
    changes = {}
    for pair in adapter.pairs:
        A, B = (factor.clone() for factor in adapter.factors(pair))
        X, Y = balance(A, B, gauge=gauge)
        fill(adapter.tensors[pair.left], X, "A", pair.expert, pair.experts)
        fill(adapter.tensors[pair.right], Y, "B", pair.expert, pair.experts)
        changes[pair.name] = product_change(A, B, *adapter.factors(pair))
    _write(adapter, target)
    return changes


def product_change(A: Tensor, B: Tensor, X: Tensor, Y: Tensor) -> float:
    """‖XY − AB‖_F/‖AB‖_F in float64, through (a, 2r) and (2r, b) factors: neither product is formed."""
    A, B, X, Y = (factor.double() for factor in (A, B, X, Y))

    def norm(left: Tensor, right: Tensor) -> float:
        R_left, R_right = torch.linalg.qr(left, mode="r").R, torch.linalg.qr(right.mT, mode="r").R
        return float(torch.linalg.matrix_norm(R_left @ R_right.mT))

    if torch.equal(A, X) and torch.equal(B, Y):
        return 0.0
    return norm(torch.cat([X, A], 1), torch.cat([Y, -B], 0)) / norm(A, B)


def _read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, refused where it says that the update is not a free product AB."""
    path = folder / CONFIG
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder with a PEFT adapter")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}; name the folder that PEFT's save_pretrained wrote")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ValueError(f"{path} describes {kind or 'no adapter'}, not LORA: it has no pairs (A, B) to look at")
    for field, variant in VARIANT_FIELDS.items():
        if config.get(field):
            raise CannotBalanceError(str(folder), REFUSED_VARIANTS[variant])
    if config.get("init_lora_weights") == "mica":
        raise CannotBalanceError(str(folder), REFUSED_VARIANTS["mica"])
    return config


def _find_pairs(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Iterator[DiskPair]:
    matches = {key: match for key in tensors if (match := _FACTOR.fullmatch(key))}
    found = {(match["module"], match["factor"]): key for key, match in matches.items()}
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
            if not (tensors[left].is_floating_point() and tensors[right].is_floating_point()):
                raise ValueError(f"{module} in {folder} has factors that are not floating point")
            experts = _experts(module, config, shapes[1][0] if shapes[1] else 0)
            check_shapes(module, *shapes, experts)
            for expert in range(experts):
                yield DiskPair(module + (f" expert {expert}" if experts > 1 else ""), left, right, expert, experts)


def _experts(module: str, config: dict[str, Any], rows: int) -> int:
    """Number of experts stacked in a module's factors; 1 for all but those adapted by `target_parameters`."""
    parents = {name.rpartition(".")[0] for name in config.get("target_parameters") or ()}
    path = re.sub(r"(\.base_layer)+$", "", module)
    if not any(path == parent or path.endswith("." + parent) for parent in parents if parent):
        return 1
    if config.get("rank_pattern"):
        raise CannotBalanceError(
            module, "stacked experts with a rank_pattern: the number of experts is not in the file"
        )
    rank = config.get("r")
    if not isinstance(rank, int) or rank < 1 or rows % rank:
        raise ValueError(f"{module} has {rows} rows, which the rank r = {rank} of {CONFIG} does not divide")
    return rows // rank


def _write(adapter: Adapter, target: Path) -> None:
    """Everything into a temporary folder beside the target, then renamed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        for file in adapter.folder.iterdir():
            if file.is_file() and file.name not in (WEIGHTS, PICKLED):
                shutil.copy2(file, temporary / file.name)
        save_file(adapter.tensors, temporary / WEIGHTS, metadata=adapter.metadata or None)
        temporary.chmod(0o755)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
