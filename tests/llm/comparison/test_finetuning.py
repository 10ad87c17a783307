"""One fine-tune: what its record says, that it can be repeated, interrupted and resumed, and how it ends badly."""

import json
import math
from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file
from transformers import DataCollatorForSeq2Seq, Trainer

from lorakappa.llm.comparison import finetuning, trainer
from lorakappa.llm.comparison.finetuning import finetune
from lorakappa.llm.comparison.measure import Stopwatch, conditioning_of
from lorakappa.llm.comparison.settings import Run, TrainingSettings
from lorakappa.llm.curvature.loading import load_adapted
from lorakappa.llm.data.models import load_model
from lorakappa.llm.data.pretraining import character_tokenizer
from lorakappa.llm.data.splits import Example, Splits
from lorakappa.llm.data.tokens import encode
from lorakappa.shared.methods import VOCABULARY
from lorakappa.shared.records import write_json
from tests.llm.comparison.small import SPLITS


def tune(model, run="lora", settings=None, splits=SPLITS, rate=2e-2, seed=0, **options):
    settings = {"steps": 6, "batch_size": 4, "evaluations": 3, "generate": 0, **(settings or {})}
    return finetune(Run(run, 2, 1.0, rate, seed), TrainingSettings(model=model, **settings), splits, **options)


def curve(record, name="valid loss"):
    return [metric[name] for metric in record["train_info"]["metrics"]]


@pytest.fixture(scope="session")
def lora(small_model):
    return tune(small_model, settings={"generate": 5})


@pytest.fixture(scope="session")
def balora(small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    return tune(small_model, "balora@2", adapter=folder), folder


def test_the_record(lora, small_model):
    assert lora["run"] == {"method": "lora", "rank": 2, "scaling": 1.0, "learning_rate": 2e-2, "seed": 0}
    info = lora["train_info"]
    assert (info["status"], lora["run_info"]["error_msg"], info["steps"]) == ("success", "", 6)
    assert curve(lora, "step") == [0, 2, 4, 6]
    times = curve(lora, "train time")
    assert times[0] == 0
    assert all(early < late for early, late in pairwise(times))
    assert times[-1] == info["train_time"] < lora["run_info"]["total_time"]
    assert curve(lora, "method time") == [0, 0, 0, 0]
    assert curve(lora, "train loss")[0] is None
    assert all(0 < loss < 7 for loss in [*curve(lora, "train loss")[1:], *curve(lora)])
    assert curve(lora)[-1] < curve(lora)[0]
    assert info["test_loss"] != info["extrapolate_loss"]
    assert 0 < info["test_loss"] < 7
    assert 0 <= info["test_exact_match"] <= 1
    assert 0 <= info["extrapolate_exact_match"] <= 1
    assert info["num_trainable_params"] == 584
    assert info["num_total_params"] == 7672
    config = lora["run_info"]["train_config"]
    assert (config["model"], config["steps"], config["data"]) == (small_model, 6, "sums")
    assert config["data_digest"] == SPLITS.digest
    assert lora["run_info"]["peft_config"]["r"] == 2
    assert lora["run_info"]["peft_config"]["lora_alpha"] == 2.0
    assert lora["run_info"]["experiment_name"] == "lora-r2"
    assert lora["run_info"]["method"] == {
        "base": "lora", "options": {}, "every": 1, "summary": VOCABULARY["lora"].summary, "source": "PEFT"
    }  # fmt: skip
    assert lora["meta_info"]["seed"] == 0
    assert set(lora["meta_info"]["package_info"]) == {"transformers-version", "peft-version"}


def test_peak_memory_is_that_of_this_process(lora):
    if lora["train_info"]["peak_memory"] is None:
        pytest.skip("the system does not tell")
    assert lora["train_info"]["peak_memory_of"] == ("GPU tensors" if torch.cuda.is_available() else "process")
    least = 5_000 if torch.cuda.is_available() else 100e6  # torch alone takes more
    assert least < lora["train_info"]["peak_memory"] < 64e9


def test_the_same_run_twice_gives_the_same_losses(small_model, balora):
    again = tune(small_model, "balora@2")
    assert curve(again) == curve(balora[0])
    assert curve(again, "train loss") == curve(balora[0], "train loss")
    assert again["train_info"]["test_loss"] == balora[0]["train_info"]["test_loss"]
    other = tune(small_model, "balora@2", seed=1)
    assert curve(other) != curve(balora[0])


@pytest.mark.parametrize("method", ["lora", "balora@2"])
def test_the_lean_trainer_makes_the_records_of_the_stock_one(small_model, method, monkeypatch):
    """The same batches, the same steps: every number of the record but times and memory is the same, bit for bit."""
    settings = {"dropout": 0.2, "accumulation": 2, "label_smoothing": 0.1, "generate": 3}
    lean = tune(small_model, method, settings)
    made = []

    class Stock(Trainer):
        def __init__(self, **kwargs):
            kwargs["data_collator"] = DataCollatorForSeq2Seq(kwargs["processing_class"], padding=True)
            super().__init__(**kwargs)
            made.append(self)

    monkeypatch.setattr(trainer, "LeanTrainer", Stock)
    monkeypatch.setattr(finetuning, "few_visits", nullcontext)
    stock = tune(small_model, method, settings)
    assert made[0].state.total_flos > 0
    for name in ("step", "train loss", "valid loss", "gap", "kappa bound"):
        assert curve(lean, name) == curve(stock, name)
    timed = {"train_time", "peak_memory", "metrics"}
    assert {k: v for k, v in lean["train_info"].items() if k not in timed} == {
        k: v for k, v in stock["train_info"].items() if k not in timed
    }


@given(
    lengths=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=5),
    side=st.sampled_from(["right", "left"]),
)
def test_padding_is_that_of_the_collator_of_transformers(lengths, side):
    tokenizer = character_tokenizer()
    tokenizer.padding_side = side
    examples = [Example("1" * prompt + "?", "2" * answer) for prompt, answer in lengths]
    encoded = encode(examples, tokenizer, 20)
    theirs = DataCollatorForSeq2Seq(tokenizer, padding=True)(encoded)
    ours = trainer.Padding(tokenizer.pad_token_id, side)(encoded)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)


