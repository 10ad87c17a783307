"""`compare`, `finetune`, `methods` and `presets` on the command line, on a model that is made here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lorakappa.figures.drawing import names_for
from lorakappa.llm.comparison.presets import PRESETS
from lorakappa.shared.methods import names as method_names
from tests.llm.comparison.small import save_small_model
from tests.llm.test_llm_command import call

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Options of a small model, data in a file and little work."""
    folder = tmp_path_factory.mktemp("small")
    save_small_model(folder / "model")
    lines = [json.dumps({"question": f"{i} + 1 =", "answer": str(i + 1)}) for i in range(60)]
    (folder / "sums.jsonl").write_text("\n".join(lines))
    return [
        "--preset", "tiny", "--model", str(folder / "model"), "--data", str(folder / "sums.jsonl"),
        "--examples", "40,10,10", "--steps", "4", "--batch-size", "4", "--generate", "4",
    ]  # fmt: skip


def test_compare(small, tmp_path, monkeypatch, capsys):
    grid = ["--ranks", "2", "--learning-rates", "1e-3,1e-2", "--seeds", "2", "--seed", "5", "--extensions", "0"]
    options = [*small, *grid, "--evaluations", "2", "--methods", "lora,balora", "--jobs", "1", "--out", tmp_path]
    code, out, err = call(monkeypatch, capsys, "compare", *options)
    assert (code, "error" in err) == (0, False)
    table, _, _ = out.partition("llm-balora-loss")  # behind it, the claims
    rows = [line.split() for line in table.splitlines()]
    assert [row[1] for row in rows if row[:1] == ["2"]] == ["lora", "balora"]
    assert "means over 2 seeds" in out
    assert "llm-balora-loss" in out  # what it says on the claims
    assert "sums.jsonl" in json.loads((tmp_path / "llm-compare.json").read_text())["data"]
    meta = json.loads((tmp_path / "llm-compare.json").read_text())
    assert (meta["ranks"], meta["seeds"], meta["steps"], meta["methods"]) == ([2], [5, 6], 4, ["lora", "balora"])
    assert meta["settings"]["batch_size"] == 4
    assert len(meta["cells"]) == 4
    files = sorted(path.name for path in tmp_path.iterdir() if path.is_file())
    assert files == sorted(
        ["llm-compare.json", "llm-compare.npz", *(f"{name}.png" for name in names_for("llm-compare"))]
    )
    assert all(file in out.replace("\n", "") for file in files)
    records = {path: path.read_bytes() for path in (tmp_path / "llm-compare" / "runs").iterdir()}
    assert len(records) == 8
    code, again, _ = call(monkeypatch, capsys, "compare", *options, "--quiet")
    assert (code, again) == (0, "")
    assert records == {path: path.read_bytes() for path in (tmp_path / "llm-compare" / "runs").iterdir()}


def test_compare_with_penalties_scales_and_adapters(small, tmp_path, monkeypatch, capsys):
    options = ["--ranks", "2", "--learning-rates", "1e-2", "--seeds", "1", "--scalings", "1,2", "--lambdas", "0.1,1"]
    options += ["--methods", "lora,ilora", "--evaluations", "1", "--jobs", "1", "--save-adapters", "--quiet"]
    code, _, _ = call(monkeypatch, capsys, "compare", *small, *options, "--out", tmp_path)
    assert code == 0
    meta = json.loads((tmp_path / "llm-compare.json").read_text())
    assert (meta["scalings"], meta["strengths"]) == ([1.0, 2.0], [0.1, 1.0])
    assert len(meta["cells"]) == 2 + 4
    assert len(list((tmp_path / "llm-compare" / "adapters").iterdir())) == 6


def test_finetune_writes_an_adapter_that_audit_reads(small, tmp_path, monkeypatch, capsys):
    adapter = tmp_path / "made" / "adapter"
    options = [*small, "--rank", "3", "--learning-rate", "1e-2", "--steps", "6", "--checkpoint-every", "2"]
    code, out, err = call(monkeypatch, capsys, "finetune", "balora", *options, "--out", adapter)
    assert (code, "error" in err) == (0, False)
    assert "validation loss" in out
    assert "nats per answer token" in out
    record = json.loads((adapter / "record.json").read_text())
    assert record["run"] == {"method": "balora", "rank": 3, "scaling": 1.0, "learning_rate": 1e-2, "seed": 0}
    assert [path.name for path in adapter.parent.iterdir()] == ["adapter"]  # no checkpoint that another run would find
    code, out, _ = call(monkeypatch, capsys, "audit", adapter)
    assert code == 0
    assert out.count("3 of 3") == 7
    rows = [line.split() for line in out.splitlines() if line.count("…") == 2]  # of σ(A) and of σ(B)
    assert len(rows) == 7
    for gap, kappa, balanced in (row[-3:] for row in rows):
        assert float(gap) < 1e-5
        assert float(kappa) == pytest.approx(float(balanced), rel=1e-2)


