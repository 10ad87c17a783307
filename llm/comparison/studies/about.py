"""What the folder of a study says of itself: the study's file, and what a command put in the place of its entries."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from lorakappa.llm.comparison.studies.files import parse_study
from lorakappa.llm.comparison.studies.progress import Progress
from lorakappa.llm.comparison.studies.stages import StudyFolder
from lorakappa.llm.comparison.studies.study import Study
from lorakappa.llm.data.splits import Splits, read_splits
from lorakappa.shared.records import write_bytes, write_json
from lorakappa.shared.schemas import read_model

STUDY, ABOUT = "study.toml", "about.json"


class About(BaseModel):
    """about.json: what is not in the study's file.

    Attributes:
        name: of the study.
        model: in the place of the file's; None for that.
        data: likewise.
        source: description of the data.
        digest: of the splits.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    name: str
    model: str | None
    data: str | None
    source: str
    digest: str


@dataclass(frozen=True)
class Described:
    """A study with what its folder says of it."""

    study: Study
    text: str
    about: About


def describe(folder: Path, text: str, about: About) -> Described:
    """Writes the description of a study into its folder.

    Args:
        folder: of the study; created if need be.
        text: of its file.
        about: the rest.

    Returns:
        The study.

    Raises:
        OSError: if the folder cannot be written.
        ValueError: if the text is no study.
    """
    study = parse_study(text, f"{about.name}.toml", model=about.model, data=about.data)
    write_bytes(folder / STUDY, text.encode())
    write_json(folder / ABOUT, about.model_dump())
    return Described(study, text, about)


def described(folder: Path) -> Described:
    """Reads what `describe` wrote.

    Raises:
        OSError: if there is none, or it cannot be read.
        ValueError: if it is damaged.
    """
    if not (folder / ABOUT).is_file():
        raise FileNotFoundError(f"{folder} is no folder of a study: it has no {ABOUT}")
    about = read_model(folder / ABOUT, About, what="the description of a study")
    text = (folder / STUDY).read_text(encoding="utf-8")
    return Described(parse_study(text, f"{about.name}.toml", model=about.model, data=about.data), text, about)


def splits_in(folder: Path, study: Study) -> Splits | None:
    """The data that a study's folder keeps, which need not be loaded or generated again.

    Args:
        folder: of the study.
        study: that wants data.

    Returns:
        The data; None if the folder has none, or it is of another source.

    Raises:
        ValueError: if what is there is damaged.
    """
    if not (folder / ABOUT).is_file():
        return None
    found = described(folder)
    data = folder / "data" / found.about.digest[:12]
    return read_splits(data) if found.study.data == study.data and data.is_dir() else None


def progress_in(folder: Path, found: Described) -> Progress:
    """How far the study in a folder has come; also while it runs.

    Raises:
        ValueError: if a record is damaged.
    """
    digest = found.about.digest
    return Progress(found.study, StudyFolder(folder, folder / "data" / digest[:12], digest).lookup())
