"""Command line of the dynamics: `python -m synthetic convergence | rates | phase | settle | …`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from conditioning.command import console, new_app, run
from conditioning.records import ensure_folder
from conditioning.verification import Claim
from conditioning.verification.command import add_claim_commands
from synthetic.methods import OPTIMIZERS, POST_STEPS
from synthetic.problems import LOSSES, Settings
from synthetic.results import Result, save
from synthetic.selection import CRITERIA, TUNING
from synthetic.targets import STARTS, TARGETS

app = new_app("Simulated LoRA and BaLoRA training, and measured rates against the bounds.")


def load_claims() -> Mapping[str, Claim]:
    """The claims of this room."""
    from synthetic.claims import CLAIMS

    return CLAIMS


add_claim_commands(app, load_claims, "synthetic")

Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar and no table.")]
Seed = Annotated[int, typer.Option(help="Root seed.")]
Seeds = Annotated[int, typer.Option(help="Paired instances (targets and starts).")]
Shape = Annotated[tuple[int, int], typer.Option(help="Rows and columns of AB.")]
Rank = Annotated[int, typer.Option(help="Rank r of AB.")]
Target = Annotated[str, typer.Option(help=f"Spectrum: {', '.join(TARGETS)}.")]
Start = Annotated[str, typer.Option(help=f"Starting point: {', '.join(STARTS)}.")]
Scale = Annotated[float, typer.Option(help="Standard deviation of the starting entries.")]
Steps = Annotated[int, typer.Option(help="Number of steps.")]
StepSizes = Annotated[str, typer.Option(help='"auto", one number, or LO:HI:N, log-spaced.')]
Select = Annotated[str, typer.Option(help=f"What a step size is chosen by: {', '.join(CRITERIA)}.")]
OptimizerName = Annotated[str, typer.Option(help=f"Optimizer: {', '.join(OPTIMIZERS)}.")]


@app.command()
def convergence(
    loss: Annotated[str, typer.Option(help=f"Loss: {', '.join(LOSSES)}.")] = "one-layer",
    shape: Shape = (20, 20),
    rank: Rank = 4,
    target: Target = "gaussian",
    start: Start = "lora",
    scale: Scale = 1.0,
    scaling: Annotated[float, typer.Option(help="λ of the one-layer loss.")] = 1.0,
    optimizer: OptimizerName = "gd",
    methods: Annotated[
        str, typer.Option(help=f"Comma-separated: {', '.join(POST_STEPS)}, each also NAME@K.")
    ] = "lora,balora",
    steps: Steps = 100,
    step_sizes: StepSizes = "auto",
    seeds: Seeds = 8,
    seed: Seed = 0,
    select: Select = "final",
    tune: Annotated[str, typer.Option(help=f"One best step size or one per seed: {', '.join(TUNING)}.")] = "shared",
    device: Annotated[str | None, typer.Option(help="torch device (cpu, cuda, …); NumPy if left out.")] = None,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Loss curves of several methods from the same starts, each at its own best step size."""
    from synthetic.convergence import convergence as experiment

    ensure_folder(out)
    settings = Settings(loss, shape, rank, target, start, scale, scaling, seeds, seed)
    result = experiment(
        settings,
        optimizer=optimizer,
        methods=[name.strip() for name in methods.split(",") if name.strip()],
        steps=steps,
        step_sizes=step_sizes,
        select=select,
        tune=tune,
        device=device,
        quiet=quiet,
    )
    table = Table("method", "step size", "median f − f*", "diverged", "trajectories/s", "log10 gain [95 %]", box=None)
    gains = {line["method"]: _interval(line.get("log10_gain")) for line in result.meta["comparisons"]}
    for line in result.meta["summary"]:
        edge = " (edge of the grid)" if line["best_at_edge_of_grid"] else ""
        table.add_row(
            line["method"],
            ", ".join(f"{gamma:.3g}" for gamma in line["step_size"][:3]) + edge,
            f"{line['final_median']:.3g}",
            f"{line['diverged']} of {line['trajectories']}",
            f"{line['trajectories_per_second']:.0f}",
            gains.get(line["method"], ""),
        )
    _finish(result, out, table, quiet)


