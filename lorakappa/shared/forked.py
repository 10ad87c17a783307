"""Work shared by copies of this process (fork), to which nothing need be sent: only what they find comes back.

Processes that start anew (`processes`) take a quarter of a second to import NumPy, and can be given only what can be
pickled; a copy is there in some milliseconds with all that this process has. It must do nothing but compute: what other
threads of this process held when it was copied (a terminal, a pool of threads) stays held in it for ever. NumPy and its
libraries are made for that on Linux; elsewhere nothing is copied.
"""

import gc
import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any

Send = Callable[[Any], None]
"""Sends to the process that was copied what can be pickled."""

CAN_FORK = sys.platform == "linux"
"""Whether there are copies here."""


COPY_SECONDS, COPY_SECONDS_PER_BYTE = 2e-3, 2e-11
"""Of one copy, and of each byte that this process has in memory, whose pages it maps: 20 ms a gigabyte."""


def copying_seconds() -> float:
    """About how long it takes to copy this process once."""
    import resource  # Linux has it

    return COPY_SECONDS + COPY_SECONDS_PER_BYTE * 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class _OrphanedError(Exception):
    """Nobody waits for what a copy finds."""


class Copies:
    """A context in which copies of this process work; at its end those that still do are ended.

    Args:
        tasks: what is done in a copy each, given the function by which it tells what it finds.

    Raises:
        OSError: on entering, if there is no room for another process; then none is left.
    """

    def __init__(self, tasks: Sequence[Callable[[Send], None]]) -> None:
        self._tasks = tasks
        self._working: dict[Connection, int] = {}

    def __enter__(self) -> "Copies":
        try:
            for task in self._tasks:
                self._begin(task)
        except OSError:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def messages(self) -> Iterator[Any]:
        """What the copies send as it comes, until all are done.

        Raises:
            Exception: what a task raises.
            ChildProcessError: if a copy was ended from outside.
        """
        while self._working:
            ready = wait(list(self._working))
            for receive in [each for each in self._working if each in ready]:
                try:
                    message = receive.recv()
                except EOFError:
                    self._check(receive)
                    continue
                if isinstance(message, BaseException):
                    raise message
                yield message

    def _begin(self, task: Callable[[Send], None]) -> None:
        receive, send = Pipe(duplex=False)
        parent = os.getpid()
        try:
            with warnings.catch_warnings():  # that other threads are not copied, which is what the rule above is for
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
        except OSError:
            receive.close()
            send.close()
            raise
        if pid == 0:
            _work(task, send, parent)
        send.close()
        self._working[receive] = pid

    def _check(self, receive: Connection) -> None:
        """A copy has ended: with all done, or before that."""
        receive.close()
        status = os.waitstatus_to_exitcode(os.waitpid(self._working.pop(receive), 0)[1])
        if status != 0:
            how = f"signal {-status}" if status < 0 else f"exit code {status}"
            raise ChildProcessError(f"a process that shared the work was ended from outside ({how}); is memory short?")

    def _end(self) -> None:
        for receive, pid in self._working.items():
            receive.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._working.clear()


def _work(task: Callable[[Send], None], send: Connection, parent: int) -> None:
    """A copy's life. It never returns: what the process would do at its end is not its business."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever waits for it ends it
        gc.disable()  # what is garbage here may be in use by the original: files, folders

        def tell(message: Any) -> None:
            if os.getppid() != parent:
                raise _OrphanedError
            send.send(message)

        task(tell)
        status = 0
    except _OrphanedError:
        pass
    except BaseException as error:
        send.send(_picklable(error))
    finally:
        os._exit(status)


def _picklable(error: BaseException) -> BaseException:
    """The error, or one that says the same if it does not survive being sent."""
    try:
        found = pickle.loads(pickle.dumps(error))
        return found if isinstance(found, BaseException) else RuntimeError(str(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
