"""The command `report`: makes what is missing, if asked to, and writes the report."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from lorakappa.shared.command_line import console, note, say
from lorakappa.shared.options import RESULTS, Quiet


def report(
    source: Annotated[Path, typer.Option("--from", help="Folder with the results.")] = RESULTS,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for what is written; that of the results.")] = None,
    make: Annotated[
        bool, typer.Option("--make", help="First make the results that are missing or out of date.")
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Write one page with every verdict, its ground and its pictures, made of saved results: report.html.

    Beside it the same as data, ledger.json, and text, ledger.md. Exit 1 if a part failed or could be made and is not.
    """
    from lorakappa.figures.drawing import warnings_noted
    from lorakappa.figures.report.ledger import find_all, ledger
    from lorakappa.figures.report.making import make_missing
    from lorakappa.figures.report.markdown import as_markdown
    from lorakappa.figures.report.page import write_page
    from lorakappa.figures.report.parts import FINE, PARTS
    from lorakappa.shared.records import ensure_writable, write_bytes, write_json

    target = source if out is None else out
    files = [target / name for name in ("report.html", "ledger.json", "ledger.md")]
    for file in files:
        ensure_writable(file)
    failures = make_missing(source, quiet=quiet) if make else []
    found = ledger(find_all(source), source)
    with warnings_noted():
        html, undrawn = write_page(
            found, source, jobs=os.cpu_count() or 1, progress=(lambda _: None) if quiet else _told
        )
    write_bytes(files[0], html.encode())
    write_json(files[1], found.model_dump(mode="json"))
    write_bytes(files[2], as_markdown(found).encode())
    for line in [*failures, *undrawn]:
        note(line)
    if not quiet:
        for record in found.records:
            if record.state not in FINE:
                console.print(f"{record.name} {record.state}: {record.reason}", soft_wrap=True)
        say("saved", *files)
    gone = [record for record in found.records if record.state == "unreadable"]
    gone += [record for record in found.records if record.state == "missing" and PARTS[record.name].made_here]
    return int(bool(failures or undrawn or gone))


def _told(name: str) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        note(f"drawn: {name}")
