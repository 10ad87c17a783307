"""Files are written whole or not at all, and say where they come from."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from lorakappa.shared import records
from lorakappa.shared.whole_files import write_whole


def test_json_round_trip_with_numpy_and_infinities(tmp_path):
    value = {
        "x": np.float64(1.5),
        "y": np.arange(3),
        "z": (1, np.inf, -np.inf, np.nan),
        4: np.bool_(True),
        "w": None,
    }
    path = records.write_json(tmp_path / "deep" / "a.json", value)
    expected = {"x": 1.5, "y": [0, 1, 2], "z": [1, "inf", "-inf", "nan"], "4": True, "w": None}
    assert json.loads(path.read_text()) == expected
    assert path.read_text().endswith("\n")
    assert path.stat().st_mode & 0o777 == 0o644


def test_npz_round_trip(tmp_path):
    path = records.write_npz(tmp_path / "a.npz", {"A": np.eye(2), "n": 3})
    loaded = records.read_npz(path)
    np.testing.assert_array_equal(loaded["A"], np.eye(2))
    assert loaded["n"] == 3


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = records.write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        records.write_json(path, [object()])
    with pytest.raises(RuntimeError):
        write_whole(path, lambda stream: (_ for _ in ()).throw(RuntimeError("stopped")))
    assert json.loads(path.read_text()) == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", A=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        records.read_npz(tmp_path / "a.npz")


def test_provenance_names_seed_command_and_versions(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/conditioning/__main__.py", "verify", "--seed", "3"])
    for package in ("conditioning", "lorakappa.conditioning"):
        monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=SimpleNamespace(parent=package)))
        record = records.provenance(seed=3)
        assert record["command"] == f"python -m {package} verify --seed 3"
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace())
    assert records.provenance(seed=3)["command"] == "python -m conditioning verify --seed 3"
    assert record["seed"] == 3
    assert record["versions"]["numpy"] == np.__version__
    assert "/somewhere" not in json.dumps(record)
    monkeypatch.setattr(records, "VERSIONS_OF", ("surely-not-installed",))
    assert records.provenance()["versions"] == {"surely-not-installed": None}


def test_checking_a_folder_leaves_no_trace(tmp_path):
    records.ensure_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    records.ensure_writable(tmp_path / "a" / "b.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="cannot write into"):
        records.ensure_folder(tmp_path / "file" / "x")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file"):
        records.ensure_writable(tmp_path)
    assert (tmp_path / "file").read_text() == "kept"


def test_bytes_round_trip(tmp_path):
    assert records.write_bytes(tmp_path / "deep" / "a.bin", b"\x00\x01").read_bytes() == b"\x00\x01"


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        records.read_npz(tmp_path / "empty.npz")
    np.save(tmp_path / "one.npy", np.eye(2))
    with pytest.raises(ValueError, match="a single array, not an archive"):
        records.read_npz(tmp_path / "one.npy")
