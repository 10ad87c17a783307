"""What a comparison says, as JSON-like data, a table for the terminal, and files for the figures."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from lorakappa.llm.comparison.best import Best, best_cells
from lorakappa.llm.comparison.cells import by_cell, validation_loss
from lorakappa.llm.comparison.effects import effect, loss_gain, paired, window, window_ends
from lorakappa.llm.comparison.protocol import Outcome
from lorakappa.llm.comparison.runs import Record
from lorakappa.shared.records import provenance, write_json, write_npz


def description(outcome: Outcome) -> dict[str, Any]:
    """The comparison as JSON-like data, which the table and the figures read."""
    plan, best = outcome.plan, best_cells(outcome)
    baseline = plan.methods[0]
    comparisons = []
    for method in plan.methods[1:]:
        for rank, values in paired(best, method, baseline, loss_gain).items():
            found = {key: value if math.isfinite(value) else None for key, value in asdict(effect(values)).items()}
            comparisons.append({"method": method, "rank": rank, "quantity": "test_loss", **found})
    return {
        "model": plan.settings.model,
        "data": outcome.source,
        "baseline": baseline,
        "methods": list(plan.methods),
        "ranks": list(plan.ranks),
        "scalings": list(plan.scalings),
        "strengths": list(plan.strengths),
        "seeds": list(plan.seeds),
        "steps": plan.settings.steps,
        "settings": asdict(plan.settings),
        "cells": [
            entry
            for (method, rank), records in outcome.records.items()
            for entry in _cell_entries(method, rank, records)
        ],
        "best": [_best_entry(entry) for entry in best.values()],
        "comparisons": comparisons,
        "failures": outcome.failures,
    }


def comparison_table(outcome: Outcome) -> Table:
    """One row per rank and method, at its best cell; the gain is the paired difference of test losses."""
    best, baseline = best_cells(outcome), outcome.plan.methods[0]
    table = Table("r", "method", "learning rate", "validation", "test", "gain", "exact", "window", "ms/step", box=None)
    for rank in outcome.plan.ranks:
        for method in outcome.plan.methods:
            entry = best.get((method, rank))
            if entry is None:
                table.add_row(str(rank), method, "no learning rate trained with every seed")
                continue
            gains = paired(best, method, baseline, loss_gain).get(rank)
            decades, cut = window(entry)
            table.add_row(
                str(rank),
                entry.variant,
                f"{entry.learning_rate:g}{' (edge)' if entry.at_edge else ''}",
                f"{entry.history('valid loss')[:, -1].mean():.4f}",
                f"{entry.values('test_loss').mean():.4f}",
                "" if gains is None or method == baseline else str(effect(gains)),
                f"{entry.values('test_exact_match').mean():.3f}",
                f"{'≥ ' if cut.any() else ''}{decades.mean():.2f}",
                f"{1000 * entry.seconds_per_step.mean():.0f}",
            )
    table.caption = (
        f"means over {len(outcome.plan.seeds)} seeds; losses in nats per answer token, gains over {baseline} with 95 % "
        "intervals; window: decades of learning rates within 1 % of the best"
    )
    return table


def save(outcome: Outcome, folder: Path) -> tuple[Path, Path]:
    """Writes llm-compare.npz (curves of the best cells) and llm-compare.json (the rest).

    Returns:
        Paths of both files.

    Raises:
        OSError: if the folder cannot be written.
    """
    best = list(best_cells(outcome).values())
    names = {"validation_loss": "valid loss", "seconds": "train time", "gap": "gap", "kappa_bound": "kappa bound"}
    steps = np.array([m["step"] for m in best[0].records[0]["train_info"]["metrics"]] if best else [], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {"eval_steps": steps}
    for array, name in names.items():
        arrays[array] = np.array([entry.history(name) for entry in best])
    return (
        write_npz(folder / "llm-compare.npz", arrays),
        write_json(
            folder / "llm-compare.json",
            {"experiment": "llm-compare", **description(outcome), "provenance": provenance(seed=outcome.plan.seeds[0])},
        ),
    )


def _cell_entries(method: str, rank: int, records: list[Record]) -> list[dict[str, Any]]:
    entries = []
    for cell, group in sorted(by_cell(records).items()):
        losses = [validation_loss(record) for record in group]
        entries.append(
            {
                "method": method,
                "variant": cell.variant,
                "rank": rank,
                "scaling": cell.scaling,
                "learning_rate": cell.learning_rate,
                "validation_loss": [loss if math.isfinite(loss) else None for loss in losses],
                "status": [
                    "ok" if record["train_info"]["status"] == "success" else record["train_info"]["status"]
                    for record in group
                ],
            }
        )
    return entries


def _best_entry(best: Best) -> dict[str, Any]:
    low, high, decades, censored = window_ends(best.grid, best.curve.mean(axis=1))
    return {
        "method": best.method,
        "variant": best.variant,
        "rank": best.rank,
        "scaling": best.scaling,
        "learning_rate": best.learning_rate,
        "at_edge": best.at_edge,
        "validation_loss": _nullable(best.history("valid loss")[:, -1]),
        "test_loss": _nullable(best.values("test_loss")),
        "exact_match": _nullable(best.values("test_exact_match")),
        "extrapolate_loss": _nullable(best.values("extrapolate_loss")),
        "extrapolate_exact_match": _nullable(best.values("extrapolate_exact_match")),
        "window": [low, high],
        "decades": decades,
        "window_censored": censored,
        "seconds_per_step": _nullable(best.seconds_per_step),
        "method_seconds_per_step": _nullable(best.method_seconds_per_step),
        "peak_memory_bytes": _nullable(best.values("peak_memory")),
    }


def _nullable(values: NDArray[np.float64]) -> list[float | None]:
    """Numbers for JSON, None where there is none."""
    return [float(value) if np.isfinite(value) else None for value in values]
