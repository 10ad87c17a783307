"""`llm convert`: what it says, and what it refuses in one line."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorakappa.llm import convert_adapter, read_adapter
from tests.llm.adapters.stored import pair, random_pair, write_adapter
from tests.llm.test_llm_command import call


def test_there_and_back(tmp_path, monkeypatch, capsys):
    write_adapter(tmp_path / "in", random_pair(module="base_model.model.mid_block.conv"), r=2, lora_alpha=6)
    lora = tmp_path / "lora.safetensors"
    code, out, _ = call(
        monkeypatch, capsys, "convert", tmp_path / "in", "--to", "kohya", "--out", lora, "--component", "unet"
    )
    assert code == 0
    assert "1 pairs converted to kohya; largest relative change of a product 0\n" in out
    assert load_file(lora)["lora_unet_mid_block_conv.alpha"].item() == 6
    code, out, _ = call(monkeypatch, capsys, "convert", lora, "--to", "peft", "--out", tmp_path / "back", "--quiet")
    assert (code, out) == (0, "")
    (found,) = read_adapter(tmp_path / "back").pairs
    assert (found.module, found.scale) == ("mid_block.conv", 3)
    for command in ("audit", "balance"):
        arguments = ("--out", tmp_path / "balanced.safetensors") if command == "balance" else ()
        code, out, _ = call(monkeypatch, capsys, command, lora, *arguments)
        assert code == 0
    assert read_adapter(tmp_path / "balanced.safetensors").pairs[0].scale == 3


def test_record_and_readers(tmp_path, monkeypatch, capsys):
    layers = [random_pair(module=f"base_model.model.down_blocks.0.attn1.to_{name}") for name in "qkv"]
    folder = write_adapter(tmp_path / "in", layers[0] | layers[1] | layers[2], r=2, lora_alpha=6)
    lora, record = tmp_path / "lora.safetensors", tmp_path / "c.json"
    write = ("--to", "kohya", "--out", lora, "--component", "unet", "--json", record)
    code, out, err = call(monkeypatch, capsys, "convert", folder, *write)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"saved {lora} {record}"
    names = [f"base_model.model.down_blocks.0.attn1.to_{name}" for name in "kqv"]
    assert json.loads(record.read_text())["layers"] == [{"name": name, "change": 0} for name in names]
    write_adapter(folder, layers[0] | layers[1] | layers[2], r=2, lora_alpha=6, alpha_pattern={"to_q": 1})
    lora.unlink()
    code, _, err = call(monkeypatch, capsys, "convert", folder, *write)
    assert code == 0
    assert err == (
        "diffusers gives 1 layers of this kohya file the α of other layers, such as "
        "lora_unet_down_blocks_0_attn1_to_q: for diffusers, convert it --to diffusers\n"
    )
    said = err
    lora.unlink()
    assert call(monkeypatch, capsys, "convert", folder, *write, "--quiet") == (0, "", said)
    assert call(monkeypatch, capsys, "audit", lora, "--quiet") == (0, "", said)


def kohya(path, name="lora_unet_mid_block_conv", **more):
    A, B = random_pair().values()
    save_file({f"{name}.lora_up.weight": A, f"{name}.lora_down.weight": B, **more}, path)
    return path


def diffusers(path, **more):
    A, B = random_pair().values()
    save_file({"unet.conv.lora_B.weight": A, "unet.conv.lora_A.weight": B, **more}, path)
    return path


def peft(folder, tensors=None, **config):
    return write_adapter(folder, random_pair(module="base_model.model.conv") if tensors is None else tensors, **config)


def experts(path):
    return peft(path, pair(torch.randn(6, 4), torch.randn(4, 5), "base_model.model.experts"), r=2,
                target_parameters=["experts.weight"])  # fmt: skip


EMBEDDING = {"m.lora_embedding_B": torch.randn(6, 2), "m.lora_embedding_A": torch.randn(2, 5)}
TWICE = {**random_pair(module="base_model.model.a.b"), **random_pair(module="base_model.model.a_b")}
BIAS = {**random_pair(module="base_model.model.a"), "base_model.model.a.lora_B.bias": torch.ones(6)}
MAGNITUDES = {
    **random_pair(module="base_model.model.a"),
    **random_pair(module="base_model.model.b"),
    "base_model.model.a.lora_magnitude_vector": torch.ones(6),
}
HEAD = {**random_pair(module="base_model.model.a"), "base_model.model.lm_head.weight": torch.ones(6)}

REFUSED = {
    "no component": (peft, "diffusers", (), "does not say which part of a pipeline it adapts"),
    "an embedding": (lambda p: peft(p, EMBEDDING), "kohya", ("--component", "unet"), "an adapter of embedding, which"),
    "experts": (experts, "diffusers", ("--component", "transformer"), "an adapter of experts, which diffusers"),
    "one name": (lambda p: peft(p, TWICE), "kohya", ("--component", "unet"), "have one name in kohya's files"),
    "a bias": (lambda p: peft(p, BIAS), "kohya", ("--component", "unet"), "has a bias in its update, which kohya's"),
    "DoRA in part": (lambda p: peft(p, MAGNITUDES), "diffusers", ("--component", "unet"), "in some layers only"),
    "modules_to_save": (lambda p: peft(p, HEAD), "diffusers", ("--component", "unet"), "such as .*lm_head.weight"),
    "PiSSA": (
        lambda p: peft(p, init_lora_weights="pissa_niter_4"), "kohya", ("--component", "unet"),
        "started from pissa_niter_4, which changed the base weights",
    ),
    "aLoRA": (
        lambda p: peft(p, alora_invocation_tokens=[1]), "kohya", ("--component", "unet"), r"is switched on by .*aLoRA",
    ),
    "unknown words": (lambda p: kohya(p, "lora_unet_my_own_block"), "peft", (), "a name in which `_` stands for dots"),
    "an unknown prefix": (lambda p: kohya(p, "lycoris_mid_block"), "kohya", (), "does not say which part"),
    "magnitudes of inputs": (
        lambda p: kohya(p, **{"lora_unet_mid_block_conv.dora_scale": torch.ones(1, 5)}), "diffusers", (),
        "a magnitude for each input",
    ),
    "kohya in a folder": (diffusers, "kohya", ("--out", "folder"), "does not end with .safetensors"),
    "an unknown format": (diffusers, "civitai", (), "the format must be one of peft, diffusers, kohya"),
    "an unknown part": (peft, "kohya", ("--component", "vae"), "a component must be one of unet,"),
    "no headers": (kohya, "peft", ("--names-from", "."), "has no model in safetensors files"),
    "the file of a folder": (
        lambda p: peft(p.with_name("whole")) / "adapter_model.safetensors", "kohya", (), "only a part of an adapter",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_converted_is_refused_by_name(tmp_path, kind, monkeypatch, capsys):
    make, target, arguments, message = REFUSED[kind]
    (tmp_path / "in").mkdir()
    source = make(tmp_path / "in" / "adapter.safetensors")
    monkeypatch.chdir(tmp_path)
    out = "out" if target == "peft" else "out.safetensors"
    code, printed, err = call(monkeypatch, capsys, "convert", source, "--to", target, "--out", out, *arguments)
    assert (code, printed) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(message, err)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_names_from_the_headers_of_a_model(tmp_path):
    source = kohya(tmp_path / "lora.safetensors", "lora_unet_my_own_block_0_to_x")
    (tmp_path / "pipeline" / "unet").mkdir(parents=True)
    weights = {"my_own.block.0.to_x.weight": torch.ones(1), "my.own_block.bias": torch.ones(1)}
    save_file(weights, tmp_path / "pipeline" / "unet" / "model-00001.safetensors")
    convert_adapter(source, tmp_path / "out", "peft", names_from=tmp_path / "pipeline")
    assert [one.module for one in read_adapter(tmp_path / "out").pairs] == ["my_own.block.0.to_x"]
    convert_adapter(source, tmp_path / "again", "peft", names_from=tmp_path / "pipeline" / "unet")
    save_file({"x.weight": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is no module of the model that was named"):
        convert_adapter(source, tmp_path / "no", "peft", names_from=tmp_path / "other.safetensors")
    weights["my.own_block.0.to_x.weight"] = torch.ones(1)
    save_file(weights, tmp_path / "pipeline" / "unet" / "model-00001.safetensors")
    with pytest.raises(ValueError, match=r"is the name of my.own_block.0.to_x and of my_own.block.0.to_x"):
        convert_adapter(source, tmp_path / "no", "peft", names_from=tmp_path / "pipeline")
    assert not (tmp_path / "no").exists()


def test_two_adapters_of_one_part_are_not_one_file(tmp_path):
    folders = [peft(tmp_path / name) for name in ("a", "b")]
    with pytest.raises(ValueError, match=r"two adapters for unet.conv: merge them first"):
        convert_adapter(folders, tmp_path / "out.safetensors", "kohya", component="unet")
    (tmp_path / "taken.safetensors").write_text("mine")
    with pytest.raises(FileExistsError, match="exists; nothing was written"):
        convert_adapter(folders[0], tmp_path / "taken.safetensors", "kohya", component="unet")
    assert (tmp_path / "taken.safetensors").read_text() == "mine"


def test_biases_and_magnitudes_of_one_part_go_with_it(tmp_path):
    unet = peft(tmp_path / "unet", {**BIAS, "base_model.model.a.lora_magnitude_vector": torch.rand(6)}, lora_alpha=3)
    text = peft(tmp_path / "text", random_pair(module="base_model.model.encoder.q_proj"), lora_alpha=5)
    for folder, part in ((unet, "unet"), (text, "text_encoder")):
        convert_adapter(folder, folder / "lora.safetensors", "diffusers", component=part)
    convert_adapter([unet / "lora.safetensors", text / "lora.safetensors"], tmp_path / "both", "diffusers")
    convert_adapter(tmp_path / "both", tmp_path / "back", "peft")
    old, new = (
        load_file(unet / "adapter_model.safetensors"),
        load_file(tmp_path / "back/unet/adapter_model.safetensors"),
    )
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) for key in old)
    for part, expected in (("unet", (True, True, 3)), ("text_encoder", (False, False, 5))):
        config = json.loads((tmp_path / "back" / part / "adapter_config.json").read_text())
        assert (config["use_dora"], config["lora_bias"], config["lora_alpha"]) == expected
    tensors = load_file(tmp_path / "both" / "pytorch_lora_weights.safetensors")
    flat = json.loads(read_adapter(tmp_path / "both").weights.metadata["lora_adapter_metadata"])
    assert (flat["unet.use_dora"], flat["text_encoder.use_dora"], flat["unet.lora_bias"]) == (True, False, True)
    assert "unet.a.lora_B.bias" in tensors


@pytest.mark.parametrize(
    ("pattern", "scale"),
    [("^encoder.q_proj", 5), ("^text_model.encoder.q_proj", 5), ("q_proj", 5), ("^q_proj", 2), ("encoder", 2)],
)
def test_patterns_name_text_encoders_with_and_without_their_prefix(tmp_path, pattern, scale):
    A, B = random_pair().values()
    stem = "text_encoder.text_model.encoder.q_proj"
    flat = {"text_encoder.r": 2, "text_encoder.lora_alpha": 4, "text_encoder.alpha_pattern": {pattern: 10}}
    metadata = {"lora_adapter_metadata": json.dumps(flat)}
    path = tmp_path / "lora.safetensors"
    save_file({f"{stem}.lora_B.weight": A, f"{stem}.lora_A.weight": B}, path, metadata=metadata)
    assert read_adapter(path).pairs[0].scale == scale
