"""diffusers' file of an adapter, `pytorch_lora_weights.safetensors`: modules of a pipeline's parts, by dotted names.

Names begin with the part ("unet.", "text_encoder.", …). The factors are named as PEFT's (`lora_A`, `lora_B`), as
`lora.down`, `lora.up`, as `lora_linear_layer.down`, `.up`, or in the oldest files as `processor.to_q_lora.down`, `.up`.
AB is scaled by 1 where the file does not say more; it does so in `lora_adapter_metadata`, JSON with a PEFT
configuration whose keys begin with the part, or in tensors `….alpha`.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from lorakappa.llm.adapters.factors import shown
from lorakappa.llm.adapters.formats import COMPONENTS
from lorakappa.llm.adapters.formats.alphas import scale_by_alpha
from lorakappa.llm.adapters.formats.peft_config import AdapterConfig, checked_config, names_module
from lorakappa.llm.adapters.formats.peft_ranks import with_modules, with_ranks
from lorakappa.llm.adapters.formats.plan import Plan, Written, write_tensors
from lorakappa.llm.adapters.formats.stored import (
    Adapter,
    NewFactors,
    StoredPair,
    found_adapter,
    stored_pairs,
)
from lorakappa.llm.adapters.formats.weights import Weights, WeightsWriter
from lorakappa.shared.schemas import parse_text

FILE: Final = "pytorch_lora_weights.safetensors"

METADATA: Final = "lora_adapter_metadata"
"""Name of the text in the header that holds the configurations."""

_FACTOR = re.compile(r"(?P<module>.+)\.(?P<factor>lora_[AB]|lora\.(?:up|down)|lora_linear_layer\.(?:up|down))\.weight")
_OLD_FACTOR = re.compile(r"(?P<module>.+)\.to_(?P<to>q|k|v|out)_lora\.(?P<factor>up|down)\.weight")
_OLD_NAMES = {"unet": {"out": "to_out.0"}, "text": {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}}


def is_diffusers(names: Iterable[str]) -> bool:
    """Whether tensors of these names make a file of diffusers."""
    return any(_place(name) is not None for name in names)


def read_diffusers_file(path: Path, weights: Weights) -> Adapter:
    """Reads a file that diffusers wrote (errors as of `reading.read_adapter`).

    Args:
        path: what the caller named.
        weights: the file itself.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    alphas = {}
    for key in weights.entries:
        place = _place(key)
        if place is not None:
            component, module, side = place
            if side in found.setdefault((component, module), {}):
                raise ValueError(f"{weights.path} names the factors of a module twice")
            found[component, module][side] = key
        elif key.endswith(".alpha"):
            alphas[_split(key.removesuffix(".alpha"))] = key
    contents = _configs(weights)
    configs = {part: checked_config(config, path, f"{METADATA} of {path}") for part, config in contents.items()}
    pairs: list[StoredPair] = []
    for (component, module), sides in found.items():
        name = f"{component}.{module}"
        if len(sides) < 2:
            raise ValueError(f"{path} has only one factor of {name}: the adapter is incomplete")
        alpha = alphas.get((component, module))
        scale = scale_by_alpha(weights, alpha) if alpha else _scale(component, module, configs.get(component))
        pairs += stored_pairs(weights, name, module, component, sides["A"], sides["B"], scale)
    places = {pair.left: (pair.component, str(pair.module)) for pair in pairs}
    known = {left: alphas[place] for left, place in places.items() if place in alphas}
    return found_adapter(path, "diffusers", weights, pairs, known, contents)


def write_diffusers_file(plan: Plan, factors: NewFactors, path: Path) -> None:
    """Writes a file for diffusers (errors as of `plan.write_tensors`)."""
    with WeightsWriter(path.parent) as writer:
        written = write_tensors(plan, factors, writer)
        metadata = {key: text for key, text in plan.metadata.items() if key != METADATA}
        if configs := _new_configs(plan, written):
            flat = {f"{part}.{key}": value for part, config in configs.items() for key, value in config.items()}
            metadata[METADATA] = json.dumps(flat, indent=2, sort_keys=True)
        writer.finish(path, metadata or {"format": "pt"})


def _place(key: str) -> tuple[str, str, str] | None:
    """Component, module and side (A or B) of a tensor; None if it is no factor."""
    if match := _FACTOR.fullmatch(key):
        component, module = _split(match["module"])
        side = "A" if match["factor"] in ("lora_B", "lora.up", "lora_linear_layer.up") else "B"
        return (component, module, side) if component else None
    if match := _OLD_FACTOR.fullmatch(key):
        component, parent = _split(match["module"])
        component = component or "unet"  # files of attention processors alone name no part
        names = _OLD_NAMES["text" if component.startswith("text") else "unet"]
        return component, f"{parent}.{names.get(match['to'], 'to_' + match['to'])}", "AB"[match["factor"] == "down"]
    return None


def _split(name: str) -> tuple[str, str]:
    """Component ("" if there is none) and module."""
    component, _, module = name.replace(".processor.", ".").removesuffix(".processor").partition(".")
    return (component, module) if component in COMPONENTS else ("", f"{component}.{module}")


def _configs(weights: Weights) -> dict[str, dict[str, Any]]:
    """PEFT's configurations of the components."""
    where = f"{METADATA} of {weights.path}"
    if METADATA not in weights.metadata:
        return {}
    content = parse_text(weights.metadata[METADATA], where)
    if not isinstance(content, dict):
        raise ValueError(f"{where} is no object of JSON")
    configs: dict[str, dict[str, Any]] = {}
    for key, value in content.items():
        component, _, name = key.partition(".")
        if component not in COMPONENTS:
            raise ValueError(f"{where} is for a part of a pipeline that is not known: {shown(component)}")
        configs.setdefault(component, {})[name] = value
    return configs


def _scale(component: str, module: str, config: AdapterConfig | None) -> Callable[[int], float]:
    """What AB is multiplied with, given r, where no tensor says it."""
    if config is None:
        return lambda r: 1.0
    named = any(names_module(pattern, module) for pattern in config.alpha_pattern or ())
    return lambda r: config.scale(module if named else short_name(component, module), r)


def _new_configs(plan: Plan, written: list[Written]) -> dict[str, dict[str, Any]]:
    """The configurations of all components, if any of them needs one: where one has, diffusers expects all to have."""
    if plan.alphas or not (plan.config or any(layer.scale != 1 for layer in written)):
        return {}
    configs = {}
    for component in dict.fromkeys(layer.pair.component for layer in written):
        layers = [layer for layer in written if layer.pair.component == component]
        named = [(short_name(component, str(layer.pair.module)), layer.r, layer.scale) for layer in layers]
        config = plan.config.get(component)
        if config is None or plan.new_modules:
            config = with_modules(config or _new_config(plan, component), (name for name, _, _ in named))
        configs[component] = with_ranks(config, named)
    return configs


def _new_config(plan: Plan, component: str) -> dict[str, Any]:
    others = [key for key in plan.others if key.startswith(f"{component}.")]
    return {
        "r": 1,
        "lora_alpha": 1,
        "use_dora": any("lora_magnitude_vector" in key for key in others),
        "lora_bias": any(key.endswith(".lora_B.bias") for key in others),
    }


def short_name(component: str, module: str) -> str:
    """A module's name in patterns: newer versions of CLIP's text model have no `text_model.` in front."""
    return module.removeprefix("text_model.") if component.startswith("text_encoder") else module
