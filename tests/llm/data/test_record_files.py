"""Files that hold no records are told in one line before `datasets`, which some of them kill, sees them."""

import json
import os

import pytest

from lorakappa.llm.data import record_files
from lorakappa.llm.data.columns import check_columns
from lorakappa.llm.data.record_files import check_file, check_folder
from lorakappa.llm.data.sources import load_splits

GOOD = '{"prompt": "a", "completion": "b"}\n'

BAD = {
    "null": ("x.jsonl", "null\n", "line 1: null where a record"),
    "nulls": ("x.jsonl", GOOD + "null\n", "line 2: null where a record"),
    "scalars": ("x.jsonl", "1\n2\n", "line 1: a number where a record"),
    "text": ("x.jsonl", '"x"\n', "line 1: text where a record"),
    "array of scalars": ("x.json", "[1, 2]", "line 1: a number where a record"),
    "null in JSON": ("x.json", "null", "null where a record"),
    "array in lines": ("x.jsonl", "[1, 2]\n", "line 1: a list where a record"),
    "nothing in it": ("x.json", "[]", "has no records"),
    "blank": ("x.jsonl", "\n\n", "has no records"),
    "no columns": ("x.jsonl", "{}\n", "line 1: a record without columns"),
    "null text": ("x.jsonl", '{"prompt": "a", "completion": null}\n', "'completion' holds null, no text"),
    "nested text": ("x.jsonl", '{"prompt": {"a": [1]}, "completion": "b"}\n', "'prompt' holds an object, no text"),
    "mixed": ("x.jsonl", GOOD + '{"prompt": 1, "completion": "b"}\n', "'prompt' holds a number, but text before"),
    "mixed elsewhere": (
        "x.jsonl",
        '{"prompt": "a", "completion": "b", "k": 1}\n{"prompt": "a", "completion": "b", "k": [1]}\n',
        "'k' holds a list, but a number before",
    ),
    "missing": ("x.jsonl", GOOD + '{"prompt": "a"}\n', "line 2: no 'completion', which other records have"),
    "deep": ("x.jsonl", "[" * 100_000 + "\n", "line 1 is nested too deeply"),
    "a key twice": (
        "x.jsonl",
        GOOD + '{"prompt": "a", "completion": "b", "prompt": "c"}\n',
        "line 2 is not JSON: it has the key 'prompt' twice",
    ),
    "a mark inside": ("x.jsonl", GOOD + "\ufeff" + GOOD, "line 2 is not JSON"),
    "no number": ("x.jsonl", '{"prompt": NaN, "completion": "b"}\n', "NaN is no number of JSON"),
    "half a character": ("x.jsonl", '{"prompt": "\\ud800", "completion": "b"}\n', "has half a character"),
    "cut short": ("x.jsonl", GOOD + '{"prompt": "a', "line 2 is not JSON"),
    "empty": ("x.jsonl", "", "is empty"),
    "binary": ("x.jsonl", b"\x80\x81\x82", "line 1 is not UTF-8"),
    "latin-1": ("x.csv", "prompt,completion\né,b\n".encode("latin-1"), "is not UTF-8"),
    "utf-16": ("x.jsonl", GOOD.encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "bom": ("x.jsonl", b"\xef\xbb\xbf" + GOOD.encode(), "begins with a byte order mark"),
    "gzip": ("x.jsonl", b"\x1f\x8b\x08\x00aaaaaaa", "is compressed (gzip); unpack it first"),
    "zip": ("x.csv", b"PK\x03\x04aaaaaaa", "is a zip archive"),
    "wide": ("x.csv", ",".join(f"c{i}" for i in range(1_000_000)) + "\n", "has 1000000 columns; at most 10000"),
    "wide JSON": ("x.jsonl", json.dumps({f"c{i}": i for i in range(20_000)}), "20000 columns; at most 10000"),
    "uneven": ("x.csv", "prompt,completion\na\n", "line 2: 1 fields, but the header has 2"),
    "header only": ("x.csv", "prompt,completion\n", "has no records"),
    "one name twice": ("x.csv", "prompt,prompt\na,b\n", "two columns of one name"),
    "no parquet": ("x.parquet", b"PAR1" + bytes(20), "is no Parquet file"),
    "short parquet": ("x.parquet", b"P", "is no Parquet file"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_holds_no_records_is_told_in_one_line(kind, tmp_path):
    name, content, message = BAD[kind]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for read in (lambda: check_file(path), lambda: load_splits(str(path), train=1, validation=1, test=1)):
        with pytest.raises(ValueError) as caught:
            read()
        assert message in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_judged_by_every_file_in_it(tmp_path):
    (tmp_path / "train.jsonl").write_text(GOOD)
    check_folder(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "test.jsonl").write_text("null\n")
    with pytest.raises(ValueError, match=r"test\.jsonl, line 1: null"):
        check_folder(tmp_path)


def test_no_pipe_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(ValueError, match="is no regular file"):
        check_file(tmp_path / "x.jsonl")


def test_a_line_without_end_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(record_files, "LONGEST_LINE", 2**20)
    (tmp_path / "x.jsonl").write_text('{"prompt": "' + "a" * 2**21)
    with pytest.raises(ValueError, match="line 1 is longer than 1 MiB"):
        check_file(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", GOOD.replace("\n", "\r\n") * 30),
        ("x.csv", "\ufeffprompt,completion\r\n" + "".join(f"a{i},b\r\n" for i in range(30))),
        ("x.csv", 'prompt,completion\n"a,\n1",b\nc,d\n'),
        ("x.json", json.dumps([{"prompt": "a", "completion": 1}, {"prompt": "b", "completion": 2}], indent=2)),
        ("x.json", json.dumps({"prompt": ["a"], "completion": ["b"]})),
        ("x.json", GOOD * 3),
        ("x.jsonl", '{"prompt": "a", "completion": "b", "more": {"k": [1, null]}}\n'),
        (
            "x.jsonl",
            '{"prompt": "a", "completion": "b", "more": null}\n{"prompt": "a", "completion": "b", "more": 1}\n',
        ),
    ],
)
def test_what_holds_records_passes(name, content, tmp_path):
    (tmp_path / name).write_text(content, newline="")
    check_file(tmp_path / name)


def test_columns_are_for_data_that_has_some_and_modules_for_mathematics(tmp_path):
    sizes = {"train": 2, "validation": 1, "test": 1}
    with pytest.raises(ValueError, match="columns are for data sets that have some; mathematics is questions"):
        load_splits("mathematics", columns=("a", "b"), **sizes)
    (tmp_path / "x.jsonl").write_text(GOOD)
    with pytest.raises(ValueError, match="modules are for DeepMind Mathematics"):
        load_splits(str(tmp_path / "x.jsonl"), modules=["numbers__gcd"], **sizes)


@pytest.mark.parametrize(
    "columns", [("{a", "b"), ("{a.b}", "c"), ("{a[0]}", "c"), ("{a!r}", "c"), ("{}", "c"), ("{a:9}", "c")]
)
def test_templates_name_columns_and_nothing_else(columns):
    with pytest.raises(ValueError, match="is no template"):
        check_columns(columns)
    check_columns(("{a}, {b}?\n", "c"))


def test_examples_that_no_memory_holds_are_refused_at_once():
    with pytest.raises(ValueError, match="999999999999 examples would take"):
        load_splits("mathematics", train=999999999997, validation=1, test=1)
