"""Theorems: each proves a claim that holds and is in its file; the record is that of the files as they are.

What Coq itself says is checked by `make proofs`; where Coq is, errors planted into small theories are found by name.
"""

import json
import re
import shutil
from pathlib import Path

import pytest

from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.proofs import check
from lorakappa.conditioning.proofs.check import CLOSED, FOLDER, NO_COQ, Fault, main, refuse_what_is_open, sha256

THEOREMS = json.loads((FOLDER / "theorems.json").read_text(encoding="utf-8"))
RECORD = json.loads((FOLDER / "checked.json").read_text(encoding="utf-8"))
FILES = sorted(path.name for path in FOLDER.glob("*.v"))

needs_coq = pytest.mark.skipif(
    shutil.which("coqc") is None, reason="NOT CHECKED: there is no coqc here; `make coq` says how to get it"
)


@pytest.mark.parametrize("entry", THEOREMS, ids=[f"{entry['claim']}-{entry['theorem']}" for entry in THEOREMS])
def test_a_theorem_proves_a_claim_that_holds_and_is_on_record(entry):
    assert set(entry) == {"claim", "statement", "file", "theorem", "says"}
    assert CLAIMS[entry["claim"]].recorded == "holds"
    assert entry["says"].endswith(".")
    code = check.without_comments((FOLDER / entry["file"]).read_text(encoding="utf-8"))
    assert re.search(rf"^Theorem {entry['theorem']}\b", code, flags=re.MULTILINE)
    record = RECORD["theorems"][f"{entry['file']}:{entry['theorem']}"]
    assert record["assumptions"] == CLOSED
    assert record["statement"]


def test_rows_are_in_the_order_of_the_files_and_none_comes_twice():
    assert [entry["file"] for entry in THEOREMS] == sorted(entry["file"] for entry in THEOREMS)
    keys = [(entry["claim"], entry["file"], entry["theorem"]) for entry in THEOREMS]
    assert len(set(keys)) == len(keys)
    assert RECORD["theorems"].keys() == {f"{entry['file']}:{entry['theorem']}" for entry in THEOREMS}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_the_one_on_record_and_leaves_nothing_open(name):
    assert RECORD["files"][name]["sha256"] == sha256(FOLDER / name), "run conditioning/proofs/check.py --record"
    refuse_what_is_open(name, (FOLDER / name).read_text(encoding="utf-8"))


def test_no_file_on_record_is_gone():
    assert sorted(RECORD["files"]) == FILES


def test_what_requires_comes_after_what_is_required():
    order = check.in_order(FOLDER)
    assert sorted(order) == FILES
    assert order.index("frobenius.v") < order.index("model1.v")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("Lemma x : False. Admitted.", "Admitted"),
        ("Lemma x : False. Proof. admit. Qed.", "admit"),
        ("Axiom x : False.", "Axiom"),
        ("(* (* nested *) *) Parameter x : False.", "Parameter"),
        ("Section S. End S. Variable x : False.", "Variable"),
        ("Hypothesis x : False.", "Hypothesis"),
        ("Unset Guard Checking.", "Unset Guard Checking"),
    ],
)
def test_what_leaves_a_proof_open_is_refused_by_name(line, word):
    with pytest.raises(Fault, match=f"^bad.v: '{word}' "):
        refuse_what_is_open("bad.v", line)


@pytest.mark.parametrize(
    "line", ["(* Axiom (* admit *) *)", "Section S. Variable x : nat. End S.", "Lemma admitted : True."]
)
def test_comments_sections_and_longer_words_are_not_refused(line):
    refuse_what_is_open("good.v", line)


def test_without_coq_the_check_says_loudly_what_to_install(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert main([]) == NO_COQ
    error = capsys.readouterr().err
    assert error.startswith("NOT CHECKED: there is no coqc")
    assert f"apt-get install --no-install-recommends {check.PACKAGES}" in error


def test_make_installs_what_the_check_names():
    text = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8").replace("\\\n\t", "")
    assert f"COQ := {check.PACKAGES}\n" in text


SMALL = {
    "base.v": "Definition twice (n : nat) := n + n.\n",
    "small.v": "From LoRA Require Import base.\nTheorem zero (n : nat) : n = 0 -> twice n = 0.\n"
    "Proof. intros E. rewrite E. reflexivity. Qed.\n",
}


@pytest.fixture
def small(tmp_path, capsys):
    """A folder with one theorem and its record."""
    for name, text in SMALL.items():
        (tmp_path / name).write_text(text)
    entries = [{"claim": "invariance", "file": "small.v", "theorem": "zero", "says": "2·0 = 0."}]
    (tmp_path / "theorems.json").write_text(json.dumps(entries))
    assert main(["--record", "--folder", str(tmp_path)]) == 0
    assert main(["--folder", str(tmp_path)]) == 0
    assert "1 theorems in 2 files" in capsys.readouterr().out
    return tmp_path


PLANTED = {
    "weakened": ("small.v", "n = 0 ->", "n = 0 -> n = 1 ->", "small.v:zero: not the statement on record"),
    "by definition": ("base.v", "n + n", "n + 0", "base.v: not the file on record"),
    "admitted": ("small.v", "reflexivity. Qed.", "Admitted.", "small.v: 'Admitted' is not allowed"),
    "assumed": ("small.v", "Theorem zero", "Axiom x : False.\nTheorem zero", "small.v: 'Axiom' is not allowed"),
    "wrong": ("small.v", "twice n = 0", "twice n = 1", "small.v: Coq refuses it"),
    "gone": ("small.v", "zero", "nought", "small.v: a theorem named in theorems.json is missing"),
    "a comment": ("small.v", "Proof.", "Proof. (* new *)", "small.v: not the file on record"),
}


@needs_coq
@pytest.mark.slow
@pytest.mark.parametrize("error", PLANTED)
def test_planted_errors_are_found_by_name(error, small, capsys):
    name, old, new, message = PLANTED[error]
    text = SMALL[name].replace(old, new)
    assert text != SMALL[name]
    (small / name).write_text(text.replace("intros E", "intros E F") if error == "weakened" else text)
    assert main(["--folder", str(small)]) == 1
    assert f"error: {message}" in capsys.readouterr().err


@needs_coq
@pytest.mark.slow
def test_an_assumption_that_no_word_betrays_is_found(small, capsys):
    """Functional extensionality, from Coq's own library."""
    lines = "From Coq Require Import FunctionalExtensionality.\nTheorem zero (f g : nat -> nat) : "
    proof = "(forall n, f n = g n) -> f = g.\nProof. apply functional_extensionality. Qed.\n"
    (small / "small.v").write_text(lines + proof)
    assert main(["--folder", str(small)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: small.v: zero is not proved outright: Axioms: FunctionalExtensionality.")
