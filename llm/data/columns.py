"""Data sets with columns, from the hub, a folder or a file: two of the columns, or texts made of several, are read."""

import string
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lorakappa.llm.data.record_files import FORMATS, check_file, check_folder
from lorakappa.llm.data.splits import Example
from lorakappa.shared.failures import first_line

ALIASES = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",), "train": ("train",)}
"""Names that data sets give to their splits; of several the first one counts."""


def read_columns(source: str, path: Path, columns: tuple[str, str] | None) -> dict[str, list[Example]]:
    """All examples of a data set, by the splits that it has.

    Args:
        source: as of `llm.data.sources.load_splits`.
        path: the same as a path, which need not exist.
        columns: likewise.

    Returns:
        Name of a split to its examples.

    Raises:
        OSError: if the source cannot be read or reached.
        ValueError: for an unknown format, damaged data or missing columns.
    """
    if columns is not None:
        check_columns(columns)
    if not path.exists() and (source.startswith((".", "/", "~")) or path.suffix in FORMATS):
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_file() and path.suffix not in FORMATS:
        raise ValueError(
            f"{path} must be one of {', '.join(FORMATS)}, a folder of such files or a .tar.gz of DeepMind's"
        )
    if path.exists():
        used = None if columns is None else _fields(columns) if any("{" in text for text in columns) else set(columns)
        (check_folder if path.is_dir() else check_file)(path, used)
    import datasets

    with ExitStack() as stack:
        options: dict[str, Any] = {}
        if path.exists():
            options["cache_dir"] = stack.enter_context(tempfile.TemporaryDirectory())
        if path.is_file():
            arguments: tuple[Any, ...] = (FORMATS[path.suffix],)
            options["data_files"] = str(path)
        else:
            name, _, configuration = (str(path), "", "") if path.is_dir() else source.partition(":")
            arguments = (name, configuration or None)
        bars = not datasets.are_progress_bars_disabled()
        datasets.disable_progress_bars()
        try:
            table = datasets.load_dataset(*arguments, **options)
        except (ConnectionError, FileNotFoundError, datasets.exceptions.DatasetNotFoundError) as error:
            if path.exists():
                raise ValueError(f"cannot read {path}: {first_line(error)}") from None
            raise OSError(
                f"cannot load the data set {source}: no such file or folder, and the hub is not reachable or does "
                f"not have it; download it elsewhere and name its folder ({first_line(error)})"
            ) from None
        except Exception as error:  # whatever the readers of `datasets` make of a damaged file
            raise ValueError(f"cannot read the data set {source}: {first_line(error.__cause__ or error)}") from None
        finally:
            if bars:
                datasets.enable_progress_bars()
        splits = {
            name: table[alias] for name, aliases in ALIASES.items() for alias in reversed(aliases) if alias in table
        }
        return {name: _examples(split, source, columns) for name, split in splits.items()}


def _examples(table: Any, source: str, columns: tuple[str, str] | None) -> list[Example]:
    names = table.column_names
    if columns and any("{" in text for text in columns):
        return _filled(table, source, columns)
    choices = [columns] if columns else [("prompt", "completion"), ("question", "answer")]
    found = next((pair for pair in choices if set(pair) <= set(names)), None)
    if found is None:
        wanted = " or ".join(f"{prompt} and {completion}" for prompt, completion in choices)
        raise ValueError(f"{source} has the columns {', '.join(names)}, not {wanted}; name the two to use")
    joint = "\n" if columns is None and found == ("question", "answer") else ""
    rows: Iterable[tuple[Any, Any]] = zip(table[found[0]], table[found[1]], strict=True)
    examples = []
    for prompt, completion in rows:
        if (
            prompt is None
            or completion is None
            or isinstance(prompt, list | dict)
            or isinstance(completion, list | dict)
        ):
            raise ValueError(f"{source} has rows whose {found[0]} or {found[1]} is no text")
        examples.append(Example(f"{prompt}{joint}", str(completion)))
    return examples


def _filled(table: Any, source: str, templates: tuple[str, str]) -> list[Example]:
    """Examples whose texts are made of several columns."""
    fields = _fields(templates)
    missing = sorted(fields - set(table.column_names))
    if missing:
        raise ValueError(f"{source} has the columns {', '.join(table.column_names)}, not {', '.join(missing)}")
    examples = []
    for values in zip(*(table[field] for field in fields), strict=True):
        if any(value is None or isinstance(value, list | dict) for value in values):
            raise ValueError(f"{source} has rows where one of {', '.join(sorted(fields))} is no text")
        row = dict(zip(fields, values, strict=True))
        examples.append(Example(templates[0].format_map(row), templates[1].format_map(row)))
    return examples


def check_columns(columns: tuple[str, str]) -> None:
    """Checks names or templates of columns, before anything is read.

    Raises:
        ValueError: for a template with unbalanced braces, or with more than a name in a pair of them.
    """
    if not any("{" in text for text in columns):
        return
    try:
        parsed = [part for text in columns for part in string.Formatter().parse(text)]
    except ValueError as error:
        raise ValueError(f"{', '.join(columns)} is no template: {error}") from None
    for _, field, format_, conversion in parsed:
        if field is not None and (not field or format_ or conversion or any(sign in field for sign in ".[]{}")):
            raise ValueError(f"{', '.join(columns)} is no template: braces hold the name of a column and nothing else")


def _fields(templates: tuple[str, str]) -> set[str]:
    """The columns that templates name."""
    return {field for text in templates for _, field, _, _ in string.Formatter().parse(text) if field is not None}
