"""BaLoRA, iLoRA, πLoRA and LoRA on Stable Diffusion, from a folder of pictures of one subject.

    python llm/examples/stable_diffusion.py --model MODEL --pictures FOLDER --method ilora --out results/diffusion
    python llm/examples/stable_diffusion.py --smoke      # a tiny random pipeline and random pictures, seconds on a CPU

The setting is that of iLoRA's paper (Section 6.2, Appendix C.3): 14 pictures of one person, rank 4, the attention of
U-Net and text encoder, three pairs of learning rates (text encoder, U-Net), pictures sampled by DPM-Solver at fusion
coefficients 0.7 and 1. MODEL is a folder or a hub id of the Stable Diffusion 1.x family (the paper's is Chilloutmix);
a file NAME.txt beside a picture is its caption, --prompt the one of all others. The paper follows Mix-of-Show, whose
schedule and augmentation are not repeated here, and leaves the token embeddings alone, as this does.

Each pair of learning rates gets a folder with the adapter as diffusers and as kohya files and the sampled pictures.
`pip install 'lorakappa[llm,diffusion]'`; 8 GB of GPU memory do for 512×512 at batch size 1 (estimated, not measured).
"""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image, ImageOps

from lorakappa import create_balora_optimizer, create_ilora_optimizer, create_pilora_optimizer
from lorakappa.llm import convert_adapter

METHODS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "lora": lambda model, cls, *, lr, **kw: cls([p for p in model.parameters() if p.requires_grad], lr=lr, **kw),
    "balora": create_balora_optimizer,
    "ilora": create_ilora_optimizer,
    "pilora": create_pilora_optimizer,
}
LEARNING_RATES = "5e-4:5e-4,1e-4:1e-4,5e-5:5e-5"
PROMPTS = ["a {} in front of eiffel tower", "a pencil sketch of {}"]
ATTENTION = {"unet": ["to_q", "to_k", "to_v", "to_out.0"], "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj"]}
CONVOLUTIONS = ["conv1", "conv2", "conv_shortcut"]


def load_pictures(folder: Path, size: int, prompt: str) -> tuple[torch.Tensor, list[str]]:
    """(n, 3, size, size) values in [-1, 1], cropped to squares, and their captions."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not files:
        raise SystemExit(f"error: there is no picture in {folder} (.jpg, .png, .webp)")
    squares = [ImageOps.fit(ImageOps.exif_transpose(Image.open(file)).convert("RGB"), (size, size)) for file in files]
    values = torch.stack([torch.from_numpy(np.array(square)).permute(2, 0, 1) for square in squares])
    captions = [file.with_suffix(".txt") for file in files]
    texts = [caption.read_text(encoding="utf-8").strip() if caption.is_file() else prompt for caption in captions]
    return values.float() / 127.5 - 1, texts


def add_adapters(pipe: Any, rank: int, convolutions: bool) -> None:
    """Fresh LoRA pairs of single precision on U-Net and text encoder; everything else is frozen."""
    for name, targets in ATTENTION.items():
        model = getattr(pipe, name)
        model.requires_grad_(False)
        chosen = [*targets, *(CONVOLUTIONS if convolutions and name == "unet" else [])]
        model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=chosen))
        for parameter in model.parameters():
            parameter.data = parameter.data.float() if parameter.requires_grad else parameter.data


def denoising_loss(pipe: Any, noise_scheduler: Any, latents: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """The mean squared error of the predicted noise (or velocity) of noised latents."""
    noise = torch.randn_like(latents)
    steps = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
    options = {"padding": "max_length", "truncation": True, "max_length": pipe.tokenizer.model_max_length}
    ids = pipe.tokenizer(texts, return_tensors="pt", **options).input_ids.to(latents.device)
    noised = noise_scheduler.add_noise(latents, noise, steps)
    predicted = pipe.unet(noised, steps, pipe.text_encoder(ids)[0]).sample
    velocity = noise_scheduler.config.prediction_type == "v_prediction"
    target = noise_scheduler.get_velocity(latents, noise, steps) if velocity else noise
    return torch.nn.functional.mse_loss(predicted.float(), target.float())


def train(pipe: Any, pictures: torch.Tensor, texts: list[str], rates: dict[str, float], options: Any) -> list[float]:
    """Trains both adapters, each with its own optimizer and learning rate; the losses."""
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    more = {"strength": options.strength} if options.method in ("ilora", "pilora") else {}
    make = METHODS[options.method]
    optimizers = [
        make(getattr(pipe, name), torch.optim.AdamW, lr=rate, weight_decay=options.weight_decay, **more)
        for name, rate in rates.items()
    ]
    noise_scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    device, dtype, losses = pipe.unet.device, pipe.vae.dtype, []
    with torch.no_grad():
        scale = pipe.vae.config.scaling_factor
        codes = [pipe.vae.encode(picture[None].to(device, dtype)).latent_dist for picture in pictures]
    for _ in range(options.steps):
        chosen = [random.randrange(len(texts)) for _ in range(options.batch_size)]
        latents = torch.cat([codes[i].sample() for i in chosen]) * scale
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = denoising_loss(pipe, noise_scheduler, latents, [texts[i] for i in chosen])
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def save(pipe: Any, folder: Path) -> None:
    """The adapters as a diffusers file and as a kohya file."""
    # PEFT's own names: convert_state_dict_to_diffusers renames attention only, and loading then drops one of the styles
    layers = {f"{name}_lora_layers": get_peft_model_state_dict(getattr(pipe, name)) for name in ATTENTION}
    StableDiffusionPipeline.save_lora_weights(folder, **layers)
    kohya = folder / "kohya.safetensors"
    kohya.unlink(missing_ok=True)
    convert_adapter(folder / "pytorch_lora_weights.safetensors", kohya, "kohya")


def sample(pipe: Any, folder: Path, options: Any) -> None:
    """One picture for each prompt and fusion coefficient, from the same noise."""
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    for prompt in PROMPTS:
        for coefficient in options.fusion:
            noise = torch.Generator(pipe.unet.device).manual_seed(options.seed)
            settings = {"num_inference_steps": options.sampling_steps, "generator": noise}
            settings |= {"height": options.resolution, "width": options.resolution}
            scaled = {"cross_attention_kwargs": {"scale": coefficient}}
            (picture,) = pipe(prompt.format(options.subject), **settings, **scaled).images
            picture.save(folder / f"{'-'.join(prompt.format('').split())}-{coefficient:g}.png")


def tiny_pipeline() -> StableDiffusionPipeline:
    """A random Stable Diffusion of a few thousand parameters."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [chr(c) for c in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    blocks = {"block_out_channels": (8, 16), "norm_num_groups": 4}
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        **blocks,
    )
    halves = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(latent_channels=4, **halves, **blocks),
        text_encoder=CLIPTextModel(CLIPTextConfig(**text)),
        tokenizer=CLIPTokenizer({word: i for i, word in enumerate(words)}, [], model_max_length=77),
        unet=unet,
        scheduler=DDPMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_pipeline(options: Any) -> Any:
    if options.smoke:
        return tiny_pipeline()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return StableDiffusionPipeline.from_pretrained(options.model, torch_dtype=dtype, safety_checker=None).to(device)


