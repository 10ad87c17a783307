"""What each method that `compare` can compare does: PEFT configurations, optimizers and maps after the step by name.

What PEFT ships comes from PEFT; BaLoRA, iLoRA and RefLoRA are this project's callbacks on top. Names, labels, options
and their defaults stand in the vocabulary (`lorakappa.shared.methods`), which needs no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from lorakappa.conditioning.projection import Gauge
from lorakappa.llm.adapters.callbacks import (
    BalanceCallback,
    FisherBalanceCallback,
    RefactorCallback,
    RegularizeCallback,
    RescaleCallback,
    StepCallback,
)
from lorakappa.llm.adapters.pairs import lora_pairs
from lorakappa.shared.methods import parse_method_name

Options = Mapping[str, Any]
MakeOptimizer = Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True)
class Recipe:
    """How one method trains an adapter; what is left out is plain LoRA's.

    Attributes:
        config: arguments of `peft.LoraConfig` beside rank, α, targets and dropout.
        optimizer: makes the optimizer from (model, options, AdamW's arguments); None is plain AdamW.
        step_map: makes the callback that follows each step, from (options, every); None for none.
        gradient_map: makes the callback that changes the gradients before each step; None for none.
    """

    config: Options = field(default_factory=dict)
    optimizer: MakeOptimizer | None = None
    step_map: Callable[[Options, int], StepCallback] | None = None
    gradient_map: Callable[[], StepCallback] | None = None


def _lora_plus(model: Any, options: Options, adamw: dict[str, Any]) -> torch.optim.Optimizer:
    """PEFT's LoRA+ optimizer; it takes its weight decay under a name of its own and ignores the usual one."""
    from peft.optimizers import create_loraplus_optimizer

    decay = adamw.pop("weight_decay")
    return create_loraplus_optimizer(
        model, torch.optim.AdamW, loraplus_lr_ratio=options["lr-ratio"], loraplus_weight_decay=decay, **adamw
    )


def _riemannian(model: Any, options: Options, adamw: dict[str, Any]) -> torch.optim.Optimizer:
    """PEFT's Riemannian preconditioning around AdamW."""
    from peft.optimizers import create_riemannian_optimizer

    return create_riemannian_optimizer(model, torch.optim.AdamW, reg=options["damping"], **adamw)


def _lora_rite(model: Any, options: Options, adamw: dict[str, Any]) -> torch.optim.Optimizer:
    """LoRA-RITE (Yen et al. 2025, arXiv 2410.20625) as pytorch_optimizer has it, with its own defaults otherwise.

    It takes a list of PEFT's lora_A and lora_B by turns, each a matrix. The products that it trains do not depend on
    the gauge of the start but for rounding (tested); clipping the factors' gradients before it does.
    """
    from pytorch_optimizer import LoRARite

    pairs = [pair for pair in lora_pairs(model) if pair.trainable]
    for pair in pairs:
        if pair.left.ndim != 2 or pair.experts > 1:
            raise ValueError(f"{pair.name}: LoRA-RITE takes factors that are one matrix each")
    factors = [factor for pair in pairs for factor in (pair.right, pair.left)]
    trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    if trained != {id(factor) for factor in factors} or len(trained) < len(factors):
        raise ValueError("LoRA-RITE trains pairs of LoRA factors, each its own, and nothing beside them")
    optimizer: torch.optim.Optimizer = LoRARite(factors, **adamw)
    return optimizer


def _balance(options: Options, every: int, *, gauge: Gauge = "hyperbalanced") -> StepCallback:
    return BalanceCallback(every=every, gauge=gauge, moments=options["moments"])


def _fisher_balance(options: Options, every: int) -> StepCallback:
    return FisherBalanceCallback(
        damping=options["delta"],
        decay=options["decay"],
        every=every,
        gauge=options["gauge"],
        moments=options["moments"],
    )


def _regularize(options: Options, every: int) -> StepCallback:
    return RegularizeCallback(
        strength=options["lambda"],
        factor=options["factor"],
        power=options["power"],
        trained=options["trained"] == "yes",
        every=every,
    )


def _regularize_to_balance(options: Options, every: int) -> StepCallback:
    return RegularizeCallback(strength=options["lambda"], ratio=1.0, every=every)


def _rescale(options: Options, every: int) -> StepCallback:
    return RescaleCallback(every=every)


RECIPES: dict[str, Recipe] = {
    "lora": Recipe(),
    "balora": Recipe(step_map=_balance),
    "balora-symmetric": Recipe(step_map=partial(_balance, gauge="symmetric")),
    "balora-nearest": Recipe(step_map=partial(_balance, gauge="nearest")),
    "balora-fisher": Recipe(step_map=_fisher_balance),
    "rslora": Recipe(config={"use_rslora": True}),
    "dora": Recipe(config={"use_dora": True}),
    "olora": Recipe(config={"init_lora_weights": "olora"}),
    "pissa": Recipe(config={"init_lora_weights": "pissa"}),
    "lora-ga": Recipe(config={"init_lora_weights": "lora_ga"}),
    "balora-ga": Recipe(config={"init_lora_weights": "lora_ga"}, step_map=_balance),
    "lora-plus": Recipe(optimizer=_lora_plus),
    "reflora": Recipe(gradient_map=RefactorCallback),
    "reflora-scalar": Recipe(step_map=_rescale),
    "lora-rite": Recipe(optimizer=_lora_rite),
    "scaled-gd": Recipe(optimizer=_riemannian),
    "ilora": Recipe(step_map=_regularize),
    "pilora": Recipe(optimizer=_riemannian, step_map=_regularize),
    "ilora-balanced": Recipe(step_map=_regularize_to_balance),
    "balora-scaled-gd": Recipe(optimizer=_riemannian, step_map=_balance),
    "balora-plus": Recipe(optimizer=_lora_plus, step_map=_balance),
}
"""What each name of the vocabulary does."""


@dataclass(frozen=True)
class ChosenMethod:
    """A method with its options and period.

    Attributes:
        name: as given.
        base: key of `RECIPES`.
        options: all of them, defaults included.
        every: the map follows every `every`-th step.
    """

    name: str
    base: str
    options: Options
    every: int = 1

    @property
    def method(self) -> Recipe:
        """What it does."""
        return RECIPES[self.base]

    @property
    def rewrites_base(self) -> bool:
        """Whether its start takes something out of the base weights."""
        return self.method.config.get("init_lora_weights") in ("olora", "pissa", "lora_ga")

    def callback(self) -> StepCallback | None:
        """A fresh callback for the Trainer, or None for methods without a map."""
        if self.method.gradient_map is not None:
            return self.method.gradient_map()
        return None if self.method.step_map is None else self.method.step_map(self.options, self.every)

    def optimizer(self, model: nn.Module, **adamw: Any) -> torch.optim.Optimizer | None:
        """The method's own optimizer with AdamW's arguments (lr, betas, …), or None if AdamW itself will do."""
        return None if self.method.optimizer is None else self.method.optimizer(model, self.options, adamw)


def parse_method(name: str) -> ChosenMethod:
    """The method called NAME[:KEY=VALUE,…][@K].

    Raises:
        ValueError: as `lorakappa.shared.methods.parse_method_name`.
    """
    found = parse_method_name(name, "llm")
    return ChosenMethod(name, found.base, found.options, found.every)
