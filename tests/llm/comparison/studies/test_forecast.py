"""What a study will take, said before it is begun."""

import math
from dataclasses import replace

import pytest
import torch

from lorakappa.llm.comparison import finetuning
from lorakappa.llm.comparison.adapting import adapter_parameters
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.comparison.studies import forecast
from lorakappa.llm.comparison.studies.about import About, Described
from lorakappa.llm.comparison.studies.forecast import (
    BYTES,
    TimeForecast,
    forecast_lines,
    from_record,
    hours,
    memory_forecast,
    note_memory,
    timed,
)
from lorakappa.llm.comparison.studies.progress import Progress
from lorakappa.llm.data.models import empty_model, load_model
from lorakappa.llm.data.pretraining import character_tokenizer, new_model
from tests.llm.comparison.outcomes import fake_record
from tests.llm.comparison.small import SPLITS
from tests.llm.comparison.studies.made_up import SETTINGS, Machine, known, noise, study, table


def test_memory_is_that_of_the_model_and_its_batch(small_model):
    settings = TrainingSettings(model=small_model, batch_size=4, max_length=64)
    found = memory_forecast(settings, 3, SPLITS.train)
    model, tokenizer = load_model(small_model, dtype="float32")
    longest = max(len(tokenizer(e.prompt + e.completion)["input_ids"]) for e in SPLITS.train) + 1
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.weights == 4 * found.parameters
    assert found.adapter == 16 * adapter_parameters(model, 3, ())
    assert found.tokens == longest
    assert found.logits == 2 * 4 * 4 * longest * model.config.vocab_size
    assert found.activations == 17 * 4 * 4 * longest * model.config.hidden_size  # one layer
    assert found.total == found.weights + found.adapter + found.logits + found.activations
    half = memory_forecast(TrainingSettings(model=small_model, batch_size=8, dtype="bfloat16"), 3, SPLITS.train)
    assert (2 * half.weights, half.logits) == (found.weights, 2 * found.logits)


def test_with_checkpoints_one_layer_at_a_time_is_kept_and_the_inputs_of_all(tmp_path):
    tokenizer = character_tokenizer()
    new_model(tokenizer, hidden_size=16, layers=2).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    settings = TrainingSettings(model=str(tmp_path), batch_size=4)
    numbers = 4 * memory_forecast(settings, 3, SPLITS.train).tokens * 16
    assert memory_forecast(settings, 3, SPLITS.train).activations == 2 * 17 * 4 * numbers
    checkpointed = replace(settings, gradient_checkpointing=True)
    assert memory_forecast(checkpointed, 3, SPLITS.train).activations == (2 + 17) * 4 * numbers


def test_a_number_takes_the_bytes_of_its_type():
    sizes = {name: getattr(torch, name).itemsize for name in BYTES if name != "auto"}
    assert {**sizes, "auto": max(sizes.values())} == BYTES


def test_an_adapter_has_the_parameters_that_peft_gives_it(small_model):
    from peft import LoraConfig, get_peft_model

    model, _ = load_model(small_model, dtype="float32")
    for targets in ((), ("q_proj", "down_proj")):
        wanted = adapter_parameters(empty_model(small_model)[0], 3, targets)
        chosen = list(targets) or "all-linear"
        adapted = get_peft_model(load_model(small_model, dtype="float32")[0], LoraConfig(r=3, target_modules=chosen))
        assert sum(p.numel() for p in adapted.parameters() if p.requires_grad) == wanted
    assert model is not None


