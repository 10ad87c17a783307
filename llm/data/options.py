"""Options of every command that loads a model and data."""

from typing import Annotated, Any

import typer

from lorakappa.llm.data.models import DTYPES
from lorakappa.shared.options import names

Model = Annotated[
    str | None, typer.Option(help='"tiny", a hub id or a folder; without a GPU tiny, with one Qwen/Qwen2.5-3B.')
]
Dtype = Annotated[str | None, typer.Option(help=f"Of the base model: {', '.join(DTYPES)}.")]
Data = Annotated[
    str | None,
    typer.Option(
        help='"mathematics" or "mathematics-topics" (generated), DeepMind\'s folder or tarball, a hub id, a folder or '
        "a file."
    ),
]
Modules = Annotated[str, typer.Option(help="Modules of DeepMind Mathematics, comma-separated.")]
Columns = Annotated[str | None, typer.Option(help="PROMPT,COMPLETION columns, if not called that.")]


def chosen_data(modules: str, columns: str | None) -> dict[str, Any]:
    """Arguments of `load_splits` from the options.

    Raises:
        ValueError: if the columns are not two.
    """
    if modules.strip() and columns is not None:
        raise ValueError("--modules are of DeepMind Mathematics, which has no --columns: leave one of them out")
    pair = None if columns is None else names(columns)
    if pair is not None and len(pair) != 2:
        raise ValueError(f"--columns wants two names, PROMPT,COMPLETION, not {columns!r}")
    return {"modules": names(modules), "columns": None if pair is None else (pair[0], pair[1])}
