"""The command `lorakappa`, also as `python -m lorakappa`."""

import gc
import importlib.metadata
import sys
from collections.abc import Collection
from importlib import import_module
from typing import Annotated

import typer

from lorakappa.conditioning.claim_commands import add_claim_commands
from lorakappa.conditioning.command import kappa, sources
from lorakappa.figures.report.command import report
from lorakappa.shared.command_line import new_app, run
from lorakappa.shared.packages import CLAIMS, PACKAGES

LOADED_WHEN_CALLED = ("synthetic", "llm", "figures")

DRAW = ("synthetic", "figures")
"""Commands of a second or two, a tenth of which went into looking for garbage among modules and a figure's parts."""

OBJECTS_AT_ONCE = 200_000
"""By how many objects their number grows before garbage is looked for there; some tens of megabytes."""


def command_line(called: Collection[str] = LOADED_WHEN_CALLED) -> typer.Typer:
    """The whole command line.

    Args:
        called: packages whose commands are loaded; the others are only named in the help.
    """
    app = new_app("Is a statement about LoRA's conditioning true? Claims, dynamics and fine-tunes of Balanced LoRA.")
    app.callback()(_options)
    add_claim_commands(app, CLAIMS)
    app.command()(kappa)
    app.command()(sources)
    app.command()(report)
    for name in LOADED_WHEN_CALLED:
        package = PACKAGES[name]
        group = import_module(package.command).app if name in called else new_app(package.summary)
        if len(group.registered_commands) == 1:  # figures: a command of its own rather than a group of one
            app.registered_commands.append(group.registered_commands[0])
        else:
            app.add_typer(group, name=name)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lorakappa {importlib.metadata.version('lorakappa')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] and sys.argv[1] in DRAW:
        gc.set_threshold(OBJECTS_AT_ONCE)
    run(command_line(sys.argv[1:2]))


if __name__ == "__main__":
    main()
