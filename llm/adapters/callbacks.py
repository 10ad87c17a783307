"""Maps after or before the step for Hugging Face's Trainer: `Trainer(…, callbacks=[BalanceCallback()])`."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lorakappa.conditioning.fisher_gauge import DAMPING
from lorakappa.conditioning.projection import Gauge
from lorakappa.llm.adapters.arguments import check_count
from lorakappa.llm.adapters.fisher_balancing import check_fisher_balancing, fisher_balance_after_step
from lorakappa.llm.adapters.gradient_moments import DECAY
from lorakappa.llm.adapters.handles import Handle
from lorakappa.llm.adapters.hooks import balance_after_step, check_balancing
from lorakappa.llm.adapters.moments import Moments
from lorakappa.llm.adapters.refactoring import refactor_before_step
from lorakappa.llm.adapters.regularizing import check_penalty, regularize_after_step
from lorakappa.llm.adapters.rescaling import rescale_after_step


class StepCallback(TrainerCallback):
    """Hooks a map of the LoRA pairs, or of their gradients, onto the Trainer's optimizer while it trains.

    Nothing needs saving: a resumed training goes on with its global step as count, and what a map remembers is in the
    state of the optimizer.

    Args:
        attach: hooks the map onto (optimizer, model), such as `balance_after_step` with its options.

    Attributes:
        handle: the running map, or the last one; None before the training.
    """

    def __init__(self, attach: Callable[[Any, nn.Module], Handle]) -> None:
        self.attach = attach
        self.handle: Handle | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hooks the optimizer that the Trainer really steps."""
        self._remove()
        self.handle = self.attach(kwargs["optimizer"], kwargs["model"])
        self.handle.steps = state.global_step

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves the optimizer as it was found."""
        self._remove()

    def _remove(self) -> None:
        if self.handle is not None:
            self.handle.remove()


class BalanceCallback(StepCallback):
    """BaLoRA: balances the adapter after every real optimizer step.

    Args:
        every: number of steps between two balancings.
        gauge: which balanced pair (`conditioning.balance`).
        adapter: name of one adapter; None means all that train.
        moments: what becomes of the optimizer's moments (`llm.adapters.moments`).
    """

    def __init__(
        self,
        *,
        every: int = 1,
        gauge: Gauge = "hyperbalanced",
        adapter: str | None = None,
        moments: Moments = "keep",
    ) -> None:
        check_balancing(every, gauge, moments)
        super().__init__(partial(balance_after_step, every=every, gauge=gauge, adapter=adapter, moments=moments))


class FisherBalanceCallback(StepCallback):
    """BaLoRA as the loss sees it: every pair in the gauge that its gradients ask for, after every real optimizer step.

    Args:
        damping: δ > 0: what pulls towards balance (`conditioning.fisher_balance`).
        decay: weight of the past in the running means of second moments.
        every: number of steps between two changes of gauge.
        gauge: which of the pairs that have these second moments.
        adapter: name of one adapter; None means all that train.
        moments: what becomes of the optimizer's moments (`llm.adapters.moments`).
    """

    def __init__(
        self,
        *,
        damping: float = DAMPING,
        decay: float = DECAY,
        every: int = 1,
        gauge: Gauge = "symmetric",
        adapter: str | None = None,
        moments: Moments = "keep",
    ) -> None:
        check_fisher_balancing(damping, decay, every, gauge, moments)
        super().__init__(
            partial(
                fisher_balance_after_step,
                damping=damping,
                decay=decay,
                every=every,
                gauge=gauge,
                adapter=adapter,
                moments=moments,
            )
        )


class RefactorCallback(StepCallback):
    """RefLoRA: the gradients of the factors multiplied before every real optimizer step.

    Args:
        adapter: name of one adapter; None means all that train.
    """

    def __init__(self, *, adapter: str | None = None) -> None:
        super().__init__(partial(refactor_before_step, adapter=adapter))


class RescaleCallback(StepCallback):
    """RefLoRA-S: equal norms of both factors of every pair after every real optimizer step.

    Args:
        every: number of steps between two of these.
        adapter: name of one adapter; None means all that train.
    """

    def __init__(self, *, every: int = 1, adapter: str | None = None) -> None:
        check_count("every", every)
        super().__init__(partial(rescale_after_step, every=every, adapter=adapter))


class RegularizeCallback(StepCallback):
    """iLoRA: one step on the imbalance penalty after every real optimizer step.

    Args:
        strength: λ of the penalty (`llm.adapters.regularizing`).
        ratio: c of the penalty ‖BBᵀ − cAᵀA‖²; None means factor·(r/a)^power, layer by layer.
        factor: multiple of the paper's ratio.
        power: of the paper's ratio.
        trained: whether each layer's ratio is trained, from that value on.
        every: number of optimizer steps between two of these.
        adapter: name of one adapter; None means all that train.
    """

    def __init__(
        self,
        *,
        strength: float = 1.0,
        ratio: float | None = None,
        factor: float = 1.0,
        power: float = 1.0,
        trained: bool = False,
        every: int = 1,
        adapter: str | None = None,
    ) -> None:
        check_count("every", every)
        check_penalty(strength, ratio, factor, power)
        super().__init__(
            partial(
                regularize_after_step,
                strength=strength,
                ratio=ratio,
                factor=factor,
                power=power,
                trained=trained,
                every=every,
                adapter=adapter,
            )
        )
