"""Which code made a result: the commit of a checkout, and a digest of each package's source files.

A result is out of date where the code of a package that made it is not what it was: versions change too seldom to tell,
and commits too often, since most leave most packages alone.
"""

import ast
import hashlib
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SOURCES = (".py", ".v", ".toml", ".json")
"""Endings of the files that decide what a package computes."""

DRAWN_ONLY = ("figures",)
"""Packages that show results and make none."""


def loaded_packages() -> list[str]:
    """The packages of this distribution that the process has loaded a module of and that make results."""
    names = {name.split(".")[1] for name in sys.modules if name.startswith("lorakappa.")}
    return sorted(name for name in names if name not in DRAWN_ONLY and package_folder(name) is not None)


def digests(packages: Iterable[str]) -> dict[str, str]:
    """The first 16 digits of the SHA-256 of each package's source files, with their names.

    Args:
        packages: names of packages under `lorakappa`.

    Returns:
        Digest by name; packages that are not there are left out.
    """
    return {name: _digest(folder) for name in packages if (folder := package_folder(name)) is not None}


def commit() -> str | None:
    """The commit that is checked out here, with "+" behind it if files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head, changes = (
            subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10).stdout
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a folder that it does not trust
        return None
    return head.strip() + ("+" if changes.strip() else "")


def package_folder(name: str) -> Path | None:
    """Where a package lies; None if there is none of that name, or if it is a single file."""
    spec = find_spec(f"lorakappa.{name}")
    places = None if spec is None else spec.submodule_search_locations
    return Path(places[0]).resolve() if places else None


@cache
def module_digest(name: str) -> str:
    """The first 16 digits of the SHA-256 of a module and all that it imports (`sources`)."""
    found = hashlib.sha256()
    for module, content in sorted(sources(name).items()):
        found.update(f"{module}\0{len(content)}\0".encode() + content)
    return found.hexdigest()[:16]


def sources(name: str) -> dict[str, bytes]:
    """The source of a module, and of every module of this distribution that it imports, by dotted name.

    Args:
        name: of the module. Imports are followed at any depth, those within functions and for types, too.
    """
    found: dict[str, bytes] = {}
    todo = [name]
    while todo:
        module = todo.pop()
        file = None if module in found else _source(module)
        if file is not None:
            found[module] = file.read_bytes()
            todo += _imports(found[module])
    return found


def _source(module: str) -> Path | None:
    """The file of a module of this distribution; None if there is none of that name."""
    top, _, rest = module.removeprefix("lorakappa.").partition(".")
    folder = package_folder(top) if module.startswith("lorakappa.") else None
    if folder is None:
        return None
    place = folder.joinpath(*rest.split(".")) if rest else folder
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def _imports(source: bytes) -> list[str]:
    """The dotted names of all that a module imports; a name from a module may be a module, too."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


@cache
def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*"), key=lambda file: file.relative_to(folder).as_posix()):
        if file.suffix in SOURCES and file.is_file():
            found.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
            found.update(file.read_bytes())
    return found.hexdigest()[:16]
