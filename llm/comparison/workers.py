"""Who makes the runs of a comparison: this process, processes beside it, or the jobs of a cluster."""

import gc
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

from lorakappa.llm.comparison.runs import Record, Task, make_run, one_line
from lorakappa.shared.options import names
from lorakappa.shared.processes import end_with

Done = Callable[[Task, str], None]
"""Is told each finished run and its status."""

FATAL = (BrokenProcessPool, ValueError, OSError)
"""Errors of one run on this machine that the next one will meet, too."""


class Execute(Protocol):
    """Makes those runs that have no record yet: `Workers`, or `submit_runs` with its cluster."""

    def __call__(self, tasks: Sequence[Task], *, done: Done) -> list[str]:
        """Calls `done` with each finished task and its status; returns one line per failure."""


class Workers(AbstractContextManager["Workers"]):
    """Makes runs, several at a time in processes of their own, which start when first needed and end with the context.

    With several GPUs process k uses GPU k mod their number.

    Args:
        jobs: number of processes; 1 stays in this one, unless there are several GPUs.
        fatal: errors of a run that end all of them.
    """

    def __init__(self, jobs: int, fatal: tuple[type[Exception], ...] = FATAL) -> None:
        self._jobs, self._fatal = jobs, fatal
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, tasks: Sequence[Task], *, done: Done) -> list[str]:
        """Makes those runs that have no record yet.

        Args:
            tasks: runs.
            done: called with each finished task and its status.

        Returns:
            One line for each run that failed.

        Raises:
            ValueError, OSError: as soon as a run does, if they are `fatal`: a setting, a missing model or a full disk
                will be met by the next run, too.
            ChildProcessError: if a worker was killed (out of memory?); finished runs are kept.
        """
        pending = [task for task in tasks if task.record() is None]
        gpus = _gpus()
        if self._pool is None and (self._jobs == 1 or len(pending) <= 1) and len(gpus) <= 1:
            return _failures(((task, partial(make_run, task)) for task in pending), done, self._fatal)
        self._pool = self._pool or self._new_pool(gpus)
        futures = {self._pool.submit(make_run, task): task for task in pending}
        try:
            return _failures(((futures[future], future.result) for future in as_completed(futures)), done, self._fatal)
        except BrokenProcessPool:
            raise ChildProcessError(
                "a worker was killed, perhaps for want of memory; the same command goes on from the finished runs "
                "(with --jobs 1 if it happens again)"
            ) from None
        except BaseException:
            self._pool.shutdown(wait=False, cancel_futures=True)
            raise

    def __exit__(self, *_: object) -> None:
        """Ends the processes."""
        if self._pool is not None:
            self._pool.shutdown()

    def _new_pool(self, gpus: Sequence[str]) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        arguments = (context.Value("i", 0), gpus, max(1, (os.cpu_count() or 1) // self._jobs))
        return ProcessPoolExecutor(self._jobs, mp_context=context, initializer=_start_worker, initargs=arguments)


def submit_runs(tasks: Sequence[Task], *, cluster: str, parameters: dict[str, Any], done: Done) -> list[str]:
    """Makes those runs that have no record yet on a cluster, through submitit, and waits for them.

    Args:
        tasks: runs.
        cluster: "slurm", or submitit's "local" and "debug" for trying out.
        parameters: of `submitit.AutoExecutor.update_parameters`, such as slurm_partition, timeout_min, gpus_per_node,
            slurm_array_parallelism.
        done: called with each finished task and its status.

    Returns:
        One line for each run that failed.

    Raises:
        ValueError: if submitit is not installed, or refuses the cluster or the parameters.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError("clusters need submitit: pip install 'lorakappa[cluster]'") from None
    pending = [task for task in tasks if task.record() is None]
    if not pending:
        return []
    folder = pending[0].folder / "jobs"
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**parameters)
    except Exception as error:
        raise ValueError(f"submitit: {one_line(error)}") from None
    jobs = executor.map_array(make_run, pending)
    return _failures(((task, job.result) for task, job in zip(pending, jobs, strict=True)), done)


def executor_for(cluster: str | None, options: str, jobs: int | None) -> Execute | None:
    """What makes the runs of a command; None for processes of this machine.

    Args:
        cluster: as for `submit_runs`, or None.
        options: KEY=VALUE,… for its parameters.
        jobs: number of processes, if one was asked for.

    Raises:
        ValueError: for options that go with the other way.
    """
    if cluster is None:
        if options.strip():
            raise ValueError("--cluster-options has no effect without --cluster")
        return None
    if jobs is not None:
        raise ValueError("--jobs has no effect with --cluster: slurm_array_parallelism=N among --cluster-options has")
    return partial(submit_runs, cluster=cluster, parameters=_key_values(options))


def default_jobs() -> int:
    """One process per GPU, or per core."""
    import torch

    return torch.cuda.device_count() or os.cpu_count() or 1


def _failures(
    finished: Iterable[tuple[Task, Callable[[], Record]]], done: Done, fatal: tuple[type[Exception], ...] = ()
) -> list[str]:
    """Reports runs as they finish; returns one line for each that failed, and passes `fatal` errors on."""
    lines = []
    for task, result in finished:
        try:
            status = result()["train_info"]["status"]
        except fatal:
            raise
        except Exception as error:
            status = "failed"
            lines.append(f"{task.key}: {one_line(error)}")
        done(task, status)
    return lines


def _start_worker(counter: Any, gpus: Sequence[str], threads: int) -> None:
    """Gives a worker its GPU or threads, and ends it when its parent dies: a killed sweep leaves no process behind."""
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    parent = multiprocessing.parent_process()
    if parent is not None:
        end_with(parent)
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]  # before torch looks; one: no DataParallel
        return
    import torch

    import lorakappa.llm.comparison.finetuning  # noqa: F401  # loads everything, which the collector need not look through at every run

    gc.freeze()
    torch.set_num_threads(threads)


def _gpus() -> list[str]:
    """The visible GPUs, as entries of CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [str(k) for k in range(count)])[:count]


def _key_values(text: str) -> dict[str, Any]:
    pairs = [item.partition("=") for item in names(text)]
    if not all(key and equals for key, equals, _ in pairs):
        raise ValueError(f"{text!r} must be KEY=VALUE pairs separated by commas")
    return {key: int(value) if value.isdecimal() else value for key, _, value in pairs}
