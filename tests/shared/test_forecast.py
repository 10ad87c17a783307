"""Work that cannot end is refused with the time; long work is announced."""

import pytest

from lorakappa.shared import forecast
from lorakappa.shared.grids import parse_grid


def test_more_than_a_year_is_refused():
    forecast.check_duration(forecast.LONGEST_SECONDS, "this")
    with pytest.raises(ValueError, match=r"this would take about 3\.17 years; ask for less"):
        forecast.check_duration(1e8, "this", "ask for less")
    with pytest.raises(ValueError, match="would take"):
        forecast.check_duration(float("nan"), "this")


def test_long_work_is_announced_once_it_is_measured(monkeypatch, capsys):
    clock = iter(range(0, 10_000, 6))
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: next(clock))
    assert list(forecast.tracked(40, "work")) == list(range(40))
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "work: about 8 minutes expected; Ctrl-C ends it"
    clock = iter(range(0, 10_000, 6))
    assert list(forecast.tracked(40, "work", quiet=True)) == list(range(40))
    assert capsys.readouterr().err == ""
    clock = iter(range(0, 10**9, 6))
    with pytest.raises(ValueError, match=r"would take about .* years"):
        next(x for x in forecast.tracked(10**12, "work") if x > 10)


def test_short_work_is_not_announced(capsys):
    assert list(forecast.tracked(3, "work")) == [0, 1, 2]
    forecast.announce(forecast.LONG_SECONDS, "work")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 seconds"), (119, "119 seconds"), (150, "2.5 minutes"), (7200, "2 hours"), (3e5, "3.47 days")],
)
def test_durations_in_words(value, words):
    assert forecast.duration(value) == words


def test_a_grid_has_at_most_a_million_points():
    with pytest.raises(ValueError, match="N must be at most 1000000"):
        parse_grid("1:2:1000001")
