"""RefLoRA in real training loops: BaLoRA's products under SGD, once per real step, nothing written but gradients."""

import copy

import pytest
import torch
from accelerate import Accelerator
from peft.optimizers import create_riemannian_optimizer

from lorakappa.conditioning import refactored_gradient
from lorakappa.llm import (
    CannotBalanceError,
    RefactorCallback,
    balance_after_step,
    balance_model,
    lora_pairs,
    refactor_before_step,
)
from lorakappa.llm.adapters.factors import NonFiniteError
from tests.llm.adapters.test_hooks import adamw, step, train
from tests.llm.models import Mixture, tiny_qwen, tokens, unbalance, with_lora


def sgd(model, **settings):
    return torch.optim.SGD((p for p in model.parameters() if p.requires_grad), **{"lr": 0.05, **settings})


def backward(model, seed=0):
    model.zero_grad()
    batch = tokens(seed=seed)
    model(batch, labels=batch).loss.backward()


def gradients(model):
    return [None if g is None else g.clone() for pair in lora_pairs(model) for g in (pair.left.grad, pair.right.grad)]


def by_hand(model):
    """What the gradients should become, pair by pair in float64."""
    found = []
    for pair in lora_pairs(model):
        inputs = (M.detach().double() for M in (pair.A, pair.B, pair.left.grad, pair.right.grad))
        found += refactored_gradient(*inputs)
    return found


def products(model):
    return [(pair.A @ pair.B).detach() for pair in lora_pairs(model)]


def relative(found, expected):
    return max(float((x - y).norm() / y.norm()) for x, y in zip(found, expected, strict=True))


# --- the method -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_with_sgd_the_adapted_matrices_are_those_of_balora(dtype, rtol):
    balora = unbalance(with_lora().to(dtype))
    reflora, lora = copy.deepcopy(balora), copy.deepcopy(balora)
    balance_model(balora, gauge="symmetric")
    ours, theirs, plain = sgd(reflora), sgd(balora), sgd(lora)
    handle = refactor_before_step(ours, reflora)
    balance_after_step(theirs, balora, gauge="symmetric")
    for seed in range(15):
        for model, optimizer in ((reflora, ours), (balora, theirs), (lora, plain)):
            step(model, optimizer, seed)
        assert relative(products(reflora), products(balora)) < rtol
    assert relative(products(lora), products(balora)) > 1e-2
    assert (handle.steps, handle.last) == (15, 14)


def test_from_loras_start_too():
    balora = with_lora().double()
    reflora = copy.deepcopy(balora)
    ours, theirs = sgd(reflora), sgd(balora)
    refactor_before_step(ours, reflora)
    balance_after_step(theirs, balora)
    assert not any(product.any() for product in products(reflora))
    for seed in range(10):
        step(reflora, ours, seed)
        step(balora, theirs, seed)
        assert relative(products(reflora), products(balora)) < 1e-11


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_are_the_formula_and_nothing_else_changes(dtype):
    model = unbalance(with_lora())
    for pair in lora_pairs(model):
        pair.left.data, pair.right.data = pair.left.data.to(dtype), pair.right.data.to(dtype)
    generator = torch.Generator().manual_seed(0)
    for pair in lora_pairs(model):
        for factor in (pair.left, pair.right):
            factor.grad = torch.randn(factor.shape, generator=generator).to(dtype)
    optimizer = sgd(model, lr=0.0)
    handle = refactor_before_step(optimizer, model)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    expected, given = by_hand(model), gradients(model)
    optimizer.step()
    rtol = {torch.float32: 1e-5, torch.float64: 1e-13, torch.bfloat16: 5e-3}[dtype]
    assert relative([g.double() for g in gradients(model)], expected) < rtol
    assert relative([g.double() for g in given], expected) > 0.5  # it is a change that can be seen
    assert all(torch.equal(old, p) for (_, p), old in zip(model.named_parameters(), before.values(), strict=True))
    assert handle.last == 14


