"""Files of tensors (safetensors): the header checked, tensors read one by one, copied or written one by one.

Tensors are read and not mapped into memory, so that a file that shrinks meanwhile is an error and not the end of the
process. What torch has no type for is carried along as bytes.
"""

import json
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lorakappa.llm.adapters.factors import shown

LONGEST_NAME: Final = 1000
"""Characters of a tensor's name; real ones have about a hundred."""

CHUNK: Final = 2**22
"""Bytes that are copied at a time."""

DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Names of types in the header; tensors of others are carried along unread."""


@dataclass(frozen=True)
class Entry:
    """What a header says of one tensor.

    Attributes:
        dtype: name of its type, one of `DTYPES` or newer than them.
        shape: of the tensor.
        begin: place of its first byte behind the header.
        end: place behind its last byte.
    """

    dtype: str
    shape: torch.Size
    begin: int
    end: int


@dataclass(frozen=True)
class Weights:
    """A file of tensors, of which only the header was read.

    Attributes:
        path: the file.
        entries: its tensors, by name, in the order of their bytes.
        metadata: texts in the header.
        start: place of the first byte behind the header.
        state: of the file when it was looked at, by which changes are noticed.
    """

    path: Path
    entries: dict[str, Entry]
    metadata: dict[str, str]
    start: int
    state: tuple[int, ...]

    def shape(self, name: str) -> torch.Size:
        """Shape of a tensor."""
        return self.entries[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """Type of a tensor.

        Raises:
            ValueError: if torch has none such.
        """
        known = DTYPES.get(self.entries[name].dtype)
        if known is None:
            raise ValueError(
                f"{self.path} has a tensor that this version of torch cannot read: {name} is of type "
                f"{shown(self.entries[name].dtype)}"
            )
        return known

    def read(self, name: str) -> Tensor:
        """One tensor, as a copy.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it changed, or torch has no such type.
        """
        dtype, entry = self.dtype(name), self.entries[name]
        content = bytearray(b"".join(self.chunks(name)))
        if sys.byteorder == "big":
            content = bytearray(_swapped(bytes(content), dtype.itemsize))
        flat = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
        return flat.view(dtype).reshape(entry.shape)

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of one tensor, a few megabytes at a time (errors as of `read`)."""
        entry = self.entries[name]
        left = entry.end - entry.begin
        with self.path.open("rb") as stream:
            if _state(stream) != self.state:
                raise self.changed()
            stream.seek(self.start + entry.begin)
            while left:
                content = stream.read(min(left, CHUNK))
                if not content:
                    raise self.changed()
                left -= len(content)
                yield content

    def changed(self) -> ValueError:
        """The error for a file that is no longer what it was."""
        return ValueError(f"{self.path} changed while it was read; nothing was written")


def open_weights(path: Path) -> Weights:
    """Looks at a file of tensors.

    Args:
        path: the file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is damaged, no safetensors file, or has a tensor without a proper name.
    """
    with path.open("rb") as stream:  # an OSError that names it, which safetensors does not give
        state = _state(stream)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        with path.open("rb") as stream:
            if _state(stream) != state:
                raise ValueError
            (length,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(length))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None
    except (ValueError, struct.error, RecursionError):
        raise ValueError(f"{path} changed while it was read; nothing was written") from None
    header.pop("__metadata__", None)
    for key in header:
        if not key.isprintable() or not 0 < len(key) <= LONGEST_NAME:
            raise ValueError(f"{path} has a tensor whose name is no name of a tensor: {shown(key)}")
    entries = {
        key: Entry(value["dtype"], torch.Size(value["shape"]), *value["data_offsets"]) for key, value in header.items()
    }
    entries = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    return Weights(path, entries, metadata, 8 + length, state)


