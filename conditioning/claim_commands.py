"""The commands `list`, `verify` and `replay`, the same for one package's claims and for all of them.

What computes is imported when a command runs, so that its help costs nothing.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from lorakappa.shared.command_line import console, errors, say
from lorakappa.shared.options import LARGEST, Jobs, JsonFile, Quiet
from lorakappa.shared.packages import PACKAGES
from lorakappa.shared.records import ensure_writable, provenance, write_json

if TYPE_CHECKING:
    from lorakappa.conditioning.verification import Claim, Comparison, Instance, Verdict
    from lorakappa.conditioning.verification.examination import Known

DEFAULT_SEED = 0

ClaimPackage = Annotated[str | None, typer.Option("--package", help="Only the claims of this package.")]
Source = Annotated[str | None, typer.Option(help="Only claims whose source contains this, in any case.")]
Trials = Annotated[int | None, typer.Option(min=1, max=LARGEST, help="Instances per claim; its own default.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST, help="Seed of the draws.")]


def add_claim_commands(app: typer.Typer, modules: Mapping[str, str]) -> None:
    """Adds `list`, `verify` and `replay` to a command line.

    Args:
        app: the application.
        modules: module of the claims by package.
    """

    @app.command("list")
    def list_claims(
        package: ClaimPackage = None,
        source: Source = None,
        totals: Annotated[bool, typer.Option("--totals", help="Only how many came out how, in two sentences.")] = False,
    ) -> None:
        """List the claims with their recorded verdicts."""
        from lorakappa.conditioning.verification import report
        from lorakappa.conditioning.verification.examination import known_claims, select

        chosen = select(known_claims(modules), package=package, source=source)
        if totals:
            say(report.totals([entry.claim for entry in chosen]))
            return
        grouped = _by_package(chosen)
        for name, entries in grouped.items():
            title = f"\n{name}\n" if len(grouped) > 1 else None
            console.print(report.claims_table((entry.claim for entry in entries), title=title))

    @app.command()
    def verify(
        ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Claims; all if none.")] = None,
        package: ClaimPackage = None,
        source: Source = None,
        trials: Trials = None,
        seed: Seed = DEFAULT_SEED,
        jobs: Jobs = None,
        json_file: JsonFile = None,
        markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
        quiet: Quiet = False,
    ) -> int:
        """Examine claims; exit 0 if every verdict equals the recorded one and no ground of one fails, else 1."""
        from lorakappa.conditioning.verification import report
        from lorakappa.conditioning.verification.examination import ensure_feasible, examine, known_claims, select

        chosen = select(known_claims(modules), ids or [], package=package, source=source)
        if json_file is not None:
            ensure_writable(json_file)
        chosen = _installed(chosen, needed=bool(ids or package))
        jobs = jobs or os.cpu_count() or 1
        ensure_feasible(chosen, trials=trials, jobs=jobs)
        verdicts = examine(chosen, trials=trials, seed=seed, jobs=jobs, quiet=quiet)
        if json_file is not None:
            made = zip(chosen, verdicts, strict=True)
            origin = {"provenance": provenance(seed=seed)}
            write_json(json_file, [verdict.as_json() | {"package": known.package} | origin for known, verdict in made])
        if markdown:
            print(report.markdown_table(verdicts))
        elif not quiet:
            grouped = _by_package(chosen)
            for name, entries in grouped.items():
                listed = {entry.claim.id for entry in entries}
                rows = [verdict for verdict in verdicts if verdict.claim.id in listed]
                console.print(report.verdict_table(rows, title=f"\n{name}\n" if len(grouped) > 1 else None))
            console.print(_closing(verdicts))
        for verdict in verdicts:
            for fault in verdict.faults:
                errors.print(f"{verdict.claim.id}: {fault}", soft_wrap=True)
        return int(any(verdict.faults or not verdict.as_recorded for verdict in verdicts))

    @app.command()
    def replay(
        id: Annotated[str, typer.Argument(metavar="ID", help="The claim.")],
        file: Annotated[Path | None, typer.Option("--from", help="Verdicts written by verify --json.")] = None,
        trials: Trials = None,
        seed: Seed = DEFAULT_SEED,
    ) -> int:
        """Print a claim with its counterexample (or tight case) and recompute both sides exactly."""
        from lorakappa.conditioning.verification import AlgebraicClaim, report
        from lorakappa.conditioning.verification.examination import ensure_feasible, known_claims, select
        from lorakappa.conditioning.verification.printed import PrintedClaim
        from lorakappa.conditioning.verification.saved_verdicts import parse_instance, replayed

        known = select(known_claims(modules), [id])
        claim = known[0].claim
        if isinstance(claim, PrintedClaim):
            report.print_claim(console, claim)
            _print_instance(claim, *claim.evaluate())
            return 0
        if not isinstance(claim, AlgebraicClaim):
            report.print_claim(console, claim)
            console.print(f"\nrests on measurements, not on an exact instance: run lorakappa verify {id}")
            return 0
        if file is not None:
            evaluated = replayed(file, claim)  # first, or a failure comes after half a page
        else:
            ensure_feasible(known, trials=trials, jobs=1)
            instance = _search_again(claim, trials, seed)
            evaluated = None if instance is None else claim.evaluate(*parse_instance(claim, instance))
        report.print_claim(console, claim)
        if claim.recorded == "holds":
            report.print_ground(console, claim.ground())
        if evaluated is None:
            console.print("\nno counterexample, and no case of equality on record: nothing to replay")
            return 0
        _print_instance(claim, *evaluated)
        return 0


def _print_instance(claim: "Claim", instance: "Instance", comparison: "Comparison") -> None:
    """An instance with both sides, and whether the statement holds there."""
    from lorakappa.conditioning.verification import report

    outcome = "equal to 2⁻¹⁰⁰" if comparison.indistinguishable else "undecided"
    if comparison.certainly_false or comparison.certainly_true:
        outcome = "violated" if comparison.certainly_false else "satisfied"
    report.print_instance(console, claim, instance, f"left {comparison.relation} right: {outcome}")


def _by_package(chosen: "Sequence[Known]") -> "dict[str, list[Known]]":
    """The claims of each package, in order."""
    grouped: dict[str, list[Known]] = {}
    for entry in chosen:
        grouped.setdefault(entry.package, []).append(entry)
    return grouped


def _installed(chosen: "Sequence[Known]", *, needed: bool) -> "list[Known]":
    """The claims that can be examined here; what others need is said on stderr.

    Args:
        chosen: claims.
        needed: whether they were asked for by name.

    Raises:
        ValueError: if one that is needed wants an extra that is not installed.
    """
    from lorakappa.shared.extras import install_hint

    skipped = []
    for name, entries in _by_package(chosen).items():
        hint = install_hint(PACKAGES[name].extra)
        if hint is not None and needed:
            raise ValueError(f"the claims of {name} need {hint}")
        if hint is not None:
            errors.print(f"{len(entries)} claims of {name} are not examined: they need {hint}")
            skipped.append(name)
    return [entry for entry in chosen if entry.package not in skipped]


def _closing(verdicts: "list[Verdict]") -> str:
    from lorakappa.conditioning.verification.levels import Level
    from lorakappa.conditioning.verification.report import STYLES

    counts = {name: sum(v.verdict == name for v in verdicts) for name in STYLES}
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    levels = Counter(verdict.ground.level for verdict in verdicts if verdict.ground)
    strong = ", ".join(f"{levels[level]} {level}" for level in reversed(get_args(Level)) if levels[level])
    wrong = [verdict.claim.id for verdict in verdicts if not verdict.as_recorded]
    text += "; all as recorded" if not wrong else f"; NOT as recorded: {', '.join(wrong)}"
    text += f". Of what holds by algebra, {strong}" if strong else ""
    text += ". sampled, exact: no counterexample found, which is evidence, not proof; refuted: see lorakappa replay ID"
    return f"\n{text}; not seen, equivalent: measured, in the setting that is named"


def _search_again(claim: "Claim", trials: int | None, seed: int) -> dict[str, Any] | None:
    verdict = claim.examine(trials=trials, seed=seed)
    if verdict.counterexample is not None:
        return verdict.counterexample.as_json()
    return verdict.evidence.get("tight")
