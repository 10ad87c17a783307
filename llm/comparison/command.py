"""The commands `compare`, `finetune`, `methods` and `presets`."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorakappa.llm.comparison.settings import SCHEDULES
from lorakappa.llm.data.options import Columns, Data, Dtype, Model, Modules, chosen_data
from lorakappa.shared.command_line import console, say
from lorakappa.shared.options import RESULTS, Jobs, Out, Quiet, Seed, integers, names

if TYPE_CHECKING:
    from lorakappa.llm.comparison.presets import Preset
    from lorakappa.llm.comparison.protocol import Outcome

PresetName = Annotated[str | None, typer.Option("--preset", help="Settings to start from (`presets` lists them).")]
Examples = Annotated[str | None, typer.Option(help="TRAIN,VALIDATION,TEST numbers of examples.")]
PresetSteps = Annotated[int | None, typer.Option(help="Optimizer steps of every run.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples per micro-batch.")]
Accumulation = Annotated[int | None, typer.Option(help="Micro-batches per step.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens per example; longer ones are dropped.")]
Schedule = Annotated[str | None, typer.Option(help=f"Learning rate: {', '.join(SCHEDULES)}.")]
Warmup = Annotated[float | None, typer.Option(help="Share of the steps of warm-up from 0.")]
WeightDecay = Annotated[float | None, typer.Option(help="Of AdamW.")]
Clip = Annotated[float | None, typer.Option(help="Largest gradient norm; 0 for none.")]
Dropout = Annotated[float | None, typer.Option(help="Of the adapter.")]
Targets = Annotated[str | None, typer.Option(help="Module names, comma-separated; all linear ones by default.")]
Evaluations = Annotated[int | None, typer.Option(help="Measurements of the validation loss beside the start.")]
Generate = Annotated[int | None, typer.Option(help="Test examples answered by greedy decoding.")]
Checkpointing = Annotated[bool | None, typer.Option(help="Recompute activations to save memory.")]
CheckpointEvery = Annotated[int | None, typer.Option(help="Steps between checkpoints to resume from; 0 for none.")]


def compare(
    context: typer.Context,
    study: Annotated[
        str | None, typer.Option("--study", help="A study: a file FILE.toml, or tiny, smoke, balora-dm-math.")
    ] = None,
    preset: PresetName = None,
    model: Model = None,
    dtype: Dtype = None,
    data: Data = None,
    modules: Modules = "",
    columns: Columns = None,
    examples: Examples = None,
    methods: Annotated[str | None, typer.Option(help="Comma-separated (`methods` lists them); baseline first.")] = None,
    ranks: Annotated[str | None, typer.Option(help="Values of r, comma-separated.")] = None,
    learning_rates: Annotated[str | None, typer.Option(help="LO:HI:N, log-spaced, or a list.")] = None,
    scalings: Annotated[str | None, typer.Option(help="Values of α/r: LO:HI:N or a list.")] = None,
    lambdas: Annotated[str | None, typer.Option(help="Values of iLoRA's λ: LO:HI:N or a list.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of paired seeds.")] = None,
    seed: Seed = 0,
    extensions: Annotated[int | None, typer.Option(min=0, help="Learning rates added beyond an edge.")] = None,
    steps: PresetSteps = None,
    batch_size: BatchSize = None,
    accumulation: Accumulation = None,
    max_length: MaxLength = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    weight_decay: WeightDecay = None,
    clip: Clip = None,
    dropout: Dropout = None,
    targets: Targets = None,
    evaluations: Evaluations = None,
    generate: Generate = None,
    gradient_checkpointing: Checkpointing = None,
    checkpoint_every: CheckpointEvery = None,
    jobs: Jobs = None,
    cluster: Annotated[str | None, typer.Option(help="slurm: each run is a job of an array (submitit).")] = None,
    cluster_options: Annotated[
        str, typer.Option(help="KEY=VALUE,… for submitit: slurm_partition, timeout_min, gpus_per_node, …")
    ] = "",
    save_adapters: Annotated[bool, typer.Option("--save-adapters", help="Keep the adapter of every run.")] = False,
    evidence: Annotated[
        Path | None, typer.Option(help="Of a study: folder to keep its records in as evidence.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Of a study: say what it will take, no more.")] = False,
    out: Out = RESULTS,
    quiet: Quiet = False,
) -> int:
    """Compare methods, each at its own best learning rate; the same command goes on where it was stopped."""
    from lorakappa.figures.drawing import draw_saved
    from lorakappa.llm.comparison import protocol
    from lorakappa.llm.comparison.presets import preset_for
    from lorakappa.llm.comparison.studies.forecast import note_memory
    from lorakappa.llm.comparison.summary import save
    from lorakappa.llm.comparison.workers import default_jobs, executor_for
    from lorakappa.llm.data.sources import load_splits
    from lorakappa.shared.method_names import split_method_names
    from lorakappa.shared.methods import check_strengths_used
    from lorakappa.shared.records import ensure_folder

    if study is not None:
        from lorakappa.llm.comparison.studies.command import compare_study

        _only_with_studies(context)
        return compare_study(
            study,
            model=model,
            data=data,
            jobs=jobs or default_jobs(),
            execute=lambda: executor_for(cluster, cluster_options, jobs),
            out=out,
            evidence=evidence,
            dry_run=dry_run,
            quiet=quiet,
        )
    if evidence is not None or dry_run:
        raise ValueError("--evidence and --dry-run go with --study")
    ensure_folder(out)
    chosen = preset_for(model, preset)
    settings = _changed(
        chosen.plan.settings,
        dtype=dtype,
        steps=steps,
        batch_size=batch_size,
        accumulation=accumulation,
        max_length=max_length,
        schedule=schedule,
        warmup=warmup,
        weight_decay=weight_decay,
        clip=clip,
        dropout=dropout,
        targets=None if targets is None else tuple(names(targets)),
        evaluations=_evaluations(chosen, evaluations, steps),
        generate=generate,
        gradient_checkpointing=gradient_checkpointing,
        checkpoint_every=checkpoint_every,
    )
    plan = _changed(
        chosen.plan,
        methods=None if methods is None else tuple(split_method_names(methods)),
        ranks=None if ranks is None else tuple(integers("ranks", ranks)),
        learning_rates=None if learning_rates is None else protocol.parse_grid(learning_rates),
        scalings=None if scalings is None else protocol.parse_grid(scalings),
        strengths=None if lambdas is None else protocol.parse_grid(lambdas),
        seeds=_paired_seeds(seed, len(chosen.plan.seeds) if seeds is None else seeds),
        extensions=extensions,
        settings=settings,
    )
    if lambdas is not None:
        check_strengths_used(plan.methods, "llm")
    if extensions and len(plan.learning_rates) == 1:
        raise ValueError("--extensions has no effect on a single learning rate, which is no grid")
    execute = executor_for(cluster, cluster_options, jobs)
    splits = load_splits(data or chosen.data, **_data_options(chosen, data, modules, columns, examples), seed=0)
    if cluster is None and not quiet:
        note_memory(settings, max(plan.ranks), splits, jobs=jobs or default_jobs())
    outcome = protocol.compare(
        plan,
        splits,
        out / "llm-compare",
        jobs=jobs or default_jobs(),
        keep_adapters=save_adapters,
        execute=execute,
        quiet=quiet,
    )
    _check_trained(outcome)
    files = save(outcome, out)
    if not quiet:
        _print_comparison(outcome)
    for failure in outcome.failures:
        say("failed:", failure)
    if save_adapters and (without := _without_adapter(outcome, out / "llm-compare")):
        say(f"{without} runs were made before without --save-adapters: delete their records to repeat them")
    drawn = draw_saved("llm-compare", out)
    if not quiet:
        say("saved", *files, *drawn)
    return int(bool(outcome.failures))


def finetune(
    method: Annotated[str, typer.Argument(help="Name of a method (`methods` lists them).")] = "balora",
    rank: Annotated[int, typer.Option(min=1, help="r.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Peak of the schedule.")] = 1e-3,
    scaling: Annotated[float, typer.Option(help="α/r, which multiplies AB.")] = 1.0,
    seed: Seed = 0,
    preset: PresetName = None,
    model: Model = None,
    dtype: Dtype = None,
    data: Data = None,
    modules: Modules = "",
    columns: Columns = None,
    examples: Examples = None,
    steps: PresetSteps = None,
    batch_size: BatchSize = None,
    accumulation: Accumulation = None,
    max_length: MaxLength = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    gradient_checkpointing: Checkpointing = None,
    checkpoint_every: CheckpointEvery = None,
    generate: Generate = None,
    weight_decay: WeightDecay = None,
    clip: Clip = None,
    dropout: Dropout = None,
    targets: Targets = None,
    evaluations: Evaluations = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for the adapter.")] = RESULTS / "adapter",
    quiet: Quiet = False,
) -> None:
    """Fine-tune one adapter; `accelerate launch -m lorakappa.llm finetune` does so on several GPUs."""
    import shutil

    from lorakappa.llm.comparison.finetuning import finetune as train
    from lorakappa.llm.comparison.leftovers import nothing_left
    from lorakappa.llm.comparison.presets import preset_for
    from lorakappa.llm.comparison.runs import Task
    from lorakappa.llm.comparison.settings import Run
    from lorakappa.llm.data.sources import load_splits
    from lorakappa.shared.methods import parse_method_name
    from lorakappa.shared.records import ensure_folder, write_json

    if "LOCAL_RANK" not in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one process, one GPU: no DataParallel
    ensure_folder(out)
    chosen = preset_for(model, preset)
    settings = _changed(
        chosen.plan.settings,
        dtype=dtype,
        steps=steps,
        batch_size=batch_size,
        accumulation=accumulation,
        max_length=max_length,
        schedule=schedule,
        warmup=warmup,
        gradient_checkpointing=gradient_checkpointing,
        checkpoint_every=checkpoint_every,
        generate=generate,
        weight_decay=weight_decay,
        clip=clip,
        dropout=dropout,
        targets=None if targets is None else tuple(names(targets)),
        evaluations=_evaluations(chosen, evaluations, steps),
    )
    run = Run(method, rank, scaling, learning_rate, seed)
    parse_method_name(method, "llm")
    splits = load_splits(data or chosen.data, **_data_options(chosen, data, modules, columns, examples), seed=0)
    key = Task(run, settings, out, splits.digest, out).key  # other settings do not resume from here
    work = out.with_name(f"{out.name}-checkpoints-{key[-12:]}")
    with nothing_left(work):
        record = train(run, settings, splits, work=work, adapter=out, quiet=quiet)
    if int(os.environ.get("RANK", "0")) != 0:
        return
    shutil.rmtree(work, ignore_errors=True)  # or the next run would go on from its end
    found = record["train_info"]
    if found["status"] != "success":
        raise ValueError(f"the training diverged: {record['run_info']['error_msg']}; try a lower --learning-rate")
    last = found["metrics"][-1]
    file = write_json(out / "record.json", record)
    if not quiet:
        say(f"validation loss {last['valid loss']:.4g}, test loss {found['test_loss']:.4g} nats per answer token")
        say("saved", out, file)


def methods() -> None:
    """List the methods that `compare` knows, where they come from and their options."""
    from rich.table import Table

    from lorakappa.shared.method_names import SYNTAX
    from lorakappa.shared.methods import VOCABULARY, differences
    from lorakappa.shared.methods import names as method_names

    table = Table("method", "what it is", "from", "options", box=None)
    for name in method_names("llm"):
        method = VOCABULARY[name]
        table.add_row(name, method.summary, method.source, method.show_options("llm"))
    console.print(table)
    console.print(f"\n{SYNTAX}, e.g. ilora:lambda=0.1,factor=2 or balora@10, its map every 10 steps")
    console.print("Beside the simulator (synthetic):", *(f"- {sentence}" for sentence in differences()), sep="\n")


def presets() -> None:
    """List the presets of `compare`."""
    from rich.table import Table

    from lorakappa.llm.comparison.presets import PRESETS

    table = Table(box=None)
    for head in ("preset", "what it is", "model", "data"):
        table.add_column(head, overflow="fold")
    for name, preset in PRESETS.items():
        table.add_row(name, preset.summary, preset.plan.settings.model, preset.data)
    console.print(table)
    named: dict[tuple[str, str], list[str]] = {}
    for name, preset in PRESETS.items():
        if preset.known:
            named.setdefault((preset.known, preset.ours), []).append(name)
    for (known, ours), presets in named.items():
        some = ", ".join(presets) if len(presets) < 4 else f"{presets[0]} … {presets[-1]}"
        console.print(f"\n{some}\n  known: {known}\n  ours: {ours}")


WITH_STUDIES = ("study", "model", "data", "jobs", "cluster", "cluster_options", "out", "evidence", "dry_run", "quiet")
"""Parameters of `compare` that go with --study; a study's file says the rest."""


