"""The pages tell the truth: verdicts are the registries', code runs, commands exist, links and maps lead somewhere."""

import ast
import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
import typer
from typer.main import get_command

from lorakappa.conditioning.claims import CLAIMS as STATIC
from lorakappa.conditioning.sources import DOCUMENTS
from lorakappa.conditioning.sources.coverage import coverage_markdown
from lorakappa.conditioning.verification import AlgebraicClaim
from lorakappa.conditioning.verification.levels import Level
from lorakappa.conditioning.verification.report import totals
from lorakappa.figures import FIGURES
from lorakappa.llm.comparison.claims import CLAIMS as FINE_TUNES
from lorakappa.llm.comparison.studies.findings import study_json
from lorakappa.llm.comparison.studies.outcomes import kept, sound_evidence
from lorakappa.llm.comparison.studies.tables import study_markdown
from lorakappa.synthetic.claims import CLAIMS as DYNAMIC

ROOT = Path(__file__).parent.parent
REGISTRIES = {"conditioning": STATIC, "synthetic": DYNAMIC, "llm": FINE_TUNES}
CLAIMS = STATIC | DYNAMIC | FINE_TUNES
FRONT = "README.md"
PACKAGES = ("conditioning", "synthetic", "llm", "figures")
PAGES = {page: (ROOT / page).read_text(encoding="utf-8") for page in (FRONT, *(f"{p}/README.md" for p in PACKAGES))}
HEAD = "| claim | statement | verdict |\n|---|---|---|\n"
HEADLINES = 10
LINES = 120
LEVELS = get_args(Level)


@dataclass(frozen=True)
class Block:
    """A fenced block of code, and the comment right before it."""

    page: str
    language: str
    code: str
    comment: str


FENCED = r"(?:^<!-- ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$"
BLOCKS = [
    Block(page, language, code, comment)
    for page, text in PAGES.items()
    for comment, language, code in re.findall(FENCED, text, flags=re.MULTILINE | re.DOTALL)
]


def named(items):
    """Parameters for pytest with ids that say which page, from tuples or blocks that start with one."""
    return [pytest.param(item, id=f"{getattr(item, 'page', None) or item[0]}-{i}") for i, item in enumerate(items)]


def verdicts(page):
    """(id, statement, verdict) of every row of a page's tables of claims."""
    for table in PAGES[page].split(HEAD)[1:]:
        for row in table.split("\n\n")[0].splitlines():
            _, claim, statement, verdict, _ = (cell.strip() for cell in row.split("|"))
            yield claim.strip("`"), statement, verdict


@cache
def level(id):
    """What a claim that holds rests on now, if it is decided by algebra."""
    claim = CLAIMS[id]
    if claim.recorded != "holds" or not isinstance(claim, AlgebraicClaim):
        return None
    return claim.ground(exact_instances=int(claim.compare_exactly is not None)).level


def check_level(claim, verdict):
    """A page says what was checked, no more and no less."""
    words = re.search(r"^holds \(([\w, ]+)\)", verdict)
    shown = [word for word in (words[1].split(", ") if words else []) if word in LEVELS]
    assert shown == ([level(claim.id)] if level(claim.id) else [])


def check_row(claim, statement, verdict):
    check_level(claim, verdict)
    assert statement == claim.statement
    assert re.match(r"holds|\*\*[\w ]+\*\*", verdict)[0].strip("*") == claim.recorded
    if claim.corrected_by:
        assert verdict.endswith(f"→ {claim.corrected_by}")
    else:
        assert "→" not in verdict


@pytest.mark.parametrize("package", REGISTRIES)
def test_claims_that_docstrings_name_exist(package):
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for file in (ROOT / package).rglob("*.py"):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        texts = " ".join(ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds))
        assert set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)+)`", texts)) <= CLAIMS.keys(), file


@pytest.mark.parametrize("package", REGISTRIES)
def test_the_table_of_a_package_has_its_claims_and_no_others(package):
    assert [id for id, _, _ in verdicts(f"{package}/README.md")] == list(REGISTRIES[package])
    assert f"<!-- python -m {package} verify --markdown -->\n{HEAD}" in PAGES[f"{package}/README.md"]


def test_the_coverage_of_the_sources_is_that_of_the_map():
    table = re.search(
        r"<!-- python -m conditioning sources --markdown -->\n(.*?)\n\n", PAGES["conditioning/README.md"], re.DOTALL
    )
    assert table[1] == coverage_markdown(DOCUMENTS, CLAIMS)


def test_the_tables_of_the_study_are_what_its_evidence_says():
    """The block is what `lorakappa llm report tiny --markdown` prints."""
    found = sound_evidence(kept("tiny"))
    printed = study_markdown(study_json(found.progress, found.manifest.about.source))
    assert f"<!-- lorakappa llm report tiny --markdown -->\n{printed}\n\n" in PAGES["llm/README.md"]


def test_claims_have_one_table_each():
    assert sum(map(len, REGISTRIES.values())) == len(CLAIMS)
    assert not list(verdicts("figures/README.md"))


@pytest.mark.parametrize("package", REGISTRIES)
def test_statements_and_verdicts_are_those_on_record(package):
    for id, statement, verdict in verdicts(f"{package}/README.md"):
        check_row(CLAIMS[id], statement, verdict)


def test_the_headlines_are_those_on_record():
    rows = list(verdicts(FRONT))
    assert len({id for id, _, _ in rows}) == len(rows) == HEADLINES
    for id, statement, verdict in rows:
        check_row(CLAIMS[id], statement, verdict)


def test_the_front_page_is_short_and_starts_with_python():
    assert len(PAGES[FRONT].splitlines()) <= LINES
    assert PAGES[FRONT].index("```python") < PAGES[FRONT].index("|---|")


