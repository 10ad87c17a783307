"""What limits the benchmarks that miss their goals: the share of each part in the processor time of one core.

    python benchmarks/limits.py --out results                     # measure (make profile)
    python benchmarks/limits.py --markdown results/limits.json    # the table of benchmarks/README.md

Shares are of processor time, so that a busy machine falsifies them least; ratios to a limit are taken the same way.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import balance as balancing_rows  # a sibling script, as the next four
import large_adapter
import numpy as np
import torch
import training_step
import typer
from shares import Limit, shares, table
from threadpoolctl import threadpool_limits

from lorakappa.llm.adapters import balancing, in_place, lookup
from lorakappa.shared.command_line import console, new_app, note, run
from lorakappa.shared.machine import processor
from lorakappa.shared.options import RESULTS, Out, names
from lorakappa.shared.records import provenance, write_json
from lorakappa.synthetic import methods, optimizers, stepping
from lorakappa.synthetic.engine import simulate
from lorakappa.synthetic.losses import OneLayer
from lorakappa.synthetic.problems import make_problems, step_size_grid
from lorakappa.synthetic.settings import ProblemSettings

IN_PLACE: dict[str, list[tuple[Any, str]]] = {
    "Gram matrices": [(in_place._Blocks, "grams"), (in_place._Stack, "grams")],
    "products, written back": [(in_place._Blocks, "move"), (in_place._Stack, "move")],
    "r×r algebra": [(in_place, "gauges_in")],
    "pairs with r > min(a, b)": [(balancing, "balance")],
}


def balances() -> Iterator[Limit]:
    """P over Gram matrices and products alone, at each model and rank."""
    for (model, r), layers in balancing_rows.LAYERS.items():
        pairs = balancing_rows.adapters(model, r, layers, torch.float32, "cpu")
        limit = partial(balancing_rows.limit, [(A.clone(), B.clone()) for A, B in pairs], torch.eye(r))
        copies = [(A.clone(), B.clone()) for A, B in pairs]
        calls = 1 if r == 256 else 5
        floor, _ = shares(limit, {}, calls=calls, rest="")
        copy, _ = shares(partial(_copy, copies, pairs), {}, calls=calls, rest="")
        seconds, parts = shares(balancing_rows._ready(pairs), IN_PLACE, calls=calls, rest="calls around them")
        algebra = seconds * parts["r×r algebra"]
        yield Limit(
            f"P, {model}, {layers} layer{'s' * (layers > 1)}, r = {r}",
            "≤ 1.4 of Gram matrices and products",
            f"{seconds / floor:.2f}",
            seconds,
            parts,
            f"the r×r algebra and writing back what the limit leaves out make {1 + (algebra + copy) / floor:.2f}",
        )


def _copy(targets: list[Any], pairs: list[Any]) -> None:
    for target, pair in zip(targets, pairs, strict=True):
        for M, N in zip(target, pair, strict=True):
            M.copy_(N)


def in_training() -> Iterator[Limit]:
    """P in a step of a tiny model."""
    setting, config, r, tokens, share = training_step.CASES[0]
    calls = training_step._calls(config, r, tokens, "cpu")
    step, _ = shares(calls[training_step.STEP], {}, calls=10, rest="")
    parts = {"looking up the pairs": [(lookup.PairLookup, "__call__")], **IN_PLACE}
    del parts["pairs with r > min(a, b)"]
    seconds, found = shares(calls["P"], parts, calls=100, rest="Python around them")
    yield Limit(
        f"P in a step, {setting}",
        f"≤ 1/{1 / share:.0f} of the step",
        f"1/{step / seconds:.0f}",
        seconds,
        found,
        "28 pairs of some 1,000 entries: calls of a few µs each, of which none stands out",
    )


def simulations() -> Iterator[Limit]:
    """BaLoRA in the simulator."""
    problems = make_problems(ProblemSettings())
    for optimizer in ("gd", "adam"):
        grid = step_size_grid("auto", problems, optimizer)
        call = partial(
            simulate,
            problems.loss,
            problems.start,
            method="balora",
            optimizer=optimizer,
            step_sizes=grid,
            steps=100,
            jobs=1,
        )
        parts: dict[str, list[tuple[Any, str]]] = {
            "loss and gradient": [(OneLayer, "evaluate")],
            "eigenvectors of 4×4 matrices": [(np.linalg, "eigh")],
            "the rest of P": [(methods, "balance_stack")],
            "the optimizer": [(optimizers.Adam, "direction")],
            "‖AᵀA − BBᵀ‖ recorded": [(stepping, "_imbalance")],
        }
        if optimizer == "gd":
            del parts["the optimizer"]
        seconds, found = shares(call, parts, calls=2, rest="step and divergence")
        each = seconds / (grid.size * 800)
        bare = each * (found["loss and gradient"] + found["eigenvectors of 4×4 matrices"])
        yield Limit(
            f"simulator, BaLoRA under {optimizer}",
            "400,000 trajectory-steps a second on two cores",
            f"{1 / each:,.0f} on one core",
            seconds,
            found,
            f"{1e6 * each:.1f} µs a step where 5 are wanted; loss, gradient and LAPACK's 4×4 alone are "
            f"{1e6 * bare:.1f}",
        )


def fine_tuning() -> Iterator[Limit]:
    """A bare training step of the tiny model, by torch's profiler: what no trainer can save."""
    from torch.profiler import ProfilerActivity, profile
    from transformers import DataCollatorForSeq2Seq

    from lorakappa.llm.comparison.adapting import with_adapter
    from lorakappa.llm.comparison.methods import parse_method
    from lorakappa.llm.comparison.settings import Run, TrainingSettings
    from lorakappa.llm.data.models import load_model
    from lorakappa.llm.data.sources import MATHEMATICS, load_splits
    from lorakappa.llm.data.tokens import encode

    splits = load_splits(MATHEMATICS, train=80, validation=8, test=8, seed=0)
    base, tokenizer = load_model("tiny", dtype="float32")
    settings = TrainingSettings(steps=10, batch_size=8, evaluations=1, generate=0)
    data = encode(splits.train, tokenizer, 256)
    model = with_adapter(base, parse_method("lora"), Run("lora", 8, 1.0, 1e-2, 0), settings, data, tokenizer)
    collate = DataCollatorForSeq2Seq(tokenizer, padding=True)
    batches = [collate(data[i : i + 8]) for i in range(0, 80, 8)]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    model.train()

    def step(batch: Any) -> None:
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step(batches[0])
    began = time.thread_time()
    for batch in batches:
        step(batch)
    seconds = (time.thread_time() - began) / len(batches)
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
        for batch in batches:
            step(batch)
    kinds = {"matrix products": 0.0, "attention": 0.0, "everything else": 0.0}
    operations = 0
    for event in profiler.key_averages():
        kind = "everything else"
        if event.key in ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"):
            kind = "matrix products"
            operations += event.flops
        elif "attention" in event.key:
            kind = "attention"
        kinds[kind] += event.self_cpu_time_total
    total = sum(kinds.values())
    parts = {kind: spent / total for kind, spent in kinds.items()}
    M = torch.randn(1024, 1024)
    peak_seconds, _ = shares(lambda: M @ M, {}, calls=5, rest="")
    peak = 2 * 1024**3 / peak_seconds
    padding = 1 - sum(float(batch["attention_mask"].sum()) for batch in batches) / sum(
        batch["attention_mask"].numel() for batch in batches
    )
    giga, at_peak = operations / len(batches) / 1e9, 1e3 * operations / len(batches) / peak
    yield Limit(
        "a step of a tiny fine-tune, LoRA, r = 8, bare loop",
        "≤ 20 ms",
        f"{1e3 * seconds:.0f} ms",
        seconds,
        parts,
        f"{giga:.2f} GFLOP a step in products, {at_peak:.0f} ms at the core's {peak / 1e9:.0f} GFLOP/s; "
        f"{100 * padding:.0f} % of the tokens are padding",
    )


