"""Every kind of LoRA layer is found and translated; what is not a free product AB is refused by name."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_lorafa_optimizer
from torch import nn

from lorakappa.llm import CannotBalanceError, balance_model, lora_pairs
from tests.llm.models import Experts, Mixed, Mixture, tiny_qwen, unbalance, with_lora


def test_a_pair_is_the_layers_update():
    model = unbalance(with_lora())
    pairs = lora_pairs(model)
    assert len(pairs) == 14
    layer = model.base_model.model.model.layers[1].mlp.down_proj
    (pair,) = (pair for pair in pairs if "layers.1.mlp.down_proj" in pair.name)
    assert torch.equal(pair.A, layer.lora_B["default"].weight)
    torch.testing.assert_close(pair.A @ pair.B * 2, layer.get_delta_weight("default"))
    assert pair.trainable
    assert pair.adapter == "default"


def test_a_write_keeps_the_parameter_and_its_storage():
    pair = lora_pairs(unbalance(with_lora()))[0]
    before = pair.left.data_ptr()
    pair.write(pair.A * 2, pair.B)
    assert pair.left.data_ptr() == before
    assert pair.A.data_ptr() == before


@pytest.mark.parametrize(
    ("targets", "shapes"),
    [
        (["embedding"], [((6, 2), (2, 20))]),
        (["conv1"], [((8, 2), (2, 18))]),
        (["conv2"], [((4, 2), (2, 6))]),
        (["attention"], [((24, 2), (2, 8)), ((8, 2), (2, 8))]),
    ],
)
def test_shapes_of_other_layers(targets, shapes):
    model = get_peft_model(Mixed(), LoraConfig(r=2, target_modules=targets))
    pairs = lora_pairs(model)
    assert [(tuple(pair.A.shape), tuple(pair.B.shape)) for pair in pairs] == shapes


def test_a_channels_last_convolution_is_written_too():
    model = unbalance(get_peft_model(Mixed(), LoraConfig(r=2, target_modules=["conv2"])))
    model.to(memory_format=torch.channels_last)
    (pair,) = lora_pairs(model)
    A, B = pair.A * 2, pair.B + 1
    pair.write(A, B)
    assert torch.equal(pair.A, A)
    assert torch.equal(pair.B, B)


def test_stacked_experts_are_pairs_of_their_own():
    model = unbalance(get_peft_model(Mixture(), LoraConfig(r=2, lora_alpha=2, target_parameters=["experts.weight"])))
    pairs = lora_pairs(model)
    assert [pair.name[-8:] for pair in pairs] == ["expert 0", "expert 1", "expert 2"]
    delta = model.base_model.model.experts.get_delta_weight("default")
    torch.testing.assert_close(torch.stack([pair.A @ pair.B for pair in pairs]), delta)


def test_wrappers_around_the_model_do_not_matter():
    model = with_lora()

    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = model

    assert len(lora_pairs(Wrapper())) == 14


def test_a_quantized_base_is_not_touched():
    model = with_lora()
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and layer.weight.shape[0] > 4 < layer.weight.shape[1]:
            layer.weight = nn.Parameter((layer.weight * 100).to(torch.int8), requires_grad=False)
    unbalance(model)
    assert balance_model(model).balanced == 14


def test_adapters_are_told_apart():
    model = with_lora()
    model.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj"]))
    assert len(lora_pairs(model)) == 16
    assert [pair.trainable for pair in lora_pairs(model, "other")] == [False, False]
    with pytest.raises(ValueError, match="no adapter named 'nobody'; this model has default, other"):
        lora_pairs(model, "nobody")


def test_a_model_without_lora():
    with pytest.raises(ValueError, match="has no LoRA layer"):
        lora_pairs(tiny_qwen())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"init_lora_weights": "mica"}, "MiCA trains one factor"),
        ({"kasa_config": "KasaConfig"}, "learned diagonal"),
        ({"use_bdlora": "BdLoraConfig"}, "block diagonal"),
        ({"monteclora_config": "MontecloraConfig"}, "adds noise"),
    ],
)
def test_variants_that_are_no_free_product_are_refused(settings, reason):
    import peft.tuners.lora.config as configs

    kwargs = {"BdLoraConfig": {"target_modules_bd_a": ["q_proj"], "nblocks": 2}}
    settings = {
        key: getattr(configs, value)(**kwargs.get(value, {})) if value.endswith("Config") else value
        for key, value in settings.items()
    }
    model = with_lora(target_modules=["q_proj"], **settings)
    with pytest.raises(CannotBalanceError, match=reason) as caught:
        lora_pairs(model)
    assert "layers.0.self_attn.q_proj (adapter default)" in caught.value.module


def test_adalora_is_refused():
    from peft import AdaLoraConfig

    model = get_peft_model(tiny_qwen(), AdaLoraConfig(target_modules=["q_proj"], total_step=10, tinit=1, tfinal=1))
    with pytest.raises(CannotBalanceError, match="AdaLoRA"):
        lora_pairs(model)


def test_a_frozen_factor_is_refused():
    model = with_lora()
    create_lorafa_optimizer(model, r=4, lora_alpha=8, lr=1e-3)
    with pytest.raises(CannotBalanceError, match="only one factor trains"):
        lora_pairs(model)


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups")
def test_grouped_convolutions_are_refused():
    model = get_peft_model(Mixed(groups=2), LoraConfig(r=2, target_modules=["conv1"]))
    with pytest.raises(CannotBalanceError, match="grouped convolution"):
        lora_pairs(model)


def test_factors_on_the_meta_device_are_refused():
    with torch.device("meta"):
        base = Mixed()
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["linear"]), low_cpu_mem_usage=True)
    with pytest.raises(CannotBalanceError, match="meta device"):
        lora_pairs(model)


@pytest.mark.parametrize("mark", ["ds_id", "_hp_mapping"])
def test_deepspeed_parameters_are_refused(mark):
    model = with_lora()
    setattr(next(p for name, p in model.named_parameters() if "lora_A" in name), mark, None)
    with pytest.raises(CannotBalanceError, match="DeepSpeed"):
        lora_pairs(model)


def test_an_ungathered_shard_is_refused():
    model = with_lora()
    weight = model.base_model.model.model.layers[0].mlp.up_proj.lora_A["default"]
    weight.weight = nn.Parameter(weight.weight.detach().flatten()[:7])
    with pytest.raises(CannotBalanceError, match="no matrices"):
        lora_pairs(model)


def test_importing_the_package_is_cheap():
    import subprocess
    import sys

    code = """
import sys
from lorakappa import llm
print({'torch', 'transformers', 'peft'} & set(sys.modules))
llm.nothing"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "set()"
    assert "No lorakappa.llm attribute nothing" in result.stderr


def test_experts_saved_and_loaded_are_found_on_disk_as_in_memory(tmp_path):
    from lorakappa.llm import read_adapter

    model = unbalance(get_peft_model(Mixture(), LoraConfig(r=2, target_parameters=["experts.weight"])))
    model.save_pretrained(tmp_path)
    adapter = read_adapter(tmp_path)
    for live, stored in zip(lora_pairs(model), adapter.pairs, strict=True):
        A, B = adapter.factors(stored)
        assert torch.equal(live.A, A)
        assert torch.equal(live.B, B)
    assert isinstance(PeftModel.from_pretrained(Mixture(), tmp_path), PeftModel)
    assert Experts().weight.shape == (3, 6, 5)
