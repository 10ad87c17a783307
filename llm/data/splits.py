"""Prompts and completions for supervised fine-tuning: train, validation and test with no prompt in common.

Inside one split a prompt may have several completions, as in data with several references. Where splits come from is
the matter of `llm.data.sources`, what a model makes of them that of `llm.data.tokens`.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from lorakappa.shared.records import write_bytes, write_json
from lorakappa.shared.schemas import parse_json, validated
from lorakappa.shared.whole_folders import whole_folder

SPLITS = ("train", "validation", "test", "extrapolate")


@dataclass(frozen=True)
class Example:
    """A prompt and what should follow it, joined as they are."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Splits:
    """The data of a fine-tune; no prompt occurs in two splits.

    Attributes:
        train: to learn from.
        validation: of the same distribution, to choose by.
        test: to report.
        extrapolate: harder than anything in the others; may be empty.
        source: where they come from, in words.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    extrapolate: tuple[Example, ...]
    source: str

    @property
    def digest(self) -> str:
        """SHA-256 of the contents, in hexadecimal; the source does not count."""
        contents = [[[e.prompt, e.completion] for e in getattr(self, name)] for name in SPLITS]
        return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


class _About(BaseModel):
    """What splits.json holds."""

    model_config = ConfigDict(strict=True)
    source: str
    digest: str


class _Line(BaseModel):
    """A line of NAME.jsonl."""

    model_config = ConfigDict(strict=True, extra="forbid")
    prompt: str
    completion: str


Model = TypeVar("Model", bound=BaseModel)


def _parsed(model: type[Model], place: Path, text: bytes, line: int | None = None) -> Model:
    """One JSON value of a file.

    Raises:
        ValueError: naming the file, the line and the field.
    """
    where = place.name if line is None else f"{place.name}, line {line}"
    try:
        return validated(parse_json(text, where), model, where)
    except ValueError as error:
        raise ValueError(f"{place.parent} is damaged ({error}); delete it to have it written again") from None


def _examples(file: Path) -> Iterator[Example]:
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if line:
            found = _parsed(_Line, file, line, number)
            yield Example(found.prompt, found.completion)


def save_splits(splits: Splits, folder: Path) -> Path:
    """Writes splits as JSON lines: whole or not at all.

    Args:
        splits: what to write.
        folder: to create; where it holds the same splits already, it is left as it is.

    Returns:
        The folder.

    Raises:
        OSError: if the folder holds something else or cannot be written.
    """
    if folder.exists():
        if read_splits(folder).digest != splits.digest:
            raise FileExistsError(f"{folder} holds other data; nothing was written")
        return folder
    try:
        with whole_folder(folder) as temporary:
            for name in SPLITS:
                lines = [json.dumps({"prompt": e.prompt, "completion": e.completion}) for e in getattr(splits, name)]
                write_bytes(temporary / f"{name}.jsonl", "".join(line + "\n" for line in lines).encode())
            write_json(temporary / "splits.json", {"source": splits.source, "digest": splits.digest})
    except OSError:
        if not folder.is_dir() or read_splits(folder).digest != splits.digest:  # not written by another process, either
            raise
    return folder


def read_splits(folder: Path) -> Splits:
    """Reads splits written by `save_splits`.

    Args:
        folder: with splits.json and the .jsonl files.

    Returns:
        The splits.

    Raises:
        OSError: if files are missing or cannot be read.
        ValueError: if they are not what was written.
    """
    if not (folder / "splits.json").is_file():
        raise FileNotFoundError(f"{folder} has no splits.json; name a folder written by save_splits")
    about = _parsed(_About, folder / "splits.json", (folder / "splits.json").read_bytes())
    contents = {name: tuple(_examples(folder / f"{name}.jsonl")) for name in SPLITS}
    splits = Splits(**contents, source=about.source)
    if splits.digest != about.digest:
        raise ValueError(f"{folder} was changed after it was written; delete it to have it written again")
    return splits
