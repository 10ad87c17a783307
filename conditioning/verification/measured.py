"""Measured claims: statements about dynamics, whose evidence is simulated or trained rather than computed.

Their verdicts follow a rule stated with the claim, from effects with intervals; "refuted" then means that the
measurement contradicts the statement beyond its stated error, not that a certificate exists.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack

from lorakappa.conditioning.verification.claim import Claim, ClaimOptions, Verdict, VerdictName


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

    verdict: VerdictName
    trials: int
    worst_margin: float | None
    note: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MeasuredClaim(Claim):
    """A claim that is examined by measuring.

    Attributes:
        measure: maps (trials, seed) to the measurement.
        default_trials: instances measured if the caller does not say.
    """

    measure: Callable[[int, int], Measurement]
    default_trials: int

    def examine(self, *, trials: int | None = None, seed: int = 0) -> Verdict:
        """Measures, and wraps the outcome."""
        found = self.measure(trials or self.default_trials, seed)
        return Verdict(
            claim=self,
            verdict=found.verdict,
            trials=found.trials,
            seed=seed,
            worst_margin=found.worst_margin,
            evidence=found.evidence,
            note=found.note,
        )


def measured_claim(
    id: str, statement: str, *, domain: str, trials: int, **options: Unpack[ClaimOptions]
) -> Callable[[Callable[[int, int], Measurement]], MeasuredClaim]:
    """Decorator: makes a measuring function, whose docstring states the rule and the argument, into a claim.

    Args:
        id: as in `Claim`, like all `options`.
        statement: as in `Claim`.
        domain: as in `Claim`.
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
