"""What is not installed is asked for by the extra that brings it."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lorakappa.shared.extras import EXTRAS, advice, extras_named

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE = {
    "array_api_compat": "array-api-compat",
    "flint": "python-flint",
    "jinja2": "jinja2",
    "lazy_loader": "lazy-loader",
    "markupsafe": "markupsafe",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "rich": "rich",
    "scipy": "scipy",
    "typer": "typer",
}
"""Packages of the base install by the name they are imported under, and their distributions."""


def names(requirements):
    """Names of required distributions."""
    return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}


def test_the_table_is_what_pyproject_says():
    extras = PROJECT["optional-dependencies"]
    smallest = {name: extra for extra in ("llm", "torch", "cluster", "lora-rite") for name in names(extras[extra])}
    assert {package.replace("_", "-"): extra for package, extra in EXTRAS.items()} == smallest


def test_extras_contain_each_other():
    extras = PROJECT["optional-dependencies"]
    assert set(extras["torch"]) < set(extras["llm"])
    assert extras["all"] == ["lorakappa[llm,diffusion,cluster,lora-rite]"]


def test_base_and_extras_hold_all_that_is_imported():
    assert names(PROJECT["dependencies"]) == set(BASE.values())
    known = {"lorakappa", *sys.stdlib_module_names, *BASE, *EXTRAS}
    for folder in ("conditioning", "synthetic", "llm", "figures", "lorakappa"):
        for file in (ROOT / folder).rglob("*.py"):
            if file.parent.name in ("peft_pull_request", "examples"):  # no part of the distribution
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                imported += [node.module] if isinstance(node, ast.ImportFrom) else []
                for package in {name.partition(".")[0] for name in imported}:
                    assert package in known, f"{file} imports {package}, which neither the base nor an extra brings"


def test_a_missing_package_says_which_extra_brings_it():
    error = ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    hint = "needs torch: pip install 'lorakappa[torch]'"
    assert advice(error) == hint
    with pytest.raises(ModuleNotFoundError) as caught, extras_named("training"):
        raise error
    assert str(caught.value) == f"training {hint}"
    assert caught.value.name == "torch.nn"


@pytest.mark.parametrize("name", [None, "numpy", "lorakappa.conditioning.nothing"])
def test_what_no_extra_brings_stays_as_it_is(name):
    error = ModuleNotFoundError("as it was", name=name)
    assert advice(error) is None
    with pytest.raises(ModuleNotFoundError) as caught, extras_named("training"):
        raise error
    assert caught.value is error


def test_the_torch_extra_is_enough_for_adapters_in_memory_and_on_disk(tmp_path):
    code = f"""
import json, sys
from pathlib import Path
for name in {sorted(set(EXTRAS) - {"torch", "safetensors"})}:
    sys.modules[name] = None
import torch
from safetensors.torch import save_file
from lorakappa import balance_adapter, balance_after_step, balance_model, regularize_after_step
from lorakappa.llm import audit_adapter
Path("adapter").mkdir()
Path("adapter/adapter_config.json").write_text(json.dumps({{"peft_type": "LORA", "r": 2, "lora_alpha": 2}}))
factors = {{f"base_model.model.q.lora_{{k}}.weight": torch.randn(s) for k, s in dict(A=(2, 5), B=(4, 2)).items()}}
save_file(factors, "adapter/adapter_model.safetensors")
balance_adapter(Path("adapter"), Path("balanced"))
print(max(layer.relative_gap for layer in audit_adapter(Path("balanced"))))
try:
    from lorakappa.llm import BalanceCallback
except ModuleNotFoundError as error:
    print(error)"""
    settings = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **settings)
    assert not done.returncode, done.stderr
    gap, message = done.stdout.splitlines()
    assert float(gap) < 1e-6
    assert message == "lorakappa.llm.BalanceCallback needs transformers: pip install 'lorakappa[llm]'"
