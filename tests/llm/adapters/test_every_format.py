"""Adapters drawn in every format, resized, folded, merged and compared: updates beside dense ones, by other code."""

import copy
import random

import pytest
import torch

from lorakappa import RankRule, diff_adapters, fold_adapter, merge_adapters, resize_adapter
from lorakappa.llm import read_adapter
from lorakappa.llm.adapters.formats import FORMATS
from tests.llm.adapters import dense
from tests.llm.adapters.formats.drawn import draw, save_drawn
from tests.llm.adapters.formats.updates import updates

SEEDS = range(8)


def drawn(seed):
    """Layers without magnitudes, and others of the same shapes, some fewer, with ranks and scales of their own."""
    layers, rng = draw(seed), random.Random(seed)
    for layer in layers:
        layer.magnitude = None
    others = [copy.copy(layer) for layer in layers if layer is layers[0] or rng.random() < 0.7]
    for i, layer in enumerate(others):
        generator = torch.Generator().manual_seed(100 * seed + i)
        layer.r, layer.alpha = rng.choice([1, 2, 3]), rng.choice([1, 0.25, -4])
        shapes = (layer.A.shape[0], layer.r, *layer.A.shape[2:]), (layer.r, *layer.B.shape[1:])
        layer.A, layer.B = (torch.randn(*s, generator=generator).to(layer.A.dtype) for s in shapes)
    return layers, others


def name(folder, format, stem):
    return folder / (stem if format == "peft" else f"{stem}.safetensors")


def one_part(layers, format):
    """PEFT's folders are for one part of a pipeline."""
    return [layer for layer in layers if format != "peft" or layer.part == layers[0].part]


def saved(layers, folder, format, stem, seed):
    (path,) = save_drawn(one_part(layers, format), name(folder, format, stem), format, random.Random(seed))
    return path


def found(path, format):
    """Updates by module; by other code than ours but for diffusers' files, which have many names and places of α."""
    if format == "diffusers":
        return dense.updates(path)
    return {key: update for key, (update, _) in updates(path, format).items()}


def rounding(layers):
    """What storing a factor may do to an update, relative to the factors: the coarsest of the types."""
    dtypes = {tensor.dtype for layer in layers for tensor in (layer.A, layer.B)}
    return 8 * max(torch.finfo(dtype).eps for dtype in dtypes)


def near(W, V, size, rtol):
    return float((W - V).norm()) <= rtol * float(size)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("format", FORMATS)
def test_resized_and_folded(tmp_path, format, seed):
    layers, _ = drawn(seed)
    path = saved(layers, tmp_path, format, "in", seed)
    before, rtol = found(path, format), rounding(layers)
    for layer in one_part(layers, format):
        here = [W for W in before.values() if W.shape == layer.update.shape]
        assert any(near(W, layer.update, layer.update.norm(), 1e-6) for W in here), layer.module
    rule = [RankRule(rank=1), RankRule(rank=2), RankRule(energy=0.8), RankRule(error=0.2, rank=3)][seed % 4]
    made = resize_adapter(path, name(tmp_path, format, "small"), rule)
    after = found(name(tmp_path, format, "small"), format)
    assert after.keys() == before.keys()
    assert len(made) == len(before)
    for layer, (key, W) in zip(made, before.items(), strict=True):
        U, s, Vt = torch.linalg.svd(W, full_matrices=False)
        k = min(layer.rank, len(s))
        nearest = U[:, :k] * s[:k] @ Vt[:k]
        size = max(1.0, layer.scale) * sum(float(s_) for s_ in s) + float(W.norm())
        gap = float((s[k - 1] - (s[k] if k < len(s) else 0)) / s[0])
        assert near(after[key], nearest, size, rtol * (1 + 1 / gap)), (key, layer)
        assert layer.error == pytest.approx(float(s[k:].norm() / s.norm()), abs=1e-6)
        assert abs(layer.stored_error - layer.error) <= 16 * rtol * size / float(W.norm())
    folded = fold_adapter(name(tmp_path, format, "small"), name(tmp_path, format, "folded"))
    assert all(pair.scale == pytest.approx(1) for pair in read_adapter(name(tmp_path, format, "folded")).pairs)
    again = found(name(tmp_path, format, "folded"), format)
    for layer, (key, W) in zip(folded, after.items(), strict=True):
        assert near(again[key], W, W.norm(), 4 * rtol)
        assert layer.change <= 4 * rtol


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("format", FORMATS)
def test_merged_and_compared(tmp_path, format, seed):
    layers, others = (one_part(some, format) for some in drawn(seed))
    first, second = (saved(some, tmp_path, format, stem, seed) for some, stem in ((layers, "a"), (others, "b")))
    one, two = found(first, format), found(second, format)
    out = name(tmp_path, format, "sum")
    made = merge_adapters([second, first], out, weights=[-0.5, 2.0])
    total, rtol = found(out, format), rounding(layers)
    assert total.keys() == one.keys()
    assert len(made) == len(one)
    for key, W in one.items():
        V = two.get(key, torch.zeros_like(W))
        assert near(total[key], 2 * W - V / 2, 2 * W.norm() + V.norm(), 16 * rtol), key
    difference = diff_adapters(first, second)
    norm = torch.stack([(W - two.get(key, 0)).norm() for key, W in one.items()]).norm()
    assert difference.distance == pytest.approx(float(norm), rel=1e-6)
    assert len(difference.layers) == len(one)
    rest = merge_adapters([out, first, second], name(tmp_path, format, "rest"), weights=[1, -2, 0.5])
    assert len(rest) == len(one)
    scale = 2 * torch.stack([W.norm() for W in one.values()]).norm() + norm
    left = torch.stack([W.norm() for W in found(name(tmp_path, format, "rest"), format).values()]).norm()
    assert float(left) <= 64 * rtol * float(scale)
