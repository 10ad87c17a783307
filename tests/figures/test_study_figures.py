"""The figures of a study show every contrast, and say what they leave out."""

import pytest

from lorakappa.figures import FIGURES
from lorakappa.figures.study_effects import VERDICTS, label, rows
from tests.figures.samples import study


def test_every_contrast_has_a_row():
    saved = study()
    for table in saved.value("tables"):
        found = rows(saved, table["name"])
        assert len(found) == table["comparisons"]
        labels = [label(saved, table, each) for each in found]
        assert len(set(labels)) == len(labels)
    assert label(saved, saved.value("tables")[0], rows(saved, "methods")[1]) == "BaLoRA, r = 8"
    assert label(saved, saved.value("tables")[1], rows(saved, "horizons")[1]) == "BaLoRA, 200 steps"
    assert label(saved, saved.value("tables")[2], rows(saved, "starts")[0]) == "BaLoRA, α/r = 0.01"
    assert {each["verdict"] for each in saved.value("findings")} <= set(VERDICTS)


def drawn(name, saved):
    figure = FIGURES[name].plot(saved)
    figure.draw_without_rendering()
    box, size = figure.get_tightbbox(), figure.get_size_inches()
    assert (box.min >= 0).all()
    assert (box.max <= size).all()
    return figure


def test_intervals_are_where_they_are_saved(styled):
    saved = study()
    axes = drawn("study-effects", saved).axes[0]
    found = rows(saved, "methods")
    spans = [
        tuple(line.get_xdata()) for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2
    ]
    for each in found:
        effect = each["effect"]
        if effect["low"] is not None and abs(effect["low"]) < 0.05:
            assert (effect["low"], effect["high"]) in [pytest.approx(span) for span in spans]
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("nothing known") == sum(each["effect"]["estimate"] is None for each in found)


def test_growth_has_a_panel_for_each_table_with_several_places(styled):
    figure = drawn("study-growth", study())
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["(a) methods, 60 steps", "(b) horizons, r = 8"]
    many = ("lora", "balora", "reflora", "ilora", "dora", "pissa", "pilora", "lora-plus", "scaled-gd")
    assert "6 of 8 methods" in drawn("study-growth", study(many)).axes[0].get_title(loc="left")


def test_what_has_no_such_axis_is_not_drawn():
    saved = study(ranks=(8,))
    saved.meta["tables"] = saved.meta["tables"][:1]
    with pytest.raises(ValueError, match="no table has several ranks or several horizons"):
        FIGURES["study-growth"].plot(saved)
    with pytest.raises(ValueError, match="no table has starts"):
        FIGURES["study-starts"].plot(saved)


def test_starts_show_both_methods(styled):
    left, right = drawn("study-starts", study()).axes
    assert [list(line.get_xdata()) for line in left.lines] == [[0.01, 1.0, 100.0]] * 2
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["0.01", "1", "100"]
