"""Command line of the dynamics: one command per experiment, which saves its result, draws it and prints a table."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorakappa.conditioning.claim_commands import add_claim_commands
from lorakappa.shared import methods as vocabulary
from lorakappa.shared.command_line import console, new_app, say
from lorakappa.shared.method_names import SYNTAX, split_method_names
from lorakappa.shared.options import RESULTS, Out, Quiet, Seed, Seeds, Steps, listed, names, numbers, shapes, strengths
from lorakappa.shared.packages import CLAIMS, PACKAGES
from lorakappa.shared.records import ensure_folder
from lorakappa.synthetic import choices, defaults
from lorakappa.synthetic.arms.command import evidence
from lorakappa.synthetic.defaults import DUEL, GAUGES, RATES, RATIOS
from lorakappa.synthetic.settings import ProblemSettings

if TYPE_CHECKING:
    from rich.table import Table

    from lorakappa.synthetic.results import Result

app = new_app(PACKAGES["synthetic"].summary)
add_claim_commands(app, {"synthetic": CLAIMS["synthetic"]})
app.command()(evidence)

Shape = Annotated[tuple[int, int], typer.Option(help="Rows and columns of AB.")]
Shapes = Annotated[str, typer.Option("--shapes", help="Comma-separated shapes of AB.")]
Rank = Annotated[int, typer.Option(help="Rank r of AB.")]
Target = Annotated[str, typer.Option(help=f"Spectrum of the target: {', '.join(choices.TARGETS)}.")]
Spectrum = Annotated[str, typer.Option(help=f"Kind of spectrum: {', '.join(choices.SPECTRA)}.")]
Decays = Annotated[str, typer.Option(help="Comma-separated parameters of the spectrum.")]
Start = Annotated[str, typer.Option(help=f"Starting point: {', '.join(choices.STARTS)}.")]
InitStd = Annotated[float, typer.Option(help="Standard deviation of the random starting entries.")]
StepSizes = Annotated[str, typer.Option(help='"auto", "auto:N", LO:HI:N, log-spaced, or a list.')]
Select = Annotated[str, typer.Option(help=f"What a step size is chosen by: {', '.join(choices.CRITERIA)}.")]
Lambdas = Annotated[str, typer.Option(help="λ of penalties, of which each method gets its best: LO:HI:N or a list.")]
Methods = Annotated[
    str, typer.Option(help=f"Comma-separated: {', '.join(vocabulary.names('synthetic'))}, each also as {SYNTAX}.")
]
Optimizer = Annotated[str, typer.Option(help=f"Optimizer: {', '.join(choices.OPTIMIZERS)}.")]
FACTORS, POWERS = listed(defaults.RATIOS_FACTORS), listed(defaults.RATIOS_POWERS)
Alignment = Annotated[
    str, typer.Option(help=f"Singular vectors of C and D: {', '.join(choices.ALIGNMENTS)} (the target's).")
]
DUEL_SHAPES = ",".join(f"{rows}x{columns}" for rows, columns in defaults.DUEL_SHAPES)
Spread = Annotated[float, typer.Option(help="Spread of the gauges: 0 is balanced.")]


@app.command()
def convergence(
    loss: Annotated[str, typer.Option(help=f"Loss: {', '.join(choices.LOSSES)}.")] = ProblemSettings.loss,
    shape: Shape = ProblemSettings.shape,
    rank: Rank = ProblemSettings.rank,
    target: Target = ProblemSettings.target,
    start: Start = ProblemSettings.start,
    init_std: InitStd = ProblemSettings.init_std,
    scaling: Annotated[
        float, typer.Option(help="α/r, the factor of AB in the one-layer loss.")
    ] = ProblemSettings.scaling,
    weights: Annotated[
        tuple[float, float], typer.Option(help="Condition numbers of C and D in the weighted loss ½‖C(AB − Z)D‖².")
    ] = ProblemSettings.weights,
    alignment: Alignment = ProblemSettings.alignment,
    optimizer: Optimizer = defaults.OPTIMIZER,
    methods: Methods = listed(defaults.METHODS),
    steps: Steps = defaults.STEPS,
    step_sizes: StepSizes = defaults.STEP_SIZES,
    seeds: Seeds = ProblemSettings.seeds,
    seed: Seed = ProblemSettings.seed,
    select: Select = defaults.SELECT,
    tune: Annotated[
        str, typer.Option(help=f"One best step size or one per seed: {', '.join(choices.TUNING)}.")
    ] = defaults.TUNE,
    lambdas: Lambdas = listed(defaults.STRENGTHS),
    device: Annotated[str | None, typer.Option(help="torch device (cpu, cuda, …); NumPy if left out.")] = None,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> None:
    """Loss curves of several methods from the same starts, each at its own best step size (and λ)."""
    from lorakappa.synthetic.experiments.convergence import convergence as experiment
    from lorakappa.synthetic.tables import convergence_table

    ensure_folder(out)
    result = experiment(
        ProblemSettings(loss, shape, rank, target, start, init_std, scaling, seeds, seed, weights, alignment),
        optimizer=optimizer,
        methods=split_method_names(methods),
        steps=steps,
        step_sizes=step_sizes,
        select=select,
        tune=tune,
        strengths=_strengths(lambdas, split_method_names(methods)),
        device=device,
        quiet=quiet,
    )
    _finish(result, out, convergence_table, quiet)


@app.command()
def rates(
    shape: Shape = RATES.shape,
    rank: Rank = RATES.rank,
    target: Target = RATES.target,
    rules: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(choices.RULES)}.")] = listed(
        defaults.RATES_RULES
    ),
    instances: Annotated[int, typer.Option(help="Random instances per rule.")] = defaults.RATES_INSTANCES,
    spread: Spread = defaults.RATES_SPREAD,
    kappa_max: Annotated[float, typer.Option(help="Draw again above this κ.")] = defaults.RATES_LARGEST_KAPPA,
    steps: Steps = defaults.LONGEST,
    seed: Seed = RATES.seed,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> None:
    """Measured asymptotic contraction against the rates that κ promises."""
    from lorakappa.synthetic.experiments.rates import rates as experiment
    from lorakappa.synthetic.tables import rates_table

    ensure_folder(out)
    result = experiment(
        shape=shape,
        rank=rank,
        target=target,
        rules=names(rules),
        instances=instances,
        spread=spread,
        kappa_max=kappa_max,
        steps=steps,
        seed=seed,
        quiet=quiet,
    )
    _finish(result, out, rates_table, quiet)


@app.command()
def kappa_histogram(
    shape: Shape = ProblemSettings.shape,
    rank: Rank = ProblemSettings.rank,
    target: Target = ProblemSettings.target,
    start: Start = ProblemSettings.start,
    init_std: InitStd = ProblemSettings.init_std,
    draws: Annotated[int, typer.Option(help="Random gauges.")] = defaults.HISTOGRAM_DRAWS,
    limits: Annotated[int, typer.Option(help="GD runs whose limit points are taken.")] = defaults.HISTOGRAM_LIMITS,
    spread: Spread = defaults.HISTOGRAM_SPREAD,
    steps: Steps = defaults.LONGEST,
    seed: Seed = ProblemSettings.seed,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> None:
    """κ of random minimizers and of LoRA's limit points, with the balanced value and both bounds."""
    from lorakappa.synthetic.experiments.kappa_histogram import kappa_histogram as experiment
    from lorakappa.synthetic.tables import histogram_table

    ensure_folder(out)
    problem = ProblemSettings(shape=shape, rank=rank, target=target, start=start, init_std=init_std, seed=seed)
    result = experiment(problem, draws=draws, limits=limits, spread=spread, steps=steps, quiet=quiet)
    _finish(result, out, histogram_table, quiet)


