"""The findings of a study as a table for the terminal, and as Markdown."""

from typing import Any

from rich.table import Table


def study_table(found: dict[str, Any]) -> Table:
    """One row per contrast.

    Args:
        found: from `findings.study_json`.
    """
    heads = ("table", "r", "steps", "start", "method", "gain", "verdict", "seeds", "at", "exact", "note")
    table = Table(*heads, box=None)
    for row in found["findings"]:
        effect, arm, baseline = row["effect"], row["method_arm"], row["baseline_arm"]
        table.add_row(
            row["table"],
            str(row["rank"]),
            str(row["steps"]),
            "" if row["start"] is None else f"{row['start']:g}",
            row["method"] if arm is None else arm["variant"],
            _interval(effect),
            row["verdict"],
            str(effect["n"]),
            "" if arm is None else _chosen(arm),
            _exact(baseline, arm),
            _note(row),
        )
    table.caption = (
        f"gain: test loss of the baseline minus that of the method, nats per answer token, each at the cell chosen on "
        f"other seeds; at: the method's, by its learning rate (edge: its grid ends there); intervals hold for all rows "
        f"of a table together with {found['confidence']:.0%} (Bonferroni); δ = {found['delta']:g}; exact: the "
        f"baseline's and the method's share of exact answers"
    )
    return table


def closing(found: dict[str, Any]) -> str:
    """How far the study is, in one line."""
    counts = ", ".join(f"{count} {word}" for word, count in sorted(found["counts"].items()))
    state = f"{found['pending']} runs to be made next" if found["pending"] else "nothing left to run"
    return f"{counts}; {found['runs']} runs, {found['hours']:.2g} hours of computing; {state}"


def study_markdown(found: dict[str, Any]) -> str:
    """A table for each of the study's: a row per method, a column per rank, horizon or start.

    Args:
        found: from `findings.study_json`.
    """
    parts = []
    for table in found["tables"]:
        rows = [row for row in found["findings"] if row["table"] == table["name"]]
        places = list(dict.fromkeys(_place(row, table) for row in rows))
        cells = {(row["method"], _place(row, table)): _cell(row) for row in rows}
        lines = [
            f"| {table['name']}: gain over `{table['baseline']}` | {' | '.join(places)} |",
            f"|---|{'---|' * len(places)}",
        ]
        lines += [
            f"| `{method}` | {' | '.join(cells.get((method, place), '') for place in places)} |"
            for method in table["methods"][1:]
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _place(row: dict[str, Any], table: dict[str, Any]) -> str:
    """Where a row stands among those of its table: what differs between them, or else its rank."""
    found = [f"r = {row['rank']}"] if len(table["ranks"]) > 1 else []
    found += [f"{row['steps']} steps"] if len(table["steps"]) > 1 else []
    found += [f"α/r = {row['start']:g}"] if row["start"] is not None else []
    return ", ".join(found) or f"r = {row['rank']}"


def _cell(row: dict[str, Any]) -> str:
    """E.g. "**better** +0.042 [+0.021, +0.063], 10 seeds", or what it would take to decide."""
    effect, verdict = row["effect"], row["verdict"]
    if effect["low"] is None:
        return f"{verdict}: {row['reason']}"
    word = f"**{verdict}**" if verdict in ("better", "worse") else verdict
    more = f" of about {row['to_decide']}" if row["to_decide"] else ""
    values = f"{effect['estimate']:+.3f} [{effect['low']:+.3f}, {effect['high']:+.3f}]".replace("-", "−")
    return f"{word} {values}, {effect['n']}{more} seeds"


def _chosen(arm: dict[str, Any]) -> str:
    """The cell that was chosen, e.g. "0.01", or "0.001, α/r = 100 (edge)"."""
    scaling = "" if arm["scaling"] == 1 else f", α/r = {arm['scaling']:g}"
    return f"{arm['learning_rate']:.3g}{scaling}{' (edge)' if arm['at_edge'] else ''}"


def _interval(effect: dict[str, Any]) -> str:
    if effect["estimate"] is None or effect["low"] is None:
        return "" if effect["estimate"] is None else f"{effect['estimate']:+.4f}"
    return f"{effect['estimate']:+.4f} [{effect['low']:+.4f}, {effect['high']:+.4f}]"


def _exact(baseline: dict[str, Any] | None, arm: dict[str, Any] | None) -> str:
    values = [entry and entry["exact_match"] for entry in (baseline, arm)]
    return "" if None in values else " → ".join(f"{value:.3f}" for value in values)


def _note(row: dict[str, Any]) -> str:
    arms = {row["baseline"]: row["baseline_arm"], row["method"]: row["method_arm"]}
    parts = [f"{name}: no cell chosen" for name, arm in arms.items() if arm is None]
    parts += [f"{name}: {arm['diverged']} diverged" for name, arm in arms.items() if arm and arm["diverged"]]
    if row["reason"] in ("maximum", "budget") and row["needed"]:
        parts.append(f"ended by the {row['reason']}; {row['needed']} seeds for the width")
    if row["to_decide"]:
        parts.append(f"about {row['to_decide']} seeds to decide at this mean")
    if row["reason"] == "unfinished":
        parts.append("unfinished")
    return "; ".join(parts)
