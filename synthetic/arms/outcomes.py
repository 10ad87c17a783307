"""What arms came to: simulated here and now, or taken from the record."""

from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

from lorakappa.synthetic.arms.arm import Arm, Choice, Measured
from lorakappa.synthetic.arms.intervals import median_interval
from lorakappa.synthetic.arms.simulating import SECOND_ROUND, choose, measure, refine, root


class Outcomes(Protocol):
    """Choices and measurements by arm."""

    def choice(self, arm: Arm) -> Choice:
        """What was chosen for an arm."""

    def measured(self, arm: Arm) -> Measured:
        """What was measured of it, on other problems."""


class Simulated:
    """Outcomes that are made when they are asked for, once for all claims that share them.

    Attributes:
        trials: number of problems to choose on, and of those to measure on.
        seed: root seed.
    """

    def __init__(self, trials: int, seed: int) -> None:
        self.trials, self.seed = trials, seed

    def choice(self, arm: Arm) -> Choice:
        """What is chosen for an arm."""
        chosen = _chosen(arm.chooser, self.trials, self.seed)
        return replace(chosen, beyond=arm.beyond)

    def measured(self, arm: Arm) -> Measured:
        """What is measured of it."""
        return _measured(arm, self.choice(arm), self.trials, self.seed)


@lru_cache(maxsize=512)
def _chosen(arm: Arm, trials: int, seed: int) -> Choice:
    tried = choose(arm, seed=root(seed, 0), count=trials)
    return refine(arm, tried, seed=root(seed, SECOND_ROUND), count=trials)


@lru_cache(maxsize=512)
def _measured(arm: Arm, choice: Choice, trials: int, seed: int) -> Measured:
    return measure(arm, choice, seed=root(seed, 1), count=trials)


def gain(outcomes: Outcomes, first: Arm, second: Arm, settings: int) -> dict[str, Any]:
    """Decades by which the second arm ends lower than the first, in the median over paired problems.

    Args:
        outcomes: of both.
        first: the baseline.
        second: in the same setting.
        settings: number of settings of the claim, among which the error is divided.
    """
    one, two = (outcomes.measured(arm) for arm in (first, second))
    choices = [outcomes.choice(arm) for arm in (first, second)]
    return {
        **median_interval(one.values[0] - two.values[0], settings),
        "diverged": [one.diverged, two.diverged],
        "step_size": [choice.step_size for choice in choices],
        "lambda": [choice.strength for choice in choices],
        "at_edge_of_grid": [choice.at_edge or choice.strength_at_edge for choice in choices],
        "lambda_at_edge": [choice.strength_at_edge for choice in choices],
    }
