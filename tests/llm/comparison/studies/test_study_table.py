"""The findings of a study as a table: what each cell and note says, from rows written by hand."""

import pytest

from lorakappa.llm.comparison.studies.tables import closing, study_markdown, study_table


def arm(variant, **changes):
    return {
        "variant": variant,
        "scaling": 1.0,
        "learning_rate": 0.01,
        "at_edge": False,
        "exact_match": 0.5,
        "diverged": 0,
        **changes,
    }


def row(**changes):
    return {
        "table": "methods",
        "method": "ilora",
        "baseline": "lora",
        "rank": 8,
        "steps": 60,
        "start": None,
        "verdict": "better",
        "effect": {"estimate": 0.0425, "low": 0.0211, "high": 0.0639, "n": 10},
        "method_arm": arm("ilora:lambda=1", exact_match=0.75),
        "baseline_arm": arm("lora"),
        "needed": 10,
        "to_decide": None,
        "reason": "decided",
        **changes,
    }


def cells(*rows):
    """The texts of the table's columns, a list a row."""
    table = study_table({"findings": list(rows), "confidence": 0.95, "delta": 0.01})
    return [list(texts) for texts in zip(*(column.cells for column in table.columns), strict=True)]


def test_the_cells_of_a_row():
    (found,) = cells(row())
    assert found == [
        "methods", "8", "60", "", "ilora:lambda=1", "+0.0425 [+0.0211, +0.0639]", "better", "10", "0.01",
        "0.500 → 0.750", "",
    ]  # fmt: skip


def test_what_is_not_known_is_empty():
    nothing = {"estimate": None, "low": None, "high": None, "n": 0}
    one = {**nothing, "estimate": -0.25, "n": 1}
    assert cells(row(effect=nothing, method_arm=None))[0][4:10] == ["ilora", "", "better", "0", "", ""]
    assert cells(row(effect=one, baseline_arm=arm("lora", exact_match=None)))[0][5:10:4] == ["-0.2500", ""]


def test_starts_and_edges_are_told():
    (found,) = cells(row(start=0.01, method_arm=arm("ilora", at_edge=True)))
    assert found[3] == "0.01"
    assert found[8].endswith("0.01 (edge)")


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"reason": "maximum", "needed": 45}, "ended by the maximum; 45 seeds for the width"),
        ({"reason": "budget", "needed": 45}, "ended by the budget; 45 seeds for the width"),
        ({"reason": "budget", "needed": None}, ""),
        ({"reason": "width", "to_decide": 30}, "about 30 seeds to decide at this mean"),
        ({"reason": "unfinished"}, "unfinished"),
        ({"method_arm": None, "reason": "unfinished"}, "ilora: no cell chosen; unfinished"),
        (
            {"method_arm": arm("ilora", diverged=2), "baseline_arm": arm("lora", diverged=1)},
            "lora: 1 diverged; ilora: 2 diverged",
        ),
    ],
)
def test_notes(changes, note):
    assert cells(row(**changes))[0][-1] == note


def test_places_name_what_differs_within_a_table():
    table = {"name": "methods", "baseline": "lora", "methods": ["lora", "ilora"], "ranks": [2, 8], "steps": [60, 600]}
    rows = [row(rank=rank, steps=steps) for rank in (2, 8) for steps in (60, 600)]
    head = study_markdown({"tables": [table], "findings": rows}).splitlines()[0]
    places = "r = 2, 60 steps | r = 2, 600 steps | r = 8, 60 steps | r = 8, 600 steps"
    assert head == f"| methods: gain over `lora` | {places} |"


def test_the_last_line():
    found = {"counts": {"worse": 2, "better": 1}, "runs": 12, "hours": 0.1234, "pending": 0}
    assert closing(found) == "1 better, 2 worse; 12 runs, 0.12 hours of computing; nothing left to run"
    assert closing(found | {"pending": 3}).endswith("; 3 runs to be made next")
