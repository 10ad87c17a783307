"""Evidence: what is kept says what was found, and whatever is changed in it is noticed."""

import json
import lzma
from dataclasses import asdict

import pytest

from lorakappa.llm.comparison.settings import Run
from lorakappa.llm.comparison.studies import outcomes
from lorakappa.llm.comparison.studies.about import describe, described
from lorakappa.llm.comparison.studies.evidence import MANIFEST, RECORDS, STUDY, keep, read_evidence
from lorakappa.llm.comparison.studies.files import parse_study
from lorakappa.llm.comparison.studies.findings import findings
from lorakappa.llm.comparison.studies.progress import Progress
from tests.llm.comparison.studies.made_up import ABOUT, TEXT, Machine, tuned_loss
from tests.llm.test_llm_command import call


def test_a_run_that_was_given_up_is_a_missing_one(tmp_path):
    found = describe(tmp_path / "study", TEXT, ABOUT)
    machine = Machine(lambda run: None if (run.method, run.seed) == ("balora", 3) else tuned_loss(run))
    progress, failures = machine.run(found.study, tmp_path / "study")
    assert len(failures) == 2
    assert progress.pending() == []
    evidence = read_evidence(keep(found, progress, tmp_path / "evidence"))
    assert evidence.manifest.pending > 0
    assert evidence.faults() == []


def lines(folder):
    return lzma.decompress((folder / RECORDS).read_bytes()).decode().splitlines()


def rewrite(folder, changed, *, forged=False):
    """Other records; the manifest's digest is forged with them, or not."""
    import hashlib

    packed = lzma.compress("".join(line + "\n" for line in changed).encode())
    (folder / RECORDS).write_bytes(packed)
    if forged:
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["parts"][RECORDS] = hashlib.sha256(packed).hexdigest()
        manifest["runs"] = len(changed)
        (folder / MANIFEST).write_text(json.dumps(manifest))


def edit_manifest(folder, change):
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_evidence_says_what_the_study_said(kept):
    folder, progress = kept
    found = read_evidence(folder / "evidence")
    assert found.faults() == []
    assert [finding.as_json() for finding in findings(found.progress)] == [
        finding.as_json() for finding in findings(progress)
    ]
    assert found.manifest.runs == len(progress.records()) == len(found.records)
    assert found.manifest.pending == 0
    verdicts = [finding.verdict for finding in findings(progress)]
    assert verdicts == ["better", "equivalent"] * 2
    assert found.study == parse_study(TEXT, "tiny.toml")


def test_losses_are_kept_to_the_last_digit_and_times_to_four(kept):
    folder, progress = kept
    before = {json.dumps(record["run"], sort_keys=True): record["train_info"] for record in progress.records()}
    for record in read_evidence(folder / "evidence").records.values():
        old = before[json.dumps(record["run"], sort_keys=True)]
        assert record["train_info"]["test_loss"] == old["test_loss"]
        for new_metric, old_metric in zip(record["train_info"]["metrics"], old["metrics"], strict=True):
            assert new_metric["valid loss"] == old_metric["valid loss"]
            assert new_metric["train time"] == pytest.approx(old_metric["train time"], rel=1e-3)
            assert new_metric["kappa bound"] == old_metric["kappa bound"]  # infinity, too


def test_times_are_rounded_to_four_digits(kept, tmp_path):
    folder, progress = kept

    def odd(run, settings):
        record = progress.lookup(run, settings)
        return None if record is None else {**record, "train_info": {**record["train_info"], "train_time": 1.23456}}

    keep(described(folder / "study"), Progress(progress.study, odd), tmp_path)
    found = read_evidence(tmp_path).records.values()
    assert {record["train_info"]["train_time"] for record in found} == {1.235}


def test_records_lie_in_the_order_of_their_runs(evidence):
    runs = [json.dumps(asdict(Run(**json.loads(line)["run"]))) for line in lines(evidence)]
    assert runs == sorted(runs)


def fresh_line(folder, method="balora", seed=3):
    return next(i for i, line in enumerate(lines(folder)) if f'"{method}"' in line and f'"seed": {seed}}}' in line)


