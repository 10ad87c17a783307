"""Copies of a hooked optimizer say that they have no hook; the original, its state and its model go on as before."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from lorakappa.llm import balance_after_step, lora_pairs, regularize_after_step
from tests.llm.adapters.test_hooks import adamw, balanced, step
from tests.llm.models import unbalance, with_lora

COPIES = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
    "save": lambda optimizer: torch.save(optimizer, io.BytesIO()),
}


def hooked():
    model = with_lora(target_modules=["q_proj"])
    optimizer = adamw(model)
    return model, optimizer, balance_after_step(optimizer, model)


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_the_optimizer_says_that_it_does_not_balance(how):
    model, optimizer, handle = hooked()
    step(model, optimizer)
    with pytest.warns(UserWarning, match="a copy of this AdamW does not carry over .* balance_after_step"):
        COPIES[how](optimizer)
    step(model, optimizer)
    assert handle.steps == 2
    assert balanced(model)


def test_a_copy_with_its_model_is_hooked_like_any_other():
    model, optimizer, handle = hooked()
    with pytest.warns(UserWarning, match="does not carry over"):
        twin, its = copy.deepcopy((model, optimizer))
    step(twin, its)
    assert handle.steps == 0
    again = balance_after_step(its, twin)
    step(twin, its)
    assert again.steps == 1
    assert balanced(twin)


def test_no_copy_warns_once_the_handles_have_ended():
    model, optimizer, handle = hooked()
    other = regularize_after_step(optimizer, model)
    handle.remove()
    handle.remove()
    with pytest.warns(UserWarning, match="does not carry over"):
        copy.deepcopy(optimizer)
    other.remove()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy.deepcopy(optimizer)
        pickle.dumps(optimizer)
    assert "__getstate__" not in vars(optimizer)
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks


def test_the_handle_is_a_context():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    optimizer = adamw(model)
    with balance_after_step(optimizer, model) as handle:
        step(model, optimizer)
        assert balanced(model)
    step(model, optimizer)
    assert handle.steps == 1
    with pytest.raises(RuntimeError, match="mine"), balance_after_step(optimizer, model):
        raise RuntimeError("mine")
    assert not optimizer._optimizer_step_post_hooks


def test_a_loaded_state_keeps_the_hook():
    model, optimizer, handle = hooked()
    step(model, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    step(model, optimizer)
    optimizer.load_state_dict(saved)
    step(model, optimizer)
    assert handle.steps == 3
    assert balanced(model)
    assert all(float(entries["step"]) == 2 for entries in optimizer.state.values())


def test_copies_of_the_model_are_left_alone():
    model, optimizer, _ = hooked()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        average, twin = AveragedModel(model), copy.deepcopy(model)
    unbalance(twin)
    before = [pair.A.clone() for pair in lora_pairs(twin)]
    for _ in range(2):
        step(model, optimizer)
        average.update_parameters(model)
    assert balanced(model)
    assert all(torch.equal(pair.A, A) for pair, A in zip(lora_pairs(twin), before, strict=True))
    assert not any(torch.equal(a.A, b.A) for a, b in zip(lora_pairs(average), lora_pairs(model), strict=True))
