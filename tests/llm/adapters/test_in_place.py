"""Balancing in place equals balancing copies, small and large, and what is looked up once is not kept blindly."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from lorakappa.conditioning import GAUGES, balance
from lorakappa.llm import balance_after_step, balance_model, lora_pairs
from lorakappa.llm.adapters import in_place
from lorakappa.llm.adapters.balancing import Balancing
from lorakappa.llm.adapters.in_place import InPlace, serves
from lorakappa.llm.adapters.lookup import PairLookup
from tests.llm.models import Mixture, tokens, unbalance, with_lora


def factors(model):
    return {pair.name: (pair.A.detach().clone(), pair.B.detach().clone()) for pair in lora_pairs(model)}


@pytest.mark.parametrize("small", [0, 2**9, 2**15], ids=["blocks", "both", "stacks"])
@pytest.mark.parametrize("block", [40, 2**18])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("gauge", GAUGES)
def test_it_is_balance_however_it_is_cut(monkeypatch, small, block, dtype, gauge):
    monkeypatch.setattr(in_place, "SMALL", small)
    monkeypatch.setattr(in_place, "BLOCK", block)
    model = unbalance(with_lora(rank_pattern={"q_proj": 2, "up_proj": 3}))
    for pair in lora_pairs(model):
        pair.left.data, pair.right.data = pair.left.to(dtype), pair.right.to(dtype)
    before = factors(model)
    with torch.no_grad():
        lora_pairs(model)[3].left[:, 1] = 0  # one that the fast route refuses
    before = factors(model)
    report = balance_model(model, gauge=gauge)
    assert report.balanced == len(before)
    eps = torch.finfo(dtype).eps
    for name, (X, Y) in factors(model).items():
        A, B = before[name]
        X2, Y2 = balance(A, B, gauge=gauge)
        scale = max(float(X2.abs().max()), float(Y2.abs().max()))
        torch.testing.assert_close(X, X2, rtol=0, atol=40 * eps * scale)
        torch.testing.assert_close(Y, Y2, rtol=0, atol=40 * eps * scale)


def test_experts_and_convolutions_are_written_through_their_views():
    model = get_peft_model(Mixture(), LoraConfig(r=2, target_parameters=["experts.weight"]))
    unbalance(model)
    before = factors(model)
    assert all(serves(pair) for pair in lora_pairs(model))
    balance_model(model)
    for name, (X, Y) in factors(model).items():
        torch.testing.assert_close(X @ Y, before[name][0] @ before[name][1])
        torch.testing.assert_close(X.T @ X, Y @ Y.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("why", ["float64", "two types", "strides"])
def test_what_is_not_served_is_balanced_as_a_copy(why):
    model = unbalance(with_lora(target_modules=["q_proj"]))
    pair = lora_pairs(model)[0]
    if why == "float64":
        pair.left.data, pair.right.data = pair.left.double(), pair.right.double()
    elif why == "two types":
        pair.left.data = pair.left.bfloat16()
    else:
        pair.left.data = pair.left.T.contiguous().T
    assert not serves(lora_pairs(model)[0])
    before = factors(model)
    assert balance_model(model).balanced == len(before)
    for name, (X, Y) in factors(model).items():
        A, B = before[name]
        torch.testing.assert_close(X.double() @ Y.double(), A.double() @ B.double(), rtol=2e-2, atol=2e-2)
        torch.testing.assert_close(X.double().T @ X.double(), Y.double() @ Y.double().T, rtol=3e-2, atol=3e-2)


def test_nothing_is_written_before_all_gauges_are_known():
    model = unbalance(with_lora())
    before = factors(model)
    places = InPlace(lora_pairs(model))
    outcomes = places.gauges("hyperbalanced")
    assert all(
        torch.equal(old, new) for name in before for old, new in zip(before[name], factors(model)[name], strict=True)
    )
    assert all(all(one.safe) and all(one.moves) for one in outcomes)
    places.move(outcomes)
    moves = [x for one in places.gauges("hyperbalanced") for x in one.factors]
    identity = torch.eye(4, dtype=torch.float64)
    for T in moves:  # a balanced pair stays, up to rounding
        torch.testing.assert_close(T, identity.expand_as(T), rtol=0, atol=1e-3)


def test_one_working_set_serves_step_after_step():
    model = unbalance(with_lora())
    twin = copy.deepcopy(model)
    ready = Balancing(lora_pairs(model), gauge="hyperbalanced", moments="keep")
    for step in range(3):
        for one in (model, twin):
            torch.manual_seed(step)
            with torch.no_grad():
                for pair in lora_pairs(one):
                    pair.left.add_(torch.randn_like(pair.left))
        ready()
        balance_model(twin)
        for old, new in zip(factors(model).values(), factors(twin).values(), strict=True):
            torch.testing.assert_close(old, new)


# --- looking up ----------------------------------------------------------------------------------------


def test_pairs_are_looked_up_once_while_nothing_changes():
    model = unbalance(with_lora())
    look = PairLookup(model)
    first = look()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(tokens()).logits.sum().backward()
    optimizer.step()
    model.eval()
    assert look() is first


def replace_parameter(model):
    layer = lora_pairs(model)[0]
    module = next(m for m in model.modules() if getattr(m, "weight", None) is layer.left)
    module.weight = nn.Parameter(layer.left.detach().clone())


def replace_memory(model):
    pair = lora_pairs(model)[0]
    pair.left.data = pair.left.detach().clone()


def replace_layer(model):
    attention = model.base_model.model.model.layers[0].self_attn
    attention.q_proj = copy.deepcopy(attention.q_proj)


def change_type(model):
    lora_pairs(model)[0].right.data = lora_pairs(model)[0].right.double()


CHANGES = {
    "parameter": replace_parameter,
    "memory": replace_memory,
    "layer": replace_layer,
    "type": change_type,
    "freezing": lambda model: [p.requires_grad_(False) for p in model.parameters()],
    "adapter": lambda model: model.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"])),
    "deleted": lambda model: model.delete_adapter("other"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(change):
    model = unbalance(with_lora())
    model.add_adapter("other", LoraConfig(r=3, target_modules=["q_proj"]))
    look = PairLookup(model)
    first = look()
    CHANGES[change](model)
    now = look()
    assert now is not first
    fresh = lora_pairs(model)
    assert [(p.name, p.trainable) for p in now] == [(p.name, p.trainable) for p in fresh]
    assert all(p.left is q.left and p.right is q.right for p, q in zip(now, fresh, strict=True))
    assert look() is now


def test_a_hook_follows_a_replaced_parameter():
    model = unbalance(with_lora())
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.01)
    balance_after_step(optimizer, model)
    model(tokens()).logits.square().sum().backward()
    optimizer.step()
    replace_memory(model)
    model(tokens()).logits.square().sum().backward()
    optimizer.step()
    for pair in lora_pairs(model):
        A, B = pair.A.detach(), pair.B.detach()
        torch.testing.assert_close(A.T @ A, B @ B.T, rtol=1e-3, atol=1e-4)


def test_every_device_is_asked_once(monkeypatch):
    model = unbalance(with_lora(rank_pattern={"q_proj": 2, "up_proj": 3}))
    asked = []
    to_list = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: asked.append(self.shape) or to_list(self))
    balance_model(model)
    assert len(asked) == 1
