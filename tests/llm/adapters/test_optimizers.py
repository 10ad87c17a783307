"""Optimizers in PEFT's shape: the hooks' own trainings in any class, groups, saved state; what PEFT's tests ask."""

import copy
import io
from functools import partial
from inspect import signature

import pytest
import pytorch_optimizer
import torch
import torch.distributed.checkpoint.state_dict as checkpoints
from accelerate import Accelerator
from peft.optimizers import create_riemannian_optimizer
from torch import nn
from transformers import Adafactor, Trainer, TrainingArguments

from lorakappa.conditioning import is_balanced
from lorakappa.llm import (
    CannotBalanceError,
    balance_after_step,
    create_balora_optimizer,
    create_fisher_balora_optimizer,
    create_ilora_optimizer,
    create_pilora_optimizer,
    create_reflora_optimizer,
    fisher_balance_after_step,
    lora_pairs,
    refactor_before_step,
    regularize_after_step,
    step_handles,
)
from tests.llm.adapters.test_hooks import Sequences, adamw, balanced, step
from tests.llm.models import PROJECTIONS, Mixed, tokens, unbalance, with_lora

FACTORIES = [
    create_balora_optimizer,
    create_fisher_balora_optimizer,
    create_ilora_optimizer,
    create_pilora_optimizer,
    create_reflora_optimizer,
]
BY_HAND = {
    create_balora_optimizer: (torch.optim.AdamW, balance_after_step),
    create_fisher_balora_optimizer: (torch.optim.AdamW, fisher_balance_after_step),
    create_ilora_optimizer: (torch.optim.AdamW, regularize_after_step),
    create_reflora_optimizer: (torch.optim.AdamW, refactor_before_step),
}


def factors(model):
    return [M.detach().clone() for pair in lora_pairs(model) for M in (pair.A, pair.B)]


def same(model, other):
    return all(torch.equal(x, y) for x, y in zip(factors(model), factors(other), strict=True))


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


# --- what they are ------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", BY_HAND)
def test_training_is_that_of_the_class_with_the_hook(factory):
    cls, attach = BY_HAND[factory]
    model, other = unbalance(with_lora()), unbalance(with_lora())
    optimizer = factory(model, cls, lr=1e-2, betas=(0.8, 0.9), weight_decay=0.1)
    by_hand = cls(trained(other), lr=1e-2, betas=(0.8, 0.9), weight_decay=0.1)
    attach(by_hand, other)
    assert type(optimizer) is cls
    before = factors(model)
    for seed in range(3):
        assert step(model, optimizer, seed) == step(other, by_hand, seed)
    assert same(model, other)
    assert not any(torch.equal(x, y) for x, y in zip(before, factors(model), strict=True))


def test_pilora_is_pefts_preconditioning_with_the_penalty():
    model, other = unbalance(with_lora()), unbalance(with_lora())
    optimizer = create_pilora_optimizer(model, torch.optim.SGD, lr=1e-2, reg=0.1, strength=0.5, momentum=0.9)
    by_hand = create_riemannian_optimizer(other, torch.optim.SGD, lr=1e-2, reg=0.1, momentum=0.9)
    regularize_after_step(by_hand, other, strength=0.5)
    for seed in range(3):
        assert step(model, optimizer, seed) == step(other, by_hand, seed)
    assert same(model, other)
    assert isinstance(optimizer, torch.optim.SGD)


OPTIONS = [
    (create_balora_optimizer, balance_after_step, {"gauge": "nearest", "every": 2, "moments": "transport"}),
    (create_balora_optimizer, balance_after_step, {"moments": "reset", "adapter": "default"}),
    (create_fisher_balora_optimizer, fisher_balance_after_step, {"damping": 0.3, "decay": 0.5, "every": 2}),
    (create_fisher_balora_optimizer, fisher_balance_after_step, {"gauge": "nearest", "moments": "transport"}),
    (create_fisher_balora_optimizer, fisher_balance_after_step, {"adapter": "default"}),
    (create_ilora_optimizer, regularize_after_step, {"strength": 0.3, "ratio": 0.7, "every": 2, "adapter": "default"}),
    (create_ilora_optimizer, regularize_after_step, {"factor": 2.0, "power": 0.5, "trained": True}),
    (create_reflora_optimizer, refactor_before_step, {"adapter": "default"}),
]


