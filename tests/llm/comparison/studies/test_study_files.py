"""Study files: what they mean, and what is said of those that mean nothing."""

import math

import pytest

from lorakappa.llm.comparison.protocol import MOST_RUNS
from lorakappa.llm.comparison.settings import TrainingSettings
from lorakappa.llm.comparison.studies.files import find_study, parse_study, read_study, shipped, study_digest
from lorakappa.llm.comparison.studies.study import DataSource, FreshSeeds

HEAD = """summary = "a test"
delta = 0.02

[settings]
steps = 40
weight_decay = 1

[selection]
seeds = 3
"""
TABLE = """
[[tables]]
name = "ranks"
methods = ["lora", "balora@10", "ilora"]
ranks = [2, 8]
learning_rates = "1e-3:1e-1:3"
lambdas = [1, 10]
"""
STARTS = """
[[tables]]
name = "starts"
methods = ["lora", "balora"]
ranks = [8]
steps = [20, 60]
learning_rates = [0.01]
starts = "1e-2:1e2:3"

[tables.settings]
optimizer = "sgd"
"""


def test_a_study():
    found = parse_study(HEAD + TABLE + STARTS, "mine.toml")
    ranks, starts = found.tables
    assert (found.name, found.summary, found.delta, found.half_width) == ("mine", "a test", 0.02, 0.02)
    assert (found.selection_seeds, found.fresh.first) == ((0, 1, 2), 3)
    assert ranks.methods == ("lora", "balora@10", "ilora")
    assert (ranks.steps, ranks.learning_rates, ranks.strengths) == ((40,), (0.001, 0.01, 0.1), (1.0, 10.0))
    assert ranks.settings.weight_decay == 1.0
    assert (starts.steps, starts.starts) == ((20, 60), (0.01, 1.0, 100.0))
    assert (starts.settings.optimizer, starts.settings.weight_decay) == ("sgd", 1.0)
    assert len(found.contrasts()) == 2 * 2 + 6
    assert {arm.settings.steps for arm in found.arms()} == {20, 40, 60}
    ilora = next(arm for arm in found.arms() if arm.method == "ilora")
    assert [place.variant for place in ilora.places([0.1])] == ["ilora:lambda=1", "ilora:lambda=10"]


SMALLEST = """
[[tables]]
name = "one"
methods = ["lora", "balora"]
ranks = [8]
learning_rates = 0.01
"""


def test_what_a_file_leaves_out():
    found = parse_study(SMALLEST, "mine.toml")
    (table,) = found.tables
    assert (found.summary, found.data, found.selection_seeds, found.extensions) == ("", DataSource(), (0, 1), 4)
    assert found.fresh == FreshSeeds(first=2)
    assert (found.delta, found.half_width, found.confidence) == (0.01, 0.01, 0.95)
    assert (found.hours, found.runs) == (math.inf, MOST_RUNS)
    assert (table.settings, table.steps) == (TrainingSettings(), (TrainingSettings().steps,))
    assert (table.learning_rates, table.scalings, table.starts) == ((0.01,), (1.0,), ())
    assert (table.strengths, table.effective) == ((1.0,), False)


def test_the_smallest_numbers_that_a_file_may_have():
    text = (
        "[data]\ncolumns = ['a', 'b']\nexamples = [1, 1, 1]\nseed = 0\n"
        "[selection]\nseeds = 1\nextensions = 0\n[fresh]\nfirst = 1\nminimum = 2\nstep = 1\nmaximum = 2\n"
        "[budget]\nhours = 0.5\nruns = 1\n[settings]\nbetas = [0.5, 0.75]\ntargets = ['q_proj']\n"
    )
    found = parse_study(text + SMALLEST, "mine.toml")
    assert found.data == DataSource(columns=("a", "b"), examples=(1, 1, 1))
    assert (found.selection_seeds, found.extensions, found.fresh) == ((0,), 0, FreshSeeds(1, 2, 1, 2))
    assert (found.hours, found.runs) == (0.5, 1)
    settings = found.tables[0].settings
    assert (settings.betas, settings.targets) == ((0.5, 0.75), ("q_proj",))


def test_model_and_data_can_be_put_in_the_place_of_the_file_s():
    found = parse_study(HEAD + TABLE, "mine.toml", model="/a/model", data="/some/data")
    assert (found.tables[0].settings.model, found.data.source) == ("/a/model", "/some/data")
    assert study_digest(found) != study_digest(parse_study(HEAD + TABLE, "mine.toml"))


def test_a_name_and_a_summary_change_nothing():
    one = parse_study(HEAD + TABLE, "one.toml")
    assert study_digest(one) == study_digest(parse_study(HEAD.replace("a test", "other") + TABLE, "two.toml"))
    assert study_digest(one) != study_digest(parse_study(HEAD.replace("0.02", "0.03") + TABLE, "one.toml"))


