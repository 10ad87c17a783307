"""BaLoRA in Lightning: `pip install lightning`, then `python llm/examples/lightning_module.py`; no download.

`configure_optimizers` returns the optimizer; its state, the count of steps included, is in Lightning's checkpoints.
"""

import lightning
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorakappa import create_balora_optimizer
from lorakappa.llm.data.models import TINY_FOLDER  # put your model here


class FineTuning(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        base = AutoModelForCausalLM.from_pretrained(TINY_FOLDER, dtype=torch.float32)
        config = LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model = get_peft_model(base, config).train()
        self.tokenizer = AutoTokenizer.from_pretrained(TINY_FOLDER)
        self.losses: list[float] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return create_balora_optimizer(self.model, torch.optim.AdamW, lr=1e-2)

    def training_step(self, texts: list[str], index: int) -> torch.Tensor:
        batch = self.tokenizer(texts, return_tensors="pt", padding=True).to(self.device)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = self.model(**batch, labels=labels).loss
        self.losses.append(float(loss.detach()))
        return loss


def main(steps: int = 30, **options: object) -> tuple[torch.nn.Module, list[float]]:
    lightning.seed_everything(0, verbose=False)
    module = FineTuning()
    end = module.tokenizer.eos_token
    texts = [f"What is {a} plus {b}? {a + b}{end}" for a in range(10) for b in range(10)]
    trainer = lightning.Trainer(
        **{"max_steps": steps, "gradient_clip_val": 1.0, "accelerator": "auto", "devices": 1, "logger": False}
        | {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, **options}
    )
    trainer.fit(module, DataLoader(texts, batch_size=16, shuffle=True))
    return module.model, module.losses


if __name__ == "__main__":
    _, losses = main()
    print(f"loss {losses[0]:.2f} → {losses[-1]:.2f}")
