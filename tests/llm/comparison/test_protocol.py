"""How a comparison looks for the best learning rates, on runs that write records of a known loss."""

import math

import pytest

from lorakappa.llm.comparison import protocol
from lorakappa.llm.comparison.best import best_cells
from lorakappa.llm.comparison.cells import Cell, best_cell, by_cell, validation_loss
from lorakappa.llm.comparison.protocol import MOST_RUNS, Plan, compare, extended, parse_grid, stored
from lorakappa.llm.comparison.runs import exclusive
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.comparison.summary import description
from lorakappa.llm.data.splits import Example, Splits
from lorakappa.shared.methods import at_strengths
from lorakappa.shared.records import write_json
from tests.llm.comparison.outcomes import diverged, fake_record

SPLITS = Splits((Example("1+1=", "2"),), (Example("1+2=", "3"),), (Example("2+2=", "4"),), (), "sums")
GRID = (1e-4, 1e-3, 1e-2)


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("1e-4:1e-2:3", (1e-4, 1e-3, 1e-2)),
        ("1e-4:1e-2:2", (1e-4, 1e-2)),
        ("1e-3:1e-3:1", (1e-3,)),
        ("1e-4:1e-3:4", (1e-4, 0.0002154, 0.0004642, 1e-3)),
        ("0.1", (0.1,)),
        ("1e-2, 1e-4,1e-3", (1e-4, 1e-3, 1e-2)),
        ("0.12345678,0.123456", (0.1235,)),
    ],
)
def test_grids(text, rates):
    assert parse_grid(text) == rates


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "1e-4:1e-2",
        "1e-2:1e-4:3",
        "0:1:3",
        "-1:1:3",
        "1e-4:1e-2:0",
        "1e-4:1e-2:1",
        "1:inf:3",
        "1:2:x",
        "1,x",
    ],
)
def test_no_grids(text):
    with pytest.raises(ValueError, match="is no grid: give LO:HI:N with 0 < LO ≤ HI, or numbers separated by commas"):
        parse_grid(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ()}, "methods must be a list of one or more different values"),
        ({"methods": ("lora", "lora")}, "methods must be a list of one or more different values"),
        ({"ranks": (4, 4)}, "ranks must be a list of one or more different values"),
        ({"learning_rates": ()}, "learning rates must be a list of one or more different values"),
        ({"scalings": ()}, "scalings must be"),
        ({"strengths": ()}, "strengths must be"),
        ({"seeds": (0, 0)}, "seeds must be a list"),
        ({"methods": ("lora", "lara")}, "unknown method 'lara'"),
        ({"ranks": (0, 4)}, "ranks must be at least 1, not 0"),
        ({"learning_rates": (0.0, 1e-3)}, "learning rates must be positive and finite"),
        ({"learning_rates": (1e-3, math.inf)}, "learning rates must be positive and finite"),
        ({"scalings": (-1.0,)}, "scalings must be positive and finite"),
        ({"strengths": (math.nan,)}, "strengths must be positive and finite"),
        ({"seeds": (-1, 0)}, "seeds must not be negative"),
        ({"extensions": 101}, "extensions must be between 0 and 100, not 101"),
    ],
)
def test_bad_plans(changes, message):
    with pytest.raises(ValueError, match=message):
        Plan(**{"methods": ("lora",), "ranks": (4,), "learning_rates": GRID, **changes})


def test_runs_of_a_plan():
    plan = Plan(("lora", "ilora"), (4,), GRID, scalings=(1.0, 2.0), strengths=(0.1, 10.0), seeds=(5, 6))
    assert at_strengths("ilora@2", plan.strengths, "llm") == ["ilora:lambda=0.1@2", "ilora:lambda=10@2"]
    assert at_strengths("ilora:lambda=3", plan.strengths, "llm") == ["ilora:lambda=3"]
    assert len(plan.runs("lora", 4, GRID)) == 2 * 3 * 2
    runs = plan.runs("ilora", 4, [1e-3])
    assert len(set(runs)) == len(runs) == 2 * 2 * 2
    assert runs[0] == Run("ilora:lambda=0.1", 4, 1.0, 1e-3, 5)
    assert {run.seed for run in runs} == {5, 6}


