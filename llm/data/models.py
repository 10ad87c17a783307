"""Causal language models to fine-tune: a tiny one that comes with the package, or any other."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorakappa.shared.failures import first_line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TINY = "tiny"
"""Name of the model in `TINY_FOLDER`."""

TINY_FOLDER = Path(__file__).parent / "tiny"
"""A Qwen2 pretrained by `llm.data.pretraining`; recipe.json there says how."""

DTYPES = ("auto", "float32", "bfloat16", "float16")

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a decoder block in Llama, Mistral, Qwen, Gemma and many more."""


def load_model(
    name: str,
    *,
    dtype: str = "auto",
    device: "str | torch.device | None" = None,
    gradient_checkpointing: bool = False,
) -> "tuple[PreTrainedModel, Any]":
    """Loads a causal language model and its tokenizer.

    A tokenizer without a padding token pads with its end token.

    Args:
        name: "tiny", a folder written by `save_pretrained`, or a hub id.
        dtype: of the weights; "auto" takes them as they are stored.
        device: where to put the model; None leaves it on the CPU.
        gradient_checkpointing: whether training recomputes activations to save memory.

    Returns:
        The model, in evaluation mode, and the tokenizer.

    Raises:
        OSError: for a folder that does not exist or is none of a model, or a hub id that cannot be loaded.
        ValueError: for an unknown dtype, a model that is no causal language model, or a tokenizer without end token.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    place = _place(name)
    options: dict[str, Any] = {"local_files_only": True} if Path(place).is_dir() else {}
    try:
        AutoConfig.from_pretrained(place, **options)
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, **options)
    except OSError as error:
        if options:
            raise OSError(f"cannot load the model in {place}: {first_line(error)}") from None
        raise OSError(
            f"cannot load {name}: no such folder, and the hub is not reachable, does not have it or wants a login; "
            f"download it elsewhere and name its folder ({first_line(error)})"
        ) from None
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{name} is no causal language model that transformers can load: {first_line(error)}"
        ) from None
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer of {name} has no end token; set eos_token in its tokenizer_config.json")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if gradient_checkpointing:
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # the second until transformers 6
        next(getattr(model, name) for name in names if hasattr(model, name))({"use_reentrant": False})
    return (model if device is None else model.to(device)), tokenizer


def empty_model(name: str) -> "tuple[Any, Any]":
    """A model without weights, for its shapes, and its tokenizer; nothing of its size is read or allocated.

    Args:
        name: as for `load_model`.

    Raises:
        OSError: for a folder that does not exist or is none of a model, or a hub id that cannot be loaded.
        ValueError: for a model that is no causal language model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    place = _place(name)
    options: dict[str, Any] = {"local_files_only": True} if Path(place).is_dir() else {}
    try:
        config = AutoConfig.from_pretrained(place, **options)
        tokenizer = AutoTokenizer.from_pretrained(place, **options)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config), tokenizer
    except OSError as error:
        raise OSError(f"cannot load the model in {place}: {first_line(error)}") from None
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{name} is no causal language model that transformers can load: {first_line(error)}"
        ) from None


def own_device() -> "torch.device | None":
    """The GPU of this process, so that initializations from the weights run there; None without one or under FSDP."""
    import torch

    if not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
        return None
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def default_target_modules(model: "torch.nn.Module") -> list[str] | str:
    """What LoRA adapts where nothing else is asked for: all linear projections of the decoder blocks.

    Args:
        model: a causal language model.

    Returns:
        For PEFT's `target_modules`: those of `PROJECTIONS` that there are, or "all-linear" where layers are named
        otherwise.
    """
    from torch import nn

    names = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return [name for name in PROJECTIONS if name in names] if names.issuperset(PROJECTIONS) else "all-linear"


def _place(name: str) -> str:
    """The folder of a local model, or the hub id."""
    if name == TINY:
        return str(TINY_FOLDER)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            hint = " (it is an adapter; name its base model)" if (folder / "adapter_config.json").is_file() else ""
            raise FileNotFoundError(f"{folder} has no config.json{hint}; name a folder written by save_pretrained")
        return str(folder)
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file; name the folder of a model")
    if name.startswith((".", "/", "~")) or name.count("/") != name.strip("/").count("/") or name.count("/") > 1:
        raise FileNotFoundError(f"{folder} does not exist; name the folder of a model, a hub id or {TINY!r}")
    return name
