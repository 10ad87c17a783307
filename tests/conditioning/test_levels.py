"""The level of what holds is what was checked, never what is declared; what fails to count is said by name."""

import dataclasses
import json
import shutil

import pytest

from lorakappa.conditioning.certificates import check as certificates
from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.command import app
from lorakappa.conditioning.proofs import check as proofs
from lorakappa.conditioning.verification import AlgebraicClaim, report
from lorakappa.conditioning.verification.levels import ground
from lorakappa.shared.command_line import run

ID = "ilora-product-change"
CLAIM = CLAIMS[ID]
STATEMENT = CLAIM.statement


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of certificates with one of them, which the project takes for its own; no theorems."""
    shutil.copy(certificates.FOLDER / f"{ID}.json", tmp_path)
    monkeypatch.setattr(certificates, "FOLDER", tmp_path)
    (tmp_path / "proofs").mkdir()
    (tmp_path / "proofs" / "theorems.json").write_text("[]")
    monkeypatch.setattr(proofs, "FOLDER", tmp_path / "proofs")
    return tmp_path


def change(folder, old, new):
    file = folder / f"{ID}.json"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_instances_give_the_two_lower_levels(tmp_path, folder):
    assert ground("no-certificate", "x", exact_instances=0).level == "sampled"
    assert ground("no-certificate", "x", exact_instances=1).level == "exact"
    assert ground("no-certificate", "x").faults == ()


def test_a_certificate_gives_its_shapes(folder):
    found = ground(ID, STATEMENT)
    assert found.level == "certified"
    assert found.certificate.file == f"{ID}.json"
    assert len(found.certificate.shapes) == 30
    assert found.certificate.says.startswith("A₊B₊ = ")
    assert not found.faults
    verdict = CLAIM.examine(trials=60)
    assert verdict.as_json()["level"] == "certified"
    assert verdict.as_json()["ground"]["certificate"]["shapes"][0] == [1, 1, 1]
    assert json.dumps(verdict.as_json())
    assert report.summary(verdict) == "correction, all instances of 30 shapes"
    assert report.markdown_table([verdict]).endswith("| holds (certified, correction) |")


SPOILED = {
    "a wrong coefficient": ("step**2", "2 * step**2", "change at (a, b, r) = (1, 1, 1): its two sides differ"),
    "another statement": (STATEMENT, "AB is kept.", "it is not about this claim's statement"),
    "another claim": (f'"{ID}"', '"invariance"', "it is not about this claim's statement"),
    "no JSON": ('"cases"', "cases", "Expecting property name"),
    "no steps": ('"cases"', '"case"', "a certificate lacks, or does not know, 'case', 'cases'"),
    "no shapes": ('"shapes": "', '"shapes": "", "all": "', "a case lacks, or does not know, 'all'"),
    "no conclusion": ('"conclusion"', '"end"', "a case lacks, or does not know, 'end'"),
    "another relation": ('"=="', '"<="', "its terms do not show"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_certificate_falls_back_and_verify_names_it(name, folder, monkeypatch, capsys):
    old, new, message = SPOILED[name]
    change(folder, old, new)
    verdict = CLAIM.examine(trials=60)
    assert verdict.verdict == "holds"
    assert verdict.ground.level == "exact"
    assert verdict.ground.certificate is None
    (fault,) = verdict.faults
    assert fault.startswith(f"certificate {ID}.json: ")
    assert message in fault
    monkeypatch.setattr("sys.argv", ["conditioning", "verify", ID, "--trials", "60"])
    with pytest.raises(SystemExit) as stopped:
        run(app)
    printed = capsys.readouterr()
    assert stopped.value.code == 1
    assert f"{ID}: certificate {ID}.json: " in printed.err
    assert "holds (exact)" in printed.out
    monkeypatch.setattr("sys.argv", ["conditioning", "replay", ID, "--trials", "60"])
    with pytest.raises(SystemExit):
        run(app)
    assert "NOT counted: certificate" in capsys.readouterr().out


def test_a_certificate_of_nothing_does_not_count(folder):
    file = folder / f"{ID}.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    for cases, message in (([], "it covers no shape"), ([{"shapes": "111 222", "variables": {}}], "no conclusion")):
        file.write_text(json.dumps(whole | {"cases": cases}), encoding="utf-8")
        found = ground(ID, STATEMENT)
        assert (found.level, found.certificate) == ("sampled", None)
        assert message in found.faults[0]


def test_what_is_concluded_by_hand_is_told(folder, monkeypatch, capsys):
    change(folder, '"cases"', '"by_hand": "By induction.", "cases"')
    verdict = CLAIM.examine(trials=60)
    assert verdict.as_json()["ground"]["certificate"]["by_hand"] == "By induction."
    assert report.summary(verdict) == "correction, all instances of 30 shapes, the last step by hand"
    monkeypatch.setattr("sys.argv", ["conditioning", "replay", ID, "--trials", "60"])
    with pytest.raises(SystemExit):
        run(app)
    assert "concluded by hand: By induction." in capsys.readouterr().out


SAYS = "The product changes as stated."


def record(folder, **changes):
    """A theorem for the claim, and the record that Coq accepted it."""
    place = folder / "proofs"
    (place / "update.v").write_text("Theorem product : True.")
    theorem = {"claim": ID, "statement": STATEMENT, "file": "update.v", "theorem": "product", "says": SAYS}
    (place / "theorems.json").write_text(json.dumps([theorem]))
    entry = {"statement": "True", "assumptions": proofs.CLOSED}
    files = {"update.v": {"sha256": proofs.sha256(place / "update.v")}}
    content = {"files": files, "theorems": {"update.v:product": entry}} | changes
    (place / "checked.json").write_text(json.dumps(content))
    return place


def test_a_theorem_outranks_a_certificate(folder, monkeypatch, capsys):
    record(folder)
    found = ground(ID, STATEMENT)
    assert (found.level, found.faults) == ("proved", ())
    assert [theorem.theorem for theorem in found.theorems] == ["product"]
    assert found.certificate is not None
    assert ground("no-certificate", "x").level == "sampled"
    assert report.summary(CLAIM.examine(trials=60)) == "correction, update.v: product"
    monkeypatch.setattr("sys.argv", ["conditioning", "replay", ID, "--trials", "60"])
    with pytest.raises(SystemExit):
        run(app)
    printed = capsys.readouterr().out
    assert "proved for all shapes: The product changes as stated." in printed
    assert "checked just now" in printed


def test_a_file_that_coq_has_not_seen_proves_nothing(folder):
    place = record(folder)
    (place / "update.v").write_text("Theorem product : True. (* new *)")
    found = ground(ID, STATEMENT)
    assert found.level == "certified"
    assert found.faults == ("theorem update.v: it is not the file that Coq accepted",)
    (place / "update.v").unlink()
    assert ground(ID, STATEMENT).faults == found.faults


@pytest.mark.parametrize("statement", [None, "AB is kept."])
def test_a_theorem_for_another_statement_proves_nothing(statement, folder):
    place = record(folder)
    (row,) = json.loads((place / "theorems.json").read_text())
    row["statement"] = statement
    rows = [{key: value for key, value in row.items() if value}]
    (place / "theorems.json").write_text(json.dumps(rows))
    found = ground(ID, STATEMENT)
    assert (found.level, found.theorems) == ("certified", ())
    assert found.faults == ("theorem update.v: product is not about this claim's statement",)


OPEN = {"statement": "True", "assumptions": "Axioms: x"}


@pytest.mark.parametrize("theorems", [{}, {"update.v:product": OPEN}, {"other.v:product": OPEN}])
def test_a_theorem_that_coq_has_not_accepted_proves_nothing(theorems, folder):
    record(folder, theorems=theorems)
    found = ground(ID, STATEMENT)
    assert found.level == "certified"
    assert found.faults == ("theorem update.v: Coq has not accepted product",)


def test_a_theorem_in_a_file_off_the_record_proves_nothing(folder):
    record(folder, files={})
    assert ground(ID, STATEMENT).faults == ("theorem update.v: Coq has not accepted product",)


def test_what_does_not_hold_has_no_level(folder):
    refuted = CLAIMS["ilora-keeps-product"].examine(trials=60)
    assert refuted.verdict == "refuted"
    assert refuted.ground is None
    assert refuted.as_json()["level"] is None
    measured = CLAIMS["ilora-gram-ratio"].examine(trials=40)
    assert measured.ground is None
    assert report.outcome(measured) == measured.verdict


def test_only_claims_that_hold_have_certificates():
    for file in certificates.FOLDER.glob("*.json"):
        claim = CLAIMS[file.stem]
        assert isinstance(claim, AlgebraicClaim)
        assert claim.recorded == "holds"
        found = ground(claim.id, claim.statement)
        assert not found.faults
        assert {shape for shape in found.certificate.shapes} <= {dataclasses.astuple(s) for s in claim.family.shapes}


def test_what_stays_sampled_says_why():
    found = {claim.id for claim in CLAIMS.values() if isinstance(claim, AlgebraicClaim) and claim.recorded == "holds"}
    sampled = {id for id in found if CLAIMS[id].compare_exactly is None and CLAIMS[id].ground().level == "sampled"}
    for id in sampled:
        assert "in floats" in " ".join(CLAIMS[id].argument.split()), id
    assert len(sampled) <= 6


def test_central_claims_are_proved_and_most_are_more_than_instances():
    """The bound by balance, the kernel, the spectrum's ingredients: a lost certificate or theorem is noticed here."""
    grounds = {
        id: claim.ground()
        for id, claim in CLAIMS.items()
        if isinstance(claim, AlgebraicClaim) and claim.recorded == "holds"
    }
    assert grounds["balanced-optimal-model1"].level == "proved"
    assert grounds["model1-exact-spectrum"].certificate is not None
    assert sum(ground.level in ("certified", "proved") for ground in grounds.values()) >= 45
