"""The page for other people's statements: its code runs, in one go, and prints what it says."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "conditioning" / "USING_AS_A_LIBRARY.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What the page's code defines."""
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        printed = []
        names["print"] = lambda *values: printed.append(" ".join(map(str, values)))
        exec("\n".join(BLOCKS), names)
        names["folder"] = Path.cwd()
    names["printed"] = printed
    return names


def test_the_page_prints_what_it_says(ran):
    promised = re.findall(r"^print\(.*\)  # (.*)$", "\n".join(BLOCKS), flags=re.MULTILINE)
    assert len(promised) == 6
    assert ran["printed"] == promised


def test_a_wrong_coefficient_falls_back_as_the_page_says(ran, monkeypatch):
    monkeypatch.chdir(ran["folder"])
    file = Path("certificates") / "gd-imbalance-step.json"
    file.write_text(file.read_text(encoding="utf-8").replace("* step**2", "* 2 * step**2"), encoding="utf-8")
    ground = ran["step_changes"].ground(exact_instances=1)
    assert ground.level == "exact"
    assert ground.faults == (
        "certificate gd-imbalance-step.json: conclusion at (a, b, r) = (1, 1, 1): its two sides differ",
    )


def test_stating_a_claim_takes_about_twenty_lines():
    stated = next(block for block in BLOCKS if "def conserves" in block)
    assert len(stated.partition("@algebraic_claim")[2].splitlines()) <= 20


def test_links_of_the_page_lead_somewhere():
    targets = re.findall(r"\]\((?!https)([^)\s]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(targets) >= 4
    for target in targets:
        assert (PAGE.parent / target).is_file(), target
