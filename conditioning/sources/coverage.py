"""The map of the sources as tables and JSON: what became of each statement, by which claim, and how much is decided."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.table import Table
from rich.text import Text

from lorakappa.conditioning.sources.document import Document, Statement
from lorakappa.conditioning.verification.claim import Claim, VerdictName
from lorakappa.conditioning.verification.report import STYLES

Outcome = VerdictName | Literal["in part", "no claim"]

OUTCOMES: tuple[Outcome, ...] = ("holds", "in part", "refuted", "not seen", "equivalent", "inconclusive", "no claim")
"""What can become of a statement (`outcome`)."""

WORST_FIRST: tuple[VerdictName, ...] = ("refuted", "not seen", "inconclusive", "equivalent", "holds")
"""Which of several verdicts counts where none is "holds"."""

Claims = Mapping[str, Claim]
"""Claims of all packages by id."""


def choose(documents: Sequence[Document], text: str | None) -> list[Document]:
    """The documents whose name, citation or title contains a text, in any case; all for None.

    Raises:
        ValueError: if there is none, naming those there are.
    """
    found = [d for d in documents if text is None or text.lower() in f"{d.name}\n{d.citation}\n{d.title}".lower()]
    if not found:
        raise ValueError(f"no document is called {text}; choose from {', '.join(d.name for d in documents)}")
    return found


def outcome(statement: Statement, claims: Claims) -> Outcome:
    """What became of a statement, by the recorded verdicts of its claims.

    Those count that say what documents say or, if there is none, our questions; not corrections. Where they agree it is
    their verdict, and "in part" where some hold and others do not; else the worst of "refuted", "not seen",
    "inconclusive" and "equivalent".
    """
    named = [claims[id] for id in statement.claims]
    for kind in ("claim", "question"):
        if found := {claim.recorded for claim in named if claim.kind == kind}:
            if "holds" in found and len(found) > 1:
                return "in part"
            return next(name for name in WORST_FIRST if name in found)
    return "no claim"


def counts(document: Document, claims: Claims) -> tuple[int, ...]:
    """How many statements it has, and how many of each outcome."""
    found = Counter(outcome(statement, claims) for statement in document.statements.values())
    return (len(document.statements), *(found[name] for name in OUTCOMES))


def coverage_table(documents: Iterable[Document], claims: Claims) -> Table:
    """One row a document: what became of its statements, and what was at hand of its text."""
    table = Table(box=None, pad_edge=False, title="\ncoverage\n", title_justify="left")
    table.add_column("document", ratio=3)
    for name in ("statements", *OUTCOMES):
        table.add_column(name, justify="right")
    table.add_column("what was at hand", ratio=4)
    for document in documents:
        table.add_row(document.citation, *map(str, counts(document, claims)), document.at_hand)
    return table


def coverage_markdown(documents: Iterable[Document], claims: Claims) -> str:
    """That table as Markdown, for the README, with its sums."""
    rows = [(document.citation, counts(document, claims)) for document in documents]
    rows.append(("all", tuple(sum(column) for column in zip(*(numbers for _, numbers in rows), strict=True))))
    lines = [f"| document | statements | {' | '.join(OUTCOMES)} |", f"|---|--:|{'--:|' * len(OUTCOMES)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(map(str, numbers))} |" for name, numbers in rows)])


def statements_table(document: Document, statements: Iterable[Statement], claims: Claims) -> Table:
    """One row a statement: place, words, what became of it, its claims with their verdicts, and the reason."""
    table = Table(box=None, pad_edge=False, title=f"\n{document.citation}\n", title_justify="left")
    table.add_column("place", ratio=2)
    table.add_column("statement", ratio=4)
    table.add_column("outcome", no_wrap=True)
    table.add_column("claims, or why none", ratio=4)
    for statement in statements:
        named = [claims[id] for id in statement.claims]
        lines = [Text.assemble(f"{claim.id} ", (claim.recorded, STYLES[claim.recorded])) for claim in named]
        if statement.reason:
            lines.append(Text(statement.reason))
        table.add_row(statement.place, statement.statement, outcome(statement, claims), Text("\n").join(lines))
    return table


def as_json(document: Document, statements: Iterable[Statement], claims: Claims) -> list[dict[str, Any]]:
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
            "outcome": outcome(statement, claims),
            "claims": list(statement.claims),
            "recorded": {id: claims[id].recorded for id in statement.claims},
            "reason": statement.reason,
        }
        for statement in statements
    ]
