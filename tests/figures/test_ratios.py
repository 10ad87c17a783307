"""The figure of iLoRA's ratio draws what was saved, from a result made without any simulation."""

import numpy as np
import pytest

from lorakappa.figures import ratios
from lorakappa.figures.drawing import FORMATS, render
from tests.figures import samples

pytestmark = pytest.mark.usefixtures("styled")


def test_ratios_draw_medians_and_mark_the_papers_ratio():
    saved = samples.ratios()
    left, right = ratios.plot(saved).axes
    medians = 10 ** np.median(saved.array("log10"), axis=-1)
    for axes, x, columns in ((left, saved.array("factors"), slice(0, 3)), (right, saved.array("powers"), slice(3, 5))):
        for j in range(2):
            line = axes.get_lines()[j]
            np.testing.assert_array_equal(line.get_xdata(), x)
            np.testing.assert_allclose(line.get_ydata(), medians[j, columns])
        assert list(axes.get_lines()[2].get_xdata()) == [1, 1]
    assert left.get_lines()[0].get_label() == "8×4, $r/m$ = 0.25"


def test_files_are_the_same_twice():
    first, second = (render(ratios.plot, samples.ratios(), list(FORMATS)) for _ in "ab")
    assert first == second
