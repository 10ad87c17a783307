"""The commands `resize`, `fold`, `merge` and `diff` for adapters in files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lorakappa.llm.adapters.command import (
    AdapterPath,
    Target,
    change_shown,
    check_record,
    finish,
    layer_table,
    short_name,
)
from lorakappa.shared.command_line import console, note, say
from lorakappa.shared.options import JsonFile, Quiet, numbers

Rank = Annotated[int | None, typer.Option(min=1, help="Largest rank.")]
Energy = Annotated[float | None, typer.Option(help="Least share of Σs² to keep, in (0, 1].")]
Nuclear = Annotated[float | None, typer.Option(help="Least share of Σs to keep, in (0, 1].")]
Error = Annotated[float | None, typer.Option(help="Largest relative error in the Frobenius norm.")]
SpectralError = Annotated[float | None, typer.Option(help="Largest relative error in the spectral norm, s_{k+1}/s_1.")]

OtherBases = Annotated[bool, typer.Option("--other-bases", help="Allow different names of the base model.")]


def resize(
    adapter: AdapterPath,
    out: Target,
    rank: Rank = None,
    energy: Energy = None,
    nuclear: Nuclear = None,
    error: Error = None,
    spectral_error: SpectralError = None,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write an adapter of smaller ranks: in each layer the nearest product, with its exact error, balanced.

    Of several measures the strictest counts, but no rank exceeds --rank.
    """
    from lorakappa.llm.adapters.operations.resizing import resize_adapter

    rule = _rule(rank, energy, nuclear, error, spectral_error)
    if rule is None:
        raise ValueError("say how far: --rank, --energy, --nuclear, --error or --spectral-error")
    check_record(json_file)
    layers = resize_adapter(adapter, out, rule)
    table = layer_table("layer", "rank", "error", "spectral", "as stored")
    for layer in layers:
        errors = (layer.error, layer.spectral_error, layer.stored_error)
        table.add_row(short_name(layer.name), f"{layer.r} → {layer.rank}", *(f"{value:.3g}" for value in errors))
    worst = max(layers, key=lambda layer: layer.stored_error)
    before, after = (sum(r * sum(layer.shape) for layer in layers for r in [getattr(layer, n)]) for n in ("r", "rank"))
    if not quiet:
        console.print(table)
        console.print("error: ‖AB − (AB)_k‖/‖AB‖ in the Frobenius norm, in the spectral norm, and with stored factors.")
        say(f"{before:,} parameters → {after:,}; {_largest(worst)}")
    _finish(out, json_file, {"rule": vars(rule)}, layers, quiet)


def fold(adapter: AdapterPath, out: Target, json_file: JsonFile = None, quiet: Quiet = False) -> None:
    """Write an adapter with its scales inside the factors (α = r), so that nobody can get them wrong."""
    from lorakappa.llm.adapters.operations.folding import fold_adapter

    check_record(json_file)
    layers = fold_adapter(adapter, out)
    if not quiet:
        scales = ", ".join(f"{scale:.6g}" for scale in sorted({layer.scale for layer in layers}))
        worst = max(layers, key=lambda layer: layer.change)
        say(f"{len(layers)} pairs, scale {scales} → 1; {change_shown(worst.change, worst.name)}")
    _finish(out, json_file, {}, layers, quiet)


def merge(
    adapters: Annotated[list[Path], typer.Argument(help="Adapters of one model and one format.")],
    out: Target,
    weights: Annotated[str | None, typer.Option(help="Comma-separated, one for each; 1 by default.")] = None,
    rank: Rank = None,
    energy: Energy = None,
    nuclear: Nuclear = None,
    error: Error = None,
    spectral_error: SpectralError = None,
    other_bases: OtherBases = False,
    json_file: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Write the weighted sum of adapters: exactly, at the sum of their ranks, or the nearest of smaller ranks."""
    from lorakappa.llm.adapters.operations.merging import merge_adapters

    rule = _rule(rank, energy, nuclear, error, spectral_error)
    chosen = None if weights is None else numbers("weights", weights)
    check_record(json_file)
    layers = merge_adapters(adapters, out, weights=chosen, rule=rule, other_bases=other_bases)
    table = layer_table("layer", "adapters", "rank", "error", "as stored")
    for layer in layers:
        sources = "all" if len(layer.adapters) == len(adapters) else ", ".join(str(i + 1) for i in layer.adapters)
        rank_shown = f"{layer.rank} of {layer.full_rank}"
        table.add_row(short_name(layer.name), sources, rank_shown, f"{layer.error:.3g}", f"{layer.stored_error:.3g}")
    worst = max(layers, key=lambda layer: layer.stored_error)
    if not quiet:
        console.print(table)
        console.print("error: distance from the sum of the products, relative to it, in the Frobenius norm.")
        say(f"{len(adapters)} adapters, {len(layers)} layers; {_largest(worst)}")
    _finish(out, json_file, {"adapters": [str(one) for one in adapters], "weights": chosen}, layers, quiet)


def diff(adapter: AdapterPath, other: AdapterPath, json_file: JsonFile = None, quiet: Quiet = False) -> None:
    """How far two adapters are from each other, layer by layer, as products: their factors' gauge does not matter."""
    from dataclasses import asdict

    from lorakappa.llm.adapters.operations.comparing import diff_adapters

    check_record(json_file)
    found = diff_adapters(adapter, other)
    table = layer_table("layer", "rank", "‖W‖", "‖W'‖", "relative", "σ₁(W − W')", "cosine", "angles left", "right")
    for layer in found.layers:
        one = layer.difference
        table.add_row(
            short_name(layer.name),
            " | ".join(map(str, one.ranks)),
            *(f"{value:.3g}" for value in (*one.norms, one.relative, one.spectral_distance, one.cosine)),
            *(f"{a[-1]:.2g} … {a[0]:.2g}" if a else "-" for a in (one.left_angles, one.right_angles)),
        )
    if not quiet:
        console.print(table)
        console.print("W = sAB; relative: ‖W − W'‖_F over the larger norm; angles in radians between their spans.")
        say(f"all layers: ‖W‖ {found.norms[0]:.4g}, ‖W'‖ {found.norms[1]:.4g}, relative {found.relative:.3g}")
    for remark in found.remarks:
        note(remark)
    if json_file is not None:
        from lorakappa.shared.records import provenance, write_json

        file = write_json(json_file, {**provenance(), **asdict(found)})
        if not quiet:
            say("saved", file)


def _rule(
    rank: int | None, energy: float | None, nuclear: float | None, error: float | None, spectral_error: float | None
) -> Any:
    """The rule of the options; None if there is none."""
    from lorakappa.conditioning.rank_rules import RankRule

    given = {"rank": rank, "energy": energy, "nuclear": nuclear, "error": error, "spectral_error": spectral_error}
    return RankRule(**given) if any(value is not None for value in given.values()) else None  # type: ignore[arg-type]


def _finish(out: Path, json_file: Path | None, told: dict[str, Any], layers: list[Any], quiet: bool) -> None:
    from dataclasses import asdict

    finish(out, json_file, {**told, "layers": [asdict(layer) for layer in layers]}, quiet)


def _largest(layer: Any) -> str:
    return change_shown(layer.stored_error, layer.name, f"; Eckart and Young: {layer.error:.2g}")
