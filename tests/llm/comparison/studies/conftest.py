"""A study that is done, and evidence of it."""

import pytest

from lorakappa.llm.comparison.claims import verdicts_of_study
from lorakappa.llm.comparison.studies.about import describe
from lorakappa.llm.comparison.studies.evidence import keep
from tests.llm.comparison.studies.made_up import ABOUT, TEXT, Machine, tuned_loss


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """A study's folder, its progress, and evidence of it."""
    folder = tmp_path_factory.mktemp("study")
    found = describe(folder / "study", TEXT, ABOUT)
    progress, failures = Machine(tuned_loss).run(found.study, folder / "study")
    assert failures == []
    keep(found, progress, folder / "evidence", verdicts_of_study(progress, "sums"))
    return folder, progress


@pytest.fixture
def evidence(kept, tmp_path):
    """A copy of the evidence that may be spoilt."""
    for file in (kept[0] / "evidence").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path
