"""The ledger: every statement, verdict and record that the report shows, as data, made of saved results alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from lorakappa.figures.report.parts import PARTS, Found, State, find
from lorakappa.figures.schemas import DESCRIPTIONS
from lorakappa.shared.records import write_json
from lorakappa.shared.schemas import validated
from lorakappa.shared.totals import Outcome, Totals, Whose, tally

VerdictName = Literal["holds", "refuted", "not seen", "equivalent", "inconclusive"]
Level = Literal["sampled", "exact", "certified", "proved"]
Kind = Literal["claim", "correction", "question"]


class Entry(BaseModel):
    """Base of the models: no entries but those named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Theorem(Entry):
    """A theorem that proves a claim, in a file of the proofs."""

    file: str
    theorem: str
    says: str


class Certificate(Entry):
    """A certificate that was checked, and (a, b, r) at which."""

    file: str
    says: str
    shapes: list[list[int]]
    by_hand: str


class Instance(Entry):
    """An instance in exact numbers; further entries are its matrices by name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    shape: dict[str, int]
    left: str
    right: str


class TightInstance(Instance):
    """A case of equality, or the closest one."""

    equal: bool


class ClaimEntry(Entry):
    """The verdict on a claim, as `verify --json` wrote it; what the fields are is said in its schema."""

    id: str
    package: str
    kind: Kind
    statement: str
    source: str
    domain: str
    verdict: VerdictName
    as_recorded: bool
    level: Level | None
    measured: bool
    corrected_by: str | None
    corrects: list[str]
    sides: list[str]
    argument: str
    trials: int
    seed: int
    worst_margin: float | str | None
    note: str
    setting: str | None
    counterexample: Instance | None
    tight: TightInstance | None
    theorems: list[Theorem]
    certificate: Certificate | None
    faults: list[str]
    replay: str
    mapped: list[str]


class StatementEntry(Entry):
    """A statement of a document, and what became of it."""

    document: str
    place: str
    statement: str
    outcome: str
    claims: list[str]
    reason: str


class DocumentEntry(Entry):
    """A document whose statements are on the map."""

    citation: str
    title: str
    authors: str
    published: str
    at_hand: str
    outcomes: dict[str, int]


class EffectEntry(Entry):
    """A method against the baseline of its table: the gain in test loss with its interval, null where unknown."""

    table: str
    method: str
    baseline: str
    rank: int
    steps: int
    start: float | None
    estimate: float | None
    low: float | None
    high: float | None
    seeds: int
    verdict: str


class StudyEntry(Entry):
    """What a study of fine-tunes says: intervals at a confidence for each table together, and what counts as none."""

    name: str
    model: str
    data: str
    delta: float
    confidence: float
    effects: list[EffectEntry]


class PerformanceEntry(Entry):
    """What was timed, and on what; a row is as `make bench` wrote it."""

    processor: str
    cores: int | None
    device: str
    rows: list[dict[str, Any]]


class RecordEntry(Entry):
    """A saved result behind the report."""

    name: str
    state: State
    reason: str
    command: str
    files: dict[str, str]
    provenance: dict[str, Any] | None


class Ledger(Entry):
    """All that the report says; `format` grows by one whenever what an entry means changes."""

    format: Literal[2]
    totals: dict[Whose, Totals]
    claims: list[ClaimEntry]
    documents: list[DocumentEntry]
    statements: list[StatementEntry]
    study: StudyEntry | None
    performance: PerformanceEntry | None
    records: list[RecordEntry]

    def claim(self, id: str) -> ClaimEntry | None:
        """A claim by its id; None if no verdict on it was saved."""
        return next((claim for claim in self.claims if claim.id == id), None)

    def record(self, name: str) -> RecordEntry:
        """A record by its name."""
        return next(record for record in self.records if record.name == name)


class _Ground(Entry):
    """What a verdict rests on beside a search, and a line for each thing that failed to count."""

    theorems: list[Theorem] = []
    certificate: Certificate | None = None
    faults: list[str] = []


class _Evidence(BaseModel):
    """What is shown of the evidence: a case of equality, or the closest one."""

    model_config = ConfigDict(extra="ignore")

    tight: TightInstance | None = None


class _Verdict(BaseModel):
    """What is needed of a saved verdict."""

    model_config = ConfigDict(extra="ignore")

    id: str
    package: str
    kind: Kind
    statement: str
    source: str
    domain: str
    sides: Annotated[list[str], Field(min_length=2, max_length=2)]
    argument: str
    verdict: VerdictName
    recorded: str
    trials: int
    seed: int
    worst_margin: float | str | None
    counterexample: Instance | None
    level: Level | None
    ground: _Ground | None
    corrected_by: str | None
    evidence: _Evidence
    note: str
    setting: str | None


class _Statement(BaseModel):
    """What is needed of a saved statement of a source."""

    model_config = ConfigDict(extra="ignore")

    document: str
    title: str
    authors: str
    published: str
    at_hand: str
    place: str
    statement: str
    outcome: str
    claims: list[str]
    reason: str


def _each_once(verdicts: list[_Verdict]) -> list[_Verdict]:
    twice = [id for id, times in Counter(verdict.id for verdict in verdicts).items() if times > 1]
    if twice:
        raise ValueError(f"has more than one verdict on {twice[0]}")
    return verdicts


_SCHEMAS: dict[str, Any] = {
    "verdicts": Annotated[list[_Verdict], AfterValidator(_each_once)],
    "sources": list[_Statement],
    "benchmarks": DESCRIPTIONS["benchmarks"],
    "study": DESCRIPTIONS["study"],
}
"""Of the parts whose content the ledger takes up; what others hold is checked when a figure is drawn."""

_MODELS = ("verdicts", "sources")
"""Of these the ledger takes up what their schema read; of the others, the data as it was saved."""


def find_all(folder: Path) -> dict[str, Found]:
    """All parts of the report, as they are in a folder of results; what is not as it should be is unreadable.

    The content of what the ledger takes up is what its schema read.
    """
    found = {name: find(part, folder) for name, part in PARTS.items()}
    for name, model in _SCHEMAS.items():
        part = found[name]
        if part.state in ("missing", "unreadable"):
            continue
        try:
            read = validated(part.content, model, part.part.files[-1], what=f"what {part.part.told(folder)} writes")
        except ValueError as error:
            found[name] = Found(part.part, "unreadable", str(error), part.provenance, part.digests)
        else:
            found[name] = replace(part, content=read if name in _MODELS else part.content)
    return found


def ledger(found: Mapping[str, Found], folder: Path) -> Ledger:
    """The ledger of the parts that were found.

    Args:
        found: by name (`find_all`).
        folder: of the results, for the commands that make them.
    """
    verdicts: list[_Verdict] = found["verdicts"].content or []
    statements: list[_Statement] = found["sources"].content or []
    claims = [_claim(verdict, verdicts, statements) for verdict in verdicts]
    benchmarks = found["benchmarks"].content
    return Ledger(
        format=2,
        totals=tally(Outcome(each.kind, each.verdict, each.level, each.corrected_by is not None) for each in claims),
        claims=claims,
        documents=_documents(statements),
        statements=[
            StatementEntry(**statement.model_dump(include=set(StatementEntry.model_fields))) for statement in statements
        ],
        study=_study(found["study"].content),
        performance=PerformanceEntry(**{name: benchmarks[name] for name in PerformanceEntry.model_fields})
        if benchmarks
        else None,
        records=[_record(part, folder) for part in found.values()],
    )


def _claim(verdict: _Verdict, verdicts: Sequence[_Verdict], statements: Sequence[_Statement]) -> ClaimEntry:
    ground = verdict.ground or _Ground()
    shared = {name: value for name, value in verdict if name in ClaimEntry.model_fields}
    return ClaimEntry(
        **shared,
        as_recorded=verdict.verdict == verdict.recorded,
        measured=verdict.setting is not None,
        corrects=[other.id for other in verdicts if other.corrected_by == verdict.id],
        tight=verdict.evidence.tight,
        theorems=ground.theorems,
        certificate=ground.certificate,
        faults=ground.faults,
        replay=f"lorakappa {'verify' if verdict.setting is not None else 'replay'} {verdict.id}",
        mapped=[f"{s.document}: {s.place}" for s in statements if verdict.id in s.claims],
    )


def _documents(statements: Sequence[_Statement]) -> list[DocumentEntry]:
    firsts = {statement.document: statement for statement in reversed(statements)}
    outcomes = {name: Counter(s.outcome for s in statements if s.document == name) for name in firsts}
    return [
        DocumentEntry(
            citation=name,
            title=firsts[name].title,
            authors=firsts[name].authors,
            published=firsts[name].published,
            at_hand=firsts[name].at_hand,
            outcomes=dict(outcomes[name]),
        )
        for name in dict.fromkeys(statement.document for statement in statements)
    ]


def _study(content: Mapping[str, Any] | None) -> StudyEntry | None:
    if content is None:
        return None
    shown = ("table", "method", "baseline", "rank", "steps", "start", "verdict")
    effects = [
        EffectEntry(
            **{name: finding[name] for name in shown},
            **{name: finding["effect"][name] for name in ("estimate", "low", "high")},
            seeds=finding["effect"]["n"],
        )
        for finding in content["findings"]
    ]
    settings = {name: content[name] for name in ("model", "data", "delta", "confidence")}
    return StudyEntry(name=content["study"], **settings, effects=effects)


def _record(found: Found, folder: Path) -> RecordEntry:
    return RecordEntry(
        name=found.part.name,
        state=found.state,
        reason=found.reason,
        command=found.part.told(folder),
        files=dict(found.digests or {}),
        provenance=dict(found.provenance) if found.provenance else None,
    )


def schema() -> dict[str, Any]:
    """The JSON schema of a ledger."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(Ledger).json_schema()}


SCHEMA_FILE = Path(__file__).parent / "ledger.schema.json"

if __name__ == "__main__":
    write_json(SCHEMA_FILE, schema())
