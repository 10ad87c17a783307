"""The Fisher gauge in real training loops: moments equal after every step, saved and resumed, safe as BaLoRA is."""

import copy

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from lorakappa.conditioning import fisher_balance, fisher_gauge
from lorakappa.llm import FisherBalanceCallback, balance_after_step, fisher_balance_after_step, lora_pairs
from lorakappa.llm.adapters.factors import CannotBalanceError, NonFiniteError
from lorakappa.llm.adapters.fisher_balancing import FisherBalancing
from lorakappa.llm.adapters.gradient_moments import SAVED, GradientMoments
from tests.llm.adapters.test_hooks import adamw, step, train
from tests.llm.models import Mixed, Mixture, tiny_qwen, tokens, unbalance, with_lora

SMALL = ["q_proj", "v_proj"]


def moments(handle, pair):
    """H_A and H_B of a pair in float64."""
    return handle._gradients.stacked([pair])[0]


def assert_in_gauge(handle, model, damping=0.1, gauge="symmetric", tolerance=1e-3):
    """Nothing is left to be done."""
    for pair in lora_pairs(model):
        A, B = pair.A.detach().double(), pair.B.detach().double()
        T, _ = fisher_gauge(A, B, *moments(handle, pair), damping=damping, gauge=gauge)
        torch.testing.assert_close(T, torch.eye(len(T), dtype=T.dtype), rtol=0, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"gauge": "hyperbalanced"}, {"damping": 1e-2}, {"moments": "transport"}])
def test_every_step_ends_in_the_gauge_and_the_loss_falls(options):
    model = with_lora()
    optimizer = adamw(model)
    handle = fisher_balance_after_step(optimizer, model, **options)
    losses = [step(model, optimizer) for _ in range(8)]
    assert losses[-1] < losses[0] - 0.15
    assert handle.steps == 8
    assert handle.last.balanced == 14
    assert_in_gauge(handle, model, options.get("damping", 0.1), options.get("gauge", "symmetric"))


def test_products_stay_and_in_place_is_what_copies_are():
    models = [unbalance(with_lora(target_modules=SMALL)) for _ in range(2)]
    optimizers = [adamw(model, lr=0.0) for model in models]
    handle = fisher_balance_after_step(optimizers[0], models[0], damping=1.0)
    step(models[0], optimizers[0])
    step(models[1], optimizers[1])
    for pair, old in zip(lora_pairs(models[0]), lora_pairs(models[1]), strict=True):
        A, B = old.A.detach(), old.B.detach()
        g_A, g_B = old.left.grad.double(), old.right.grad.double()
        new = fisher_balance(A.double(), B.double(), g_A.mT @ g_A, g_B @ g_B.mT, damping=1.0)
        torch.testing.assert_close(pair.A.detach().double(), new.A, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(pair.B.detach().double(), new.B, rtol=1e-3, atol=1e-4)
        error = (pair.A.detach().double() @ pair.B.detach().double() - A.double() @ B.double()).norm()
        assert float(error) <= 16 * torch.finfo(torch.float32).eps * float(new.A.norm() * new.B.norm())
        torch.testing.assert_close(moments(handle, pair), torch.stack(new[2:]), rtol=1e-3, atol=1e-9)


def test_without_a_limit_to_damping_it_is_balora():
    models = [with_lora(target_modules=SMALL) for _ in range(2)]
    optimizers = [adamw(model) for model in models]
    fisher_balance_after_step(optimizers[0], models[0], damping=float("inf"))
    balance_after_step(optimizers[1], models[1], gauge="symmetric")
    for _ in range(4):
        for model, optimizer in zip(models, optimizers, strict=True):
            step(model, optimizer)
    for one, other in zip(*map(lora_pairs, models), strict=True):
        torch.testing.assert_close(one.A, other.A, rtol=1e-4, atol=1e-6)


def test_means_are_those_of_the_steps_and_fade():
    model = with_lora(target_modules=["q_proj"])
    pair = lora_pairs(model)[0]
    optimizer = torch.optim.SGD([pair.left, pair.right], lr=0.0)
    means = GradientMoments([optimizer], decay=0.75)
    means.follow([pair])
    rng, squares, expected = np.random.default_rng(0), [], 0.0
    for count in range(1, 8):
        gradient = torch.from_numpy(rng.standard_normal(pair.left.shape)).float()
        pair.left.grad, pair.right.grad = gradient, None
        means.observe(optimizer)
        squares.append(gradient.double().mT @ gradient.double())
        expected = sum(squares) / count if count <= 4 else 0.75 * expected + 0.25 * squares[-1]
        found = means.stacked([pair])[0]
        torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-5)
        assert not found[1].any()  # B had no gradient


