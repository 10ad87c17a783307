"""Gains: decades of final f − f* between paired methods, each at its own best step size and λ, with an interval.

Gains are log₁₀ ratios of the final f − f* of the first arm over the second on paired problems (same target, same
start). Step sizes and λ are chosen on other problems. Stated is the median, with an interval that all settings of a
claim have together at 95 % (`arms.intervals`). Gains of less than `NO_GAIN` count as none, in every claim.
"""

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any, Final

from lorakappa.conditioning.verification import MeasuredName, Measurement, all_of, decide
from lorakappa.synthetic.arms.arm import Arm
from lorakappa.synthetic.arms.outcomes import Outcomes, gain
from lorakappa.synthetic.claims.on_record import RecordedClaim, recorded_claim
from lorakappa.synthetic.settings import ProblemSettings

NO_GAIN: Final = 0.05
"""Decades of f − f* below which a gain counts as none: a factor of 1.12 after 100 steps."""

MAIN = {"one-layer": ProblemSettings(), "two-layer": ProblemSettings(loss="two-layer")}
VARIATIONS = {
    "LoRA's start, B of size 0.3": ProblemSettings(init_std=0.3),
    "LoRA's start, B of size 0.3, two-layer": ProblemSettings(loss="two-layer", init_std=0.3),
    "LoRA's start, B of size 0.13": ProblemSettings(init_std=0.13),
    "LoRA's start, B of size 0.13, two-layer": ProblemSettings(loss="two-layer", init_std=0.13),
    "Gaussian start 0.1": ProblemSettings(start="gaussian", init_std=0.1),
    "balanced start": ProblemSettings(start="balanced", init_std=0.1),
    "linear spectrum": ProblemSettings(target="linear"),
    "geometric spectrum 0.7": ProblemSettings(target="geometric:0.7"),
    "r = 2": ProblemSettings(rank=2),
    "r = 10": ProblemSettings(rank=10),
}
"""The usual size of B, that of PEFT's default, uniform in ±1/√b, is 1/√(3b): 0.13 here."""

Contrasts = Mapping[str, tuple[Arm, Arm]]
"""By setting, the baseline and the arm that is claimed to end lower."""


def paired(settings: Mapping[str, ProblemSettings], methods: tuple[str, str], **options: Any) -> Contrasts:
    """Two methods that are alike in all else, by setting; options are fields of `Arm`."""
    first, second = methods
    return {
        name: (Arm(here, method=first, **options), Arm(here, method=second, **options))
        for name, here in settings.items()
    }


def judged(gain: Mapping[str, Any]) -> MeasuredName:
    """What a gain says of the statement that there is one: the rule of every claim about gains.

    "equivalent" if its interval lies within ±`NO_GAIN`; else "holds" if it is above 0, "not seen" if below.
    """
    return decide(gain["interval"], margin=NO_GAIN)


def show(name: str, gain: Mapping[str, Any]) -> str:
    """One gain with its interval, in words."""
    low, high = gain["interval"]
    return f"{name} {gain['median']:+.2f} [{low:+.2f}, {high:+.2f}]"


def diverged(gains: Mapping[str, Mapping[str, Any]]) -> str:
    """By setting, how many runs of the baseline and of the other arm diverged, in words; empty if none did."""
    there = {name: (*found["diverged"], found["n"]) for name, found in gains.items() if any(found["diverged"])}
    words = ", ".join(f"{name} {first} and {second} of {n}" for name, (first, second, n) in there.items())
    return f"; diverged: {words}" if words else ""


def edges(strengths: Mapping[str, Iterable[float]]) -> str:
    """By setting, λ that are at the edge of their grid, in words; empty if there is none."""
    words = ", ".join(f"{name} {strength:g}" for name, found in strengths.items() for strength in found)
    return f"; λ at the edge of its grid: {words}" if words else ""


def edges_of(gains: Mapping[str, Mapping[str, Any]]) -> dict[str, list[float]]:
    """By setting, the λ of either arm that are at the edge of their grid."""
    return {
        name: [strength for strength, edge in zip(found["lambda"], found["lambda_at_edge"], strict=True) if edge]
        for name, found in gains.items()
    }


def arms_of(contrasts: Iterable[tuple[Arm, Arm]]) -> tuple[Arm, ...]:
    """The arms of contrasts, each once."""
    return tuple(dict.fromkeys(chain.from_iterable(contrasts)))


def judge_gains(outcomes: Outcomes, contrasts: Contrasts, beside: Contrasts | None = None) -> Measurement:
    """What gains in several settings say together: the rule of `gains_claim`."""
    beside = beside or {}
    number = len(contrasts) + len(beside)
    main, others = (
        {name: gain(outcomes, *pair, number) for name, pair in group.items()} for group in (contrasts, beside)
    )
    note = "gain in decades: " + ", ".join(show(name, found) for name, found in main.items())
    labels = {"worse": "not seen", "no different": "equivalent", "undecided": "inconclusive"}
    for label, word in labels.items() if others else ():
        there = [show(name, found) for name, found in others.items() if judged(found) == word]
        note += f"; {label} at: {', '.join(there) or 'none'}"
    note += diverged(main | others) + edges(edges_of(main | others))
    return Measurement(
        all_of(judged(found) for found in main.values()),
        next(iter(main.values()))["n"],
        min(found["interval"][0] for found in main.values()),
        note,
        {"gains": main, "beside": others} if others else {"gains": main},
    )


def gains_claim(
    id: str,
    statement: str,
    contrasts: Contrasts,
    *,
    why: str,
    domain: str,
    trials: int,
    beside: Contrasts | None = None,
    **options: Any,
) -> RecordedClaim:
    """A claim that arms end lower than their baselines in every one of several settings.

    Args:
        id: as in `Claim`, like `statement` and all `options`.
        statement: as in `Claim`.
        contrasts: the settings that decide.
        why: the argument, which follows the rule.
        domain: as for `measured_claim`.
        trials: problems that are simulated if there is no evidence.
        beside: settings that are reported beside them.
        options: further fields of `Claim`.
    """

    def judge(outcomes: Outcomes) -> Measurement:
        return judge_gains(outcomes, contrasts, beside)

    several = len(contrasts) > 1
    judge.__doc__ = (
        f"Rule: holds if the gain's interval is above 0{' in every setting' if several else ''}, not seen if it is "
        f"below 0{' in one' if several else ''}, equivalent if {'all lie' if several else 'it lies'} within ±0.05 "
        f"decades.\n\n{why}"
    )
    arms = arms_of([*contrasts.values(), *(beside or {}).values()])
    return recorded_claim(id, statement, domain=domain, arms=arms, trials=trials, **options)(judge)
