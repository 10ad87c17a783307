"""Makes the runs of a study, in both stages and as far as its budget goes; the same call goes on where it stopped."""

from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lorakappa.llm.comparison.protocol import stored
from lorakappa.llm.comparison.runs import Record, Task, exclusive
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.comparison.studies.progress import Pending, Progress
from lorakappa.llm.comparison.studies.study import Study
from lorakappa.llm.comparison.telling import RunsShown
from lorakappa.llm.comparison.workers import Execute, Workers
from lorakappa.llm.data.splits import Splits
from lorakappa.shared.methods import check_installed

FATAL = (BrokenProcessPool, OSError)
"""Errors of one run that end a study; a method that refuses its setting leaves the others alone."""

BATCH = 256
"""Runs that are begun before the budget is looked at again."""


@dataclass(frozen=True)
class StudyFolder:
    """The runs of a study on disk.

    Attributes:
        folder: of the study.
        data: folder of its splits.
        digest: of those.
    """

    folder: Path
    data: Path
    digest: str

    def task(self, run: Run, settings: TrainingSettings) -> Task:
        """A run as workers get it."""
        return Task(run, settings, self.data, self.digest, self.folder)

    def lookup(self) -> "KnownRecords":
        """Records as they are found, each read once."""
        return KnownRecords(self)


class KnownRecords:
    """The records in a study's folder; one that was found is not read again.

    Args:
        place: the folder.
    """

    def __init__(self, place: StudyFolder) -> None:
        self._place = place
        self._found: dict[str, Record] = {}

    def __call__(self, run: Run, settings: TrainingSettings) -> Record | None:
        """The record of a run; None if it has not been made or failed."""
        task = self._place.task(run, settings)
        key = task.key
        if key not in self._found:
            record = task.record()
            if record is None:
                return None
            self._found[key] = record
        return self._found[key]


def run_study(
    study: Study,
    splits: Splits,
    folder: Path,
    *,
    jobs: int = 1,
    execute: Execute | None = None,
    quiet: bool = False,
) -> tuple[Progress, list[str]]:
    """Makes all runs of a study that have no record yet.

    Args:
        study: what to compare.
        splits: the data; a copy is kept in the folder, under its digest.
        folder: of the study.
        jobs: number of processes.
        execute: what makes the runs; None for `llm.comparison.workers.Workers` with `jobs`.
        quiet: no progress bar.

    Returns:
        What came out, and a line for each run that failed.

    Raises:
        ValueError: on a method whose package is not installed, or if another process works in the folder.
    """
    check_installed([arm.method for arm in study.arms()])
    _check(study, splits)
    failures: dict[tuple[Run, TrainingSettings], str] = {}
    with ExitStack() as stack:
        stack.enter_context(exclusive(folder))
        execute = execute or stack.enter_context(Workers(jobs, FATAL))
        shown = stack.enter_context(RunsShown(quiet))
        place = StudyFolder(folder, *stored(splits, folder))
        lookup = place.lookup()
        while True:
            progress = Progress(study, lookup, frozenset(failures))
            tasks = _tasks(place, progress.pending())
            if not tasks:
                return progress, list(failures.values())
            made = progress.spent()[1]
            lines = execute(tasks[:BATCH], done=shown.batch(made + len(tasks), len(tasks)))
            for task in tasks[:BATCH]:
                if lookup(task.run, task.settings) is None:
                    told = (line for line in lines if line.startswith(f"{task.key}: "))
                    failures[task.run, task.settings] = next(told, f"{task.key}: it left no record")


def _tasks(place: StudyFolder, pending: Sequence[Pending]) -> list[Task]:
    """The runs to be made, each once."""
    tasks = [place.task(each.run, each.arm.settings) for each in pending]
    return list({task.key: task for task in tasks}.values())


def _check(study: Study, splits: Splits) -> None:
    """Refuses settings that a method cannot have before anything is run.

    Raises:
        ValueError: naming the method.
    """
    from lorakappa.llm.comparison.finetuning import check_run

    for arm in study.arms():
        check_run(arm.run(arm.places(arm.learning_rates)[0], study.selection_seeds[0]), arm.settings, splits)
