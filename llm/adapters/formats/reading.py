"""Adapters read, whatever their format."""

import os
from pathlib import Path

from lorakappa.llm.adapters.formats.peft_folder import read_peft_folder
from lorakappa.llm.adapters.formats.stored import Adapter


def read_adapter(path: str | os.PathLike[str]) -> Adapter:
    """Looks at an adapter: configuration and header are read, factors only when they are asked for.

    Args:
        path: a folder written by PEFT's `save_pretrained`: adapter_config.json and adapter_model.safetensors.

    Returns:
        The adapter with its pairs found.

    Raises:
        OSError: if files are missing or cannot be read.
        CannotBalanceError: for layers that are not a free product AB, or whose type is too coarse (float8).
        ValueError: if it is something else, is damaged or has half a pair.
    """
    return read_peft_folder(Path(path))
