"""A folder appears whole or not at all, and what a killed write of it left goes at the next one."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lorakappa.shared import whole_files
from lorakappa.shared.records import write_bytes
from lorakappa.shared.whole_folders import final_folder, whole_folder
from tests.shared.unprivileged import unprivileged


def write(target, names=("a", "b")):
    with whole_folder(final_folder(target)) as folder:
        for name in names:
            (folder / name).write_text(name)


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_is_written_whole_also_in_place_of_an_empty_one(tmp_path, there):
    target = tmp_path / "deep" / "out"
    if there:
        target.mkdir(parents=True)
    write(target)
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "a", "b": "b"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o755
    assert os.listdir(target.parent) == ["out"]


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path / "real")) == ["a", "b"]


def test_what_fails_leaves_nothing_and_names_the_file_that_was_to_be(tmp_path):
    target = tmp_path / "deep" / "out"

    def fail(error):
        with whole_folder(target) as folder:
            (folder / "a").write_text("a")
            raise error(folder)

    with pytest.raises(OSError, match="No space left") as caught:
        fail(lambda folder: OSError(errno.ENOSPC, "No space left on device", str(folder / "a")))
    assert caught.value.filename == str(target / "a")
    with pytest.raises(KeyError):
        fail(lambda folder: KeyError(folder))
    assert os.listdir(tmp_path) == []


def test_a_file_in_it_that_cannot_be_written_is_named_by_where_it_was_to_be(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill():
        with whole_folder(tmp_path / "out") as folder:
            write_bytes(folder / "a", b"a")

    monkeypatch.setattr(whole_files, "_to_disk", full)
    with pytest.raises(OSError, match="No space") as caught:
        fill()
    assert str(caught.value) == f"[Errno 28] cannot write {tmp_path / 'out' / 'a'}: No space left on device"
    assert os.listdir(tmp_path) == []


def test_what_is_in_use_is_refused_and_stays(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (("file", "is not an empty folder"), ("full", "is not an empty folder"), ("loop", "circle")):
        with pytest.raises(OSError, match=message):
            write(tmp_path / name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(OSError, match="the current folder"):
        write(".")
    assert sorted(os.listdir(tmp_path)) == ["file", "full", "here", "loop"]
    assert (tmp_path / "full" / "kept").read_text() == "mine"


KILLED = """
import os, signal, sys
from pathlib import Path
from lorakappa.shared.whole_folders import whole_folder
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_write_left_goes_at_the_next_one_and_a_living_one_stays(tmp_path):
    target = tmp_path / "out"
    subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".out.")
    (tmp_path / ".out.mine.part").mkdir()  # not a name of ours
    (tmp_path / ".other.aaaaaaaa.part").mkdir()
    (tmp_path / ".out.aaaaaaaa.part").symlink_to(".other.aaaaaaaa.part")

    def late():
        with whole_folder(target) as living:
            write(target)
            assert living.is_dir()

    with pytest.raises(OSError, match="not empty"):
        late()
    assert sorted(os.listdir(target)) == ["a", "b"]
    kept = [".other.aaaaaaaa.part", ".out.aaaaaaaa.part", ".out.mine.part", "out"]
    assert sorted(os.listdir(tmp_path)) == kept


def test_a_long_name_has_a_temporary_too(tmp_path):
    write(tmp_path / ("ü" * 120))
    assert sorted(os.listdir(tmp_path / ("ü" * 120))) == ["a", "b"]


def test_without_the_right_to_write_nothing_changes():
    def attempt():
        try:
            write(folder / "deep" / "out")
        except OSError as error:
            return [error.strerror, error.filename]
        return ["written"]

    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are for their owner only
        folder = Path(name)
        (folder / "kept").write_text("old")
        folder.chmod(0o555)
        said = unprivileged(attempt)
        folder.chmod(0o755)
        assert os.listdir(folder) == ["kept"]
    assert said == ["Permission denied", str(folder / "deep")]
