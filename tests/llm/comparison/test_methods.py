"""Names of methods, and what each of them does to an adapter in real optimizer steps."""

import copy
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_riemannian_optimizer

from lorakappa.conditioning import is_balanced
from lorakappa.conditioning.imbalance_regularization import paper_ratio, penalty_step
from lorakappa.conditioning.preconditioning import scaled_gradient
from lorakappa.conditioning.refactoring import refactored_gradient
from lorakappa.llm import lora_pairs
from lorakappa.llm.comparison.adapting import with_adapter
from lorakappa.llm.comparison.methods import RECIPES, parse_method
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.data.pretraining import character_tokenizer, new_model
from lorakappa.llm.data.splits import Example
from lorakappa.llm.data.tokens import encode
from lorakappa.shared.methods import VOCABULARY
from tests.llm.models import Mixture, tokens, unbalance, with_lora

ADAMW = {"lr": 2e-3, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.01}

FOREIGN = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")
"""What PEFT's estimate of LoRA-GA's gradient triggers in torch."""


@pytest.mark.parametrize(
    ("name", "base", "options", "every"),
    [
        ("lora", "lora", {}, 1),
        ("balora", "balora", {"moments": "keep"}, 1),
        ("balora@10", "balora", {"moments": "keep"}, 10),
        ("balora:moments=reset@2", "balora", {"moments": "reset"}, 2),
        ("lora-plus:lr-ratio=4", "lora-plus", {"lr-ratio": 4.0}, 1),
        ("ilora", "ilora", {"lambda": 1.0, "factor": 1.0, "power": 1.0, "trained": "no"}, 1),
        ("ilora:lambda=1e-3,power=-0.5", "ilora", {"lambda": 1e-3, "factor": 1.0, "power": -0.5, "trained": "no"}, 1),
        ("ilora:power=0", "ilora", {"lambda": 1.0, "factor": 1.0, "power": 0.0, "trained": "no"}, 1),
        (
            "pilora:factor=2",
            "pilora",
            {"lambda": 1.0, "factor": 2.0, "power": 1.0, "trained": "no", "damping": 0.01},
            1,
        ),
        ("scaled-gd", "scaled-gd", {"damping": 0.01}, 1),
        ("ilora-balanced", "ilora-balanced", {"lambda": 1.0}, 1),
        ("balora-plus", "balora-plus", {"moments": "keep", "lr-ratio": 16.0}, 1),
        (
            "balora-fisher:delta=1,gauge=hyperbalanced@5",
            "balora-fisher",
            {"delta": 1.0, "decay": 0.99, "gauge": "hyperbalanced", "moments": "keep"},
            5,
        ),
        ("balora-ga@2", "balora-ga", {"moments": "keep"}, 2),
        ("reflora", "reflora", {}, 1),
        ("reflora-scalar@2", "reflora-scalar", {}, 2),
    ],
)
def test_names(name, base, options, every):
    chosen = parse_method(name)
    assert (chosen.name, chosen.base, chosen.options, chosen.every) == (name, base, options, every)
    assert chosen.method is RECIPES[base]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lara", "unknown method 'lara'; choose from lora, balora"),
        ("", "unknown method ''"),
        ("balora@0", "'balora@0': what follows @ must be a positive integer"),
        ("balora@", "what follows @ must be a positive integer"),
        ("balora@2.5", "what follows @ must be a positive integer"),
        ("balora@-1", "what follows @ must be a positive integer"),
        ("lora@2", "'lora@2': lora does nothing after a step that @2 could make rarer"),
        ("reflora@2", "reflora does nothing after a step that @2 could make rarer"),
        ("scaled-gd@3", "scaled-gd does nothing after a step that @3 could make rarer"),
        ("lora:lambda=1", "lora has no option 'lambda'; it has none"),
        ("ilora:lamda=1", "ilora has no option 'lamda'; choose from lambda, factor, power, trained"),
        ("ilora:lambda=much", "lambda must be a number, not 'much'"),
        ("ilora:lambda", "'lambda' is not KEY=VALUE"),
        ("ilora:lambda=0", "lambda must be finite and > 0, but is 0"),
        ("ilora:factor=-1", "factor must be finite and > 0, but is -1"),
        ("ilora:scale=2", "ilora has no option 'scale'; it is called factor now"),
        ("lora-plus:ratio=4", "lora-plus has no option 'ratio'; it is called lr-ratio now"),
        ("ilora:lambda=inf", "lambda must be finite and > 0, but is inf"),
        ("ilora:lambda=nan", "lambda must be finite and > 0, but is nan"),
        ("ilora:power=inf", "power must be finite, but is inf"),
        ("balora:moments=flat", "moments must be keep or transport or reset, not 'flat'"),
        ("scaled-gd:damping=-1", "damping must be finite and ≥ 0, but is -1"),
        ("ilora:trained=half", "trained must be no or yes, not 'half'"),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(ValueError) as caught:
        parse_method(name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sources():
    for name, recipe in RECIPES.items():
        ours = recipe.step_map is not None or recipe.gradient_map is not None
        theirs = recipe.optimizer is not None or recipe.config
        wanted = "PEFT and this project" if ours and theirs else "this project" if ours else "PEFT"
        wanted = "pytorch_optimizer" if name == "lora-rite" else wanted
        assert VOCABULARY[name].source == wanted, name


def make(name, rank=2):
    """Model, optimizer and handle as a fine-tune makes them."""
    tokenizer, chosen = character_tokenizer(), parse_method(name)
    torch.manual_seed(0)
    base = new_model(tokenizer, hidden_size=16, layers=1)
    examples = encode([Example(f"{i} + {i} =", str(2 * i)) for i in range(8)], tokenizer, 64)
    run = Run(name, rank, 2.0, ADAMW["lr"], 0)
    model = with_adapter(base, chosen, run, TrainingSettings(batch_size=4), examples, tokenizer)
    optimizer = chosen.optimizer(model, **ADAMW) or adamw(model)
    callback = chosen.callback()
    return model, optimizer, callback and callback.attach(optimizer, model)


def adamw(model, **settings):
    return torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), **{**ADAMW, **settings})


