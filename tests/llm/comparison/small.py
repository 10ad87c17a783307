"""A model that trains in no time, and data for it."""

import torch

from lorakappa.llm.data.pretraining import character_tokenizer, new_model
from lorakappa.llm.data.splits import Example, Splits


def save_small_model(folder):
    """A random Qwen2 of 7,000 parameters with its tokenizer, as `load_model` reads it."""
    tokenizer = character_tokenizer()
    torch.manual_seed(0)
    new_model(tokenizer, hidden_size=16, layers=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sums(start, stop):
    return tuple(Example(f"{i} + {i % 7} =\n", str(i + i % 7)) for i in range(start, stop))


SPLITS = Splits(sums(0, 40), sums(40, 52), sums(52, 64), sums(64, 70), "sums")
