"""Bases in 4 bits: what changes gauge, or only looks, touches the adapter and never reads the packed weights.

A stand-in has what bitsandbytes' Linear4bit has that could trip a reader: a packed uint8 weight of another shape, which
is no floating point, and a `quant_state`. Where bitsandbytes is installed, its own layer is tested as well.
"""

from importlib.util import find_spec

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from lorakappa.llm import (
    audit_adapter,
    balance_adapter,
    balance_model,
    create_balora_optimizer,
    create_ilora_optimizer,
    create_pilora_optimizer,
    create_reflora_optimizer,
    lora_pairs,
)
from tests.llm.adapters.test_hooks import balanced
from tests.llm.models import unbalance

LEVELS = torch.linspace(-1, 1, 16)


class PackedLinear(nn.Module):
    """A linear layer whose weight is two 4-bit codes a byte, with one scale."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        values = torch.randn(outputs, inputs) / inputs**0.5
        codes = (values / values.abs().max() * 7.5 + 7.5).round().to(torch.uint8).flatten()
        self.weight = nn.Parameter((codes[::2] * 16 + codes[1::2])[:, None], requires_grad=False)
        self.quant_state = {"shape": values.shape, "scale": values.abs().max()}

    def forward(self, x):
        codes = torch.stack([self.weight[:, 0] // 16, self.weight[:, 0] % 16], 1).flatten()
        values = (LEVELS[codes.long()] * self.quant_state["scale"]).view(self.quant_state["shape"])
        return x @ values.T


class LoraPackedLinear(nn.Module, LoraLayer):
    """LoRA on it, as PEFT's `lora.Linear4bit` is on bitsandbytes' layer."""

    def __init__(self, base_layer, adapter_name, config=None, r=0, lora_alpha=1, **options):
        super().__init__()
        LoraLayer.__init__(self, base_layer)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, r, lora_alpha=lora_alpha, config=config)

    def forward(self, x):
        result = self.base_layer(x)
        for adapter in self.active_adapters:
            result = result + self.lora_B[adapter](self.lora_A[adapter](x)) * self.scaling[adapter]
        return result


class Net(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.first, self.second = layer(12, 16), layer(16, 8)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def stand_in():
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["first", "second"])
    config._register_custom_module({PackedLinear: LoraPackedLinear})
    return get_peft_model(Net(PackedLinear), config)


def from_bitsandbytes():
    import bitsandbytes

    net = Net(lambda inputs, outputs: bitsandbytes.nn.Linear4bit(inputs, outputs, quant_type="nf4")).to("cpu")
    return get_peft_model(net, LoraConfig(r=4, lora_alpha=8, target_modules=["first", "second"]))


MISSING = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
KINDS = [stand_in, pytest.param(from_bitsandbytes, marks=[MISSING, pytest.mark.filterwarnings("ignore")])]


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    return unbalance(request.param())


def packed(model):
    return [m.base_layer.weight for m in model.modules() if isinstance(m, LoraLayer)]


def outputs(model):
    return model(torch.randn(5, 12, generator=torch.Generator().manual_seed(1)))


pytestmark = pytest.mark.filterwarnings("ignore:Unsupported layer type .*PackedLinear:UserWarning")
FACTORIES = [create_balora_optimizer, create_ilora_optimizer, create_pilora_optimizer, create_reflora_optimizer]


@pytest.mark.parametrize("factory", FACTORIES)
def test_training_touches_the_adapter_only(model, factory):
    weights = packed(model)
    before = [weight.clone() for weight in weights]
    optimizer = factory(model, torch.optim.AdamW, lr=1e-2)
    losses = []
    for _ in range(6):
        loss = outputs(model).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(
        weight.dtype == torch.uint8 and torch.equal(weight, old) for weight, old in zip(weights, before, strict=True)
    )
    assert all(now is weight for now, weight in zip(packed(model), weights, strict=True))
    assert balanced(model) == (factory is create_balora_optimizer)


def test_balancing_changes_no_output(model):
    before = outputs(model).detach()
    report = balance_model(model)
    assert report.balanced == len(lora_pairs(model)) == 2
    assert balanced(model)
    torch.testing.assert_close(outputs(model).detach(), before)


@pytest.mark.filterwarnings("ignore:Could not find a config file")
def test_saved_adapters_are_read_without_the_base(model, tmp_path):
    model.save_pretrained(tmp_path / "adapter")
    audits = audit_adapter(tmp_path / "adapter")
    assert len(audits) == 2
    balance_adapter(tmp_path / "adapter", tmp_path / "balanced")
    for audit in audit_adapter(tmp_path / "balanced"):
        assert audit.gap < 1e-6
