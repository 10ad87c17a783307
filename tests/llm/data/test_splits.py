"""Splits written and read: what comes back is what was written, or an error."""

import pytest

from lorakappa.llm.data import splits as saved
from lorakappa.llm.data.splits import Example, Splits, read_splits, save_splits


def test_saved_splits_come_back(tmp_path, generated):
    folder = save_splits(generated, tmp_path / "data")
    assert read_splits(folder) == generated
    assert save_splits(generated, folder) == folder
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
    odd = Splits((Example("a\u2028b\n", "ü"),), (Example('"', "\\"),), (Example("t", "\r"),), (), "odd")
    assert read_splits(save_splits(odd, tmp_path / "odd")) == odd
    with pytest.raises(FileExistsError, match="holds other data"):
        save_splits(odd, folder)


def test_a_changed_folder_is_refused_and_a_failed_write_leaves_nothing(tmp_path, generated, monkeypatch):
    folder = save_splits(generated, tmp_path / "data")
    lines = (folder / "train.jsonl").read_text().splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(ValueError, match="was changed"):
        read_splits(folder)
    (folder / "train.jsonl").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_splits(folder)
    with pytest.raises(FileNotFoundError, match=r"has no splits\.json"):
        read_splits(tmp_path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        save_splits(generated, tmp_path / "other")
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
