"""What a comparison says, on records whose numbers are known."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from lorakappa.figures.drawing import draw_all, names_for
from lorakappa.llm.comparison.summary import comparison_table, description, save
from lorakappa.shared.records import read_npz
from tests.llm.comparison.outcomes import curved, diverged, fake_record, outcome_of


def example():
    """Two ranks; the largest learning rate diverges for BaLoRA, one seed of another cell for LoRA."""

    def make(run):
        if (run.method, run.learning_rate) == ("balora", 1e-2):
            return diverged(run)
        if (run.method, run.learning_rate, run.seed) == ("lora", 1e-4, 1):
            return diverged(run)
        loss = curved(run) + 0.01 * run.seed - 0.2 * (run.method == "balora") - 0.01 * run.rank
        options = {"method_seconds": 0.05, "test_exact_match": 0.75} if run.method == "balora" else {"seconds": 0.6}
        return fake_record(run, (3.0, 2.0, loss), **options)

    return outcome_of(make, ranks=(2, 8), failures=["lora-x: RuntimeError: out of memory"])


def test_description():
    found = description(example())
    assert (found["model"], found["data"], found["baseline"]) == ("tiny", "sums", "lora")
    assert (found["methods"], found["ranks"], found["scalings"]) == (["lora", "balora"], [2, 8], [1.0])
    assert (found["strengths"], found["seeds"], found["steps"]) == ([1.0], [0, 1, 2], 20)
    assert found["settings"]["evaluations"] == 2
    assert found["failures"] == ["lora-x: RuntimeError: out of memory"]
    assert len(found["cells"]) == 2 * 2 * 3
    lost, split = found["cells"][8], found["cells"][0]
    assert (lost["method"], lost["variant"], lost["rank"], lost["learning_rate"]) == ("balora", "balora", 2, 1e-2)
    assert (lost["validation_loss"], lost["status"], lost["scaling"]) == ([None] * 3, ["diverged"] * 3, 1.0)
    assert split["learning_rate"] == 1e-4
    assert split["status"] == ["ok", "diverged", "ok"]
    assert split["validation_loss"] == [pytest.approx(1.0), None, pytest.approx(1.02)]
    assert [(entry["method"], entry["rank"]) for entry in found["best"]] == [
        ("lora", 2), ("lora", 8), ("balora", 2), ("balora", 8)
    ]  # fmt: skip
    lora, balora = found["best"][0], found["best"][2]
    assert (lora["learning_rate"], lora["at_edge"], lora["scaling"], lora["variant"]) == (1e-3, False, 1.0, "lora")
    assert lora["validation_loss"] == pytest.approx([0.98, 0.99, 1.0])
    assert lora["test_loss"] == pytest.approx([1.08, 1.09, 1.1])
    assert lora["exact_match"] == [None] * 3
    assert balora["exact_match"] == [0.75] * 3
    assert balora["extrapolate_loss"] == balora["extrapolate_exact_match"] == [None] * 3
    assert balora["seconds_per_step"] == pytest.approx([0.5] * 3)
    assert balora["method_seconds_per_step"] == pytest.approx([0.05] * 3)
    assert balora["peak_memory_bytes"] == [1000] * 3
    assert balora["window"][1] == pytest.approx(1e-3)  # its neighbour above diverged
    assert balora["decades"] == pytest.approx(0.79 * 0.01 / 0.02, rel=1e-3)
    assert [entry["rank"] for entry in found["comparisons"]] == [2, 8]
    for entry in found["comparisons"]:
        assert (entry["method"], entry["quantity"], entry["n"]) == ("balora", "test_loss", 3)
        assert (entry["low"], entry["estimate"], entry["high"]) == pytest.approx((0.2, 0.2, 0.2))


def test_what_is_saved_can_be_drawn(tmp_path):
    outcome = example()
    files = save(outcome, tmp_path)
    assert [path.name for path in files] == ["llm-compare.npz", "llm-compare.json"]
    arrays = read_npz(files[0])
    np.testing.assert_array_equal(arrays["eval_steps"], [0, 10, 20])
    for name in ("validation_loss", "seconds", "gap", "kappa_bound"):
        assert arrays[name].shape == (4, 3, 3)
    np.testing.assert_allclose(arrays["validation_loss"][2, :, -1], [0.78, 0.79, 0.8])
    np.testing.assert_allclose(arrays["seconds"][0, 0], [0, 6, 12])
    np.testing.assert_allclose(arrays["gap"][3, 2], [0.5, 0.25, 0.5 / 3])
    np.testing.assert_array_equal(arrays["kappa_bound"][1, 1], [math.inf, 10, 20])
    meta = json.loads(files[1].read_text())
    assert meta["experiment"] == "llm-compare"
    assert meta["provenance"]["seed"] == 0
    assert {"nan", "inf", "-inf"}.isdisjoint(files[1].read_text().split('"'))
    drawn = draw_all(names_for("llm-compare"), tmp_path, tmp_path)
    assert len(drawn) == 6
    assert all(path.stat().st_size > 5000 for path in drawn)


@pytest.mark.parametrize("case", ["one seed", "nothing trained", "baseline did not train", "one rate"])
def test_sparse_outcomes_can_be_saved_drawn_and_printed(case, tmp_path):
    if case == "one seed":
        outcome = outcome_of(fake_record, seeds=(3,))
    elif case == "nothing trained":
        outcome = outcome_of(diverged)
    elif case == "one rate":
        outcome = outcome_of(fake_record, rates=(1e-3,))
    else:
        outcome = outcome_of(lambda run: diverged(run) if run.method == "lora" else fake_record(run))
    files = save(outcome, tmp_path)
    assert {"nan", "inf", "-inf"}.isdisjoint(files[1].read_text().split('"'))  # missing values are null
    if case in ("one seed", "nothing trained"):
        assert len(draw_all(names_for("llm-compare"), tmp_path, tmp_path)) == 6
    printed = table_text(outcome)
    assert ("no learning rate trained" in printed) == (case in ("nothing trained", "baseline did not train"))


def table_text(outcome):
    stream = io.StringIO()
    Console(width=200, file=stream).print(comparison_table(outcome))
    return stream.getvalue()


def test_the_table():
    rows = [line.split() for line in table_text(example()).splitlines()]
    lora, balora = (next(row for row in rows if row[:2] == ["8", name]) for name in ("lora", "balora"))
    assert lora == ["8", "lora", "0.001", "0.9300", "1.0300", "nan", "0.77", "600"]
    assert balora[:5] == ["8", "balora", "0.001", "0.7300", "0.8300"]
    assert balora[5:7] == ["+0.2", "[+0.2,"]
    assert balora[-3:] == ["0.750", "0.36", "500"]
    assert "(edge)" in table_text(outcome_of(lambda run: fake_record(run, (3.0, curved(run, -2)))))
    assert "means over 3 seeds" in table_text(example())
    assert "gains over lora" in table_text(example())
