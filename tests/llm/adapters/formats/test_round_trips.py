"""Hundreds of drawn adapters go through all formats and back: the products and all else are what they were."""

import random

import pytest
import torch

from lorakappa import RankRule, diff_adapters, fold_adapter, merge_adapters, resize_adapter
from lorakappa.conditioning.tolerances import PRODUCT_RTOL, SCALE_RTOL
from lorakappa.llm import balance_adapter, convert_adapter, read_adapter
from lorakappa.llm.adapters.formats import FORMATS
from lorakappa.llm.adapters.formats.stored import Factors
from lorakappa.llm.adapters.formats.writing import write_adapter
from tests.llm.adapters.formats.drawn import draw, save_drawn
from tests.llm.adapters.formats.updates import updates

SEEDS = range(24)


def name(folder, format, stem):
    return folder / (stem if format == "peft" else f"{stem}.safetensors")


def check(path, format, layers, rtol=SCALE_RTOL):
    """Every layer is there with its update, to rounding of its scale alone, and its magnitude; and nothing else."""
    found = updates(path, format)
    parts = len({layer.part for layer in layers})
    expected = {(f"{layer.part}." if format != "peft" or parts > 1 else "") + layer.module: layer for layer in layers}
    assert found.keys() == expected.keys()
    for key, layer in expected.items():
        update, magnitude = found[key]
        scale = layer.A.double().norm() * layer.B.double().norm() * layer.alpha / layer.r
        assert (update - layer.update).norm() <= rtol * scale, key
        assert (magnitude is None) == (layer.magnitude is None)
        assert magnitude is None or torch.equal(magnitude, layer.magnitude)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("source", FORMATS)
def test_through_all_formats_and_back(tmp_path, source, seed):
    layers = draw(seed)
    start = save_drawn(layers, name(tmp_path, source, "start"), source, random.Random(seed))
    last = start
    for number, target in enumerate(random.Random(seed).sample([*FORMATS, *FORMATS], 6)):
        path = name(tmp_path, target, f"step{number}")
        changes = convert_adapter(last, path, target)
        assert len(changes) == len(layers)
        assert max(changes.values()) <= SCALE_RTOL
        check(path, target, layers)
        parts = len({layer.part for layer in layers})
        last = sorted(path.iterdir()) if target == "peft" and parts > 1 else [path]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("source", FORMATS)
def test_balanced_and_at_other_ranks_in_place(tmp_path, source, seed):
    layers = draw(seed)
    for path in save_drawn(layers, name(tmp_path, source, "start"), source, random.Random(seed)):
        own = [layer for layer in layers if layer.part == path.name] if source == "peft" else layers
        adapter = read_adapter(path)
        assert sorted(pair.r for pair in adapter.pairs) == sorted(layer.r for layer in own)
        balanced, wide = name(tmp_path, source, f"{path.stem}-balanced"), name(tmp_path, source, f"{path.stem}-wide")
        changes = balance_adapter(path, balanced)
        assert not changes.left
        after = {pair.name: pair for pair in read_adapter(balanced).pairs}
        for pair in adapter.pairs:
            (A, B), (X, Y) = adapter.factors(pair), read_adapter(balanced).factors(after[pair.name])
            eps = max(torch.finfo(dtype).eps for dtype in pair.dtypes)
            A, B, X, Y = A.double(), B.double(), X.double(), Y.double()
            assert (X @ Y - A @ B).norm() <= PRODUCT_RTOL * eps * A.norm() * B.norm()
            assert (after[pair.name].scale, after[pair.name].kernel) == (pair.scale, pair.kernel)

        def widened(pair, adapter=adapter):
            A, B, scale = adapter.kept(pair)
            more = 1 + len(pair.name) % 3
            A = torch.cat([A, A.new_zeros(A.shape[0], more)], 1)
            return Factors(A, torch.cat([B, B.new_ones(more, B.shape[1])]), scale)

        write_adapter(adapter, wide, widened)
        again = read_adapter(wide)
        assert {pair.name: pair.r for pair in again.pairs} == {
            pair.name: pair.r + 1 + len(pair.name) % 3 for pair in adapter.pairs
        }
        assert set(again.others) == set(adapter.others)
        for pair in again.pairs:
            old = next(one for one in adapter.pairs if one.name == pair.name)
            assert pair.scale == pytest.approx(old.scale, rel=SCALE_RTOL)
        convert_adapter(wide, name(tmp_path, "kohya", f"{path.stem}-wide-k"), "kohya")
        check(name(tmp_path, "kohya", f"{path.stem}-wide-k"), "kohya", own)


@pytest.mark.parametrize("seed", [0, 2, 5])
@pytest.mark.parametrize("format", FORMATS)
def test_operations_in_every_format(tmp_path, format, seed):
    layers = draw(seed)
    assert all(layer.magnitude is None for layer in layers)  # which are refused there
    start = save_drawn(layers, name(tmp_path, format, "start"), format, random.Random(seed))[0]
    kohya = tmp_path / "kohya.safetensors"
    convert_adapter(start, kohya, "kohya")
    before = {key: update for key, (update, _) in updates(kohya, "kohya").items()}
    folded, same = name(tmp_path, format, "folded"), name(tmp_path, format, "same")
    fold_adapter(start, folded)
    assert {pair.scale for pair in read_adapter(folded).pairs} == {1}
    resize_adapter(folded, same, RankRule(rank=5))
    assert diff_adapters(start, same).relative <= PRODUCT_RTOL * max(torch.finfo(layer.A.dtype).eps for layer in layers)
    merge_adapters([start, same], name(tmp_path, format, "twice"), weights=[1, 1])
    convert_adapter(name(tmp_path, format, "twice"), tmp_path / "twice-kohya.safetensors", "kohya")
    after = updates(tmp_path / "twice-kohya.safetensors", "kohya")
    assert after.keys() == before.keys()
    eps = max(torch.finfo(layer.A.dtype).eps for layer in layers)
    for key, update in before.items():
        assert (after[key][0] - 2 * update).norm() <= 4 * PRODUCT_RTOL * eps * update.norm(), key