class Sweep:
    """A comparison whose runs have a known loss; keeps what was run."""

    def __init__(self, loss, folder):
        self.loss, self.folder, self.made = loss, folder, []

    def execute(self, tasks, done):
        failures = []
        for task in tasks:
            if task.record() is not None:
                continue
            assert task.data.is_dir()
            self.made.append(task.key)
            loss = self.loss(task.run)
            if loss is None:
                failures.append(f"{task.key}: failed")
                write_json(task.file, {"run": {}, "train_info": {"status": "failed"}})
            elif math.isinf(loss):
                write_json(task.file, diverged(task.run))
            else:
                write_json(task.file, fake_record(task.run, (9.0, loss), test_loss=-loss))
            done(task, "success")
        return failures

    def __call__(self, methods=("lora",), ranks=(4,), rates=GRID, seeds=(0, 1), **plan):
        plan = Plan(methods, ranks, rates, seeds=seeds, **plan)
        return compare(plan, SPLITS, self.folder, execute=self.execute, quiet=True)

    def rates(self, outcome, method="lora", rank=4):
        return sorted({record["run"]["learning_rate"] for record in outcome.records[method, rank]})


def valley(optimum, base=1.0):
    return lambda run: base + (math.log10(run.learning_rate) - optimum) ** 2


@pytest.mark.parametrize(
    ("optimum", "extensions", "lowest", "highest", "edge"),
    [
        (-3.1, 4, 1e-4, 1e-2, False),
        (-4.0, 4, 1e-5, 1e-2, False),  # the best at the edge: one more, which is worse
        (-5.6, 4, 1e-7, 1e-2, False),
        (-1.0, 4, 1e-4, 1.0, False),
        (-9.0, 2, 1e-6, 1e-2, True),
        (+9.0, 1, 1e-4, 1e-1, True),
        (-9.0, 0, 1e-4, 1e-2, True),
    ],
)
def test_grids_grow_until_the_best_is_interior(optimum, extensions, lowest, highest, edge, tmp_path):
    sweep = Sweep(valley(optimum), tmp_path)
    outcome = sweep(extensions=extensions)
    rates = sweep.rates(outcome)
    assert (rates[0], rates[-1]) == (lowest, highest)
    assert rates == [10.0**k for k in range(round(math.log10(lowest)), round(math.log10(highest)) + 1)]
    assert len(outcome.records["lora", 4]) == 2 * len(rates)
    best = best_cells(outcome)["lora", 4]
    assert best.at_edge == edge
    assert best.learning_rate == min(rates, key=lambda rate: abs(math.log10(rate) - optimum))
    assert len(sweep.made) == len(set(sweep.made)) == len(outcome.records["lora", 4])


def test_every_method_and_rank_has_its_own_grid(tmp_path):
    optima = {("lora", 4): -3.0, ("lora", 8): -5.0, ("balora", 4): -1.0, ("balora", 8): -3.0}
    sweep = Sweep(lambda run: valley(optima[run.method, run.rank])(run), tmp_path)
    outcome = sweep(("lora", "balora"), (4, 8))
    assert {cell: (sweep.rates(outcome, *cell)[0], sweep.rates(outcome, *cell)[-1]) for cell in optima} == {
        ("lora", 4): (1e-4, 1e-2), ("lora", 8): (1e-6, 1e-2), ("balora", 4): (1e-4, 1.0), ("balora", 8): (1e-4, 1e-2)
    }  # fmt: skip
    assert len(sweep.made) == len(set(sweep.made)) == 2 * (3 + 5 + 5 + 3)


