"""The claim that runs on record come out the same when they are made again; nothing is trained here."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from lorakappa.llm.comparison import repeating
from lorakappa.llm.comparison.claims import CLAIMS
from lorakappa.llm.comparison.repeating import _repeated, runs_repeat
from lorakappa.llm.comparison.short_comparisons import BY_RANK
from lorakappa.llm.comparison.studies.progress import Progress
from lorakappa.llm.comparison.studies.replay import compared
from lorakappa.llm.comparison.studies.study import DataSource
from tests.llm.comparison.outcomes import fake_record, outcome_of
from tests.llm.comparison.small import SPLITS
from tests.llm.comparison.studies.made_up import known, study
from tests.llm.comparison.studies.test_replay import META, SETTINGS, record, records, run


def test_the_verdict_on_runs_made_again():
    key = (run(), SETTINGS)
    same, other = compared(key, record(), record(), 0.0), compared(key, record(), record(1.5), 0.0)
    found = _repeated([same, same], 0)
    assert (found.verdict, found.trials) == ("holds", 2)
    assert "2 runs made again, 2 by the type of machine on record" in found.note
    wrong = _repeated([same, other], 0)
    assert (wrong.verdict, wrong.worst_margin) == ("not seen", other.allowed - 0.5)
    assert "lora at r = 4, seed 0" in wrong.note
    assert (_repeated([same], 1).verdict, _repeated([same], 1).trials) == ("not seen", 2)
    lost = _repeated([], 2)
    assert (lost.verdict, lost.trials, lost.worst_margin) == ("not seen", 2, None)
    assert lost.note.endswith(": losses differ by 0; 2 failed")
    assert CLAIMS["llm-runs-repeat"].recorded == "holds"


@pytest.fixture
def again(monkeypatch):
    """What runs give when they are made again; those that it leaves out fail. Who makes them is checked."""
    made = {}

    def make_again(keys, splits, execute):
        assert (splits, execute) == (SPLITS, "workers")
        return {key: made.get(key[0].seed, record()) for key in keys if made.get(key[0].seed, 1) is not None}

    monkeypatch.setattr(repeating, "make_again", make_again)
    monkeypatch.setattr(repeating, "workplace", lambda: ("folder", "workers"))
    monkeypatch.setattr(repeating, "short_splits", lambda: SPLITS)
    return made


@pytest.fixture
def evidence(monkeypatch):
    """Evidence of five runs, whose arm's fresh seeds lie 0.3 apart."""
    progress = Progress(study(maximum=4), known(lambda run: run.seed / 10))
    about = SimpleNamespace(digest=SPLITS.digest)
    found = SimpleNamespace(
        records=records([1.0] * 5),
        study=SimpleNamespace(data=DataSource()),
        manifest=SimpleNamespace(about=about),
        progress=progress,
    )
    monkeypatch.setattr(repeating, "kept", lambda study: Path(study))
    monkeypatch.setattr(repeating, "sound_evidence", lambda folder: found)
    monkeypatch.setattr(repeating, "load_splits", lambda source, **options: SPLITS)
    return found


def test_a_sample_of_the_evidence_is_made_again(evidence, again):
    found = runs_repeat(3, 0)
    assert (found.verdict, found.trials) == ("holds", 3)
    assert len(found.evidence["replays"]) == 3


@pytest.mark.parametrize(("off", "verdict"), [(0.25, "holds"), (0.35, "not seen")])
def test_elsewhere_runs_may_differ_as_seeds_do(evidence, again, off, verdict):
    again[0] = record(1.0 + off, meta={"processor": "y"})
    found = runs_repeat(5, 0)
    assert found.verdict == verdict
    assert "5 runs made again, 4 by the type of machine on record" in found.note


def test_a_run_that_fails_is_not_repeated(evidence, again):
    again[0] = None
    found = runs_repeat(5, 0)
    assert (found.verdict, found.trials) == ("not seen", 5)
    assert found.note.endswith("; 1 failed")


def test_other_data_cannot_repeat_the_runs(evidence, again):
    evidence.manifest.about.digest = "other"
    found = runs_repeat(3, 0)
    assert (found.verdict, found.trials) == ("not seen", 0)
    assert "the data of the runs cannot be made again" in found.note


@pytest.mark.parametrize("same_machine", [True, False])
def test_without_evidence_runs_of_the_short_comparison_are_made_again(monkeypatch, again, same_machine):
    """Of three seeds; elsewhere nothing says by how much they may differ, so that they must not at all."""
    asked, origin = [], {"meta_info": META}

    def short(plan, seeds, first):
        asked.append((plan, seeds, first))
        return outcome_of(lambda each: fake_record(each, (3.0, 1.0), test_loss=1.0) | origin, rates=(1e-3,))

    monkeypatch.setattr(repeating, "kept", lambda study: None)
    monkeypatch.setattr(repeating, "short_comparison", short)
    if not same_machine:
        again.update(dict.fromkeys(range(3), record(1.5, meta={"processor": "y"})))
    found = runs_repeat(4, 7)
    assert asked == [(BY_RANK, 3, 7)]
    assert (found.verdict, found.trials) == ("holds" if same_machine else "not seen", 4)