class WeightsCopy:
    """A copy of a file of tensors, in which some are written over: header, order and all other bytes stay.

    Args:
        source: the file.
        path: of the copy.
        without: texts that its header is not to have.
    """

    def __init__(self, source: Weights, path: Path, without: Iterable[str] = ()) -> None:
        self._source, self._path = source, path
        shutil.copyfile(source.path, path)
        if gone := source.metadata.keys() & set(without):
            _remove_metadata(path, gone)
        if open_weights(path).entries != source.entries:
            raise source.changed()

    def write(self, name: str, tensor: Tensor) -> None:
        """Writes over a tensor and reads it again.

        Args:
            name: of the tensor.
            tensor: of the type and shape in the file.

        Raises:
            OSError: naming the file, if it cannot be written.
            ValueError: if what is there afterwards is something else, as when the source changed.
        """
        entry, content = self._source.entries[name], _bytes(tensor)
        if len(content) != entry.end - entry.begin:
            raise self._source.changed()
        with _named(self._path), self._path.open("r+b") as stream:
            stream.seek(self._source.start + entry.begin)
            stream.write(content)
            stream.seek(self._source.start + entry.begin)
            if stream.read(len(content)) != content:
                raise self._source.changed()


class WeightsWriter:
    """Writes a file of tensors that come one after the other, of any types and shapes; used as a context.

    They wait in unnamed temporary files, one for each size of an entry: in a file the wide types come first, so that
    every tensor begins at a multiple of the size of its entries, where readers expect it.

    Args:
        folder: where the temporary files are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[int, IO[bytes]] = {}
        self._entries: dict[int, dict[str, tuple[str, list[int], int, int]]] = {}

    def __enter__(self) -> "WeightsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        for part in self._parts.values():
            part.close()

    def add(self, name: str, tensor: Tensor) -> None:
        """Adds a tensor of one of `DTYPES`."""
        known = {dtype: key for key, dtype in DTYPES.items()}[tensor.dtype]
        self._append(name, known, list(tensor.shape), tensor.dtype.itemsize, iter([_bytes(tensor)]))

    def copy(self, name: str, source: Weights, old: str | None = None) -> None:
        """Adds a tensor of another file, of whatever type, byte by byte."""
        old = name if old is None else old
        entry = source.entries[old]
        count = entry.shape.numel()
        size = max(1, (entry.end - entry.begin) // count) if count else 1
        self._append(name, entry.dtype, list(entry.shape), size, source.chunks(old))

    def _append(self, name: str, dtype: str, shape: list[int], size: int, chunks: Iterator[bytes]) -> None:
        if any(name in entries for entries in self._entries.values()):
            raise ValueError(f"two tensors are named {shown(name)}")
        if size not in self._parts:
            self._parts[size] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            self._entries[size] = {}
        part = self._parts[size]
        begin = part.tell()
        for content in chunks:
            part.write(content)
        self._entries[size][name] = (dtype, shape, begin, part.tell())

    def finish(self, path: Path, metadata: dict[str, str]) -> None:
        """Writes the file.

        Args:
            path: of the file.
            metadata: texts for its header.

        Raises:
            OSError: naming the file, if it cannot be written.
        """
        header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
        offset = 0
        for size in sorted(self._parts, reverse=True):
            for name, (dtype, shape, begin, end) in self._entries[size].items():
                header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset + begin, offset + end]}
            offset += self._parts[size].tell()
        text = _header(header)
        text += b" " * (-len(text) % 8)
        with _named(path), path.open("wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            for size in sorted(self._parts, reverse=True):
                self._parts[size].seek(0)
                shutil.copyfileobj(self._parts[size], stream, CHUNK)


def _remove_metadata(path: Path, gone: Set[str]) -> None:
    """Takes texts out of a header, which keeps its length."""
    with _named(path), path.open("r+b") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
        header["__metadata__"] = {key: text for key, text in header["__metadata__"].items() if key not in gone}
        stream.seek(8)
        stream.write(_header(header).ljust(length))


def _header(header: dict[str, Any]) -> bytes:
    return json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()


def _state(stream: IO[bytes]) -> tuple[int, ...]:
    found = os.fstat(stream.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Context whose OSErrors name a file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _bytes(tensor: Tensor) -> bytes:
    """The entries in the file's byte order, which is little-endian."""
    plain = tensor.detach().cpu().contiguous()
    content: bytes = plain.reshape(-1).view(torch.uint8).numpy().tobytes()
    return _swapped(content, plain.element_size()) if sys.byteorder == "big" else content


def _swapped(content: bytes, size: int) -> bytes:
    return b"".join(content[place : place + size][::-1] for place in range(0, len(content), size))
