"""Splits without overlap, labels on answers only, and a score that generates what the model really would."""

import json
import tarfile

import pytest
import torch
from transformers import DataCollatorForSeq2Seq, GenerationConfig

from lorakappa.llm.data import mathematics
from lorakappa.llm.data import splits as data
from lorakappa.llm.data.pretrain import character_tokenizer, new_model
from lorakappa.llm.data.splits import Example, Splits, encode, exact_match, load_splits, read_splits, save_splits
from tests.llm.models import with_lora

PARTS = ("train", "validation", "test", "extrapolate")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def tokenizer():
    return character_tokenizer()


@pytest.fixture(scope="module")
def generated():
    return load_splits("mathematics", train=240, validation=60, test=60)


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows(count, start=0):
    return [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(start, start + count)]


def prompts(splits):
    return [{example.prompt for example in getattr(splits, name)} for name in PARTS]


def test_generated_splits_are_disjoint_and_reproducible(generated):
    train, validation, test, extrapolate = prompts(generated)
    assert [len(part) for part in (train, validation, test)] == [240, 60, 60]
    assert len(extrapolate) == 60
    assert len(train | validation | test | extrapolate) == 420
    assert generated.digest == load_splits("mathematics", train=240, validation=60, test=60).digest
    assert generated.digest != load_splits("mathematics", train=240, validation=60, test=60, seed=1).digest
    assert all(name in generated.source for name in mathematics.FINE_TUNING_MODULES)
    assert all(prompt.endswith("\n") for part in prompts(generated) for prompt in part)


def test_the_test_set_does_not_depend_on_the_number_of_training_examples(generated):
    fewer = load_splits("mathematics", train=10, validation=10, test=60)
    assert (fewer.test, fewer.extrapolate) == (generated.test, generated.extrapolate)


def test_a_small_pool_of_questions_is_not_shared_between_splits():
    splits = load_splits("mathematics", modules=["measurement__time"], train=3000, validation=600, test=600)
    train, validation, test, extrapolate = prompts(splits)
    assert len(train | validation | test) == 4200
    assert extrapolate == set()


def test_official_splits(tmp_path):
    root = tmp_path / "mathematics_dataset-v1.0"
    for level in mathematics.LEVELS:
        name = "numbers__place_value_big" if level == "extrapolate" else "numbers__place_value"
        lines = [line for i in range(30) for line in (f"{level} {i}?", str(i))]
        (root / level).mkdir(parents=True)
        (root / level / f"{name}.txt").write_text("\n".join(lines) + "\n")
    sizes = {"modules": ["numbers__place_value"], "train": 15, "validation": 6, "test": 9}
    splits = load_splits(str(root), **sizes)
    train, validation, test, extrapolate = prompts(splits)
    assert [len(part) for part in prompts(splits)] == [15, 6, 9, 9]
    assert not train & validation
    assert all(prompt.startswith("train") for prompt in train | validation)
    assert all(prompt.startswith("interpolate") for prompt in test)
    assert all(prompt.startswith("extrapolate") for prompt in extrapolate)
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as archive:
        archive.add(root, root.name)
    assert load_splits(str(tmp_path / "m.tar.gz"), **sizes).digest == splits.digest


def test_a_file_is_cut_by_seed(tmp_path):
    path = write(tmp_path / "rows.jsonl", rows(30) + rows(10))
    splits = load_splits(path, train=20, validation=5, test=5)
    train, validation, test, _ = prompts(splits)
    assert len(train | validation | test) == 30
    assert all(e.completion == e.prompt.replace("p", "c") for name in PARTS for e in getattr(splits, name))
    assert load_splits(path, train=20, validation=5, test=5, seed=1).test != splits.test
    with pytest.raises(ValueError, match="has 20 different examples left for train in its train split, not 21"):
        load_splits(path, train=21, validation=5, test=5)


def test_own_splits_are_kept_and_overlap_is_removed(tmp_path):
    write(tmp_path / "folder" / "train.jsonl", rows(20))
    write(tmp_path / "folder" / "validation.jsonl", rows(10, start=15))
    write(tmp_path / "folder" / "test.jsonl", rows(10, start=100))
    splits = load_splits(str(tmp_path / "folder"), train=15, validation=10, test=10)
    train, validation, test, _ = prompts(splits)
    assert train == {f"p{i}" for i in range(15)}
    assert validation == {f"p{i}" for i in range(15, 25)}
    assert test == {f"p{i}" for i in range(100, 110)}
    with pytest.raises(ValueError, match="has 15 different examples left for train"):
        load_splits(str(tmp_path / "folder"), train=16, validation=10, test=10)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_other_formats_and_columns(tmp_path, suffix):
    import pandas

    table = pandas.DataFrame({"question": ["1+1?", "2+2?", "3+3?"], "answer": ["two", "four", "six"]})
    path = tmp_path / f"rows.{suffix}"
    if suffix == "json":
        table.to_json(path, orient="records")
    else:
        getattr(table, f"to_{suffix}")(path, index=False)
    sizes = {"train": 1, "validation": 1, "test": 1}
    found = {e for name in PARTS for e in getattr(load_splits(str(path), **sizes), name)}
    assert Example("1+1?\n", "two") in found
    verbatim = load_splits(str(path), **sizes, columns=("answer", "question"))
    assert Example("two", "1+1?") in {e for name in PARTS for e in getattr(verbatim, name)}


