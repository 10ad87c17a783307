"""Names in kohya's files: a prefix for the part of the pipeline, and the module's name with its dots written as `_`.

That cannot be undone without knowing the model, since names have `_` of their own. Files that are written here carry a
table. Of others the names are taken apart by the words of diffusers' UNets, also where they are those of the original
code (`sgm_names`), and CLIP's text encoders, and only where every word is one of them.
"""

import json
from collections.abc import Mapping
from typing import Final

from lorakappa.llm.adapters.factors import shown
from lorakappa.llm.adapters.formats.sgm_names import from_sgm
from lorakappa.shared.schemas import parse_text

TABLE: Final = "lorakappa_modules"
"""Name of the text in the header that holds the table: JSON, names in the file to `component.module`."""

PREFIXES: Final = {
    "lora_unet": "unet",
    "lora_te": "text_encoder",
    "lora_te1": "text_encoder",
    "lora_te2": "text_encoder_2",
    "lora_te3": "text_encoder_3",
    "lora_transformer": "transformer",
}
"""Components by the prefixes of their modules' names."""

COMPOUNDS: Final = (
    "single_transformer_blocks",
    "transformer_blocks",
    "time_embedding",
    "add_embedding",
    "time_emb_proj",
    "conv_shortcut",
    "text_projection",
    "down_blocks",
    "up_blocks",
    "mid_block",
    "text_model",
    "self_attn",
    "add_q_proj",
    "add_k_proj",
    "add_v_proj",
    "to_add_out",
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "proj_in",
    "proj_out",
    "conv_in",
    "conv_out",
    "linear_1",
    "linear_2",
    "to_out",
    "to_q",
    "to_k",
    "to_v",
)
"""Words with `_` in the names of modules; none is the beginning of another that is tried later."""

WORDS: Final = (
    *("attentions", "resnets", "downsamplers", "upsamplers", "conv", "conv1", "conv2", "attn", "attn1", "attn2"),
    *("ff", "net", "proj", "encoder", "layers", "mlp", "fc1", "fc2"),
)
"""Words without."""


def kohya_name(component: str, module: str, second_encoder: bool) -> str:
    """The name of a module in a kohya file.

    Args:
        component: part of the pipeline.
        module: name in its model.
        second_encoder: whether the pipeline has two text encoders, so that the first is called `te1`.

    Raises:
        ValueError: for a part that has no prefix.
    """
    prefixes = {part: prefix for prefix, part in reversed(PREFIXES.items())}
    if component not in prefixes:
        raise ValueError(f"kohya's files have no prefix for {shown(component)}; they know {', '.join(prefixes)}")
    prefix = "lora_te1" if component == "text_encoder" and second_encoder else prefixes[component]
    if component.startswith("text_encoder") and module.startswith("encoder."):
        module = f"text_model.{module}"  # as CLIP's text model was called when these files came up
    return f"{prefix}_{module.replace('.', '_')}"


def name_table(text: str | None, where: str) -> dict[str, str]:
    """The table in a file's header; empty if there is none.

    Raises:
        ValueError: if it is no table.
    """
    if text is None:
        return {}
    table = parse_text(text, where)
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ValueError(f"{where} is no table of names")
    return table


def written_table(names: Mapping[str, tuple[str, str]]) -> str:
    """A table for a file's header.

    Args:
        names: component and module by name in the file.
    """
    return json.dumps({name: f"{component}.{module}" for name, (component, module) in names.items()})


def split_name(name: str, table: Mapping[str, str]) -> tuple[str, str | None]:
    """Component and module of a name; "" or None where that cannot be told.

    Args:
        name: in the file.
        table: `component.module` by such names, where they are known.
    """
    if name in table:
        component, _, module = table[name].partition(".")
        return component, module
    prefix = next((one for one in sorted(PREFIXES, key=len, reverse=True) if name.startswith(f"{one}_")), None)
    if prefix is None:
        return "", None
    return PREFIXES[prefix], _dotted(from_sgm(name.removeprefix(f"{prefix}_")))


def _dotted(name: str) -> str | None:
    """The name with dots, if it is made of known words and numbers only."""
    words, rest = [], name
    while rest:
        compound = next((word for word in COMPOUNDS if rest == word or rest.startswith(f"{word}_")), None)
        word = compound or rest.partition("_")[0]
        if compound is None and word not in WORDS and not word.isdecimal():
            return None
        words.append(word)
        rest = rest[len(word) + 1 :]
    return ".".join(words) if "_".join(words) == name and words else None
