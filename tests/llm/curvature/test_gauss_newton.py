"""Whole GGNs from rows against the columns of `LayerLoss`, whose products are tested on their own."""

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer

from lorakappa.llm.adapters.pairs import lora_pairs
from lorakappa.llm.curvature.gauss_newton import as_groups, gauss_newton_matrices
from lorakappa.llm.curvature.layer_loss import LayerLoss, differentiable
from tests.llm.curvature.test_curvature import examples, micro
from tests.llm.curvature.test_suffix import gpt2, llama, without_head

MODELS = {
    "qwen2": micro,
    "llama": lambda: llama(target_modules=["v_proj", "up_proj"]),
    "head": lambda: llama(tied=False, target_modules=["lm_head", "q_proj"]),
    "dora": lambda: llama(target_modules=["o_proj"], use_dora=True),
    "gpt2": gpt2,
    "no head known": without_head,
}


def in_double(model):
    return {name: p.detach().double() for name, p in model.named_parameters()}


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("name", MODELS)
def test_rows_give_what_columns_give_for_all_layers_at_once(name, padding):
    model, batch = MODELS[name](), examples(padding)
    told = []
    with differentiable(model):
        weights, pairs = in_double(model), lora_pairs(model)
        found = gauss_newton_matrices(
            model, weights, pairs, batch, chunk=5, advance=lambda n, expected: told.append((n, expected))
        )
        for pair, G in zip(pairs, found, strict=True):
            loss = LayerLoss(model, weights, pair, batch)
            expected = loss.ggn_products(loss.point, torch.eye(loss.d, dtype=torch.float64)).numpy()
            np.testing.assert_allclose(G, expected, atol=1e-13 * np.abs(expected).max())
            assert np.linalg.eigvalsh(G)[0] > -1e-14 * np.abs(G).max()
    assert sum(n for n, _ in told) == told[-1][1]  # what was expected at last is what it took
    assert max(n for n, _ in told) <= 5


def test_what_counts_as_rounding_goes_with_the_size_of_the_curvature():
    """A head of 1e-9 times the size leaves 1e-18 of it."""
    model, batch = micro(), examples()
    with differentiable(model):
        weights, pair = in_double(model), lora_pairs(model)[0]
        head = next(name for name in weights if "lm_head" in name)
        weights[head] = 1e-9 * weights[head]
        (found,) = gauss_newton_matrices(model, weights, [pair], batch)
        loss = LayerLoss(model, weights, pair, batch)
        expected = loss.ggn_products(loss.point, torch.eye(loss.d, dtype=torch.float64)).numpy()
    assert 0 < np.abs(expected).max() < 1e-16
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_sequences_without_labels_do_not_count_and_the_passes_are_no_more_than_states_have_entries():
    model, batch = micro(), examples()
    batch["labels"][0] = -100
    alone = {key: value[1:] for key, value in batch.items()}
    told = []
    with differentiable(model):
        weights, pairs = in_double(model), lora_pairs(model)
        both = gauss_newton_matrices(model, weights, pairs, batch, advance=lambda n, expected: told.append(n))
        one = gauss_newton_matrices(model, weights, pairs, alone)
    for G, expected in zip(both, one, strict=True):
        np.testing.assert_allclose(G, expected, atol=1e-14 * np.abs(expected).max())
    assert sum(told) <= 3 * 8  # labelled tokens, entries of a state


def test_layers_that_are_not_in_use_have_no_curvature():
    model = micro()
    model.base_model.disable_adapter_layers()
    with differentiable(model):
        found = gauss_newton_matrices(model, in_double(model), lora_pairs(model)[:1], examples())
    assert not found[0].any()


def test_a_layer_that_is_not_in_use_has_none_beside_one_that_has():
    model, batch = micro(), examples()
    adapted = next(module for module in model.modules() if isinstance(module, LoraLayer))
    adapted.enable_adapters(False)
    with differentiable(model):
        weights, pairs = in_double(model), lora_pairs(model)
        found = gauss_newton_matrices(model, weights, pairs, batch)
        (alone,) = gauss_newton_matrices(model, weights, pairs[1:2], batch)
    assert [bool(G.any()) for G in found] == [False] + [True] * (len(pairs) - 1)
    np.testing.assert_allclose(alone, found[1], atol=1e-13 * np.abs(alone).max())


def test_groups_fit_into_memory_but_for_single_layers():
    sizes = [10, 10, 20, 5, 50]
    assert list(as_groups(sizes, 8 * 210)) == [[0, 1], [2], [3], [4]]
    assert list(as_groups(sizes, 8 * 600)) == [[0, 1, 2], [3], [4]]
    assert list(as_groups(sizes, 1)) == [[0], [1], [2], [3], [4]]
    assert list(as_groups([], 100)) == []