def test_the_start_of_lora_keeps_its_gradients():
    model = with_lora()
    backward(model)
    optimizer, before = sgd(model), gradients(model)
    refactor_before_step(optimizer, model)
    optimizer.step()
    for old, new in zip(before, gradients(model), strict=True):
        assert torch.equal(old, new)


def test_training_with_adam_goes_on_from_loras_start():
    model = with_lora()
    optimizer = adamw(model)
    refactor_before_step(optimizer, model)
    losses = [step(model, optimizer) for _ in range(12)]
    assert losses[-1] < losses[0] - 0.25
    assert all(pair.A.isfinite().all() for pair in lora_pairs(model))


@pytest.mark.parametrize("null", ["left", "right"])
def test_null_directions(null):
    model = unbalance(with_lora())
    with torch.no_grad():
        for pair in lora_pairs(model):
            (pair.left[:, 1] if null == "left" else pair.right[1]).zero_()
    backward(model)
    optimizer, expected = sgd(model), by_hand(model)
    refactor_before_step(optimizer, model)
    optimizer.step()
    assert relative([g.double() for g in gradients(model)], expected) < 1e-5


# --- when it happens ------------------------------------------------------------------------------------


def test_removal():
    model, plain = unbalance(with_lora()), unbalance(with_lora())
    optimizer, reference = sgd(model), sgd(plain)
    with refactor_before_step(optimizer, model) as handle:
        pass
    handle.remove()
    step(model, optimizer)
    step(plain, reference)
    assert handle.steps == 0
    assert all(torch.equal(x, y) for x, y in zip(products(model), products(plain), strict=True))


