"""Several optimizers on one model: each balances what it trains whole, and together they balance all of it."""

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from lorakappa.llm import CannotBalanceError, balance_after_step, balance_model, lora_pairs, regularize_after_step
from lorakappa.llm.adapters.hooks import map_after_step
from lorakappa.llm.adapters.joining import JointOptimizer
from tests.llm.adapters.test_hooks import balanced, step
from tests.llm.adapters.test_moments import gradients
from tests.llm.adapters.test_regularizing import by_hand, copies
from tests.llm.models import unbalance, with_lora


def two_pairs():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    return model, *lora_pairs(model)


def optimizer_of(*factors, kind=torch.optim.AdamW, lr=1e-2, **settings):
    return kind(factors, lr=lr, **settings)


def by_layers(kind=torch.optim.AdamW, **settings):
    """A model, and an optimizer for each of its two pairs."""
    model, one, two = two_pairs()
    return model, [optimizer_of(pair.left, pair.right, kind=kind, **settings) for pair in (one, two)]


def by_factors(kind=torch.optim.AdamW, **settings):
    """A model, and an optimizer for its factors A and one for B."""
    model, one, two = two_pairs()
    return model, [
        optimizer_of(one.left, two.left, kind=kind, **settings),
        optimizer_of(one.right, two.right, kind=kind, **settings),
    ]


def together(model, optimizers, seed=0):
    gradients(model, seed)
    for optimizer in optimizers:
        optimizer.step()


def changed(model, before):
    return [not torch.equal(pair.A, A) for pair, (A, _) in zip(lora_pairs(model), before, strict=True)]


def test_only_the_pairs_that_an_optimizer_trains_are_balanced_after_its_step():
    model, (first, second) = by_layers()
    handle = balance_after_step(first, model, moments="transport")
    gradients(model, 0)
    before = copies(model)
    first.step()
    assert handle.last.balanced == 1
    assert changed(model, before) == [True, False]  # the gradients of the second pair are still right
    second.step()
    assert handle.steps == 1


def test_pairs_that_no_optimizer_trains_stay():
    model, one, _ = two_pairs()
    optimizer = optimizer_of(one.left, one.right)
    balance_after_step(optimizer, model)
    before = copies(model)
    step(model, optimizer)
    assert changed(model, before) == [True, False]


@pytest.mark.parametrize("attach", [balance_after_step, regularize_after_step])
def test_split_pairs_are_refused_with_the_remedy(attach):
    model, (first, second) = by_factors()
    for optimizer, factors in ((first, "A but not B"), (second, "B but not A")):
        with pytest.raises(CannotBalanceError, match=rf"q_proj .*trains its factor {factors}; .*\[first, second\]"):
            attach(optimizer, model)
        assert not optimizer._optimizer_step_post_hooks
    assert attach([first, second], model).steps == 0


def test_a_pair_split_between_two_of_three_optimizers_is_refused():
    model, one, two = two_pairs()
    optimizers = [optimizer_of(one.left, one.right), optimizer_of(two.left), optimizer_of(two.right)]
    with pytest.raises(CannotBalanceError, match="AdamW and AdamW trains its factor A but not B"):
        balance_after_step(optimizers[:2], model)
    balance_after_step(optimizers, model)
    together(model, optimizers)
    assert balanced(model)


@pytest.mark.parametrize("make", [by_layers, by_factors])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_handle_balances_after_the_last_whatever_the_order(make, order):
    model, optimizers = make()
    handle = balance_after_step(optimizers, model)
    for seed in range(4):
        gradients(model, seed)
        optimizers[order[0]].step()
        assert handle.steps == seed
        assert not balanced(model)
        optimizers[order[1]].step()
        assert handle.steps == seed + 1
        assert balanced(model)
    assert handle.last.balanced == 2
    handle.remove()
    together(model, optimizers)
    assert handle.steps == 4


@pytest.mark.parametrize("make", [by_layers, by_factors])
@pytest.mark.parametrize(("kind", "settings"), [(torch.optim.AdamW, {}), (torch.optim.SGD, {"momentum": 0.9})])
@pytest.mark.parametrize("moments", ["keep", "transport", "reset"])
def test_training_is_that_of_one_optimizer_over_all(make, kind, settings, moments):
    model, optimizers = make(kind, **settings)
    balance_after_step(optimizers, model, moments=moments)
    twin, one, two = two_pairs()
    whole = optimizer_of(one.left, one.right, two.left, two.right, kind=kind, **settings)
    balance_after_step(whole, twin, moments=moments)
    for seed in range(4):
        together(model, optimizers, seed)
        together(twin, [whole], seed)
    for pair, reference in zip(lora_pairs(model), lora_pairs(twin), strict=True):
        assert torch.equal(pair.A, reference.A)
        assert torch.equal(pair.B, reference.B)


def test_moments_are_transported_in_both_states():
    model, optimizers = by_factors(torch.optim.SGD, lr=0.0, momentum=0.9)
    together(model, optimizers)
    states = [entries for optimizer in optimizers for entries in optimizer.state.values()]
    before = [entries["momentum_buffer"].clone() for entries in states]
    balance_model(model, optimizer=optimizers, moments="transport")
    assert not any(torch.equal(a["momentum_buffer"], b) for a, b in zip(states, before, strict=True))


