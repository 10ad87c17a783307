"""What an audit says of the products: the scale that is applied, and how many ranks they use."""

import math

import pytest
import torch

from lorakappa.llm import audit_adapter, audit_pair
from tests.llm.adapters.stored import pair, random_pair, write_adapter


def test_ranks_of_a_known_spectrum():
    s = [4.0, 2.0, 1.0, 0.1]
    layer = audit_pair(torch.eye(6)[:, :4] * torch.tensor(s), torch.eye(4, 5), scale=2.5)
    assert layer.sigma_AB == pytest.approx(s, rel=1e-6)
    assert layer.stable_rank == pytest.approx(21.01 / 16, rel=1e-6)
    p = [x / 7.1 for x in s]
    assert layer.entropy_rank == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)), rel=1e-6)
    assert layer.suggested_rank == 3  # 20/21.01 is 95 %, 21/21.01 more than 99 %
    assert layer.scale == 2.5


def test_ranks_do_not_depend_on_size_and_are_0_of_nothing():
    A, B = torch.randn(7, 3, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    one, other = audit_pair(A, B), audit_pair(A * 1e-170, B * 1e-170)
    assert other.sigma_AB == (0, 0, 0)  # below float64's range
    for measure in ("stable_rank", "entropy_rank", "suggested_rank"):
        assert getattr(other, measure) == pytest.approx(getattr(one, measure))
    nothing = audit_pair(A * 0, B)
    assert (nothing.stable_rank, nothing.entropy_rank, nothing.suggested_rank, nothing.scale) == (0, 0, 1, 1)


def test_the_scale_is_the_one_that_is_applied(tmp_path):
    tensors = random_pair() | pair(torch.ones(6, 4), torch.ones(4, 5), "base_model.model.k_proj")
    config = {"r": 2, "lora_alpha": 6, "rank_pattern": {"k_proj": 4}, "alpha_pattern": {"k_proj": 5}}
    write_adapter(tmp_path / "plain", tensors, **config)
    write_adapter(tmp_path / "rs", tensors, **config, use_rslora=True)
    scales = [{layer.name[-6:]: layer.scale for layer in audit_adapter(tmp_path / name)} for name in ("plain", "rs")]
    assert scales == [{"q_proj": 3, "k_proj": 1.25}, {"q_proj": pytest.approx(6 / 2**0.5), "k_proj": 2.5}]
