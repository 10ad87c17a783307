"""The curvature figure draws what was saved, and nothing of it leaves the page."""

import copy

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lorakappa.figures import curvature
from lorakappa.figures.saved import Saved

pytestmark = pytest.mark.usefixtures("styled")


def point(t, largest, trace, kappa, hessian):
    matrix = {"lambda_max": largest, "trace": trace, "kappa": {"r": kappa}}
    return {"t": t, "ggn": matrix, "hessian": {**matrix, "lambda_max": hessian}}


def layer(name, scale):
    return {
        "name": name,
        "path": [
            point(0, 8 * scale, 20.0, 9.0, 30.0),
            point(0.5, 5 * scale, 17.0, 8.0, 25.0),
            point(1, 4 * scale, 16.0, 7.0, 15.0),
        ],
        "gauges": {
            "ilora": point(None, 6 * scale, 18.0, 6.0, 20.0),
            "trace": point(None, 3 * scale, 10.0, 5.0, 12.0),
            "lambda_max": point(None, 2 * scale, 12.0, 4.0, 10.0),
        },
        "lambda_max_bound": 1.9 * scale,
    }


def sample(count=2):
    name = "base_model.model.model.layers.{}.{} (adapter default)"
    kinds = ("self_attn.q_proj", "mlp.down_proj")
    layers = [layer(name.format(i // 2, kinds[i % 2]), 10.0**i if count < 9 else 1.0) for i in range(count)]
    return Saved("curvature", {}, {"loss": 1.25, "tokens": 40, "vocabulary": 64, "layers": layers})


def marks(axes):
    """The x of each gauge's marks, by its label."""
    lines = (line for line in axes.get_lines() if not line.get_label().startswith("_"))
    return {line.get_label(): list(line.get_xdata()) for line in lines}


def test_every_gauge_stands_where_it_was_measured():
    largest, trace, kappa, hessian = curvature.plot(sample()).axes
    assert marks(largest)["trained"] == pytest.approx([8 / 1.9] * 2)
    assert marks(largest)["balanced"] == pytest.approx([4 / 1.9] * 2)
    assert marks(largest)[curvature.GAUGES["lambda_max"].label] == pytest.approx([2 / 1.9] * 2)
    assert marks(trace)["iLoRA's ratio"] == pytest.approx([1.8] * 2)
    assert marks(trace)["smallest trace"] == pytest.approx([1, 1])
    assert marks(kappa)["trained"] == pytest.approx([9, 9])
    assert marks(hessian)["balanced"] == pytest.approx([1.5] * 2)
    assert [label.get_text() for label in largest.get_yticklabels()] == ["q_proj", "down_proj"]
    spans = [line.get_xdata() for line in trace.get_lines() if line.get_color() == curvature.GREY]
    assert [list(x) for x in spans[:2]] == [[1, 2], [1, 2]]


def test_without_a_bound_or_a_hessian_the_rest_is_drawn():
    saved = sample()
    saved.meta["layers"][0].update(lambda_max_bound=0.0, gauges={"ilora": point(None, 6, 18.0, 6.0, 20.0)})
    for place in saved.meta["layers"][1]["path"]:
        place["hessian"] = None
    panels = curvature.plot(saved).axes
    assert len(panels) == 3
    assert marks(panels[0])["balanced"] == pytest.approx([1, 4 / 1.9])
    assert len(marks(panels[0])["smallest trace"]) == 1


def test_infinite_ratios_are_left_out():
    saved = sample()
    saved.meta["layers"][0]["path"][0]["ggn"]["kappa"]["r"] = "inf"
    del saved.meta["layers"][1]["path"][0]["ggn"]["kappa"]["r"]
    assert "trained" not in marks(curvature.plot(saved).axes[2])


@pytest.mark.parametrize("count", [1, 4, 21, 70])
def test_nothing_is_clipped(count):
    saved = sample()
    saved.meta["layers"] = [
        {**copy.deepcopy(saved.meta["layers"][i % 2]), "name": f"model.layers.{i}.mlp.down_proj"} for i in range(count)
    ]
    figure = curvature.plot(saved)
    assert len(figure.axes[0].get_yticklabels()) == min(count, curvature.MOST_LAYERS)
    FigureCanvasAgg(figure).draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_of_many_layers_those_farthest_from_the_best_gauge_are_shown():
    saved = sample(70)
    for i, entry in enumerate(saved.meta["layers"]):
        entry["lambda_max_bound"] = 1.9 if i >= 10 else 4.0
    shown = curvature._shown(saved.meta["layers"])
    assert shown == list(range(10, 70))


def test_a_missing_pair_is_named():
    saved = sample()
    saved.meta["layers"][0]["path"].pop()
    with pytest.raises(ValueError, match="no point t = 1"):
        curvature.plot(saved)
    saved.meta["layers"] = []
    with pytest.raises(ValueError, match="has no layer"):
        curvature.plot(saved)
