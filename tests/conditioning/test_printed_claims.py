"""Claims on printed numbers: decided exactly from the table, shown and replayed like every other refutation."""

from decimal import Decimal
from statistics import mean

import flint
import pytest
from pydantic import TypeAdapter

from lorakappa.conditioning.claims import CLAIMS, ilora_other_tables
from lorakappa.conditioning.claims.ilora_tables import SCORES, TASKS
from lorakappa.conditioning.schemas.forms import VerdictForm
from lorakappa.conditioning.verification import at_most, equal
from lorakappa.conditioning.verification.printed import average, decimal, leads, printed_claim
from lorakappa.conditioning.verification.report import summary
from tests.test_command_line import call


@pytest.mark.parametrize(
    ("text", "value"), [("91.10", (911, 10)), ("0.05", (1, 20)), ("7", (7, 1)), ("-0.5", (-1, 2)), (".25", (1, 4))]
)
def test_decimals_are_read_exactly(text, value):
    assert decimal(text) == flint.fmpq(*value)


def test_leads_are_over_the_best_of_the_others():
    rows = {"x": [flint.fmpq(3), flint.fmpq(1)], "y": [flint.fmpq(1), flint.fmpq(2)], "z": [flint.fmpq(2)] * 2}
    assert leads(rows, "x", "y") == [2, -1]
    assert leads(rows, "x", "y", "z") == [1, -1]
    assert average(rows, "y") == flint.fmpq(3, 2)


def claim_of(compare, **options):
    return printed_claim("one", "One.", table={"x": ["0.1", "0.2"]}, domain="d", **options)(compare)


def test_what_floats_would_blur_is_decided():
    claim = claim_of(lambda rows: equal(rows["x"][0] + rows["x"][1], decimal("0.3")), recorded="refuted")
    verdict = claim.examine(trials=7, seed=3)
    assert (verdict.verdict, verdict.certified, verdict.counterexample) == ("holds", False, None)
    assert (verdict.trials, verdict.seed, verdict.worst_margin) == (1, 3, 0.0)
    assert not verdict.as_recorded
    assert verdict.evidence == {"exact_instances": 1}


def test_a_refutation_carries_the_table():
    def compare(rows):
        """Too much."""
        return at_most(sum(rows["x"], flint.fmpq(0)), decimal("0.25"))

    claim = claim_of(compare, recorded="refuted", sides=("sum", "limit"))
    verdict = claim.examine()
    assert claim.argument == "Too much."
    assert verdict.certified
    assert verdict.counterexample.as_json() == {"shape": {}, "x": [["0.1", "0.2"]], "left": "3/10", "right": "1/4"}
    assert verdict.as_json()["source"] == "derived here"
    TypeAdapter(VerdictForm).validate_python(verdict.as_json())
    assert summary(verdict) == "3/10 against 1/4"


def test_the_averages_of_table_2_by_another_arithmetic():
    averages = {name: mean(map(Decimal, row)).quantize(Decimal("0.01")) for name, row in SCORES.items()}
    printed = {"LoRA": "88.28", "iLoRA": "89.72", "Preconditioned LoRA": "89.01", "πLoRA": "90.10"}
    assert averages == {name: Decimal(text) for name, text in printed.items()}
    assert {len(row) for row in SCORES.values()} == {len(TASKS)} == {9}


def test_the_task_that_contradicts_the_caption():
    behind = [
        task
        for i, task in enumerate(TASKS)
        if Decimal(SCORES["πLoRA"][i]) < Decimal(SCORES["Preconditioned LoRA"][i])
        or Decimal(SCORES["iLoRA"][i]) < Decimal(SCORES["LoRA"][i])
    ]
    assert behind == ["QQP"]
    assert CLAIMS["ilora-table-2-all-tasks"].examine().counterexample.left == "-39/50"


def test_replay_shows_table_and_sides(monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, "replay", "ilora-table-2-average")
    assert code == 0
    assert "πLoRA = [91.61 97.25 90.44 71.97 95.37 91.44 91.70 92.35 88.73]" in out
    assert "|πLoRA's average − 91.10| = 226/225" in out
    assert "left <= right: violated" in out
    assert "at \n" not in out
    _, out, _ = call(monkeypatch, capsys, "replay", "ilora-table-2-all-but-one")
    assert "left >= right: satisfied" in out


@pytest.mark.parametrize(
    ("id", "sides"),
    [
        ("average", ("226/225", "1/200")),
        ("average-corrected", ("1/225", "1/200")),
        ("all-tasks", ("-39/50", "0")),
        ("all-but-one", ("0", "0")),
    ],
)
def test_verdicts_on_table_2_are_those_on_record(id, sides):
    claim = CLAIMS[f"ilora-table-2-{id}"]
    instance, comparison = claim.evaluate()
    assert claim.examine().as_recorded
    assert (instance.left, instance.right) == sides
    assert comparison.relation == ("<=" if id.startswith("average") else ">=")


@pytest.mark.parametrize(
    ("id", "sides", "relation"),
    [
        ("1-pairs", ("1/100", "0"), ">"),
        ("1-each-against-both", ("-1/10", "0"), ">"),
        ("1-best", ("0", "0"), ">="),
        ("1-ahead", ("0", "0"), ">"),
        ("2-ilora-tasks", ("19/100", "0"), ">"),
        ("2-ilora-average", ("1/900", "1/200"), "<="),
        ("4-all-metrics", ("0", "0"), ">"),
        ("4-all-but-one", ("1/20", "0"), ">"),
        ("7-average", ("1/350", "1/200"), "<="),
        ("7-all-but-one", ("3/20", "0"), ">"),
        ("7-largest-gains", ("29/20", "169/20"), ">="),
        ("7-wnli", ("169/20", "166/25"), ">"),
        ("8-average", ("1/500", "1/200"), "<="),
        ("8-most-tasks", ("3", "5/2"), ">"),
        ("8-baselines", ("18/25", "0"), ">"),
        ("10-average", ("1/500", "1/200"), "<="),
        ("10-highest", ("0", "0"), ">="),
    ],
)
def test_verdicts_on_all_tables_are_those_on_record(id, sides, relation):
    claim = CLAIMS[f"ilora-table-{id}"]
    instance, comparison = claim.evaluate()
    assert claim.examine().as_recorded
    assert (instance.left, instance.right) == sides
    assert comparison.relation == relation


def test_tables_agree_where_they_print_the_same_scores():
    """The paper repeats rows; a slip in one copy is seen here."""
    columns = {
        "1": (ilora_other_tables.METRICS, ilora_other_tables.TABLE_1),
        "2": (TASKS, SCORES),
        "4": (ilora_other_tables.METRICS, ilora_other_tables.TABLE_4),
        "7": (ilora_other_tables.TASKS_7, ilora_other_tables.TABLE_7),
        "8": (ilora_other_tables.SMALL_TASKS, ilora_other_tables.TABLE_8),
        "10": (ilora_other_tables.SMALL_TASKS, ilora_other_tables.TABLE_10),
    }
    seen = {}
    for names, table in columns.values():
        for row, scores in table.items():
            for column, score in zip(names, scores, strict=True):
                ours = row if row == "iLoRA, 4 bits" else row.removesuffix(", 4 bits")
                assert seen.setdefault((ours, column), score) == score
    assert len(seen) == 4 * 5 + 5 + 4 * 9 + 7 + 5 + 5
