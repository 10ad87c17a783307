"""The record of a run: what it was, how it went, by what it was made.

It uses the field names of PEFT's own method comparison (`run_info`, `train_info`, `meta_info`) where it has them.
"""

import importlib.metadata
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from transformers import TrainerState

from lorakappa.llm.comparison.measure import Stopwatch
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.data.splits import Splits
from lorakappa.shared.machine import processor
from lorakappa.shared.methods import VOCABULARY, needed_packages, parse_method_name
from lorakappa.shared.records import provenance


def run_record(
    run: Run,
    settings: TrainingSettings,
    splits: Splits,
    *,
    model: Any,
    state: TrainerState,
    stopwatch: Stopwatch,
    seconds: float,
    status: str,
    error: str,
    final: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a run that has ended.

    Args:
        run: cell and seed.
        settings: what runs share.
        splits: the data.
        model: as it was trained.
        state: the Trainer's, with its log.
        stopwatch: that was among the callbacks.
        seconds: that the whole run took, loading included.
        status: "success" or "diverged".
        error: why it diverged, if it did.
        final: results on the data that choices must not see.

    Returns:
        The record, JSON-like.
    """
    parameters = list(model.parameters())
    packages = needed_packages(run.method)
    return {
        "run": asdict(run),
        "run_info": {
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "total_time": seconds,
            "experiment_name": f"{run.method}-r{run.rank}",
            "method": _plain_method(run.method),
            "train_config": asdict(settings) | {"data": splits.source, "data_digest": splits.digest},
            "peft_config": _plain_config(model),
            "error_msg": error,
        },
        "train_info": {
            "status": status,
            "train_time": stopwatch.seconds,
            "num_trainable_params": sum(p.numel() for p in parameters if p.requires_grad),
            "num_total_params": sum(p.numel() for p in parameters),
            "peak_memory": stopwatch.peak_memory,
            "peak_memory_of": "GPU tensors" if parameters[0].is_cuda else "process",
            "steps": state.global_step,
            "metrics": _metrics(state.log_history),
            **final,
        },
        "meta_info": {
            **provenance(seed=run.seed),
            "package_info": {
                f"{name}-version": importlib.metadata.version(name) for name in ("transformers", "peft", *packages)
            },
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        },
    }


def _metrics(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per evaluation, from the Trainer's log."""
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    return [
        {
            "step": entry["step"],
            "train loss": losses.get(entry["step"]),
            "valid loss": entry["eval_loss"],
            "train time": entry["train_time"],
            "method time": entry["method_time"],
            "gap": entry["gap"],
            "kappa bound": entry["kappa_bound"],
        }
        for entry in log
        if {"eval_loss", "train_time"} <= entry.keys()
    ]


def _plain_method(name: str) -> dict[str, Any]:
    """What a method was: its defaults and what it stands for may change with versions, its name does not."""
    found = parse_method_name(name, "llm")
    described = VOCABULARY[found.base]
    return {
        "base": found.base,
        "options": dict(found.options),
        "every": found.every,
        "summary": described.summary,
        "source": described.source,
    }


def _plain_config(model: Any) -> dict[str, Any]:
    """PEFT's configuration as JSON-like data."""
    config = model.peft_config["default"].to_dict()
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
