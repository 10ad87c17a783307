"""What a PEFT folder says of the model that it adapts, and what of it no other format can say."""

from typing import Any, Final

from lorakappa.llm.adapters.factors import shown
from lorakappa.llm.adapters.formats.stored import Adapter

COMPONENT: Final = "lorakappa_component"
"""Text in the header of PEFT's weights that names the part of a pipeline that they are for."""

CLASSES: Final = {
    "UNet2DConditionModel": "unet",
    "CLIPTextModel": "text_encoder",
    "CLIPTextModelWithProjection": "text_encoder_2",
}
"""Parts of pipelines by the classes of their models, as `auto_mapping` names them; every `…Transformer2DModel` is one
more."""

STARTS: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of `init_lora_weights` whose start changes the base weights: the product alone is not the update."""

FIELDS: Final = {
    "alora_invocation_tokens": "is switched on by tokens of the prompt (aLoRA)",
    "trainable_token_indices": "has embeddings of single tokens",
    "layer_replication": "replicates layers of the model",
    "arrow_config": "routes between adapters (Arrow)",
    "use_qalora": "pools its inputs (QALoRA)",
    "megatron_config": "is for Megatron's layers",
}
"""Fields of adapter_config.json that change what the factors do."""


def component_of(adapter: Adapter) -> str:
    """The part of a pipeline that a PEFT folder is for; "" if it does not say."""
    mapping: Any = adapter.config.get("auto_mapping")
    name = mapping.get("base_model_class") if isinstance(mapping, dict) else None
    if isinstance(name, str) and name.endswith("Transformer2DModel"):
        return "transformer"
    return adapter.weights.metadata.get(COMPONENT) or CLASSES.get(str(name), "")


def refuse_what_only_peft_expresses(adapter: Adapter) -> None:
    """Raises ValueError for a PEFT adapter that is more than its pairs."""
    start = adapter.config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(STARTS):
        raise ValueError(
            f"{adapter.path} started from {shown(start)}, which changed the base weights: its products are no update "
            "of the model as published; save it with path_initial_model_for_weight_conversion first"
        )
    for field, what in FIELDS.items():
        if adapter.config.get(field):
            raise ValueError(f"{adapter.path} {what}, which no other format can express")
