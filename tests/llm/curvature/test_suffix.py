"""What of a forward pass is skipped, and that the derivatives are those of the whole one."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lorakappa.llm.adapters.pairs import lora_pairs
from lorakappa.llm.curvature import progress
from lorakappa.llm.curvature.layer_loss import LayerLoss, differentiable
from lorakappa.llm.curvature.suffix import Suffix
from tests.llm.curvature.test_curvature import examples, micro
from tests.llm.models import unbalance, with_lora


def llama(tied=True, **lora):
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied, initializer_range=0.4, dtype=torch.float32,
    )  # fmt: skip
    return unbalance(with_lora(LlamaForCausalLM(config), r=2, **lora))


def gpt2():
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=11, n_positions=16, n_embd=8, n_layer=3, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        initializer_range=0.4,
    )  # fmt: skip
    return unbalance(with_lora(GPT2LMHeadModel(config), r=2, target_modules=["c_fc"], fan_in_fan_out=True))


def loss_of(model, part, batch):
    weights = {name: p.detach().double() for name, p in model.named_parameters()}
    pair = next(pair for pair in lora_pairs(model) if part in pair.name)
    return LayerLoss(model, weights, pair, batch, chunk=5)


def whole(model, loss, batch):
    """The loss through the whole network, as a function of x, sharing nothing with `LayerLoss` but the weights."""
    size = loss.a * loss.r

    def value(x):
        factors = {
            loss.left: x[:size].reshape(loss.pair.left.shape),
            loss.right: x[size:].reshape(loss.pair.right.shape),
        }
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        output = torch.func.functional_call(model, {**loss.weights, **factors}, (), {**inputs, "use_cache": False})
        logits, labels = output.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
        return nn.functional.cross_entropy(logits, labels)

    return value


def without_head():
    """A model that does not tell which of its modules makes the logits."""
    model = llama(target_modules=["v_proj"])
    model.get_output_embeddings = lambda: None
    return model


CASES = {
    "first block": (lambda: micro(target_modules=["q_proj"]), "layers.0.", 0),
    "last block": (lambda: micro(target_modules=["down_proj"]), "layers.1.", 1),
    "llama, middle": (lambda: llama(target_modules=["v_proj"]), "layers.1.", 1),
    "llama, k of the last": (lambda: llama(target_modules=["k_proj"]), "layers.2.", 2),
    "head": (lambda: llama(tied=False, target_modules=["lm_head"]), "lm_head", 0),
    "embedding": (lambda: llama(tied=False, target_modules=["embed_tokens"]), "embed_tokens", 0),
    "dora": (lambda: llama(target_modules=["o_proj"], use_dora=True), "layers.2.", 2),
    "gpt2": (gpt2, "h.2.", 2),
    "no head known": (without_head, "layers.1.", 1),
}


@pytest.mark.parametrize("case", CASES)
def test_the_derivatives_are_those_of_the_whole_network(case):
    make, part, skipped = CASES[case]
    model, batch = make(), examples(padding=2)
    with differentiable(model):
        loss = loss_of(model, part, batch)
        value = whole(model, loss, batch)
        identity = torch.eye(loss.d, dtype=torch.float64)
        H, G = loss.hessian_products(loss.point, identity), loss.ggn_products(loss.point, identity)
        expected = torch.func.hessian(value)(loss.point)
        there = loss.point * 1.3 + 0.01
        moved = loss.hessian_products(there, identity), torch.func.hessian(value)(there)
        assert loss.value(there).item() == pytest.approx(value(there).item(), rel=1e-12)
        expected_gradient, gradient = torch.func.grad(value)(loss.point), loss.gradient(loss.point)
    assert loss.suffix.skipped == skipped
    np.testing.assert_allclose(H, expected, atol=1e-12 * expected.abs().max())
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-12 * moved[1].abs().max())
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-13 * gradient.abs().max())
    assert np.linalg.eigvalsh(G.numpy())[0] > -1e-12 * G.abs().max()


def test_skipped_blocks_do_not_run_and_come_back(monkeypatch):
    model, batch = llama(target_modules=["v_proj"]), examples()
    blocks = model.base_model.model.model.layers
    own = blocks[0].forward
    ran = []
    blocks[0].forward = lambda *a, **k: (ran.append(0), own(*a, **k))[1]
    blocks[1].mlp.register_forward_hook(lambda *_: ran.append(1))
    replaced = blocks[0].forward
    with differentiable(model):
        loss = loss_of(model, "layers.1.", batch)
        assert ran == [0, 1, 1]
        loss.hessian_products(loss.point, torch.eye(loss.d, dtype=torch.float64))
        loss.ggn_products(loss.point, torch.eye(loss.d, dtype=torch.float64))
    assert ran == [0, 1, 1, 1]  # one pass at one point, whatever the number of products
    assert blocks[0].forward is replaced
    assert "forward" not in blocks[1].__dict__
    monkeypatch.setattr(loss, "_output", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss.logits(loss.point)
    assert blocks[0].forward is replaced
    assert not model.get_output_embeddings()._forward_pre_hooks


class Shared(nn.Module):
    """Two names for one block, which runs twice, and a module that is not called at all."""

    def __init__(self):
        super().__init__()
        block = nn.Linear(2, 2)
        self.blocks = nn.ModuleList([block, nn.Linear(2, 2), block])
        self.blocks[1].base_layer = nn.Identity()
        self.unused = nn.Linear(2, 2)
        self.unused.base_layer = nn.Identity()

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize("name", ["blocks.1.weight", "unused.weight"])
def test_blocks_that_run_again_and_layers_that_do_not_run_skip_nothing(name):
    model = Shared()
    suffix = Suffix(model, name)
    with suffix.recording():
        model(torch.ones(1, 2))
    assert suffix.skipped == 0
    assert not any(block._forward_hooks for block in model.blocks)


def test_the_work_is_forecast_once_and_a_bar_grows_beyond_it(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    said = []
    monkeypatch.setattr(progress, "announce", lambda seconds, what, quiet: said.append((seconds, what, quiet)))
    bar = Progress(console=Console(file=io.StringIO()))
    products = progress.Products(bar, 3, quiet=False)
    with products.of("a layer", 40):
        products.advance(4)
        products.advance(4)
        products.advance(4)
        products.advance(40)
        assert (bar.tasks[0].completed, bar.tasks[0].total) == (52, 52)
    assert bar.tasks == []
    assert said == [(10 * 40 / 8 * 3, "the curvature of 3 layers", False)]
