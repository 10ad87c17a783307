"""Target matrices and spectra from files, whose claims about themselves are checked before anything is read."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.checks import Array
from lorakappa.shared.memory import check_memory
from lorakappa.shared.records import read_npz

SUFFIXES = (".npy", ".npz", ".txt")


def is_target_file(spec: str) -> bool:
    """Whether a target is named by its file."""
    return Path(spec).suffix in SUFFIXES


def read_target(spec: str, shape: tuple[int, int]) -> Array:
    """A matrix of the given shape or a vector of singular values.

    Args:
        spec: .npy, .npz with one array, or .txt with rows of numbers.
        shape: (a, b).

    Returns:
        (a, b) or (min(a, b),) float64 array, finite.

    Raises:
        ValueError: if the file is damaged, or holds something else, complex numbers, NaN or infinity included.
        OSError: if it cannot be read.
    """
    path = Path(spec)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; name a target file or one of the named spectra")
    if not path.is_file():
        raise ValueError(f"{path} is no regular file; name a {', '.join(SUFFIXES)} file")
    try:
        loaded = {".txt": _read_text, ".npy": _read_npy, ".npz": _read_archive}[path.suffix](path)
    except OSError:
        raise
    except Exception as error:  # whatever NumPy and zipfile make of a damaged file
        raise ValueError(f"{path} is no target: {' '.join(str(error).split()) or type(error).__name__}") from None
    if loaded.dtype.kind not in "fiu":
        raise ValueError(f"{path} holds {loaded.dtype} entries; a target has real numbers")
    if loaded.shape not in (tuple(shape), (min(shape),)):
        raise ValueError(
            f"{path} holds an array of shape {loaded.shape}, but the shape asked for is {shape[0]}×{shape[1]}: "
            f"a target is such a matrix or {min(shape)} singular values"
        )
    found: Array = np.array(loaded, dtype=np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{path} contains NaN or infinity")
    return found


def _read_text(path: Path) -> NDArray[Any]:
    check_memory(path.stat().st_size, f"the numbers in {path}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an empty file is a warning
        return np.loadtxt(path, dtype=np.float64, encoding="utf-8")


def _read_npy(path: Path) -> NDArray[Any]:
    """Mapped, not read: a header that claims more than there is fails at once, and only what fits is copied."""
    loaded: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(loaded, np.memmap):
        raise ValueError("it is an archive of arrays and not one")
    return loaded


def _read_archive(path: Path) -> NDArray[Any]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no archive, or one that was cut short")
    arrays = read_npz(path)
    if len(arrays) != 1:
        raise ValueError(f"it holds {len(arrays)} arrays; a target file needs exactly one")
    (found,) = arrays.values()
    return found
