"""Claims on printed numbers: decided exactly from the table, shown and replayed like every other refutation."""

from decimal import Decimal
from statistics import mean

import flint
import pytest
from pydantic import TypeAdapter

from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.claims.ilora_tables import SCORES, TASKS
from lorakappa.conditioning.schemas.forms import VerdictForm
from lorakappa.conditioning.verification import at_most, equal
from lorakappa.conditioning.verification.printed import decimal, printed_claim
from lorakappa.conditioning.verification.report import summary
from tests.test_command_line import call


@pytest.mark.parametrize(
    ("text", "value"), [("91.10", (911, 10)), ("0.05", (1, 20)), ("7", (7, 1)), ("-0.5", (-1, 2)), (".25", (1, 4))]
)
def test_decimals_are_read_exactly(text, value):
    assert decimal(text) == flint.fmpq(*value)


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
