"""Adapters of diffusion models: U-Net, convolutions, text encoder and DiT trained by every method, saved and loaded."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("diffusers", reason="diffusion models are NOT tested: pip install 'lorakappa[diffusion]'")

from diffusers import DDPMScheduler, DiTTransformer2DModel
from peft import LoraConfig, get_peft_model
from PIL import Image

from lorakappa.llm import (
    balance_after_step,
    balance_model,
    create_balora_optimizer,
    create_ilora_optimizer,
    create_pilora_optimizer,
    create_reflora_optimizer,
    lora_pairs,
    step_handles,
)
from tests.llm.adapters.test_hooks import balanced
from tests.llm.models import unbalance

EXAMPLE = Path(__file__).parents[2] / "llm" / "examples" / "stable_diffusion.py"
SPEC = importlib.util.spec_from_file_location("examples_stable_diffusion", EXAMPLE)
example = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(example)

FACTORIES = [create_balora_optimizer, create_ilora_optimizer, create_pilora_optimizer, create_reflora_optimizer]
FILES = {"pytorch_lora_weights.safetensors", "kohya.safetensors"}
PROMPTS = ("a-in-front-of-eiffel-tower", "a-pencil-sketch-of")
TEXTS = ["a photo of <V>", "<V> at night"]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def pipe():
    pipe = example.tiny_pipeline()
    example.add_adapters(pipe, rank=4, convolutions=True)
    return pipe


def denoising_loss(pipe):
    torch.manual_seed(1)  # the same noise and times at every step: the loss can only fall by training
    latents = torch.randn(2, 4, 8, 8)
    return example.denoising_loss(pipe, DDPMScheduler.from_config(pipe.scheduler.config), latents, TEXTS)


def steps(pipe, optimizers, count):
    losses = []
    for _ in range(count):
        loss = denoising_loss(pipe)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def outputs(pipe):
    torch.manual_seed(2)
    with torch.no_grad():
        ids = pipe.tokenizer(TEXTS, return_tensors="pt", padding="max_length", max_length=77).input_ids
        encoded = pipe.text_encoder(ids)[0]
        return encoded, pipe.unet(torch.randn(2, 4, 8, 8), torch.tensor([3, 500]), encoded).sample


@pytest.mark.parametrize("factory", FACTORIES)
def test_every_method_trains_unet_and_text_encoder(pipe, factory):
    optimizers = [factory(model, torch.optim.AdamW, lr=5e-3) for model in (pipe.unet, pipe.text_encoder)]
    frozen = {name: p.clone() for name, p in pipe.unet.named_parameters() if not p.requires_grad}
    losses = steps(pipe, optimizers, 8)
    assert losses[-1] < losses[0] - 0.005
    for model, optimizer in zip((pipe.unet, pipe.text_encoder), optimizers, strict=True):
        assert step_handles(optimizer)[0].steps == 8
        assert balanced(model) == (factory is create_balora_optimizer)
    assert {pair.left.ndim for pair in lora_pairs(pipe.unet)} == {2, 4}  # attention and convolutions
    assert all(torch.equal(p, frozen[name]) for name, p in pipe.unet.named_parameters() if name in frozen)


def test_balancing_changes_no_output(pipe):
    for model in (pipe.unet, pipe.text_encoder):
        unbalance(model)
    before = outputs(pipe)
    for model in (pipe.unet, pipe.text_encoder):
        assert balance_model(model).balanced == len(lora_pairs(model)) > 0
        assert balanced(model)
    for found, expected in zip(outputs(pipe), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_several_models_in_one_hook(pipe, shared):
    both = nn.ModuleList([pipe.unet, pipe.text_encoder])
    kinds = [[p for p in model.parameters() if p.requires_grad] for model in both]
    if shared:
        groups = [{"params": kind, "lr": lr} for kind, lr in zip(kinds, (1e-3, 1e-4), strict=True)]
        optimizers = [torch.optim.AdamW(groups)]
    else:
        optimizers = [torch.optim.AdamW(kinds[0], lr=1e-3), torch.optim.SGD(kinds[1], lr=1e-2)]
    handle = balance_after_step(optimizers, both)
    steps(pipe, optimizers, 3)
    assert handle.steps == 3
    assert handle.last.balanced == sum(len(lora_pairs(model)) for model in both)
    assert all(map(balanced, both))


def test_a_diffusion_transformer():
    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, num_layers=2, sample_size=8
    )
    targets = ["to_q", "to_k", "to_v", "to_out.0", "proj", "net.2"]  # proj is the convolution of the patches
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=4, target_modules=targets))
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2)
    latents, times = torch.randn(2, 4, 8, 8), torch.tensor([3, 500])
    losses = []
    for _ in range(5):
        loss = (model(latents, times, class_labels=torch.tensor([0, 1])).sample - latents).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert {pair.left.ndim for pair in lora_pairs(model)} == {2, 4}
    assert balanced(model)


def test_saved_adapters_give_the_same_outputs_in_a_fresh_pipeline(pipe, tmp_path):
    optimizers = [
        create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2) for model in (pipe.unet, pipe.text_encoder)
    ]
    steps(pipe, optimizers, 3)
    example.save(pipe, tmp_path)
    example.save(pipe, tmp_path)  # again, over its own files
    plain = outputs(example.tiny_pipeline())
    for file in FILES:
        fresh = example.tiny_pipeline()
        fresh.load_lora_weights(tmp_path, weight_name=file)
        for found, expected, without in zip(outputs(fresh), outputs(pipe), plain, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            assert (found - without).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["balora", "pilora"])
def test_the_example_runs(tmp_path, method, capsys):
    options = ["--smoke", "--method", method, "--rates", "1e-3:5e-3", "--out", str(tmp_path), "--convolutions"]
    losses = example.main(options)["1e-3:5e-3"]
    folder = tmp_path / f"{method}-1e-3-5e-3"
    assert len(losses) == 5
    assert json.loads((folder / "losses.json").read_text()) == losses
    assert f"{folder}: mean loss of the last tenth {losses[-1]:.4f}" in capsys.readouterr().out
    pictures = {file.name: Image.open(file) for file in folder.glob("*.png")}
    names = [
        f"{prompt}-{fusion}.png"
        for prompt in ("a-in-front-of-eiffel-tower", "a-pencil-sketch-of")
        for fusion in ("0.7", "1")
    ]
    assert sorted(pictures) == sorted(names)
    assert all(picture.size == (16, 16) for picture in pictures.values())
    for prompt in PROMPTS:  # the coefficient reaches the pipeline
        assert pictures[f"{prompt}-0.7.png"].tobytes() != pictures[f"{prompt}-1.png"].tobytes()
    assert {file.name for file in folder.glob("*.safetensors")} == {
        "pytorch_lora_weights.safetensors",
        "kohya.safetensors",
    }


def test_pictures_are_cropped_turned_and_captioned(tmp_path):
    red, blue = (255, 0, 0), (0, 0, 255)
    Image.new("RGB", (40, 20), red).save(tmp_path / "b.png")
    Image.new("RGBA", (10, 30), (*blue, 255)).save(tmp_path / "a.PNG")
    (tmp_path / "b.txt").write_text("red\n")
    (tmp_path / "notes.md").write_text("no picture")
    values, texts = example.load_pictures(tmp_path, 8, "a photo of <V>")
    assert values.shape == (2, 3, 8, 8)
    assert texts == ["a photo of <V>", "red"]
    assert values[0, :, 0, 0].tolist() == [-1, -1, 1]
    assert values[1, :, 3, 3].tolist() == [1, -1, -1]


def test_wrong_use_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match="error: there is no picture in"):
        example.load_pictures(tmp_path, 8, "")
    with pytest.raises(SystemExit) as stop:
        example.main(["--model", "m"])
    assert stop.value.code == 2
    assert "--model and --pictures are needed" in capsys.readouterr().err
