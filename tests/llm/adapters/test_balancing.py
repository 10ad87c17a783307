"""`balance_model` keeps what the model computes and balances every pair, whatever its kind."""

import copy
import re

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from lorakappa.conditioning import balance, balancing_gap, is_balanced, is_hyperbalanced
from lorakappa.llm import balance_model, lora_pairs
from tests.llm.models import Mixed, Mixture, tiny_qwen, tokens, unbalance, with_lora

FACTOR = re.compile(r"lora_[AB]\.\w+\.weight|lora_embedding_[AB]")


def mixed():
    targets = ["embedding", "conv1", "conv2", "attention", "linear"]
    return get_peft_model(Mixed(), LoraConfig(r=2, target_modules=targets)), tokens().clamp(max=19)


def qwen(**config):
    return with_lora(**config), tokens()


MODELS = {
    "lora": qwen,
    "rslora": lambda: qwen(use_rslora=True),
    "dora": lambda: qwen(use_dora=True),
    "lora bias": lambda: qwen(lora_bias=True, target_modules=["q_proj", "v_proj"]),
    "ranks": lambda: qwen(rank_pattern={"q_proj": 2, "up_proj": 3}),
    "rank above the dimension": lambda: qwen(r=40),
    "embedding": lambda: qwen(target_modules=["embed_tokens", "lm_head"]),
    "embedding dora": lambda: qwen(target_modules=["embed_tokens"], use_dora=True),
    "all other layers": mixed,
    "experts": lambda: (
        get_peft_model(Mixture(), LoraConfig(r=2, target_parameters=["experts.weight"])),
        torch.randn(7, 5),
    ),
}


def output(model, inputs):
    with torch.no_grad():
        result = model(inputs)
    return getattr(result, "logits", result)


@pytest.mark.parametrize("kind", MODELS)
def test_the_function_stays_and_the_pairs_are_balanced(kind):
    model, inputs = MODELS[kind]()
    unbalance(model).eval()
    before = output(model, inputs)
    others = {name: value.clone() for name, value in model.state_dict().items() if not FACTOR.search(name)}
    report = balance_model(model)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in others.items())
    torch.testing.assert_close(output(model, inputs), before, rtol=1e-4, atol=1e-5)
    pairs = lora_pairs(model)
    assert report.balanced == len(pairs)
    assert report.unchanged == ()
    for pair in pairs:
        A, B = pair.A.detach().numpy(), pair.B.detach().numpy()
        if min(A.shape[0], B.shape[1]) >= A.shape[1]:
            assert is_hyperbalanced(A, B), pair.name