def test_what_diverges_everywhere_is_tried_lower(tmp_path):
    def loss(run):
        return math.inf if run.learning_rate > 1.5e-6 else valley(-6.0)(run)

    outcome = Sweep(loss, tmp_path)()
    assert best_cells(outcome)["lora", 4].learning_rate == 1e-6
    assert not best_cells(outcome)["lora", 4].at_edge
    nothing = Sweep(lambda run: math.inf, tmp_path / "b")
    assert nothing.rates(nothing(extensions=2)) == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]
    single = Sweep(lambda run: math.inf, tmp_path / "c")
    assert single.rates(single(rates=(1e-3,))) == [1e-3]


def test_one_diverged_seed_rules_a_learning_rate_out(tmp_path):
    def loss(run):
        return math.inf if (run.learning_rate, run.seed) == (1e-3, 1) else valley(-3.0)(run) + run.learning_rate

    outcome = Sweep(loss, tmp_path)()
    assert best_cells(outcome)["lora", 4].learning_rate == 1e-4


def test_the_choice_is_by_the_mean_over_seeds_and_never_by_the_test_loss(tmp_path):
    """Validation losses by seed: 1e-3 is best in the mean, the others at one seed; the test loss prefers 1e-2."""
    table = {1e-4: (1.0, 3.0), 1e-3: (1.5, 1.6), 1e-2: (3.0, 1.0), 1e-5: (9.0, 9.0), 1e-1: (9.0, 9.0)}
    sweep = Sweep(lambda run: table[run.learning_rate][run.seed], tmp_path)
    outcome = sweep()
    assert best_cells(outcome)["lora", 4].learning_rate == 1e-3
    assert sweep.rates(outcome) == [1e-4, 1e-3, 1e-2]
    assert all(r["train_info"]["test_loss"] == -validation_loss(r) for r in outcome.records["lora", 4])
    low = Sweep(valley(-20.0), tmp_path / "low")
    assert low.rates(low(extensions=1)) == [1e-5, *GRID]  # the test loss would have gone up


def test_strengths(tmp_path):
    def loss(run):
        strength = float(run.method.partition("lambda=")[2] or 1)
        return valley(-3.0)(run) + abs(math.log10(strength) + 1) - (strength == 5)

    outcome = Sweep(loss, tmp_path)(("lora", "ilora", "ilora:lambda=5"), strengths=(0.1, 1.0))
    best = best_cells(outcome)
    assert best["ilora", 4].variant == "ilora:lambda=0.1"
    assert best["ilora:lambda=5", 4].variant == "ilora:lambda=5"
    assert len(outcome.records["ilora", 4]) == 2 * len(outcome.records["ilora:lambda=5", 4]) == 12


def test_a_variant_that_is_asked_for_twice_is_run_once(tmp_path):
    sweep = Sweep(valley(-3.0), tmp_path)
    handed = []

    def execute(tasks, done):
        handed.extend(task.key for task in tasks)
        return sweep.execute(tasks, done)

    plan = Plan(("ilora", "ilora:lambda=1"), (4,), GRID, seeds=(0,))
    outcome = compare(plan, SPLITS, tmp_path, execute=execute, quiet=True)
    assert len(handed) == len(set(handed)) == 3
    assert outcome.records["ilora", 4] == outcome.records["ilora:lambda=1", 4]


def test_the_same_command_again_runs_nothing_and_an_extended_one_only_what_is_new(tmp_path):
    sweep = Sweep(valley(-5.0), tmp_path)
    outcome = sweep()
    count = len(sweep.made)
    assert sweep().records == outcome.records
    assert len(sweep.made) == count
    sweep(seeds=(0, 1, 2))
    assert len(sweep.made) == len(set(sweep.made)) == count + count // 2
    sweep(("lora", "balora"))
    assert len(sweep.made) == len(set(sweep.made)) == 2 * count + count // 2
    before = len(sweep.made)
    sweep(settings=TrainingSettings(steps=99))
    assert len(sweep.made) == before + count


