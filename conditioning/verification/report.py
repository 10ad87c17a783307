"""How verdicts are shown: one table on one screen, and exact replays of counterexamples.

What is styled is `rich.text.Text`; everything else is printed as it is, on consoles that read no markup.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lorakappa.conditioning.verification.algebraic import AlgebraicClaim
from lorakappa.conditioning.verification.claim import Claim, Verdict, VerdictName
from lorakappa.conditioning.verification.levels import Ground
from lorakappa.conditioning.verification.measured import MeasuredClaim
from lorakappa.shared.totals import Outcome, came_out, tally

STYLES: dict[VerdictName, str] = {
    "holds": "green",
    "refuted": "red",
    "not seen": "magenta",
    "equivalent": "cyan",
    "inconclusive": "yellow",
}


def claims_table(claims: Iterable[Claim], *, title: str | None = None) -> Table:
    """All claims with their recorded verdicts."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("claim", no_wrap=True)
    table.add_column("recorded", no_wrap=True)
    table.add_column("statement")
    for claim in claims:
        recorded = Text(claim.recorded, style=STYLES[claim.recorded])
        prefix = f"({claim.kind}) " if claim.kind != "claim" else ""
        table.add_row(claim.id, recorded, prefix + claim.statement)
    return table


def totals(claims: Sequence[Claim]) -> str:
    """How many claims came out how, by the verdicts on record and the theorems and certificates behind them.

    Those of the sources stand apart from our own questions and corrections.
    """

    def level(claim: Claim) -> str | None:
        return claim.ground().level if isinstance(claim, AlgebraicClaim) and claim.recorded == "holds" else None

    return came_out(
        tally(Outcome(claim.kind, claim.recorded, level(claim), claim.corrected_by is not None) for claim in claims)
    )


def verdict_table(verdicts: Sequence[Verdict], *, title: str | None = None) -> Table:
    """One row a claim: verdict, evidence and what follows from it."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("claim", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    table.add_column("draws", justify="right", no_wrap=True)
    table.add_column("margin", justify="right", no_wrap=True)
    table.add_column("counterexample, or what it rests on", overflow="fold")
    for verdict in verdicts:
        surprise = ("", "") if verdict.as_recorded else (" !", "bold red")
        margin = "–" if verdict.worst_margin is None else f"{verdict.worst_margin:+.1e}"
        table.add_row(
            verdict.claim.id,
            Text.assemble((outcome(verdict), STYLES[verdict.verdict]), surprise),
            str(verdict.trials),
            margin,
            summary(verdict),
        )
    return table


def outcome(verdict: Verdict) -> str:
    """The verdict and, if it holds, its level."""
    return f"{verdict.verdict} ({verdict.ground.level})" if verdict.ground else verdict.verdict


def summary(verdict: Verdict) -> str:
    """The evidence in one short line."""
    claim = verdict.claim
    repaired = f" → {claim.corrected_by}" if claim.corrected_by else ""
    if verdict.counterexample is not None:
        instance = verdict.counterexample
        shape = ", ".join(f"{name}={size}" for name, size in instance.shape.items())
        return f"{shape}{': ' if shape else ''}{instance.left} against {instance.right}{repaired}"
    kind = [] if claim.kind == "claim" else [claim.kind]
    if isinstance(claim, MeasuredClaim):
        return ", ".join([*kind, verdict.note]) + f"; setting: {verdict.setting}" + repaired
    attained = ["attained"] if verdict.evidence.get("tight", {}).get("equal") else []
    return ", ".join([*kind, _basis(verdict), *attained])


def _basis(verdict: Verdict) -> str:
    """What a verdict without counterexample rests on, in a few words."""
    exact = verdict.evidence.get("exact_instances")
    if verdict.ground is None:
        return verdict.note
    if verdict.ground.theorems:
        return ", ".join(f"{theorem.file}: {theorem.theorem}" for theorem in verdict.ground.theorems)
    if verdict.ground.certificate:
        certificate = verdict.ground.certificate
        ending = ", the last step by hand" if certificate.by_hand else ""
        return f"all instances of {len(certificate.shapes)} shapes{ending}"
    return f"{exact} instances also exactly" if exact else "in floating point"


def markdown_table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a Markdown table, for the README."""
    lines = ["| claim | statement | verdict |", "|---|---|---|"]
    for verdict in verdicts:
        claim = verdict.claim
        shown = f"**{verdict.verdict}**" if verdict.verdict != "holds" else "holds"
        words: list[str] = [] if verdict.ground is None else [verdict.ground.level]
        if verdict.counterexample is not None or isinstance(claim, MeasuredClaim):
            shown += f": {summary(verdict)}"
        elif words := [*words, *([] if claim.kind == "claim" else [claim.kind])]:
            shown += f" ({', '.join(words)})"
        lines.append(f"| `{claim.id}` | {claim.statement} | {shown} |")
    return "\n".join(lines)


def print_claim(console: Console, claim: Claim) -> None:
    """The claim in full."""
    console.print(Text.assemble((claim.id, "bold"), f"  ({claim.kind}; recorded: {claim.recorded})"))
    console.print(claim.statement)
    console.print(f"source: {claim.origin}")
    console.print(f"domain: {claim.domain}")
    if claim.argument:
        console.print(_paragraphs(claim.argument))


def print_ground(console: Console, ground: Ground) -> None:
    """What a claim without counterexample rests on, if that is more than instances."""
    for theorem in ground.theorems:
        console.print(f"\nproved for all shapes: {theorem.says}")
        console.print(f"theorem {theorem.theorem} in conditioning/proofs/{theorem.file}", soft_wrap=True)
    if certificate := ground.certificate:
        shapes = ", ".join("×".join(map(str, shape)) for shape in certificate.shapes)
        console.print(f"\ncertified for every instance at a×b×r = {shapes}: {certificate.says}")
        if certificate.by_hand:
            console.print(f"concluded by hand: {certificate.by_hand}")
        console.print(f"conditioning/certificates/{certificate.file}, checked just now", soft_wrap=True)
    for fault in ground.faults:
        console.print(f"\nNOT counted: {fault}", soft_wrap=True)


def print_instance(console: Console, claim: Claim, instance: Any, relation: str) -> None:
    """A counterexample (or tight case) with its matrices and both sides."""
    shape = ", ".join(f"{name} = {size}" for name, size in instance.shape.items())
    console.print(f"\nat {shape}" if shape else "")
    for name, value in instance.values.items():
        if name == "parameters":
            continue
        console.print(f"  {name} = {_matrix_text(value)}", soft_wrap=True)
    for name, label, value in zip(("\n  left", "  right"), claim.sides, (instance.left, instance.right), strict=True):
        console.print(f"{name}: {value}" if label == value else f"{name}: {label} = {value}", soft_wrap=True)
    console.print(f"  {relation}", soft_wrap=True)


def _paragraphs(docstring: str) -> str:
    """Text without the line breaks within its paragraphs, which the console sets anew."""
    return "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in docstring.split("\n\n"))


def _matrix_text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + "; ".join(" ".join(map(str, row)) for row in value) + "]"
    return str(value)
