"""adapter_model.safetensors: read whole, and copied with new factors in the places of the old ones.

A copy keeps every other byte: header, metadata, order, and tensors of types that torch does not know how to write.
"""

import json
import shutil
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lorakappa.llm.adapters.factors import shown

WEIGHTS: Final = "adapter_model.safetensors"
PICKLED: Final = "adapter_model.bin"
INDEX: Final = "adapter_model.safetensors.index.json"

LONGEST_NAME: Final = 1000
"""Characters of a tensor's name; real ones have about a hundred."""


def read_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of an adapter.

    Raises:
        OSError: if the file is missing or cannot be read.
        ValueError: if it is damaged, or there is only another format.
    """
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
    with path.open("rb"):
        pass  # an OSError that names it, which safetensors does not give
    try:
        with safe_open(path, framework="pt") as file:
            metadata, keys = file.metadata() or {}, file.keys()
            for key in keys:
                if not key.isprintable() or not 0 < len(key) <= LONGEST_NAME:
                    raise ValueError(f"{path} has a tensor whose name is no name of a tensor: {shown(key)}")
            return {key: file.get_tensor(key) for key in keys}, metadata
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} has a tensor that this version of torch cannot read: {error}") from None


def copy_weights(source: Path, target: Path, tensors: dict[str, Tensor], changed: Iterable[str]) -> None:
    """Copies a weights file and writes some tensors in their places, then reads these again.

    Args:
        source: as read.
        target: to be written.
        tensors: by name; of the types and shapes in the file.
        changed: names of those to write.

    Raises:
        OSError: if the files cannot be read or written, naming them.
        ValueError: if what was written is not what is read, as when the source changes meanwhile.
    """
    shutil.copyfile(source, target)
    keys = list(changed)
    try:
        with target.open("r+b") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
            for key in keys:
                begin, end = header[key]["data_offsets"]
                content = _bytes(tensors[key])
                if len(content) != end - begin:
                    raise KeyError(key)
                stream.seek(8 + length + begin)
                stream.write(content)
    except OSError as error:
        error.filename = str(target)
        raise
    except (KeyError, ValueError, struct.error):
        raise ValueError(f"{source} changed while it was read; nothing was written") from None
    with safe_open(target, framework="pt") as file:
        for key in keys:
            if not torch.equal(file.get_tensor(key), tensors[key]):
                raise ValueError(f"{source} changed while it was read; nothing was written")


def _bytes(tensor: Tensor) -> bytes:
    """The entries in the file's byte order, which is little-endian."""
    plain = tensor.detach().cpu().contiguous()
    content: bytes = plain.view(torch.uint8).numpy().tobytes()
    if sys.byteorder == "big":
        size = plain.element_size()
        content = b"".join(content[place : place + size][::-1] for place in range(0, len(content), size))
    return content
