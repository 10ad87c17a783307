"""What the figures of a study need of study.json."""

from typing import Annotated

from pydantic import Field, model_validator

from lorakappa.figures.schema_parts import Checked, Count, Known, Names, Size


class StudyTable(Checked):
    """A table of comparisons with one baseline."""

    name: str
    baseline: str
    methods: Names
    ranks: Annotated[list[Size], Field(min_length=1)]
    steps: Annotated[list[Size], Field(min_length=1)]
    starts: list[Known]
    comparisons: Size


class Interval(Checked):
    """An effect over n seeds; null where nothing is known."""

    estimate: Known | None
    low: Known | None
    high: Known | None
    n: Count


class ChosenArm(Checked):
    """An arm at its chosen cell."""

    scaling: Known
    test_loss: Known | None


class Contrast(Checked):
    """A method against the baseline of its table."""

    table: str
    method: str
    baseline: str
    rank: Size
    steps: Size
    start: Known | None
    verdict: str
    effect: Interval
    method_arm: ChosenArm | None
    baseline_arm: ChosenArm | None


class StudyResult(Checked):
    """study.json."""

    study: str
    model: str
    data: str
    delta: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    confidence: Known
    tables: Annotated[list[StudyTable], Field(min_length=1)]
    findings: Annotated[list[Contrast], Field(min_length=1)]

    @model_validator(mode="after")
    def _findings_are_of_tables(self) -> "StudyResult":
        known = {table.name: table for table in self.tables}
        for found in self.findings:
            if found.table not in known or found.method not in known[found.table].methods:
                raise ValueError(f"{found.table}, {found.method}: a finding of no table")
        return self
