"""Why gauges matter under Adam: entries, frames and momentum told apart (`synthetic.framed_adam`)."""

from dataclasses import replace
from typing import Any

import numpy as np

from lorakappa.conditioning.verification import Measurement, all_of, decide
from lorakappa.synthetic.arms.arm import COLUMNS, AdamOptions, Arm
from lorakappa.synthetic.arms.intervals import median_interval
from lorakappa.synthetic.arms.outcomes import Outcomes, gain
from lorakappa.synthetic.claims.gains import MAIN, NO_GAIN, arms_of, gains_claim, show
from lorakappa.synthetic.claims.on_record import RecordedClaim, recorded_claim
from lorakappa.synthetic.framed_adam import Frame, Second
from lorakappa.synthetic.settings import ProblemSettings

SETTINGS = {**MAIN, "weighted": ProblemSettings(loss="weighted")}
DOMAIN = (
    "one-layer, two-layer and weighted loss, 20×20 Gaussian targets, r = 4, LoRA's start, Adam, 100 steps; weights "
    "with random singular vectors and condition numbers 10, step size of each variant chosen from 17 on other problems"
)

BEYOND = 3
"""Points of the grid, a factor of 4.5."""


def variant(
    method: str = "balora-symmetric",
    *,
    frame: Frame = "own",
    carried: bool = True,
    second: Second = "entry",
    eps: float = 1e-8,
) -> Arm:
    """A method under an Adam of its own, in the one-layer loss."""
    options = AdamOptions(frame, carried, second, eps)
    return Arm(SETTINGS["one-layer"], "adam", method, step_sizes="auto:17", adam=options)


def _claim(
    id: str,
    statement: str,
    first: Arm,
    second: Arm,
    why: str,
    like: Arm | None = None,
    **options: Any,
) -> RecordedClaim:
    """A claim that the second variant ends lower than the first in all three losses.

    Both are at their own best step size or, if there is one, at `BEYOND` points above that of another.
    """

    def there(arm: Arm, settings: ProblemSettings) -> Arm:
        if like is None:
            return replace(arm, settings=settings)
        return replace(arm, settings=settings, beyond=BEYOND, like=replace(like, settings=settings))

    return gains_claim(
        id,
        statement,
        {name: (there(first, settings), there(second, settings)) for name, settings in SETTINGS.items()},
        why=why,
        **{"kind": "question", "domain": DOMAIN, "trials": 24, "experiment": "frames", "seconds": 3.0, **options},
    )


TURNED = {
    name: (
        replace(variant(), settings=settings),
        replace(variant(frame="fixed"), settings=settings, like=replace(variant(), settings=settings)),
    )
    for name, settings in SETTINGS.items()
}


@recorded_claim(
    "adam-frame-fixed",
    "On average a random basis is as good as another for Adam, by symmetry. Does the basis matter problem by problem: "
    "turned once, at the start, by a random rotation between the factors, does BaLoRA in the symmetric gauge end "
    "elsewhere?",
    kind="question",
    domain=DOMAIN.replace("of each variant", "of the one that is not turned"),
    arms=arms_of(TURNED.values()),
    trials=24,
    experiment="frames",
    seconds=3.0,
)
def adam_frame_fixed(outcomes: Outcomes) -> Measurement:
    """Rule: holds if the median |difference| of log₁₀ of the final f − f* has its interval above 0.05 in every loss.

    Not seen if it is below in one. The difference with its sign, whose mean is 0, is reported beside it. Argument for
    that mean: Adam in a basis O from (0, B) is Adam in the pair's own from (0, OᵀB), the gauge goes with rotations, and
    OᵀB has the law of B, whose entries are independent normal ones. At one step size both ends have one law.
    """
    gains = {name: gain(outcomes, *pair, len(TURNED)) for name, pair in TURNED.items()}
    sizes = {}
    for name, (own, turned) in TURNED.items():
        moved = outcomes.measured(own).values[0] - outcomes.measured(turned).values[0]
        sizes[name] = median_interval(np.abs(moved), len(TURNED))
    note = "median size of the difference in decades: " + ", ".join(show(name, found) for name, found in sizes.items())
    note += "; with its sign: " + ", ".join(show(name, found) for name, found in gains.items())
    verdict = all_of(decide(found["interval"], threshold=NO_GAIN) for found in sizes.values())
    lowest = min(found["interval"][0] for found in sizes.values())
    evidence = {"sizes": sizes, "gains": gains}
    return Measurement(verdict, next(iter(sizes.values()))["n"], lowest - NO_GAIN, note, evidence)


