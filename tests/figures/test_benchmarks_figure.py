"""The figure of the benchmarks shows every goal as reached or not, and slopes that are those of the data."""

import numpy as np
import pytest

from lorakappa.figures import benchmarks
from lorakappa.figures.schemas import Benchmarks
from tests.figures import samples
from tests.figures.test_numbers import lines_with, texts

pytestmark = pytest.mark.usefixtures("styled")


def test_goals_and_ratios():
    figure = benchmarks.plot(samples.benchmarks())
    axes = figure.subfigs[0].axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [
        "r = 64, 1 thread: 10 pairs/s",
        "r = 64, 1 thread: loop of SVDs",
        "r = 8, 1 thread: 10 pairs/s",
        "r = 8, 1 thread: loop of SVDs",
    ]
    (missed,) = lines_with(axes, [3.0], [1])
    (reached,) = lines_with(axes, [5.0], [3])
    (rate,) = lines_with(axes, [10.0], [2])  # 100 pairs a second, ten times what is wanted
    assert (missed.get_marker(), reached.get_marker(), rate.get_marker()) == ("X", "o", "o")
    assert missed.get_color() != reached.get_color()
    assert [float(line.get_xdata()[0]) for line in axes.get_lines() if line.get_marker() == "|"] == [1, 4, 1, 4]
    assert lines_with(axes, [3.0 - 0.15, 3.0 + 0.15], [1, 1])


def test_growth():
    figure = benchmarks.plot(samples.benchmarks())
    axes = figure.subfigs[1].axes[0]
    sizes = np.array([8.0, 32.0, 128.0])
    (ours,) = lines_with(axes, sizes, 1e-5 * sizes**1.5)
    (theirs,) = lines_with(axes, sizes, 1e-4 * sizes**2)
    assert ours.get_label() == "balance, slope 1.50"
    assert theirs.get_label() == "loop of SVDs, slope 2.00"
    assert lines_with(axes, sizes, 1e-5 * 128**1.5 * (sizes / 128) ** 2)
    assert "a processor, 2 cores, device cpu" in texts(figure)


def test_a_goal_without_its_ratio_is_refused():
    saved = samples.benchmarks()
    saved.meta["rows"][0]["ratios"] = {}
    with pytest.raises(ValueError, match="do not belong together"):
        Benchmarks.model_validate(saved.meta)
