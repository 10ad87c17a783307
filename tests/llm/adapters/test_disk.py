"""Adapters on disk: same function after balancing, everything else carried over, damage reported in one line."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lorakappa.conditioning import is_balanced
from lorakappa.llm import (
    CannotBalanceError,
    audit_adapter,
    audit_pair,
    balance_adapter,
    balance_model,
    lora_pairs,
    read_adapter,
)
from lorakappa.llm.adapters.products import product_errors
from tests.llm.models import Mixed, Mixture, tiny_qwen, tokens, unbalance, with_lora


def logits(model):
    with torch.no_grad():
        return model.eval()(tokens()).logits


def save(folder, **config):
    model = unbalance(with_lora(**config))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True, "rank_pattern": {"q_proj": 2}},
        {"use_dora": True, "target_modules": ["q_proj", "up_proj"]},
        {"lora_bias": True, "target_modules": ["q_proj"]},
        {"modules_to_save": ["lm_head"], "bias": "lora_only"},
        {"target_modules": ["q_proj", "k_proj"], "init_lora_weights": "pissa"},
    ],
)
@pytest.mark.filterwarnings("ignore:Adapter 'default'. 2 LoRA tensor")  # peft takes biases for shards
def test_a_balanced_adapter_loads_and_computes_the_same(tmp_path, config):
    save(tmp_path / "in", **config)
    changes = balance_adapter(tmp_path / "in", tmp_path / "out")
    assert max(changes.values()) < 1e-5
    before = logits(PeftModel.from_pretrained(tiny_qwen(), tmp_path / "in"))
    balanced = PeftModel.from_pretrained(tiny_qwen(), tmp_path / "out")
    torch.testing.assert_close(logits(balanced), before, rtol=1e-4, atol=1e-5)
    assert all(is_balanced(pair.A.detach(), pair.B.detach()) for pair in lora_pairs(balanced))
    old, new = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("in", "out"))
    assert old.keys() == new.keys()
    for key in old:
        assert key.endswith((".lora_A.weight", ".lora_B.weight")) or torch.equal(old[key], new[key])


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_embeddings_convolutions_and_experts(tmp_path):
    targets = ["embedding", "conv1", "conv2", "attention", "linear"]
    for name, base, config in (
        ("mixed", Mixed(), LoraConfig(r=2, target_modules=targets)),
        ("experts", Mixture(), LoraConfig(r=2, target_parameters=["experts.weight"])),
    ):
        model = unbalance(get_peft_model(base, config))
        model.save_pretrained(tmp_path / name)
        balance_adapter(tmp_path / name, tmp_path / f"{name}-out")
        balance_model(model)
        adapter = read_adapter(tmp_path / f"{name}-out")
        assert len(adapter.pairs) == len(lora_pairs(model))
        for stored, live in zip(
            sorted(adapter.pairs, key=lambda pair: pair.name),
            sorted(lora_pairs(model), key=lambda pair: pair.name),
            strict=True,
        ):
            A, B = adapter.factors(stored)
            torch.testing.assert_close(A, live.A.detach())
            torch.testing.assert_close(B, live.B.detach())


def test_files_dtypes_and_metadata_are_carried_over(tmp_path):
    save(tmp_path / "in")
    weights = tmp_path / "in" / "adapter_model.safetensors"
    half = {key: value.bfloat16() for key, value in load_file(weights).items()}
    save_file(half, weights, metadata={"format": "pt", "note": "mine"})
    (tmp_path / "in" / "tokenizer.json").write_text("{}")
    (tmp_path / "in" / "adapter_model.bin").write_bytes(b"pickle")
    (tmp_path / "in" / "checkpoint-5").mkdir()
    (tmp_path / "out").mkdir()
    balance_adapter(tmp_path / "in", tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"
    }  # fmt: skip
    with safe_open(tmp_path / "out" / "adapter_model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "mine"}
    assert {value.dtype for value in load_file(tmp_path / "out" / "adapter_model.safetensors").values()} == {
        torch.bfloat16
    }
    assert {entry.name for entry in tmp_path.iterdir()} == {"in", "out"}


def test_the_source_is_untouched_and_nothing_is_left_when_writing_fails(tmp_path, monkeypatch):
    save(tmp_path / "in")
    before = (tmp_path / "in" / "adapter_model.safetensors").read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lorakappa.llm.adapters.formats.weights.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        balance_adapter(tmp_path / "in", tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert (tmp_path / "in" / "adapter_model.safetensors").read_bytes() == before


def test_the_change_of_a_product():
    torch.manual_seed(0)
    A, B, X, Y = torch.randn(7, 3), torch.randn(3, 5), torch.randn(7, 3), torch.randn(3, 5)
    expected = torch.linalg.matrix_norm(X @ Y - A @ B) / torch.linalg.matrix_norm(A @ B)
    assert product_errors(A, B, X, Y)[0] == pytest.approx(float(expected), rel=1e-5)
    assert product_errors(A, 0 * B, A, 0 * B)[0] == 0


def test_the_audit_measures_what_it_says():
    torch.manual_seed(0)
    A, B = torch.randn(7, 3, dtype=torch.float64) * 3, torch.randn(3, 5, dtype=torch.float64)
    layer = audit_pair(A, B, "layer")
    assert layer.sigma_A == pytest.approx(torch.linalg.svdvals(A).tolist())
    assert layer.sigma_B == pytest.approx(torch.linalg.svdvals(B).tolist())
    assert layer.sigma_AB == pytest.approx(torch.linalg.svdvals(A @ B)[:3].tolist())
    assert layer.gap == pytest.approx(float(torch.linalg.matrix_norm(A.mT @ A - B @ B.mT)))
    smallest = min(layer.sigma_A[-1], layer.sigma_B[-1])
    assert layer.kappa_bound == pytest.approx((layer.sigma_A[0] ** 2 + layer.sigma_B[0] ** 2) / smallest**2)
    from lorakappa.conditioning import balance

    assert audit_pair(*balance(A, B)).kappa_bound == pytest.approx(layer.kappa_bound_balanced)
    assert layer.rank == layer.r == 3


def test_rank_deficient_layers_have_no_finite_bound():
    A, B = torch.randn(7, 3), torch.zeros(3, 5)
    fresh = audit_pair(A, B)
    assert (fresh.rank, fresh.kappa_bound, fresh.kappa_bound_balanced) == (0, float("inf"), float("inf"))
    assert fresh.relative_gap == pytest.approx(float(torch.linalg.matrix_norm(A.mT @ A) / A.norm() ** 2))
    assert audit_pair(torch.randn(7, 3), torch.randn(3, 2)).rank == 2
    assert audit_pair(0 * A, B).relative_gap == 0


def test_the_worst_layer_comes_first(tmp_path):
    save(tmp_path / "in")
    bounds = [layer.kappa_bound for layer in audit_adapter(tmp_path / "in")]
    assert len(bounds) == 14
    assert bounds == sorted(bounds, reverse=True)
    balance_adapter(tmp_path / "in", tmp_path / "out")
    for layer in audit_adapter(tmp_path / "out"):
        assert layer.kappa_bound == pytest.approx(layer.kappa_bound_balanced, rel=1e-4)
        assert layer.relative_gap < 1e-5


def change_config(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def change_weights(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"

DAMAGE = {
    "no config": (lambda f: (f / "adapter_config.json").unlink(), "has no adapter_config.json"),
    "bad config": (lambda f: (f / "adapter_config.json").write_text("{"), "is not JSON"),
    "list config": (lambda f: (f / "adapter_config.json").write_text("[]"), "describes no adapter"),
    "another method": (lambda f: change_config(f, peft_type="LOHA"), "describes LOHA, not LORA"),
    "kasa": (lambda f: change_config(f, kasa_config={"beta": 1}), "learned diagonal"),
    "mica": (lambda f: change_config(f, init_lora_weights="mica"), "MiCA trains one factor"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
    "pickle": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "only adapter_model.bin, a pickle.*save_pretrained",
    ),
    "truncated": (lambda f: (f / "adapter_model.safetensors").write_bytes(b"\x00" * 40), "is damaged"),
    "no factors": (lambda f: save_file({"x": torch.ones(2)}, f / "adapter_model.safetensors"), "no LoRA factors"),
    "half a pair": (lambda f: change_weights(f, lambda t: t.pop(KEY)), "has no lora_A for .*layers.0.self_attn.q_proj"),
    "nan": (lambda f: change_weights(f, lambda t: t[KEY].fill_(float("nan"))), f"{KEY} in .* contains NaN"),
    "integers": (lambda f: change_weights(f, lambda t: t.update({KEY: t[KEY].int()})), "not floating point"),
    "shapes": (lambda f: change_weights(f, lambda t: t.update({KEY: torch.ones(3, 5)})), "do not share r"),
    "vectors": (lambda f: change_weights(f, lambda t: t.update({KEY: torch.ones(12)})), "no matrices"),
    "raw state dict": (
        lambda f: change_weights(f, lambda t: t.update({KEY.replace("weight", "default.weight"): t.pop(KEY)})),
        "names an adapter",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_reported(tmp_path, damage):
    change, message = DAMAGE[damage]
    save(tmp_path / "in")
    change(tmp_path / "in")
    with pytest.raises((ValueError, OSError), match=message):
        balance_adapter(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_experts_whose_number_is_not_in_the_file(tmp_path):
    model = unbalance(get_peft_model(Mixture(), LoraConfig(r=2, target_parameters=["experts.weight"])))
    model.save_pretrained(tmp_path)
    change_config(tmp_path, rank_pattern={"experts": 2})
    with pytest.raises(CannotBalanceError, match="rank_pattern"):
        read_adapter(tmp_path)
    change_config(tmp_path, rank_pattern={}, r=4)
    with pytest.raises(ValueError, match="does not divide"):
        read_adapter(tmp_path)


def test_targets_in_use_and_unknown_gauges(tmp_path):
    save(tmp_path / "in")
    for target in (tmp_path / "in", tmp_path / "in" / "adapter_config.json"):
        with pytest.raises(FileExistsError, match="not an empty folder"):
            balance_adapter(tmp_path / "in", target)
    with pytest.raises(ValueError, match="gauge must be one of"):
        balance_adapter(tmp_path / "in", tmp_path / "out", gauge="flat")
    with pytest.raises(FileNotFoundError, match="is not a folder or a file with an adapter"):
        balance_adapter(tmp_path / "nowhere", tmp_path / "out")
    shutil.rmtree(tmp_path / "in")
