"""The map of the sources: what each document states, place by place, and which claims decide it.

The documents themselves are not here; they are cited. Everything is in this project's letters: A (a, r), B (r, b), the
adapted matrix AB. `lorakappa sources` prints the map; claims cite its places, `source=ILORA.at("Theorem 2")`.
"""

from pathlib import Path

from lorakappa.conditioning.sources.document import Document, Reference, Statement, read_document

_HERE = Path(__file__).parent

POSTER = read_document(_HERE / "balora-poster.toml")
ABSTRACT = read_document(_HERE / "balora-abstract.toml")
FIRST_VERSION = read_document(_HERE / "balora-first-version.toml")
NOTES = read_document(_HERE / "balora-notes.toml")
REVIEW = read_document(_HERE / "balora-review.toml")
SUMMARY = read_document(_HERE / "balora-summary.toml")
ILORA = read_document(_HERE / "ilora.toml")
SCALED_GD = read_document(_HERE / "scaled-gd.toml")
PRECONDITIONED = read_document(_HERE / "preconditioned-lora.toml")
REFLORA = read_document(_HERE / "reflora.toml")
LORA_PLUS = read_document(_HERE / "lora-plus.toml")

DOCUMENTS = (
    POSTER,
    ABSTRACT,
    FIRST_VERSION,
    NOTES,
    REVIEW,
    SUMMARY,
    ILORA,
    SCALED_GD,
    PRECONDITIONED,
    REFLORA,
    LORA_PLUS,
)

__all__ = [
    "ABSTRACT",
    "DOCUMENTS",
    "FIRST_VERSION",
    "ILORA",
    "LORA_PLUS",
    "NOTES",
    "POSTER",
    "PRECONDITIONED",
    "REFLORA",
    "REVIEW",
    "SCALED_GD",
    "SUMMARY",
    "Document",
    "Reference",
    "Statement",
]
