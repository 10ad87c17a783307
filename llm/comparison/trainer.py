"""The Hugging Face Trainer of one run: its arguments, optimizer and callbacks, and the checkpoint it goes on from."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from lorakappa.llm.comparison.methods import ChosenMethod
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.data.tokens import IGNORED
from lorakappa.shared.forecast import PATIENCE_SECONDS, announce, check_duration


def new_trainer(
    model: nn.Module,
    tokenizer: Any,
    method: ChosenMethod,
    run: Run,
    settings: TrainingSettings,
    data: Mapping[str, list[dict[str, Any]]],
    callbacks: list[TrainerCallback],
    work: Path | None,
) -> Trainer:
    """A Trainer for one run.

    Args:
        model: with its adapter.
        tokenizer: of the model.
        method: whose optimizer it gets.
        run: learning rate and seed.
        settings: everything else.
        data: encoded examples; "train" and "validation" are used.
        callbacks: its only ones beside the Trainer's own.
        work: folder for checkpoints; None for nowhere.

    Returns:
        The Trainer, which has not trained yet.
    """
    arguments = TrainingArguments(
        output_dir=str(work or tempfile.gettempdir()),  # nothing is written there without checkpoints
        max_steps=settings.steps,
        per_device_train_batch_size=min(settings.batch_size, len(data["train"])),
        per_device_eval_batch_size=max(min(settings.batch_size, len(data["train"])), 32),
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
        eval_on_start=last_checkpoint(work, settings) is None,
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
    optimizer = _optimizer(model, method, run, settings)
    trainer = LeanTrainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=Padding(tokenizer.pad_token_id, tokenizer.padding_side),
        processing_class=tokenizer,
        optimizers=(optimizer, None),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _optimizer(
    model: nn.Module, method: ChosenMethod, run: Run, settings: TrainingSettings
) -> torch.optim.Optimizer | None:
    """The optimizer of a run; None for the Trainer's AdamW."""
    if settings.optimizer == "sgd":
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return torch.optim.SGD(
            trained, lr=run.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
    return method.optimizer(
        model,
        lr=run.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
    )


class LeanTrainer(Trainer):
    """The Trainer without what costs a small model as much as its arithmetic and no record has: a count of operations.

    Counting them goes through all modules at every step, 3 ms of the tiny model's 30.
    """

    def floating_point_ops(self, inputs: dict[str, torch.Tensor | Any]) -> int:
        """None are counted."""
        return 0


class Padding:
    """Batches of encoded examples, as `DataCollatorForSeq2Seq` makes them for causal models, in a tenth of its time.

    Args:
        pad: token for the places beyond an example.
        side: "right" or "left", where those are.
    """

    def __init__(self, pad: int, side: str = "right") -> None:
        self._fill = {"input_ids": pad, "attention_mask": 0, "labels": IGNORED}
        self._right = side == "right"

    def __call__(self, examples: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
        """(n, length) int64 tensors: input_ids, attention_mask, labels."""
        length = max(len(example["input_ids"]) for example in examples)

        def padded(values: list[int], fill: int) -> list[int]:
            more = [fill] * (length - len(values))
            return values + more if self._right else more + values

        return {
            name: torch.tensor([padded(example[name], fill) for example in examples])
            for name, fill in self._fill.items()
        }


@contextmanager
def few_visits(model: nn.Module) -> Iterator[None]:
    """Within, a model is not searched through at every step for what stays as it is.

    `model.train(mode)` does nothing where the model is in that mode already, and `model.parameters()` are those that
    train, found once: the Trainer clips and clears their gradients, and the others have none. Nobody changes the mode
    of single modules meanwhile, or what trains.
    """
    switch = model.train
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def train(mode: bool = True) -> nn.Module:
        return model if model.training is mode else switch(mode)

    model.train(True)
    model.train = train  # type: ignore[method-assign]
    model.parameters = lambda recurse=True: iter(trained)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.train, model.parameters


class Foretelling(TrainerCallback):
    """Says after the first seconds of a training how long it will take, if that is long."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._said = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Starts the clock."""
        self._began, self._first = time.perf_counter(), state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Looks at the clock, once."""
        passed = time.perf_counter() - self._began
        if not self._said and passed > PATIENCE_SECONDS:
            self._said = True
            expected = passed * (state.max_steps - self._first) / (state.global_step - self._first)
            check_duration(expected, f"{state.max_steps} steps", "ask for fewer --steps")
            announce(expected, f"{state.max_steps} steps", quiet=self._quiet)


def last_checkpoint(work: Path | None, settings: TrainingSettings) -> str | None:
    """The checkpoint from which a killed run goes on; None if there is none."""
    if work is None or not settings.checkpoint_every or not work.is_dir():
        return None
    return get_last_checkpoint(str(work))