def test_modes_switch_once_and_as_before_afterwards():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(1, 1)).eval()
    switched = []
    model[0].train = lambda mode=True: switched.append(mode)
    with trainer.few_visits(model):
        assert model.training
        model.train()
        assert model.eval() is model
        assert not model.eval().training
        assert model.train() is model
    assert switched == [True, False, True]
    assert "train" not in model.__dict__
    model.train()
    assert switched == [True, False, True, True]


def test_only_what_trains_is_clipped_and_cleared_and_all_is_there_afterwards():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    model[0].requires_grad_(False)
    everything = list(model.parameters())
    with trainer.few_visits(model):
        for _ in range(2):
            assert [id(p) for p in model.parameters()] == [id(p) for p in model[1].parameters()]
        model(torch.ones(1, 2)).sum().backward()
        model.zero_grad()
        assert all(p.grad is None for p in everything)
    assert [id(p) for p in model.parameters()] == [id(p) for p in everything]
    with pytest.raises(KeyError), trainer.few_visits(model):
        raise KeyError
    assert not {"train", "parameters"} & set(vars(model))


def test_the_optimizer_is_the_one_that_was_asked_for(small_model, monkeypatch):
    made = []

    class Kept(trainer.LeanTrainer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            made.append(self)

    monkeypatch.setattr(trainer, "LeanTrainer", Kept)
    asked = {"betas": (0.5, 0.875), "epsilon": 1e-3, "weight_decay": 0.25, "clip": 0.5, "warmup": 0.0}
    tune(small_model, settings={"steps": 1, "evaluations": 1, **asked})
    (group, _) = made[0].optimizer.param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.5, 0.875), 1e-3, 0.25)
    assert group["initial_lr"] == 2e-2
    assert made[0].args.max_grad_norm == 0.5


def test_methods_share_start_and_data_order(small_model):
    """With one evaluation per step the first training loss is that of the first batch, before any change."""
    settings = {"steps": 2, "evaluations": 2, "warmup": 0.0}
    records = {name: tune(small_model, name, settings) for name in ("lora", "balora", "ilora", "lora-plus")}
    other = tune(small_model, "lora", settings, seed=1)
    first = {name: curve(record, "train loss")[1] for name, record in records.items()}
    assert len(set(first.values())) == 1
    assert len({curve(record)[0] for record in records.values()}) == 1
    assert len({curve(record, "gap")[0] for record in records.values()}) == 1
    assert len({curve(record)[-1] for record in records.values()}) == 4
    assert curve(other, "train loss")[1] != first["lora"]
    assert curve(other, "gap")[0] != curve(records["lora"], "gap")[0]


