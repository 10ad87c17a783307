"""What the folder of a study says of itself comes back, with its data and its records."""

from dataclasses import replace

import pytest

from lorakappa.llm.comparison.studies.about import described, progress_in, splits_in
from lorakappa.llm.comparison.studies.files import parse_study
from tests.llm.comparison.studies.made_up import ABOUT, SPLITS, TEXT


def test_a_study_comes_back_from_its_folder(kept):
    folder, progress = kept
    found = described(folder / "study")
    assert (found.study, found.text, found.about) == (parse_study(TEXT, "tiny.toml"), TEXT, ABOUT)
    assert progress_in(folder / "study", found).spent() == progress.spent()
    assert progress.spent()[1] > 0


def test_data_come_back_for_the_study_that_they_are_of(kept, tmp_path):
    folder, progress = kept
    assert splits_in(folder / "study", progress.study) == SPLITS
    assert splits_in(folder / "study", replace(progress.study, data=replace(progress.study.data, seed=1))) is None
    assert splits_in(tmp_path, progress.study) is None
    for name in ("study.toml", "about.json"):
        (tmp_path / name).write_bytes((folder / "study" / name).read_bytes())
    assert splits_in(tmp_path, progress.study) is None


def test_a_folder_of_something_else_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no folder of a study: it has no about\.json"):
        described(tmp_path)
