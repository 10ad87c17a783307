"""Results that a report lacks are made: in which order, how many at a time, and what is said of those that fail."""

import sys

import pytest

from lorakappa.figures.report import making
from lorakappa.figures.report.parts import PARTS, Part


class Ended:
    """A process that has ended, or does so when it is told to."""

    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code

    def terminate(self):
        self.code = -15

    def wait(self):
        assert self.code is not None
        return self.code


def sized(name, *, seconds=1.0, memory=1, **options):
    return Part(name, (f"{name}.json",), f"make {name}", seconds=seconds, memory=memory, **options)


@pytest.fixture
def few(monkeypatch):
    """Four parts, one of which needs another, a list of what was run for them, and what fails or never ends."""
    ran, broken = [], {}
    parts = {
        "second": Part("second", ("second.json",), "make second", needs=("first",)),
        "first": Part("first", ("first.json",), "make first"),
        "third": Part("third", ("third.json",), "make third", also_fine=(1,)),
        "bench": Part("bench", ("bench.json",), "", made_here=False),
    }

    def start(part, folder, jobs, said):
        ran.append(part.name)
        if part.name in broken:
            if said is not None:
                said.write_text(f"a line\nsome warning\nerror: no {part.name}\n\n")
            return Ended(broken[part.name])
        folder.mkdir(exist_ok=True)
        (folder / part.files[0]).write_text("{}")
        return Ended(1 if part.also_fine else 0)

    monkeypatch.setattr(making, "PARTS", parts)
    monkeypatch.setattr(making, "_start", start)
    return ran, broken


def test_only_what_is_missing_is_made(few, tmp_path, capfd):
    ran, _ = few
    assert making.make_missing(tmp_path, jobs=1) == []
    assert ran == ["first", "second", "third"]
    said = capfd.readouterr().err
    assert said.startswith("3 results to make: about 15 seconds on 1 core; Ctrl-C ends it\n")
    assert "\n2 of 3: lorakappa make second (0 s)\n" in said
    (tmp_path / "second.json").unlink()
    assert making.make_missing(tmp_path, quiet=True) == []
    assert ran[3:] == ["second"]
    assert capfd.readouterr().err == ""
    assert making.make_missing(tmp_path) == []
    assert ran[4:] == []
    assert capfd.readouterr().err == ""


def test_a_part_that_fails_hides_no_other(few, tmp_path):
    ran, broken = few
    broken["first"] = 2
    assert making.make_missing(tmp_path, jobs=1) == [
        "second was not made, since it needs first",
        "first failed with exit code 2: lorakappa make first; error: no first",
    ]
    assert ran == ["first", "third"]
    assert (tmp_path / "third.json").is_file()


def test_cores_are_counted_and_named(few, tmp_path, monkeypatch, capfd):
    assert making.make_missing(tmp_path, jobs=2) == []
    assert "about 10 seconds on 2 cores; Ctrl-C" in capfd.readouterr().err  # first, then second
    (tmp_path / "first.json").unlink()
    monkeypatch.setattr(making.os, "cpu_count", lambda: None)
    assert making.make_missing(tmp_path) == []
    assert "about 5 seconds on 1 core; Ctrl-C" in capfd.readouterr().err


def test_what_takes_all_cores_speaks_for_itself(few, tmp_path, monkeypatch, capfd):
    ran, broken = few
    monkeypatch.setitem(making.PARTS, "all", sized("all", shares=True))
    broken["all"] = 2
    assert making.make_missing(tmp_path, jobs=1) == ["all failed with exit code 2: lorakappa make all"]
    assert making.make_missing(tmp_path, jobs=1, quiet=True) == [
        "all failed with exit code 2: lorakappa make all; error: no all"
    ]
    assert ran == ["all", "first", "second", "third", "all"]


def test_a_command_that_said_nothing_has_no_last_words(tmp_path):
    (tmp_path / "said").write_text("\n \n")
    assert making._last_words(tmp_path / "said") == making._last_words(None) == ""


def test_a_part_that_ends_well_and_writes_nothing_has_failed(few, tmp_path):
    _, broken = few
    broken["third"] = 0
    assert making.make_missing(tmp_path) == [
        "third failed with exit code 0: lorakappa make third; error: no third",
    ]


