"""One fine-tune: transformers' Trainer, a PEFT adapter, one of `llm.comparison.methods`, one record.

The record uses the field names of PEFT's own method comparison (`run_info`, `train_info`, `meta_info`) where it has
them.
"""

import contextlib
import importlib.metadata
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from lorakappa.llm.adapters.disk import read_adapter
from lorakappa.llm.adapters.factors import NonFiniteError
from lorakappa.llm.comparison.measure import EvaluateEvenly, Stopwatch
from lorakappa.llm.comparison.methods import ChosenMethod, parse_method
from lorakappa.llm.data.models import default_target_modules, load_model
from lorakappa.llm.data.splits import SPLITS, Splits, encode, exact_match
from lorakappa.shared.records import provenance

SCHEDULES = ("constant", "linear", "cosine")


@dataclass(frozen=True)
class Settings:
    """What all runs of a comparison share.

    Attributes:
        model: "tiny", a hub id or a local folder.
        dtype: of the base model; the adapter trains in float32.
        steps: optimizer steps.
        batch_size: examples per micro-batch.
        accumulation: micro-batches per step.
        max_length: tokens; longer examples are dropped.
        schedule: of the learning rate: "constant", "linear" or "cosine" (to 0).
        warmup: share of the steps over which the learning rate rises from 0.
        weight_decay: of AdamW.
        clip: largest norm of the gradient; 0 for no clipping.
        dropout: of the adapter.
        label_smoothing: of the training loss.
        betas: of AdamW.
        epsilon: of AdamW.
        targets: names of the adapted modules; empty for all linear projections of the blocks.
        evaluations: how often the validation loss is measured, beside the start.
        generate: test examples whose answers are generated for the exact match.
        gradient_checkpointing: whether to trade time for memory.
        checkpoint_every: steps between checkpoints that a killed run resumes from; 0 for none.
    """

    model: str = "tiny"
    dtype: str = "float32"
    steps: int = 60
    batch_size: int = 16
    accumulation: int = 1
    max_length: int = 256
    schedule: str = "linear"
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip: float = 1.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    targets: tuple[str, ...] = ()
    evaluations: int = 5
    generate: int = 64
    gradient_checkpointing: bool = False
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: if one is out of range.
        """
        for name in ("steps", "batch_size", "accumulation", "max_length", "evaluations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', ' ')} must be at least 1, not {getattr(self, name)}")
        for name in ("weight_decay", "clip", "generate", "checkpoint_every"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name.replace('_', ' ')} must be finite and at least 0, not {getattr(self, name)}")
        for name in ("warmup", "dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', ' ')} must lie in [0, 1), but is {getattr(self, name)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {self.schedule!r}; choose from {', '.join(SCHEDULES)}")
        if self.evaluations > self.steps:
            raise ValueError(f"{self.evaluations} evaluations need as many steps, but there are {self.steps}")


@dataclass(frozen=True)
class Run:
    """One cell of a comparison with one seed.

    Attributes:
        method: name for `llm.comparison.methods.parse_method`.
        rank: r.
        scale: α/r, which multiplies AB.
        learning_rate: peak of the schedule.
        seed: of the adapter's start and of the data order.
    """

    method: str
    rank: int
    scale: float
    learning_rate: float
    seed: int


def finetune(
    run: Run,
    settings: Settings,
    splits: Splits,
    *,
    work: Path | None = None,
    adapter: Path | None = None,
) -> dict[str, Any]:
    """Trains one adapter and measures it; the same arguments on the same machine give the same losses.

    Args:
        run: the cell and seed.
        settings: what runs share.
        splits: training, validation and test data.
        work: folder for checkpoints, which a killed run resumes from; removed in the end by the caller. Needed if
            `settings.checkpoint_every` is not 0.
        adapter: folder to save the adapter in, as one for the base model as it was: PiSSA, OLoRA and LoRA-GA, which
            change the base weights, are converted by PEFT to twice the rank. None for nowhere.

    Returns:
        The record, JSON-like. `train_info.status` is "success", or "diverged" if the loss or a factor became NaN
        or infinite; then `train_info.metrics` has the evaluations until then and there are no test results.

    Raises:
        OSError: if the model cannot be loaded.
        ValueError: on an unknown method or module, something that is no causal language model, or checkpoints
            without a folder.
    """
    method = parse_method(run.method)
    if settings.checkpoint_every and work is None:
        raise ValueError("checkpoints need a folder: give `work`, or checkpoint_every = 0")
    began = time.perf_counter()
    with _quiet(), tempfile.TemporaryDirectory() as start:
        model, tokenizer = load_model(
            settings.model,
            dtype=settings.dtype,
            device=_device(),
            gradient_checkpointing=settings.gradient_checkpointing,
        )
        data = _encoded(splits, tokenizer, settings)
        set_seed(run.seed)
        model = _with_adapter(model, method, run, settings, data["train"], tokenizer)
        portable = {"path_initial_model_for_weight_conversion": start} if method.rewrites_base else {}
        if adapter is not None and portable:
            model.save_pretrained(start)
        step_callback = method.callback()
        stopwatch = Stopwatch(step_callback)
        callbacks = [*filter(None, [step_callback]), EvaluateEvenly(settings.evaluations), stopwatch]
        trainer = _trainer(model, tokenizer, method, run, settings, data, callbacks, work)
        status, error = "success", ""
        try:
            trainer.train(resume_from_checkpoint=_last_checkpoint(work, settings))
        except (NonFiniteError, torch.linalg.LinAlgError) as diverged:  # type: ignore[attr-defined]  # PEFT's inverse
            status, error = "diverged", " ".join(str(diverged).split())
        if adapter is not None and status == "success" and trainer.is_world_process_zero():
            model.save_pretrained(adapter, **portable)
        final = _final(trainer, tokenizer, splits, data, settings) if status == "success" else {}
    parameters = list(model.parameters())
    return {
        "run": asdict(run),
        "run_info": {
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "total_time": time.perf_counter() - began,
            "experiment_name": f"{run.method}-r{run.rank}",
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
            "peak_memory_of": "GPU tensors" if next(model.parameters()).is_cuda else "process",
            "steps": trainer.state.global_step,
            "metrics": _metrics(trainer.state.log_history),
            **final,
        },
        "meta_info": {
            **provenance(seed=run.seed),
            "package_info": {f"{name}-version": importlib.metadata.version(name) for name in ("transformers", "peft")},
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        },
    }


_ENCODED: dict[tuple[str, str, int], dict[str, list[dict[str, Any]]]] = {}
"""The tokens of the latest data, which the runs of a comparison share."""


def _encoded(splits: Splits, tokenizer: Any, settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Tokens and labels by split, encoded once per process and model."""
    key = (splits.digest, settings.model, settings.max_length)
    if key not in _ENCODED:
        _ENCODED.clear()
        _ENCODED[key] = {
            name: encode(getattr(splits, name), tokenizer, settings.max_length) if getattr(splits, name) else []
            for name in SPLITS
        }
    return _ENCODED[key]