def backward(model, seed=0):
    model.zero_grad()
    batch = tokens(seed=seed)
    model(batch, labels=batch).loss.backward()


def train(model, optimizer, steps):
    for seed in range(steps):
        backward(model, seed)
        optimizer.step()


NEEDS_RITE = pytest.mark.skipif(find_spec("pytorch_optimizer") is None, reason="pytorch_optimizer is an extra")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[NEEDS_RITE] * (name == "lora-rite")) for name in RECIPES])
@FOREIGN
def test_every_method_trains(name):
    model, optimizer, handle = make(name)
    before = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
    frozen = {key: p.detach().clone() for key, p in model.named_parameters() if not p.requires_grad}
    train(model, optimizer, 2)
    after = dict(model.named_parameters())
    for key, old in before.items():
        assert not torch.equal(old, after[key]), key
        assert after[key].isfinite().all(), key
    assert all(torch.equal(old, after[key]) for key, old in frozen.items())
    ours = "balora", "ilora", "pilora", "reflora"
    assert (handle is not None) == name.startswith(ours)
    if handle is not None:
        assert handle.steps == 2
    balanced = [is_balanced(pair.A.detach(), pair.B.detach()) for pair in lora_pairs(model)]
    assert len(balanced) == 7
    assert all(balanced) == (name.startswith("balora") and name != "balora-fisher")


def start(name, rank=2):
    """Configuration, and (A, B) of one layer with what the base weight has lost, at the start of a method."""
    model, _, _ = make(name, rank)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    (pair,) = [pair for pair in lora_pairs(model) if "q_proj" in pair.name]
    torch.manual_seed(0)
    original = new_model(character_tokenizer(), hidden_size=16, layers=1).model.layers[0].self_attn.q_proj.weight
    return model.peft_config["default"], layer, pair.A.detach(), pair.B.detach(), original - layer.base_layer.weight


@FOREIGN
def test_starts():
    _, layer, A, B, lost = start("lora")
    assert not A.any()
    assert B.any()
    assert not lost.any()
    assert layer.scaling["default"] == 2.0
    config, layer, A, B, lost = start("rslora", rank=4)
    assert config.use_rslora
    assert layer.scaling["default"] == pytest.approx(2.0 * 4 / 4**0.5)
    config, layer, *_ = start("dora")
    assert config.use_dora
    assert len(layer.lora_magnitude_vector) == 1
    _, layer, A, B, lost = start("pissa")
    torch.testing.assert_close(2.0 * A @ B, lost)
    original = lost + layer.base_layer.weight
    torch.testing.assert_close(torch.linalg.svdvals(2.0 * A @ B)[:2], torch.linalg.svdvals(original)[:2])
    _, _, A, B, lost = start("olora")
    torch.testing.assert_close(2.0 * A @ B, lost)
    torch.testing.assert_close(A.mT @ A, torch.eye(2))
    for name in ("lora-ga", "balora-ga"):
        _, _, A, B, lost = start(name)
        torch.testing.assert_close(2.0 * A @ B, lost)
        assert A.any()


