"""Adapters drawn at random in every format: kinds of layers, types, ranks, scales, magnitudes, several parts."""

import json
import random

import torch
from safetensors.torch import save_file

MODULES = {
    "unet": [
        "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q",
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0",
        "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
        "down_blocks.1.resnets.0.conv1",
        "up_blocks.0.resnets.1.conv_shortcut",
        "up_blocks.1.attentions.0.proj_in",
        "up_blocks.1.resnets.0.time_emb_proj",
        "time_embedding.linear_1",
        "conv_out",
    ],
    "transformer": [
        "transformer_blocks.0.attn.to_q",
        "single_transformer_blocks.1.proj_out",
        "proj_out",
        "transformer_blocks.1.attn.add_k_proj",
        "transformer_blocks.1.ff.net.2",
    ],
    "text_encoder": [
        "text_model.encoder.layers.0.self_attn.q_proj",
        "text_model.encoder.layers.1.self_attn.out_proj",
        "text_model.encoder.layers.1.mlp.fc1",
    ],
    "text_encoder_2": ["text_model.encoder.layers.0.mlp.fc2", "text_projection"],
}
CONVOLUTIONS = {"conv1": 3, "conv_shortcut": 1, "conv_out": 3}
LINEAR_LAYER = ("lora_linear_layer.up", "lora_linear_layer.down")
PARTS = [["unet"], ["transformer"], ["unet", "text_encoder"], ["unet", "text_encoder", "text_encoder_2"]]
PREFIXES = {"unet": "lora_unet", "transformer": "lora_transformer", "text_encoder_2": "lora_te2"}
TYPES = [torch.float32, torch.float32, torch.float16, torch.bfloat16, torch.float64]


class Layer:
    """One layer: its factors in PEFT's shapes, its scale as α, its magnitude."""

    def __init__(self, rng, part, module, r, alpha, dora, dtype):
        generator = torch.Generator().manual_seed(rng.randrange(2**32))
        a, b, k = rng.randint(2, 7), rng.randint(2, 7), CONVOLUTIONS.get(module.rpartition(".")[2])
        self.part, self.module, self.r, self.alpha = part, module, r, alpha
        shapes = ((a, r, 1, 1), (r, b, k, k)) if k else ((a, r), (r, b))
        size = 10 ** rng.uniform(-2, 1)
        self.A, self.B = (torch.randn(*shape, generator=generator).mul(size).to(dtype) for shape in shapes)
        self.magnitude = torch.rand(a, generator=generator).to(dtype) if dora else None
        self.ones = (1, 1) if k else ()

    @property
    def update(self):
        """α/r · AB."""
        return self.alpha / self.r * self.A.double().flatten(1) @ self.B.double().flatten(1)


def draw(seed):
    """The layers of an adapter."""
    rng = random.Random(seed)
    ranks, alphas = ([rng.choice([1, 2, 4])], [rng.choice([1, 4, 8])])
    if rng.random() < 0.6:
        ranks, alphas = [1, 2, 3, 5], [1, 2, 0.5, 16, 3]
    dora, dtypes = rng.random() < 0.3, rng.choice([TYPES[:1], TYPES])
    return [
        Layer(rng, part, module, rng.choice(ranks), rng.choice(alphas), dora, rng.choice(dtypes))
        for part in rng.choice(PARTS)
        for module in rng.sample(MODULES[part], rng.randint(1, len(MODULES[part])))
    ]


def save_drawn(layers, path, format, rng):
    """Writes the layers in a format as others do, by code of its own; returns what to convert."""
    if format == "peft":
        parts = list(dict.fromkeys(layer.part for layer in layers))
        for part in parts:
            _save_peft([layer for layer in layers if layer.part == part], path / part, part)
        return [path / part for part in parts]
    tensors, metadata = {}, {"note": "ü"}
    if format == "kohya":
        names = {}
        for layer in layers:
            two = any(other.part == "text_encoder_2" for other in layers)
            prefix = PREFIXES.get(layer.part, "lora_te1" if two else "lora_te")
            name = f"{prefix}_{layer.module.replace('.', '_')}"
            names[name] = f"{layer.part}.{layer.module}"
            tensors |= {f"{name}.lora_up.weight": layer.A, f"{name}.lora_down.weight": layer.B}
            if layer.alpha != layer.r or rng.random() < 0.5:
                tensors[f"{name}.alpha"] = torch.tensor(float(layer.alpha))
            if layer.magnitude is not None:
                tensors[f"{name}.dora_scale"] = layer.magnitude.reshape(-1, 1, *layer.ones)
    else:
        up, down = rng.choice(
            ["lora_B lora_A", "lora.up lora.down", "lora_linear_layer.up lora_linear_layer.down"]
        ).split()
        in_tensors = rng.random() < 0.5
        for layer in layers:
            name = f"{layer.part}.{layer.module}"
            tensors |= {f"{name}.{up}.weight": layer.A, f"{name}.{down}.weight": layer.B}
            if in_tensors:
                tensors[f"{name}.alpha"] = torch.tensor(float(layer.alpha))
            if layer.magnitude is not None:
                tensors[f"{name}.lora_magnitude_vector"] = magnitude(layer)
        if not in_tensors:
            flat = {
                f"{part}.{key}": value
                for part in dict.fromkeys(layer.part for layer in layers)
                for key, value in _config([layer for layer in layers if layer.part == part]).items()
            }
            metadata["lora_adapter_metadata"] = json.dumps(flat)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata=metadata)
    return [path]


def magnitude(layer):
    """In PEFT's shape."""
    return layer.magnitude.reshape(1, -1, 1, 1) if layer.ones else layer.magnitude


def _config(layers):
    return {
        "r": layers[0].r,
        "lora_alpha": layers[0].alpha,
        "target_modules": [layer.module for layer in layers],
        "rank_pattern": {f"^{layer.module}": layer.r for layer in layers},
        "alpha_pattern": {f"^{layer.module}": layer.alpha for layer in layers},
        "use_dora": layers[0].magnitude is not None,
    }


def _save_peft(layers, folder, part):
    folder.mkdir(parents=True)
    classes = {"unet": "UNet2DConditionModel", "transformer": "FluxTransformer2DModel", "text_encoder": "CLIPTextModel"}
    mapping = {"base_model_class": classes.get(part, "CLIPTextModelWithProjection"), "parent_library": "x"}
    config = {"peft_type": "LORA", "auto_mapping": mapping, **_config(layers)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for layer in layers:
        stem = f"base_model.model.{layer.module}"
        tensors |= {f"{stem}.lora_B.weight": layer.A, f"{stem}.lora_A.weight": layer.B}
        if layer.magnitude is not None:
            tensors[f"{stem}.lora_magnitude_vector"] = magnitude(layer)
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "adapter_model.safetensors")
