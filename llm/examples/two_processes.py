"""BaLoRA on several processes with accelerate.

    accelerate launch --num_processes 2 llm/examples/two_processes.py   # on two GPUs
    torchrun --nproc-per-node 2 llm/examples/two_processes.py           # on processors

Each process balances its own replica after each real step. P is the same function of the same factors everywhere, so
nothing is broadcast; that the replicas agree at the end is printed. Gradient accumulation makes no steps of its own.
"""

import random

import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorakappa import create_balora_optimizer
from lorakappa.llm import lora_pairs, step_handles
from lorakappa.llm.data.models import TINY_FOLDER  # put your model here


def main(steps: int = 10) -> None:
    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=not torch.cuda.is_available())
    random.seed(accelerator.process_index)  # each process has data of its own
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TINY_FOLDER)
    base = AutoModelForCausalLM.from_pretrained(TINY_FOLDER, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2)
    model, optimizer = accelerator.prepare(model, optimizer)

    model.train()
    for _ in range(2 * steps):
        numbers = [(random.randrange(10), random.randrange(10)) for _ in range(8)]
        texts = [f"What is {a} plus {b}? {a + b}{tokenizer.eos_token}" for a, b in numbers]
        with accelerator.accumulate(model):
            batch = tokenizer(texts, return_tensors="pt", padding=True).to(accelerator.device)
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            accelerator.backward(model(**batch, labels=labels).loss)
            optimizer.step()
            optimizer.zero_grad()

    factors = torch.cat([M.detach().flatten() for pair in lora_pairs(model) for M in (pair.A, pair.B)])
    replicas = accelerator.gather(factors[None])
    gaps = [pair.A.mT @ pair.A - pair.B @ pair.B.mT for pair in lora_pairs(model)]
    accelerator.print(
        f"{accelerator.num_processes} processes, {step_handles(optimizer)[0].steps} steps, "
        f"replicas differ by {float((replicas - replicas[0]).abs().max())}, "
        f"largest |AᵀA − BBᵀ| {max(float(gap.detach().abs().max()) for gap in gaps):.0e}"
    )
    accelerator.end_training()


if __name__ == "__main__":
    main()
