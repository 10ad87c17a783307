"""What a study compares: tables of contrasts between arms, each arm a method that is tuned once.

An arm is a method at one rank, horizon and optimizer, with the grid that it is tuned on. Tables share the arms that
they have in common, so that nothing is run twice. A contrast sets a method's arm
against the baseline's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from lorakappa.llm.comparison.protocol import DIGITS, MOST_EXTENSIONS, MOST_RUNS
from lorakappa.llm.comparison.settings import LARGEST_SEED, Run, TrainingSettings
from lorakappa.llm.comparison.studies.fixed_width import LOOKS
from lorakappa.shared.grids import rounded
from lorakappa.shared.methods import at_strengths, parse_method_name


@dataclass(frozen=True)
class DataSource:
    """What `llm.data.sources.load_splits` is given.

    Attributes:
        source: as there, like all that follow.
        modules: of DeepMind Mathematics.
        columns: of a data set with columns; empty for its own.
        examples: numbers of training, validation and test examples.
        resplit: whether validation and test are cut from the training data although there are others.
        seed: of the draws.
    """

    source: str = "mathematics"
    modules: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    examples: tuple[int, int, int] = (4000, 128, 256)
    resplit: bool = False
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `load_splits`."""
        sizes = dict(zip(("train", "validation", "test"), self.examples, strict=True))
        columns = (self.columns[0], self.columns[1]) if self.columns else None
        return {"modules": self.modules, "columns": columns, "resplit": self.resplit, "seed": self.seed, **sizes}


@dataclass(frozen=True)
class Place:
    """One point of a grid.

    Attributes:
        variant: the method with its λ.
        scaling: α/r.
        rate: of the grid: a learning rate, or an effective one.
        learning_rate: that the run gets.
    """

    variant: str
    scaling: float
    rate: float
    learning_rate: float


@dataclass(frozen=True)
class Arm:
    """A method at one rank, horizon and optimizer, and the grid on which it is tuned.

    Attributes:
        method: as `shared.methods.parse_method_name` takes it; its λ may be open.
        rank: r.
        settings: of all its runs.
        learning_rates: first grid, ascending and log-spaced.
        scalings: values of α/r that are tried.
        strengths: values of λ that are tried where the method has one that its name leaves open.
        effective: whether the grid is of effective learning rates: η√(α/r) under Adam, η·α/r under SGD. Without decay
            and clipping, and with ε → 0, training at scale c and rate η moves the adapted matrix as training at scale 1
            and that rate does from a start that is √c times as large (derived here: substitute √c·(A, B), whose
            gradients are those of (A, B) divided by √c, which Adam's step does not see and SGD's does); so a scaling at
            a fixed effective rate is a size of the start.
        times_best_rate: effects are measured at this multiple of the learning rate that is chosen.
    """

    method: str
    rank: int
    settings: TrainingSettings
    learning_rates: tuple[float, ...]
    scalings: tuple[float, ...] = (1.0,)
    strengths: tuple[float, ...] = (1.0,)
    effective: bool = False
    times_best_rate: float = 1.0

    def places(self, rates: Sequence[float]) -> list[Place]:
        """The points of a grid with those rates."""
        variants = at_strengths(self.method, self.strengths, "llm")
        return [
            Place(variant, scaling, rate, self._learning_rate(rate, scaling))
            for variant, scaling, rate in product(variants, self.scalings, rates)
        ]

    def _learning_rate(self, rate: float, scaling: float) -> float:
        if not self.effective:
            return rate
        return rounded(rate / (scaling if self.settings.optimizer == "sgd" else math.sqrt(scaling)), DIGITS)

    def measured(self, chosen: Place) -> Place:
        """Where effects are measured."""
        return replace(chosen, learning_rate=rounded(chosen.learning_rate * self.times_best_rate, DIGITS))

    def run(self, place: Place, seed: int) -> Run:
        """One run there."""
        return Run(place.variant, self.rank, place.scaling, place.learning_rate, seed)