@pytest.mark.parametrize(("factory", "attach", "options"), OPTIONS)
def test_options_reach_the_hook(factory, attach, options):
    model, other = unbalance(with_lora(target_modules=["q_proj"])), unbalance(with_lora(target_modules=["q_proj"]))
    optimizer, by_hand = factory(model, torch.optim.AdamW, lr=1e-2, **options), adamw(other)
    attach(by_hand, other, **options)
    for seed in range(3):
        step(model, optimizer, seed)
        step(other, by_hand, seed)
    assert same(model, other)


def test_options_of_pilora_reach_the_hook():
    options = {"ratio": None, "factor": 2.0, "power": 0.5, "trained": True, "every": 2, "adapter": "default"}
    model, other = unbalance(with_lora(target_modules=["q_proj"])), unbalance(with_lora(target_modules=["q_proj"]))
    optimizer = create_pilora_optimizer(model, torch.optim.SGD, lr=1e-2, strength=0.3, **options)
    by_hand = create_riemannian_optimizer(other, torch.optim.SGD, lr=1e-2)  # with PEFT's own damping
    regularize_after_step(by_hand, other, strength=0.3, **options)
    for seed in range(3):
        step(model, optimizer, seed)
        step(other, by_hand, seed)
    assert same(model, other)


@pytest.mark.parametrize("adapter", ["first", "second"])
@pytest.mark.parametrize("factory", FACTORIES)
def test_one_adapter_of_two(factory, adapter):
    model = with_lora(target_modules=["q_proj"])
    model.add_adapter("second", model.peft_config["default"])
    model.base_model.set_adapter(["default", "second"])
    name = "default" if adapter == "first" else adapter
    optimizer = factory(unbalance(model), torch.optim.SGD, lr=1e-2, adapter=name)
    seen = []
    (handle,) = step_handles(optimizer)
    inner = handle._map
    handle._map = lambda pairs, optimizer: seen.extend(pairs) or inner(pairs, optimizer)
    step(model, optimizer)
    assert {pair.adapter for pair in seen} == {name}
    assert len(trained(model)) == sum(len(group["params"]) for group in optimizer.param_groups) == 8


THIRD_PARTY = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
    "adafactor": (partial(Adafactor), {"relative_step": False, "scale_parameter": False}),
    "torch-adafactor": (torch.optim.Adafactor, {}),
    "lion": (pytorch_optimizer.Lion, {}),
    "prodigy": (pytorch_optimizer.Prodigy, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "nadam": (torch.optim.NAdam, {"foreach": False}),
}


@pytest.mark.parametrize("name", THIRD_PARTY)
def test_any_class(name):
    cls, settings = THIRD_PARTY[name]
    cls = getattr(cls, "func", cls)
    model = unbalance(with_lora())
    optimizer = create_balora_optimizer(model, cls, lr=1e-3, **settings)
    before = factors(model)
    for seed in range(2):
        step(model, optimizer, seed)
    assert type(optimizer) is cls
    assert balanced(model)
    assert all(map(torch.isfinite, map(torch.sum, factors(model))))
    assert not any(torch.equal(x, y) for x, y in zip(before, factors(model), strict=True))


def test_a_class_that_takes_one_group_and_a_closure():
    model = with_lora(target_modules=["q_proj", "v_proj"], bias="lora_only")
    optimizer = create_balora_optimizer(model, torch.optim.LBFGS, lr=0.1, max_iter=2)

    def closure():
        optimizer.zero_grad()
        loss = model(tokens(), labels=tokens()).loss
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure).detach()) for _ in range(2)]
    assert losses[1] < losses[0]
    assert balanced(model)
    with pytest.raises(ValueError, match="closure"):
        create_pilora_optimizer(model, torch.optim.LBFGS, lr=0.1)
    with pytest.raises(ValueError, match="given a closure"):
        create_reflora_optimizer(model, torch.optim.LBFGS, lr=0.1).step(closure)


