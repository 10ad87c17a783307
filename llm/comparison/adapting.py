"""The adapter that a run trains, put on its base model by PEFT as the method wants it."""

from typing import Any

from lorakappa.llm.comparison.methods import ChosenMethod
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.data.models import default_target_modules


def with_adapter(
    model: Any, method: ChosenMethod, run: Run, settings: TrainingSettings, train: list[dict[str, Any]], tokenizer: Any
) -> Any:
    """The model wrapped by PEFT as the method wants it.

    Args:
        model: causal language model.
        method: whose configuration it gets.
        run: rank and scaling.
        settings: dropout, targets, and the batch size of LoRA-GA's gradient.
        train: encoded training examples, of which LoRA-GA's start looks at the first batch.
        tokenizer: of the model.

    Returns:
        The PEFT model.

    Raises:
        ValueError: if the model has none of the targets.
    """
    from peft import LoraConfig, get_peft_model

    arguments: dict[str, Any] = dict(method.method.config)
    if arguments.get("init_lora_weights") == "lora_ga":
        from peft import LoraGAConfig

        arguments["lora_ga_config"] = LoraGAConfig()
    config = LoraConfig(
        r=run.rank,
        lora_alpha=run.scaling * run.rank,  # type: ignore[arg-type]  # PEFT divides it, whatever its type
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets) or default_target_modules(model),
        task_type="CAUSAL_LM",
        **arguments,
    )
    if "lora_ga_config" in arguments:
        _estimate_gradient(model, config, train[: settings.batch_size], tokenizer)
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = settings.model  # "tiny" rather than where it lies
    return adapted


def _estimate_gradient(model: Any, config: Any, examples: list[dict[str, Any]], tokenizer: Any) -> None:
    """LoRA-GA's preparation: the gradient of one batch, which PEFT's initialization reads."""
    from peft.tuners.lora import preprocess_loraga
    from transformers import DataCollatorForSeq2Seq

    batch = DataCollatorForSeq2Seq(tokenizer, padding=True)(examples).to(model.device)

    def train_step() -> None:
        model(**batch).loss.backward()

    preprocess_loraga(model, config, train_step)
    model.zero_grad(set_to_none=True)