def experiment() -> Iterator[Limit]:
    """The command `synthetic convergence`, in a process of its own."""
    script = Path(__file__).parent / "convergence_stages.py"
    subprocess.run([sys.executable, script], check=True, capture_output=True)  # byte code is written once
    found = json.loads(subprocess.run([sys.executable, script], check=True, capture_output=True, text=True).stdout)
    seconds = sum(found.values())
    drawn = sum(found[stage] for stage in ("imports: Matplotlib, pydantic", "drawing and PNG", "Matplotlib's layout"))
    yield Limit(
        "synthetic convergence",
        "≤ 1.5 s",
        f"{seconds:.2f} s",
        seconds,
        {stage: spent / seconds for stage, spent in found.items()},
        f"Matplotlib takes {drawn:.2f} s of it, the simulation {found['the simulation']:.2f}",
    )


def curvature() -> Iterator[Limit]:
    """A middle layer of a model of 135 M parameters, in all gauges."""
    from lorakappa.llm.curvature import spectra
    from lorakappa.llm.curvature.layer_loss import LayerLoss
    from lorakappa.llm.curvature.loading import validation_batch
    from lorakappa.llm.data.models import load_model
    from lorakappa.llm.data.sources import MATHEMATICS, load_splits

    _, tokenizer = load_model("tiny")
    model = large_adapter.adapted(large_adapter.large_model(), 8)
    splits = load_splits(MATHEMATICS, train=1, validation=2, test=1, seed=0)
    batch = validation_batch(splits, tokenizer, torch.device("cpu"))
    note("curvature of a middle layer: some minutes")
    parts: dict[str, list[tuple[Any, str]]] = {
        "products with the GGN": [(LayerLoss, "ggn_products")],
        "products with the Hessian": [(LayerLoss, "hessian_products")],
    }
    measure = partial(spectra.curvature, model, batch, layers=["layers.15.self_attn.k_proj"])
    seconds, found = _once(measure, parts)
    yield Limit(
        "curvature of a middle layer of 135 M parameters, all gauges",
        "≤ 60 s on two cores",
        f"{seconds:.0f} s of one core",
        seconds,
        found,
        "a product runs half of the model's blocks forwards and backwards",
    )


