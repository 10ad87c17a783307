"""Reads what other packages saved: NAME.npz with the arrays, NAME.json with the description; some have no arrays."""

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.figures.catalogue import files
from lorakappa.shared.records import read_npz


@dataclass(frozen=True)
class Saved:
    """One saved result.

    Attributes:
        name: experiment, and file name.
        arrays: data by name.
        meta: description by name.
    """

    name: str
    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]

    def array(self, key: str) -> NDArray[Any]:
        """An array that the figure cannot do without.

        Raises:
            ValueError: if it was not saved.
        """
        if key not in self.arrays:
            raise ValueError(f"{self.name}.npz has no array {key!r}: it was made by another version or cut short")
        return self.arrays[key]

    def value(self, key: str) -> Any:
        """An entry of the description that the figure cannot do without.

        Raises:
            ValueError: if it was not saved.
        """
        if key not in self.meta:
            raise ValueError(f"{self.name}.json has no entry {key!r}: it was made by another version or cut short")
        return self.meta[key]


def load(name: str, folder: Path, arrays: bool = True) -> Saved:
    """Reads a result.

    Args:
        name: of the result.
        folder: where it is.
        arrays: whether it has any; otherwise it is JSON only.

    Returns:
        The result.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a file is not what its name says.
    """
    *arrays_files, meta_file = files(name, folder, arrays)
    data: dict[str, NDArray[Any]] = {}
    for path in arrays_files:
        try:
            data = read_npz(path)
        except (ValueError, zipfile.BadZipFile, EOFError) as error:
            raise ValueError(f"{path} is not an .npz archive of arrays: {error}") from None
    try:
        meta = json.loads(meta_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{meta_file} is not JSON: {error}") from None
    if not isinstance(meta, dict):
        raise ValueError(f"{meta_file} holds no description of a result")
    return Saved(name, data, meta)


def numbers(values: Iterable[Any]) -> NDArray[np.float64]:
    """Numbers of a JSON list: NaN for null, and "inf", "-inf" and "nan" read back."""
    return np.asarray([np.nan if value is None else float(value) for value in values])


def positive(values: NDArray[Any]) -> NDArray[np.float64]:
    """What a logarithmic axis can show: NaN, which leaves a gap, where a value is not positive or not finite."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(numbers) & (numbers > 0), numbers, np.nan)


def describe(settings: dict[str, Any]) -> str:
    """The problem in words: shape, rank, target.

    Args:
        settings: as in the "settings" of a description; what is not there is left out.
    """
    parts = []
    if "shape" in settings:
        parts.append("×".join(str(n) for n in settings["shape"]))
    if "rank" in settings:
        parts.append(f"r = {settings['rank']}")
    if "target" in settings:
        parts.append(f"{Path(settings['target']).name} target")
    return ", ".join(parts)
