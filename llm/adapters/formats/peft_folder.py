"""PEFT's folder of an adapter: adapter_config.json, adapter_model.safetensors and what else lies there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lorakappa.llm.adapters.factors import PEFT_NAMES, CannotBalanceError, check_dtypes, check_shapes
from lorakappa.llm.adapters.formats.peft_config import CONFIG, AdapterConfig, read_config
from lorakappa.llm.adapters.formats.peft_ranks import with_ranks
from lorakappa.llm.adapters.formats.stored import Adapter, Kind, NewFactors, StoredPair, by_tensors, joined
from lorakappa.llm.adapters.formats.weights import Weights, WeightsWriter, open_weights

WEIGHTS: Final = "adapter_model.safetensors"
PICKLED: Final = "adapter_model.bin"
INDEX: Final = "adapter_model.safetensors.index.json"

MODEL: Final = "base_model.model."
"""What PEFT puts before the names of a model's modules."""

_FACTOR = re.compile(r"(?P<module>.+)\.(?P<factor>lora_(?:embedding_)?[AB])(?P<weight>\.weight)?")
_OTHER_ADAPTER = re.compile(r".+\.lora_(?:embedding_)?[AB]\.[^.]+(\.weight)?")


def read_peft_folder(folder: Path) -> Adapter:
    """Reads a folder written by PEFT's `save_pretrained` (errors as of `reading.read_adapter`)."""
    content, config = read_config(folder)
    weights = _weights(folder)
    pairs = list(_find_pairs(folder, config, weights))
    if not pairs:
        raise ValueError(f"{weights.path} holds no LoRA factors")
    if len({pair.name for pair in pairs}) < len(pairs):
        raise ValueError(f"{weights.path} names the factors of a module twice")
    factors = {key for pair in pairs for key in (pair.left, pair.right)}
    return Adapter(folder, "peft", weights, pairs, [key for key in weights.entries if key not in factors], {}, content)


def write_peft_folder(adapter: Adapter, pairs: list[StoredPair], factors: NewFactors, folder: Path) -> None:
    """Writes both files of an adapter into a folder (`writing.write_adapter`)."""
    layers = []
    with WeightsWriter(folder) as writer:
        for layer in by_tensors(pairs):
            first, new = layer[0], joined(layer, factors)
            r = new.B.shape[0] // first.experts
            layers.append((first, r, new.scale))
            left, right = _keys(adapter, first)
            writer.add(left, new.A)
            writer.add(right, new.B)
        for key in adapter.others:
            writer.copy(key, adapter.weights)
        writer.finish(folder / WEIGHTS, adapter.weights.metadata or {"format": "pt"})
    if any(first.experts > 1 for first, _, _ in layers) and len({(r, scale) for _, r, scale in layers}) > 1:
        raise ValueError(
            f"stacked experts need one rank and one scale in all layers of a PEFT adapter: {CONFIG} names neither for "
            "single parameters"
        )
    config = with_ranks(adapter.config, [(first.module or first.name, r, scale) for first, r, scale in layers])
    known = {pair.module for pair in adapter.pairs}
    if any(pair.module not in known for pair in pairs):
        modules = sorted({pair.module or pair.name for pair in pairs})
        config = {**config, "target_modules": modules, "layers_to_transform": None, "layers_pattern": None}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _keys(adapter: Adapter, pair: StoredPair) -> tuple[str, str]:
    """Names of the tensors of A and B."""
    if adapter.format == "peft":
        return pair.left, pair.right
    names = PEFT_NAMES[pair.kind == "embedding"]
    end = "" if pair.kind == "embedding" else ".weight"
    return f"{MODEL}{pair.module}.{names[0]}{end}", f"{MODEL}{pair.module}.{names[1]}{end}"


def _weights(folder: Path) -> Weights:
    path = folder / WEIGHTS
    if not path.is_file() and (folder / PICKLED).is_file():
        raise ValueError(
            f"{folder} has only {PICKLED}, a pickle that can run code when read; where you trust it, load it with "
            "PeftModel.from_pretrained and save it again with save_pretrained, which writes safetensors"
        )
    if not path.is_file() and (folder / INDEX).is_file():
        raise ValueError(f"{folder} holds an adapter in several files; PEFT's save_pretrained writes it as one")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}; PEFT's save_pretrained writes it")
    return open_weights(path)


def _find_pairs(folder: Path, config: AdapterConfig, weights: Weights) -> Iterator[StoredPair]:
    matches = {key: match for key in weights.entries if (match := _FACTOR.fullmatch(key))}
    found = {(match["module"], match["factor"]): key for key, match in matches.items()}
    if len(found) < len(matches):
        raise ValueError(f"{folder / WEIGHTS} names the factors of a module twice")
    for key in weights.entries:
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
            yield from _pairs(folder, config, weights, module, left, right)


def _pairs(
    folder: Path, config: AdapterConfig, weights: Weights, module: str, left: str, right: str
) -> Iterator[StoredPair]:
    """The pair of a module, or those of its experts."""
    shapes = weights.shape(left), weights.shape(right)
    dtypes = weights.dtype(left), weights.dtype(right)
    check_dtypes(module, *dtypes)
    experts = _experts(module, config, shapes[1][0] if shapes[1] else 0)
    check_shapes(module, *shapes, experts)
    r = shapes[1][0] // experts
    if experts == 1 and config.ranks and r not in config.ranks:
        raise ValueError(
            f"{module} in {folder} has factors of rank {r}, but {CONFIG} says r = {config.r}"
            + (f" (rank_pattern {sorted(set(config.rank_pattern.values()))})" if config.rank_pattern else "")
        )
    name = module.removeprefix(MODEL)
    for expert in range(experts):
        yield StoredPair(
            name=module + (f" expert {expert}" if experts > 1 else ""),
            module=name,
            component="",
            left=left,
            right=right,
            shape=(shapes[0][0], shapes[1][1:].numel()),
            r=r,
            scale=config.scale(name, r),
            dtypes=dtypes,
            kind=_kind(left, len(shapes[1]), experts),
            kernel=tuple(shapes[1][2:]),
            expert=expert,
            experts=experts,
        )


def _kind(left: str, dimensions: int, experts: int) -> Kind:
    if experts > 1:
        return "experts"
    if dimensions > 2:
        return "convolution"
    return "embedding" if left.endswith(PEFT_NAMES[1][0]) else "linear"


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
