"""How the page writes a value: numbers in exact and in floating form, places, provenance, durations."""

import pytest

from lorakappa.figures.report.ledger import Instance, RecordEntry
from lorakappa.figures.report.page import _FILTERS, LONGEST_FRACTION

LONG = "12345678901234567890/98765432109876543"
SHORT = "1" * (LONGEST_FRACTION - 2) + "/7"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("margin", -0.01234, "−0.012"),
        ("margin", 3.0, "+3"),
        ("margin", "inf", "inf"),
        ("gain", -0.012345, "−0.0123"),
        ("gain", 0.5, "+0.5000"),
        ("gain", None, "–"),
        ("short", 0.010, "0.01"),
        ("percent", 0.95, "95 %"),
        ("percent", 0.999, "99.9 %"),
        ("sentence", "gain over spectrum", "Gain over spectrum"),
        ("sentence", "", ""),
        ("slug", "not seen", "not-seen"),
        ("document", "iLoRA paper: Section 3: Remark", "iLoRA paper"),
        ("paragraphs", " one\n more \n \n\n two ", "<p>one more</p><p>two</p>"),
        ("math_name", "A<", "<mi>A&lt;</mi>"),
    ],
)
def test_texts_and_floating_numbers(name, value, shown):
    assert str(_FILTERS[name](value)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (90.0, "90 s"),
        (1.0, "1 s"),
        (0.25, "250 ms"),
        (1e-3, "1 ms"),
        (2.5e-4, "250 µs"),
        (1e-6, "1 µs"),
        (2e-8, "2e-08 s"),
        ("x", ""),
    ],
)
def test_durations(seconds, shown):
    assert _FILTERS["duration"]({"seconds": {"ours": seconds, "theirs": 7.0}}) == shown


def test_what_was_never_timed_has_no_duration():
    assert _FILTERS["duration"]({"seconds": {}}) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[2.50 +/- 1e-3]", "2.50 ± 1e-3"),
        ("-3/4", '<math alttext="-3/4"><mrow><mo>−</mo><mfrac><mn>3</mn><mn>4</mn></mfrac></mrow></math>'),
        ("17", '<math alttext="17"><mn>17</mn></math>'),
        (SHORT, f'<math alttext="{SHORT}"><mfrac><mn>{SHORT[:-2]}</mn><mn>7</mn></mfrac></math>'),
        (LONG, f"<code>{LONG}</code>"),
        ("2 < 3", "<code>2 &lt; 3</code>"),
    ],
)
def test_sides(text, shown):
    assert str(_FILTERS["number"](text)) == shown


def test_matrices():
    instance = Instance(shape={"a": 1}, left="1", right="2", A=[["1", "-1/2"]], s=["1"], empty=[], note="x")
    assert list(_FILTERS["matrices"](instance)) == [("A", [["1", "-1/2"]])]
    cells = "<mtd><mn>1</mn></mtd><mtd><mrow><mo>−</mo><mfrac><mn>1</mn><mn>2</mn></mfrac></mrow></mtd>"
    assert str(_FILTERS["matrix"]([["1", "-1/2"]])) == (
        f'<mrow><mo form="prefix">[</mo><mtable><mtr>{cells}</mtr></mtable><mo form="postfix">]</mo></mrow>'
    )
    assert "<mtd><mtext>1234567890…09876543</mtext></mtd>" in _FILTERS["matrix"]([[LONG]])


@pytest.mark.parametrize(
    ("provenance", "shown"),
    [
        (None, ""),
        ({"commit": None, "versions": None, "seed": None, "cores": None}, ""),
        (
            {"commit": "0123456789abcdef", "versions": {"numpy": "2", "torch": None, "scipy": "1"}, "seed": 0},
            "commit 0123456789ab; numpy 2, scipy 1; seed 0",
        ),
        (
            {"commit": "0123456789abcdef+", "platform": "Linux", "cores": 2, "seconds": 1.5},
            "commit 0123456789ab+ (files changed); Linux; 2 cores; 1.5 s",
        ),
    ],
)
def test_provenance(provenance, shown):
    record = RecordEntry(name="x", state="present", reason="", command="", files={}, provenance=provenance)
    assert _FILTERS["made"](record) == shown