def test_sparse_gradients_are_those_that_they_stand_for():
    model = with_lora(target_modules=["q_proj"])
    pair = lora_pairs(model)[0]
    optimizer = torch.optim.SGD([pair.left, pair.right], lr=0.0)
    means = GradientMoments([optimizer])
    means.follow([pair])
    dense = torch.zeros_like(pair.left)
    dense[3] = 2.0
    pair.left.grad = dense.to_sparse()
    means.observe(optimizer)
    torch.testing.assert_close(means.stacked([pair])[0, 0], (dense.mT @ dense).double())


def test_accumulation_and_clipping_count_once_per_step():
    model = with_lora(target_modules=SMALL)
    accelerator = Accelerator(gradient_accumulation_steps=3, cpu=True)
    model, optimizer = accelerator.prepare(model, adamw(model, lr=0.0))
    handle = fisher_balance_after_step(optimizer, model)
    for micro in range(6):
        with accelerator.accumulate(model):
            batch = tokens(seed=micro)
            accelerator.backward(model(batch, labels=batch).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1e-3)
            optimizer.step()
            optimizer.zero_grad()
    assert handle.steps == 2
    pairs = lora_pairs(model)
    total = sum(float(moments(handle, pair).diagonal(dim1=-2, dim2=-1).sum()) for pair in pairs)
    assert total == pytest.approx(1e-6, rel=1e-2)  # the squared norm of the clipped gradient
    assert set(handle._gradients._steps.values()) == {2}


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_scaler_skips_do_not_enter_and_scales_are_taken_out(fused):
    models = [unbalance(with_lora(target_modules=["q_proj"])) for _ in range(2)]
    plain, scaled = (adamw(model, fused=fused) for model in models)
    first, second = (fisher_balance_after_step(*pair) for pair in zip((plain, scaled), models, strict=True))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
    for overflow in (True, False, True, False, False):
        scaled.zero_grad()
        scaler.scale(models[1](tokens(), labels=tokens()).loss).backward()
        if overflow:
            lora_pairs(models[1])[0].left.grad[0, 0] = float("inf")
        else:
            step(models[0], plain, seed=3)
        scaler.step(scaled)
        scaler.update()
    assert first.steps == second.steps == 3
    for one, other in zip(*map(lora_pairs, models), strict=True):
        torch.testing.assert_close(moments(second, other), moments(first, one), rtol=1e-3, atol=1e-12)
        torch.testing.assert_close(other.A, one.A, rtol=1e-3, atol=1e-5)


def test_warm_up_from_zero_starts_where_lora_does():
    model = with_lora(target_modules=SMALL)
    optimizer = adamw(model, lr=0.0)
    handle = fisher_balance_after_step(optimizer, model)
    before = [pair.B.clone() for pair in lora_pairs(model)]
    for _ in range(3):
        step(model, optimizer)
    assert all(torch.equal(old, pair.B) for old, pair in zip(before, lora_pairs(model), strict=True))
    assert handle.last.balanced == 0
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    losses = [step(model, optimizer) for _ in range(8)]
    assert handle.last.balanced == 4
    assert losses[-1] < losses[0] - 0.03


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(dtype):
    model = unbalance(with_lora(target_modules=SMALL)).to(dtype)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.0)
    old = [(pair.A.detach().double(), pair.B.detach().double()) for pair in lora_pairs(model)]
    handle = fisher_balance_after_step(optimizer, model)
    step(model, optimizer)
    assert handle.last.balanced == 4
    for (A, B), pair in zip(old, lora_pairs(model), strict=True):
        X, Y = pair.A.detach().double(), pair.B.detach().double()
        assert float((X @ Y - A @ B).norm()) <= 16 * torch.finfo(dtype).eps * float(X.norm() * Y.norm())


