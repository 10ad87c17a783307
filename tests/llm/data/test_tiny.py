"""The model that comes with the package, how it was made, and loading any other."""

import json
import shutil
import string

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lorakappa.llm.data import mathematics, pretraining
from lorakappa.llm.data.models import PROJECTIONS, TINY, TINY_FOLDER, default_target_modules, load_model
from lorakappa.llm.data.pretraining import MAX_LENGTH, PRETRAINING_MODULES, answer_loss, character_tokenizer, new_model
from lorakappa.llm.data.sources import load_splits
from lorakappa.llm.data.splits import Example
from lorakappa.llm.data.tokens import encode, exact_match
from tests.llm.models import with_lora


@pytest.fixture(scope="module")
def tiny():
    return load_model(TINY)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_the_folder_is_small_and_says_how_it_was_made(tiny):
    assert sum(file.stat().st_size for file in TINY_FOLDER.iterdir()) < 5e6
    recipe = json.loads((TINY_FOLDER / "recipe.json").read_text())
    assert recipe["command"].startswith("python -m llm pretrain")
    assert recipe["modules"] == list(PRETRAINING_MODULES)
    assert recipe["parameters"] == sum(parameter.numel() for parameter in tiny[0].parameters())
    assert {"seed", "versions", "software", "steps", "held_out_loss"} <= recipe.keys()
    defaults = pretraining.pretrain.__kwdefaults__
    assert {name: recipe[name] for name in ("steps", "batch_size", "learning_rate", "seed")} == {
        name: defaults[name] for name in ("steps", "batch_size", "learning_rate", "seed")
    }


def test_it_was_not_pretrained_on_what_it_is_fine_tuned_on():
    assert not set(PRETRAINING_MODULES) & set(mathematics.FINE_TUNING_MODULES)


def test_every_text_survives_the_tokenizer(tiny):
    model, tokenizer = tiny
    text = string.printable + " What is  1/2 + é?\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.get_vocab() == character_tokenizer().get_vocab()
    assert len(tokenizer(string.printable)["input_ids"]) == len(string.printable)
    assert len(tokenizer) == model.config.vocab_size
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (model.config.pad_token_id, model.config.eos_token_id)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_it_knows_what_it_was_pretrained_on(tiny):
    model, tokenizer = tiny
    assert (model.dtype, model.training, model.config.use_cache) == (torch.float32, False, True)
    splits = load_splits("mathematics", modules=PRETRAINING_MODULES, train=1, validation=200, test=1, seed=123)
    encoded = encode(splits.validation, tokenizer, MAX_LENGTH)
    torch.manual_seed(0)
    assert answer_loss(model, encoded, tokenizer) < 0.5 * answer_loss(new_model(tokenizer), encoded, tokenizer)
    true_or_false = [e for e in splits.validation if e.completion in ("True", "False")]
    answers = [Example(e.prompt, other) for e in true_or_false for other in ("True", "False")]
    assert exact_match(model, tokenizer, answers, batch_size=32) == 0.5


def test_it_can_be_fine_tuned_on_other_questions(tiny):
    splits = load_splits("mathematics", train=320, validation=90, test=1)
    tokenizer = tiny[1]
    train, validation = (encode(part, tokenizer, 80) for part in (splits.train, splits.validation))
    model = with_lora(load_model(TINY)[0], r=8, lora_alpha=16, target_modules=default_target_modules(tiny[0]))
    before = answer_loss(model, validation, tokenizer)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    collate = pretraining.DataCollatorForSeq2Seq(tokenizer)
    for start in range(0, 320, 16):
        optimizer.zero_grad()
        model(**collate(train[start : start + 16])).loss.backward()
        optimizer.step()
    after = answer_loss(model, validation, tokenizer)
    assert 0.1 < after < 0.8 * before