def test_what_is_wrong_with_a_source_is_said(tmp_path):
    sizes = {"train": 1, "validation": 1, "test": 1}
    with pytest.raises(OSError, match=r"cannot load the data set nobody/nothing: .*hub is not reachable"):
        load_splits("nobody/nothing", **sizes)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_splits(str(tmp_path / "nowhere.jsonl"), **sizes)
    with pytest.raises(ValueError, match="has the columns a, not prompt and completion or question and answer"):
        load_splits(write(tmp_path / "a.jsonl", [{"a": 1}]), **sizes)
    with pytest.raises(ValueError, match="no text"):
        load_splits(write(tmp_path / "b.jsonl", [{"prompt": "a", "completion": None}] * 3), **sizes)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"must be one of \.jsonl"):
        load_splits(str(tmp_path / "notes.txt"), **sizes)
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(ValueError, match="cannot read the data set"):
        load_splits(str(tmp_path / "bad.jsonl"), **sizes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"cannot read .*empty"):
        load_splits(str(tmp_path / "empty"), **sizes)
    with pytest.raises(ValueError, match="validation must be at least 1"):
        load_splits("mathematics", train=1, validation=0, test=1)
    with pytest.raises(ValueError, match="modules are for DeepMind Mathematics"):
        load_splits(str(tmp_path / "a.jsonl"), modules=["numbers__gcd"], **sizes)


def test_saved_splits_come_back(tmp_path, generated):
    folder = save_splits(generated, tmp_path / "data")
    assert read_splits(folder) == generated
    assert save_splits(generated, folder) == folder
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]
    odd = Splits((Example("a\u2028b\n", "ü"),), (Example('"', "\\"),), (Example("t", "\r"),), (), "odd")
    assert read_splits(save_splits(odd, tmp_path / "odd")) == odd
    with pytest.raises(FileExistsError, match="holds other data"):
        save_splits(odd, folder)


def test_a_changed_folder_is_refused_and_a_failed_write_leaves_nothing(tmp_path, generated, monkeypatch):
    folder = save_splits(generated, tmp_path / "data")
    lines = (folder / "train.jsonl").read_text().splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(ValueError, match="was changed"):
        read_splits(folder)
    (folder / "train.jsonl").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_splits(folder)
    with pytest.raises(FileNotFoundError, match=r"has no splits\.json"):
        read_splits(tmp_path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        save_splits(generated, tmp_path / "other")
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_the_loss_is_on_the_answer_and_the_end_only(tokenizer):
    (entry,) = encode([Example("1+1?\n", "2")], tokenizer, 20)
    assert tokenizer.decode(entry["input_ids"]) == "1+1?\n2<eos>"
    assert entry["labels"] == [-100] * 5 + entry["input_ids"][5:]
    assert entry["attention_mask"] == [1] * 7
    batch = DataCollatorForSeq2Seq(tokenizer)(encode([Example("1+1?\n", "2"), Example("?", "12")], tokenizer, 20))
    assert batch["labels"][1].tolist() == [
        -100,
        *tokenizer("12")["input_ids"],
        tokenizer.eos_token_id,
        -100,
        -100,
        -100,
    ]
    assert batch["attention_mask"][1].tolist() == [1, 1, 1, 1, 0, 0, 0]


def test_prompts_do_not_count_in_the_loss(tokenizer):
    """The gradient of the logits is 0 wherever the next token belongs to the prompt or the padding."""
    model = new_model(tokenizer, hidden_size=16, layers=1)
    batch = DataCollatorForSeq2Seq(tokenizer)(encode([Example("ab", "cd"), Example("abcd", "e")], tokenizer, 20))
    output = model(**batch)
    output.logits.retain_grad()
    output.loss.backward()
    counted = output.logits.grad.abs().sum(-1) > 0
    assert counted.tolist() == [[False, True, True, True, False, False], [False, False, False, True, True, False]]


class Start:
    """A tokenizer that adds a start and an end token by itself, as some do."""

    bos_token_id, eos_token_id = 300, 1

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, text, add_special_tokens=True):
        ids = self.inner(text, add_special_tokens=False)["input_ids"]
        return {"input_ids": [300, *ids, 1] if add_special_tokens else ids}