def parse(arguments: list[str] | None) -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", help="folder or hub id of a Stable Diffusion 1.x")
    parser.add_argument("--pictures", type=Path, help="folder of pictures of the subject")
    parser.add_argument("--subject", default="<V>", help="what captions and prompts call it")
    parser.add_argument("--prompt", default="a photo of {}", help="caption of pictures without one; {} is the subject")
    parser.add_argument("--method", choices=METHODS, default="balora")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--rates", default=LEARNING_RATES, help="TEXT:UNET,… learning rates")
    parser.add_argument("--fusion", type=float, nargs="+", default=[0.7, 1.0], help="factors of the update in sampling")
    parser.add_argument("--strength", type=float, default=1.0, help="λ of iLoRA and πLoRA")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--convolutions", action="store_true", help="adapters on the U-Net's convolutions, too")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--sampling-steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/diffusion"))
    parser.add_argument("--smoke", action="store_true", help="a tiny random pipeline and random pictures")
    options = parser.parse_args(arguments)
    if options.smoke:
        options.steps, options.resolution, options.sampling_steps = min(options.steps, 5), 16, 2
    elif options.model is None or options.pictures is None:
        parser.error("--model and --pictures are needed, or --smoke")
    return options


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    options = parse(arguments)
    found = {}
    if options.smoke:
        options.pictures = options.out / "pictures"
        options.pictures.mkdir(parents=True, exist_ok=True)
        for i in range(3):
            noise = np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(noise).save(options.pictures / f"{i}.png")
    pictures, texts = load_pictures(options.pictures, options.resolution, options.prompt.format(options.subject))
    for pair in options.rates.split(","):
        rates = dict(zip(("text_encoder", "unet"), map(float, pair.split(":")), strict=True))
        pipe = load_pipeline(options)
        add_adapters(pipe, options.rank, options.convolutions)
        folder = options.out / f"{options.method}-{pair.replace(':', '-')}"
        losses = train(pipe, pictures, texts, rates, options)
        save(pipe, folder)
        (folder / "losses.json").write_text(json.dumps(losses))
        sample(pipe, folder, options)
        print(f"{folder}: mean loss of the last tenth {np.mean(losses[-max(1, len(losses) // 10) :]):.4f}")
        found[pair] = losses
    return found


if __name__ == "__main__":
    main()
