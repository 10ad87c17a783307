"""Scales folded into factors: the same model in PEFT, α = r, bits kept where they can be."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from lorakappa import balance_adapter, fold_adapter
from lorakappa.conditioning import is_balanced
from lorakappa.llm import read_adapter
from lorakappa.llm.adapters.formats.peft_config import CONFIG
from lorakappa.llm.adapters.formats.peft_folder import WEIGHTS
from tests.llm.adapters.dense import logits, updates
from tests.llm.adapters.stored import MODULE, random_pair, write_adapter
from tests.llm.models import unbalance, with_lora


@pytest.mark.parametrize(
    "config",
    [
        {"r": 4},
        {"r": 4, "use_rslora": True, "rank_pattern": {"q_proj": 6}, "alpha_pattern": {"up_proj": 3}},
        {"r": 4, "use_dora": True, "target_modules": ["q_proj", "up_proj"]},
        {"r": 4, "modules_to_save": ["lm_head"], "bias": "lora_only"},
    ],
)
def test_the_same_model_with_scale_1(tmp_path, config):
    unbalance(with_lora(**config)).save_pretrained(tmp_path / "in")
    before = read_adapter(tmp_path / "in")
    layers = fold_adapter(tmp_path / "in", tmp_path / "out")
    assert [layer.scale for layer in layers] == [pair.scale for pair in before.pairs]
    assert [layer.name for layer in layers] == [pair.name for pair in before.pairs]
    assert {pair.scale for pair in read_adapter(tmp_path / "out").pairs} == {1.0}
    assert all(layer.change < 1e-6 for layer in layers)
    torch.testing.assert_close(logits(tmp_path / "out"), logits(tmp_path / "in"), rtol=1e-4, atol=1e-5)
    old, new = load_file(tmp_path / "in" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) for key in before.others)
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    if not config["use_rslora"]:
        assert config["lora_alpha"] == config["r"] == 4


def test_powers_of_four_change_no_bit_of_the_product(tmp_path):
    tensors = random_pair(dtype=torch.bfloat16)
    write_adapter(tmp_path / "in", tensors, r=2, lora_alpha=32)
    (layer,) = fold_adapter(tmp_path / "in", tmp_path / "out")
    assert layer.scale == 16
    assert layer.change < 1e-15
    new = load_file(tmp_path / "out" / WEIGHTS)
    assert all(torch.equal(new[key], 4 * tensors[key]) for key in tensors)


def test_balance_stays(tmp_path):
    write_adapter(tmp_path / "in", random_pair(), r=2, lora_alpha=7)
    balance_adapter(tmp_path / "in", tmp_path / "balanced")
    fold_adapter(tmp_path / "balanced", tmp_path / "out")
    adapter = read_adapter(tmp_path / "out")
    assert is_balanced(*(factor.numpy() for factor in adapter.factors(adapter.pairs[0])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("alpha", [-3.0, 0.0, 1e-8, 1e6])
def test_any_scale(tmp_path, alpha, dtype):
    write_adapter(tmp_path / "in", random_pair(dtype=dtype), r=2, lora_alpha=alpha)
    (layer,) = fold_adapter(tmp_path / "in", tmp_path / "out")
    old, new = updates(tmp_path / "in"), updates(tmp_path / "out")
    difference, norm = (old[layer.name] - new[layer.name]).norm(), old[layer.name].norm()
    assert layer.change == pytest.approx(float(difference / norm) if alpha else 0, rel=1e-3, abs=1e-9)
    assert layer.change <= 2 * torch.finfo(dtype).eps
    if alpha == 0:
        new = load_file(tmp_path / "out" / WEIGHTS)
        assert not new[f"{MODULE}.lora_B.weight"].any()
        assert torch.equal(new[f"{MODULE}.lora_A.weight"], random_pair(dtype=dtype)[f"{MODULE}.lora_A.weight"])


def test_scale_1_stays_byte_by_byte(tmp_path):
    write_adapter(tmp_path / "in", random_pair(dtype=torch.float16), r=2, lora_alpha=2)
    (layer,) = fold_adapter(tmp_path / "in", tmp_path / "out")
    assert layer.change == 0
    assert (tmp_path / "out" / CONFIG).read_bytes() == (tmp_path / "in" / CONFIG).read_bytes() or json.loads(
        (tmp_path / "out" / CONFIG).read_text()
    ) == json.loads((tmp_path / "in" / CONFIG).read_text())
    old, new = load_file(tmp_path / "in" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert all(torch.equal(old[key], new[key]) for key in old)


def test_what_would_be_folded_wrong_is_refused(tmp_path):
    inside = {f"{MODULE}.lora_B.bias": torch.ones(6)}
    write_adapter(tmp_path / "bias", random_pair() | inside, r=2, lora_alpha=4, lora_bias=True)
    with pytest.raises(ValueError, match=r"bias cannot be folded: it has biases inside of its update \(base_model"):
        fold_adapter(tmp_path / "bias", tmp_path / "out")
    write_adapter(tmp_path / "olora", random_pair(), r=2, lora_alpha=4, init_lora_weights="olora")
    with pytest.raises(ValueError, match=r"cannot be folded: init_lora_weights = olora"):
        fold_adapter(tmp_path / "olora", tmp_path / "out")
    write_adapter(tmp_path / "large", random_pair(2e4, 1.0, torch.float16), r=2, lora_alpha=2e4)
    with pytest.raises(ValueError, match=r"q_proj: its new factors would leave the range of float16"):
        fold_adapter(tmp_path / "large", tmp_path / "out")
    write_adapter(tmp_path / "small", random_pair(1e-7, 1e-7, torch.float16), r=2, lora_alpha=0.01)
    with pytest.raises(ValueError, match=r"q_proj: its new factors would leave the range of float16"):
        fold_adapter(tmp_path / "small", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_different_scales_of_one_file(tmp_path):
    tensors = random_pair() | random_pair(module="base_model.model.k_proj", r=3, seed=1)
    write_adapter(tmp_path / "in", tensors, r=2, lora_alpha=4, rank_pattern={"k_proj": 3}, alpha_pattern={"k_proj": 1})
    layers = fold_adapter(tmp_path / "in", tmp_path / "out")
    assert {layer.name[17:]: layer.scale for layer in layers} == {"q_proj": 2, "k_proj": pytest.approx(1 / 3)}
    old, new = updates(tmp_path / "in"), updates(tmp_path / "out")
    for name, W in old.items():
        torch.testing.assert_close(new[name], W, rtol=1e-6, atol=1e-6)
    assert math.isclose(max(layer.change for layer in layers), 0, abs_tol=1e-6)
