"""A step of a fine-tune of the tiny model inside `compare`, against a bare loop and against the Trainer as it comes.

All three train the same adapter from the same start on 30 batches of 8, and evaluate it as the claims of `verify` do
(64 examples at the start and twice more, 128 in the end). Ours loads the model, too, measures gap and κ bound, and
writes a record. The bare loop is AdamW, clipping and a schedule in twenty lines, on batches padded beforehand.
"""

from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from compare import Goal, Row, measure  # a sibling script
from transformers import DataCollatorForSeq2Seq, Trainer, get_linear_schedule_with_warmup, set_seed

from lorakappa.llm.comparison import finetuning, trainer
from lorakappa.llm.comparison.adapting import with_adapter
from lorakappa.llm.comparison.methods import parse_method
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.data.models import load_model
from lorakappa.llm.data.sources import MATHEMATICS, load_splits
from lorakappa.llm.data.splits import Splits
from lorakappa.llm.data.tokens import encode

WANTED_SECONDS = 0.02
"""A step."""

STEPS, BATCH = 30, 8
SETTINGS = TrainingSettings(
    steps=STEPS, batch_size=BATCH, evaluations=2, generate=0, targets=("q_proj", "v_proj", "down_proj")
)


def rows(quick: bool = False) -> list[Row]:
    """One row for each method.

    Args:
        quick: BaLoRA only.

    Returns:
        The rows: seconds a step, everything included.
    """
    splits = replace(load_splits(MATHEMATICS, train=1000, validation=64, test=128, seed=0), extrapolate=())
    found = []
    for method in ("balora",) if quick else ("lora", "balora"):
        run = Run(method, 8, 1.0, 2e-2, 0)
        records: list[dict[str, Any]] = []
        calls = {
            "compare": lambda run=run, records=records: records.append(finetuning.finetune(run, SETTINGS, splits)),
            "Trainer as it comes": partial(_stock, run, splits),
            "bare loop, no P": _bare(run, splits),
        }
        timings = measure(calls, rounds=3)
        step = sum(record["train_info"]["train_time"] for record in records)
        share = sum(record["train_info"]["metrics"][-1]["method time"] for record in records) / step
        found.append(
            Row(
                "one tiny fine-tune",
                f"{method}, r = 8, {STEPS} steps of {BATCH}",
                timings,
                (Goal(1 / (WANTED_SECONDS * STEPS)),),
                note=f"{1e3 * timings['compare'].median / STEPS:.1f} ms a step; P is {100 * share:.1f} % of the steps",
            )
        )
    return found


def _stock(run: Run, splits: Splits) -> None:
    """The run with the Trainer as transformers has it."""

    def new(**arguments: Any) -> Trainer:
        arguments["data_collator"] = DataCollatorForSeq2Seq(arguments["processing_class"], padding=True)
        return Trainer(**arguments)

    with ExitStack() as patches:
        patches.enter_context(patch.object(trainer, "LeanTrainer", new))
        patches.enter_context(patch.object(finetuning, "few_visits", nullcontext))
        finetuning.finetune(run, SETTINGS, splits)


def _bare(run: Run, splits: Splits) -> Any:
    """Steps and evaluations of a run without P, as a loop of one's own."""
    model, tokenizer = load_model("tiny", dtype="float32")
    data = {name: encode(getattr(splits, name), tokenizer, 256) for name in ("train", "validation", "test")}
    set_seed(0)
    model = with_adapter(model, parse_method("lora"), run, SETTINGS, data["train"], tokenizer)
    collate = DataCollatorForSeq2Seq(tokenizer, padding=True)

    def batches(name: str, size: int) -> list[Any]:
        return [collate(data[name][i : i + size]) for i in range(0, len(data[name]), size)]

    train, validation, test = batches("train", BATCH)[:STEPS], batches("validation", 32), batches("test", 32)
    parameters = [p for p in model.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in parameters]

    def evaluate(batches: list[Any]) -> float:
        model.eval()
        with torch.no_grad():
            return sum(float(model(**batch).loss) for batch in batches) / len(batches)

    def call() -> None:
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
        optimizer = torch.optim.AdamW(parameters, lr=run.learning_rate, weight_decay=0.0)
        schedule = get_linear_schedule_with_warmup(optimizer, 2, STEPS)
        evaluate(validation)
        for step, batch in enumerate(train, 1):
            if step in (1, STEPS // 2 + 1):
                model.train()
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, SETTINGS.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step in (STEPS // 2, STEPS):
                evaluate(validation)
        evaluate(test)

    return call
