"""Evidence of simulations: kept, read, checked, made again; whatever does not belong together is told."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from lorakappa.conditioning.tolerances import summation_rtol
from lorakappa.shared.code_state import sources
from lorakappa.shared.evidence_files import digest, pack, unpacked
from lorakappa.synthetic.arms import evidence as records
from lorakappa.synthetic.arms import making, replay
from lorakappa.synthetic.arms.arm import Arm, Measured
from lorakappa.synthetic.arms.evidence import ARMS, BATCH, MANIFEST, keep, kept, key, needed, read_evidence
from lorakappa.synthetic.arms.making import JOURNAL, forecast, make, missing
from lorakappa.synthetic.arms.replay import replayed, sample
from lorakappa.synthetic.arms.simulating import SECOND_ROUND, root
from lorakappa.synthetic.claims import CLAIMS, record
from lorakappa.synthetic.claims.gains import gains_claim
from lorakappa.synthetic.settings import ProblemSettings

USUAL = {"steps": 12, "step_sizes": "auto:7", "batches": 2}
HERE = ProblemSettings(shape=(5, 4), rank=2)
THERE = replace(HERE, loss="two-layer")
CLAIM = gains_claim(
    "small",
    "BaLoRA ends lower on tiny problems.",
    {
        name: (Arm(settings, "gd", "lora", **USUAL), Arm(settings, "gd", "balora", **USUAL))
        for name, settings in (("one-layer", HERE), ("two-layer", THERE))
    },
    why="It is what small tests are made of.",
    domain="tiny",
    trials=9,
)
WINDOW = Arm(HERE, "gd", "lora", **USUAL, quantity="window")
BORROWED = Arm(HERE, "gd", "balora", **USUAL, beyond=1, like=Arm(HERE, "gd", "lora", **USUAL))


def conclude(evidence):
    return {CLAIM.id: record.conclusion(CLAIM.judge(evidence))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a small record, which no test changes."""
    folder = tmp_path_factory.mktemp("evidence")
    lines = make(CLAIM.arms, folder / JOURNAL, quiet=True)
    return keep(folder / "kept", lines, conclude)


@pytest.fixture
def copy(made, tmp_path):
    for name in (ARMS, MANIFEST):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    return tmp_path


def lines_of(folder):
    return [json.loads(line) for line in unpacked(folder / ARMS).splitlines()]


def rewrite(folder, lines, *, manifest=None, sealed=True):
    """Puts other records in; with the digest made to fit, as a forger would."""
    packed = pack("".join(json.dumps(line) + "\n" for line in lines).encode())
    (folder / ARMS).write_bytes(packed)
    stated = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    stated |= ({"digest": digest(packed)} if sealed else {}) | (manifest or {})
    (folder / MANIFEST).write_text(json.dumps(stated), encoding="utf-8")


def test_what_is_kept_is_read_and_agrees(made):
    found = read_evidence(made)
    assert found.faults(CLAIM.arms) == []
    assert found.strays(CLAIM.arms) == 0
    assert CLAIM.on_record(found).trials == 2 * BATCH
    assert {path.name for path in made.iterdir()} == {ARMS, MANIFEST}
    manifest = found.manifest
    assert manifest.arms == 4
    assert manifest.made["versions"]["numpy"] == np.__version__
    assert manifest.made["command"]
    assert manifest.created
    assert manifest.processor


def test_a_verdict_on_record_needs_no_simulation_and_one_with_trials_does(made, monkeypatch):
    from lorakappa.synthetic.claims import on_record

    found = read_evidence(made)
    monkeypatch.setattr(on_record, "kept", lambda: found)
    verdict = CLAIM.examine(seed=7)
    assert (verdict.trials, verdict.seed) == (64, 0)
    assert verdict.evidence["gains"]["one-layer"]["level"] == 1 - 0.05 / 2
    again = CLAIM.examine(trials=9, seed=7)
    assert (again.trials, again.seed) == (9, 7)
    assert CLAIM.examine(trials=9).seed == 0
    monkeypatch.setattr(on_record, "kept", lambda: None)
    assert CLAIM.examine(seed=7).trials == 9


def refused(folder, match):
    with pytest.raises(ValueError, match=match):
        CLAIM.on_record(read_evidence(folder))


def test_a_file_that_is_not_the_manifests_is_told(copy):
    lines = lines_of(copy)
    lines[0]["values"][0][0] *= -1
    rewrite(copy, lines, sealed=False)
    refused(copy, "is not the file that the manifest is of")


def test_flipped_signs_are_told_even_with_the_digest_made_to_fit(copy):
    lines = lines_of(copy)
    lines[0]["values"] = [[-value for value in row] for row in lines[0]["values"]]
    rewrite(copy, lines)
    refused(copy, "small: verdict is")


