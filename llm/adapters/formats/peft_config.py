"""adapter_config.json as far as it is read here, checked before anything relies on it."""

import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from lorakappa.llm.adapters.factors import REFUSED_VARIANTS, CannotBalanceError, shown
from lorakappa.shared.schemas import read_json, validated

CONFIG: Final = "adapter_config.json"

DEFAULT_ALPHA: Final = 8
"""PEFT's `lora_alpha` where a configuration names none."""

LARGEST: Final = 16 * 2**20
"""Bytes above which a file is no adapter_config.json; real ones have a few thousand."""

_QUANTIFIED_GROUP = re.compile(r"\)[*+{]")

VARIANT_FIELDS: Final = {"kasa_config": "kasa", "use_bdlora": "bdlora", "monteclora_config": "monteclora"}
"""Fields of adapter_config.json that switch on a variant in `factors.REFUSED_VARIANTS`."""


class AdapterConfig(BaseModel):
    """What is read of PEFT's adapter_config.json; all else is carried along unread.

    Attributes:
        r: rank of all layers that `rank_pattern` does not name.
        rank_pattern: rank by a pattern of module names.
        lora_alpha: α of all layers that `alpha_pattern` does not name; the update is α/r · AB.
        alpha_pattern: α by a pattern of module names.
        use_rslora: whether the update is α/√r · AB instead.
        target_parameters: names of the parameters adapted directly, such as stacked experts.
        init_lora_weights: how the training began.
        kasa_config: set for KaSA.
        use_bdlora: set for BD-LoRA.
        monteclora_config: set for MonteCLoRA.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    r: int | None = Field(default=None, ge=1, le=2**31)
    rank_pattern: dict[str, int] | None = None
    lora_alpha: float | None = Field(default=None, allow_inf_nan=False)
    alpha_pattern: dict[str, Annotated[float, Field(allow_inf_nan=False)]] | None = None
    use_rslora: bool | None = None
    target_parameters: list[str] | None = None
    init_lora_weights: bool | str | None = None
    kasa_config: Any = None
    use_bdlora: Any = None
    monteclora_config: Any = None

    @property
    def ranks(self) -> set[int]:
        """The ranks that its layers may have; empty where it does not say."""
        return set() if self.r is None else {self.r, *(self.rank_pattern or {}).values()}

    def rank(self, module: str, default: int = 0) -> int:
        """The rank that PEFT gives to a layer.

        Args:
            module: name of the layer in its model.
            default: where the configuration does not say.
        """
        patterns = self.rank_pattern or {}
        return next((patterns[key] for key in patterns if names_module(key, module)), self.r or default)

    def scale(self, module: str, r: int) -> float:
        """What PEFT multiplies a layer's AB with.

        Args:
            module: name of the layer in its model.
            r: number of columns of A.

        Raises:
            ValueError: for a pattern that is no regular expression, or one that may take for ever.
        """
        patterns = self.alpha_pattern or {}
        alpha = DEFAULT_ALPHA if self.lora_alpha is None else self.lora_alpha
        alpha = next((patterns[key] for key in patterns if names_module(key, module)), alpha)
        return alpha / (math.sqrt(r) if self.use_rslora else r)


def names_module(pattern: str, module: str) -> bool:
    """Whether a pattern of `rank_pattern` or `alpha_pattern` names a module, as PEFT matches them.

    Args:
        pattern: a name, the end of a name behind a dot, or a regular expression for these.
        module: name of a module in its model.

    Raises:
        ValueError: for a pattern that is no regular expression, or one that may take for ever.
    """
    return _compiled(pattern).match(module) is not None


@lru_cache(maxsize=2**14)
def _compiled(pattern: str) -> re.Pattern[str]:
    if _QUANTIFIED_GROUP.search(pattern):
        raise ValueError(f"{CONFIG} has a pattern that may take for ever to match: {shown(pattern)}")
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, RecursionError, OverflowError):
        raise ValueError(f"{CONFIG} has a pattern that is no regular expression: {shown(pattern)}") from None


def read_config(folder: Path) -> tuple[dict[str, Any], AdapterConfig]:
    """adapter_config.json, refused where it says that the update is not a free product AB.

    Args:
        folder: of the adapter.

    Returns:
        Everything in it, and what is understood here.

    Raises:
        OSError: if it is missing or cannot be read.
        CannotBalanceError: for variants of LoRA that are not a free product AB.
        ValueError: if it is no configuration of a LoRA adapter.
    """
    path = folder / CONFIG
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder with a PEFT adapter")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}; name the folder that PEFT's save_pretrained wrote")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size} bytes: that is no configuration of an adapter")
    content = read_json(path)
    kind = content.get("peft_type") if isinstance(content, dict) else None
    if kind != "LORA":
        described = shown(kind) if kind else "no adapter"
        raise ValueError(f"{path} describes {described}, not LORA: it has no pairs (A, B) to look at")
    return content, checked_config(content, folder, str(path))


def checked_config(content: Any, source: Path, where: str) -> AdapterConfig:
    """What is understood of a configuration, refused where it says that the update is not a free product AB.

    Args:
        content: as parsed.
        source: the adapter.
        where: the configuration is, for messages.

    Raises:
        CannotBalanceError: for variants of LoRA that are not a free product AB.
        ValueError: if a field has the wrong type.
    """
    config = validated(content, AdapterConfig, where)
    for field, variant in VARIANT_FIELDS.items():
        if getattr(config, field):
            raise CannotBalanceError(str(source), REFUSED_VARIANTS[variant])
    if config.init_lora_weights == "mica":
        raise CannotBalanceError(str(source), REFUSED_VARIANTS["mica"])
    return config
