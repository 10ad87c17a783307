"""The map of the sources: claims cite its places, it names claims that exist, and nothing is left without a word."""

import json
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from lorakappa.conditioning.claims import CLAIMS as STATIC
from lorakappa.conditioning.sources import DOCUMENTS, ILORA, POSTER, Reference, coverage
from lorakappa.conditioning.sources.document import Document, Statement, read_document
from lorakappa.conditioning.verification import MeasuredClaim
from lorakappa.conditioning.verification.examination import known_claims, select
from lorakappa.shared.packages import CLAIMS as MODULES
from tests.test_command_line import call

KNOWN = {id: entry.claim for id, entry in known_claims(MODULES).items()}
BY_NAME = {document.name: document for document in DOCUMENTS}
STATEMENTS = [(document, statement) for document in DOCUMENTS for statement in document.statements.values()]


@pytest.mark.parametrize("claim", KNOWN.values(), ids=KNOWN)
def test_a_claim_cites_a_statement_that_names_it(claim):
    if claim.source is None:
        assert claim.kind != "claim", f"{claim.id} is a claim of no document: call it a question or a correction"
        return
    statement = BY_NAME[claim.source.document].statements[claim.source.place]
    assert claim.id in statement.claims, f"add {claim.id} to {claim.source.document}.toml, {claim.source.place}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=BY_NAME)
def test_the_map_names_claims_that_exist_once_each(document):
    for statement in document.statements.values():
        assert set(statement.claims) <= set(KNOWN), statement.place
        assert len(set(statement.claims)) == len(statement.claims), statement.place
        kinds = {KNOWN[id].kind for id in statement.claims}
        assert kinds != {"correction"}, f"{statement.place}: what is true instead of what?"


def test_a_refuted_statement_says_what_is_true_instead():
    """Where a claim of the map was refuted, its correction, too, stands there or is one step away."""
    for _, statement in STATEMENTS:
        for claim in (KNOWN[id] for id in statement.claims):
            if claim.recorded == "refuted" and claim.kind == "claim" and claim.id in STATIC:
                assert claim.corrected_by, claim.id


def test_the_words_are_sentences_and_name_no_file_of_ours():
    for document, statement in STATEMENTS:
        assert re.search(r"[.?)]$", statement.statement), (document.name, statement.place)
        assert not statement.reason or statement.reason.endswith("."), (document.name, statement.place)
        assert "/" not in statement.place, statement.place
    assert all(document.at_hand for document in DOCUMENTS)


def test_the_map_is_as_large_as_it_should_be():
    """A document that lost its statements, or its place in the list, is missed."""
    assert [document.name for document in DOCUMENTS[:1]] == ["balora-poster"]
    assert len(BY_NAME) == len(DOCUMENTS) == 11
    assert len(ILORA.statements) >= 40
    assert {"Theorem 1", "Corollary 1", "Theorem 2", "Theorem 3", "Remark 4"} <= set(ILORA.statements)


def test_a_reference_is_document_and_place():
    reference = ILORA.at("Theorem 2")
    assert reference == Reference("ilora", ILORA.citation, "Theorem 2")
    assert str(reference) == "Imbalance-Regularized LoRA (OpenReview hQfJ7nyDeK): Theorem 2"
    with pytest.raises(ValueError, match=r"has no place 'Theorem 7' on the map, ilora\.toml"):
        ILORA.at("Theorem 7")


def test_claims_say_where_they_come_from():
    assert KNOWN["invariance"].origin == str(POSTER.at("Conditioning, invariance"))
    assert KNOWN["model1-exact-spectrum"].origin == "derived here"
    known = known_claims(MODULES)
    assert "ilora-gd-proportion" in {entry.claim.id for entry in select(known, source="THEOREM 2")}
    assert {entry.claim.source.document for entry in select(known, source="poster")} == {"balora-poster"}
    assert {entry.claim.source for entry in select(known, source="derived")} == {None}


HEAD = 'citation = "C"\ntitle = "T"\nauthors = "A"\npublished = "P"\nat_hand = "H"\n'
ENTRY = '[[statement]]\nplace = "1"\nstatement = """a\n  b."""\n'


def read(tmp_path, text):
    path = tmp_path / "new.toml"
    path.write_text(text, encoding="utf-8")
    return read_document(path)


