"""Which layers PEFT's configuration is for, with ranks and scales: `r`, `lora_alpha`, and patterns for what differs."""

import math
import re
import statistics
from collections.abc import Callable, Iterable
from typing import Any, Final

from lorakappa.conditioning.tolerances import SCALE_RTOL
from lorakappa.llm.adapters.formats.peft_config import AdapterConfig

SPELLINGS: Final[tuple[Callable[[str], str], ...]] = (str, re.escape, lambda module: f"^{re.escape(module)}")
"""A module's name as a pattern: plain, as a regular expression, and as one that no longer name ends with."""


def with_ranks(content: dict[str, Any], layers: Iterable[tuple[str, int, float]]) -> dict[str, Any]:
    """A configuration for other ranks and scales, with what is most frequent as `r` and `lora_alpha`.

    PEFT multiplies AB by α/r (rsLoRA: α/√r) with the r of the layer, so that a layer of another rank needs an entry in
    both patterns to keep its scale.

    Args:
        content: of adapter_config.json.
        layers: name, rank and scale of every layer.

    Returns:
        A copy, or the same where it gives these ranks and scales already.

    Raises:
        ValueError: for patterns in it that cannot be read, and names that no pattern tells apart.
    """
    layers = list(layers)
    old = AdapterConfig.model_validate(content)
    if all((old.rank(module), old.scale(module, r)) == (r, scale) for module, r, scale in layers):
        return content
    ranks = {module: r for module, r, _ in layers}
    alphas = {module: _whole(scale * (math.sqrt(r) if old.use_rslora else r)) for module, r, scale in layers}
    r, alpha = statistics.mode(ranks.values()), statistics.mode(alphas.values())
    for spelled in SPELLINGS:
        rank_pattern = {spelled(module): value for module, value in ranks.items() if value != r}
        alpha_pattern = {spelled(module): value for module, value in alphas.items() if value != alpha}
        new = {"r": r, "lora_alpha": alpha, "rank_pattern": rank_pattern, "alpha_pattern": alpha_pattern}
        if _gives({**content, **new}, layers):
            return {**content, **new}
    raise ValueError("the layers' names cannot be told apart by PEFT's rank_pattern")


def with_modules(content: dict[str, Any], modules: Iterable[str]) -> dict[str, Any]:
    """A configuration that names these modules and no others.

    Args:
        content: of adapter_config.json.
        modules: names in the model.
    """
    return {**content, "target_modules": sorted(set(modules)), "layers_to_transform": None, "layers_pattern": None}


def _gives(content: dict[str, Any], layers: list[tuple[str, int, float]]) -> bool:
    """Whether PEFT takes these ranks and scales from a configuration; a scale is a quotient, rounded once."""
    try:
        config = AdapterConfig.model_validate(content)
        return all(
            config.rank(module) == r and math.isclose(config.scale(module, r), scale, rel_tol=SCALE_RTOL)
            for module, r, scale in layers
        )
    except ValueError:
        return False


def _whole(alpha: float) -> float:
    """An integer where it is one, as people write them."""
    return int(alpha) if float(alpha).is_integer() else alpha