@dataclass(frozen=True)
class Contrast:
    """A method against the baseline of its table.

    Attributes:
        table: name of the table.
        method: its arm.
        baseline: the arm that it is compared with.
        start: α/r at which both are held; None where it is tuned or always 1.
    """

    table: str
    method: Arm
    baseline: Arm
    start: float | None = None

    @property
    def rank(self) -> int:
        """The rank of both."""
        return self.method.rank

    @property
    def steps(self) -> int:
        """The steps of both."""
        return self.method.settings.steps


@dataclass(frozen=True)
class StudyTable:
    """Methods against a baseline over some axes; one correction for the number of its comparisons.

    Attributes:
        name: of the table.
        methods: names; the first is the baseline.
        ranks: values of r.
        steps: horizons.
        settings: of all its runs, but for the steps.
        learning_rates: first grid of every arm.
        scalings: values of α/r that are tuned.
        starts: values of α/r that are an axis of the table instead; then rates are effective.
        strengths: values of λ that are tuned.
        effective: whether the learning rates are effective ones (`Arm`).
        times_best_rate: at which multiple of its best learning rate each method is measured.
    """

    name: str
    methods: tuple[str, ...]
    ranks: tuple[int, ...]
    steps: tuple[int, ...]
    settings: TrainingSettings
    learning_rates: tuple[float, ...]
    scalings: tuple[float, ...] = (1.0,)
    starts: tuple[float, ...] = ()
    strengths: tuple[float, ...] = (1.0,)
    effective: bool = False
    times_best_rate: float = 1.0

    def __post_init__(self) -> None:
        """Checks the table before anything is loaded.

        Raises:
            ValueError: on empty or repeated entries, unknown methods, or numbers out of range.
        """
        for name in ("methods", "ranks", "steps", "learning_rates", "scalings", "strengths"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} must be a list of one or more different values")
        if len(self.methods) < 2:
            raise ValueError("methods must name the baseline and at least one more")
        if len(set(self.starts)) != len(self.starts):
            raise ValueError("starts must be different values")
        if self.starts and (self.scalings != (1.0,) or self.effective):
            raise ValueError("starts are scalings at fixed effective rates: leave out scalings and effective")
        for method in self.methods:
            parse_method_name(method, "llm")
        if min(self.ranks) < 1:
            raise ValueError(f"ranks must be at least 1, not {min(self.ranks)}")
        for name in ("learning_rates", "scalings", "starts", "strengths"):
            if not all(0 < value < math.inf for value in getattr(self, name)):
                raise ValueError(f"{name} must be positive and finite")
        if not 0 < self.times_best_rate < math.inf:
            raise ValueError(f"times_best_rate must be positive and finite, not {self.times_best_rate}")

    def contrasts(self) -> list[Contrast]:
        """Every comparison of the table, in order."""
        return [
            Contrast(
                self.name, self._arm(method, rank, steps, start), self._arm(self.methods[0], rank, steps, start), start
            )
            for rank, steps, start in product(self.ranks, self.steps, self.starts or (None,))
            for method in self.methods[1:]
        ]

    def _arm(self, method: str, rank: int, steps: int, start: float | None) -> Arm:
        return Arm(
            method,
            rank,
            at_steps(self.settings, steps),
            self.learning_rates,
            self.scalings if start is None else (start,),
            self.strengths,
            self.effective or start is not None,
            self.times_best_rate,
        )


@dataclass(frozen=True)
class FreshSeeds:
    """The seeds that measure effects.

    Attributes:
        first: the first one.
        minimum: number that every arm gets, from which the variance is taken.
        step: the further ones come in multiples of it.
        maximum: number that no arm exceeds.
    """

    first: int
    minimum: int = 10
    step: int = 5
    maximum: int = 60


