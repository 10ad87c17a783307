"""The examples run, their losses fall, and what they train ends balanced."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.llm.adapters.test_hooks import balanced

FOLDER = Path(__file__).parents[2] / "llm" / "examples"
LONGEST = 60
"""Lines of an example that shows how to train; `stable_diffusion.py` is a program."""

NEEDS = {"plain_loop": (), "hf_trainer": (), "trl_sft": ("trl",), "lightning_module": ("lightning",)}
"""Examples with main(steps, …) -> (model, losses), and the packages that they need beside PEFT and transformers."""


def load(name):
    spec = importlib.util.spec_from_file_location(f"examples_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")  # what TRL and Lightning say of themselves and their neighbours
@pytest.mark.parametrize("name", NEEDS)
def test_examples_train_and_balance(name, tmp_path, monkeypatch):
    for package in NEEDS[name]:
        pytest.importorskip(package, reason=f"llm/examples/{name}.py is NOT tested: pip install {package}")
    monkeypatch.chdir(tmp_path)  # where they write
    model, losses = load(name).main(12)
    assert len(losses) == 12
    assert losses[-1] < losses[0] / 2
    assert balanced(model)


@pytest.mark.slow  # three interpreters import torch and PEFT
def test_two_processes_keep_equal_replicas():
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parents[1]), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, str(FOLDER / "two_processes.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = re.search(r"2 processes, 10 steps, replicas differ by ([\d.]+), largest .* (\S+)\n", done.stdout)
    assert found, done.stdout
    assert float(found[1]) == 0
    assert float(found[2]) < 1e-5


def test_examples_are_short_and_all_tested():
    files = {file.stem: file.read_text().splitlines() for file in FOLDER.glob("*.py")}
    files.pop("stable_diffusion", None)
    assert files.keys() == {*NEEDS, "two_processes"}
    assert max(map(len, files.values())) <= LONGEST
