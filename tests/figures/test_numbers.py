"""What is drawn is what was saved."""

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.patches import FancyArrowPatch

from lorakappa.figures import bound_tightness, convergence, kappa_histogram, manifold, phase, rates, settle
from lorakappa.figures.curves import quartiles
from lorakappa.figures.style import method_looks, number
from tests.figures import samples

pytestmark = pytest.mark.usefixtures("styled")


def lines_with(axes, x=None, y=None):
    """The lines of an axes whose data are the given ones; NaN equals NaN."""

    def same(actual, expected):
        actual, expected = np.ma.filled(np.ma.asarray(actual, dtype=float), np.nan), np.asarray(expected, dtype=float)
        return actual.shape == expected.shape and np.allclose(actual, expected, rtol=1e-12, atol=0, equal_nan=True)

    return [
        line
        for line in axes.get_lines()
        if (x is None or same(line.get_xdata(), x)) and (y is None or same(line.get_ydata(), y))
    ]


def texts(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


def test_quartiles_survive_diverged_seeds():
    low, middle, high = quartiles(np.asarray([[1.0, 2.0, 3.0, 4.0, np.inf], [1.0, np.inf, np.inf, np.inf, 2.0]]))
    assert low.tolist() == [2.0, 2.0]
    assert middle.tolist() == [3.0, np.inf]
    assert high.tolist() == [4.0, np.inf]
    assert quartiles(np.asarray([[1.0, 2.0, 3.0, 4.0]]))[1].tolist() == [2.5]


def test_convergence_draws_the_medians_of_the_saved_curves():
    saved = samples.convergence()
    figure = convergence.plot(saved)
    left, right = figure.axes
    curves = saved.array("curves")
    looks = method_looks(saved.value("methods"))
    for i, look in enumerate(looks.values()):
        same = lines_with(left, np.arange(len(curves)), np.median(curves[:, i], axis=-1))
        (line,) = [line for line in same if line.get_marker() == look.marker]  # the others are single runs
        assert line.get_color() == look.color
        assert line.get_label().startswith(f"{look.label}, γ = 0.0631")
        for j in range(curves.shape[-1]):
            run = np.where(np.isfinite(curves[:, i, j]), curves[:, i, j], np.nan)
            assert lines_with(left, y=run), "a single run is missing"
    assert any("(1 of 5 diverged)" in text for text in texts(figure))
    assert any("n = 5" in text for text in texts(figure))
    assert left.get_yscale() == right.get_yscale() == right.get_xscale() == "log"


def test_convergence_shows_divergence_as_gaps_and_marks():
    saved = samples.convergence()
    left, right = convergence.plot(saved).axes
    grid, final = saved.array("step_sizes"), saved.array("excess")[-1]
    for i in range(final.shape[0]):
        medians = np.median(final[i], axis=-1)
        assert lines_with(right, grid, np.where(np.isfinite(medians), medians, np.nan))
        bad = grid[~np.isfinite(final[i]).all(axis=-1)]
        assert len(bad) == (3 if i == 0 else 2)
        assert any(line.get_marker() == "x" for line in lines_with(right, x=bad))
    (mark,) = lines_with(left, x=[5])  # the last finite step of the diverged seed
    assert mark.get_marker() == "x"


def test_kappa_histogram_counts_everything_once_and_marks_the_balanced_value():
    saved = samples.kappa_histogram()
    figure = kappa_histogram.plot(saved)
    top, bottom = figure.axes
    random, limits = top.patches
    for patch, values in ((random, saved.array("kappa")), (limits, saved.array("kappa_limit"))):
        outline = patch.get_xy()
        assert outline[:, 0].min() <= np.log10(values).min()
        assert outline[:, 0].max() >= np.log10(values).max()
        steps, heights = np.diff(outline[:, 0]), outline[:-1, 1]
        right = steps > 1e-9
        width = steps[right][0]
        assert np.sum(steps[right] * heights[right]) == pytest.approx(width)  # shares add up to 1
    for axes in (top, bottom):
        assert lines_with(axes, x=[np.log10(9.0)] * 2)
    for key in ("lower", "lower_corrected", "upper_corrected", "kappa"):
        spread = np.log10(np.quantile(saved.array(key), [0.05, 0.95]))
        assert lines_with(bottom, x=spread), key
    labels = [label.get_text() for label in bottom.get_yticklabels()]
    assert "paper upper (25 % vacuous)" in labels
    assert "limits of GD on LoRA (n = 12, 2 more not there yet)" in texts(figure)


def test_kappa_histogram_without_limit_points():
    saved = samples.kappa_histogram()
    saved.arrays["kappa_limit"] = np.empty(0)
    assert "limits of GD on LoRA: none of 2 runs is there yet" in texts(kappa_histogram.plot(saved))


def test_bound_tightness_draws_every_finite_bound_and_states_the_vacuous_share():
    saved = samples.kappa_histogram()
    figure = bound_tightness.plot(saved)
    (axes,) = figure.axes
    kappa = saved.array("kappa")
    for key in ("lower", "upper", "lower_corrected", "upper_corrected"):
        bound = saved.array(key)
        finite = np.isfinite(bound)
        assert lines_with(axes, kappa[finite], bound[finite] / kappa[finite]), key
    assert lines_with(axes, y=[1, 1])
    assert "paper upper (25 % vacuous)" in texts(figure)


def test_rates_draws_minus_log_rates_and_tells_what_it_leaves_out():
    saved = samples.rates()
    figure = rates.plot(saved)
    left, right = figure.axes
    rule, sure = saved.array("rule"), saved.array("conclusive")
    bound, limsup = -np.log(saved.array("bound")), -np.log(saved.array("limsup"))
    for name, look in rates.RULES.items():
        here = (rule == name) & sure & (limsup > 0)
        (line,) = lines_with(left, bound[here], limsup[here])
        assert (line.get_color(), line.get_marker()) == (look.color, look.marker)
        assert lines_with(right, saved.array("kappa")[here], saved.array("log_ratio")[here])
    (hollow,) = lines_with(left, bound[[1]], limsup[[1]])
    assert hollow.get_markerfacecolor() == "white"
    shown = " ".join(texts(figure))
    assert "GD, n = 6 (1 without a rate below 1, not shown)" in shown
    assert "hollow: inconclusive, n = 1" in shown
    assert left.get_xlim() == left.get_ylim()


def test_phase_shows_every_gain_on_a_scale_centred_at_zero():
    saved = samples.phase()
    figure = phase.plot(saved)
    axes = figure.axes[0]
    (mesh,) = axes.collections
    np.testing.assert_array_equal(np.ma.filled(mesh.get_array(), np.nan), saved.array("gain"))
    assert mesh.norm(0.0) == 0.5
    assert mesh.norm.vmax == -mesh.norm.vmin == 2.0
    assert [text.get_text() for text in axes.texts] == ["+1.50", "−0.40", "+0.05", "+2.00", "+0.60", "–"]
    assert [patch.get_xy() for patch in axes.patches] == [(2, 0)]  # the undecided cell is hatched
    assert axes.patches[0].get_hatch()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.01", "0.1", "1"]


def test_settle_draws_medians_references_curves_and_gains():
    saved = samples.settle()
    figure = settle.plot(saved)
    same, flow, equal, curves, gains = figure.get_axes()
    gammas = saved.array("gammas")
    for axes, key, power in (
        (same, "deviation", 1),
        (same, "imbalance_from_balanced", 1),
        (flow, "drift_one_step", 2),
        (flow, "drift_fixed_time", 1),
    ):
        medians = np.median(saved.array(key), axis=-1)
        assert lines_with(axes, gammas, medians), key
        assert lines_with(axes, gammas, medians[-1] * (gammas / gammas[-1]) ** power), key
    relative = saved.array("equal_kappa_curves")[:, 0, 0] / 1e-4
    assert len(lines_with(equal, np.arange(60) / 10, relative)) == 10  # two methods, five seeds
    for i in range(6):
        assert lines_with(curves, y=np.median(saved.array("rescale_curves")[:, i], axis=-1))
    assert lines_with(gains, x=[0.2, 0.9])
    assert lines_with(gains, x=[0.5])
    assert lines_with(gains, x=[-1.0])
    assert "needs rank ≥ 3" in texts(settle.plot(samples.settle(rank=2)))


def test_manifold_draws_the_minimizers_with_their_kappa_and_arrows_of_constant_product():
    saved = samples.manifold()
    figure = manifold.plot(saved)
    axes = figure.axes[0]
    (hyperbola,) = [c for c in axes.collections if isinstance(c, LineCollection) and len(c.get_segments()) == 20]
    colors, kappa = hyperbola.get_array(), saved.array("kappa")
    assert colors.min() >= kappa.min()
    assert colors.max() <= kappa.max()
    for segment in hyperbola.get_segments():
        assert segment.prod(axis=1) == pytest.approx([1, 1])
    arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
    assert len(arrows) == 2
    balanced = saved.array("balanced")
    (stars,) = lines_with(axes, balanced[:, 0], balanced[:, 1])
    assert stars.get_label() == "balanced minimizers, κ = 3"
    assert lines_with(axes, saved.array("starts")[:, 0], saved.array("starts")[:, 1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.0123"),
        (12.0, "12"),
        (-0.5, "−0.5"),
        (1.5e-7, r"1.5$\times 10^{-7}$"),
        (np.inf, "∞"),
        (np.nan, "undefined"),
    ],
)
def test_numbers_in_labels(value, text):
    assert number(value) == text
