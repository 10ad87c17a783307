"""What is measured while a run trains: time, memory, balancing gap and κ bound, kept in the Trainer's own log."""

import statistics
import sys
import time
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorakappa.llm.adapters.audit import audit_pair
from lorakappa.llm.adapters.callbacks import StepCallback
from lorakappa.llm.adapters.factors import NonFiniteError
from lorakappa.llm.adapters.pairs import lora_pairs
from lorakappa.llm.adapters.stopwatch import synchronize


class EvaluateEvenly(TrainerCallback):
    """Has a Trainer log and evaluate so many times at even distances, the last time after the last step.

    Args:
        count: at most the number of steps.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Decides, whatever the Trainer's own rule says."""
        now, before = (self.count * step // state.max_steps for step in (state.global_step, state.global_step - 1))
        control.should_log = control.should_evaluate = now > before


class Stopwatch(TrainerCallback):
    """Measures the optimizer steps of a Trainer and adds what it finds to each evaluation in `state.log_history`.

    The entries, which checkpoints carry: `train_time` (seconds of all steps so far, from the first micro-batch to
    after the optimizer; without evaluation and data loading), `method_time` (the part spent in the method's map),
    `peak_memory` (bytes, the largest during any step), and `gap`, `kappa_bound` (medians over the layers). Each
    checkpoint gets an entry of the first three, too.

    Args:
        step_callback: the method's map, if it has one.

    Raises:
        NonFiniteError: from the training, as soon as its loss is NaN or infinite.
    """

    def __init__(self, step_callback: StepCallback | None = None) -> None:
        self.seconds = 0.0
        self.peak_memory: int | None = None
        self._step_callback = step_callback
        self._method_seconds = 0.0
        self._device = torch.device("cpu")
        self._began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Goes on from the clocks of a resumed run."""
        self._device = next(kwargs["model"].parameters()).device
        entry: dict[str, Any] = next((entry for entry in reversed(state.log_history) if "train_time" in entry), {})
        self.seconds = entry.get("train_time", 0.0)
        self.peak_memory = entry.get("peak_memory")
        self._method_seconds = entry.get("method_time", 0.0)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock."""
        reset_peak_memory(self._device)
        synchronize(self._device)
        self._began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Stops it."""
        synchronize(self._device)
        self.seconds += time.perf_counter() - self._began
        peak = peak_memory(self._device)
        if peak is not None:
            self.peak_memory = max(peak, self.peak_memory or 0)
        if control.should_save:
            state.log_history.append({"step": state.global_step, **self._readings()})

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Adds the measures to the entry of an evaluation; stops a training whose loss is not finite."""
        entry: dict[str, Any] = state.log_history[-1]
        for name in ("loss", "eval_loss"):
            if not isfinite(entry.get(name, 0.0)):
                raise NonFiniteError(f"the {'validation' if name == 'eval_loss' else 'training'} loss is not finite")
        if "eval_loss" in entry:
            gap, kappa = conditioning_of(kwargs["model"])
            entry |= {**self._readings(), "gap": gap, "kappa_bound": kappa}

    def _readings(self) -> dict[str, Any]:
        """What a resumed run goes on from."""
        handle = self._step_callback.handle if self._step_callback else None
        return {
            "train_time": self.seconds,
            "method_time": self._method_seconds + (handle.seconds if handle else 0.0),
            "peak_memory": self.peak_memory,
        }


def conditioning_of(model: nn.Module) -> tuple[float, float]:
    """The relative balancing gap and the κ bound of `llm.adapters.audit`, medians over a model's LoRA pairs.

    Args:
        model: a PEFT model.

    Returns:
        Both; the bound is inf where half of the pairs lack rank.

    Raises:
        NonFiniteError: on NaN or infinity in a factor.
    """
    try:
        audits = [audit_pair(pair.A, pair.B, pair.name) for pair in lora_pairs(model)]
    except ValueError as error:
        raise NonFiniteError(str(error)) from None
    gap = statistics.median(audit.relative_gap for audit in audits)
    return gap, statistics.median(audit.kappa_bound for audit in audits)


def reset_peak_memory(device: torch.device) -> None:
    """Starts a new record of the largest memory in use: of a GPU's tensors, or (Linux) of this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int | None:
    """Bytes of that record; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform != "linux":
        return None
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
