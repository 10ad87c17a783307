"""Evidence: what is kept says what was found, and whatever is changed in it is noticed."""

import json
import lzma
import math
import re

import pytest

from lorakappa.llm.comparison.claim_kinds import FineTuneClaim
from lorakappa.llm.comparison.claims import CLAIMS, verdicts_of_study
from lorakappa.llm.comparison.studies import outcomes
from lorakappa.llm.comparison.studies.about import About, describe, progress_in
from lorakappa.llm.comparison.studies.evidence import MANIFEST, RECORDS, STUDY, keep, read_evidence, read_manifest
from lorakappa.llm.comparison.studies.files import parse_study
from lorakappa.llm.comparison.studies.findings import findings, study_json
from lorakappa.llm.comparison.studies.outcomes import outcome_of_study, recorded_verdict, sound_evidence
from lorakappa.llm.comparison.studies.tables import study_markdown
from tests.llm.comparison.studies.made_up import SPLITS, Machine, noise
from tests.llm.test_llm_command import call

TEXT = """
half_width = 0.05
delta = 0.1
[settings]
steps = 20
evaluations = 2
[selection]
seeds = 2
extensions = 1
[fresh]
minimum = 4
step = 2
maximum = 12
[[tables]]
name = "methods"
methods = ["lora", "balora", "ilora"]
ranks = [2, 8]
learning_rates = "1e-4:1e-2:3"
lambdas = [1, 10]
"""


def loss(run):
    gain = {"lora": 0.0, "balora": 0.4}.get(run.method, 0.0)
    return 2 + noise(run, 0.02) + 0.5 * abs(math.log10(run.learning_rate) + 3) - gain


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A study's folder, its progress, and evidence of it."""
    folder = tmp_path_factory.mktemp("study")
    about = About(name="tiny", model=None, data=None, source="sums", digest=SPLITS.digest)
    found = describe(folder / "study", TEXT, about)
    progress, failures = Machine(loss).run(found.study, folder / "study")
    assert failures == []
    keep(found, progress, folder / "evidence", verdicts_of_study(progress, "sums"))
    return folder, progress


@pytest.fixture
def evidence(kept, tmp_path):
    """A copy of the evidence that may be spoilt."""
    for file in (kept[0] / "evidence").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_a_run_that_was_given_up_is_a_missing_one(tmp_path):
    about = About(name="tiny", model=None, data=None, source="sums", digest=SPLITS.digest)
    found = describe(tmp_path / "study", TEXT, about)
    machine = Machine(lambda run: None if (run.method, run.seed) == ("balora", 3) else loss(run))
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
    for folder in outcomes.FOLDER.glob("*/"):
        assert read_evidence(folder).faults() == []
        assert sum(file.stat().st_size for file in folder.iterdir()) < 5_000_000


@pytest.fixture
def shipped(evidence, monkeypatch):
    """The evidence in the place of the project's."""
    (evidence / "tiny").mkdir()
    for name in (STUDY, RECORDS, MANIFEST):
        (evidence / name).rename(evidence / "tiny" / name)
    monkeypatch.setattr(outcomes, "FOLDER", evidence)
    sound_evidence.cache_clear()
    yield evidence / "tiny"
    sound_evidence.cache_clear()


def test_claims_are_judged_on_evidence(shipped):
    """Without training anything: every seed that both methods have, at every rank."""
    claim = CLAIMS["llm-balora-loss"]
    found = claim.examine()
    assert found.verdict == recorded_verdict("tiny", "llm-balora-loss") == "holds"
    assert found.evidence["effect"]["estimate"] == pytest.approx(0.4, abs=0.02)
    assert set(found.evidence["by_rank"]) == {"2", "8"}
    assert CLAIMS["llm-balora-ilora"].examine().verdict == "holds"
    assert CLAIMS["llm-balora-robust-lr"].examine().trials == 2  # on the selection seeds, with their grid


