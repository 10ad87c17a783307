"""The runs of a comparison on disk: each is one record, written whole, made once.

A record's file name is a hash of everything that determines the run. So a sweep that was killed at any moment goes on
with the same command, an extended sweep reuses what is there, and changed settings never mix with old records.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorakappa.llm.comparison.leftovers import nothing_left
from lorakappa.llm.comparison.record_schema import record_problem
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.data.splits import read_splits
from lorakappa.shared.records import write_json

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

    run: Run
    settings: TrainingSettings
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
        name = f"{run.method}-r{run.rank}-s{run.scaling:g}-lr{run.learning_rate:g}-seed{run.seed}"
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
            record: Record = json.loads(self.file.read_text(encoding="utf-8"), object_hook=restore_floats)
            problem = None if _failed_before(record) else record_problem(record)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            problem = str(error)
        if problem is None and _failed_before(record):
            return None
        if problem is None and any(record["run"][name] != value for name, value in asdict(self.run).items()):
            problem = f"but of another one, {record['run']}"
        if problem is not None:
            raise ValueError(f"{self.file} is not a record of a run ({problem}); delete it to make the run again")
        return record


def make_run(task: Task) -> Record:
    """Makes one run and writes its record; a run that fails leaves a record with status "failed" and its reason."""
    from lorakappa.llm.comparison.finetuning import finetune

    work = task.folder / "work" / task.key
    adapter = task.folder / "adapters" / task.key if task.keep_adapter else None
    try:
        with nothing_left(work):
            record = finetune(task.run, task.settings, read_splits(task.data), work=work, adapter=adapter)
    except Exception as error:
        write_json(task.file, _failed(task, error))
        raise
    write_json(task.file, record)
    shutil.rmtree(work, ignore_errors=True)
    return record


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


def one_line(error: Exception) -> str:
    """Type and message of an error."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _failed_before(record: Any) -> bool:
    """Whether JSON data is what `make_run` leaves of a run that fails."""
    info = record.get("train_info") if isinstance(record, dict) else None
    return isinstance(info, dict) and info.get("status") == "failed"


def _failed(task: Task, error: Exception) -> Record:
    return {
        "run": asdict(task.run),
        "run_info": {"train_config": asdict(task.settings), "error_msg": one_line(error)},
        "train_info": {"status": "failed", "metrics": []},
    }


def restore_floats(entry: dict[str, Any]) -> dict[str, Any]:
    """Numbers that JSON does not have and `write_json` spells out."""
    spelled = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
    return {key: spelled.get(value, value) if isinstance(value, str) else value for key, value in entry.items()}
