"""DeepMind Mathematics from its official files: the extracted folder, or the tarball read as a stream."""

import functools
import random
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lorakappa.llm.data.mathematics import LEVELS, Pair, check_module


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
