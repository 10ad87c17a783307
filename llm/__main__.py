"""Command line for real models: `python -m llm compare | finetune | curvature | audit | balance | …`."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from lorakappa.conditioning.projection import GAUGES
from lorakappa.conditioning.verification import Claim
from lorakappa.conditioning.verification.command import add_claim_commands
from lorakappa.shared.command_line import console, new_app, run
from lorakappa.shared.method_names import SYNTAX, split_method_names
from lorakappa.shared.methods import VOCABULARY, differences
from lorakappa.shared.methods import names as method_names
from lorakappa.shared.records import ensure_folder, ensure_writable, provenance, write_json

app = new_app("LoRA on real language models: methods compared, adapters audited and balanced.")


def load_claims() -> Mapping[str, Claim]:
    """The claims of this room."""
    from lorakappa.llm.comparison.claims import CLAIMS

    return CLAIMS


add_claim_commands(app, load_claims, "llm")

AdapterFolder = Annotated[Path, typer.Argument(help="Folder written by PEFT's save_pretrained.")]
PresetName = Annotated[str | None, typer.Option("--preset", help="Settings to start from (`presets` lists them).")]
Model = Annotated[
    str | None, typer.Option(help='"tiny", a hub id or a folder; without a GPU tiny, with one Qwen/Qwen2.5-3B.')
]
Dtype = Annotated[str | None, typer.Option(help="Of the base model: float32 or bfloat16.")]
Data = Annotated[
    str | None,
    typer.Option(help='"mathematics" (generated), DeepMind\'s folder or tarball, a hub id, a folder or a file.'),
]
Modules = Annotated[str, typer.Option(help="Modules of DeepMind Mathematics, comma-separated.")]
Columns = Annotated[str | None, typer.Option(help="PROMPT,COMPLETION columns, if not called that.")]
Examples = Annotated[str | None, typer.Option(help="TRAIN,VALIDATION,TEST numbers of examples.")]
Budget = Annotated[int | None, typer.Option(help="Optimizer steps of every run.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples per micro-batch.")]
Accumulation = Annotated[int | None, typer.Option(help="Micro-batches per step.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens per example; longer ones are dropped.")]
Schedule = Annotated[str | None, typer.Option(help="Learning rate: constant, linear or cosine.")]
Warmup = Annotated[float | None, typer.Option(help="Share of the steps of warm-up from 0.")]
WeightDecay = Annotated[float | None, typer.Option(help="Of AdamW.")]
Clip = Annotated[float | None, typer.Option(help="Largest gradient norm; 0 for none.")]
Dropout = Annotated[float | None, typer.Option(help="Of the adapter.")]
Targets = Annotated[str | None, typer.Option(help="Module names, comma-separated; all linear ones by default.")]
Evaluations = Annotated[int | None, typer.Option(help="Measurements of the validation loss beside the start.")]
Generate = Annotated[int | None, typer.Option(help="Test examples answered by greedy decoding.")]
Checkpointing = Annotated[bool | None, typer.Option(help="Recompute activations to save memory.")]
CheckpointEvery = Annotated[int | None, typer.Option(help="Steps between checkpoints to resume from; 0 for none.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar and no table.")]


@app.command()
def compare(
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
    scales: Annotated[str | None, typer.Option(help="Values of α/r: LO:HI:N or a list.")] = None,
    lambdas: Annotated[str | None, typer.Option(help="Values of iLoRA's λ: LO:HI:N or a list.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of paired seeds.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    extensions: Annotated[int | None, typer.Option(min=0, help="Learning rates added beyond an edge.")] = None,
    budget: Budget = None,
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
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; one per GPU, or per core for the tiny model.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="slurm: each run is a job of an array (submitit).")] = None,
    cluster_options: Annotated[
        str, typer.Option(help="KEY=VALUE,… for submitit: slurm_partition, timeout_min, gpus_per_node, …")
    ] = "",
    save_adapters: Annotated[bool, typer.Option("--save-adapters", help="Keep the adapter of every run.")] = False,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Compare methods, each at its own best learning rate; the same command goes on where it was stopped."""
    from functools import partial

    from lorakappa.llm.comparison import compare as comparison
    from lorakappa.llm.comparison.presets import preset_for
    from lorakappa.llm.comparison.runs import submit_runs
    from lorakappa.llm.comparison.summary import save
    from lorakappa.llm.data.splits import load_splits

    ensure_folder(out)
    chosen = preset_for(model, preset)
    settings = _changed(
        chosen.plan.settings,
        dtype=dtype,
        steps=budget,
        batch_size=batch_size,
        accumulation=accumulation,
        max_length=max_length,
        schedule=schedule,
        warmup=warmup,
        weight_decay=weight_decay,
        clip=clip,
        dropout=dropout,
        targets=None if targets is None else tuple(_names(targets)),
        evaluations=_evaluations(chosen, evaluations, budget),
        generate=generate,
        gradient_checkpointing=gradient_checkpointing,
        checkpoint_every=checkpoint_every,
    )
    plan = _changed(
        chosen.plan,
        methods=None if methods is None else tuple(split_method_names(methods)),
        ranks=None if ranks is None else tuple(_integers(ranks)),
        learning_rates=None if learning_rates is None else comparison.parse_grid(learning_rates),
        scales=None if scales is None else comparison.parse_grid(scales),
        strengths=None if lambdas is None else comparison.parse_grid(lambdas),
        seeds=tuple(range(seed, seed + (len(chosen.plan.seeds) if seeds is None else seeds))),
        extensions=extensions,
        settings=settings,
    )
    splits = load_splits(data or chosen.data, **_data_options(chosen, data, modules, columns, examples), seed=0)
    execute = None
    if cluster is not None:
        execute = partial(submit_runs, cluster=cluster, parameters=_key_values(cluster_options))
    outcome = comparison.compare(
        plan,
        splits,
        out / "llm-compare",
        jobs=jobs or _default_jobs(),
        keep_adapters=save_adapters,
        execute=execute,
        quiet=quiet,
    )
    files = save(outcome, out)
    if not quiet:
        _print_comparison(outcome)
    for failure in outcome.failures:
        console.print("failed:", failure)
    _finish(files, "llm-compare", out, quiet)