def test_the_front_page_says_first_what_came_out_of_all_claims():
    sentence = re.search(r"<!-- lorakappa list --totals -->\n(.*?)\n\n", PAGES[FRONT], re.DOTALL)
    assert " ".join(sentence[1].split()) == totals(list(CLAIMS.values()))
    assert PAGES[FRONT].index(sentence[0]) < PAGES[FRONT].index("```")


def test_the_front_page_shows_the_report_as_soon_as_there_is_a_picture_of_it():
    """`make screenshot` makes it, of a full report."""
    assert ("figures/gallery/report.png" in PAGES[FRONT]) == (ROOT / "figures/gallery/report.png").is_file()


def anchors(text):
    """What can follow # in a link to a page with that text."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page):
    """Targets of a page's links and pictures, those on the web left out."""
    found = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", PAGES[page])
    return [target for pair in found for target in pair if target and not re.match(r"https?:", target)]


@pytest.mark.parametrize("page", PAGES)
def test_pictures_and_links_exist(page):
    for target in links(page):
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_of_a_package_shows_every_file(package):
    folder = ROOT / package
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*.py") if not file.name.startswith("__")}
    assert files - set(links(f"{package}/README.md")) == set()


FIGURE = r"^\| (?:\[([\w-]+)\]\(gallery/\1\.png\)|([\w-]+)) \| .*\]\(([\w.]+)\) \| `([\w -]+)` \|$"


def test_every_figure_is_on_its_page_with_its_file_and_command():
    found = re.findall(FIGURE, PAGES["figures/README.md"], flags=re.MULTILINE)
    shown = {name or hidden: (file, command) for name, hidden, file, command in found}
    assert shown.keys() == FIGURES.keys()
    for name, kind in FIGURES.items():
        file, command = shown[name]
        assert file == f"{kind.drawn_by.partition(':')[0]}.py"
        words = kind.made_by(Path("")).split()
        assert command.split()[: 3 if kind.package else 2] == words[: 3 if kind.package else 2]


PYTHON = [block for block in BLOCKS if block.language == "python"]
EXCERPTS = [block for block in PYTHON if block.comment.startswith("excerpt: ")]
EXAMPLES = [block for block in PYTHON if block not in EXCERPTS]

FOREIGN_WARNINGS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
"""What peft triggers in transformers."""


@pytest.mark.parametrize("block", named(EXCERPTS))
def test_excerpts_are_in_the_source(block):
    file = (ROOT / block.page).parent / block.comment.removeprefix("excerpt: ")
    assert block.code in file.read_text(encoding="utf-8")


