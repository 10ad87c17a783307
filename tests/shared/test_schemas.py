"""JSON that anybody may have made: read, or refused in one line that names file and field."""

import subprocess
import sys
from fractions import Fraction
from typing import Annotated

import pytest
from pydantic import Field

from lorakappa.shared import memory
from lorakappa.shared.schemas import MOST_DIGITS, Part, Rational, rational, read_json, read_model


class Inner(Part):
    values: list[Rational]
    size: Annotated[int, Field(ge=1, strict=True)] = 1


class Outer(Part):
    name: str
    inner: Inner | None = None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON: Expecting value"),
        (b"{", "is not JSON: Expecting property name"),
        (b"\xff\xfe{}", "is not JSON: it is no text in UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a": ' * 100_000, "is nested too deeply"),
        (b'{"a": 1, "b": 2, "a": 3}', "it has the key 'a' twice"),
        (b'{"": 0' + b"".join(b', "%d": 0' % i for i in range(10**5)) + b', "99999": 0}', "the key '99999' twice"),
        (b"[NaN]", "NaN is no number of JSON"),
        (b"[-Infinity]", "-Infinity is no number of JSON"),
        (b"[" + b"9" * 10_000 + b"]", "is not JSON: Exceeds the limit"),
        (b'["\\uD800"]', "it has half a character"),
        (b"[1] [2]", "Extra data"),
        (b'["\n"]', "Invalid control character"),
    ],
)
def test_what_is_no_json_is_one_line(content, message, tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_json(file)
    assert str(caught.value).startswith(str(file))
    with pytest.raises(ValueError, match=f"{file} is not what it should be: .*{message}"):
        read_model(file, Outer, what="what it should be")


def test_a_byte_order_mark_is_skipped_and_a_large_number_stays(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"\xce\xba": [1e400, "\\ud83d\\ude00"]}')
    assert read_json(tmp_path / "a.json") == {"κ": [float("inf"), "😀"]}


def test_a_file_beyond_memory_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("[1]")
    monkeypatch.setattr(memory, "available", lambda: 10.0)
    with pytest.raises(
        memory.TooLargeError, match=r"a\.json would take 24 bytes of memory, but only 10 bytes are free"
    ):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "input should be a valid dictionary"),
        ("{}", "name: field required"),
        ('{"name": 3}', "name: input should be a valid string, not 3"),
        ('{"name": "a", "inner": {}}', "inner.values: field required"),
        ('{"name": "a", "inner": {"values": ["1/2", "1/0"]}}', r"inner.values\[1\]: 1/0 has the denominator 0"),
        (
            '{"name": "a", "inner": {"values": [], "size": true}}',
            "inner.size: input should be a valid integer, not true",
        ),
        ('{"name": "a", "inner": {"values": [[], {}]}}', r"inner.values\[0\]: must be a fraction.* \(and 1 more\)"),
    ],
)
def test_what_does_not_fit_the_schema_names_the_field(content, message, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_model(tmp_path / "a.json", Outer)
    assert str(caught.value).startswith(f"{tmp_path}/a.json: ")
    assert "\n" not in str(caught.value)


def test_what_the_schema_does_not_name_is_let_through(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "a", "new": 1, "inner": {"values": ["-17/16", 2, "0.5", 0.25]}}')
    found = read_model(tmp_path / "a.json", Outer)
    assert found.inner is not None
    assert found.inner.values == [Fraction(-17, 16), Fraction(2), Fraction(1, 2), Fraction(1, 4)]
    (tmp_path / "a.json").write_text('[{"name": "a"}, {"name": "b"}]')
    assert [entry.name for entry in read_model(tmp_path / "a.json", list[Outer])] == ["a", "b"]


@pytest.mark.parametrize(
    "value",
    [
        "1e999999999",
        "1e-999999999",
        "1e+0999999999999999999999",
        f"1e{MOST_DIGITS + 1}",
        "9" * (MOST_DIGITS + 1),
        f"1/{'9' * (MOST_DIGITS + 1)}",
        10 ** (MOST_DIGITS + 1),
    ],
)
def test_a_number_of_too_many_digits_is_refused_at_once(value):
    with pytest.raises(ValueError, match=f"has more than {MOST_DIGITS} digits"):
        rational(value)


@pytest.mark.parametrize(
    "value", ["", "x", "1/", "/2", "1/2/3", "nan", "inf", "1ee5", "1e5/2", float("nan"), None, True, [], {}]
)
def test_what_is_no_fraction_is_refused(value):
    with pytest.raises(ValueError, match="must be a fraction such as 17/16"):
        rational(value)


def test_the_command_lines_load_no_schemas():
    code = """
import sys
import lorakappa.__main__, lorakappa.synthetic.command, lorakappa.llm.command, lorakappa.figures.command
print([name for name in sys.modules if name.startswith("pydantic")])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
