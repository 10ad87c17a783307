"""BaLoRA in real training loops: once per real step, safe under warm-up, removable, resumable."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from peft.optimizers import create_loraplus_optimizer, create_riemannian_optimizer
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from lorakappa.conditioning import is_balanced
from lorakappa.llm import BalanceCallback, CannotBalanceError, balance_after_step, lora_pairs, map_after_step
from tests.llm.models import PROJECTIONS, tiny_qwen, tokens, unbalance, with_lora


def adamw(model, **settings):
    return torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), **{"lr": 1e-2, **settings})


def step(model, optimizer, seed=0):
    optimizer.zero_grad()
    batch = tokens(seed=seed)
    loss = model(batch, labels=batch).loss
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def balanced(model):
    return all(is_balanced(pair.A.detach(), pair.B.detach()) for pair in lora_pairs(model))


def test_every_step_ends_balanced_and_the_loss_falls():
    model = with_lora()
    optimizer = adamw(model)
    handle = balance_after_step(optimizer, model)
    losses = [step(model, optimizer) for _ in range(12)]
    assert balanced(model)
    assert handle.steps == 12
    assert handle.last.balanced == 14
    assert losses[-1] < losses[0] - 0.25


def test_every_k_and_removal():
    model = unbalance(with_lora())
    optimizer = adamw(model)
    handle = balance_after_step(optimizer, model, every=3)
    states = []
    for _ in range(7):
        step(model, optimizer)
        states.append(balanced(model))
    assert states == [False, False, True, False, False, True, False]
    handle.remove()
    handle.remove()
    for _ in range(3):
        step(model, optimizer)
    assert handle.steps == 7
    assert not balanced(model)


def test_accumulation_and_clipping_balance_once_per_step():
    model = with_lora(target_modules=["q_proj", "v_proj"])
    accelerator = Accelerator(gradient_accumulation_steps=3, cpu=True)
    model, optimizer = accelerator.prepare(model, adamw(model))
    handle = balance_after_step(optimizer, model)  # accelerate's wrapper
    for micro in range(9):
        with accelerator.accumulate(model):
            batch = tokens(seed=micro)
            accelerator.backward(model(batch, labels=batch).loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    assert handle.steps == 3
    assert balanced(model)


def test_bf16_autocast():
    model = with_lora()
    optimizer = adamw(model)
    handle = balance_after_step(optimizer, model)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(tokens(), labels=tokens()).loss
        loss.backward()
        optimizer.step()
    assert handle.steps == 3
    assert balanced(model)


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_scaler_skips_do_not_count(fused):
    model = unbalance(with_lora(target_modules=["q_proj"]))
    optimizer = adamw(model, fused=fused)
    handle = balance_after_step(optimizer, model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflow in (True, False, True, False, False):
        optimizer.zero_grad()
        scaler.scale(model(tokens(), labels=tokens()).loss).backward()
        if overflow:
            lora_pairs(model)[0].left.grad[0, 0] = float("inf")
        before = [pair.A.clone() for pair in lora_pairs(model)]
        scaler.step(optimizer)
        scaler.update()
        assert overflow == all(torch.equal(old, pair.A) for old, pair in zip(before, lora_pairs(model), strict=True))
    assert handle.steps == 3


def test_a_nested_step_counts_once():
    adamw(with_lora(target_modules=["q_proj"]))  # torch wraps AdamW.step now, and the subclass' step again
    model = with_lora()
    optimizer = create_riemannian_optimizer(model, torch.optim.AdamW, lr=1e-2)
    fired = []
    optimizer.register_step_post_hook(lambda *_: fired.append(1))
    handle = balance_after_step(optimizer, model, every=2)
    for _ in range(4):
        step(model, optimizer)
    assert len(fired) == 8
    assert handle.steps == 4
    assert balanced(model)


def test_a_step_that_fails_does_not_confuse_the_count():
    model = with_lora()
    optimizer = adamw(model)
    handle = balance_after_step(optimizer, model)

    def fail():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        optimizer.step(fail)
    step(model, optimizer)
    assert handle.steps == 1


def test_lora_plus():
    model = with_lora()
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-3, loraplus_lr_ratio=4.0)
    balance_after_step(optimizer, model)
    for _ in range(3):
        step(model, optimizer)
    assert balanced(model)


@pytest.mark.parametrize("moments", ["transport", "reset"])
def test_training_goes_on_with_other_moments(moments):
    model = with_lora()
    optimizer = adamw(model)
    balance_after_step(optimizer, model, moments=moments)
    losses = [step(model, optimizer) for _ in range(12)]
    assert losses[-1] < losses[0] - 0.25


def test_wrong_use():
    model = with_lora()
    optimizer = adamw(model)
    with pytest.raises(ValueError, match="every must be at least 1, not 0"):
        balance_after_step(optimizer, model, every=0)
    with pytest.raises(ValueError, match="gauge must be one of"):
        balance_after_step(optimizer, model, gauge="flat")
    with pytest.raises(ValueError, match="moments must be one of"):
        balance_after_step(optimizer, model, moments="flat")
    with pytest.raises(TypeError, match=r"object holds no torch.optim.Optimizer"):
        balance_after_step(object(), model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="is_trainable=True"):
        balance_after_step(optimizer, model)
    with pytest.raises(CannotBalanceError):
        balance_after_step(optimizer, with_lora(init_lora_weights="mica"))


@pytest.mark.parametrize("every", [float("nan"), float("inf"), 1.5, 1.0, True, "1", None, 1j])
def test_every_is_a_whole_number(every):
    model = with_lora(target_modules=["q_proj"])
    optimizer = adamw(model)
    for refuse in (lambda: balance_after_step(optimizer, model, every=every),
                   lambda: map_after_step(optimizer, model, print, every=every),
                   lambda: BalanceCallback(every=every)):  # fmt: skip
        with pytest.raises(TypeError, match="every must be a whole number, not"):
            refuse()
    assert not optimizer._optimizer_step_post_hooks


def test_numpy_counts_are_whole_numbers():
    model = with_lora(target_modules=["q_proj"])
    optimizer = adamw(model)
    balance_after_step(optimizer, model, every=np.int64(2))
    with pytest.raises(ValueError, match="every must be at least 1, not -3"):
        balance_after_step(optimizer, model, every=np.int64(-3))


def test_bad_choices_are_refused_before_the_trainer_starts():
    for options, message in (
        ({"every": 0}, "every must be"),
        ({"gauge": "flat"}, "gauge"),
        ({"moments": 1}, "moments"),
    ):
        with pytest.raises(ValueError, match=message):
            BalanceCallback(**options)


def test_an_optimizer_of_copies_is_refused():
    model = with_lora()
    copies = [p.detach().clone().requires_grad_() for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(copies)
    balance_after_step(optimizer, model)
    with pytest.raises(ValueError, match="master copies"):
        optimizer.step()


TARGETS = [*PROJECTIONS, "lm_head"]


class Sequences(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        return {"input_ids": tokens(1, seed=index)[0] % 7, "labels": tokens(1, seed=index)[0] % 7}


def literal_projection(model):
    """P as the poster writes it: at AB = 0 it gives (0, 0)."""
    with torch.no_grad():
        for pair in lora_pairs(model):
            U, S, Vt = torch.linalg.svd(pair.A @ pair.B, full_matrices=False)
            U, S, Vt = U[:, :4], S[:4].sqrt(), Vt[:4]
            pair.write(U * S, S[:, None] * Vt)


class LiteralCallback(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        literal_projection(model)


class Losses(TrainerCallback):
    def __init__(self):
        self.losses = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in (logs or {}):
            self.losses.append(logs["loss"])


def train(folder, callbacks, resume=None, **settings):
    model = with_lora(target_modules=TARGETS)
    log = Losses()
    arguments = TrainingArguments(
        **{
            "output_dir": str(folder),
            "max_steps": 24,
            "per_device_train_batch_size": 8,
            "learning_rate": 2e-2,
            "warmup_steps": 5,
            "lr_scheduler_type": "linear",
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "use_cpu": True,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            **settings,
        }
    )
    trainer = Trainer(model, arguments, train_dataset=Sequences(), callbacks=[*callbacks, log])
    trainer.train(resume_from_checkpoint=resume)
    return model, log.losses, trainer


def test_warm_up_from_zero_in_the_trainer(tmp_path):
    _, lora, _ = train(tmp_path, [])
    callback = BalanceCallback()
    model, balora, trainer = train(tmp_path, [callback])
    frozen, literal, _ = train(tmp_path, [LiteralCallback()])
    assert lora[0] == pytest.approx(balora[0])
    assert balora[-1] < balora[0] - 1
    assert balora[-1] < lora[-1] + 0.3
    assert balanced(model)
    assert callback.handle.steps == 24
    assert max(abs(loss - literal[0]) for loss in literal) < 0.2  # only the batches differ
    assert all(not pair.A.any() and not pair.B.any() for pair in lora_pairs(frozen))
    assert not trainer.optimizer.optimizer._optimizer_step_post_hooks  # removed at the end


def test_accumulation_in_the_trainer(tmp_path):
    callback = BalanceCallback(every=2)
    model, _, _ = train(tmp_path, [callback], max_steps=4, gradient_accumulation_steps=3, warmup_steps=0)
    assert callback.handle.steps == 4
    assert balanced(model)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_resumed_training_is_the_same_training(tmp_path):
    whole, _, _ = train(tmp_path / "a", [BalanceCallback(every=2)], max_steps=6)
    settings = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    train(tmp_path / "b", [BalanceCallback(every=2)], **settings)
    callback = BalanceCallback(every=2)
    resumed, _, _ = train(tmp_path / "b", [callback], resume=str(tmp_path / "b" / "checkpoint-3"), **settings)
    assert callback.handle.steps == 6
    for pair, reference in zip(lora_pairs(resumed), lora_pairs(whole), strict=True):
        torch.testing.assert_close(pair.A, reference.A)
        torch.testing.assert_close(pair.B, reference.B)


def test_parameters_replaced_after_registration_are_found():
    model = with_lora(tiny_qwen(), target_modules=["q_proj"])
    optimizer = adamw(model)
    balance_after_step(optimizer, model)
    replaced = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            replaced[parameter] = torch.nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
            setattr(module, name, replaced[parameter])
    for group in optimizer.param_groups:
        group["params"] = [replaced[parameter] for parameter in group["params"]]
    for _ in range(2):
        step(model, optimizer)
    assert balanced(model)


def test_closures_are_followed_by_one_balancing():
    model = with_lora(target_modules=["q_proj", "v_proj"])
    optimizer = torch.optim.LBFGS((p for p in model.parameters() if p.requires_grad), lr=0.1, max_iter=3)
    handle = balance_after_step(optimizer, model)

    def closure():
        optimizer.zero_grad()
        loss = model(tokens(), labels=tokens()).loss
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure).detach()) for _ in range(3)]
    assert handle.steps == 3
    assert balanced(model)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("settings", [{"foreach": True}, {"foreach": False}, {"fused": True}])
def test_every_implementation_of_the_step(settings):
    model = with_lora(target_modules=["q_proj", "v_proj"])
    optimizer = adamw(model, **settings)
    handle = balance_after_step(optimizer, model)
    for _ in range(2):
        step(model, optimizer)
    assert handle.steps == 2
    assert balanced(model)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_step():
    model = with_lora(target_modules=["q_proj"])
    optimizer = adamw(model)
    handle = balance_after_step(optimizer, model)
    compiled = torch.compile(optimizer.step, backend="eager")
    for seed in range(2):
        optimizer.zero_grad()
        model(tokens(seed=seed), labels=tokens(seed=seed)).loss.backward()
        compiled()
    assert handle.steps == 2
    assert balanced(model)


def test_groups_that_come_later_are_balanced_from_then_on():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    first, second = lora_pairs(model)
    optimizer = torch.optim.AdamW([first.left, first.right], lr=1e-2)
    handle = balance_after_step(optimizer, model)
    step(model, optimizer)
    assert handle.last.balanced == 1
    optimizer.add_param_group({"params": [second.left]})
    with pytest.raises(CannotBalanceError, match="trains its factor A but not B"):
        step(model, optimizer)
    optimizer.add_param_group({"params": [second.right], "lr": 1e-3})
    step(model, optimizer)
    assert handle.last.balanced == 2
    assert balanced(model)
