"""One fine-tune: transformers' Trainer, a PEFT adapter, one of `llm.comparison.methods`, one record."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, set_seed

from lorakappa.llm.adapters.factors import NonFiniteError
from lorakappa.llm.comparison.adapting import check_adapter, with_adapter
from lorakappa.llm.comparison.leftovers import save_adapter
from lorakappa.llm.comparison.measure import EvaluateEvenly, Stopwatch
from lorakappa.llm.comparison.methods import parse_method
from lorakappa.llm.comparison.record import run_record
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.comparison.trainer import Foretelling, few_visits, last_checkpoint, new_trainer
from lorakappa.llm.data.models import load_model, own_device
from lorakappa.llm.data.quieting import quiet_libraries
from lorakappa.llm.data.splits import SPLITS, Splits
from lorakappa.llm.data.tokens import encode, exact_match
from lorakappa.shared.memory import check_memory
from lorakappa.shared.methods import check_installed

LARGEST_FLOAT32 = 1e38
"""Adapters train in float32."""


def finetune(
    run: Run,
    settings: TrainingSettings,
    splits: Splits,
    *,
    work: Path | None = None,
    adapter: Path | None = None,
    quiet: bool = True,
) -> dict[str, Any]:
    """Trains one adapter and measures it; the same arguments on the same machine give the same losses.

    Args:
        run: the cell and seed.
        settings: what runs share.
        splits: training, validation and test data.
        work: folder for checkpoints, which a killed run resumes from; removed in the end by the caller. Needed if
            `settings.checkpoint_every` is not 0.
        adapter: folder to save the adapter in, as one for the base model as it was: PiSSA, OLoRA and LoRA-GA, which
            change the base weights, are converted by PEFT to twice the rank. None for nowhere. It appears whole or
            not at all.
        quiet: never say how long it will take.

    Returns:
        The record, JSON-like. `train_info.status` is "success", or "diverged" if the loss or a factor became NaN
        or infinite; then `train_info.metrics` has the evaluations until then and there are no test results.

    Raises:
        OSError: if the model cannot be loaded.
        ValueError: on an unknown method or module, something that is no causal language model, checkpoints
            without a folder, or what does not fit into memory.
    """
    method = parse_method(run.method)
    if settings.checkpoint_every and work is None:
        raise ValueError("checkpoints need a folder: give `work`, or checkpoint_every = 0")
    check_run(run, settings, splits)
    began = time.perf_counter()
    with quiet_libraries(), tempfile.TemporaryDirectory() as start:
        model, tokenizer = load_model(
            settings.model,
            dtype=settings.dtype,
            device=own_device(),
            gradient_checkpointing=settings.gradient_checkpointing,
        )
        check_adapter(model, run.rank, settings.targets)
        data = _encoded(splits, tokenizer, settings)
        _check_batch(model, data["train"], settings)
        set_seed(run.seed)
        model = with_adapter(model, method, run, settings, data["train"], tokenizer)
        portable = {"path_initial_model_for_weight_conversion": start} if method.rewrites_base else {}
        if adapter is not None and portable:
            model.save_pretrained(start)
        step_callback = method.callback()
        stopwatch = Stopwatch(step_callback)
        callbacks = [
            *filter(None, [step_callback]),
            EvaluateEvenly(settings.evaluations),
            stopwatch,
            Foretelling(quiet),
        ]
        trainer = new_trainer(model, tokenizer, method, run, settings, data, callbacks, work)
        status, error = "success", ""
        try:
            with few_visits(model):
                trainer.train(resume_from_checkpoint=last_checkpoint(work, settings))
        except (NonFiniteError, torch.linalg.LinAlgError) as diverged:  # type: ignore[attr-defined]  # PEFT's inverse
            status, error = "diverged", " ".join(str(diverged).split())
        if adapter is not None and status == "success" and trainer.is_world_process_zero():
            save_adapter(model, adapter, **portable)
        final = _final(trainer, tokenizer, splits, data, settings) if status == "success" else {}
    return run_record(
        run,
        settings,
        splits,
        model=model,
        state=trainer.state,
        stopwatch=stopwatch,
        seconds=time.perf_counter() - began,
        status=status,
        error=error,
        final=final,
    )


def check_run(run: Run, settings: TrainingSettings, splits: Splits) -> None:
    """Checks what needs neither model nor tokens.

    Raises:
        ValueError: on an unknown method, one whose package is not installed or whose numbers float32 does not have, or
            splits without examples.
    """
    check_installed([run.method])
    method = parse_method(run.method)
    if settings.optimizer != "adamw" and method.method.optimizer is not None:
        raise ValueError(f"{run.method} brings an optimizer of its own, so that {settings.optimizer} means nothing")
    options = method.options
    for name, value in options.items():
        if isinstance(value, float) and name != "power" and not value <= LARGEST_FLOAT32:
            raise ValueError(f"{run.method}: {name} must be at most {LARGEST_FLOAT32:g} in a fine-tune")
    if not run.learning_rate <= LARGEST_FLOAT32 or not run.scaling <= LARGEST_FLOAT32:
        raise ValueError(f"learning rate and scaling must be at most {LARGEST_FLOAT32:g}")
    for name in ("train", "validation", "test"):
        if not getattr(splits, name):
            raise ValueError(f"the {name} split is empty")


def _check_batch(model: Any, train: list[dict[str, Any]], settings: TrainingSettings) -> None:
    """Refuses a batch whose logits alone, and their gradient, do not fit."""
    count = min(settings.batch_size, len(train))
    tokens = max(len(entry["input_ids"]) for entry in train)
    if model.device.type == "cpu":
        check_memory(
            2 * 4 * count * tokens * int(model.config.vocab_size),
            f"the logits of {count} examples of up to {tokens} tokens",
            "choose a smaller --batch-size and more --accumulation",
        )


def _final(
    trainer: Trainer,
    tokenizer: Any,
    splits: Splits,
    data: Mapping[str, list[dict[str, Any]]],
    settings: TrainingSettings,
) -> dict[str, Any]:
    """The results on data that choices must not see: test, and extrapolation where the data has any."""
    found: dict[str, Any] = {}
    for name in ("test", "extrapolate"):
        if not data[name]:
            continue
        metrics = trainer.evaluate(data[name], metric_key_prefix=name)  # type: ignore[arg-type]
        found[f"{name}_loss"] = metrics[f"{name}_loss"]
        if settings.generate:
            found[f"{name}_exact_match"] = exact_match(
                trainer.model, tokenizer, getattr(splits, name)[: settings.generate], batch_size=64
            )
    return found


_ENCODED: dict[tuple[str, str, int], dict[str, list[dict[str, Any]]]] = {}
"""The tokens of the latest data, which the runs of a comparison share."""


def _encoded(splits: Splits, tokenizer: Any, settings: TrainingSettings) -> dict[str, list[dict[str, Any]]]:
    """Tokens and labels by split, encoded once per process and model."""
    key = (splits.digest, settings.model, settings.max_length)
    if key not in _ENCODED:
        _ENCODED.clear()
        _ENCODED[key] = {
            name: encode(getattr(splits, name), tokenizer, settings.max_length) if getattr(splits, name) else []
            for name in SPLITS
        }
    return _ENCODED[key]
