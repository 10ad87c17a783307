"""What of a study is done and what is to be done next: a function of the records that are there, and of nothing else.

So a study can be stopped at any moment, looked at while it runs, and recomputed from its records by anybody.
"""

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lorakappa.llm.comparison.cells import Cell, best_cell, by_cell, validation_loss
from lorakappa.llm.comparison.protocol import longer
from lorakappa.llm.comparison.runs import Record
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.comparison.studies.fixed_width import seeds_needed
from lorakappa.llm.comparison.studies.study import Arm, Contrast, Place, Study
from lorakappa.shared.grids import at_end
from lorakappa.shared.methods import at_strengths

Lookup = Callable[[Run, TrainingSettings], Record | None]
"""The record of a run, or None if there is none."""


@dataclass(frozen=True)
class Pending:
    """A run that is to be made.

    Attributes:
        run: cell and seed.
        arm: that it is of.
        fresh: whether it measures effects.
    """

    run: Run
    arm: Arm
    fresh: bool


@dataclass(frozen=True)
class Selection:
    """How far the choice of an arm's cell has come.

    Attributes:
        arm: whose.
        rates: the grid, as far as it has grown.
        records: of all its runs.
        missing: runs without a record.
        chosen: the best place; None while runs are missing, or if none trained with every seed.
        at_edge: whether its rate, λ or size of the start is the first or last that was tried, so that a better one
            may lie beyond.
    """

    arm: Arm
    rates: tuple[float, ...]
    records: tuple[Record, ...]
    missing: tuple[Run, ...]
    chosen: Place | None = None
    at_edge: bool = False

    @property
    def measured(self) -> Place | None:
        """Where effects are measured; None if there is no choice yet."""
        return None if self.chosen is None else self.arm.measured(self.chosen)

    def chosen_losses(self) -> list[float]:
        """Validation losses of the chosen cell; empty if there is none."""
        if self.chosen is None:
            return []
        cell = Cell(self.chosen.variant, self.chosen.scaling, self.chosen.learning_rate)
        return [validation_loss(record) for record in by_cell(self.records)[cell]]


