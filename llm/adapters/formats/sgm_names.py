"""Modules of Stable Diffusion's UNets by the names of its original code, which kohya's files for SDXL use.

Its blocks are counted through, three to a level: two layers and what changes the resolution. diffusers names levels,
layers and their parts.
"""

import re
from typing import Final

LAYERS: Final = 3
"""Blocks in a level."""

SINGLES: Final = {
    "input_blocks_0_0": "conv_in",
    "out_2": "conv_out",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
}
"""Modules outside of the blocks."""

RESNET: Final = {
    "in_layers_2": "conv1",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}
"""Parts of a residual block."""

MIDDLE: Final = {"0": "resnets_0", "1": "attentions_0", "2": "resnets_1"}
"""Parts of the block in the middle."""

_BLOCK = re.compile(r"(input|output)_blocks_(\d+)_(\d)_(.+)")
_MIDDLE = re.compile(r"middle_block_([012])_(.+)")


def from_sgm(name: str) -> str:
    """Diffusers' name, with `_` for dots, of a module that may have one of the original code.

    Args:
        name: with `_` for dots; what is no such name is given back.
    """
    if name in SINGLES:
        return SINGLES[name]
    if match := _MIDDLE.fullmatch(name):
        return f"mid_block_{MIDDLE[match[1]]}_{RESNET.get(match[2], match[2])}"
    if not (match := _BLOCK.fullmatch(name)):
        return name
    side, number, part, rest = match[1], int(match[2]), match[3], match[4]
    level, layer = divmod(number - (side == "input"), LAYERS)
    if (side, rest) == ("input", "op"):
        return f"down_blocks_{level}_downsamplers_0_conv"
    if (side, rest) == ("output", "conv"):
        return f"up_blocks_{level}_upsamplers_0_conv"
    kind = "resnets" if part == "0" else "attentions"
    return f"{'down' if side == 'input' else 'up'}_blocks_{level}_{kind}_{layer}_{RESNET.get(rest, rest)}"
