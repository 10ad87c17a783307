"""What several files of tests train on."""

from contextlib import AbstractContextManager

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


@pytest.fixture
def watched(monkeypatch):
    """Puts another maker of runs in the place of a module's workers; what these and the bar are told is noted."""

    def watch(module, execute):
        begun, batches = [], []

        class Quiet(AbstractContextManager):
            def __exit__(self, *_):
                pass

        class Made(Quiet):
            def __init__(self, *arguments):
                begun.append(arguments)

            def __call__(self, tasks, *, done):
                return execute(tasks, done=done)

        class Shown(Quiet):
            def __init__(self, quiet):
                assert not quiet

            def batch(self, total, pending):
                batches.append((total, pending))
                return lambda task, status: None

        monkeypatch.setattr(module, "Workers", Made)
        monkeypatch.setattr(module, "RunsShown", Shown)
        return begun, batches

    return watch
