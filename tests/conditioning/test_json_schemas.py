"""The published schemas are those of the models, and what is written fits them."""

import copy
import json

import pytest
from pydantic import TypeAdapter, ValidationError

from lorakappa.conditioning.certificates import check
from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.schemas import forms
from lorakappa.shared.records import provenance, write_json
from tests.conditioning.planted_claims import planted

SOME = ("model2-upper-bound", "invariance", "smallest-trace", "projection-trains-on", "ilora-gram-ratio")
"""Refuted, proved or certified, with a case of equality, sampled, and measured."""


def read(name, text):
    return TypeAdapter(forms.PUBLISHED[name]).validate_json(text)


@pytest.mark.parametrize("name", forms.PUBLISHED)
def test_published_schemas_are_those_of_the_models(name):
    file = forms.FOLDER / f"{name}.schema.json"
    assert json.loads(file.read_text(encoding="utf-8")) == forms.schema(name)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    file = tmp_path_factory.mktemp("verdicts") / "verdicts.json"
    claims = [CLAIMS[id] for id in SOME] + [planted("quick")]
    made = {"package": "conditioning", "provenance": provenance(seed=0)}
    write_json(file, [claim.examine(trials=60).as_json() | made for claim in claims])
    return json.loads(file.read_text(encoding="utf-8"))


def test_verdicts_fit(verdicts):
    found = read("verdicts", json.dumps(verdicts))
    assert [verdict.id for verdict in found] == [*SOME, "quick"]
    assert found[0].counterexample.shape.a >= 1
    assert found[1].ground.certificate.shapes[0] == [1, 1, 1]
    assert found[-1].ground is None


def changed(data, *path, value):
    data = copy.deepcopy(data)
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return data


BAD_VERDICTS = {
    "another level": ((1, "level"), "believed"),
    "another word": ((0, "verdict"), "wrong"),
    "no ground": ((1, "ground"), None),
    "a further entry": ((1, "remark"), "x"),
    "half an instance": ((0, "counterexample", "left"), None),
    "trials as text": ((0, "trials"), "60"),
}


@pytest.mark.parametrize("name", BAD_VERDICTS)
def test_what_is_no_verdict_does_not_fit(name, verdicts):
    path, value = BAD_VERDICTS[name]
    with pytest.raises(ValidationError):
        read("verdicts", json.dumps(changed(verdicts, *path, value=value)))


@pytest.mark.parametrize("file", sorted(check.FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_certificates_fit(file):
    text = file.read_text(encoding="utf-8")
    assert read("certificate", text).claim == file.stem
    assert json.loads(text) == forms.CertificateForm.model_validate_json(text).model_dump(
        mode="json", exclude_unset=True
    )


BAD_CERTIFICATES = {
    "no shapes": (("cases", 0, "shapes"), ""),
    "no cases": (("cases",), []),
    "no statement": (("statement",), None),
    "a negative weight": (("cases", 0, "conclusion", "terms", 0, "weight"), "-1"),
    "an unknown relation": (("cases", 0, "conclusion", "relation"), "<>"),
    "a term of nothing": (("cases", 0, "conclusion", "terms", 0), {"square": "x"}),
}


@pytest.mark.parametrize("name", BAD_CERTIFICATES)
def test_what_is_no_certificate_does_not_fit(name):
    good = json.loads((check.FOLDER / "smallest-trace.json").read_text(encoding="utf-8"))
    path, value = BAD_CERTIFICATES[name]
    with pytest.raises(ValidationError):
        read("certificate", json.dumps(changed(good, *path, value=value)))
