"""Splits from every kind of source, without overlap."""

import json
import tarfile

import pytest

from lorakappa.llm.data.mathematics import FINE_TUNING_MODULES, LEVELS, TOPIC_MODULES
from lorakappa.llm.data.sources import load_splits
from lorakappa.llm.data.splits import Example

PARTS = ("train", "validation", "test", "extrapolate")


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
    assert all(name in generated.source for name in FINE_TUNING_MODULES)
    assert all(prompt.endswith("\n") for part in prompts(generated) for prompt in part)


def test_the_test_set_does_not_depend_on_the_number_of_training_examples(generated):
    fewer = load_splits("mathematics", train=10, validation=10, test=60)
    assert (fewer.test, fewer.extrapolate) == (generated.test, generated.extrapolate)


def test_a_small_pool_of_questions_is_not_shared_between_splits():
    splits = load_splits("mathematics", modules=["measurement__time"], train=3000, validation=600, test=600)
    train, validation, test, extrapolate = prompts(splits)
    assert len(train | validation | test) == 4200
    assert extrapolate == set()


def test_topics_are_a_source_of_their_own():
    splits = load_splits("mathematics-topics", train=57, validation=57, test=38)
    train, validation, test, _ = prompts(splits)
    assert [len(part) for part in prompts(splits)] == [57, 57, 38, 0]
    assert len(train | validation | test) == 152
    names = {name.partition("__")[2] for name in TOPIC_MODULES}
    for part in (splits.train, splits.validation, splits.test):
        assert {example.completion for example in part} == names
    assert splits.source.startswith("topics of DeepMind Mathematics, generated: algebra__linear_1d, ")
    two = load_splits("mathematics-topics", modules=["numbers__gcd", "numbers__lcm"], train=4, validation=2, test=2)
    assert {example.completion for example in two.train} == {"gcd", "lcm"}
    with pytest.raises(ValueError, match="columns are for data sets that have some; mathematics-topics is questions"):
        load_splits("mathematics-topics", columns=("a", "b"), train=1, validation=1, test=1)


def test_official_splits(tmp_path):
    root = tmp_path / "mathematics_dataset-v1.0"
    for level in LEVELS:
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
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        load_splits(str(tmp_path / "bad.jsonl"), **sizes)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"cannot read .*empty"):
        load_splits(str(tmp_path / "empty"), **sizes)
    with pytest.raises(ValueError, match="validation must be at least 1"):
        load_splits("mathematics", train=1, validation=0, test=1)
    with pytest.raises(ValueError, match="modules are for DeepMind Mathematics"):
        load_splits(str(tmp_path / "a.jsonl"), modules=["numbers__gcd"], **sizes)


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
