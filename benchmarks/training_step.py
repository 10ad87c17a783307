"""P's share of a training step, and the Fisher gauge's: how many times as long the whole step takes, P included.

Two models: a tiny one, for which every call counts, and two layers of Qwen2.5-0.5B's shapes with random weights; 24 of
them would make the step and P longer alike, and more tokens the step alone.
"""

from collections.abc import Callable, Iterator

import torch
from compare import Goal, Row, measure  # a sibling script
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, Qwen2Config

from lorakappa.conditioning.fisher_gauge import DAMPING
from lorakappa.llm import balance_after_step
from lorakappa.llm.adapters.balancing import Balancing
from lorakappa.llm.adapters.fisher_balancing import FisherBalancing
from lorakappa.llm.adapters.gradient_moments import GradientMoments
from lorakappa.llm.adapters.lookup import PairLookup

TINY = Qwen2Config(
    vocab_size=128,
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
)
SMALL = Qwen2Config(
    vocab_size=1000,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=2,
    num_attention_heads=14,
    num_key_value_heads=2,
)
CASES = (  # setting, configuration, rank, (sequences, tokens), the largest share of the step that P may take
    ("tiny: 4 layers of width 128, r = 4, 8×64 tokens", TINY, 4, (8, 64), 0.02),
    ("Qwen2.5-0.5B's shapes, 2 layers, r = 8, 1×512 tokens", SMALL, 8, (1, 512), 0.01),
)
STEP = "whole step"
FISHER = "Fisher gauge"
"""Its moments taken in, and the pairs moved."""


def rows(quick: bool = False, device: str = "cpu") -> Iterator[Row]:
    """One row a model."""
    for setting, config, r, tokens, share in CASES[: 1 if quick else None]:
        calls = _calls(config, r, tokens, device)
        timings = measure(calls, rounds=15 if config is TINY and not quick else 5)
        fisher = timings.pop(FISHER)
        yield Row("P in training", setting, timings, (Goal(1 / share, STEP),))
        yield Row("Fisher gauge in training", setting, {FISHER: fisher, **timings})


def _calls(config: Qwen2Config, r: int, tokens: tuple[int, int], device: str) -> dict[str, Callable[[], object]]:
    torch.manual_seed(0)
    base: nn.Module = AutoModelForCausalLM.from_config(config)
    model = get_peft_model(base, LoraConfig(r=r, target_modules="all-linear")).to(device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    balance_after_step(optimizer, model)
    batch = torch.randint(config.vocab_size, tokens, device=device)

    def step() -> None:
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # A is no longer 0
    lookup = PairLookup(model)
    ready = Balancing(lookup(), gauge="hyperbalanced", moments="keep")

    def project() -> None:
        lookup()
        ready()

    gradients = GradientMoments([])
    moving = FisherBalancing(lookup(), gradients, damping=DAMPING, gauge="symmetric", moments="keep")
    model(input_ids=batch, labels=batch).loss.backward()
    kept = {parameter: parameter.grad for parameter in model.parameters() if parameter.grad is not None}
    optimizer.zero_grad()

    def fisher() -> None:
        for parameter, gradient in kept.items():
            parameter.grad = gradient
        lookup()
        gradients.observe(optimizer)
        moving()
        optimizer.zero_grad()

    return {"P": project, FISHER: fisher, STEP: step}
