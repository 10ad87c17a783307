"""BaLoRA as the loss sees it: after optimizer steps every pair takes the gauge that its gradients ask for.

`conditioning.fisher_gauge` has the theory. The second moments are those of `llm.adapters.gradient_moments`; they move
with the pairs. T comes from the Gram matrices of all pairs at once where that is safe, else from `fisher_balance`.

The default gauge is "symmetric": it mixes the coordinates least that an optimizer has moments for. In the gauge
"hyperbalanced" the second moments of the gradients are diagonal but for damping, which is what an optimizer assumes
that treats the entries of a row apart; for plain gradient steps the gauges are one.

A short comparison on the tiny model (r = 8, 60 steps of AdamW, 2 seeds, no more): the test loss at learning rates
0.0058, 0.017 and 0.05 was 1.38, 1.32, 2.15 for LoRA, 1.39, 1.29, 1.49 for BaLoRA, 1.40, 1.31, 2.16 for BaLoRA in the
symmetric gauge, 1.39, 1.33, 2.52 for this one and 1.38, 1.31, 1.96 for this one in the gauge "hyperbalanced". Seeds
differ by 0.04 at the first two rates and by up to 0.3 at the last. δ of 0.01 or 1 and a decay of 0.9 made no difference
that one seed could tell. So under Adam the rotation seems to count, rather than which moments are made equal; try
gauge="hyperbalanced" first.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lorakappa.conditioning.fisher_gauge import (
    DAMPING,
    check_damping,
    fisher_balance,
    transport_second_moments,
)
from lorakappa.conditioning.fisher_gauge_by_gram import fisher_gauges
from lorakappa.conditioning.projection_by_gram import Gauges
from lorakappa.conditioning.projection_gauges import Gauge
from lorakappa.llm.adapters.balancing import BalanceReport, Balancing, stacked
from lorakappa.llm.adapters.factors import NonFiniteError
from lorakappa.llm.adapters.gradient_moments import DECAY, GradientMoments, check_decay
from lorakappa.llm.adapters.handles import StepHandle, refuse_closure
from lorakappa.llm.adapters.hooks import check_balancing
from lorakappa.llm.adapters.in_place import Find
from lorakappa.llm.adapters.joining import AnyOptimizer, joined, owned_pairs, unwrap_optimizers
from lorakappa.llm.adapters.lookup import PairLookup
from lorakappa.llm.adapters.moments import Moments
from lorakappa.llm.adapters.pairs import LoraPair, check_any_trains, check_finite
from lorakappa.llm.adapters.products import is_representable


def fisher_balance_after_step(
    optimizer: Any,
    model: nn.Module,
    *,
    damping: float = DAMPING,
    decay: float = DECAY,
    every: int = 1,
    gauge: Gauge = "symmetric",
    adapter: str | None = None,
    moments: Moments = "keep",
) -> "FisherHandle":
    """Brings every pair into the gauge that its gradients ask for, after every `every`-th real optimizer step.

    See `map_after_step` for what counts as a step. Every real step's gradients enter the second moments, r×r numbers
    for each factor, which are in the optimizer's state dict and come back with it, in a resumed Trainer, too. Products
    stay, and pairs with AB = 0 stay as they are, so that a warm-up from learning rate 0 is safe.

    Args:
        optimizer: a torch optimizer or accelerate's wrapper of one; where several train the model, a list of them.
        model: the PEFT model trained.
        damping: δ > 0: what pulls towards balance (`conditioning.fisher_balance`); infinite is BaLoRA.
        decay: weight of the past in the running means; the first 1/(1 − decay) steps count alike.
        every: number of steps between two changes of gauge.
        gauge: which of the pairs that have these second moments.
        adapter: name of one adapter; None means all that train.
        moments: what becomes of the optimizer's own moments (`llm.adapters.moments`).

    Returns:
        A handle, as of `balance_after_step`.

    Raises:
        TypeError: if there is no torch optimizer in `optimizer`, `every` is no integer or another option no number.
        CannotBalanceError: for layers that `lora_pairs` refuses, and pairs with one factor in other optimizers.
        ValueError: on a bad option, or no LoRA layer that trains. While training: NonFiniteError if a factor or a
            gradient is not finite, and ValueError from a step with a closure, which computes gradients too late.
    """
    check_fisher_balancing(damping, decay, every, gauge, moments)
    optimizers = unwrap_optimizers(optimizer)
    lookup = PairLookup(model, adapter)
    pairs = lookup()
    check_any_trains(pairs)
    owned = owned_pairs(pairs, joined(optimizers))  # refuses split pairs now rather than at the first step
    gradients = GradientMoments(optimizers, decay)
    gradients.follow(owned)  # a state that is saved before the first step keeps what was loaded
    options: dict[str, Any] = {"damping": damping, "gauge": gauge, "moments": moments}
    return FisherHandle(optimizers, lookup, every, gradients, options)


def check_fisher_balancing(damping: float, decay: float, every: int, gauge: str, moments: str) -> None:
    """Refuses bad options of `fisher_balance_after_step` before any training.

    Raises:
        TypeError: if `every` is no integer, damping or decay no number.
        ValueError: on `every` < 1, damping ≤ 0, a decay outside [0, 1), an unknown gauge or moments.
    """
    if not check_damping(damping) > 0:
        raise ValueError("damping δ must be positive: without it the first steps, where A = 0, have no best gauge")
    check_decay(decay)
    check_balancing(every, gauge, moments)


class FisherHandle(StepHandle):
    """A running `fisher_balance_after_step`.

    Args:
        optimizers: torch optimizers.
        lookup: the pairs of the model.
        every: number of steps between two changes of gauge.
        moments: of the gradients.
        options: of `FisherBalancing`.
    """

    def __init__(
        self,
        optimizers: list[torch.optim.Optimizer],
        lookup: PairLookup,
        every: int,
        moments: GradientMoments,
        options: dict[str, Any],
    ) -> None:
        super().__init__(optimizers, lookup, lambda pairs, optimizer: self._ready(pairs)(optimizer), every)
        self._balancing: FisherBalancing | None = None
        self._gradients = moments
        self._options = options

    def remove(self) -> None:
        """Ends the mapping, and the saving of moments, once or more often; the model stays as it is."""
        super().remove()
        self._gradients.remove()

    def _ready(self, pairs: list[LoraPair]) -> "FisherBalancing":
        if self._balancing is None or self._balancing.pairs is not pairs:  # the same list while nothing has changed
            self._balancing = FisherBalancing(pairs, self._gradients, **self._options)
        return self._balancing

    def _begin(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        refuse_closure(optimizer, args, kwargs, "averaged")
        pairs = self._choice(self._lookup(), self._optimizer)
        with self._stopwatch.running(pairs[0].left.device):
            self._ready(pairs)
            self._gradients.observe(optimizer)


class FisherBalancing(Balancing):
    """The gauges that gradients ask for, of given pairs, again and again while the model keeps them.

    Args:
        pairs: as found by `lora_pairs`.
        gradients: their second moments.
        damping: δ.
        gauge: which of the pairs that have these second moments.
        moments: what becomes of the optimizer's own moments.
    """

    def __init__(
        self, pairs: list[LoraPair], gradients: GradientMoments, *, damping: float, gauge: Gauge, moments: Moments
    ) -> None:
        super().__init__(pairs, gauge=gauge, moments=moments)
        self._gradients = gradients
        self._damping = damping
        self._copied: list[tuple[list[LoraPair], Tensor]] = []
        gradients.follow([ties[0] for ties in self._ties.values()])

    @torch.no_grad()
    def __call__(self, optimizer: AnyOptimizer | None = None) -> BalanceReport:
        """Changes the gauge of the pairs as they are now; errors as of `fisher_balance_after_step`."""
        self._copied = []
        report = super().__call__(optimizer)
        for batch, H in self._copied:
            self._gradients.write(batch, H)
        return report

    def _choice(self) -> Gauge | Find:
        return self._find

    def _find(self, xp: Any, pairs: list[LoraPair], G: Tensor, **options: Any) -> Gauges:
        return fisher_gauges(xp, G, self._gradients.stacked(pairs), self._gauge, damping=self._damping, **options)

    def _moves(self, pairs: list[LoraPair], T: Tensor, T_inv: Tensor, moving: list[bool]) -> None:
        H = self._gradients.stacked(pairs)
        moved = torch.stack(transport_second_moments(H[:, 0], H[:, 1], T, T_inv), dim=1)
        chosen = torch.tensor(moving, device=H.device)[:, None, None, None]
        self._gradients.write(pairs, torch.where(chosen, moved, H))

    def _copies(self, batch: list[LoraPair]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        A, B = stacked(batch)
        H = self._gradients.stacked(batch)
        check_finite(batch, A, B, "balanced")
        finite = H.isfinite().flatten(1).all(1).tolist()
        if not all(finite):
            name = batch[finite.index(False)].name
            raise NonFiniteError(f"the gradients of {name} contained NaN or infinity; nothing was balanced")
        new = fisher_balance(A, B, H[:, 0], H[:, 1], damping=self._damping, gauge=self._gauge)
        moved = torch.stack([new.H_A, new.H_B], dim=1)
        fits = is_representable(A, B, new.A, new.B, batch[0].left.dtype, batch[0].right.dtype)[:, None, None]
        self._copied.append((batch, torch.where(fits[..., None], moved, H)))
        return A, B, torch.where(fits, new.A, A), torch.where(fits, new.B, B)
