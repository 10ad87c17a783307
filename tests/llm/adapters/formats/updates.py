"""What an adapter's file does to each module, from its bytes and by PEFT's code for patterns rather than ours."""

import json
import math

from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import safe_open
from safetensors.torch import load_file

ENDS = {
    "peft": (".lora_B.weight", ".lora_A.weight"),
    "diffusers": (".lora_B.weight", ".lora_A.weight"),
    "kohya": (".lora_up.weight", ".lora_down.weight"),
}


def updates(path, format):
    """Scale · AB (float64) and DoRA's magnitude, flat, by name of the module with its part of the pipeline."""
    folders = [path, *(folder for folder in path.iterdir() if folder.is_dir())] if format == "peft" else []
    found = {}
    for folder in folders:
        if (folder / "adapter_config.json").is_file():
            part = "" if folder == path else f"{folder.name}."
            tensors = load_file(folder / "adapter_model.safetensors")
            config = LoraConfig(**json.loads((folder / "adapter_config.json").read_text()))
            found |= _updates(tensors, format, lambda name: name, lambda name, r, c=config: _scale(c, name, r), part)
    if format == "peft":
        return found
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if format == "kohya":
        names = json.loads(metadata["lorakappa_modules"]) if "lorakappa_modules" in metadata else {}
        tensors = load_file(path)
        return _updates(
            tensors,
            format,
            lambda name: names.get(name, name),
            lambda name, r: tensors[f"{name}.alpha"].item() / r if f"{name}.alpha" in tensors else 1.0,
        )
    flat = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    parts = {}
    for key, value in flat.items():
        parts.setdefault(key.partition(".")[0], {})[key.partition(".")[2]] = value
    configs = {part: LoraConfig(**content) for part, content in parts.items()}

    def scale(name, r):
        part, _, module = name.partition(".")
        return _scale(configs[part], module, r) if configs else 1.0

    return _updates(load_file(path), format, lambda name: name, scale)


def _scale(config, module, r):
    """As peft.tuners.lora.model computes it."""
    assert config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), module), config.r) == r
    alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), module), config.lora_alpha)
    return alpha / (math.sqrt(r) if config.use_rslora else r)


def _updates(tensors, format, module, scale, part=""):
    end_A, end_B = ENDS[format]
    found = {}
    for key in tensors:
        if key.endswith(end_A):
            stem = key.removesuffix(end_A)
            name = stem.removeprefix("base_model.model.") if format == "peft" else stem
            A, B = tensors[key].double().flatten(1), tensors[stem + end_B].double().flatten(1)
            magnitude = next(
                (tensors[stem + end] for end in (".lora_magnitude_vector", ".dora_scale") if stem + end in tensors),
                None,
            )
            found[part + module(name)] = (
                scale(name, A.shape[1]) * A @ B,
                None if magnitude is None else magnitude.flatten(),
            )
    return found
