"""Evidence as the outcome of a comparison, so that the claims' rules can be put to it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Literal

from lorakappa.llm.comparison.protocol import Outcome, Plan
from lorakappa.llm.comparison.runs import Record
from lorakappa.llm.comparison.studies.evidence import Evidence, is_evidence, read_evidence, read_manifest
from lorakappa.llm.comparison.studies.progress import Progress
from lorakappa.llm.comparison.studies.study import Study, StudyTable
from lorakappa.shared.evidence_files import refuse

FOLDER = Path(__file__).parents[2] / "evidence"
"""Where the evidence lies that comes with the project, a folder a study."""

Stage = Literal["fresh", "selection"]


def kept(study: str) -> Path | None:
    """The folder of the evidence that comes with the project; None if a study has none."""
    folder = FOLDER / study
    return folder if is_evidence(folder) else None


def found_folder(folder: Path) -> Path:
    """A folder as it is; where there is none of that name, the evidence of that name that comes with the project."""
    if folder.exists() or len(folder.parts) != 1:
        return folder
    return kept(folder.name) or folder


@cache
def sound_evidence(folder: Path) -> Evidence:
    """Reads evidence, once, that must agree with itself.

    Raises:
        ValueError: with the first fault.
    """
    found = read_evidence(folder)
    refuse(folder, found.faults())
    return found


def recorded_verdict(study: str, claim: str) -> str | None:
    """The verdict on a claim that the evidence of a study has on record; None without evidence or verdict."""
    folder = kept(study)
    return None if folder is None else read_manifest(folder).claims.get(claim)


def table_with(study: Study, methods: set[str], name: str | None = None) -> StudyTable | None:
    """The first table of a study that has all those methods, or the one of that name if it has."""
    found = (table for table in study.tables if methods <= set(table.methods) and name in (None, table.name))
    return next(found, None)


def outcome_of_study(
    progress: Progress,
    source: str,
    methods: Sequence[str],
    stage: Stage,
    *,
    table: str | None = None,
    steps: int | None = None,
    start: float | None = None,
) -> Outcome | None:
    """Methods of a study as a comparison at all ranks of a table.

    Args:
        progress: of the study.
        source: description of the data.
        methods: two or more of one table; the first is the baseline.
        stage: "fresh" for the cells that measure effects on the seeds that do, the least number of them (how many more
            there are depends on what the first ones showed), with those at the best learning rates where a table is of
            a multiple of them; "selection" for the whole grids on the seeds that choose.
        table: its name; None for the first that has all of the methods.
        steps: horizon; None for the table's first.
        start: size of the start; None for the table's first, if it has any.

    Returns:
        The outcome; None if there is no such table, or it lacks the horizon or start.
    """
    found = table_with(progress.study, set(methods), table)
    if found is None:
        return None
    steps = found.steps[0] if steps is None else steps
    if start is None and found.starts:
        start = found.starts[0]
    there = {
        (arm.method, contrast.rank): arm
        for contrast in found.contrasts()
        if (contrast.steps, contrast.start) == (steps, start)
        for arm in (contrast.baseline, contrast.method)
    }
    arms = {key: there[key] for key in product(methods, found.ranks) if key in there}
    if not arms:
        return None
    records: dict[tuple[str, int], list[Record]]
    if stage == "selection":
        seeds = progress.study.selection_seeds
        records = {key: list(progress.selections[arm].records) for key, arm in arms.items()}
    else:
        known = {
            key: [
                progress.fresh(each)
                for each in dict.fromkeys((arm, replace(arm, times_best_rate=1.0)))
                if each in progress.selections
            ]
            for key, arm in arms.items()
        }
        number = min(progress.study.fresh.minimum, *(len(found) for cells in known.values() for found in cells))
        seeds = tuple(progress.study.fresh_seeds(number)) or (progress.study.fresh.first,)
        records = {key: [record for found in cells for record in found[:number]] for key, cells in known.items()}
    plan = Plan(
        methods=tuple(methods),
        ranks=found.ranks,
        learning_rates=found.learning_rates,
        scalings=found.scalings if start is None else (start,),
        strengths=found.strengths,
        seeds=seeds,
        settings=next(iter(arms.values())).settings,
        extensions=progress.study.extensions,
    )
    return Outcome(plan, source, records, [])


def selection_of_table(progress: Progress, source: str, methods: Sequence[str] = ()) -> Outcome:
    """Methods of a study's first table on the seeds that chose their cells: whole grids, curves and cost.

    Args:
        progress: of the study.
        source: description of the data.
        methods: of that table, the first of which is the baseline; all if none.

    Raises:
        ValueError: if no table has all of them, or runs of the study are left.
    """
    methods = methods or progress.study.tables[0].methods
    if left := len(progress.pending()):
        raise ValueError(f"{left} runs of the study are left: what its grids say is known when it is done")
    found = outcome_of_study(progress, source, methods, "selection")
    if found is None:
        raise ValueError(f"no table of {progress.study.name} has all of {', '.join(methods)}")
    return found
