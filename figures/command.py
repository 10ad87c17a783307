"""Command line of the figures: drawn from what the other packages saved."""

from pathlib import Path
from typing import Annotated

import typer

from lorakappa.figures.catalogue import FIGURES, FORMATS
from lorakappa.shared.command_line import new_app, say
from lorakappa.shared.options import RESULTS, Out, Quiet, names
from lorakappa.shared.packages import PACKAGES

app = new_app(PACKAGES["figures"].summary)


@app.command()
def figures(
    chosen: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…|all]", help=f"{', '.join(FIGURES)}; all: every one whose data is there."),
    ] = None,
    source: Annotated[Path, typer.Option("--from", help="Folder with the data.")] = RESULTS,
    out: Out = RESULTS / "figures",
    formats: Annotated[str, typer.Option("--format", help=f"Comma-separated: {', '.join(FORMATS)}.")] = "png",
    quiet: Quiet = False,
) -> None:
    """Draw figures of saved results."""
    from lorakappa.figures.drawing import available, draw_all, warnings_noted

    wanted = [name for name in chosen or ["all"] if name != "all"]
    if not chosen or "all" in chosen:
        found = available(source)
        wanted += found
        if not found:
            raise FileNotFoundError(
                f"no data for any figure in {source}: run lorakappa synthetic convergence --out {source}, for example"
            )
    with warnings_noted():
        drawn = draw_all(wanted, source, out, [name.lower() for name in names(formats)])
    for path in drawn:
        if not quiet:
            say(path)
