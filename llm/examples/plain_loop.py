"""BaLoRA in a loop of your own: `python llm/examples/plain_loop.py`, seconds on one core, no download."""

import random
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup

from lorakappa import create_balora_optimizer
from lorakappa.llm.data.models import TINY_FOLDER  # put your model here


def main(steps: int = 30, folder: Path = Path("results/plain-loop")) -> tuple[torch.nn.Module, list[float]]:
    random.seed(0)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TINY_FOLDER)
    base = AutoModelForCausalLM.from_pretrained(TINY_FOLDER, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM"))

    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2, weight_decay=0.0)  # all there is to it
    schedule = get_cosine_schedule_with_warmup(optimizer, steps // 10, steps)

    losses = []
    model.train()
    for _ in range(steps):
        numbers = [(random.randrange(10), random.randrange(10)) for _ in range(16)]
        texts = [f"What is {a} plus {b}? {a + b}{tokenizer.eos_token}" for a, b in numbers]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(**batch, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))

    model.save_pretrained(folder)  # an ordinary PEFT adapter
    return model, losses


if __name__ == "__main__":
    _, losses = main()
    print(f"loss {losses[0]:.2f} → {losses[-1]:.2f}; next: lorakappa llm audit results/plain-loop")