@dataclass
class Progress:
    """The state of a study.

    Attributes:
        study: what is to be done.
        lookup: gives records.
        given_up: runs that failed and are not tried again now; an arm's fresh seeds end before the first of them.
        selections: by arm.
    """

    study: Study
    lookup: Lookup
    given_up: Set[tuple[Run, TrainingSettings]] = frozenset()
    selections: dict[Arm, Selection] = field(init=False)

    def __post_init__(self) -> None:
        """Looks up what was chosen."""
        self.selections = {arm: select(arm, self.study, self.lookup) for arm in self.study.arms()}
        self._fresh: dict[Arm, list[Record]] = {}

    def fresh(self, arm: Arm) -> list[Record]:
        """The records of an arm's fresh seeds, in order, up to the first that is missing."""
        if arm not in self._fresh:
            records = []
            place = self.selections[arm].measured
            for seed in self.study.fresh_seeds(self.study.fresh.maximum) if place is not None else []:
                record = self.lookup(arm.run(place, seed), arm.settings) if place is not None else None
                if record is None:
                    break
                records.append(record)
            self._fresh[arm] = records
        return self._fresh[arm]

    def gains(self, contrast: Contrast, name: str = "test_loss") -> NDArray[np.float64]:
        """(n,) what the method is lower than the baseline in, on the seeds that both have; NaN where one diverged."""
        pairs = zip(self.fresh(contrast.baseline), self.fresh(contrast.method), strict=False)
        return np.array([_value(baseline, name) - _value(method, name) for baseline, method in pairs])

    def needed(self, contrast: Contrast) -> int | None:
        """Seeds at which it is decided or its interval narrow enough, as known from the first; None before that."""
        study = self.study
        return seeds_needed(
            self.gains(contrast),
            study.fresh.minimum,
            study.alpha(contrast.table),
            study.half_width,
            delta=study.delta,
        )

    def target(self, contrast: Contrast) -> int:
        """Seeds that it gets: the least number, then as many as it needs, in steps and up to the maximum."""
        fresh, needed = self.study.fresh, self.needed(contrast)
        if needed is None:
            return fresh.minimum
        more = math.ceil((min(needed, fresh.maximum) - fresh.minimum) / fresh.step)
        return min(fresh.maximum, fresh.minimum + fresh.step * more)

    def seeds(self, contrast: Contrast) -> int:
        """Seeds that count: its target, whatever others needed; before that the first, which have an interval, too."""
        target, there = self.target(contrast), len(self.gains(contrast))
        return target if there >= target else min(there, self.study.fresh.minimum)

    def records(self) -> list[Record]:
        """All records that the study rests on, each once."""
        found = [record for selection in self.selections.values() for record in selection.records]
        found += [record for arm in self.selections for record in self.fresh(arm)]
        return list({id(record): record for record in found}.values())

    def spent(self) -> tuple[float, int]:
        """Seconds that the runs took, and their number."""
        records = self.records()
        return sum(run_seconds(record) for record in records), len(records)

    def pending(self) -> list[Pending]:
        """The runs to be made next, as far as the budget goes; empty once the study is done or its budget spent.

        The least numbers of seeds come first. Then contrasts get what they need, those first that need the fewest, as
        long as the budget allows for all that need so many.
        """
        found = [
            Pending(run, arm, False)
            for arm, selection in self.selections.items()
            for run in selection.missing
            if (run, arm.settings) not in self.given_up
        ]
        found += self._fresh_runs(dict.fromkeys(self.study.contrasts(), self.study.fresh.minimum))
        if not found:
            found = self._affordable_extra()
        seconds, runs = self.spent()
        left = []
        for each in sorted(found, key=lambda each: (each.fresh, each.run.seed if each.fresh else 0)):
            if runs >= self.study.runs or seconds >= 3600 * self.study.hours:
                break
            left.append(each)
            runs, seconds = runs + 1, seconds + self.expected_seconds(each.arm)
        return left

    def expected_seconds(self, arm: Arm) -> float:
        """Mean time of a run of an arm, so far; of all with its horizon if there is none, 0 if there are none."""
        own = [*self.fresh(arm), *self.selections[arm].records]
        if not own:
            steps = arm.settings.steps
            own = [
                record
                for other, selection in self.selections.items()
                if other.settings.steps == steps
                for record in selection.records
            ]
        return float(np.mean([run_seconds(record) for record in own])) if own else 0.0

    def _affordable_extra(self) -> list[Pending]:
        """Fresh runs that bring contrasts to their targets, in the order of these, as far as the budget allows."""
        targets, (seconds, runs) = {each: self.target(each) for each in self.study.contrasts()}, self.spent()
        found: list[Pending] = []
        for limit in sorted(set(targets.values())):
            more = self._fresh_runs({each: target for each, target in targets.items() if target <= limit})
            cost = sum(self.expected_seconds(each.arm) for each in more)
            if seconds + cost > 3600 * self.study.hours or runs + len(more) > self.study.runs:
                break
            found = more
        return found

    def _reach(self, arm: Arm) -> int:
        """The fresh seeds of an arm before the first that was given up."""
        place, seeds = self.selections[arm].measured, self.study.fresh_seeds(self.study.fresh.maximum)
        if place is None or not self.given_up:
            return len(seeds)
        lost = (i for i, seed in enumerate(seeds) if (arm.run(place, seed), arm.settings) in self.given_up)
        return next(lost, len(seeds))

    def _fresh_runs(self, numbers: Mapping[Contrast, int]) -> list[Pending]:
        """Fresh runs without a record that bring contrasts to so many seeds."""
        wanted: dict[Arm, int] = {}
        for contrast, count in numbers.items():
            arms = (contrast.baseline, contrast.method)
            if any(self.selections[arm].chosen is None for arm in arms):
                continue
            number = min(count, *(self._reach(arm) for arm in arms))
            for arm in arms:
                wanted[arm] = max(wanted.get(arm, 0), number)
        found = []
        for arm, number in wanted.items():
            place = self.selections[arm].measured
            for seed in self.study.fresh_seeds(number)[len(self.fresh(arm)) :]:
                if place is not None and self.lookup(run := arm.run(place, seed), arm.settings) is None:
                    found.append(Pending(run, arm, True))
        return found


def select(arm: Arm, study: Study, lookup: Lookup) -> Selection:
    """Chooses an arm's cell by the lowest mean validation loss over the selection seeds.

    The grid grows by one rate at an edge where the best one lies (downwards if nothing trained), as often as the study
    allows.
    """
    rates = list(arm.learning_rates)
    for extension in range(study.extensions + 1):
        places = arm.places(rates)
        runs = [arm.run(place, seed) for place in places for seed in study.selection_seeds]
        found = [(run, lookup(run, arm.settings)) for run in runs]
        records = tuple(record for _, record in found if record is not None)
        missing = tuple(run for run, record in found if record is None)
        if missing:
            return Selection(arm, tuple(rates), records, missing)
        best = best_cell(by_cell(records), len(study.selection_seeds))
        by_place = {Cell(place.variant, place.scaling, place.learning_rate): place for place in places}
        chosen = None if best is None else by_place[best]
        grown = longer(rates, None if chosen is None else chosen.rate)
        if grown == rates or extension == study.extensions:
            break
        rates = grown
    return Selection(arm, tuple(rates), records, (), chosen, chosen is not None and _at_edge(arm, rates, chosen))


def _at_edge(arm: Arm, rates: Sequence[float], chosen: Place) -> bool:
    """Whether a place is the first or last along an axis of an arm's grid."""
    strengths = dict(zip(at_strengths(arm.method, arm.strengths, "llm"), arm.strengths, strict=False))
    return (
        at_end(chosen.rate, rates)
        or at_end(chosen.scaling, arm.scalings)
        or at_end(strengths[chosen.variant], strengths.values())
    )


def run_seconds(record: Record) -> float:
    """Seconds that a run took, loading included; 0 where the record does not say."""
    return float(record["run_info"].get("total_time") or 0.0)


def _value(record: Record, name: str) -> float:
    value = record["train_info"].get(name)
    return math.nan if value is None else float(value)