def test_every_k_steps_sees_every_gradient():
    model = with_lora(target_modules=SMALL)
    optimizer = adamw(model)
    handle = fisher_balance_after_step(optimizer, model, every=3)
    factors = []
    for _ in range(6):
        step(model, optimizer)
        factors.append(handle.last)
    assert [report is not None for report in factors] == [False, False, True, True, True, True]
    assert set(handle._gradients._steps.values()) == {6}
    assert_in_gauge(handle, model)


def test_several_optimizers_of_one_pair():
    model = with_lora(target_modules=SMALL)
    pairs = lora_pairs(model)
    lefts = torch.optim.AdamW([pair.left for pair in pairs], lr=1e-2)
    rights = torch.optim.SGD([pair.right for pair in pairs], lr=1e-1)
    with pytest.raises(CannotBalanceError, match="one list"):
        fisher_balance_after_step(lefts, model)
    handle = fisher_balance_after_step([lefts, rights], model)
    for _ in range(4):
        step(model, lefts)
        rights.step()
    assert handle.steps == 4
    assert set(handle._gradients._steps.values()) == {4}
    assert_in_gauge(handle, model)


def test_stacked_experts_embeddings_and_convolutions():
    for base, targets, batch in (
        (Mixture(), {"target_modules": [], "target_parameters": ["experts.weight"]}, torch.randn(8, 5)),
        (Mixed(), {"target_modules": ["embedding", "conv1", "conv2", "linear"]}, torch.randint(20, (4, 6))),
    ):
        model = unbalance(with_lora(base, r=2, **targets))
        optimizer = adamw(model)
        handle = fisher_balance_after_step(optimizer, model)
        for _ in range(3):
            optimizer.zero_grad()
            model(batch).square().sum().backward()
            optimizer.step()
        assert handle.last.balanced == len(lora_pairs(model))
        assert_in_gauge(handle, model, tolerance=5e-3)
        state = optimizer.state_dict()["param_groups"][0][SAVED]
        assert sum(len(value) for value in state["moments"] if value is not None) == 2 * len(lora_pairs(model))


def test_loading_a_state_before_or_after_attaching_goes_on_bit_for_bit():
    def fresh():
        model = with_lora(target_modules=SMALL)
        return model, adamw(model)

    model, optimizer = fresh()
    fisher_balance_after_step(optimizer, model)
    for seed in range(3):
        step(model, optimizer, seed)
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    assert SAVED not in optimizer.param_groups[0]
    for seed in range(3, 6):
        step(model, optimizer, seed)
    for before in (True, False):
        again, other = fresh()
        if before:
            other.load_state_dict(copy.deepcopy(saved[1]))
        handle = fisher_balance_after_step(other, again)
        if not before:
            step(again, other)
            other.load_state_dict(copy.deepcopy(saved[1]))
            handle.steps = 3
        again.load_state_dict(saved[0])
        assert SAVED not in other.param_groups[0]
        for seed in range(3, 6):
            step(again, other, seed)
        for one, reference in zip(lora_pairs(again), lora_pairs(model), strict=True):
            assert torch.equal(one.A, reference.A)
            assert torch.equal(one.B, reference.B)
        assert set(handle._gradients._steps.values()) == {6}


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_resumed_training_is_the_same_training(tmp_path):
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "warmup_steps": 1}
    whole, _, _ = train(tmp_path / "a", [FisherBalanceCallback(every=2)], **settings)
    callback = FisherBalanceCallback(every=2)
    resumed, _, trainer = train(
        tmp_path / "b", [callback], resume=str(tmp_path / "a" / "checkpoint-3"), **settings | {"save_strategy": "no"}
    )
    assert callback.handle.steps == 6
    assert set(callback.handle._gradients._steps.values()) == {6}
    for pair, reference in zip(lora_pairs(resumed), lora_pairs(whole), strict=True):
        assert torch.equal(pair.A, reference.A)
        assert torch.equal(pair.B, reference.B)
    assert SAVED not in trainer.optimizer.optimizer.state_dict()["param_groups"][0]  # removed at the end


