"""Fine-tunes and comparisons that fail: the reason in one line, nothing left but what goes on from there."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import Trainer

from lorakappa.llm.comparison import finetuning
from lorakappa.llm.comparison.leftovers import nothing_left, save_adapter
from lorakappa.llm.comparison.record_schema import record_problem
from lorakappa.llm.comparison.runs import make_run
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.data.splits import read_splits, save_splits
from lorakappa.shared import memory
from lorakappa.shared.records import write_json
from tests.llm.comparison.outcomes import fake_record
from tests.llm.comparison.small import SPLITS
from tests.llm.test_llm_command import call

RUN = Run("lora", 2, 1.0, 1e-2, 0)
SHORT = {"steps": 2, "batch_size": 4, "evaluations": 1, "generate": 0}


@pytest.fixture
def options(small_model, tmp_path):
    data = tmp_path / "sums.jsonl"
    data.write_text("".join(json.dumps({"question": f"{i} + 1 =", "answer": str(i + 1)}) + "\n" for i in range(60)))
    return [
        "--preset", "tiny", "--model", small_model, "--data", str(data), "--examples", "40,10,10", "--steps", "2",
        "--batch-size", "4", "--generate", "0",
    ]  # fmt: skip


def error_line(err):
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert line.startswith("error: ")
    return line


def test_every_target_must_be_there(small_model):
    settings = TrainingSettings(model=small_model, targets=("q_proj", "nope"), **SHORT)
    with pytest.raises(ValueError, match=r"no module called nope; its linear ones are .*q_proj"):
        finetuning.finetune(RUN, settings, SPLITS)


def test_an_adapter_that_does_not_fit_is_refused(small_model, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2**33)
    settings = TrainingSettings(model=small_model, **SHORT)
    with pytest.raises(ValueError, match="an adapter of rank 1000000000 would take"):
        finetuning.finetune(replace(RUN, rank=10**9), settings, SPLITS)


def test_a_batch_of_all_examples_is_as_large_as_it_gets(small_model):
    losses = [
        finetuning.finetune(RUN, TrainingSettings(model=small_model, **{**SHORT, "batch_size": size}), SPLITS)
        for size in (40, 10**9)
    ]
    assert losses[0]["train_info"]["test_loss"] == losses[1]["train_info"]["test_loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 9223372036854775807}, "batch size must be at most 1000000000"),
        ({"steps": 10**20}, "steps must be at most 1000000000"),
        ({"max_length": 10**12}, "max length must be at most 1000000000"),
        ({"dtype": "int8"}, "dtype must be one of"),
    ],
)
def test_settings_beyond_reason_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank must be at least 1"),
        ({"learning_rate": float("nan")}, "learning rate must be positive"),
        ({"scaling": -1.0}, "scaling must be positive"),
        ({"seed": 2**32}, "seed must lie between"),
    ],
)
def test_runs_beyond_reason_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(RUN, **changes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--cluster-options", "timeout_min=5"], "--cluster-options has no effect without --cluster"),
        (["compare", "--cluster", "slurm", "--jobs", "2"], "--jobs has no effect with --cluster"),
        (["compare", "--methods", "lora,balora", "--lambdas", "1,2"], "--lambdas has no effect"),
        (["compare", "--learning-rates", "1e-3", "--extensions", "2"], "--extensions has no effect"),
        (["compare", "--data", "mathematics", "--columns", "a,b"], "columns are for data sets that have some"),
        (["compare", "--modules", "numbers__gcd", "--columns", "a,b"], "leave one of them out"),
        (["compare", "--extensions", "99999999999999999999"], "extensions must be between 0 and 100"),
        (["compare", "--learning-rates", "1e-300:1e300:1000000"], "at most 100000 can be compared"),
        (["compare", "--seeds", "999999999999"], "--seeds must be at most"),
        (["compare", "--seed", "99999999999"], "seeds must not be negative, nor above"),
        (["finetune", "--batch-size", "9223372036854775807"], "batch size must be at most"),
        (["finetune", "ilora:power=-1e308"], "power must be at most"),
        (["finetune", "ilora:lambda=1e39", "--examples", "40,10,10"], "lambda must be at most 1e+38 in a fine-tune"),
        (["finetune", "--examples", "999999999999,1,1"], "not enough memory"),
        (["curvature", "nowhere", "--solver", "qr"], "--solver must be one of"),
    ],
)
def test_cheap_arguments_are_looked_at_first_and_none_is_ignored(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps({"question": f"{i}?", "answer": "1"}) + "\n" for i in range(60))
    (tmp_path / "sums.jsonl").write_text(rows)
    model = [] if arguments[0] == "curvature" else ["--model", "tiny"]
    data = [] if {"--data", "--modules", "curvature"} & set(arguments) else ["--data", "sums.jsonl"]
    code, _, err = call(monkeypatch, capsys, *arguments, *model, *data)
    assert code == 2
    assert message in error_line(err)
    assert [path.name for path in tmp_path.iterdir()] == ["sums.jsonl"]


def failing(monkeypatch, error):
    def train(self, **_):
        raise error

    monkeypatch.setattr(Trainer, "train", train)


def test_a_failed_fine_tune_leaves_nothing(options, tmp_path, monkeypatch, capsys):
    failing(monkeypatch, ValueError("no luck"))
    out = tmp_path / "made" / "deep" / "adapter"
    before = sorted(tmp_path.rglob("*"))
    for more in ([], ["--checkpoint-every", "1"]):
        code, _, err = call(monkeypatch, capsys, "finetune", "lora", *options, *more, "--out", out)
        assert code == 2
        assert "no luck" in err
        assert sorted(tmp_path.rglob("*")) == before


def test_a_checkpoint_outlives_a_failure(tmp_path):
    work = tmp_path / "made" / "work"

    def train(made, error):
        made.mkdir(parents=True)
        raise error

    with pytest.raises(RuntimeError), nothing_left(work):
        train(work / "checkpoint-3", RuntimeError)
    assert (work / "checkpoint-3").is_dir()
    other = tmp_path / "more" / "work"
    with pytest.raises(KeyboardInterrupt), nothing_left(other):
        train(other / "runs", KeyboardInterrupt)
    assert not (tmp_path / "more").exists()


def test_a_failed_run_of_a_comparison_leaves_its_reason_only(task, monkeypatch):
    failing(monkeypatch, RuntimeError("out of luck"))
    with pytest.raises(RuntimeError):
        make_run(task)
    assert [path for path in task.folder.rglob("*") if path.is_file()] == [task.file]
    assert not (task.folder / "work").exists()


class HalfSaved:
    """A model whose adapter does not fit on the disk."""

    def save_pretrained(self, folder, **_):
        Path(folder, "adapter_config.json").write_text("half")
        raise OSError(28, "No space left on device", "adapter_model.safetensors")


def test_an_adapter_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(OSError, match="No space"):
        save_adapter(HalfSaved(), tmp_path / "made" / "adapter")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("old")
    with pytest.raises(OSError, match="No space"):
        save_adapter(HalfSaved(), tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_config.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


class Saved:
    """A model that saves what it is told to."""

    def save_pretrained(self, folder, *, content):
        Path(folder, "adapter_config.json").write_text(content)


def test_an_adapter_is_readable_for_everybody_and_replaces_an_old_one(tmp_path):
    file = tmp_path / "made" / "adapter" / "adapter_config.json"
    for content in ("old", "new"):
        save_adapter(Saved(), file.parent, content=content)
        assert file.read_text() == content
        assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in file.parent.parent.iterdir()] == ["adapter"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda record: record["run"].pop("seed"), "run.seed"),
        (lambda record: record["run"].update(rank="2"), "run.rank"),
        (lambda record: record["train_info"].update(metrics=[]), "train_info.metrics"),
        (
            lambda record: record["train_info"]["metrics"][1].update({"valid loss": "x"}),
            "train_info.metrics.1.valid loss",
        ),
        (lambda record: record["train_info"].update(status="done"), "train_info"),
        (lambda record: record["train_info"].pop("test_loss"), "train_info.test_loss"),
        (lambda record: record.pop("run_info"), "run_info"),
    ],
)
def test_the_field_of_a_record_that_is_wrong_is_named(change, field, task):
    record = fake_record(task.run)
    assert record_problem(record) is None
    write_json(task.file, record)
    assert task.record() == record
    change(record)
    write_json(task.file, record)
    with pytest.raises(ValueError, match="delete it to make the run again") as caught:
        task.record()
    assert f"({field}: " in str(caught.value)
    assert str(task.file) in str(caught.value)


def test_the_record_of_another_run_is_not_taken_for_this_one(task):
    write_json(task.file, fake_record(replace(task.run, learning_rate=0.5)))
    with pytest.raises(ValueError, match="but of another one"):
        task.record()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("splits.json", '{"source": 3, "digest": "x"}', r"splits\.json: source"),
        ("splits.json", "[" * 100_000, r"splits\.json"),
        ("train.jsonl", '{"prompt": "a", "completion": null}\n', r"train\.jsonl, line 1: completion"),
        ("test.jsonl", '{"prompt": "a", "completion": "b", "x": 1}\n', r"test\.jsonl, line 1: x"),
        ("test.jsonl", "null\n", r"test\.jsonl, line 1"),
    ],
)
def test_the_field_of_splits_that_is_wrong_is_named(name, content, message, tmp_path):
    folder = save_splits(SPLITS, tmp_path / "data")
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=f"is damaged .{message}.*delete it") as caught:
        read_splits(folder)
    assert "\n" not in str(caught.value)


@pytest.fixture
def sweep(options):
    grid = ["--ranks", "2", "--learning-rates", "1e-3,1e-2", "--seeds", "2", "--extensions", "0", "--evaluations", "1"]
    return [*options, *grid, "--methods", "lora,balora", "--jobs", "1", "--quiet"]


def test_a_comparison_without_a_trained_run_says_why(sweep, tmp_path, monkeypatch, capsys):
    def finetune(run, *_, **__):
        raise RuntimeError(f"out of luck with {run.method}")

    monkeypatch.setattr(finetuning, "finetune", finetune)
    code, _, err = call(monkeypatch, capsys, "compare", *sweep, "--out", tmp_path / "out")
    assert code == 2
    assert "no run has trained: 8 failed; the first: lora-r2-" in error_line(err)
    assert "RuntimeError: out of luck with lora" in err
    assert not (tmp_path / "out" / "llm-compare.json").exists()


def test_a_comparison_where_all_diverges_says_so(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(finetuning, "finetune", lambda run, *_, **__: fake_record(run, (3.0,), status="diverged"))
    code, _, err = call(monkeypatch, capsys, "compare", *sweep, "--out", tmp_path / "out")
    assert code == 2
    assert "all 8 runs diverged; try lower --learning-rates" in error_line(err)


def test_a_comparison_of_which_some_runs_failed_does_not_exit_with_0(sweep, tmp_path, monkeypatch, capsys):
    def finetune(run, *_, **__):
        if run.seed == 1 and run.learning_rate < 5e-3:
            raise RuntimeError("out of luck")
        return fake_record(run)

    monkeypatch.setattr(finetuning, "finetune", finetune)
    code, out, _ = call(monkeypatch, capsys, "compare", *sweep, "--out", tmp_path / "out")
    assert code == 1
    assert out.count("failed:") == 2
    assert (tmp_path / "out" / "llm-compare.json").is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kills by process group")
def test_a_sweep_killed_during_its_last_writes_goes_on(small_model, tmp_path):
    """Killed with all its processes when the last records, the result or the first figure appear."""
    rows = "".join(json.dumps({"prompt": f"{i}=", "completion": str(i)}) + "\n" for i in range(60))
    (tmp_path / "data.jsonl").write_text(rows)
    command = [
        sys.executable, "-m", "llm", "compare", "--model", small_model, "--preset", "tiny",
        "--data", str(tmp_path / "data.jsonl"), "--examples", "40,10,10", "--methods", "lora,balora", "--ranks", "1",
        "--learning-rates", "1e-3,1e-2", "--seeds", "2", "--extensions", "0", "--steps", "2", "--evaluations", "1",
        "--batch-size", "4", "--generate", "0", "--jobs", "1", "--out", str(tmp_path / "out"), "--quiet",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    root, out = Path(__file__).parents[3], tmp_path / "out"
    moments = [
        lambda: len(list((out / "llm-compare" / "runs").glob("*.json"))) >= 7,
        lambda: len(list((out / "llm-compare" / "runs").glob("*.json"))) == 8,
        lambda: list(out.glob("*llm-compare.npz*")) or list(out.glob(".llm-compare*")),
        lambda: (out / "llm-compare.json").is_file(),
        lambda: list(out.glob("*.png")),
    ]
    for moment in moments:
        running = subprocess.Popen(command, cwd=root, env=environment, start_new_session=True)
        deadline = time.monotonic() + 240
        while not moment() and running.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        if running.poll() is None:
            os.killpg(running.pid, 9)
        running.wait()
        records = {path: path.read_bytes() for path in (out / "llm-compare" / "runs").glob("*.json")}
        assert all(json.loads(content)["train_info"]["status"] == "success" for content in records.values())
        for file in out.glob("*.json"):
            json.loads(file.read_text())
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert records.items() <= {p: p.read_bytes() for p in (out / "llm-compare" / "runs").glob("*.json")}.items()
    assert len(list((out / "llm-compare" / "runs").glob("*.json"))) == 8
    assert len(json.loads((out / "llm-compare.json").read_text())["cells"]) == 4
    assert len(list(out.glob("*.png"))) == 6
