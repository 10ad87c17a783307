"""Names with `_` for dots, taken apart as diffusers does it."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from diffusers.utils.state_dict_utils import convert_unet_state_dict_to_peft

from lorakappa.llm.adapters.formats.kohya_names import kohya_name, name_table, split_name

RESNET = ("in_layers_2", "out_layers_3", "emb_layers_1", "skip_connection")
PARTS = ("attn1_to_q", "attn2_to_k", "attn1_to_v", "attn2_to_out_0", "ff_net_0_proj", "ff_net_2")
ATTENTION = ("proj_in", "proj_out", *(f"transformer_blocks_{i}_{part}" for i in (0, 9) for part in PARTS))
SDXL = [
    *(f"input_blocks_{i}_0_{part}" for i, part in itertools.product((1, 2, 4, 5, 7, 8), RESNET)),
    *(f"input_blocks_{i}_1_{part}" for i, part in itertools.product((4, 5, 7, 8), ATTENTION)),
    *(f"middle_block_{i}_{part}" for i, part in itertools.product((0, 2), RESNET)),
    *(f"middle_block_1_{part}" for part in ATTENTION),
    *(f"output_blocks_{i}_0_{part}" for i, part in itertools.product(range(9), RESNET)),
    *(f"output_blocks_{i}_1_{part}" for i, part in itertools.product(range(6), ATTENTION)),
    *("input_blocks_3_0_op", "input_blocks_6_0_op", "output_blocks_2_2_conv", "output_blocks_5_2_conv"),
    *("input_blocks_0_0", "out_2", "time_embed_0", "time_embed_2", "label_emb_0_0", "label_emb_0_2"),
]
"""Modules of the original code's UNet for SDXL."""


def from_diffusers(name):
    """The module by diffusers' own conversion."""
    state_dict = {f"{name}.lora_down.weight": torch.ones(1), f"{name}.lora_up.weight": torch.ones(1)}
    state_dict = _maybe_map_sgm_blocks_to_diffusers(state_dict, SimpleNamespace(layers_per_block=2))
    state_dict, _ = _convert_non_diffusers_lora_to_diffusers(state_dict)
    (module,) = {key.partition(".lora_")[0] for key in convert_unet_state_dict_to_peft(state_dict)}
    return module


@pytest.mark.parametrize("name", SDXL)
def test_names_of_the_original_code_are_those_of_diffusers(name):
    component, module = split_name(f"lora_unet_{name}", {})
    assert component == "unet"
    assert f"unet.{module}" == from_diffusers(f"lora_unet_{name}")


@pytest.mark.parametrize(
    ("component", "module", "name"),
    [
        ("unet", "mid_block.resnets.0.conv1", "lora_unet_mid_block_resnets_0_conv1"),
        ("text_encoder", "encoder.layers.0.mlp.fc1", "lora_te_text_model_encoder_layers_0_mlp_fc1"),
        ("text_encoder_2", "text_projection", "lora_te2_text_projection"),
        ("transformer", "proj_out", "lora_transformer_proj_out"),
    ],
)
def test_names_as_they_are_written(component, module, name):
    assert kohya_name(component, module, second_encoder=False) == name
    assert kohya_name(component, module, second_encoder=True) == name.replace("lora_te_", "lora_te1_")
    assert split_name(name, {name: f"{component}.{module}"}) == (component, module)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "my_block",
        "down_blocks_x",
        "down__blocks",
        "down_blocks_",
        "_conv",
        "conv_",
        "to_q_lora",
        "convx",
        "proj_into",
    ],
)
def test_words_that_are_not_known(name):
    assert split_name(f"lora_unet_{name}", {})[1] is None


def test_prefixes_and_tables_that_are_not_known():
    assert split_name("lycoris_conv", {}) == ("", None)
    assert split_name("lora_te1_text_projection", {}) == ("text_encoder", "text_projection")
    with pytest.raises(ValueError, match="kohya's files have no prefix for transformer_2; they know"):
        kohya_name("transformer_2", "conv", second_encoder=False)
    assert name_table(None, "here") == {}
    for text in ("[1]", '{"a": 1}', "{"):
        with pytest.raises(ValueError, match=r"here is (no table of names|not JSON)"):
            name_table(text, "here")
