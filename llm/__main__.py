"""Command line for real models: `python -m llm audit | balance`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from conditioning.command import console, new_app, run
from conditioning.projection import GAUGES
from conditioning.records import ensure_writable, provenance, write_json

app = new_app("LoRA adapters of real models: how well conditioned they are, and balanced ones.")

AdapterFolder = Annotated[Path, typer.Argument(help="Folder written by PEFT's save_pretrained.")]


@app.command()
def audit(
    adapter: AdapterFolder,
    json: Annotated[Path | None, typer.Option(help="Also write all measures to this file.")] = None,
) -> None:
    """Singular values, balancing gap and κ bound of every layer, now and after balancing, worst first."""
    from llm.audit import audit_adapter

    if json is not None:
        ensure_writable(json)
    layers = audit_adapter(adapter)
    table = Table("layer", "rank", "σ(A)", "σ(B)", "σ(AB)", "gap", "κ bound", "balanced", box=None)
    for layer in layers:
        table.add_row(
            layer.name.removeprefix("base_model.model."),
            f"{layer.rank} of {layer.r}",
            *(f"{s[0]:.3g} … {s[-1]:.3g}" for s in (layer.sigma_A, layer.sigma_B, layer.sigma_AB)),
            f"{layer.relative_gap:.2g}",
            f"{layer.kappa_bound:.4g}",
            f"{layer.kappa_bound_balanced:.4g}",
        )
    console.print(table)
    console.print("gap: ‖AᵀA − BBᵀ‖/(‖A‖² + ‖B‖²). κ bound: (σ₁(A)² + σ₁(B)²)/min σ_r², balanced 2s₁/s_r.")
    if json is not None:
        console.print("saved", write_json(json, {**provenance(), "layers": [asdict(layer) for layer in layers]}))


@app.command()
def balance(
    adapter: AdapterFolder,
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
    gauge: Annotated[str, typer.Option(help=f"Which balanced pair: {', '.join(GAUGES)}.")] = "hyperbalanced",
) -> None:
    """Write an adapter with the same products and balanced factors, everything else carried over."""
    from llm.adapters import balance_adapter

    changes = balance_adapter(adapter, out, gauge=gauge)  # type: ignore[arg-type]  # checked there
    name, largest = max(changes.items(), key=lambda entry: entry[1])
    console.print(f"{len(changes)} pairs balanced; largest relative change of a product {largest:.2g} ({name})")
    console.print("saved", out)


if __name__ == "__main__":
    run(app)
