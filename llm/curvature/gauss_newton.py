"""The GGNs of many layers at once, whole, from one Jacobian: rows by passes back, not columns by products.

The GGN of a layer is Σ JᵀCJ/N over the N labelled tokens, with J the Jacobian of a token's logits, C = diag(p) − ppᵀ.
Of its d columns each takes three passes through the network above the layer (`llm.curvature.layer_loss`). Its rows are
cheaper, derived here:

- The logits of a token depend on the factors through its last hidden state only. With M the Jacobian of its logits in
  that state, MᵀCM = Σ w wᵀ has at most as many terms as the state has entries, and fewer where the softmax is sharp.
- w pulled back is one pass, and it ends at the factors of *all* layers at once.
- Sequences do not see each other: each is differentiated alone, without padding.

So F, whose columns are the w pulled back, costs a pass per column, and the GGN is FFᵀ, positive semidefinite as it
stands. What is left out of MᵀCM are eigenvalues below rounding.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorakappa.conditioning.checks import Array
from lorakappa.llm.adapters.pairs import LoraPair
from lorakappa.llm.curvature.layer_loss import prepared
from lorakappa.llm.curvature.suffix import Suffix

BLOCK = 512
"""Columns of F that are multiplied into the GGNs at once."""


def gauss_newton_matrices(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    pairs: Sequence[LoraPair],
    batch: Mapping[str, Tensor],
    *,
    chunk: int = 32,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[Array]:
    """The GGN of the mean cross-entropy in the factors of each layer, all else fixed; call it within `differentiable`.

    Args:
        model: causal language model with LoRA layers.
        weights: its parameters by name, in the dtype to compute in.
        pairs: the layers.
        batch: as for `llm.curvature.spectra.curvature`.
        chunk: number of passes made at once, which bounds memory.
        advance: told how many passes were made since the last time, and how many there will be in all, about.

    Returns:
        For each layer its (d, d) float64 matrix in (vec A, vec B), row-major.

    Raises:
        ValueError: on a malformed batch or where no token has a label.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    factors = [names[id(factor)] for pair in pairs for factor in (pair.left, pair.right)]
    sizes = [sum(weights[factor].numel() for factor in two) for two in zip(factors[::2], factors[1::2], strict=True)]
    found = [torch.zeros(d, d, dtype=torch.float64, device=weights[factors[0]].device) for d in sizes]
    sequences = list(_labelled(batch, weights[factors[0]].device))
    tokens = sum(len(sequence.rows) for sequence in sequences)
    seen = done = 0
    waiting: list[list[Tensor]] = [[] for _ in pairs]
    for sequence in sequences:
        leaves = [weights[factor].detach().clone().requires_grad_() for factor in factors]
        with torch.enable_grad():
            state, logits = _states(model, {**weights, **dict(zip(factors, leaves, strict=True))}, pairs, sequence)
        seen += len(sequence.rows)
        if not state.requires_grad:  # no layer is in use
            continue
        cotangents = _cotangents(state, logits) / tokens**0.5
        expected = round((done + len(cotangents)) * tokens / seen)
        for some in torch.split(cotangents, chunk):
            gradients = torch.autograd.grad(
                state, leaves, some, retain_graph=True, is_grads_batched=True, allow_unused=True
            )
            for i, rows in enumerate(waiting):
                two = zip(gradients[2 * i : 2 * i + 2], leaves[2 * i : 2 * i + 2], strict=True)
                parts = [leaf.new_zeros(len(some), leaf.numel()) if g is None else g.flatten(1) for g, leaf in two]
                rows.append(torch.cat(parts, 1).double())
            done += len(some)
            advance(len(some), expected)
            if sum(map(len, waiting[0])) >= BLOCK:
                _multiply(waiting, found)
    _multiply(waiting, found)
    return [G.cpu().numpy() for G in found]


@dataclass(frozen=True)
class _Sequence:
    """One sequence up to its last label."""

    inputs: dict[str, Tensor]
    rows: Tensor


