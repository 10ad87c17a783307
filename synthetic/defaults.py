"""What experiments do unless told otherwise: the one place for commands and functions."""

from lorakappa.synthetic.settings import ProblemSettings

# of several experiments
OPTIMIZER = "gd"
METHODS = ("lora", "balora")
STEPS = 100
STEP_SIZES = "auto"
SELECT = "final"
TUNE = "shared"
SPECTRUM = "geometric"
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""λ of penalties, of which each method gets its best; those of the claims go down to 1e-6, where a penalty that costs
costs next to nothing."""
LONGEST = 20_000
"""Steps after which a run that has not converged ends."""

# of single ones
RATES = ProblemSettings(shape=(7, 6), rank=2)
RATES_RULES = ("gd", "sign-gd", "sign-gd-sharp", "balora-gd")
"""All but the one that is for few parameters."""
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
"""Few enough that the fastest methods do not reach rounding, where nobody could win."""
DUEL_STEP_SIZES = "auto:17"
"""Five step sizes a decade."""

RATIOS = ProblemSettings(init_std=0.3, target="geometric:0.7")
RATIOS_METHOD = "ilora"
RATIOS_FACTORS = (1 / 16, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 16.0)
RATIOS_POWERS = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0)

GAUGES = ProblemSettings(loss="weighted", alignment="crossed")
GAUGES_METHODS = ("lora", "balora-symmetric", "balora-data", "balora-fisher", "reflora", "scaled-gd")
GAUGES_CONDITIONS = (1.0, 10.0, 100.0)
GAUGES_NOISE = 0.3
"""Of labels, in units of the root mean square of CZD: after that many steps it is what is left of the loss."""
