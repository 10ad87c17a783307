"""The runs of a comparison on disk and on workers: each is one record, written whole, made once.

A record's file name is a hash of everything that determines the run. So a sweep that was killed at any moment goes on
with the same command, an extended sweep reuses what is there, and changed settings never mix with old records.
"""

import gc
import hashlib
import json
import math
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorakappa.shared.records import write_json

if TYPE_CHECKING:
    from lorakappa.llm.comparison.finetune import Run, Settings

Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A run that is to be made, as workers get it.

    Attributes:
        run: cell and seed.
        settings: what runs share.
        data: folder of the splits (`llm.data.splits.read_splits`).
        digest: of those splits.
        folder: of the comparison.
        keep_adapter: whether to save the adapter in `folder`/adapters.
    """

    run: "Run"
    settings: "Settings"
    data: Path
    digest: str
    folder: Path
    keep_adapter: bool = False

    @property
    def key(self) -> str:
        """Readable name and hash."""
        run = self.run
        identity = {"run": asdict(run), "settings": asdict(self.settings), "data": self.digest}
        text = json.dumps(identity, sort_keys=True)
        name = f"{run.method}-r{run.rank}-s{run.scale:g}-lr{run.learning_rate:g}-seed{run.seed}"
        safe = "".join(c if c.isalnum() or c in "-.+" else "_" for c in name)
        return f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def file(self) -> Path:
        """Where the record goes."""
        return self.folder / "runs" / f"{self.key}.json"

    def record(self) -> Record | None:
        """The finished record, or None if the run has not been made or failed for a reason that may have gone.

        Raises:
            ValueError: if the file is not a record.
        """
        try:
            record: Record = json.loads(self.file.read_text(encoding="utf-8"), object_hook=_restore_floats)
            status = record["train_info"]["status"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.file} is not a record of a run ({error}); delete it to make the run again"
            ) from None
        return None if status == "failed" else record


def make_run(task: Task) -> Record:
    """Makes one run and writes its record; a run that fails leaves a record with status "failed" and its reason."""
    from lorakappa.llm.comparison.finetune import finetune
    from lorakappa.llm.data.splits import read_splits

    work = task.folder / "work" / task.key
    adapter = task.folder / "adapters" / task.key if task.keep_adapter else None
    try:
        record = finetune(task.run, task.settings, read_splits(task.data), work=work, adapter=adapter)
    except Exception as error:
        write_json(task.file, _failed(task, error))
        raise
    write_json(task.file, record)
    shutil.rmtree(work, ignore_errors=True)
    return record


class Workers(AbstractContextManager["Workers"]):
    """Makes runs, several at a time in processes of their own, which start when first needed and end with the context.

    With several GPUs process k uses GPU k mod their number.

    Args:
        jobs: number of processes; 1 stays in this one, unless there are several GPUs.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, tasks: Sequence[Task], *, done: Callable[[Task, str], None]) -> list[str]:
        """Makes those runs that have no record yet.

        Args:
            tasks: runs.
            done: called with each finished task and its status.

        Returns:
            One line for each run that failed.

        Raises:
            ValueError, OSError: as soon as a run does, since that is a setting, a missing model or a full disk, which
                the next run will meet, too.
            ChildProcessError: if a worker was killed (out of memory?); finished runs are kept.
        """
        pending = [task for task in tasks if task.record() is None]
        gpus = _gpus()
        if self._pool is None and (self._jobs == 1 or len(pending) <= 1) and len(gpus) <= 1:
            return [line for task in pending for line in _outcome(task, lambda task=task: make_run(task), done)]  # type: ignore[misc]
        self._pool = self._pool or self._new_pool(gpus)
        futures = {self._pool.submit(make_run, task): task for task in pending}
        try:
            return [line for future in as_completed(futures) for line in _outcome(futures[future], future.result, done)]
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


def _outcome(task: Task, result: Callable[[], Record], done: Callable[[Task, str], None]) -> list[str]:
    """Reports a finished run; its reason, if it failed, unless all others would fail as well."""
    failures = []
    try:
        status = result()["train_info"]["status"]
    except (BrokenProcessPool, ValueError, OSError):
        raise
    except Exception as error:
        status = "failed"
        failures.append(f"{task.key}: {_one_line(error)}")
    done(task, status)
    return failures


def submit_runs(
    tasks: Sequence[Task], *, cluster: str, parameters: dict[str, Any], done: Callable[[Task, str], None]
) -> list[str]:
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
        raise ValueError("clusters need submitit: pip install 'lora-conditioning[cluster]'") from None
    pending = [task for task in tasks if task.record() is None]
    if not pending:
        return []
    folder = pending[0].folder / "jobs"
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**parameters)
    except Exception as error:
        raise ValueError(f"submitit: {_one_line(error)}") from None
    failures: list[str] = []
    jobs = executor.map_array(make_run, pending)
    for task, job in zip(pending, jobs, strict=True):
        try:
            status = job.result()["train_info"]["status"]
        except Exception as error:
            status = "failed"
            failures.append(f"{task.key}: {_one_line(error)}")
        done(task, status)
    return failures


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds a comparison's folder, so that two commands at once do not make the same runs twice.

    Raises:
        ValueError: if another process holds it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"another process is working on {folder}; wait for it or choose another --out") from None


def _start_worker(counter: Any, gpus: Sequence[str], threads: int) -> None:
    """Gives a worker its GPU or threads, and ends it when its parent dies: a killed sweep leaves no process behind."""
    with counter.get_lock():
        number = counter.value
        counter.value += 1
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]  # before torch looks; one: no DataParallel
        return
    import torch

    import lorakappa.llm.comparison.finetune  # noqa: F401  # loads everything, which the collector need not look through at every run

    gc.freeze()
    torch.set_num_threads(threads)


def _gpus() -> list[str]:
    """The visible GPUs, as entries of CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [str(k) for k in range(count)])[:count]


def _failed(task: Task, error: Exception) -> Record:
    return {
        "run": asdict(task.run),
        "run_info": {"train_config": asdict(task.settings), "error_msg": _one_line(error)},
        "train_info": {"status": "failed", "metrics": []},
    }


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _restore_floats(entry: dict[str, Any]) -> dict[str, Any]:
    """Numbers that JSON does not have and `write_json` spells out."""
    spelled = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
    return {key: spelled.get(value, value) if isinstance(value, str) else value for key, value in entry.items()}
