"""Adapters of every kind, drawn: balanced they compute the same within the promise, or are refused without a trace.

LORAKAPPA_FUZZ=N draws N adapters instead of the usual few.
"""

import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from lorakappa.conditioning.tolerances import PRODUCT_RTOL
from lorakappa.llm import audit_adapter, balance_adapter, read_adapter
from lorakappa.llm.adapters.factors import STORED_DTYPES
from lorakappa.llm.adapters.formats.peft_config import CONFIG
from lorakappa.llm.adapters.formats.peft_folder import WEIGHTS
from lorakappa.llm.adapters.formats.stored import Adapter
from lorakappa.llm.adapters.products import exponent, shifted, storage_eps
from tests.llm.adapters.stored import write_adapter

EXAMPLES = int(os.environ.get("LORAKAPPA_FUZZ", "") or 150)

ODD = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)
KINDS = ("linear", "linear", "dora", "conv2", "conv3", "embedding", "experts")
MODULE_NAMES = ("m.q_proj", "[red]m[/red]", "[/x]", "m.lora_A.q", "ü.层", "a b", "x" * 200, "m.1.base_layer")
FLAWS = ("no partner", "nan", "infinity", "other rank", "truncated", "rank 1", "link out")
EXTRAS = ("README.md", "adapter_model.bin", "adapter_model-00001-of-00002.safetensors", "tokenizer.json", ".hidden")


