"""The map of the sources as tables and JSON: what is decided by which claim, what is not, and how much of each."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from lorakappa.conditioning.sources.document import Document, Statement
from lorakappa.conditioning.verification.claim import VerdictName
from lorakappa.conditioning.verification.report import STYLES

Recorded = Mapping[str, VerdictName]
"""Recorded verdicts by claim."""


def choose(documents: Sequence[Document], text: str | None) -> list[Document]:
    """The documents whose name, citation or title contains a text, in any case; all for None.

    Raises:
        ValueError: if there is none, naming those there are.
    """
    found = [d for d in documents if text is None or text.lower() in f"{d.name}\n{d.citation}\n{d.title}".lower()]
    if not found:
        raise ValueError(f"no document is called {text}; choose from {', '.join(d.name for d in documents)}")
    return found


def counts(document: Document) -> tuple[int, int, int]:
    """How many statements it has, how many some claim decides, and how many none does."""
    decided = sum(bool(statement.claims) for statement in document.statements.values())
    return len(document.statements), decided, len(document.statements) - decided


def coverage_table(documents: Iterable[Document]) -> Table:
    """One row a document: its statements, by whether claims decide them, and what was at hand of its text."""
    table = Table(box=None, pad_edge=False, title="\ncoverage\n", title_justify="left")
    table.add_column("document")
    for name in ("statements", "with claims", "with a reason only"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what was at hand")
    for document in documents:
        table.add_row(document.citation, *map(str, counts(document)), document.at_hand)
    return table


def coverage_markdown(documents: Iterable[Document]) -> str:
    """That table as Markdown, for the README, with its sums."""
    rows = [(document.citation, counts(document)) for document in documents]
    total, decided, rest = (sum(numbers) for numbers in zip(*(numbers for _, numbers in rows), strict=True))
    lines = ["| document | statements | with claims | with a reason only |", "|---|--:|--:|--:|"]
    lines += [f"| {name} | {' | '.join(map(str, numbers))} |" for name, numbers in rows]
    return "\n".join([*lines, f"| all | {total} | {decided} | {rest} |"])


def statements_table(document: Document, statements: Iterable[Statement], recorded: Recorded) -> Table:
    """One row a statement: its place, what it says, the claims with their recorded verdicts, and the reason."""
    table = Table(box=None, pad_edge=False, title=f"\n{document.citation}\n", title_justify="left")
    table.add_column("place", ratio=2)
    table.add_column("statement", ratio=4)
    table.add_column("claims, or why none", ratio=4)
    for statement in statements:
        decided = Text("\n").join(
            Text.assemble(f"{id} ", (recorded[id], STYLES[recorded[id]])) for id in statement.claims
        )
        parts = [part for part in (decided, Text(statement.reason)) if part]
        table.add_row(statement.place, statement.statement, Text("\n").join(parts))
    return table


def as_json(document: Document, statements: Iterable[Statement], recorded: Recorded) -> list[dict[str, Any]]:
    """One object a statement, with what identifies its document."""
    return [
        {
            "document": document.citation,
            "title": document.title,
            "authors": document.authors,
            "published": document.published,
            "at_hand": document.at_hand,
            "place": statement.place,
            "statement": statement.statement,
            "claims": list(statement.claims),
            "recorded": {id: recorded[id] for id in statement.claims},
            "reason": statement.reason,
        }
        for statement in statements
    ]