def test_a_single_value_that_no_median_feels_is_told_by_its_replay(copy):
    """One far value made farther changes neither median nor interval, and is found when its batch is made again."""
    evidence = read_evidence(copy)
    arm = CLAIM.arms[0]
    lines = lines_of(copy)
    line = next(line for line in lines if line["arm"] == json.loads(key(arm)))
    at = int(np.argmax(line["values"][0]))
    line["values"][0][at] += 0.25
    rewrite(copy, lines)
    forged = read_evidence(copy)
    batch = at // BATCH
    assert replayed(evidence, arm, batch).agrees
    assert replayed(evidence, arm, 1 - batch).agrees
    found = replayed(forged, arm, batch)
    assert not found.agrees
    assert found.excess > 0.2
    assert replayed(forged, arm, 1 - batch).agrees


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda lines: lines[1]["values"][0].pop(), "63 values, not 1 times 64"),
        (lambda lines: lines[1].update(values=[]), "no values, not 1 times 64"),
        (lambda lines: lines[1]["values"].append(lines[1]["values"][0]), "64, 64 values, not 1 times 64"),
        (lambda lines: lines[1].update(diverged=65), "65 of 64 runs diverged"),
        (lambda lines: lines.pop(), "there are 3 arms, not 4"),
        (lambda lines: lines[2].pop("grid"), "no choice is on record for"),
        (lambda lines: lines[2]["medians"][0].pop(), "what was tried is not what the arm asks for"),
        (lambda lines: lines[2]["grid"].reverse(), "the step sizes are out of order"),
        (
            lambda lines: lines[2].update(finalists=[[0, 0, 1.0]]),
            "the second round is not between the best of the first",
        ),
        (lambda lines: lines[2].update(medians=[[None] * 7], finalists=[]), "every step size diverged"),
        (lambda lines: lines[2]["arm"].update(steps=13), "is not on record"),
    ],
)
def test_records_that_are_not_whole_are_told(copy, change, match):
    lines = lines_of(copy)
    change(lines)
    rewrite(copy, lines)
    refused(copy, match)


def test_another_choice_is_another_step_size(copy):
    lines = lines_of(copy)
    lines[0] |= {"medians": [[9.0, 0.0, *[9.0] * 5]], "finalists": [[0, 1, 0.0]]}
    rewrite(copy, lines)
    refused(copy, "step_size|at_edge_of_grid")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"verdict": "equivalent"}, "small: verdict is '.*', not 'equivalent'"),
        ({"trials": 63}, "small: trials is 64, not 63"),
    ],
)
def test_an_edited_conclusion_is_told(copy, change, match):
    stated = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))["claims"]
    stated["small"] |= change
    rewrite(copy, lines_of(copy), manifest={"claims": stated})
    refused(copy, match)


def test_an_edited_interval_and_a_missing_conclusion_are_told(copy):
    stated = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))["claims"]
    stated["small"]["evidence"]["gains"]["one-layer"]["interval"][0] += 1e-6
    rewrite(copy, lines_of(copy), manifest={"claims": stated})
    refused(copy, r"small: evidence\.gains\.one-layer\.interval\[0\]")
    rewrite(copy, lines_of(copy), manifest={"claims": {}})
    refused(copy, "nothing is concluded on small")


def test_other_problems_are_told(copy):
    for change in ({"seed": 1}, {"selection": [16, 16]}, {"batch": 8}):
        stated = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))
        rewrite(copy, lines_of(copy), manifest=change)
        refused(copy, "the problems are not those that the claims are about")
        (copy / MANIFEST).write_text(json.dumps(stated), encoding="utf-8")


def test_lines_that_are_no_records_are_named(copy):
    lines = lines_of(copy)
    rewrite(copy, [*lines, lines[0]])
    with pytest.raises(ValueError, match="line 5: the arm is there twice"):
        read_evidence(copy)
    rewrite(copy, [*lines, {"arm": 1}])
    with pytest.raises(ValueError, match="line 5 is no record"):
        read_evidence(copy)
    (copy / ARMS).write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        read_evidence(copy)


def test_strays_and_unknown_conclusions_are_told(made, copy, monkeypatch):
    monkeypatch.setattr(record, "RECORDED", (CLAIM,))
    assert [found.trials for found in record.checked(read_evidence(made))] == [64]
    lines = lines_of(copy)
    extra = {**lines[0], "arm": {**lines[0]["arm"], "steps": 99}}
    rewrite(copy, [*lines, extra], manifest={"arms": 5})
    with pytest.raises(ValueError, match="1 arms belong to no claim"):
        record.checked(read_evidence(copy))
    stated = json.loads((copy / MANIFEST).read_text(encoding="utf-8"))["claims"]
    rewrite(copy, lines, manifest={"arms": 4, "claims": {**stated, "nosuch": stated["small"]}})
    with pytest.raises(ValueError, match="nosuch: no claim that rests on evidence"):
        record.checked(read_evidence(copy))


