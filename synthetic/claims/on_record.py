"""Claims that are judged by what arms came to: on record, or simulated where a number of trials is asked for.

Where evidence lies beside the code, a verdict is concluded from it, and what the manifest says was concluded must be
the same. Each claim's rule is its judge's docstring.
"""

import inspect
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Unpack

from lorakappa.conditioning.tolerances import CONCLUSION_TOL
from lorakappa.conditioning.verification import ClaimOptions, MeasuredClaim, Measurement, Verdict
from lorakappa.shared.evidence_files import difference, refuse
from lorakappa.synthetic.arms.arm import Arm
from lorakappa.synthetic.arms.evidence import Conclusion, Evidence, kept
from lorakappa.synthetic.arms.outcomes import Outcomes, Simulated

Judge = Callable[[Outcomes], Measurement]


@dataclass(frozen=True, kw_only=True)
class RecordedClaim(MeasuredClaim):
    """A claim about arms.

    Attributes:
        arms: that it rests on.
        judge: maps their outcomes to the measurement.
    """

    arms: tuple[Arm, ...]
    judge: Judge

    def examine(self, *, trials: int | None = None, seed: int = 0) -> Verdict:
        """Judges the evidence, or simulates where there is none or a number of trials is asked for.

        Raises:
            ValueError: if evidence and manifest disagree, or the trials are too few for an interval.
        """
        evidence = kept() if trials is None else None
        if evidence is None:
            return super().examine(trials=trials, seed=seed)
        return self.verdict_on(self.on_record(evidence), setting=self.setting, seed=evidence.manifest.seed)

    def on_record(self, evidence: Evidence) -> Measurement:
        """What the evidence says, which must be what its manifest says.

        Raises:
            ValueError: if it is not, or records are missing.
        """
        refuse(evidence.folder, evidence.faults(self.arms))
        found = self.judge(evidence)
        stated = evidence.manifest.claims.get(self.id)
        if stated is None:
            raise ValueError(f"{evidence.folder}: nothing is concluded on {self.id}")
        place = difference(conclusion(found).model_dump(), stated.model_dump(), CONCLUSION_TOL)
        refuse(evidence.folder, [] if place is None else [f"{self.id}: {place}"])
        return found


def conclusion(found: Measurement) -> Conclusion:
    """A measurement as the manifest has it."""
    return Conclusion(verdict=found.verdict, trials=found.trials, evidence=json.loads(json.dumps(dict(found.evidence))))


def recorded_claim(
    id: str, statement: str, *, domain: str, arms: Iterable[Arm], trials: int, **options: Unpack[ClaimOptions]
) -> Callable[[Judge], RecordedClaim]:
    """Decorator: makes a judge, whose docstring states the rule and the argument, into a claim about arms.

    Args:
        id: as in `Claim`, like all `options`.
        statement: as in `Claim`.
        domain: as for `measured_claim`.
        arms: that the judge asks for.
        trials: problems that are simulated if there is no evidence.
        options: further fields of `Claim`.
    """

    def decorate(judge: Judge) -> RecordedClaim:
        return RecordedClaim(
            id=id,
            statement=statement,
            domain=domain,
            argument=inspect.getdoc(judge) or "",
            measure=lambda trials, seed: judge(Simulated(trials, seed)),
            default_trials=trials,
            arms=tuple(arms),
            judge=judge,
            **options,
        )

    return decorate
