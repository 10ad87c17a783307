"""The duel's figure draws what was saved, from a result made without any simulation."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from lorakappa.figures import duel
from lorakappa.figures.drawing import FORMATS, render
from lorakappa.figures.saved import Saved
from lorakappa.figures.style import method_looks
from tests.figures import samples

pytestmark = pytest.mark.usefixtures("styled")

METHODS = samples.DUELLISTS


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def test_bars_are_the_gains_and_frames_the_winners():
    saved = samples.duel()
    figure = duel.plot(saved)
    (axes,) = figure.axes
    looks = list(method_looks(METHODS).values())
    patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    bars = {}
    for patch in patches:
        for m, look in enumerate(looks[1:], start=1):
            if patch.get_linewidth() == 0 and to_hex(patch.get_facecolor()) == look.color.lower() and patch.get_width():
                bars[int(patch.get_y()), int(patch.get_x()), m] = patch
    assert set(bars) == {(0, 0, 1), (0, 0, 2), (0, 1, 1), (0, 1, 2), (1, 0, 1)}
    for (i, j, m), bar in bars.items():
        length, row = saved.array("gain")[i, j, 0, m], [6, 1][i]
        expected = max(duel.FULL * length / row, 0.04 - duel.ZERO)
        start = bar.get_x() if length > 0 else bar.get_x() + bar.get_width()
        assert start == pytest.approx(j + duel.ZERO)
        assert bar.get_width() == pytest.approx(abs(expected))
    frames = {(int(p.get_y()), int(p.get_x())): to_hex(p.get_edgecolor()) for p in patches if p.get_linewidth() == 1.2}
    assert frames == {(0, 0): looks[1].color.lower(), (0, 1): looks[2].color.lower()}
    written = texts(figure)
    assert {"+2.00", "+6.00", "tie", "all diverge", "BaLoRA", "iLoRA", "8×4", "4×8"} <= set(written)
    assert any("Adam, 50 steps" in text for text in written)
    assert "0.5\n(bars to 6)" in written


def test_one_panel_per_start():
    saved = samples.duel()
    arrays = {
        name: np.repeat(value, 3, axis=2) if name in ("gain", "winner", "margin") else value
        for name, value in saved.arrays.items()
    }
    figure = duel.plot(Saved("duel", arrays, {**saved.meta, "starts": ["lora", "balanced", "imbalanced:3"]}))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["(a) LoRA's start, A = 0", "(b) balanced start", "(c) start: imbalanced:3"]


def test_files_are_the_same_twice_and_bad_data_is_one_clear_error():
    first, second = (render(duel.plot, samples.duel(), list(FORMATS)) for _ in "ab")
    assert first == second
    with pytest.raises(ValueError, match="no array 'winner'"):
        render(duel.plot, Saved("duel", {"gain": np.zeros((1, 1, 1, 3))}, samples.duel().meta), ["png"])
