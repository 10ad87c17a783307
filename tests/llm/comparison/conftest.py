"""What several files of tests train on."""

import pytest

from lorakappa.llm.comparison.runs import Task
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.data.splits import save_splits
from tests.llm.comparison.small import SPLITS, save_small_model


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    return str(save_small_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def task(small_model, tmp_path):
    """A run of two steps; its data lies in the comparison's folder."""
    settings = TrainingSettings(model=small_model, steps=2, batch_size=2, evaluations=1, generate=0)
    data = save_splits(SPLITS, tmp_path / "data")
    return Task(Run("balora", 2, 1.0, 1e-2, 0), settings, data, SPLITS.digest, tmp_path / "out")
