"""What every experiment returns, and how it is saved: NAME.npz with the arrays, NAME.json with the rest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorakappa.shared.records import provenance, write_json, write_npz


@dataclass(frozen=True)
class Result:
    """An experiment's outcome.

    Attributes:
        name: experiment, and file name.
        arrays: data by name.
        meta: JSON-like settings and summaries.
        seed: root seed.
    """

    name: str
    arrays: dict[str, NDArray[Any]]
    meta: dict[str, Any]
    seed: int


def save(result: Result, folder: Path) -> tuple[Path, Path]:
    """Writes the arrays and, with provenance, the description.

    Returns:
        Paths of the .npz and the .json file.

    Raises:
        OSError: if the folder cannot be written.
    """
    shapes = {name: list(np.shape(value)) for name, value in result.arrays.items()}
    arrays = write_npz(folder / f"{result.name}.npz", result.arrays)
    description = {
        "experiment": result.name,
        **result.meta,
        "arrays": shapes,
        "provenance": provenance(seed=result.seed),
    }
    return arrays, write_json(folder / f"{result.name}.json", description)
