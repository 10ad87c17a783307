"""Starting points of `compare`: what a comparison of a given kind fixes. Every option of the command overrides them.

The settings of the papers are reproduced as far as they are known: `known` says which are and from where, `ours` what
is not. Presets of the papers need a GPU, and models and data from the hub or from local folders.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from lorakappa.llm.comparison.protocol import Plan, parse_grid
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.data.sources import MATHEMATICS, TOPICS

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
        known: what is the source's, and where it stands there.
        ours: what is not, because it is unknown or cannot be had here.
    """

    summary: str
    plan: Plan
    data: str = MATHEMATICS
    columns: tuple[str, str] | None = None
    sizes: tuple[int, int, int] = (100_000, 1000, 1000)
    resplit: bool = False
    known: str = ""
    ours: str = ""


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

TOPICS_PRESET: Final = Preset(
    "the same model on a task that it learns: topics of questions",
    replace(
        TINY_PRESET.plan,
        learning_rates=parse_grid("2.5e-3:2e-2:4"),
        settings=TrainingSettings(steps=200, batch_size=8, generate=512),
    ),
    data=TOPICS,
    sizes=(4000, 128, 512),
)

_BALORA_3B = TrainingSettings(
    dtype="bfloat16",
    batch_size=8,
    accumulation=4,
    max_length=1024,
    schedule="constant",
    warmup=0.0,
    weight_decay=0.01,
    targets=("gate_proj", "up_proj", "down_proj"),
    evaluations=10,
    generate=0,
    gradient_checkpointing=True,
    checkpoint_every=500,
)
"""What all configurations in the BaLoRA paper's public code have in common, but for precision and checkpoints."""

_BALORA_CODE = "the BaLoRA paper's public code, experiments/configs"
_BALORA_OURS = "bfloat16 (no precision is set there), three seeds, a validation split apart from the test split"

QWEN_MATHEMATICS: Final = Preset(
    "the BaLoRA paper's Qwen2.5-3B on DeepMind Mathematics",
    Plan(
        methods=("lora", "balora"),
        ranks=(8, 16, 32, 64, 128),
        learning_rates=parse_grid("1e-5:1e-2:7"),
        settings=replace(_BALORA_3B, model=QWEN, steps=3125, generate=1000),
    ),
    known="model, data and ranks, at second hand (Fig. 5, Tables 7 and 8); modules, batch, length, schedule, decay and "
    f"clipping are common to {_BALORA_CODE}, where this experiment is missing",
    ours="learning rates, the scale α/r = 1 (the paper sweeps it), 3,125 steps (the paper: 10⁹ tokens), "
    f"{_BALORA_OURS}; name the official data with --data",
)


def _balora(model: str, folder: str, scalings: int, **rest: Any) -> Preset:
    """A sweep of the BaLoRA paper whose configuration is public: learning rate against α/r = A_scaling², at r = 8."""
    low = {10: "1e-6", 5: "1e-5"}[scalings]
    settings = replace(_BALORA_3B, model=model, steps=rest.pop("steps"))
    return Preset(
        plan=Plan(
            methods=("lora", "balora"),
            ranks=(8,),
            learning_rates=parse_grid(f"{low}:1e-2:10"),
            scalings=parse_grid(f"1e-4:1e4:{scalings}"),
            settings=settings,
        ),
        known=f"{_BALORA_CODE}/{folder}, which sweeps LoRA, BaLoRA, DoRA, OLoRA and LoRA-GA: all but what is ours",
        ours=_BALORA_OURS + rest.pop("ours", ""),
        **rest,
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
        known="the iLoRA paper's Table 3 and Appendix C.1.1",
        ours="GPT-2 has one attention projection, c_attn, adapted as a whole here; length, no clipping, πLoRA's "
        "damping, LoRA's learning rate; loss and exact match rather than BLEU and the like",
    )


_GLUE = TrainingSettings(
    model=MISTRAL,
    dtype="bfloat16",
    batch_size=8,
    max_length=512,
    schedule="linear",
    warmup=0.0,
    weight_decay=0.01,
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

GLUE_DAMPING: Final = {
    "mnli": 1e-3, "sst2": 1e-2, "mrpc": 1e3, "cola": 1e-2, "qnli": 1e-4, "qqp": 1e-3, "rte": 10, "stsb": 0.1, "wnli": 1,
}  # fmt: skip
"""Damping of πLoRA's preconditioner by task, its Table 5's "Scaled Reg"."""


def _glue(method: str, task: str) -> Preset:
    """The Mistral-7B experiment of iLoRA's paper on one GLUE task."""
    prompt, examples = GLUE_TASKS[task]
    learning_rate, strength = GLUE_RATES[method][task]
    validation = min(1000, examples // 5)
    train = int(0.97 * examples) - 2 * validation  # some questions occur twice
    damping = f",damping={GLUE_DAMPING[task]:g}" if method == "pilora" else ""
    return Preset(
        f"Mistral-7B on GLUE {task}, {method}'s setting",
        Plan(
            methods=("lora", f"{method}:lambda={strength:g}{damping}"),
            ranks=(16,),
            learning_rates=(learning_rate,),
            scalings=(1.0,),  # α = 16
            settings=replace(_GLUE, steps=5 * train // 8),
        ),
        data=f"nyu-mll/glue:{task}",
        columns=(prompt, "{label}"),
        sizes=(train, validation, validation),
        resplit=True,
        known="the iLoRA paper's Tables 5 and 6 and Appendix C.2.1",
        ours="the label is generated as text where the paper has a head, validation and test are cut from the training "
        "data because the test labels are hidden; bfloat16, length, LoRA's learning rate",
    )


PRESETS: Final[dict[str, Preset]] = {
    "tiny": TINY_PRESET,
    "tiny-topics": TOPICS_PRESET,
    "qwen2.5-3b": QWEN_MATHEMATICS,
    "qwen2.5-3b-metamath": _balora(
        QWEN,
        "qwen_metamath",
        10,
        steps=3125,  # 1 epoch
        summary="the BaLoRA paper's Qwen2.5-3B on MetaMathQA",
        data="meta-math/MetaMathQA",
        columns=("Question: {query}\nAnswer:", " {response}"),
    ),
    "llama-3.2-3b": _balora(
        LLAMA,
        "llama_gsm8k",
        5,
        steps=1000,  # 5 epochs
        summary="the BaLoRA paper's Llama-3.2-3B on GSM8K",
        data="openai/gsm8k:main",
        columns=("Question: {question}\nAnswer:", " {answer}"),
        sizes=(6400, 1000, 1300),
        ours=" of 1,000 training questions; Wikitext, the paper's other data for this model, are texts without prompts "
        "and have no preset",
    ),
    "gpt2-e2e-ilora": _e2e("ilora:lambda=10", 6e-4, (0.9, 0.999)),
    "gpt2-e2e-pilora": _e2e("pilora:lambda=1", 7e-4, (0.7, 0.8)),
    **{f"mistral-{task}-{method}": _glue(method, task) for method in GLUE_RATES for task in GLUE_TASKS},
}


def preset_for(model: str | None, name: str | None) -> Preset:
    """The preset called `name`, else the one that suits a model: "tiny" its own, any other Qwen2.5-3B's.

    Other models than that have all linear projections adapted.

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
    settings = replace(preset.plan.settings, model=model)
    if name is None and model != QWEN:
        settings = replace(settings, targets=())  # modules of other models may have other names
    return replace(preset, plan=replace(preset.plan, settings=settings))
