"""What the fuzz suite runs on: the expensive core of commands stands still, all around it is real."""

import os
import warnings
from concurrent.futures import Executor, Future

import pytest

from lorakappa.shared import memory
from lorakappa.shared.extras import install_hint
from lorakappa.shared.options import MOST_JOBS

MEMORY = 8 * 2**30
"""What all machines have here, so that the same work is refused everywhere."""


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: MEMORY)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", "/nonexistent")


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, but neither laid out nor written: `figures` draws them for real."""
    from lorakappa.figures import drawing

    monkeypatch.setattr(drawing, "render", lambda plot, saved, formats: {suffix: b"drawn" for suffix in formats})


@pytest.fixture
def unmade(monkeypatch):
    """No result that a report lacks is made: each is a command of its own, which is fuzzed, too."""
    import subprocess

    from lorakappa.figures.report import making

    def start(part, folder, jobs, said):
        if said is not None:
            said.touch()
        return subprocess.Popen(["false"])

    monkeypatch.setattr(making, "_start", start)


@pytest.fixture(scope="session")
def small_models(tmp_path_factory):
    """Folders of a small model and of an adapter for it."""
    if install_hint("llm"):
        pytest.skip("needs the extra llm")
    import torch
    from transformers import AutoModelForCausalLM

    from tests.llm.comparison.small import save_small_model
    from tests.llm.models import with_lora

    folder = tmp_path_factory.mktemp("fuzz")
    model = save_small_model(folder / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT's use of transformers
        adapted = with_lora(AutoModelForCausalLM.from_pretrained(model))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted.save_pretrained(folder / "trained")
    return {"MODEL": str(model), "trained": str(folder / "trained")}


class InThisProcess(Executor):
    """What pools of processes are replaced by: others would not stand still."""

    def __init__(self, processes, **_):
        assert 1 <= processes <= MOST_JOBS

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def untrained(monkeypatch):
    """Nothing is trained: what would train checks what it is given and returns a record as if it had."""
    import numpy as np

    from lorakappa.llm.comparison import finetuning, workers
    from lorakappa.llm.comparison.settings import Run, TrainingSettings
    from lorakappa.llm.curvature import spectra
    from lorakappa.llm.data import pretraining
    from lorakappa.llm.data.splits import Splits
    from tests.llm.comparison.outcomes import fake_record
    from tests.llm.comparison.small import SPLITS

    def finetune(run, settings, splits, *, work=None, adapter=None, quiet=True):
        assert isinstance(run, Run)
        assert isinstance(settings, TrainingSettings)
        assert isinstance(splits, Splits)
        finetuning.check_run(run, settings, splits)
        return fake_record(run, status="success" if run.seed % 3 < 2 else "diverged")

    class Standing:
        def __init__(self, model, arguments, **_):
            assert arguments.max_steps >= 1

        def train(self):
            pass

    def curvature(model, batch, *, layers, solver, hessian, seed, progress):
        from lorakappa.llm.adapters.pairs import lora_pairs
        from lorakappa.llm.curvature.layers import check_layer, chosen_layers

        assert len(batch["input_ids"])
        if solver not in spectra.SOLVERS:
            raise ValueError(f"solver must not be {solver!r}")
        assert isinstance(hessian, bool)
        np.random.default_rng(seed)
        for pair in chosen_layers(lora_pairs(model, "default"), layers):
            check_layer(pair, solver, 10**4)
        raise ValueError("nothing is measured here")

    monkeypatch.setattr(finetuning, "finetune", finetune)
    monkeypatch.setattr(pretraining, "Trainer", Standing)
    monkeypatch.setattr(pretraining, "load_splits", lambda *_, **__: SPLITS)
    monkeypatch.setattr(spectra, "curvature", curvature)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(workers, "ProcessPoolExecutor", InThisProcess)
