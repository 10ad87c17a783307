"""The presets of `compare`: they are plans that can be made, with the numbers of their sources."""

import json

import pytest

from lorakappa.llm.comparison.methods import parse_method
from lorakappa.llm.comparison.presets import GLUE_RATES, GLUE_TASKS, PRESETS, preset_for
from lorakappa.llm.comparison.protocol import Plan
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.data.sources import MATHEMATICS, TOPICS, load_splits
from lorakappa.shared.methods import at_strengths


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_plan(name):
    preset = PRESETS[name]
    assert preset.summary
    assert "\n" not in preset.summary
    assert isinstance(preset.plan, Plan)
    assert preset.plan.methods[0] == "lora"
    assert len(preset.plan.methods) > 1
    for method in preset.plan.methods:
        parse_method(method)
        assert at_strengths(method, (3, 4), "llm") == [method]
    assert preset.plan.settings.evaluations <= preset.plan.settings.steps
    assert all(size > 0 for size in preset.sizes)
    assert (preset.columns is None) == (preset.data in (MATHEMATICS, TOPICS))
    if not name.startswith("tiny"):
        assert preset.known
        assert preset.ours
        assert preset.plan.settings.checkpoint_every > 0


def plan_of(name):
    plan = PRESETS[name].plan
    return plan, plan.settings


@pytest.mark.parametrize(
    ("name", "rate", "strength"),
    [
        ("mistral-mnli-ilora", 4e-6, 1),
        ("mistral-cola-ilora", 5e-5, 0.1),
        ("mistral-qqp-ilora", 8e-6, 0.01),
        ("mistral-wnli-ilora", 5e-5, 100),
        ("mistral-sst2-pilora", 6e-5, 0.001),
        ("mistral-stsb-pilora", 8e-5, 1),
        ("mistral-wnli-pilora", 3e-5, 100),
        ("gpt2-e2e-ilora", 6e-4, 10),
        ("gpt2-e2e-pilora", 7e-4, 1),
    ],
)
def test_numbers_of_ilora(name, rate, strength):
    plan, _ = plan_of(name)
    _, method = plan.methods
    chosen = parse_method(method)
    assert plan.learning_rates == (rate,)
    assert chosen.options["lambda"] == strength
    assert chosen.base == name.rpartition("-")[2]
    assert (chosen.options["factor"], chosen.options["power"], chosen.every) == (1.0, 1.0, 1)


def test_settings_of_e2e():
    for name, betas in (("gpt2-e2e-ilora", (0.9, 0.999)), ("gpt2-e2e-pilora", (0.7, 0.8))):
        plan, settings = plan_of(name)
        assert plan.ranks == (4,)
        assert [scaling * rank for scaling in plan.scalings for rank in plan.ranks] == [32]  # α
        assert settings.betas == betas
        assert (settings.batch_size, settings.weight_decay, settings.dropout) == (8, 0.01, 0.1)
        assert settings.label_smoothing == 0.1
        assert settings.steps * settings.warmup == pytest.approx(500)
        assert settings.steps == 5 * PRESETS[name].sizes[0] // 8 == pytest.approx(5 * 42_061 / 8, rel=0.02)


def test_settings_of_glue():
    assert set(GLUE_RATES["ilora"]) == set(GLUE_RATES["pilora"]) == set(GLUE_TASKS)
    for method in GLUE_RATES:
        for task in GLUE_TASKS:
            name = f"mistral-{task}-{method}"
            plan, settings = plan_of(name)
            assert plan.ranks == (16,)
            assert [scaling * rank for scaling in plan.scalings for rank in plan.ranks] == [16]
            train, validation, test = PRESETS[name].sizes
            assert 0.95 * GLUE_TASKS[task][1] < train + validation + test < GLUE_TASKS[task][1]
            assert PRESETS[name].resplit  # the test labels are hidden
            assert settings.steps == 5 * train // settings.batch_size
            assert PRESETS[name].data == f"nyu-mll/glue:{task}"
            assert (settings.dropout, settings.epsilon, settings.dtype) == (0.05, 1e-6, "bfloat16")
            assert (settings.weight_decay, settings.clip) == (0.01, 1.0)


