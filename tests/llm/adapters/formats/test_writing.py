"""Adapters written with other ranks and scales: PEFT gives the same model, everything else is carried along."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from lorakappa.llm import read_adapter
from lorakappa.llm.adapters.formats.peft_config import CONFIG
from lorakappa.llm.adapters.formats.peft_folder import WEIGHTS
from lorakappa.llm.adapters.formats.stored import Factors
from lorakappa.llm.adapters.formats.weights import WeightsWriter, open_weights
from lorakappa.llm.adapters.formats.writing import write_adapter
from tests.llm.adapters.stored import random_pair
from tests.llm.adapters.stored import write_adapter as stored_adapter
from tests.llm.models import Mixed, Mixture, tiny_qwen, tokens, unbalance, with_lora


def logits(folder):
    with torch.no_grad():
        return PeftModel.from_pretrained(tiny_qwen(), folder).eval()(tokens()).logits


def widened(adapter):
    """The same products at ranks 2 to 4 larger and other scales, in an unfriendly order."""

    def factors(pair):
        A, B, scale = adapter.kept(pair)
        more, other = 2 + len(pair.name) % 3, (0.5, 3.0, scale)[len(pair.name) % 3]
        A = torch.cat([A * (scale / other), torch.zeros(A.shape[0], more)], 1)
        return Factors(A, torch.cat([B, torch.ones(more, B.shape[1])]), other)

    return factors


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True, "rank_pattern": {"q_proj": 2}},
        {"rank_pattern": {"layers.0.self_attn.q_proj": 3}, "alpha_pattern": {".*up_proj": 32}},
        {"use_dora": True, "target_modules": ["q_proj", "up_proj"]},
        {"modules_to_save": ["lm_head"], "bias": "lora_only"},
    ],
)
def test_other_ranks_and_scales_give_the_same_model_in_peft(tmp_path, config):
    unbalance(with_lora(**config)).save_pretrained(tmp_path / "in")
    adapter = read_adapter(tmp_path / "in")
    write_adapter(adapter, tmp_path / "out", widened(adapter))
    torch.testing.assert_close(logits(tmp_path / "out"), logits(tmp_path / "in"), rtol=1e-4, atol=1e-5)
    written = read_adapter(tmp_path / "out")
    assert [pair.name for pair in written.pairs] == [pair.name for pair in adapter.pairs]
    assert len({pair.r for pair in written.pairs}) > 1
    old, new = load_file(tmp_path / "in" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert all(torch.equal(old[key], new[key]) for key in adapter.others)
    assert old.keys() == new.keys()


def test_what_does_not_change_is_written_as_it_was(tmp_path):
    unbalance(with_lora(rank_pattern={"q_proj": 2}, lora_alpha=16, use_rslora=True)).save_pretrained(tmp_path / "in")
    adapter = read_adapter(tmp_path / "in")
    write_adapter(adapter, tmp_path / "out", adapter.kept)
    assert json.loads((tmp_path / "out" / CONFIG).read_text()) == json.loads((tmp_path / "in" / CONFIG).read_text())
    old, new = load_file(tmp_path / "in" / WEIGHTS), load_file(tmp_path / "out" / WEIGHTS)
    assert all(torch.equal(old[key], new[key]) for key in old)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
@pytest.mark.parametrize("kind", ["mixed", "experts"])
def test_every_kind_of_layer_at_another_rank(tmp_path, kind):
    targets = ["embedding", "conv1", "conv2", "attention", "linear"]
    base, config = {
        "mixed": (Mixed(), LoraConfig(r=2, lora_alpha=6, target_modules=targets)),
        "experts": (Mixture(), LoraConfig(r=2, lora_alpha=6, target_parameters=["experts.weight"])),
    }[kind]
    unbalance(get_peft_model(base, config)).save_pretrained(tmp_path / "in")
    adapter = read_adapter(tmp_path / "in")

    def doubled(pair):
        A, B, scale = adapter.kept(pair)
        return Factors(torch.cat([A, A], 1), torch.cat([B, B]), scale / 2)

    write_adapter(adapter, tmp_path / "out", doubled)
    written = read_adapter(tmp_path / "out")
    for old, new in zip(adapter.pairs, written.pairs, strict=True):
        assert (new.name, new.kind, new.kernel, new.shape) == (old.name, old.kind, old.kernel, old.shape)
        assert (new.r, new.scale) == (2 * old.r, old.scale / 2)
        (A, B), (X, Y) = adapter.factors(old), written.factors(new)
        torch.testing.assert_close(new.scale * X @ Y, old.scale * A @ B)
    expected = {"mixed": {"embedding", "convolution", "linear"}, "experts": {"experts"}}[kind]
    assert {pair.kind for pair in adapter.pairs} == expected
    base = {"mixed": Mixed, "experts": Mixture}[kind]
    before, after = (merged(base, tmp_path / name) for name in ("in", "out"))
    torch.testing.assert_close(after, before)


def merged(base, folder):
    torch.manual_seed(0)
    return PeftModel.from_pretrained(base(), folder).merge_and_unload().state_dict()


def test_a_check_that_fails_leaves_nothing(tmp_path):
    source = stored_adapter(tmp_path / "in", random_pair())

    def refuse(adapter):
        assert adapter.pairs[0].r == 2
        raise ValueError("not good enough")

    adapter = read_adapter(source)
    with pytest.raises(ValueError, match="not good enough"):
        write_adapter(adapter, tmp_path / "out", adapter.kept, check=refuse)
    with pytest.raises(ValueError, match=r"changes a matrix of shape \(6, 5\)"):
        write_adapter(adapter, tmp_path / "out", lambda pair: Factors(torch.ones(5, 2), torch.ones(2, 5), 1.0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_layers_with_one_name_at_the_end_of_the_other(tmp_path):
    tensors = {
        key: value
        for name in ("m.q", "q", "m.m.q", "odd+[name]")
        for key, value in random_pair(module=f"base_model.model.{name}").items()
    }
    adapter = read_adapter(stored_adapter(tmp_path / "in", tensors, r=2, lora_alpha=2))
    ranks = {"m.q": 3, "q": 4, "m.m.q": 2, "odd+[name]": 5}

    def padded(pair):
        A, B, _ = adapter.kept(pair)
        more = ranks[pair.module] - 2
        return Factors(torch.cat([A, A[:, :1].expand(-1, more)], 1), torch.cat([B, torch.zeros(more, 5)]), 1.0)

    write_adapter(adapter, tmp_path / "out", padded)
    assert {pair.module: (pair.r, pair.scale) for pair in read_adapter(tmp_path / "out").pairs} == {
        module: (r, 1.0) for module, r in ranks.items()
    }


@pytest.mark.parametrize("pattern", ["(a+)+b", "[", "(?P<x>", "*"])
def test_patterns_that_cannot_be_matched(tmp_path, pattern):
    stored_adapter(tmp_path, random_pair(), r=2, alpha_pattern={pattern: 3})
    with pytest.raises(ValueError, match=r"has a pattern that (is no regular expression|may take for ever to match)"):
        read_adapter(tmp_path)


def test_tensors_of_all_types_begin_where_readers_expect_them(tmp_path):
    tensors = {
        "half": torch.randn(3).half(),
        "double": torch.randn(3, dtype=torch.float64),
        "flag": torch.tensor([True, False, True]),
        "float8": torch.randn(5).to(torch.float8_e4m3fn),
        "single": torch.randn(3, 0),
        "number": torch.tensor(3),
        "complex": torch.randn(2, dtype=torch.complex64),
    }
    with WeightsWriter(tmp_path) as writer:
        for name, tensor in tensors.items():
            writer.add(name, tensor)
        with pytest.raises(ValueError, match="two tensors are named half"):
            writer.add("half", tensors["half"])
        writer.finish(tmp_path / "a", {"note": "ü"})
    save_file(tensors, tmp_path / "b", metadata={"note": "ü"})
    first, second = open_weights(tmp_path / "a"), open_weights(tmp_path / "b")
    assert first.metadata == second.metadata == {"note": "ü"}
    loaded = load_file(tmp_path / "a")
    for name, tensor in tensors.items():
        for found in (loaded[name], first.read(name), second.read(name)):
            assert found.dtype == tensor.dtype
            assert torch.equal(
                found.view(torch.uint8) if found.ndim else found, tensor.view(torch.uint8) if found.ndim else tensor
            )
    assert all((first.start + entry.begin) % 8 == 0 for entry in list(first.entries.values())[:3])
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