def _only_with_studies(context: typer.Context) -> None:
    """Refuses options that a study's file decides.

    Raises:
        ValueError: naming one that was given.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE" and parameter.name not in WITH_STUDIES:
            raise ValueError(f"{parameter.opts[0]} has no effect with --study: the study's file decides it")


def _changed(base: Any, **values: Any) -> Any:
    """A dataclass with those values replaced that are not None."""
    return replace(base, **{name: value for name, value in values.items() if value is not None})


def _evaluations(preset: "Preset", evaluations: int | None, steps: int | None) -> int | None:
    """The number asked for; else the preset's, unless that is more than there are steps."""
    if evaluations is not None or steps is None:
        return evaluations
    return max(1, min(preset.plan.settings.evaluations, steps))


def _data_options(
    preset: "Preset", data: str | None, modules: str, columns: str | None, examples: str | None
) -> dict[str, Any]:
    """Arguments of `load_splits`: the preset's columns and sizes go with its own data unless overridden."""
    sizes = preset.sizes if examples is None else tuple(integers("examples", examples))
    if len(sizes) != 3:
        raise ValueError(f"--examples wants three numbers, TRAIN,VALIDATION,TEST, not {examples!r}")
    chosen = chosen_data(modules, columns)
    if data is None and columns is None:
        chosen["columns"] = preset.columns
    return {
        **chosen,
        "resplit": preset.resplit and data is None,
        **dict(zip(("train", "validation", "test"), sizes, strict=True)),
    }