def test_a_document_is_read_with_its_lines_joined(tmp_path):
    found = read(
        tmp_path, f'{HEAD}{ENTRY}claims = ["x", "y"]\n[[statement]]\nplace = "2"\nstatement = "c."\nreason = "r."'
    )
    statements = {"1": Statement("1", "a b.", ("x", "y")), "2": Statement("2", "c.", (), "r.")}
    assert found == Document("new", "C", "T", "A", "P", "H", statements)
    both = read(tmp_path, f'{HEAD}{ENTRY}claims = ["x"]\nreason = "r."')
    assert both.statements["1"] == Statement("1", "a b.", ("x",), "r.")
    assert read(tmp_path, HEAD).statements == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}{ENTRY}", r"new\.toml, 1: missing or unknown: reason"),
        (f"{HEAD}{ENTRY}claims = []", r"new\.toml, 1: missing or unknown: reason"),
        (f'{HEAD}{ENTRY}reason = " "', r"new\.toml, 1: reason must be text"),
        (f'{HEAD}{ENTRY}claims = ["x"]\nreason = ""', r"new\.toml, 1: reason must be text"),
        (f'{HEAD}{ENTRY}claims = "x"', r"new\.toml, 1: claims must be a list of ids"),
        (f'{HEAD}{ENTRY}claims = ["x", 3]', r"new\.toml, 1: claims must be a list of ids"),
        (f'{HEAD}{ENTRY}claims = ["x", ""]', r"new\.toml, 1: claims must be a list of ids"),
        (f'{HEAD}{ENTRY}claims = ["x"]\nclaim = "y"', r"new\.toml, 1: missing or unknown: claim"),
        (f'{HEAD}{ENTRY}claims = ["x"]\n{ENTRY}claims = ["y"]', r"new\.toml, 1: this place occurs twice"),
        (f'{HEAD}[[statement]]\nstatement = "a."\nreason = "r."', r"a statement without place: missing or .*: place"),
        (f'{HEAD}[[statement]]\nplace = 3\nstatement = "a."\nreason = "r."', r"new\.toml, 3: place must be text"),
        (HEAD.replace("at_hand", "hand"), r"new\.toml: missing or unknown: at_hand, hand"),
        (HEAD.replace('"T"', "4"), r"new\.toml: title must be text"),
    ],
)
def test_a_wrong_document_is_refused_by_file_and_place(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def fake(id, recorded, kind="claim"):
    return SimpleNamespace(id=id, recorded=recorded, kind=kind)


def measured(id, recorded, kind="claim"):
    return MeasuredClaim(
        id=id, statement="s.", domain="d", recorded=recorded, kind=kind, measure=None, default_trials=1
    )


FAKES = {
    "x": fake("x", "holds"),
    "y": fake("y", "refuted"),
    "z": fake("z", "not seen"),
    "i": fake("i", "inconclusive"),
    "e": fake("e", "equivalent"),
    "q": fake("q", "refuted", "question"),
    "c": fake("c", "holds", "correction"),
    "m": measured("m", "holds"),
    "n": measured("n", "not seen"),
    "k": measured("k", "holds", "question"),
}
TWO = Statement("1", "s.", ("x", "y"), "r."), Statement("2", "t.", (), "q.")
SMALL = Document("d", "D", "T", "A", "P", "H", {statement.place: statement for statement in TWO})


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ("", "no claim"),
        ("x", "holds"),
        ("y", "refuted"),
        ("yz", "refuted"),
        ("zy", "refuted"),
        ("zi", "not seen"),
        ("ie", "inconclusive"),
        ("e", "equivalent"),
        ("xy", "in part"),
        ("xz", "in part"),
        ("ex", "in part"),
        ("xq", "holds"),
        ("qc", "refuted"),
        ("yc", "refuted"),
        ("c", "no claim"),
        ("m", "holds in our setting"),
        ("mx", "holds in our setting"),
        ("xm", "holds in our setting"),
        ("my", "in part"),
        ("mn", "in part"),
        ("n", "not seen"),
        ("xk", "holds"),
        ("kc", "holds in our setting"),
    ],
)
def test_the_outcome_of_a_statement_is_that_of_its_claims(ids, expected):
    assert coverage.outcome(Statement("1", "s.", tuple(ids), "r."), FAKES) == expected


def test_coverage_counts_every_outcome():
    assert coverage.counts(SMALL, FAKES) == (2, 0, 0, 1, 0, 0, 0, 0, 1)
    rows = coverage.coverage_markdown([SMALL, SMALL], FAKES).splitlines()
    assert (
        rows[0] == "| document | statements | holds | holds in our setting | in part | refuted | not seen | equivalent "
        "| inconclusive | no claim |"
    )
    assert rows[1].count("|") == rows[0].count("|")
    one, both = "| D | 2 | 0 | 0 | 1 | 0 | 0 | 0 | 0 | 1 |", "| all | 4 | 0 | 0 | 2 | 0 | 0 | 0 | 0 | 2 |"
    assert rows[2:] == [one, one, both]