def test_accumulated_and_clipped_gradients_are_multiplied_once():
    model = unbalance(with_lora())
    reference = copy.deepcopy(model)
    accelerator = Accelerator(gradient_accumulation_steps=3, cpu=True)
    prepared, optimizer = accelerator.prepare(model, sgd(model))
    handle = refactor_before_step(optimizer, prepared)
    for micro in range(3):
        with accelerator.accumulate(prepared):
            accelerator.backward(prepared(tokens(seed=micro), labels=tokens(seed=micro)).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(prepared.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
    for micro in range(3):
        (reference(tokens(seed=micro), labels=tokens(seed=micro)).loss / 3).backward()
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
    with torch.no_grad():
        for factor, g in zip(
            (f for pair in lora_pairs(reference) for f in (pair.left, pair.right)), by_hand(reference), strict=True
        ):
            factor -= 0.05 * g.float()
    assert handle.steps == 1
    assert relative(products(model), products(reference)) < 1e-5


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_scaler_skips_do_not_count(fused):
    model = unbalance(with_lora(target_modules=["q_proj"]))
    optimizer = adamw(model, fused=fused)
    handle = refactor_before_step(optimizer, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflow in (True, False, True, False):
        optimizer.zero_grad()
        scaler.scale(model(tokens(), labels=tokens()).loss).backward()
        if overflow:
            lora_pairs(model)[0].left.grad[0, 0] = float("inf")
        before = products(model)
        scaler.step(optimizer)
        scaler.update()
        assert overflow == all(torch.equal(x, y) for x, y in zip(before, products(model), strict=True))
    assert handle.steps == 2


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_changes_nothing_else(fused):
    scaled, plain = unbalance(with_lora(target_modules=["q_proj"])), unbalance(with_lora(target_modules=["q_proj"]))
    first, second = (torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.05, fused=fused)
                     for m in (scaled, plain))  # fmt: skip
    refactor_before_step(first, scaled)
    refactor_before_step(second, plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(scaled(tokens(), labels=tokens()).loss).backward()
    scaler.step(first)
    backward(plain, 3)
    second.step()
    assert relative(products(scaled), products(plain)) < 1e-5


def test_a_nested_step_multiplies_once():
    adamw(with_lora(target_modules=["q_proj"]))  # torch wraps AdamW.step now, and the subclass' step again
    model = unbalance(with_lora())
    optimizer = create_riemannian_optimizer(model, torch.optim.AdamW, lr=1e-2)
    handle = refactor_before_step(optimizer, model)
    calls = []
    handle._map, inner = lambda *args: calls.append(1) or inner(*args), handle._map
    for _ in range(3):
        step(model, optimizer)
    assert len(calls) == handle.steps == 3


def test_a_closure_comes_too_late():
    model = unbalance(with_lora())
    optimizer = sgd(model)
    handle = refactor_before_step(optimizer, model)
    before = products(model)
    for call in (lambda: optimizer.step(lambda: 1.0), lambda: optimizer.step(closure=lambda: 1.0)):
        with pytest.raises(ValueError, match=r"SGD\.step was given a closure"):
            call()
    assert all(torch.equal(x, y) for x, y in zip(before, products(model), strict=True))
    backward(model)
    expected = by_hand(model)
    optimizer.step(None)
    assert handle.steps == 1
    assert relative(gradients(model), [g.float() for g in expected]) < 1e-5


def test_warm_up_from_zero_in_the_trainer(tmp_path):
    callback = RefactorCallback()
    model, losses, trainer = train(tmp_path, [callback])
    _, lora, _ = train(tmp_path, [])
    assert losses[0] == pytest.approx(lora[0])
    assert losses[-1] < losses[0] - 1
    assert losses[-1] != pytest.approx(lora[-1], rel=1e-4)
    assert callback.handle.steps == 24
    assert all(pair.A.isfinite().all() for pair in lora_pairs(model))
    assert not trainer.optimizer.optimizer._optimizer_step_pre_hooks  # removed at the end


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_resumed_training_is_the_same_training(tmp_path):
    whole, _, _ = train(tmp_path / "a", [RefactorCallback()], max_steps=6)
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    train(tmp_path / "b", [RefactorCallback()], **settings)
    callback = RefactorCallback()
    resumed, _, _ = train(tmp_path / "b", [callback], resume=str(tmp_path / "b" / "checkpoint-3"), **settings)
    assert callback.handle.steps == 6
    for pair, reference in zip(lora_pairs(resumed), lora_pairs(whole), strict=True):
        torch.testing.assert_close(pair.A, reference.A)
        torch.testing.assert_close(pair.B, reference.B)


# --- whose gradients ------------------------------------------------------------------------------------


def test_missing_gradients_stay_missing():
    model = unbalance(with_lora())
    backward(model)
    pairs = lora_pairs(model)
    expected = by_hand(model)
    pairs[0].left.grad = None
    pairs[1].right.grad = None
    pairs[2].left.grad = pairs[2].right.grad = None
    optimizer = sgd(model)
    handle = refactor_before_step(optimizer, model)
    optimizer.step()
    found = gradients(model)
    assert [i for i, g in enumerate(found) if g is None] == [0, 3, 4, 5]
    known = [i for i, g in enumerate(found) if g is not None]
    assert relative([found[i].double() for i in known], [expected[i] for i in known]) < 1e-5
    assert handle.last == 13


def test_several_optimizers_with_pairs_of_their_own():
    model, together = unbalance(with_lora()), unbalance(with_lora())
    pairs = lora_pairs(model)
    halves = [
        torch.optim.SGD([f for pair in part for f in (pair.left, pair.right)], lr=0.05)
        for part in (pairs[:5], pairs[5:])
    ]
    other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.05)
    handle = refactor_before_step([*halves, other], model)
    one = sgd(together)
    refactor_before_step(one, together)
    for seed in range(3):
        backward(model, seed)
        for optimizer in (*halves, other):
            optimizer.step()
        step(together, one, seed)
    assert relative(products(model), products(together)) < 1e-5
    assert handle.steps == 6


def test_factors_of_one_pair_in_two_optimizers_are_refused():
    model = unbalance(with_lora())
    pairs = lora_pairs(model)
    optimizers = [
        torch.optim.SGD([pair.left for pair in pairs], lr=0.1),
        torch.optim.SGD([pair.right for pair in pairs], lr=0.1),
    ]
    with pytest.raises(CannotBalanceError, match="trains its factor A but not B; RefLoRA multiplies both"):
        refactor_before_step(optimizers, model)
    assert not optimizers[0]._optimizer_step_pre_hooks


def test_wrong_use():
    model = with_lora()
    optimizer = sgd(model)
    with pytest.raises(TypeError, match=r"object holds no torch.optim.Optimizer"):
        refactor_before_step(object(), model)
    foreign = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.05)
    refactor_before_step(foreign, model)
    with pytest.raises(ValueError, match="SGD does not hold the model's LoRA factors"):
        foreign.step()
    with pytest.raises(ValueError, match="no adapter named 'other'"):
        refactor_before_step(optimizer, model, adapter="other")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="is_trainable=True"):
        refactor_before_step(optimizer, model)