@pytest.mark.parametrize(
    ("name", "ratio"), [("lora-plus", 16), ("lora-plus:lr-ratio=4", 4), ("balora-plus:lr-ratio=4", 4)]
)
def test_lora_plus_has_its_learning_rates_and_weight_decay(name, ratio):
    model, optimizer, _ = make(name)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    pairs = lora_pairs(model)
    assert len(groups) == 2 * len(pairs)
    for pair in pairs:
        left, right = groups[id(pair.left)], groups[id(pair.right)]
        assert left["lr"] == pytest.approx(ratio * ADAMW["lr"])
        assert right["lr"] == ADAMW["lr"]
        for group in (left, right):
            assert group["weight_decay"] == ADAMW["weight_decay"]
            assert (group["betas"], group["eps"]) == (ADAMW["betas"], ADAMW["eps"])


def test_reflora_is_adamw_on_refactored_gradients():
    model, reference = (unbalance(with_lora()) for _ in range(2))
    plain = adamw(reference)
    assert parse_method("reflora").optimizer(model, **ADAMW) is None
    optimizer = adamw(model)
    handle = parse_method("reflora").callback().attach(optimizer, model)
    for seed in range(5):
        for each in (model, reference):
            backward(each, seed)
        for pair in lora_pairs(reference):
            g_A, g_B = refactored_gradient(pair.A.detach(), pair.B.detach(), pair.left.grad, pair.right.grad)
            pair.left.grad.copy_(g_A)
            pair.right.grad.copy_(g_B)
        optimizer.step()
        plain.step()
        assert distance(model, reference) < 2e-5
    assert handle.steps == 5


