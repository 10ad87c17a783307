"""What the map of the sources is made of: documents, the statements that they make, and references to a place.

A document is one TOML file beside this module. It says what was at hand of the text, and lists its checkable statements
in their order, in our words and letters, each with the claims that decide it or the reason why none can here:

    [[statement]]
    place = "Theorem 2"
    statement = "Under gradient descent with a small step d(BBᵀ) ≈ d(AᵀA): μ₂ ≈ 1."
    claims = ["ilora-gd-proportion"]
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reference:
    """A place of a document, as claims cite it.

    Attributes:
        document: name of the document.
        citation: how the document is cited.
        place: where in it, as the document itself numbers or names its parts.
    """

    document: str
    citation: str
    place: str

    def __str__(self) -> str:
        """In one line."""
        return f"{self.citation}: {self.place}"


@dataclass(frozen=True)
class Statement:
    """One checkable statement of a document.

    Attributes:
        place: where it stands; unique within the document.
        statement: in our words and letters, with its formula and its domain.
        claims: ids of the claims that decide it, each in its own setting, and of what is true instead, of any package;
            their verdicts are the statement's, so that what merely bears on it is named in the reason.
        reason: why no claim decides it here, or what the claims leave open; empty if they leave nothing open.
    """

    place: str
    statement: str
    claims: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Document:
    """A document whose statements are mapped.

    Attributes:
        name: of its file, for the command line.
        citation: short, as claims cite it.
        title: in full.
        authors: or who made it.
        published: where, with its number there.
        at_hand: what of its text the map was made from.
        statements: by place, in order.
    """

    name: str
    citation: str
    title: str
    authors: str
    published: str
    at_hand: str
    statements: Mapping[str, Statement]

    def at(self, place: str) -> Reference:
        """A reference to one of its places.

        Raises:
            ValueError: if the map has no such place.
        """
        if place not in self.statements:
            raise ValueError(f"{self.citation} has no place {place!r} on the map, {self.name}.toml")
        return Reference(self.name, self.citation, place)


def read_document(path: Path) -> Document:
    """Reads one document of the map.

    Raises:
        ValueError: if a field is missing, unknown, empty or no text, a place occurs twice, or a statement has neither
            claim nor reason; the message names file and place.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    statements: dict[str, Statement] = {}
    for entry in content.pop("statement", ()):
        where = f"{path.name}, {entry.get('place', 'a statement without place')}"
        claims = entry.pop("claims", [])
        if not isinstance(claims, list) or not all(isinstance(id, str) and id for id in claims):
            raise ValueError(f"{where}: claims must be a list of ids")
        names = ("place", "statement") if claims and "reason" not in entry else ("place", "statement", "reason")
        found = Statement(**_texts(entry, names, where), claims=tuple(claims))
        if found.place in statements:
            raise ValueError(f"{where}: this place occurs twice")
        statements[found.place] = found
    head = _texts(content, ("citation", "title", "authors", "published", "at_hand"), path.name)
    return Document(name=path.stem, **head, statements=statements)


def _texts(table: Mapping[str, Any], names: tuple[str, ...], where: str) -> dict[str, str]:
    """Exactly those fields, each a text that is not empty, with its line breaks made spaces."""
    if unlike := sorted(set(table) ^ set(names)):
        raise ValueError(f"{where}: missing or unknown: {', '.join(unlike)}")
    if wrong := [name for name in names if not isinstance(table[name], str) or not table[name].strip()]:
        raise ValueError(f"{where}: {wrong[0]} must be text")
    return {name: " ".join(table[name].split()) for name in names}
