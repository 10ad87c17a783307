"""What a study will take, said before it is begun."""

import math

import pytest

from lorakappa.llm.comparison.adapting import adapter_parameters
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.comparison.studies import forecast
from lorakappa.llm.comparison.studies.forecast import TimeForecast, from_record, hours, memory_forecast, note_memory
from lorakappa.llm.comparison.studies.progress import Progress
from lorakappa.llm.data.models import empty_model, load_model
from tests.llm.comparison.outcomes import fake_record
from tests.llm.comparison.small import SPLITS
from tests.llm.comparison.studies.made_up import Machine, noise, study, table


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


def test_time_of_a_finished_run():
    made = fake_record(_run(), (3.0, 2.0, 1.0), seconds=0.5)
    made["run_info"]["total_time"] = 13.0
    found = from_record(made)
    assert (found.per_step, found.fixed) == (0.5, 3.0)
    arm = study().arms()[0]
    assert found.seconds(arm) == 3.0 + 0.5 * arm.settings.steps


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
