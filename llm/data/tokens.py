"""Examples as a model sees them: tokens with labels on the answers, and answers decoded from a model."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch

from lorakappa.llm.data.splits import Example

IGNORED = -100
"""The label that transformers' loss leaves out."""


def encode(examples: Sequence[Example], tokenizer: Any, max_length: int) -> list[dict[str, list[int]]]:
    """Turns examples into tokens and labels; the loss is on the completion and the end token only.

    Prompt and completion are tokenized one by one, so that no token straddles the boundary. Examples that are too
    long are left out, with a warning that counts them: a truncated answer would be a wrong one.

    Args:
        examples: what to encode.
        tokenizer: of the model; its start token comes first if it adds one.
        max_length: tokens that an example may have.

    Returns:
        `input_ids`, `attention_mask` and `labels` by example, for transformers' DataCollatorForSeq2Seq.

    Raises:
        ValueError: if every example is too long, a completion is empty, or the tokenizer has no end token.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token, which tells a model where an answer stops")
    encoded = []
    for example in examples:
        prompt = _prompt_tokens(example.prompt, tokenizer)
        completion = tokenizer(example.completion, add_special_tokens=False)["input_ids"]
        if not completion:
            raise ValueError(f"the completion of {example.prompt!r} is empty; there is nothing to learn from it")
        answer = [*completion, tokenizer.eos_token_id]
        encoded.append(
            {
                "input_ids": [*prompt, *answer],
                "attention_mask": [1] * (len(prompt) + len(answer)),
                "labels": [IGNORED] * len(prompt) + answer,
            }
        )
    kept = [entry for entry in encoded if len(entry["input_ids"]) <= max_length]
    if len(kept) < len(encoded):
        longest = max(len(entry["input_ids"]) for entry in encoded)
        message = f"{len(encoded) - len(kept)} of {len(encoded)} examples have more than {max_length} tokens"
        if not kept:
            raise ValueError(f"{message}; the longest has {longest}")
        warnings.warn(f"{message} and are left out; the longest has {longest}", stacklevel=2)
    return kept


@torch.no_grad()
def exact_match(
    model: Any, tokenizer: Any, examples: Sequence[Example], *, batch_size: int, max_new_tokens: int | None = None
) -> float:
    """Share of prompts that the model, decoding greedily, answers exactly.

    Model and tokenizer are left as they were.

    Args:
        model: a causal language model, with or without PEFT adapter.
        tokenizer: of the model; needs a padding token.
        examples: prompts and right answers; compared without white space around them.
        batch_size: prompts answered at once.
        max_new_tokens: most tokens of an answer; None allows for the longest right one.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: without examples.
    """
    from transformers import GenerationConfig

    if not examples:
        raise ValueError("exact_match needs at least one example")
    if max_new_tokens is None:
        answers = [tokenizer(e.completion, add_special_tokens=False)["input_ids"] for e in examples]
        max_new_tokens = max(len(answer) for answer in answers) + 1
    greedy = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        use_cache=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    prompts = [(_prompt_tokens(e.prompt, tokenizer), e.completion.strip()) for e in examples]
    prompts.sort(key=lambda entry: len(entry[0]))
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    modes, own = [(module, module.training) for module in model.modules()], core.generation_config
    model.eval()
    core.generation_config = greedy
    right = 0
    try:
        for start in range(0, len(prompts), batch_size):
            chunk = prompts[start : start + batch_size]
            batch = tokenizer.pad(
                {"input_ids": [tokens for tokens, _ in chunk]}, padding_side="left", return_tensors="pt"
            )
            width = batch["input_ids"].shape[1]
            output = core.generate(**batch.to(core.device))
            texts = tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
            right += sum(text.strip() == answer for text, (_, answer) in zip(texts, chunk, strict=True))
    finally:
        core.generation_config = own
        for module, training in modes:
            module.training = training
    return right / len(prompts)


def _prompt_tokens(prompt: str, tokenizer: Any) -> list[int]:
    """Tokens of a prompt, after the start token if the tokenizer adds one."""
    special = tokenizer("")["input_ids"][:1]
    start = special if special and special[0] == tokenizer.bos_token_id else []
    return [*start, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
