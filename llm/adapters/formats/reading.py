"""Adapters read, whatever their format, which is told from what is there."""

import os
from pathlib import Path

from lorakappa.llm.adapters.formats import COMPONENTS
from lorakappa.llm.adapters.formats.diffusers_file import FILE, is_diffusers, read_diffusers_file
from lorakappa.llm.adapters.formats.kohya_file import is_kohya, read_kohya_file
from lorakappa.llm.adapters.formats.peft_config import CONFIG
from lorakappa.llm.adapters.formats.peft_folder import WEIGHTS, read_peft_folder
from lorakappa.llm.adapters.formats.stored import Adapter
from lorakappa.llm.adapters.formats.weights import open_weights


def read_adapter(path: str | os.PathLike[str]) -> Adapter:
    """Looks at an adapter: configuration and header are read, factors only when they are asked for.

    Args:
        path: a folder written by PEFT's `save_pretrained`; a folder or a file written by diffusers'
            `save_lora_weights`; a file of kohya's scripts.

    Returns:
        The adapter with its pairs found.

    Raises:
        OSError: if files are missing or cannot be read.
        CannotBalanceError: for layers that are not a free product AB, or whose type is too coarse (float8).
        ValueError: if it is something else, is damaged or has half a pair.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / CONFIG).is_file() and (path / FILE).is_file():
            return _read_file(path, path / FILE)
        return read_peft_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a folder or a file with an adapter")
    return _read_file(path, path)


def _read_file(path: Path, file: Path) -> Adapter:
    """Reads a single file; `path` is how the caller named it, or the folder that it is in."""
    weights = open_weights(file)
    if is_kohya(weights.entries):
        return read_kohya_file(path, weights)
    if is_diffusers(weights.entries):
        return read_diffusers_file(path, weights)
    if file.name == WEIGHTS:
        raise ValueError(f"{file} is only a part of an adapter; name its folder, with {CONFIG}")
    raise ValueError(
        f"{file} holds no LoRA factors that are known here: neither NAME.lora_up.weight and NAME.lora_down.weight as "
        f"in kohya's files, nor names that begin with {', '.join(f'{part}.' for part in COMPONENTS[:-1])} or "
        f"{COMPONENTS[-1]}. as in diffusers'"
    )
