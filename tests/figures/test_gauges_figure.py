"""The figure of the gauges draws what was saved, from a result made without any simulation."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from lorakappa.figures import gauges
from lorakappa.figures.duel import FULL, ZERO
from lorakappa.figures.saved import Saved
from lorakappa.figures.style import method_looks
from tests.figures import samples

pytestmark = pytest.mark.usefixtures("styled")


def test_bars_are_gains_on_one_scale_a_panel():
    saved = samples.gauges()
    saved.arrays["gain"][:, :, 1] *= 10
    figure = gauges.plot(saved)
    looks = list(method_looks(samples.DUELLISTS).values())
    for k, axes in enumerate(figure.axes):
        bars = [
            patch
            for patch in axes.patches
            if isinstance(patch, Rectangle)
            and patch.get_linewidth() == 0
            and patch.get_width()
            and patch.get_height() < 0.5
        ]
        longest = max(bars, key=lambda bar: bar.get_width())
        assert to_hex(longest.get_facecolor()) == looks[2].color.lower()
        assert (int(longest.get_y()), int(longest.get_x())) == (0, 1)
        assert longest.get_width() == pytest.approx(min(FULL, 0.95 - ZERO))
        assert len(bars) == 5
        assert axes.get_title(loc="left") == ["(a) SGD, noisy labels: bars to 6", "(b) Adam: bars to 60"][k]
    written = {text.get_text() for text in figure.findobj(Text)}
    assert {"+2.00", "tie", "all diverge", "BaLoRA", "100", "condition number of $C$ (outputs)"} <= written
    assert any("crossed singular vectors" in text for text in written)


def test_methods_of_one_colour_are_told_apart():
    saved = samples.gauges()
    names = ["lora", "reflora", "scaled-gd"]
    figure = gauges.plot(Saved("gauges", saved.arrays, {**saved.meta, "methods": names}))
    (legend,) = figure.legends
    colors = [to_hex(handle.get_facecolor()) for handle in legend.get_patches()]
    assert len(set(colors)) == 4
    assert colors[1] == method_looks(names)["reflora"].color.lower()


def test_an_unknown_optimizer_keeps_its_name_and_no_gain_is_drawn_as_nothing():
    saved = samples.gauges()
    arrays = {**saved.arrays, "gain": np.zeros_like(saved.arrays["gain"])}
    figure = gauges.plot(Saved("gauges", arrays, {**saved.meta, "optimizers": ["lion", "gd"]}))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["(a) lion: bars to 0.001", "(b) GD: bars to 0.001"]
