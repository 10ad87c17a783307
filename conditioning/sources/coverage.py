"""The map of the sources as text, Markdown and JSON: what became of each statement, and by which claim."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from lorakappa.conditioning.sources.document import Document, Statement
from lorakappa.conditioning.verification.claim import Claim, VerdictName
from lorakappa.conditioning.verification.measured import MeasuredClaim
from lorakappa.conditioning.verification.report import STYLES

Outcome = VerdictName | Literal["holds in our setting", "in part", "no claim"]

OUTCOMES: tuple[Outcome, ...] = (
    "holds",
    "holds in our setting",
    "in part",
    "refuted",
    "not seen",
    "equivalent",
    "inconclusive",
    "no claim",
)
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
    "inconclusive" and "equivalent". Where one of those that hold is measured, that is, on small problems or a tiny
    model rather than on the document's, it is "holds in our setting".
    """
    named = [claims[id] for id in statement.claims]
    for kind in ("claim", "question"):
        deciding = [claim for claim in named if claim.kind == kind]
        found = {claim.recorded for claim in deciding}
        if found == {"holds"} and any(isinstance(claim, MeasuredClaim) for claim in deciding):
            return "holds in our setting"
        if "holds" in found and len(found) > 1:
            return "in part"
        if found:
            return next(name for name in WORST_FIRST if name in found)
    return "no claim"


def counts(document: Document, claims: Claims) -> tuple[int, ...]:
    """How many statements it has, and how many of each outcome."""
    found = Counter(outcome(statement, claims) for statement in document.statements.values())
    return (len(document.statements), *(found[name] for name in OUTCOMES))


def coverage_text(documents: Iterable[Document], claims: Claims) -> Group:
    """A block a document: what became of its statements, and what was at hand of its text."""
    blocks: list[Text | Padding] = [Text("\ncoverage")]
    for document in documents:
        total, *numbers = counts(document, claims)
        found = [f"{number} {name}" for number, name in zip(numbers, OUTCOMES, strict=True) if number]
        lines = [f"{total} statements: {', '.join(found)}", f"at hand: {document.at_hand}"]
        blocks += [Text(f"\n{document.citation}"), *(_indented(Text(line), 2) for line in lines)]
    return Group(*blocks)


def coverage_markdown(documents: Iterable[Document], claims: Claims) -> str:
    """What became of the statements as a Markdown table, for the README, with its sums."""
    rows = [(document.citation, counts(document, claims)) for document in documents]
    rows.append(("all", tuple(sum(column) for column in zip(*(numbers for _, numbers in rows), strict=True))))
    lines = [f"| document | statements | {' | '.join(OUTCOMES)} |", f"|---|--:|{'--:|' * len(OUTCOMES)}"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(map(str, numbers))} |" for name, numbers in rows)])


def statements_text(document: Document, statements: Iterable[Statement], claims: Claims) -> Group:
    """A block a statement: place and what became of it, its words, its claims with their verdicts, and the reason.

    Of a claim that does not say what the document says it adds what it is, question or correction.
    """
    blocks: list[Text | Padding] = [Text(f"\n{document.citation}", "bold")]
    for statement in statements:
        blocks += [Text(f"\n{statement.place}: {outcome(statement, claims)}"), _indented(Text(statement.statement), 2)]
        for claim in (claims[id] for id in statement.claims):
            kind = "" if claim.kind == "claim" else f" ({claim.kind})"
            blocks.append(_indented(Text.assemble(f"{claim.id} ", (claim.recorded, STYLES[claim.recorded]), kind), 4))
        if statement.reason:
            blocks.append(_indented(Text(statement.reason), 4))
    return Group(*blocks)


def _indented(text: Text, columns: int) -> Padding:
    text.overflow = "fold"
    return Padding(text, (0, 0, 0, columns), expand=False)


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
            "kind": {id: claims[id].kind for id in statement.claims},
            "measured": {id: isinstance(claims[id], MeasuredClaim) for id in statement.claims},
            "reason": statement.reason,
        }
        for statement in statements
    ]