def load_adapted(adapter: Path, model: str | None = None, dtype: str = "auto") -> tuple[Any, Any]:
    """A model with an adapter from disk, ready to be differentiated, and its tokenizer.

    Args:
        adapter: folder written by PEFT.
        model: base model; None for the one that the adapter names.
        dtype: of its weights.

    Returns:
        The PEFT model, its factors requiring gradients, and the tokenizer.

    Raises:
        OSError: if a file is missing or cannot be read.
        ValueError: if the adapter does not fit the model or names none.
    """
    from peft import PeftModel

    base = model or read_adapter(adapter).config.get("base_model_name_or_path")
    if not base:
        raise ValueError(f"{adapter} does not name its base model; give --model")
    with _quiet():
        loaded, tokenizer = load_model(base, dtype=dtype, device=_device())
        try:
            return PeftModel.from_pretrained(loaded, str(adapter), is_trainable=True), tokenizer
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(f"{adapter} does not fit {base}: {str(error).splitlines()[0]}") from None


def validation_batch(splits: Splits, tokenizer: Any, device: torch.device) -> dict[str, torch.Tensor]:
    """All validation examples as one padded batch: input_ids, attention_mask, labels (−100 outside the answers)."""
    encoded = encode(splits.validation, tokenizer, tokenizer.model_max_length)
    return dict(DataCollatorForSeq2Seq(tokenizer, padding=True)(encoded).to(device))


