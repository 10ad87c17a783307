"""The page: one self-contained HTML file made of a ledger and figures."""

import base64
import importlib.metadata
import re
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from lorakappa.figures.catalogue import FIGURES
from lorakappa.figures.report.drawings import Drawn, draw_figures
from lorakappa.figures.report.formulas import typeset
from lorakappa.figures.report.ledger import ClaimEntry, Instance, Ledger, RecordEntry
from lorakappa.figures.report.parts import FINE, PARTS, place
from lorakappa.figures.report.sections import SECTIONS, Section, figures_shown
from lorakappa.shared.totals import KINDS, came_out

FOLDER = Path(__file__).parent

ABOUT = (
    "LoRA adds to a fixed matrix the product AB of two thin ones, which it trains. One product has many pairs (A, B), "
    "and the pair decides how well conditioned the loss is there: the larger its condition number κ, the slower is "
    "gradient descent near a minimum. Balanced LoRA (BaLoRA) moves to a pair with AᵀA = BBᵀ after every step, by a map "
    "P; Imbalance-Regularized LoRA (iLoRA) keeps BBᵀ = (r/m)AᵀA by a penalty. What they, their rivals and a review "
    "state was examined by machine: exactly where algebra allows it, by simulations and fine-tunes where only "
    "measuring can tell."
)
"""What the page is about, for who has only heard of it."""

MEANINGS = {
    "holds": "no counterexample found, and more where a level says so",
    "refuted": "by a certified counterexample in exact numbers",
    "not seen": "measurements in a stated setting contradict it",
    "equivalent": "the measured difference is within a margin stated beforehand; that is not to say that there is none",
    "inconclusive": "measurements that decide neither way",
}
LEVEL_MEANINGS = {
    "proved": "for all shapes, by a theorem that Coq’s kernel accepts",
    "certified": "for every instance of stated shapes",
    "exact": "instances decided in exact arithmetic",
    "sampled": "searched in floating point",
}
LONGEST_FRACTION = 24
"""Characters of a rational number that are still set as a fraction; a longer one is cut in the middle."""


