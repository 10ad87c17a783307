"""Numbers of the pages that state results: each paragraph that has some names the claims or the command they came from.

A comment before the paragraph, or at its end, does so: `<!-- numbers: ID, ID -->` for the rows of claims, in which they
must stand, `<!-- numbers: COMMAND -->` for what prints or saves them, not always to as few digits, or
`<!-- numbers: a rule set before -->` where nothing was measured.
"""

import json
import re
from itertools import accumulate

import pytest

from tests.test_readme import CLAIMS, FENCED, PAGES, ROOT, find_command, own, verdicts

RESULTS = {
    "README.md": ("What came out", "Where things are"),
    "conditioning/README.md": ("κ of your own factors", "The best gauge for a loss", "The verdicts"),
    "synthetic/README.md": ("Command line", "The verdicts"),
    "llm/README.md": (
        "Which of these do I use?",
        "Studies",
        "A task that the tiny model learns",
        "Where a step of the tiny model goes",
        "The verdicts",
        "The paper's premise, tested directly",
    ),
}
"""Sections that state results, by page."""

MEASURED = re.compile(r"\d+\.\d+|\d+(?= %)|\d{1,3}(?:,\d{3})+|1/\d+|\d+ of (?:the |all )?\d+")
"""What is not the number of a setting, such as r = 8 or 200 steps."""

TOKEN = re.compile(r"\d+(?:\.\d+)?")
MARK = re.compile(r"\s?<!-- numbers: (.+?) -->\n?")
MADE = re.compile(r"<!-- (?:lorakappa|python -m) ")

RULE = "a rule set before"


def blocks(page):
    """(section, text) of every paragraph, list entry and table that is neither code nor made by a command."""
    section, made = "", False
    for part in re.split(r"\n\n+", re.sub(FENCED, "", PAGES[page], flags=re.MULTILINE | re.DOTALL)):
        if heading := re.match(r"#+ (.*)", part):
            section = heading[1]
        made = bool(MADE.match(part)) or (made and part.startswith("|"))  # one command may print several tables
        if not made and "| claim | statement | verdict |" not in part:
            yield from ((section, text) for text in re.split(r"\n(?=- )", part))


def words(text):
    return " ".join(re.findall(r"[^\W\d_]+", MARK.sub("", text))[:5])


def stated(page):
    """(mark or None, text) of what states measured numbers in the sections of results."""
    for section, text in blocks(page):
        bare = re.sub(r"`[^`]*`|\]\([^)]*\)|<[^>]*>", "", MARK.sub("", text))
        if section in RESULTS[page] and MEASURED.search(bare):
            mark = MARK.search(text)
            yield (mark[1] if mark else None), text, bare


ROWS = {id: f"{statement} {verdict}" for page in PAGES for id, statement, verdict in verdicts(page)}


def known(ids):
    """Numbers in the rows of claims, and sums of neighbours: cells that are decided are those won and lost."""
    for id in ids:
        numbers = TOKEN.findall(ROWS[id])
        yield from numbers
        whole = [int(number) if number.isdigit() else 0 for number in numbers]
        yield from (str(total) for i in range(len(whole)) for total in accumulate(whole[i : i + 3]))


def missing(mark, bare):
    """The numbers of a paragraph that are not those of the claims that it names; none if it names no claims."""
    if own(mark) or mark.startswith("make ") or mark == RULE:
        return []
    ids = mark.split(", ")
    assert set(ids) <= ROWS.keys()
    measured = {token for text in MEASURED.findall(bare) for token in TOKEN.findall(text)}
    return sorted(measured - set(known(ids)))


@pytest.mark.parametrize("page", RESULTS)
def test_numbers_name_their_record(page):
    assert [words(text) for mark, text, _ in stated(page) if mark is None] == []


@pytest.mark.parametrize("page", RESULTS)
def test_numbers_stand_in_the_rows_that_are_named(page):
    assert {words(text): missing(mark, bare) for mark, text, bare in stated(page) if mark and missing(mark, bare)} == {}


def timed(work, setting):
    """Rows of the record of benchmarks that comes with the project."""
    rows = json.loads((ROOT / "figures/report/benchmarks.json").read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["work"] == work and re.search(setting, row["setting"])]


def ratios(work, setting, peer):
    return [row["ratios"][peer]["median"] for row in timed(work, setting)]


def test_speeds_are_those_of_the_record_that_ships():
    loops = ratios("balance", r"r = (8|64), float32", "loop of SVDs")
    step = f"1/{round(*ratios('P in training', 'Qwen2.5-0.5B', 'whole step'), -1):.0f} of a"
    fisher = [1 / ratio for ratio in ratios("Fisher gauge in training", "", "P")]
    svds = [1 / ratio for ratio in ratios("κ of a minimizer", "^64×64", "numpy.linalg.svd(Z)")]
    (hessian,) = ratios("κ without a Hessian", "^64×64", "torch.func.hessian + eigvalsh")
    steps = {row["setting"].partition(", 8")[0]: f"{round(row['rate'], -3):,.0f}" for row in timed("simulation", "")}
    said = {
        "README.md": (
            f"P takes 1/{min(loops):.0f} to 1/{max(loops):.0f} of the time of a loop of float32 SVDs",
            f"{step} training step at Qwen2.5-0.5B's shapes",
            f"takes {sum(svds) / len(svds):.2f} SVDs of Z and 1/{round(hessian, -2):,.0f} of the time",
        ),
        "llm/README.md": (f"{step} step at Qwen2.5-0.5B's shapes",),
        "synthetic/README.md": (
            f"two cores make {steps['lora, gd']} steps of a trajectory a second with LoRA and {steps['balora, gd']} "
            f"with BaLoRA under gradient descent, {steps['lora, adam']} and {steps['balora, adam']} under Adam",
        ),
    }
    for page, texts in said.items():
        assert [text for text in texts if text not in " ".join(PAGES[page].split())] == []
    assert [round(ratio) for ratio in sorted(fisher)] == [2, 3]  # "twice to three times as long"


def test_a_changed_number_is_noticed():
    mark, _, bare = next(entry for entry in stated("README.md") if entry[0] and not own(entry[0]))
    assert missing(mark, bare) == []
    assert missing(mark, bare.replace("20 of 26", "97 of 26")) == ["97"]


def test_commands_that_are_named_exist():
    named = [mark for page in RESULTS for mark, _, _ in stated(page) if mark and own(mark)]
    assert len(named) > 3
    for command in named:
        found, words_left = find_command(command)
        ids = [word for word in words_left if found.name == "verify" and word not in ("--package", "conditioning")]
        assert set(ids) <= CLAIMS.keys()
    made = {mark for page in RESULTS for mark, _, _ in stated(page) if mark and mark.startswith("make ")}
    targets = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{mark.removeprefix('make ')}:" in targets for mark in made)
