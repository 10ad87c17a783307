"""Options that several commands have: one spelling, one meaning."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

T = TypeVar("T")

RESULTS = Path("results")
"""Where results go unless --out says otherwise."""

LARGEST = 2**63 - 1
"""Of whole numbers: what arrays, and generators of random numbers, take."""

MOST_SEEDS = 10**6
"""Paired runs; a loop over them is made in memory."""

MOST_JOBS = 4096
"""Processes that one may ask for; no more are started than there is work for."""

Out = Annotated[Path, typer.Option("--out", help="Folder for what is written.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write all of it to this JSON file, too.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar and no table.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST, help="Root seed, or the first of several.")]
Seeds = Annotated[int, typer.Option(min=1, max=MOST_SEEDS, help="Number of paired seeds.")]
Steps = Annotated[int, typer.Option(min=1, max=LARGEST, help="Optimizer steps of every run.")]
Jobs = Annotated[int | None, typer.Option(min=1, max=MOST_JOBS, help="Processes; one per core (or GPU) by default.")]


def names(text: str) -> list[str]:
    """The parts of a comma-separated list."""
    return [part.strip() for part in text.split(",") if part.strip()]


def numbers(option: str, text: str) -> list[float]:
    """Comma-separated numbers.

    Raises:
        ValueError: naming the option, if one is no number.
    """
    return _each(option, text, float, "numbers")


def strengths(text: str) -> list[float]:
    """The λ of --lambdas: LO:HI:N, log-spaced, or comma-separated numbers.

    Raises:
        ValueError: if it is neither.
    """
    from lorakappa.shared.grids import parse_grid

    return list(parse_grid(text)) if ":" in text else numbers("lambdas", text)


def integers(option: str, text: str) -> list[int]:
    """Comma-separated whole numbers.

    Raises:
        ValueError: naming the option, if one is no whole number.
    """
    return _each(option, text, int, "whole numbers")


def shapes(option: str, text: str) -> list[tuple[int, int]]:
    """Comma-separated shapes like 40x10 (or 40×10).

    Raises:
        ValueError: naming the option, if one is no shape.
    """
    found = []
    for part in names(text):
        rows, _, columns = part.replace("×", "x").partition("x")
        if not (rows.isdecimal() and columns.isdecimal()):
            raise ValueError(f"--{option} must be comma-separated like 40x10, not {part!r}")
        found.append((int(rows), int(columns)))
    return found


def listed(values: Any) -> str:
    """The default of an option that is a comma-separated list."""
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _each(option: str, text: str, convert: Callable[[str], T], what: str) -> list[T]:
    try:
        return [convert(part) for part in names(text)]
    except ValueError:
        raise ValueError(f"--{option} must be comma-separated {what}, not {text!r}") from None
