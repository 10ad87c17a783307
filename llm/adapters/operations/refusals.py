"""What is more than a sum of products in an adapter, and therefore refused by name where it would be done wrong."""

from collections.abc import Iterator
from typing import Any, Final

from lorakappa.llm.adapters.factors import shown
from lorakappa.llm.adapters.formats.origins import STARTS
from lorakappa.llm.adapters.formats.stored import Adapter

MAGNITUDES: Final = (".lora_magnitude_vector", ".dora_scale")
"""What names of DoRA's magnitudes contain."""

BIAS: Final = ".lora_B.bias"
"""End of the name of a bias that LoRA adds to A(Bx), before the scale."""

SAME: Final = (
    "fan_in_fan_out",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "target_parameters",
)
"""What configurations must agree on for their products to be of the same matrices."""


def refuse_magnitudes(adapter: Adapter, what: str) -> None:
    """Raises ValueError for DoRA: its magnitudes belong to the norms of W + sAB, which need the base model.

    Args:
        adapter: the adapter.
        what: what cannot be done: "resized" and the like.
    """
    named = next((key for key in adapter.others if any(part in key for part in MAGNITUDES)), None)
    if named is not None or any(config.get("use_dora") for config in _configs(adapter)):
        raise ValueError(
            f"{adapter.path} cannot be {what}: its DoRA magnitudes"
            + (f" ({shown(named)})" if named else "")
            + " were trained for W + sAB and not for another product, and how they would change needs the base weights"
        )


def refuse_start(adapter: Adapter, what: str) -> None:
    """Raises ValueError for starts that change the base weights by what r and α are when the adapter is loaded.

    Args:
        adapter: the adapter.
        what: what cannot be done.
    """
    for config in _configs(adapter):
        start = config.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(STARTS):
            raise ValueError(
                f"{adapter.path} cannot be {what}: init_lora_weights = {shown(start)} takes a part of this rank and "
                "scale out of the base weights whenever the adapter is loaded; save it with "
                "path_initial_model_for_weight_conversion, which makes it a plain LoRA, and use that"
            )


def refuse_biases(adapter: Adapter, what: str) -> None:
    """Raises ValueError for biases inside the update, s(A(Bx) + c), which have the scale s, too.

    Args:
        adapter: the adapter.
        what: what cannot be done.
    """
    named = next((key for key in adapter.others if key.endswith(BIAS)), None)
    if named is not None:
        raise ValueError(f"{adapter.path} cannot be {what}: it has biases inside of its update ({shown(named)})")


def refuse_different(adapters: list[Adapter], *, other_bases: bool) -> None:
    """Raises ValueError unless the adapters change the same matrices of one model, and agree on all that is no product.

    Args:
        adapters: to be added up.
        other_bases: allows different names of the base model.
    """
    first = adapters[0]
    for other in adapters[1:]:
        if other.format != first.format:
            raise ValueError(
                f"{first.path} is of the format {first.format} and {other.path} of {other.format}; convert one first"
            )
        if not other_bases and (names := different_bases(first, other)):
            raise ValueError(
                f"{first.path} was trained on {shown(names[0])} and {other.path} on {shown(names[1])}; where these are "
                "the same weights, say so: --other-bases (other_bases=True)"
            )
        qalora = config_value(first, "use_qalora")  # without it the group size, which older folders lack, means nothing
        for name in (*SAME, "qalora_group_size") if qalora else SAME:
            one, two = (config_value(adapter, name) for adapter in (first, other))
            if (one or None) != (two or None):
                raise ValueError(
                    f"{first.path} and {other.path} cannot be merged: {name} is {shown(one)} there, {shown(two)} here"
                )
        for key in dict.fromkeys([*first.others, *other.others]):
            if not _same_tensor(first, other, key):
                raise ValueError(
                    f"{first.path} and {other.path} cannot be merged: {shown(key)} is no LoRA factor, and not the same "
                    "in both"
                )


def different_bases(first: Adapter, other: Adapter) -> tuple[str, str] | None:
    """The names of two base models, if both adapters have one and they differ."""
    one, two = (config_value(adapter, "base_model_name_or_path") for adapter in (first, other))
    return (one, two) if isinstance(one, str) and isinstance(two, str) and one and two and one != two else None


def config_value(adapter: Adapter, name: str) -> Any:
    """A field of the configuration; of several parts of a pipeline the first one that has it."""
    return next((config[name] for config in _configs(adapter) if config.get(name) is not None), None)


def _configs(adapter: Adapter) -> Iterator[dict[str, Any]]:
    """The configuration of each part of a pipeline."""
    if adapter.format == "peft":
        yield adapter.config
    else:
        yield from (config for config in adapter.config.values() if isinstance(config, dict))


def _same_tensor(first: Adapter, other: Adapter, key: str) -> bool:
    entries = first.weights.entries.get(key), other.weights.entries.get(key)
    if entries[0] is None or entries[1] is None:
        return False
    if (entries[0].dtype, entries[0].shape) != (entries[1].dtype, entries[1].shape):
        return False
    return b"".join(first.weights.chunks(key)) == b"".join(other.weights.chunks(key))
