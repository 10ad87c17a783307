"""JSON that anybody may have made, read against a schema: what is wrong is one line that names file and field.

Pydantic is imported with this file, so commands import it when they read, not when they print their help.
"""

import functools
import json
import os
from collections import Counter
from fractions import Fraction
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from lorakappa.shared.array_files import open_regular
from lorakappa.shared.failures import one_line
from lorakappa.shared.memory import check_memory

T = TypeVar("T")

BYTES_PER_BYTE = 8
"""Memory that parsed JSON takes, at least, for each byte of the file."""

MOST_DIGITS = 200
"""Of the numerator and the denominator of a fraction: replays with so many take seconds, with 1000 they may take hours.

Those of certified counterexamples have ten or so."""


class Part(BaseModel):
    """Base of schemas: entries that they do not name are let through unread."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads JSON: UTF-8 (a byte order mark is skipped), no key twice, no NaN or Infinity.

    Args:
        path: the file.

    Returns:
        The data.

    Raises:
        OSError: if the file cannot be read or is no regular one.
        ValueError: if it is not JSON, with the reason.
        TooLargeError: if it cannot fit into memory, before it is read.
    """
    where = os.fspath(path)
    with open_regular(path) as stream:
        check_memory(BYTES_PER_BYTE * os.fstat(stream.fileno()).st_size, f"reading {where}")
        content = stream.read()
    return parse_json(content, where)


def parse_json(content: bytes, where: str) -> Any:
    """As `read_json`, from bytes.

    Args:
        content: of the file.
        where: it is, for messages.

    Returns:
        The data.

    Raises:
        ValueError: if it is not JSON, with the reason.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{where} is not JSON: it is no text in UTF-8") from None
    return parse_text(text, where)


def parse_text(text: str, where: str) -> Any:
    """As `parse_json`, from text, which must not begin with a byte order mark."""
    try:
        found = json.loads(text, object_pairs_hook=_different_keys, parse_constant=_no_constant)
        if "\\ud" in text.lower():  # an escape of half a character may stand alone: no file can hold it
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except UnicodeEncodeError:
        raise ValueError(f"{where} is not JSON: it has half a character by an escape \\ud800 to \\udfff") from None
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from None
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None


def read_model(path: str | os.PathLike[str], model: type[T], *, what: str = "") -> T:
    """Reads JSON against a schema.

    Args:
        path: the file.
        model: a subclass of `Part` (or list[…] of one, …).
        what: the file should be, such as "a file written by verify --json".

    Returns:
        The validated data.

    Raises:
        OSError: if the file cannot be read or is no regular one.
        ValueError: if it is not JSON or not what the schema says: names file, field and what is wrong.
        TooLargeError: if it cannot fit into memory, before it is read.
    """
    where = os.fspath(path)
    try:
        data = read_json(path)
    except ValueError as error:
        reason = "it " + str(error).removeprefix(f"{where} ") if str(error).startswith(f"{where} ") else str(error)
        raise ValueError(f"{where} is not {what}: {reason}" if what else str(error)) from None
    return validated(data, model, where, what=what)


def validated(data: Any, model: type[T], where: str, *, what: str = "") -> T:
    """Checks data against a schema.

    Args:
        data: as from `read_json`.
        model: as in `read_model`.
        where: it comes from, for messages.
        what: it should be.

    Returns:
        The validated data.

    Raises:
        ValueError: names the place, field and what is wrong.
    """
    try:
        found: T = _schema(model).validate_python(data)  # type: ignore[arg-type]  # types can be hashed
    except ValidationError as error:
        expected = f" is not {what}" if what else ""
        raise ValueError(f"{where}{expected}: {_first(error)}") from None
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None
    return found


@functools.cache
def _schema(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def rational(value: Any) -> Fraction:
    """A fraction as verdicts write it, "-17/16", or a whole or decimal number.

    Args:
        value: text, or a number of JSON.

    Returns:
        The fraction.

    Raises:
        ValueError: if it is none, its denominator is 0, or it has more than `MOST_DIGITS` digits.
    """
    if isinstance(value, Fraction):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a fraction such as 17/16")
    if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        raise ValueError(f"has more than {MOST_DIGITS} digits")
    text = str(value).strip().lower()
    numerator, _, denominator = text.partition("/")
    mantissa, _, exponent = numerator.partition("e")
    if max(len(mantissa), len(denominator)) > MOST_DIGITS:
        raise ValueError(f"has more than {MOST_DIGITS} digits")
    if len(exponent.lstrip("+-0")) > 3 or (exponent and abs(_whole(exponent)) > MOST_DIGITS):
        raise ValueError(f"{_short(text)} has more than {MOST_DIGITS} digits")
    try:
        return Fraction(text)
    except ZeroDivisionError:
        raise ValueError(f"{_short(text)} has the denominator 0") from None
    except ValueError:
        raise ValueError(f"must be a fraction such as 17/16, not {_short(text)!r}") from None


Rational = Annotated[Fraction, BeforeValidator(rational)]
"""A fraction in a schema, read by `rational`."""


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a fraction such as 17/16; {_short(text)!r} is no exponent") from None


def _short(text: str) -> str:
    text = one_line(text)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _different_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it has the key {_short(twice)!r} twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _first(error: ValidationError) -> str:
    """The first problem as FIELD: what is wrong; how many more there are."""
    problems = error.errors(include_url=False, include_input=True, include_context=False)
    first = problems[0]
    # a number is an index, the name of a validator is no field
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{_short(part)}" for part in first["loc"]).lstrip(".")
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    value = first["input"]
    if first["type"] not in ("missing", "value_error") and isinstance(value, str | int | float | bool | None):
        message += f", not {_short(json.dumps(value, ensure_ascii=False))}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{field}: {message}{more}" if field else f"{message}{more}"