def test_balora_is_balanced_and_its_time_is_measured(balora):
    record, _ = balora
    times = curve(record, "method time")
    assert times[0] == 0
    assert 0 < times[1] < times[2] < times[3] < record["train_info"]["train_time"]
    gaps = curve(record, "gap")
    assert gaps[0] > 0.5  # LoRA's start
    assert max(gaps[1:]) < 1e-5
    assert curve(record, "kappa bound")[0] == math.inf
    assert all(2 <= bound < math.inf for bound in curve(record, "kappa bound")[1:])


def test_the_adapter_that_is_saved_is_the_one_that_was_measured(small_model, balora):
    record, folder = balora
    base, _ = load_model(small_model, dtype="float32")
    model = PeftModel.from_pretrained(base, folder)
    gap, kappa = conditioning_of(model)
    last = record["train_info"]["metrics"][-1]
    assert gap == pytest.approx(last["gap"])
    assert kappa == pytest.approx(last["kappa bound"])


@pytest.mark.parametrize("method", ["lora", "balora", "ilora", "scaled-gd", "pilora"])
def test_an_absurd_learning_rate_diverges(method, small_model, tmp_path):
    record = tune(small_model, method, {"evaluations": 2, "warmup": 0.0}, rate=1e25, adapter=tmp_path / "adapter")
    info = record["train_info"]
    assert info["status"] == "diverged"
    assert record["run_info"]["error_msg"]
    assert "\n" not in record["run_info"]["error_msg"]
    assert 1 <= len(info["metrics"]) < 3
    assert curve(record)[0] < 7
    assert "test_loss" not in info
    assert not (tmp_path / "adapter").exists()
    written = json.loads(write_json(tmp_path / "record.json", record).read_text())
    assert written["train_info"]["status"] == "diverged"
    assert written["train_info"]["metrics"][0]["kappa bound"] == "inf"


def test_warm_up_from_zero(small_model):
    """The first step has the learning rate 0: A stays 0, and a projection that forgets B would end the training."""
    settings = {"steps": 24, "evaluations": 2, "warmup": 5 / 24, "batch_size": 8}
    with_warm_up, lora = (tune(small_model, name, settings, rate=0.2) for name in ("balora", "lora"))
    without = tune(small_model, "balora", {**settings, "warmup": 0.0}, rate=0.2)
    start = curve(with_warm_up)[0]
    assert all(curve(record)[-1] < start - 0.05 for record in (with_warm_up, without, lora))
    assert curve(with_warm_up)[-1] == pytest.approx(curve(without)[-1], abs=0.01)
    assert curve(with_warm_up)[-1] < curve(lora)[-1] + 0.01


class Interrupted(Stopwatch):
    """A stopwatch that stops the whole process, so to speak, in the fifth step."""

    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control, **kwargs)
        if state.global_step == 5:
            raise KeyboardInterrupt


@pytest.mark.parametrize("method", ["balora@2", "pilora"])
def test_an_interrupted_run_goes_on(method, small_model, tmp_path, monkeypatch):
    settings = {"steps": 8, "evaluations": 4, "checkpoint_every": 3}
    whole = tune(small_model, method, settings, work=tmp_path / "whole", adapter=tmp_path / "a")
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "Stopwatch", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(small_model, method, settings, work=tmp_path / "work", adapter=tmp_path / "b")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["checkpoint-3"]
    assert not (tmp_path / "b").exists()
    saved = json.loads((tmp_path / "work" / "checkpoint-3" / "trainer_state.json").read_text())["log_history"][-1]
    assert saved["step"] == 3
    resumed = tune(small_model, method, settings, work=tmp_path / "work", adapter=tmp_path / "b")
    assert resumed["train_info"]["steps"] == 8
    assert curve(resumed, "step") == curve(whole, "step") == [0, 2, 4, 6, 8]
    assert curve(resumed) == pytest.approx(curve(whole), rel=1e-6)
    assert resumed["train_info"]["test_loss"] == pytest.approx(whole["train_info"]["test_loss"], rel=1e-6)
    for name, key in (("train time", "train_time"), ("method time", "method_time")):
        times = curve(resumed, name)
        assert 0 < times[1] <= saved[key] < times[2] < times[3] < times[4]
    assert resumed["train_info"]["peak_memory"] >= saved["peak_memory"]
    a, b = (load_file(tmp_path / name / "adapter_model.safetensors") for name in "ab")
    for key, value in a.items():
        torch.testing.assert_close(b[key], value)