def test_a_nan_is_named_and_no_gradient_changes():
    model = unbalance(with_lora())
    backward(model)
    with torch.no_grad():
        lora_pairs(model)[5].right[0, 0] = float("nan")
    optimizer, before = sgd(model), gradients(model)
    refactor_before_step(optimizer, model)
    with pytest.raises(NonFiniteError, match=r"layers.0.mlp.up_proj \(adapter default\) contains NaN .* nothing was"):
        optimizer.step()
    assert all(torch.equal(x, y) for x, y in zip(before, gradients(model), strict=True))
    unbalance(model)
    expected = by_hand(model)
    optimizer.step()
    assert relative([g.double() for g in gradients(model)], expected) < 1e-5


@pytest.mark.parametrize("null", [False, True])
def test_tied_layers_have_gradients_of_their_own(null):
    model = unbalance(with_lora(tiny_qwen(tied=True), target_modules=["embed_tokens"], ensure_weight_tying=True))
    pairs = lora_pairs(model)
    if null:
        with torch.no_grad():
            pairs[0].left[:, 1] = 0
    assert pairs[0].left.data_ptr() == pairs[1].right.data_ptr()
    assert pairs[0].left is not pairs[1].right
    generator = torch.Generator().manual_seed(0)
    for pair in pairs:
        for factor in (pair.left, pair.right):
            factor.grad = torch.randn(factor.shape, generator=generator)
    expected = by_hand(model)
    optimizer = sgd(model, lr=0.0)
    handle = refactor_before_step(optimizer, model)
    optimizer.step()
    assert relative([g.double() for g in gradients(model)], expected) < 1e-5
    assert handle.last == 2


def test_sharded_parameters(tmp_path):
    from torch import distributed
    from torch.distributed.fsdp import fully_shard

    model = unbalance(with_lora(target_modules=["q_proj", "v_proj"]))
    backward(model)
    expected = by_hand(model)
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        from torch.distributed.device_mesh import init_device_mesh

        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        optimizer = sgd(model, lr=0.0)
        backward(model)
        refactor_before_step(optimizer, model)
        optimizer.step()
        assert all(hasattr(pair.left.grad, "full_tensor") for pair in lora_pairs(model))
        assert relative([g.full_tensor().double() for g in gradients(model)], expected) < 1e-5
    finally:
        distributed.destroy_process_group()


def test_stacked_experts_each_have_their_own():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(Mixture(), LoraConfig(r=2, target_parameters=["experts.weight"], target_modules=[]))
    pairs = lora_pairs(model)
    assert len(pairs) == 3
    for factor in (pairs[0].left, pairs[0].right):
        factor.data = torch.randn(factor.shape)
        factor.grad = torch.randn(factor.shape)
    expected = [
        M.clone()
        for pair in pairs
        for M in refactored_gradient(
            pair.A.detach(), pair.B.detach(), gradient_of(pair, "left"), gradient_of(pair, "right")
        )
    ]
    optimizer = sgd(model)
    handle = refactor_before_step(optimizer, model)
    optimizer.step()
    found = [M for pair in pairs for M in (gradient_of(pair, "left"), gradient_of(pair, "right"))]
    assert relative(found, expected) < 1e-5
    assert handle.last == 3


def gradient_of(pair, side):
    """A pair's own part of a gradient, read through a copy of the pair whose parameters are the gradients."""
    import dataclasses

    of_gradients = dataclasses.replace(pair, left=pair.left.grad, right=pair.right.grad)
    return (of_gradients.A if side == "left" else of_gradients.B).detach()
