"""Records and outcomes whose numbers are known, without any training."""

import math

from lorakappa.llm.comparison.best import best_cells
from lorakappa.llm.comparison.protocol import Outcome, Plan
from lorakappa.llm.comparison.settings import TrainingSettings

RATES = (1e-4, 1e-3, 1e-2)


def fake_record(run, valid=(3.0, 2.0, 1.0), *, status="success", seconds=0.5, method_seconds=0.0, **found):
    """A record with an evaluation every ten steps; `found` goes into train_info."""
    last = 10 * (len(valid) - 1)
    return {
        "run": {name: getattr(run, name) for name in ("method", "rank", "scaling", "learning_rate", "seed")},
        "run_info": {"error_msg": ""},
        "train_info": {
            "status": status,
            "train_time": seconds * last,
            "steps": last,
            "peak_memory": 1000,
            "metrics": [
                {
                    "step": 10 * i,
                    "train loss": None if i == 0 else loss,
                    "valid loss": loss,
                    "train time": seconds * 10 * i,
                    "method time": method_seconds * 10 * i,
                    "gap": 0.5 / (i + 1),
                    "kappa bound": math.inf if i == 0 else 10.0 * i,
                }
                for i, loss in enumerate(valid)
            ],
            **({"test_loss": valid[-1] + 0.1} if status == "success" else {}),
            **found,
        },
    }


def diverged(run):
    return fake_record(run, (3.0,), status="diverged")


def outcome_of(make, methods=("lora", "balora"), ranks=(4,), rates=RATES, seeds=(0, 1, 2), failures=(), **plan):
    """An outcome of the records that `make` returns for each run; None for a run that failed."""
    settings = plan.pop("settings", TrainingSettings(steps=20, evaluations=2))
    plan = Plan(methods, ranks, rates, seeds=seeds, settings=settings, **plan)
    records = {
        (method, rank): [record for run in plan.runs(method, rank, rates) if (record := make(run)) is not None][::-1]
        for method in methods
        for rank in ranks
    }
    return Outcome(plan, "sums", records, list(failures))


def curved(run, optimum=-3.0, floor=1.0, slope=0.02):
    """A loss that rises by `slope` per decade away from its optimum."""
    return floor + slope * abs(math.log10(run.learning_rate) - optimum)


def only(outcome, method="lora", rank=4):
    return best_cells(outcome)[method, rank]