@app.command()
def finetune(
    method: Annotated[str, typer.Argument(help="Name of a method (`methods` lists them).")] = "balora",
    rank: Annotated[int, typer.Option(min=1, help="r.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="Peak of the schedule.")] = 1e-3,
    scale: Annotated[float, typer.Option(help="α/r.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the adapter's start and the data order.")] = 0,
    preset: PresetName = None,
    model: Model = None,
    dtype: Dtype = None,
    data: Data = None,
    modules: Modules = "",
    columns: Columns = None,
    examples: Examples = None,
    budget: Budget = None,
    batch_size: BatchSize = None,
    accumulation: Accumulation = None,
    max_length: MaxLength = None,
    schedule: Schedule = None,
    warmup: Warmup = None,
    gradient_checkpointing: Checkpointing = None,
    checkpoint_every: CheckpointEvery = None,
    generate: Generate = None,
    adapter: Annotated[Path, typer.Option(help="Folder for the adapter.")] = Path("results/adapter"),
) -> None:
    """Fine-tune one adapter; `accelerate launch -m llm finetune` does so on several GPUs."""
    from lorakappa.llm.comparison.finetune import Run
    from lorakappa.llm.comparison.finetune import finetune as train
    from lorakappa.llm.comparison.presets import preset_for
    from lorakappa.llm.comparison.runs import Task
    from lorakappa.llm.data.splits import load_splits

    if "LOCAL_RANK" not in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one process, one GPU: no DataParallel
    ensure_folder(adapter)
    chosen = preset_for(model, preset)
    settings = _changed(
        chosen.plan.settings,
        dtype=dtype,
        steps=budget,
        batch_size=batch_size,
        accumulation=accumulation,
        max_length=max_length,
        schedule=schedule,
        warmup=warmup,
        gradient_checkpointing=gradient_checkpointing,
        checkpoint_every=checkpoint_every,
        generate=generate,
        evaluations=_evaluations(chosen, None, budget),
    )
    splits = load_splits(data or chosen.data, **_data_options(chosen, data, modules, columns, examples), seed=0)
    chosen_run = Run(method, rank, scale, learning_rate, seed)
    key = Task(chosen_run, settings, adapter, splits.digest, adapter).key  # other settings do not resume from here
    work = adapter.with_name(f"{adapter.name}-checkpoints-{key[-12:]}")
    record = train(chosen_run, settings, splits, work=work, adapter=adapter)
    if int(os.environ.get("RANK", "0")) != 0:
        return
    shutil.rmtree(work, ignore_errors=True)  # or the next run would go on from its end
    found = record["train_info"]
    if found["status"] != "success":
        raise ValueError(f"the training diverged: {record['run_info']['error_msg']}; try a lower --learning-rate")
    last = found["metrics"][-1]
    console.print(f"validation loss {last['valid loss']:.4g}, test loss {found['test_loss']:.4g} nats per answer token")
    console.print("saved", adapter, write_json(adapter / "record.json", record))


@app.command()
def curvature(
    adapter: AdapterFolder,
    model: Annotated[str | None, typer.Option(help="Base model; the one that the adapter names by default.")] = None,
    dtype: Dtype = None,
    data: Data = None,
    modules: Modules = "",
    columns: Columns = None,
    layers: Annotated[str | None, typer.Option(help="Parts of names or indices, comma-separated.")] = None,
    examples: Annotated[int, typer.Option(min=1, help="Examples in the fixed batch; the time grows with them.")] = 4,
    how: Annotated[str, typer.Option("--method", help="dense, lanczos, or auto: dense where d permits.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of the batch and of Lanczos' starts.")] = 0,
    out: Out = Path("results"),
    quiet: Quiet = False,
) -> None:
    """Hessian and GGN of the loss in single layers' (A, B): trained, balanced, and on the gauge path through both."""
    from lorakappa.llm.comparison.finetune import load_adapted, validation_batch
    from lorakappa.llm.curvature import spectra as exact
    from lorakappa.llm.curvature.tables import curvature_notes, curvature_tables
    from lorakappa.llm.data.splits import MATHEMATICS, load_splits

    ensure_folder(out)
    adapted, tokenizer = load_adapted(adapter, model, dtype or "auto")
    pair = _pair_of_columns(columns)
    splits = load_splits(
        data or MATHEMATICS,
        modules=_names(modules),
        columns=pair,
        train=1,
        validation=examples,
        test=1,
        seed=seed,
    )
    report = exact.curvature(
        adapted,
        validation_batch(splits, tokenizer, adapted.device),
        layers=None if layers is None else _names(layers),
        method=how,  # type: ignore[arg-type]  # checked there
        seed=seed,
        progress=not quiet,
    )
    content = {
        "experiment": "curvature",
        "adapter": str(adapter),
        **report.as_dict(),
        "provenance": provenance(seed=seed),
    }
    file = write_json(out / "curvature.json", content)
    if not quiet:
        for table in curvature_tables(report):
            console.print(table)
        for note in curvature_notes(report):
            console.print(note)
    _finish((file,), "curvature", out, quiet)


@app.command()
def methods() -> None:
    """List the methods that `compare` knows, where they come from and their options."""
    table = Table("method", "what it is", "from", "options", box=None)
    for name in method_names("llm"):
        method = VOCABULARY[name]
        table.add_row(name, method.summary, method.source, method.show_options("llm"))
    console.print(table)
    console.print(f"\n{SYNTAX}, e.g. ilora:lambda=0.1,factor=2 or balora@10, its map every 10 steps", markup=False)
    for sentence in differences():
        console.print(f"\n{sentence}", markup=False)


@app.command()
def presets() -> None:
    """List the presets of `compare`."""
    from lorakappa.llm.comparison.presets import PRESETS

    table = Table("preset", "what it is", "model", "data", box=None)
    for name, preset in PRESETS.items():
        table.add_row(name, preset.summary, preset.plan.settings.model, preset.data)
    console.print(table)


@app.command()
def pretrain(
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Fewer or more than the recipe's.")] = None,
) -> None:
    """Reproduce the tiny model that comes with the package (about 5 minutes on two cores)."""
    from lorakappa.llm.data.pretrain import pretrain as train

    recipe = train(out) if steps is None else train(out, steps=steps)
    console.print("saved", recipe)


@app.command()
def audit(
    adapter: AdapterFolder,
    json: Annotated[Path | None, typer.Option(help="Also write all measures to this file, and draw them.")] = None,
) -> None:
    """Singular values, balancing gap and κ bound of every layer, now and after balancing, worst first."""
    from lorakappa.llm.adapters.audit import audit_adapter

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
        from lorakappa.figures.drawing import draw_file

        file = write_json(json, {**provenance(), "layers": [asdict(layer) for layer in layers]})
        drawn = draw_file("audit", file) if file.suffix == ".json" else []
        console.print("saved", file, *drawn)


@app.command()
def balance(
    adapter: AdapterFolder,
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
    gauge: Annotated[str, typer.Option(help=f"Which balanced pair: {', '.join(GAUGES)}.")] = "hyperbalanced",
) -> None:
    """Write an adapter with the same products and balanced factors, everything else carried over."""
    from lorakappa.llm.adapters.disk import balance_adapter

    changes = balance_adapter(adapter, out, gauge=gauge)  # type: ignore[arg-type]  # checked there
    name, largest = max(changes.items(), key=lambda entry: entry[1])
    console.print(f"{len(changes)} pairs balanced; largest relative change of a product {largest:.2g} ({name})")
    console.print("saved", out)


def _changed(base: Any, **values: Any) -> Any:
    """A dataclass with those values replaced that are not None."""
    return replace(base, **{name: value for name, value in values.items() if value is not None})


def _evaluations(preset: Any, evaluations: int | None, budget: int | None) -> int | None:
    """The number asked for; else the preset's, unless that is more than there are steps."""
    return evaluations or (None if budget is None else max(1, min(preset.plan.settings.evaluations, budget)))


def _data_options(
    preset: Any, data: str | None, modules: str, columns: str | None, examples: str | None
) -> dict[str, Any]:
    """Arguments of `load_splits`: the preset's columns and sizes go with its own data unless overridden."""
    sizes = preset.sizes if examples is None else tuple(_integers(examples))
    if len(sizes) != 3:
        raise ValueError(f"--examples wants three numbers, TRAIN,VALIDATION,TEST, not {examples!r}")
    pair = _pair_of_columns(columns) or (preset.columns if data is None else None)
    train, validation, test = sizes
    return {
        "modules": _names(modules),
        "columns": pair,
        "resplit": preset.resplit and data is None,
        "train": train,
        "validation": validation,
        "test": test,
    }


def _pair_of_columns(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    names = _names(text)
    if len(names) != 2:
        raise ValueError(f"--columns wants two names, PROMPT,COMPLETION, not {text!r}")
    return names[0], names[1]


def _names(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _integers(text: str) -> list[int]:
    try:
        return [int(item) for item in _names(text)]
    except ValueError:
        raise ValueError(f"{text!r} must be whole numbers separated by commas") from None


def _key_values(text: str) -> dict[str, Any]:
    pairs = [item.partition("=") for item in _names(text)]
    if not all(key and equals for key, equals, _ in pairs):
        raise ValueError(f"{text!r} must be KEY=VALUE pairs separated by commas")
    return {key: int(value) if value.isdecimal() else value for key, _, value in pairs}


def _default_jobs() -> int:
    """One process per GPU, or per core."""
    import torch

    return torch.cuda.device_count() or os.cpu_count() or 1


def _print_comparison(outcome: Any) -> None:
    """The best cells, and what they say on the claims; verdicts on record are about the tiny model and not shown."""
    from lorakappa.llm.comparison.claims import verdicts
    from lorakappa.llm.comparison.summary import comparison_table

    console.print(comparison_table(outcome))
    table = Table("claim", "verdict", "what it rests on", box=None)
    for verdict in verdicts(outcome):
        table.add_row(verdict.claim.id, verdict.verdict, verdict.note)
    if table.row_count:
        console.print()
        console.print(table)


def _finish(files: tuple[Path, ...], name: str, out: Path, quiet: bool) -> None:
    """Draws what was saved and says where it is."""
    from lorakappa.figures.drawing import draw_all, names_for

    drawn = draw_all(names_for(name), out, out)
    if not quiet:
        console.print("saved", *files, *drawn)


if __name__ == "__main__":
    run(app)
