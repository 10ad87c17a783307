"""The command `pretrain`."""

from pathlib import Path
from typing import Annotated

import typer

from lorakappa.shared.command_line import say
from lorakappa.shared.options import Quiet


def pretrain(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must not exist.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps; as many as the recipe has.")] = None,
    quiet: Quiet = False,
) -> None:
    """Reproduce the tiny model that comes with the package (about 5 minutes on two cores)."""
    from lorakappa.llm.data import pretraining
    from lorakappa.llm.data.quieting import quiet_libraries

    with quiet_libraries():
        recipe = pretraining.pretrain(out) if steps is None else pretraining.pretrain(out, steps=steps)
    if not quiet:
        say("saved", recipe)