def _device() -> torch.device | None:
    """The GPU of this process, so that initializations from the weights run there; None without one or under FSDP."""
    if not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        return None
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def _with_adapter(
    model: Any, method: ChosenMethod, run: Run, settings: Settings, train: list[dict[str, Any]], tokenizer: Any
) -> Any:
    """The model wrapped by PEFT as the method wants it."""
    from peft import LoraConfig, get_peft_model

    arguments: dict[str, Any] = dict(method.method.config)
    if arguments.get("init_lora_weights") == "lora_ga":
        from peft import LoraGAConfig

        arguments["lora_ga_config"] = LoraGAConfig()
    config = LoraConfig(
        r=run.rank,
        lora_alpha=run.scale * run.rank,  # type: ignore[arg-type]  # PEFT divides it, whatever its type
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets) or default_target_modules(model),
        task_type="CAUSAL_LM",
        **arguments,
    )
    if "lora_ga_config" in arguments:
        _estimate_gradient(model, config, train[: settings.batch_size], tokenizer)
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = settings.model  # "tiny" rather than where it lies
    return adapted


def _estimate_gradient(model: Any, config: Any, examples: list[dict[str, Any]], tokenizer: Any) -> None:
    """LoRA-GA's preparation: the gradient of one batch, which PEFT's initialization reads."""
    from peft.tuners.lora import preprocess_loraga

    batch = DataCollatorForSeq2Seq(tokenizer, padding=True)(examples).to(model.device)

    def train_step() -> None:
        model(**batch).loss.backward()

    preprocess_loraga(model, config, train_step)
    model.zero_grad(set_to_none=True)


def _trainer(
    model: nn.Module,
    tokenizer: Any,
    method: ChosenMethod,
    run: Run,
    settings: Settings,
    data: Mapping[str, list[dict[str, Any]]],
    callbacks: list[TrainerCallback],
    work: Path | None,
) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(work or tempfile.gettempdir()),  # nothing is written there without checkpoints
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=max(settings.batch_size, 32),
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=run.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        adam_epsilon=settings.epsilon,
        max_grad_norm=settings.clip,
        label_smoothing_factor=settings.label_smoothing,
        seed=run.seed,
        data_seed=run.seed,
        eval_strategy="steps",
        eval_steps=settings.steps,  # and by EvaluateEvenly
        eval_on_start=_last_checkpoint(work, settings) is None,
        logging_steps=settings.steps,
        logging_nan_inf_filter=False,
        prediction_loss_only=True,
        save_strategy="steps" if settings.checkpoint_every else "no",
        save_steps=settings.checkpoint_every or 500,
        save_total_limit=1,
        bf16=settings.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to="none",
    )
    optimizer = method.optimizer(
        model,
        lr=run.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        processing_class=tokenizer,
        optimizers=(optimizer, None),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _final(
    trainer: Trainer,
    tokenizer: Any,
    splits: Splits,
    data: Mapping[str, list[dict[str, Any]]],
    settings: Settings,
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


def _plain_config(model: Any) -> dict[str, Any]:
    """PEFT's configuration as JSON-like data."""
    config = model.peft_config["default"].to_dict()
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}


def _last_checkpoint(work: Path | None, settings: Settings) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    if work is None or not settings.checkpoint_every or not work.is_dir():
        return None
    return get_last_checkpoint(str(work))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries' log lines, progress bars and warnings (deprecations between them) off the terminal."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"transformers|peft|accelerate|torch|datasets")
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
