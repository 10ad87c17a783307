"""Nothing but regular files is replaced, nothing is half written, nothing is left behind."""

import errno
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lorakappa.shared import whole_files
from lorakappa.shared.records import write_bytes, write_json, write_npz
from lorakappa.shared.whole_files import ensure_folder, ensure_writable, write_whole
from tests.shared.unprivileged import unprivileged

ROOT = Path(__file__).parents[2]


def litter(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def refused(path, message, error=OSError):
    """Both before the work and when writing."""
    for attempt in (lambda: ensure_writable(path), lambda: write_bytes(path, b"new")):
        with pytest.raises(error, match=message) as caught:
            attempt()
        assert str(path) in str(caught.value)


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "deep").mkdir()
    target, link = tmp_path / "deep" / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    ensure_writable(link)
    assert write_json(link, [1]) == link
    assert link.is_symlink()
    assert json.loads(target.read_text()) == [1]
    target.unlink()
    write_json(link, [2])  # a link to a file that is not there yet
    assert json.loads(target.read_text()) == [2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "link.json"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["target.json"]


def test_a_pipe_a_socket_a_device_and_a_folder_are_refused_and_stay(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-pipe").symlink_to(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(tmp_path)  # names of sockets are short
        try:
            server.bind("socket")
        finally:
            os.chdir(before)
        refused(tmp_path / "socket", "is a socket and no file; name a file to write")
    refused(tmp_path / "pipe", "is a pipe and no file; name a file to write")
    refused(tmp_path / "to-pipe", "is a pipe and no file")
    refused(tmp_path, "is a folder; name a file to write", IsADirectoryError)
    with pytest.raises(OSError, match="is a device and no file"):
        ensure_writable(os.devnull)
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "socket", "to-pipe"]


def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    refused(tmp_path / "a", "cannot write .*symbolic links")


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path):
    refused(tmp_path / "new" / ("x" * 300), "cannot write .*: File name too long")
    longest = tmp_path / ("x" * 255)
    write_bytes(longest, b"fits")
    assert longest.read_bytes() == b"fits"


def test_where_the_output_of_the_command_goes_is_no_file_to_write(tmp_path):
    code = "from lorakappa.shared.records import ensure_writable; ensure_writable('out.txt')"
    with (tmp_path / "out.txt").open("w") as out:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    assert "is where the output of this command goes" in done.stderr


def test_an_existing_file_keeps_its_mode_and_a_new_one_respects_the_umask(tmp_path):
    kept, new = tmp_path / "kept", tmp_path / "new"
    kept.write_bytes(b"old")
    kept.chmod(0o640)
    before = os.umask(0o027)
    try:
        write_bytes(kept, b"1")
        write_bytes(new, b"2")
    finally:
        os.umask(before)
    assert kept.stat().st_mode & 0o777 == 0o640
    assert new.stat().st_mode & 0o777 == 0o640
    kept.chmod(0o600)
    write_bytes(kept, b"3")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_without_the_right_to_write_nothing_changes():
    def attempts():
        said = []
        for attempt in (ensure_writable, lambda path: write_bytes(path, b"new")):
            for name in ("kept.json", "other.json"):
                try:
                    attempt(folder / name)
                    said.append("written")
                except OSError as error:
                    said.append(str(error))
        return said

    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are for their owner only
        folder = Path(name)
        (folder / "kept.json").write_text("old")
        (folder / "kept.json").chmod(0o444)
        folder.chmod(0o555)
        lines = unprivileged(attempts)
        folder.chmod(0o755)
        assert [path.name for path in folder.iterdir()] == ["kept.json"]
        assert (folder / "kept.json").read_text() == "old"
    assert all(f"cannot write {folder / 'kept.json'}: it is read-only" in line for line in lines[::2])
    assert f"cannot write into {folder}: Permission denied" in lines[1]
    assert f"cannot write {folder / 'other.json'}: Permission denied" in lines[3]


