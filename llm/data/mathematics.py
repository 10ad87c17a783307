"""DeepMind Mathematics: its levels and modules, and questions generated on the spot.

The official files (2.2 GiB), read by `llm.data.mathematics_files`, are what papers report on. Where they are not at
hand the package `mathematics_dataset` that wrote them draws the same kinds of questions anew, without a download.
"""

import difflib
import functools
import importlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lorakappa.llm.data.mathematics_bridge import bridged_package, seeded
from lorakappa.shared.forecast import tracked

TRAINING_LEVELS = ("train-easy", "train-medium", "train-hard")
LEVELS = (*TRAINING_LEVELS, "interpolate", "extrapolate")
"""Folders of the official files, and their counterparts when questions are generated."""

FINE_TUNING_MODULES = ("measurement__time", "numbers__place_value", "numbers__round_number")
"""What fine-tunes learn by default: short questions that the tiny model was not pretrained on."""

TOPIC_MODULES = (
    "algebra__linear_1d",
    "arithmetic__add_or_sub",
    "arithmetic__add_or_sub_in_base",
    "arithmetic__add_sub_multiple",
    "arithmetic__div",
    "arithmetic__mixed",
    "arithmetic__mul",
    "arithmetic__mul_div_multiple",
    "comparison__pair",
    "comparison__sort",
    "measurement__conversion",
    "measurement__time",
    "numbers__base_conversion",
    "numbers__is_factor",
    "numbers__is_prime",
    "numbers__list_prime_factors",
    "numbers__place_value",
    "numbers__round_number",
    "polynomials__evaluate",
)
"""Topics that are told apart by default: the modules whose questions have fewer than 50 characters on average."""

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
    return [pair for _, pair in _drawn(modules, levels, count, seed=seed, exclude=exclude)]


def generate_topics(
    modules: Sequence[str], levels: Sequence[str], count: int, *, seed: int | str, exclude: Iterable[str] = ()
) -> list[Pair]:
    """The questions of `generate`, with the name of their module, without its area, in place of the answer.

    What a question is about is easier to learn than what its answer is. The name of numbers__place_value is
    "place_value". No question occurs twice, so that none has two names.

    Args:
        modules: as of `generate`.
        levels: as of `generate`.
        count: as of `generate`.
        seed: as of `generate`.
        exclude: as of `generate`.

    Returns:
        Pairs in random order.

    Raises:
        ValueError: as from `generate`.
    """
    drawn = _drawn(modules, levels, count, seed=seed, exclude=exclude)
    return [(question, module.partition("__")[2]) for module, (question, _) in drawn]


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


def _drawn(
    modules: Sequence[str], levels: Sequence[str], count: int, *, seed: int | str, exclude: Iterable[str]
) -> list[tuple[str, Pair]]:
    """Each question of `generate` with its module."""
    kinds = [(level, module) for module in modules for level in levels]
    for level, module in kinds:
        check_module(module, _generators(level), f"mathematics_dataset at level {level}")
    known = set(exclude)
    found: list[tuple[str, Pair]] = []
    steps = tracked(count, "generating questions")
    for index, (level, module) in enumerate(kinds):
        share = count // len(kinds) + (index < count % len(kinds))
        with seeded(f"{seed} {level} {module}"):
            for pair in _draw(_generators(level)[module], share, known, f"{module} at level {level}"):
                found.append((module, pair))
                next(steps)
    steps.close()
    random.Random(f"{seed} order").shuffle(found)
    return found


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


def _generators(level: str) -> Mapping[str, Callable[[], Any]]:
    """Module name to the function that draws a problem."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, not {level!r}")
    return _all_generators()[level]


@functools.lru_cache(maxsize=1)
def _all_generators() -> dict[str, dict[str, Callable[[], Any]]]:
    modules = bridged_package()
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
