"""PEFT's folder of an adapter: adapter_config.json, adapter_model.safetensors and what else lies there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lorakappa.llm.adapters.factors import PEFT_NAMES, CannotBalanceError
from lorakappa.llm.adapters.formats.peft_config import CONFIG, AdapterConfig, read_config
from lorakappa.llm.adapters.formats.peft_ranks import with_modules, with_ranks
from lorakappa.llm.adapters.formats.plan import Plan, write_tensors
from lorakappa.llm.adapters.formats.stored import (
    Adapter,
    Kind,
    NewFactors,
    StoredPair,
    found_adapter,
    stored_pairs,
)
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
    return found_adapter(folder, "peft", weights, pairs, config=content)


def write_peft_folder(plan: Plan, factors: NewFactors, folder: Path) -> None:
    """Writes both files of an adapter into a folder (errors as of `plan.write_tensors`)."""
    with WeightsWriter(folder) as writer:
        written = write_tensors(plan, factors, writer)
        writer.finish(folder / WEIGHTS, plan.metadata or {"format": "pt"})
    if any(layer.pair.experts > 1 for layer in written) and len({layer[1:] for layer in written}) > 1:
        raise ValueError(
            f"stacked experts need one rank and one scale in all layers of a PEFT adapter: {CONFIG} names neither for "
            "single parameters"
        )
    config = with_ranks(plan.config, [(str(layer.pair.module), layer.r, layer.scale) for layer in written])
    if plan.new_modules:
        config = with_modules(config, (str(layer.pair.module) for layer in written))
    (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def peft_keys(module: str, kind: Kind) -> tuple[str, str]:
    """PEFT's names of the tensors of A and B.

    Args:
        module: name of the module in its model.
        kind: of the layer.
    """
    left, right = PEFT_NAMES[kind == "embedding"]
    end = "" if kind == "embedding" else ".weight"
    return f"{MODEL}{module}.{left}{end}", f"{MODEL}{module}.{right}{end}"


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
    shape = weights.shape(right)
    experts = _experts(module, config, shape[0] if shape else 0)
    name = module.removeprefix(MODEL)
    for pair in stored_pairs(weights, module, name, "", left, right, lambda r: config.scale(name, r), experts):
        if experts == 1 and config.ranks and pair.r not in config.ranks:
            raise ValueError(
                f"{module} in {folder} has factors of rank {pair.r}, but {CONFIG} says r = {config.r}"
                + (f" (rank_pattern {sorted(set(config.rank_pattern.values()))})" if config.rank_pattern else "")
            )
        yield pair


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
