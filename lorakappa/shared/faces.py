"""The face of a package: public names that are loaded when first used."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import lazy_loader

from lorakappa.shared.extras import extras_named

ROOT = "lorakappa"


def face(name: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """What a package's `__init__` defines: `__getattr__`, `__dir__` and `__all__` after its `__init__.pyi`.

    In a checkout `python -m conditioning` imports the folder under its bare name. That name is then made another
    one of `lorakappa.conditioning`, so that nothing is loaded twice and classes stay the same.

    A name that needs a package which is not installed says which extra brings it.

    Args:
        name: `__name__` of the package.
        file: `__file__` of the package.

    Returns:
        The three.
    """
    full = name if name.split(".")[0] == ROOT else f"{ROOT}.{name}"
    if full != name:
        sys.modules[name] = import_module(full)
        sys.meta_path.insert(0, _OtherName(name))
    load, names, public = lazy_loader.attach_stub(full, file)

    def get(attribute: str) -> Any:
        with extras_named(f"{full}.{attribute}"):
            return load(attribute)

    return get, names, public


class _OtherName(MetaPathFinder, Loader):
    """Finds `conditioning.bounds` as `lorakappa.conditioning.bounds`, all but the `__main__` that `python -m` runs."""

    def __init__(self, bare: str) -> None:
        self._bare = bare

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        ours = fullname.startswith(f"{self._bare}.") and fullname != f"{self._bare}.__main__"
        return ModuleSpec(fullname, self) if ours else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(f"{ROOT}.{module.__name__}")