MOST_SEEDS = 10_000
"""Of one comparison."""


def _paired_seeds(first: int, count: int) -> tuple[int, ...]:
    """The seeds from the first one on."""
    if count > MOST_SEEDS:
        raise ValueError(f"--seeds must be at most {MOST_SEEDS}, not {count}")
    return tuple(range(first, first + count))


def _without_adapter(outcome: "Outcome", folder: Path) -> int:
    """Number of trained runs of a comparison whose adapter was not kept."""
    trained = [
        record for group in outcome.records.values() for record in group if record["train_info"]["status"] == "success"
    ]
    kept = len(list((folder / "adapters").glob("*/adapter_config.json")))
    return max(0, len(trained) - kept)


def _check_trained(outcome: "Outcome") -> None:
    """Tells a comparison without a single trained run as what it is, with the first reason.

    Raises:
        ValueError: if no run has trained to its end; results of earlier comparisons are left as they are.
    """
    records = [record for group in outcome.records.values() for record in group]
    if any(record["train_info"]["status"] == "success" for record in records):
        return
    if outcome.failures:
        others = f" and {len(records)} diverged" if records else ""
        raise ValueError(
            f"no run has trained: {len(outcome.failures)} failed{others}; the first: {outcome.failures[0]}"
        )
    reason = records[0]["run_info"]["error_msg"] if records else "there are none"
    raise ValueError(f"all {len(records)} runs diverged; try lower --learning-rates (the first: {reason})")


def _print_comparison(outcome: "Outcome") -> None:
    """The best cells, and what they say on the claims; verdicts on record are about the tiny model and not shown."""
    from rich.table import Table

    from lorakappa.llm.comparison.claims import verdicts
    from lorakappa.llm.comparison.summary import comparison_table

    console.print(comparison_table(outcome))
    table = Table("claim", "verdict", "what it rests on", box=None)
    for verdict in verdicts(outcome):
        table.add_row(verdict.claim.id, verdict.verdict, verdict.note)
    if table.row_count:
        console.print()
        console.print(table)
