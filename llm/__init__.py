"""BaLoRA and iLoRA on real models: PEFT adapters balanced in memory, while they train, and on disk; methods compared.

Names are loaded when first used: importing the package costs neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm.adapters import balance_adapter, read_adapter
    from llm.audit import LayerAudit, audit_adapter, audit_pair
    from llm.balancing import BalanceReport, balance_model
    from llm.callback import BalanceCallback, RegularizeCallback
    from llm.factors import CannotBalanceError
    from llm.hooks import StepHandle, balance_after_step, map_after_step
    from llm.imbalance import regularize_after_step
    from llm.pairs import LoraPair, lora_pairs

_HOMES = {
    "BalanceCallback": "callback",
    "StepHandle": "hooks",
    "BalanceReport": "balancing",
    "CannotBalanceError": "factors",
    "LayerAudit": "audit",
    "LoraPair": "pairs",
    "RegularizeCallback": "callback",
    "audit_adapter": "audit",
    "audit_pair": "audit",
    "balance_adapter": "adapters",
    "balance_after_step": "hooks",
    "balance_model": "balancing",
    "lora_pairs": "pairs",
    "map_after_step": "hooks",
    "read_adapter": "adapters",
    "regularize_after_step": "imbalance",
}

__all__ = [
    "BalanceCallback",
    "BalanceReport",
    "CannotBalanceError",
    "LayerAudit",
    "LoraPair",
    "RegularizeCallback",
    "StepHandle",
    "audit_adapter",
    "audit_pair",
    "balance_adapter",
    "balance_after_step",
    "balance_model",
    "lora_pairs",
    "map_after_step",
    "read_adapter",
    "regularize_after_step",
]


def __getattr__(name: str) -> Any:
    """Loads a public name from its file."""
    if name not in _HOMES:
        raise AttributeError(f"module 'llm' has no attribute {name!r}")
    return getattr(import_module(f"llm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
