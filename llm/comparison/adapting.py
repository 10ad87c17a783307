"""The adapter that a run trains, put on its base model by PEFT as the method wants it."""

from collections.abc import Sequence
from typing import Any

from lorakappa.llm.comparison.methods import ChosenMethod
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.data.models import default_target_modules
from lorakappa.shared.memory import check_memory


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
        ValueError: if the model lacks one of the targets, or the adapter does not fit into memory.
    """
    from peft import LoraConfig, get_peft_model

    check_adapter(model, run.rank, settings.targets)
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


def check_adapter(model: Any, rank: int, targets: Sequence[str]) -> None:
    """Checks that a model has what is to be adapted, and that the adapter fits beside it.

    Args:
        model: causal language model.
        rank: r.
        targets: names of modules, each the last parts of a dotted name; empty for the default.

    Raises:
        ValueError: naming every target without a module and what there is, or with the memory that is needed.
    """
    from torch import nn

    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    names = [name for name, _ in model.named_modules()]
    missing = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in names)]
    if missing:
        there = sorted({name.rpartition(".")[2] for name in linear})
        raise ValueError(
            f"--targets: the model has no module called {', '.join(missing)}; its linear ones are {', '.join(there)}"
        )
    parameters = adapter_parameters(model, rank, targets)
    if model.device.type == "cpu":  # parameter, gradient and Adam's two moments, in float32
        check_memory(16 * parameters, f"an adapter of rank {rank}", "choose a smaller --rank")


def adapter_parameters(model: Any, rank: int, targets: Sequence[str]) -> int:
    """The parameters of an adapter.

    Args:
        model: causal language model.
        rank: r.
        targets: names of modules, as for `check_adapter`.
    """
    from torch import nn

    wanted = targets or default_target_modules(model)
    return rank * sum(
        module.in_features + module.out_features
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and (isinstance(wanted, str) or any(name == t or name.endswith(f".{t}") for t in wanted))
    )


def _estimate_gradient(model: Any, config: Any, examples: list[dict[str, Any]], tokenizer: Any) -> None:
    """LoRA-GA's preparation: the gradient of one batch, which PEFT's initialization reads."""
    from peft.tuners.lora import preprocess_loraga
    from transformers import DataCollatorForSeq2Seq

    batch = DataCollatorForSeq2Seq(tokenizer, padding=True)(examples).to(model.device)

    def train_step() -> None:
        model(**batch).loss.backward()

    preprocess_loraga(model, config, train_step)
    model.zero_grad(set_to_none=True)