def test_moments_that_are_elsewhere_are_not_lost_silently():
    model, (first, second) = by_layers()
    together(model, (first, second))
    before = copies(model)
    with pytest.raises(ValueError, match=r"AdamW does not train .*layers.1.*moments are elsewhere"):
        balance_model(model, optimizer=first, moments="transport")
    halves, (of_A, _) = by_factors()
    with pytest.raises(CannotBalanceError, match="trains its factor A but not B"):
        balance_model(halves, optimizer=of_A, moments="reset")
    assert not any(changed(model, before))
    assert balance_model(model, optimizer=(first, second), moments="transport").balanced == 2


def test_a_round_in_which_one_was_skipped_is_not_taken_for_a_whole_one():
    model, optimizers = by_factors()
    first, second = optimizers
    handle = balance_after_step(optimizers, model)
    gradients(model, 0)
    second.step()  # the scaler skipped the first
    gradients(model, 1)
    before = copies(model)
    first.step()
    assert handle.steps == 0
    assert all(torch.equal(pair.B, B) for pair, (_, B) in zip(lora_pairs(model), before, strict=True))
    second.step()
    assert handle.steps == 1
    assert balanced(model)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_optimizers_of_different_periods(set_to_none):
    model, optimizers = by_factors()
    often, rarely = optimizers
    handle = balance_after_step(optimizers, model)
    for micro in range(6):
        model(torch.full((2, 5), micro), labels=torch.full((2, 5), micro)).loss.backward()
        often.step()
        often.zero_grad(set_to_none=set_to_none)
        if micro % 3 == 2:
            rarely.step()
            rarely.zero_grad(set_to_none=set_to_none)
        assert handle.steps == (micro + 1) // 3
    assert balanced(model)


def test_a_loop_in_which_no_moment_is_right_is_refused_rather_than_left_unbalanced():
    model, optimizers = by_factors()
    balance_after_step(optimizers, model)

    def train():
        for seed in range(20):
            for optimizer in optimizers:
                gradients(model, seed)
                optimizer.step()

    with pytest.raises(ValueError, match="gets gradients between its step and that of"):
        train()


def test_penalty_steps_take_each_its_own_learning_rate():
    model, one, two = two_pairs()
    optimizers = [
        optimizer_of(one.left, two.right, kind=torch.optim.SGD, lr=0.02),
        optimizer_of(two.left, one.right, kind=torch.optim.SGD, lr=0.01),
    ]
    handle = regularize_after_step(optimizers, model, strength=2.0, ratio=0.5)
    before = copies(model)
    for parameter in (one.left, one.right, two.left, two.right):
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    assert handle.last == 2
    for pair, (A, B), rate in zip(lora_pairs(model), before, (0.02, 0.01), strict=True):
        torch.testing.assert_close((pair.A.detach(), pair.B.detach()), by_hand(A, B, 2 * rate, 0.5))


def test_maps_get_one_optimizer_as_it_is_and_several_as_one():
    model, optimizers = by_layers()
    seen = []
    map_after_step(optimizers[0], model, lambda pairs, optimizer: seen.append((pairs, optimizer)))
    map_after_step(optimizers, model, lambda pairs, optimizer: seen.append((pairs, optimizer)))
    together(model, optimizers)
    (alone, first), (both, joint) = seen
    assert first is optimizers[0]
    assert (len(alone), len(both)) == (1, 2)
    assert isinstance(joint, JointOptimizer)
    assert len(joint.param_groups) == 2
    assert dict(joint.state) == {**optimizers[0].state, **optimizers[1].state}
    assert len(joint.state) == 4
    assert joint.state.get(nn.Parameter(torch.ones(1)), {}) == {}


def test_accelerates_wrappers_in_a_list():
    model, optimizers = by_factors()
    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
    model, *optimizers = accelerator.prepare(model, *optimizers)
    handle = balance_after_step(optimizers, model)
    for micro in range(4):
        with accelerator.accumulate(model):
            batch = torch.full((2, 5), micro)
            accelerator.backward(model(batch, labels=batch).loss)
            for optimizer in optimizers:
                optimizer.step()
            for optimizer in optimizers:
                optimizer.zero_grad()
    assert handle.steps == 2
    assert balanced(model)


def test_a_scaler_that_skips_one_of_them():
    model, optimizers = by_factors()
    handle = balance_after_step(optimizers, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflow in (None, 0, 1, None):
        model.zero_grad()
        batch = torch.full((2, 5), 1)
        scaler.scale(model(batch, labels=batch).loss).backward()
        if overflow is not None:
            optimizers[overflow].param_groups[0]["params"][0].grad[0, 0] = float("inf")
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update()
    assert handle.steps == 2  # the first and the last
    assert balanced(model)


def test_lists_that_name_none_or_one_twice():
    model, optimizers = by_layers()
    with pytest.raises(ValueError, match="the list of optimizers is empty"):
        balance_after_step([], model)
    with pytest.raises(ValueError, match="names one of them twice"):
        balance_after_step([optimizers[0], optimizers[0]], model)
    with pytest.raises(TypeError, match=r"int holds no torch.optim.Optimizer"):
        balance_after_step([optimizers[0], 3], model)
