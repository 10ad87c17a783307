"""Adapters from one format into another: the same factors under other names, scales where the format keeps them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from torch import Size

from lorakappa.conditioning.tolerances import PRODUCT_RTOL
from lorakappa.llm.adapters.formats import COMPONENTS, FORMATS, Format
from lorakappa.llm.adapters.formats.kohya_names import TABLE, kohya_name, written_table
from lorakappa.llm.adapters.formats.module_names import module_names, underscored
from lorakappa.llm.adapters.formats.origins import COMPONENT, component_of, refuse_what_only_peft_expresses
from lorakappa.llm.adapters.formats.peft_folder import WEIGHTS, peft_keys
from lorakappa.llm.adapters.formats.plan import Other, Plan
from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.formats.stored import Adapter, Factors, StoredPair
from lorakappa.llm.adapters.formats.writing import new_place, write_plan
from lorakappa.llm.adapters.products import product_errors, storage_eps

_END = re.compile(r"\.(lora_embedding_B|lora_B\.weight|lora_B|lora(_linear_layer)?\.up\.weight|lora_up\.weight)$")


MAGNITUDES: Final = ("lora_magnitude_vector", "lora_magnitude_vector.weight", "dora_scale")
"""Ends of the names of DoRA's magnitudes."""

BIASES: Final = ("lora_B.bias", "lora_up.bias")
"""Ends of the names of biases of an update."""


@dataclass(frozen=True)
class _Layer:
    """A layer on its way.

    Attributes:
        adapter: where it is.
        pairs: those that share its tensors, with component and module known.
        magnitude: key of DoRA's magnitude.
        bias: key of a bias of the update.
    """

    adapter: Adapter
    pairs: list[StoredPair]
    magnitude: str | None
    bias: str | None


def convert_adapter(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    format: Format,
    *,
    component: str | None = None,
    names_from: str | os.PathLike[str] | None = None,
) -> dict[str, float]:
    """Writes an adapter in another format; the products scale · AB are compared as stored.

    Several parts of a pipeline are one file of diffusers or kohya, and folders `unet`, `text_encoder`, … of PEFT.

    Args:
        source: an adapter in any format, or several PEFT folders for parts of one pipeline.
        target: file or folder to write (`writing.copied_adapter`).
        format: one of `FORMATS`.
        component: the part that a PEFT folder is for, where the folder does not say.
        names_from: the model or pipeline of a kohya file, whose names cannot be told from the file alone; only headers
            are read.

    Returns:
        The relative change of every product by name of its pair; 0 where nothing had to be rounded.

    Raises:
        OSError: if files cannot be read or written, or the target is in use.
        ValueError: for what is no adapter, and what the new format cannot express.
    """
    if format not in FORMATS:
        raise ValueError(f"the format must be one of {', '.join(FORMATS)}, not {format!r}")
    if component is not None and component not in COMPONENTS:
        raise ValueError(f"a component must be one of {', '.join(COMPONENTS)}, not {component!r}")
    adapters = [read_adapter(path) for path in ([source] if isinstance(source, str | os.PathLike) else source)]
    names = underscored(module_names(names_from)) if names_from is not None else {}
    layers = [layer for adapter in adapters for layer in _layers(adapter, format, component, names)]
    _refuse_two_in_one(layers)
    if format != "peft":
        plan, origins = _plan(layers, format)
        with new_place(target, format) as path:
            return _write(plan, origins, path)
    parts = dict.fromkeys(layer.pairs[0].component for layer in layers)
    changes: dict[str, float] = {}
    with new_place(target, "peft") as path:
        for part in parts:
            folder = path.parent / part if len(parts) > 1 else path.parent
            folder.mkdir(exist_ok=True)
            plan, origins = _plan([layer for layer in layers if layer.pairs[0].component == part], format)
            changes |= _write(plan, origins, folder / WEIGHTS)
    return changes


