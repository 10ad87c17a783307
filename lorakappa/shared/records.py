"""Results on disk: data with its provenance, written whole or not at all.

Every package saves through this file, so that each result says by which command, seed and versions it came
about, and an interrupted run never leaves half a file.
"""

import importlib.metadata
import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorakappa.shared import code_state
from lorakappa.shared.array_files import read_npz as read_npz
from lorakappa.shared.whole_files import ensure_folder as ensure_folder
from lorakappa.shared.whole_files import ensure_writable as ensure_writable
from lorakappa.shared.whole_files import write_whole

if TYPE_CHECKING:  # NumPy is imported where arrays come, since every command line imports this file
    from numpy.typing import ArrayLike

VERSIONS_OF = ("lorakappa", "numpy", "scipy", "torch", "python-flint")

_BEGAN = time.perf_counter()


def provenance(*, seed: int | None = None) -> dict[str, Any]:
    """Where a result comes from: command line, seed, versions, code (`shared.code_state`), machine, time taken.

    Args:
        seed: the seed that the run was started with, if it has one.

    Returns:
        A JSON-serializable mapping; packages that are not installed have the version None, and "seconds" is how long
        the process has been at work.
    """
    versions: dict[str, str | None] = {}
    for package in VERSIONS_OF:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    program, spec = Path(sys.argv[0]), getattr(sys.modules["__main__"], "__spec__", None)
    name = program.name
    if name == "__main__.py":  # `python -m PACKAGE`, by the name that it was called
        name = f"python -m {spec.parent if spec and spec.parent else program.parent.name}"
    return {
        "command": " ".join([name, *sys.argv[1:]]),
        "seed": seed,
        "python": platform.python_version(),
        "versions": versions,
        "commit": code_state.commit(),
        "code": code_state.digests(code_state.loaded_packages()),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "seconds": round(time.perf_counter() - _BEGAN, 1),
    }


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Writes JSON (UTF-8, indented, NumPy scalars and arrays as numbers and lists) in one piece.

    Infinity and NaN, which JSON does not have, are written as the strings "inf", "-inf" and "nan".

    Args:
        path: file to write; its folder is created.
        value: JSON-like data.

    Returns:
        The path.

    Raises:
        OSError: if the folder cannot be created or written.
        TypeError: if the data has entries that JSON cannot carry.
    """
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # a name that is not UTF-8 holds surrogates, whose escapes are JSON's own
    content = text.encode("utf-8", errors="backslashreplace")
    return write_whole(path, lambda stream: stream.write(content))


def write_npz(path: str | os.PathLike[str], arrays: "Mapping[str, ArrayLike]") -> Path:
    """Writes arrays as a compressed .npz in one piece.

    Args:
        path: file to write, ending in .npz; its folder is created.
        arrays: name to array.

    Returns:
        The path.

    Raises:
        OSError: if the folder cannot be created or written.
    """
    import numpy as np

    plain: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
    return write_whole(path, lambda stream: np.savez_compressed(stream, **plain))


def write_bytes(path: str | os.PathLike[str], content: bytes) -> Path:
    """Writes a file in one piece.

    Args:
        path: file to write; its folder is created.
        content: what to write.

    Returns:
        The path.

    Raises:
        OSError: if the folder cannot be created or written.
    """
    return write_whole(path, lambda stream: stream.write(content))


def _plain(value: Any) -> Any:
    """Data with NumPy types, tuples and non-finite floats replaced by what JSON has."""
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