def write_page(
    ledger: Ledger, folder: Path, *, jobs: int = 1, progress: Callable[[str], None] = lambda _: None
) -> tuple[str, list[str]]:
    """The page as HTML.

    Args:
        ledger: what it says.
        folder: with the results that figures are drawn from.
        jobs: number of processes that draw figures.
        progress: told the name of each figure that is drawn.

    Returns:
        The page, and a line for each figure that could not be drawn although its data is there.
    """
    there = {record.name: place(record.state, folder) for record in ledger.records if record.state in (*FINE, "stale")}
    wanted = {name: there[FIGURES[name].data] for name in figures_shown() if FIGURES[name].data in there}
    drawn = draw_figures(wanted, jobs=jobs, progress=progress)
    failures = [
        f"no figure {each.name}: {each.failure}"
        for name in wanted
        if (each := drawn[name]).failure and not FIGURES[name].optional
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    html = environment.get_template("page.html.jinja").render(
        ledger=ledger,
        about=ABOUT,
        headline=headline(ledger),
        meanings=MEANINGS,
        level_meanings=LEVEL_MEANINGS,
        answers=_answers(ledger),
        corrections=lambda claim: _known(ledger, [claim.corrected_by] if claim.corrected_by else []),
        ids={claim.id for claim in ledger.claims},
        origins=sorted({_document(claim.source) for claim in ledger.claims}),
        packages=list(dict.fromkeys(claim.package for claim in ledger.claims)),
        whose=KINDS,
        sections=[_section(section, ledger, drawn) for section in SECTIONS],
        trouble=[record for record in ledger.records if record.state not in FINE],
        absent=lambda name: _absent(ledger, name),
        font=base64.b64encode((FOLDER / "math.woff2").read_bytes()).decode(),
        css=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        js=Markup((FOLDER / "page.js").read_text(encoding="utf-8")),
        version=importlib.metadata.version("lorakappa"),
        commit=_commit(ledger.record("verdicts")),
    )
    return html, failures


def headline(ledger: Ledger) -> str:
    """What was checked, and what came out of the sources' claims and of our own."""
    if not ledger.claims:
        return "No verdicts were found: they are what this page is about."
    mapped = (
        f"{len(ledger.statements)} statements of {len(ledger.documents)} documents are mapped. "
        if ledger.documents
        else ""
    )
    return mapped + came_out(ledger.totals)


def _known(ledger: Ledger, ids: Any) -> list[ClaimEntry]:
    return [claim for id in ids if (claim := ledger.claim(id)) is not None]


def _answers(ledger: Ledger) -> list[tuple[Section, list[ClaimEntry]]]:
    """The questions of the sections, with the claims by which the page answers them on top."""
    found = [
        (section, _known(ledger, [id for each in (section, *section.parts) for id in each.answers]))
        for section in SECTIONS
    ]
    return [(section, claims) for section, claims in found if claims]


def _section(section: Section, ledger: Ledger, drawn: Mapping[str, Drawn]) -> dict[str, Any]:
    """What the template needs of a section, with its figures."""
    figures, shown, claims = [], [], (*section.answers, *section.claims)
    for name in section.figures:
        kind, found = FIGURES[name], drawn.get(name)
        record = ledger.record(kind.data)
        if kind.optional and (not (found and found.svg) or _content(found) in shown):
            continue  # it cannot be drawn of this result, or shows what the one before it shows
        shown.append(_content(found) if found and found.svg else None)
        figures.append(
            {
                "name": name,
                "shows": kind.shows,
                "record": record.name,
                "files": list(record.files),
                "command": record.command,
                "svg": Markup(found.svg) if found else "",
                "reason": found.failure if found and found.failure else record.reason,
            }
        )
    return {
        "id": section.id,
        "title": section.title,
        "nav": section.id.capitalize(),
        "text": section.text,
        "claims": _known(ledger, claims),
        "unexamined": [id for id in claims if ledger.claim(id) is None],
        "figures": figures,
        "parts": [_section(part, ledger, drawn) for part in section.parts],
    }


def _content(drawn: Drawn) -> str:
    """What a figure shows, without its name and label."""
    return drawn.svg.partition(">")[2].replace(f"{drawn.name}-", "")


def _absent(ledger: Ledger, name: str) -> Markup:
    text = ledger.record(name).reason or "nothing was saved"
    return Markup('<p class="absent" data-record="{}">Not here: {}</p>').format(name, text)


def _commit(record: RecordEntry) -> str | None:
    """The commit at which a record was made."""
    found = (record.provenance or {}).get("commit")
    return found if isinstance(found, str) else None


def _document(source: str) -> str:
    """The document of a source, without the place in it."""
    return source.split(": ", 1)[0]


def _slug(text: str) -> str:
    return text.replace(" ", "-")


def _typeset(text: str) -> Markup:
    return Markup(typeset(text))


def _paragraphs(text: str) -> Markup:
    """Text with blank lines between its paragraphs."""
    return Markup("".join(f"<p>{typeset(' '.join(part.split()))}</p>" for part in re.split(r"\n\s*\n", text.strip())))


def _matrices(instance: Instance) -> Iterator[tuple[str, list[list[str]]]]:
    """The matrices of an instance by name."""
    for name, value in (instance.model_extra or {}).items():
        if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
            yield name, value


def _matrix(rows: list[list[str]]) -> Markup:
    """MathML of a matrix of rational numbers."""
    cells = "".join("<mtr>" + "".join(f"<mtd>{_fraction(entry)}</mtd>" for entry in row) + "</mtr>" for row in rows)
    return Markup(f'<mrow><mo form="prefix">[</mo><mtable>{cells}</mtable><mo form="postfix">]</mo></mrow>')


def _fraction(text: str) -> str:
    text = str(text)
    if len(text) > LONGEST_FRACTION:
        text = f"{text[:10]}…{text[-8:]}"
        return f"<mtext>{escape(text)}</mtext>"
    sign, digits = ("<mo>−</mo>", text[1:]) if text.startswith("-") else ("", text)
    top, slash, bottom = digits.partition("/")
    value = f"<mfrac><mn>{escape(top)}</mn><mn>{escape(bottom)}</mn></mfrac>" if slash else f"<mn>{escape(top)}</mn>"
    return f"<mrow>{sign}{value}</mrow>" if sign else value


def _number(text: str) -> Markup:
    """A side of a comparison: a rational number, or a ball [middle +/- radius]."""
    if ball := re.fullmatch(r"\[(\S+) \+/- (\S+)\]", text):
        return Markup(f"{escape(ball[1])} ± {escape(ball[2])}")
    if re.fullmatch(r"-?\d+(/\d+)?", text) and len(text) <= LONGEST_FRACTION:
        return Markup(f'<math alttext="{escape(text)}">{_fraction(text)}</math>')
    return Markup(f"<code>{escape(text)}</code>")


def _margin(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:+.2g}".replace("-", "−")


def _gain(value: float | None) -> str:
    """A gain in nats to four places; a dash where it is unknown."""
    return "–" if value is None else f"{value:+.4f}".replace("-", "−")


def _made(record: RecordEntry) -> str:
    """By which code, versions and machine a record was made."""
    found = record.provenance or {}
    parts = []
    if (commit := _commit(record)) is not None:
        parts.append(f"commit {commit[:12]}{'+ (files changed)' if commit.endswith('+') else ''}")
    if isinstance(found.get("versions"), dict):
        parts.append(", ".join(f"{name} {version}" for name, version in found["versions"].items() if version))
    parts += [
        f"{found[key]}{unit}"
        for key, unit in (("platform", ""), ("cores", " cores"), ("seconds", " s"))
        if found.get(key)
    ]
    if found.get("seed") is not None:
        parts.append(f"seed {found['seed']}")
    return "; ".join(parts)


def _duration(row: Mapping[str, Any]) -> str:
    """What our own way takes, as a benchmark saved it."""
    seconds = next(iter(row["seconds"].values()), None)
    if not isinstance(seconds, int | float):
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


_FILTERS: dict[str, Callable[..., Any]] = {
    "typeset": _typeset,
    "paragraphs": _paragraphs,
    "slug": _slug,
    "document": _document,
    "matrices": _matrices,
    "matrix": _matrix,
    "math_name": lambda name: Markup(f"<mi>{escape(name)}</mi>"),
    "number": _number,
    "margin": _margin,
    "made": _made,
    "commit": _commit,
    "duration": _duration,
    "gain": _gain,
    "short": lambda value: f"{value:g}",
    "percent": lambda share: f"{100 * share:g} %",
    "sentence": lambda text: text[:1].upper() + text[1:],
}

assert all(kind.data in PARTS for kind in FIGURES.values())
