"""Adapters added up: in PEFT the model with all updates in its weights, whatever ranks, scales and layers there are."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from lorakappa import RankRule, merge_adapters
from lorakappa.conditioning import is_balanced
from lorakappa.llm import read_adapter
from lorakappa.llm.adapters.formats.peft_config import CONFIG
from lorakappa.llm.adapters.formats.peft_folder import WEIGHTS
from tests.llm.adapters.dense import added, logits, updates
from tests.llm.adapters.stored import MODULE, pair, random_pair, write_adapter
from tests.llm.models import Mixed, Mixture, unbalance, with_lora

pytestmark = pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")

CONFIGS = [
    {"r": 4},
    {"r": 3, "use_rslora": True, "lora_alpha": 5},
    {"r": 2, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"layers.0.self_attn.q_proj": 5}},
    {"r": 2, "alpha_pattern": {"up_proj": 32}, "layers_to_transform": [1]},
]
"""The traps: rsLoRA's scale, other ranks, other alphas, other layers."""


def saved(folder, seed=1, **config):
    unbalance(with_lora(**config), seed).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [2, 1], [0, 2, 3], [3, 2]], ids=str)
def test_the_sum_in_peft_is_the_model_with_all_updates(tmp_path, order):
    folders = [saved(tmp_path / str(i), i, **CONFIGS[i]) for i in order]
    weights = [0.7, -2.0, 1.0][: len(folders)]
    layers = merge_adapters(folders, tmp_path / "out", weights=weights)
    assert all(layer.error == 0 and layer.rank == layer.full_rank and layer.stored_error < 1e-6 for layer in layers)
    expected = added(*zip(weights, folders, strict=True))
    torch.testing.assert_close(logits(tmp_path / "out"), expected, rtol=1e-3, atol=1e-4)
    assert all(one.scale == pytest.approx(1, rel=1e-15) for one in read_adapter(tmp_path / "out").pairs)
    have = [{one.name for one in read_adapter(folder).pairs} for folder in folders]
    assert {layer.name for layer in layers} == set().union(*have)
    for layer in layers:
        assert layer.adapters == tuple(i for i, names in enumerate(have) if layer.name in names)


def check_sum(folders, weights, out, layers, rule=None):
    """Products of a merged adapter beside the dense sums."""
    wanted = {}
    for weight, folder in zip(weights, folders, strict=True):
        for name, W in updates(folder).items():
            wanted[name] = wanted.get(name, 0) + weight * W
    found, adapter = updates(out), read_adapter(out)
    assert list(found) == list(wanted) == [layer.name for layer in layers]
    for layer, one in zip(layers, adapter.pairs, strict=True):
        W = wanted[layer.name]
        U, s, Vt = torch.linalg.svd(W)
        k = layer.rank
        assert k == one.r
        torch.testing.assert_close(found[layer.name], U[:, :k] * s[:k] @ Vt[:k], rtol=0, atol=2e-6 * float(s[0]))
        assert layer.error == pytest.approx(float(s[k:].norm() / s.norm()), rel=1e-5, abs=1e-6)
        error = float((found[layer.name] - W).norm() / W.norm())
        assert layer.stored_error == pytest.approx(error, rel=1e-4, abs=1e-6)
        if rule is not None:
            A, B = adapter.factors(one)
            assert is_balanced(A.double().numpy(), B.double().numpy(), rtol=1e-6)


@pytest.mark.parametrize("rule", [None, RankRule(rank=3), RankRule(error=0.3)], ids=["exact", "rank", "error"])
@pytest.mark.parametrize("kind", ["mixed", "experts"])
def test_every_kind_of_layer(tmp_path, kind, rule):
    targets = ["embedding", "conv1", "conv2", "attention", "linear"]
    for i, r in enumerate((2, 3)):
        base, config = {
            "mixed": (Mixed(), LoraConfig(r=r, lora_alpha=6, target_modules=targets)),
            "experts": (Mixture(), LoraConfig(r=r, lora_alpha=6, target_parameters=["experts.weight"])),
        }[kind]
        unbalance(get_peft_model(base, config), i).save_pretrained(tmp_path / str(i))
    folders = [tmp_path / "0", tmp_path / "1"]
    layers = merge_adapters(folders, tmp_path / "out", weights=[1.0, -0.5], rule=rule)
    check_sum(folders, [1.0, -0.5], tmp_path / "out", layers, rule)
    if kind == "experts":
        assert len({layer.rank for layer in layers}) == 1
    assert {layer.full_rank for layer in layers} <= {4, 5}  # conv2 has 4 channels


