"""The face of a package: public names that are loaded when first used."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import lazy_loader

ROOT = "lorakappa"


def face(name: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package's `__init__` defines: `__getattr__`, `__dir__` and `__all__` after its `__init__.pyi`.

    In a checkout `python -m conditioning` imports the folder under its bare name. That name is then made another
    one of `lorakappa.conditioning`, so that nothing is loaded twice and classes stay the same.

    Args:
        name: `__name__` of the package.
        file: `__file__` of the package.

    Returns:
        The three.
    """
    full = name if name.split(".")[0] == ROOT else f"{ROOT}.{name}"
    if full != name:
        sys.modules[name] = import_module(full)
    return lazy_loader.attach_stub(full, file)
