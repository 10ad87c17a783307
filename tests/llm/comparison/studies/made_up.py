"""Studies whose runs have known losses: nothing is trained."""

import math

import numpy as np

from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.comparison.studies.about import About
from lorakappa.llm.comparison.studies.stages import run_study
from lorakappa.llm.comparison.studies.study import FreshSeeds, Study, StudyTable
from lorakappa.llm.data.splits import Example, Splits
from lorakappa.shared.records import write_json
from tests.llm.comparison.outcomes import diverged, fake_record

SPLITS = Splits((Example("1+1=", "2"),), (Example("1+2=", "3"),), (Example("2+2=", "4"),), (), "sums")
SETTINGS = TrainingSettings(steps=20, evaluations=2)
ABOUT = About(name="tiny", model=None, data=None, source="sums", digest=SPLITS.digest)

TEXT = """
half_width = 0.05
delta = 0.1
[settings]
steps = 20
evaluations = 2
[selection]
seeds = 2
extensions = 1
[fresh]
minimum = 4
step = 2
maximum = 12
[[tables]]
name = "methods"
methods = ["lora", "balora", "ilora"]
ranks = [2, 8]
learning_rates = "1e-4:1e-2:3"
lambdas = [1, 10]
"""


def table(name="all", methods=("lora", "balora"), ranks=(4,), steps=(20,), rates=(1e-3,), settings=SETTINGS, **rest):
    return StudyTable(name, methods, ranks, steps, settings, rates, **rest)


def study(*tables, minimum=4, step=2, maximum=20, first=100, selection=(0, 1), **rest):
    fresh = FreshSeeds(first, minimum, step, maximum)
    return Study("made-up", "", tables or (table(),), fresh, selection_seeds=selection, **rest)


def noise(run, scale=0.1):
    """A loss that is shared by the methods at a seed, and a small one of the run's own."""
    own = np.random.default_rng([run.seed, len(run.method), run.rank]).standard_normal()
    return 0.5 * math.sin(run.seed) + scale * own


def known(loss, seconds=lambda run: 36.0, *, there=lambda run, settings: True, **measured):
    """Gives records as a study's folder does, of those runs that are `there`; `measured` has functions of the run."""

    def lookup(run, settings):
        if not there(run, settings):
            return None
        found = {name: value(run) for name, value in measured.items()}
        record = fake_record(run, (9.0, loss(run)), test_loss=loss(run), **found)
        record["run_info"]["total_time"] = seconds(run)
        return record

    return lookup


def tuned_loss(run):
    """The losses of `TEXT`: best at a rate of 0.001, where BaLoRA gains 0.4 and iLoRA nothing."""
    gain = {"lora": 0.0, "balora": 0.4}.get(run.method, 0.0)
    return 2 + noise(run, 0.02) + 0.5 * abs(math.log10(run.learning_rate) + 3) - gain


class Machine:
    """Makes runs: the test loss is what `loss` says, the validation loss too; None fails, infinity diverges."""

    def __init__(self, loss, seconds=36.0):
        self.loss, self.seconds, self.made, self.stop_after = loss, seconds, [], None

    def __call__(self, tasks, *, done):
        failures = []
        for task in tasks:
            if self.stop_after is not None and len(self.made) >= self.stop_after:
                raise KeyboardInterrupt
            assert task.record() is None
            self.made.append(task.run)
            loss = self.loss(task.run)
            if loss is None:
                failures.append(f"{task.key}: ValueError: no")
                write_json(task.file, {"run": {}, "train_info": {"status": "failed"}})
            elif math.isinf(loss):
                write_json(task.file, diverged(task.run))
            else:
                record = fake_record(task.run, (9.0, loss), test_loss=loss, test_exact_match=0.5)
                record["run_info"]["total_time"] = self.seconds
                write_json(task.file, record)
            done(task, "success")
        return failures

    def run(self, chosen, folder, splits=SPLITS):
        return run_study(chosen, splits, folder, execute=self, quiet=True)