def _layers(
    adapter: Adapter, format: Format, component: str | None, names: dict[tuple[str, str], list[str]]
) -> list[_Layer]:
    """The layers of an adapter with all that belongs to them; whatever belongs to none is refused."""
    if format != "peft" and adapter.format == "peft":
        refuse_what_only_peft_expresses(adapter)
    layers, left = [], set(adapter.others)
    for pairs in adapter.layers():
        known = [_known(adapter, pair, format, component, names) for pair in pairs]
        stem = _END.sub("", pairs[0].left)
        magnitude = next((f"{stem}.{end}" for end in MAGNITUDES if f"{stem}.{end}" in left), None)
        bias = next((f"{stem}.{end}" for end in BIASES if f"{stem}.{end}" in left), None)
        left -= {magnitude, bias}
        layers.append(_Layer(adapter, known, magnitude, bias))
    if left:
        raise ValueError(
            f"{adapter.path} has tensors that belong to no pair, such as {sorted(left)[0]}: they have no place in "
            f"another format ({len(left)} such tensors); nothing was written"
        )
    parts = {layer.pairs[0].component for layer in layers}
    if (
        len({(layer.pairs[0].component, layer.magnitude is None) for layer in layers}) > len(parts)
        and format != "kohya"
    ):
        raise ValueError(f"{adapter.path} has DoRA's magnitudes in some layers only, which {format} cannot express")
    if len({(layer.pairs[0].component, layer.bias is None) for layer in layers}) > len(parts):
        raise ValueError(f"{adapter.path} has biases in some layers only, which {format} cannot express")
    return layers


def _known(
    adapter: Adapter, pair: StoredPair, format: Format, component: str | None, names: dict[tuple[str, str], list[str]]
) -> StoredPair:
    """The pair with its component and module, or a ValueError that says what is missing."""
    part = component if adapter.format == "peft" and component else pair.component or component_of(adapter)
    if not part and format != "peft":
        raise ValueError(
            f"{adapter.path} does not say which part of a pipeline it adapts; give the component, one of "
            + ", ".join(COMPONENTS)
        )
    if pair.module is not None and not names:
        return replace(pair, component=part)
    if adapter.format != "kohya":
        return replace(pair, component=part)
    if not names:
        raise ValueError(
            f"{pair.name} in {adapter.path} is a name in which `_` stands for dots and itself; name the model or the "
            "pipeline that it adapts, whose headers tell the names of its modules"
        )
    bare = re.sub(r"^lora_(unet|te[123]?|transformer)_", "", pair.name)
    single = {key[0] for key in names} == {""}
    found = names.get(("" if single else part, bare), [])
    if len(found) != 1:
        raise ValueError(
            f"{pair.name} in {adapter.path} is "
            + (f"the name of {' and of '.join(found)}" if found else "no module of the model that was named")
        )
    return replace(pair, component=part, module=found[0])


def _refuse_two_in_one(layers: list[_Layer]) -> None:
    seen = set()
    for layer in layers:
        place = layer.pairs[0].component, layer.pairs[0].module, layer.pairs[0].kind == "embedding"
        if place in seen:
            raise ValueError(f"two adapters for {'.'.join(place[:2])}: merge them first")  # type: ignore[arg-type]
        seen.add(place)


