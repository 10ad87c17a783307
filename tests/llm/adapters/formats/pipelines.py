"""Tiny random models of diffusers' pipelines, and files of adapters as diffusers itself writes them."""

import logging

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from diffusers.loaders.lora_base import _load_lora_into_text_encoder
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin as Loader
from peft import LoraConfig, get_peft_model_state_dict
from transformers import CLIPTextConfig, CLIPTextModel

logging.getLogger("diffusers").setLevel(logging.ERROR)


def unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


def text_encoder():
    torch.manual_seed(1)
    sizes = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = CLIPTextConfig(**sizes, num_attention_heads=2, max_position_embeddings=8, bos_token_id=0, eos_token_id=2)
    return CLIPTextModel(config).eval()


def transformer():
    torch.manual_seed(2)
    return SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        out_channels=4,
        pos_embed_max_size=8,
    ).eval()


TARGETS = {
    "unet": ["to_q", "to_out.0", "conv1", "conv_shortcut", "proj_in", "ff.net.0.proj", "time_emb_proj"],
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1"],
    "transformer": ["to_q", "to_add_out", "proj_out", "ff.net.0.proj"],
}


def config(part, **options):
    """Of an adapter of one part of a pipeline."""
    return LoraConfig(target_modules=TARGETS[part], init_lora_weights=False, **options)


@torch.no_grad()
def denoised(unet, text_encoder):
    """What a step of the pipeline computes."""
    torch.manual_seed(3)
    hidden = text_encoder(torch.tensor([[0, 5, 7, 2]]))[0]
    return unet(torch.randn(1, 4, 8, 8), torch.tensor([3]), hidden).sample


@torch.no_grad()
def transformed(transformer):
    torch.manual_seed(3)
    x, hidden, pooled = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 16), torch.randn(1, 8)
    given = {"encoder_hidden_states": hidden, "pooled_projections": pooled, "timestep": torch.tensor([3.0])}
    return transformer(x, **given, return_dict=False)[0]


def saved_pipeline(folder, unet, text_encoder):
    """Writes the adapters of both with diffusers' own code."""
    from diffusers.training_utils import _collate_lora_metadata

    layers = {"unet_lora_layers": get_peft_model_state_dict(unet)}
    layers["text_encoder_lora_layers"] = get_peft_model_state_dict(text_encoder)
    metadata = _collate_lora_metadata({"unet": unet, "text_encoder": text_encoder})
    Loader.save_lora_weights(folder, **layers, **metadata)
    return folder


def loaded_pipeline(path):
    """Both models with the adapters of a file or folder, as diffusers' pipeline loads them."""
    base, text = unet(), text_encoder()
    state_dict, alphas, metadata = Loader.lora_state_dict(path, unet_config=base.config, return_lora_metadata=True)
    base.load_lora_adapter(state_dict, prefix="unet", network_alphas=alphas, metadata=metadata)
    _load_lora_into_text_encoder(state_dict, alphas, text, prefix="text_encoder", metadata=metadata)
    return base, text.eval()
