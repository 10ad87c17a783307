"""Tiny random models with LoRA adapters, made in memory."""

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

VOCABULARY = 40
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tiny_qwen(tied=False):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        use_cache=False,
        dtype=torch.float32,
    )
    return Qwen2ForCausalLM(config)


def with_lora(base=None, r=4, **config):
    config.setdefault("target_modules", PROJECTIONS)
    config = {"lora_alpha": 8, "init_lora_weights": True, **config}
    return get_peft_model(tiny_qwen() if base is None else base, LoraConfig(r=r, **config))


def unbalance(model, seed=1):
    """Random factors of very different sizes, so that P has something to do."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name or "lora_embedding_A" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.5)
            elif "lora_B" in name or "lora_embedding_B" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.05)
    return model


def tokens(batch=4, length=12, seed=3):
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


class Mixed(nn.Module):
    """One layer of every kind that PEFT adapts and transformers' models lack."""

    def __init__(self, groups=1):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.conv1 = nn.Conv1d(6, 8, 3, padding=1, groups=groups)
        self.conv2 = nn.Conv2d(1, 4, (3, 2), padding=(1, 1))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.linear = nn.Linear(8, 5)

    def forward(self, ids):
        hidden = self.conv1(self.embedding(ids).mT).mT
        hidden = self.attention(hidden, hidden, hidden, need_weights=False)[0]
        return self.linear(hidden) + self.conv2(hidden[:, None]).mean((1, 3))[..., None]


class Experts(nn.Module):
    """Three experts stacked in one parameter, as in transformers' mixtures of experts."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 6, 5) * 0.3)

    def forward(self, x):
        return torch.einsum("ni,eoi->neo", x, self.weight)


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.experts = Experts()

    def forward(self, x):
        return self.experts(x).sum(1)