def test_a_warning_before_it_begins(small_model, monkeypatch, capsys):
    settings = TrainingSettings(model=small_model)
    note_memory(settings, 2, SPLITS, jobs=1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(forecast, "available", lambda: 1000.0)
    note_memory(settings, 2, SPLITS, jobs=3)
    assert "3 at a time; 1e+03 bytes are free" in capsys.readouterr().err
    note_memory(TrainingSettings(model="tiny"), 2, SPLITS, jobs=3)
    assert capsys.readouterr().err == ""
    half = 2 * 3 * memory_forecast(settings, 2, SPLITS.train).total
    for free, told in ((half, False), (half - 1, True)):
        monkeypatch.setattr(forecast, "available", lambda free=free: float(free))
        note_memory(settings, 2, SPLITS, jobs=3)
        assert bool(capsys.readouterr().err) == told


def test_time_of_a_finished_run():
    made = fake_record(_run(), (3.0, 2.0, 1.0), seconds=0.5)
    made["run_info"]["total_time"] = 13.0
    found = from_record(made)
    assert (found.per_step, found.fixed, found.peak_memory) == (0.5, 3.0, 1000)
    arm = study().arms()[0]
    assert found.seconds(arm) == 3.0 + 0.5 * arm.settings.steps


def test_time_of_a_run_of_one_step_that_does_not_say_how_long_it_took():
    made = fake_record(_run(), (3.0, 2.0))
    made["train_info"]["steps"] = 1
    assert from_record(made) == TimeForecast(per_step=5.0, fixed=0.0, peak_memory=1000)


def test_a_short_run_of_the_baseline_at_the_highest_rank_is_timed(monkeypatch):
    made = []

    def finetune(run, settings, splits):
        made.append((run, settings))
        return fake_record(run)

    monkeypatch.setattr(finetuning, "finetune", finetune)
    chosen = study(table(methods=("lora", "dora", "balora"), ranks=(2, 8), rates=(1e-3, 1e-2)), selection=(5, 6))
    assert timed(chosen, SPLITS).per_step == 0.5
    ((run, settings),) = made
    assert (run.method, run.rank, run.learning_rate, run.seed) == ("lora", 8, 1e-3, 5)
    assert (settings.evaluations, settings.checkpoint_every) == (2, 0)
    assert settings.evaluations < settings.steps < SETTINGS.steps


def _run():
    arm = study().arms()[0]
    return arm.run(arm.places((1e-3,))[0], 0)


def test_hours_at_least_and_at_most(tmp_path):
    """Two arms of 3 rates and 2 selection seeds, 4 to 20 fresh seeds, 2 extensions of one rate; 36 s a run."""
    chosen = study(table(rates=(1e-4, 1e-3, 1e-2)), extensions=2, half_width=10.0)
    time = TimeForecast(per_step=1.0, fixed=16.0, peak_memory=None)
    before = Progress(chosen, lambda run, settings: None)
    assert hours(before, time) == pytest.approx((2 * (6 + 4) / 100, 2 * (6 + 4 + 20) / 100))
    least, most = hours(Progress(study(table(rates=(1e-3,)), hours=0.03), lambda run, settings: None), time)
    assert (least, most) == (0.03, 0.03)
    progress, _ = Machine(noise).run(chosen, tmp_path)
    least, most = hours(progress, time)
    assert least == 0
    assert most == pytest.approx(2 * (20 - 4) / 100)
    assert math.isfinite(most)


def test_every_cell_of_a_grid_grows_and_what_was_spent_is_taken_off(tmp_path):
    """Two arms of 2 rates, 3 scalings and 2 selection seeds, 4 to 20 fresh seeds, 2 extensions; 36 s a run."""
    chosen = study(table(rates=(1e-3, 1e-2), scalings=(0.1, 1.0, 10.0)), extensions=2)
    time = TimeForecast(per_step=1.0, fixed=16.0, peak_memory=None)
    least, most = hours(Progress(chosen, lambda run, settings: None), time)
    assert (least, most) == pytest.approx((2 * (12 + 4) / 100, 2 * (12 + 2 * 3 * 2 + 20) / 100))
    selected = known(lambda run: 1.0, there=lambda run, settings: run.seed < 100)
    left = hours(Progress(study(hours=0.06), selected), time)  # four of a hundredth of an hour each are made
    assert left == pytest.approx((0.02, 0.02), rel=1e-6)
    assert hours(Progress(study(hours=0.03), selected), time) == (0.0, 0.0)


@pytest.fixture
def lines(small_model, tmp_path, monkeypatch):
    """What is said of a study with four runs made, as a function of the memory that is free."""
    chosen = study(replace(table(), settings=replace(SETTINGS, model=small_model)), half_width=10.0)
    machine = Machine(noise)
    machine.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        machine.run(chosen, tmp_path, SPLITS)
    monkeypatch.setattr(forecast, "timed", lambda study, splits: TimeForecast(0.25, 16.0, None))

    def told(free):
        monkeypatch.setattr(forecast, "available", lambda: free)
        about = About(name="made-up", model=None, data=None, source="sums", digest=SPLITS.digest)
        return forecast_lines(Described(chosen, "", about), SPLITS, tmp_path, 2)

    return told


def test_the_lines_of_a_forecast(lines):
    """Eight runs to 40 are left, of 36 s each."""
    first, runs, time, memory = lines(math.inf)
    assert first == "made-up: 1 contrasts in 1 tables, 2 arms"
    assert runs == "runs: 4 made, 12 to 44 in all"
    assert time.startswith("time: 250 ms a step and 16 s besides")
    assert time.endswith("so 0.08 to 0.4 hours of computing are left, 0.04 to 0.2 with 2 at a time")
    assert memory.endswith("; 2 at a time")


def test_a_forecast_says_what_does_not_fit(lines, small_model):
    wanted = 2 * memory_forecast(replace(SETTINGS, model=small_model), 4, SPLITS.train).total
    assert len(lines(float(wanted))) == 4
    assert lines(float(wanted - 1))[4:] == ["that is more than there is: take fewer --jobs"]