def test_a_start_token_comes_first_and_no_end_token_in_between(tokenizer):
    (entry,) = encode([Example("a", "b")], Start(tokenizer), 20)
    a, b = tokenizer("ab")["input_ids"]
    assert entry["input_ids"] == [300, a, b, 1]
    assert entry["labels"] == [-100, -100, b, 1]


def test_long_examples_are_left_out_never_cut(tokenizer):
    examples = [Example("ab", "c"), Example("ab", "cdefgh")]
    with pytest.warns(UserWarning, match="1 of 2 examples have more than 5 tokens and are left out; the longest has 9"):
        kept = encode(examples, tokenizer, 5)
    assert kept == encode(examples[:1], tokenizer, 4)
    with pytest.raises(ValueError, match="2 of 2 examples have more than 3 tokens; the longest has 9"):
        encode(examples, tokenizer, 3)
    with pytest.raises(ValueError, match="completion of 'a' is empty"):
        encode([Example("a", "")], tokenizer, 3)
    assert encode([], tokenizer, 5) == []


@pytest.fixture(scope="module")
def copier(tokenizer):
    """A small model that has learned some answers by heart."""
    torch.manual_seed(0)
    model = new_model(tokenizer, hidden_size=32, layers=2)
    examples = [Example(letter * i, letter.upper() * (1 + i % 3)) for i, letter in enumerate("abcdefghijkl", 1)]
    batch = DataCollatorForSeq2Seq(tokenizer)(encode(examples, tokenizer, 40))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.02
    return model, examples


def test_exact_match_pads_on_the_left(tokenizer, copier):
    model, examples = copier
    assert exact_match(model, tokenizer, examples, batch_size=12) == 1
    assert exact_match(model, tokenizer, examples, batch_size=5) == 1
    wrong = [Example(e.prompt, e.completion + "x") if i < 3 else e for i, e in enumerate(examples)]
    assert exact_match(model, tokenizer, wrong, batch_size=4) == 0.75
    spaced = [Example(e.prompt, f" {e.completion}\n") for e in examples]
    assert exact_match(model, tokenizer, spaced, batch_size=4) == 1
    longer = [e for e in examples if len(e.completion) > 1]
    assert exact_match(model, tokenizer, longer, batch_size=4, max_new_tokens=1) == 0
    with pytest.raises(ValueError, match="at least one"):
        exact_match(model, tokenizer, [], batch_size=4)


def test_exact_match_leaves_everything_as_it_was(tokenizer, copier):
    model, examples = copier
    model.train()
    model.model.layers[0].eval()
    model.generation_config = GenerationConfig(do_sample=True, temperature=9.0, repetition_penalty=5.0, pad_token_id=0)
    before = model.generation_config.to_dict(), tokenizer.padding_side
    assert exact_match(model, tokenizer, examples, batch_size=4) == 1
    assert (model.generation_config.to_dict(), tokenizer.padding_side) == before
    assert model.training
    assert not model.model.layers[0].training
    assert model.model.layers[1].training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_exact_match_uses_the_adapter(tokenizer, copier):
    model, examples = copier
    adapted = with_lora(model)
    assert exact_match(adapted, tokenizer, examples, batch_size=4) == 1
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert exact_match(adapted, tokenizer, examples, batch_size=4) < 1
    with adapted.disable_adapter():
        assert exact_match(adapted, tokenizer, examples, batch_size=4) == 1


def test_all_splits_can_be_cut_from_the_training_data(tmp_path):
    for name, answer in (("train", "shown"), ("test", "hidden"), ("validation", "hidden")):
        rows = [{"prompt": f"{name} {i}", "completion": answer} for i in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept, cut = (
        load_splits(str(tmp_path), train=8, validation=6, test=6, resplit=resplit) for resplit in (False, True)
    )
    assert {e.completion for e in kept.test} == {"hidden"}
    everything = [*cut.train, *cut.validation, *cut.test]
    assert {e.completion for e in everything} == {"shown"}
    assert len({e.prompt for e in everything}) == 20


def test_a_prompt_may_have_several_completions_in_one_split_only(tmp_path):
    pairs = [{"prompt": f"p{i}", "completion": c} for i in range(12) for c in ("a", "b", "b")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    splits = load_splits(str(tmp_path / "rows.jsonl"), train=6, validation=3, test=3)
    train, validation, test, _ = prompts(splits)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(set(splits.train)) == 6
    for seed in range(5):
        more = load_splits(str(tmp_path / "rows.jsonl"), train=12, validation=2, test=2, seed=seed)
        if len({e.prompt for e in more.train}) < 12:
            return
    pytest.fail("no prompt ever came with both completions")
