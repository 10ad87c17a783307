"""Work in processes side by side: its order, its errors, its end on Ctrl-C, and the cores it may use."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from lorakappa.shared import processes
from lorakappa.shared.processes import side_by_side


def double(x):
    return 2 * x


def fail(what):
    raise ValueError(f"refused: {what}")


def threads():
    return os.environ.get("OMP_NUM_THREADS")


def wait_for(path):
    """Says that it is there, and works until it is interrupted."""
    path.with_suffix(".begun").touch()
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        path.touch()
        raise


def appeared(path):
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return path.exists()


def gone(session):
    """Whether all its processes end; multiprocessing's own tracker does so a moment later."""
    for _ in range(1000):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def none_left():
    """Whether all children end; the last ones may still be ending."""
    until = time.monotonic() + 30
    while multiprocessing.active_children() and time.monotonic() < until:
        time.sleep(0.01)
    return multiprocessing.active_children() == []


def test_everything_is_done_and_no_process_is_left():
    assert sorted(side_by_side([(double, k) for k in range(5)], 2)) == [0, 2, 4, 6, 8]
    assert none_left()


def test_an_error_is_that_of_the_call_and_ends_the_others(tmp_path):
    with pytest.raises(ValueError, match="refused: this"):
        list(side_by_side([(wait_for, tmp_path / "interrupted"), (fail, "this"), (wait_for, tmp_path / "never")], 2))
    assert none_left()
    begun = {path.name for path in tmp_path.iterdir()}
    assert "interrupted" in begun or "interrupted.begun" not in begun  # what had begun was interrupted
    assert "never" not in begun


def test_who_stops_asking_ends_the_work(tmp_path):
    results = side_by_side([(double, 1), (wait_for, tmp_path / "interrupted")], 2)
    assert next(results) == 2
    assert appeared(tmp_path / "interrupted.begun")
    results.close()
    assert (tmp_path / "interrupted").exists()
    assert none_left()


@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_ends_all_processes_without_a_word(tmp_path, whole_group):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            from pathlib import Path
            from lorakappa.shared.processes import side_by_side
            from tests.shared.test_processes import wait_for

            if __name__ == "__main__":
                folder = Path(sys.argv[1])
                try:
                    list(side_by_side([(wait_for, folder / f"{k}") for k in range(4)], 2))
                except KeyboardInterrupt:
                    sys.exit(130)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert appeared(tmp_path / "0.begun")
        assert appeared(tmp_path / "1.begun")
        (os.killpg if whole_group else os.kill)(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "")
    assert {path.name for path in tmp_path.iterdir()} == {"script.py", "0", "0.begun", "1", "1.begun"}
    assert gone(running.pid)


def test_processes_share_the_cores_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr(processes.os, "cpu_count", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert list(side_by_side([(threads,)] * 3, 3)) == ["2"] * 3
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setattr(processes.os, "cpu_count", lambda: None)
    assert list(side_by_side([(threads,)] * 2, 5)) == ["1"] * 2
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert list(side_by_side([(threads,)] * 2, 2)) == ["5"] * 2


class Deaf:
    """A process that nothing ends but force."""

    def __init__(self, pid, sentinel):
        self.pid, self.sentinel, self.killed = pid, sentinel, False

    def kill(self):
        self.killed = True

    def join(self):
        self.joined = True


def test_who_does_not_listen_is_told_and_then_killed(monkeypatch):
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.01)
    monkeypatch.setattr(processes, "REMINDERS", 3)
    told = []
    monkeypatch.setattr(processes.os, "kill", lambda *what: told.append(what))
    alive, _ = multiprocessing.Pipe()
    ended, other = multiprocessing.Pipe()
    other.close()  # makes the sentinel ready
    deaf, done = Deaf(11, alive.fileno()), Deaf(12, ended.fileno())
    processes._end([deaf, done])
    assert told == [(11, signal.SIGINT)] * 3
    assert (deaf.killed, done.killed) == (True, False)
    assert deaf.joined
    assert done.joined


def test_waiting_ends_with_the_last_of_them(monkeypatch):
    one, other = multiprocessing.Pipe()
    threading.Timer(0.05, other.close).start()
    began = time.monotonic()
    assert processes._after(30.0, [Deaf(1, one.fileno())]) == []
    assert time.monotonic() - began < 20