@pytest.fixture
def training(tmp_path):
    """What an example may take for granted: a PEFT model, its optimizer, the Trainer's arguments and data."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("peft")
    models = import_module("tests.llm.models")
    model = models.unbalance(models.with_lora())
    options = {"max_steps": 1, "use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"}
    return {
        "model": model,
        "optimizer": torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1),
        "arguments": transformers.TrainingArguments(str(tmp_path), **options),
        "data": [{"input_ids": row, "labels": row} for row in models.tokens()],
    }


def leading_numbers(text):
    """The numbers before the first = or word."""
    return [float(number) for number in re.findall(r"[\d.]+", re.match(r"[\d.\s]*", text)[0])]


@FOREIGN_WARNINGS
@pytest.mark.parametrize("block", named(EXAMPLES))
def test_examples_run_and_print_what_they_say(block, request, capsys):
    used = {node.id for node in ast.walk(ast.parse(block.code)) if isinstance(node, ast.Name)}
    given = request.getfixturevalue("training") if "model" in used else {}
    exec(block.code, given)
    printing = [line for line in block.code.splitlines() if line.startswith("print(")]
    if not printing:
        return
    for line, printed in zip(printing, capsys.readouterr().out.splitlines(), strict=True):
        promised = leading_numbers(line.partition("  # ")[2])
        assert leading_numbers(printed)[: len(promised)] == pytest.approx(promised, rel=1e-5), line


@FOREIGN_WARNINGS
def test_the_one_line_of_the_front_page_balances(training):
    from lorakappa.llm import lora_pairs

    (block,) = [block for block in EXAMPLES if block.page == FRONT and "balance_after_step" in block.code]
    exec(block.code, training)
    row = training["data"][0]["input_ids"][None]
    training["model"](input_ids=row, labels=row).loss.backward()
    training["optimizer"].step()
    assert training["handle"].steps == 1
    for pair in lora_pairs(training["model"]):
        gap = (pair.A.T @ pair.A - pair.B @ pair.B.T).norm() / (pair.A.norm() ** 2 + pair.B.norm() ** 2)
        assert gap < 1e-5


PREFIXES = ("lorakappa", *(f"python -m {package}" for package in PACKAGES), "accelerate launch -m lorakappa.llm")
"""How our own commands begin."""


def own(command):
    return any(command == prefix or command.startswith(f"{prefix} ") for prefix in PREFIXES)


def shell_lines(code):
    """The commands of a block, continued lines joined, comments and output dropped."""
    lines = [line.removeprefix("$ ") for line in code.replace("\\\n", " ").splitlines()]
    return [part.strip() for line in lines for part in line.split(" && ") if part.strip() and not part.startswith("#")]


SHELL = [(b.page, line) for b in BLOCKS if b.language in ("bash", "console") for line in shell_lines(b.code)]
COMMANDS = [(page, line) for page, line in SHELL if own(line)]
PROSE = [
    (page, span)
    for page, text in PAGES.items()
    for span in re.findall(r"`([^`\n]+)`", re.sub(FENCED, "", text, flags=re.MULTILINE | re.DOTALL))
    if own(span)
]


def find_command(line):
    """The Typer command that a line calls, and the words left over for it; a group if the line ends there."""
    words = [word for word in shlex.split(line, comments=True) if word != "…"]
    if words[0] == "lorakappa":
        name, words = "lorakappa", words[1:]
    else:
        start = words.index("-m") + 1
        name, words = f"lorakappa.{words[start].removeprefix('lorakappa.')}", words[start + 1 :]
    module = import_module(f"{name}.__main__")
    command = get_command(module.command_line() if name == "lorakappa" else module.app)
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        below = command.get_command(typer.Context(command), words[0])
        assert below is not None, f"{line}: there is no command {words[0]}"
        command, words = below, words[1:]
    return command, words


@pytest.mark.parametrize("example", named(COMMANDS))
def test_commands_in_blocks_are_accepted(example):
    _, line = example
    command, words = find_command(line)
    assert not hasattr(command, "get_command"), f"{line}: names no command"
    command.make_context(line, words)  # parses as the command line would, runs nothing


@pytest.mark.parametrize("example", named(PROSE))
def test_commands_in_prose_exist_with_their_options(example):
    _, line = example
    command, words = find_command(line)
    known = {spelling for parameter in command.params for spelling in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("package", ["synthetic", "llm"])
def test_methods_in_prose_exist_with_their_options(package):
    if package == "llm":
        pytest.importorskip("peft")
    methods = import_module(f"lorakappa.{'llm.comparison' if package == 'llm' else package}.methods")
    spans = re.findall(r"`([a-z-]+(?::[\w=.,-]+|@\d+))`", PAGES[f"{package}/README.md"])
    assert len(spans) >= 3
    for name in spans:
        methods.parse_method(name)


def test_make_has_the_targets_that_the_pages_name():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    calls = {name for text in PAGES.values() for name in re.findall(r"(?m)(?:`|^|&& )make ([\w-]+)", text)}
    assert {"verify", "test"} <= calls <= targets


@pytest.mark.parametrize("block", named([block for block in BLOCKS if block.language == "console"]))
def test_consoles_show_what_the_command_prints(block, capsys):
    first, shown = block.code.split("\n", 1)
    command, words = find_command(first.removeprefix("$ "))
    with command.make_context(first, words) as context:
        command.invoke(context)
    printed = "\n" + "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()) + "\n"
    places = [printed.find(f"\n{part.strip(chr(10))}\n") for part in re.split(r"^…$", shown, flags=re.MULTILINE)]
    assert -1 not in places
    assert all(before < after for before, after in pairwise(places))