@pytest.mark.parametrize("what", ["json", "npz", "bytes"])
def test_a_full_disk_is_said_of_the_file_and_leaves_the_old_one(what, tmp_path):
    file = tmp_path / f"a.{what}"
    file.write_bytes(b"old")
    code = f"""
import resource, sys
import numpy as np
from lorakappa.shared.records import write_bytes, write_json, write_npz
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
try:
    if {what!r} == "json":
        write_json({str(file)!r}, list(range(100000)))
    elif {what!r} == "npz":
        write_npz({str(file)!r}, {{"A": np.random.default_rng(0).random(100000), "B": np.eye(3)}})
    else:
        write_bytes({str(file)!r}, bytes(100000))
except OSError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert not done.stderr, done.stderr
    assert f"cannot write {file}: File too large" in done.stdout
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_whatever_the_disk_says_names_the_file(number, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(whole_files.os, "fsync", fail)
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'a'}: {os.strerror(number)}") as caught:
        write_bytes(tmp_path / "a", b"x")
    assert caught.value.errno == number
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_sync_is_written_nevertheless(tmp_path, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(whole_files.os, "fsync", cannot)
    assert write_bytes(tmp_path / "a", b"x").read_bytes() == b"x"


def test_what_a_killed_write_left_goes_at_the_next_one(tmp_path):
    code = """
import sys, time
from lorakappa.shared.whole_files import write_whole
def write(stream):
    stream.write(b"half")
    stream.flush()
    print("writing", flush=True)
    time.sleep(60)
write_whole("a.json", write)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        assert process.stdout.readline() == "writing\n"
        assert len(litter(tmp_path)) == 1
        write_bytes(tmp_path / "a.json", b"1")
        assert len(litter(tmp_path)) == 1  # somebody is at it
        process.kill()
        process.wait()
    (tmp_path / ".a.json.0123abcd.part").write_bytes(b"of an older version")
    others = [".b.json.0123abcd.part", ".a.json.notes.part", ".a.json.0123abcd", "a.json.0123abcd.part"]
    for name in others:
        (tmp_path / name).write_bytes(b"not ours")
    write_bytes(tmp_path / "b", b"")
    assert len(litter(tmp_path)) == 5
    write_bytes(tmp_path / "a.json", b"2")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "a.json", "b"])
    assert (tmp_path / "a.json").read_bytes() == b"2"


def test_a_link_named_like_a_leftover_takes_nothing_with_it(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / ".a.0123abcd.part").symlink_to(tmp_path / "precious")
    write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "precious").read_text() == "kept"


def test_many_writers_of_one_file_leave_one_whole_file(tmp_path):
    code = """
import sys
from lorakappa.shared.whole_files import write_whole
for _ in range(100):
    write_whole("a", lambda stream: stream.write(sys.argv[1].encode() * 1000))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, letter], cwd=tmp_path, env=environment) for letter in "abcd"
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    (file,) = tmp_path.iterdir()
    assert len(set(file.read_text())) == 1


def test_a_folder_that_somebody_fills_meanwhile_stays(tmp_path, monkeypatch):
    made = whole_files.tempfile.TemporaryFile

    def fill(*arguments, **options):
        (Path(options["dir"]) / "theirs").write_text("x")
        return made(*arguments, **options)

    monkeypatch.setattr(whole_files.tempfile, "TemporaryFile", fill)
    ensure_folder(tmp_path / "new" / "deep")
    assert (tmp_path / "new" / "deep" / "theirs").is_file()


def test_a_name_that_is_no_text_is_written_as_json(tmp_path):
    file = write_json(tmp_path / "a.json", {"command": os.fsdecode(b"--out \xff")})
    assert json.loads(file.read_text())["command"] == "--out \udcff"


def test_leftovers_do_not_slow_a_write_down(tmp_path):
    for i in range(300):
        (tmp_path / f"{i}.json").write_bytes(b"")
    began = time.perf_counter()
    for i in range(20):
        write_bytes(tmp_path / f"{i}.json", b"x")
    assert time.perf_counter() - began < 20


def test_arrays_and_descriptions_are_written_the_same_way(tmp_path):
    for path in (write_npz(tmp_path / "a.npz", {"A": [1.0]}), write_whole(tmp_path / "b", lambda s: s.write(b""))):
        assert path.is_file()
    assert litter(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 10000
