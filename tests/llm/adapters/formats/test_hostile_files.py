"""Single files that are damaged, foreign or hostile: one clear line, nothing written."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from lorakappa.llm import balance_adapter, convert_adapter, read_adapter
from lorakappa.llm.adapters.formats.kohya_file import HASHES
from lorakappa.llm.adapters.formats.stored import Factors
from lorakappa.llm.adapters.formats.weights import WeightsWriter, open_weights
from lorakappa.llm.adapters.formats.writing import write_adapter
from tests.llm.adapters.stored import random_pair
from tests.llm.adapters.stored import write_adapter as peft_folder
from tests.llm.test_llm_command import call

A, B = random_pair().values()
NAME = "lora_unet_mid_block_conv"
KOHYA = {f"{NAME}.lora_up.weight": A, f"{NAME}.lora_down.weight": B, f"{NAME}.alpha": torch.tensor(4.0)}
DIFFUSERS = {"unet.mid_block.conv.lora_B.weight": A, "unet.mid_block.conv.lora_A.weight": B}


def refused(path, message, monkeypatch, capsys):
    """All commands refuse a file with one short line, and nothing is written."""
    folder = path.parent
    before = sorted(entry.name for entry in folder.iterdir())
    out = folder / "out.safetensors"
    for command in (("audit",), ("balance", "--out", out), ("convert", "--to", "diffusers", "--out", out)):
        code, printed, err = call(monkeypatch, capsys, command[0], path, *command[1:])
        assert (code, printed) == (2, ""), command
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert len(err) < 700
    with pytest.raises((ValueError, OSError), match=message):
        read_adapter(path)
    assert sorted(entry.name for entry in folder.iterdir()) == before


def alpha(value):
    return {**KOHYA, f"{NAME}.alpha": torch.as_tensor(value)}


CONTENTS = {
    "nothing": ({}, "holds no LoRA factors that are known here"),
    "a model": ({"model.layers.0.weight": A}, "holds no LoRA factors"),
    "names of the original code": (
        {f"diffusion_model.{key}": A for key in ("x.lora_A.weight",)},
        "holds no LoRA factors",
    ),
    "PEFT's names alone": (random_pair(module="base_model.model.x"), "holds no LoRA factors"),
    "kohya without up": ({f"{NAME}.lora_down.weight": B}, "has no lora_up.weight for lora_unet_mid_block_conv"),
    "kohya without down": ({f"{NAME}.lora_up.weight": A}, "has no lora_down.weight for lora_unet_mid_block_conv"),
    "diffusers without up": ({"unet.conv.lora_A.weight": B}, "has only one factor of unet.conv"),
    "two styles": ({**DIFFUSERS, "unet.mid_block.conv.lora.down.weight": B}, "of a module twice"),
    "an alpha of 0": (alpha(0.0), "is 0: kohya's scripts read that as α = r"),
    "an alpha of NaN": (alpha(float("nan")), "is no number"),
    "an infinite alpha": (alpha(float("inf")), "is no number"),
    "a complex alpha": (alpha(1j), "is no number"),
    "two alphas": (alpha([1.0, 2.0]), r"has shape \(2,\); an α is one number"),
    "no alpha": (alpha([]), r"has shape \(0,\); an α is one number"),
    "an alpha of no type": (alpha(1.0), ""),
    "LoHa": (
        {f"{NAME}.hada_w1_a": A, f"{NAME}.hada_w1_b": B},
        "LoHa, an entrywise product of two products",
    ),
    "LoKr": ({f"{NAME}.lokr_w1": A, f"{NAME}.lokr_w2": B}, "LoKr, a Kronecker product"),
    "CP": ({**KOHYA, f"{NAME}.lora_mid.weight": A}, "a convolution in three factors"),
    "OFT": ({f"{NAME}.oft_blocks": A}, "OFT, a rotation"),
    "BOFT": ({f"{NAME}.boft_blocks": A}, "BOFT, a rotation"),
    "(IA)³": ({f"{NAME}.on_input": A}, r"\(IA\)³, a scaling"),
    "GLoRA": ({f"{NAME}.a1.weight": A}, "GLoRA, whose update depends on the base weight"),
    "one kind among others": ({**KOHYA, "lora_unet_x.lokr_w1": A}, "lora_unet_x: LoKr"),
    "other ranks": ({**KOHYA, f"{NAME}.lora_up.weight": torch.ones(6, 3)}, "factors that do not share r"),
    "a vector": ({**KOHYA, f"{NAME}.lora_up.weight": torch.ones(6)}, "which are no matrices"),
    "float8": (
        {**KOHYA, f"{NAME}.lora_up.weight": A.to(torch.float8_e4m3fn)},
        "too coarse for new factors; store them in bfloat16 first",
    ),
    "NaN": ({**KOHYA, f"{NAME}.lora_up.weight": A * torch.nan}, ""),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_is_no_adapter_of_pairs(tmp_path, kind, monkeypatch, capsys):
    tensors, message = CONTENTS[kind]
    path = tmp_path / "lora.safetensors"
    save_file({key: value.clone() for key, value in tensors.items()}, path)
    if kind == "NaN":
        with pytest.raises(ValueError, match="contains NaN or infinity"):
            balance_adapter(path, tmp_path / "out.safetensors")
        with pytest.raises(ValueError, match="contains NaN or infinity"):
            convert_adapter(path, tmp_path / "out.safetensors", "diffusers")
        assert [entry.name for entry in tmp_path.iterdir()] == ["lora.safetensors"]
    elif message:
        refused(path, message, monkeypatch, capsys)
    else:
        content = path.read_bytes().replace(b'"F32","shape":[]', b'"F4Q","shape":[]')
        path.write_bytes(content)
        refused(path, "is damaged", monkeypatch, capsys)


def config(text):
    return {"lora_adapter_metadata": text}


METADATA = {
    "no JSON": (config("{"), "is not JSON"),
    "a list": (config("[1]"), "is no object of JSON"),
    "deep": (config("[" * 10**5), "nested too deeply"),
    "a part that is none": (config('{"vae.r": 1}'), "for a part of a pipeline that is not known: vae"),
    "no part": (config('{"r": 1}'), "for a part of a pipeline that is not known: r"),
    "a rank of words": (config('{"unet.r": "two"}'), "r: input should be a valid integer"),
    "a scale of NaN": (config('{"unet.lora_alpha": NaN}'), "is not JSON|no number of JSON"),
    "a pattern": (config('{"unet.alpha_pattern": {"[": 1}}'), "no regular expression"),
    "KaSA": (config('{"unet.kasa_config": {"beta": 1}}'), "KaSA has a learned diagonal"),
    "a key twice": (config('{"unet.r": 1, "unet.r": 2}'), "has the key 'unet.r' twice"),
}


@pytest.mark.parametrize("kind", METADATA)
def test_metadata_of_diffusers_that_cannot_be_read(tmp_path, kind, monkeypatch, capsys):
    metadata, message = METADATA[kind]
    path = tmp_path / "lora.safetensors"
    save_file(DIFFUSERS, path, metadata=metadata)
    refused(path, message, monkeypatch, capsys)


@pytest.mark.parametrize("text", ["[1]", '{"lora_unet_mid_block_conv": 1}', "{"])
def test_tables_of_names_that_are_none(tmp_path, text, monkeypatch, capsys):
    path = tmp_path / "lora.safetensors"
    save_file(KOHYA, path, metadata={"lorakappa_modules": text})
    refused(path, "is no table of names|is not JSON", monkeypatch, capsys)


@pytest.mark.parametrize("size", [0, 7, 8, 60, -1])
@pytest.mark.parametrize("tensors", [KOHYA, DIFFUSERS], ids=["kohya", "diffusers"])
def test_truncated_files(tmp_path, size, tensors, monkeypatch, capsys):
    path = tmp_path / "lora.safetensors"
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:size])
    refused(path, "is damaged", monkeypatch, capsys)


def test_what_is_no_file(tmp_path, monkeypatch, capsys):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nowhere", "empty"):
        if name == "empty":
            (tmp_path / name).mkdir()
        refused(
            tmp_path / name, "is not a folder or a file with an adapter|has no adapter_config.json", monkeypatch, capsys
        )
    (tmp_path / "empty" / "pytorch_lora_weights.bin").write_bytes(b"pickle")
    refused(tmp_path / "empty", "has no adapter_config.json", monkeypatch, capsys)


def test_a_table_that_names_one_module_twice(tmp_path):
    tensors = {**KOHYA, **{key.replace("mid_block", "other"): value for key, value in KOHYA.items()}}
    table = json.dumps({NAME: "unet.mid_block.conv", "lora_unet_other_conv": "unet.mid_block.conv"})
    save_file(
        {key: value.clone() for key, value in tensors.items()},
        tmp_path / "a.safetensors",
        metadata={"lorakappa_modules": table},
    )
    assert len(balance_adapter(tmp_path / "a.safetensors", tmp_path / "b.safetensors")) == 2
    with pytest.raises(ValueError, match=r"two adapters for unet.mid_block.conv"):
        convert_adapter(tmp_path / "a.safetensors", tmp_path / "c.safetensors", "diffusers")
    assert not (tmp_path / "c.safetensors").exists()


def test_a_table_cannot_name_files(tmp_path):
    """Names in a hostile table are names of tensors at worst; parts that are none are refused."""
    for number, module in enumerate(("../../x.y", "unet.../..", "vae.conv", "")):
        source = tmp_path / f"{number}.safetensors"
        save_file(KOHYA, source, metadata={"lorakappa_modules": json.dumps({NAME: module})})
        try:
            convert_adapter(source, tmp_path / "out" / str(number), "peft")
        except ValueError as error:
            assert "part" in str(error)  # noqa: PT017
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {
        *(f"{number}.safetensors" for number in range(4)), "adapter_config.json", "adapter_model.safetensors"
    }  # fmt: skip


def test_everything_else_in_a_file_is_kept_but_not_the_hashes_of_other_tensors(tmp_path):
    path = tmp_path / "lora.safetensors"
    extra = {"lora_unet_x.diff": torch.ones(3), f"{NAME}.dora_scale": torch.ones(6, 1), "text": torch.tensor([1, 2])}
    metadata = dict.fromkeys(HASHES, "ab" * 32) | {"ss_network_dim": "2", "ss_network_alpha": "4.0", "ü": "日本"}
    save_file({**KOHYA, **extra}, path, metadata=metadata)
    balance_adapter(path, tmp_path / "balanced.safetensors")
    adapter = read_adapter(path)
    write_adapter(adapter, tmp_path / "same.safetensors", adapter.kept)

    def doubled(pair):
        A, B, scale = adapter.kept(pair)
        return Factors(torch.cat([A, A], 1), torch.cat([B, B]), scale / 2)

    write_adapter(adapter, tmp_path / "wide.safetensors", doubled)
    for name, dim in (("balanced", "2"), ("same", "2"), ("wide", "4")):
        written = open_weights(tmp_path / f"{name}.safetensors")
        alpha = "4.0" if name == "balanced" else "4"
        assert written.metadata == {"ss_network_dim": dim, "ss_network_alpha": alpha, "ü": "日本"}
        tensors = load_file(tmp_path / f"{name}.safetensors")
        assert all(torch.equal(tensors[key], value) for key, value in extra.items())
        assert tensors.keys() == load_file(path).keys()
    with pytest.raises(ValueError, match=r"belong to no pair, such as lora_unet_x\.diff"):
        convert_adapter(path, tmp_path / "out.safetensors", "diffusers")


def test_mixed_ranks_are_called_dynamic(tmp_path):
    tensors = {**KOHYA, **{key.replace(NAME, "lora_unet_conv_in"): value.clone() for key, value in KOHYA.items()}}
    save_file(tensors, tmp_path / "lora.safetensors", metadata={"ss_network_dim": "2", "ss_network_alpha": "4"})
    adapter = read_adapter(tmp_path / "lora.safetensors")

    def first(pair):
        A, B, scale = adapter.kept(pair)
        return Factors(A[:, :1], B[:1], scale) if pair.name == NAME else Factors(A, B, scale)

    write_adapter(adapter, tmp_path / "out.safetensors", first)
    written = read_adapter(tmp_path / "out.safetensors")
    assert written.weights.metadata == {"ss_network_dim": "Dynamic", "ss_network_alpha": "Dynamic"}
    assert {pair.name: (pair.r, pair.scale) for pair in written.pairs} == {NAME: (1, 2), "lora_unet_conv_in": (2, 2)}


def test_diffusers_in_a_folder_keeps_what_lies_there(tmp_path):
    (tmp_path / "in").mkdir()
    save_file(DIFFUSERS, tmp_path / "in" / "pytorch_lora_weights.safetensors")
    (tmp_path / "in" / "README.md").write_text("mine")
    balance_adapter(tmp_path / "in", tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "README.md",
        "pytorch_lora_weights.safetensors",
    ]
    balance_adapter(tmp_path / "in", tmp_path / "out.safetensors")
    assert load_file(tmp_path / "out.safetensors").keys() == DIFFUSERS.keys()
    (tmp_path / "in" / "link").symlink_to("/etc/hostname")
    with pytest.raises(PermissionError, match="outside of the adapter's folder"):
        balance_adapter(tmp_path / "in", tmp_path / "again")


def test_a_source_that_changes_while_it_is_read(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file(KOHYA, path)
    adapter = read_adapter(path)
    os.utime(path, (1, 1))
    with pytest.raises(ValueError, match="changed while it was read; nothing was written"):
        adapter.factors(adapter.pairs[0])
    with pytest.raises(ValueError, match="changed while it was read; nothing was written"):
        write_adapter(adapter, tmp_path / "out.safetensors", adapter.kept)
    assert [entry.name for entry in tmp_path.iterdir()] == ["lora.safetensors"]


def test_types_that_torch_does_not_know_are_carried_as_bytes(tmp_path):
    content = b"\1\2\3\4" + b"\5" * 8
    header = {
        "odd": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]},
        "lora.x": {"dtype": "I64", "shape": [1], "data_offsets": [4, 12]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(text)) + text + content)
    source = open_weights(tmp_path / "a")
    with pytest.raises(ValueError, match="cannot read: odd is of type F8_E8M0"):
        source.read("odd")
    with WeightsWriter(tmp_path) as writer:
        for name in source.entries:
            writer.copy(name, source)
        writer.finish(tmp_path / "b", {})
    copy = open_weights(tmp_path / "b")
    assert [copy.entries[name].dtype for name in ("odd", "lora.x")] == ["F8_E8M0", "I64"]
    assert b"".join(copy.chunks("odd")) == content[:4]
    assert copy.read("lora.x").item() == int.from_bytes(content[4:], "little")


def test_a_folder_of_peft_wins_over_a_file_beside_it(tmp_path):
    peft_folder(tmp_path / "in", random_pair(), r=2)
    save_file(DIFFUSERS, tmp_path / "in" / "pytorch_lora_weights.safetensors")
    assert read_adapter(tmp_path / "in").format == "peft"
    balance_adapter(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "pytorch_lora_weights.safetensors").is_file()