@pytest.mark.parametrize(
    ("name", "model", "data", "ranks", "rates", "scalings", "epochs"),
    [
        ("qwen2.5-3b", "Qwen/Qwen2.5-3B", MATHEMATICS, (8, 16, 32, 64, 128), (1e-5, 1e-2, 7), (1, 1, 1), 1),
        ("qwen2.5-3b-metamath", "Qwen/Qwen2.5-3B", "meta-math/MetaMathQA", (8,), (1e-6, 1e-2, 10), (1e-4, 1e4, 10), 1),
        ("llama-3.2-3b", "meta-llama/Llama-3.2-3B", "openai/gsm8k:main", (8,), (1e-5, 1e-2, 10), (1e-4, 1e4, 5), 5),
    ],
)
def test_settings_of_balora(name, model, data, ranks, rates, scalings, epochs):
    plan, settings = plan_of(name)
    assert (settings.model, PRESETS[name].data, plan.ranks) == (model, data, ranks)
    assert plan.methods == ("lora", "balora")
    for grid, (low, high, count) in ((plan.learning_rates, rates), (plan.scalings, scalings)):
        assert (grid[0], grid[-1], len(grid)) == (low, high, count)
    assert settings.targets == ("gate_proj", "up_proj", "down_proj")
    assert (settings.batch_size, settings.accumulation, settings.max_length) == (8, 4, 1024)
    assert (settings.schedule, settings.warmup, settings.weight_decay, settings.clip) == ("constant", 0, 0.01, 1)
    assert settings.steps * 32 == epochs * PRESETS[name].sizes[0]


def test_dampings_of_pilora():
    dampings = {
        task: parse_method(PRESETS[f"mistral-{task}-pilora"].plan.methods[1]).options["damping"] for task in GLUE_TASKS
    }
    assert (dampings["mrpc"], dampings["qnli"], dampings["rte"], dampings["stsb"]) == (1000, 1e-4, 10, 0.1)
    assert len(dampings) == 9


@pytest.mark.parametrize(
    "name", ["gpt2-e2e-ilora", "mistral-mnli-ilora", "mistral-stsb-pilora", "llama-3.2-3b", "qwen2.5-3b-metamath"]
)
def test_columns_of_presets_are_templates_of_their_data(name, tmp_path):
    """A file with the columns of the source is read as prompts and answers in words."""
    preset = PRESETS[name]
    fields = {
        "gpt2-e2e-ilora": {"meaning_representation": "name[{}]", "human_reference": "It is {}."},
        "mistral-mnli-ilora": {"premise": "It is {}.", "hypothesis": "It is not.", "label": "2"},
        "mistral-stsb-pilora": {"sentence1": "It is {}.", "sentence2": "It was.", "label": "3.5"},
        "llama-3.2-3b": {"question": "Is it {}?", "answer": "It is {}.\n#### {}"},
        "qwen2.5-3b-metamath": {"query": "Is it {}?", "response": "It is {}."},
    }[name]
    rows = [{key: value.format(i, i) for key, value in fields.items()} for i in range(12)]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps({**row, "idx": 1}) for row in rows))
    splits = load_splits(str(tmp_path / "data.jsonl"), train=6, validation=3, test=3, columns=preset.columns)
    example = splits.train[0]
    assert example.completion in {preset.columns[1].format_map(row) for row in rows}
    assert "{" not in example.prompt
    assert any(next(iter(row.values())) in example.prompt for row in rows)
    assert example.prompt[-1] in "\n " or example.completion[0] == " "


def test_preset_for():
    assert preset_for("tiny", None) is not PRESETS["qwen2.5-3b"]
    assert preset_for("tiny", None).plan == PRESETS["tiny"].plan
    other = preset_for("some/model", None)
    assert other.plan.settings.model == "some/model"
    assert other.plan.settings.targets == ()
    assert preset_for("Qwen/Qwen2.5-3B", None) == PRESETS["qwen2.5-3b"]
    assert preset_for("my/llama", "llama-3.2-3b").plan.settings.targets == ("gate_proj", "up_proj", "down_proj")
    assert other.plan.ranks == PRESETS["qwen2.5-3b"].plan.ranks
    assert preset_for(None, "mistral-mnli-ilora") is PRESETS["mistral-mnli-ilora"]
    changed = preset_for("my/mistral", "mistral-mnli-ilora")
    assert changed.plan.settings.model == "my/mistral"
    assert changed.plan.settings.steps == PRESETS["mistral-mnli-ilora"].plan.settings.steps
    with pytest.raises(ValueError, match="unknown preset 'huge'; `presets` lists the"):
        preset_for(None, "huge")


def test_the_default_depends_on_the_machine(monkeypatch):
    for there, name in ((True, "qwen2.5-3b"), (False, "tiny")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert preset_for(None, None) is PRESETS[name]


def test_the_tiny_preset_is_small():
    plan, settings = plan_of("tiny")
    assert settings == TrainingSettings()
    assert len(plan.ranks) * len(plan.learning_rates) * len(plan.seeds) * len(plan.methods) <= 64


def test_topics_are_learned_from_questions_seen_once_by_the_same_model():
    plan, settings = plan_of("tiny-topics")
    assert settings.model == "tiny"
    assert settings.steps * settings.batch_size <= PRESETS["tiny-topics"].sizes[0]
    assert settings.generate == PRESETS["tiny-topics"].sizes[2] >= 256
    assert plan.ranks == PRESETS["tiny"].plan.ranks