def test_without_a_checkpoint_it_starts_anew(small_model, tmp_path, lora):
    (tmp_path / "work").mkdir()
    record = tune(small_model, settings={"checkpoint_every": 4}, work=tmp_path / "work")
    assert curve(record) == curve(lora)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["checkpoint-6"]


def test_it_leaves_no_folder_behind(small_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tune(small_model, settings={"steps": 1, "evaluations": 1})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("steps", "evaluations"), [(7, 3), (5, 4), (3, 3)])
def test_as_many_evaluations_as_asked_for_and_the_last_one_at_the_end(steps, evaluations, small_model):
    found = curve(tune(small_model, settings={"steps": steps, "evaluations": evaluations}), "step")
    assert len(found) == evaluations + 1
    assert found[0] == 0
    assert found[-1] == steps
    assert found == sorted(set(found))


def test_settings_reach_the_training(small_model):
    short = {"steps": 3, "evaluations": 1, "warmup": 0.0}
    base = curve(tune(small_model, settings=short))
    for changes in (
        {"schedule": "constant"},
        {"schedule": "cosine"},
        {"warmup": 0.6},
        {"weight_decay": 0.9},
        {"clip": 1e-9},
        {"label_smoothing": 0.3},
        {"betas": (0.5, 0.6)},
        {"epsilon": 1.0},
        {"dropout": 0.5},
        {"batch_size": 2},
        {"accumulation": 2},
        {"targets": ("q_proj",)},
    ):
        record = tune(small_model, settings={**short, **changes})
        assert record["train_info"]["status"] == "success"
        assert curve(record) != base, changes
    assert curve(tune(small_model, settings={**short, "gradient_checkpointing": True})) == pytest.approx(base, rel=1e-5)


def test_dtype_of_the_base_and_of_the_adapter(small_model, tmp_path):
    record = tune(small_model, "balora", {"steps": 1, "evaluations": 1, "dtype": "bfloat16"}, adapter=tmp_path / "a")
    assert record["train_info"]["status"] == "success"
    assert {value.dtype for value in load_file(tmp_path / "a" / "adapter_model.safetensors").values()} == {
        torch.float32
    }


def test_data_without_extrapolation(small_model):
    splits = Splits(SPLITS.train, SPLITS.validation, SPLITS.test, (), "sums")
    info = tune(small_model, splits=splits, settings={"steps": 1, "evaluations": 1})["train_info"]
    assert "test_loss" in info
    assert "test_exact_match" not in info
    assert "extrapolate_loss" not in info


def test_what_cannot_be_tuned(small_model, tmp_path):
    with pytest.raises(ValueError, match="unknown method 'lara'"):
        tune(small_model, "lara")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        tune(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nosuch"):
        tune(small_model, settings={"targets": ("nosuch",)})
    with pytest.raises(ValueError, match="examples have more than 3 tokens"):
        tune(small_model, settings={"max_length": 3})
    with pytest.raises(ValueError, match="checkpoints need a folder"):
        tune(small_model, settings={"checkpoint_every": 1})


@pytest.mark.parametrize("method", ["lora", "pissa", "olora", "balora-plus"])
def test_a_saved_adapter_fits_the_base_model_as_it_was(small_model, tmp_path, method):
    """On the very base model that it was trained from it has the test loss of the record."""
    record = tune(small_model, method, adapter=tmp_path / "adapter", rate=5e-2)
    model, tokenizer = load_adapted(tmp_path / "adapter")
    model.eval()
    losses = []
    for example in encode(SPLITS.test, tokenizer, 256):
        batch = {key: torch.tensor([value]) for key, value in example.items()}
        with torch.no_grad():
            losses.append((float(model(**batch).loss), sum(label != -100 for label in example["labels"])))
    mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert mean == pytest.approx(record["train_info"]["test_loss"], rel=2e-3)
    start = record["train_info"]["metrics"][0]["valid loss"]
    assert abs(record["train_info"]["metrics"][-1]["valid loss"] - start) > 1e-2
