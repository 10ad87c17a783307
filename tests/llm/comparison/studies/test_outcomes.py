"""What evidence says on the claims, as an outcome for the rules, as tables and as a comparison that is saved."""

import json
import math
import re

import pytest

from lorakappa.llm.comparison import claim_kinds
from lorakappa.llm.comparison.claim_kinds import FineTuneClaim, comparison_claim, growth_claim
from lorakappa.llm.comparison.claims import CLAIMS, verdicts_of_study
from lorakappa.llm.comparison.judges import lower_loss
from lorakappa.llm.comparison.short_comparisons import BY_RANK, HORIZONS
from lorakappa.llm.comparison.studies import outcomes
from lorakappa.llm.comparison.studies.about import describe, progress_in
from lorakappa.llm.comparison.studies.evidence import MANIFEST, RECORDS, STUDY, read_manifest
from lorakappa.llm.comparison.studies.findings import study_json
from lorakappa.llm.comparison.studies.outcomes import outcome_of_study, recorded_verdict, sound_evidence
from lorakappa.llm.comparison.studies.tables import study_markdown
from tests.llm.comparison.studies.made_up import ABOUT, TEXT, Machine, noise, tuned_loss
from tests.llm.comparison.studies.test_evidence import edit_manifest
from tests.llm.test_llm_command import call


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
    found = describe(folder, AXES, ABOUT)
    return Machine(loss).run(found.study, folder)[0]


def test_verdicts_on_record_are_those_of_the_evidence_that_comes_with_the_project():
    found = {id: recorded_verdict("tiny", id) for id in CLAIMS}
    assert {id: CLAIMS[id].recorded for id, verdict in found.items() if verdict} == {
        k: v for k, v in found.items() if v
    }


END = "; study tiny, cells chosen on 2 seeds and measured on others; anything else by `compare`"


@pytest.mark.parametrize(
    ("table", "domain"),
    [
        (None, "r = 2, 8, 20 steps of 16"),
        ("horizons", "r = 8, 60 and 600 steps of 16"),
        ("starts", "r = 8, 20 steps of 16, α/r = 0.01 and 100"),
        ("best starts", "r = 8, 20 steps of 16, the size of the start tuned, too"),
        ("sgd", "r = 8, 20 steps of 16, SGD with momentum"),
    ],
)
def test_the_domain_of_a_claim_is_that_of_the_evidence(table, domain, tmp_path, monkeypatch):
    (tmp_path / STUDY).write_text(AXES.replace("ranks = [8]", "ranks = [2, 8]", 1), encoding="utf-8")
    monkeypatch.setattr(claim_kinds, "kept", lambda study: tmp_path)
    if table in ("horizons", "starts"):
        axis, ends = ("steps", (60, 600)) if table == "horizons" else ("start", (0.01, 100.0))
        claim = growth_claim("llm-made-up", "More.", axis=axis, ends=ends, plans=HORIZONS, table=table)
    else:
        claim = comparison_claim("llm-made-up", "Less.", method="balora", plan=BY_RANK, table=table)(lower_loss)
    assert claim.domain == f"lora and balora on the tiny model, {domain}{END}"


@pytest.mark.parametrize(
    ("methods", "strengths"),
    [(("lora", "ilora"), ", λ = 1, 10"), (("ilora", "balora"), ", λ = 1, 10"), (("lora", "balora"), "")],
)
def test_the_domain_has_the_strengths_that_are_tuned(methods, strengths, tmp_path, monkeypatch):
    (tmp_path / STUDY).write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(claim_kinds, "kept", lambda study: tmp_path)
    claim = comparison_claim("llm-made-up", "Less.", baseline=methods[0], method=methods[1], plan=BY_RANK)(lower_loss)
    assert claim.setting == f"{methods[0]} and {methods[1]} on the tiny model, r = 2, 8, 20 steps of 16{strengths}"


def test_the_domain_without_a_table_is_that_of_the_short_comparison(tmp_path, monkeypatch):
    (tmp_path / STUDY).write_text(TEXT, encoding="utf-8")
    monkeypatch.setattr(claim_kinds, "kept", lambda study: tmp_path)
    claim = comparison_claim("llm-made-up", "Less.", method="pilora", plan=BY_RANK)(lower_loss)
    assert claim.setting == "lora and pilora on the tiny model, r = 2, 8, 30 steps of 8"
    assert claim.default_trials == 3


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
    found = describe(tmp_path / "study", TEXT, ABOUT)
    machine = Machine(tuned_loss)
    machine.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        machine.run(found.study, tmp_path / "study")
    with pytest.raises(ValueError, match="runs of the study are left"):
        outcomes.selection_of_table(progress_in(tmp_path / "study", found), "sums")
