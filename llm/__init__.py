"""BaLoRA on real models: PEFT adapters balanced in memory, while they train, and on disk.

Names are loaded when first used: importing the package costs neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm.adapters import balance_adapter, read_adapter
    from llm.audit import LayerAudit, audit_adapter, audit_pair
    from llm.balancing import BalanceReport, balance_model
    from llm.callback import BalanceCallback
    from llm.factors import CannotBalanceError
    from llm.hooks import BalanceHandle, balance_after_step
    from llm.pairs import LoraPair, lora_pairs

_HOMES = {
    "BalanceCallback": "callback",
    "BalanceHandle": "hooks",
    "BalanceReport": "balancing",
    "CannotBalanceError": "factors",
    "LayerAudit": "audit",
    "LoraPair": "pairs",
    "audit_adapter": "audit",
    "audit_pair": "audit",
    "balance_adapter": "adapters",
    "balance_after_step": "hooks",
    "balance_model": "balancing",
    "lora_pairs": "pairs",
    "read_adapter": "adapters",
}

__all__ = [
    "BalanceCallback",
    "BalanceHandle",
    "BalanceReport",
    "CannotBalanceError",
    "LayerAudit",
    "LoraPair",
    "audit_adapter",
    "audit_pair",
    "balance_adapter",
    "balance_after_step",
    "balance_model",
    "lora_pairs",
    "read_adapter",
]


def __getattr__(name: str) -> Any:
    """Loads a public name from its file."""
    if name not in _HOMES:
        raise AttributeError(f"module 'llm' has no attribute {name!r}")
    return getattr(import_module(f"llm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__
