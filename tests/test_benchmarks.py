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


def run(*arguments, folder):
    command = [sys.executable, str(FOLDER / "run.py"), *arguments, "--out", str(folder)]
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
