"""Command line of the exact theory: `list`, `verify`, `replay`, `kappa` and `sources`."""

from pathlib import Path
from typing import Annotated

import typer

from lorakappa.conditioning.claim_commands import add_claim_commands
from lorakappa.shared.command_line import console, new_app
from lorakappa.shared.options import JsonFile
from lorakappa.shared.packages import CLAIMS, PACKAGES

app = new_app(PACKAGES["conditioning"].summary)
add_claim_commands(app, {"conditioning": CLAIMS["conditioning"]})

COPIES = 3
"""Matrices of Z's size that a singular value decomposition holds."""

SECONDS_PER_PRODUCT = 2e-9
"""Of a·b·min(a, b), for the six decompositions of Z that κ and its bounds take."""

LONGEST_WAIT = 24 * 3600.0
"""Seconds up to which κ is computed."""


@app.command()
def kappa(
    file: Annotated[Path, typer.Argument(help=".npz with A (a, r), B (r, b) and Z (a, b).")],
    rtol: Annotated[float | None, typer.Option(min=0, help="Accepted ‖AB − Z_r‖/‖Z_r‖; 1.5e-8 by default.")] = None,
) -> None:
    """Print κ of ½‖Z − AB‖² at a minimizer, its bounds, and what balancing would make of it."""
    from rich.table import Table

    from lorakappa import conditioning
    from lorakappa.conditioning.checks import as_matrix
    from lorakappa.shared.array_files import read_npz
    from lorakappa.shared.forecast import announce, check_duration
    from lorakappa.shared.memory import check_memory

    arrays = read_npz(file)
    missing = sorted({"A", "B", "Z"} - set(arrays))
    if missing:
        raise ValueError(f"{file} has no array named {', '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}")
    A, B, Z = (as_matrix(name, arrays[name]) for name in "ABZ")
    check_memory(COPIES * 8 * Z.size, f"the singular values of {file}'s Z")
    seconds = SECONDS_PER_PRODUCT * Z.size * min(Z.shape)
    check_duration(seconds, "κ and its bounds", "take a part of Z", longest=LONGEST_WAIT)
    announce(seconds, "κ and its bounds")
    accepted = {} if rtol is None else {"rtol": rtol}
    mu, L = conditioning.extreme_eigenvalues(A, B, Z, **accepted)
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "κ = L/μ": L / mu,
        "L": L,
        "μ": mu,
        "κ after balancing": conditioning.condition_number(*conditioning.balance(A, B), Z, **accepted),
        "balancing gap ‖AᵀA − BBᵀ‖": conditioning.balancing_gap(A, B),
    }
    for form in ("paper", "corrected"):
        lower, upper = conditioning.kappa_bounds(A, B, Z, form=form, **accepted)
        rows |= {f"lower bound ({form})": lower, f"upper bound ({form})": upper}
    for name, value in rows.items():
        table.add_row(name, f"{value:.6g}")
    console.print(table)


@app.command()
def sources(
    document: Annotated[str | None, typer.Option(help="Only documents whose name or title contains this.")] = None,
    uncovered: Annotated[bool, typer.Option("--uncovered", help="Only statements that no claim decides.")] = False,
    json_file: JsonFile = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print only the coverage, as Markdown.")] = False,
) -> None:
    """Print what the papers state, place by place, with the claims that decide it or the reason why none does."""
    from lorakappa.conditioning.sources import DOCUMENTS, coverage
    from lorakappa.conditioning.verification.examination import known_claims
    from lorakappa.shared.records import ensure_writable, provenance, write_json

    chosen = coverage.choose(DOCUMENTS, document)
    if json_file is not None:
        ensure_writable(json_file)
    claims = {id: known.claim for id, known in known_claims(CLAIMS).items()}
    shown = [(d, [s for s in d.statements.values() if not (uncovered and s.claims)]) for d in chosen]
    if json_file is not None:
        origin = {"provenance": provenance()}
        write_json(json_file, [row | origin for d, some in shown for row in coverage.as_json(d, some, claims)])
    if markdown:
        print(coverage.coverage_markdown(chosen, claims))
        return
    for found, some in shown:
        if some:
            console.print(coverage.statements_text(found, some, claims))
    console.print(coverage.coverage_text(chosen, claims))
