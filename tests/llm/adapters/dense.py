"""Oracles that form the products: updates of an adapter as PEFT applies them, and a base model with updates added."""

import torch
from peft import PeftModel

from lorakappa.llm import read_adapter
from tests.llm.models import tiny_qwen, tokens


def updates(folder):
    """Updates sAB of every layer of an adapter, in float64, with the scale that the configuration gives."""
    adapter = read_adapter(folder)
    found = {}
    for pair in adapter.pairs:
        A, B = adapter.factors(pair)
        found[pair.name] = pair.scale * (A.double() @ B.double())
    return found


def peft_updates(folder, base=tiny_qwen):
    """What PEFT adds to every weight of a model: its own factors, names, ranks and scales."""
    model = PeftModel.from_pretrained(base(), folder)
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and getattr(module, "lora_A", None)
    }


def logits(folder):
    """What a tiny model with an adapter says."""
    with torch.no_grad():
        return PeftModel.from_pretrained(tiny_qwen(), folder).eval()(tokens()).logits


def added(*weighted):
    """What a tiny model says with updates added to its weights, (weight, folder) each."""
    model = tiny_qwen()
    with torch.no_grad():
        for weight, folder in weighted:
            for name, update in peft_updates(folder).items():
                model.get_submodule(name).weight += weight * update
        return model.eval()(tokens()).logits