def test_an_interrupted_record_goes_on_where_it_was(made, tmp_path, monkeypatch):
    """The line that an interruption has cut is made again, and nothing else is; the record is the same."""
    journal = tmp_path / JOURNAL
    whole = (made.parent / JOURNAL).read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:2]) + lines[2][:50])
    assert len(missing(CLAIM.arms, journal)) == 2
    asked = []
    usual = making.record
    monkeypatch.setattr(making, "record", lambda arm, there: asked.append(arm) or usual(arm, there))
    make(CLAIM.arms, journal, quiet=True)
    assert journal.read_bytes() == whole
    assert asked == needed(CLAIM.arms)[2:]
    assert missing(CLAIM.arms, journal) == []


def test_what_other_code_has_made_is_made_again(made, tmp_path, monkeypatch):
    """Its lines stay in the journal; with that code back they count again."""
    journal = tmp_path / JOURNAL
    whole = (made.parent / JOURNAL).read_bytes()
    journal.write_bytes(whole)
    arm = needed(CLAIM.arms)[0]
    assert missing([arm], journal) == []
    assert missing([replace(arm, steps=13)], journal) == [replace(arm, steps=13)]
    monkeypatch.setattr(making, "module_digest", lambda name: "other")
    assert missing(CLAIM.arms, journal) == needed(CLAIM.arms)
    again = make([arm], journal, quiet=True)
    assert [line.key for line in again] == [key(arm)]
    assert journal.read_bytes().startswith(whole)
    assert len(missing(CLAIM.arms, journal)) == 3
    monkeypatch.undo()
    assert missing(CLAIM.arms, journal) == []


def test_all_that_makes_a_record_is_in_the_digest_of_its_code():
    """What is loaded when arms are made, but for what packages themselves are: faces without content."""
    code = "import sys, lorakappa.synthetic.arms.making; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = [name for name in done.stdout.split() if name.startswith("lorakappa.")]
    loaded = {name for name in names if find_spec(name).submodule_search_locations is None}
    assert {"lorakappa.synthetic.engine", "lorakappa.synthetic.arms.simulating"} < loaded
    assert loaded - {"lorakappa.shared.faces"} <= set(sources(making.__name__))


def test_an_arm_that_is_tuned_by_another_takes_its_choice_from_the_record(tmp_path, monkeypatch):
    chosen = []
    usual = making.choose
    monkeypatch.setattr(making, "choose", lambda arm, **options: chosen.append(arm) or usual(arm, **options))
    arms = needed([BORROWED])
    assert arms == [BORROWED.like, BORROWED]
    lines = make(arms, tmp_path / JOURNAL, quiet=True)
    assert chosen == [BORROWED.like]
    assert lines[1].grid == ()
    assert lines[0].choice(BORROWED).place[1] == lines[0].choice(BORROWED.like).place[1] + 1
    assert forecast(arms) == pytest.approx(12 * (16 * 7 + 4 * 64 + 64 + 64) / 250_000)
    wide = replace(WINDOW, batches=1)
    assert [arm.quantity for arm in needed([wide])] == ["final", "window"]
    assert forecast([wide]) == pytest.approx(12 * (16 * 7 + 4 * 64 + 8 * 32 + 7 * 32) / 250_000)
    two = replace(BORROWED.like, settings=THERE)
    assert forecast([two]) == pytest.approx(2 * 12 * (16 * 7 + 4 * 64 + 64) / 250_000)


def test_each_round_and_each_batch_has_problems_of_its_own(monkeypatch):
    asked = []

    def noted(name):
        usual = getattr(making, name)

        def call(arm, *rest, seed, count, **options):
            asked.append((name, seed, count))
            return usual(arm, *rest, seed=seed, count=count, **options)

        monkeypatch.setattr(making, name, call)

    for name in ("choose", "refine", "measure"):
        noted(name)
    making.record(CLAIM.arms[0], {})
    rounds = [("choose", root(0, 0), 16), ("refine", root(0, SECOND_ROUND), 64)]
    assert asked == [*rounds, ("measure", root(0, 1), 32), ("measure", root(0, 2), 32)]
    assert len({seed for _, seed, _ in asked}) == 4


