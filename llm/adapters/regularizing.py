"""iLoRA in any training loop: after every optimizer step, one step on the penalty λ‖BBᵀ − cAᵀA‖².

Its paper writes W + BA and c = r/m; here A is (a, r), so c = r/a, layer by layer. The step is iLoRA's Algorithm 1
(`conditioning.imbalance_regularization.penalty_step`), ηλ long, with η the learning rate that the optimizer has just
used for A.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lorakappa.conditioning.imbalance_regularization import paper_ratio, penalty_step, trained_penalty_step
from lorakappa.llm.adapters.arguments import check_real
from lorakappa.llm.adapters.factors import NonFiniteError
from lorakappa.llm.adapters.handles import StepHandle
from lorakappa.llm.adapters.hooks import map_after_step
from lorakappa.llm.adapters.joining import AnyOptimizer
from lorakappa.llm.adapters.pairs import LoraPair, lora_pairs, stack_batches


def regularize_after_step(
    optimizer: Any,
    model: nn.Module,
    *,
    strength: float = 1.0,
    ratio: float | None = None,
    factor: float = 1.0,
    power: float = 1.0,
    trained: bool = False,
    every: int = 1,
    adapter: str | None = None,
) -> StepHandle:
    """Takes iLoRA's penalty step after every `every`-th step that the optimizer really makes.

    See `llm.adapters.hooks.map_after_step` for what counts as a step. Unlike balancing this moves AB.

    Args:
        optimizer: a torch optimizer or accelerate's wrapper of one; where several train the model, a list of them.
        model: the PEFT model trained.
        strength: λ > 0.
        ratio: c, the same for all layers (1 is the classical balancing penalty); None means factor·(r/a)^power.
        factor: multiple of the paper's ratio.
        power: of the paper's ratio.
        trained: whether each layer's ratio is trained, from that value on (`trained_penalty_step`); a resumed
            training starts from that value again.
        every: number of optimizer steps between two penalty steps.
        adapter: name of one adapter; None means all that train.

    Returns:
        A handle, as of `map_after_step`.

    Raises:
        TypeError: if there is no torch optimizer in `optimizer`, `every` is no integer or another option no number.
        CannotBalanceError: for layers that `lora_pairs` refuses, and pairs with one factor in other optimizers.
        ValueError: if λ, c, the factor or the power is out of range, on `every` < 1, or no LoRA layer that trains.
            While training: NonFiniteError if the penalty step explodes.
    """
    check_penalty(strength, ratio, factor, power)
    for pair in lora_pairs(model, adapter):
        if pair.trainable:
            _ratio(pair, ratio, factor, power)  # fails here rather than after the first step
    log_ratios: dict[str, Tensor] | None = {} if trained else None

    def regularize(pairs: list[LoraPair], optimizer: AnyOptimizer) -> int:
        return regularize_pairs(
            pairs, optimizer, strength=strength, ratio=ratio, factor=factor, power=power, log_ratios=log_ratios
        )

    return map_after_step(optimizer, model, regularize, every=every, adapter=adapter)


def check_penalty(strength: float, ratio: float | None, factor: float, power: float) -> None:
    """Refuses a bad λ, c, factor or power before any training.

    Raises:
        TypeError: if one is no number.
        ValueError: if one is not finite or, but for the power, not positive.
    """
    check_real("the strength λ of the penalty", strength, positive=True)
    if ratio is not None:
        check_real("the ratio c", ratio, positive=True)
    check_real("factor", factor, positive=True)
    check_real("power", power)


def _ratio(pair: LoraPair, ratio: float | None, factor: float, power: float) -> float:
    """C of one pair.

    Raises:
        ValueError: if factor·(r/a)^power is none that float64 has, or r > a.
    """
    if ratio is not None:
        return ratio
    a, r = pair.A.shape
    try:
        found = paper_ratio(a, r, factor=factor, power=power)
    except OverflowError:
        found = math.inf
    if not 0 < found < math.inf:
        raise ValueError(f"factor·(r/a)^power = {factor:g}·({r}/{a})^{power:g} is {found:g} for {pair.name}")
    return found


@torch.no_grad()
def regularize_pairs(
    pairs: list[LoraPair],
    optimizer: AnyOptimizer,
    *,
    strength: float,
    ratio: float | None = None,
    factor: float = 1.0,
    power: float = 1.0,
    log_ratios: dict[str, Tensor] | None = None,
) -> int:
    """One penalty step on every trainable pair, at the optimizer's present learning rates.

    Args:
        pairs: as found by `lora_pairs`.
        optimizer: whose learning rate of A's group is η.
        strength: λ.
        ratio: c, or None for factor·(r/a)^power.
        factor: multiple of the paper's ratio.
        power: of the paper's ratio.
        log_ratios: log c by name of a pair, to train it; empty at first. None leaves c as it is.

    Returns:
        The number of pairs changed.

    Raises:
        NonFiniteError: if the step makes a factor infinite: λ or the learning rate is too large.
    """
    rates = {id(parameter): float(group["lr"]) for group in optimizer.param_groups for parameter in group["params"]}
    stepped = [pair for pair in pairs if pair.trainable and id(pair.left) in rates]
    for batch in stack_batches(stepped):
        first = [ties[0] for ties in batch]
        A, B = torch.stack([pair.A for pair in first]), torch.stack([pair.B for pair in first])
        target = _ratio(first[0], ratio, factor, power)
        lengths = torch.tensor([rates[id(pair.left)] * strength for pair in first], device=A.device)
        if log_ratios is None:
            X, Y = _fixed(A, B, lengths, target)
        else:
            start = torch.tensor(math.log(target), device=A.device)
            logs = torch.stack([log_ratios.get(pair.name, start) for pair in first])
            X, Y, logs = trained_penalty_step(A, B, step=lengths, log_ratio=logs)
            log_ratios.update(zip([pair.name for pair in first], logs, strict=True))
        if not bool(X.isfinite().all() and Y.isfinite().all()):
            raise NonFiniteError(
                f"the penalty step left NaN or infinity in {first[0].name} or a layer of its shape: lower λ "
                f"(now {strength:g}) or the learning rate"
            )
        for pair, x, y in zip(first, X, Y, strict=True):
            pair.write(x, y)
    return len(stepped)


def _fixed(A: Tensor, B: Tensor, lengths: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """The penalty step, or NaN where it explodes."""
    try:
        return penalty_step(A, B, step=lengths, ratio=ratio)
    except ValueError:
        return torch.full_like(A, torch.nan), B
