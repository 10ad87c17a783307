"""Command line of the dynamics: `python -m synthetic convergence | duel | rates | phase | settle | …`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from lorakappa.conditioning.verification import Claim
from lorakappa.conditioning.verification.command import add_claim_commands
from lorakappa.shared.command_line import console, new_app, run
from lorakappa.shared.method_names import SYNTAX, split_method_names
from lorakappa.shared.methods import names as method_names
from lorakappa.shared.records import ensure_folder
from lorakappa.synthetic.experiments.duel import GRID as DUEL_GRID
from lorakappa.synthetic.experiments.duel import METHODS as DUELLISTS
from lorakappa.synthetic.experiments.duel import STEPS as DUEL_STEPS
from lorakappa.synthetic.optimizers import OPTIMIZERS
from lorakappa.synthetic.problems import LOSSES, ProblemSettings
from lorakappa.synthetic.results import Result, save
from lorakappa.synthetic.selection import CRITERIA, TUNING
from lorakappa.synthetic.targets import STARTS, TARGETS
from lorakappa.synthetic.tuning import STRENGTHS

app = new_app("Simulated training with LoRA, BaLoRA, iLoRA and others, and measured rates against the bounds.")


def load_claims() -> Mapping[str, Claim]:
    """The claims of this package."""
    from lorakappa.synthetic.claims import CLAIMS

    return CLAIMS


add_claim_commands(app, load_claims, "synthetic")

ALL_STRENGTHS = ",".join(f"{strength:g}" for strength in STRENGTHS)

CHOICES = ", ".join(method_names("synthetic"))

ALL_DUELLISTS = ",".join(DUELLISTS)

Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar and no table.")]
Seed = Annotated[int, typer.Option(help="Root seed.")]
Seeds = Annotated[int, typer.Option(help="Paired instances (targets and starts).")]
Shape = Annotated[tuple[int, int], typer.Option(help="Rows and columns of AB.")]
Rank = Annotated[int, typer.Option(help="Rank r of AB.")]
Target = Annotated[str, typer.Option(help=f"Spectrum: {', '.join(TARGETS)}.")]
Start = Annotated[str, typer.Option(help=f"Starting point: {', '.join(STARTS)}.")]
InitStd = Annotated[float, typer.Option(help="Standard deviation of the random starting entries.")]
Steps = Annotated[int, typer.Option(help="Number of steps.")]
StepSizes = Annotated[str, typer.Option(help='"auto", "auto:N", one number, or LO:HI:N, log-spaced.')]
Select = Annotated[str, typer.Option(help=f"What a step size is chosen by: {', '.join(CRITERIA)}.")]
Lambdas = Annotated[str, typer.Option(help="Comma-separated λ of penalties, of which each method gets its best.")]
Methods = Annotated[str, typer.Option(help=f"Comma-separated: {CHOICES}, each also as {SYNTAX}.")]
OptimizerName = Annotated[str, typer.Option(help=f"Optimizer: {', '.join(OPTIMIZERS)}.")]


@app.command()
def convergence(
    loss: Annotated[str, typer.Option(help=f"Loss: {', '.join(LOSSES)}.")] = "one-layer",
    shape: Shape = (20, 20),
    rank: Rank = 4,
    target: Target = "gaussian",
    start: Start = "lora",
    init_std: InitStd = 1.0,
    scaling: Annotated[float, typer.Option(help="α/r, the factor of AB in the one-layer loss.")] = 1.0,
    optimizer: OptimizerName = "gd",
    methods: Methods = "lora,balora",
    steps: Steps = 100,
    step_sizes: StepSizes = "auto",
    seeds: Seeds = 8,
    seed: Seed = 0,
    select: Select = "final",
    tune: Annotated[str, typer.Option(help=f"One best step size or one per seed: {', '.join(TUNING)}.")] = "shared",
    lambdas: Lambdas = ALL_STRENGTHS,
    device: Annotated[str | None, typer.Option(help="torch device (cpu, cuda, …); NumPy if left out.")] = None,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Loss curves of several methods from the same starts, each at its own best step size (and λ)."""
    from lorakappa.synthetic.experiments.convergence import convergence as experiment

    ensure_folder(out)
    settings = ProblemSettings(loss, shape, rank, target, start, init_std, scaling, seeds, seed)
    result = experiment(
        settings,
        optimizer=optimizer,
        methods=split_method_names(methods),
        steps=steps,
        step_sizes=step_sizes,
        select=select,
        tune=tune,
        strengths=_numbers("lambdas", lambdas),
        device=device,
        quiet=quiet,
    )
    table = Table(box=None)
    table.add_column("method", no_wrap=True)
    for name in ("step size", "λ", "median f − f*", "diverged", "trajectories/s", "log10 gain [95 %]"):
        table.add_column(name)
    gains = {line["method"]: _interval(line.get("log10_gain")) for line in result.meta["comparisons"]}
    for line in result.meta["summary"]:
        edge = " (edge of the grid)" if line["best_at_edge_of_grid"] else ""
        table.add_row(
            line["method"],
            ", ".join(f"{gamma:.3g}" for gamma in line["step_size"][:3]) + edge,
            ", ".join(f"{strength:g}" for strength in line["lambda"] or ())
            + (" (edge)" if line["best_lambda_at_edge"] else ""),
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
    steps: Annotated[int, typer.Option(help="Steps of every run, at most.")] = 20_000,
    seed: Seed = 0,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Measured asymptotic contraction against the rates that κ promises."""
    from lorakappa.synthetic.experiments.rates import rates as experiment

    ensure_folder(out)
    result = experiment(
        shape=shape,
        rank=rank,
        target=target,
        rules=[name.strip() for name in rules.split(",") if name.strip()],
        instances=instances,
        spread=spread,
        kappa_max=kappa_max,
        steps=steps,
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
    init_std: InitStd = 1.0,
    draws: Annotated[int, typer.Option(help="Random gauges.")] = 1000,
    limits: Annotated[int, typer.Option(help="GD runs whose limit points are taken.")] = 100,
    spread: Annotated[float, typer.Option(help="Spread of the gauges.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Steps of every GD run, at most.")] = 20_000,
    seed: Seed = 0,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """κ of random minimizers and of LoRA's limit points, with the balanced value and both bounds."""
    from lorakappa.synthetic.experiments.kappa_histogram import kappa_histogram as experiment

    ensure_folder(out)
    settings = ProblemSettings(shape=shape, rank=rank, target=target, start=start, init_std=init_std, seed=seed)
    result = experiment(settings, draws=draws, limits=limits, spread=spread, steps=steps, quiet=quiet)
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
    spectrum: Annotated[str, typer.Option(help="Kind of spectrum: geometric or power-law.")] = "geometric",
    decays: Annotated[str, typer.Option(help="Comma-separated parameters of the spectrum.")] = "0.5,0.6,0.7,0.8,0.9",
    init_stds: Annotated[str, typer.Option(help="Comma-separated values of --init-std.")] = "0.01,0.03,0.1,0.3,1",
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
    """A map of the gain over spectrum decay × standard deviation of the start."""
    from lorakappa.synthetic.experiments.phase import phase as experiment

    ensure_folder(out)
    names = split_method_names(methods)
    result = experiment(
        ProblemSettings(shape=shape, rank=rank, start=start, seeds=seeds, seed=seed),
        spectrum=spectrum,
        decays=_numbers("decays", decays),
        init_stds=_numbers("init-stds", init_stds),
        optimizer=optimizer,
        methods=names,
        steps=steps,
        step_sizes=step_sizes,
        select=select,
        quiet=quiet,
    )
    table = Table("decay \\ init std", *(f"{init_std:g}" for init_std in result.arrays["init_stds"]), box=None)
    for decay, row in zip(result.arrays["decays"], result.arrays["gain"], strict=True):
        table.add_row(f"{decay:g}", *(f"{gain:+.2f}" for gain in row))
    _finish(result, out, table, quiet)


@app.command()
def duel(
    methods: Methods = ALL_DUELLISTS,
    spectrum: Annotated[str, typer.Option(help="Kind of spectrum: geometric or power-law.")] = "geometric",
    decays: Annotated[str, typer.Option(help="Comma-separated parameters of the spectrum.")] = "0.5,0.7,0.9",
    shapes: Annotated[str, typer.Option(help="Comma-separated shapes of AB.")] = "40x10,20x20,10x40",
    starts: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(STARTS)}.")] = "lora,balanced,gaussian",
    rank: Rank = 4,
    init_std: InitStd = 0.3,
    optimizer: OptimizerName = "gd",
    steps: Steps = DUEL_STEPS,
    step_sizes: StepSizes = DUEL_GRID,
    lambdas: Lambdas = ALL_STRENGTHS,
    seeds: Seeds = 8,
    seed: Seed = 0,
    select: Select = "final",
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Who wins where: spectrum decay × shape × start, each method at its own best step size and λ."""
    from lorakappa.synthetic.experiments.duel import TIE
    from lorakappa.synthetic.experiments.duel import duel as experiment

    ensure_folder(out)
    result = experiment(
        ProblemSettings(rank=rank, init_std=init_std, seeds=seeds, seed=seed),
        methods=split_method_names(methods),
        spectrum=spectrum,
        decays=_numbers("decays", decays),
        shapes=_shapes(shapes),
        starts=[name.strip() for name in starts.split(",") if name.strip()],
        optimizer=optimizer,
        steps=steps,
        step_sizes=step_sizes,
        strengths=_numbers("lambdas", lambdas),
        select=select,
        quiet=quiet,
    )
    arrays, meta = result.arrays, result.meta
    baseline, *others = meta["methods"]
    table = Table("decay", "shape", "start", "winner", box=None)
    table.add_column("ahead by [95 %]", no_wrap=True)
    for name in (f"log10 {baseline}", *(f"+ {name}" for name in others)):
        table.add_column(name, justify="right")
    for i, j, k in np.ndindex(*arrays["winner"].shape):
        winner, (median, low, high) = arrays["winner"][i, j, k], arrays["margin"][i, j, k]
        base = np.median(arrays["log10"][i, j, k, 0])
        table.add_row(
            f"{arrays['decays'][i]:g}",
            "×".join(str(size) for size in arrays["shapes"][j]),
            meta["starts"][k],
            meta["methods"][winner] if winner >= 0 else "tie" if winner == TIE else "–",
            "" if np.isnan(median) else _interval({"median": median, "interval": (low, high)}),
            f"{base:.2f}",
            *(f"{gain:+.2f}" for gain in arrays["gain"][i, j, k, 1:]),
        )
    table.caption = "won: " + ", ".join(f"{name} {wins}" for name, wins in meta["wins"].items())
    table.caption += f"; ties {meta['ties']}; + METHOD: decades gained over {baseline}"
    _finish(result, out, table, quiet)


@app.command()
def ratios(
    method: Annotated[str, typer.Option(help="ilora or pilora.")] = "ilora",
    factors: Annotated[str, typer.Option(help="Comma-separated c of the ratio c·r/m.")] = "0.0625,0.25,0.5,1,2,4,16",
    powers: Annotated[str, typer.Option(help="Comma-separated p of the ratio (r/m)^p.")] = "-1,0,0.5,1,1.5,2",
    shapes: Annotated[str, typer.Option(help="Comma-separated shapes of AB.")] = "40x10,20x20,10x40",
    rank: Rank = 4,
    target: Target = "geometric:0.7",
    start: Start = "lora",
    init_std: InitStd = 0.3,
    optimizer: OptimizerName = "gd",
    steps: Steps = DUEL_STEPS,
    step_sizes: StepSizes = DUEL_GRID,
    lambdas: Lambdas = ALL_STRENGTHS,
    seeds: Seeds = 8,
    seed: Seed = 0,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """ILoRA's ratio: final loss with c·r/m and with (r/m)^p, each at its best step size and λ."""
    from lorakappa.synthetic.experiments.ratios import ratios as experiment

    ensure_folder(out)
    result = experiment(
        ProblemSettings(rank=rank, target=target, start=start, init_std=init_std, seeds=seeds, seed=seed),
        method=method,
        factors=_numbers("factors", factors),
        powers=_numbers("powers", powers),
        shapes=_shapes(shapes),
        optimizer=optimizer,
        steps=steps,
        step_sizes=step_sizes,
        strengths=_numbers("lambdas", lambdas),
        quiet=quiet,
    )
    sizes = ["×".join(str(size) for size in shape) for shape in result.arrays["shapes"]]
    table = Table("variant", *(f"log10 {size}" for size in sizes), box=None)
    table.columns[0].no_wrap = True
    for name, row in zip(result.meta["variants"], np.median(result.arrays["log10"], axis=-1).T, strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in row))
    _finish(result, out, table, quiet)