@dataclass(frozen=True)
class Study:
    """A study as it was planned.

    Attributes:
        name: of the study.
        summary: one line.
        tables: what is compared.
        data: what is trained on.
        selection_seeds: seeds on which cells are chosen.
        extensions: by how many learning rates a grid may grow beyond its edges.
        fresh: the seeds that measure effects.
        delta: nats per answer token below which a difference counts as none.
        half_width: of the corrected interval that is wanted.
        confidence: of all intervals of a table together.
        hours: of computing, all runs together, after which no more are begun; infinite for no limit.
        runs: number of runs likewise.
    """

    name: str
    summary: str
    tables: tuple[StudyTable, ...]
    fresh: FreshSeeds
    data: DataSource = field(default_factory=DataSource)
    selection_seeds: tuple[int, ...] = (0, 1)
    extensions: int = 4
    delta: float = 0.01
    half_width: float = 0.01
    confidence: float = 0.95
    hours: float = math.inf
    runs: int = MOST_RUNS

    def __post_init__(self) -> None:
        """Checks the study before anything is loaded.

        Raises:
            ValueError: if a number is out of range, two tables share a name, or seeds would be used twice.
        """
        names = [table.name for table in self.tables]
        if not names or len(set(names)) != len(names):
            raise ValueError("there must be one or more tables, each with a name of its own")
        fresh = self.fresh
        if not self.selection_seeds or len(set(self.selection_seeds)) != len(self.selection_seeds):
            raise ValueError("selection needs one or more different seeds")
        if not 2 <= fresh.minimum <= fresh.maximum or fresh.step < 1:
            raise ValueError("fresh seeds need 2 ≤ minimum ≤ maximum and a step of at least 1")
        if min(*self.selection_seeds, fresh.first) < 0 or fresh.first + fresh.maximum - 1 > LARGEST_SEED:
            raise ValueError(f"seeds must lie between 0 and {LARGEST_SEED}")
        used = [seed for seed in self.selection_seeds if fresh.first <= seed < fresh.first + fresh.maximum]
        if used:
            raise ValueError(f"seed {used[0]} cannot choose cells and measure effects: move fresh.first")
        for name in ("delta", "half_width", "hours"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, not {self.confidence}")
        if not 0 <= self.extensions <= MOST_EXTENSIONS:
            raise ValueError(f"extensions must be between 0 and {MOST_EXTENSIONS}, not {self.extensions}")
        if not 1 <= self.runs <= MOST_RUNS:
            raise ValueError(f"runs must be between 1 and {MOST_RUNS}, not {self.runs}")
        least, most = self.least_runs(), MOST_RUNS
        if least > most:
            raise ValueError(f"these are {least} runs at least; at most {most} can be compared")

    def contrasts(self) -> list[Contrast]:
        """Every comparison of all tables, in order."""
        return [contrast for table in self.tables for contrast in table.contrasts()]

    def arms(self) -> list[Arm]:
        """The different arms of all tables, in the order in which they are first needed."""
        pairs = [(contrast.baseline, contrast.method) for contrast in self.contrasts()]
        return list(dict.fromkeys(arm for pair in pairs for arm in pair))

    def alpha(self, table: str) -> float:
        """The error that one interval of a table may have, so that all of them have 1 − confidence together.

        Bonferroni's correction: a share for each comparison (Dunn 1961, Multiple comparisons among means, section 2),
        and of that one for each of its looks (`fixed_width`).
        Holm's would decide a little more, but it orders p-values and gives no intervals whose width could be aimed at.
        """
        (found,) = [each for each in self.tables if each.name == table]
        return (1 - self.confidence) / (LOOKS * len(found.contrasts()))

    def fresh_seeds(self, number: int) -> list[int]:
        """The first so many fresh seeds."""
        return [self.fresh.first + i for i in range(number)]

    def least_runs(self) -> int:
        """Runs if no grid grows and no arm needs more than the least number of seeds."""
        places = (len(arm.places(arm.learning_rates)) for arm in self.arms())
        return sum(len(self.selection_seeds) * count + self.fresh.minimum for count in places)

    def most_runs(self) -> int:
        """Runs if every grid grows to its limit and every arm needs all seeds, or the limit of the budget."""
        counts = (
            len(arm.places(arm.learning_rates))
            + self.extensions * (len(arm.learning_rates) > 1) * len(arm.places(arm.learning_rates[:1]))
            for arm in self.arms()
        )
        return min(self.runs, sum(len(self.selection_seeds) * count + self.fresh.maximum for count in counts))


def at_steps(settings: TrainingSettings, steps: int) -> TrainingSettings:
    """The settings with another number of steps, and no more evaluations than there are."""
    return replace(settings, steps=steps, evaluations=min(settings.evaluations, steps))
