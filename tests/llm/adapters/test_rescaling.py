"""RefLoRA-S in real training loops: equal norms, the same products, moments that go with the factors."""

import copy

import pytest
import torch

from lorakappa.conditioning import refactored_gradient
from lorakappa.llm import RescaleCallback, lora_pairs, rescale_after_step
from lorakappa.llm.adapters.factors import NonFiniteError
from tests.llm.adapters.test_hooks import adamw, step
from tests.llm.adapters.test_refactoring import backward, products, relative, sgd
from tests.llm.models import tiny_qwen, unbalance, with_lora


def norms(model):
    return [(float(pair.A.detach().norm()), float(pair.B.detach().norm())) for pair in lora_pairs(model)]


def test_norms_are_equal_after_every_step_and_products_stay():
    model = unbalance(with_lora())
    optimizer = adamw(model, lr=0.0)
    handle = rescale_after_step(optimizer, model)
    before = products(model)
    assert all(a < 0.5 * b for a, b in norms(model))
    step(model, optimizer)
    assert all(a == pytest.approx(b, rel=1e-6) for a, b in norms(model))
    assert relative(products(model), before) < 1e-6
    assert (handle.steps, handle.last) == (1, 14)


def test_with_sgd_the_gradients_could_be_multiplied_instead():
    scaled = with_lora().double()
    multiplied = copy.deepcopy(scaled)
    first, second = sgd(scaled), sgd(multiplied)
    rescale_after_step(first, scaled)
    for seed in range(8):
        step(scaled, first, seed)
        backward(multiplied, seed)
        for pair in lora_pairs(multiplied):
            inputs = (M.detach() for M in (pair.A, pair.B, pair.left.grad, pair.right.grad))
            g_A, g_B = refactored_gradient(*inputs, mode="scalar")
            pair.left.grad, pair.right.grad = g_A, g_B
        second.step()
        assert relative(products(scaled), products(multiplied)) < 1e-10
    assert max(abs(a / b - 1) for a, b in norms(multiplied)) > 0.01


def test_moments_go_with_the_factors():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    optimizer, reference = adamw(model), copy.deepcopy(model)
    plain = adamw(reference)
    rescale_after_step(optimizer, model)
    step(model, optimizer)
    step(reference, plain)
    for pair, other in zip(lora_pairs(model), lora_pairs(reference), strict=True):
        p = float((other.B.detach().norm() / other.A.detach().norm()) ** 0.5)
        torch.testing.assert_close(pair.A, p * other.A)
        torch.testing.assert_close(pair.B, other.B / p)
        for factor, old, scale in ((pair.left, other.left, 1 / p), (pair.right, other.right, p)):
            state, before = optimizer.state[factor], plain.state[old]
            torch.testing.assert_close(state["exp_avg"], scale * before["exp_avg"])
            torch.testing.assert_close(state["exp_avg_sq"], scale**2 * before["exp_avg_sq"])


def test_the_start_of_lora_and_every():
    model = with_lora()
    optimizer = sgd(model, lr=0.0)
    before = [pair.B.detach().clone() for pair in lora_pairs(model)]
    handle = rescale_after_step(optimizer, model, every=2)
    for _ in range(3):
        step(model, optimizer)
        assert all(torch.equal(old, pair.B) for old, pair in zip(before, lora_pairs(model), strict=True))
    assert handle.last == 14
    unbalance(model)
    step(model, optimizer)
    assert all(a == pytest.approx(b, rel=1e-6) for a, b in norms(model))
    with pytest.raises(ValueError, match="every must be at least 1, not 0"):
        RescaleCallback(every=0)


def test_tied_layers_stay_tied():
    model = unbalance(with_lora(tiny_qwen(tied=True), target_modules=["embed_tokens"], ensure_weight_tying=True))
    optimizer = adamw(model)
    handle = rescale_after_step(optimizer, model)
    step(model, optimizer)
    embedding, output_layer = lora_pairs(model)
    assert torch.equal(embedding.A, output_layer.B.mT)
    assert all(a == pytest.approx(b, rel=1e-6) for a, b in norms(model))
    assert handle.last == 1  # one memory


def test_what_cannot_be_rescaled_is_named():
    model = unbalance(with_lora())
    optimizer = sgd(model, lr=0.0)
    rescale_after_step(optimizer, model)
    backward(model)
    with torch.no_grad():
        lora_pairs(model)[5].right[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"layers.0.mlp.up_proj \(adapter default\) contains NaN .* was rescaled"):
        optimizer.step()
    other = unbalance(with_lora())
    strange = torch.optim.Adadelta([p for p in other.parameters() if p.requires_grad])
    rescale_after_step(strange, other)
    with pytest.raises(ValueError, match="how it changes with the gauge is unknown"):
        step(other, strange)
