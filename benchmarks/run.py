"""All benchmarks, or some: a table of ratios against named peers, and a record that says on what they were measured.

Each row is measured by turns within one run (`compare`). A ratio above 1 says how many times longer the peer takes.
"""

import os
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from compare import Goal, Row  # a sibling script
from rich.table import Table

from lorakappa.shared.command_line import console, new_app, note, run
from lorakappa.shared.machine import processor
from lorakappa.shared.options import RESULTS, Out, names
from lorakappa.shared.records import provenance, write_json

TOPICS = ("balance", "resize", "training_step", "condition_number", "simulator", "curvature", "finetuning")
"""Scripts beside this one; each has `rows(quick)`, and those that a GPU can do `rows(quick, device)`."""

ON_DEVICE = ("balance", "training_step")

app = new_app(__doc__ or "")


@app.command()
def main(
    topics: Annotated[str, typer.Option(help="Comma-separated: " + ", ".join(TOPICS) + ".")] = ",".join(TOPICS),
    device: Annotated[str, typer.Option(help="Torch device of what can run on a GPU, e.g. cuda.")] = "cpu",
    quick: Annotated[bool, typer.Option("--quick", help="A row or two of each, to see that it works.")] = False,
    out: Out = RESULTS,
) -> None:
    """Measures, prints a table as it goes, and writes OUT/benchmarks.json."""
    chosen = names(topics)
    unknown = [topic for topic in chosen if topic not in TOPICS]
    if unknown or not chosen:
        raise ValueError(f"topics must be some of {', '.join(TOPICS)}, not {', '.join(unknown) or 'none'}")
    began, found = time.perf_counter(), []
    for topic in chosen:
        note(f"{topic} ({time.perf_counter() - began:.0f} s so far)")
        options: dict[str, Any] = {"device": device} if topic in ON_DEVICE else {}
        rows = []
        for row in import_module(topic).rows(quick, **options):
            rows.append(row)
            found.append({"topic": topic, **row.record()})
        console.print(table(topic, rows))
    record = {
        "provenance": provenance(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "seconds": time.perf_counter() - began,
        "rows": found,
    }
    console.print(f"{record['processor']}, {record['cores']} cores, {record['seconds']:.0f} s")
    console.print(f"written: {write_json(Path(out) / 'benchmarks.json', record)}")


def table(topic: str, rows: list[Row]) -> Table:
    """Rows of one topic, with ✓ or ✗ behind what has a goal."""
    made = Table(title=topic, title_justify="left", box=None)
    for name in ("work", "setting", "threads", "time", "peers: times as long, ± quartile distance"):
        made.add_column(name)
    for row in rows:
        own = [goal for goal in row.goals if goal.peer is None]
        marks = [_mark(row, goal) for goal in own]
        took = f"{_seconds(row.ours.median)} ±{100 * row.ours.spread:.0f} %"
        if row.unit:
            took += f" ({row.amount / row.ours.median:,.0f} {row.unit}/s{''.join(marks)})"
        peers = []
        for peer in row.peers:
            middle, spread = row.ratio(peer)
            goals = [_mark(row, goal) for goal in row.goals if goal.peer == peer]
            peers.append(f"{peer} {middle:.3g} ±{spread:.2g}{''.join(goals)}")
        made.add_row(
            row.work, row.setting, str(row.threads), took, "\n".join(peers) + (f"\n{row.note}" * bool(row.note))
        )
    return made


def _mark(row: Row, goal: Goal) -> str:
    return f" {'✓' if row.reached(goal) else '✗'} ≥ {goal.least:.3g}"


def _seconds(value: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e9:.3g} ns"


if __name__ == "__main__":
    run(app)
