"""What can be chosen for a simulation, and what is chosen unless told otherwise; nothing is computed here."""

from dataclasses import asdict, dataclass
from typing import Any

LOSSES = ("one-layer", "two-layer", "mlp")
TARGETS = ("gaussian", "linear", "geometric:RATIO", "power-law:EXPONENT", "FILE")
SPECTRA = ("geometric", "power-law")
"""Kinds of target with one parameter, over which maps are drawn."""
STARTS = ("lora", "gaussian", "balanced", "imbalanced:RATIO")
OPTIMIZERS = ("gd", "sign-gd", "sign", "adam")
CRITERIA = ("final", "area", "threshold")
"""What a step size is chosen by."""
TUNING = ("shared", "per-seed")
"""One best step size for all seeds, or one for each."""
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""λ of penalties, of which each method gets its best."""
RULES = ("gd", "sign-gd", "sign-gd-sharp", "balora-gd")
"""Update rules whose rate is measured against a bound."""

# defaults of several experiments
OPTIMIZER = "gd"
METHODS = ("lora", "balora")
STEPS = 100
STEP_SIZES = "auto"
SELECT = "final"
TUNE = "shared"
LONGEST = 20_000
"""Steps after which a run that has not converged ends."""


@dataclass(frozen=True)
class ProblemSettings:
    """Which paired problems are drawn.

    Attributes:
        loss: "one-layer", "two-layer" or "mlp".
        shape: (a, b) of the (first) adapted matrix; the second layer of "two-layer" is (b, b).
        rank: r.
        target: as in `targets.targets`; for the other two losses it draws the teacher's updates.
        start: as in `targets.starts`.
        init_std: standard deviation of the random starting entries.
        scaling: α/r, the factor of AB in the one-layer loss.
        seeds: number of paired instances.
        seed: root seed.
    """

    loss: str = "one-layer"
    shape: tuple[int, int] = (20, 20)
    rank: int = 4
    target: str = "gaussian"
    start: str = "lora"
    init_std: float = 1.0
    scaling: float = 1.0
    seeds: int = 8
    seed: int = 0

    def meta(self) -> dict[str, Any]:
        """JSON-like description."""
        return asdict(self)


# defaults of single experiments
RATES = ProblemSettings(shape=(7, 6), rank=2, target="gaussian")
RATES_INSTANCES = 50
RATES_SPREAD = 0.3
RATES_LARGEST_KAPPA = 100.0

HISTOGRAM_DRAWS = 1000
HISTOGRAM_LIMITS = 100
HISTOGRAM_SPREAD = 0.5

PHASE_DECAYS = (0.5, 0.6, 0.7, 0.8, 0.9)
PHASE_INIT_STDS = (0.01, 0.03, 0.1, 0.3, 1.0)

DUEL = ProblemSettings(init_std=0.3)
DUEL_METHODS = ("lora", "balora", "ilora", "scaled-gd", "pilora")
DUEL_SHAPES = ((40, 10), (20, 20), (10, 40))
DUEL_DECAYS = (0.5, 0.7, 0.9)
DUEL_STARTS = ("lora", "balanced", "gaussian")
DUEL_STEPS = 50
DUEL_STEP_SIZES = "auto:17"

RATIOS = ProblemSettings(init_std=0.3, target="geometric:0.7")
RATIO_FACTORS = (1 / 16, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 16.0)
RATIO_POWERS = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0)
