"""Where splits come from: DeepMind Mathematics, generated or official, or any data set with columns."""

import functools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from lorakappa.llm.data.columns import check_columns, read_columns
from lorakappa.llm.data.mathematics import (
    FINE_TUNING_MODULES,
    TOPIC_MODULES,
    TRAINING_LEVELS,
    Pair,
    extrapolating,
    generate,
    generate_topics,
    module_names,
)
from lorakappa.llm.data.mathematics_files import is_official, official_names, read_official
from lorakappa.llm.data.splits import SPLITS, Example, Splits
from lorakappa.shared.memory import check_memory

EXAMPLE_BYTES = 1000
"""A short prompt and completion as Python's texts, and their tokens."""

MATHEMATICS = "mathematics"
"""The source that is generated on the spot."""

TOPICS = "mathematics-topics"
"""The same questions, to be answered with the name of their module."""


def load_splits(
    source: str,
    *,
    modules: Sequence[str] = (),
    train: int,
    validation: int,
    test: int,
    seed: int = 0,
    columns: tuple[str, str] | None = None,
    resplit: bool = False,
) -> Splits:
    """Loads, or generates, data for a fine-tune.

    DeepMind Mathematics is trained and validated on its training levels in equal shares and tested on "interpolate";
    where its modules have an "extrapolate" level, as many questions of that are added (not to topics). Its prompts end
    with the line break between question and answer. All else is read by `datasets.load_dataset` and keeps the splits
    that it has; those it lacks are cut from its train split.

    Args:
        source: "mathematics" to generate questions; "mathematics-topics" to generate questions whose answer is the name
            of their module (`llm.data.mathematics.generate_topics`); the folder or .tar.gz of the official files; or a
            hub id ("owner/name", or "owner/name:configuration"), a folder or a .jsonl, .json, .csv or .parquet file.
        modules: of DeepMind Mathematics; empty for `FINE_TUNING_MODULES`, or `TOPIC_MODULES`, of
            `llm.data.mathematics`.
        train: number of training examples.
        validation: number of validation examples.
        test: number of test examples.
        seed: of the draws or of the choice.
        columns: names of the prompt and completion columns, or texts with such names in braces ("{a}, {b}? "); None
            looks for prompt and completion, then for question and answer, which are joined by a line break.
        resplit: whether to cut all splits from the train split of a data set that has others, such as one whose test
            answers are hidden.

    Returns:
        The splits, in random order.

    Raises:
        OSError: if the source cannot be read or reached.
        ValueError: for too few examples, missing columns, or unknown or failing modules.
    """
    sizes = {"train": train, "validation": validation, "test": test}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")
    path = Path(source).expanduser()
    check_memory(EXAMPLE_BYTES * sum(sizes.values()), f"{sum(sizes.values())} examples", "ask for fewer (--examples)")
    if source in (MATHEMATICS, TOPICS) or is_official(path):
        if columns is not None:
            raise ValueError(f"columns are for data sets that have some; {source} is questions and answers")
        default = TOPIC_MODULES if source == TOPICS else FINE_TUNING_MODULES
        return _mathematics(source, tuple(dict.fromkeys(modules)) or default, sizes, seed)
    if modules:
        raise ValueError(f"modules are for DeepMind Mathematics; {source} has none")
    if columns is not None:
        check_columns(columns)
    return _table(source, path, sizes, seed, columns, resplit)


def _mathematics(source: str, modules: tuple[str, ...], sizes: Mapping[str, int], seed: int) -> Splits:
    levels = {"test": ("interpolate",), "validation": TRAINING_LEVELS, "train": TRAINING_LEVELS}
    if source == MATHEMATICS:
        read, origin = generate, "DeepMind Mathematics, generated"
        regular, harder = module_names("interpolate"), module_names("extrapolate")
    elif source == TOPICS:
        read, origin = generate_topics, "topics of DeepMind Mathematics, generated"
        regular, harder = (), ()
    else:
        path = Path(source).expanduser()
        read, origin = functools.partial(read_official, path), f"DeepMind Mathematics, {path.name}"
        names = official_names(path)
        regular, harder = names.get("interpolate", ()), names.get("extrapolate", ())
    pairs: dict[str, list[Pair]] = {}
    used: set[str] = set()
    for name, at in levels.items():
        pairs[name] = read(modules, at, sizes[name], seed=f"{seed} {name}", exclude=used)
        used.update(question for question, _ in pairs[name])
    continued = extrapolating(modules, regular, harder)
    pairs["extrapolate"] = (
        read(continued, ("extrapolate",), sizes["test"], seed=f"{seed} extrapolate", exclude=used) if continued else []
    )
    examples = {name: tuple(Example(question + "\n", answer) for question, answer in pairs[name]) for name in SPLITS}
    return Splits(**examples, source=f"{origin}: {', '.join(modules)}; seed {seed}")


def _table(
    source: str, path: Path, sizes: Mapping[str, int], seed: int, columns: tuple[str, str] | None, resplit: bool
) -> Splits:
    """Splits of a data set with columns."""
    pools = read_columns(source, path, columns)
    if "train" not in pools:
        raise ValueError(f"{source} has no train split, only {', '.join(pools)}")
    if resplit:
        pools = {"train": pools["train"]}
    chosen: dict[str, tuple[Example, ...]] = {}
    used: set[str] = set()
    for name in ("test", "validation", "train"):
        own = name if name in pools else "train"
        pool = [e for e in dict.fromkeys(pools[own]) if e.prompt not in used]
        if len(pool) < sizes[name]:
            raise ValueError(
                f"{source} has {len(pool)} different examples left for {name} in its {own} split, not {sizes[name]}; "
                "ask for fewer"
            )
        random.Random(f"{seed} {name}").shuffle(pool)
        chosen[name] = tuple(pool[: sizes[name]])
        used.update(e.prompt for e in chosen[name])
    return Splits(**chosen, extrapolate=(), source=f"{source}; seed {seed}")
