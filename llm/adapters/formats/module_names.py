"""Names of a model's modules, from the headers of its files: what a kohya file's names stand for."""

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from lorakappa.llm.adapters.formats import COMPONENTS
from lorakappa.llm.adapters.formats.weights import open_weights


def module_names(path: str | os.PathLike[str]) -> dict[str, set[str]]:
    """The modules of a model or of the parts of a pipeline, without loading any weight.

    Args:
        path: a safetensors file, a model's folder with such files, or a pipeline's folder with such folders.

    Returns:
        Names by component; those of a single model under "".

    Raises:
        OSError: if files are missing or cannot be read.
        ValueError: if they are no safetensors files.
    """
    path = Path(path)
    parts = {part: path / part for part in COMPONENTS if (path / part).is_dir()} or {"": path}
    found = {part: _modules(place) for part, place in parts.items()}
    if not any(found.values()):
        raise FileNotFoundError(f"{path} has no model in safetensors files, whose header names its modules")
    return found


def underscored(names: dict[str, set[str]]) -> dict[tuple[str, str], list[str]]:
    """Modules by component and by their name with `_` for dots: several where that makes them equal."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for component, modules in names.items():
        for module in sorted(modules):
            found[component, module.replace(".", "_")].append(module)
    return found


def _modules(place: Path) -> set[str]:
    files: Iterable[Path] = sorted(place.glob("*.safetensors")) if place.is_dir() else [place]
    return {
        key.removesuffix(".weight") for file in files for key in open_weights(file).entries if key.endswith(".weight")
    }
