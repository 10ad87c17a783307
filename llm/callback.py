"""BaLoRA for Hugging Face's Trainer: `Trainer(…, callbacks=[BalanceCallback()])`."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from conditioning.projection import Gauge
from llm.hooks import BalanceHandle, balance_after_step
from llm.moments import Moments


class BalanceCallback(TrainerCallback):
    """Balances the adapter after every real optimizer step while the Trainer trains.

    Nothing needs saving: a resumed training goes on with its global step as count.

    Args:
        every: number of steps between two balancings.
        gauge: which balanced pair (`conditioning.balance`).
        adapter: name of one adapter; None means all that train.
        moments: what becomes of the optimizer's moments (`llm.moments`).
    """

    def __init__(
        self,
        *,
        every: int = 1,
        gauge: Gauge = "hyperbalanced",
        adapter: str | None = None,
        moments: Moments = "keep",
    ) -> None:
        self.every = every
        self.gauge = gauge
        self.adapter = adapter
        self.moments = moments
        self.handle: BalanceHandle | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hooks the optimizer that the Trainer really steps."""
        self._remove()
        self.handle = balance_after_step(
            kwargs["optimizer"],
            kwargs["model"],
            every=self.every,
            gauge=self.gauge,
            adapter=self.adapter,
            moments=self.moments,
        )
        self.handle.steps = state.global_step

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leaves the optimizer as it was found."""
        self._remove()

    def _remove(self) -> None:
        if self.handle is not None:
            self.handle.remove()
