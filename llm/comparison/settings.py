"""What a fine-tune is told: the settings that all runs of a comparison share, and what one run has of its own."""

from dataclasses import dataclass
from math import inf

from lorakappa.llm.data.models import DTYPES
from lorakappa.shared.forecast import check_duration

SCHEDULES = ("constant", "linear", "cosine")

OPTIMIZERS = ("adamw", "sgd")


LARGEST = 10**9
"""Of what is counted: steps, examples, tokens."""

LARGEST_SEED = 2**32 - 1
"""Of NumPy's and torch's generators."""

LEAST_STEP_SECONDS = 1e-3
"""No model trains faster."""


@dataclass(frozen=True)
class TrainingSettings:
    """What all runs of a comparison share.

    Attributes:
        model: "tiny", a hub id or a local folder.
        dtype: of the base model; the adapter trains in float32.
        steps: optimizer steps.
        batch_size: examples per micro-batch; all there are, if they are fewer.
        accumulation: micro-batches per step.
        max_length: tokens; longer examples are dropped.
        schedule: of the learning rate: "constant", "linear" or "cosine" (to 0).
        warmup: share of the steps over which the learning rate rises from 0.
        optimizer: "adamw", or "sgd" with momentum for the methods that bring no optimizer of their own.
        momentum: of SGD.
        weight_decay: of the optimizer.
        clip: largest norm of the gradient; 0 for no clipping.
        dropout: of the adapter.
        label_smoothing: of the training loss.
        betas: of AdamW.
        epsilon: of AdamW.
        targets: names of the adapted modules; empty for all linear projections of the blocks.
        evaluations: how often the validation loss is measured, beside the start.
        generate: test examples whose answers are generated for the exact match; all there are, if they are fewer.
        gradient_checkpointing: whether to trade time for memory.
        checkpoint_every: steps between checkpoints that a killed run resumes from; 0 for none.
    """

    model: str = "tiny"
    dtype: str = "float32"
    steps: int = 60
    batch_size: int = 16
    accumulation: int = 1
    max_length: int = 256
    schedule: str = "linear"
    warmup: float = 0.05
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip: float = 1.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    targets: tuple[str, ...] = ()
    evaluations: int = 5
    generate: int = 64
    gradient_checkpointing: bool = False
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: if one is out of range.
        """
        for name in ("steps", "batch_size", "accumulation", "max_length", "evaluations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', ' ')} must be at least 1, not {getattr(self, name)}")
        for name in (
            "steps",
            "batch_size",
            "accumulation",
            "max_length",
            "evaluations",
            "generate",
            "checkpoint_every",
        ):
            if getattr(self, name) > LARGEST:
                raise ValueError(f"{name.replace('_', ' ')} must be at most {LARGEST}, not {getattr(self, name)}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        check_duration(self.steps * self.accumulation * LEAST_STEP_SECONDS, f"{self.steps} steps", "ask for fewer")
        for name in ("weight_decay", "clip", "generate", "checkpoint_every"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name.replace('_', ' ')} must be finite and at least 0, not {getattr(self, name)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {self.optimizer!r}; choose from {', '.join(OPTIMIZERS)}")
        for name in ("warmup", "dropout", "label_smoothing", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name.replace('_', ' ')} must lie in [0, 1), but is {getattr(self, name)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {self.schedule!r}; choose from {', '.join(SCHEDULES)}")
        if self.evaluations > self.steps:
            raise ValueError(f"{self.evaluations} evaluations need as many steps, but there are {self.steps}")


@dataclass(frozen=True)
class Run:
    """One cell of a comparison with one seed.

    Attributes:
        method: as `llm.comparison.methods.parse_method` takes it.
        rank: r.
        scaling: α/r, which multiplies AB.
        learning_rate: peak of the schedule.
        seed: of the adapter's start and of the data order.
    """

    method: str
    rank: int
    scaling: float
    learning_rate: float
    seed: int

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: if one is out of range.
        """
        if self.rank < 1:
            raise ValueError(f"the rank must be at least 1, not {self.rank}")
        for name in ("scaling", "learning_rate"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"the {name.replace('_', ' ')} must be positive and finite, not {getattr(self, name)}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ValueError(f"the seed must lie between 0 and {LARGEST_SEED}, but is {self.seed}")
