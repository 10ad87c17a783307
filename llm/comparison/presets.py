"""Starting points of `compare`: what a comparison of a given kind fixes. Every option of the command overrides them.

The settings of the papers are reproduced as far as they are known; where they are ours, `note` says so. Presets other
than "tiny" need a GPU, and models and data from the hub or from local folders.
"""

from dataclasses import dataclass, replace
from typing import Final

from lorakappa.llm.comparison.protocol import Plan, parse_grid
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.data.sources import MATHEMATICS

QWEN = "Qwen/Qwen2.5-3B"
LLAMA = "meta-llama/Llama-3.2-3B"
MISTRAL = "mistralai/Mistral-7B-v0.1"
GPT2 = "openai-community/gpt2-medium"


@dataclass(frozen=True)
class Preset:
    """A plan with its data.

    Attributes:
        summary: one line.
        plan: methods, grids, seeds and settings.
        data: source for `llm.data.sources.load_splits`.
        columns: of that data (`load_splits`); None for its own.
        sizes: numbers of training, validation and test examples.
        resplit: whether validation and test are cut from the training data although there are others.
        note: what is known of the source, and what is ours.
    """

    summary: str
    plan: Plan
    data: str = MATHEMATICS
    columns: tuple[str, str] | None = None
    sizes: tuple[int, int, int] = (100_000, 1000, 1000)
    resplit: bool = False
    note: str = ""


TINY_PRESET: Final = Preset(
    "the model that comes with the project, on two CPU cores in minutes",
    Plan(
        methods=("lora", "balora"),
        ranks=(2, 8),
        learning_rates=parse_grid("2e-3:5e-2:4"),
        strengths=(1.0, 10.0),
        settings=TrainingSettings(),
    ),
    sizes=(4000, 128, 256),
)

_BALORA_3B = TrainingSettings(
    dtype="bfloat16",
    steps=3125,
    batch_size=8,
    accumulation=4,
    max_length=1024,
    schedule="constant",
    warmup=0.0,
    evaluations=10,
    generate=1000,
    gradient_checkpointing=True,
    checkpoint_every=500,
)


def _balora(model: str, summary: str) -> Preset:
    """The BaLoRA paper's comparison on DeepMind Mathematics."""
    return Preset(
        summary,
        Plan(
            methods=("lora", "balora"),
            ranks=(4, 8, 16),
            learning_rates=parse_grid("1e-5:1e-2:7"),
            settings=replace(_BALORA_3B, model=model),
        ),
        note="Modules, ranks and grid of that experiment were not public; batch, schedule, epochs and length are those "
        "of the authors' MetaMath configuration, ranks and grid ours. Name the official data with --data.",
    )


_E2E = TrainingSettings(
    model=GPT2,
    steps=25_937,  # 5 epochs of 41,500 examples, all but some repeated ones
    batch_size=8,
    max_length=512,
    schedule="linear",
    warmup=500 / 25_937,
    weight_decay=0.01,
    dropout=0.1,
    label_smoothing=0.1,
    clip=0.0,
    evaluations=10,
    generate=500,
    checkpoint_every=2000,
)


def _e2e(method: str, learning_rate: float, betas: tuple[float, float]) -> Preset:
    """The GPT-2 medium experiment of iLoRA's paper; its LoRA baseline at the same learning rate."""
    return Preset(
        f"GPT-2 medium on E2E, {method.split(':')[0]}'s setting",
        Plan(
            methods=("lora", method),
            ranks=(4,),
            learning_rates=(learning_rate,),
            scalings=(8.0,),  # α = 32
            settings=replace(_E2E, betas=betas),
        ),
        data="tuetschek/e2e_nlg",
        columns=("{meaning_representation}\n", "{human_reference}"),
        sizes=(41_500, 4600, 4600),
        note="GPT-2 has one attention projection, c_attn, adapted as a whole here. BLEU and the like are not computed: "
        "loss and exact match are.",
    )


_GLUE = TrainingSettings(
    model=MISTRAL,
    dtype="bfloat16",
    batch_size=8,
    max_length=512,
    schedule="linear",
    warmup=0.0,
    dropout=0.05,
    epsilon=1e-6,
    evaluations=10,
    generate=1000,
    gradient_checkpointing=True,
    checkpoint_every=1000,
)

