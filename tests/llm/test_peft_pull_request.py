"""What a pull request to PEFT would contain runs inside the installed PEFT, and trains as this project's optimizer."""

import importlib.util
import json
import sys
from pathlib import Path

import peft.optimizers
import pytest
import torch
from peft import LoraConfig
from peft.utils import PeftType

from lorakappa.llm import create_balora_optimizer, lora_pairs
from tests.llm.adapters.test_hooks import step
from tests.llm.models import unbalance, with_lora

FOLDER = Path(__file__).parents[2] / "llm" / "peft_pull_request"


def load(file, name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / file)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


theirs = load("balora.py", "peft.optimizers.balora")
peft.optimizers.create_balora_optimizer = theirs.create_balora_optimizer
OWN_TESTS = {name: test for name, test in vars(load("test_balora.py", "test_balora")).items() if name[:5] == "test_"}
globals().update(OWN_TESTS)  # pytest runs them with those below


def test_its_own_tests_run_here():
    assert len(OWN_TESTS) >= 9


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-4), (torch.float64, 1e-11)])
@pytest.mark.parametrize("start", ["fresh", "unbalanced"])
def test_it_trains_as_ours(dtype, rtol, start):
    def fresh():
        return (unbalance(with_lora()) if start == "unbalanced" else with_lora()).to(dtype)

    model, reference = fresh(), fresh()
    optimizer = theirs.create_balora_optimizer(model, torch.optim.SGD, lr=0.1, momentum=0.9)
    ours = create_balora_optimizer(reference, torch.optim.SGD, lr=0.1, momentum=0.9)
    for seed in range(4):
        assert step(model, optimizer, seed) == pytest.approx(step(reference, ours, seed), rel=rtol)
    for pair, expected in zip(lora_pairs(model), lora_pairs(reference), strict=True):
        for found, wanted in ((pair.A, expected.A), (pair.B, expected.B)):
            assert float(((found - wanted).norm() / wanted.norm()).detach()) < rtol


def test_it_does_not_depend_on_this_project():
    assert "lorakappa" not in (FOLDER / "balora.py").read_text() + (FOLDER / "test_balora.py").read_text()


def test_the_entry_of_the_method_comparison_is_complete():
    config = json.loads((FOLDER / "adapter_config.json").read_text())
    assert config.pop("peft_type") == PeftType.LORA
    assert LoraConfig(**config).r == 32
    parameters = json.loads((FOLDER / "training_params.json").read_text())
    assert parameters["optimizer_type"] == "balora"
    optimizer = theirs.create_balora_optimizer(with_lora(), torch.optim.AdamW, **parameters["optimizer_kwargs"])
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


def test_its_pages_name_what_there_is():
    page = (FOLDER / "README.md").read_text()
    assert all((f"[{file.name}]({file.name})" in page) == (file.name != "README.md") for file in FOLDER.glob("*.*"))
