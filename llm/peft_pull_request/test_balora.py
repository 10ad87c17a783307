# Copyright 2026-present the HuggingFace Inc. team.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_balora_optimizer
from peft.optimizers.balora import _balance, _collect_lora_layers, _lora_pair
from torch import nn


class SmallNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 12)
        self.conv = nn.Conv1d(12, 16, 3, padding=1)
        self.linear = nn.Linear(16, 10)

    def forward(self, ids):
        return self.linear(torch.relu(self.conv(self.embedding(ids).mT)).mT)


def make_model(**config):
    torch.manual_seed(0)
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["embedding", "conv", "linear"], **config}
    return get_peft_model(SmallNet(), LoraConfig(**config))


def backward(model, seed=0, scale=lambda loss: loss):
    generator = torch.Generator().manual_seed(seed)
    ids, labels = (torch.randint(high, (4, 9), generator=generator) for high in (50, 10))
    loss = nn.functional.cross_entropy(model(ids).mT, labels)
    scale(loss).backward()
    return loss


def train(model, optimizer, steps):
    for seed in range(steps):
        optimizer.zero_grad()
        backward(model, seed)
        optimizer.step()


def factors(model):
    pairs = [_lora_pair(*layer) for layer in _collect_lora_layers(model)]
    return [(a.detach().flatten(1), b.detach().flatten(1)) for a, b in pairs]


def is_balanced(a, b):
    gap = torch.linalg.matrix_norm(a @ a.T - b.T @ b)
    return bool(gap < 1e-5 * (a.norm() ** 2 + b.norm() ** 2))


@pytest.mark.parametrize("optimizer_cls", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adafactor])
def test_every_kind_of_layer_is_balanced_after_every_step(optimizer_cls):
    model = make_model()
    optimizer = create_balora_optimizer(model, optimizer_cls, lr=1e-2)
    assert type(optimizer) is optimizer_cls
    train(model, optimizer, 3)
    assert len(factors(model)) == 3
    for a, b in factors(model):
        assert is_balanced(a, b)
        gram = a @ a.T
        assert torch.allclose(gram, gram.diagonal().diag(), atol=1e-5 * float(gram.diagonal().max()))


def test_only_what_trains_is_in_the_optimizer():
    model = make_model()
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2, weight_decay=0.1)
    (group,) = optimizer.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters() if p.requires_grad}
    assert (group["lr"], group["weight_decay"]) == (1e-2, 0.1)


def test_balancing_does_not_change_the_output():
    model = make_model(init_lora_weights=False).eval()
    ids = torch.arange(18).reshape(2, 9)
    before, products = model(ids), [b @ a for a, b in factors(model)]
    assert not any(is_balanced(a, b) for a, b in factors(model))
    _balance(_collect_lora_layers(model))
    assert torch.allclose(model(ids), before, atol=1e-5)
    for (a, b), product in zip(factors(model), products, strict=True):
        assert torch.allclose(b @ a, product, atol=1e-6)
        assert is_balanced(a, b)


def test_a_warm_up_from_zero_does_not_stop_the_training():
    # after a step with learning rate 0 the product is still 0: the formula would make both factors 0, for good
    model = make_model()
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(step / 2, 1.0))
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        losses.append(float(backward(model).detach()))
        optimizer.step()
        schedule.step()
    assert losses[-1] < losses[0] - 0.05
    assert all(is_balanced(a, b) for a, b in factors(model))


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_products_of_low_rank_and_nan_stay_as_they_are(value):
    model = make_model(init_lora_weights=False, target_modules=["linear"])
    weight = model.base_model.model.linear.lora_B["default"].weight
    with torch.no_grad():
        weight[:, 3] = value
    before = [factor.clone() for factor in factors(model)[0]]
    _balance(_collect_lora_layers(model))
    assert all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(factors(model)[0], before, strict=True))


def test_bfloat16():
    model = make_model(init_lora_weights=False).to(torch.bfloat16)
    products = [b.double() @ a.double() for a, b in factors(model)]
    _balance(_collect_lora_layers(model))
    for (a, b), product in zip(factors(model), products, strict=True):
        assert a.dtype == b.dtype == torch.bfloat16
        assert torch.linalg.matrix_norm(b.double() @ a.double() - product) < 0.02 * torch.linalg.matrix_norm(product)


def test_dora_magnitudes_train_and_stay_out_of_it():
    model = make_model(use_dora=True, target_modules=["linear"])
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if "magnitude" in name}
    train(model, optimizer, 2)
    assert before
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before)
    assert all(is_balanced(a, b) for a, b in factors(model))


def test_resuming_from_a_state_dict_is_the_same_training():
    model = make_model()
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2)
    train(model, optimizer, 2)
    resumed = make_model()
    other = create_balora_optimizer(resumed, torch.optim.AdamW, lr=1e-2)
    resumed.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for trained, with_optimizer in ((model, optimizer), (resumed, other)):
        train(trained, with_optimizer, 2)
    for pair, reference in zip(factors(resumed), factors(model), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(pair, reference, strict=True))


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_scaler_skips_change_nothing(fused):
    model = make_model(init_lora_weights=False)
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflow in (True, False):
        optimizer.zero_grad()
        loss = backward(model, scale=scaler.scale)
        if overflow:
            next(p for p in model.parameters() if p.grad is not None).grad[0, 0] = float("inf")
        before = factors(model)[0][0].clone()
        scaler.step(optimizer)
        scaler.update()
        assert torch.isfinite(loss)
        assert overflow == torch.equal(before, factors(model)[0][0])
        assert overflow != is_balanced(*factors(model)[0])


def test_wrong_use():
    with pytest.raises(TypeError, match=r"subclass of torch.optim.Optimizer"):
        create_balora_optimizer(make_model(), dict, lr=1e-3)
    with pytest.raises(ValueError, match="did not find any trainable LoRA layer"):
        create_balora_optimizer(SmallNet(), torch.optim.AdamW, lr=1e-3)
    frozen = make_model()
    frozen.base_model.model.linear.lora_A["default"].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="not a free product"):
        create_balora_optimizer(frozen, torch.optim.AdamW, lr=1e-3)
    with pytest.raises(ValueError, match="rank 11 exceeds its dimensions"):
        create_balora_optimizer(make_model(r=11, target_modules=["linear"]), torch.optim.AdamW, lr=1e-3)
