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
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # NumPy is imported where arrays come, since every command line imports this file
    from numpy.typing import ArrayLike, NDArray

VERSIONS_OF = ("lorakappa", "numpy", "scipy", "torch", "python-flint")


def provenance(*, seed: int | None = None) -> dict[str, Any]:
    """Where a result comes from: command line, seed, Python and package versions, platform.

    Args:
        seed: the seed that the run was started with, if it has one.

    Returns:
        A JSON-serializable mapping; packages that are not installed have the version None.
    """
    versions: dict[str, str | None] = {}
    for package in VERSIONS_OF:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    program = Path(sys.argv[0])
    name = f"python -m {program.parent.name}" if program.name == "__main__.py" else program.name
    return {
        "command": " ".join([name, *sys.argv[1:]]),
        "seed": seed,
        "python": platform.python_version(),
        "versions": versions,
        "platform": f"{platform.system()} {platform.machine()}",
    }


def ensure_writable(path: str | os.PathLike[str]) -> None:
    """Checks that a file can be written: before long work, not after it.

    Args:
        path: the file to be written later.

    Raises:
        OSError: if the folder cannot be created or written, or the path is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; name a file to write")
    ensure_folder(target.parent)


def ensure_folder(folder: str | os.PathLike[str]) -> None:
    """Checks that files can be written into a folder, creating it for the check only: before long work, not after.

    Args:
        folder: the folder for files to be written later; it need not exist, and is left as it was.

    Raises:
        OSError: if it cannot be created or written.
    """
    path = Path(folder)
    missing = [parent for parent in (path, *path.parents) if not parent.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise type(error)(f"cannot write into {path}: {error.strerror}") from None
    finally:
        for created in missing:
            if created.is_dir():
                created.rmdir()


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
    return _write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


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

    def write(temporary: Path) -> None:
        with temporary.open("wb") as stream:
            plain: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
            np.savez_compressed(stream, **plain)

    return _write_whole(path, write)


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
    return _write_whole(path, lambda temporary: temporary.write_bytes(content))


def read_npz(path: str | os.PathLike[str]) -> "dict[str, NDArray[Any]]":
    """Reads every array of an .npz file (pickled objects are refused).

    Args:
        path: file written by `write_npz`.

    Returns:
        Name to array.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no .npz archive of plain arrays.
    """
    import numpy as np

    try:
        archive = np.load(path, allow_pickle=False)
    except EOFError:
        raise ValueError(f"{path} is empty") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} holds a single array, not an archive of named ones")
    with archive:
        return {name: archive[name] for name in archive.files}


def _write_whole(path: str | os.PathLike[str], write: Callable[[Path], object]) -> Path:
    """Writes to a temporary name in the same folder, then renames over the target."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


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
