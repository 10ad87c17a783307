"""Files and folders that hold adapters: recognized by content, read layer by layer, written whole or not at all."""

from typing import Final, Literal

Format = Literal["peft", "diffusers", "kohya"]

FORMATS: Final = ("peft", "diffusers", "kohya")
"""PEFT's folder, diffusers' `pytorch_lora_weights.safetensors`, the single file of kohya's scripts."""

COMPONENTS: Final = ("unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3")
"""Parts of diffusers' pipelines that adapters are for."""
