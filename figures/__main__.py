"""Command line of the figures: `python -m figures NAME… --from DIR --to DIR --format png,svg,pdf`."""

from pathlib import Path
from typing import Annotated

import typer

from lorakappa.figures.drawing import FIGURES, FORMATS, available, draw_all
from lorakappa.shared.command_line import console, new_app, run

app = new_app("Figures of saved results.")


@app.command()
def figures(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…|all]", help=f"{', '.join(FIGURES)}; all: every one whose data is there."),
    ] = None,
    source: Annotated[Path, typer.Option("--from", help="Folder with the data.")] = Path("results"),
    target: Annotated[Path, typer.Option("--to", help="Folder for the figures.")] = Path("results/figures"),
    formats: Annotated[str, typer.Option("--format", help=f"Comma-separated: {', '.join(FORMATS)}.")] = "png",
) -> None:
    """Draw figures of saved results."""
    chosen = names or ["all"]
    if "all" in chosen:
        found = available(source)
        chosen = [*(name for name in chosen if name != "all"), *found]
        if not found:
            raise FileNotFoundError(
                f"no data for any figure in {source}: run python -m synthetic convergence --out {source}, for example"
            )
    wanted = [part.strip().lower() for part in formats.split(",") if part.strip()]
    for path in draw_all(chosen, source, target, wanted):
        console.print(path, soft_wrap=True)


def main() -> None:
    """Runs the command line."""
    run(app)


if __name__ == "__main__":
    main()
