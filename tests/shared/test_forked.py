"""Copies of this process: what they find comes back, what goes wrong in them is heard, and none of them stays."""

import gc
import os
import signal
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from lorakappa.shared import forked
from lorakappa.shared.forked import CAN_FORK, Copies, copying_seconds
from tests.shared.children import children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is copied on this platform")


class UnpicklableError(Exception):
    """Cannot be made again from what it says."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def run(*tasks):
    with Copies(tasks) as copies:
        return list(copies.messages())


@pytest.fixture(autouse=True)
def nobody_stays():
    """Whoever was copied has ended, and was seen to."""
    before = children()
    yield
    assert children() <= before


def failing(error):
    def task(tell):
        raise error

    return task


def test_what_copies_find_comes_back():
    x = np.arange(3.0)  # nothing of it need be sent

    def task(tell, factor):
        x[:] *= factor  # of the copy
        tell((os.getpid(), x, gc.isenabled(), signal.getsignal(signal.SIGINT)))

    found = run(*(lambda tell, k=k: task(tell, k) for k in (2, 3)))
    assert sorted(values.tolist() for _, values, _, _ in found) == [[0.0, 2.0, 4.0], [0.0, 3.0, 6.0]]
    assert len({pid for pid, *_ in found} | {os.getpid()}) == 3
    assert {(collects, handler) for *_, collects, handler in found} == {(False, signal.SIG_IGN)}
    assert x.tolist() == [0.0, 1.0, 2.0]


def test_more_than_a_pipe_holds_and_in_order():
    def task(tell):
        for k in range(3):
            tell(np.full(200_000, float(k)))

    found = run(task)
    assert [values[0] for values in found] == [0.0, 1.0, 2.0]
    assert {values.size for values in found} == {200_000}


@pytest.mark.parametrize(
    ("error", "expected", "says"),
    [
        (ValueError("none has one"), ValueError, "^none has one$"),
        (EOFError("a file ended"), EOFError, "^a file ended$"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
        (UnpicklableError("this", "that"), RuntimeError, "^UnpicklableError: this and that$"),
    ],
)
def test_an_error_is_raised_here_and_the_others_are_ended(error, expected, says):
    began = time.monotonic()
    with pytest.raises(expected, match=says):
        run(failing(error), lambda tell: time.sleep(60))
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("end", "how"), [(lambda: os.kill(os.getpid(), signal.SIGKILL), "signal 9"), (lambda: os._exit(3), "exit code 3")]
)
def test_a_copy_that_is_ended_from_outside(end, how):
    with pytest.raises(ChildProcessError, match=rf"ended from outside \({how}\); is memory short"):
        run(lambda tell: end())


def test_who_leaves_early_leaves_nobody_behind():
    with Copies([lambda tell: time.sleep(60)] * 2):
        pass


def test_no_room_for_another_process(monkeypatch):
    fork, calls = os.fork, []

    def full():
        calls.append(1)
        if len(calls) == 2:
            raise BlockingIOError("Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError), Copies([lambda tell: time.sleep(60)] * 2):
        pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_copy_does_not_go_on_for_a_process_that_is_gone():
    """Its own copy, here: the one that was to wait for it has ended."""
    receive, send = os.pipe()

    def orphan(tell):
        while os.getppid() == parent:
            time.sleep(0.01)
        try:
            tell("still here")
        except forked._OrphanedError:
            os.write(send, b"told")
            raise

    middle = os.fork()
    if middle == 0:
        parent = os.getpid()
        Copies([orphan]).__enter__()
        os._exit(0)
    os.waitpid(middle, 0)
    assert os.read(receive, 4) == b"told"


def test_how_long_a_copy_takes_grows_with_the_memory_in_use(monkeypatch):
    import resource

    assert 0.002 < copying_seconds() < 1
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=1e6))  # in kilobytes
    assert copying_seconds() == pytest.approx(0.002 + 0.02 * 1.024)


def test_there_are_copies_here():
    assert CAN_FORK


def test_the_pickled_error_is_the_error():
    assert repr(forked._picklable(ValueError("x"))) == "ValueError('x')"
