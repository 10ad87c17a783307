"""BaLoRA in TRL's SFTTrainer: `pip install trl`, then `python llm/examples/trl_sft.py`; no download.

SFTTrainer puts the adapter on the model itself, so the callback is what fits: it hooks the optimizer when the training
begins. DPOTrainer, GRPOTrainer and the others take it in the same place.
"""

import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from lorakappa import BalanceCallback
from lorakappa.llm.data.models import TINY_FOLDER  # put your model here


def main(steps: int = 30, folder: str | None = None) -> tuple[torch.nn.Module, list[float]]:
    data = [{"prompt": f"What is {a} plus {b}?", "completion": f" {a + b}"} for a in range(10) for b in range(10)]
    arguments = SFTConfig(
        folder or tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=16,
        learning_rate=1e-2,
        warmup_steps=steps // 10,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        bf16=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(TINY_FOLDER, dtype=torch.float32),
        arguments,
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(TINY_FOLDER),
        peft_config=LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[BalanceCallback()],
    )
    trainer.train()
    return trainer.model, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


if __name__ == "__main__":
    _, losses = main()
    print(f"loss {losses[0]:.2f} → {losses[-1]:.2f}")
