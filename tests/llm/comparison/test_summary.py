"""What a comparison says, on records whose numbers are known."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import ttest_1samp

from lorakappa.figures.drawing import draw_all, names_for
from lorakappa.llm.comparison.compare import Outcome, Plan
from lorakappa.llm.comparison.finetune import Settings
from lorakappa.llm.comparison.summary import (
    best_cells,
    comparison_table,
    description,
    effect,
    loss_gain,
    memory_overhead,
    paired,
    save,
    speedup,
    time_overhead,
    window,
    window_gain,
)
from lorakappa.shared.records import read_npz

RATES = (1e-4, 1e-3, 1e-2)


def fake_record(run, valid=(3.0, 2.0, 1.0), *, status="success", seconds=0.5, method_seconds=0.0, **found):
    """A record with an evaluation every ten steps; `found` goes into train_info."""
    last = 10 * (len(valid) - 1)
    return {
        "run": {name: getattr(run, name) for name in ("method", "rank", "scale", "learning_rate", "seed")},
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
    settings = plan.pop("settings", Settings(steps=20, evaluations=2))
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


@pytest.mark.parametrize("values", [[0.1, 0.3, 0.2], [1.0, -1.0], list(np.linspace(-3, 5, 11) ** 3)])
def test_effect_is_the_t_interval(values):
    found, reference = effect(values), ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.estimate == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert found.n == len(values)


def test_effect_of_one_value_and_of_none_that_counts():
    one = effect([0.25])
    assert (one.estimate, one.low, one.high, one.n) == (0.25, -math.inf, math.inf, 1)
    nothing = effect([0.25, math.nan, 1.0])
    assert math.isnan(nothing.estimate)
    assert (nothing.low, nothing.high, nothing.n) == (-math.inf, math.inf, 3)
    assert str(effect([0.1, 0.2, 0.3])) == "+0.2 [-0.0484, +0.448]"


def test_the_best_cell_has_the_lowest_mean_validation_loss():
    """1e-2 is best at two of the three seeds, but not in the mean; the test loss would choose 1e-4."""
    table = {1e-4: (2.0, 2.0, 2.0), 1e-3: (1.0, 1.1, 1.2), 1e-2: (0.9, 1.0, 2.0)}

    def make(run):
        return fake_record(run, (3.0, table[run.learning_rate][run.seed]), test_loss=run.learning_rate)

    best = only(outcome_of(make))
    assert best.learning_rate == 1e-3
    assert not best.at_edge
    assert best.grid == RATES
    np.testing.assert_array_equal(best.curve, list(table.values()))
    assert [record["run"]["seed"] for record in best.records] == [0, 1, 2]
    np.testing.assert_array_equal(best.history("valid loss")[:, -1], table[1e-3])
    assert (best.method, best.variant, best.rank, best.scale) == ("lora", "lora", 4, 1.0)


@pytest.mark.parametrize(("optimum", "edge"), [(-4, True), (-3, False), (-2, True)])
def test_edges(optimum, edge):
    best = only(outcome_of(lambda run: fake_record(run, (3.0, curved(run, optimum)))))
    assert best.learning_rate == 10**optimum
    assert best.at_edge == edge
    assert not only(outcome_of(fake_record, rates=(1e-3,))).at_edge


def test_the_best_of_scales_and_strengths():
    def make(run):
        wanted = (run.method, run.scale) == ("ilora:lambda=0.1", 2.0)
        return fake_record(run, (3.0, curved(run) - wanted))

    outcome = outcome_of(make, methods=("lora", "ilora"), scales=(1.0, 2.0), strengths=(0.1, 1.0))
    best = only(outcome, "ilora")
    assert (best.method, best.variant, best.scale, best.learning_rate) == ("ilora", "ilora:lambda=0.1", 2.0, 1e-3)
    assert len(best.records) == 3
    assert best.curve.shape == (3, 3)
    assert len(description(outcome)["cells"]) == 3 * 2 + 3 * 2 * 2


def test_cells_without_every_seed_are_never_chosen():
    """1e-2 would be best, but a seed of it failed; 1e-4 diverged at one seed."""

    def make(run):
        if run.learning_rate == 1e-2:
            return None if run.seed == 1 else fake_record(run, (3.0, 0.1))
        return diverged(run) if (run.learning_rate, run.seed) == (1e-4, 2) else fake_record(run)

    best = only(outcome_of(make))
    assert best.learning_rate == 1e-3
    assert best.grid == (1e-4, 1e-3)
    np.testing.assert_array_equal(best.curve, [[1, 1, math.inf], [1, 1, 1]])
    assert best_cells(outcome_of(diverged)) == {}
    assert best_cells(outcome_of(lambda run: None)) == {}


def test_pairs_go_by_seed_and_by_ranks_that_both_have():
    def make(run):
        if (run.method, run.rank) == ("balora", 8):
            return diverged(run)
        return fake_record(run, test_loss=2.0 + run.seed - (0.1 * (run.seed + 1) + run.rank) * (run.method == "balora"))

    best = best_cells(outcome_of(make, ranks=(2, 4, 8)))
    gains = paired(best, "balora", "lora", loss_gain)
    assert set(gains) == {2, 4}
    np.testing.assert_allclose(gains[2], [2.1, 2.2, 2.3])
    np.testing.assert_allclose(gains[4], [4.1, 4.2, 4.3])
    assert paired(best, "dora", "lora", loss_gain) == {}


FIVE = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


def window_of(losses, rates=FIVE):
    """Decades, whether they are cut off, and log₁₀ of the ends, of one curve for all seeds."""
    outcome = outcome_of(
        lambda run: fake_record(run, (9.0, losses[rates.index(run.learning_rate)])), methods=("lora",), rates=rates
    )
    decades, censored = window(only(outcome))
    (entry,) = description(outcome)["best"]
    assert len(set(decades)) == len(set(censored)) == 1
    assert entry["decades"] == pytest.approx(decades[0])
    assert entry["window_censored"] == censored[0]
    ends = np.log10(entry["window"])
    assert ends[1] - ends[0] == pytest.approx(decades[0])
    return decades[0], censored[0], ends


def test_windows_of_analytic_curves():
    decades, censored, ends = window_of([1.04, 1.02, 1.0, 1.02, 1.04])  # 0.02 per decade: half a decade on each side
    assert decades == pytest.approx(1.0)
    assert not censored
    assert ends == pytest.approx([-3.5, -2.5])
    decades, censored, ends = window_of([9.0, 1.005, 1.0, 1.005, 2.0])  # reaches beyond the neighbours
    assert ends == pytest.approx([-4 - 0.005 / 7.995, -2 + 0.005 / 0.995])
    assert not censored
    decades, censored, ends = window_of([2.0, 2.02, 2.04, 2.06, 2.08])  # relative to the loss: 0.02 of 2.0
    assert ends == pytest.approx([-5, -4])
    assert (decades, censored) == (pytest.approx(1.0), True)
    decades, censored, ends = window_of([2.0, 2.0, 2.0, 1.0, 1.001])
    assert ends == pytest.approx([-2.01, -1])
    assert censored
    assert window_of([1.0] * 5)[:2] == (pytest.approx(4.0), True)
    decades, censored, ends = window_of([1.0, 1.5, 1.001, 1.5, 1.002])  # only the interval around the best
    assert ends == pytest.approx([-5, -4.98])


def test_windows_next_to_divergence_and_below_zero():
    decades, censored, ends = window_of([math.inf, math.inf, 1.0, 1.005, math.inf])
    assert ends == pytest.approx([-3, -2])
    assert (decades, censored) == (pytest.approx(1.0), False)
    assert window_of([math.inf, math.inf, 1.0, math.inf, math.inf])[:2] == (0, False)
    decades, _, ends = window_of([1.0, 1.0, -1.0, 1.0, 1.0])
    assert ends == pytest.approx([-3.005, -2.995])


def test_windows_of_a_coarse_grid_and_the_gain():
    def make(run):
        return fake_record(run, (9.0, curved(run, slope=0.02 if run.method == "lora" else 0.04 / (run.seed + 1))))

    best = best_cells(outcome_of(make))
    np.testing.assert_allclose(window(best["lora", 4])[0], 1.0)
    np.testing.assert_allclose(window(best["balora", 4])[0], [0.5, 1.0, 1.5])
    np.testing.assert_allclose(window_gain(best["lora", 4], best["balora", 4]), [-0.5, 0.0, 0.5])


def bests(baseline, method):
    """The best cells of two methods, given their losses by evaluation, seed by seed, and further arguments."""

    def make(run):
        losses, options = (baseline, method)[run.method == "balora"]
        return fake_record(run, losses[run.seed], **options)

    seeds = tuple(range(len(baseline[0])))
    best = best_cells(outcome_of(make, rates=(1e-3,), seeds=seeds))
    return best["lora", 4], best["balora", 4]


def test_speedup():
    reference = [(3.0, 2.0, 1.0)] * 4
    curves = [(3.0, 1.0, 0.5), (3.0, 2.0, 0.0), (3.0, 2.0, 1.5), (3.0, 2.0, 1.0)]
    pair = bests((reference, {"seconds": 0.5}), (curves, {"seconds": 1.0}))
    np.testing.assert_allclose(speedup(*pair, by="step"), [1.0, math.log2(20 / 15), -1.0, 0.0])
    np.testing.assert_allclose(speedup(*pair, by="train time"), [0.0, math.log2(10 / 15), -1.0, -1.0])


def test_speedup_counts_the_first_time_and_survives_plateaus():
    reference = [(3.0, 2.0, 1.0, 1.0)] * 3
    curves = [(3.0, 0.5, 2.0, 0.5), (3.0, 3.0, 1.0, 1.0), (3.0, 2.0, 1.0, 0.0)]
    pair = bests((reference, {}), (curves, {}))
    np.testing.assert_allclose(speedup(*pair, by="step"), np.log2([30 / 8, 30 / 20, 30 / 20]))


def test_speedup_where_the_target_was_met_at_the_start():
    """A baseline that ends where it began, or higher, is reached at once: there is no speed to speak of."""
    pair = bests(([(3.0, 2.0, 3.5)], {}), ([(3.0, 2.0, 1.0)], {}))
    assert np.isfinite(speedup(*pair, by="step")).all()


def test_overheads():
    curve = [(3.0, 2.0, 1.0)] * 2
    baseline, method = bests((curve, {"peak_memory": 1000}), (curve, {"method_seconds": 0.1, "peak_memory": 1250}))
    np.testing.assert_allclose(method.seconds_per_step, 0.5)
    np.testing.assert_allclose(method.method_seconds_per_step, 0.1)
    np.testing.assert_allclose(time_overhead(method), 0.25)
    np.testing.assert_allclose(time_overhead(baseline), 0.0)
    np.testing.assert_allclose(memory_overhead(baseline, method), 0.25)
    np.testing.assert_allclose(memory_overhead(method, baseline), -0.2)


def test_missing_values():
    best, other = bests(([(3.0, 1.0)] * 2, {"peak_memory": None}), ([(3.0, 1.0)] * 2, {}))
    assert np.isnan(best.values("peak_memory")).all()
    assert np.isnan(best.values("extrapolate_loss")).all()
    assert np.isnan(memory_overhead(best, other)).all()
    assert math.isnan(best.history("train loss")[0, 0])


def example():
    """Two ranks; the largest learning rate diverges for BaLoRA, one seed of another cell for LoRA."""

    def make(run):
        if (run.method, run.learning_rate) == ("balora", 1e-2):
            return diverged(run)
        if (run.method, run.learning_rate, run.seed) == ("lora", 1e-4, 1):
            return diverged(run)
        loss = curved(run) + 0.01 * run.seed - 0.2 * (run.method == "balora") - 0.01 * run.rank
        options = {"method_seconds": 0.05, "test_exact_match": 0.75} if run.method == "balora" else {"seconds": 0.6}
        return fake_record(run, (3.0, 2.0, loss), **options)

    return outcome_of(make, ranks=(2, 8), failures=["lora-x: RuntimeError: out of memory"])


def test_description():
    found = description(example())
    assert (found["model"], found["data"], found["baseline"]) == ("tiny", "sums", "lora")
    assert (found["methods"], found["ranks"], found["scales"]) == (["lora", "balora"], [2, 8], [1.0])
    assert (found["strengths"], found["seeds"], found["steps"]) == ([1.0], [0, 1, 2], 20)
    assert found["settings"]["evaluations"] == 2
    assert found["failures"] == ["lora-x: RuntimeError: out of memory"]
    assert len(found["cells"]) == 2 * 2 * 3
    lost, split = found["cells"][8], found["cells"][0]
    assert (lost["method"], lost["variant"], lost["rank"], lost["learning_rate"]) == ("balora", "balora", 2, 1e-2)
    assert (lost["validation_loss"], lost["status"], lost["scale"]) == ([None] * 3, ["diverged"] * 3, 1.0)
    assert split["learning_rate"] == 1e-4
    assert split["status"] == ["ok", "diverged", "ok"]
    assert split["validation_loss"] == [pytest.approx(1.0), None, pytest.approx(1.02)]
    assert [(entry["method"], entry["rank"]) for entry in found["best"]] == [
        ("lora", 2), ("lora", 8), ("balora", 2), ("balora", 8)
    ]  # fmt: skip
    lora, balora = found["best"][0], found["best"][2]
    assert (lora["learning_rate"], lora["at_edge"], lora["scale"], lora["variant"]) == (1e-3, False, 1.0, "lora")
    assert lora["validation_loss"] == pytest.approx([0.98, 0.99, 1.0])
    assert lora["test_loss"] == pytest.approx([1.08, 1.09, 1.1])
    assert lora["exact_match"] == [None] * 3
    assert balora["exact_match"] == [0.75] * 3
    assert balora["extrapolate_loss"] == balora["extrapolate_exact_match"] == [None] * 3
    assert balora["seconds_per_step"] == pytest.approx([0.5] * 3)
    assert balora["method_seconds_per_step"] == pytest.approx([0.05] * 3)
    assert balora["peak_memory_bytes"] == [1000] * 3
    assert balora["window"][1] == pytest.approx(1e-3)  # its neighbour above diverged
    assert balora["decades"] == pytest.approx(0.79 * 0.01 / 0.02, rel=1e-3)
    assert [entry["rank"] for entry in found["comparisons"]] == [2, 8]
    for entry in found["comparisons"]:
        assert (entry["method"], entry["quantity"], entry["n"]) == ("balora", "test_loss", 3)
        assert (entry["low"], entry["estimate"], entry["high"]) == pytest.approx((0.2, 0.2, 0.2))


def test_what_is_saved_can_be_drawn(tmp_path):
    outcome = example()
    files = save(outcome, tmp_path)
    assert [path.name for path in files] == ["llm-compare.npz", "llm-compare.json"]
    arrays = read_npz(files[0])
    np.testing.assert_array_equal(arrays["eval_steps"], [0, 10, 20])
    for name in ("validation_loss", "seconds", "gap", "kappa_bound"):
        assert arrays[name].shape == (4, 3, 3)
    np.testing.assert_allclose(arrays["validation_loss"][2, :, -1], [0.78, 0.79, 0.8])
    np.testing.assert_allclose(arrays["seconds"][0, 0], [0, 6, 12])
    np.testing.assert_allclose(arrays["gap"][3, 2], [0.5, 0.25, 0.5 / 3])
    np.testing.assert_array_equal(arrays["kappa_bound"][1, 1], [math.inf, 10, 20])
    meta = json.loads(files[1].read_text())
    assert meta["experiment"] == "llm-compare"
    assert meta["provenance"]["seed"] == 0
    assert {"nan", "inf", "-inf"}.isdisjoint(files[1].read_text().split('"'))
    drawn = draw_all(names_for("llm-compare"), tmp_path, tmp_path)
    assert len(drawn) == 6
    assert all(path.stat().st_size > 5000 for path in drawn)


@pytest.mark.parametrize("case", ["one seed", "nothing trained", "baseline did not train", "one rate"])
def test_sparse_outcomes_can_be_saved_drawn_and_printed(case, tmp_path):
    if case == "one seed":
        outcome = outcome_of(fake_record, seeds=(3,))
    elif case == "nothing trained":
        outcome = outcome_of(diverged)
    elif case == "one rate":
        outcome = outcome_of(fake_record, rates=(1e-3,))
    else:
        outcome = outcome_of(lambda run: diverged(run) if run.method == "lora" else fake_record(run))
    files = save(outcome, tmp_path)
    assert {"nan", "inf", "-inf"}.isdisjoint(files[1].read_text().split('"'))  # missing values are null
    if case in ("one seed", "nothing trained"):
        assert len(draw_all(names_for("llm-compare"), tmp_path, tmp_path)) == 6
    printed = table_text(outcome)
    assert ("no learning rate trained" in printed) == (case in ("nothing trained", "baseline did not train"))


def table_text(outcome):
    stream = io.StringIO()
    Console(width=200, file=stream).print(comparison_table(outcome))
    return stream.getvalue()


def test_the_table():
    rows = [line.split() for line in table_text(example()).splitlines()]
    lora, balora = (next(row for row in rows if row[:2] == ["8", name]) for name in ("lora", "balora"))
    assert lora == ["8", "lora", "0.001", "0.9300", "1.0300", "nan", "0.77", "600"]
    assert balora[:5] == ["8", "balora", "0.001", "0.7300", "0.8300"]
    assert balora[5:7] == ["+0.2", "[+0.2,"]
    assert balora[-3:] == ["0.750", "0.36", "500"]
    assert "(edge)" in table_text(outcome_of(lambda run: fake_record(run, (3.0, curved(run, -2)))))
    assert "means over 3 seeds" in table_text(example())
    assert "gains over lora" in table_text(example())
