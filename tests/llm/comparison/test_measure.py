"""What is measured while a run trains."""

import pytest
import torch

from lorakappa.conditioning import balancing_gap
from lorakappa.llm import lora_pairs
from lorakappa.llm.adapters.factors import NonFiniteError
from lorakappa.llm.comparison import measure
from lorakappa.llm.comparison.measure import conditioning_of, peak_memory
from tests.llm.models import unbalance, with_lora


def test_peak_memory_sees_what_was_allocated_since_the_reset():
    cpu = torch.device("cpu")
    if peak_memory(cpu) is None:
        pytest.skip("the system does not tell")
    measure.reset_peak_memory(cpu)
    before = peak_memory(cpu)
    torch.ones(50_000_000)  # 200 MB, gone again
    assert 150e6 < peak_memory(cpu) - before < 260e6
    measure.reset_peak_memory(cpu)
    assert peak_memory(cpu) - before < 50e6


def test_conditioning_of():
    model = unbalance(with_lora())
    entries = []
    for pair in lora_pairs(model):
        A, B = pair.A.detach().double(), pair.B.detach().double()
        s, t = torch.linalg.svdvals(A), torch.linalg.svdvals(B)
        gap = float(torch.linalg.matrix_norm(A.T @ A - B @ B.T))
        assert gap == pytest.approx(float(balancing_gap(A, B)), rel=1e-6)
        entries.append(
            (gap / float((s**2).sum() + (t**2).sum()), float((s[0] ** 2 + t[0] ** 2) / min(s[-1], t[-1]) ** 2))
        )
    wanted = [float(torch.tensor(column, dtype=torch.float64).quantile(0.5)) for column in zip(*entries, strict=True)]
    assert conditioning_of(model) == pytest.approx(wanted, rel=1e-6)
    with torch.no_grad():
        lora_pairs(model)[3].left[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match=r"self_attn\.o_proj"):
        conditioning_of(model)