def test_frozen_and_new_parameters():
    model = with_lora(tiny_qwen(), target_modules=["q_proj"])
    optimizer = adamw(model)
    handle = fisher_balance_after_step(optimizer, model)
    step(model, optimizer)
    replaced = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            replaced[parameter] = torch.nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
            setattr(module, name, replaced[parameter])
    for group in optimizer.param_groups:
        group["params"] = [replaced[parameter] for parameter in group["params"]]
    step(model, optimizer)
    assert set(handle._gradients._steps.values()) == {2}  # known by name
    assert_in_gauge(handle, model)
    for pair in lora_pairs(model)[:1]:
        pair.left.requires_grad_(False)
        pair.right.requires_grad_(False)
    step(model, optimizer)
    assert handle.last.frozen == 1


def test_gradients_that_are_not_finite_are_refused_by_name():
    model = unbalance(with_lora(target_modules=SMALL))
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.0)
    fisher_balance_after_step(optimizer, model)
    step(model, optimizer)
    optimizer.zero_grad()
    model(tokens(), labels=tokens()).loss.backward()
    bad = lora_pairs(model)[1]
    bad.left.grad[0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match="contain"):  # SGD has made NaN of the factor by now
        optimizer.step()
    with torch.no_grad():
        bad.left.nan_to_num_(0.1)
    bad.left.grad[0, 0] = 0.0
    with pytest.raises(NonFiniteError, match=r"the gradients of .*v_proj.* contained NaN or infinity"):
        optimizer.step()


def test_wrong_use():
    model = with_lora(target_modules=["q_proj"])
    optimizer = adamw(model)
    for options, error, message in (
        ({"damping": 0}, ValueError, "must be positive"),
        ({"damping": -1.0}, ValueError, "must not be negative"),
        ({"damping": "1"}, TypeError, "real number"),
        ({"decay": 1.0}, ValueError, "less than 1"),
        ({"decay": True}, TypeError, "decay must be a number"),
        ({"every": 0}, ValueError, "at least 1"),
        ({"gauge": "flat"}, ValueError, "gauge"),
        ({"moments": "flat"}, ValueError, "moments"),
    ):
        with pytest.raises(error, match=message):
            fisher_balance_after_step(optimizer, model, **options)
        with pytest.raises(error, match=message):
            FisherBalanceCallback(**options)
    assert not optimizer._optimizer_step_post_hooks
    handle = fisher_balance_after_step(optimizer, model)
    with pytest.raises(ValueError, match="too late to be averaged"):
        optimizer.step(lambda: None)
    handle.remove()
    handle.remove()
    step(model, optimizer)
    assert SAVED not in optimizer.state_dict()["param_groups"][0]


def test_a_balancing_of_its_own():
    model = unbalance(with_lora(target_modules=SMALL))
    pairs = lora_pairs(model)
    optimizer = adamw(model)
    gradients = GradientMoments([optimizer])
    work = FisherBalancing(pairs, gradients, damping=0.1, gauge="symmetric", moments="keep")
    report = work()  # no gradient yet: balance
    assert report.balanced == 4
    for pair in pairs:
        torch.testing.assert_close(pair.A.mT @ pair.A, pair.B @ pair.B.mT, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-12])
def test_one_pair_alone(scale):
    """Of ordinary size, and so small that Gram matrices cannot tell its gauge."""
    model = unbalance(with_lora(target_modules=["layers.1.self_attn.q_proj"]))
    (pair,) = lora_pairs(model)
    with torch.no_grad():
        pair.left.mul_(scale)
    optimizer = torch.optim.SGD([pair.left, pair.right], lr=0.0)
    handle = fisher_balance_after_step(optimizer, model, damping=1.0)
    step(model, optimizer)
    assert handle.last.balanced == 1
    assert_in_gauge(handle, model, damping=1.0)
