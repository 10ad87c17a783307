"""What may lie in an adapter's folder, and where one may be written: one clear line or the right thing, never half."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lorakappa.llm import CannotBalanceError, audit_adapter, balance_adapter
from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.formats.weights import LONGEST_NAME
from tests.llm.adapters.stored import MODULE, pair, random_pair, raw_weights, write_adapter
from tests.llm.test_llm_command import call

FACTOR = f"{MODULE}.lora_A.weight"


def left_behind(folder):
    return sorted(entry.name for entry in folder.iterdir())


# --- what is in the files


CONFIGS = {
    "deep": ("[" * 10**5, "nested too deeply"),
    "deep objects": ('{"a":' * 10**5, "nested too deeply"),
    "numbers among parameters": (
        {"target_parameters": [1, None]},
        r"target_parameters\[0\]: input should be a valid string",
    ),
    "a parameter alone": ({"target_parameters": "experts"}, 'target_parameters: .* valid list, not "experts"'),
    "a rank that is none": ({"r": "8"}, 'r: input should be a valid integer, not "8"'),
    "a true rank": ({"r": True}, "r: input should be a valid integer, not true"),
    "a rank of 0": ({"r": 0}, "r: input should be greater than or equal to 1, not 0"),
    "ranks by list": ({"rank_pattern": [1]}, "rank_pattern: input should be a valid dictionary"),
    "a start that is none": ({"init_lora_weights": {"a": 1}}, "init_lora_weights"),
    "another rank": ({"r": 8}, r"factors of rank 2, but adapter_config.json says r = 8$"),
    "other ranks": ({"r": 8, "rank_pattern": {"k_proj": 4}}, r"says r = 8 \(rank_pattern \[4\]\)"),
    "a long kind": ({"peft_type": "x" * 10**5}, "describes x{57}…, not LORA"),
    "a kind of two lines": ({"peft_type": "a\nb"}, r"describes 'a\\nb', not LORA"),
    "a kind that is a list": ({"peft_type": ["LORA"]}, r"describes \['LORA'\], not LORA"),
    "digits": ('{"peft_type": "LORA", "r": ' + "9" * 5000 + "}", "is not JSON"),
    "a rank beyond all": ({"r": 10**30}, "r: "),
    "a key twice": ('{"peft_type": "LORA", "r": 1, "r": 2}', "has the key 'r' twice"),
    "not UTF-8": (b"\xff\xfe", "is not JSON"),
    "empty": ("", "is not JSON"),
    "NaN": ("NaN", "NaN is no number of JSON"),
    "huge": (" " * (16 * 2**20 + 1), "bytes: that is no configuration"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_bad_configurations_are_one_line(tmp_path, kind, monkeypatch, capsys):
    content, message = CONFIGS[kind]
    write_adapter(tmp_path / "in", random_pair(), **(content if isinstance(content, dict) else {}))
    if not isinstance(content, dict):
        raw = content if isinstance(content, bytes) else content.encode()
        (tmp_path / "in" / "adapter_config.json").write_bytes(raw)
    refused(tmp_path, message, monkeypatch, capsys)


def refused(tmp_path, message, monkeypatch, capsys):
    """Both commands refuse the adapter in `in` with one short line, and nothing is written."""
    with pytest.raises((ValueError, OSError), match=message) as caught:
        balance_adapter(tmp_path / "in", tmp_path / "out")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
    for command in (("audit", tmp_path / "in"), ("balance", tmp_path / "in", "--out", tmp_path / "out")):
        code, out, err = call(monkeypatch, capsys, *command)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert left_behind(tmp_path) == ["in"]


def entry(dtype="F32", shape=(1,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HEADERS = {
    "claims of size": ({FACTOR: entry(shape=(10**6, 10**6), end=4 * 10**12)}, b"\0" * 4, "is damaged"),
    "overflowing shapes": ({FACTOR: entry(shape=(2**40, 2**40), end=4)}, b"\0" * 4, "is damaged"),
    "negative offsets": ({FACTOR: entry(begin=-4, end=0)}, b"\0" * 4, "is damaged"),
    "reversed offsets": ({FACTOR: entry(begin=4, end=0)}, b"\0" * 4, "is damaged"),
    "duplicate keys": (
        b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry(begin=4, end=8)).encode() + b"}",
        b"\0" * 8,
        "is damaged",
    ),
    "no header": (b"[]", b"", "is damaged"),
    "deep header": (b"[" * 10**5, b"", "is damaged"),
    "an unknown type": ({FACTOR: entry(dtype="X99")}, b"\0" * 4, "is damaged"),
    "a rank of 10^5": ({FACTOR: entry(shape=[1] * 10**5)}, b"\0" * 4, "is damaged|no matrices|cannot read|incomplete"),
    "a name of two lines": ({"a\nb": entry()}, b"\0" * 4, "whose name is no name of a tensor"),
    "a name of escapes": ({"a\x1b[31m": entry()}, b"\0" * 4, "whose name is no name of a tensor"),
    "a long name": ({"a" * (LONGEST_NAME + 1): entry()}, b"\0" * 4, "whose name is no name of a tensor"),
    "no name": ({"": entry()}, b"\0" * 4, "whose name is no name of a tensor"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_bad_headers_are_one_line(tmp_path, kind, monkeypatch, capsys):
    header, content, message = HEADERS[kind]
    write_adapter(tmp_path / "in", random_pair())
    raw_weights(tmp_path / "in", header, content)
    refused(tmp_path, message, monkeypatch, capsys)


@pytest.mark.parametrize("size", [0, 4, 8, 20, 200, -1])
def test_truncated_weights_are_one_line(tmp_path, size, monkeypatch, capsys):
    weights = write_adapter(tmp_path / "in", random_pair()) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    refused(tmp_path, "is damaged", monkeypatch, capsys)


def factor_of(shape, dtype=torch.float32):
    return {**random_pair(), FACTOR: torch.zeros(shape).to(dtype)}


TENSORS = {
    "float8": ({key: value.to(torch.float8_e4m3fn) for key, value in random_pair().items()}, "too coarse.*bfloat16"),
    "one float8": (factor_of((2, 5), torch.float8_e5m2), "float8_e5m2, which is too coarse"),
    "int8": ({key: value.to(torch.int8) for key, value in random_pair().items()}, "int8, which is not floating point"),
    "bool": (factor_of((2, 5), torch.bool), "bool, which is not floating point"),
    "complex": (factor_of((2, 5), torch.complex64), "complex64, which is not floating point"),
    "a number": (factor_of(()), "no matrices"),
    "a vector": (factor_of(2), "no matrices"),
    "an empty matrix": (factor_of((0, 5)), "no matrices"),
    "rank 5": (factor_of((3, 1, 1, 1, 1)), "do not share r"),
    "no partner": ({FACTOR: torch.zeros(2, 5)}, "has no lora_B for"),
    "the same factor twice": ({**random_pair(), f"{MODULE}.lora_A": torch.zeros(2, 5)}, "of a module twice"),
    "a linear layer and an embedding": (
        {
            **random_pair(),
            f"{MODULE}.lora_embedding_A": torch.zeros(2, 5),
            f"{MODULE}.lora_embedding_B": torch.zeros(6, 2),
        },
        "of a module twice",
    ),
    "infinity": (factor_of((2, 5)) | {FACTOR: torch.full((2, 5), torch.inf)}, "contains NaN or infinity"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_bad_tensors_are_one_line(tmp_path, kind, monkeypatch, capsys):
    tensors, message = TENSORS[kind]
    write_adapter(tmp_path / "in", tensors, r=2)
    refused(tmp_path, message, monkeypatch, capsys)


def test_stacked_experts_that_are_no_matrices(tmp_path):
    tensors = pair(torch.randn(6, 4, 1, 1), torch.randn(4, 5, 1, 1), "m.experts")
    write_adapter(tmp_path / "in", tensors, r=2, target_parameters=["experts.weight"])
    with pytest.raises(CannotBalanceError, match="stacked experts of shapes"):
        read_adapter(tmp_path / "in")


def test_tensors_of_other_types_and_the_header_are_carried_over_byte_for_byte(tmp_path):
    others = {
        "float8": torch.randn(3, 3).to(torch.float8_e5m2),
        "mask": torch.ones(3, dtype=torch.bool),
        "nan": torch.full((2,), torch.nan),
        "empty": torch.zeros(0, 4),
    }
    write_adapter(tmp_path / "in", {**random_pair(), **others})
    balance_adapter(tmp_path / "in", tmp_path / "out")
    before, after = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("in", "out"))
    start = 8 + int.from_bytes(before[:8], "little")
    assert before[:start] == after[:start]
    header = json.loads(before[8:start])
    for key in others:
        begin, end = (start + place for place in header[key]["data_offsets"])
        assert before[begin:end] == after[begin:end]


@pytest.mark.slow
def test_a_hundred_thousand_tensors(tmp_path):
    one = random_pair().values()
    tensors = {key: value.clone() for i in range(100) for key, value in pair(*one, f"layers.{i}").items()}
    tensors.update({f"other.{i}": torch.zeros(1) for i in range(100_000)})
    write_adapter(tmp_path / "in", tensors, r=2)
    assert len(balance_adapter(tmp_path / "in", tmp_path / "out")) == 100


def test_names_that_look_like_markup(tmp_path, monkeypatch, capsys):
    write_adapter(tmp_path / "in", random_pair(module="base.[red]m[/red].[/x]"))
    assert list(balance_adapter(tmp_path / "in", tmp_path / "out")) == ["base.[red]m[/red].[/x]"]


def test_an_adapter_in_several_files_is_named_as_such(tmp_path):
    folder = write_adapter(tmp_path / "in", random_pair())
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model-00001-of-00001.safetensors")
    (folder / "adapter_model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="an adapter in several files"):
        read_adapter(folder)


@pytest.mark.parametrize("kind", [str, Path])
def test_names_of_folders_are_text_or_paths(tmp_path, kind):
    write_adapter(tmp_path / "in", random_pair())
    source, target = kind(tmp_path / "in"), kind(tmp_path / "out")
    assert len(read_adapter(source).pairs) == len(audit_adapter(source)) == len(balance_adapter(source, target)) == 1


# --- where it is written, and what is copied


def test_links_out_of_the_folder_are_refused_by_name(tmp_path, monkeypatch, capsys):
    (tmp_path / "secret").write_text("mine")
    write_adapter(tmp_path / "in", random_pair())
    (tmp_path / "in" / "README.md").symlink_to("../secret")
    with pytest.raises(PermissionError, match=r"in/README.md is a link to .*secret, outside of the adapter's folder"):
        balance_adapter(tmp_path / "in", tmp_path / "out")
    code, _, err = call(monkeypatch, capsys, "balance", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 2
    assert err.count("\n") == 1
    assert left_behind(tmp_path) == ["in", "secret"]
    assert len(audit_adapter(tmp_path / "in")) == 1  # which copies nothing


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_even_the_two_files_themselves_are_not_followed_outside(tmp_path, name):
    write_adapter(tmp_path / "in", random_pair())
    (tmp_path / "in" / name).rename(tmp_path / name)
    (tmp_path / "in" / name).symlink_to(tmp_path / name)
    with pytest.raises(PermissionError, match=f"in/{name} is a link"):
        balance_adapter(tmp_path / "in", tmp_path / "out")


def test_a_link_that_only_starts_like_the_folder_is_outside(tmp_path):
    write_adapter(tmp_path / "in", random_pair())
    (tmp_path / "in-secret").mkdir()
    (tmp_path / "in-secret" / "file").write_text("mine")
    (tmp_path / "in" / "file").symlink_to("../in-secret/file")
    with pytest.raises(PermissionError, match="outside"):
        balance_adapter(tmp_path / "in", tmp_path / "out")


def test_links_inside_are_followed_and_dangling_ones_named(tmp_path):
    write_adapter(tmp_path / "in", random_pair())
    (tmp_path / "in" / "README.md").write_text("text")
    (tmp_path / "in" / "copy.md").symlink_to("README.md")
    (tmp_path / "in" / "loop").symlink_to(".")
    os.mkfifo(tmp_path / "in" / "pipe")
    balance_adapter(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "copy.md").read_text() == "text"
    assert not (tmp_path / "out" / "copy.md").is_symlink()
    assert not (tmp_path / "out" / "pipe").exists()
    (tmp_path / "in" / "README.md").unlink()
    with pytest.raises(FileNotFoundError, match=r"copy.md is a link to nowhere"):
        balance_adapter(tmp_path / "in", tmp_path / "again")


def test_a_snapshot_of_the_hub_is_read_through_its_links(tmp_path):
    repository = tmp_path / "hub" / "models--me--adapter"
    blobs = write_adapter(repository / "blobs", random_pair())
    snapshot = repository / "snapshots" / "abc" / "last"
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(f"../../../blobs/{file.name}")
    balance_adapter(snapshot, tmp_path / "out")
    assert left_behind(tmp_path / "out") == ["adapter_config.json", "adapter_model.safetensors"]
    (tmp_path / "hub" / "token").write_text("hf_…")
    (snapshot / "token").symlink_to("../../../../token")
    with pytest.raises(PermissionError, match="token is a link"):
        balance_adapter(snapshot, tmp_path / "again")


def test_targets_of_every_kind(tmp_path, monkeypatch):
    source = write_adapter(tmp_path / "in", random_pair())
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    (tmp_path / "new").symlink_to("made")
    (tmp_path / "circle").symlink_to("circle")
    balance_adapter(source, tmp_path / "link")
    balance_adapter(source, tmp_path / "new")
    balance_adapter(source, source / "balanced")
    balance_adapter(source, tmp_path / "a" / "b" / "c")
    balance_adapter(source, tmp_path / ("n" * 255))
    for folder in ("empty", "made", "in/balanced", "a/b/c", "n" * 255):
        assert left_behind(tmp_path / folder) == ["adapter_config.json", "adapter_model.safetensors"]
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new").is_symlink()
    with pytest.raises(OSError, match="leads in a circle"):
        balance_adapter(source, tmp_path / "circle")
    with pytest.raises(OSError, match="too long"):
        balance_adapter(source, tmp_path / ("n" * 300))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for target in (".", here):
        with pytest.raises(OSError, match="is the current folder"):
            balance_adapter(source, target)
    assert left_behind(here) == []
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "mounted")
    (tmp_path / "mounted").mkdir()
    with pytest.raises(OSError, match="is a mount point"):
        balance_adapter(source, tmp_path / "mounted")
    assert not [name for name in left_behind(tmp_path) if name.startswith(".")]


SHARED_MEMORY = Path("/dev/shm")


@pytest.mark.skipif(not os.access(SHARED_MEMORY, os.W_OK), reason="needs a second filesystem")
def test_a_target_on_another_filesystem(tmp_path):
    import tempfile

    source = write_adapter(tmp_path / "in", random_pair())
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as elsewhere:
        (tmp_path / "link").symlink_to(elsewhere)
        balance_adapter(source, tmp_path / "link" / "out")
        assert left_behind(Path(elsewhere)) == ["out"]


FULL_DISK = """
import resource, sys
import torch
from lorakappa.llm import balance_adapter
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    balance_adapter(sys.argv[1], sys.argv[2])
except OSError as error:
    print(error.filename)