CLAIMS = (
    _claim(
        "adam-epsilon-idle",
        "Adam's ε has no part in what balance does: with ε = 10⁻³⁰ BaLoRA in the symmetric gauge ends lower than with "
        "10⁻⁸.",
        variant(),
        variant(eps=1e-30),
        "Gradients are far above ε in all of the run, so that Adam is the scale-free method of `adam-scale`.",
        recorded="equivalent",
    ),
    adam_frame_fixed,
    _claim(
        "adam-balance-without-entries",
        "Balance helps an Adam that has one second moment for each factor, and so no basis: in the symmetric gauge it "
        "ends lower than without P.",
        variant("lora", second="factor"),
        variant(second="factor"),
        "Such an Adam goes with all rotations, as gradient descent does: what is left of P is the balance, and κ.",
    ),
    _claim(
        "adam-entries-matter",
        "With balance, do second moments of entries do better than one for each factor?",
        variant(second="factor"),
        variant(),
        "Second moments of entries divide rows of different size, which is a preconditioner that data may call for.",
        recorded="not seen",
    ),
    _claim(
        "adam-turned-momentum",
        "A frame that turns makes momentum stale: with one second moment for each factor, where nothing else can "
        "differ, the symmetric gauge ends lower than the paper's, whose rotation leaves the momentum behind.",
        variant(frame="singular", carried=False, second="factor"),
        variant(second="factor"),
        "With the momentum carried along both would be one method: the rotation cancels.",
        recorded="not seen",
    ),
    _claim(
        "adam-both-moments-left",
        "Moments belong together: at 4.5 times the best step size of the symmetric gauge the paper's gauge, which "
        "leaves both behind, ends lower than with the momentum carried along and the squares left.",
        variant(frame="singular"),
        variant(frame="singular", carried=False),
        "Momentum carried into entries whose squares were small is divided by what it is not the momentum of. A "
        "diverged seed counts as 10⁶ times its start.",
        like=variant(),
    ),
    _claim(
        "adam-paper-gauge-stable",
        "At 4.5 times the best step size of the symmetric gauge, is the paper's gauge the more stable one: does it end "
        "lower?",
        variant(),
        variant(frame="singular", carried=False),
        "Both leave their moments as they are; the symmetric gauge turns as little as a balanced pair can.",
        like=variant(),
        recorded="not seen",
    ),
    _claim(
        "adam-random-frames",
        "Momentum left behind by a frame that turns at random at every step ruins Adam: the symmetric gauge without it "
        "ends lower.",
        variant(frame="random", carried=False),
        variant(),
        "The extreme case of a gauge that is fixed by nothing: κ is the same at every step.",
    ),
    _claim(
        "adam-singular-frame",
        "Are the singular vectors, with the momentum carried into them, a better basis for Adam's second moments than "
        "the pair's own?",
        variant(),
        variant(frame="singular"),
        "A basis that diagonalizes Gram matrices is what methods of Shampoo's kind divide in, though of gradients; it "
        "turns, and the squares are not carried along.",
        recorded="not seen",
    ),
    _claim(
        "adam-columns-suffice",
        "Is it enough for Adam to balance columns, ‖A_i‖ = ‖B_i‖ by one number each: does it end lower than without?",
        variant("lora"),
        variant(COLUMNS),
        "Adam goes with signed permutations, and a diagonal gauge mixes no coordinates.",
    ),
    _claim(
        "adam-columns-all",
        "Does the whole balance do better under Adam than that of columns?",
        variant(COLUMNS),
        variant(),
        "What the columns leave is the angles between them.",
        recorded="inconclusive",
    ),
)
