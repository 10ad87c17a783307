"""The commands `list`, `verify` and `replay`, the same in every room that makes claims."""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields
from fractions import Fraction
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lorakappa.conditioning.verification import report
from lorakappa.conditioning.verification.algebraic import AlgebraicClaim
from lorakappa.conditioning.verification.claim import Claim, Verdict
from lorakappa.conditioning.verification.family import Shape
from lorakappa.shared.command_line import console, errors
from lorakappa.shared.records import ensure_writable, provenance, write_json

DEFAULT_SEED = 0


def add_claim_commands(app: typer.Typer, load_claims: Callable[[], Mapping[str, Claim]], room: str) -> None:
    """Adds `list`, `verify` and `replay` to a room's command line.

    Args:
        app: the room's application.
        load_claims: returns the room's claims by id; called when a command runs, not at import.
        room: name used in texts.
    """

    @app.command("list")
    def list_claims() -> None:
        """List the claims with their recorded verdicts."""
        console.print(report.claims_table(load_claims().values()))

    @app.command()
    def verify(
        ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Claims; all if none.")] = None,
        trials: Annotated[int | None, typer.Option(min=1, help="Instances per claim; its own default.")] = None,
        seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = DEFAULT_SEED,
        json_file: Annotated[Path | None, typer.Option("--json", help="Write the verdicts here.")] = None,
        jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one per core by default.")] = None,
        markdown: Annotated[bool, typer.Option(help="Print the table as Markdown.")] = False,
    ) -> int:
        """Examine claims; exit 0 if every verdict equals the recorded one, else 1."""
        chosen = select(load_claims(), ids or [])
        if json_file is not None:
            ensure_writable(json_file)
        verdicts = examine(chosen, room, trials=trials, seed=seed, jobs=jobs or os.cpu_count() or 1)
        if json_file is not None:
            write_json(json_file, [verdict.as_json() | {"provenance": provenance(seed=seed)} for verdict in verdicts])
        if markdown:
            print(report.markdown_table(verdicts))
        else:
            console.print(report.verdict_table(verdicts))
            console.print(_closing(verdicts, room))
        return int(not all(verdict.as_recorded for verdict in verdicts))

    @app.command()
    def replay(
        id: Annotated[str, typer.Argument(metavar="ID", help="The claim.")],
        file: Annotated[Path | None, typer.Option("--from", help="Verdicts written by verify --json.")] = None,
        trials: Annotated[int | None, typer.Option(min=1, help="Instances drawn to find it again.")] = None,
        seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = DEFAULT_SEED,
    ) -> int:
        """Print a claim with its counterexample (or tight case) and recompute both sides exactly."""
        (claim,) = select(load_claims(), [id])
        if not isinstance(claim, AlgebraicClaim):
            report.print_claim(console, claim)
            console.print(f"\nrests on measurements, not on an exact instance: run python -m {room} verify {id}")
            return 0
        found = _saved_instance(file, id) if file is not None else _search_again(claim, trials, seed)
        report.print_claim(console, claim)
        if found is None:
            console.print("\nno counterexample, and no case of equality on record: nothing to replay")
            return 0
        shape, parameters = Shape(**found["shape"]), tuple(Fraction(x) for x in found["parameters"])
        instance, comparison = claim.evaluate(shape, parameters)
        outcome = "equal to 2⁻¹⁰⁰" if comparison.indistinguishable else "undecided"
        if comparison.certainly_false or comparison.certainly_true:
            outcome = "violated" if comparison.certainly_false else "satisfied"
        report.print_instance(console, claim, instance, f"left {comparison.relation} right: {outcome}")
        return 0


def select(claims: Mapping[str, Claim], ids: list[str]) -> list[Claim]:
    """The named claims in the order given, all of them for an empty list.

    Raises:
        ValueError: if an id is unknown.
    """
    unknown = [id for id in ids if id not in claims]
    if unknown:
        raise ValueError(f"unknown claim {', '.join(unknown)}; `list` shows the {len(claims)} there are")
    return [claims[id] for id in ids] if ids else list(claims.values())


def examine(claims: list[Claim], room: str, *, trials: int | None, seed: int, jobs: int) -> list[Verdict]:
    """Examines claims under a progress bar (on stderr), `jobs` at a time in processes of their own.

    Args:
        claims: claims of one room.
        room: the room's package; workers find the claims by id in its module `claims`.
        trials: as for `Claim.examine`.
        seed: as for `Claim.examine`.
        jobs: number of processes; 1 stays in this one.

    Returns:
        Verdicts in the order of the claims; they do not depend on `jobs`.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("", total=len(claims))
        groups = _examined_together(claims)
        if jobs == 1 or len(groups) == 1:
            verdicts = []
            for claim in claims:
                progress.update(task, description=claim.id)
                verdicts.append(claim.examine(trials=trials, seed=seed))
                progress.advance(task)
            return verdicts
        found: dict[str, dict[str, Any]] = {}
        with ProcessPoolExecutor(min(jobs, len(groups)), mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(_examine_by_id, room, [claim.id for claim in g], trials, seed) for g in groups]
            for done in as_completed(futures):
                found |= done.result()
                progress.update(task, completed=len(found), description=next(reversed(found)))
        return [Verdict(claim=claim, **found[claim.id]) for claim in claims]


def _examined_together(claims: list[Claim]) -> list[list[Claim]]:
    """Groups of claims for one process each: those that share an experiment stay together, the largest first."""
    groups: dict[str, list[Claim]] = {}
    for claim in claims:
        groups.setdefault(claim.experiment or claim.id, []).append(claim)
    return sorted(groups.values(), key=len, reverse=True)


def _examine_by_id(room: str, ids: list[str], trials: int | None, seed: int) -> dict[str, dict[str, Any]]:
    """A worker's job: verdicts by id, without the claims themselves, which need not be picklable."""
    known = import_module(f"{room}.claims").CLAIMS
    verdicts = {id: known[id].examine(trials=trials, seed=seed) for id in ids}
    return {
        id: {field.name: getattr(verdict, field.name) for field in fields(verdict) if field.name != "claim"}
        for id, verdict in verdicts.items()
    }


def _closing(verdicts: list[Verdict], room: str) -> str:
    counts = {name: sum(v.verdict == name for v in verdicts) for name in ("holds", "refuted", "inconclusive")}
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    wrong = [verdict.claim.id for verdict in verdicts if not verdict.as_recorded]
    text += "; all as recorded" if not wrong else f"; NOT as recorded: {', '.join(wrong)}"
    return (
        f"\n{text}. holds: no counterexample found, which is evidence, not proof; "
        f"refuted: see python -m {room} replay ID"
    )


def _search_again(claim: Claim, trials: int | None, seed: int) -> dict[str, Any] | None:
    verdict = claim.examine(trials=trials, seed=seed)
    if verdict.counterexample is not None:
        return verdict.counterexample.as_json()
    return verdict.evidence.get("tight")


def _saved_instance(file: Path, id: str) -> dict[str, Any] | None:
    try:
        entries = {
            entry["id"]: entry["counterexample"] or entry["evidence"].get("tight")
            for entry in json.loads(file.read_text(encoding="utf-8"))
        }
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is not a file written by verify --json ({error})") from None
    if id not in entries:
        raise ValueError(f"{file} has no verdict on {id}")
    found: dict[str, Any] | None = entries[id]
    return found
