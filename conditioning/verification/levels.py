"""How strong the ground of "holds" is: sampled < exact < certified < proved.

The level is computed whenever a claim is examined, never declared:

- *sampled*: draws and an optimizer in floating point found no counterexample;
- *exact*: so did instances decided in rational or ball arithmetic;
- *certified*: for every instance of stated shapes, by a file in `certificates` that its checker passed just now, but
  for what the file says is concluded by hand;
- *proved*: for all shapes, by a theorem in `proofs` whose file is the one that Coq's kernel accepted.

What should have raised the level and does not, such as a certificate that fails, is a fault, which `verify` names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lorakappa.conditioning.certificates import check as certificates
from lorakappa.conditioning.proofs import check as proofs

Level = Literal["sampled", "exact", "certified", "proved"]


@dataclass(frozen=True)
class Theorem:
    """A theorem that proves a claim.

    Attributes:
        file: in `proofs`.
        theorem: its name there.
        says: what it says in words, with its hypotheses.
    """

    file: str
    theorem: str
    says: str


@dataclass(frozen=True)
class Certificate:
    """A certificate that was checked.

    Attributes:
        file: in `certificates`.
        says: how it gives the claim.
        shapes: (a, b, r) at which it was checked.
        by_hand: what has to be concluded from it by hand, if anything.
    """

    file: str
    says: str
    shapes: tuple[tuple[int, ...], ...]
    by_hand: str = ""


@dataclass(frozen=True)
class Ground:
    """What "holds" rests on.

    Attributes:
        level: the strongest level reached.
        theorems: that prove the claim.
        certificate: of the claim, if it has one.
        faults: why something did not count, a line each.
    """

    level: Level
    theorems: tuple[Theorem, ...] = ()
    certificate: Certificate | None = None
    faults: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Theorems and certificate as JSON-like data."""
        certificate = None
        if self.certificate is not None:
            shapes = [list(shape) for shape in self.certificate.shapes]
            certificate = {**vars(self.certificate), "shapes": shapes}
        return {
            "theorems": [vars(theorem) for theorem in self.theorems],
            "certificate": certificate,
            "faults": list(self.faults),
        }


def ground(
    id: str,
    statement: str,
    *,
    exact_instances: int = 0,
    certificate_folder: Path | None = None,
    proof_folder: Path | None = None,
) -> Ground:
    """What a claim without counterexample rests on; checks its certificate and the files of its theorems.

    Args:
        id: of the claim.
        statement: of the claim, which its certificate and the rows of its theorems must repeat.
        exact_instances: decided in exact arithmetic by this examination.
        certificate_folder: of the certificates; the project's by default.
        proof_folder: of the theorems and the record of their check; the project's by default.
    """
    faults = []
    certificate: Certificate | None = None
    theorems: tuple[Theorem, ...] = ()
    try:
        certificate = _certificate(id, statement, certificate_folder or certificates.FOLDER)
    except (OSError, ValueError) as error:
        faults.append(f"certificate {error}")
    try:
        theorems = _theorems(id, statement, proof_folder or proofs.FOLDER)
    except (OSError, ValueError) as error:
        faults.append(f"theorem {error}")
    level: Level = "exact" if exact_instances else "sampled"
    if theorems or certificate:
        level = "proved" if theorems else "certified"
    return Ground(level, theorems, certificate, tuple(faults))


def _certificate(id: str, statement: str, folder: Path) -> Certificate | None:
    """A claim's certificate, checked; None if it has none; ValueError if it does not hold or is another claim's."""
    file = folder / f"{id}.json"
    if not file.exists():
        return None
    content, shapes = certificates.check(file)
    if (content["claim"], content["statement"]) != (id, statement):
        raise ValueError(f"{file.name}: it is not about this claim's statement")
    if not shapes:
        raise ValueError(f"{file.name}: it covers no shape")
    return Certificate(file.name, content["says"], tuple(shapes), content.get("by_hand", ""))


def _theorems(id: str, statement: str, folder: Path) -> tuple[Theorem, ...]:
    """The theorems that prove a claim.

    Raises ValueError if a file or a theorem is not as Coq's kernel accepted it, or a row is about another statement.
    """
    named = [entry for entry in _read(folder / proofs.THEOREMS) if entry["claim"] == id]
    if not named:
        return ()
    record: Mapping[str, Any] = _read(folder / proofs.RECORD)
    for name, entry in record["files"].items():  # any of them may define what the theorem speaks of
        if not (folder / name).exists() or proofs.sha256(folder / name) != entry["sha256"]:
            raise ValueError(f"{name}: it is not the file that Coq accepted")
    for entry in named:
        if entry.get("statement") != statement:
            raise ValueError(f"{entry['file']}: {entry['theorem']} is not about this claim's statement")
        checked = record["theorems"].get(f"{entry['file']}:{entry['theorem']}", {})
        if entry["file"] not in record["files"] or checked.get("assumptions") != proofs.CLOSED:
            raise ValueError(f"{entry['file']}: Coq has not accepted {entry['theorem']}")
    return tuple(Theorem(entry["file"], entry["theorem"], entry["says"]) for entry in named)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
