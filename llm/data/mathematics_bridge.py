"""The package `mathematics_dataset` made to run on today's libraries, and made reproducible.

It dates from 2019. It is bridged to NumPy 2, SymPy 1.14 and Python 3.12 by names inside its own modules; numpy, sympy
and random stay as they are for everybody else. The same bridge makes it reproducible: it iterated over sets, whose
order changes from process to process.
"""

import importlib
import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

_importing = threading.Lock()


def bridged_package() -> Any:
    """`mathematics_dataset.modules.modules`, bridged.

    Raises:
        ValueError: if the package is missing.
    """
    try:
        solver = importlib.import_module("sympy.solvers.diophantine")
        inner = importlib.import_module("sympy.solvers.diophantine.diophantine")
        with _importing:
            moved = not hasattr(solver, "base_solution_linear")
            if moved:
                solver.base_solution_linear = inner.base_solution_linear  # type: ignore[attr-defined]
            try:
                modules = importlib.import_module("mathematics_dataset.modules.modules")
            finally:
                if moved:
                    del solver.base_solution_linear
    except ModuleNotFoundError as error:
        raise ValueError(
            f"generating questions needs the package mathematics_dataset ({error}): "
            "pip install mathematics_dataset, or name the folder of the official files"
        ) from None
    composition: Any = importlib.import_module("mathematics_dataset.util.composition")
    composition.set = _OrderedSet
    composition._ALLOWED_SYMBOLS = _OrderedSet("abcdfghijklmnopqrstuvwxyz")
    polynomials: Any = importlib.import_module("mathematics_dataset.sample.polynomials")
    polynomials.np = _OldNumPy("numpy")
    numbers: Any = importlib.import_module("mathematics_dataset.modules.numbers")
    numbers.random = _OldRandom("random")
    return modules


@contextmanager
def seeded(seed: str) -> Iterator[None]:
    """Seeds the three global generators that the package draws from, and restores them."""
    symbolic = importlib.import_module("sympy.core.random").rng
    states = random.getstate(), np.random.get_state(), symbolic.getstate()  # noqa: NPY002
    number = random.Random(seed).getrandbits(32)
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    symbolic.seed(number)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        symbolic.setstate(states[2])


class _OrderedSet(dict[Any, None]):
    """A set that iterates in the order of insertion, with the methods that the package uses."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__(dict.fromkeys(items))

    def add(self, item: Any) -> None:
        self[item] = None

    def copy(self) -> "_OrderedSet":
        return _OrderedSet(self)

    def union(self, other: Iterable[Any]) -> "_OrderedSet":
        return _OrderedSet([*self, *other])

    def difference(self, other: Iterable[Any]) -> "_OrderedSet":
        removed = list(other)
        return _OrderedSet(item for item in self if item not in removed)


class _OldArray(np.ndarray[Any, Any]):
    """An array with the method that NumPy 2 removed."""

    def itemset(self, index: Any, value: Any) -> None:
        self[index] = value


class _OldNumPy(ModuleType):
    """numpy with what the package expects of it: `np.object`, and arrays that have `itemset`."""

    object = object

    @staticmethod
    def zeros(shape: Any, dtype: Any = float) -> _OldArray:
        return np.zeros(shape, dtype).view(_OldArray)

    @staticmethod
    def empty(shape: Any, dtype: Any = float) -> _OldArray:
        return np.empty(shape, dtype).view(_OldArray)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class _OldRandom(ModuleType):
    """random whose `randint` takes whole floats, as it did before Python 3.12."""

    @staticmethod
    def randint(low: float, high: float) -> int:
        return random.randint(int(low), int(high))

    def __getattr__(self, name: str) -> Any:
        return getattr(random, name)
