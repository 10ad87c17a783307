"""Runs on workers: each made once, whatever fails or is killed in between."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lorakappa.llm.comparison import finetuning, workers
from lorakappa.llm.comparison.workers import Workers, default_jobs, submit_runs
from lorakappa.llm.data.splits import Example
from lorakappa.shared.records import write_json
from tests.llm.comparison.outcomes import fake_record
from tests.llm.comparison.small import SPLITS
from tests.llm.comparison.test_runs import changed

ROOT = Path(__file__).parents[3]


LEAKY = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
"""submitit leaves its log files to the garbage collector."""


def reported(log):
    return lambda task, status: log.append((task.run.seed, status))


def flaky(monkeypatch, error, *seeds):
    """Runs of these seeds fail; returns the list of those that were begun."""
    begun = []

    def finetune(run, settings, splits, **_):
        assert splits.digest == SPLITS.digest
        begun.append(run.seed)
        if run.seed in seeds:
            raise error
        return fake_record(run)

    monkeypatch.setattr(finetuning, "finetune", finetune)
    return begun


def test_failed_runs_are_told_and_tried_again(task, monkeypatch):
    tasks = [changed(task, seed=seed) for seed in range(3)]
    begun, log = flaky(monkeypatch, RuntimeError("CUDA is\n  out of memory"), 1), []
    failures = Workers(1)(tasks, done=reported(log))
    assert log == [(0, "success"), (1, "failed"), (2, "success")]
    assert failures == [f"{tasks[1].key}: RuntimeError: CUDA is out of memory"]
    saved = json.loads(tasks[1].file.read_text())
    assert (saved["train_info"]["status"], saved["run"]["seed"]) == ("failed", 1)
    assert saved["run_info"]["error_msg"] == "RuntimeError: CUDA is out of memory"
    assert tasks[1].record() is None
    before = {item.file: item.file.stat().st_mtime_ns for item in (tasks[0], tasks[2])}
    begun.clear()
    flaky(monkeypatch, None)
    again = []
    assert Workers(1)(tasks, done=reported(again)) == []
    assert again == [(1, "success")]
    assert all(tasks[i].record() is not None for i in range(3))
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert Workers(1)(tasks, done=reported(again)) == []
    assert len(again) == 1


@pytest.mark.parametrize("error", [ValueError("no such module"), FileNotFoundError("no such model")])
def test_an_error_of_the_settings_stops_the_sweep(task, monkeypatch, error):
    begun, log = flaky(monkeypatch, error, 1), []
    with pytest.raises(type(error), match="no such mod"):
        Workers(1)([changed(task, seed=seed) for seed in range(3)], done=reported(log))
    assert begun == [0, 1]
    assert log == [(0, "success")]


def test_an_interrupted_run_leaves_no_record(task, monkeypatch):
    flaky(monkeypatch, KeyboardInterrupt(), 0)
    with pytest.raises(KeyboardInterrupt):
        Workers(1)([task], done=reported([]))
    assert not task.file.exists()


@pytest.fixture
def pools(monkeypatch):
    """Pools that are asked for, as (jobs, value of the counter, GPUs, threads); they make their runs at once."""
    made = []

    class Pool:
        def __init__(self, jobs, *, mp_context, initializer, initargs):
            counter, gpus, threads = initargs
            made.append((jobs, counter.value, gpus, threads))

        def submit(self, function, task):
            future = Future()
            future.set_result(function(task))
            return future

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(workers, "make_run", lambda task: fake_record(task.run))
    return made


@pytest.mark.parametrize(
    ("jobs", "runs", "gpus", "cores", "pool"),
    [
        (1, 2, 0, 8, None),
        (2, 1, 0, 8, None),
        (2, 2, 0, 8, (2, 0, [], 4)),
        (16, 2, 0, 8, (16, 0, [], 1)),
        (1, 2, 1, 8, None),
        (1, 1, 2, None, (1, 0, ["0", "1"], 1)),
    ],
)
def test_processes_are_started_for_several_runs_or_several_gpus(
    pools, task, monkeypatch, jobs, runs, gpus, cores, pool
):
    monkeypatch.setattr(workers, "_gpus", lambda: ["0", "1"][:gpus])
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    log = []
    assert Workers(jobs)([changed(task, seed=seed) for seed in range(runs)], done=reported(log)) == []
    assert sorted(log) == [(seed, "success") for seed in range(runs)]
    assert pools == ([] if pool is None else [pool])


def test_processes_take_the_gpus_in_turn(monkeypatch):
    counter, seen = SimpleNamespace(value=0, get_lock=contextlib.nullcontext), []
    for _ in range(3):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "none")
        workers._start_worker(counter, ["3", "5"], 1)
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["3", "5", "3"]


@pytest.mark.parametrize(("gpus", "cores", "jobs"), [(3, 8, 3), (0, 8, 8), (0, None, 1)])
def test_one_process_per_gpu_or_core(gpus, cores, jobs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert default_jobs() == jobs


@pytest.mark.slow
def test_an_error_of_the_settings_in_a_worker_is_the_same_error(task):
    tasks = [changed(task, seed=seed, method="lora") for seed in range(2)]
    tasks = [replace(item, settings=replace(item.settings, targets=("nosuch",))) for item in tasks]
    with pytest.raises(ValueError, match="nosuch") as caught:
        Workers(2)(tasks, done=reported([]))
    assert "\n" not in str(caught.value).strip()


@LEAKY
def test_runs_through_submitit(task):
    pytest.importorskip("submitit")
    tasks, log = [changed(task, seed=seed) for seed in range(2)], []
    write_json(tasks[0].file, fake_record(tasks[0].run))
    before = tasks[0].file.read_bytes()
    assert submit_runs(tasks, cluster="debug", parameters={"timeout_min": 5}, done=reported(log)) == []
    assert log == [(1, "success")]
    assert tasks[0].file.read_bytes() == before
    assert tasks[1].record()["train_info"]["status"] == "success"
    assert submit_runs(tasks, cluster="debug", parameters={}, done=reported(log)) == []
    assert len(log) == 1


@pytest.mark.slow
def test_jobs_that_fail_are_told(task):
    pytest.importorskip("submitit")
    bad, log = changed(task, seed=2, method="lara"), []
    failures = submit_runs([task, bad], cluster="local", parameters={"timeout_min": 5}, done=reported(log))
    assert log == [(0, "success"), (2, "failed")]
    assert len(failures) == 1
    assert failures[0].startswith(f"{bad.key}: ")
    assert "unknown method 'lara'" in failures[0]
    assert "\n" not in failures[0]
    assert task.record()["train_info"]["status"] == "success"
    assert bad.record() is None


def test_what_submitit_refuses_is_one_line(task):
    pytest.importorskip("submitit")
    for options in ({"cluster": "moon", "parameters": {}}, {"cluster": "debug", "parameters": {"nosuch": 1}}):
        with pytest.raises(ValueError, match="submitit: ") as caught:
            submit_runs([task], done=reported([]), **options)
        assert "\n" not in str(caught.value)


def children(pid):
    """Ids of the processes that a process has started and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_sweep_leaves_no_process_and_goes_on(small_model, tmp_path):
    lines = [
        json.dumps({"prompt": e.prompt, "completion": e.completion})
        for e in (Example(f"{i}=", str(i)) for i in range(60))
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    command = [
        sys.executable, "-m", "llm", "compare", "--model", small_model, "--preset", "tiny",
        "--data", str(tmp_path / "data.jsonl"), "--examples", "40,10,10", "--methods", "lora,balora", "--ranks", "1,2",
        "--learning-rates", "1e-3,1e-2", "--seeds", "3", "--extensions", "0", "--steps", "6", "--evaluations", "2",
        "--batch-size", "4", "--generate", "0", "--jobs", "2", "--out", str(tmp_path / "out"), "--quiet",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    runs = tmp_path / "out" / "llm-compare" / "runs"
    sweep = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    deadline = time.monotonic() + 240
    while not list(runs.glob("*.json")) or len(list(runs.glob("*.json"))) < 3:
        assert sweep.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = children(sweep.pid)
    os.kill(sweep.pid, signal.SIGKILL)  # the parent only
    sweep.wait()
    assert len(workers) >= 2
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers outlived the sweep"
        time.sleep(0.05)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in runs.glob("*.json")}
    assert 3 <= len(before) < 24
    assert all(json.loads(content)["train_info"]["status"] == "success" for _, content in before.values())
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in runs.glob("*.json")]
    cells = {tuple(record["run"].values()) for record in records}
    assert len(cells) == len(records) == 2 * 2 * 2 * 3
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before}
    assert not list((tmp_path / "out" / "llm-compare" / "work").iterdir())
    assert (tmp_path / "out" / "llm-compare.json").is_file()
    assert len(json.loads((tmp_path / "out" / "llm-compare.json").read_text())["cells"]) == 8