def _labelled(batch: Mapping[str, Tensor], device: torch.device) -> Iterator[_Sequence]:
    """The sequences that have a label."""
    inputs, rows, _ = prepared(batch, device)
    n, length = inputs["input_ids"].shape
    for i in range(n):
        own = rows[(rows >= i * length) & (rows < (i + 1) * length)] - i * length
        if len(own):
            yield _Sequence({key: value[i : i + 1, : int(own[-1]) + 1] for key, value in inputs.items()}, own)


def _noted(held: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    return lambda _, inputs: held.append(inputs[0])


def _states(
    model: nn.Module, weights: Mapping[str, Tensor], pairs: Sequence[LoraPair], sequence: _Sequence
) -> tuple[Tensor, Tensor]:
    """(1, N, h) last hidden states and (N, V) logits of the labelled tokens.

    The logits stand for both where the model names no head, or where the head has a layer among those measured.
    """
    adapted = {id(factor) for pair in pairs for factor in (pair.left, pair.right)}
    name = next(name for name, parameter in model.named_parameters() if id(parameter) in adapted)
    suffix = Suffix(model, name)
    held: list[Tensor] = []
    n, length = sequence.inputs["input_ids"].shape
    with suffix.running(sequence.rows, (n, length)):
        # after `running`, so that the hook sees the rows that count; what lies in the head is not behind its inputs
        own = suffix.head is not None and any(id(p) in adapted for p in suffix.head.parameters())
        note = None if own or suffix.head is None else suffix.head.register_forward_pre_hook(_noted(held))
        try:
            output = torch.func.functional_call(model, dict(weights), (), {**sequence.inputs, "use_cache": False})
        finally:
            if note is not None:
                note.remove()
        logits = suffix.logits(output.logits, sequence.rows)
    return (held[0] if held else logits), logits


def _cotangents(state: Tensor, logits: Tensor) -> Tensor:
    """(n, …) the w of every token, as cotangents of the states."""
    columns = state.shape[-1]
    flat = state.reshape(-1, columns)
    found = []
    p = logits.detach().softmax(-1)
    linear = torch.zeros_like(logits).requires_grad_()
    if state is not logits:
        with torch.enable_grad():
            pulled = torch.autograd.grad(logits, state, linear, create_graph=True)[0]
    for token, weights in enumerate(p):
        if state is logits:
            M = torch.eye(columns, dtype=p.dtype, device=p.device)
        else:
            units = torch.zeros(columns, *flat.shape, dtype=p.dtype, device=p.device)
            units[:, token] = torch.eye(columns, dtype=p.dtype, device=p.device)
            M = torch.autograd.grad(
                pulled, linear, units.reshape(columns, *state.shape), retain_graph=True, is_grads_batched=True
            )[0][:, token]
        # rows of M are the derivatives by the entries of the state: M·diag(p)·Mᵀ − (Mp)(Mp)ᵀ
        centred = M - (M @ weights)[:, None]
        values, vectors = torch.linalg.eigh((centred * weights) @ centred.T)
        kept = values > torch.finfo(p.dtype).eps * values[-1].clamp(min=0)
        some = torch.zeros(int(kept.sum()), *flat.shape, dtype=p.dtype, device=p.device)
        some[:, token] = (vectors[:, kept] * values[kept].sqrt()).T
        found.append(some.reshape(-1, *state.shape))
    return torch.cat(found)


def _multiply(waiting: list[list[Tensor]], found: list[Tensor]) -> None:
    """Adds FᵀF of the rows that wait to each matrix, and forgets them."""
    for rows, G in zip(waiting, found, strict=True):
        if rows:
            F = torch.cat(rows)
            G += F.T @ F
            rows.clear()


def as_groups(sizes: Sequence[int], memory: int) -> Iterator[list[int]]:
    """Indices of layers with so many parameters, in order, in groups whose matrices take so many bytes at most."""
    group: list[int] = []
    for i in range(len(sizes)):
        if group and 8 * sum(sizes[k] ** 2 for k in [*group, i]) > memory:
            yield group
            group = []
        group.append(i)
    if group:
        yield group
