"""The page in a real browser: it filters, opens what links lead to, and asks nothing of any other place.

Needs playwright and a Chromium; `make browser` brings the one, and Debian's package chromium is the other.
"""

import io
import json
import shutil

import pytest
from PIL import Image

from lorakappa.figures.report.ledger import find_all, ledger
from lorakappa.figures.report.page import write_page
from lorakappa.figures.report.screenshot import SIZE, screenshot
from tests.figures.report.conftest import EXAMINED, fill
from tests.figures.samples import SAMPLES, save

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LONG = "(σ₁(A)² + σ₁(B)²)·max(1/m, (‖Gᵀe_r‖² + ‖G⁻¹e_r‖²)/(2(s_r − s_{r+1})))"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def file(tmp_path_factory, records):
    folder = fill(tmp_path_factory.mktemp("browser") / "results", records)
    saved = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    for row in saved:  # as the widest claim there is
        row["statement"] += f", κ ≥ {LONG}"
        row["argument"] += f" And κ ≥ {LONG}."
    (folder / "verdicts.json").write_text(json.dumps(saved), encoding="utf-8")
    save(SAMPLES["study"](), folder)
    html, _ = write_page(ledger(find_all(folder), folder), folder)
    (folder / "report.html").write_text(html, encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(params=[("light", 1200), ("dark", 1200), ("light", 390)], ids=["light", "dark", "phone"])
def page(browser, file, request):
    scheme, width = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or complaints.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert complaints == []
    context.close()


def shown(page):
    return page.locator(".claim:visible").count()


def test_filters(page):
    assert shown(page) == len(EXAMINED)
    page.select_option("select[name=verdict]", "refuted")
    assert shown(page) == 2
    page.fill("input[name=text]", "nine TASKS average")
    assert shown(page) == 1
    assert page.locator("output").inner_text() == f"1 of {len(EXAMINED)}"
    page.click("button[type=reset]")
    page.wait_for_function(f"document.querySelectorAll('.claim:not([hidden])').length == {len(EXAMINED)}")


def test_a_count_on_top_shows_the_verdicts_that_it_counts(page):
    page.fill("input[name=text]", "no claim says this")
    for whose, field, value, count in (
        ("sources", "verdict", "refuted", 2),
        ("sources", "level", "proved", 1),
        ("ours", "verdict", "holds", 1),
    ):
        page.click(f".legend a[data-whose={whose}][data-{field}={value}]")
        page.wait_for_function(f"document.querySelectorAll('.claim:not([hidden])').length == {count}")
        for name in ("whose", "verdict", "level"):
            chosen = {"whose": whose, field: value}.get(name, "")
            assert page.eval_on_selector(f"select[name={name}]", "select => select.value") == chosen
        assert page.locator("#verdicts").is_visible()


def test_rows_open_by_hand_and_by_keyboard(page):
    first = page.locator(".claim").first
    first.locator("summary").click()
    assert first.locator(".inside").is_visible()
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert not first.locator(".inside").is_visible()


def test_every_anchor_leads_somewhere_one_can_see(page):
    links = page.eval_on_selector_all("a[href^='#']", "links => [...new Set(links.map(a => a.getAttribute('href')))]")
    assert len(links) > len(EXAMINED)
    for link in links:
        page.evaluate("hash => { location.hash = hash; }", link)
        page.wait_for_timeout(50)
        assert page.locator(f"[id='{link[1:]}']").is_visible(), link


def test_a_link_opens_what_the_filter_hides(page):
    page.fill("input[name=text]", "no claim says this")
    assert shown(page) == 0
    page.evaluate("location.hash = '#smallest-trace'")
    page.wait_for_timeout(100)
    assert page.locator("#smallest-trace").is_visible()


def test_nothing_is_wider_than_the_page(page):
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_nothing_is_cut_off_on_paper(browser, file):
    """At the width of A4 between margins of 12 mm, with all open as for a printer."""
    context = browser.new_context(viewport={"width": 703, "height": 1000})
    page = context.new_page()
    page.goto(file.as_uri())
    page.emulate_media(media="print")
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.locator("#study-effects-table td").count() > 100
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    clipped = "[...document.querySelectorAll('.scroll, dd, summary')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    assert page.evaluate(f"{clipped}.map(e => e.innerText.slice(0, 60))") == []
    context.close()


def test_paper_is_light_whatever_the_screen_is(browser, file):
    colours = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(file.as_uri())
        page.emulate_media(media="print", color_scheme=scheme)
        colours[scheme] = page.eval_on_selector(".badge", "badge => getComputedStyle(badge).color")
        context.close()
    assert colours["dark"] == colours["light"]


def test_readable_without_script(browser, file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{file.as_uri()}#smallest-trace")
    assert page.locator("#smallest-trace").is_visible()
    assert not page.locator("form").is_visible()
    context.close()


def test_the_front_pages_picture_is_small(file):
    picture = screenshot(file)
    assert picture.startswith(b"\x89PNG")
    assert len(picture) < 200_000
    assert Image.open(io.BytesIO(picture)).size == SIZE


def test_a_picture_needs_a_page(tmp_path):
    with pytest.raises(FileNotFoundError):
        screenshot(tmp_path / "none.html")