@app.command()
def phase(
    shape: Shape = ProblemSettings.shape,
    rank: Rank = ProblemSettings.rank,
    spectrum: Spectrum = defaults.SPECTRUM,
    decays: Decays = listed(defaults.PHASE_DECAYS),
    init_stds: Annotated[str, typer.Option(help="Comma-separated standard deviations of the start.")] = listed(
        defaults.PHASE_INIT_STDS
    ),
    start: Start = ProblemSettings.start,
    optimizer: Optimizer = defaults.OPTIMIZER,
    methods: Annotated[str, typer.Option(help="Two methods, comma-separated.")] = listed(defaults.METHODS),
    steps: Steps = defaults.STEPS,
    step_sizes: StepSizes = defaults.STEP_SIZES,
    seeds: Seeds = ProblemSettings.seeds,
    seed: Seed = ProblemSettings.seed,
    select: Select = defaults.SELECT,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> None:
    """A map of the gain over spectrum decay × size of the start."""
    from lorakappa.synthetic.experiments.phase import phase as experiment
    from lorakappa.synthetic.tables import phase_table

    ensure_folder(out)
    result = experiment(
        ProblemSettings(shape=shape, rank=rank, start=start, seeds=seeds, seed=seed),
        spectrum=spectrum,
        decays=numbers("decays", decays),
        init_stds=numbers("init-stds", init_stds),
        optimizer=optimizer,
        methods=split_method_names(methods),
        steps=steps,
        step_sizes=step_sizes,
        select=select,
        quiet=quiet,
    )
    _finish(result, out, phase_table, quiet)


@app.command()
def duel(
    methods: Methods = listed(defaults.DUEL_METHODS),
    spectrum: Spectrum = defaults.SPECTRUM,
    decays: Decays = listed(defaults.DUEL_DECAYS),
    sizes: Shapes = DUEL_SHAPES,
    starts: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(choices.STARTS)}.")] = listed(
        defaults.DUEL_STARTS
    ),
    rank: Rank = DUEL.rank,
    init_std: InitStd = DUEL.init_std,
    optimizer: Optimizer = defaults.OPTIMIZER,
    steps: Steps = defaults.DUEL_STEPS,
    step_sizes: StepSizes = defaults.DUEL_STEP_SIZES,
    lambdas: Lambdas = listed(defaults.STRENGTHS),
    seeds: Seeds = DUEL.seeds,
    seed: Seed = DUEL.seed,
    select: Select = defaults.SELECT,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> None:
    """Who wins where: spectrum decay × shape × start, each method at its own best step size and λ."""
    from lorakappa.synthetic.experiments.duel import duel as experiment
    from lorakappa.synthetic.tables import duel_table

    ensure_folder(out)
    result = experiment(
        ProblemSettings(rank=rank, init_std=init_std, seeds=seeds, seed=seed),
        methods=split_method_names(methods),
        spectrum=spectrum,
        decays=numbers("decays", decays),
        shapes=shapes("shapes", sizes),
        starts=names(starts),
        optimizer=optimizer,
        steps=steps,
        step_sizes=step_sizes,
        strengths=_strengths(lambdas, split_method_names(methods)),
        select=select,
        quiet=quiet,
    )
    _finish(result, out, duel_table, quiet)