def test_claims_whose_methods_no_table_has_are_not_on_record(shipped):
    recorded = read_manifest(shipped).claims
    assert "llm-pilora-loss" not in recorded
    assert set(recorded) == {
        id
        for id, claim in CLAIMS.items()
        if isinstance(claim, FineTuneClaim)
        and claim.table is None
        and {claim.baseline, claim.method} <= {"lora", "balora", "ilora"}
    }


def test_evidence_that_disagrees_stops_every_claim(shipped):
    edit_manifest(shipped, lambda m: m["findings"][0].__setitem__("verdict", "worse"))
    with pytest.raises(ValueError, match="verdict is 'better', not 'worse'"):
        CLAIMS["llm-balora-loss"].examine()


def test_claims_are_judged_on_the_least_number_of_seeds(kept):
    """How many more an arm has depends on what the first showed."""
    _, progress = kept
    outcome = outcome_of_study(progress, "sums", ("lora", "balora"), "fresh")
    assert outcome.plan.ranks == (2, 8)
    assert outcome.plan.seeds == (2, 3, 4, 5)
    assert max(len(progress.fresh(arm)) for arm in progress.selections) > 4
    assert {len(found) for found in outcome.records.values()} == {4}


AXES = """
half_width = 0.05
[settings]
steps = 20
evaluations = 2
[selection]
seeds = 2
extensions = 0
[fresh]
minimum = 4
step = 2
maximum = 6
[[tables]]
name = "methods"
methods = ["lora", "balora"]
ranks = [8]
learning_rates = [1e-3]
[[tables]]
name = "horizons"
methods = ["lora", "balora"]
ranks = [8]
steps = [60, 600]
learning_rates = [1e-3]
[[tables]]
name = "starts"
methods = ["lora", "balora"]
ranks = [8]
learning_rates = [1e-3]
starts = [0.01, 100.0]
[[tables]]
name = "best starts"
methods = ["lora", "balora"]
ranks = [8]
learning_rates = [1e-3]
scalings = [0.01, 100.0]
effective = true
[[tables]]
name = "sgd"
methods = ["lora", "balora"]
ranks = [8]
learning_rates = [1e-3]
[tables.settings]
optimizer = "sgd"
"""


@pytest.fixture(scope="module")
def axes(tmp_path_factory):
    """A study with all axes: BaLoRA gains 0.1 at r = 8, 0.3 from the small start only; nothing else does."""

    def loss(run):
        gain = {0.01: 0.3, 1.0: 0.1, 100.0: 0.0}[run.scaling] if run.method == "balora" else 0.0
        return 2 + 0.5 * math.sin(run.seed) + 0.001 * noise(run) - gain + (0.5 if run.scaling == 0.01 else 0.0)

    folder = tmp_path_factory.mktemp("axes")
    found = describe(folder, AXES, About(name="tiny", model=None, data=None, source="sums", digest=SPLITS.digest))
    return Machine(loss).run(found.study, folder)[0]


def test_claims_on_axes_are_judged_on_their_tables(axes):
    found = verdicts_of_study(axes, "sums")
    assert found["llm-balora-start"] == "not seen"  # larger from the small start
    assert found["llm-balora-best-start"] == "equivalent"  # at 100 both, where nothing is gained
    assert found["llm-balora-horizon"] == "equivalent"
    assert found["llm-balora-sgd"] == found["llm-balora-loss"] == "holds"
    assert "llm-fisher-balora" not in found


def test_the_tables_as_markdown(axes):
    lines = study_markdown(study_json(axes, "sums")).splitlines()
    heads = [line for line in lines if ": gain over `lora`" in line]
    assert [head.count("|") for head in heads] == [3, 4, 4, 3, 3]
    assert heads[1] == "| horizons: gain over `lora` | 60 steps | 600 steps |"
    assert heads[2] == "| starts: gain over `lora` | α/r = 0.01 | α/r = 100 |"
    small, large = lines[lines.index(heads[2]) + 2].split(" | ")[1:]
    assert re.fullmatch(r"\*\*better\*\* \+0\.30\d \[\+0\.\d+, \+0\.\d+\], 4 seeds", small)
    assert re.fullmatch(r"equivalent [+−]0\.00\d \[−0\.\d+, \+0\.\d+\], 4 seeds \|", large)