"""


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path):
    tensors = {**random_pair(), "other": torch.zeros(4000)}
    write_adapter(tmp_path / "in", tensors)
    target = tmp_path / "deep" / "out"
    run = [sys.executable, "-c", FULL_DISK, str(tmp_path / "in"), str(target), "4096"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(target / "adapter_model.safetensors")
    assert done.stderr == ""
    assert left_behind(tmp_path) == ["in"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    write_adapter(tmp_path / "in", random_pair())
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"exists|Not a directory") as caught:
        balance_adapter(tmp_path / "in", tmp_path / "file" / "out")
    assert caught.value.filename.startswith(str(tmp_path / "file"))
    assert left_behind(tmp_path) == ["file", "in"]


def test_a_source_that_changes_meanwhile_is_not_written(tmp_path, monkeypatch):
    source = write_adapter(tmp_path / "in", random_pair())
    from lorakappa.llm.adapters.formats import weights

    original = weights.shutil.copyfile

    def changed(*arguments, **options):
        save_file(random_pair(r=1), source / "adapter_model.safetensors")
        original(*arguments, **options)

    monkeypatch.setattr(weights.shutil, "copyfile", changed)
    with pytest.raises(ValueError, match="changed while it was read; nothing was written"):
        balance_adapter(source, tmp_path / "out")
    assert left_behind(tmp_path) == ["in"]
