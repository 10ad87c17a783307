"""What training settings may be."""

import math

import pytest

from lorakappa.llm.comparison.settings import TrainingSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"batch_size": 0}, "batch size must be at least 1, not 0"),
        ({"accumulation": 0}, "accumulation must be at least 1, not 0"),
        ({"max_length": 0}, "max length must be at least 1, not 0"),
        ({"evaluations": 0}, "evaluations must be at least 1, not 0"),
        ({"steps": 4, "evaluations": 5}, "5 evaluations need as many steps, but there are 4"),
        ({"weight_decay": -0.1}, "weight decay must be finite and at least 0, not -0.1"),
        ({"weight_decay": math.inf}, "weight decay must be finite"),
        ({"clip": -1.0}, "clip must be finite and at least 0"),
        ({"clip": math.nan}, "clip must be finite and at least 0"),
        ({"generate": -1}, "generate must be finite and at least 0"),
        ({"checkpoint_every": -1}, "checkpoint every must be finite and at least 0"),
        ({"warmup": 1.0}, r"warmup must lie in \[0, 1\), but is 1.0"),
        ({"warmup": -0.1}, r"warmup must lie in \[0, 1\)"),
        ({"dropout": 1.5}, r"dropout must lie in \[0, 1\)"),
        ({"label_smoothing": 1.0}, r"label smoothing must lie in \[0, 1\)"),
        ({"schedule": "step"}, "unknown schedule 'step'; choose from constant, linear, cosine"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**changes)


def test_good_settings_at_their_limits():
    TrainingSettings(steps=1, evaluations=1, batch_size=1, accumulation=1, max_length=1, generate=0, checkpoint_every=0)
    TrainingSettings(steps=5, evaluations=5, warmup=0.0, dropout=0.0, weight_decay=0.0, clip=0.0)
