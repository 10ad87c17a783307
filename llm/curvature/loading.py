"""What the curvature is measured of: a model with an adapter from disk, and one batch of validation examples."""

from pathlib import Path
from typing import Any

import torch
from transformers import DataCollatorForSeq2Seq

from lorakappa.llm.adapters.formats.peft_folder import read_peft_folder
from lorakappa.llm.data.models import load_model, own_device
from lorakappa.llm.data.quieting import quiet_libraries
from lorakappa.llm.data.splits import Splits
from lorakappa.llm.data.tokens import encode


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

    base = model or read_peft_folder(adapter).config.get("base_model_name_or_path")
    if not base:
        raise ValueError(f"{adapter} does not name its base model; give --model")
    with quiet_libraries():
        loaded, tokenizer = load_model(base, dtype=dtype, device=own_device())
        try:
            return PeftModel.from_pretrained(loaded, str(adapter), is_trainable=True), tokenizer
        except (RuntimeError, KeyError, ValueError) as error:
            raise ValueError(f"{adapter} does not fit {base}: {str(error).splitlines()[0]}") from None


def validation_batch(splits: Splits, tokenizer: Any, device: torch.device) -> dict[str, torch.Tensor]:
    """All validation examples as one padded batch: input_ids, attention_mask, labels (−100 outside the answers)."""
    encoded = encode(splits.validation, tokenizer, tokenizer.model_max_length)
    return dict(DataCollatorForSeq2Seq(tokenizer, padding=True)(encoded).to(device))
