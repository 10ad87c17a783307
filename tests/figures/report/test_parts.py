"""Results are found, and said to be missing, unreadable or out of date where they are."""

import json
from pathlib import Path

import pytest

from lorakappa.figures.catalogue import FIGURES
from lorakappa.figures.report import parts
from lorakappa.figures.report.ledger import find_all, ledger
from lorakappa.figures.report.parts import ENTRIES, PARTS, TORCH_BYTES, USUAL_SECONDS, all_parts, find
from lorakappa.figures.report.sections import all_sections, figures_shown
from lorakappa.shared import code_state
from lorakappa.shared.packages import CLAIMS
from lorakappa.shared.records import provenance
from tests.figures import samples
from tests.figures.report.conftest import EXAMINED


def test_every_figure_and_claim_of_the_page_exists():
    from lorakappa.conditioning.verification.examination import known_claims

    known = known_claims(CLAIMS)
    assert sorted(figures_shown()) == sorted(FIGURES)
    for section in all_sections():
        claims = [*section.answers, *section.claims]
        assert set(claims) <= known.keys()
        assert len(set(claims)) == len(claims)
    assert all(kind.data in PARTS for kind in FIGURES.values())


def test_states(results):
    assert find(PARTS["phase"], results).state == "present"
    assert find(PARTS["phase"], results).provenance["seed"] == 3
    missing = find(PARTS["settle"], results)
    assert missing.state == "missing"
    assert missing.reason == f"no settle.npz and no settle.json in results; made by: {PARTS['settle'].told(results)}"
    (results / "duel.npz").unlink()
    assert find(PARTS["duel"], results).reason.startswith("no duel.npz in results")
    (results / "phase.json").write_text("{")
    assert find(PARTS["phase"], results).state == "unreadable"
    assert "is not JSON" in find(PARTS["phase"], results).reason


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        ({"shared": "0" * 16}, "stale", "made before the last change of shared"),
        ({"gone": "0" * 16, "shared": "1" * 16}, "stale", "made before the last change of gone, shared"),
        (None, "stale", "it does not say which code made it"),
        (code_state.digests(["shared", "synthetic"]), "present", ""),
    ],
)
def test_what_other_code_made_is_out_of_date(results, code, state, reason):
    file = results / "phase.json"
    saved = json.loads(file.read_text())
    saved["provenance"]["code"] = code
    file.write_text(json.dumps(saved))
    found = find(PARTS["phase"], results)
    assert (found.state, found.reason) == (state, reason)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Saves a record of benchmarks as one that comes with the project, made by code with a digest."""
    monkeypatch.setattr(parts, "SHIPPED", tmp_path / "shipped")

    def save(code, folder=tmp_path / "shipped"):
        folder.mkdir(exist_ok=True)
        rows = samples.benchmarks().meta | {"provenance": {"code": code}}
        (folder / "benchmarks.json").write_text(json.dumps(rows))

    return save


def test_what_comes_with_the_project_stands_in_for_what_is_missing_or_older(results, shipped):
    now, old = code_state.digests(["shared"]), {"shared": "0" * 16}
    benchmarks = PARTS["benchmarks"]
    assert find(benchmarks, results).state == "missing"  # the project has none either
    shipped(now)
    found = find(benchmarks, results)
    assert found.state == "shipped"
    assert found.reason == "comes with the project, measured elsewhere; made here by: make bench"
    assert parts.place(found.state, results) == parts.SHIPPED
    assert parts.place("stale", results) == results
    shipped(old, results)
    assert find(benchmarks, results).state == "shipped"  # of newer code than the one in the folder
    shipped(old)
    assert find(benchmarks, results).state == "stale"  # both are old: that of this machine
    (results / "benchmarks.json").unlink()
    assert find(benchmarks, results).reason == (
        "comes with the project, measured elsewhere; made before the last change of shared; made here by: make bench"
    )
    shipped(now, results)
    assert find(benchmarks, results).state == "present"
    (results / "benchmarks.json").write_text("{")
    assert find(benchmarks, results).state == "unreadable"  # and said, since somebody put it there
    shipped(now)
    (results / "phase.json").unlink()
    assert find(PARTS["phase"], results).state == "missing"  # of others none comes


def test_the_record_that_ships_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "SHIPPED", Path(parts.__file__).parent)
    made = ledger(find_all(tmp_path), tmp_path)
    assert made.record("benchmarks").state == "shipped"
    assert len(made.performance.rows) > 50
    assert made.record("benchmarks").provenance["commit"].isalnum()  # of a commit, without changes


def test_provenance_beside_other_entries_is_told_from_them(results):
    assert set(ENTRIES) == set(provenance())
    (results / "audit.json").write_text(json.dumps({**provenance(), "layers": []}))
    made = ledger(find_all(results), results)
    records = {record.name: record for record in made.records}
    assert set(records["audit"].provenance) == set(ENTRIES)
    assert records["settle"].provenance is None


@pytest.mark.parametrize("name", ["verdicts", "sources"])
@pytest.mark.parametrize("text", ["{}", "[1]", '[{"id": "x"}]', "null"])
def test_other_data_in_place_of_verdicts_or_sources_is_unreadable(results, name, text):
    (results / f"{name}.json").write_text(text)
    found = find_all(results)[name]
    assert found.state == "unreadable"
    assert f"{name}.json" in found.reason
    assert found.content is None


@pytest.mark.parametrize(
    ("id", "field", "value"),
    [
        ("balanced-optimal-model1", "ground", {"theorems": 3, "certificate": None, "faults": []}),
        ("balanced-optimal-model1", "ground", {"theorems": [{"file": "x.v"}], "certificate": None, "faults": []}),
        ("balanced-optimal-model1", "ground", {"theorems": [], "certificate": {"says": "x"}, "faults": []}),
        ("balanced-optimal-model1", "ground", {"theorems": [], "certificate": None, "faults": [1]}),
        ("model1-upper-bound", "counterexample", {"shape": {}, "left": 3, "right": "1"}),
        ("model1-upper-bound", "counterexample", {"shape": {}, "right": "1"}),
        ("smallest-trace", "evidence", {"tight": [1]}),
        ("smallest-trace", "evidence", {"tight": {"shape": {}, "left": "1", "right": "1"}}),
        ("smallest-trace", "sides", ["one"]),
        ("smallest-trace", "sides", ["one", "two", "three"]),
        ("smallest-trace", "id", "model1-upper-bound"),
    ],
)
def test_what_a_verdict_rests_on_is_read_against_a_schema(results, id, field, value):
    file = results / "verdicts.json"
    saved = json.loads(file.read_text())
    next(row for row in saved if row["id"] == id)[field] = value
    file.write_text(json.dumps(saved))
    found = find_all(results)
    assert found["verdicts"].state == "unreadable"
    assert (field if field != "id" else value) in found["verdicts"].reason
    assert ledger(found, results).claims == []


@pytest.mark.parametrize("content", [{"rows": 3}, {"rows": [3]}, {"rows": [{}]}, []])
def test_other_data_in_place_of_benchmarks_hides_no_verdict(results, content):
    (results / "benchmarks.json").write_text(json.dumps(content))
    found = find_all(results)
    assert found["benchmarks"].state == "unreadable"
    made = ledger(found, results)
    assert made.performance is None
    assert len(made.claims) == len(EXAMINED)


def test_one_verdict_says_as_well_as_many_who_made_it(results):
    file = results / "verdicts.json"
    file.write_text(json.dumps(json.loads(file.read_text())[:1]))
    assert find(PARTS["verdicts"], results).provenance["seed"] == 0
    file.write_text("[]")
    assert find(PARTS["verdicts"], results).provenance is None


def test_what_parts_cost_and_who_makes_them():
    with_evidence, without = all_parts(evidence=True), all_parts(evidence=False)
    assert {name for name, part in with_evidence.items() if part.shares} == {"verdicts"}
    assert {name for name, part in without.items() if part.shares} == {"verdicts", "llm-compare"}
    assert {name for name in PARTS if without[name].made_here != with_evidence[name].made_here} == {"study"}
    assert with_evidence["study"].made_here
    assert with_evidence["verdicts"].also_fine == (1,)  # the code of verdicts other than those on record
    assert {part.seconds for part in without.values()} - {part.seconds for part in with_evidence.values()} == {600.0}
    assert with_evidence["sources"].seconds == USUAL_SECONDS
    large = {name for name, part in with_evidence.items() if part.memory == TORCH_BYTES}
    assert large == {"verdicts", "adapter", "audit", "curvature", "study", "llm-compare"}


def test_commands_name_the_folder():
    assert PARTS["audit"].command == "llm audit {folder}/adapter --json {folder}/audit.json"
    assert PARTS["audit"].needs == ("adapter",)
    told = {known: all_parts(evidence=known)["llm-compare"].told("out") for known in (False, True)}
    assert told[False] == "lorakappa llm compare --out out"
    assert told[True].startswith("lorakappa llm report tiny --quiet --comparison out --methods lora,balora,")
    assert PARTS["benchmarks"].told("out") == "make bench"
    assert not PARTS["benchmarks"].made_here
