"""DeepMind Mathematics: questions read from the official files, or generated on the spot.

The official files (2.2 GiB) are what papers report on. Where they are not at hand the package `mathematics_dataset`
that wrote them draws the same kinds of questions anew, without a download.

That package dates from 2019. It is bridged to NumPy 2, SymPy 1.14 and Python 3.12 by names inside its own modules;
numpy, sympy and random stay as they are for everybody else. The same bridge makes it reproducible: it iterated over
sets, whose order changes from process to process.
"""

import difflib
import functools
import importlib
import random
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.progress import Progress

from lorakappa.shared.command_line import errors

TRAINING_LEVELS = ("train-easy", "train-medium", "train-hard")
LEVELS = (*TRAINING_LEVELS, "interpolate", "extrapolate")
"""Folders of the official files, and their counterparts when questions are generated."""

FINE_TUNING_MODULES = ("measurement__time", "numbers__place_value", "numbers__round_number")
"""What fine-tunes learn by default: short questions that the tiny model was not pretrained on."""

LONGEST_QUESTION, LONGEST_ANSWER = 160, 30
"""Longer draws are dropped, as in the official files."""

MAX_REPEATS = 2000
"""A module that draws so many known questions in a row has no new ones left."""

Pair = tuple[str, str]
"""A question and its answer."""


def module_names(level: str) -> tuple[str, ...]:
    """Modules that the package can be asked for.

    Args:
        level: one of `LEVELS`.

    Returns:
        Names such as "numbers__place_value", sorted.

    Raises:
        ValueError: for an unknown level, or without the package.
    """
    return tuple(sorted(_generators(level)))


def extrapolating(modules: Iterable[str], regular: Sequence[str], extrapolate: Iterable[str]) -> tuple[str, ...]:
    """The modules of the extrapolation level that continue some of the regular ones.

    `numbers__place_value_big` continues `numbers__place_value`: a name belongs to the longest regular name it starts
    with. Many modules have no continuation.

    Args:
        modules: regular names, such as those trained on.
        regular: all regular names.
        extrapolate: all names of the extrapolation level.

    Returns:
        Those that belong to `modules`.
    """
    wanted = set(modules)
    parents = {name: max((n for n in regular if name.startswith(n)), key=len, default="") for name in extrapolate}
    return tuple(sorted(name for name, parent in parents.items() if parent in wanted))


def generate(
    modules: Sequence[str], levels: Sequence[str], count: int, *, seed: int | str, exclude: Iterable[str] = ()
) -> list[Pair]:
    """Draws different questions, the same ones for the same arguments, in equal shares of modules and levels.

    Questions are deterministic for given versions of Python, NumPy, SymPy and the package. The global random states
    are left as they were.

    Args:
        modules: names from `module_names`.
        levels: from `LEVELS`; a module is asked at every one of them.
        count: number of questions in all.
        seed: of the draws.
        exclude: questions not to draw.

    Returns:
        Pairs in random order.

    Raises:
        ValueError: for unknown names, a module that fails on the versions installed or runs out of questions, or
            without the package.
    """
    kinds = [(level, module) for module in modules for level in levels]
    for level, module in kinds:
        check_module(module, _generators(level), f"mathematics_dataset at level {level}")
    known = set(exclude)
    pairs: list[Pair] = []
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("generating questions", total=count)
        for index, (level, module) in enumerate(kinds):
            share = count // len(kinds) + (index < count % len(kinds))
            with _seeded(f"{seed} {level} {module}"):
                for pair in _draw(_generators(level)[module], share, known, f"{module} at level {level}"):
                    pairs.append(pair)
                    bar.advance(task)
    random.Random(f"{seed} order").shuffle(pairs)
    return pairs