def in_another_gauge(model):
    """A copy with the same products, from factors of other sizes and directions."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    for pair in lora_pairs(other):
        U, V = (torch.linalg.qr(torch.randn(4, 4, generator=generator).double())[0] for _ in range(2))
        T = U * torch.tensor([10.0, 1.0, 0.5, 0.1]).double() @ V
        pair.write(pair.A @ T, torch.linalg.solve(T, pair.B))
    return other


def gauge_dependence(name, steps=5, **settings):
    """By how much the products of two runs that start in different gauges differ, relatively."""
    first = unbalance(with_lora()).double()
    models = first, in_another_gauge(first)
    optimizers = [parse_method(name).optimizer(model, **settings) or adamw(model, **settings) for model in models]
    for seed in range(steps):
        for model, optimizer in zip(models, optimizers, strict=True):
            backward(model, seed)
            optimizer.step()
    products = [[(pair.A @ pair.B).detach() for pair in lora_pairs(model)] for model in models]
    return max(float((x - y).norm() / x.norm()) for x, y in zip(*products, strict=True))


@NEEDS_RITE
def test_lora_rite_trains_products_that_do_not_depend_on_the_gauge():
    settings = {"lr": 1e-2, "betas": (0.9, 0.999), "weight_decay": 0.0}
    assert gauge_dependence("lora-rite", eps=1e-12, **settings) < 1e-11
    assert gauge_dependence("lora-rite", eps=1e-6, **settings) < 1e-6
    assert gauge_dependence("lora", eps=1e-12, **settings) > 0.1


@NEEDS_RITE
def test_lora_rite_gets_adamws_settings_and_refuses_what_it_would_train_wrongly():
    model = with_lora()
    optimizer = parse_method("lora-rite").optimizer(model, **ADAMW)
    (group,) = optimizer.param_groups
    assert {key: group[key] for key in ADAMW} == ADAMW
    pairs = lora_pairs(model)
    assert [id(p) for p in group["params"][:4]] == [id(f) for pair in pairs[:2] for f in (pair.right, pair.left)]
    with pytest.raises(ValueError, match="LoRA-RITE trains pairs of LoRA factors, each its own, and nothing beside"):
        parse_method("lora-rite").optimizer(with_lora(use_dora=True), **ADAMW)
    experts = get_peft_model(Mixture(), LoraConfig(r=2, target_parameters=["experts.weight"], target_modules=[]))
    with pytest.raises(ValueError, match=r"expert 0: LoRA-RITE takes factors that are one matrix each"):
        parse_method("lora-rite").optimizer(experts, **ADAMW)


def test_a_method_without_its_package_is_refused_before_anything_starts(monkeypatch, tmp_path):
    from lorakappa.llm.comparison import protocol
    from lorakappa.llm.comparison.finetuning import check_run
    from lorakappa.shared import methods

    monkeypatch.setattr(methods, "find_spec", lambda name: None)
    message = r"lora-rite needs pytorch_optimizer: pip install 'lorakappa\[lora-rite\]'"
    plan = protocol.Plan(("lora", "lora-rite"), (2,), (1e-3,))
    with pytest.raises(ValueError, match=message):
        protocol.compare(plan, None, tmp_path / "comparison")
    assert not (tmp_path / "comparison").exists()
    with pytest.raises(ValueError, match=message):
        check_run(Run("lora-rite", 2, 1.0, 1e-3, 0), TrainingSettings(), None)
    methods.check_installed(["lora", "ilora:lambda=2@3"])


def precondition(model, damping):
    for pair in lora_pairs(model):
        g_A, g_B = scaled_gradient(pair.A.detach(), pair.B.detach(), pair.left.grad, pair.right.grad, damping=damping)
        pair.left.grad.copy_(g_A)
        pair.right.grad.copy_(g_B)


def distance(model, other):
    """Largest difference between two adapters, by what training has changed."""
    return max(
        float((x - y).detach().abs().max())
        for pair, reference in zip(lora_pairs(model), lora_pairs(other), strict=True)
        for x, y in ((pair.left, reference.left), (pair.right, reference.right))
    )


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_riemannian_preconditioning_is_the_scaled_gradient(base, damping):
    model, reference, other = (unbalance(with_lora()) for _ in range(3))
    settings = {"lr": 1e-2} if base is torch.optim.SGD else ADAMW
    if base is torch.optim.SGD:
        optimizer = create_riemannian_optimizer(model, base, reg=damping, **settings)
    else:
        optimizer = parse_method(f"scaled-gd:damping={damping}").optimizer(model, **settings)
    plain = base([p for p in reference.parameters() if p.requires_grad], **settings)
    wrong = base([p for p in other.parameters() if p.requires_grad], **settings)
    for seed in range(5):
        for each in (model, reference, other):
            backward(each, seed)
        precondition(reference, damping)
        precondition(other, 2 * damping)
        for each in (optimizer, plain, wrong):
            each.step()
        assert distance(model, reference) < 2e-5
    assert distance(model, other) > 2e-4


def test_pilora_is_scaled_adamw_and_then_the_penalty_step():
    chosen = parse_method("pilora:lambda=3,factor=2,power=0.5,damping=0.1")
    model, reference = (unbalance(with_lora()) for _ in range(2))
    optimizer, plain = chosen.optimizer(model, **ADAMW), adamw(reference)
    handle = chosen.callback().attach(optimizer, model)
    for seed in range(5):
        for each in (model, reference):
            backward(each, seed)
        precondition(reference, 0.1)
        optimizer.step()
        plain.step()
        before = distance(model, reference)
        for pair in lora_pairs(reference):
            ratio = paper_ratio(pair.A.shape[0], 4, factor=2, power=0.5)
            pair.write(*penalty_step(pair.A, pair.B, step=3 * ADAMW["lr"], ratio=ratio))
        assert distance(model, reference) < 2e-5 < 1e-3 < before
    assert handle.steps == 5  # although the optimizer's hooks fire twice a step


def test_options_reach_the_maps():
    for name in ("balora:moments=reset", "balora-scaled-gd:moments=transport"):
        assert parse_method(name).callback().attach.keywords["moments"] == name.partition("=")[2]
    gauges = {"balora": "hyperbalanced", "balora-symmetric": "symmetric", "balora-nearest": "nearest"}
    for name, gauge in gauges.items():
        assert parse_method(f"{name}@3").callback().attach.keywords["gauge"] == gauge
        assert parse_method(f"{name}@3").callback().attach.keywords["every"] == 3
    attach = parse_method("ilora:lambda=2,factor=3,power=0.5@4").callback().attach
    assert attach.keywords == {
        "strength": 2.0, "ratio": None, "factor": 3.0, "power": 0.5, "trained": False, "every": 4, "adapter": None
    }  # fmt: skip
    attach = parse_method("ilora-balanced:lambda=2@4").callback().attach
    assert {key: attach.keywords[key] for key in ("strength", "ratio", "every")} == {
        "strength": 2.0, "ratio": 1.0, "every": 4
    }  # fmt: skip
    assert parse_method("pilora:trained=yes").callback().attach.keywords["trained"] is True
    assert parse_method("lora").callback() is None
    assert parse_method("lora").optimizer(with_lora(), **ADAMW) is None


def test_the_table_of_the_readme_is_the_vocabulary():
    text = (Path(__file__).parents[3] / "llm" / "README.md").read_text(encoding="utf-8")
    table = text.partition("<!-- lorakappa llm methods -->\n")[2].partition("\n\n")[0].splitlines()[2:]
    assert table == [
        f"| `{name}` | {method.summary} | {method.source} | {method.show_options('llm')} |"
        for name, method in VOCABULARY.items()
        if "llm" in method.packages
    ]
