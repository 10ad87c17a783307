"""Packed records come back or are refused, and conclusions that differ are named by the place."""

from pathlib import Path

import pytest

from lorakappa.shared import evidence_files
from lorakappa.shared.evidence_files import difference, digest, pack, refuse, unpacked


def test_what_is_packed_comes_back_and_is_known_by_its_digest(tmp_path):
    content = b'{"a": 1}\n' * 1000
    (tmp_path / "x.xz").write_bytes(pack(content))
    assert unpacked(tmp_path / "x.xz") == content
    assert len(pack(content)) < len(content) / 10
    assert pack(content) == pack(content)
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_damaged_and_oversized_files_are_named(tmp_path, monkeypatch):
    file = tmp_path / "x.xz"
    for content in (b"no xz at all", pack(b"0123456789")[:-8]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.xz is damaged: "):
            unpacked(file)
    monkeypatch.setattr(evidence_files, "MOST_BYTES", 10)
    file.write_bytes(pack(b"0" * 10))
    assert unpacked(file) == b"0" * 10
    file.write_bytes(pack(b"0" * 11))
    with pytest.raises(ValueError, match="unpacks to more than 10 bytes"):
        unpacked(file)


def test_the_first_fault_refuses_and_the_others_are_counted():
    refuse(Path("x"), [])
    for faults, message in (["a"], "x: a"), (["a", "b"], "x: a (and 1 more)"), (["a", "b", "c"], "x: a (and 2 more)"):
        with pytest.raises(ValueError) as raised:
            refuse(Path("x"), faults)
        assert str(raised.value) == message


@pytest.mark.parametrize(
    ("new", "old", "line"),
    [
        ({"a": 1.0, "b": [1, 2.0]}, {"a": 1.0 + 1e-12, "b": [1, 2]}, None),
        ({"a": 1.0}, {"a": 1.0 + 1e-6}, "a is 1, not 1"),
        ({"a": {"b": [0.5, -2.0]}}, {"a": {"b": [0.5, 2.0]}}, "a.b[1] is -2, not 2"),
        ({"a": 1.0}, {"b": 1.0}, " is {'a': 1.0}, not {'b': 1.0}"),
        ({"a": [1, 2]}, {"a": [1]}, "a is [1, 2], not [1]"),
        ({"a": "holds"}, {"a": "not seen"}, "a is 'holds', not 'not seen'"),
        ({"a": 1.0}, {"a": None}, "a is 1.0, not None"),
        ({"a": 0.0}, {"a": 1e-10}, None),
    ],
)
def test_a_difference_is_named_by_its_place(new, old, line):
    found = difference(new, old, 1e-9)
    assert found is None if line is None else found.startswith(line)
