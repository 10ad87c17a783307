"""The benchmarks compare within rounds, say whether goals are reached, and write what the figure reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lorakappa.figures.schemas import Benchmarks

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import compare

    return compare


def row(compare, **changes):
    timings = {
        "ours": compare.Timing((1.0, 2.0, 4.0)),
        "slow": compare.Timing((4.0, 6.0, 40.0)),
        "fast": compare.Timing((0.5, 1.0, 2.0)),
    }
    return compare.Row("work", "setting", timings, **changes)


def test_ratios_are_taken_within_rounds(compare):
    made = row(compare)
    assert made.ours.median == 2.0
    assert made.ratio("slow") == (4.0, (4.0 + 10.0) / 2 - (3.0 + 4.0) / 2)
    assert made.ratio("fast") == (0.5, 0.0)
    assert made.peers == ["slow", "fast"]


def test_goals(compare):
    goals = (compare.Goal(4.0, "slow"), compare.Goal(0.6, "fast"), compare.Goal(5.0), compare.Goal(5.1))
    made = row(compare, goals=goals, amount=10, unit="pairs")
    assert [made.reached(goal) for goal in goals] == [True, False, True, False]
    record = made.record()
    assert record["reached"] == [True, False, True, False]
    assert record["rate"] == 5.0
    assert record["ratios"]["slow"]["median"] == 4.0
    assert record["seconds"] == {"ours": 2.0, "slow": 6.0, "fast": 1.0}


def test_every_call_has_its_turn_in_every_round(compare):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    found = compare.measure(calls, rounds=3)
    assert [len(found[name].seconds) for name in "ab"] == [3, 3]
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns == list("ab" * 4)  # warming up, then three rounds


@pytest.fixture
def shares(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import shares

    return shares


class Steps:
    """A function that calls another one; each turn of a made-up clock is a second."""

    def __init__(self):
        self.now = 0.0

    def inner(self):
        self.now += 3

    def outer(self):
        self.now += 1
        self.inner()
        self.inner()

    def whole(self):
        self.now += 2
        self.outer()


def test_parts_are_counted_without_the_parts_inside_them(shares, monkeypatch):
    steps = Steps()
    monkeypatch.setattr(shares.time, "thread_time", lambda: steps.now)
    parts = {"outer": [(Steps, "outer")], "inner": [(Steps, "inner")]}
    seconds, found = shares.shares(steps.whole, parts, calls=5, rest="rest")
    assert seconds == 9
    assert found == {"outer": pytest.approx(1 / 9), "inner": pytest.approx(6 / 9), "rest": pytest.approx(2 / 9)}
    assert Steps.outer.__qualname__ == "Steps.outer"  # nothing stays wrapped


def test_a_part_that_fails_is_counted_and_unwrapped(shares, monkeypatch):
    steps = Steps()
    monkeypatch.setattr(shares.time, "thread_time", lambda: steps.now)
    monkeypatch.setattr(Steps, "inner", lambda self: 1 / 0)
    with shares.Spans({"outer": [(Steps, "outer")]}) as spans, pytest.raises(ZeroDivisionError):
        steps.outer()
    assert spans.seconds == {"outer": 1}
    assert Steps.outer.__qualname__ == "Steps.outer"


def test_the_table_of_limits_starts_with_the_largest_part(shares):
    row = {"row": "P", "wanted": "≤ 1", "measured": "2", "parts": {"a": 0.3, "b": 0.69, "c": 0.01}, "why": "b stays"}
    assert shares.table({"rows": [row]}).splitlines()[2] == "| P | ≤ 1 | 2 | b 69 %, a 30 % | b stays |"


def test_the_page_shows_the_record_of_what_limits_the_benchmarks(shares):
    record = json.loads((FOLDER / "limits.json").read_text(encoding="utf-8"))
    assert f"\n\n{shares.table(record)}\n\n" in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert record["provenance"]["versions"]["torch"]


def run(*arguments, folder, script="run.py"):
    command = [sys.executable, str(FOLDER / script), *arguments, "--out", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_unknown_topics_are_named(tmp_path):
    done = run("--topics", "balance,speed", folder=tmp_path)
    assert done.returncode == 2
    assert "topics must be some of balance, " in done.stderr
    assert "not speed" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_quick_run_writes_what_the_figure_reads(tmp_path):
    done = run("--quick", "--topics", "balance,training_step,condition_number", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "benchmarks.json").read_text())
    assert {made["topic"] for made in record["rows"]} == {"balance", "training_step", "condition_number"}
    assert record["provenance"]["versions"]["torch"]
    Benchmarks.model_validate(record)
    assert "loop of SVDs" in done.stdout


@pytest.mark.slow
def test_what_limits_the_benchmarks_is_measured_in_shares(tmp_path, shares):
    topics = ("simulator", "training_step", "convergence", "finetuning", "balance")
    done = run("--topics", ",".join(topics), folder=tmp_path, script="limits.py")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "limits.json").read_text())
    assert {row["topic"] for row in record["rows"]} == set(topics)
    for row in record["rows"]:
        assert sum(row["parts"].values()) == pytest.approx(1)
        assert all(share > 0 for part, share in row["parts"].items() if part != "pairs with r > min(a, b)")
    assert len(shares.table(record).splitlines()) == 2 + len(record["rows"])