def test_it_is_conditionings_balance_batched():
    model = unbalance(with_lora())
    expected = {pair.name: balance(pair.A.detach(), pair.B.detach(), gauge="symmetric") for pair in lora_pairs(model)}
    report = balance_model(model, gauge="symmetric")
    assert report.batches == 4  # q and o, k and v, gate and up, down
    for pair in lora_pairs(model):
        torch.testing.assert_close(pair.A, expected[pair.name][0])
        torch.testing.assert_close(pair.B, expected[pair.name][1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_are_kept(dtype):
    model = unbalance(with_lora())
    for pair in lora_pairs(model):
        pair.left.data, pair.right.data = pair.left.to(dtype), pair.right.to(dtype)
    pairs = lora_pairs(model)
    products = [pair.A.double() @ pair.B.double() for pair in pairs]
    balance_model(model)
    for pair, product in zip(pairs, products, strict=True):
        assert pair.A.dtype == dtype
        scale = torch.linalg.matrix_norm(pair.A.double()) * torch.linalg.matrix_norm(pair.B.double())
        assert (
            torch.linalg.matrix_norm(pair.A.double() @ pair.B.double() - product) < 4 * torch.finfo(dtype).eps * scale
        )
        assert is_balanced(pair.A.detach().double(), pair.B.detach().double(), rtol=16 * torch.finfo(dtype).eps)


def test_factors_of_two_dtypes_are_balanced():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    for pair in lora_pairs(model):
        pair.left.data = pair.left.bfloat16()
    assert balance_model(model).balanced == 2
    assert {(pair.A.dtype, pair.B.dtype) for pair in lora_pairs(model)} == {(torch.bfloat16, torch.float32)}


def test_a_fresh_adapter_is_left_alone():
    model = with_lora()
    before = copy.deepcopy(model.state_dict())
    report = balance_model(model)
    assert report.balanced == 0
    assert len(report.unchanged) == 14
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rank_deficient_pairs_keep_the_function():
    model = unbalance(with_lora())
    with torch.no_grad():
        for pair in lora_pairs(model):
            pair.left[:, 1] = 0
    before = output(model, tokens())
    balance_model(model)
    torch.testing.assert_close(output(model, tokens()), before, rtol=1e-4, atol=1e-5)


def test_frozen_adapters_are_skipped():
    model = with_lora()
    model.add_adapter("other", LoraConfig(r=4, target_modules=["q_proj"]))
    unbalance(model)
    before = [pair.A.clone() for pair in lora_pairs(model, "other")]
    report = balance_model(model)
    assert (report.balanced, report.frozen) == (14, 2)
    assert all(torch.equal(old, pair.A) for old, pair in zip(before, lora_pairs(model, "other"), strict=True))
    model.set_adapter("other")
    assert balance_model(model).balanced == 2


def test_one_of_two_adapters():
    model = with_lora()
    model.add_adapter("other", LoraConfig(r=4, target_modules=["q_proj"]))
    for parameter in (p for name, p in model.named_parameters() if "lora_" in name):
        parameter.requires_grad_(True)
    unbalance(model)
    assert balance_model(model, adapter="other").balanced == 2
    assert all(balancing_gap(p.A.detach(), p.B.detach()) > 1 for p in lora_pairs(model, "default"))


@pytest.mark.parametrize("moments", ["keep", "transport"])
def test_tied_layers_stay_tied(moments):
    base = tiny_qwen(tied=True)
    model = unbalance(with_lora(base, target_modules=["embed_tokens"], ensure_weight_tying=True))
    embedding, output_layer = lora_pairs(model)
    assert embedding.left.data_ptr() == output_layer.right.data_ptr()
    before = output(model, tokens())
    optimizer = torch.optim.AdamW(model.parameters())
    report = balance_model(model, optimizer=optimizer, moments=moments)
    assert report.balanced == 1
    embedding, output_layer = lora_pairs(model)
    assert embedding.left.data_ptr() == output_layer.right.data_ptr()
    assert torch.equal(embedding.A, output_layer.B.mT)
    assert is_balanced(embedding.A.detach(), embedding.B.detach())
    torch.testing.assert_close(output(model, tokens()), before, rtol=1e-4, atol=1e-5)


def test_a_nan_is_named_and_nothing_is_written():
    model = unbalance(with_lora())
    with torch.no_grad():
        lora_pairs(model)[5].right[0, 0] = float("nan")
    before = [pair.A.clone() for pair in lora_pairs(model)]
    with pytest.raises(ValueError, match=r"layers.0.mlp.up_proj \(adapter default\) contains NaN or infinity"):
        balance_model(model)
    assert all(torch.equal(old, pair.A) for old, pair in zip(before, lora_pairs(model), strict=True))


def test_unknown_choices():
    model = unbalance(with_lora())
    with pytest.raises(ValueError, match="gauge must be one of hyperbalanced, nearest, symmetric, not 'flat'"):
        balance_model(model, gauge="flat")
    with pytest.raises(ValueError, match="moments must be one of keep, transport, reset, not 'lose'"):
        balance_model(model, moments="lose")
    with pytest.raises(ValueError, match="needs the optimizer"):
        balance_model(model, moments="reset")


def test_sharded_parameters_are_gathered_and_written_back(tmp_path):
    from torch import distributed
    from torch.distributed.fsdp import fully_shard

    model = unbalance(with_lora(target_modules=["q_proj", "v_proj"]))
    expected = copy.deepcopy(model)
    balance_model(expected)
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        from torch.distributed.device_mesh import init_device_mesh

        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.0)
        model(tokens(), labels=tokens()).loss.backward()
        optimizer.step()
        assert all(hasattr(pair.left, "full_tensor") for pair in lora_pairs(model))
        balance_model(model, optimizer=optimizer, moments="transport")
        for pair, reference in zip(lora_pairs(model), lora_pairs(expected), strict=True):
            torch.testing.assert_close(pair.A, reference.A)
            torch.testing.assert_close(pair.B, reference.B)
    finally:
        distributed.destroy_process_group()


def test_a_wrapped_model_is_reached():
    assert balance_model(nn.DataParallel(unbalance(with_lora()))).balanced == 14
