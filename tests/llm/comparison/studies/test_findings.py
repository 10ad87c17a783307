"""What a study says, from records that are given: signs, levels, hours, and why the seeds end."""

import pytest

from lorakappa.llm.comparison.studies.findings import findings, study_json
from lorakappa.llm.comparison.studies.progress import Progress
from tests.llm.comparison.studies.made_up import known, study, table


def gains(mean, spread):
    """Records by which BaLoRA gains mean ± spread, seed by seed in turn."""

    def loss(run):
        return 1.0 if run.method == "lora" else 1.0 - mean - spread * (-1) ** run.seed

    return known(loss)


def test_more_exact_answers_are_a_gain():
    matches = {"test_exact_match": lambda run: 0.75 if run.method == "balora" else 0.5}
    (found,) = findings(Progress(study(half_width=10.0), known(lambda run: 1.0 + run.seed, **matches)))
    assert (found.exact_match.estimate, found.exact_match.n) == (0.25, 4)
    assert (found.method.exact_match, found.baseline.exact_match) == (0.75, 0.5)


def test_a_study_as_data():
    chosen = study(table("one", ranks=(2, 4)), table("two", methods=("dora", "lora")), maximum=4)
    found = study_json(Progress(chosen, gains(0.3, 0.01)), "sums")
    assert [entry["level"] for entry in found["tables"]] == pytest.approx([1 - 0.05 / 4, 1 - 0.05 / 2])
    assert [entry["baseline"] for entry in found["tables"]] == ["lora", "dora"]
    assert [entry["comparisons"] for entry in found["tables"]] == [2, 1]
    assert found["runs"] == 5 * (2 + 4)  # lora at r = 4 is in both tables
    assert found["hours"] == pytest.approx(30 * 36 / 3600, rel=1e-9)
    assert (found["data"], found["model"], found["pending"]) == ("sums", "tiny", 0)
    assert found["counts"] == {"better": 2, "worse": 1}


def test_the_width_is_told_apart_from_the_place():
    """An interval of ±0.05 around 0.1: narrow enough, wherever it lies."""
    (found,) = findings(Progress(study(half_width=0.05, maximum=400), gains(0.1, 0.1)))
    assert found.effect.n > 4
    assert found.effect.high + found.effect.low > 0.1 >= found.effect.high - found.effect.low
    assert found.reason == "width"


@pytest.mark.parametrize(("widths", "reason"), [(1.9, "width"), (2.1, "decided"), (2.9, "decided")])
def test_seeds_end_by_the_width_where_the_first_have_it(widths, reason):
    """The first ones decide; their interval is so many half-widths wide."""
    lookup = gains(1.0, 0.1)
    (first,) = findings(Progress(study(), lookup))
    wide = first.effect.high - first.effect.low
    (found,) = findings(Progress(study(half_width=wide / widths), lookup))
    assert (found.verdict, found.effect, found.reason) == ("better", first.effect, reason)
