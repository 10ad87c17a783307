"""r×r second moments of the gradients of LoRA factors, kept while a model trains and saved with its optimizer.

H_A = E g_Aᵀg_A and H_B = E g_B g_Bᵀ are means over the steps that an optimizer really makes, of the gradients that it
finds: averaged over micro-batches, unscaled, and clipped, for a clipped gradient is one that the step is made of, and
clipping by the norm of all gradients weighs steps but does not change what a step says of a gauge. The first
1/(1 − decay) steps count alike, then older ones fade as powers of the decay.

In a state dict the moments stand in the groups, beside learning rates, in the order of their parameters: there no
optimizer casts them to the parameters' type, and `load_state_dict` keeps what it does not know. So they come back
whether the state is loaded before they are asked for (as the Trainer does) or after.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from array_api_compat import array_namespace
from torch import Tensor

from lorakappa.conditioning.projection_by_gram import full_precision, gram
from lorakappa.llm.adapters.arguments import check_real
from lorakappa.llm.adapters.factors import Side, matrix
from lorakappa.llm.adapters.pairs import LoraPair

SAVED = "gradient_moments"
"""Name in a group of a state dict: {"steps": […], "moments": […]}, a number and an (E, r, r) tensor or None for each
parameter, E being the number of experts."""

DECAY = 0.99
"""Default: a hundred steps or so are remembered."""

STACK = 2**22
"""Entries of gradients that are copied together."""


def check_decay(decay: float) -> None:
    """Raises TypeError if the decay is no number, ValueError unless 0 ≤ decay < 1."""
    check_real("decay", decay)
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be at least 0 and less than 1, not {decay}")


class GradientMoments:
    """Running second moments of the gradients of LoRA factors.

    Args:
        optimizers: with whose states the moments are saved.
        decay: weight of the past in each mean.

    Raises:
        TypeError: if the decay is no number.
        ValueError: unless 0 ≤ decay < 1.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], decay: float = DECAY) -> None:
        check_decay(decay)
        self._decay = decay
        self._values: dict[tuple[str, Side], Tensor] = {}
        self._steps: dict[tuple[str, Side], int] = {}
        self._pairs: dict[int, list[tuple[LoraPair, Side]]] = {}
        self._loaded: dict[int, tuple[int, Tensor]] = {}
        self._handles = []
        for optimizer in optimizers:
            self._load(optimizer)
            self._handles += [
                optimizer.register_state_dict_post_hook(self._save),
                optimizer.register_load_state_dict_post_hook(self._load),
            ]

    def remove(self) -> None:
        """Ends the saving."""
        for handle in self._handles:
            handle.remove()

    def follow(self, pairs: Sequence[LoraPair]) -> None:
        """Says whose gradients are meant; of pairs that were known by name before, the moments are kept."""
        self._pairs = defaultdict(list)
        for pair in pairs:
            for side, parameter in _sides(pair):
                self._pairs[id(parameter)].append((pair, side))

    @torch.no_grad()
    def observe(self, optimizer: torch.optim.Optimizer) -> None:
        """Lets the gradients enter that an optimizer is about to step on; a missing one does not."""
        found: dict[object, list[tuple[LoraPair, Side, Tensor]]] = defaultdict(list)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    dense = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
                    for pair, side in self._pairs.get(id(parameter), ()):
                        gradient = matrix(dense, side, pair.expert, pair.experts)
                        key = side, gradient.shape, gradient.dtype, gradient.device
                        found[key].append((pair, side, gradient))
        scale = getattr(optimizer, "grad_scale", None)  # of a fused optimizer, which has yet to divide by it
        for alike in found.values():
            step = max(1, STACK // alike[0][2].numel())
            for start in range(0, len(alike), step):
                part = alike[start : start + step]
                grams = _grams([gradient for _, _, gradient in part], part[0][1])
                if isinstance(scale, Tensor):
                    grams = grams / scale.to(grams.device, grams.dtype) ** 2
                self._enter(part, grams)

    def _enter(self, part: Sequence[tuple[LoraPair, Side, Tensor]], grams: Tensor) -> None:
        """Moves the means towards new squares (n, r, r)."""
        weights: dict[float, list[int]] = defaultdict(list)
        for i, (pair, side, _) in enumerate(part):
            self._of(pair, side)
            key = pair.name, side
            self._steps[key] += 1
            weights[max(1 - self._decay, 1 / self._steps[key])].append(i)
        squares = grams.unbind(0)
        for weight, chosen in weights.items():
            means = [self._values[part[i][0].name, part[i][1]] for i in chosen]
            torch._foreach_lerp_(means, [squares[i] for i in chosen], weight)

    def stacked(self, pairs: Sequence[LoraPair]) -> Tensor:
        """(n, 2, r, r) float64 moments of pairs of one rank on one device; 0 where no gradient has been seen."""
        moments = [self._of(pair, side) for pair in pairs for side in ("A", "B")]
        stack = torch.stack(moments)
        return stack.reshape(len(pairs), 2, *stack.shape[1:])

    def write(self, pairs: Sequence[LoraPair], moments: Tensor) -> None:
        """Replaces the moments of some pairs, as `stacked` has them."""
        values = [self._of(pair, side) for pair in pairs for side in ("A", "B")]
        torch._foreach_copy_(values, list(moments.flatten(0, 1).unbind(0)))

    def _of(self, pair: LoraPair, side: Side) -> Tensor:
        """The moment of one factor, made where there is none."""
        key, parameter = (pair.name, side), pair.left if side == "A" else pair.right
        r = pair.A.shape[1]
        value = self._values.get(key)
        if value is not None and len(value) == r and value.device == parameter.device:
            return value
        steps, loaded = self._loaded.get(id(parameter), (0, None))
        if value is None and loaded is not None and loaded.shape == (pair.experts, r, r):
            value = loaded[pair.expert]
        elif value is None or len(value) != r:
            steps, value = 0, torch.zeros(r, r)
        else:
            steps = self._steps[key]  # the model was moved
        self._values[key] = value.to(parameter.device, torch.float64, copy=True)
        self._steps[key] = steps
        return self._values[key]

    def _save(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Adds the moments to a state dict."""
        for group, packed in zip(optimizer.param_groups, state["param_groups"], strict=True):
            steps: list[int] = []
            values: list[Tensor | None] = []
            for parameter in group["params"]:
                stored = [self._of(pair, side) for pair, side in self._pairs.get(id(parameter), ())]
                first = next(iter(self._pairs.get(id(parameter), ())), None)
                steps.append(0 if first is None else self._steps[first[0].name, first[1]])
                values.append(torch.stack(stored) if stored else None)
            packed[SAVED] = {"steps": steps, "moments": values}

    def _load(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes the moments out of the groups that a state dict was loaded into."""
        for group in optimizer.param_groups:
            saved = group.pop(SAVED, None)
            if saved is None:
                continue
            for parameter, steps, value in zip(group["params"], saved["steps"], saved["moments"], strict=True):
                for pair, side in self._pairs.get(id(parameter), ()):
                    self._values.pop((pair.name, side), None)
                if value is not None:
                    self._loaded[id(parameter)] = steps, value


def _sides(pair: LoraPair) -> Iterable[tuple[Side, Tensor]]:
    return ("A", pair.left), ("B", pair.right)


def _grams(gradients: list[Tensor], side: Side) -> Tensor:
    """(n, r, r) float64 matrices gᵀg of gradients by A, ggᵀ of those by B; of all of one shape."""
    stack = torch.stack(gradients)
    stack = stack if stack.dtype == torch.float64 else stack.float()
    xp = array_namespace(stack)
    with full_precision(xp):
        return gram(xp, stack, -2 if side == "A" else -1).double()
