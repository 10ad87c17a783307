"""What verdicts and certificates look like as JSON: pydantic models, and the JSON schemas that are published of them.

`python -m lorakappa.conditioning.schemas.forms` writes the schemas anew, after a change of the models.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lorakappa.conditioning.verification.claim import Kind, Relation, VerdictName
from lorakappa.conditioning.verification.levels import Level
from lorakappa.shared.records import write_json

FOLDER = Path(__file__).parent
Fact = Literal["==", ">=", ">", "!="]
"""Relation to 0 of what is given."""


class Form(BaseModel):
    """Base of the models: no entries but those named, and no conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Sizes(Form):
    """Sizes of A (a, r) and B (r, b)."""

    a: int
    b: int
    r: int


class InstanceForm(BaseModel):
    """An instance in exact numbers; further entries are its matrices by name, rows of rational strings.

    Numbers that a document prints have neither sizes nor parameters.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    shape: Sizes | Annotated[dict[str, int], Field(max_length=0)]
    parameters: list[str] = []
    left: str
    right: str


class TheoremForm(Form):
    """A theorem that proves a claim, in a file of `proofs`."""

    file: str
    theorem: str
    says: str


class CheckedForm(Form):
    """A certificate that was checked, and (a, b, r) at which."""

    file: str
    says: str
    shapes: list[list[int]]
    by_hand: str


class GroundForm(Form):
    """What "holds" rests on beside a search, and a line for each thing that failed to count."""

    theorems: list[TheoremForm]
    certificate: CheckedForm | None
    faults: list[str]


class VerdictForm(Form):
    """The verdict on one claim; `verify --json` writes a list of them."""

    id: str
    statement: str
    kind: Kind
    source: str
    domain: str
    sides: Annotated[list[str], Field(min_length=2, max_length=2)]
    argument: str
    experiment: str | None
    verdict: VerdictName
    recorded: VerdictName
    trials: int
    seed: int
    worst_margin: float | Literal["inf", "-inf", "nan"] | None
    counterexample: InstanceForm | None
    certified: bool
    level: Level | None
    ground: GroundForm | None
    corrected_by: str | None
    evidence: dict[str, Any]
    note: str
    setting: str | None
    package: str | None = None
    provenance: dict[str, Any] | None = None


class SignedTerm(Form):
    """A positive weight times what is known to be ≥ 0 or > 0, times a sum of squares."""

    weight: Annotated[str, Field(pattern=r"^\d+(/\d+)?$")] = "1"
    of: list[str]
    square: str = ""


class ZeroTerm(Form):
    """A multiple of what is known to be 0."""

    zero: str
    by: str


class Statement(Form):
    """left `relation` right, times positive things the sum of its terms, or both of two inequalities."""

    left: str
    relation: Relation
    right: str = "0"
    times: list[str] = []
    terms: list[SignedTerm | ZeroTerm] = []
    both: list[str] = []


class Step(Statement):
    """A statement that later ones may use by its name."""

    name: str


class Case(Form):
    """Variables, hypotheses and steps at some shapes, perhaps one branch of a split."""

    branch: Annotated[str, Field(pattern=r"^\d+ of \d+$")] | None = None

    shapes: Annotated[str, Field(pattern=r"^\d{3}( \d{3})*$")]
    variables: dict[str, list[str]]
    let: dict[str, str] = {}
    given: dict[str, tuple[str, Fact, str]] = {}
    steps: list[Step] = []
    conclusion: Statement | None = None


class CertificateForm(Form):
    """A certificate of one claim."""

    claim: str
    statement: str
    says: str
    by_hand: str = ""
    cases: Annotated[list[Case], Field(min_length=1)]


PUBLISHED: dict[str, Any] = {"verdicts": list[VerdictForm], "certificate": CertificateForm}
"""Models of what a file holds, by the name of its schema."""


def schema(name: str) -> dict[str, Any]:
    """The JSON schema of a kind of file.

    Args:
        name: of the kind, as in `PUBLISHED`.
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(PUBLISHED[name]).json_schema()}


if __name__ == "__main__":
    for kind in PUBLISHED:
        write_json(FOLDER / f"{kind}.schema.json", schema(kind))
