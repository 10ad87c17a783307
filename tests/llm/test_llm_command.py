"""`python -m llm`: tables, files, exit codes and one line of error."""

import json
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from lorakappa.llm.command import app
from lorakappa.shared.command_line import run
from tests.llm.models import unbalance, with_lora


@pytest.fixture
def adapter(tmp_path):
    unbalance(with_lora(target_modules=["q_proj", "down_proj"])).save_pretrained(tmp_path / "in")
    return tmp_path / "in"


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["llm", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        run(app)
    captured = capsys.readouterr()
    return exit_.value.code, captured.out, captured.err


def test_audit(adapter, tmp_path, monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, "audit", adapter, "--json", tmp_path / "audit.json")
    assert code == 0
    assert "model.layers.0.self_attn.q_proj" in out
    assert "4 of 4" in out
    data = json.loads((tmp_path / "audit.json").read_text())
    assert len(data["layers"]) == 4
    assert data["layers"][0]["kappa_bound"] >= data["layers"][1]["kappa_bound"]
    assert data["layers"][0]["dtype"] == "float32"


def test_balance(adapter, tmp_path, monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, "balance", adapter, "--out", tmp_path / "out", "--gauge", "nearest",
                        "--json", tmp_path / "b.json")  # fmt: skip
    assert code == 0
    assert "4 pairs balanced; largest relative change of a product" in out
    assert "(model.layers." in out
    record = json.loads((tmp_path / "b.json").read_text())
    assert record["gauge"] == "nearest"
    assert [layer["left"] for layer in record["layers"]] == [False] * 4
    assert len(load_file(tmp_path / "out" / "adapter_model.safetensors")) == 8


def test_errors_are_one_line(adapter, tmp_path, monkeypatch, capsys):
    for arguments, message in (
        (("audit", tmp_path / "nowhere"), "not a folder"),
        (("audit", tmp_path), "has no adapter_config.json"),
        (("balance", adapter, "--out", adapter), "not an empty folder"),
        (("balance", adapter, "--out", tmp_path / "out", "--gauge", "flat"), "gauge must be one of"),
        (("audit", adapter, "--json", tmp_path), "is a folder"),
        (("balance", adapter, "--out", tmp_path / "out", "--json", tmp_path), "is a folder"),
        (("balance", adapter, "--out", tmp_path / "a.safetensors"), "an adapter of PEFT is a folder"),
    ):
        code, _, err = call(monkeypatch, capsys, *arguments)
        assert code == 2
        assert err.startswith("error: ")
        assert message in err
        assert err.count("\n") == 1


def test_the_module_runs(adapter):
    command = [sys.executable, "-m", "llm", "audit", str(adapter)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "κ bound" in result.stdout