def printed(text, width):
    console = Console(width=width)
    with console.capture() as capture:
        console.print(text)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("width", [40, 120])
def test_blocks_show_claims_verdicts_kinds_and_reasons(width):
    statements = [*TWO, Statement("3", "u.", ("x", "q", "c"))]
    shown = ["1: in part", "  s.", "    x holds", "    y refuted", "    r.", "", "2: no claim", "  t.", "    q.", ""]
    last = ["3: holds", "  u.", "    x holds", "    q refuted (question)", "    c holds (correction)"]
    assert printed(coverage.statements_text(SMALL, statements, FAKES), width) == ["", "D", "", *shown, *last]
    found = ["  2 statements: 1 in part, 1 no claim", "  at hand: H"]
    assert printed(coverage.coverage_text([SMALL], FAKES), width) == ["", "coverage", "", "D", *found]


def test_no_id_is_cut_at_forty_columns():
    lines = printed(coverage.statements_text(POSTER, POSTER.statements.values(), KNOWN), 40)
    text = "".join(line.strip() for line in lines)
    assert all(id in text for statement in POSTER.statements.values() for id in statement.claims)
    assert "…" not in text
    assert max(map(len, lines)) <= 40


def test_documents_are_chosen_by_any_part_of_their_names():
    assert coverage.choose(DOCUMENTS, None) == list(DOCUMENTS)
    assert coverage.choose(DOCUMENTS, "ILORA") == [ILORA]
    assert coverage.choose(DOCUMENTS, "hQfJ7") == [ILORA]
    assert coverage.choose(DOCUMENTS, "plug-and-play") == [ILORA]
    with pytest.raises(ValueError, match=r"no document is called nobody; choose from balora-poster, .*lora-plus"):
        coverage.choose(DOCUMENTS, "nobody")


def recomputed(entry):
    """The outcome from what the file says of the claims, by the rule of the page."""
    for kind in ("claim", "question"):
        deciding = [id for id in entry["claims"] if entry["kind"][id] == kind]
        verdicts = {entry["recorded"][id] for id in deciding}
        if verdicts == {"holds"}:
            return "holds in our setting" if any(entry["measured"][id] for id in deciding) else "holds"
        if verdicts:
            worst = [name for name in ("refuted", "not seen", "inconclusive", "equivalent") if name in verdicts]
            return "in part" if "holds" in verdicts else worst[0]
    return "no claim"


def test_the_command_writes_every_statement(monkeypatch, capsys, tmp_path):
    file = tmp_path / "map.json"
    code, out, _ = call(monkeypatch, capsys, "sources", "--json", file)
    assert code == 0
    entries = json.loads(file.read_text(encoding="utf-8"))
    assert [(e["document"], e["place"]) for e in entries] == [(d.citation, s.place) for d, s in STATEMENTS]
    for entry in entries:
        assert entry["statement"]
        assert entry["claims"] or entry["reason"]
        assert entry["outcome"] in coverage.OUTCOMES
        assert (entry["outcome"] == "no claim") == (not entry["claims"])
        assert entry["recorded"] == {id: KNOWN[id].recorded for id in entry["claims"]}
        assert entry["outcome"] == recomputed(entry)
    assert all(document.citation in out for document in DOCUMENTS[:2])


def test_the_command_shows_what_is_asked_for(monkeypatch, capsys, tmp_path):
    file = tmp_path / "map.json"
    code, out, _ = call(monkeypatch, capsys, "sources", "--document", "poster", "--uncovered", "--json", file)
    left = [s.place for s in POSTER.statements.values() if not s.claims]
    assert code == 0
    assert [entry["place"] for entry in json.loads(file.read_text(encoding="utf-8"))] == left
    assert "sign-GD as Adam" in out
    assert "Theorem 3" not in out
    code, out, _ = call(monkeypatch, capsys, "sources", "--markdown")
    assert (code, out.strip()) == (0, coverage.coverage_markdown(DOCUMENTS, KNOWN))
    assert call(monkeypatch, capsys, "sources", "--document", "nobody")[0] == 2
    assert call(monkeypatch, capsys, "sources", "--json", tmp_path)[0] == 2
