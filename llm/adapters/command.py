"""The commands `audit`, `balance` and `convert` for adapters on disk."""

from pathlib import Path
from typing import Annotated

import typer

from lorakappa.conditioning.projection_gauges import GAUGES
from lorakappa.llm.adapters.formats import FORMATS
from lorakappa.shared.command_line import console, say
from lorakappa.shared.options import JsonFile, Quiet

AdapterFolder = Annotated[Path, typer.Argument(help="Folder written by PEFT's save_pretrained.")]
AdapterPath = Annotated[
    Path, typer.Argument(help="Folder of PEFT, folder or file of diffusers, or file of kohya's scripts.")
]
Target = Annotated[
    Path,
    typer.Option("--out", help="New folder, or new .safetensors file for adapters of diffusers and kohya's scripts."),
]


def audit(adapter: AdapterPath, json_file: JsonFile = None, quiet: Quiet = False) -> None:
    """Singular values, balancing gap and κ bound of every layer, now and after balancing, worst first."""
    from dataclasses import asdict

    from rich.table import Table

    from lorakappa.llm.adapters.audit import audit_adapter
    from lorakappa.shared.records import ensure_writable, provenance, write_json

    if json_file is not None:
        ensure_writable(json_file)
    layers = audit_adapter(adapter)
    factors = Table("factors", "σ(A)", "σ(B)", "gap", "κ bound", "balanced", box=None)
    products = Table("products", "scale", "σ(AB)", "rank", "stable", "entropy", "99 %", box=None)
    for layer in layers:
        name = layer.name.removeprefix("base_model.model.")
        sigmas = layer.sigma_A, layer.sigma_B, layer.sigma_AB
        sigma_A, sigma_B, sigma_AB = (f"{s[0]:.3g} … {s[-1]:.3g}" for s in sigmas)
        bounds = f"{layer.kappa_bound:.4g}", f"{layer.kappa_bound_balanced:.4g}"
        factors.add_row(name, sigma_A, sigma_B, f"{layer.relative_gap:.2g}", *bounds)
        ranks = f"{layer.stable_rank:.2f}", f"{layer.entropy_rank:.2f}", str(layer.suggested_rank)
        products.add_row(name, f"{layer.scale:.4g}", sigma_AB, f"{layer.rank} of {layer.r}", *ranks)
    if not quiet:
        console.print(factors)
        console.print("gap: ‖AᵀA − BBᵀ‖/(‖A‖² + ‖B‖²). κ bound: (σ₁(A)² + σ₁(B)²)/min σ_r², balanced 2s₁/s_r.\n")
        console.print(products)
        console.print("stable: Σs²/s₁². entropy: exp(−Σp ln p), p = s/Σs. 99 %: the rank that keeps so much of Σs².")
    if json_file is not None:
        from lorakappa.figures.drawing import draw_saved

        file = write_json(json_file, {**provenance(), "layers": [asdict(layer) for layer in layers]})
        drawn = draw_saved("audit", file.parent, file) if file.suffix == ".json" else []
        if not quiet:
            say("saved", file, *drawn)


def balance(
    adapter: AdapterPath,
    out: Target,
    gauge: Annotated[str, typer.Option(help=f"Which balanced pair: {', '.join(GAUGES)}.")] = "hyperbalanced",
    quiet: Quiet = False,
) -> None:
    """Write an adapter with the same products and balanced factors, everything else carried over."""
    from lorakappa.llm.adapters.disk import balance_adapter

    changes = balance_adapter(adapter, out, gauge=gauge)  # type: ignore[arg-type]  # checked there
    if quiet:
        return
    name, largest = max(changes.items(), key=lambda entry: entry[1])
    balanced = len(changes) - len(changes.left)
    say(f"{balanced} pairs balanced; largest relative change of a product {largest:.2g} ({name})")
    if changes.left:
        say(
            f"{len(changes.left)} pairs left as they were, since AB = 0 or no balanced factors can be stored in their "
            "type: " + ", ".join(changes.left)
        )
    say("saved", out)


def convert(
    adapters: Annotated[
        list[Path],
        typer.Argument(help="An adapter, or PEFT's folders for several parts of one pipeline."),
    ],
    to: Annotated[str, typer.Option("--to", help=f"Format to write: {', '.join(FORMATS)}.")],
    out: Target,
    component: Annotated[
        str | None,
        typer.Option(help="Part of a pipeline that a PEFT folder is for: unet, text_encoder, …."),
    ] = None,
    names_from: Annotated[
        Path | None,
        typer.Option(help="Model or pipeline that a kohya file is for, whose headers tell its modules' names."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write an adapter in another format: the same factors under other names, with the same products."""
    from lorakappa.llm.adapters.formats.converting import convert_adapter

    changes = convert_adapter(adapters, out, to, component=component, names_from=names_from)  # type: ignore[arg-type]
    if quiet:
        return
    name, largest = max(changes.items(), key=lambda entry: entry[1])
    say(f"{len(changes)} pairs converted to {to}; largest relative change of a product {largest:.2g} ({name})")
    say("saved", out)