def read_official(
    source: Path,
    modules: Sequence[str],
    levels: Sequence[str],
    count: int,
    *,
    seed: int | str,
    exclude: Iterable[str] = (),
) -> list[Pair]:
    """Chooses different questions from the official files, in equal shares of modules and levels.

    Args:
        source: the extracted folder (`mathematics_dataset-v1.0`), or the .tar.gz itself, which is read as a stream
            and not unpacked.
        modules: names of files without `.txt`.
        levels: names of folders, from `LEVELS`.
        count: number of questions in all.
        seed: of the choice.
        exclude: questions not to choose.

    Returns:
        Pairs in random order.

    Raises:
        OSError: if the source cannot be read.
        ValueError: for missing levels or modules, damaged or empty files, or too few questions.
    """
    kinds = [(level, module) for module in modules for level in levels]
    names = official_names(source)
    for level, module in kinds:
        check_module(module, names.get(level, ()), f"{source} at level {level}")
    known = set(exclude)
    pairs: list[Pair] = []
    for (level, module), text in _texts(source, kinds):
        index = kinds.index((level, module))
        share = count // len(kinds) + (index < count % len(kinds))
        where = f"{level}/{module}.txt in {source}"
        lines = _question_lines(text, where)
        chosen = 0
        for i in random.Random(f"{seed} {level} {module}").sample(range(len(lines) // 2), len(lines) // 2):
            if chosen == share:
                break
            if lines[2 * i] not in known:
                known.add(lines[2 * i])
                pairs.append((lines[2 * i], lines[2 * i + 1]))
                chosen += 1
        if chosen < share:
            raise ValueError(f"{where} has only {chosen} questions that are not in use, not {share}; ask for fewer")
    pairs.sort()
    random.Random(f"{seed} order").shuffle(pairs)
    return pairs


@functools.lru_cache(maxsize=4)
def official_names(source: Path) -> dict[str, tuple[str, ...]]:
    """Levels and modules in the official folder or tarball.

    Args:
        source: folder or .tar.gz.

    Returns:
        Level to names of modules, sorted.

    Raises:
        OSError: if the source cannot be read.
        ValueError: if it holds no level at all.
    """
    if source.is_dir():
        files = [(file.parent.name, file.stem) for level in LEVELS for file in (source / level).glob("*.txt")]
    else:
        with _opened(source) as archive:
            files = [kind for member in archive if (kind := _kind(member.name))]
    names = {level: tuple(sorted(name for at, name in files if at == level)) for level in LEVELS}
    if not files:
        raise ValueError(f"{source} has none of the folders {', '.join(LEVELS)}; name mathematics_dataset-v1.0 itself")
    return {level: found for level, found in names.items() if found}


def is_official(source: Path) -> bool:
    """Whether a path looks like the official files: a tarball, or a folder with a folder of some level."""
    if source.is_dir():
        return any((source / level).is_dir() for level in LEVELS)
    return source.is_file() and source.name.endswith((".tar.gz", ".tgz", ".tar"))


def check_module(module: str, names: Iterable[str], where: str) -> None:
    """Refuses a module that is not there, naming the ones that are spelled alike.

    Args:
        module: the name.
        names: those there are.
        where: for the message.

    Raises:
        ValueError: if it is not there.
    """
    names = list(names)
    if module in names:
        return
    if not names:
        raise ValueError(f"{where}: there is no such level")
    close = difflib.get_close_matches(module, names, n=3, cutoff=0.5) or names[:3]
    raise ValueError(f"{where} has no module {module}; there are {len(names)}, such as {', '.join(close)}")


def _question_lines(text: str, where: str) -> list[str]:
    """Alternating questions and answers."""
    lines = text.splitlines()
    if not lines:
        raise ValueError(f"{where} is empty")
    if len(lines) % 2:
        raise ValueError(f"{where} has {len(lines)} lines: an odd number, so a question or an answer is missing")
    return lines


def _texts(source: Path, kinds: Sequence[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], str]]:
    """The files of (level, module), one at a time: each is tens of megabytes."""
    if source.is_dir():
        for level, module in kinds:
            yield (level, module), (source / level / f"{module}.txt").read_text(encoding="utf-8")
        return
    missing = set(kinds)
    with _opened(source) as archive:
        for member in archive:
            kind = _kind(member.name)
            if kind in missing and (stream := archive.extractfile(member)) is not None:
                yield kind, stream.read().decode("utf-8")
                missing.remove(kind)
                if not missing:
                    return


@contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(source, "r|*") as archive:
            yield archive
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{source} is damaged or no tarball: {error}") from None


def _kind(name: str) -> tuple[str, str] | None:
    """(level, module) of a member of the tarball."""
    path = Path(name)
    return (path.parent.name, path.stem) if path.suffix == ".txt" and path.parent.name in LEVELS else None


def _draw(draw: Callable[[], Any], count: int, known: set[str], name: str) -> Iterator[Pair]:
    """Draws questions that are not known yet, and remembers them."""
    found = repeats = 0
    while found < count:
        try:
            problem = draw()
            question, answer = str(problem.question), str(problem.answer)
        except Exception as error:
            raise ValueError(
                f"mathematics_dataset cannot generate {name} with NumPy {np.__version__} and SymPy "
                f"{importlib.import_module('sympy').__version__} ({type(error).__name__}: {error}); "
                "read this module from the official files instead"
            ) from error
        if question in known or len(question) > LONGEST_QUESTION or len(answer) > LONGEST_ANSWER:
            repeats += 1
            if repeats == MAX_REPEATS:
                raise ValueError(f"{name} has only {found} questions that are not in use, not {count}; ask for fewer")
            continue
        repeats = 0
        found += 1
        known.add(question)
        yield question, answer


@contextmanager
def _seeded(seed: str) -> Iterator[None]:
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


def _generators(level: str) -> Mapping[str, Callable[[], Any]]:
    """Module name to the function that draws a problem."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
    return _all_generators()[level]


@functools.lru_cache(maxsize=1)
def _all_generators() -> dict[str, dict[str, Callable[[], Any]]]:
    modules = _bridged_package()
    nested = {level: modules.train(functools.partial(_third, index)) for index, level in enumerate(TRAINING_LEVELS)} | {
        "interpolate": modules.test(),
        "extrapolate": modules.test_extra(),
    }
    return {
        level: {f"{area}__{name}": draw for area, draws in areas.items() for name, draw in draws.items()}
        for level, areas in nested.items()
    }


def _third(index: int, entropy: tuple[float, float]) -> tuple[float, float]:
    """The easy, medium or hard third of a range of entropies, as the package's own generator splits it."""
    low, high = entropy
    return low + index * (high - low) / 3, low + (index + 1) * (high - low) / 3


_importing = threading.Lock()


def _bridged_package() -> Any:
    """`mathematics_dataset.modules.modules`, made to run on today's libraries."""
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
