"""Work that cannot fit or end is refused with the numbers; long work is announced."""

import pytest

from lorakappa.shared import forecast
from lorakappa.shared.grids import parse_grid


def test_memory_that_is_not_there_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(forecast, "available_memory", lambda: 2 * 2**30)
    forecast.check_memory(2**31, "this")
    with pytest.raises(ValueError, match="not enough memory for 9 seeds: 8 GiB needed, 2 GiB available; ask"):
        forecast.check_memory(2**33, "9 seeds", "ask for fewer")
    with pytest.raises(ValueError, match="EiB needed"):
        forecast.check_memory(10**400, "9 seeds")
    monkeypatch.setattr(forecast, "available_memory", lambda: None)
    forecast.check_memory(10**400, "where nobody knows")


def test_available_memory_is_that_of_the_system_or_of_the_container(monkeypatch, tmp_path):
    there = forecast.available_memory()
    assert there is None or 2**20 < there < 2**50
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable: 1000 kB\n")
    monkeypatch.setattr(forecast, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(forecast, "CONTAINER_LIMIT", tmp_path / "nowhere")
    assert forecast.available_memory() == 1_024_000
    monkeypatch.setattr(forecast, "CONTAINER_LIMIT", tmp_path / "max")
    (tmp_path / "max").write_text("max\n")
    assert forecast.available_memory() == 1_024_000
    (tmp_path / "max").write_text("5000\n")
    assert forecast.available_memory() == 5000


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
    assert line == "work: about 4 minutes expected; Ctrl-C ends it"
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
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KiB"), (1.5 * 2**30, "1.5 GiB"), (2**70, "1.02e+03 EiB")],
)
def test_sizes_in_words(value, words):
    assert forecast.size(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 seconds"), (119, "119 seconds"), (150, "2.5 minutes"), (7200, "2 hours"), (3e5, "3.47 days")],
)
def test_durations_in_words(value, words):
    assert forecast.duration(value) == words


def test_a_grid_has_at_most_a_million_points():
    with pytest.raises(ValueError, match="N must be at most 1000000"):
        parse_grid("1:2:1000001")
