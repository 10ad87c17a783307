"""The command that makes the evidence of simulated claims anew."""

from pathlib import Path
from typing import Annotated

import typer

from lorakappa.shared.command_line import console, say
from lorakappa.shared.options import RESULTS, Out, Quiet

Keep = Annotated[
    Path | None, typer.Option("--evidence", help="Folder to keep records and manifest in, once all arms are made.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what is missing and how long it takes, no more.")]


def evidence(out: Out = RESULTS, kept_in: Keep = None, dry_run: DryRun = False, quiet: Quiet = False) -> None:
    """Simulate every arm that claims rest on; what is interrupted goes on where it was."""
    from lorakappa.shared.forecast import announce, duration
    from lorakappa.synthetic.arms.evidence import keep
    from lorakappa.synthetic.arms.making import JOURNAL, forecast, make, missing
    from lorakappa.synthetic.claims.record import conclude, recorded_arms

    arms, journal = recorded_arms(), out / JOURNAL
    todo = missing(arms, journal)
    seconds = forecast(todo)
    if dry_run:
        console.print(f"{len(todo)} of {len(arms)} arms are missing in {journal}: about {duration(seconds)}")
        return
    announce(seconds, f"{len(todo)} of {len(arms)} arms", quiet=quiet)
    lines = make(arms, journal, quiet=quiet)
    if kept_in is not None:
        keep(kept_in, lines, conclude)
    if not quiet:
        say("saved", journal, *([] if kept_in is None else [kept_in]))