def _plan(layers: list[_Layer], format: Format) -> tuple[Plan, dict[tuple[str, int], tuple[Adapter, StoredPair]]]:
    """What is to be written, and where each of its pairs comes from."""
    second = any(layer.pairs[0].component == "text_encoder_2" for layer in layers)
    pairs: list[StoredPair] = []
    origins: dict[tuple[str, int], tuple[Adapter, StoredPair]] = {}
    others: dict[str, Other] = {}
    names: dict[str, tuple[str, str]] = {}
    for layer in layers:
        first = layer.pairs[0]
        component, module = first.component, str(first.module)
        if format == "peft":
            left, right = peft_keys(module, first.kind)
            stem = _END.sub("", left)
        elif first.kind in ("embedding", "experts"):
            raise ValueError(f"{first.name} is an adapter of {first.kind}, which {format} cannot express")
        elif format == "diffusers":
            stem = f"{component}.{module}"
            left, right = f"{stem}.lora_B.weight", f"{stem}.lora_A.weight"
        else:
            stem = kohya_name(component, module, second)
            if stem in names:
                raise ValueError(f"{module} and {names[stem][1]} have one name in kohya's files, {stem}")
            names[stem] = component, module
            left, right = f"{stem}.lora_up.weight", f"{stem}.lora_down.weight"
        for pair in layer.pairs:
            new = replace(pair, left=left, right=right)
            pairs.append(new)
            origins[left, pair.expert] = layer.adapter, pair
        if layer.magnitude is not None:
            name = f"{stem}.dora_scale" if format == "kohya" else f"{stem}.lora_magnitude_vector"
            others[name] = _magnitude(layer, format)
        if layer.bias is not None:
            if format == "kohya":
                raise ValueError(f"{first.name} has a bias in its update, which kohya's files cannot express")
            others[f"{stem}.lora_B.bias"] = Other(layer.adapter.weights, layer.bias)
    metadata = {"format": "pt"}
    config: dict[str, Any] = {}
    if format == "kohya":
        metadata |= {TABLE: written_table(names), "ss_network_module": "networks.lora"}
        metadata |= {"ss_network_dim": "", "ss_network_alpha": ""}
    elif format == "peft":
        component = layers[0].pairs[0].component
        metadata |= {COMPONENT: component} if component else {}
        config = _peft_config(layers)
    return Plan(format, pairs, {}, others, metadata, config), origins


def _magnitude(layer: _Layer, format: Format) -> Other:
    """DoRA's magnitude, one number for each row of the weight, in the shape that a format gives it."""
    weights, key, pair = layer.adapter.weights, str(layer.magnitude), layer.pairs[0]
    shape, a = weights.shape(key), pair.shape[0]
    if shape.numel() != a or (layer.adapter.format == "kohya" and shape[0] != a):
        raise ValueError(
            f"{key} has shape {tuple(shape)}: a magnitude for each input, while PEFT's DoRA has one for each output"
        )
    ones = [1] * len(pair.kernel)
    if format == "kohya":
        return Other(weights, key, Size([a, 1, *ones]))
    return Other(weights, key, Size([1, a, *ones]) if pair.kernel else Size([a]))


def _peft_config(layers: list[_Layer]) -> dict[str, Any]:
    """A configuration: the one that is there, or one that says what is needed."""
    adapter = layers[0].adapter
    if adapter.format == "peft":
        return adapter.config
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": 1,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({str(layer.pairs[0].module) for layer in layers}),
        "use_dora": layers[0].magnitude is not None,
        "lora_bias": layers[0].bias is not None,
    }


def _write(plan: Plan, origins: dict[tuple[str, int], tuple[Adapter, StoredPair]], path: Path) -> dict[str, float]:
    """Writes a plan and compares what is read again with where it came from."""
    changes: dict[str, float] = {}

    def factors(pair: StoredPair) -> Factors:
        adapter, old = origins[pair.left, pair.expert]
        return adapter.kept(old)

    def check(written: Adapter) -> None:
        if {(pair.left, pair.expert) for pair in written.pairs} != origins.keys():
            raise ValueError(f"the names of the modules do not survive in a file of {plan.format}; nothing was written")
        for new in written.pairs:
            adapter, old = origins[new.left, new.expert]
            A, B = adapter.factors(old)
            X, Y = written.factors(new)
            change, error = product_errors(A.double() * old.scale, B, X.double() * new.scale, Y)
            if not error <= PRODUCT_RTOL * storage_eps(*new.dtypes):
                raise ValueError(f"the product of {old.name} would change by {change:.2g}; nothing was written")
            changes[old.name] = change

    write_plan(plan, factors, path, check)
    return changes
