"""A `balance` killed late leaves nothing or a whole adapter, and the next one removes what it left hidden."""

import fcntl
import os
import random
import re
import subprocess
import sys
import time

import pytest
import torch

from lorakappa.llm import balance_adapter, read_adapter
from tests.llm.adapters.stored import random_pair, write_adapter

HIDDEN = re.compile(r"\.out\.[a-z0-9_]{8}\.part")

WRITER = """
import shutil, sys, time
import lorakappa.llm.adapters.disk as disk
copy = shutil.copy2
shutil.copy2 = lambda *files: (time.sleep(0.005), copy(*files))  # 20 files: a tenth of a second on any machine
print("ready", flush=True)
sys.stdin.readline()
disk.balance_adapter(sys.argv[1], sys.argv[2])
print("done", flush=True)
"""


def adapter(tmp_path):
    tensors = {key: value for i in range(40) for key, value in random_pair(module=f"layers.{i}").items()}
    tensors["modules_to_save"] = torch.zeros(4_000_000)  # long enough to be met while it is written
    folder = write_adapter(tmp_path / "in", tensors)
    for number in range(20):
        (folder / f"file{number}").write_bytes(b"x" * 100_000)
    return folder


def killed(source, target, delay):
    """Kills a writer so many seconds after its hidden folder has appeared; whether that came before its end."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(source), str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout.readline() == "ready\n"
    writer.stdin.write("go\n")
    writer.stdin.flush()
    while writer.poll() is None and not target.exists() and not hidden(target.parent):
        time.sleep(0.0002)
    time.sleep(delay)
    writer.kill()
    rest = writer.communicate()[0]
    return "done" not in rest


def hidden(folder):
    return [name for name in os.listdir(folder) if HIDDEN.fullmatch(name)]


def kill_repeatedly(tmp_path, delays):
    source, met = adapter(tmp_path), 0
    names = sorted(os.listdir(source))
    for number, delay in enumerate(delays):
        folder = tmp_path / str(number)
        folder.mkdir()
        target = folder / "out"
        met += killed(source, target, delay)
        assert set(os.listdir(folder)) <= {"out", *hidden(folder)}
        assert len(hidden(folder)) <= 1
        if target.exists():
            assert sorted(os.listdir(target)) == names
            assert len(read_adapter(target).pairs) == 40
        else:
            balance_adapter(source, target)
        assert os.listdir(folder) == ["out"] or hidden(folder)
        if hidden(folder):  # a whole one was there already: the next write beside it cleans up
            target.rename(folder / "whole")
            balance_adapter(source, target)
            assert not hidden(folder)
    return met


def test_a_few_late_kills(tmp_path):
    assert kill_repeatedly(tmp_path, [0.0, 0.005]) > 0


@pytest.mark.slow
def test_many_late_kills(tmp_path):
    generator = random.Random(0)
    assert kill_repeatedly(tmp_path, [generator.uniform(0, 0.08) for _ in range(25)]) > 5


def test_only_abandoned_folders_of_ours_are_removed(tmp_path):
    source = write_adapter(tmp_path / "in", random_pair())
    for name in (".out.abandond.part", ".out.living00.part", ".out.mine.part", ".other.abandond.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    living = os.open(tmp_path / ".out.living00.part", os.O_RDONLY)
    fcntl.flock(living, fcntl.LOCK_EX)
    balance_adapter(source, tmp_path / "out")
    os.close(living)
    assert sorted(os.listdir(tmp_path)) == [
        ".other.abandond.part", ".out.living00.part", ".out.mine.part", "in", "out"
    ]  # fmt: skip


def test_a_folder_taken_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    import lorakappa.shared.whole_folders as folders

    source, opened, taken = write_adapter(tmp_path / "in", random_pair()), folders._opened, []

    def snatched(folder):
        if not taken:
            taken.append(folder)
            folder.rmdir()
        return opened(folder)

    monkeypatch.setattr(folders, "_opened", snatched)
    balance_adapter(source, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]