@app.command()
def settle(
    shape: Shape = (20, 20),
    rank: Rank = 4,
    target: Target = "gaussian",
    start: Start = "lora",
    init_std: InitStd = 1.0,
    steps: Steps = 100,
    step_sizes: StepSizes = "auto",
    seeds: Seeds = 8,
    seed: Seed = 0,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Whether BaLoRA's gain is the conditioning: same κ, equal κ, matched steps, conserved imbalance."""
    from lorakappa.synthetic.experiments.settle import settle as experiment

    ensure_folder(out)
    settings = ProblemSettings(
        shape=shape, rank=rank, target=target, start=start, init_std=init_std, seeds=seeds, seed=seed
    )
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
    from lorakappa.synthetic.experiments.manifold import manifold as experiment

    ensure_folder(out)
    result = experiment()
    table = Table("minimizers", "κ: smallest, largest", box=None)
    kappa = result.arrays["kappa"]
    table.add_row(str(kappa.size), f"{kappa.min():.3g}, {kappa.max():.3g}")
    _finish(result, out, table, quiet)


def _finish(result: Result, out: Path, table: Table, quiet: bool) -> None:
    """Saves a result, draws its figures and prints its table: the one place that every command passes."""
    from lorakappa.figures import draw_all, names_for

    paths = [*save(result, out), *draw_all(names_for(result.name), out, out)]
    if not quiet:
        console.print(table)
        console.print("saved", *paths)


def _interval(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    low, high = line["interval"] or (np.nan, np.nan)
    return f"{line['median']:+.2f}" + ("" if np.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"--{name} must be comma-separated numbers, not {text!r}") from None


def _shapes(text: str) -> list[tuple[int, int]]:
    shapes = []
    for part in (part.strip() for part in text.split(",") if part.strip()):
        rows, _, columns = part.replace("×", "x").partition("x")
        if not (rows.isdecimal() and columns.isdecimal()):
            raise ValueError(f"--shapes must be comma-separated like 40x10, not {part!r}")
        shapes.append((int(rows), int(columns)))
    return shapes


def main() -> None:
    """Runs the command line."""
    run(app)


if __name__ == "__main__":
    main()