COPYING = [
    (torch.optim.ASGD, {}, "ax"),
    (pytorch_optimizer.ScheduleFreeAdamW, {}, "z"),
    (pytorch_optimizer.ScheduleFreeSGD, {}, "z"),
    (pytorch_optimizer.Ranger, {}, "slow_buffer"),
    (pytorch_optimizer.MADGRAD, {}, "x0"),
    (pytorch_optimizer.DAdaptSGD, {}, "z"),
    (pytorch_optimizer.EmoNavi, {"use_shadow": True}, "shadow"),
]


@pytest.mark.parametrize("factory", [create_balora_optimizer, create_fisher_balora_optimizer])
@pytest.mark.parametrize(("cls", "settings", "key"), COPYING)
def test_classes_that_keep_copies_of_the_factors_are_refused(factory, cls, settings, key):
    model = unbalance(with_lora(target_modules=["q_proj"]))
    optimizer = factory(model, cls, lr=1e-2, **settings)
    with pytest.raises(ValueError, match=rf"{cls.__name__} keeps '{key}' beside the factors of .*q_proj"):
        step(model, optimizer)
    assert not any(is_balanced(pair.A.detach(), pair.B.detach()) for pair in lora_pairs(model))


# --- their groups -------------------------------------------------------------------------------------


def decays(model, optimizer):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}


GROUPED = [
    {"bias": "all", "modules_to_save": ["input_layernorm", "lm_head"]},
    {"use_dora": True},
    {"target_modules": [*PROJECTIONS, "embed_tokens"]},
]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
@pytest.mark.parametrize("config", GROUPED)
@pytest.mark.parametrize("factory", FACTORIES)
def test_decay_follows_the_trainers_rule(factory, config, tmp_path):
    model = with_lora(**config)
    arguments = TrainingArguments(str(tmp_path), weight_decay=0.3, report_to="none", use_cpu=True)
    expected = decays(model, Trainer(model, arguments).create_optimizer())
    optimizer = factory(model, torch.optim.AdamW, lr=2e-3, weight_decay=0.3)
    assert decays(model, optimizer) == expected
    assert {group["lr"] for group in optimizer.param_groups} == {2e-3}
    assert set(expected.values()) == ({0.0, 0.3} if "bias" in config else {0.3})
    assert len(optimizer.param_groups) == len(set(expected.values()))
    assert len(expected) == len(trained(model))


def test_the_class_own_decay_spares_the_same_ones():
    model = with_lora(bias="lora_only")
    default = {"AdamW": 0.01, "SGD": 0}
    for cls in (torch.optim.AdamW, torch.optim.SGD):
        found = decays(model, create_balora_optimizer(model, cls, lr=1e-3))
        assert {found[name] for name in found if "bias" in name} == {0.0}
        assert {found[name] for name in found if "bias" not in name} == {default[cls.__name__]}


def test_embeddings_convolutions_and_magnitudes():
    torch.manual_seed(0)
    config = {"target_modules": ["embedding", "conv1", "conv2", "linear"], "use_dora": False}
    model = unbalance(with_lora(Mixed(), **config))
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2)
    model(torch.arange(20).reshape(2, 10)).square().sum().backward()
    optimizer.step()
    assert len(lora_pairs(model)) == 4
    assert balanced(model)
    dora = unbalance(with_lora(use_dora=True))
    optimizer = create_balora_optimizer(dora, torch.optim.AdamW, lr=1e-2)
    before = {name: p.detach().clone() for name, p in dora.named_parameters() if "magnitude" in name}
    step(dora, optimizer)
    assert before
    assert not any(torch.equal(p, before[name]) for name, p in dora.named_parameters() if name in before)
    assert balanced(dora)


def test_several_models_at_once():
    models = nn.ModuleList([unbalance(with_lora(target_modules=["q_proj"])) for _ in range(2)])
    optimizer = create_balora_optimizer(models, torch.optim.AdamW, lr=1e-2)
    for model in models:
        model(tokens(), labels=tokens()).loss.backward()
    optimizer.step()
    assert all(map(balanced, models))
    assert step_handles(optimizer)[0].last.balanced == 4


