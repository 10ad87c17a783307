import matplotlib.style
import pytest

from lorakappa.figures.style import RC
from tests.figures.samples import SAMPLES, save


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with a small result of every kind."""
    folder = tmp_path_factory.mktemp("data")
    for make in SAMPLES.values():
        save(make(), folder)
    return folder


@pytest.fixture
def styled():
    """Drawing with the project's style, as `lorakappa.figures.draw` does."""
    with matplotlib.style.context(RC, after_reset=True):
        yield
