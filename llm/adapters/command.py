"""The commands `audit`, `balance` and `convert` for adapters on disk."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lorakappa.conditioning.projection_gauges import GAUGES
from lorakappa.llm.adapters.formats import FORMATS
from lorakappa.shared.command_line import console, note, say
from lorakappa.shared.options import JsonFile, Quiet

AdapterFolder = Annotated[Path, typer.Argument(help="Folder written by PEFT's save_pretrained.")]
AdapterPath = Annotated[
    Path, typer.Argument(help="Folder of PEFT, folder or file of diffusers, or file of kohya's scripts.")
]
Target = Annotated[
    Path,
    typer.Option("--out", help="New folder, or new .safetensors file for adapters of diffusers and kohya's scripts."),
]


def short_name(name: str) -> str:
    """Of a layer, without what PEFT puts before all names."""
    return name.removeprefix("base_model.model.")


def change_shown(change: float, name: str, more: str = "") -> str:
    """The largest relative change of a product, and where it is if there is one."""
    return f"largest relative change of a product {change:.2g}" + (f" ({short_name(name)}{more})" if change else "")


def layer_table(*heads: str) -> Any:
    """A table whose first column holds names, which are folded rather than cut: their ends tell layers apart."""
    from rich.table import Column, Table

    return Table(Column(heads[0], overflow="fold"), *heads[1:], box=None)


def note_readers(adapter: Path) -> None:
    """Says which program is known to misread an adapter."""
    from lorakappa.llm.adapters.formats.kohya_file import misread_by_diffusers
    from lorakappa.llm.adapters.formats.reading import read_adapter

    if adapter.is_file() and (misread := misread_by_diffusers(read_adapter(adapter))):
        note(
            f"diffusers gives {len(misread)} layers of this kohya file the α of other layers, such as {misread[0]}: "
            "for diffusers, convert it --to diffusers"
        )


def audit(adapter: AdapterPath, json_file: JsonFile = None, quiet: Quiet = False) -> None:
    """Singular values, balancing gap and κ bound of every layer, now and after balancing, worst first."""
    from dataclasses import asdict

    from lorakappa.llm.adapters.audit import audit_adapter
    from lorakappa.shared.records import provenance, write_json

    check_record(json_file)
    layers = audit_adapter(adapter)
    factors = layer_table("factors", "σ(A)", "σ(B)", "gap", "κ bound", "balanced")
    products = layer_table("products", "scale", "σ(AB)", "rank", "stable", "entropy", "99 %")
    for layer in layers:
        name = short_name(layer.name)
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
    note_readers(adapter)


def balance(
    adapter: AdapterPath,
    out: Target,
    gauge: Annotated[str, typer.Option(help=f"Which balanced pair: {', '.join(GAUGES)}.")] = "hyperbalanced",
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write an adapter with the same products and balanced factors, everything else carried over."""
    from lorakappa.llm.adapters.disk import balance_adapter

    check_record(json_file)
    changes = balance_adapter(adapter, out, gauge=gauge)  # type: ignore[arg-type]  # checked there
    if not quiet:
        name, largest = max(changes.items(), key=lambda entry: entry[1])
        balanced = len(changes) - len(changes.left)
        say(f"{balanced} pairs balanced; {change_shown(largest, name)}")
        if changes.left:
            say(
                f"{len(changes.left)} pairs left as they were, since AB = 0 or no balanced factors can be stored in "
                "their type: " + ", ".join(map(short_name, changes.left))
            )
    layers = [{"name": name, "change": change, "left": name in changes.left} for name, change in changes.items()]
    finish(out, json_file, {"gauge": gauge, "layers": layers}, quiet)


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
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write an adapter in another format: the same factors under other names, with the same products."""
    from lorakappa.llm.adapters.formats.converting import convert_adapter

    check_record(json_file)
    changes = convert_adapter(adapters, out, to, component=component, names_from=names_from)  # type: ignore[arg-type]
    if not quiet:
        name, largest = max(changes.items(), key=lambda entry: entry[1])
        say(f"{len(changes)} pairs converted to {to}; {change_shown(largest, name)}")
    layers = [{"name": name, "change": change} for name, change in changes.items()]
    finish(out, json_file, {"adapters": [str(one) for one in adapters], "layers": layers}, quiet)


def check_record(json_file: Path | None) -> None:
    """Raises OSError where a record could not be written, before any work."""
    if json_file is not None:
        from lorakappa.shared.records import ensure_writable

        ensure_writable(json_file)


def finish(out: Path, json_file: Path | None, record: dict[str, Any], quiet: bool) -> None:
    """Writes the record of an adapter that was written, and says where both are and who misreads it."""
    from lorakappa.shared.records import provenance, write_json

    written = [out]
    if json_file is not None:
        written.append(write_json(json_file, {**provenance(), **record}))
    if not quiet:
        say("saved", *written)
    note_readers(out)