def test_a_sum_of_more_columns_than_the_matrix_has_is_truncated_without_error(tmp_path):
    for i in range(3):
        write_adapter(tmp_path / str(i), random_pair(r=3, seed=i), r=3, lora_alpha=3)
    folders = [tmp_path / str(i) for i in range(3)]
    (layer,) = layers = merge_adapters(folders, tmp_path / "out")
    assert (layer.rank, layer.full_rank) == (5, 5)
    assert layer.error < 1e-7
    check_sum(folders, [1, 1, 1], tmp_path / "out", layers, rule=RankRule(rank=5))


def test_an_adapter_and_its_negative_are_nothing(tmp_path):
    write_adapter(tmp_path / "in", random_pair(), r=2, lora_alpha=6)
    (layer,) = merge_adapters([tmp_path / "in", tmp_path / "in"], tmp_path / "out", weights=[1, -1])
    assert float(updates(tmp_path / "out")[layer.name].abs().max()) == 0
    (layer,) = merge_adapters([tmp_path / "in"], tmp_path / "zero", weights=[0])
    assert (layer.error, layer.stored_error) == (0, 0)
    assert load_file(tmp_path / "zero" / WEIGHTS)[f"{MODULE}.lora_A.weight"].any()


def test_the_widest_types_are_kept(tmp_path):
    write_adapter(tmp_path / "a", random_pair(dtype=torch.bfloat16), r=2, lora_alpha=2)
    write_adapter(tmp_path / "b", random_pair(dtype=torch.float16, seed=1), r=2, lora_alpha=2)
    write_adapter(tmp_path / "c", random_pair(dtype=torch.bfloat16, seed=2), r=2, lora_alpha=2)
    for other, expected in (("b", torch.float32), ("c", torch.bfloat16)):
        layers = merge_adapters([tmp_path / "a", tmp_path / other], tmp_path / f"a{other}")
        assert {tensor.dtype for tensor in load_file(tmp_path / f"a{other}" / WEIGHTS).values()} == {expected}
        assert layers[0].stored_error < 1e-15  # scales of 1: nothing is rounded
    mixed = random_pair(dtype=torch.bfloat16, seed=3)
    mixed[f"{MODULE}.lora_B.weight"] = mixed[f"{MODULE}.lora_B.weight"].float()
    write_adapter(tmp_path / "d", mixed, r=2, lora_alpha=2)
    merge_adapters([tmp_path / "a", tmp_path / "d"], tmp_path / "ad")
    found = load_file(tmp_path / "ad" / WEIGHTS)
    assert found[f"{MODULE}.lora_B.weight"].dtype == torch.float32
    assert found[f"{MODULE}.lora_A.weight"].dtype == torch.bfloat16


def test_what_is_the_same_in_all_is_kept_and_files_are_those_of_the_first(tmp_path):
    head = {"base_model.model.lm_head.weight": torch.ones(3, 3)}
    for i in range(2):
        write_adapter(tmp_path / str(i), random_pair(seed=i) | head, r=2, lora_alpha=2, modules_to_save=["lm_head"])
        (tmp_path / str(i) / "notes.txt").write_text(str(i))
    merge_adapters([tmp_path / "0", tmp_path / "1"], tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out" / WEIGHTS)["base_model.model.lm_head.weight"], torch.ones(3, 3))
    assert (tmp_path / "out" / "notes.txt").read_text() == "0"
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["modules_to_save"]) == (4, 4, ["lm_head"])


