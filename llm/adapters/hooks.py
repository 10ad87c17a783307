"""Maps of the LoRA pairs after every real optimizer step, through torch's own step hooks; BaLoRA is one of them."""

from typing import Any

from torch import nn

from lorakappa.conditioning.projection_gauges import Gauge, check_gauge
from lorakappa.llm.adapters.arguments import check_count
from lorakappa.llm.adapters.balancing import Balancing
from lorakappa.llm.adapters.handles import PairMap, StepHandle
from lorakappa.llm.adapters.joining import AnyOptimizer, joined, owned_pairs, unwrap_optimizers
from lorakappa.llm.adapters.lookup import PairLookup
from lorakappa.llm.adapters.moments import Moments, check_choice
from lorakappa.llm.adapters.pairs import LoraPair, check_any_trains


def balance_after_step(
    optimizer: Any,
    model: nn.Module,
    *,
    every: int = 1,
    gauge: Gauge = "hyperbalanced",
    adapter: str | None = None,
    moments: Moments = "keep",
) -> StepHandle:
    """Balances the model after every `every`-th step that the optimizer really makes (BaLoRA).

    See `map_after_step` for what counts as a step.

    Args:
        optimizer: a torch optimizer or accelerate's wrapper of one; where several train the model, a list of them.
        model: the PEFT model trained.
        every: number of steps between two balancings.
        gauge: which balanced pair (`conditioning.balance`).
        adapter: name of one adapter; None means all that train.
        moments: what becomes of the optimizer's moments (`llm.adapters.moments`).

    Returns:
        A handle: `remove()` ends it, `steps` counts real steps, `last` is the latest `BalanceReport`.

    Raises:
        TypeError: if there is no torch optimizer in `optimizer`, or `every` is no integer.
        CannotBalanceError: for layers that `lora_pairs` refuses, and pairs with one factor in other optimizers.
        ValueError: on `every` < 1, an unknown gauge or moments, or no LoRA layer that trains. After the first step:
            if the optimizer keeps copies of the factors, as schedule-free ones do.
    """
    check_balancing(every, gauge, moments)
    ready: Balancing | None = None

    def balance(pairs: list[LoraPair], optimizer: AnyOptimizer) -> Any:
        nonlocal ready
        if ready is None or ready.pairs is not pairs:  # the handle gives the same list while nothing has changed
            ready = Balancing(pairs, gauge=gauge, moments=moments)
        return ready(optimizer)

    return map_after_step(optimizer, model, balance, every=every, adapter=adapter)


def map_after_step(
    optimizer: Any, model: nn.Module, pair_map: PairMap, *, every: int = 1, adapter: str | None = None
) -> StepHandle:
    """Applies a map to the LoRA pairs after every `every`-th step that the optimizer really makes.

    Micro-batches of an accumulation make no step, nor do steps that a GradScaler skips, and a subclass whose `step`
    calls its parent's (PEFT's Riemannian optimizer) makes one. The factors are looked up at each step, so wrapping
    or sharding the model later (accelerate, FSDP2) is fine, and so are groups that the optimizer gets later.

    Only pairs that the optimizer trains are mapped, A and B: those of others have gradients that belong to the factors
    as they are, and those of none stay. Where several optimizers share the pairs, give all of them as a list; the map
    then follows a step after which each has stepped and none has a gradient left to step on.

    Hooks stay through `load_state_dict`, but a copy of the optimizer (`deepcopy`, pickle) has none, and says so. A copy
    of the model (EMA, SWA) is never touched; averages of factors that move between gauges are no averages of products.

    Args:
        optimizer: a torch optimizer or accelerate's wrapper of one; where several train the model, a list of them.
        model: the PEFT model trained.
        pair_map: what to do with the pairs.
        every: number of steps between two applications.
        adapter: name of one adapter; None means all that train.

    Returns:
        A handle: `remove()` ends it, `steps` counts real steps, `last` is what the map returned last.

    Raises:
        TypeError: if there is no torch optimizer in `optimizer`, or `every` is no integer.
        CannotBalanceError: for layers that `lora_pairs` refuses, and pairs with one factor in other optimizers.
        ValueError: on `every` < 1, or no LoRA layer that trains.
    """
    optimizers = unwrap_optimizers(optimizer)
    check_count("every", every)
    lookup = PairLookup(model, adapter)
    pairs = lookup()
    check_any_trains(pairs)
    owned_pairs(pairs, joined(optimizers))  # refuses split pairs now rather than at the first step
    return StepHandle(optimizers, lookup, pair_map, every)


def check_balancing(every: int, gauge: str, moments: str) -> None:
    """Refuses bad choices of BaLoRA before any training.

    Raises:
        TypeError: if `every` is no integer.
        ValueError: on `every` < 1, an unknown gauge or moments.
    """
    check_count("every", every)
    check_gauge(gauge)
    check_choice(moments)
