"""The single file of kohya's scripts, which LyCORIS, ComfyUI and others read and write, too.

A module has `NAME.lora_up.weight` (A here), `NAME.lora_down.weight` (B) and `NAME.alpha`; AB is multiplied with α/r,
and with 1 where there is no α. Convolutions (LoCon) have k×k kernels in B. `dora_scale` is DoRA's magnitude. What is no
product AB is refused: LoHa, LoKr, OFT, (IA)³, GLoRA, and convolutions in three factors (`lora_mid`).
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from lorakappa.llm.adapters.factors import CannotBalanceError
from lorakappa.llm.adapters.formats.alphas import scale_by_alpha
from lorakappa.llm.adapters.formats.kohya_names import TABLE, name_table, split_name
from lorakappa.llm.adapters.formats.plan import Plan, write_tensors
from lorakappa.llm.adapters.formats.stored import (
    Adapter,
    NewFactors,
    StoredPair,
    found_adapter,
    stored_pairs,
)
from lorakappa.llm.adapters.formats.weights import Weights, WeightsWriter

UP, DOWN, ALPHA, MAGNITUDE = "lora_up.weight", "lora_down.weight", "alpha", "dora_scale"

REFUSED: Final = {
    "hada_w": "LoHa, an entrywise product of two products",
    "lokr_": "LoKr, a Kronecker product",
    "lora_mid": "a convolution in three factors (Tucker's or CP), so that balancing two of them is not defined",
    "oft_": "OFT, a rotation of the base weight",
    "boft_": "BOFT, a rotation of the base weight",
    "on_input": "(IA)³, a scaling of the base weight",
    "a1.weight": "GLoRA, whose update depends on the base weight",
}
"""Beginnings of the names of tensors in other kinds of adapters, and what those are."""

HASHES: Final = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
"""Texts in the header that identify the tensors, and so are not those of new ones."""

_PART = re.compile(
    r"(?P<name>.+)\.(?P<part>lora_(?:up|down)\.weight|lora_mid.*|a1\.weight|(?:hada_w|lokr_|b?oft_|on_input).*)"
)

_NAME_LOST = re.compile(r"^lora_te|^lora_unet_.*_attn[12]_to_(q|k|v|out)")


def is_kohya(names: Iterable[str]) -> bool:
    """Whether tensors of these names make a file of kohya's scripts or LyCORIS."""
    return any(_PART.fullmatch(name) for name in names)


def read_kohya_file(path: Path, weights: Weights) -> Adapter:
    """Reads a file that kohya's scripts or LyCORIS wrote (errors as of `reading.read_adapter`).

    Args:
        path: what the caller named.
        weights: the file itself.
    """
    names = []
    for match in filter(None, map(_PART.fullmatch, weights.entries)):
        for start, what in REFUSED.items():
            if match["part"].startswith(start):
                raise CannotBalanceError(match["name"], f"{what}: no product AB")
        names.append(match["name"])
    table = name_table(weights.metadata.get(TABLE), f"{TABLE} of {path}")
    pairs: list[StoredPair] = []
    alphas = {}
    for name in dict.fromkeys(names):
        for part in (UP, DOWN):
            if f"{name}.{part}" not in weights.entries:
                raise ValueError(f"{path} has no {part} for {name}: the adapter is incomplete")
        alpha = f"{name}.{ALPHA}"
        scale = scale_by_alpha(weights, alpha) if alpha in weights.entries else lambda r: 1.0
        component, module = split_name(name, table)
        pairs += stored_pairs(weights, name, module, component, f"{name}.{UP}", f"{name}.{DOWN}", scale)
        if alpha in weights.entries:
            alphas[f"{name}.{UP}"] = alpha
    return found_adapter(path, "kohya", weights, pairs, alphas)


def misread_by_diffusers(adapter: Adapter) -> list[str]:
    """Layers of a kohya file to which diffusers 0.42 gives another scale; empty for other formats.

    It keeps the most frequent α of a part of the pipeline, and those of single layers by their names. It loses these
    names in text encoders, and in the attention of U-Nets, which then get the most frequent α.
    """
    misread = []
    for part in dict.fromkeys(pair.component for pair in adapter.pairs if adapter.format == "kohya"):
        pairs = [pair for pair in adapter.pairs if pair.component == part and pair.left in adapter.alphas]
        alphas = [pair.scale * pair.r for pair in pairs]
        common = Counter(alphas).most_common(1)
        for pair, alpha in zip(pairs, alphas, strict=True):
            if alpha != common[0][0] and _NAME_LOST.search(pair.name):
                misread.append(pair.name)
    return misread


def write_kohya_file(plan: Plan, factors: NewFactors, path: Path) -> None:
    """Writes a file for kohya's scripts, with an α for every layer (errors as of `plan.write_tensors`)."""
    plan = replace(plan, alphas={pair.left: f"{pair.left.removesuffix(UP)}{ALPHA}" for pair in plan.pairs})
    with WeightsWriter(path.parent) as writer:
        written = write_tensors(plan, factors, writer)
        metadata = {key: text for key, text in plan.metadata.items() if key not in HASHES}
        for key, values in (
            ("ss_network_dim", {layer.r for layer in written}),
            ("ss_network_alpha", {layer.scale * layer.r for layer in written}),
        ):
            if key in metadata:  # as kohya's scripts say it of mixed ranks
                metadata[key] = f"{values.pop():g}" if len(values) == 1 else "Dynamic"
        writer.finish(path, metadata or {"format": "pt"})