@app.command()
def gauges(
    methods: Methods = listed(defaults.GAUGES_METHODS),
    conditions_c: Annotated[str, typer.Option(help="Comma-separated condition numbers of C.")] = listed(
        defaults.GAUGES_CONDITIONS
    ),
    conditions_d: Annotated[str, typer.Option(help="Comma-separated condition numbers of D.")] = listed(
        defaults.GAUGES_CONDITIONS
    ),
    optimizers: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(choices.TRAINED)}.")] = listed(
        choices.TRAINED
    ),
    noise: Annotated[
        float, typer.Option(help="Standard deviation of the labels' noise under sgd, against the targets'.")
    ] = defaults.GAUGES_NOISE,
    alignment: Alignment = GAUGES.alignment,
    shape: Shape = GAUGES.shape,
    rank: Rank = GAUGES.rank,
    target: Target = GAUGES.target,
    start: Start = GAUGES.start,
    init_std: InitStd = GAUGES.init_std,
    steps: Steps = defaults.STEPS,
    step_sizes: StepSizes = defaults.DUEL_STEP_SIZES,
    seeds: Seeds = GAUGES.seeds,
    seed: Seed = GAUGES.seed,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> None:
    """Which gauge for which data: ½‖C(AB − Z)D‖² over the condition numbers of C and D, with GD, SGD and Adam."""
    from lorakappa.synthetic.experiments.gauges import gauges as experiment
    from lorakappa.synthetic.tables import gauges_table

    ensure_folder(out)
    result = experiment(
        ProblemSettings("weighted", shape, rank, target, start, init_std, seeds=seeds, seed=seed, alignment=alignment),
        methods=split_method_names(methods),
        conditions_c=numbers("conditions-c", conditions_c),
        conditions_d=numbers("conditions-d", conditions_d),
        optimizers=names(optimizers),
        steps=steps,
        step_sizes=step_sizes,
        noise=noise,
        quiet=quiet,
    )
    _finish(result, out, gauges_table, quiet)


