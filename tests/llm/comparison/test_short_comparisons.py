"""The short comparisons: what they are of, for nothing is trained here."""

from dataclasses import replace

from lorakappa.llm.comparison import short_comparisons
from lorakappa.llm.comparison.short_comparisons import (
    BEST_STARTS,
    BY_RANK,
    HORIZONS,
    RIVALS,
    SGD,
    STARTS,
    VARIANTS,
    short_comparison,
    short_splits,
)
from tests.llm.comparison.small import SPLITS


def test_what_one_comparison_changes_it_changes_alone():
    """Where BaLoRA meets LoRA all but what is named is as at rank 8 of the first comparison."""
    at_8 = replace(BY_RANK, ranks=(8,))
    assert [replace(plan, settings=at_8.settings) for plan in HORIZONS] == [at_8, at_8]
    assert [
        replace(plan, scalings=at_8.scalings, learning_rates=at_8.learning_rates) for plan in (*STARTS, BEST_STARTS)
    ] == [at_8, at_8, replace(at_8, extensions=0)]
    assert replace(SGD, settings=at_8.settings, learning_rates=at_8.learning_rates) == at_8
    assert SGD.learning_rates == (0.1, 0.4, 1.6)
    assert replace(RIVALS, methods=VARIANTS.methods, strengths=(1.0,)) == VARIANTS


def test_seeds_begin_where_they_are_asked_to(monkeypatch):
    asked = []

    def compare(plan, splits, folder, *, execute, quiet):
        asked.append((plan, splits, folder, execute, quiet))
        return "an outcome"

    monkeypatch.setattr(short_comparisons, "compare", compare)
    monkeypatch.setattr(short_comparisons, "workplace", lambda: ("folder", "workers"))
    monkeypatch.setattr(short_comparisons, "short_splits", lambda: SPLITS)
    assert short_comparison.__wrapped__(BY_RANK, 3, 7) == "an outcome"
    assert asked == [(replace(BY_RANK, seeds=(7, 8, 9)), SPLITS, "folder", "workers", True)]


def test_the_data_of_short_comparisons():
    splits = short_splits()
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [1000, 64, 128]
    assert splits.extrapolate == ()
