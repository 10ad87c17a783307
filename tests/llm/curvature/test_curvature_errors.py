"""Curvature that cannot be had: one line that says why."""

import pytest
import torch

from lorakappa.llm.curvature.spectra import curvature
from tests.llm.curvature.test_curvature import examples, micro
from tests.llm.models import tokens, with_lora


def broken(batch=None, poison=None, **config):
    def make():
        model = micro(**config)
        if poison is not None:
            with torch.no_grad():
                dict(model.named_parameters())[next(n for n, _ in model.named_parameters() if poison in n)].fill_(
                    torch.nan
                )
        return model, {**examples(), **(batch or {})}

    return make


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (broken(), {"layers": ["nowhere"]}, "no layer 'nowhere'; there are 4"),
        (broken(), {"layers": [4]}, "no layer 4"),
        (broken(), {"layers": []}, "non-empty list"),
        (broken(), {"layers": "q_proj"}, "non-empty list"),
        (broken(), {"solver": "exact"}, "solver must be"),
        (broken(), {"solver": "dense", "dense_limit": 10}, 'dense_limit = 10: raise it .* solver="lanczos"'),
        (broken(poison="lora_A"), {}, "contains NaN"),
        (broken(poison="embed_tokens"), {"layers": [0]}, "logits contain NaN"),
        (broken({"labels": torch.full((2, 6), -100)}), {"layers": [0]}, "no token of the batch has a label"),
        (broken({"labels": torch.full((2, 6), 11)}), {"layers": [0]}, "between 0 and 10"),
        (broken({"labels": torch.zeros(2, 5, dtype=torch.long)}), {"layers": [0]}, "must be \\(n, length\\) alike"),
    ],
)
def test_errors_say_what_to_do(make, arguments, message):
    model, batch = make()
    with pytest.raises(ValueError, match=message):
        curvature(model, batch, progress=False, **arguments)


def test_adapters_not_trained_or_not_in_use_other_attention_and_missing_labels_are_refused():
    fresh = with_lora(target_modules=["q_proj"])
    with pytest.raises(ValueError, match="no balanced pair"):
        curvature(fresh, examples(), progress=False)
    with pytest.raises(ValueError, match="rank 0 < r = 4"):
        curvature(fresh, examples(), layers=[0], progress=False)
    with pytest.raises(ValueError, match="the batch has no labels; it has input_ids"):
        curvature(micro(), {"input_ids": tokens()}, layers=[0], progress=False)
    disabled = micro()
    disabled.base_model.disable_adapter_layers()
    with pytest.raises(ValueError, match="does not depend on its factors"):
        curvature(disabled, examples(), layers=[0], progress=False)
    flash = micro()
    flash.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="flash_attention_2 attention has no second derivatives"):
        curvature(flash, examples(), progress=False)
