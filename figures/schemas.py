"""What the figures need of the results they are drawn from: a schema of each description.

Descriptions are checked when they are read, so that what is wrong with a file is said of that file.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from lorakappa.figures.schema_parts import Checked, Count, Known, Names, Number, Pair, Size
from lorakappa.figures.study_schemas import StudyResult


def _different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError(f"{names[0]} is compared with itself")
    return names


class Settings(Checked):
    """Of a problem; what is not there is left out of titles."""

    shape: Annotated[list[Size], Field(min_length=2, max_length=2)] | None = None
    rank: Size | None = None
    target: str | None = None


class Problem(Checked):
    """A description that only names its problem."""

    settings: Settings


class ManifoldSettings(Checked):
    """Settings of `manifold`."""

    singular_values: Pair


class Manifold(Checked):
    """manifold.json."""

    settings: ManifoldSettings
    kappa_balanced: Number


class KappaHistogram(Problem):
    """kappa-histogram.json."""

    kappa_balanced: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    not_converged: Count


class LossSettings(Settings):
    """Settings with the name of a loss."""

    loss: str


class BestStep(Checked):
    """A method's line of the summary of `convergence`."""

    step_size: Annotated[list[Known], Field(min_length=1)]
    diverged_at_best: Count


class Convergence(Checked):
    """convergence.json."""

    settings: LossSettings
    optimizer: str
    methods: Names
    steps: Count
    summary: list[BestStep]


class MapSettings(Checked):
    """Settings of `phase`."""

    shape: Annotated[list[Size], Field(min_length=2, max_length=2)]
    rank: Size
    seeds: Size


class Phase(Checked):
    """phase.json."""

    settings: MapSettings
    spectrum: str
    optimizer: str
    methods: Annotated[list[str], Field(min_length=2, max_length=2), AfterValidator(_different)]
    steps: Count


class Gain(Checked):
    """A paired gain."""

    median: Number
    interval: Annotated[list[Number], Field(min_length=2, max_length=2)] | None
    wins: Count
    n: Count


class Settle(Problem):
    """settle.json."""

    rescale_runs: Names
    log10_gain: dict[str, Gain]


class DuelSettings(Checked):
    """Settings of `duel`."""

    rank: Size
    init_std: Known
    seeds: Size


class Duel(Checked):
    """duel.json."""

    settings: DuelSettings
    methods: Names
    starts: Annotated[list[str], Field(min_length=1, max_length=8)]
    spectrum: str
    optimizer: str
    steps: Count


class GaugeSettings(Checked):
    """Settings of `gauges`."""

    rank: Size
    seeds: Size
    alignment: str


class Gauges(Checked):
    """gauges.json."""

    settings: GaugeSettings
    methods: Names
    optimizers: Annotated[list[str], Field(min_length=1, max_length=8)]
    steps: Count
    noise: Known


class RatioSettings(Checked):
    """Settings of `ratios`."""

    rank: Size
    target: str


class Ratios(Checked):
    """ratios.json."""

    settings: RatioSettings
    method: str
    optimizer: str
    steps: Count


class AuditedLayer(Checked):
    """A layer of an audited adapter."""

    name: str
    r: Size
    relative_gap: Number | None
    kappa_bound: Number | None
    kappa_bound_balanced: Number | None


class Audit(Checked):
    """audit.json."""

    layers: Annotated[list[AuditedLayer], Field(min_length=1)]


class Matrix(Checked):
    """The spectrum of a GGN or Hessian."""

    lambda_max: Number
    trace: Number
    kappa: dict[str, Number]


class Point(Checked):
    """A pair, on a gauge path or beside it."""

    t: Known | None
    ggn: Matrix
    hessian: Matrix | None


class CurvedLayer(Checked):
    """A layer whose curvature was measured."""

    name: str
    path: Annotated[list[Point], Field(min_length=1)]
    gauges: dict[str, Point]
    lambda_max_bound: Number


class Curvature(Checked):
    """curvature.json."""

    layers: Annotated[list[CurvedLayer], Field(min_length=1)]
    tokens: Count
    loss: Number


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Goal(Checked):
    """What a benchmark is to reach."""

    least: Positive
    peer: str | None


class Ratio(Checked):
    """A peer's time over ours."""

    median: Positive
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BenchmarkRow(Checked):
    """One piece of work, done by us and by others."""

    work: str
    setting: str
    threads: Size
    unit: str
    rate: Positive
    goals: list[Goal]
    reached: list[bool]
    ratios: dict[str, Ratio]
    seconds: Annotated[dict[str, Positive], Field(min_length=1)]
    growth: Annotated[list[str | Positive], Field(min_length=2, max_length=2)] | None
    exponent: Known | None

    @model_validator(mode="after")
    def _goals_are_decided(self) -> "BenchmarkRow":
        if len(self.reached) != len(self.goals) or any(goal.peer not in {None, *self.ratios} for goal in self.goals):
            raise ValueError("goals, ratios and what was reached do not belong together")
        return self


class Benchmarks(Checked):
    """benchmarks.json."""

    rows: Annotated[list[BenchmarkRow], Field(min_length=1)]
    processor: str
    cores: Count | None
    device: str


class Cell(Checked):
    """The runs of a method at one rank, scaling and learning rate."""

    method: str
    rank: Size
    scaling: Known
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    validation_loss: list[Number | None]
    status: list[str]


class BestCell(Checked):
    """A method's best cell at a rank."""

    method: str
    rank: Size
    scaling: Known
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    at_edge: bool
    validation_loss: list[Number | None]
    test_loss: list[Number | None]
    exact_match: list[Number | None]
    window: Annotated[list[Number], Field(min_length=2, max_length=2)] | None
    decades: Number | None
    window_censored: bool
    seconds_per_step: list[Number | None]
    method_seconds_per_step: list[Number | None]
    peak_memory_bytes: list[Number | None]


class Effect(Checked):
    """A paired difference to the baseline."""

    method: str
    rank: Size
    quantity: str
    estimate: Number | None
    low: Number | None
    high: Number | None


class Comparison(Checked):
    """llm-compare.json."""

    model: str
    data: str
    baseline: str
    methods: Names
    ranks: Annotated[list[Size], Field(min_length=1)]
    scalings: Annotated[list[Known], Field(min_length=1)]
    seeds: Annotated[list[int], Field(min_length=1)]
    steps: Count
    cells: list[Cell]
    best: list[BestCell]
    comparisons: list[Effect]


DESCRIPTIONS: dict[str, type[Checked]] = {
    "manifold": Manifold,
    "kappa-histogram": KappaHistogram,
    "convergence": Convergence,
    "rates": Problem,
    "phase": Phase,
    "settle": Settle,
    "duel": Duel,
    "ratios": Ratios,
    "gauges": Gauges,
    "audit": Audit,
    "curvature": Curvature,
    "llm-compare": Comparison,
    "benchmarks": Benchmarks,
    "study": StudyResult,
}
"""Schema of NAME.json."""
