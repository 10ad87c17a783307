"""The page says what the records say, stands alone, and comes out the same from the same records."""

import json
import re
from html.parser import HTMLParser
from typing import get_args

import pytest
from pydantic import TypeAdapter

from lorakappa.conditioning.verification import claim as claims
from lorakappa.conditioning.verification import levels
from lorakappa.figures.report import ledger as ledgers
from lorakappa.figures.report import parts
from lorakappa.figures.report.ledger import Ledger, find_all, ledger
from lorakappa.figures.report.markdown import _cells, as_markdown
from lorakappa.figures.report.page import headline, write_page
from lorakappa.shared.records import write_json
from lorakappa.shared.totals import KINDS, LEVELS, VERDICTS, Outcome, came_out, tally
from tests.figures.report.conftest import EXAMINED, fill
from tests.figures.samples import SAMPLES, save

VOID = {"meta", "input", "br", "link", "img"}


class Reader(HTMLParser):
    """Collects ids, links and text, and checks that elements are closed in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.ids, self.links, self.urls, self.open, self.text = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"][1:]] if tag == "a" and attributes["href"].startswith("#") else []
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            self.urls += [attributes[name]] if name in attributes else []

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory, records):
    folder = fill(tmp_path_factory.mktemp("page") / "results", records)
    found = ledger(find_all(folder), folder)
    html, failures = write_page(found, folder)
    assert failures == []
    return found, html, Reader(html)


def test_page_stands_alone(page):
    _, html, read = page
    assert len(set(read.ids)) == len(read.ids)
    assert set(read.links) <= set(read.ids)
    assert all(url.startswith(("#", "data:")) for url in read.urls)
    assert not re.search(r"url\((?!data:|#)", html)
    assert "@import" not in html


def test_page_shows_every_claim_with_its_ground(page):
    found, _, read = page
    text = " ".join(" ".join(read.text).split())
    assert set(EXAMINED) <= set(read.ids)
    assert [claim.id for claim in found.claims] == list(EXAMINED)
    assert "balanced_optimal in conditioning/proofs/optimality.v" in text
    assert re.search(r"\d+\.\d{15,} ± \d\.\d+e-\d+", text)  # κ at the counterexample
    assert "lorakappa replay model1-upper-bound" in text
    assert "No figure of measured contraction against the bounds" in text
    assert read.ids.count("figure-phase") == 1


def test_the_questions_on_top_lead_to_their_sections(page):
    _, html, _ = page
    top = html.partition('<section id="answers">')[2].partition("</section>")[0]
    assert re.findall(r'<h3><a href="#([\w-]+)">', top) == ["geometry", "tables"]  # of those with a verdict
    assert top.count('<span class="instead">Instead: ') == 0  # on what is true instead there is no verdict here
    assert top.index("balanced-optimal-model1") < top.index("model1-upper-bound") < top.index("ilora-table-2-average")
    heading = "Is BaLoRA&#39;s gain a matter of the size of the start?"
    assert f'<section id="start-size"><h3>{heading}</h3>' in html
    assert html.index('id="fine-tunes"') < html.index('id="start-size"') < html.index('id="curvature"')


def test_a_section_names_its_claims_without_a_verdict(page):
    _, _, read = page
    text = " ".join(" ".join(read.text).split())
    geometry = text.rpartition("Which minimizers are well conditioned?")[2].partition("What does P keep")[0]
    assert "No verdict was saved on balanced-unique kappa-spread model1-exact-spectrum ." in geometry
    assert "Balanced minimizers are optimally conditioned" in geometry


def test_page_is_the_same_from_the_same_records(results):
    pages = [write_page(ledger(find_all(results), results), results, jobs=jobs)[0] for jobs in (1, 2)]
    assert pages[0] == pages[1]


def test_page_of_nothing_says_so(tmp_path):
    found = ledger(find_all(tmp_path), tmp_path)
    html, failures = write_page(found, tmp_path)
    read = Reader(html)
    assert failures == []
    assert found.claims == []
    assert "No verdicts were found" in headline(found)
    assert {record.state for record in found.records} == {"missing"}
    assert " ".join(read.text).count("Not here:") == 3  # answers, sources, verdicts
    assert f'<p class="absent" data-record="verdicts">Not here: no verdicts.json in {tmp_path.name}; made by' in html
    assert "verdicts of commit" not in html


def test_a_record_that_comes_with_the_project_is_shown_as_such(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "SHIPPED", tmp_path)
    commit = {"provenance": {"commit": "0123456789abcdef", "code": {}}}
    write_json(tmp_path / "benchmarks.json", SAMPLES["benchmarks"]().meta | commit)
    found = ledger(find_all(tmp_path / "results"), tmp_path / "results")
    html, failures = write_page(found, tmp_path / "results")
    text = " ".join(" ".join(Reader(html).text).split())
    assert failures == []
    assert 'id="figure-benchmarks"' in html
    assert (
        "Measured on a processor, 2 cores, device cpu, at commit 0123456789ab. This record comes with the project, "
        "measured elsewhere; made here by: make bench. From benchmarks.json ." in text
    )
    assert "<b>settle</b> missing" in html
    assert "<b>benchmarks</b>" not in html


@pytest.mark.parametrize("scalings", [(0.5, 1.0), (1.0,)])
def test_a_figure_that_shows_the_same_as_another_is_left_out(tmp_path, scalings):
    save(SAMPLES["llm-compare"](scalings=scalings), tmp_path)
    html, failures = write_page(ledger(find_all(tmp_path), tmp_path), tmp_path)
    assert failures == []
    assert 'id="figure-robustness"' in html
    assert ('id="figure-learning-rate-maps"' in html) == (len(scalings) > 1)


def test_what_records_say_is_data(results):
    file = results / "verdicts.json"
    saved = json.loads(file.read_text())
    hostile = "</script><script>alert(1)</script><b onclick='x'>"
    saved[0] |= {"statement": hostile, "note": hostile, "id": "a-b", "argument": hostile, "source": hostile}
    saved[0]["counterexample"] = {"shape": {}, hostile: [[hostile]], "left": hostile, "right": "1/2"}
    file.write_text(json.dumps(saved))
    html, _ = write_page(ledger(find_all(results), results), results)
    assert "alert(1)" in html
    assert "<script>alert" not in html
    assert "<b onclick" not in html
    Reader(html)


def test_verdicts_lead_to_what_is_true_instead_and_name_their_commit(results):
    file = results / "verdicts.json"
    saved = json.loads(file.read_text())
    for row in saved:
        row["provenance"]["commit"] = "0123456789abcdef"
    stated, instead, other = saved[1], saved[2], saved[3]
    stated["corrected_by"], other["recorded"] = instead["id"], "inconclusive"
    file.write_text(json.dumps(saved))
    found = ledger(find_all(results), results)
    assert [claim.corrects for claim in found.claims] == [[], [], [stated["id"]], []]
    assert [claim.as_recorded for claim in found.claims] == [True, True, True, False]
    html, _ = write_page(found, results)
    text = " ".join(" ".join(Reader(html).text).split())
    assert "verdicts of commit 0123456789ab ." in text
    assert text.count("This is not the verdict on record.") == 1
    assert f"; corrects {stated['id']}" in text
    assert text.count(f"Instead: {instead['statement'][:2]}") == 3  # on top, in the list of all, in its section
    assert html.count("<dt>true instead</dt>") == 3
    assert '<li><a href="#fine-tunes">Fine-tunes</a></li>' in html
    assert f"<option>{found.claims[-1].source.partition(': ')[0]}</option>" in html


def test_a_figure_that_cannot_be_drawn_does_not_hide_the_rest(results):
    file = results / "phase.json"
    saved = json.loads(file.read_text())
    saved["settings"] = 3
    file.write_text(json.dumps(saved))
    html, failures = write_page(ledger(find_all(results), results), results)
    assert [line.partition(": ")[0] for line in failures] == ["no figure phase"]
    assert 'id="figure-duel"' in html
    assert 'id="figure-phase"' not in html


def test_published_schema_is_that_of_the_models(page):
    # Literals of the same words in another order are equal, so that typing's caches mix them up: one order for all
    assert get_args(ledgers.Level) == get_args(levels.Level)
    assert get_args(ledgers.VerdictName) == get_args(claims.VerdictName)
    assert get_args(ledgers.Kind) == get_args(claims.Kind)
    assert set(KINDS) == set(get_args(claims.Kind))
    assert get_args(claims.VerdictName) == VERDICTS
    assert get_args(levels.Level)[::-1] == LEVELS
    found, _, _ = page
    assert json.loads(ledgers.SCHEMA_FILE.read_text(encoding="utf-8")) == ledgers.schema()
    again = TypeAdapter(Ledger).validate_json(json.dumps(found.model_dump(mode="json")))
    assert again == found


def test_totals_are_counted_apart_for_the_sources_and_for_us(page):
    found, _, _ = page
    theirs, ours = found.totals["sources"], found.totals["ours"]
    assert (theirs.kinds, ours.kinds) == ({"claim": 3}, {"question": 0, "correction": 1})
    assert theirs.verdicts == {"holds": 1, "refuted": 2, "not seen": 0, "equivalent": 0, "inconclusive": 0}
    assert ours.verdicts == {"holds": 1, "refuted": 0, "not seen": 0, "equivalent": 0, "inconclusive": 0}
    assert theirs.levels == ours.levels == {"proved": 1, "certified": 0, "exact": 0, "sampled": 0}
    assert (theirs.corrected, ours.corrected) == (2, 0)
    assert sum(n for document in found.documents for n in document.outcomes.values()) == len(found.statements) > 100
    assert found.claim("model1-upper-bound").corrected_by == "model1-upper-bound-positive"
    assert headline(found) == (
        f"{len(found.statements)} statements of {len(found.documents)} documents are mapped. Of 3 claims of the papers "
        "and other sources, examined by machine, 1 holds (1 proved), 2 are refuted as stated (all with what is true "
        "instead). Of 1 correction of our own, 1 holds."
    )
    assert headline(found.model_copy(update={"documents": []})).startswith("Of 3 claims")
    assert headline(found) in as_markdown(found)


def test_a_count_on_top_stands_for_as_many_verdicts(page):
    _, html, _ = page
    counts = re.findall(r'<a href="#verdicts" data-whose="(\w+)" data-(verdict|level)="([\w ]+)">(\d+)</a>', html)
    assert len(counts) == html.count('<a href="#verdicts" ') == 5
    for whose, field, value, count in counts:
        claims = re.findall(rf'<details class="claim" data-whose="{whose}" [^>]*data-{field}="{value}"', html)
        assert len(claims) == int(count)


def outcomes(kind, **counts):
    """As many outcomes of a kind as are said for each verdict."""
    return [Outcome(kind, name.replace("_", " "), None, False) for name, n in counts.items() for _ in range(n)]


def test_sentences_count_what_came_out():
    theirs = outcomes("claim", holds=1, refuted=1, not_seen=2, equivalent=2, inconclusive=1)
    theirs += [Outcome("claim", "refuted", None, True)] * 2 + [Outcome("claim", "holds", "certified", False)]
    theirs += [Outcome("claim", "holds", "sampled", True)]
    ours = outcomes("question", refuted=1, not_seen=1, equivalent=1, inconclusive=2) + outcomes("correction", holds=2)
    first = (
        "Of 11 claims of the papers and other sources, examined by machine, 3 hold (1 certified), 3 are refuted as "
        "stated (2 with what is true instead), 2 are not seen in our setting, 2 find the difference within a "
        "stated margin, 1 stays open."
    )
    second = (
        "Of 5 questions and 2 corrections of our own, 2 hold, 1 is refuted, 1 is not seen, 1 finds the difference "
        "within a stated margin, 2 stay open."
    )
    assert came_out(tally([*theirs, *ours])) == f"{first} {second}"
    assert came_out(tally(theirs)) == first
    assert came_out(tally(ours)) == second


def test_sentences_count_in_the_words_of_one():
    assert came_out(tally(outcomes("claim", refuted=1) + outcomes("question", holds=1))) == (
        "Of 1 claim of the papers and other sources, examined by machine, 1 is refuted as stated. "
        "Of 1 question of our own, 1 holds."
    )
    assert came_out(tally([])) == ""


def test_markdown_shows_a_study_and_keeps_its_columns(results):
    save(SAMPLES["study"](), results)
    text = as_markdown(ledger(find_all(results), results))
    table = text.partition("## Study")[2].partition("## Records")[0]
    header, rule, *rows = [line for line in table.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in (header, rule, *rows)} == {11}
    assert rule == "|---|---|---|---|---|---|---|---|---|---|"
    assert _cells("a | b", " c\nd ") == r"| a \| b | c d |"


def test_markdown_has_a_row_for_everything(page):
    found, _, _ = page
    text = as_markdown(found)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (4, 5) for row in rows)
    for claim in found.claims:
        assert sum(row.startswith(f"| `{claim.id}` |") for row in rows) == 1
    assert len(rows) >= len(found.claims) + len(found.statements) + len(found.records)
    for document in found.documents:
        table = text.partition(f"## {document.citation}\n")[2].partition("\n## ")[0]
        assert table.count("\n| ") == 1 + sum(document.outcomes.values())  # and the line of headings
    assert f"| phase | present | `{found.record('phase').provenance['command']}` |" in text
