"""Work shared by processes that end together: when all is done, when one of them fails, and on Ctrl-C."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor
from concurrent.futures import wait as wait_for_any
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

GRACE_SECONDS = 1.0
"""How long processes may take to end by themselves, and then every time that they are told to."""

REMINDERS = 15
"""How often they are told before they are ended by force."""

THREADS = "OMP_NUM_THREADS"
"""Environment variable that bounds the threads of NumPy's libraries and of our own."""


def side_by_side(work: Sequence[tuple[Any, ...]], jobs: int) -> Generator[Any, None, None]:
    """Calls functions in processes of their own, several at a time, which share the cores among them.

    Args:
        work: function and arguments of each call, all of which can be pickled; begun in this order.
        jobs: number of processes; no more than there are calls.

    Yields:
        What the calls return, as they finish.

    Raises:
        Exception: what the first call that fails raises, and KeyboardInterrupt; then no call goes on.
    """
    jobs = min(jobs, len(work))
    others = set(multiprocessing.active_children())
    with _threads_shared(jobs):
        pool = ProcessPoolExecutor(
            jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(os.getpid(),)
        )
        waiting = iter(work)
        try:
            # no more calls than processes, since the pool would begin another one when it is already closed
            with _interrupts_held():
                running = {pool.submit(_call, *call) for call in islice(waiting, jobs)}
            while running:
                done, running = wait_for_any(running, return_when=FIRST_COMPLETED)
                results = [future.result() for future in done]
                running |= {pool.submit(_call, *call) for call in islice(waiting, len(done))}
                yield from results
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            _end([process for process in multiprocessing.active_children() if process not in others])
            raise
        pool.shutdown()


@contextmanager
def _threads_shared(jobs: int) -> Iterator[None]:
    """Leaves each new process its share of the cores, unless the user has said how many threads there are to be."""
    if THREADS in os.environ:
        yield
        return
    os.environ[THREADS] = str(max(1, (os.cpu_count() or 1) // jobs))
    try:
        yield
    finally:
        del os.environ[THREADS]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Lets Ctrl-C wait, here and in processes that are started, which would print where it meets them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(parent: int) -> None:
    """A worker: Ctrl-C means its work, not its waiting; and it does not outlive its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    process = multiprocessing.parent_process()
    if process is not None and process.pid == parent:
        end_with(process)


def end_with(parent: BaseProcess) -> None:
    """Ends this process as soon as its parent has ended, however that came about."""
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """A worker's job, which Ctrl-C ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return function(*arguments)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(processes: Sequence[BaseProcess]) -> None:
    """Waits for processes whose pool is closed; interrupts what they still do, and at last ends them by force.

    A terminal's Ctrl-C has reached them already, a signal to this process alone has not. One that was still starting
    begins the call that it was given, so all are told again.
    """
    left = _after(GRACE_SECONDS, processes)
    for _ in range(REMINDERS):
        for process in left:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGINT)
        left = _after(GRACE_SECONDS, left)
    for process in left:
        process.kill()
    for process in processes:
        process.join()


def _after(seconds: float, processes: Sequence[BaseProcess]) -> list[BaseProcess]:
    """Those that have not ended after that time."""
    left, until = list(processes), time.monotonic() + seconds
    while left and (remaining := until - time.monotonic()) > 0:
        ended = wait([process.sentinel for process in left], timeout=remaining)
        left = [process for process in left if process.sentinel not in ended]
    return left
