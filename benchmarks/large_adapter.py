"""A random model of 135 M parameters, in SmolLM2-135M's shapes, and an adapter of it, for what is timed on such a size.

    python benchmarks/large_adapter.py FOLDER
    lorakappa llm curvature FOLDER/adapter --layers layers.15.self_attn.k_proj --examples 2 --out FOLDER

The tokenizer is that of the tiny model. Weights are random: times depend on shapes, and curvature says nothing here.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from lorakappa.llm.data.models import load_model

CONFIG = LlamaConfig(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    tie_word_embeddings=True,
)


def large_model() -> LlamaForCausalLM:
    """The model, the same at every call."""
    torch.manual_seed(0)
    return LlamaForCausalLM(CONFIG)


def adapted(base: Any, r: int) -> Any:
    """The same model with LoRA of rank r on every k_proj, A and B random, the same at every call."""
    torch.manual_seed(1)
    return get_peft_model(base, LoraConfig(r=r, target_modules=["k_proj"], init_lora_weights=False))


def main(folder: Path) -> None:
    """Writes FOLDER/model and FOLDER/adapter."""
    _, tokenizer = load_model("tiny")
    base = large_model()
    base.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    base.name_or_path = str(folder / "model")  # what the adapter says of its base
    adapted(base, 8).save_pretrained(folder / "adapter")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
