"""Reads what other packages saved: NAME.npz with the arrays, NAME.json with the description; some have no arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.figures.array_axes import check_arrays
from lorakappa.figures.catalogue import files
from lorakappa.figures.schemas import DESCRIPTIONS
from lorakappa.shared.array_files import read_npz
from lorakappa.shared.schemas import read_json, validated


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


def load(name: str, folder: Path, arrays: bool = True, data: str | None = None) -> Saved:
    """Reads a result.

    Args:
        name: of the result.
        folder: where it is.
        arrays: whether it has any; otherwise it is JSON only.
        data: whose description it is; the default is its name.

    Returns:
        The result, `$` escaped in all its texts: what they say is data, and no formula.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a file is not what its name says, or not what figures need (`figures.schemas`).
        MemoryError: if a file does not fit into memory, before it is read.
    """
    kind = name if data is None else data
    *arrays_files, meta_file = files(name, folder, arrays)
    found: dict[str, NDArray[Any]] = {}
    for path in arrays_files:
        found = read_npz(path)
        check_arrays(kind, str(path), found)
    meta = read_json(meta_file)
    if not isinstance(meta, dict):
        raise ValueError(f"{meta_file} holds no description of a result")
    if kind in DESCRIPTIONS:
        validated(meta, DESCRIPTIONS[kind], str(meta_file), what=f"a description of {kind} that figures can show")
    return Saved(name, {key: _literal_array(values) for key, values in found.items()}, _literal(meta))


def _literal(data: Any) -> Any:
    """JSON with every text such that Matplotlib reads no formula in it."""
    if isinstance(data, str):
        return data.replace("$", r"\$")
    if isinstance(data, list):
        return [_literal(entry) for entry in data]
    if isinstance(data, dict):
        return {_literal(key): _literal(entry) for key, entry in data.items()}
    return data


def _literal_array(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    return np.char.replace(values, "$", r"\$") if values.dtype.kind == "U" else values


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
