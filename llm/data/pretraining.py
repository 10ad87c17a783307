"""Pretraining of the tiny model: a character-level Qwen2 that has seen other mathematics than it is fine-tuned on.

Adapters need a model that knows something already. This one is made by a command, in minutes on two cores, and its
weights come with the package, so that a fine-tune needs no download.
"""

import importlib.metadata
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import (
    DataCollatorForSeq2Seq,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Trainer,
    TrainingArguments,
    set_seed,
)

from lorakappa.llm.data.sources import MATHEMATICS, load_splits
from lorakappa.llm.data.splits import Example
from lorakappa.llm.data.tokens import IGNORED, encode
from lorakappa.shared.records import ensure_folder, provenance, write_json
from lorakappa.shared.whole_folders import final_folder, whole_folder

PRETRAINING_MODULES = (
    "algebra__linear_1d",
    "arithmetic__add_or_sub",
    "arithmetic__add_sub_multiple",
    "arithmetic__mul",
    "comparison__pair",
    "comparison__sort",
    "numbers__base_conversion",
    "numbers__gcd",
    "numbers__is_factor",
    "numbers__list_prime_factors",
)
"""None of them is in `llm.data.mathematics.FINE_TUNING_MODULES`."""

SOFTWARE = ("mathematics-dataset", "sympy", "transformers")
"""What the result depends on besides the packages of every result."""

PAD, END = "<pad>", "<eos>"

MAX_POSITIONS = 512
"""Tokens that the model was built for."""

MAX_LENGTH = 160
"""Characters of a question and its answer."""


def character_tokenizer() -> Qwen2Tokenizer:
    """A tokenizer with one token for every byte of UTF-8, which is every character of ASCII, and no start token.

    It is Qwen2's with no merges, because that is the class by which transformers loads the tokenizer of a Qwen2.
    """
    tokens = [PAD, END, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        unk_token=None,  # type: ignore[arg-type]  # every text has tokens
        pad_token=PAD,
        eos_token=END,
        model_max_length=MAX_POSITIONS,
    )


def new_model(tokenizer: Any, *, hidden_size: int = 128, layers: int = 3) -> Qwen2ForCausalLM:
    """A Qwen2 with random weights.

    Args:
        tokenizer: whose tokens it reads.
        hidden_size: a multiple of 4.
        layers: number of decoder blocks.

    Returns:
        The model, in float32.
    """
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    return Qwen2ForCausalLM(config)


def pretrain(
    out: Path,
    *,
    modules: Sequence[str] = PRETRAINING_MODULES,
    examples: int = 30_000,
    held_out: int = 1000,
    steps: int = 2000,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    hidden_size: int = 128,
    layers: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """Pretrains the tiny model on generated questions and answers, all tokens, and writes it as a folder.

    The defaults are those of the folder that comes with the package; the same weights need the same versions and
    the same number of threads. The target appears whole or not at all.

    Args:
        out: folder to write; must not exist or be empty.
        modules: of DeepMind Mathematics.
        examples: number of questions to train on.
        held_out: number of questions to measure the losses on.
        steps: optimizer steps.
        batch_size: questions a step.
        learning_rate: of AdamW at its highest, after a warm-up and before a cosine decay.
        hidden_size: of the model.
        layers: of the model.
        seed: of questions, weights and order.

    Returns:
        What was done, as written to recipe.json.

    Raises:
        OSError: if the target is in use or cannot be written.
        ValueError: for unknown modules or values out of range.
    """
    final = final_folder(out)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, not {steps}")
    ensure_folder(final)
    splits = load_splits(MATHEMATICS, modules=modules, train=examples, validation=held_out, test=1, seed=seed)
    tokenizer = character_tokenizer()
    set_seed(seed)
    model = new_model(tokenizer, hidden_size=hidden_size, layers=layers)
    with whole_folder(final) as temporary:
        trainer = Trainer(
            model,
            TrainingArguments(
                output_dir=str(temporary / "work"),
                max_steps=steps,
                per_device_train_batch_size=batch_size,
                per_device_eval_batch_size=batch_size,
                learning_rate=learning_rate,
                weight_decay=0.01,
                warmup_steps=steps // 20,
                lr_scheduler_type="cosine",
                train_sampling_strategy="group_by_length",
                seed=seed,
                save_strategy="no",
                report_to="none",
                logging_steps=100,
                use_cpu=True,
                dataloader_pin_memory=False,
            ),
            train_dataset=_all_tokens(splits.train, tokenizer),
            data_collator=DataCollatorForSeq2Seq(tokenizer),
        )
        trainer.train()
        recipe = {
            **provenance(seed=seed),
            "software": {name: importlib.metadata.version(name) for name in SOFTWARE},
            "modules": list(modules),
            "data": {"source": splits.source, "digest": splits.digest, "train": examples, "held_out": held_out},
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "threads": torch.get_num_threads(),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "held_out_loss": {
                "all_tokens": answer_loss(model, _all_tokens(splits.validation, tokenizer), tokenizer),
                "answers": answer_loss(model, encode(splits.validation, tokenizer, MAX_LENGTH), tokenizer),
            },
        }
        shutil.rmtree(temporary / "work", ignore_errors=True)
        model.config.use_cache = True
        model.save_pretrained(temporary)
        (temporary / "model.safetensors").chmod(0o644)
        tokenizer.save_pretrained(temporary)
        write_json(temporary / "recipe.json", recipe)
    return recipe


@torch.no_grad()
def answer_loss(model: Any, encoded: Sequence[dict[str, list[int]]], tokenizer: Any, batch_size: int = 64) -> float:
    """Mean cross-entropy by labelled token, in nats.

    Args:
        model: a causal language model.
        encoded: by `llm.data.tokens.encode`.
        tokenizer: of the model.
        batch_size: examples at once.

    Returns:
        The mean over all labels that count.
    """
    collate = DataCollatorForSeq2Seq(tokenizer)
    training = model.training
    model.eval()
    total = tokens = 0.0
    for start in range(0, len(encoded), batch_size):
        batch = collate(list(encoded[start : start + batch_size])).to(model.device)
        count = int((batch["labels"][:, 1:] != IGNORED).sum())
        total += float(model(**batch).loss) * count
        tokens += count
    model.train(training)
    return total / tokens


def _all_tokens(examples: Sequence[Example], tokenizer: Any) -> list[dict[str, list[int]]]:
    """Encoded examples whose loss counts the question, too."""
    return [{**entry, "labels": entry["input_ids"]} for entry in encode(examples, tokenizer, MAX_LENGTH)]
