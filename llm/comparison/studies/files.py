"""Study files: TOML, read against a schema; what is wrong is one line that names file, line and field."""

import hashlib
import json
import math
import re
import tomllib
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorakappa.llm.comparison.protocol import MOST_RUNS, parse_grid
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.comparison.studies.study import DataSource, FreshSeeds, Study, StudyTable, at_steps

FOLDER = Path(__file__).parent
"""Where the studies lie that come with the project."""

Grid = str | float | list[float]
"""A grid as one writes it: "LO:HI:N", a number, or numbers."""

Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Data(_Part):
    source: str = "mathematics"
    modules: list[str] = []
    columns: Annotated[list[str], Field(max_length=2)] = []
    examples: Annotated[list[Count], Field(min_length=3, max_length=3)] = [4000, 128, 256]
    resplit: bool = False
    seed: Annotated[int, Field(ge=0)] = 0


class _Selection(_Part):
    seeds: Count = 2
    extensions: Annotated[int, Field(ge=0)] = 4


class _Fresh(_Part):
    first: Annotated[int, Field(ge=0)] | None = None
    minimum: Count = 10
    step: Count = 5
    maximum: Count = 60


class _Budget(_Part):
    hours: Annotated[float, Field(gt=0, strict=False)] = math.inf
    runs: Count = MOST_RUNS


class _Table(_Part):
    name: str
    methods: list[str]
    ranks: list[int]
    steps: list[Count] = []
    learning_rates: Grid
    scalings: Grid = [1.0]
    starts: Grid = []
    lambdas: Grid = [1.0]
    effective: bool = False
    times_best_rate: Annotated[float, Field(strict=False)] = 1.0
    settings: dict[str, Any] = {}


class _File(_Part):
    summary: str = ""
    delta: Annotated[float, Field(strict=False)] = 0.01
    half_width: Annotated[float, Field(strict=False)] | None = None
    confidence: float = 0.95
    data: _Data = _Data()
    settings: dict[str, Any] = {}
    selection: _Selection = _Selection()
    fresh: _Fresh = _Fresh()
    budget: _Budget = _Budget()
    tables: Annotated[list[_Table], Field(min_length=1)]


def shipped() -> dict[str, Path]:
    """The studies that come with the project, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def find_study(name: str) -> Path:
    """The file of a study.

    Args:
        name: of one that comes with the project, or a file.

    Raises:
        FileNotFoundError: if it is neither.
    """
    known = shipped()
    if name in known:
        return known[name]
    path = Path(name).expanduser()
    if path.suffix != ".toml" or not path.is_file():
        raise FileNotFoundError(f"no study {name}: name a file FILE.toml, or one of {', '.join(known)}")
    return path


def read_study(path: Path, *, model: str | None = None, data: str | None = None) -> Study:
    """Reads a study.

    Args:
        path: FILE.toml; its stem is the study's name.
        model: to put in the place of the file's model.
        data: likewise of its data's source.

    Returns:
        The study, checked.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no study, in one line with the place.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no study: it is no text in UTF-8") from None
    return parse_study(text, path.name, model=model, data=data)


