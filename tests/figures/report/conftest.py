"""A folder of small results, with verdicts and a map of sources beside what figures are drawn from."""

import json

import pytest

from lorakappa.conditioning.sources import DOCUMENTS, coverage
from lorakappa.conditioning.verification.examination import known_claims
from lorakappa.figures.report import parts
from lorakappa.shared.packages import CLAIMS
from lorakappa.shared.records import provenance, write_json
from tests.figures.samples import SAMPLES, save

EXAMINED = ("model1-upper-bound", "balanced-optimal-model1", "smallest-trace", "ilora-table-2-average")


@pytest.fixture(scope="session", autouse=True)
def nothing_ships(tmp_path_factory):
    """No result comes with the project, so that the pages of tests are small."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "SHIPPED", tmp_path_factory.mktemp("shipped"))
        yield


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Verdicts on a few claims, as `verify --json` writes them, and the whole map of the sources."""
    folder = tmp_path_factory.mktemp("records")
    known, made = known_claims(CLAIMS), {"package": "conditioning", "provenance": provenance(seed=0)}
    write_json(folder / "verdicts.json", [known[id].claim.examine(trials=20).as_json() | made for id in EXAMINED])
    claims = {id: entry.claim for id, entry in known.items()}
    rows = [row for d in DOCUMENTS for row in coverage.as_json(d, d.statements.values(), claims)]
    write_json(folder / "sources.json", [row | {"provenance": provenance()} for row in rows])
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def fill(folder, records):
    """Makes a folder of results that lacks most figures' data."""
    folder.mkdir()
    for name, text in records.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("phase", "duel"):
        save(SAMPLES[name](), folder)
        file = folder / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"provenance": provenance(seed=3)}))
    return folder


@pytest.fixture
def results(tmp_path, records):
    """Such a folder, for one test."""
    return fill(tmp_path / "results", records)
