"""The README tells the truth: its verdict tables are the registries', and its example runs."""

import re
from pathlib import Path

import pytest

from lorakappa.conditioning.claims import CLAIMS as STATIC
from lorakappa.llm.comparison.claims import CLAIMS as FINE_TUNES
from lorakappa.synthetic.claims import CLAIMS as DYNAMIC

CLAIMS = STATIC | DYNAMIC | FINE_TUNES
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_claim_is_in_the_table_with_its_verdict(claim):
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{claim.id}` |")]
    _, _, statement, outcome, _ = row.split("|")
    assert statement.strip() == claim.statement
    assert outcome.strip().startswith("holds" if claim.recorded == "holds" else f"**{claim.recorded}**")
    if claim.corrected_by:
        assert outcome.strip().endswith(f"→ {claim.corrected_by}")


def test_no_row_without_a_claim():
    rows = re.findall(r"^\| `([\w-]+)` \| .*(?:holds|refuted|inconclusive)", README, flags=re.MULTILINE)
    assert set(rows) == set(CLAIMS)


def test_pictures_and_links_exist():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (Path(__file__).parent.parent / target).is_file(), target


def test_the_five_line_example_runs_and_prints_what_it_says(capsys):
    (block,) = re.findall(r"```python\n(import numpy.*?)```", README, flags=re.DOTALL)
    exec(block, {})
    first, second = capsys.readouterr().out.splitlines()
    assert float(first.split()[0]) > 8
    assert float(second) == pytest.approx(8.0)