def test_a_stop_ends_what_runs_and_says_what_stays(few, tmp_path, monkeypatch, capfd):
    ran, broken = few
    broken["second"] = None  # runs for ever

    def interrupted(seconds):
        assert 0 < seconds < 1  # soon enough for whoever waits
        if "second" in ran:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(making.time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            making.make_missing(tmp_path, jobs=1, quiet=True)
    assert capfd.readouterr().err.startswith("stopped at second: what was made before stays")
    del broken["second"]
    assert making.make_missing(tmp_path, jobs=1, quiet=True) == []
    assert ran == ["first", "second", "second", "third"]


def test_what_is_needed_comes_first_then_the_longest_and_what_takes_all_cores_alone():
    parts = [
        sized("short"),
        sized("after", seconds=9, needs=("adapter",)),
        sized("long", seconds=8),
        sized("adapter", seconds=2),
        sized("all", seconds=1, shares=True),
    ]
    waiting = making._in_order(parts)
    assert [part.name for part in waiting] == ["all", "adapter", "after", "long", "short"]
    everything, adapter, after, long, short = waiting
    assert making._next(waiting, [], 2, 9) is everything
    assert making._next(waiting[1:], [everything], 2, 9) is None
    assert making._next(waiting[1:], [], 2, 9) is adapter
    assert making._next([after, long, short], [adapter], 2, 9) is long  # not what needs what is being made
    assert making._next([after, short], [adapter, long], 2, 9) is None
    assert making._next([after, short], [long], 2, 9) is after
    assert making._next([everything], [short], 2, 9) is None
    assert making._next([], [], 2, 9) is None


def test_as_many_run_side_by_side_as_memory_allows():
    large, small = sized("large", memory=6), sized("small", memory=4)
    assert making._next([small], [large], 2, 10) is small
    assert making._next([small], [large], 2, 9) is None
    assert making._next([large, small], [small], 2, 9) is small  # a smaller one goes first
    assert making._next([large], [], 2, 5) is large  # alone it is tried


def test_forecast_is_the_work_by_core_or_the_longest_chain():
    parts = [sized(name, seconds=10) for name in "abcd"]
    assert making.forecast(parts, 1) == 40
    assert making.forecast(parts, 2) == 20
    chain = [sized("x", seconds=30, needs=("a",)), *parts]
    assert making.forecast(chain, 2) == 40
    assert making.forecast(chain[:1], 2) == 30  # what it needs is there
    assert making.forecast([*parts, sized("all", seconds=100, shares=True)], 2) == 70
    assert making.forecast([], 2) == 0


def test_commands_are_run_as_they_are_told(monkeypatch, tmp_path):
    seen = []

    def popen(command, *, env, stderr=None, stdout):
        seen.append((command, env.get(making.THREADS), None if stderr is None else stderr.name))

    monkeypatch.setattr(making.subprocess, "Popen", popen)
    monkeypatch.delenv(making.THREADS, raising=False)
    monkeypatch.setattr(making.os, "cpu_count", lambda: 8)
    making._start(PARTS["audit"], tmp_path / "a b", 2, tmp_path / "said")
    monkeypatch.setenv(making.THREADS, "3")
    making._start(PARTS["verdicts"], tmp_path, 2, None)
    monkeypatch.delenv(making.THREADS)
    making._start(PARTS["sources"], tmp_path, 16, None)  # more commands than cores
    monkeypatch.setattr(making.os, "cpu_count", lambda: None)
    making._start(PARTS["sources"], tmp_path, 1, None)
    before = [sys.executable, "-m", "lorakappa"]
    assert seen == [
        (
            [*before, "llm", "audit", f"{tmp_path}/a b/adapter", "--json", f"{tmp_path}/a b/audit.json"],
            "4",
            str(tmp_path / "said"),
        ),
        ([*before, "verify", "--json", f"{tmp_path}/verdicts.json"], "3", None),
        *[([*before, "sources", "--json", f"{tmp_path}/sources.json"], "1", None)] * 2,
    ]
    making._start(PARTS["verdicts"], tmp_path, 2, None)
    assert seen[-1][1] is None  # what divides its work among all cores decides itself
