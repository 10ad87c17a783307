"""What is measured while a run trains."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lorakappa.conditioning import balancing_gap
from lorakappa.llm import lora_pairs
from lorakappa.llm.adapters.factors import NonFiniteError
from lorakappa.llm.comparison import measure
from lorakappa.llm.comparison.measure import EvaluateEvenly, Stopwatch, conditioning_of, peak_memory
from tests.llm.models import unbalance, with_lora


def test_peak_memory_sees_what_was_allocated_since_the_reset():
    cpu = torch.device("cpu")
    if peak_memory(cpu) is None:
        pytest.skip("the system does not tell")
    measure.reset_peak_memory(cpu)
    before = peak_memory(cpu)
    torch.ones(50_000_000)  # 200 MB, gone again
    assert 150e6 < peak_memory(cpu) - before < 260e6
    measure.reset_peak_memory(cpu)
    assert peak_memory(cpu) - before < 50e6


def test_conditioning_of():
    model = unbalance(with_lora())
    entries = []
    for pair in lora_pairs(model):
        A, B = pair.A.detach().double(), pair.B.detach().double()
        s, t = torch.linalg.svdvals(A), torch.linalg.svdvals(B)
        gap = float(torch.linalg.matrix_norm(A.T @ A - B @ B.T))
        assert gap == pytest.approx(float(balancing_gap(A, B)), rel=1e-6)
        entries.append(
            (gap / float((s**2).sum() + (t**2).sum()), float((s[0] ** 2 + t[0] ** 2) / min(s[-1], t[-1]) ** 2))
        )
    wanted = [float(torch.tensor(column, dtype=torch.float64).quantile(0.5)) for column in zip(*entries, strict=True)]
    assert conditioning_of(model) == pytest.approx(wanted, rel=1e-6)
    with torch.no_grad():
        lora_pairs(model)[3].left[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"self_attn\.o_proj"):
        conditioning_of(model)


@pytest.mark.parametrize(
    ("count", "steps", "expected"),
    [(3, 10, [4, 7, 10]), (1, 5, [5]), (5, 5, [1, 2, 3, 4, 5]), (2, 7, [4, 7]), (4, 10, [3, 5, 8, 10])],
)
def test_evaluations_are_evenly_spread_and_the_last_one_is_after_the_last_step(count, steps, expected):
    evenly, found = EvaluateEvenly(count), []
    for step in range(1, steps + 1):
        control = SimpleNamespace(should_log=None, should_evaluate=None)
        evenly.on_step_end(None, SimpleNamespace(global_step=step, max_steps=steps), control)
        assert control.should_log == control.should_evaluate
        found += [step] * control.should_evaluate
    assert found == expected


class Watched:
    """A training with made-up clocks: each step takes its time, and its memory."""

    def __init__(self, monkeypatch, model=None, handle_seconds=None):
        self.now, self.memory, self.resets = 100.0, 0, 0
        monkeypatch.setattr(measure.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(measure, "peak_memory", lambda device: self.memory)
        monkeypatch.setattr(measure, "reset_peak_memory", lambda device: setattr(self, "resets", self.resets + 1))
        handle = None if handle_seconds is None else SimpleNamespace(seconds=handle_seconds)
        self.watch = Stopwatch(SimpleNamespace(handle=handle))
        self.model = model or torch.nn.Linear(1, 1)
        self.state = SimpleNamespace(log_history=[], global_step=0)
        self.control = SimpleNamespace(should_save=False)

    def begin(self):
        self.watch.on_train_begin(None, self.state, self.control, model=self.model)

    def step(self, seconds, memory, save=False):
        self.now += 50  # evaluation and data loading, which do not count
        self.watch.on_step_begin(None, self.state, self.control)
        self.now += seconds
        self.memory = memory
        self.state.global_step += 1
        self.control.should_save = save
        self.watch.on_step_end(None, self.state, self.control)

    def log(self, **entry):
        self.state.log_history.append(entry)
        self.watch.on_log(None, self.state, self.control, model=self.model)
        return self.state.log_history[-1]


def test_the_clock_runs_during_steps_only_and_the_largest_memory_counts(monkeypatch):
    watched = Watched(monkeypatch, handle_seconds=0.5)
    watched.begin()
    watched.step(2.0, 300)
    watched.step(3.0, 700, save=True)
    watched.step(4.0, 500)
    assert watched.watch.seconds == 9
    assert watched.watch.peak_memory == 700
    assert watched.resets == 3
    readings = {"train_time": 5.0, "method_time": 0.5, "peak_memory": 700}
    assert watched.state.log_history == [{"step": 2, **readings}]  # with the checkpoint
    assert watched.log(loss=0.5) == {"loss": 0.5}
    watched.memory = None
    watched.step(1.0, None)
    assert watched.watch.peak_memory == 700


def test_a_resumed_run_goes_on_from_its_last_reading(monkeypatch):
    watched = Watched(monkeypatch, handle_seconds=0.25)
    older = {"train_time": 1.0, "method_time": 0.1, "peak_memory": 10}
    latest = {"train_time": 20.0, "method_time": 4.0, "peak_memory": 900}
    watched.state.log_history = [{"step": 1, **older}, {"step": 5, **latest}, {"loss": 1.0}]
    watched.begin()
    watched.step(2.0, 800, save=True)
    assert watched.state.log_history[-1] == {
        "step": 1,
        "train_time": 22.0,
        "method_time": 4.25,
        "peak_memory": 900,
    }
    fresh = Watched(monkeypatch)
    fresh.begin()
    assert (fresh.watch.seconds, fresh.watch.peak_memory) == (0.0, None)
    assert fresh.watch._readings() == {"train_time": 0.0, "method_time": 0.0, "peak_memory": None}


def test_an_evaluation_gets_its_measures(monkeypatch):
    model = unbalance(with_lora())
    watched = Watched(monkeypatch, model=model, handle_seconds=0.5)
    watched.begin()
    watched.step(2.0, 300)
    gap, kappa = conditioning_of(model)
    assert watched.log(eval_loss=1.5) == {
        "eval_loss": 1.5,
        "train_time": 2.0,
        "method_time": 0.5,
        "peak_memory": 300,
        "gap": gap,
        "kappa_bound": kappa,
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"loss": math.nan}, "training loss"),
        ({"eval_loss": math.inf}, "validation loss"),
        ({"loss": -math.inf}, "training"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_training(monkeypatch, entry, message):
    with pytest.raises(NonFiniteError, match=message):
        Watched(monkeypatch).log(**entry)


def test_memory_is_read_in_bytes(monkeypatch):
    status = "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t  123 kB\nVmRSS:\t 7 kB\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **_: status)
    monkeypatch.setattr(measure.sys, "platform", "linux")
    assert peak_memory(torch.device("cpu")) == 123 * 1024
    monkeypatch.setattr(measure.sys, "platform", "darwin")
    assert peak_memory(torch.device("cpu")) is None


def test_the_record_of_memory_is_reset_where_the_system_can(monkeypatch):
    written = []
    monkeypatch.setattr(Path, "write_text", lambda self, text, **_: written.append((str(self), text)))
    monkeypatch.setattr(measure.sys, "platform", "darwin")
    measure.reset_peak_memory(torch.device("cpu"))
    assert written == []
    monkeypatch.setattr(measure.sys, "platform", "linux")
    measure.reset_peak_memory(torch.device("cpu"))
    assert written == [("/proc/self/clear_refs", "5")]
