"""What a replay reads is checked before anything is computed; what takes long is said or refused first."""

import copy
import json
import random
import sys

import numpy as np
import pytest

from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.command import app
from lorakappa.conditioning.verification import AlgebraicClaim
from lorakappa.conditioning.verification.examination import Known, ensure_feasible
from lorakappa.shared.command_line import run
from lorakappa.shared.schemas import MOST_DIGITS

REFUTED, TIGHT = "model1-lower-bound-full-rank", "model1-upper-bound-positive"


@pytest.fixture(scope="module")
def verdicts():
    return [CLAIMS[id].examine(trials=60).as_json() for id in (REFUTED, TIGHT)]


@pytest.fixture
def call(monkeypatch, capsys):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["conditioning", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run(app)
        return stopped.value.code, *capsys.readouterr()

    return command


def changed(entries, *path, value):
    entries = copy.deepcopy(entries)
    place = entries[0]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return entries


CHANGES = {
    "1/0": (("counterexample", "parameters", 0), "1/0", "counterexample.parameters[0]: 1/0 has the denominator 0"),
    "too long": (("counterexample", "parameters", 1), "1e999999999", f"has more than {MOST_DIGITS} digits"),
    "no number": (("counterexample", "parameters", 0), None, "must be a fraction such as 17/16"),
    "no parameters": (("counterexample", "parameters"), 3, "counterexample.parameters: input should be a valid list"),
    "too few": (("counterexample", "parameters"), ["1"], "that shape has 2 parameters, but 1 are given"),
    "too many": (("counterexample", "parameters"), ["1"] * 2000, "at most 1000 items"),
    "no instance": (("counterexample", "parameters"), ["-1", "-1"], "these parameters are no instance of its domain"),
    "no shape": (("counterexample", "shape"), {}, "counterexample.shape.a: field required"),
    "huge shape": (("counterexample", "shape", "a"), 10**9, "is not examined at a = 1000000000, b = 1, r = 1"),
    "true shape": (("counterexample", "shape", "a"), True, "counterexample.shape.a: input should be a valid integer"),
    "text": (("counterexample",), "x", "counterexample: input should be a valid dictionary"),
    "no evidence": (("evidence",), None, "evidence: input should be a valid dictionary"),
    "list of evidence": (("evidence",), [], "evidence: input should be a valid dictionary"),
    "no id": (("id",), 3, "id: input should be a valid string, not 3"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_malformed_evidence_is_one_line_that_names_the_field(name, verdicts, call, tmp_path):
    path, value, message = CHANGES[name]
    file = tmp_path / "verdicts.json"
    file.write_text(json.dumps(changed(verdicts, *path, value=value)))
    code, out, err = call("replay", REFUTED, "--from", file)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 100_000,
        b'{"a": 1}',
        b"[1]",
        b"[[]]",
        b"null",
        b"\xff",
        b"[{}]",
        b"[NaN]",
        b'[{"id": "a", "id": "b"}]',
    ],
)
def test_what_verify_did_not_write_is_said_to_be_so(content, call, tmp_path):
    file = tmp_path / "verdicts.json"
    file.write_bytes(content)
    code, out, err = call("replay", REFUTED, "--from", file)
    assert (code, out) == (2, "")
    assert f"{file}" in err
    assert "is not a file written by verify --json" in err
    assert err.count("\n") == 1


def test_good_evidence_is_replayed_as_before(verdicts, call, tmp_path):
    file = tmp_path / "verdicts.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(verdicts).encode())
    code, out, _ = call("replay", REFUTED, "--from", file)
    assert code == 0
    assert "left >= right: violated" in out
    code, out, _ = call("replay", TIGHT, "--from", file)
    assert code == 0
    assert "κ = 16" in out
    verdicts = changed(changed(verdicts, "counterexample", value=None), "verdict", value="inconclusive")
    file.write_text(json.dumps(verdicts))
    assert "nothing to replay" in call("replay", REFUTED, "--from", file)[1]


UNTRUE = {
    "a matrix": (("counterexample", "A"), [["1/0"]], "counterexample.A: [['1/0']] in the file, but [["),
    "no matrix": (("counterexample", "B"), "x", "counterexample.B: x in the file, but [["),
    "a matrix more": (("counterexample", "C"), [["1"]], "counterexample.C: [['1']] in the file, but nothing here"),
    "the left side": (("counterexample", "left"), "5", "counterexample.left: 5 in the file, but "),
    "the right side": (("counterexample", "right"), None, "counterexample.right: nothing in the file, but "),
    "the statement": (("statement",), "κ ≥ 0.", "statement: κ ≥ 0. in the file, but "),
    "the verdict": (("verdict",), "holds", "verdict: holds, but there is a counterexample"),
    "no counterexample": (("counterexample",), None, "verdict: refuted, but there is no counterexample"),
}


@pytest.mark.parametrize("name", UNTRUE)
def test_what_a_verdict_says_that_is_not_so_is_named(name, verdicts, call, tmp_path):
    path, value, message = UNTRUE[name]
    file = tmp_path / "verdicts.json"
    file.write_text(json.dumps(changed(verdicts, *path, value=value)))
    code, out, err = call("replay", REFUTED, "--from", file)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {file}: [0].{message}")
    assert err.count("\n") == 1


def test_an_instance_that_refutes_nothing_is_no_counterexample(verdicts, call, tmp_path):
    """All of it is as the parameters make it, but the statement is satisfied there."""
    claim, file = CLAIMS["model1-upper-bound-positive"], tmp_path / "verdicts.json"
    entry = copy.deepcopy(verdicts[1])
    entry |= {"verdict": "refuted", "counterexample": claim.evaluate(*claim.tight_at)[0].as_json()}
    file.write_text(json.dumps([entry]))
    code, out, err = call("replay", TIGHT, "--from", file)
    assert (code, out) == (2, "")
    assert "counterexample: no counterexample, left <= right is satisfied there" in err


def test_a_case_of_equality_is_compared_too(verdicts, call, tmp_path):
    file = tmp_path / "verdicts.json"
    for field, value in (("left", "7"), ("equal", False), ("Z", [["0"]])):
        entries = copy.deepcopy(verdicts)
        entries[1]["evidence"]["tight"][field] = value
        file.write_text(json.dumps(entries))
        code, out, err = call("replay", TIGHT, "--from", file)
        assert (code, out) == (2, "")
        assert f"[1].evidence.tight.{field}: " in err


def test_a_constant_is_printed_once(call):
    code, out, _ = call("replay", "equal-norms-are-balance", "--trials", 60)
    assert code == 0
    assert "\n  right: 0\n" in out
    assert "0 = 0" not in out


def test_prose_is_wrapped_to_the_console(call, monkeypatch):
    """The domain breaks like the rest, and the lines of an argument are those of the console, not of its source."""
    from lorakappa.shared import command_line

    monkeypatch.setattr(command_line.console, "width", 60)
    _, out, _ = call("replay", "kappa-spread", "--trials", 30)
    prose = out.partition("\n\n")[0].splitlines()
    assert max(map(len, prose)) <= 60
    argument = prose[next(i for i, line in enumerate(prose) if line.startswith(CLAIMS["kappa-spread"].argument[:20])) :]
    assert all(len(line) > 40 for line in argument[:-1])


def test_every_case_of_equality_on_record_can_be_read_from_a_file():
    """What a replay refuses must not be what claims have on record."""
    for claim in CLAIMS.values():
        if isinstance(claim, AlgebraicClaim) and claim.tight_at is not None:
            shape, parameters = claim.tight_at
            assert shape in claim.family.shapes, claim.id
            assert len(parameters) == len(claim.family.draw(shape, np.random.default_rng(1))), claim.id
            assert all(len(str(x.numerator)) < MOST_DIGITS for x in parameters)


def test_random_damage_is_replayed_or_refused(verdicts, call, tmp_path):
    rng, file = random.Random(0), tmp_path / "verdicts.json"
    text = json.dumps(verdicts)
    for _ in range(60):
        place = rng.randrange(len(text))
        file.write_text(text[:place] + rng.choice('0"[]{},:x-/9e') + text[place + rng.randint(0, 3) :])
        code, _, err = call("replay", REFUTED, "--from", file)
        assert code in (0, 2), err
        assert err.count("\n") == (code == 2)


def test_what_nobody_can_wait_for_is_refused_with_the_time(call):
    for command in ("verify", "replay"):
        code, out, err = call(command, "invariance", "--trials", 10**14)
        assert (code, out) == (2, "")
        assert "100000000000000 instances of 1 claim would take about 3.17e+03 years; ask for less" in err
    assert call("verify", "--trials", 10**30)[0] == 2
    assert call("verify", "--seed", 2**63)[0] == 2


def test_what_takes_long_is_said(capsys):
    known = [Known("conditioning", "lorakappa.conditioning.claims", CLAIMS["invariance"])]
    ensure_feasible(known, trials=None, jobs=1)
    ensure_feasible(known, trials=1000, jobs=1)
    assert capsys.readouterr().err == ""
    ensure_feasible(known, trials=1_000_000, jobs=10**9)
    assert capsys.readouterr().err == "1000000 instances of 1 claim: about 16.7 minutes expected; Ctrl-C ends it\n"


def test_a_damaged_file_of_arrays_is_one_line(call, tmp_path):
    np.savez(tmp_path / "whole.npz", A=np.eye(2), B=np.eye(2), Z=np.eye(2))
    content = (tmp_path / "whole.npz").read_bytes()
    for length in (0, 1, 100, 400, len(content) - 1):
        (tmp_path / "part.npz").write_bytes(content[:length])
        code, out, err = call("kappa", tmp_path / "part.npz")
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {tmp_path}/part.npz is ")
        assert err.count("\n") == 1
