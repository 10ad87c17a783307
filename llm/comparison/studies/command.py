"""`compare --study`, and the command `report`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorakappa.shared.command_line import console, say
from lorakappa.shared.options import MOST_SEEDS, Jobs, JsonFile, Quiet, Seed

if TYPE_CHECKING:
    from lorakappa.llm.comparison.protocol import Outcome
    from lorakappa.llm.comparison.studies.about import Described
    from lorakappa.llm.comparison.studies.evidence import Evidence
    from lorakappa.llm.comparison.studies.progress import Progress
    from lorakappa.llm.comparison.workers import Execute

StudyFolder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Folder of a study, also while it runs; or tiny, the project's own evidence."),
]


def compare_study(
    name: str,
    *,
    model: str | None,
    data: str | None,
    jobs: int,
    execute: "Callable[[], Execute | None]",
    out: Path,
    evidence: Path | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> int:
    """Runs a study, or goes on with it.

    Args:
        name: of one that comes with the project, or a file.
        model: in the place of the file's; None for that.
        data: likewise.
        jobs: number of processes.
        execute: makes what makes the runs.
        out: folder in which the study gets its own.
        evidence: folder for the evidence, once nothing is left to run; None for none.
        dry_run: whether to say only what it will take.
        quiet: neither bar nor table.

    Returns:
        The exit status: 1 if runs failed.
    """
    from lorakappa.llm.comparison.studies.about import About, Described, describe, splits_in
    from lorakappa.llm.comparison.studies.files import find_study, read_study
    from lorakappa.llm.comparison.studies.forecast import forecast_lines, note_memory
    from lorakappa.llm.comparison.studies.stages import run_study
    from lorakappa.llm.data.sources import load_splits
    from lorakappa.shared.records import ensure_folder

    file = find_study(name)
    study = read_study(file, model=model, data=data)
    folder = out / f"study-{study.name}"
    executor = execute()
    splits = splits_in(folder, study) or load_splits(study.data.source, **study.data.options())
    about = About(name=study.name, model=model, data=data, source=splits.source, digest=splits.digest)
    if dry_run:
        for line in forecast_lines(Described(study, "", about), splits, folder, jobs):
            console.print(line, soft_wrap=True)
        return 0
    if executor is None and not quiet:
        largest = max(study.arms(), key=lambda arm: arm.rank)
        note_memory(largest.settings, largest.rank, splits, jobs=jobs)
    ensure_folder(folder)
    found = describe(folder, file.read_text(encoding="utf-8"), about)
    progress, failures = run_study(study, splits, folder, jobs=jobs, execute=executor, quiet=quiet)
    for failure in failures:
        say("failed:", failure)
    _tell(progress, splits.source, folder, None, quiet)
    if evidence is not None:
        _keep(found, progress, evidence, quiet)
    return int(bool(failures))


def report(
    folder: StudyFolder,
    replay: Annotated[int, typer.Option(min=0, max=MOST_SEEDS, help="Of evidence: runs to make again.")] = 0,
    seed: Seed = 0,
    jobs: Jobs = None,
    json_file: JsonFile = None,
    comparison: Annotated[
        Path | None, typer.Option(help="Folder for llm-compare.npz and .json: grids, curves and cost, where it chose.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Of --comparison, comma-separated; the first table's if none.")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print only the tables, as Markdown.")] = False,
    quiet: Quiet = False,
) -> int:
    """Show how far a study is and what it says so far; of evidence, check that it agrees with itself."""
    from lorakappa.llm.comparison.studies.about import described, progress_in
    from lorakappa.llm.comparison.studies.evidence import is_evidence, read_evidence
    from lorakappa.llm.comparison.studies.outcomes import found_folder
    from lorakappa.shared.records import ensure_writable

    if methods and comparison is None:
        raise ValueError("--methods goes with --comparison")
    if comparison is not None:
        ensure_writable(comparison / "llm-compare.json")
    folder = found_folder(folder)
    quiet = quiet or markdown
    evidence = read_evidence(folder) if is_evidence(folder) else None
    if evidence is not None:
        progress, source = evidence.progress, evidence.manifest.about.source
    elif replay:
        raise ValueError(f"--replay is for evidence, which {folder} is not")
    else:
        found = described(folder)
        progress, source = progress_in(folder, found), found.about.source
    chosen = _comparison(progress, source, comparison, methods)
    _tell(progress, source, folder if evidence is None else None, json_file, quiet, markdown)
    _save_comparison(chosen, comparison, quiet)
    if evidence is None:
        return 0
    faults = evidence.faults()
    faults += _other_verdicts(evidence)
    if replay and not faults:
        faults = _replayed(evidence, replay, seed, jobs)
    for fault in faults:
        say("fault:", fault)
    if not faults and not quiet:
        say("manifest, records and conclusions agree")
    return int(bool(faults))


def _comparison(progress: "Progress", source: str, folder: Path | None, methods: str) -> "Outcome | None":
    """The selection stage of a study's table as a comparison, if there is a folder for it.

    Raises:
        ValueError: if runs of the study are left, or no table has all of the methods.
    """
    from lorakappa.llm.comparison.studies.outcomes import selection_of_table
    from lorakappa.shared.method_names import split_method_names

    if folder is None:
        return None
    return selection_of_table(progress, source, split_method_names(methods) if methods else ())


def _save_comparison(chosen: "Outcome | None", folder: Path | None, quiet: bool) -> None:
    """Saves it, for its figures."""
    from lorakappa.llm.comparison.summary import save

    if chosen is None or folder is None:
        return
    files = save(chosen, folder)
    if not quiet:
        say("saved", *files)


def _other_verdicts(evidence: "Evidence") -> list[str]:
    """A line for each claim on which the records say another thing than the manifest."""
    from lorakappa.llm.comparison.claims import verdicts_of_study

    again = verdicts_of_study(evidence.progress, evidence.manifest.about.source)
    kept = evidence.manifest.claims
    return [f"{id}: the verdict is {again.get(id)}, not {old}" for id, old in kept.items() if again.get(id) != old]


def _replayed(evidence: "Evidence", count: int, seed: int, jobs: int | None) -> list[str]:
    """Makes some runs of evidence again; a line for each that differs by more than is explained."""
    import math

    from lorakappa.llm.comparison.studies.replay import compared, make_again, sample, spread_of
    from lorakappa.llm.comparison.workers import Workers, default_jobs
    from lorakappa.llm.data.sources import load_splits

    splits = load_splits(evidence.study.data.source, **evidence.study.data.options())
    if splits.digest != evidence.manifest.about.digest:
        return ["the data of the runs cannot be made again: its digest differs"]
    keys = sample(evidence.records, count=count, seed=seed, seconds=math.inf)
    with Workers(jobs or default_jobs()) as workers:
        again = make_again(keys, splits, workers)
    faults = []
    for key in keys:
        run = key[0]
        name = f"{run.method}, r = {run.rank}, learning rate {run.learning_rate:g}, seed {run.seed}"
        if key not in again:
            faults.append(f"{name}: it failed")
            continue
        found = compared(key, evidence.records[key], again[key], spread_of(evidence.progress, key))
        say(f"{name}: losses differ by {found.difference:.2g}, {found.allowed:.2g} allowed")
        if not found.agrees:
            faults.append(f"{name}: losses differ by {found.difference:.2g}, more than {found.allowed:.2g}")
    return faults


def _keep(found: "Described", progress: "Progress", folder: Path, quiet: bool) -> None:
    """Keeps the evidence of a study that is done, with what it says on the claims.

    Raises:
        ValueError: if runs are left.
    """
    from lorakappa.llm.comparison.claims import verdicts_of_study
    from lorakappa.llm.comparison.studies.evidence import keep

    if left := len(progress.pending()):
        raise ValueError(f"{left} runs are left, so that no evidence was kept: the same command goes on")
    keep(found, progress, folder, verdicts_of_study(progress, found.about.source))
    if not quiet:
        say("evidence in", folder)


def _tell(
    progress: "Progress",
    source: str,
    folder: Path | None,
    json_file: Path | None,
    quiet: bool,
    markdown: bool = False,
) -> None:
    """Saves what a study says, draws it, and prints the table."""
    from lorakappa.figures.drawing import draw_saved
    from lorakappa.llm.comparison.studies.findings import study_json
    from lorakappa.llm.comparison.studies.tables import closing, study_markdown, study_table
    from lorakappa.shared.records import provenance, write_json

    found = study_json(progress, source)
    contents = {"experiment": "study", **found, "provenance": provenance(seed=progress.study.selection_seeds[0])}
    places = [None if folder is None else folder / "study.json", json_file]
    files = [write_json(place, contents) for place in places if place is not None]
    if folder is not None:
        files += draw_saved("study", folder)
    if markdown:
        print(study_markdown(found))
    if not quiet:
        console.print(study_table(found))
        console.print(closing(found))
        if files:
            say("saved", *files)