def test_failures_are_told_once_and_their_cells_left_out(tmp_path):
    sweep = Sweep(lambda run: None if run.learning_rate == 1e-3 and run.seed == 1 else valley(-4.0)(run), tmp_path)
    outcome = sweep()
    assert len(outcome.failures) == 1
    assert "lr0.001-seed1" in outcome.failures[0]
    assert best_cells(outcome)["lora", 4].learning_rate == 1e-4
    assert len(outcome.records["lora", 4]) == 2 * 4 - 1
    (cell,) = [cell for cell in description(outcome)["cells"] if cell["learning_rate"] == 1e-3]
    assert len(cell["validation_loss"]) == len(cell["status"]) == 1


def test_only_one_at_a_time(tmp_path):
    with exclusive(tmp_path), pytest.raises(ValueError, match="another process is working on"):
        Sweep(valley(-3.0), tmp_path)()
    Sweep(valley(-3.0), tmp_path)()


def test_extended():
    def records(rates, optimum=-3.0, scaling=1.0):
        runs = [Run("lora", 4, scaling, rate, 0) for rate in rates]
        return [fake_record(run, (9.0, abs(math.log10(run.learning_rate) - optimum) + scaling)) for run in runs]

    assert extended(list(GRID), records(GRID), 1) == list(GRID)
    assert extended(list(GRID), [], 1) == list(GRID)
    assert extended([1e-3], records([1e-3]), 1) == [1e-3]
    assert extended([1e-3, 2e-3], records([1e-3, 2e-3]), 1) == [5e-4, 1e-3, 2e-3]
    assert extended([1e-3, 2e-3, 4e-3], records([1e-3, 2e-3, 4e-3], -2), 1) == [1e-3, 2e-3, 4e-3, 8e-3]
    thirds = list(parse_grid("1e-3:1e-2:4"))
    assert extended(thirds, records(thirds, -5), 1) == [0.0004642, *thirds]
    both = records(GRID, -2.0, 1.0) + records(GRID, -3.0, 0.5)
    assert best_cell(by_cell(both), 1) == Cell("lora", 0.5, 1e-3)
    assert extended(list(GRID), both, 1) == list(GRID)


def test_the_smallest_plan_and_the_defaults():
    plan = Plan(("lora",), (1,), (1e-3,), seeds=(0,))
    assert (plan.scalings, plan.strengths, plan.extensions) == ((1.0,), (1.0,), 4)
    assert plan.runs("lora", 1, (1e-3,)) == [Run("lora", 1, 1.0, 1e-3, 0)]
    assert Plan(("lora",), (1,), (1e-3,)).seeds == (0, 1, 2)


def test_all_that_multiplies_counts_as_runs():
    """Three variants, five ranks, seven rates, two scalings, 500 seeds; and the most that there may be."""
    many = {"ranks": (1, 2, 3, 4, 5), "learning_rates": tuple(10.0**-k for k in range(7)), "scalings": (0.1, 1.0)}
    with pytest.raises(ValueError, match="these are 105000 runs; at most 100000 can be compared"):
        Plan(("lora", "ilora"), **many, strengths=(1.0, 10.0), seeds=tuple(range(500)))
    Plan(("lora",), (4,), (1e-3,), seeds=tuple(range(MOST_RUNS)), extensions=100)
    with pytest.raises(ValueError, match="these are 100001 runs"):
        Plan(("lora",), (4,), (1e-3,), seeds=tuple(range(MOST_RUNS + 1)))


def test_one_process_makes_the_runs_unless_more_are_asked_for(tmp_path, watched):
    sweep = Sweep(valley(-4.0), tmp_path)
    begun, batches = watched(protocol, sweep.execute)
    compare(Plan(("lora",), (4,), GRID, seeds=(0, 1)), SPLITS, tmp_path)
    assert begun == [(1,)]
    assert batches == [(6, 6), (8, 2)]


def test_data_are_kept_by_the_first_twelve_digits_of_their_digest(tmp_path):
    assert stored(SPLITS, tmp_path) == (tmp_path / "data" / SPLITS.digest[:12], SPLITS.digest)
