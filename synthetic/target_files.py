"""Target matrices and spectra from files, whose claims about themselves are checked before anything is read."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.checks import Array
from lorakappa.shared.array_files import open_regular, read_array
from lorakappa.shared.memory import check_memory

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
    try:
        loaded = _read_text(path) if path.suffix == ".txt" else read_array(path)
    except ValueError as error:
        raise ValueError(f"{path} is no target: {error}") from None
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
    with open_regular(path) as stream:
        check_memory(os.fstat(stream.fileno()).st_size, f"the numbers in {path}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an empty file is a warning
            try:
                return np.loadtxt(stream, dtype=np.float64, encoding="utf-8")
            except (ValueError, UserWarning) as error:
                raise ValueError(" ".join(str(error).split())) from None
