"""Runs on disk: one record each, whole, and named by everything that determines it."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lorakappa.llm.comparison.runs import exclusive, make_run
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.shared.records import write_json
from tests.llm.comparison.outcomes import fake_record

ROOT = Path(__file__).parents[3]


def changed(task, **changes):
    return replace(task, run=replace(task.run, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "lora"},
        {"rank": 3},
        {"scaling": 2.0},
        {"learning_rate": 1.0000001e-2},
        {"seed": 1},
        {"method": "balora@2"},
    ],
)
def test_the_key_depends_on_the_run(task, changes):
    assert changed(task, **changes).key != task.key


@pytest.mark.parametrize("name", TrainingSettings.__dataclass_fields__)
def test_the_key_depends_on_every_setting(task, name):
    other = {
        "model": "another", "dtype": "bfloat16", "schedule": "cosine", "betas": (0.9, 0.99), "targets": ("q_proj",),
        "warmup": 0.5, "dropout": 0.5, "label_smoothing": 0.5, "gradient_checkpointing": True, "evaluations": 2,
        "optimizer": "sgd", "momentum": 0.5,
    }  # fmt: skip
    settings = replace(task.settings, **{name: other.get(name, 77)})
    assert replace(task, settings=settings).key != task.key


def test_the_key_depends_on_the_data_but_not_on_places(task, tmp_path):
    assert replace(task, digest="0" * 64).key != task.key
    for changes in ({"folder": tmp_path / "elsewhere"}, {"data": tmp_path / "copy"}, {"keep_adapter": True}):
        assert replace(task, **changes).key == task.key
    assert task.key.startswith("balora-r2-s1-lr0.01-seed0-")
    assert task.file == tmp_path / "out" / "runs" / f"{task.key}.json"
    assert changed(task, method="ilora:lambda=0.1@2").key.startswith("ilora_lambda_0.1_2-r2")


def test_a_record_comes_back_as_it_was(task):
    assert task.record() is None
    record = fake_record(task.run, (3.0, math.inf, 1.0))
    record["train_info"]["metrics"][1]["gap"] = math.nan
    record["train_info"]["low"] = -math.inf
    write_json(task.file, record)
    found = task.record()
    metrics = found["train_info"]["metrics"]
    assert metrics[0]["kappa bound"] == metrics[1]["valid loss"] == math.inf
    assert found["train_info"]["low"] == -math.inf
    assert math.isnan(metrics[1].pop("gap"))
    record["train_info"]["metrics"][1].pop("gap")
    assert found == record


@pytest.mark.parametrize("text", ["", '{"run": {', "[]", "{}", '{"train_info": 3}', '{"train_info": {}}', "\x00"])
def test_a_damaged_record_is_named(task, text):
    task.file.parent.mkdir(parents=True)
    task.file.write_text(text)
    with pytest.raises(
        ValueError, match=r"\.json is not a record of a run \(.*\); delete it to make the run again"
    ) as caught:
        task.record()
    assert str(task.file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert task.file.read_text() == text


def test_a_run_leaves_its_record_and_nothing_else(task):
    record = make_run(replace(task, keep_adapter=True, settings=replace(task.settings, checkpoint_every=1)))
    assert record["train_info"]["status"] == "success"
    (file,) = (task.folder / "runs").iterdir()
    assert json.loads(file.read_text())["run"] == record["run"] == task.run.__dict__
    assert not list((task.folder / "work").iterdir())
    (adapter,) = (task.folder / "adapters").iterdir()
    assert (adapter / "adapter_model.safetensors").is_file()


def test_a_folder_is_held_by_one_process_at_a_time(tmp_path):
    folder = tmp_path / "new" / "out"
    code = "import sys, pathlib\nfrom lorakappa.llm.comparison.runs import exclusive\n"
    code += "with exclusive(pathlib.Path(sys.argv[1])): print('got it')"
    command = [sys.executable, "-c", code, str(folder)]
    with exclusive(folder):
        other = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert other.returncode != 0
    assert f"another process is working on {folder}; wait for it or choose another --out" in other.stderr
    other = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert other.stdout == "got it\n"