GLUE_TASKS: Final = {
    "mnli": ("{premise}\n{hypothesis}\nEntailment, neutral or contradiction (0, 1, 2)? ", 392_702),
    "sst2": ("{sentence}\nPositive (0, 1)? ", 67_349),
    "mrpc": ("{sentence1}\n{sentence2}\nEquivalent (0, 1)? ", 3668),
    "cola": ("{sentence}\nAcceptable (0, 1)? ", 8551),
    "qnli": ("{question}\n{sentence}\nEntailment or not (0, 1)? ", 104_743),
    "qqp": ("{question1}\n{question2}\nDuplicates (0, 1)? ", 363_846),
    "rte": ("{sentence1}\n{sentence2}\nEntailment or not (0, 1)? ", 2490),
    "stsb": ("{sentence1}\n{sentence2}\nSimilarity from 0 to 5? ", 5749),
    "wnli": ("{sentence1}\n{sentence2}\nEntailment (0, 1)? ", 635),
}
"""Prompt and number of training examples of each GLUE task."""

GLUE_RATES: Final = {
    "ilora": {
        "mnli": (4e-6, 1), "sst2": (1e-4, 1), "mrpc": (5e-5, 10), "cola": (5e-5, 0.1), "qnli": (5e-6, 100),
        "qqp": (8e-6, 0.01), "rte": (7e-5, 0.01), "stsb": (1e-4, 0.01), "wnli": (5e-5, 100),
    },
    "pilora": {
        "mnli": (4e-6, 0.01), "sst2": (6e-5, 0.001), "mrpc": (7e-5, 0.01), "cola": (8e-5, 10), "qnli": (4e-6, 100),
        "qqp": (8e-6, 10), "rte": (7e-5, 10), "stsb": (8e-5, 1), "wnli": (3e-5, 100),
    },
}  # fmt: skip
"""Learning rate and λ by method and task, from iLoRA's Table 5."""


def _glue(method: str, task: str) -> Preset:
    """The Mistral-7B experiment of iLoRA's paper on one GLUE task."""
    prompt, examples = GLUE_TASKS[task]
    learning_rate, strength = GLUE_RATES[method][task]
    validation = min(1000, examples // 5)
    train = int(0.97 * examples) - 2 * validation  # some questions occur twice
    return Preset(
        f"Mistral-7B on GLUE {task}, {method}'s setting",
        Plan(
            methods=("lora", f"{method}:lambda={strength:g}"),
            ranks=(16,),
            learning_rates=(learning_rate,),
            scalings=(1.0,),  # α = 16
            settings=replace(_GLUE, steps=5 * train // 8),
        ),
        data=f"nyu-mll/glue:{task}",
        columns=(prompt, "{label}"),
        sizes=(train, validation, validation),
        resplit=True,
        note="The paper classifies with a head; here the label is generated as text. GLUE's test labels are hidden, so "
        "validation and test are cut from the training data.",
    )


PRESETS: Final[dict[str, Preset]] = {
    "tiny": TINY_PRESET,
    "qwen2.5-3b": _balora(QWEN, "the BaLoRA paper's Qwen2.5-3B on DeepMind Mathematics"),
    "llama-3.2-3b": _balora(LLAMA, "the BaLoRA paper's Llama-3.2-3B on DeepMind Mathematics"),
    "gpt2-e2e-ilora": _e2e("ilora:lambda=10", 6e-4, (0.9, 0.999)),
    "gpt2-e2e-pilora": _e2e("pilora:lambda=1", 7e-4, (0.7, 0.8)),
    **{f"mistral-{task}-{method}": _glue(method, task) for method in GLUE_RATES for task in GLUE_TASKS},
}


def preset_for(model: str | None, name: str | None) -> Preset:
    """The preset called `name`, else the one that suits a model: "tiny" its own, any other the 3B settings.

    Args:
        model: as of the option --model; None means "tiny" without a GPU and Qwen2.5-3B with one.
        name: of a preset, or None.

    Returns:
        The preset, with the model put in.

    Raises:
        ValueError: on an unknown preset.
    """
    if name is not None:
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; `presets` lists the {len(PRESETS)} there are")
        preset = PRESETS[name]
    else:
        import torch

        big = torch.cuda.is_available() if model is None else model != "tiny"
        preset = PRESETS["qwen2.5-3b" if big else "tiny"]
    if model is None:
        return preset
    return replace(preset, plan=replace(preset.plan, settings=replace(preset.plan.settings, model=model)))