def parse_study(text: str, where: str, *, model: str | None = None, data: str | None = None) -> Study:
    """As `read_study`, from the file's text.

    Args:
        text: of the file.
        where: its name, for messages; without its suffix it names the study.
        model: as there, like the next.
        data: as there.
    """
    try:
        found = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = tuple(part for part in first["loc"] if not _is_type(part))
        raise ValueError(f"{where}{_line(text, place)}: {_field(place)}: {_lower(first['msg'])}") from None
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None
    try:
        settings = _settings(TrainingSettings(), found.settings, "settings")
        if model is not None:
            settings = replace(settings, model=model)
        source: dict[str, Any] = found.data.model_dump() | ({} if data is None else {"source": data})
        seeds = tuple(range(found.selection.seeds))
        return Study(
            name=Path(where).stem,
            summary=found.summary,
            tables=tuple(_table(table, settings, f"tables[{i}]") for i, table in enumerate(found.tables)),
            data=DataSource(**_frozen(source)),
            selection_seeds=seeds,
            extensions=found.selection.extensions,
            fresh=FreshSeeds(**found.fresh.model_dump() | {"first": _first_fresh(found)}),
            delta=found.delta,
            half_width=found.delta if found.half_width is None else found.half_width,
            confidence=found.confidence,
            hours=found.budget.hours,
            runs=found.budget.runs,
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def study_digest(study: Study) -> str:
    """SHA-256 of all that a study asks for, in hexadecimal; neither its name nor its summary counts."""
    contents = asdict(study)
    for name in ("name", "summary"):
        del contents[name]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def _table(table: _Table, settings: TrainingSettings, where: str) -> StudyTable:
    try:
        if "steps" in table.settings:
            raise ValueError("settings: the steps are an axis of the table")
        own = _settings(settings, table.settings, "settings")
        horizons = tuple(table.steps) or (own.steps,)
        return StudyTable(
            name=table.name,
            methods=tuple(table.methods),
            ranks=tuple(table.ranks),
            steps=horizons,
            settings=at_steps(own, max(horizons)),
            learning_rates=_grid(table.learning_rates),
            scalings=_grid(table.scalings),
            starts=_grid(table.starts) if table.starts else (),
            strengths=_grid(table.lambdas),
            effective=table.effective,
            times_best_rate=table.times_best_rate,
        )
    except ValueError as error:
        raise ValueError(f"{where} ({table.name}): {error}") from None


def _settings(base: TrainingSettings, values: dict[str, Any], where: str) -> TrainingSettings:
    """The settings with those values in their place.

    Raises:
        ValueError: on a name that they do not have, or a value of another type.
    """
    known = {each.name: getattr(base, each.name) for each in fields(base)}
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{where}: there is no {name!r}; choose from {', '.join(known)}")
        wanted = type(known[name])
        given = tuple(value) if isinstance(value, list) else value
        if wanted is float and isinstance(given, int) and not isinstance(given, bool):
            given = float(given)
        if type(given) is not wanted or (name == "betas" and [type(v) for v in given] != [float, float]):
            raise ValueError(f"{where}: {name} must be like {known[name]!r}, not {value!r}")
        if name == "targets" and not all(isinstance(target, str) for target in given):
            raise ValueError(f"{where}: targets must be names, not {value!r}")
        chosen[name] = given
    return replace(base, **chosen)


def _frozen(values: dict[str, Any]) -> dict[str, Any]:
    """Tuples for lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _grid(value: Grid) -> tuple[float, ...]:
    if isinstance(value, str):
        return parse_grid(value)
    values = value if isinstance(value, list) else [value]
    return parse_grid(",".join(str(entry) for entry in values))


def _first_fresh(found: _File) -> int:
    """The first fresh seed; the one after the selection's if the file does not say."""
    return found.selection.seeds if found.fresh.first is None else found.fresh.first


def _line(text: str, place: tuple[int | str, ...]) -> str:
    """Where a field stands in the file; empty if it is not there."""
    start, lines = 0, text.splitlines()
    if place[:1] == ("tables",) and len(place) > 1:
        heads = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[\s*tables\s*\]\]", line)]
        index = place[1]
        if isinstance(index, int) and index < len(heads):
            start = heads[index]
    elif len(place) > 1:
        heads = [i for i, line in enumerate(lines) if re.match(rf"\s*\[\s*{re.escape(str(place[0]))}\s*\]", line)]
        start = heads[0] if heads else 0
    name = next((part for part in reversed(place) if isinstance(part, str)), "")
    for i in range(start, len(lines)):
        if name and re.match(rf"\s*(\[\s*)?\"?{re.escape(name)}\"?\s*(=|\])", lines[i]):
            return f", line {i + 1}"
    return f", line {start + 1}" if start else ""


def _field(place: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")


def _is_type(part: int | str) -> bool:
    """Whether a part of a place names a type of a union, and no field."""
    return part in ("str", "float", "list[float]", "int")


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
