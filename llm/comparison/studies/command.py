"""`compare --study`, and the command `report`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakappa.shared.command_line import console, say
from lorakappa.shared.options import JsonFile, Quiet

if TYPE_CHECKING:
    from lorakappa.llm.comparison.workers import Execute

StudyFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study, also while it runs.")]


def compare_study(
    name: str,
    *,
    model: str | None,
    data: str | None,
    jobs: int,
    execute: "Callable[[], Execute | None]",
    out: Path,
    quiet: bool,
) -> int:
    """Runs a study, or goes on with it.

    Args:
        name: of one that comes with the project, or a file.
        model: in the place of the file's; None for that.
        data: likewise.
        jobs: number of processes.
        execute: makes what makes the runs.
        out: folder in which the study gets its own.
        quiet: neither bar nor table.

    Returns:
        The exit status: 1 if runs failed.
    """
    from lorakappa.llm.comparison.studies.about import About, describe
    from lorakappa.llm.comparison.studies.files import find_study, read_study
    from lorakappa.llm.comparison.studies.stages import run_study
    from lorakappa.llm.data.sources import load_splits
    from lorakappa.shared.records import ensure_folder

    file = find_study(name)
    study = read_study(file, model=model, data=data)
    folder = out / f"study-{study.name}"
    ensure_folder(folder)
    executor = execute()
    splits = load_splits(study.data.source, **study.data.options())
    about = About(name=study.name, model=model, data=data, source=splits.source, digest=splits.digest)
    describe(folder, file.read_text(encoding="utf-8"), about)
    progress, failures = run_study(study, splits, folder, jobs=jobs, execute=executor, quiet=quiet)
    for failure in failures:
        say("failed:", failure)
    _tell(progress, splits.source, folder, None, quiet)
    return int(bool(failures))


def report(folder: StudyFolder, json_file: JsonFile = None, quiet: Quiet = False) -> None:
    """Show how far a study is and what it says so far; looking changes nothing, at any moment."""
    from lorakappa.llm.comparison.studies.about import described, progress_in

    found = described(folder)
    _tell(progress_in(folder, found), found.about.source, folder, json_file, quiet)


def _tell(progress: Any, source: str, folder: Path, json_file: Path | None, quiet: bool) -> None:
    """Saves what a study says, draws it, and prints the table."""
    from lorakappa.llm.comparison.studies.findings import study_json
    from lorakappa.llm.comparison.studies.tables import closing, study_table
    from lorakappa.shared.records import provenance, write_json

    found = study_json(progress, source)
    contents = {"experiment": "study", **found, "provenance": provenance(seed=progress.study.selection_seeds[0])}
    files = [write_json(folder / "study.json", contents)]
    if json_file is not None:
        files.append(write_json(json_file, contents))
    if not quiet:
        console.print(study_table(found))
        console.print(closing(found))
        say("saved", *files)