def _once(call: Callable[[], object], parts: dict[str, list[tuple[Any, str]]]) -> Any:
    """`shares` of a call that is too long to warm up."""
    first = iter([lambda: None])
    return shares(lambda: next(first, call)(), parts, calls=1, rest="Lanczos")


TOPICS: dict[str, Callable[[], Iterator[Limit]]] = {
    "balance": balances,
    "training_step": in_training,
    "simulator": simulations,
    "finetuning": fine_tuning,
    "convergence": experiment,
    "curvature": curvature,
}

app = new_app(__doc__ or "")


@app.command()
def main(
    topics: Annotated[str, typer.Option(help="Comma-separated: " + ", ".join(TOPICS) + ".")] = ",".join(TOPICS),
    markdown: Annotated[
        Path | None, typer.Option(help="Print the table of such a record, and measure nothing.")
    ] = None,
    out: Out = RESULTS,
) -> None:
    """Measures on one thread and writes OUT/limits.json."""
    if markdown is not None:
        print(table(json.loads(markdown.read_text(encoding="utf-8"))))
        return
    chosen = names(topics)
    unknown = [topic for topic in chosen if topic not in TOPICS]
    if unknown or not chosen:
        raise ValueError(f"topics must be some of {', '.join(TOPICS)}, not {', '.join(unknown) or 'none'}")
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    record = {"provenance": provenance(), "processor": processor(), "cores": os.cpu_count(), "rows": found}
    with threadpool_limits(1):
        for topic in chosen:
            note(topic)
            found += [{"topic": topic, **asdict(limit)} for limit in TOPICS[topic]()]
            file = write_json(Path(out) / "limits.json", record)  # after each: one that fails costs no other
    console.print(f"written: {file}")


if __name__ == "__main__":
    run(app)