@app.command()
def ratios(
    method: Annotated[str, typer.Option(help="ilora or pilora.")] = defaults.RATIOS_METHOD,
    factors: Annotated[str, typer.Option(help="Comma-separated c of the ratio c·r/m.")] = listed(
        defaults.RATIOS_FACTORS
    ),
    powers: Annotated[str, typer.Option(help="Comma-separated p of the ratio (r/m)^p.")] = listed(
        defaults.RATIOS_POWERS
    ),
    sizes: Shapes = DUEL_SHAPES,
    rank: Rank = RATIOS.rank,
    target: Target = RATIOS.target,
    start: Start = RATIOS.start,
    init_std: InitStd = RATIOS.init_std,
    optimizer: Optimizer = defaults.OPTIMIZER,
    steps: Steps = defaults.DUEL_STEPS,
    step_sizes: StepSizes = defaults.DUEL_STEP_SIZES,
    lambdas: Lambdas = listed(defaults.STRENGTHS),
    seeds: Seeds = RATIOS.seeds,
    seed: Seed = RATIOS.seed,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> None:
    """The ratio of iLoRA: final loss with c·r/m and with (r/m)^p, each at its best step size and λ."""
    from lorakappa.synthetic.experiments.ratios import ratios as experiment
    from lorakappa.synthetic.tables import ratios_table

    ensure_folder(out)
    result = experiment(
        ProblemSettings(rank=rank, target=target, start=start, init_std=init_std, seeds=seeds, seed=seed),
        method=method,
        factors=numbers("factors", factors),
        powers=numbers("powers", powers),
        shapes=shapes("shapes", sizes),
        optimizer=optimizer,
        steps=steps,
        step_sizes=step_sizes,
        strengths=_strengths(lambdas, [method]),
        quiet=quiet,
    )
    _finish(result, out, ratios_table, quiet)


@app.command()
def settle(
    shape: Shape = ProblemSettings.shape,
    rank: Rank = ProblemSettings.rank,
    target: Target = ProblemSettings.target,
    start: Start = ProblemSettings.start,
    init_std: InitStd = ProblemSettings.init_std,
    steps: Steps = defaults.STEPS,
    step_sizes: StepSizes = defaults.STEP_SIZES,
    seeds: Seeds = ProblemSettings.seeds,
    seed: Seed = ProblemSettings.seed,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> None:
    """Whether BaLoRA's gain is the conditioning: same κ, equal κ, matched steps, conserved imbalance."""
    from lorakappa.synthetic.experiments.settle import settle as experiment
    from lorakappa.synthetic.tables import settle_table

    ensure_folder(out)
    problem = ProblemSettings(
        shape=shape, rank=rank, target=target, start=start, init_std=init_std, seeds=seeds, seed=seed
    )
    _finish(experiment(problem, steps=steps, step_sizes=step_sizes, quiet=quiet), out, settle_table, quiet)


@app.command()
def manifold(out: Out = RESULTS, quiet: Quiet = False) -> None:
    """Minimizers of a 2×2 problem by their κ, the balanced ones, and where P sends a pair (paper: Fig. 2)."""
    from lorakappa.synthetic.experiments.manifold import manifold as experiment
    from lorakappa.synthetic.tables import manifold_table

    ensure_folder(out)
    _finish(experiment(), out, manifold_table, quiet)


def _strengths(lambdas: str, chosen: list[str]) -> list[float]:
    """The λ; those that were asked for must be of use to a method."""
    if lambdas != listed(defaults.STRENGTHS):
        vocabulary.check_strengths_used(chosen, "synthetic")
    return strengths(lambdas)


def _finish(result: "Result", out: Path, table: "Callable[[Result], Table]", quiet: bool) -> None:
    """Saves a result, draws its figures and prints its table: the one place that every command passes."""
    from lorakappa.figures import draw_saved
    from lorakappa.synthetic.results import save

    paths = [*save(result, out), *draw_saved(result.name, out)]
    if not quiet:
        console.print(table(result))
        say("saved", *paths)
