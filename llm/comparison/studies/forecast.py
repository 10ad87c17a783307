"""What a study will take before it is begun: runs, hours from a timed run, memory from the model's configuration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorakappa.llm.comparison.runs import Record
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.comparison.studies.about import Described
from lorakappa.llm.comparison.studies.progress import Progress, run_seconds
from lorakappa.llm.comparison.studies.stages import StudyFolder
from lorakappa.llm.comparison.studies.study import Arm, Study
from lorakappa.llm.data.splits import Example, Splits
from lorakappa.shared.command_line import note
from lorakappa.shared.memory import available, in_words

TRIAL_STEPS = 6
"""Steps of the run that is timed; the first is the slowest, so that the forecast is rather high."""

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 4}

ACTIVATION_BYTES = 17
"""Activations that a decoder layer keeps for the backward pass, in units of tokens times width times bytes of a number:
34 bytes in half precision, attention scores apart (Korthikanti et al. 2022, Reducing Activation Recomputation in Large
Transformer Models, equation 1). A frozen layer keeps less, so that this is rather high."""

LOOKED_AT = 1000
"""Examples whose lengths stand for all."""


@dataclass(frozen=True)
class MemoryForecast:
    """Bytes that one run needs at once.

    Attributes:
        parameters: number of the base model's.
        dtype: of the base model.
        weights: of the base model.
        adapter: parameters of the largest adapter, their gradients and Adam's moments.
        logits: of one micro-batch and their gradient.
        activations: that the backward pass needs.
        tokens: of the longest example looked at.
    """

    parameters: int
    dtype: str
    weights: int
    adapter: int
    logits: int
    activations: int
    tokens: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.adapter + self.logits + self.activations


@dataclass(frozen=True)
class TimeForecast:
    """Seconds of runs, from one that was timed, by the clock: what else the machine did meanwhile is in them.

    Attributes:
        per_step: of an optimizer step.
        fixed: of loading, evaluating and generating.
        peak_memory: bytes that it took; None where the system does not tell.
    """

    per_step: float
    fixed: float
    peak_memory: int | None

    def seconds(self, arm: Arm) -> float:
        """Of a run of an arm."""
        return self.fixed + self.per_step * arm.settings.steps


def memory_forecast(settings: TrainingSettings, rank: int, examples: Sequence[Example]) -> MemoryForecast:
    """What a run needs, from the model's configuration: nothing of its weights is loaded.

    Args:
        settings: of the run.
        rank: r.
        examples: training examples, of which the first give the length.

    Raises:
        OSError: if there is no such model.
        ValueError: if it is no causal language model, or lacks one of the targets.
    """
    from lorakappa.llm.comparison.adapting import adapter_parameters
    from lorakappa.llm.data.models import empty_model

    model, tokenizer = empty_model(settings.model)
    texts = [example.prompt + example.completion for example in examples[:LOOKED_AT]]
    lengths = [len(ids) + 1 for ids in tokenizer(texts)["input_ids"]]
    kept = [length for length in lengths if length <= settings.max_length]
    tokens = max(kept, default=settings.max_length)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    config: Any = model.config
    batch = settings.batch_size * tokens
    layer = ACTIVATION_BYTES * BYTES[settings.dtype] * batch * int(config.hidden_size)
    layers = int(config.num_hidden_layers)
    saved = BYTES[settings.dtype] * batch * int(config.hidden_size)
    return MemoryForecast(
        parameters=parameters,
        dtype=settings.dtype,
        weights=BYTES[settings.dtype] * parameters,
        adapter=16 * adapter_parameters(model, rank, settings.targets),
        logits=2 * 4 * batch * int(config.vocab_size),
        activations=layers * saved + layer if settings.gradient_checkpointing else layers * layer,
        tokens=tokens,
    )


def timed(study: Study, splits: Splits) -> TimeForecast:
    """Makes a short run of the first baseline at the highest rank, and keeps nothing of it.

    Raises:
        OSError: as `llm.comparison.finetuning.finetune`, like what follows.
        ValueError: as there.
    """
    from lorakappa.llm.comparison.finetuning import finetune

    arm = max(study.arms(), key=lambda arm: (arm.method == study.tables[0].methods[0], arm.rank))
    steps = max(TRIAL_STEPS, arm.settings.evaluations)
    settings = replace(arm.settings, steps=steps, checkpoint_every=0)
    run = arm.run(arm.places(arm.learning_rates[:1])[0], study.selection_seeds[0])
    return from_record(finetune(run, settings, splits))


def from_record(record: Record) -> TimeForecast:
    """What a finished run tells of others."""
    info = record["train_info"]
    train = float(info["train_time"])
    return TimeForecast(
        per_step=train / max(1, int(info["steps"])),
        fixed=max(0.0, run_seconds(record) - train),
        peak_memory=info.get("peak_memory"),
    )


def hours(progress: Progress, time: TimeForecast) -> tuple[float, float]:
    """Hours of computing that are left at least and at most, all runs one after the other.

    At least: no grid grows and no arm needs more than the least number of seeds. At most: every grid grows to its limit
    and every arm needs all seeds, or the budget ends.
    """
    study, least, most = progress.study, 0.0, 0.0
    for arm in study.arms():
        selection = progress.selections[arm]
        seconds = progress.expected_seconds(arm) or time.seconds(arm)
        fresh = len(progress.fresh(arm))
        grown = study.extensions * (len(arm.learning_rates) > 1) * len(arm.places(arm.learning_rates[:1]))
        further = 0 if selection.chosen is not None else grown * len(study.selection_seeds)
        least += seconds * (len(selection.missing) + max(0, study.fresh.minimum - fresh))
        most += seconds * (len(selection.missing) + further + study.fresh.maximum - fresh)
    left = max(0.0, study.hours - progress.spent()[0] / 3600) if math.isfinite(study.hours) else math.inf
    return min(least / 3600, left), min(most / 3600, left)


def note_memory(settings: TrainingSettings, rank: int, splits: Splits, *, jobs: int) -> None:
    """Says on stderr what runs of a local model on the CPU will need, if it is much of what is free.

    Args:
        settings: of the runs.
        rank: the largest.
        splits: their data.
        jobs: processes at a time.

    Raises:
        OSError: as `memory_forecast`, like what follows.
        ValueError: as there.
    """
    import torch

    if torch.cuda.is_available() or not Path(settings.model).expanduser().is_dir():
        return
    found, free = memory_forecast(settings, rank, splits.train), available()
    if jobs * found.total > free / 2:
        note(
            f"a run needs about {in_words(found.total)} ({found.parameters:.3g} parameters in {found.dtype}, batches "
            f"of {settings.batch_size}), {jobs} at a time; {in_words(free)} are free"
        )


def forecast_lines(found: Described, splits: Splits, folder: Path, jobs: int) -> list[str]:
    """What a study will take, in lines: runs, hours, memory.

    Args:
        found: the study.
        splits: its data.
        folder: of the study; runs that are there count.
        jobs: processes at a time.
    """
    study, place = found.study, StudyFolder(folder, folder / "data" / splits.digest[:12], splits.digest)
    progress = Progress(study, place.lookup())
    largest = max(study.arms(), key=lambda arm: (arm.rank, arm.settings.batch_size))
    memory = memory_forecast(largest.settings, largest.rank, splits.train)
    time = timed(study, splits)
    least, most = hours(progress, time)
    peak = "" if time.peak_memory is None else f"; {in_words(time.peak_memory)} in the timed run"
    free = available()
    room = f", {in_words(free)} are free" if math.isfinite(free) else ""
    lines = [
        f"{study.name}: {len(study.contrasts())} contrasts in {len(study.tables)} tables, {len(study.arms())} arms",
        f"runs: {progress.spent()[1]} made, {study.least_runs()} to {study.most_runs()} in all",
        f"time: {1000 * time.per_step:.3g} ms a step and {time.fixed:.2g} s besides, with the machine as busy as it is "
        f"now, so {least:.2g} to {most:.2g} hours of computing are left, {least / jobs:.2g} to {most / jobs:.2g} with "
        f"{jobs} at a time",
        f"memory of a run: about {in_words(memory.total)} ({memory.parameters:.3g} parameters in {memory.dtype} "
        f"{in_words(memory.weights)}, adapter {in_words(memory.adapter)}, logits of {memory.tokens} tokens "
        f"{in_words(memory.logits)}, activations {in_words(memory.activations)}){peak}; {jobs} at a time{room}",
    ]
    if jobs * memory.total > free:
        lines.append("that is more than there is: take fewer --jobs")
    return lines
