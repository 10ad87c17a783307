"""`lorakappa llm resize | fold | merge | diff`: what they print, write and refuse."""

import json

import pytest

from lorakappa.llm import read_adapter
from tests.llm.adapters.stored import random_pair, write_adapter
from tests.llm.models import unbalance, with_lora
from tests.llm.test_llm_command import call


@pytest.fixture
def adapters(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        unbalance(with_lora(target_modules=["q_proj", "down_proj"]), seed).save_pretrained(tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def test_resize(adapters, tmp_path, monkeypatch, capsys):
    record = tmp_path / "r.json"
    arguments = ("resize", adapters[0], "--out", tmp_path / "out", "--rank", 3, "--error", 0.3, "--json", record)
    code, out, _ = call(monkeypatch, capsys, *arguments)
    assert code == 0
    data = json.loads(record.read_text())
    assert data["rule"] == {"rank": 3, "energy": None, "nuclear": None, "error": 0.3, "spectral_error": None}
    pairs = read_adapter(tmp_path / "out").pairs
    assert [layer["rank"] for layer in data["layers"]] == [pair.r for pair in pairs]
    worst = max(data["layers"], key=lambda layer: layer["stored_error"])
    assert f"largest relative change of a product {worst['stored_error']:.2g} (model.layers." in out
    before = sum(4 * sum(pair.shape) for pair in pairs)
    assert f"{before:,} parameters → {sum(pair.r * sum(pair.shape) for pair in pairs):,}" in out
    assert "model.layers.0.self_attn.q_proj" in out
    assert f"4 → {pairs[0].r}" in out
    assert str(record) in out.splitlines()[-1]


def test_fold(adapters, tmp_path, monkeypatch, capsys):
    code, out, _ = call(
        monkeypatch, capsys, "fold", adapters[0], "--out", tmp_path / "out", "--json", tmp_path / "f.json"
    )
    assert code == 0
    assert "4 pairs, scale 2 → 1; largest relative change of a product" in out
    assert [layer["scale"] for layer in json.loads((tmp_path / "f.json").read_text())["layers"]] == [2] * 4


def test_merge(adapters, tmp_path, monkeypatch, capsys):
    arguments = ("merge", *adapters, "--out", tmp_path / "out", "--weights", "0.7,-1", "--json", tmp_path / "m.json")
    code, out, _ = call(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "8 of 8" in out
    assert "2 adapters, 4 layers; largest relative change of a product" in out
    data = json.loads((tmp_path / "m.json").read_text())
    assert data["weights"] == [0.7, -1]
    assert data["adapters"] == [str(adapter) for adapter in adapters]
    assert {layer["rank"] for layer in data["layers"]} == {8}
    code, out, _ = call(monkeypatch, capsys, "merge", *adapters, "--out", tmp_path / "small", "--rank", 2)
    assert code == 0
    assert "2 of 8" in out
    assert "all" in out


def test_diff(adapters, tmp_path, monkeypatch, capsys):
    code, out, err = call(monkeypatch, capsys, "diff", *adapters, "--json", tmp_path / "d.json")
    data = json.loads((tmp_path / "d.json").read_text())
    assert (code, err) == (0, "")
    assert len(data["layers"]) == 4
    assert f"relative {data['relative']:.3g}" in out
    assert "4 | 4" in out
    unbalance(with_lora(target_modules=["q_proj"])).save_pretrained(tmp_path / "c")
    code, out, err = call(monkeypatch, capsys, "diff", adapters[0], tmp_path / "c")
    assert code == 0
    assert err == f"2 of 4 layers are not in {tmp_path / 'c'} and count as 0 there\n"
    assert " - " in out


def test_tables_cut_no_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    module = f"base_model.model.{'long_' * 20}name_of_a_layer.to_"
    write_adapter(
        tmp_path / "a", random_pair(module=f"{module}q") | random_pair(module=f"{module}k"), r=2, lora_alpha=2
    )
    for arguments in (("audit",), ("diff", tmp_path / "a"), ("resize", "--rank", 1, "--out", tmp_path / "out")):
        code, out, _ = call(monkeypatch, capsys, arguments[0], tmp_path / "a", *arguments[1:])
        assert code == 0
        first = "".join(line[1:].split("  ")[0] for line in out.splitlines())
        assert all(f"name_of_a_layer.to_{name}" in first for name in "qk")


@pytest.mark.parametrize("command", ["resize", "fold", "merge", "diff"])
def test_quiet(command, adapters, tmp_path, monkeypatch, capsys):
    options = {"resize": ("--rank", 1), "merge": (adapters[1],), "diff": (adapters[1],)}.get(command, ())
    out = () if command == "diff" else ("--out", tmp_path / "out")
    record = ("--json", tmp_path / "record.json")
    code, printed, err = call(monkeypatch, capsys, command, adapters[0], *options, *out, *record, "--quiet")
    assert record[1].exists()
    assert (code, printed, err) == (0, "", "")


def test_errors_are_one_line_and_leave_nothing(adapters, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    write = ("--out", out)
    for arguments, message in (
        (("resize", adapters[0], *write), "say how far: --rank, --energy, --nuclear, --error or --spectral-error"),
        (("resize", adapters[0], *write, "--energy", "1.5"), "energy = 1.5 is a share to keep"),
        (("resize", adapters[0], *write, "--error", "nan"), "error = nan is a relative error"),
        (("resize", adapters[0], "--rank", "1", "--out", adapters[1]), "not an empty folder"),
        (("resize", tmp_path, *write, "--rank", "1"), "has no adapter_config.json"),
        (("resize", adapters[0], *write, "--rank", "1", "--json", tmp_path), "is a folder"),
        (("fold", adapters[0], *write, "--json", tmp_path), "is a folder"),
        (("merge", *adapters, *write, "--weights", "1"), "2 adapters need as many finite weights, not 1.0"),
        (("merge", *adapters, *write, "--weights", "1,x"), "--weights must be comma-separated numbers"),
        (("merge", *adapters, *write, "--json", tmp_path), "is a folder"),
        (("diff", adapters[0], tmp_path), "has no adapter_config.json"),
        (("diff", *adapters, "--json", tmp_path), "is a folder"),
    ):
        code, _, err = call(monkeypatch, capsys, *arguments)
        assert code == 2
        assert err.startswith("error: ")
        assert message in err
        assert err.count("\n") == 1
        assert not out.exists()
