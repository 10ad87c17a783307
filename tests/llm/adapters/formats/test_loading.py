"""What is written loads in PEFT and diffusers, and their models compute the same as before."""

import json

import pytest
import torch
from diffusers.utils import convert_state_dict_to_diffusers, convert_state_dict_to_kohya
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorakappa.llm import balance_adapter, convert_adapter, read_adapter
from lorakappa.llm.adapters.formats.kohya_file import misread_by_diffusers
from tests.llm.adapters.formats.pipelines import (
    config,
    denoised,
    loaded_pipeline,
    saved_pipeline,
    text_encoder,
    transformed,
    transformer,
    unet,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers' and transformers' own, of the future of their names
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """A file of diffusers with other ranks and scales for some layers, and what its pipeline computes."""
    torch.manual_seed(4)
    base, text = unet(), text_encoder()
    patterns = {"rank_pattern": {"to_q": 3, "conv1": 2}, "alpha_pattern": {"conv1": 5, "proj_in": 1}}
    base.add_adapter(config("unet", r=4, lora_alpha=6, **patterns))
    text.add_adapter(config("text_encoder", r=2, lora_alpha=8))
    folder = saved_pipeline(tmp_path_factory.mktemp("pipeline"), base, text)
    return folder, denoised(base, text)


def test_diffusers_own_file_does_what_was_trained(pipeline):
    folder, expected = pipeline
    torch.testing.assert_close(denoised(*loaded_pipeline(folder)), expected)
    assert not torch.allclose(denoised(unet(), text_encoder()), expected, atol=0.1)
    adapter = read_adapter(folder)
    assert (adapter.format, adapter.others) == ("diffusers", [])
    assert {pair.scale for pair in adapter.pairs} == {1.5, 2, 2.5, 0.25, 4}
    assert {pair.kernel for pair in adapter.pairs} == {(), (1, 1), (3, 3)}


@pytest.mark.parametrize("target", ["diffusers", "kohya"])
def test_pipelines_load_what_is_written(pipeline, tmp_path, target):
    folder, expected = pipeline
    path, balanced = tmp_path / "lora.safetensors", tmp_path / "balanced.safetensors"
    assert max(convert_adapter(folder, path, target).values()) == 0
    balance_adapter(path, balanced)
    for file in (path, balanced):
        torch.testing.assert_close(denoised(*loaded_pipeline(file)), expected, **CLOSE)


def test_layers_of_kohya_files_that_diffusers_scales_wrong_are_named(tmp_path):
    base, text = unet(), text_encoder()
    base.add_adapter(config("unet", r=4, lora_alpha=6, alpha_pattern={"attn2.to_q": 2, "conv1": 5}))
    text.add_adapter(config("text_encoder", r=2, lora_alpha=8, alpha_pattern={"fc1": 1}))
    folder, path = saved_pipeline(tmp_path, base, text), tmp_path / "lora.safetensors"
    assert misread_by_diffusers(read_adapter(folder)) == []
    convert_adapter(folder, path, "kohya")
    modules = {pair.name: pair.module for pair in read_adapter(path).pairs}
    misread = {modules[name] for name in misread_by_diffusers(read_adapter(path))}
    wrong = set()
    for trained, loaded in zip((base, text), loaded_pipeline(path), strict=True):
        layers = {name: layer for name, layer in loaded.named_modules() if hasattr(layer, "scaling")}
        for name, layer in trained.named_modules():
            if hasattr(layer, "scaling") and [*layer.scaling.values()] != [*layers[name].scaling.values()]:
                wrong.add(name)
    assert wrong == misread
    assert any(name.endswith("attn2.to_q") for name in wrong)
    assert any(name.endswith("mlp.fc1") for name in wrong)


def test_peft_loads_what_is_written(pipeline, tmp_path):
    folder, expected = pipeline
    convert_adapter(folder, tmp_path / "peft", "peft")
    models = [
        PeftModel.from_pretrained(model, tmp_path / "peft" / part).eval()
        for part, model in (("unet", unet()), ("text_encoder", text_encoder()))
    ]
    torch.testing.assert_close(denoised(*models), expected, **CLOSE)


@pytest.mark.parametrize("dora", [False, True])
def test_a_transformer_from_peft_to_diffusers_and_back(tmp_path, dora):
    torch.manual_seed(5)
    model = get_peft_model(
        transformer(), config("transformer", r=2, lora_alpha=6, use_dora=dora, rank_pattern={"^proj_out": 3})
    )
    expected = transformed(model.base_model.model.eval())
    model.save_pretrained(tmp_path / "peft")
    path = tmp_path / "lora.safetensors"
    convert_adapter(tmp_path / "peft", path, "diffusers")  # the folder says what it adapts
    loaded = transformer()
    loaded.load_lora_adapter(path, use_safetensors=True)
    torch.testing.assert_close(transformed(loaded.eval()), expected, **CLOSE)
    convert_adapter(path, tmp_path / "kohya.safetensors", "kohya")
    convert_adapter(tmp_path / "kohya.safetensors", tmp_path / "back", "peft")
    back = PeftModel.from_pretrained(transformer(), tmp_path / "back")
    torch.testing.assert_close(transformed(back.base_model.model.eval()), expected, **CLOSE)


def test_old_names_of_diffusers(pipeline, tmp_path):
    """Files whose names diffusers mixes are understood; written anew, they load whole."""
    folder, expected = pipeline
    weights = folder / "pytorch_lora_weights.safetensors"
    with safe_open(weights, "pt") as file:
        metadata = file.metadata()
    old = convert_state_dict_to_diffusers(load_file(weights))
    assert any(".lora.down." in key for key in old)
    assert any(".lora_linear_layer.down." in key for key in old)
    save_file(old, tmp_path / "old.safetensors", metadata=metadata)
    convert_adapter(tmp_path / "old.safetensors", tmp_path / "new.safetensors", "diffusers")
    torch.testing.assert_close(denoised(*loaded_pipeline(tmp_path / "new.safetensors")), expected, **CLOSE)


def test_the_oldest_names_of_diffusers(tmp_path):
    names = {
        "unet": "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_{}_lora",
        "text_encoder": "text_model.encoder.layers.0.self_attn.to_{}_lora",
    }
    tensors = {
        f"{part}.{name.format(to)}.{side}.weight": torch.randn(8, 2) if side == "up" else torch.randn(2, 8)
        for part, name in names.items()
        for to in ("q", "k", "v", "out")
        for side in ("up", "down")
    }
    save_file(tensors, tmp_path / "old.safetensors")
    convert_adapter(tmp_path / "old.safetensors", tmp_path / "new.safetensors", "diffusers")
    from diffusers.utils.state_dict_utils import convert_state_dict_to_peft, convert_unet_state_dict_to_peft

    expected = convert_unet_state_dict_to_peft({key: value for key, value in tensors.items() if key.startswith("unet")})
    expected |= convert_state_dict_to_peft({key: value for key, value in tensors.items() if key.startswith("text")})
    new = load_file(tmp_path / "new.safetensors")
    assert new.keys() == expected.keys()
    assert all(torch.equal(new[key], expected[key]) for key in new)
    attention = {key.removeprefix("unet."): value for key, value in tensors.items() if key.startswith("unet")}
    save_file(attention, tmp_path / "processors.safetensors")  # of save_attn_procs, which names no part
    assert {pair.component for pair in read_adapter(tmp_path / "processors.safetensors").pairs} == {"unet"}


def test_kohya_names_are_those_that_diffusers_gives(pipeline, tmp_path):
    folder, _ = pipeline
    state_dict = load_file(folder / "pytorch_lora_weights.safetensors")
    expected = convert_state_dict_to_kohya(state_dict)  # with α = r, and te1 for a single text encoder
    convert_adapter(folder, tmp_path / "lora.safetensors", "kohya")
    found = load_file(tmp_path / "lora.safetensors")
    renamed = {
        key.replace("lora_te_text_model_", "lora_te1_").replace("lora_te_", "lora_te1_"): value
        for key, value in found.items()
    }
    assert renamed.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in renamed.items() if not key.endswith(".alpha"))
    names = {pair.name: f"{pair.component}.{pair.module}" for pair in read_adapter(tmp_path / "lora.safetensors").pairs}
    with safe_open(tmp_path / "lora.safetensors", "pt") as file:
        metadata = file.metadata()
    assert names == json.loads(metadata.pop("lorakappa_modules"))
    save_file(found, tmp_path / "bare.safetensors", metadata=metadata)
    bare = {pair.name: pair.module for pair in read_adapter(tmp_path / "bare.safetensors").pairs}
    assert bare == {name: module.partition(".")[2].replace("encoder.layers", "text_model.encoder.layers", 1)
                    if module.startswith("text_encoder.") else module.partition(".")[2]
                    for name, module in names.items()}  # fmt: skip


def test_the_words_cover_the_modules_of_the_models():
    from lorakappa.llm.adapters.formats.kohya_names import kohya_name, split_name

    for part, model in (("unet", unet()), ("text_encoder", text_encoder())):
        for module, layer in model.named_modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                name = kohya_name(part, module, False)
                prefix = "text_model." if part == "text_encoder" else ""
                assert split_name(name, {}) == (part, prefix + module), name
