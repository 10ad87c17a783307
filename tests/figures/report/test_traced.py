"""Every number of the page stands in the ledger, and under an element that names the record that it came from."""

import re
from html.parser import HTMLParser

import pytest

from lorakappa.figures.report.ledger import find_all, ledger
from lorakappa.figures.report.page import write_page
from tests.figures.report.conftest import fill
from tests.figures.report.test_page import VOID
from tests.figures.samples import SAMPLES, save

NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
COMMIT = re.compile(r"[0-9a-f]{40}\+?")
NAMED = re.compile(r"Model \d")
"""A name, whose number counts nothing."""

CONSTANT = ("style", "script", "th", "footer")
"""Elements whose text is the template's own."""


def plain(text):
    """Text as it is compared: without marks of code, and with one sign for minus."""
    return text.replace("`", "").replace("−", "-")


class Texts(HTMLParser):
    """(record, text) of every text that is shown: what a formula was written as, and no text of a picture."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.pictures = [], [], []
        self.feed(html)
        self.close()

    def record(self):
        return next((record for _, record in reversed(self.open) if record is not None), None)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag in VOID:
            return
        self.open.append((tag, attributes.get("data-record")))
        if tag == "math" and "alttext" in attributes:
            self.found.append((self.record(), plain(attributes["alttext"])))
        if tag == "svg":
            self.pictures.append(self.record())

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_startendtag(self, tag, attributes):
        """Holds no text."""

    def handle_data(self, data):
        if not {tag for tag, _ in self.open} & {"math", "svg", *CONSTANT}:
            self.found.append((self.record(), plain(" ".join(data.split()))))


def leaves(value):
    """Every text and number of JSON, and how many entries each list has."""
    if isinstance(value, dict):
        yield from (leaf for key, entry in value.items() for part in (key, entry) for leaf in leaves(part))
    elif isinstance(value, list):
        yield len(value)
        yield from (leaf for entry in value for leaf in leaves(entry))
    elif value is not None:
        yield value


def shown(value):
    """How a number may be shown."""
    yield from (f"{abs(value):.2g}", f"{abs(value):g}", f"{abs(value):.4f}", f"{100 * value:g}")
    yield from (f"{value * unit:.3g}" for unit in (1, 1e3, 1e6))


def untraced(html, found):
    """Texts with a number that the ledger does not have, or that belongs to no record."""
    data = list(leaves(found.model_dump(mode="json")))
    texts = plain("\n".join(" ".join(leaf.split()) for leaf in data if isinstance(leaf, str)))
    known = set(NUMBER.findall(texts))
    commits = [leaf[:12] for leaf in data if isinstance(leaf, str) and COMMIT.fullmatch(leaf)]
    known |= set(NUMBER.findall(" ".join(commits)))  # which may end between two digits
    known |= {token for leaf in data if isinstance(leaf, int | float) for token in (str(leaf), *shown(leaf))}
    names = {"ledger"} | {record.name for record in found.records}
    return [
        text
        for record, text in Texts(html).found
        if (tokens := NUMBER.findall(NAMED.sub("", text)))
        and (record not in names or not (all(p.strip() in texts for p in text.split("…")) or known.issuperset(tokens)))
    ]


@pytest.fixture(scope="module")
def page(tmp_path_factory, records):
    folder = fill(tmp_path_factory.mktemp("traced") / "results", records)
    for name in ("study", "benchmarks"):
        save(SAMPLES[name](), folder)
    found = ledger(find_all(folder), folder)
    html, failures = write_page(found, folder)
    assert failures == []
    return html, found


def test_every_number_is_that_of_a_record(page):
    html, found = page
    assert untraced(html, found) == []
    read = Texts(html)
    assert len([text for _, text in read.found if NUMBER.search(text)]) > 500
    assert set(read.pictures) == {"phase", "duel", "study", "benchmarks"}
    rows = re.findall(r'<tr id="record-([\w-]+)"', html)
    assert rows == [record.name for record in found.records]
    assert set(re.findall(r'href="#record-([\w-]+)"', html)) <= set(rows)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("3 claims of the papers", "777 claims of the papers"),
        ('<p class="lead" data-record="ledger">', '<p class="lead">'),
        ('data-record="benchmarks"', 'data-record="no record"'),
    ],
)
def test_a_number_that_no_record_has_is_noticed(page, text, other):
    html, found = page
    assert text in html
    assert untraced(html.replace(text, other), found) != []


def test_another_digit_of_a_gain_is_noticed(page):
    html, found = page
    gain = found.study.effects[0].estimate
    assert untraced(html.replace(f"{gain:.4f}", f"{gain + 7:.4f}"), found) != []


def test_the_study_is_a_table_with_its_intervals(page):
    html, found = page
    assert html.count("<td>methods</td>") == sum(effect.table == "methods" for effect in found.study.effects) == 12
    first, unknown = found.study.effects[0], next(e for e in found.study.effects if e.estimate is None)
    assert f"[{first.low:+.4f}, {first.high:+.4f}]".replace("-", "−") in html
    assert unknown.seeds == 0
    assert "<td>–</td><td></td><td>0</td>" in html
    assert "with 95 %; <i>equivalent</i>: within ±0.01." in html
