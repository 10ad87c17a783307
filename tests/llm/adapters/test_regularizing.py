"""iLoRA's penalty step in real training loops: the formula, the learning rate it takes, when it comes."""

import pytest
import torch

from lorakappa.conditioning.imbalance_regularization import imbalance_penalty
from lorakappa.llm import lora_pairs
from lorakappa.llm.adapters.callbacks import RegularizeCallback
from lorakappa.llm.adapters.factors import NonFiniteError
from lorakappa.llm.adapters.regularizing import regularize_after_step, regularize_pairs
from tests.llm.adapters.test_hooks import train
from tests.llm.models import PROJECTIONS, unbalance, with_lora


def resting(model, **settings):
    """SGD whose gradients are 0: it steps without moving anything."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    return torch.optim.SGD((p for p in model.parameters() if p.requires_grad), **{"lr": 0.02, **settings})


def copies(model):
    return [(pair.A.detach().clone(), pair.B.detach().clone()) for pair in lora_pairs(model)]


def by_hand(A, B, length, ratio):
    """The step in float64, entry by entry as the paper has it."""
    left, right = A.double(), B.double()
    D = right @ right.T - ratio * left.T @ left
    return (left + length * ratio * left @ D).float(), (right - length * D @ right).float()


@pytest.mark.parametrize(
    ("options", "strength", "ratio_of"),
    [
        ({}, 1.0, lambda r, a: r / a),
        ({"strength": 5.0}, 5.0, lambda r, a: r / a),
        ({"strength": 0.5, "factor": 3.0}, 0.5, lambda r, a: 3 * r / a),
        ({"strength": 0.5, "power": 0.5}, 0.5, lambda r, a: (r / a) ** 0.5),
        ({"factor": 2.0, "power": -1.0}, 1.0, lambda r, a: 2 * a / r),
        ({"ratio": 1.0, "factor": 7.0}, 1.0, lambda r, a: 1.0),
        ({"ratio": 0.3}, 1.0, lambda r, a: 0.3),
    ],
)
def test_one_step_is_the_formula(options, strength, ratio_of):
    model = unbalance(with_lora())
    optimizer, before = resting(model), copies(model)
    handle = regularize_after_step(optimizer, model, **options)
    optimizer.step()
    assert handle.last == len(before) == 14
    assert len({A.shape[0] for A, _ in before}) == 3  # layers differ in a, and so in their ratios
    for pair, (A, B) in zip(lora_pairs(model), before, strict=True):
        wanted = by_hand(A, B, 0.02 * strength, ratio_of(4, A.shape[0]))
        torch.testing.assert_close((pair.A.detach(), pair.B.detach()), wanted, rtol=1e-5, atol=1e-6)
        assert float((wanted[1] - B).abs().max()) > 1e-3  # it is a step that can be seen


def test_it_takes_the_scheduled_learning_rate():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    optimizer = resting(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (0.0, 1.0, 0.25)[step])
    regularize_after_step(optimizer, model, ratio=0.5)
    for rate in (0.0, 0.02, 0.005):
        before = copies(model)
        optimizer.step()
        schedule.step() if rate != 0.005 else None
        for pair, (A, B) in zip(lora_pairs(model), before, strict=True):
            torch.testing.assert_close((pair.A.detach(), pair.B.detach()), by_hand(A, B, rate, 0.5))


def test_each_pair_takes_the_learning_rate_of_its_own_A():
    model = unbalance(with_lora(target_modules=["q_proj"]))  # both layers are of one shape
    first, second = lora_pairs(model)
    resting(model)
    rates = {id(first.left): 0.02, id(second.left): 0.01}
    groups = [{"params": [pair.left], "lr": rates[id(pair.left)]} for pair in (first, second)]
    optimizer = torch.optim.SGD([*groups, {"params": [first.right, second.right], "lr": 7.0}])
    before = copies(model)
    assert regularize_pairs([first, second], optimizer, strength=2.0, ratio=0.5) == 2
    for pair, (A, B) in zip((first, second), before, strict=True):
        torch.testing.assert_close((pair.A.detach(), pair.B.detach()), by_hand(A, B, 2 * rates[id(pair.left)], 0.5))


def test_pairs_that_the_optimizer_does_not_hold_stay():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    first, second = lora_pairs(model)
    optimizer = torch.optim.SGD([first.left, first.right], lr=0.02)
    before = copies(model)
    assert regularize_pairs([first, second], optimizer, strength=1.0) == 1
    wanted = by_hand(*before[0], 0.02, 4 / 32)  # the defaults are the paper's ratio
    torch.testing.assert_close((first.A.detach(), first.B.detach()), wanted)
    assert torch.equal(second.A, before[1][0])
    second.left.requires_grad_(False)
    second.right.requires_grad_(False)
    optimizer.add_param_group({"params": [second.left, second.right]})
    frozen = lora_pairs(model)[1]
    assert regularize_pairs([frozen], optimizer, strength=1.0) == 0
    assert torch.equal(second.A, before[1][0])


def test_repeated_it_lowers_the_penalty_and_every_k_counts():
    model = unbalance(with_lora())
    optimizer = resting(model)
    handle = regularize_after_step(optimizer, model, strength=0.5, every=3)
    moved, penalties = [], []
    for _ in range(7):
        before = copies(model)
        optimizer.step()
        moved.append(any(not torch.equal(pair.A, A) for pair, (A, _) in zip(lora_pairs(model), before, strict=True)))
        penalties.append(
            sum(
                float(imbalance_penalty(pair.A.detach(), pair.B.detach(), 4 / pair.A.shape[0]))
                for pair in lora_pairs(model)
            )
        )
    assert moved == [False, False, True, False, False, True, False]
    assert penalties[6] < penalties[2] < penalties[0]
    assert handle.steps == 7
    handle.remove()
    before = copies(model)
    for _ in range(3):
        optimizer.step()
    assert all(torch.equal(pair.A, A) for pair, (A, _) in zip(lora_pairs(model), before, strict=True))


def test_an_explosion_is_one_clear_line():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    optimizer = resting(model)
    regularize_after_step(optimizer, model, strength=1.5e40)
    with pytest.raises(NonFiniteError) as caught:
        optimizer.step()
    message = str(caught.value)
    assert "the penalty step left NaN or infinity in base_model.model" in message
    assert "lower λ (now 1.5e+40) or the learning rate" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            ({"strength": x}, "the strength λ of the penalty must be positive and finite")
            for x in (0, -1.0, float("inf"))
        ),
        ({"strength": float("nan")}, "the strength λ of the penalty must be positive and finite, not nan"),
        *(({"ratio": x}, "the ratio c must be positive and finite") for x in (0.0, -1.0, float("inf"), float("nan"))),
        ({"factor": 0.0}, "factor must be positive and finite, not 0.0"),
        ({"power": float("inf")}, "power must be finite, not inf"),
        ({"power": float("nan")}, "power must be finite, not nan"),
        ({"factor": 10**400}, "factor must be positive and finite"),
        ({"power": -1e308}, r"ρ = 1·\(4/32\)\^-1e\+308 does not fit into float64; choose a smaller power"),
        ({"power": 1e308}, r"ρ = 1·\(4/32\)\^1e\+308 does not fit into float64"),
        ({"every": 0}, "every must be at least 1, not 0"),
        ({"adapter": "other"}, "no adapter named 'other'"),
    ],
)
def test_wrong_use(options, message):
    model = with_lora(target_modules=["q_proj"])
    optimizer = resting(model)
    with pytest.raises(ValueError, match=message):
        regularize_after_step(optimizer, model, **options)
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("option", ["strength", "ratio", "factor", "power"])
@pytest.mark.parametrize("value", [True, "1", 1j, [1.0]])
def test_what_is_no_number_is_refused_at_once(option, value):
    model = with_lora(target_modules=["q_proj"])
    optimizer = resting(model)
    for refuse in (lambda: regularize_after_step(optimizer, model, **{option: value}),
                   lambda: RegularizeCallback(**{option: value})):  # fmt: skip
        with pytest.raises(TypeError, match="must be a number, not"):
            refuse()
    assert not optimizer._optimizer_step_post_hooks


def test_accumulation_in_the_trainer(tmp_path):
    callback = RegularizeCallback(strength=20.0, ratio=1.0)
    settings = {"max_steps": 4, "gradient_accumulation_steps": 3, "warmup_steps": 0}
    model, losses, trainer = train(tmp_path, [callback], **settings)
    plain, _, _ = train(tmp_path, [], **settings)
    assert callback.handle.steps == 4
    assert callback.handle.last == len(lora_pairs(model)) == 2 * len(PROJECTIONS) + 1
    assert callback.handle.seconds > 0
    total = [sum(float(imbalance_penalty(p.A.detach(), p.B.detach())) for p in lora_pairs(m)) for m in (model, plain)]
    assert total[0] < 0.9 * total[1]
    assert not trainer.optimizer.optimizer._optimizer_step_post_hooks
    assert losses[-1] < losses[0]


def test_every_in_the_trainer(tmp_path):
    callback = RegularizeCallback(strength=5.0, factor=2.0, power=0.5, every=3)
    train(tmp_path, [callback], max_steps=5)
    assert callback.handle.steps == 5
    assert callback.handle.last == 2 * len(PROJECTIONS) + 1


def test_a_trained_ratio_follows_its_own_gradient_layer_by_layer():
    model = unbalance(with_lora())
    optimizer, before = resting(model), copies(model)
    ratios = {pair.name: 4 / pair.A.shape[0] for pair in lora_pairs(model)}
    regularize_after_step(optimizer, model, strength=2.0, trained=True)
    for _ in range(3):
        optimizer.step()
    moved = 0.0
    for pair, (left, right) in zip(lora_pairs(model), before, strict=True):
        A, B, log = left.double(), right.double(), torch.tensor(ratios[pair.name], dtype=torch.float64).log()
        for _ in range(3):
            log = log.requires_grad_()
            penalty = ((B @ B.T - log.exp() * A.T @ A) ** 2).sum() / 4
            (slope,) = torch.autograd.grad(penalty, log)
            A, B = (factor.double() for factor in by_hand(A, B, 0.04, float(log.detach().exp())))
            log = log.detach() - 0.04 * slope
        torch.testing.assert_close((pair.A.detach(), pair.B.detach()), (A.float(), B.float()), rtol=1e-4, atol=1e-5)
        moved = max(moved, abs(float(log.exp()) / ratios[pair.name] - 1))
    assert moved > 1e-2
