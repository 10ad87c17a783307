"""Adapters of smaller ranks: nearest products, exact errors, right scales in PEFT, everything else carried along."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

from lorakappa import RankRule, resize_adapter
from lorakappa.conditioning import is_balanced
from lorakappa.llm import CannotBalanceError, read_adapter
from lorakappa.llm.adapters.formats.peft_config import CONFIG
from lorakappa.llm.adapters.formats.peft_folder import WEIGHTS
from tests.llm.adapters.dense import logits, peft_updates, updates
from tests.llm.adapters.stored import MODULE, pair, random_pair, write_adapter
from tests.llm.models import Mixed, Mixture, tiny_qwen, tokens, unbalance, with_lora

KINDS = {
    "linear": lambda: with_lora(r=4),
    "rslora": lambda: with_lora(r=4, use_rslora=True, rank_pattern={"q_proj": 6}, alpha_pattern={"up_proj": 3}),
    "others": lambda: with_lora(r=4, modules_to_save=["lm_head"], bias="lora_only"),
    "experts": lambda: get_peft_model(Mixture(), LoraConfig(r=4, lora_alpha=6, target_parameters=["experts.weight"])),
    "mixed": lambda: get_peft_model(
        Mixed(), LoraConfig(r=4, lora_alpha=6, target_modules=["embedding", "conv1", "conv2", "attention", "linear"])
    ),
}
pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")


def saved(folder, kind="linear", seed=1):
    unbalance(KINDS[kind](), seed).save_pretrained(folder)
    return folder


def nearest(W, k):
    U, s, Vt = torch.linalg.svd(W)
    return U[:, :k] * s[:k] @ Vt[:k]


@pytest.mark.parametrize("rule", [RankRule(rank=2), RankRule(energy=0.9), RankRule(error=0.3, rank=3)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_each_product_is_the_nearest_of_its_rank(tmp_path, kind, rule):
    old = updates(saved(tmp_path / "in", kind))
    layers = resize_adapter(tmp_path / "in", tmp_path / "out", rule)
    new, adapter = updates(tmp_path / "out"), read_adapter(tmp_path / "out")
    assert list(new) == list(old) == [layer.name for layer in layers]
    for layer, one in zip(layers, adapter.pairs, strict=True):
        W, s = old[layer.name], torch.linalg.svdvals(old[layer.name])
        assert layer.rank == one.r == adapter.factors(one)[0].shape[1]
        torch.testing.assert_close(new[layer.name], nearest(W, one.r), rtol=0, atol=1e-6 * float(s[0]))
        assert layer.error == pytest.approx(float(s[one.r :].norm() / s.norm()), rel=1e-6, abs=1e-9)
        after = float(s[one.r]) if one.r < len(s) else 0.0
        assert layer.spectral_error == pytest.approx(after / float(s[0]), rel=1e-6, abs=1e-7)
        assert layer.stored_error == pytest.approx(float((W - new[layer.name]).norm() / s.norm()), rel=1e-6, abs=1e-6)
        A, B = adapter.factors(one)
        assert is_balanced(A.double().numpy(), B.double().numpy(), rtol=1e-6)
        if one.experts == 1:
            assert one.r == rule.choose(s[: layer.r])
    scales = [pair.scale for pair in read_adapter(tmp_path / "in").pairs]
    assert [layer.scale for layer in layers] == pytest.approx(scales, rel=1e-15)


@pytest.mark.parametrize("kind", ["linear", "rslora", "others"])
def test_peft_applies_the_products_that_were_meant_though_ranks_are_mixed(tmp_path, kind):
    # the trap: other ranks load with the scale of the old ones
    saved(tmp_path / "in", kind)
    layers = resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(error=0.4))
    assert len({layer.rank for layer in layers}) > 1
    old, new = peft_updates(tmp_path / "in"), peft_updates(tmp_path / "out")
    for layer in layers:
        name = layer.name.removeprefix("base_model.model.")
        assert new[name].norm() / old[name].norm() == pytest.approx((1 - layer.error**2) ** 0.5, rel=1e-5)
        torch.testing.assert_close(new[name].double(), nearest(old[name].double(), layer.rank), rtol=0, atol=1e-6)


def test_the_same_model_at_full_rank(tmp_path):
    saved(tmp_path / "in", "rslora")
    layers = resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=64))
    assert all(layer.rank == layer.r and layer.error == 0 and 0 < layer.stored_error < 1e-6 for layer in layers)
    torch.testing.assert_close(logits(tmp_path / "out"), logits(tmp_path / "in"), rtol=1e-4, atol=1e-5)


def test_a_smaller_model_says_what_the_nearest_products_say(tmp_path):
    saved(tmp_path / "in", "others")
    resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=2))
    model = PeftModel.from_pretrained(tiny_qwen(), tmp_path / "in").eval()
    with torch.no_grad():
        for module in model.modules():
            if getattr(module, "lora_A", None):
                A, B = module.lora_B["default"].weight, module.lora_A["default"].weight
                U, s, Vt = torch.linalg.svd((A @ B).double(), full_matrices=False)
                A.zero_()
                B.zero_()
                A[:, :2], B[:2] = (U[:, :2] * s[:2]).float(), Vt[:2].float()
        expected = model(tokens()).logits
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=1e-4, atol=1e-5)


def test_everything_else_is_carried_along(tmp_path):
    saved(tmp_path / "in", "others")
    (tmp_path / "in" / "notes.txt").write_text("mine")
    resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=1))
    old, new = load_file(tmp_path / "in" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert old.keys() == new.keys()
    others = [key for key in old if "lora_" not in key]
    assert others
    assert all(torch.equal(old[key], new[key]) for key in others)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"]) == (1, 2)
    PeftModel.from_pretrained(tiny_qwen(), tmp_path / "out")


@pytest.mark.parametrize("experts", [2, 3])
def test_experts_of_a_stack_share_the_largest_rank_that_one_needs(tmp_path, experts):
    base = Mixture()
    base.experts.weight = torch.nn.Parameter(base.experts.weight.detach()[:experts])
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=6, target_parameters=["experts.weight"]))
    unbalance(model, 3).save_pretrained(tmp_path / "in")
    rule = RankRule(error=0.2)
    needed = [rule.choose(torch.linalg.svdvals(W)[:4]) for W in updates(tmp_path / "in").values()]
    layers = resize_adapter(tmp_path / "in", tmp_path / "out", rule)
    assert len(set(needed)) > 1
    assert {layer.rank for layer in layers} == {max(needed)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_stay(tmp_path, dtype):
    tensors = random_pair(dtype=dtype, r=4)
    write_adapter(tmp_path / "in", tensors, r=4, lora_alpha=4)
    (layer,) = resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=2))
    new = load_file(tmp_path / "out" / WEIGHTS)
    assert {tensor.dtype for tensor in new.values()} == {dtype}
    assert abs(layer.stored_error - layer.error) <= 4 * torch.finfo(dtype).eps
    W = updates(tmp_path / "in")[layer.name]
    made = updates(tmp_path / "out")[layer.name]
    assert layer.stored_error == pytest.approx(float((W - made).norm() / W.norm()), rel=1e-6)


def test_a_layer_that_has_learned_nothing_stays_as_it_is(tmp_path):
    tensors = random_pair(r=3) | pair(torch.zeros(6, 3), torch.ones(3, 5), "base_model.model.k_proj")
    write_adapter(tmp_path / "in", tensors, r=3, lora_alpha=3)
    layers = resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=2))
    assert (layers[0].name, layers[0].error, layers[0].stored_error) == ("base_model.model.k_proj", 0, 0)
    new = load_file(tmp_path / "out" / WEIGHTS)
    assert torch.equal(new["base_model.model.k_proj.lora_A.weight"], torch.ones(2, 5))
    assert not new["base_model.model.k_proj.lora_B.weight"].any()


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga"])
def test_starts_out_of_the_base_weights_are_refused(tmp_path, start):
    write_adapter(tmp_path / "in", random_pair(), r=2, lora_alpha=2, init_lora_weights=start)
    with pytest.raises(ValueError, match=rf"cannot be resized: init_lora_weights = {start}.*path_initial_model"):
        resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=1))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("start", [True, False, "gaussian", "eva", "orthogonal"])
def test_other_starts_are_not(tmp_path, start):
    write_adapter(tmp_path / "in", random_pair(), r=2, lora_alpha=2, init_lora_weights=start)
    assert resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=1))[0].rank == 1


def test_magnitudes_are_refused_by_tensor_and_by_configuration(tmp_path):
    unbalance(with_lora(use_dora=True)).save_pretrained(tmp_path / "dora")
    write_adapter(tmp_path / "said", random_pair(), r=2, lora_alpha=2, use_dora=True)
    named = {**random_pair(), f"{MODULE}.lora_magnitude_vector": torch.ones(6)}
    write_adapter(tmp_path / "there", named, r=2, lora_alpha=2)
    for name, where in (("dora", r" \(base_model.*lora_.*\)"), ("said", ""), ("there", r" \(.*vector\)")):
        with pytest.raises(ValueError, match=rf"cannot be resized: its DoRA magnitudes{where} were trained"):
            resize_adapter(tmp_path / name, tmp_path / "out", RankRule(rank=1))
    assert not (tmp_path / "out").exists()


def test_what_is_no_product_is_refused(tmp_path):
    write_adapter(tmp_path / "in", random_pair(), r=2, lora_alpha=2, kasa_config={"x": 1})
    with pytest.raises(CannotBalanceError, match="KaSA"):
        resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=1))


def test_factors_that_leave_the_range_of_their_type_are_refused(tmp_path):
    # A of 60,000 and B of 60,000 have s = 3.6e9·6·5 or so, whose root is no float16
    A, B = torch.full((6, 2), 6e4), torch.full((2, 5), 6e4)
    tensors = pair(A.half(), B.half())
    write_adapter(tmp_path / "in", tensors, r=2, lora_alpha=2)
    with pytest.raises(ValueError, match=r"q_proj: its new factors would leave the range of float16; nothing was"):
        resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=1))
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]


def test_factors_too_small_for_their_type_are_refused(tmp_path):
    # the smallest of float16: 2^-24; balanced factors of this product are smaller than that in most entries
    A, B = torch.full((6, 2), 2.0**-24), torch.full((2, 5), 2.0**-24)
    B[1] *= 2
    A[0, 0] *= 3
    write_adapter(tmp_path / "in", pair(A.half(), B.half()), r=2, lora_alpha=2)
    with pytest.raises(ValueError, match="would leave the range of float16"):
        resize_adapter(tmp_path / "in", tmp_path / "out", RankRule(rank=1))
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]
