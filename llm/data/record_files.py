"""Files of records looked through before `datasets` sees them: it ends the whole process on some that hold no records.

Every line of JSON and CSV is read, one at a time: rows must be records, and the columns that are used must hold texts
or numbers, one kind in each. Of Parquet the ends are looked at.
"""

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from lorakappa.shared.memory import check_memory
from lorakappa.shared.schemas import BYTES_PER_BYTE, parse_text

FORMATS: Final = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
"""Loader of `datasets` by ending of a file."""

MOST_COLUMNS: Final = 10_000
"""Columns that a file may have."""

LONGEST_LINE: Final = 64 * 2**20
"""Bytes of one line."""

MAGIC: Final = {
    b"\x1f\x8b": "is compressed (gzip); unpack it first",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"BZh": "is compressed (bzip2); unpack it first",
    b"\xfd7zXZ": "is compressed (xz); unpack it first",
    b"\x28\xb5\x2f\xfd": "is compressed (zstd); unpack it first",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
}
"""First bytes of what is no plain text, and what to do about it."""

PARQUET: Final = b"PAR1"

BOM: Final = b"\xef\xbb\xbf"


def check_file(path: Path, used: Collection[str] | None = None) -> None:
    """Checks that a file holds records.

    Args:
        path: .jsonl, .json, .csv or .parquet.
        used: columns that must hold texts or numbers; None for those of `prompt`, `completion`, `question` and `answer`
            that there are.

    Raises:
        ValueError: if it does not, naming the file, the line and what is wrong.
        OSError: if it cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no regular file")
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path} is empty")
    check_memory(2 * size, f"the records of {path}", "use a part of it")
    if path.suffix == ".parquet":
        _check_parquet(path)
        return
    with path.open("rb") as stream:
        head = stream.read(8)
    for magic, problem in MAGIC.items():
        if head.startswith(magic):
            raise ValueError(f"{path} {problem}")
    if path.suffix != ".csv" and head.startswith(BOM):
        raise ValueError(
            f"{path} begins with a byte order mark, which JSON must not have; save it as UTF-8 without one"
        )
    rows = _csv_rows(path) if path.suffix == ".csv" else _json_rows(path)
    if not _check_rows(path, rows, used):
        raise ValueError(f"{path} has no records")


def check_folder(folder: Path, used: Collection[str] | None = None) -> None:
    """Checks every file of records in a folder, at any depth.

    Raises:
        ValueError: as `check_file`, or if there is none.
        OSError: likewise.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix in FORMATS and not path.is_dir())
    if not found:
        raise ValueError(f"cannot read {folder}: it has no file that ends in {', '.join(FORMATS)}")
    for path in found:
        check_file(path, used)


def _check_rows(path: Path, rows: Iterable[tuple[int, Any]], used: Collection[str] | None) -> int:
    """Checks the rows one at a time and returns their number."""
    wanted = {"prompt", "completion", "question", "answer"} if used is None else set(used)
    kinds: dict[str, str] = {}
    count = 0
    for line, row in rows:
        where = f"{path}, line {line}"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where}: {_kind(row)} where a record {{column: text, …}} is needed")
        if not row:
            raise ValueError(f"{where}: a record without columns")
        if len(row) > MOST_COLUMNS:
            raise ValueError(f"{where}: {len(row)} columns; at most {MOST_COLUMNS} can be read")
        for column, value in row.items():
            kind = _kind(value)
            if column in wanted and kind not in ("text", "a number", "true or false"):
                raise ValueError(f"{where}: {column!r} holds {kind}, no text")
            if kind != "null" and kinds.setdefault(column, kind) != kind:
                raise ValueError(f"{where}: {column!r} holds {kind}, but {kinds[column]} before; a column has one type")
        if count and any(column in kinds and column not in row for column in wanted):
            missing = sorted(column for column in wanted if column in kinds and column not in row)
            raise ValueError(f"{where}: no {missing[0]!r}, which other records have")
        count += 1
    return count


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, record) of JSON lines, or of one JSON value: a list of records, or columns by name."""
    if path.suffix == ".json":
        needed = BYTES_PER_BYTE * path.stat().st_size
        check_memory(needed, f"the JSON of {path}", "write it as .jsonl, which is read line by line")
        text = _text(path.read_bytes(), f"{path}")
        try:
            whole = parse_text(text, f"{path}")
        except ValueError:
            if "\n" not in text.strip():
                raise
        else:
            yield from _whole(whole)
            return
    with path.open("rb") as stream:
        for number in range(1, 2**63):
            raw = stream.readline(LONGEST_LINE)
            if not raw:
                return
            if len(raw) == LONGEST_LINE:
                raise ValueError(f"{path}, line {number} is longer than {LONGEST_LINE // 2**20} MiB")
            if raw.strip():
                where = f"{path}, line {number}"
                yield number, parse_text(_text(raw, where), where)


def _whole(value: Any) -> Iterator[tuple[int, Any]]:
    """The records of a single JSON value; rows count from 1."""
    if isinstance(value, dict) and value and all(isinstance(entry, list) for entry in value.values()):
        if len({len(entry) for entry in value.values()}) != 1:
            raise ValueError("the columns have different lengths")
        value = [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    yield from enumerate(value if isinstance(value, list) else [value], start=1)


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8: {error.reason} at byte {error.start}") from None


def _csv_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, record) of a CSV file with a header."""
    previous = csv.field_size_limit(LONGEST_LINE)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header: list[str] = []
            try:
                for row in reader:
                    if not header:
                        header = row
                        _check_header(path, header)
                    elif row:
                        if len(row) != len(header):
                            raise ValueError(
                                f"{path}, line {reader.line_num}: {len(row)} fields, but the header has {len(header)}"
                            )
                        yield reader.line_num, dict(zip(header, row, strict=True))
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None
            except csv.Error as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    finally:
        csv.field_size_limit(previous)


def _check_header(path: Path, header: list[str]) -> None:
    if len(header) > MOST_COLUMNS:
        raise ValueError(f"{path} has {len(header)} columns; at most {MOST_COLUMNS} can be read")
    if len(set(header)) != len(header):
        raise ValueError(f"{path} has two columns of one name")


def _check_parquet(path: Path) -> None:
    """Its mark at both ends; the rest is for the reader, which trusts no Parquet file."""
    with path.open("rb") as stream:
        head = stream.read(len(PARQUET))
        stream.seek(-min(len(PARQUET), path.stat().st_size), 2)
        tail = stream.read(len(PARQUET))
    if head != PARQUET or tail != PARQUET:
        raise ValueError(f"{path} is no Parquet file, or one that was cut short")
