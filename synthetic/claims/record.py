"""The record itself: which claims rest on it, what it is made of, and that it comes out the same when made again."""

from collections.abc import Sequence

from lorakappa.conditioning.verification import Claim, Measurement, measured_claim
from lorakappa.shared.evidence_files import refuse
from lorakappa.synthetic.arms.arm import Arm
from lorakappa.synthetic.arms.evidence import FOLDER, Conclusion, Evidence, kept, needed
from lorakappa.synthetic.arms.replay import replayed, sample
from lorakappa.synthetic.claims.adam_frames import CLAIMS as ADAM_FRAMES
from lorakappa.synthetic.claims.balora import CLAIMS as BALORA
from lorakappa.synthetic.claims.critics import CLAIMS as CRITICS
from lorakappa.synthetic.claims.data_gauges import CLAIMS as DATA_GAUGES
from lorakappa.synthetic.claims.gauges import CLAIMS as GAUGES
from lorakappa.synthetic.claims.ilora import CLAIMS as ILORA
from lorakappa.synthetic.claims.ilora_ablations import CLAIMS as ILORA_ABLATIONS
from lorakappa.synthetic.claims.on_record import RecordedClaim, conclusion
from lorakappa.synthetic.claims.rates import CLAIMS as RATES

GROUPS: Sequence[Sequence[Claim]] = (
    RATES,
    BALORA,
    GAUGES,
    DATA_GAUGES,
    ADAM_FRAMES,
    CRITICS,
    ILORA,
    ILORA_ABLATIONS,
)

RECORDED = tuple(claim for group in GROUPS for claim in group if isinstance(claim, RecordedClaim))
"""The claims that rest on evidence."""


def recorded_arms() -> list[Arm]:
    """Every arm that a claim rests on, with those that they are tuned by."""
    return needed(arm for claim in RECORDED for arm in claim.arms)


def conclude(evidence: Evidence) -> dict[str, Conclusion]:
    """What the claims conclude from evidence, by id."""
    return {claim.id: conclusion(claim.judge(evidence)) for claim in RECORDED}


def checked(evidence: Evidence) -> list[Measurement]:
    """What the claims conclude from evidence that agrees with itself and with its manifest.

    Raises:
        ValueError: with the first fault, if it does not.
    """
    if strays := evidence.strays(recorded_arms()):
        refuse(evidence.folder, [f"{strays} arms belong to no claim"])
    if others := evidence.manifest.claims.keys() - {claim.id for claim in RECORDED}:
        refuse(evidence.folder, [f"{', '.join(sorted(others))}: no claim that rests on evidence is called that"])
    return [claim.on_record(evidence) for claim in RECORDED]


@measured_claim(
    "simulations-repeat",
    "A simulation on record comes out the same when it is made again.",
    kind="question",
    domain="a random sample of the simulations that recorded claims rest on; 32 problems of an arm at a time",
    trials=12,
    seconds=4.0,
)
def simulations_repeat(trials: int, seed: int) -> Measurement:
    """Rule: holds if no value differs from the record by more than rounding a thousand times as coarse moves it.

    Not seen if one does; inconclusive without a record. How far that moves a value is measured (`arms.replay`). Before
    that, records, manifest and the conclusions of all claims must agree.
    """
    evidence = kept()
    if evidence is None:
        return Measurement("inconclusive", 0, None, f"there is no evidence in {FOLDER.name}")
    checked(evidence)
    replays = [replayed(evidence, *each) for each in sample(recorded_arms(), count=trials, seed=seed)]
    wrong = [replay for replay in replays if not replay.agrees]
    largest = max(float(replay.difference.max()) for replay in replays)
    values = sum(replay.difference.size for replay in replays)
    note = f"{values} values of {len(replays)} arms made again differ by {largest:.1e} decades at most"
    if wrong:
        note += f"; {len(wrong)} arms by more than is allowed, first {wrong[0].arm}, batch {wrong[0].batch}"
    evidences = {"replays": [{"arm": str(r.arm), "batch": r.batch, "excess": r.excess} for r in replays]}
    worst = -max(replay.excess for replay in replays)
    return Measurement("not seen" if wrong else "holds", values, worst, note, evidences)


CLAIMS = (simulations_repeat,)
