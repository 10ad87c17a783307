"""What `compare` can compare: a table of names to PEFT configurations, optimizers and maps after the step.

What PEFT ships comes from PEFT; BaLoRA and iLoRA are this project's callbacks on top. A name may carry options and a
period (`shared.method_names`): `ilora:lambda=0.1,scale=2`, `balora@10`, `lora-plus:ratio=4`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from lorakappa.conditioning.projection import Gauge
from lorakappa.llm.adapters.callbacks import BalanceCallback, RegularizeCallback, StepCallback
from lorakappa.shared.method_names import parse_method_name, with_option

Options = Mapping[str, Any]
MakeOptimizer = Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True)
class Method:
    """How one method trains an adapter.

    Attributes:
        summary: one line for the list of methods.
        source: "PEFT" or "this project" or both.
        config: arguments of `peft.LoraConfig` beside rank, α, targets and dropout.
        optimizer: makes the optimizer from (model, options, AdamW's arguments); None is plain AdamW.
        step_map: makes the callback that follows each step, from (options, every); None for none.
        defaults: options and their default values; the type of a value is that of its default.
    """

    summary: str
    source: str = "PEFT"
    config: Options = field(default_factory=dict)
    optimizer: MakeOptimizer | None = None
    step_map: Callable[[Options, int], StepCallback] | None = None
    defaults: Options = field(default_factory=dict)


def _lora_plus(model: Any, options: Options, adamw: dict[str, Any]) -> torch.optim.Optimizer:
    """PEFT's LoRA+ optimizer; it takes its weight decay under a name of its own and ignores the usual one."""
    from peft.optimizers import create_loraplus_optimizer

    decay = adamw.pop("weight_decay")
    return create_loraplus_optimizer(
        model, torch.optim.AdamW, loraplus_lr_ratio=options["ratio"], loraplus_weight_decay=decay, **adamw
    )


def _riemannian(model: Any, options: Options, adamw: dict[str, Any]) -> torch.optim.Optimizer:
    """PEFT's Riemannian preconditioning around AdamW."""
    from peft.optimizers import create_riemannian_optimizer

    return create_riemannian_optimizer(model, torch.optim.AdamW, reg=options["damping"], **adamw)


def _balance(options: Options, every: int, *, gauge: Gauge = "hyperbalanced") -> StepCallback:
    return BalanceCallback(every=every, gauge=gauge, moments=options["moments"])


def _regularize(options: Options, every: int) -> StepCallback:
    return RegularizeCallback(
        strength=options["lambda"],
        factor=options["scale"],
        power=options["power"],
        trained=options["ratio"] == "trained",
        every=every,
    )


def _regularize_to_balance(options: Options, every: int) -> StepCallback:
    return RegularizeCallback(strength=options["lambda"], ratio=1.0, every=every)


BALORA: Options = {"moments": "keep"}
ILORA: Options = {"lambda": 1.0, "scale": 1.0, "power": 1.0, "ratio": "fixed"}
DAMPING: Options = {"damping": 1e-2}
LORA_PLUS: Options = {"ratio": 16.0}
OURS, BOTH = "this project", "PEFT and this project"

METHODS: dict[str, Method] = {
    "lora": Method("LoRA, B = Kaiming, A = 0"),
    "balora": Method("BaLoRA: P after every step, the paper's gauge", OURS, step_map=_balance, defaults=BALORA),
    "balora-symmetric": Method(
        "BaLoRA, the symmetric gauge", OURS, step_map=partial(_balance, gauge="symmetric"), defaults=BALORA
    ),
    "balora-nearest": Method(
        "BaLoRA, the nearest balanced pair", OURS, step_map=partial(_balance, gauge="nearest"), defaults=BALORA
    ),
    "rslora": Method("rank-stabilized LoRA: scaling α/√r", config={"use_rslora": True}),
    "dora": Method("DoRA: magnitude and direction apart", config={"use_dora": True}),
    "olora": Method("OLoRA: orthonormal start from the base weights", config={"init_lora_weights": "olora"}),
    "pissa": Method("PiSSA: start from the base weights' leading part", config={"init_lora_weights": "pissa"}),
    "lora-ga": Method("LoRA-GA: start from the first gradient", config={"init_lora_weights": "lora_ga"}),
    "lora-plus": Method("LoRA+: A learns `ratio` times faster", optimizer=_lora_plus, defaults=LORA_PLUS),
    "scaled-gd": Method("Riemannian preconditioning (Scaled AdamW)", optimizer=_riemannian, defaults=DAMPING),
    "ilora": Method("iLoRA: penalty λ‖BBᵀ − (r/a)AᵀA‖²", OURS, step_map=_regularize, defaults=ILORA),
    "pilora": Method(
        "πLoRA: Riemannian preconditioning, then iLoRA's penalty step",
        BOTH,
        optimizer=_riemannian,
        step_map=_regularize,
        defaults={**ILORA, **DAMPING},
    ),
    "ilora-balanced": Method(
        "iLoRA's penalty at ratio 1, the classical balancing regularizer",
        OURS,
        step_map=_regularize_to_balance,
        defaults={"lambda": 1.0},
    ),
    "balora-scaled-gd": Method(
        "BaLoRA with Riemannian preconditioning",
        BOTH,
        optimizer=_riemannian,
        step_map=_balance,
        defaults={**BALORA, **DAMPING},
    ),
    "balora-plus": Method(
        "BaLoRA with LoRA+'s learning rates",
        BOTH,
        optimizer=_lora_plus,
        step_map=_balance,
        defaults={**BALORA, **LORA_PLUS},
    ),
}


@dataclass(frozen=True)
class ChosenMethod:
    """A method with its options and period.

    Attributes:
        name: as given.
        base: key of `METHODS`.
        options: all of them, defaults included.
        every: the map follows every `every`-th step.
    """

    name: str
    base: str
    options: Options
    every: int = 1

    @property
    def method(self) -> Method:
        """Its entry in the table."""
        return METHODS[self.base]

    @property
    def rewrites_base(self) -> bool:
        """Whether its start takes something out of the base weights."""
        return self.method.config.get("init_lora_weights") in ("olora", "pissa", "lora_ga")

    def callback(self) -> StepCallback | None:
        """A fresh callback for the Trainer, or None for methods without a map."""
        return None if self.method.step_map is None else self.method.step_map(self.options, self.every)

    def optimizer(self, model: nn.Module, **adamw: Any) -> torch.optim.Optimizer | None:
        """The method's own optimizer with AdamW's arguments (lr, betas, …), or None if AdamW itself will do."""
        return None if self.method.optimizer is None else self.method.optimizer(model, self.options, adamw)


def parse_method(name: str) -> ChosenMethod:
    """The method called NAME[:KEY=VALUE,…][@K].

    Raises:
        ValueError: on an unknown name or option, a value out of range, or a K that is not a positive integer or
            that means nothing because the method has no map after the step.
    """
    found = parse_method_name(name, {base: method.defaults for base, method in METHODS.items()})
    if "@" in name and METHODS[found.base].step_map is None:
        raise ValueError(f"{name!r}: {found.base} does nothing after a step that @{found.every} could make rarer")
    return ChosenMethod(name, found.base, found.options, found.every)


def at_strengths(name: str, strengths: Sequence[float]) -> list[str]:
    """The method at every λ, if it has a λ that its name leaves open; else the name alone."""
    if "lambda" not in parse_method(name).options or "lambda=" in name:
        return [name]
    return [with_option(name, "lambda", strength) for strength in strengths]
