"""PEFT adapters on disk, made of nothing but their two files."""

import json
import struct

import torch
from safetensors.torch import save_file

from lorakappa.llm.adapters.formats.peft_config import CONFIG
from lorakappa.llm.adapters.formats.peft_folder import WEIGHTS

MODULE = "base_model.model.q_proj"


def write_adapter(folder, tensors, **config):
    """Writes an adapter of these tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", **config}))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)
    return folder


def pair(A, B, module=MODULE):
    """PEFT's two tensors of one linear layer."""
    return {f"{module}.lora_B.weight": A, f"{module}.lora_A.weight": B}


def random_pair(scale_A=1.0, scale_B=0.1, dtype=torch.float32, r=2, seed=0, module=MODULE):
    """A random pair with factors of these sizes."""
    generator = torch.Generator().manual_seed(seed)
    A, B = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((6, r), (r, 5)))
    return pair((A * scale_A).to(dtype), (B * scale_B).to(dtype), module)


def raw_weights(folder, header, content=b""):
    """Writes a weights file with any header, a text or what JSON makes of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + content)