@pytest.mark.parametrize("name", shipped())
def test_studies_that_come_with_the_project(name):
    found = read_study(find_study(name))
    assert found.name == name
    assert found.summary
    assert found.least_runs() <= found.most_runs()


def test_the_big_one_has_the_paper_s_ranks():
    found = read_study(find_study("balora-dm-math"))
    assert {contrast.rank for contrast in found.contrasts()} == {8, 16, 32, 64, 128}
    assert {arm.settings.model for arm in found.arms()} == {"Qwen/Qwen2.5-3B"}
    tuned = [contrast.method for contrast in found.contrasts() if contrast.start is None]
    assert all(len(arm.scalings) > 1 and len(arm.learning_rates) > 3 for arm in tuned)


BAD = [
    ("[data]\ncolumns = ['a', 'b', 'c']\n" + SMALLEST, "mine.toml, line 2: data.columns: list should have at most 2"),
    ("[data]\nexamples = [1, 2]\n" + SMALLEST, "mine.toml, line 2: data.examples: list should have at least 3"),
    ("[data]\nexamples = [1, 2, 3, 4]\n" + SMALLEST, "mine.toml, line 2: data.examples: list should have at most 3"),
    ("[fresh]\nfirst = 0\n" + SMALLEST, "mine.toml: seed 0 cannot choose cells and measure effects"),
    ("fresh = {minimum = 0}\n" + SMALLEST, "mine.toml: fresh.minimum: input should be greater"),
    (HEAD + "[fresh]\nseeds = 2\n" + TABLE, "mine.toml, line 11: fresh.seeds: extra inputs are not permitted"),
    ("[settings]\nbetas = [1, 2]\n" + SMALLEST, "mine.toml: settings: betas must be like (0.9, 0.999), not [1, 2]"),
    ("[settings]\ntargets = [1]\n" + SMALLEST, "mine.toml: settings: targets must be names, not [1]"),
    ("x = ", "mine.toml is not TOML: Invalid value (at end of document)"),
    ("x = 1\n" + TABLE, "mine.toml, line 1: x: extra inputs are not permitted"),
    (HEAD, "mine.toml: tables: field required"),
    (HEAD + TABLE.replace("ranks = [2, 8]", 'ranks = ["two"]'), "mine.toml, line 14: tables[0].ranks[0]: input should"),
    (HEAD + TABLE + STARTS.replace("ranks = [8]\n", ""), "mine.toml, line 18: tables[1].ranks: field required"),
    (HEAD + TABLE.replace("ranks = [2, 8]", "rank = 2"), "mine.toml, line 11: tables[0].ranks: field required"),
    (HEAD.replace("seeds = 3", "seeds = 0") + TABLE, "mine.toml, line 9: selection.seeds: input should be greater"),
    (HEAD.replace("steps = 40", 'steps = "40"') + TABLE, "mine.toml: settings: steps must be like 60, not '40'"),
    (HEAD.replace("steps = 40", "step = 40") + TABLE, "mine.toml: settings: there is no 'step'; choose from model"),
    (HEAD.replace("steps = 40", "steps = 0") + TABLE, "mine.toml: steps must be at least 1, not 0"),
    (HEAD + TABLE.replace("ilora", "lara"), "mine.toml: tables[0] (ranks): unknown method 'lara'"),
    (HEAD + TABLE.replace("1e-3:1e-1:3", "fast"), "mine.toml: tables[0] (ranks): 'fast' is no grid"),
    (HEAD + TABLE + TABLE, "mine.toml: there must be one or more tables, each with a name of its own"),
    (HEAD + "[fresh]\nfirst = 2\n" + TABLE, "mine.toml: seed 2 cannot choose cells and measure effects"),
    (HEAD + "[fresh]\nminimum = 1\n" + TABLE, "mine.toml: fresh seeds need 2 ≤ minimum ≤ maximum"),
    (HEAD.replace("0.02", "0") + TABLE, "mine.toml: delta must be positive, not 0"),
    (HEAD + "[budget]\nhours = -1\n" + TABLE, "mine.toml, line 11: budget.hours: input should be greater than 0"),
    (HEAD + STARTS + "steps = 3\n", "mine.toml: tables[0] (starts): settings: the steps are an axis of the table"),
    (HEAD + TABLE.replace('"lora", "balora@10", "ilora"', '"lora"'), "methods must name the baseline and at least one"),
    (HEAD + STARTS.replace("learning_rates", "effective = true\nlearning_rates"), "leave out scalings and effective"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_is_wrong_is_one_line_with_its_place(text, message):
    with pytest.raises(ValueError) as raised:
        parse_study(text, "mine.toml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("mine.toml")
    assert "\n" not in str(raised.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no study none: name a file FILE\.toml, or one of .*smoke"):
        find_study("none")
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="it is no text in UTF-8"):
        read_study(find_study(str(tmp_path / "x.toml")))