@st.composite
def matrices(draw, a, b, r, dtype):
    """A and B (float64) of any size in the type's range, some of deficient rank or 0."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    limit = {torch.float64: 300, torch.float16: 5}.get(dtype, 40)
    factors = []
    for shape in ((a, r), (r, b)):
        power = draw(st.one_of(st.integers(-3, 3), st.integers(-3, 3), st.integers(-limit, limit)))
        factors.append(torch.randn(*shape, generator=generator, dtype=torch.float64) * 10.0**power)
    kind = draw(st.sampled_from(["full", "full", "full", "deficient", "zero A", "zero B", "unequal", "cancelling"]))
    A, B = factors
    if kind == "deficient":
        A[:, -1] = A[:, 0]
    elif kind == "unequal":
        A *= torch.logspace(0, -12, r, dtype=torch.float64)
    elif kind == "cancelling" and r > 1:
        A[:, 1], B[1] = A[:, 0], -B[0] * (1 + 1e-6)
    elif kind.startswith("zero"):
        (A if kind == "zero A" else B).zero_()
    largest = torch.finfo(dtype).max if dtype.is_floating_point else 100
    return [factor.clamp(-largest, largest).to(dtype) for factor in (A, B)]


@st.composite
def layers(draw, name, r, dtypes):
    """Tensors and configuration of one adapted module."""
    kind = draw(st.sampled_from(KINDS))
    a, b = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    dtype = draw(st.sampled_from(dtypes))
    other = draw(st.sampled_from([dtype, dtype, *dtypes]))
    A, B = draw(matrices(a, b, r, dtype))
    B = B.to(other) if other.is_floating_point or not B.is_floating_point() else B
    config = {"r": r}
    if kind == "embedding":
        return {f"{name}.lora_embedding_B": A, f"{name}.lora_embedding_A": B}, config
    if kind == "experts":
        experts = draw(st.integers(2, 3))
        A, B = A.repeat_interleave(experts, 1), B.repeat(experts, 1)
        config["target_parameters"] = [f"{name.removesuffix('.base_layer')}.weight"]
    elif kind.startswith("conv"):
        spatial = int(kind[-1])
        A, B = A.reshape(a, r, *[1] * spatial), B[:, :, None, None].repeat(1, 1, 3, 3) if spatial == 2 else B
        B = B if spatial == 2 else B.reshape(r, b, 1, 1, 1)
    tensors = {f"{name}.lora_B.weight": A, f"{name}.lora_A.weight": B}
    if kind == "dora":
        tensors[f"{name}.lora_magnitude_vector"] = torch.rand(a)
        config["use_dora"] = True
    return tensors, config


@st.composite
def adapters(draw):
    """Everything of an adapter, and what is wrong with it."""
    names = draw(st.lists(st.sampled_from(MODULE_NAMES), min_size=1, max_size=3, unique=True))
    ranks = st.integers(1, 8)
    r = draw(ranks)
    dtypes = (*STORED_DTYPES, *ODD) if draw(st.integers(0, 9)) == 9 else STORED_DTYPES
    tensors, configs = {}, []
    for name in names:
        found, config = draw(layers(name, draw(st.one_of(st.just(r), st.just(r), ranks)), dtypes))
        tensors.update(found)
        configs.append(config)
    parameters = [entry for config in configs for entry in config.get("target_parameters", ())]
    pattern = {} if parameters else {name: config["r"] for name, config in zip(names, configs, strict=True)}
    config = {"r": configs[0]["r"], "rank_pattern": pattern, "target_parameters": parameters or None}
    if draw(st.booleans()):
        tensors["modules_to_save.weight"] = torch.randn(3, 3)
    return (
        tensors,
        config,
        draw(st.one_of(*[st.just("none")] * 3, st.sampled_from(FLAWS))),
        draw(st.sets(st.sampled_from(EXTRAS))),
    )


def spoil(folder, tensors, config, flaw):
    """Writes the adapter with its flaw."""
    tensors = {key: value.clone() for key, value in tensors.items()}
    key = next(iter(tensors))
    if flaw == "no partner":
        del tensors[key]
    elif flaw in ("nan", "infinity") and tensors[key].dtype in STORED_DTYPES:
        tensors[key].view(-1)[0] = float(flaw)
    elif flaw == "other rank":
        config = {**config, "r": 77, "rank_pattern": {}}
    elif flaw == "rank 1":
        tensors[key] = tensors[key].flatten()
    write_adapter(folder, tensors, **config)
    if flaw == "truncated":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    elif flaw == "link out":
        (folder.parent / "secret").write_text("mine")
        (folder / "notes").symlink_to("../secret")


def same_within_the_promise(before: Adapter, after: Adapter) -> None:
    """Compares the products of all pairs, formed in float64 after scaling, by themselves and not by what is tested."""
    assert [pair.name for pair in before.pairs] == [pair.name for pair in after.pairs]
    for pair in before.pairs:
        (A, B), (X, Y) = before.factors(pair), after.factors(pair)
        p, q, x = exponent(A), exponent(B), exponent(X)
        A, B, X, Y = shifted(A, -p), shifted(B, -q), shifted(X, -x), shifted(Y, x - p - q)
        eps = storage_eps(*pair.dtypes)
        allowed = PRODUCT_RTOL * eps * A.norm() * B.norm() * (1 + 1e-9)
        assert (X @ Y - A @ B).norm() <= allowed, pair.name


@settings(max_examples=EXAMPLES)
@given(adapter=adapters(), gauge=st.sampled_from(["hyperbalanced", "nearest", "symmetric"]))
def test_whatever_an_adapter_holds(adapter, gauge):
    tensors, config, flaw, extras = adapter
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place) / "in", Path(place) / "out"
        spoil(source, tensors, config, flaw)
        for name in extras:
            (source / name).write_text(name)
        stored = {file.name: file.read_bytes() for file in source.iterdir()}
        try:
            audits = audit_adapter(source)
        except (ValueError, OSError) as error:
            audits = one_line(error)
        try:
            changes = balance_adapter(source, target, gauge=gauge)
        except (ValueError, OSError) as error:
            one_line(error)
            assert {entry.name for entry in Path(place).iterdir()} <= {"in", "secret"}
        else:
            assert flaw in ("none", "nan", "infinity", "other rank")  # experts' ranks are not in their shapes
            assert {entry.name for entry in Path(place).iterdir()} == {"in", "out"}
            assert {file.name for file in target.iterdir()} == {CONFIG, WEIGHTS, *extras} - {"adapter_model.bin"}
            old, new = load_file(source / WEIGHTS), load_file(target / WEIGHTS)
            assert all(torch.equal(old[key], new[key]) for key in old if "lora_" not in key or "magnitude" in key)
            before, after = read_adapter(source), read_adapter(target)
            same_within_the_promise(before, after)
            assert set(changes.left) <= set(changes) == {pair.name for pair in before.pairs}
            assert len(audits) == len(audit_adapter(target)) == len(changes)
            assert not any(value != value for value in changes.values())
        assert {file.name: file.read_bytes() for file in source.iterdir()} == stored


def one_line(error):
    """The message is short and on one line; gives no audits."""
    assert str(error).isprintable()
    assert 0 < len(str(error)) < 1000
    return []


def test_the_drawn_adapters_are_of_all_kinds():
    """What the test above does is not to refuse everything."""
    seen = {"written": 0, "refused": 0}

    @settings(max_examples=60)
    @given(adapters())
    def look(adapter):
        tensors, config, flaw, _ = adapter
        with tempfile.TemporaryDirectory() as place:
            spoil(Path(place) / "in", tensors, config, flaw)
            try:
                balance_adapter(Path(place) / "in", Path(place) / "out")
                seen["written"] += 1
            except (ValueError, OSError):
                seen["refused"] += 1

    look()
    assert min(seen.values()) >= 12, seen


@pytest.mark.parametrize("dtype", STORED_DTYPES)
def test_every_type_at_its_limits(tmp_path, dtype):
    info = torch.finfo(dtype)
    for number, (a, b) in enumerate(
        (a, b) for a in (info.max, 1.0, info.smallest_normal) for b in (info.max, 1.0, info.smallest_normal)
    ):
        generator = torch.Generator().manual_seed(0)
        A, B = (torch.rand(*shape, generator=generator, dtype=torch.float64) - 0.5 for shape in ((6, 3), (3, 5)))
        factors = {"m.lora_B.weight": (A * a).to(dtype), "m.lora_A.weight": (B * b).to(dtype)}
        source, target = tmp_path / f"{number}", tmp_path / f"{number}-out"
        write_adapter(source, factors)
        try:
            balance_adapter(source, target)
        except ValueError as error:
            assert "leave the range" in str(error)  # noqa: PT017
            assert not target.exists()
        else:
            same_within_the_promise(read_adapter(source), read_adapter(target))
