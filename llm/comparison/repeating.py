"""Whether runs on record come out the same when they are made again: what the claims on fine-tunes stand on."""

from collections.abc import Sequence
from dataclasses import asdict

from lorakappa.conditioning.verification.measured import Measurement
from lorakappa.llm.comparison.claim_kinds import STUDY
from lorakappa.llm.comparison.runs import Record
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.comparison.short_comparisons import BY_RANK, short_comparison, short_splits, workplace
from lorakappa.llm.comparison.studies.outcomes import kept, sound_evidence
from lorakappa.llm.comparison.studies.replay import Replay, compared, make_again, sample, spread_of
from lorakappa.llm.data.sources import load_splits

REPLAY_SECONDS = 20.0
"""Computing that a sample of runs may take."""


def runs_repeat(trials: int, seed: int) -> Measurement:
    """Holds if a random sample of runs on record, made again, has the losses on record; not seen if one has not.

    On the type of machine and with the versions of the record, they may differ by rounding of the losses; elsewhere by
    no more than the losses of the arm's seeds lie apart. Without evidence the runs of the short comparison are taken.
    """
    folder = kept(STUDY)
    if folder is None:
        records, splits, progress = _short_records(seed), short_splits(), None
    else:
        evidence = sound_evidence(folder)
        records = evidence.records
        splits = load_splits(evidence.study.data.source, **evidence.study.data.options())
        if splits.digest != evidence.manifest.about.digest:
            return Measurement("not seen", 0, None, "the data of the runs cannot be made again: its digest differs")
        progress = evidence.progress
    keys = sample(records, count=trials, seed=seed, seconds=REPLAY_SECONDS)
    again = make_again(keys, splits, workplace()[1])
    replays = [
        compared(key, records[key], again[key], 0.0 if progress is None else spread_of(progress, key))
        for key in keys
        if key in again
    ]
    return _repeated(replays, len(keys) - len(replays))


def _repeated(replays: Sequence[Replay], lost: int) -> Measurement:
    """The verdict on runs that were made again."""
    wrong = [replay for replay in replays if not replay.agrees]
    largest = max((replay.difference for replay in replays), default=0.0)
    here = sum(replay.same_machine for replay in replays)
    note = f"{len(replays)} runs made again, {here} by the type of machine on record: losses differ by {largest:.2g}"
    if lost:
        note += f"; {lost} failed"
    if wrong:
        run = wrong[0].run
        note += f"; {run.method} at r = {run.rank}, seed {run.seed}: more than the {wrong[0].allowed:.2g} allowed"
    return Measurement(
        verdict="not seen" if wrong or lost else "holds",
        trials=len(replays) + lost,
        worst_margin=min((replay.allowed - replay.difference for replay in replays), default=None),
        note=note,
        evidence={"replays": [asdict(replay) for replay in replays]},
    )


def _short_records(seed: int) -> dict[tuple[Run, TrainingSettings], Record]:
    """The runs of the short comparison."""
    outcome = short_comparison(BY_RANK, 3, seed)
    return {(Run(**r["run"]), BY_RANK.settings): r for group in outcome.records.values() for r in group}
