"""BaLoRA in Hugging Face's Trainer: `python llm/examples/hf_trainer.py`, seconds on one core, no download.

The optimizer goes in as `optimizers=`; where the Trainer is to make its own, `callbacks=[BalanceCallback()]` does the
same. Checkpoints resume as ever.
"""

import random
import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

from lorakappa import create_balora_optimizer
from lorakappa.llm.data.models import TINY_FOLDER  # put your model here


def main(steps: int = 30, folder: str | None = None) -> tuple[torch.nn.Module, list[float]]:
    random.seed(0)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(TINY_FOLDER)
    base = AutoModelForCausalLM.from_pretrained(TINY_FOLDER, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM"))

    texts = [f"What is {a} plus {b}? {a + b}{tokenizer.eos_token}" for a in range(10) for b in range(10)]
    data = [{"input_ids": ids, "labels": ids} for ids in tokenizer(texts)["input_ids"]]

    optimizer = create_balora_optimizer(model, torch.optim.AdamW, lr=1e-2)
    arguments = TrainingArguments(
        folder or tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=16,
        lr_scheduler_type="cosine",
        warmup_steps=steps // 10,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    trainer = Trainer(model, arguments, collator, data, optimizers=(optimizer, None))
    trainer.train()
    return model, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    _, losses = main()
    print(f"loss {losses[0]:.2f} → {losses[-1]:.2f}")