def test_a_short_fine_tune_needs_no_other_option(small, tmp_path, monkeypatch, capsys):
    code, _, err = call(monkeypatch, capsys, "finetune", *small, "--steps", "2", "--out", tmp_path / "adapter")
    assert (code, "error" in err) == (0, False)


def test_a_fine_tune_that_diverges_says_so(small, tmp_path, monkeypatch, capsys):
    options = [*small, "--steps", "6", "--learning-rate", "1e25"]
    code, _, err = call(monkeypatch, capsys, "finetune", "lora", *options, "--out", tmp_path / "adapter")
    assert code == 2
    (line,) = [line for line in err.splitlines() if "error" in line]
    assert line.startswith("error: the training diverged: ")
    assert line.endswith("; try a lower --learning-rate")
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--methods", "lora,lara"], "unknown method 'lara'"),
        (["compare", "--methods", "lora,ilora:x=1"], "ilora has no option 'x'"),
        (["compare", "--preset", "huge"], "unknown preset 'huge'"),
        (["compare", "--model", "tiny", "--modules", "no__such"], "no__such"),
        (["compare", "--model", "tiny", "--scalings", "-1"], "scalings must be positive and finite"),
        (["compare", "--model", "tiny", "--scalings", "big"], "'big' is no grid"),
        (["compare", "--model", "tiny", "--learning-rates", "1:2"], "'1:2' is no grid"),
        (["compare", "--model", "tiny", "--ranks", "2,x"], "--ranks must be comma-separated whole numbers, not '2,x'"),
        (["compare", "--model", "tiny", "--ranks", "0"], "ranks must be at least 1"),
        (["compare", "--model", "tiny", "--examples", "3,4"], "--examples wants three numbers"),
        (["compare", "--model", "tiny", "--columns", "a"], "--columns wants two names"),
        (["compare", "--model", "tiny", "--schedule", "step"], "unknown schedule 'step'"),
        (["compare", "--model", "tiny", "--steps", "0"], "must be at least 1"),
        (["compare", "--model", "tiny", "--data", "/nowhere/data.jsonl"], "/nowhere/data.jsonl does not exist"),
        (
            ["compare", "--model", "tiny", "--cluster", "slurm", "--cluster-options", "x", "--examples", "4,2,2"],
            "KEY=VALUE",
        ),
        (["finetune", "lara", "--model", "tiny", "--examples", "4,2,2"], "unknown method 'lara'"),
        (["finetune", "--model", "/nowhere/model", "--examples", "4,2,2"], "/nowhere/model does not exist"),
        (["finetune", "--rank", "0"], "rank"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(monkeypatch, capsys, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_missing_model_stops_a_comparison_at_once(small, tmp_path, monkeypatch, capsys):
    options = [*small, "--model", str(tmp_path / "nowhere"), "--steps", "6", "--jobs", "1", "--out", tmp_path / "out"]
    code, _, err = call(monkeypatch, capsys, "compare", *options)
    assert code == 2
    (line,) = [line for line in err.splitlines() if "error" in line.lower()]
    assert line.startswith("error: ")
    assert "nowhere does not exist" in line
    assert not (tmp_path / "out" / "llm-compare.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["compare", "--model", "nobody/nothing", "--examples", "4,2,2", "--jobs", "1"], "nobody/nothing"),
        (["compare", "--model", "tiny", "--data", "nobody/nothing"], "nobody/nothing"),
        (["finetune", "--model", "nobody/nothing", "--examples", "4,2,2"], "nobody/nothing"),
    ],
)
def test_what_is_not_there_is_named_in_one_line(arguments, named, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "llm", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert named in line


def test_methods_and_presets_are_listed(monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, "methods")
    assert code == 0
    listed = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert set(method_names("llm")) <= set(listed)
    assert "lambda=1, factor=1, power=1" in out
    assert "lr-ratio=16" in listed["lora-plus"]
    assert "moments=keep" in listed["balora"]
    assert "damping is 1e-06 in synthetic and 0.01 in llm" in out
    code, out, _ = call(monkeypatch, capsys, "presets")
    assert code == 0
    assert set(PRESETS) <= {line.split()[0] for line in out.splitlines() if line.split()}
    assert "mistralai/Mistral-7B-v0.1" in out
