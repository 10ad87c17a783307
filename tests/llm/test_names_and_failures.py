"""Names of modules are data on the terminal and in figures; a comparison without a run says why."""

import json

import torch
from safetensors.torch import save_file

from lorakappa.llm.comparison import protocol
from tests.llm.test_llm_command import call

NAMES = ("[/x]", "[red]m[/red]", ":smile:", "a.$\\frac{$")


def adapter(folder):
    """An adapter whose modules have such names."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    generator = torch.Generator().manual_seed(0)
    factors = {}
    for name in NAMES:
        for letter, shape in (("A", (2, 5)), ("B", (4, 2))):
            key = f"base_model.model.{name}.lora_{letter}.weight"
            factors[key] = torch.randn(shape, generator=generator)
    save_file(factors, folder / "adapter_model.safetensors")
    return folder


def test_names_of_modules_are_shown_as_they_are(tmp_path, monkeypatch, capsys):
    folder = adapter(tmp_path / "adapter")
    code, out, err = call(monkeypatch, capsys, "audit", folder, "--json", tmp_path / "audit.json")
    assert (code, err) == (0, "")
    for name in ("[/x]", "[red]m[/red]", ":smile:", "a.$\\frac{$"):
        assert name in out
    assert (tmp_path / "audit.png").is_file()
    assert len(json.loads((tmp_path / "audit.json").read_text())["layers"]) == len(NAMES)
    code, out, err = call(monkeypatch, capsys, "balance", folder, "--out", tmp_path / "[red]balanced[/red]")
    assert (code, err) == (0, "")
    assert f"saved {tmp_path}/[red]balanced[/red]" in out


def test_a_comparison_of_which_every_run_failed_says_why(tmp_path, monkeypatch, capsys):
    def compare(plan, splits, folder, **_):
        return protocol.Outcome(plan, splits.source, {("lora", 2): [], ("balora", 2): []}, ["lora-r2: out of memory"])

    monkeypatch.setattr(protocol, "compare", compare)
    lines = [json.dumps({"question": f"{i} + 1 =", "answer": str(i + 1)}) for i in range(60)]
    (tmp_path / "sums.jsonl").write_text("\n".join(lines))
    options = [
        "--preset",
        "tiny",
        "--data",
        tmp_path / "sums.jsonl",
        "--examples",
        "40,10,10",
        "--methods",
        "lora,balora",
    ]
    options += ["--methods", "lora,balora", "--ranks", "2", "--jobs", "1", "--quiet", "--out", tmp_path]
    code, out, err = call(monkeypatch, capsys, "compare", *options)
    assert code == 2
    assert out == ""
    assert err.splitlines()[-1] == "error: no run has trained: 1 failed; the first: lora-r2: out of memory"
    assert not (tmp_path / "llm-compare.json").exists()  # nor is an earlier one touched
    assert "Traceback" not in err
