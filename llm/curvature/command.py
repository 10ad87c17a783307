"""The command `curvature`."""

from typing import Annotated

import typer

from lorakappa.llm.adapters.command import AdapterFolder
from lorakappa.llm.data.options import Columns, Data, Dtype, Modules, chosen_data
from lorakappa.shared.command_line import console, say
from lorakappa.shared.options import RESULTS, Out, Quiet, Seed, names


def curvature(
    adapter: AdapterFolder,
    model: Annotated[str | None, typer.Option(help="Base model; the one that the adapter names by default.")] = None,
    dtype: Dtype = None,
    data: Data = None,
    modules: Modules = "",
    columns: Columns = None,
    layers: Annotated[str | None, typer.Option(help="Parts of names or indices, comma-separated, or all.")] = None,
    examples: Annotated[int, typer.Option(min=1, help="Examples in the fixed batch; the time grows with them.")] = 4,
    solver: Annotated[
        str, typer.Option(help="Of the eigenvalues: dense, lanczos, or auto (dense where d permits).")
    ] = "auto",
    hessian: Annotated[bool, typer.Option(help="Whether to measure the Hessian beside the GGN.")] = True,
    seed: Seed = 0,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> None:
    """GGN and Hessian of the loss in single layers' (A, B): trained, balanced, iLoRA's ratio, and the best gauges."""
    from dataclasses import asdict

    from lorakappa.figures.drawing import draw_saved
    from lorakappa.llm.adapters.formats.peft_folder import read_peft_folder
    from lorakappa.llm.curvature import spectra
    from lorakappa.llm.curvature.loading import load_adapted, validation_batch
    from lorakappa.llm.curvature.solvers import SOLVERS
    from lorakappa.llm.curvature.summary import balancing, excesses
    from lorakappa.llm.curvature.tables import curvature_notes, curvature_tables
    from lorakappa.llm.data.sources import MATHEMATICS, load_splits
    from lorakappa.shared.records import ensure_folder, provenance, write_json

    ensure_folder(out)
    if solver not in SOLVERS:
        raise ValueError(f"--solver must be one of {', '.join(SOLVERS)}, not {solver!r}")
    if layers is not None and not names(layers):
        raise ValueError("--layers names no layer")
    chosen = chosen_data(modules, columns)
    read_peft_folder(adapter)  # before data is generated for one that is not there
    splits = load_splits(data or MATHEMATICS, **chosen, train=1, validation=examples, test=1, seed=seed)
    adapted, tokenizer = load_adapted(adapter, model, dtype or "auto")
    report = spectra.curvature(
        adapted,
        validation_batch(splits, tokenizer, adapted.device),
        layers=None if layers is None else names(layers),
        solver=solver,
        hessian=hessian,
        seed=seed,
        progress=not quiet,
    )
    content = {
        "experiment": "curvature",
        "adapter": str(adapter),
        **report.as_dict(),
        "balancing": {name: asdict(found) for name, found in balancing(report).items()},
        "excesses": {
            gauge: {name: asdict(found) for name, found in over.items()} for gauge, over in excesses(report).items()
        },
        "provenance": provenance(seed=seed),
    }
    file = write_json(out / "curvature.json", content)
    drawn = draw_saved("curvature", out)
    if not quiet:
        for table in curvature_tables(report):
            console.print(table)
        for note in curvature_notes(report):
            console.print(note)
        say("saved", file, *drawn)