def test_what_may_differ_is_what_coarse_rounding_moves_and_no_less_than_for_the_others(monkeypatch):
    """By hand: two rows, of which one value happens to stay where it was."""
    again, moved = np.array([[0.5, -3.0, 0.25], [9.0, 8.0, 7.0]]), np.array([[0.0, 1e-3, 2e-3], [0.0, 5e-3, 4e-3]])
    arm, asked = CLAIM.arms[0], []

    def made_again(arm, choice, batch, *, jitter=0.0):
        asked.append((batch, jitter))
        return Measured(again - moved * (jitter > 0), 0)

    monkeypatch.setattr(replay, "measure_batch", made_again)
    monkeypatch.setattr(replay, "BATCH", 3)
    off = np.array([[1e-3, 0.0, -0.5], [0.0, 0.0, 0.0]])
    recorded = np.concatenate([np.full((2, 3), 99.0), again + off], axis=1)
    on_record = SimpleNamespace(choice=lambda arm: None, measured=lambda arm: Measured(recorded, 0))
    found = replayed(on_record, arm, 1)
    assert asked == [(1, 0.0), (1, replay.JITTER)]
    rounding = summation_rtol(arm.steps) * np.array([[1.0, 3.0, 1.0], [9.0, 8.0, 7.0]])
    wanted = np.array([[1e-3, 1e-3, 2e-3], [4e-3, 5e-3, 4e-3]])
    np.testing.assert_allclose(found.allowed - wanted, rounding, rtol=0.1)
    np.testing.assert_allclose(found.difference, np.abs(off), atol=1e-12)
    assert not found.agrees
    assert found.excess == pytest.approx(0.5 - 2e-3)


def test_samples_are_of_every_arm_and_batch_and_depend_on_the_seed():
    everything = sample(CLAIM.arms, count=99, seed=0)
    assert len(everything) == len(set(everything)) == 8
    assert sample(CLAIM.arms, count=3, seed=1) == sample(CLAIM.arms, count=3, seed=1)
    assert len({tuple(sample(CLAIM.arms, count=3, seed=seed)) for seed in range(9)}) > 1


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "holds"), (0.01, "not seen")])
def test_the_rule_of_the_repetition(made, monkeypatch, shift, verdict):
    found = read_evidence(made)
    monkeypatch.setattr(record, "kept", lambda: found)
    monkeypatch.setattr(record, "RECORDED", (CLAIM,))
    usual = replay.measure_batch

    def moved(arm, choice, batch, *, jitter=0.0):
        there = usual(arm, choice, batch, jitter=jitter)
        return replace(there, values=there.values + shift * (arm.method == "balora"))

    monkeypatch.setattr(replay, "measure_batch", moved)
    judged = CLAIMS["simulations-repeat"].examine(trials=8, seed=1)
    assert judged.verdict == verdict
    assert judged.trials == 8 * BATCH
    assert (judged.worst_margin < 0) == (verdict == "not seen")
    assert ("4 arms by more than is allowed" in judged.note) == (verdict == "not seen")
    monkeypatch.setattr(record, "kept", lambda: None)
    assert CLAIMS["simulations-repeat"].examine(trials=8, seed=1).verdict == "inconclusive"


def test_the_evidence_that_comes_with_the_project_is_whole_and_says_what_the_claims_have_on_record():
    evidence = kept()
    assert evidence is not None
    found = record.checked(evidence)
    assert {claim.id: claim.recorded for claim in record.RECORDED} == {
        claim.id: measurement.verdict for claim, measurement in zip(record.RECORDED, found, strict=True)
    }
    assert sum(path.stat().st_size for path in records.FOLDER.iterdir()) < 1_000_000
    replays = [replayed(evidence, *each) for each in sample(record.recorded_arms(), count=3, seed=0)]
    assert all(each.agrees for each in replays)


def test_the_command_says_what_is_missing_and_makes_it(tmp_path, monkeypatch, capsys):
    from lorakappa.synthetic.command import app

    monkeypatch.setattr(record, "recorded_arms", lambda: needed(CLAIM.arms))
    monkeypatch.setattr(record, "conclude", conclude)
    out, folder = tmp_path / "results", tmp_path / "kept"
    app(["evidence", "--out", str(out), "--dry-run"], standalone_mode=False)
    assert "4 of 4 arms are missing" in " ".join(capsys.readouterr().out.split())
    assert not out.exists()
    app(["evidence", "--out", str(out), "--evidence", str(folder)], standalone_mode=False)
    assert read_evidence(folder).faults(CLAIM.arms) == []
    app(["evidence", "--out", str(out), "--dry-run"], standalone_mode=False)
    assert "0 of 4 arms are missing" in " ".join(capsys.readouterr().out.split())