# --- their state --------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", FACTORIES[:-1])
def test_a_resumed_training_is_the_same_training(factory):
    def fresh():
        model = unbalance(with_lora(target_modules=["q_proj", "v_proj"], bias="lora_only"))
        return model, factory(model, torch.optim.AdamW, lr=1e-2, every=3)

    model, optimizer = fresh()
    for seed in range(4):
        step(model, optimizer, seed)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    resumed, other = fresh()
    resumed.load_state_dict(weights)
    other.load_state_dict(state)
    assert step_handles(other)[0].steps == 4
    assert all("lorakappa_steps" in group for group in state["param_groups"])
    for seed in range(4, 7):
        step(model, optimizer, seed)
        step(resumed, other, seed)
        assert same(model, resumed)


def test_states_of_the_plain_class_are_loaded():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    plain = adamw(model)
    step(model, plain)
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2, every=2)
    step_handles(optimizer)[0].steps = 5
    optimizer.load_state_dict(plain.state_dict())
    assert step_handles(optimizer)[0].steps == 5
    step(model, optimizer)
    assert balanced(model)
    plain.load_state_dict(optimizer.state_dict())  # and the other way round
    step(model, plain)


@pytest.mark.parametrize("flat", [False, True])
def test_distributed_checkpoints(flat):
    options = checkpoints.StateDictOptions(flatten_optimizer_state_dict=flat)
    model, resumed = (unbalance(with_lora(target_modules=["q_proj"], bias="lora_only")) for _ in range(2))
    optimizer, other = (create_balora_optimizer(m, torch.optim.AdamW, lr=1e-2, every=3) for m in (model, resumed))
    for seed in range(5):
        step(model, optimizer, seed)
    state = copy.deepcopy(checkpoints.get_optimizer_state_dict(model, optimizer, options=options))
    checkpoints.set_optimizer_state_dict(resumed, other, state, options=options)  # makes a step of its own, at rate 0
    resumed.load_state_dict(model.state_dict())
    assert step_handles(other)[0].steps == 5
    for seed in range(5, 8):
        step(model, optimizer, seed)
        step(resumed, other, seed)
        assert same(model, resumed)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_the_trainer_resumes_without_a_callback(tmp_path):
    def train(folder, resume=None, **settings):
        model = unbalance(with_lora(target_modules=["q_proj", "lm_head"]))
        optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2, every=2)
        arguments = TrainingArguments(
            **{"output_dir": str(folder), "max_steps": 6, "report_to": "none", "use_cpu": True, "disable_tqdm": True}
            | {"save_strategy": "no", "dataloader_pin_memory": False, **settings}
        )
        trainer = Trainer(model, arguments, train_dataset=Sequences(), optimizers=(optimizer, None))
        trainer.train(resume_from_checkpoint=resume)
        return model, step_handles(trainer.optimizer)[0]

    whole, _ = train(tmp_path / "a")
    settings = {"save_strategy": "steps", "save_steps": 3}
    train(tmp_path / "b", **settings)
    resumed, handle = train(tmp_path / "b", str(tmp_path / "b" / "checkpoint-3"), **settings)
    assert handle.steps == 6
    assert same(whole, resumed)
    assert balanced(resumed)


def test_accelerate_and_a_scheduler():
    model = with_lora(target_modules=["q_proj", "v_proj"])
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2, every=2)
    step(model, optimizer)
    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 2))  # warm-up from 0
    model, prepared, scheduler = accelerator.prepare(model, optimizer, scheduler)
    for seed in range(6):
        with accelerator.accumulate(model):
            accelerator.backward(model(tokens(seed=seed), labels=tokens(seed=seed)).loss)
            prepared.step()
            scheduler.step()
            prepared.zero_grad()
    (handle,) = step_handles(prepared)
    assert handle.steps == 4
    assert balanced(model)


