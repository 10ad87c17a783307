"""What an experiment found, as a table for the terminal."""

from typing import Any

import numpy as np
from rich.table import Table

from lorakappa.synthetic.experiments.duel import TIE
from lorakappa.synthetic.results import Result


def convergence_table(result: Result) -> Table:
    """One row per method: its best step size and λ, and where it ended."""
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
    return table


def rates_table(result: Result) -> Table:
    """One row per rule: how the measured rates lie to the bound."""
    summary = result.meta["summary"]
    searched = any(line["closest_step_range"] for line in summary)  # under `sign-gd-exact` only
    columns = ("rule", "conclusive", "violations", "log rate / log bound: min, median, max")
    table = Table(*columns, *(["closest start: step, tail"] if searched else []), box=None)
    for line in summary:
        closest = [f"{ends[0]:.3g}" for key in ("step", "tail") if (ends := line[f"closest_{key}_range"])]
        table.add_row(
            line["rule"],
            f"{line['conclusive']} of {line['measurements']}",
            str(line["violations"]),
            ", ".join(f"{line[f'log_ratio_{key}']:.6g}" for key in ("min", "median", "max")),
            *([", ".join(closest) or "–"] if searched else []),
        )
    return table


def histogram_table(result: Result) -> Table:
    """κ at balance, at random gauges and at limit points."""
    table = Table(box=None, show_header=False)
    keys = ("kappa_balanced", "kappa_median", "kappa_limit_median", "upper_bound_vacuous", "not_converged")
    for key in keys:
        value = result.meta[key]
        table.add_row(key.replace("_", " "), "none" if value is None else f"{value:.6g}")
    return table


def phase_table(result: Result) -> Table:
    """The gain over decay × size of the start."""
    table = Table("decay \\ init std", *(f"{init_std:g}" for init_std in result.arrays["init_stds"]), box=None)
    for decay, row in zip(result.arrays["decays"], result.arrays["gain"], strict=True):
        table.add_row(f"{decay:g}", *(f"{gain:+.2f}" for gain in row))
    return table


def duel_table(result: Result) -> Table:
    """One row per cell: who won, by how much, and everybody's gain over the first method."""
    arrays, meta = result.arrays, result.meta
    baseline, *others = meta["methods"]
    table = Table("decay", "shape", "start", "winner", box=None)
    table.add_column("ahead by [95 %]", no_wrap=True)
    for name in (f"log10 {baseline}", *(f"+ {name}" for name in others)):
        table.add_column(name, justify="right")
    for i, j, k in np.ndindex(*arrays["winner"].shape):
        table.add_row(
            f"{arrays['decays'][i]:g}",
            "×".join(str(size) for size in arrays["shapes"][j]),
            meta["starts"][k],
            *_outcome(arrays, (i, j, k), meta["methods"]),
        )
    table.caption = _wins(meta)
    return table


def gauges_table(result: Result) -> Table:
    """One row per optimizer and cell: who won, by how much, and everybody's gain over the first method."""
    arrays, meta = result.arrays, result.meta
    baseline, *others = meta["methods"]
    table = Table("optimizer", "cond C", "cond D", "winner", box=None)
    table.add_column("ahead by [95 %]", no_wrap=True)
    for name in (f"log10 {baseline}", *(f"+ {name}" for name in others)):
        table.add_column(name, justify="right")
    for k, optimizer in enumerate(meta["optimizers"]):
        for i, j in np.ndindex(*arrays["winner"].shape[:2]):
            table.add_row(
                optimizer,
                f"{arrays['conditions_c'][i]:g}",
                f"{arrays['conditions_d'][j]:g}",
                *_outcome(arrays, (i, j, k), meta["methods"]),
            )
    table.caption = _wins(meta)
    return table


def ratios_table(result: Result) -> Table:
    """The final excess of every variant of the ratio, shape by shape."""
    sizes = ["×".join(str(size) for size in shape) for shape in result.arrays["shapes"]]
    table = Table("variant", *(f"log10 {size}" for size in sizes), box=None)
    table.columns[0].no_wrap = True
    for name, row in zip(result.meta["variants"], np.median(result.arrays["log10"], axis=-1).T, strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in row))
    return table


def settle_table(result: Result) -> Table:
    """The exponents and gains of the critics' experiments."""
    table = Table(box=None, show_header=False)
    for key, value in result.meta.items():
        if key.endswith("_exponent"):
            table.add_row(key.replace("_", " "), f"{value:.3f}")
    for key, value in result.meta["log10_gain"].items():
        table.add_row(f"log10 gain {key.replace('_', ' ')}", _interval(value))
    return table


def manifold_table(result: Result) -> Table:
    """The range of κ over the minimizers drawn."""
    table = Table("minimizers", "κ: smallest, largest", box=None)
    kappa = result.arrays["kappa"]
    table.add_row(str(kappa.size), f"{kappa.min():.3g}, {kappa.max():.3g}")
    return table


def _outcome(arrays: dict[str, Any], cell: tuple[int, ...], methods: list[str]) -> list[str]:
    """Of one cell the winner, by how much, what the first method reached, and the gains of the others over it."""
    winner, (median, low, high) = arrays["winner"][cell], arrays["margin"][cell]
    return [
        methods[winner] if winner >= 0 else "tie" if winner == TIE else "–",
        "" if np.isnan(median) else _interval({"median": median, "interval": (low, high)}),
        f"{np.median(arrays['log10'][cell][0]):.2f}",
        *(f"{gain:+.2f}" for gain in arrays["gain"][cell][1:]),
    ]


def _wins(meta: dict[str, Any]) -> str:
    won = ", ".join(f"{name} {wins}" for name, wins in meta["wins"].items())
    return f"won: {won}; ties {meta['ties']}; + METHOD: decades gained over {meta['methods'][0]}"


def _interval(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    low, high = line["interval"] or (np.nan, np.nan)
    return f"{line['median']:+.2f}" + ("" if np.isnan(low) else f" [{low:+.2f}, {high:+.2f}]")
