"""Two adapters compared by their products: layers, sums over them, and what is not compared."""

import math

import pytest
import torch

from lorakappa import RankRule, balance_adapter, convert_adapter, diff_adapters, fold_adapter, resize_adapter
from tests.llm.adapters.dense import updates
from tests.llm.adapters.stored import pair, random_pair, write_adapter
from tests.llm.models import unbalance, with_lora


def test_distances_are_those_of_the_dense_updates(tmp_path):
    unbalance(with_lora(r=4), 1).save_pretrained(tmp_path / "a")
    unbalance(with_lora(r=3, use_rslora=True, target_modules=["q_proj", "o_proj"]), 2).save_pretrained(tmp_path / "b")
    W, V = updates(tmp_path / "a"), updates(tmp_path / "b")
    found = diff_adapters(tmp_path / "a", tmp_path / "b")
    assert {layer.name for layer in found.layers} == W.keys()
    for layer in found.layers:
        one, other = W[layer.name], V.get(layer.name, torch.zeros_like(W[layer.name]))
        norms = one.norm(), other.norm()
        assert layer.difference.norms == pytest.approx([float(norm) for norm in norms])
        assert layer.difference.relative == pytest.approx(float((one - other).norm() / max(norms)))
        assert layer.difference.spectral_distance == pytest.approx(float(torch.linalg.matrix_norm(one - other, 2)))
        assert layer.r == (4, 3 if layer.name in V else 0)
        assert layer.scales == pytest.approx((2, 8 / math.sqrt(3) if layer.name in V else 1))
        assert layer.shape == tuple(one.shape)
    relatives = [layer.difference.relative for layer in found.layers]
    assert relatives == sorted(relatives, reverse=True)
    total = math.sqrt(sum(float((W[name] - V.get(name, 0)).norm()) ** 2 for name in W))
    norms = [math.sqrt(sum(float(one.norm()) ** 2 for one in found.values())) for found in (W, V)]
    assert found.distance == pytest.approx(total)
    assert found.norms == pytest.approx(norms)
    assert found.relative == pytest.approx(total / max(norms))
    missing = len(W) - len(V)
    assert found.remarks == [f"{missing} of {len(W)} layers are not in {tmp_path / 'b'} and count as 0 there"]
    back = diff_adapters(tmp_path / "b", tmp_path / "a")
    assert back.distance == pytest.approx(found.distance)
    assert back.remarks == found.remarks


def test_gauge_and_scale_do_not_matter(tmp_path):
    unbalance(with_lora(r=4)).save_pretrained(tmp_path / "a")
    balance_adapter(tmp_path / "a", tmp_path / "balanced")
    fold_adapter(tmp_path / "balanced", tmp_path / "folded")
    found = diff_adapters(tmp_path / "a", tmp_path / "folded")
    assert 0 < found.relative < 1e-6
    assert max(angle for layer in found.layers for angle in layer.difference.left_angles) < 1e-4
    assert found.remarks == []


def test_formats_do_not_matter(tmp_path):
    unbalance(with_lora(r=4)).save_pretrained(tmp_path / "a")
    for format in ("diffusers", "kohya"):
        file = tmp_path / f"{format}.safetensors"
        convert_adapter(tmp_path / "a", file, format, component="transformer" if format == "diffusers" else "unet")
        for found in (diff_adapters(tmp_path / "a", file), diff_adapters(file, tmp_path / "a")):
            assert (found.relative, found.remarks) == (0, [])
    convert_adapter(tmp_path / "kohya.safetensors", tmp_path / "unet", "peft")  # which says what it is for
    assert diff_adapters(tmp_path / "unet", tmp_path / "kohya.safetensors").relative == 0
    assert diff_adapters(tmp_path / "a", tmp_path / "unet").relative == 0
    message = "unet is of the format peft and .*diffusers.safetensors of diffusers, and no layer .*; convert one first"
    with pytest.raises(ValueError, match=message):
        diff_adapters(tmp_path / "unet", tmp_path / "diffusers.safetensors")


def test_the_error_of_resizing_is_the_distance(tmp_path):
    write_adapter(tmp_path / "a", random_pair(r=4), r=4, lora_alpha=1)
    (layer,) = resize_adapter(tmp_path / "a", tmp_path / "b", RankRule(rank=2))
    found = diff_adapters(tmp_path / "a", tmp_path / "b")
    assert found.relative == pytest.approx(layer.error, rel=1e-6)
    assert found.layers[0].difference.ranks == (4, 2)
    assert diff_adapters(tmp_path / "a", tmp_path / "a").relative == 0


def test_layers_of_the_second_only(tmp_path):
    write_adapter(tmp_path / "a", random_pair(), r=2, lora_alpha=2)
    write_adapter(tmp_path / "b", random_pair(module="base_model.model.k_proj"), r=2, lora_alpha=2)
    found = diff_adapters(tmp_path / "a", tmp_path / "b")
    assert {layer.name[17:]: layer.r for layer in found.layers} == {"q_proj": (2, 0), "k_proj": (0, 2)}
    assert {layer.difference.relative for layer in found.layers} == {1.0}
    assert {layer.scales for layer in found.layers} == {(1.0, 1.0)}
    assert len(found.remarks) == 2


def test_nothing_compared_with_nothing(tmp_path):
    zero = pair(torch.zeros(6, 2), torch.ones(2, 5))
    for name in "ab":
        write_adapter(tmp_path / name, zero, r=2, lora_alpha=2)
    found = diff_adapters(tmp_path / "a", tmp_path / "b")
    assert (found.relative, found.distance, found.norms) == (0, 0, (0, 0))


def test_what_is_not_compared_is_said(tmp_path):
    head = {"base_model.model.lm_head.weight": torch.ones(3, 3)}
    write_adapter(tmp_path / "a", random_pair() | head, r=2, lora_alpha=2, base_model_name_or_path="some/model")
    write_adapter(tmp_path / "b", random_pair(), r=2, lora_alpha=2, base_model_name_or_path="other/model")
    assert diff_adapters(tmp_path / "a", tmp_path / "b").remarks == [
        "trained on different models, some/model and other/model",
        "not compared: 1 tensors that are no LoRA factors (biases, magnitudes, modules_to_save), such as "
        "base_model.model.lm_head.weight",
    ]


def test_other_shapes_are_refused(tmp_path):
    write_adapter(tmp_path / "a", random_pair(), r=2, lora_alpha=2)
    write_adapter(tmp_path / "b", pair(torch.ones(6, 2), torch.ones(2, 4)), r=2, lora_alpha=2)
    with pytest.raises(ValueError, match=r"changes a matrix of shape \(6, 5\) in .*a, but of shape \(6, 4\) in .*b"):
        diff_adapters(tmp_path / "a", tmp_path / "b")
