"""Moments that change gauge with the factors: exact where they are linear, refused where unknown."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from lorakappa.llm import balance_model, lora_pairs
from lorakappa.llm.adapters.moments import gauge_between
from tests.llm.models import Mixed, Mixture, tiny_qwen, tokens, unbalance, with_lora


def trained(optimizer_class, steps=3, model=None, **settings):
    """A model with a state: gradients at fixed parameters (learning rate 0), so the gauge is the only change."""
    model = unbalance(with_lora(target_modules=["q_proj", "down_proj"])) if model is None else model
    optimizer = optimizer_class((p for p in model.parameters() if p.requires_grad), lr=0.0, **settings)
    for step in range(steps):
        gradients(model, step)
        optimizer.step()
    return model, optimizer


def gradients(model, seed):
    batch = tokens(seed=seed)
    model.zero_grad()
    model(batch, labels=batch).loss.backward()


@pytest.mark.parametrize(
    ("optimizer_class", "settings", "key"),
    [(torch.optim.SGD, {"momentum": 0.9}, "momentum_buffer"), (torch.optim.AdamW, {}, "exp_avg")],
)
@pytest.mark.parametrize("gauge", ["hyperbalanced", "symmetric"])
def test_transport_is_what_training_in_the_new_gauge_had_accumulated(optimizer_class, settings, key, gauge):
    model, optimizer = trained(optimizer_class, **settings)
    twin = copy.deepcopy(model)
    balance_model(twin, gauge=gauge)
    _, expected = trained(optimizer_class, model=twin, **settings)
    balance_model(model, gauge=gauge, optimizer=optimizer, moments="transport")
    for pair, reference in zip(lora_pairs(model), lora_pairs(twin), strict=True):
        for mine, other in ((pair.left, reference.left), (pair.right, reference.right)):
            torch.testing.assert_close(
                optimizer.state[mine][key],
                expected.state[other][key],
                rtol=1e-3,
                atol=1e-4 * float(expected.state[other][key].abs().max()),
            )


def test_transport_of_stacked_experts_and_convolutions():
    for base, targets, inputs in (
        (Mixture(), {"target_parameters": ["experts.weight"]}, torch.randn(9, 5)),
        (Mixed(), {"target_modules": ["embedding", "conv1", "conv2", "linear"]}, tokens().clamp(max=19)),
    ):
        model = unbalance(get_peft_model(base, LoraConfig(r=2, **targets)))
        twin = copy.deepcopy(model)
        balance_model(twin)
        states = []
        for one in (model, twin):
            optimizer = torch.optim.SGD((p for p in one.parameters() if p.requires_grad), lr=0.0, momentum=0.9)
            one(inputs).square().mean().backward()
            optimizer.step()
            states.append(optimizer)
        balance_model(model, optimizer=states[0], moments="transport")
        for pair, reference in zip(lora_pairs(model), lora_pairs(twin), strict=True):
            for mine, other in ((pair.left, reference.left), (pair.right, reference.right)):
                torch.testing.assert_close(
                    states[0].state[mine]["momentum_buffer"],
                    states[1].state[other]["momentum_buffer"],
                    rtol=1e-3,
                    atol=1e-6,
                )


def test_transport_reaches_tied_parameters():
    def tied():
        return unbalance(with_lora(tiny_qwen(tied=True), target_modules=["embed_tokens"], ensure_weight_tying=True))

    model, optimizer = trained(torch.optim.SGD, model=tied(), momentum=0.9)
    twin = tied()
    balance_model(twin)
    _, expected = trained(torch.optim.SGD, model=twin, momentum=0.9)
    balance_model(model, optimizer=optimizer, moments="transport")
    for pair, reference in zip(lora_pairs(model), lora_pairs(twin), strict=True):
        for mine, other in ((pair.left, reference.left), (pair.right, reference.right)):
            torch.testing.assert_close(
                optimizer.state[mine]["momentum_buffer"], expected.state[other]["momentum_buffer"], rtol=1e-3, atol=1e-6
            )


def test_the_second_moment_is_exact_for_a_scaling():
    torch.manual_seed(0)
    model, optimizer = trained(torch.optim.AdamW)
    with torch.no_grad():  # orthogonal columns and rows: P only rescales
        for pair in lora_pairs(model):
            pair.left.copy_(torch.linalg.qr(pair.left)[0] * torch.tensor([8.0, 4.0, 2.0, 1.0]))
            pair.right.copy_(torch.linalg.qr(pair.right.mT)[0].mT * 0.1)
    optimizer = torch.optim.AdamW(optimizer.param_groups[0]["params"], lr=0.0)
    twin = copy.deepcopy(model)
    balance_model(twin)
    gradients(model, 0)
    optimizer.step()
    _, expected = trained(torch.optim.AdamW, 1, twin)
    balance_model(model, optimizer=optimizer, moments="transport")
    for pair, reference in zip(lora_pairs(model), lora_pairs(twin), strict=True):
        mine, other = optimizer.state[pair.left]["exp_avg_sq"], expected.state[reference.left]["exp_avg_sq"]
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-3 * float(other.max()))


def test_second_moments_stay_non_negative_and_keep_touches_nothing():
    for moments in ("keep", "transport"):
        model, optimizer = trained(torch.optim.AdamW, amsgrad=True)
        before = copy.deepcopy(optimizer.state_dict()["state"])
        balance_model(model, optimizer=optimizer, moments=moments)
        after = optimizer.state_dict()["state"]
        same = all(torch.equal(after[i][key], before[i][key]) for i in before for key in before[i])
        assert same == (moments == "keep")
        assert all((after[i][key] >= 0).all() for i in after for key in ("exp_avg_sq", "max_exp_avg_sq"))


def test_reset_is_a_fresh_optimizer():
    model, optimizer = trained(torch.optim.AdamW)
    balance_model(model, optimizer=optimizer, moments="reset")
    fresh = copy.deepcopy(model)
    new = torch.optim.AdamW((p for p in fresh.parameters() if p.requires_grad), lr=0.1)
    optimizer.param_groups[0]["lr"] = 0.1
    for one, its_optimizer in ((model, optimizer), (fresh, new)):
        gradients(one, 9)
        its_optimizer.step()
    for pair, reference in zip(lora_pairs(model), lora_pairs(fresh), strict=True):
        torch.testing.assert_close(pair.A, reference.A)
        torch.testing.assert_close(pair.B, reference.B)


def test_pairs_that_do_not_determine_the_gauge_keep_their_moments():
    A, B = torch.randn(2, 6, 3), torch.randn(2, 3, 5)
    A[1, :, 0] = 0
    T = torch.randn(3, 3) + 3 * torch.eye(3)
    *_, known = gauge_between(A, B, A @ T, torch.linalg.solve(T, B))
    assert known.tolist() == [True, False]


def test_a_fresh_adapter_keeps_its_state():
    model = with_lora(target_modules=["q_proj"])
    model, optimizer = trained(torch.optim.AdamW, model=model)
    before = copy.deepcopy(optimizer.state_dict()["state"])
    for moments in ("transport", "reset"):
        balance_model(model, optimizer=optimizer, moments=moments)
    after = optimizer.state_dict()["state"]
    assert all(torch.equal(after[i][key], before[i][key]) for i in before for key in before[i])


def test_an_unknown_state_is_refused():
    model, optimizer = trained(torch.optim.Adamax)
    before = [pair.A.clone() for pair in lora_pairs(model)]
    with pytest.raises(ValueError, match=r"Adamax keeps 'exp_inf' for .*q_proj.* use moments=\"keep\""):
        balance_model(model, optimizer=optimizer, moments="transport")
    assert all(torch.equal(old, pair.A) for old, pair in zip(before, lora_pairs(model), strict=True))
    assert balance_model(model, optimizer=optimizer).balanced == 4


def test_sgd_without_momentum_has_nothing_to_transport():
    model, optimizer = trained(torch.optim.SGD)
    assert balance_model(model, optimizer=optimizer, moments="transport").balanced == 4
