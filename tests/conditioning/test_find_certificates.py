"""Terms are found again where they were forgotten; what is false is not found; the checker has the last word."""

import json

import pytest

from lorakappa.conditioning.certificates import check, find
from lorakappa.conditioning.certificates.find import main

FILE = check.FOLDER / "ilora-ratio-cost-upper.json"


def planted(tmp_path, conclusion, **case):
    whole = {"shapes": "111", "variables": {"x": [], "y": []}, "given": {"y": ["y", ">", "chosen"]}, **case}
    content = {"claim": "planted", "statement": "", "says": "", "cases": [{**whole, "conclusion": conclusion}]}
    file = tmp_path / "planted.json"
    file.write_text(json.dumps(content))
    return file


def test_forgotten_terms_are_found_again_and_written_elsewhere(tmp_path, capsys):
    before = FILE.read_bytes()
    assert main([str(FILE), "--again", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("found\n") == 2
    assert FILE.read_bytes() == before
    found = json.loads((tmp_path / FILE.name).read_text(encoding="utf-8"))
    assert found["cases"][0]["steps"][0]["terms"]
    _, shapes = check.check(tmp_path / FILE.name)
    assert len(shapes) == len(found["cases"][0]["shapes"].split())


FOUND = {
    "square": {"left": "x**2 + 4", "relation": ">=", "right": "4 * x"},
    "at most": {"left": "2 * x", "relation": "<=", "right": "x**2 + 1"},
    "product": {"left": "y * x**2", "relation": ">="},
    "strict": {"left": "x**2 + y", "relation": ">"},
    "quotient": {"left": "y + 1 / y", "relation": ">=", "right": "2", "times": ["y"]},
    "times": {"left": "x**2 / y", "relation": ">=", "times": ["y"]},
}


@pytest.mark.parametrize("name", FOUND)
def test_terms_are_found(name, tmp_path, capsys):
    file = planted(tmp_path, FOUND[name])
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == "planted.json, case 0: conclusion found\n"
    assert check.check(file)[1] == [(1, 1, 1)]
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == ""  # nothing is left to find


def test_matrices_are_named_by_their_entries_and_zeros_are_used(tmp_path):
    given = {"unit": ["sq(M) - 1", "==", "chosen"]}
    conclusion = {"left": "M[0, 0]**2", "relation": "<=", "right": "1"}
    file = planted(tmp_path, conclusion, shapes="211", variables={"M": ["a", "r"]}, given=given)
    assert main([str(file)]) == 0
    terms = json.loads(file.read_text())["cases"][0]["conclusion"]["terms"]
    assert {"of": [], "square": "M[1, 0]"} in terms
    assert check.check(file)


NOT_FOUND = {
    "false": ({"left": "x", "relation": ">="}, "conclusion: no terms found"),
    "false sign": ({"left": "-y", "relation": ">="}, "conclusion: no terms found"),
    "not strict": ({"left": "x**2", "relation": ">"}, "conclusion: no terms found"),
    "no equality": ({"left": "x**2", "relation": "=="}, "conclusion: no terms found"),
    "matrix": ({"left": "eye(2) * x", "relation": ">="}, "eye(2) * x is a matrix"),
    "nonsense": ({"left": "x +", "relation": ">="}, "invalid syntax"),
}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_is_not_found_is_one_line_and_nothing_is_written(name, tmp_path, capsys):
    conclusion, message = NOT_FOUND[name]
    file = planted(tmp_path, conclusion)
    before = file.read_bytes()
    assert main([str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}: ")
    assert message in error
    assert error.count("\n") == 1
    assert file.read_bytes() == before


def test_too_many_candidates_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(find, "LARGEST", 10)
    assert main([str(planted(tmp_path, FOUND["square"]))]) == 2
    assert "are too many" in capsys.readouterr().err