@pytest.mark.parametrize("forged", [False, True])
def test_a_flipped_sign_in_one_record_is_caught(evidence, forged):
    changed = lines(evidence)
    i = fresh_line(evidence)
    entry = json.loads(changed[i])
    entry["train_info"]["test_loss"] *= -1
    changed[i] = json.dumps(entry)
    rewrite(evidence, changed, forged=forged)
    faults = read_evidence(evidence).faults()
    assert any(fault.startswith("methods, balora against lora, r = ") for fault in faults)
    assert (f"{RECORDS} is not the file that the manifest is of" in faults) == (not forged)


@pytest.mark.parametrize("forged", [False, True])
def test_a_dropped_seed_is_caught(evidence, forged):
    changed = lines(evidence)
    del changed[fresh_line(evidence)]
    rewrite(evidence, changed, forged=forged)
    faults = read_evidence(evidence).faults()
    assert any("runs are missing, not 0" in fault for fault in faults)
    assert any("records belong to no run that the study asks for" in fault for fault in faults)


def test_the_last_seed_dropped_is_caught_too(evidence):
    last = max(json.loads(line)["run"]["seed"] for line in lines(evidence))
    rewrite(evidence, [line for line in lines(evidence) if f'"seed": {last}}}' not in line], forged=True)
    assert any("runs are missing, not 0" in fault for fault in read_evidence(evidence).faults())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["findings"][1].__setitem__("verdict", "better"), "verdict is 'equivalent', not 'better'"),
        (lambda m: m["findings"][0]["effect"].__setitem__("low", 0.3), "effect.low is 0.3"),
        (lambda m: m["findings"].pop(), "the study has 4 contrasts, not 3"),
        (lambda m: m.__setitem__("pending", 1), "0 runs are missing, not 1"),
        (lambda m: m.__setitem__("runs", 3), "records, not 3"),
        (lambda m: m.__setitem__("study", "0" * 64), "the study is not the one that was run"),
        (lambda m: m["parts"].pop(STUDY), f"the manifest is not of {STUDY} and {RECORDS}"),
    ],
)
def test_an_edited_manifest_is_caught(change, message, evidence):
    edit_manifest(evidence, change)
    assert any(message in fault for fault in read_evidence(evidence).faults())


def test_an_edited_verdict_on_a_claim_is_told_by_the_report(evidence, monkeypatch, capsys):
    assert call(monkeypatch, capsys, "report", evidence, "--quiet")[0] == 0
    edit_manifest(evidence, lambda manifest: manifest["claims"].update({"llm-balora-loss": "inconclusive"}))
    code, out, err = call(monkeypatch, capsys, "report", evidence, "--quiet")
    assert code == 1
    assert "llm-balora-loss: the verdict is holds, not inconclusive" in " ".join((out + err).split())


def test_another_rule_is_caught(evidence):
    """A wider δ in the study's file, with all digests forged, does not agree with the digest of what was asked for."""
    (evidence / STUDY).write_text(TEXT.replace("delta = 0.1", "delta = 0.5"))
    faults = read_evidence(evidence).faults()
    assert "the study is not the one that was run" in faults
    assert f"{STUDY} is not the file that the manifest is of" in faults


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / RECORDS).write_bytes(b"no"), "is damaged"),
        (lambda f: (f / RECORDS).write_bytes((f / RECORDS).read_bytes()[:200]), "is damaged"),
        (lambda f: rewrite(f, [*lines(f), lines(f)[0]]), "the run is there twice"),
        (lambda f: rewrite(f, ["{}"]), f"{RECORDS}, line 1 is no record: run: Field required"),
        (lambda f: rewrite(f, [lines(f)[0].replace('"settings": 0', '"settings": 9')]), "is no record"),
        (lambda f: (f / MANIFEST).write_text("{}"), "is not the manifest of evidence"),
        (lambda f: edit_manifest(f, lambda m: m["settings"][0].__setitem__("steps", 0)), "no settings of a run"),
    ],
)
def test_what_cannot_be_read_is_one_line(spoil, message, evidence):
    spoil(evidence)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as raised:
        read_evidence(evidence)
    assert "\n" not in str(raised.value)


def test_evidence_that_comes_with_the_project_agrees_with_itself():
    folders = list(outcomes.FOLDER.glob("*/"))
    assert outcomes.kept("tiny") in folders
    for folder in folders:
        assert read_evidence(folder).faults() == []
        assert sum(file.stat().st_size for file in folder.iterdir()) < 5_000_000
