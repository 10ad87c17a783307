"""Balance to data: moments are those of the weighted loss, padding stays out, the model is left alone."""

import pytest
import torch
from torch import nn

from lorakappa.conditioning import fisher_balance, optimal_gauge_of_pair
from lorakappa.llm import balance_to_data, lora_pairs
from tests.llm.models import Mixed, tiny_qwen, tokens, unbalance, with_lora

SMALL = ["q_proj", "down_proj"]


def one_layer(a=5, b=6, r=2, scaling=3.0):
    torch.manual_seed(0)
    return unbalance(
        with_lora(nn.Sequential(nn.Linear(b, a, bias=False)), r=r, target_modules=["0"], lora_alpha=r * scaling)
    )


class Squares(nn.Module):
    """½‖C(y − z)‖² of a layer's output, as a loss of a model that transformers could have made."""

    def __init__(self, layer, C, z):
        super().__init__()
        self.layer, self.C, self.z = layer, C, z

    def forward(self, x):
        error = (self.layer(x) - self.z) @ self.C.mT
        return type("Output", (), {"loss": error.square().sum() / 2})()


def test_one_layer_is_the_weighted_loss():
    model = one_layer()
    (pair,) = lora_pairs(model)
    A, B = pair.A.detach().clone().double(), pair.B.detach().clone().double()
    x = torch.randn(400, 6) * torch.tensor([10.0, 3, 1, 1, 0.3, 0.1])
    report = balance_to_data(model, [x[:100], (x[100:],)], damping=1e-9)
    assert report.balanced == 1
    covariance = (x.mT @ x).double() / 400
    D = torch.linalg.cholesky(covariance)
    best = optimal_gauge_of_pair(A.numpy(), B.numpy(), D=D.numpy())
    torch.testing.assert_close(pair.A.detach().double(), A @ torch.from_numpy(best.T), rtol=1e-3, atol=1e-4)
    X, Y = pair.A.detach().double(), pair.B.detach().double()
    torch.testing.assert_close(covariance.trace() * X.mT @ X, 5 * Y @ covariance @ Y.mT, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(X @ Y, A @ B, rtol=1e-4, atol=1e-5)


def test_the_loss_weighs_outputs():
    model, C = one_layer(), torch.diag(torch.tensor([4.0, 1, 1, 0.5, 0.1]))
    (pair,) = lora_pairs(model)
    A, B = pair.A.detach().clone().double(), pair.B.detach().clone().double()
    x, z = torch.randn(300, 6), torch.randn(300, 5)
    delta = (((model(x) - z) @ C.mT) @ C).detach().double()
    hidden, backward = x.double() @ B.mT, delta @ A
    H_A = delta.square().sum() * hidden.mT @ hidden
    H_B = x.double().square().sum() * backward.mT @ backward
    expected = fisher_balance(A, B, H_A, H_B, damping=0.1)
    balance_to_data(Squares(model, C, z), [x], output="gradient")
    torch.testing.assert_close(pair.A.detach().double(), expected.A, rtol=1e-3, atol=1e-4)
    assert pair.left.grad is None


@pytest.mark.parametrize("output", ["identity", "gradient"])
@pytest.mark.parametrize("dora", [False, True])
def test_padding_does_not_count_and_the_model_stays_as_it_was(output, dora):
    models = [unbalance(with_lora(target_modules=SMALL, use_dora=dora)) for _ in range(2)]
    batch = tokens(batch=2, length=8)
    padded = torch.cat([batch, batch[:, :3]], dim=1)
    mask = torch.ones_like(padded)
    mask[:, 8:] = 0
    labels = padded.masked_fill(mask == 0, -100)
    models[1].train()
    models[1].base_model.model.model.layers[0].eval()
    modes = [module.training for module in models[1].modules()]
    before = models[1](padded, attention_mask=mask).logits.detach()
    balance_to_data(models[0], [{"input_ids": batch, "labels": batch}], output=output)
    batches = [{"input_ids": padded, "attention_mask": mask, "labels": labels}]
    report = balance_to_data(models[1], batches, output=output)
    assert report.balanced == 4
    for one, other in zip(*map(lora_pairs, models), strict=True):
        torch.testing.assert_close(one.A, other.A, rtol=2e-2, atol=2e-3)
    torch.testing.assert_close(models[1](padded, attention_mask=mask).logits, before, rtol=1e-3, atol=1e-4)
    assert [module.training for module in models[1].modules()] == modes
    assert all(parameter.grad is None for parameter in models[1].parameters())
    assert not any(module._forward_hooks for module in models[1].modules())


def test_other_layers_are_balanced_and_moments_carried():
    model = unbalance(with_lora(Mixed(), r=2, target_modules=["embedding", "conv1", "linear"]))
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.0)
    ids = torch.randint(20, (4, 6))
    model(ids).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    report = balance_to_data(model, [ids], optimizer=optimizer, moments="reset")
    assert report.balanced == 3
    for pair in lora_pairs(model):
        equal = torch.allclose(pair.A.mT @ pair.A, pair.B @ pair.B.mT, rtol=1e-3, atol=1e-5)
        assert equal == ("linear" not in pair.name)
        assert not optimizer.state[pair.left]["exp_avg"].any()


def test_wrong_use():
    model = unbalance(with_lora(tiny_qwen(), target_modules=["q_proj"]))
    batch = {"input_ids": tokens()}
    for options, message in (
        ({"output": "loss"}, "output must be one of identity, gradient"),
        ({"damping": 0}, "must be positive"),
        ({"gauge": "flat"}, "gauge"),
        ({"moments": "reset"}, "needs the optimizer"),
        ({"output": "gradient"}, "returns a loss"),
    ):
        with pytest.raises(ValueError, match=message):
            balance_to_data(model, [batch], **options)
    with pytest.raises(ValueError, match="no batch"):
        balance_to_data(model, iter([]))
    assert not any(module._forward_hooks for module in model.modules())
