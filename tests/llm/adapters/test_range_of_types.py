"""Factors near the ends of what their type can hold: balanced, left as they were and named, or refused, never Inf."""

import pytest
import torch
from safetensors.torch import load_file

from lorakappa.llm import audit_adapter, audit_pair, balance_adapter, balance_model, lora_pairs
from lorakappa.llm.adapters.products import product_errors
from tests.llm.adapters.stored import MODULE, pair, random_pair, write_adapter
from tests.llm.models import unbalance, with_lora
from tests.llm.test_llm_command import call

FACTOR = f"{MODULE}.lora_A.weight"


def factors(folder, module=MODULE):
    tensors = load_file(folder / "adapter_model.safetensors")
    return tensors[f"{module}.lora_B.weight"], tensors[f"{module}.lora_A.weight"]


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-45), (torch.bfloat16, 2e-40), (torch.float16, 2e-7)])
def test_factors_below_what_their_type_can_hold_are_refused(tmp_path, dtype, scale, monkeypatch, capsys):
    write_adapter(tmp_path / "in", random_pair(scale, scale, dtype))
    with pytest.raises(ValueError, match=r"no pair of .* can be balanced: its factors would leave the range"):
        balance_adapter(tmp_path / "in", tmp_path / "out")
    code, out, err = call(monkeypatch, capsys, "balance", tmp_path / "in", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert "nothing was written" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_factors_above_what_their_type_can_hold_are_refused(tmp_path):
    full = pair(torch.full((100, 2), 6e4).half(), torch.full((2, 100), 6e4).half())  # balanced, √2 times as large
    full[FACTOR][1] = 0
    write_adapter(tmp_path / "in", full)
    changes = None
    try:
        changes = balance_adapter(tmp_path / "in", tmp_path / "out")
    except ValueError as error:
        assert "no pair of" in str(error)  # noqa: PT017
    if changes is not None:
        assert all(factor.isfinite().all() for factor in factors(tmp_path / "out"))


def test_a_pair_that_cannot_be_stored_stays_and_is_named_and_counted(tmp_path, monkeypatch, capsys):
    tensors = {**random_pair(1e-45, 1e-45, module="m.tiny"), **random_pair(module="m.plain")}
    write_adapter(tmp_path / "in", tensors)
    changes = balance_adapter(tmp_path / "in", tmp_path / "out")
    assert changes.left == ["m.tiny"]
    assert changes["m.tiny"] == 0
    assert 0 < changes["m.plain"] < 1e-5
    assert all(map(torch.equal, factors(tmp_path / "in", "m.tiny"), factors(tmp_path / "out", "m.tiny")))
    assert not any(map(torch.equal, factors(tmp_path / "in", "m.plain"), factors(tmp_path / "out", "m.plain")))
    code, out, _ = call(monkeypatch, capsys, "balance", tmp_path / "in", "--out", tmp_path / "again")
    assert code == 0
    assert "1 pairs balanced" in out
    assert "1 pairs left as they were" in " ".join(out.split())
    assert "m.tiny" in out


@pytest.mark.parametrize("scales", [(1e200, 1e200), (1e-200, 1e-200), (1e200, 1e-200), (1e-300, 1e300), (1e150, 1.0)])
def test_factors_over_the_whole_range_of_float64(tmp_path, scales):
    write_adapter(tmp_path / "in", random_pair(*scales, torch.float64))
    changes = balance_adapter(tmp_path / "in", tmp_path / "out")
    assert changes.left == []
    assert max(changes.values()) < 1e-13
    (before,), (after,) = audit_adapter(tmp_path / "in"), audit_adapter(tmp_path / "out")
    A, B = random_pair(1.0, 1.0, torch.float64).values()
    plain = audit_pair(A, B)
    assert before.rank == after.rank == 2
    assert after.relative_gap < 1e-14
    assert after.kappa_bound == pytest.approx(before.kappa_bound_balanced)
    assert before.kappa_bound_balanced == pytest.approx(plain.kappa_bound_balanced)
    if scales[0] == scales[1]:
        assert before.kappa_bound == pytest.approx(plain.kappa_bound)
        assert before.relative_gap == pytest.approx(plain.relative_gap)
    else:  # far beyond float64, or of one factor alone
        assert before.kappa_bound > 1e290
        assert before.relative_gap == pytest.approx(gap_of_one(A if scales[0] > scales[1] else B))


def gap_of_one(factor):
    """The relative gap where the other factor is as good as 0."""
    return float(torch.linalg.svdvals(factor).square().norm() / factor.norm() ** 2)


def test_the_audit_of_ordinary_factors_and_of_scaled_ones_agree():
    A, B = random_pair(dtype=torch.float64).values()
    plain, far = audit_pair(A, B), audit_pair(A * 2.0**400, B * 2.0**-300)
    assert far.sigma_A == tuple(value * 2.0**400 for value in plain.sigma_A)
    assert far.sigma_AB == pytest.approx([value * 2.0**100 for value in plain.sigma_AB], rel=1e-14)
    assert far.kappa_bound_balanced == pytest.approx(plain.kappa_bound_balanced, rel=1e-13)
    assert audit_pair(A * 2.0**-1040, B).rank == 2  # subnormal


def test_the_errors_of_a_product_at_any_scale():
    A, B = random_pair(dtype=torch.float64).values()
    X, Y = A * 2, B / 2 * 1.01
    expected = product_errors(A, B, X, Y)
    assert expected[0] == pytest.approx(0.01)
    for a, b in ((600, 300), (-600, -300), (1000, -1000), (-900, 900)):
        found = product_errors(*(shift(F, e) for F, e in ((A, a), (B, b), (X, b), (Y, a))))
        assert found == pytest.approx(expected, rel=1e-12)
    assert product_errors(0 * A, B, 0 * A, B) == (0, 0)
    assert product_errors(0 * A, B, X, Y) == (float("inf"), float("inf"))
    assert not product_errors(A, B, X * float("inf"), Y)[1] <= 1


def shift(factor, power):
    return factor * 2.0 ** (power // 2) * 2.0 ** (power - power // 2)


def test_in_memory_a_pair_that_its_type_cannot_hold_stays_too():
    model = unbalance(with_lora(target_modules=["q_proj"]))
    tiny, plain = lora_pairs(model)
    with torch.no_grad():
        tiny.left.mul_(1e-44)
        tiny.right.mul_(1e-44)
    before = tiny.A.clone(), tiny.B.clone()
    report = balance_model(model)
    assert (report.balanced, report.unchanged) == (1, (tiny.name,))
    assert torch.equal(tiny.A, before[0])
    assert torch.equal(tiny.B, before[1])
    with torch.no_grad():
        for factor in (plain.left, plain.right):
            factor.data = torch.full_like(factor, 6e4, dtype=torch.float16)
        plain.left[:, 1:] = 0
        plain.right[0] = 6e4
    balance_model(model)
    assert plain.A.isfinite().all()
    assert plain.B.isfinite().all()