@app.command()
def rates(
    shape: Shape = (7, 6),
    rank: Rank = 2,
    target: Target = "gaussian",
    rules: Annotated[str, typer.Option(help="Comma-separated: gd, sign-gd, sign-gd-sharp, balora-gd.")] = (
        "gd,sign-gd,sign-gd-sharp,balora-gd"
    ),
    instances: Annotated[int, typer.Option(help="Random instances per rule.")] = 50,
    spread: Annotated[float, typer.Option(help="Spread of the gauges: 0 is balanced.")] = 0.3,
    kappa_max: Annotated[float, typer.Option(help="Draw again above this κ.")] = 100.0,
    max_steps: Annotated[int, typer.Option(help="End of every run.")] = 20_000,
    seed: Seed = 0,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Measured asymptotic contraction against the rates that κ promises."""
    from synthetic.rates import rates as experiment

    ensure_folder(out)
    result = experiment(
        shape=shape,
        rank=rank,
        target=target,
        rules=[name.strip() for name in rules.split(",") if name.strip()],
        instances=instances,
        spread=spread,
        kappa_max=kappa_max,
        max_steps=max_steps,
        seed=seed,
        quiet=quiet,
    )
    table = Table("rule", "conclusive", "violations", "log rate / log bound: min, median, max", box=None)
    for line in result.meta["summary"]:
        table.add_row(
            line["rule"],
            f"{line['conclusive']} of {line['measurements']}",
            str(line["violations"]),
            ", ".join(f"{line[f'log_ratio_{key}']:.6g}" for key in ("min", "median", "max")),
        )
    _finish(result, out, table, quiet)


@app.command()
def kappa_histogram(
    shape: Shape = (20, 20),
    rank: Rank = 4,
    target: Target = "gaussian",
    start: Start = "lora",
    scale: Scale = 1.0,
    draws: Annotated[int, typer.Option(help="Random gauges.")] = 1000,
    limits: Annotated[int, typer.Option(help="GD runs whose limit points are taken.")] = 100,
    spread: Annotated[float, typer.Option(help="Spread of the gauges.")] = 0.5,
    max_steps: Annotated[int, typer.Option(help="End of every GD run.")] = 20_000,
    seed: Seed = 0,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """κ of random minimizers and of LoRA's limit points, with the balanced value and both bounds."""
    from synthetic.kappa_histogram import kappa_histogram as experiment

    ensure_folder(out)
    settings = Settings(shape=shape, rank=rank, target=target, start=start, scale=scale, seed=seed)
    result = experiment(settings, draws=draws, limits=limits, spread=spread, max_steps=max_steps, quiet=quiet)
    table = Table(box=None, show_header=False)
    keys = ("kappa_balanced", "kappa_median", "kappa_limit_median", "upper_bound_vacuous", "not_converged")
    for key in keys:
        value = result.meta[key]
        table.add_row(key.replace("_", " "), "none" if value is None else f"{value:.6g}")
    _finish(result, out, table, quiet)


@app.command()
def phase(
    shape: Shape = (20, 20),
    rank: Rank = 4,
    family: Annotated[str, typer.Option(help="Spectrum family: geometric or power-law.")] = "geometric",
    decays: Annotated[str, typer.Option(help="Comma-separated parameters of the family.")] = "0.5,0.6,0.7,0.8,0.9",
    scales: Annotated[str, typer.Option(help="Comma-separated initialization scales.")] = "0.01,0.03,0.1,0.3,1",
    start: Start = "lora",
    optimizer: OptimizerName = "gd",
    methods: Annotated[str, typer.Option(help="Two methods, comma-separated.")] = "lora,balora",
    steps: Steps = 100,
    step_sizes: StepSizes = "auto",
    seeds: Seeds = 8,
    seed: Seed = 0,
    select: Select = "final",
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """A map of the gain over spectrum decay × initialization scale."""
    from synthetic.phase import phase as experiment

    ensure_folder(out)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    result = experiment(
        Settings(shape=shape, rank=rank, start=start, seeds=seeds, seed=seed),
        family=family,
        decays=_numbers("decays", decays),
        scales=_numbers("scales", scales),
        optimizer=optimizer,
        methods=names,
        steps=steps,
        step_sizes=step_sizes,
        select=select,
        quiet=quiet,
    )
    table = Table("decay \\ scale", *(f"{scale:g}" for scale in result.arrays["scales"]), box=None)
    for decay, row in zip(result.arrays["decays"], result.arrays["gain"], strict=True):
        table.add_row(f"{decay:g}", *(f"{gain:+.2f}" for gain in row))
    _finish(result, out, table, quiet)


@app.command()
def settle(
    shape: Shape = (20, 20),
    rank: Rank = 4,
    target: Target = "gaussian",
    start: Start = "lora",
    scale: Scale = 1.0,
    steps: Steps = 100,
    step_sizes: StepSizes = "auto",
    seeds: Seeds = 8,
    seed: Seed = 0,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Whether BaLoRA's gain is the conditioning: same κ, equal κ, matched steps, conserved imbalance."""
    from synthetic.settle import settle as experiment

    ensure_folder(out)
    settings = Settings(shape=shape, rank=rank, target=target, start=start, scale=scale, seeds=seeds, seed=seed)
    result = experiment(settings, steps=steps, step_sizes=step_sizes, quiet=quiet)
    table = Table(box=None, show_header=False)
    for key, value in result.meta.items():
        if key.endswith("_exponent"):
            table.add_row(key.replace("_", " "), f"{value:.3f}")
    for key, value in result.meta["log10_gain"].items():
        table.add_row(f"log10 gain {key.replace('_', ' ')}", _interval(value))
    _finish(result, out, table, quiet)


@app.command()
def manifold(out: Out = Path("results"), quiet: Quiet = False) -> None:
    """Minimizers of a 2×2 problem by their κ, the balanced ones, and where P sends a pair (paper: Fig. 2)."""
    from synthetic.manifold import manifold as experiment

    ensure_folder(out)
    result = experiment()
    table = Table("minimizers", "κ: smallest, largest", box=None)
    kappa = result.arrays["kappa"]
    table.add_row(str(kappa.size), f"{kappa.min():.3g}, {kappa.max():.3g}")
    _finish(result, out, table, quiet)


def _finish(result: Result, out: Path, table: Table, quiet: bool) -> None:
    """Saves a result, draws its figures and prints its table: the one place that every command passes."""
    from figures import draw_all, names_for

    paths = [*save(result, out), *draw_all(names_for(result.name), out, out)]
    if not quiet:
        console.print(table)
        console.print("saved", *paths)


def _interval(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    interval = line["interval"]
    return f"{line['median']:+.2f}" + (f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else "")


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"--{name} must be comma-separated numbers, not {text!r}") from None


def main() -> None:
    """Runs the command line."""
    run(app)


if __name__ == "__main__":
    main()
