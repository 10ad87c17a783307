"""`compare --study` and `report` on the command line, on a model that is made here."""

import json

import pytest

from tests.llm.comparison.small import save_small_model
from tests.llm.test_llm_command import call

STUDY = """
summary = "two methods"
[data]
examples = [40, 10, 10]
[settings]
steps = 3
batch_size = 4
evaluations = 1
generate = 2
[selection]
seeds = 1
extensions = 0
[fresh]
minimum = 2
step = 1
maximum = 3
[[tables]]
name = "methods"
methods = ["lora", "balora"]
ranks = [2]
learning_rates = [1e-3, 1e-2]
[[tables]]
name = "sgd"
methods = ["lora", "balora"]
ranks = [2]
learning_rates = 1.0
settings = {optimizer = "sgd"}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, data and a study of both."""
    folder = tmp_path_factory.mktemp("place")
    save_small_model(folder / "model")
    lines = [json.dumps({"question": f"{i} + 1 =", "answer": str(i + 1)}) for i in range(60)]
    (folder / "sums.jsonl").write_text("\n".join(lines))
    (folder / "mine.toml").write_text(STUDY)
    return folder


def test_a_study_from_its_file_to_its_report(place, tmp_path, monkeypatch, capsys):
    options = ["--study", place / "mine.toml", "--model", place / "model", "--data", place / "sums.jsonl"]
    code, out, _ = call(monkeypatch, capsys, "compare", *options, "--jobs", "1", "--out", tmp_path, "--dry-run")
    assert code == 0
    assert "mine: 2 contrasts in 2 tables, 4 arms\nruns: 0 made, 14 to 18 in all\ntime: " in out
    assert "memory of a run: about" in out
    assert not (tmp_path / "study-mine").exists()
    options += ["--evidence", tmp_path / "kept"]
    code, out, err = call(monkeypatch, capsys, "compare", *options, "--jobs", "1", "--out", tmp_path)
    assert (code, "error" in err) == (0, False)
    folder = tmp_path / "study-mine"
    (place / "sums.jsonl").rename(place / "gone.jsonl")
    code, again, _ = call(monkeypatch, capsys, "compare", *options, "--jobs", "1", "--out", tmp_path)
    (place / "gone.jsonl").rename(place / "sums.jsonl")
    assert (code, again) == (0, out)  # with the data that it keeps, and without another run
    saved = json.loads((folder / "study.json").read_text())
    assert [row["table"] for row in saved["findings"]] == ["methods", "sgd"]
    assert [row["optimizer"] for row in saved["findings"]] == ["adamw", "sgd"]
    assert (saved["pending"], saved["runs"]) == (0, len(list((folder / "runs").iterdir())))
    assert "nothing left to run" in out
    code, _, _ = call(monkeypatch, capsys, "report", folder, "--json", tmp_path / "again.json", "--quiet")
    assert code == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert {key: saved[key] for key in saved if key != "provenance"} == {
        key: again[key] for key in again if key != "provenance"
    }
    code, out, _ = call(monkeypatch, capsys, "report", tmp_path / "kept", "--replay", "2", "--jobs", "1")
    assert code == 0
    assert out.count("losses differ by 0, ") == 2
    assert out.endswith("manifest, records and conclusions agree\n")
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert set(manifest["claims"]) >= {"llm-balora-loss"}
    manifest["findings"][0]["verdict"] = "worse"
    (tmp_path / "kept" / "manifest.json").write_text(json.dumps(manifest))
    code, out, _ = call(monkeypatch, capsys, "report", tmp_path / "kept", "--replay", "1")
    assert code == 1
    assert "fault: methods, balora against lora, r = 2, 3 steps: verdict is" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--study", "none"], "no study none: name a file FILE.toml, or one of "),
        (["compare", "--study", "smoke", "--steps", "3"], "--steps has no effect with --study"),
        (["compare", "--study", "smoke", "--preset", "tiny"], "--preset has no effect with --study"),
        (["compare", "--study", "smoke", "--cluster-options", "x"], "--cluster-options has no effect without"),
        (["compare", "--study", "balora-dm-math", "--data", "/nowhere"], "/nowhere"),
        (["report", "nowhere"], "nowhere is no folder of a study"),
        (["report", "nowhere", "--replay", "2"], "--replay is for evidence, which nowhere is not"),
        (["compare", "--model", "tiny", "--dry-run"], "--evidence and --dry-run go with --study"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = call(monkeypatch, capsys, *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
