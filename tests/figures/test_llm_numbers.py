"""What is drawn of language models is what was saved."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from lorakappa.figures import audit, learning_curves, learning_rate_maps, loss_by_rank, overhead, robustness
from lorakappa.figures.audit import module_types, short_names
from lorakappa.figures.comparison import best, cells, losses, mean, some_ranks
from lorakappa.figures.saved import numbers
from lorakappa.figures.style import LOOKS
from tests.figures import samples
from tests.figures.test_numbers import lines_with, texts

pytestmark = pytest.mark.usefixtures("styled")


def test_numbers_of_json():
    np.testing.assert_array_equal(numbers([1, None, "inf", "-inf", "nan"]), [1, np.nan, np.inf, -np.inf, np.nan])


def test_no_seed_is_left_out_of_a_mean():
    np.testing.assert_array_equal(mean(np.asarray([[1.0, np.inf, 4.0], [3.0, 2.0, np.nan]])), [2.0, np.nan, np.nan])


def test_the_ranks_that_get_panels():
    assert some_ranks(samples.llm_compare(ranks=(8, 4))) == [4, 8]
    assert some_ranks(samples.llm_compare(("lora",), ranks=(2, 4, 8, 16, 32))) == [2, 8, 32]


def test_learning_curves_draw_means_and_seeds_by_step_and_by_second():
    saved = samples.llm_compare()
    figure = learning_curves.plot(saved)
    losses, seconds = saved.array("validation_loss"), saved.array("seconds")
    for row, rank in enumerate((4, 8)):
        by_step, by_second = figure.axes[2 * row : 2 * row + 2]
        for name, (place, _) in best(saved, rank).items():
            (line,) = lines_with(by_step, saved.array("eval_steps"), losses[place].mean(axis=0))
            assert (line.get_color(), line.get_marker()) == (LOOKS[name].color, LOOKS[name].marker)
            assert lines_with(by_second, seconds[place].mean(axis=0), losses[place].mean(axis=0))
            for seed in range(3):
                assert lines_with(by_step, saved.array("eval_steps"), losses[place, seed])
                assert lines_with(by_second, seconds[place, seed], losses[place, seed])
        assert by_step.get_yscale() == "log"
        assert f"r = {rank}, by step" in by_step.get_title(loc="left")


def test_a_diverged_seed_ends_the_mean_but_not_the_other_seeds():
    saved = samples.llm_compare()
    losses = saved.array("validation_loss")
    losses[0, 1, 3:] = np.inf
    axes = learning_curves.plot(saved).axes[0]
    assert lines_with(axes, y=[*losses[0, :, :3].mean(axis=0), *[np.nan] * 4])
    assert lines_with(axes, y=losses[0, 0])


def test_conditioning_curves_leave_out_infinity_and_lift_rounding_to_the_floor():
    saved = samples.llm_compare()
    figure = learning_curves.plot_conditioning(saved)
    gaps, bounds = figure.axes[:2]
    kappa, gap = saved.array("kappa_bound"), saved.array("gap")
    for name, (place, _) in best(saved, 4).items():
        assert lines_with(bounds, y=[np.nan, *kappa[place, :, 1:].mean(axis=0)])
        expected = np.full(7, 1e-9) if name == "balora" else gap[place].mean(axis=0)
        assert lines_with(gaps, y=expected)
    assert r"$\leq 10^{-9}$" in texts(figure)


def test_loss_by_rank_draws_means_seeds_and_paired_differences():
    saved = samples.llm_compare()
    figure = loss_by_rank.plot(saved)
    loss, match, gain, _ = figure.axes
    for name in saved.value("methods"):
        entries = [best(saved, rank)[name][1] for rank in (4, 8)]
        assert lines_with(loss, y=[np.mean(entry["test_loss"]) for entry in entries])
        for entry in entries:
            assert lines_with(loss, y=entry["test_loss"])
        if name == "balora":  # whose first seed has no exact match
            assert lines_with(match, y=[np.nan, np.nan])
            assert lines_with(match, y=[np.nan, *entries[0]["exact_match"][1:]])
        else:
            assert lines_with(match, y=[np.mean(entry["exact_match"]) for entry in entries])
    assert sum(line.get_marker() == "x" for line in match.get_lines()) == 2
    assert not any(line.get_marker() == "x" for line in loss.get_lines())
    assert len(lines_with(gain, y=[0.01, 0.05])) == len(lines_with(gain, y=[0.03])) == 4
    assert "test loss, gain over LoRA" in texts(figure)


def test_loss_by_rank_leaves_out_what_was_not_measured():
    saved = samples.llm_compare()
    for entry in saved.value("best"):
        entry["exact_match"] = [None] * 3
    assert "exact match" not in texts(loss_by_rank.plot(saved))


def test_maps_show_the_mean_of_every_cell_and_hatch_the_others():
    saved = samples.llm_compare()
    figure = learning_rate_maps.plot(saved)
    for i, (rank, name) in enumerate([(rank, name) for rank in (4, 8) for name in ("lora", "balora", "ilora")]):
        axes = figure.axes[i]
        (mesh,) = axes.collections
        mine = cells(saved, name, rank)
        rates = sorted({cell["learning_rate"] for cell in mine})
        expected = np.asarray([losses(saved, cell).mean() for cell in mine]).reshape(2, len(rates))
        np.testing.assert_allclose(np.ma.filled(mesh.get_array(), np.nan), expected)
        hatched = [patch for patch in axes.patches if patch.get_hatch()]
        assert len(hatched) == np.isnan(expected).sum() == (2 if name == "balora" else 4)
        (frame,) = [patch for patch in axes.patches if isinstance(patch, Rectangle) and not patch.get_fill()]
        entry = best(saved, rank)[name][1]
        assert frame.get_x() < entry["learning_rate"] < frame.get_x() + frame.get_width()
        assert frame.get_y() + 0.5 == [0.5, 1.0].index(entry["scaling"])
        assert axes.get_title(loc="left").startswith(LOOKS[name].label + ": 0.")


def test_borders_of_cells():
    np.testing.assert_allclose(learning_rate_maps.edges(np.asarray([1.0, 100.0])), [0.1, 10, 1000])
    np.testing.assert_allclose(learning_rate_maps.edges(np.asarray([1.0])), [10**-0.5, 10**0.5])


def test_without_several_scalings_the_maps_are_curves():
    saved = samples.llm_compare(scalings=(1.0,))
    assert texts(learning_rate_maps.plot(saved)) == texts(robustness.plot(saved))


def test_robustness_draws_the_best_scaling_its_window_and_what_diverged():
    saved = samples.llm_compare()
    figure = robustness.plot(saved)
    for i, rank in enumerate((4, 8)):
        curves, windows = figure.axes[2 * i : 2 * i + 2]
        for name, (_, entry) in best(saved, rank).items():
            mine = [cell for cell in cells(saved, name, rank) if cell["scaling"] == entry["scaling"]]
            grid = np.asarray([cell["learning_rate"] for cell in mine])
            means = np.asarray([losses(saved, cell).mean() for cell in mine])
            (line,) = [line for line in lines_with(curves, grid, means) if line.get_linestyle() != "None"]
            assert line.get_color() == LOOKS[name].color
            color = LOOKS[name].color
            crosses = [line for line in lines_with(curves, x=grid[np.isnan(means)]) if line.get_color() == color]
            assert "x" in [line.get_marker() for line in crosses]
            assert lines_with(curves, [entry["learning_rate"]], [np.mean(entry["validation_loss"])])
            if entry["window"]:
                (bar,) = lines_with(windows, x=entry["window"])
                assert bar.get_color() == LOOKS[name].color
        assert [text.get_text() for text in windows.texts] == ["≥ 0.8*", "–", "0.8"]
    assert any("*: best at the edge of its grid" in text for text in texts(figure))


def test_robustness_shows_the_best_variant_and_survives_missing_seeds():
    saved = samples.llm_compare(("lora", "ilora"), ranks=(4,), scalings=(1.0,))
    for cell in [cell for cell in saved.value("cells") if cell["method"] == "ilora"]:
        saved.value("cells").append({**cell, "variant": "ilora:lambda=9", "validation_loss": [5.0], "status": ["ok"]})
        cell["variant"] = "ilora:lambda=1"
    best(saved, 4)["ilora"][1]["variant"] = "ilora:lambda=9"
    curves = robustness.plot(saved).axes[0]
    (crosses,) = [
        line for line in curves.get_lines() if line.get_marker() == "x" and line.get_color() == LOOKS["ilora"].color
    ]
    assert len(crosses.get_xdata()) == 10


def test_overhead_is_paired_by_seed():
    saved = samples.llm_compare(ranks=(4,))
    memory, share = overhead.plot(saved).axes
    chosen = {name: entry for name, (_, entry) in best(saved, 4).items()}
    for name in ("balora", "ilora"):
        part = 100 * np.asarray(chosen[name]["method_seconds_per_step"]) / chosen[name]["seconds_per_step"]
        assert lines_with(share, x=part)
        assert f"{part.mean():.1f} %" in [text.get_text() for text in share.texts]
    assert lines_with(memory, x=[1.02])
    assert [text.get_text() for text in memory.texts] == ["no value", "1.02×"]
    assert [label.get_text() for label in memory.get_yticklabels()] == ["iLoRA", "BaLoRA"]


def test_methods_without_a_finished_run_are_named():
    saved = samples.llm_compare(lost=(("balora", 8), ("ilora", 4), ("ilora", 8)))
    for plot in (learning_curves.plot, loss_by_rank.plot, robustness.plot):
        shown = texts(plot(saved))
        assert "BaLoRA (no run finished at r = 8)" in shown
        assert "iLoRA (no run finished)" in shown
    assert "no run finished" in texts(overhead.plot(saved))


@pytest.mark.parametrize("count", [7, 28])
def test_audit_draws_every_layer_worst_first(count):
    saved = samples.audit(count)
    figure = audit.plot(saved)
    kappa, gap = figure.axes
    layers = saved.value("layers")
    now, balanced = (np.asarray([layer[key] for layer in layers]) for key in ("kappa_bound", "kappa_bound_balanced"))
    rows = np.arange(count)[::-1]
    finite = now[np.isfinite(now)]
    for values in (now, balanced):
        (line,) = [
            line for line in lines_with(kappa, y=rows) if line.get_label() == ("now", "balanced")[values is balanced]
        ]
        drawn = np.sort(line.get_xdata())
        np.testing.assert_allclose(drawn[: np.isfinite(values).sum()], np.sort(values[np.isfinite(values)]))
        assert (drawn[np.isfinite(values).sum() :] > finite.max()).all()
    (line,) = lines_with(gap, y=rows)
    assert sorted(line.get_xdata()) == sorted(layer["relative_gap"] for layer in layers)
    assert kappa.get_xscale() == "log"
    assert "∞" in texts(figure)
    assert len({label.get_text() for label in kappa.get_yticklabels()}) == count


def test_audit_of_many_layers_shows_the_worst_and_all_by_type():
    saved = samples.audit(252)
    figure = audit.plot(saved)
    worst, _, kinds, gaps = figure.axes
    assert len(worst.get_yticklabels()) == 20
    assert {label.get_text() for label in kinds.get_yticklabels()} == {
        f"{kind}_proj (36)" for kind in ("q", "k", "v", "o", "gate", "up", "down")
    }
    for kind, here in module_types([layer["name"] for layer in saved.value("layers")]).items():
        gap = [saved.value("layers")[i]["relative_gap"] for i in here]
        assert lines_with(gaps, x=gap), kind
        assert lines_with(gaps, x=[np.median(gap)] * 2), kind
    assert "(a) κ bound, the worst 20 layers" in [axes.get_title(loc="left") for axes in figure.axes]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["base.layers.0.attn.q", "base.layers.1.attn.q", "base.layers.1.mlp.up"], ["0 q", "1 q", "1 up"]),
        (["encoder.0.q", "decoder.0.q"], ["encoder 0 q", "decoder 0 q"]),
        (["a.b.c"], ["c"]),
        (["m.0." + "x" * 40, "m.1.y"], ["…" + "x" * 33, "1 y"]),
        (["m.a" + "x" * 40, "m.b" + "x" * 40], ["a" + "x" * 40, "b" + "x" * 40]),
        (["0.1.q.0", "1.0.q.1"], ["0 1 0", "1 0 1"]),
    ],
)
def test_short_names(names, expected):
    assert short_names(names) == expected


def test_layers_of_u_nets_are_told_apart():
    tails = [
        f"{block}.attentions.{i}.transformer_blocks.0.{attention}.to_{to}"
        for block in ("down_blocks.1", "mid_block", "up_blocks.1")
        for i in (0, 1)
        for attention in ("attn1", "attn2")
        for to in ("q", "out.0")
    ]
    for names, first in (
        ([f"unet.{tail}" for tail in tails], "down_blocks 1 0 0 attn1 to_q"),
        ([f"lora_unet_{tail}".replace(".", "_") for tail in tails], "lora_unet_down_blocks 1 0 0 attn1_to_q"[-33:]),
    ):
        short = short_names(names)
        assert len(set(short)) == len(names)
        assert short[0].lstrip("…") == first
        assert max(map(len, short)) <= 34
    kinds = module_types([f"lora_unet_{tail}".replace(".", "_") for tail in tails])
    assert {kind: len(layers) for kind, layers in kinds.items()} == {
        f"attn{i}_to_{to}": 6 for i in (1, 2) for to in ("q", "out")
    }


def test_module_types():
    kinds = module_types(["h.0.q", "h.1.q", "lm_head", "h.0.experts.up expert 3", "7"])
    assert {kind: here.tolist() for kind, here in kinds.items()} == {"q": [0, 1], "7": [4], "lm_head": [2], "up": [3]}