def test_a_report_prints_nothing_else_beside_its_markdown(evidence, monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "report", evidence, "--markdown")
    assert (code, err) == (0, "")
    assert out.startswith("| methods: gain over `lora` | r = 2 | r = 8 |\n|---|---|---|\n| `balora` | **better** ")


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, (20, "adamw", (1.0,))),
        ({"table": "horizons"}, (60, "adamw", (1.0,))),
        ({"table": "horizons", "steps": 600}, (600, "adamw", (1.0,))),
        ({"table": "starts"}, (20, "adamw", (0.01,))),
        ({"table": "starts", "start": 100.0}, (20, "adamw", (100.0,))),
        ({"table": "best starts"}, (20, "adamw", (0.01, 100.0))),
        ({"table": "sgd"}, (20, "sgd", (1.0,))),
    ],
)
def test_an_outcome_is_of_the_table_and_end_that_are_asked_for(axes, options, settings):
    plan = outcome_of_study(axes, "sums", ("lora", "balora"), "fresh", **options).plan
    assert (plan.settings.steps, plan.settings.optimizer, plan.scalings) == settings


@pytest.mark.parametrize(
    "options", [{"table": "none"}, {"table": "horizons", "steps": 7}, {"table": "starts", "start": 1.0}, {"start": 1.0}]
)
def test_what_a_study_lacks_has_no_outcome(axes, options):
    assert outcome_of_study(axes, "sums", ("lora", "balora"), "fresh", **options) is None


def test_a_study_without_the_methods_has_no_outcome(kept):
    assert outcome_of_study(kept[1], "sums", ("lora", "dora"), "fresh") is None


def test_evidence_is_found_by_its_name_and_saved_as_a_comparison(shipped, tmp_path, monkeypatch, capsys):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    options = ("report", "tiny", "--json", "study.json", "--comparison", "made", "--methods", "lora,ilora", "--quiet")
    code, _, err = call(monkeypatch, capsys, *options)
    assert (code, err) == (0, "")
    assert json.loads((elsewhere / "study.json").read_text())["study"] == "tiny"
    saved = json.loads((elsewhere / "made" / "llm-compare.json").read_text())
    assert (saved["methods"], saved["ranks"], saved["seeds"]) == (["lora", "ilora"], [2, 8], [0, 1])
    # both strengths of iLoRA, the grid of the selection stage
    assert {(cell["method"], cell["rank"]) for cell in saved["cells"]} == {
        (m, r) for m in ("lora", "ilora") for r in (2, 8)
    }
    assert {cell["variant"] for cell in saved["cells"]} == {"lora", "ilora:lambda=1", "ilora:lambda=10"}
    chosen = {(best["method"], best["rank"]): best["learning_rate"] for best in saved["best"]}
    assert chosen == dict.fromkeys(chosen, 1e-3)
    assert len(chosen) == 4
    assert (elsewhere / "made" / "llm-compare.npz").is_file()
    (elsewhere / "tiny").mkdir()  # a folder of that name comes first
    assert call(monkeypatch, capsys, "report", "tiny")[0] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "lora"], "--methods goes with --comparison"),
        (["--comparison", "made", "--methods", "lora,dora"], "no table of tiny has all of lora, dora"),
    ],
)
def test_a_comparison_that_cannot_be_had_is_one_line(options, message, shipped, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(monkeypatch, capsys, "report", "tiny", "--quiet", *options)
    assert (code, err) == (2, f"error: {message}\n")
    assert not (tmp_path / "made").exists()


def test_a_study_that_is_not_done_is_no_comparison_yet(tmp_path):
    about = About(name="tiny", model=None, data=None, source="sums", digest=SPLITS.digest)
    found = describe(tmp_path / "study", TEXT, about)
    machine = Machine(loss)
    machine.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        machine.run(found.study, tmp_path / "study")
    with pytest.raises(ValueError, match="runs of the study are left"):
        outcomes.selection_of_table(progress_in(tmp_path / "study", found), "sums")
