"""Measured claims: statements about dynamics, whose evidence is simulated or trained rather than computed.

Their verdicts follow a rule stated with the claim, from effects with intervals, and speak of one setting only. What
measurements contradict is "not seen" in that setting: nothing is refuted without a certificate. Where they show that
there is no effect to speak of, the verdict is "equivalent", which is a result, unlike "inconclusive".
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack, get_args

from lorakappa.conditioning.verification.claim import Claim, ClaimOptions, Verdict

MeasuredName = Literal["holds", "not seen", "equivalent", "inconclusive"]
"""What a verdict on a measured claim can be."""


def decide(interval: tuple[float, float], *, threshold: float = 0.0, margin: float = 0.0) -> MeasuredName:
    """What an effect says of the statement that it exceeds a threshold.

    Args:
        interval: of the effect.
        threshold: what it should exceed.
        margin: difference from the threshold that counts as none, stated with the claim.

    Returns:
        "equivalent" if all of the interval is nearer than the margin to the threshold, on whichever side; else "holds"
        if it lies above the threshold, "not seen" if below, "inconclusive" if on both sides.
    """
    low, high = interval[0] - threshold, interval[1] - threshold
    if -margin < low and high < margin:
        return "equivalent"
    if low > 0:
        return "holds"
    return "not seen" if high < 0 else "inconclusive"


def all_of(verdicts: Iterable[MeasuredName]) -> MeasuredName:
    """What several effects say of the statement that all of them exceed their thresholds.

    Args:
        verdicts: of each (`decide`), at least one.

    Returns:
        "not seen" if one of them is; else what they agree on, "inconclusive" if they do not.
    """
    names = set(verdicts)
    if "not seen" in names:
        return "not seen"
    return names.pop() if len(names) == 1 else "inconclusive"


@dataclass(frozen=True)
class Measurement:
    """What a measurement says about its claim.

    Attributes:
        verdict: by the claim's rule.
        trials: instances measured.
        worst_margin: smallest relative slack, or lower end of the effect's interval; None if neither fits.
        note: the effect in one line, with its interval or error.
        evidence: numbers behind it, JSON-like.
    """

    verdict: MeasuredName
    trials: int
    worst_margin: float | None
    note: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses verdicts that a measurement cannot give.

        Raises:
            ValueError: if the verdict is another one.
        """
        if self.verdict not in get_args(MeasuredName):
            raise ValueError(f"a measurement says {', '.join(get_args(MeasuredName))}, not {self.verdict!r}")


@dataclass(frozen=True, kw_only=True)
class MeasuredClaim(Claim):
    """A claim that is examined by measuring.

    Attributes:
        measure: maps (trials, seed) to the measurement.
        default_trials: instances measured if the caller does not say.
    """

    measure: Callable[[int, int], Measurement]
    default_trials: int

    def __post_init__(self) -> None:
        """Checks the verdict on record.

        Raises:
            ValueError: if no measurement can reproduce it.
        """
        if self.recorded not in get_args(MeasuredName):
            raise ValueError(f"{self.id} is measured, so it cannot be {self.recorded}")

    @property
    def setting(self) -> str:
        """The domain's first part, up to a semicolon: what a table names beside the verdict."""
        return self.domain.partition(";")[0]

    def examine(self, *, trials: int | None = None, seed: int = 0) -> Verdict:
        """Measures, and wraps the outcome."""
        found = self.measure(trials or self.default_trials, seed)
        return self.verdict_on(found, setting=self.setting, seed=seed)

    def verdict_on(self, found: Measurement, *, setting: str, seed: int) -> Verdict:
        """The verdict that follows from a measurement.

        Args:
            found: the measurement.
            setting: in which it was made.
            seed: of its draws.
        """
        return Verdict(
            claim=self,
            verdict=found.verdict,
            trials=found.trials,
            seed=seed,
            worst_margin=found.worst_margin,
            evidence=found.evidence,
            note=found.note,
            setting=setting,
        )


def measured_claim(
    id: str, statement: str, *, domain: str, trials: int, **options: Unpack[ClaimOptions]
) -> Callable[[Callable[[int, int], Measurement]], MeasuredClaim]:
    """Decorator: makes a measuring function, whose docstring states the rule and the argument, into a claim.

    Args:
        id: as in `Claim`, like all `options`.
        statement: as in `Claim`.
        domain: as in `Claim`; its first part, up to a semicolon, names the setting.
        trials: instances measured if the caller does not say.
        options: further fields of `Claim`.

    Returns:
        The decorator.
    """

    def decorate(measure: Callable[[int, int], Measurement]) -> MeasuredClaim:
        return MeasuredClaim(
            id=id,
            statement=statement,
            domain=domain,
            argument=inspect.getdoc(measure) or "",
            measure=measure,
            default_trials=trials,
            **options,
        )

    return decorate