@pytest.mark.parametrize("factory", FACTORIES)
def test_fused_steps_that_a_scaler_skips_do_not_count(factory):
    model = unbalance(with_lora(target_modules=["q_proj"]))
    optimizer = factory(model, torch.optim.AdamW, lr=1e-2, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflow in (True, False, True, False):
        optimizer.zero_grad()
        scaler.scale(model(tokens(), labels=tokens()).loss).backward()
        if overflow:
            lora_pairs(model)[0].left.grad[0, 0] = float("inf")
        before = factors(model)
        scaler.step(optimizer)
        scaler.update()
        assert overflow == all(torch.equal(x, y) for x, y in zip(before, factors(model), strict=True))
    assert step_handles(optimizer)[0].steps == 2


def test_handles_are_found_and_end():
    model = with_lora(target_modules=["q_proj"])
    plain = adamw(model)
    assert step_handles(plain) == []
    first, second = balance_after_step(plain, model), regularize_after_step(plain, model)
    found = step_handles(plain)
    assert found == [first, second]
    found.clear()
    first.remove()
    assert step_handles(plain) == [second]
    with pytest.raises(TypeError, match=r"holds no torch.optim.Optimizer"):
        step_handles(model)
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2)
    with pytest.warns(UserWarning, match="does not carry over"):
        assert step_handles(copy.deepcopy(optimizer)) == []
    step_handles(optimizer)[0].remove()
    unbalance(model)
    step(model, optimizer)
    assert not balanced(model)


# --- wrong use ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", FACTORIES)
def test_wrong_models_and_classes(factory):
    model = with_lora(target_modules=["q_proj"])
    for cls in (dict, "AdamW", adamw(model)):
        with pytest.raises(TypeError, match=r"optimizer_cls must be a subclass of torch.optim.Optimizer"):
            factory(model, cls, lr=1e-2)
    with pytest.raises(ValueError, match=r"no LoRA layer|did not find any trainable lora_A/lora_B"):
        factory(nn.Linear(2, 2), torch.optim.AdamW, lr=1e-2)
    one = with_lora(target_modules=["q_proj", "v_proj"])
    lora_pairs(one)[0].left.requires_grad_(False)
    with pytest.raises(CannotBalanceError, match="only one factor trains"):
        factory(one, torch.optim.AdamW, lr=1e-2)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match=r"is_trainable=True|did not find any trainable"):
        factory(model, torch.optim.AdamW, lr=1e-2)


def test_wrong_options():
    model = with_lora(target_modules=["q_proj"])
    for options in ({"damping": 0.0}, {"decay": 1.0}, {"gauge": "flat"}, {"moments": "flat"}, {"every": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            create_fisher_balora_optimizer(model, torch.optim.AdamW, lr=1e-2, **options)
    for options, message in (({"gauge": "flat"}, "gauge"), ({"moments": "flat"}, "moments"), ({"every": 0}, "every")):
        with pytest.raises(ValueError, match=message):
            create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2, **options)
    for factory in (create_ilora_optimizer, create_pilora_optimizer):
        for options in ({"every": 0}, {"strength": 0.0}, {"ratio": -1.0}, {"factor": 0.0}, {"power": float("inf")}):
            with pytest.raises(ValueError, match=f"{next(iter(options))}|λ"):
                factory(model, torch.optim.AdamW, lr=1e-2, **options)
        with pytest.raises(TypeError, match="every must be a whole number"):
            factory(model, torch.optim.AdamW, lr=1e-2, every=1.5)
    with pytest.raises(TypeError, match="momentum"):
        create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2, momentum=0.9)


@pytest.mark.parametrize(("factory", "attach"), [(f, attach) for f, (_, attach) in BY_HAND.items()])
def test_defaults_are_those_of_the_hook(factory, attach):
    check_defaults(factory, attach, {"adapter"})


def test_defaults_of_pilora_are_those_of_its_parts():
    check_defaults(create_pilora_optimizer, regularize_after_step, {"strength", "every"})
    check_defaults(create_pilora_optimizer, create_riemannian_optimizer, {"reg"})


def check_defaults(factory, other, at_least):
    ours, theirs = ({n: p.default for n, p in signature(f).parameters.items()} for f in (factory, other))
    shared = ours.keys() & theirs.keys() - {"model", "optimizer", "optimizer_cls", "kwargs"}
    assert at_least <= shared
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}