def refused(tmp_path, message, first=None, second=None, extra=None, **options):
    """Checks that two adapters are not merged, for a reason."""
    write_adapter(tmp_path / "a", random_pair(), r=2, lora_alpha=2, **(first or {}))
    write_adapter(tmp_path / "b", random_pair(seed=1) | (extra or {}), r=2, lora_alpha=2, **(second or {}))
    with pytest.raises(ValueError, match=message):
        merge_adapters([tmp_path / "a", tmp_path / "b"], tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_tensors_that_are_no_factors_are_refused_by_name(tmp_path):
    head = {"base_model.model.lm_head.weight": torch.ones(3, 3)}
    message = r"a and .*b cannot be merged: base_model.model.lm_head.weight is no LoRA factor, and not the same in both"
    refused(tmp_path, message, extra=head)
    write_adapter(tmp_path / "c", random_pair() | head, r=2, lora_alpha=2)
    same_bytes = torch.ones(9), torch.ones(3, 3).view(torch.int32)
    for i, other in enumerate((torch.zeros(3, 3), torch.ones(3, 2), torch.ones(3, 3).half(), *same_bytes)):
        write_adapter(tmp_path / f"d{i}", random_pair() | dict.fromkeys(head, other), r=2, lora_alpha=2)
        for order in ((tmp_path / "c", tmp_path / f"d{i}"), (tmp_path / f"d{i}", tmp_path / "c")):
            with pytest.raises(ValueError, match="is no LoRA factor"):
                merge_adapters(order, tmp_path / "out")


def test_magnitudes_biases_and_starts_are_refused(tmp_path):
    refused(tmp_path, "b cannot be merged: its DoRA magnitudes were trained", second={"use_dora": True})
    refused(tmp_path, "b cannot be merged: it has biases inside", extra={f"{MODULE}.lora_B.bias": torch.ones(6)})
    refused(tmp_path, "a cannot be merged: init_lora_weights = pissa", first={"init_lora_weights": "pissa"})


def test_different_models_are_refused_unless_told(tmp_path):
    one, two = {"base_model_name_or_path": "some/model"}, {"base_model_name_or_path": "other/model"}
    message = "a was trained on some/model and .*b on other/model; where .* --other-bases"
    refused(tmp_path, message, one, two)
    merge_adapters([tmp_path / "a", tmp_path / "b"], tmp_path / "out", other_bases=True)
    write_adapter(tmp_path / "c", random_pair(), r=2, lora_alpha=2)
    merge_adapters([tmp_path / "a", tmp_path / "c"], tmp_path / "out2")


def test_the_group_size_of_qalora_counts_under_qalora_only(tmp_path):
    for name, config in (
        ("a", {}),
        ("b", {"qalora_group_size": 16}),
    ):  # folders of older versions of PEFT, and converted
        write_adapter(tmp_path / name, random_pair(), r=2, lora_alpha=2, **config)
        write_adapter(tmp_path / f"q{name}", random_pair(), r=2, lora_alpha=2, use_qalora=True, **config)
    (layer,) = merge_adapters([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert layer.rank == 4
    with pytest.raises(ValueError, match="qalora_group_size is None there, 16 here"):
        merge_adapters([tmp_path / "qa", tmp_path / "qb"], tmp_path / "qout")


@pytest.mark.parametrize(
    ("name", "value"),
    [("fan_in_fan_out", True), ("layer_replication", [[0, 2]]), ("alora_invocation_tokens", [1]), ("use_qalora", True)],
)
def test_configurations_that_mean_other_matrices_are_refused(tmp_path, name, value):
    refused(tmp_path, f"cannot be merged: {name} is ", second={name: value})
    refused(tmp_path, f"cannot be merged: {name} is ", first={name: value})
    for folder in ("a", "b"):
        write_adapter(tmp_path / folder, random_pair(), r=2, lora_alpha=2, **{name: value})
    merge_adapters([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


def test_other_shapes_are_refused(tmp_path):
    write_adapter(tmp_path / "a", random_pair(), r=2, lora_alpha=2)
    write_adapter(tmp_path / "b", pair(torch.ones(6, 2), torch.ones(2, 4)), r=2, lora_alpha=2)
    message = r"q_proj is linear of shape \(6, 5\) in .*a, but linear of shape \(6, 4\) in .*b: these are no adapters"
    with pytest.raises(ValueError, match=message):
        merge_adapters([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


@pytest.mark.parametrize("weights", [[1.0], [1.0, float("nan")], [1.0, float("inf")], [1.0, 1.0, 1.0], []])
def test_weights_are_as_many_as_adapters_and_finite(tmp_path, weights):
    refused(tmp_path, "2 adapters need as many finite weights, not", weights=weights)


def test_no_adapters():
    with pytest.raises(ValueError, match="name the adapters to merge"):
        merge_adapters([], "out")


def test_sums_that_leave_the_range_of_their_type_are_refused(tmp_path):
    for i in range(2):
        write_adapter(tmp_path / str(i), random_pair(2e4, 1.0, torch.float16, seed=i), r=2, lora_alpha=2)
    for weights, rule in (([1e4, 1], None), ([1e6, 1], RankRule(rank=1))):
        with pytest.raises(ValueError, match=r"q_proj: its new factors would leave the range of float16"):
            merge_adapters([tmp_path / "0", tmp_path / "1"], tmp_path / "out", weights=weights, rule=rule)
    assert not (tmp_path / "out").exists()
