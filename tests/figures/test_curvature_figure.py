"""The curvature figure draws what was saved, and nothing of it leaves the page."""

import copy

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lorakappa.figures import curvature
from lorakappa.figures.saved import Saved

pytestmark = pytest.mark.usefixtures("styled")

PATH = (-1.0, 0.0, 0.5, 1.0, 2.0)


def spectrum(t, scale, leading):
    values = scale * (1 + (t - 0.5) ** 2) * np.exp(-0.2 * np.arange(40)) if leading else np.empty(0)
    largest = scale * (1 + (t - 0.5) ** 2)
    return {
        "leading": values.tolist(),
        "lambda_max": largest,
        "trace": 5 * largest,
        "kappa": {"r": 3.0 + t**2, "2r": 5.0, "r²": 9.0, "rank": 1e9, "d − r²": "inf"},
    }


def layer(name, scale):
    path = [
        {
            "t": t,
            "smoothness": 4 + (t - 1) ** 2,
            "kappa_bound": 30 * scale * (1 + (t - 1) ** 2),
            "ggn": spectrum(t, scale, t in (0, 1)),
            "hessian": spectrum(t, 2 * scale, t in (0, 1)),
        }
        for t in PATH
    ]
    return {"name": name, "r": 3, "d": 60, "p": {"r": 3, "2r": 6, "r²": 9, "rank": 30, "d − r²": 51}, "path": path}


def sample():
    name = "base_model.model.model.layers.{}.{} (adapter default)"
    layers = [layer(name.format(i, kind), 10.0**i) for i, kind in enumerate(("self_attn.q_proj", "mlp.down_proj"))]
    return Saved("curvature", {}, {"loss": 1.25, "tokens": 40, "vocabulary": 64, "layers": layers})


def drawn(axes, y):
    return [
        line
        for line in axes.get_lines()
        if np.shape(line.get_ydata()) == np.shape(y) and np.allclose(line.get_ydata(), y)
    ]


def test_the_leading_spectra_are_those_of_the_layer_with_the_largest_bound():
    saved = sample()
    left = curvature.plot(saved).axes[0]
    worst = saved.meta["layers"][1]
    for point in (worst["path"][1], worst["path"][3]):
        for key in ("ggn", "hessian"):
            assert drawn(left, point[key]["leading"])
    assert left.get_title(loc="left") == "(a) leading spectrum, 1.down_proj"
    assert [line.get_xdata()[0] for line in left.get_lines() if len(line.get_xdata()) == 2] == [3, 9]


def test_the_path_is_relative_to_balance_and_its_lowest_point_is_marked():
    saved = sample()
    middle = curvature.plot(saved).axes[1]
    expected = [(1 + (t - 0.5) ** 2) / 1.25 for t in PATH]
    assert len(drawn(middle, expected)) == 4  # two layers, λ_max and trace
    marks = [line for line in middle.get_lines() if len(line.get_xdata()) == 1]
    assert [line.get_xdata()[0] for line in marks] == [0.5] * 4


def test_gains_are_trained_over_balanced_and_infinite_ones_are_left_out():
    saved = sample()
    right = curvature.plot(saved).axes[2]
    marks = [line.get_xdata()[0] for line in right.get_lines() if len(line.get_xdata()) == 1]
    assert len(marks) == 2 * 8
    assert marks[0] == pytest.approx(5 / 4)
    assert marks[8] == pytest.approx(2)
    saved.meta["layers"][0]["path"][1]["ggn"]["kappa"]["r²"] = "inf"
    del saved.meta["layers"][1]["path"][1]["ggn"]["kappa"]["r²"]
    right = curvature.plot(saved).axes[2]
    assert sum(len(line.get_xdata()) == 1 for line in right.get_lines()) == 2 * 8 - 2


@pytest.mark.parametrize("count", [1, 2, 4, 10])
def test_nothing_is_clipped(count):
    saved = sample()
    saved.meta["layers"] = [copy.deepcopy(saved.meta["layers"][i % 2]) for i in range(count)]
    figure = curvature.plot(saved)
    FigureCanvasAgg(figure).draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width
    assert box.y1 <= height
    left, right = (legend.get_window_extent() for legend in figure.legends)
    assert left.x1 <= right.x0


def test_only_the_two_pairs_are_enough_and_missing_ones_are_named():
    saved = sample()
    for entry in saved.meta["layers"]:
        entry["path"] = [point for point in entry["path"] if point["t"] in (0, 1)]
        for point in entry["path"]:
            del point["ggn"]["kappa"]["r²"]
        del entry["p"]["r²"]
    curvature.plot(saved)
    saved.meta["layers"][0]["path"].pop()
    with pytest.raises(ValueError, match="no point t = 1"):
        curvature.plot(saved)
    saved.meta["layers"] = []
    with pytest.raises(ValueError, match="has no layer"):
        curvature.plot(saved)
