"""Work that cannot fit is refused with both numbers."""

from pathlib import Path

import pytest

from lorakappa.shared import memory


def test_memory_that_is_not_there_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2.0 * 2**30)
    memory.check_memory(2**31, "this")
    expected = r"9 seeds would take 8 GiB of memory, but only 2 GiB are free; ask for fewer"
    for kind in (ValueError, MemoryError):
        with pytest.raises(kind, match=expected):
            memory.check_memory(2**33, "9 seeds", "ask for fewer")
    with pytest.raises(memory.TooLargeError, match=r"would take 10\^400 bytes of memory"):
        memory.check_memory(10**400, "9 seeds")
    monkeypatch.setattr(memory, "available", lambda: float("inf"))
    memory.check_memory(10**300, "where nobody knows")


def test_available_memory_is_that_of_the_system_or_of_the_container(monkeypatch, tmp_path):
    assert 2**20 < memory.available() < 2**50
    system, limit = "MemTotal: 99 kB\nMemAvailable: 1000 kB\n", tmp_path / "max"
    monkeypatch.setattr(memory, "LIMITS", (str(limit),))
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, **how: system if str(path) == "/proc/meminfo" else read(path, **how)
    )
    assert memory.available() == 1_024_000
    limit.write_text("max\n")
    assert memory.available() == 1_024_000
    limit.write_text("5000\n")
    assert memory.available() == 5000


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (1023, "1.02e+03 bytes"), (1024, "1 KiB"), (1.5 * 2**30, "1.5 GiB"), (2**70, "1.02e+03 EiB")],
)
def test_sizes_in_words(size, words):
    assert memory.in_words(size) == words
