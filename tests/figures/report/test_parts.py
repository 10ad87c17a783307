"""Results are found, and said to be missing, unreadable or out of date where they are."""

import json

import pytest

from lorakappa.figures.catalogue import FIGURES
from lorakappa.figures.report.ledger import find_all
from lorakappa.figures.report.parts import PARTS, find
from lorakappa.figures.report.sections import KEY_CLAIMS, SECTIONS
from lorakappa.shared import code_state
from lorakappa.shared.packages import CLAIMS


def test_every_figure_and_claim_of_the_page_exists():
    from lorakappa.conditioning.verification.examination import known_claims

    known = known_claims(CLAIMS)
    shown = [name for section in SECTIONS for name in section.figures]
    assert sorted(shown) == sorted(FIGURES)
    for id in [*KEY_CLAIMS, *(id for section in SECTIONS for id in section.claims)]:
        assert id in known
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


@pytest.mark.parametrize("name", ["verdicts", "sources"])
@pytest.mark.parametrize("text", ["{}", "[1]", '[{"id": "x"}]', "null"])
def test_other_data_in_place_of_verdicts_or_sources_is_unreadable(results, name, text):
    (results / f"{name}.json").write_text(text)
    found = find_all(results)[name]
    assert found.state == "unreadable"
    assert f"{name}.json" in found.reason
    assert found.content is None


def test_commands_name_the_folder():
    assert PARTS["audit"].command == "llm audit {folder}/adapter --json {folder}/audit.json"
    assert PARTS["audit"].needs == ("adapter",)
    assert PARTS["llm-compare"].told("out") == "lorakappa llm compare --out out"
    assert PARTS["benchmarks"].told("out") == "make bench"
    assert not PARTS["benchmarks"].made_here