def test_the_loss_is_the_mean_over_labels(tiny):
    model, tokenizer = tiny
    encoded = encode([Example("1 + 1\n", "2"), Example("What is 20 + 30?\n", "50"), Example("?", "123")], tokenizer, 99)
    total = count = 0.0
    for entry in encoded:
        ids, labels = torch.tensor([entry["input_ids"]]), torch.tensor(entry["labels"][1:])
        with torch.no_grad():
            logs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        total -= float(logs[labels >= 0, labels[labels >= 0]].sum())
        count += int((labels >= 0).sum())
    assert answer_loss(model, encoded, tokenizer, batch_size=2) == pytest.approx(total / count, rel=1e-4)


SMALL = {"steps": 2, "examples": 20, "held_out": 8, "batch_size": 4, "hidden_size": 16, "layers": 1}


def test_pretraining_writes_a_model_that_loads_and_can_be_repeated(tmp_path):
    recipe = pretraining.pretrain(tmp_path / "a", **SMALL)
    (tmp_path / "b").mkdir()
    assert pretraining.pretrain(tmp_path / "b", **SMALL)["held_out_loss"] == recipe["held_out_loss"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    assert {file.name for file in (tmp_path / "a").iterdir()} == {file.name for file in TINY_FOLDER.iterdir()}
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "a").iterdir()} == {0o644}
    model, tokenizer = load_model(str(tmp_path / "a"))
    exact_match(model, tokenizer, [Example("1+1?\n", "2")], batch_size=1)
    other = pretraining.pretrain(tmp_path / "c", **SMALL, seed=1)
    assert other["held_out_loss"] != recipe["held_out_loss"]


def test_pretraining_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        pretraining.pretrain(tmp_path / "full", **SMALL)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        pretraining.pretrain(tmp_path / "out", **{**SMALL, "steps": 0})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pretraining, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        pretraining.pretrain(tmp_path / "out", **SMALL)
    assert [entry.name for entry in tmp_path.iterdir()] == ["full"]


def test_a_model_can_be_loaded_in_another_dtype_and_with_checkpointing():
    assert load_model(TINY, dtype="bfloat16", device="cpu")[0].dtype == torch.bfloat16
    gradients = []
    for checkpointing in (False, True):
        model = load_model(TINY, gradient_checkpointing=checkpointing)[0].train()
        calls = []
        model.model.layers[1].self_attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        ids = torch.arange(2, 22).reshape(2, 10)
        model(input_ids=ids, labels=ids).loss.backward()
        assert len(calls) == 1 + checkpointing
        gradients.append(model.model.layers[0].mlp.up_proj.weight.grad)
    torch.testing.assert_close(*gradients)
    with pytest.raises(ValueError, match="dtype must be one of auto, float32, bfloat16, float16, not 'int8'"):
        load_model(TINY, dtype="int8")


def test_what_cannot_be_loaded_is_said(tmp_path):
    with pytest.raises(OSError, match=r"cannot load nobody/nothing: .*hub is not reachable.*name its folder"):
        load_model("nobody/nothing")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_model(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"has no config\.json; name a folder"):
        load_model(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="it is an adapter; name its base model"):
        load_model(str(tmp_path))
    with pytest.raises(NotADirectoryError, match="is a file"):
        load_model(str(tmp_path / "adapter_config.json"))
    shutil.copytree(TINY_FOLDER, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"cannot load the model in .*copy"):
        load_model(str(tmp_path / "copy"))
    (tmp_path / "copy" / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(ValueError, match=r"copy is no causal language model .*nonsense"):
        load_model(str(tmp_path / "copy"))


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path):
    shutil.copytree(TINY_FOLDER, tmp_path / "copy")
    path = tmp_path / "copy" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": None}))
    _, tokenizer = load_model(str(tmp_path / "copy"))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id is not None
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": None}))
    with pytest.raises(ValueError, match="has no end token"):
        load_model(str(tmp_path / "copy"))


def test_targets_are_the_projections_or_all_linear_layers(tiny):
    assert default_target_modules(tiny[0]) == list(PROJECTIONS)
    small = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=10, n_positions=8))
    assert default_target_modules(small) == "all-linear"
